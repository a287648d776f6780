//! `QueryProperties`: the names of the fields that a request asks for, in as many requests as the API needs for them.

use super::{Retriever, RetrieverOptions};
use crate::context::{Context, Run};
use crate::error::Failed;
use crate::extraction::transform::{eval_path, path_of};
use crate::extraction::{Transformation, dpath};
use crate::interpolation::InterpolatedString;
use crate::node::{field, items, kind, parameters, set_field, text};
use crate::slice::Slice;
use crate::value::{Dict, Value};
use futures_util::future::BoxFuture;
use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

/// The names of fields that are requested.
pub struct QueryProperties {
    list: List,
    always: Vec<String>,
    chunking: Option<Chunking>,
    selector: Option<PropertySelector>,
}

/// `JsonSchemaPropertySelector`: only the fields that the configured catalog selects are requested.
struct PropertySelector {
    stream: String,
    transformations: Vec<Transformation>,
}

impl PropertySelector {
    fn build(node: &Value, stream: &str, ctx: &Context<'_>) -> Result<PropertySelector, Failed> {
        let transformations = items(node, "transformations").iter().map(|it| Transformation::build(it, ctx));
        Ok(PropertySelector { stream: stream.to_owned(), transformations: transformations.collect::<Result<_, _>>()? })
    }

    /// Returns the names of the selected fields, or `None` without a catalog: then all of them are requested.
    fn select(&self, run: &Run<'_>) -> Result<Option<HashSet<String>>, Failed> {
        let Some(properties) = run.selected.get(&self.stream) else { return Ok(None) };
        let mut properties = properties.clone();
        let at = run.eval_context(None);
        self.transformations.iter().try_for_each(|it| it.apply(&mut properties, &at))?;
        Ok(Some(properties.as_dict().into_iter().flatten().map(|(name, _)| name.to_string()).collect()))
    }
}

enum List {
    Fixed(Vec<String>),
    /// `PropertiesFromEndpoint`: the names are in the records of a request, which is made once in each command.
    Endpoint(Box<Retriever>, Vec<InterpolatedString>),
}

struct Chunking {
    by_characters: bool,
    limit: usize,
    /// The fields by which the records of several chunks are merged.
    keys: Vec<String>,
}

/// The characters that separate two names in a query.
const DELIMITER_CHARS: usize = 3;

/// The component of a requester, the query parameter that carries its names, and the requester without that parameter.
pub type Found<'n> = (Option<QueryProperties>, Option<String>, Cow<'n, Value>);

impl QueryProperties {
    /// Finds the component of a requester. Returns it with the query parameter that carries the names, if there is one, and
    /// with the requester without that parameter.
    ///
    /// # Errors
    /// Fails with ValueError if there are two of them.
    pub fn build<'n>(requester: &'n Value, name: &str, ctx: &Context<'_>) -> Result<Found<'n>, Failed> {
        let is_one = |value: &Value| kind(value) == "QueryProperties";
        let query = field(requester, "request_parameters").as_dict();
        let found: Vec<(&Arc<str>, &Value)> = query.into_iter().flatten().filter(|(_, value)| is_one(value)).collect();
        let endpoint = set_field(requester, "fetch_properties_from_endpoint").filter(|it| it.truthy());
        let one = match (found.as_slice(), endpoint) {
            ([], Some(endpoint)) => {
                let list = List::of(endpoint, ctx)?;
                QueryProperties { list, always: Vec::new(), chunking: None, selector: None }
            }
            ([], None) => match set_field(requester, "query_properties").filter(|it| it.truthy()) {
                Some(node) => QueryProperties::of(node, name, ctx)?,
                None => return Ok((None, None, Cow::Borrowed(requester))),
            },
            (_, Some(_)) => {
                let message = "PropertiesFromEndpoint should only be specified once per stream, but found in \
                               HttpRequester.fetch_properties_from_endpoint and HttpRequester.request_parameters";
                return Err(Failed::system("ValueError", message));
            }
            ([(key, node)], None) => {
                let mut without = requester.clone();
                if let Value::Dict(dict) = &mut without
                    && let Some(Value::Dict(query)) = dict.get_mut("request_parameters")
                {
                    query.shift_remove(&**key);
                }
                return Ok((Some(QueryProperties::of(node, name, ctx)?), Some(key.to_string()), Cow::Owned(without)));
            }
            (several, None) => {
                let message = format!(
                    "request_parameters only supports defining one QueryProperties field, but found {} usages",
                    several.len()
                );
                return Err(Failed::system("ValueError", message));
            }
        };
        Ok((Some(one), None, Cow::Borrowed(requester)))
    }

    fn of(node: &Value, name: &str, ctx: &Context<'_>) -> Result<QueryProperties, Failed> {
        let selector = set_field(node, "property_selector").map(|it| PropertySelector::build(it, name, ctx)).transpose()?;
        let chunking = set_field(node, "property_chunking").map(|chunking| {
            let key = field(field(chunking, "record_merge_strategy"), "key");
            let keys = match key {
                Value::List(keys) => keys.iter().map(Value::to_str).collect(),
                Value::Str(key) => vec![key.to_string()],
                _ => vec!["id".to_string()],
            };
            Chunking {
                by_characters: text(chunking, "property_limit_type") == Some("characters"),
                limit: field(chunking, "property_limit").as_i64().and_then(|it| usize::try_from(it).ok()).unwrap_or(0),
                keys,
            }
        });
        let list = List::of(field(node, "property_list"), ctx)?;
        Ok(QueryProperties { list, always: texts(items(node, "always_include_properties")), chunking, selector })
    }

    /// Whether what it needs stores nothing between requests.
    #[must_use]
    pub fn keeps_nothing(&self) -> bool {
        match &self.list {
            List::Fixed(_) => true,
            List::Endpoint(retriever, _) => retriever.keeps_nothing(),
        }
    }

    /// Returns the names for each request of a page.
    ///
    /// # Errors
    /// Fails if the request for the names fails.
    pub fn chunks<'s>(&'s self, run: &'s Run<'_>) -> BoxFuture<'s, Result<Vec<Vec<String>>, Failed>> {
        // Boxed, because the retriever of the names may have properties of its own.
        Box::pin(async move {
            let names = match &self.list {
                List::Fixed(names) => names.clone(),
                List::Endpoint(retriever, path) => {
                    let mut records = retriever.read(run, Slice::empty(), Arc::new(Value::Dict(Dict::default())));
                    let path = eval_path(path, &run.scope())?;
                    let mut names = Vec::new();
                    while let Some(record) = records.next().await? {
                        names.push(dpath::get(&record, &path)?.map_or_else(|| "[]".to_string(), Value::to_str));
                    }
                    names
                }
            };
            let selected = match &self.selector {
                Some(selector) => selector.select(run)?,
                None => None,
            };
            Ok(self.divide(names, selected.as_ref()))
        })
    }

    fn divide(&self, mut names: Vec<String>, selected: Option<&HashSet<String>>) -> Vec<Vec<String>> {
        let always = || self.always.clone();
        // Without a limit of the chunks, the CDK requests all names.
        if self.chunking.as_ref().is_some_and(|it| it.limit == 0) {
            return vec![[names, always()].concat()];
        }
        names.retain(|name| selected.is_none_or(|it| it.contains(name)));
        let Some(chunking) = &self.chunking else { return vec![[always(), names].concat()] };
        let (mut chunks, mut chunk, mut size) = (Vec::new(), always(), 0);
        for name in names {
            let own = if chunking.by_characters { name.chars().count() + DELIMITER_CHARS } else { 1 };
            if size + own > chunking.limit {
                chunks.push(std::mem::replace(&mut chunk, always()));
                size = 0;
            }
            chunk.push(name);
            size += own;
        }
        chunks.push(chunk);
        chunks
    }

    /// Returns what the records of one object have in common, or `None` for a record that is not merged.
    ///
    /// # Errors
    /// Fails with TypeError if a key is not a text, as in the CDK.
    pub fn merge_key(&self, record: &Value) -> Result<Option<String>, Failed> {
        let Some(chunking) = &self.chunking else { return Ok(None) };
        let mut parts = Vec::new();
        for key in &chunking.keys {
            let Some(value) = record.get(key).filter(|it| it.truthy()) else { return Ok(None) };
            parts.push(value);
        }
        let other = parts.iter().enumerate().find(|(_, value)| value.as_str().is_none());
        if let Some((at, value)) = other {
            let message = format!("sequence item {at}: expected str instance, {} found", value.type_name());
            return Err(Failed::system("TypeError", message));
        }
        Ok(Some(parts.into_iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",")))
    }
}

impl List {
    fn of(node: &Value, ctx: &Context<'_>) -> Result<List, Failed> {
        if let Value::List(names) = node {
            return Ok(List::Fixed(texts(names)));
        }
        let options = RetrieverOptions { use_cache: true, ..RetrieverOptions::default() };
        let retriever = Retriever::build(field(node, "retriever"), "dynamic_properties", options, ctx)?;
        Ok(List::Endpoint(Box::new(retriever), path_of(node, "property_field_path", parameters(node))))
    }
}

fn texts(list: &[Value]) -> Vec<String> {
    list.iter().map(Value::to_str).collect()
}

/// Adds the fields of `record` to `whole`. Objects in both are merged; otherwise the later value counts.
pub fn merge(whole: &mut Dict, record: Dict) {
    for (key, value) in record {
        match (whole.get_mut(&key), value) {
            (Some(Value::Dict(old)), Value::Dict(new)) => merge(old, new),
            (_, value) => {
                whole.insert(key, value);
            }
        }
    }
}
