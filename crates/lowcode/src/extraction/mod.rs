//! Turns the body of a response into records: extractor, filter, transformations and schema normalization.

pub mod dpath;
pub mod expand;
pub mod normalise;
pub mod transform;

pub use transform::Transformation;

use super::context::{Context, EvalContext};
use super::cursor::Cursor;
use super::error::Failed;
use super::interpolation::{InterpolatedBoolean, InterpolatedString};
use super::node::{field, flag, items, kind, pair, parameters, set_field, text, walk};
use super::value::{Dict, Value};
use expand::Expander;
use std::collections::VecDeque;
use std::sync::Arc;

/// Finds the records in the body of a response.
pub enum Extractor {
    /// A path to the records. The empty path stands for the whole body.
    /// `aam_wrap`, if it is set, is the key under which each record is put, for records that are not objects.
    Dpath { path: Vec<InterpolatedString>, expander: Option<Expander>, list: ListRule, wrap: Option<Arc<str>> },
    /// `ResponseToFileExtractor`: the rows of a CSV file, which the retriever reads in place of the decoder.
    File { keeps_na: bool },
    /// Several extractors that read the same response.
    Combined { extractors: Vec<Extractor>, first_match: bool, skip_empty: bool },
}

/// The records of one response, and the record count that the paginator uses.
#[derive(Default)]
pub struct Extracted {
    pub records: VecDeque<Value>,
    /// The number of records before any filter, including empty records that were dropped.
    pub count: usize,
    /// The records whose nested list is truncated, in the order of their places.
    pub truncated: VecDeque<Truncated>,
}

/// A record whose nested list is truncated. The whole list takes the place of what the record itself expanded into.
pub struct Truncated {
    /// The place of the first of these records.
    pub at: usize,
    /// The number of these records, which stay if nothing is fetched.
    pub embedded: usize,
    pub parent: Value,
    /// The number of the expander, in the order of [`Extractor::expanders`].
    pub expander: usize,
}

impl Extractor {
    /// # Errors
    /// A component that this engine does not support.
    pub fn build(node: &Value, ctx: &Context<'_>) -> Result<Extractor, Failed> {
        match kind(node) {
            "DpathExtractor" => Ok(Extractor::Dpath {
                path: transform::path_of(node, "field_path", parameters(node)),
                expander: set_field(node, "record_expander").map(|it| Expander::build(it, ctx)).transpose()?,
                list: ListRule::build(node),
                wrap: text(node, "aam_wrap").map(Arc::from),
            }),
            "ResponseToFileExtractor" => Ok(Extractor::File { keeps_na: flag(node, "preserve_na_values") }),
            "CombinedExtractor" => Ok(Extractor::Combined {
                extractors: items(node, "extractors").iter().map(|it| Extractor::build(it, ctx)).collect::<Result<_, _>>()?,
                first_match: text(node, "mode") == Some("first_match"),
                skip_empty: flag(node, "skip_empty_records"),
            }),
            other => Err(Failed::config("UnsupportedComponent", format!("extractor {other} is not supported"))),
        }
    }

    /// # Errors
    /// An error of a template or a path.
    pub fn extract(&self, bodies: &[Value], at: &EvalContext<'_>) -> Result<Extracted, Failed> {
        match self {
            Extractor::Dpath { path, expander, wrap, .. } => {
                let mut all = Extracted::default();
                for body in bodies {
                    let path = transform::eval_path(path, &at.scope(Vec::new()))?;
                    extract_one(body, &path, expander.as_ref(), at, &mut all)?;
                }
                if let Some(key) = wrap {
                    all.records.iter_mut().for_each(|record| *record = Value::Dict(pair(key.clone(), std::mem::take(record))));
                }
                all.count = all.records.len();
                Ok(all)
            }
            Extractor::File { .. } => {
                Ok(Extracted { records: bodies.iter().cloned().collect(), count: bodies.len(), ..Extracted::default() })
            }
            Extractor::Combined { extractors, first_match, skip_empty } => {
                let mut all = Extracted::default();
                let mut expanders = 0;
                for extractor in extractors {
                    let mut found = extractor.extract(bodies, at)?;
                    // The places of truncated lists would be wrong without the empty records.
                    if *skip_empty && found.truncated.is_empty() {
                        found.records.retain(Value::truthy);
                    }
                    found.truncated.iter_mut().for_each(|it| it.expander += expanders);
                    expanders += extractor.expanders().len();
                    if *first_match {
                        if !found.records.is_empty() || !found.truncated.is_empty() {
                            return Ok(found);
                        }
                        continue;
                    }
                    found.truncated.iter_mut().for_each(|it| it.at += all.records.len());
                    all.count += found.count;
                    all.records.extend(found.records);
                    all.truncated.extend(found.truncated);
                }
                Ok(all)
            }
        }
    }
}

impl Extractor {
    /// Returns the expanders, each with the number of its place.
    #[must_use]
    pub fn expanders(&self) -> Vec<&Expander> {
        match self {
            Extractor::Dpath { expander, .. } => expander.iter().collect(),
            Extractor::File { .. } => Vec::new(),
            Extractor::Combined { extractors, .. } => extractors.iter().flat_map(Extractor::expanders).collect(),
        }
    }

    /// Returns what `body` has at the place of the records.
    ///
    /// # Errors
    /// An error of a template or a path.
    pub fn list_in(&self, body: &Value, at: &EvalContext<'_>) -> Result<ListInBody, Failed> {
        match self {
            Extractor::Dpath { path, list, .. } => {
                let path = eval_literal_path(path, at)?;
                let place = || path.iter().map(Value::to_str).collect::<Vec<_>>().join(".");
                let mut state = ListInBody::Missing(place());
                // The decoder reads the items of a list as bodies.
                for body in body.as_list().filter(|_| !path.is_empty()).unwrap_or(std::slice::from_ref(body)) {
                    match dpath::get(body, &path)? {
                        Some(Value::List(_)) => return Ok(ListInBody::Present),
                        Some(Value::Dict(_)) if list.is_required => state = ListInBody::NotAList(place()),
                        Some(Value::Dict(_)) => return Ok(ListInBody::Present),
                        // Some servers write an empty list as null.
                        Some(Value::None) if !path.is_empty() => state = ListInBody::Null(place()),
                        None if list.may_be_absent_in(body) => return Ok(ListInBody::Present),
                        _ => {}
                    }
                }
                Ok(state)
            }
            Extractor::File { .. } => Ok(ListInBody::Present),
            Extractor::Combined { extractors, .. } => {
                let mut worst = None;
                for extractor in extractors {
                    match extractor.list_in(body, at)? {
                        ListInBody::Present => return Ok(ListInBody::Present),
                        state => worst = worst.or(Some(state)),
                    }
                }
                Ok(worst.unwrap_or(ListInBody::Present))
            }
        }
    }

    /// Returns true if the place of the records must have a list also in a response that has records.
    #[must_use]
    pub fn requires_list(&self) -> bool {
        match self {
            Extractor::Dpath { list, .. } => list.is_required,
            Extractor::File { .. } => false,
            Extractor::Combined { extractors, .. } => extractors.iter().all(Extractor::requires_list),
        }
    }
}

/// What a response has at the place where the records would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListInBody {
    /// A list, an object that is one record, or the form in which this source leaves out an empty list.
    Present,
    /// Null at this path.
    Null(String),
    /// Nothing that can be records at this path.
    Missing(String),
    /// An object at this path, where this source always has a list.
    NotAList(String),
}

/// What is known about the list of an extractor. The fields of the manifest belong to this engine.
#[derive(Clone, Debug, Default)]
pub struct ListRule {
    /// `aam_list`: the records are in a list, and an object in its place is not a record.
    is_required: bool,
    /// `aam_may_be_absent`: the source leaves out a list that is empty.
    may_be_absent: bool,
    /// `aam_absent_if`: JSON pointers with the values of which one must be in a response without the list. An empty list of
    /// values stands for any value but null.
    absent_if: Vec<(Arc<str>, Vec<Value>)>,
}

impl ListRule {
    fn build(node: &Value) -> ListRule {
        let values = |value: &Value| value.as_list().map_or_else(|| vec![value.clone()], <[Value]>::to_vec);
        let rules = field(node, "aam_absent_if").as_dict().into_iter().flatten();
        ListRule {
            is_required: flag(node, "aam_list"),
            may_be_absent: flag(node, "aam_may_be_absent"),
            absent_if: rules.map(|(pointer, value)| (pointer.clone(), values(value))).collect(),
        }
    }

    /// Returns true if `body`, which does not have the list, is the form of an empty list: an empty object, or one with the
    /// values that the manifest names.
    fn may_be_absent_in(&self, body: &Value) -> bool {
        let Some(fields) = body.as_dict().filter(|_| self.may_be_absent) else { return false };
        let has = |(pointer, values): &(Arc<str>, Vec<Value>)| {
            let found = walk(body, pointer.split('/').skip(1).map(str::to_owned));
            found.is_some_and(|found| if values.is_empty() { !found.is_none() } else { values.contains(found) })
        };
        fields.is_empty() || !self.absent_if.is_empty() && self.absent_if.iter().all(has)
    }
}

/// Returns the path up to the first glob or index, because a list without items has nothing behind it.
fn eval_literal_path(path: &[InterpolatedString], at: &EvalContext<'_>) -> Result<Vec<Value>, Failed> {
    let path = transform::eval_path(path, &at.scope(Vec::new()))?;
    Ok(path.into_iter().take_while(|part| part.as_str().is_some_and(|key| !key.contains(['*', '?', '[']))).collect())
}

fn extract_one(
    body: &Value,
    path: &[Value],
    expander: Option<&Expander>,
    at: &EvalContext<'_>,
    all: &mut Extracted,
) -> Result<(), Failed> {
    let mut add = |record: &Value| match expander {
        Some(expander) => {
            let before = all.records.len();
            if expander.expand(record, at, &mut all.records)? {
                let embedded = all.records.len() - before;
                all.truncated.push_back(Truncated { at: before, embedded, parent: record.clone(), expander: 0 });
            }
            Ok(())
        }
        None => {
            all.records.push_back(record.clone());
            Ok(())
        }
    };
    if path.iter().any(|part| part.as_str() == Some("*")) {
        return dpath::values(body, path)?.into_iter().try_for_each(add);
    }
    match dpath::get(body, path)? {
        Some(Value::List(list)) => list.iter().try_for_each(add),
        Some(one) if one.truthy() => add(one),
        _ => Ok(()),
    }
}

/// Extracts, filters and transforms the records of responses.
pub struct Selector {
    pub extractor: Extractor,
    filter: Option<InterpolatedBoolean>,
    /// Drops records outside the interval of the cursor (`is_client_side_incremental`).
    cursor: Option<Arc<Cursor>>,
    transformations: Vec<Transformation>,
    transform_first: bool,
    normalise: bool,
}

/// Options of a stream that affect its records.
#[derive(Default)]
pub struct SelectorOptions {
    pub transformations: Vec<Transformation>,
    /// The cursor of a stream with `is_client_side_incremental` and without `is_data_feed`.
    pub client_side_cursor: Option<Arc<Cursor>>,
    pub is_client_side_incremental: bool,
}

impl Selector {
    /// # Errors
    /// A component that this engine does not support.
    pub fn build(node: &Value, options: SelectorOptions, ctx: &Context<'_>) -> Result<Selector, Failed> {
        let filter = set_field(node, "record_filter");
        if let Some(filter) = filter.filter(|it| kind(it) != "RecordFilter") {
            return Err(Failed::config("UnsupportedComponent", format!("record filter {} is not supported", kind(filter))));
        }
        let condition = filter.map(|it| text(it, "condition").unwrap_or_default());
        // If there is a cursor, an empty condition keeps all records; otherwise it drops all of them (record_filter.py).
        let condition = condition.filter(|it| options.client_side_cursor.is_none() || !it.is_empty());
        let parameters = if options.client_side_cursor.is_some() { parameters(node) } else { parameters(filter.unwrap_or(node)) };
        let by_default = options.client_side_cursor.is_some() || options.is_client_side_incremental;
        Ok(Selector {
            extractor: Extractor::build(field(node, "extractor"), ctx)?,
            filter: condition.map(|it| InterpolatedBoolean::new(it, parameters)),
            cursor: options.client_side_cursor,
            transformations: options.transformations,
            transform_first: field(node, "transform_before_filtering").as_bool().unwrap_or(by_default),
            normalise: text(node, "schema_normalization") == Some("Default"),
        })
    }

    /// Turns one extracted record into a record of the stream, or drops it.
    ///
    /// # Errors
    /// An error of a template or a path, or a record that is not a dict although the stream has a schema.
    pub fn select(&self, mut record: Value, schema: &Value, at: &EvalContext<'_>) -> Result<Option<Value>, Failed> {
        if self.transform_first {
            self.transform(&mut record, at)?;
        }
        if !self.keeps(&record, at)? {
            return Ok(None);
        }
        if !self.transform_first {
            self.transform(&mut record, at)?;
        }
        if schema.truthy() {
            record = Value::Dict(to_dict(record)?);
            if self.normalise {
                normalise::normalise(&mut record, schema);
            }
        }
        Ok(Some(record))
    }

    fn transform(&self, record: &mut Value, at: &EvalContext<'_>) -> Result<(), Failed> {
        self.transformations.iter().try_for_each(|it| it.apply(record, at))
    }

    fn keeps(&self, record: &Value, at: &EvalContext<'_>) -> Result<bool, Failed> {
        if let Some(cursor) = &self.cursor
            && !cursor.should_be_synced(record, at)?
        {
            return Ok(false);
        }
        match &self.filter {
            None => Ok(true),
            Some(filter) => {
                let token = Value::None;
                let kept = filter.eval(&at.scope_of_slice(vec![("record", record), ("next_page_token", &token)]));
                kept.map_err(|error| {
                    Failed::from(error).with(|it| it.internal = Some("in the condition of record_filter".into()))
                })
            }
        }
    }
}

/// Python's `dict(x)`. The selector applies it to each record (`_normalize_by_schema` in record_selector.py).
fn to_dict(record: Value) -> Result<Dict, Failed> {
    let pairs: Vec<Value> = match record {
        Value::Dict(dict) => return Ok(dict),
        Value::List(list) => list,
        Value::Str(text) => text.chars().map(|char| Value::from(char.to_string())).collect(),
        other => return Err(Failed::system("TypeError", format!("'{}' object is not iterable", other.type_name()))),
    };
    let mut dict = Dict::default();
    for (at, item) in pairs.into_iter().enumerate() {
        let parts: Vec<Value> = match &item {
            Value::List(list) => list.clone(),
            Value::Str(text) => text.chars().map(|char| Value::from(char.to_string())).collect(),
            Value::Dict(dict) => dict.keys().map(|key| Value::Str(key.clone())).collect(),
            _ => {
                let message = format!("cannot convert dictionary update sequence element #{at} to a sequence");
                return Err(Failed::system("TypeError", message));
            }
        };
        let [key, value] = parts.as_slice() else {
            let message = format!("dictionary update sequence element #{at} has length {}; 2 is required", parts.len());
            return Err(Failed::system("ValueError", message));
        };
        if matches!(key, Value::List(_) | Value::Dict(_)) {
            return Err(Failed::system("TypeError", format!("unhashable type: '{}'", key.type_name())));
        }
        dict.insert(key.to_str().into(), value.clone());
    }
    Ok(dict)
}
