//! `SubstreamPartitionRouter`: creates one partition for each record of a parent stream.

use crate::context::{Context, EvalContext, Run};
use crate::error::Failed;
use crate::extraction::dpath;
use crate::extraction::transform::{eval_path, path_of};
use crate::interpolation::{InterpolatedBoolean, InterpolatedString};
use crate::node::{field, items, pair, parameters, set_field, text};
use crate::request::option::{OptionPlace, RequestOption};
use crate::slice::Slice;
use crate::value::{Dict, Value};
use futures_util::future::BoxFuture;

/// A stream whose records become the partitions of another stream. A stream has a router, and a router has parent
/// streams. Because of this trait, the router does not depend on the stream.
pub trait ParentStream: Send + Sync {
    /// Returns all records of the stream.
    ///
    /// # Errors
    /// Fails if the slices of the stream cannot be created.
    fn read<'r>(&'r self, run: &'r Run<'r>) -> Result<Box<dyn ParentRecords + 'r>, Failed>;

    /// Whether reading stores nothing in the stream. This is required in a stream that connections share.
    fn keeps_nothing(&self) -> bool;
}

/// The remaining records of a parent stream.
pub trait ParentRecords: Send {
    /// Returns the next record, together with its slice.
    fn next(&mut self) -> BoxFuture<'_, Result<Option<(Slice, Value)>, Failed>>;
}

/// Builds a parent stream from its component. The number is the nesting depth of parent streams.
pub type BuildParent = fn(&Value, usize, &Context<'_>) -> Result<Box<dyn ParentStream>, Failed>;

/// A router over the records of parent streams.
pub struct Substream {
    parents: Vec<Parent>,
}

/// One parent stream (`ParentStreamConfig`).
struct Parent {
    stream: Box<dyn ParentStream>,
    key: InterpolatedString,
    partition_field: InterpolatedString,
    extra_fields: Vec<Vec<InterpolatedString>>,
    option: Option<RequestOption>,
    lazy: Vec<InterpolatedString>,
}

impl Substream {
    /// # Errors
    /// Fails if a parent cannot be built.
    pub(super) fn build(node: &Value, ctx: &Context<'_>, depth: usize, build: BuildParent) -> Result<Substream, Failed> {
        let parents = items(node, "parent_stream_configs");
        if parents.is_empty() {
            return Err(Failed::system("ValueError", "SubstreamPartitionRouter needs at least 1 parent stream"));
        }
        let mut built = Vec::with_capacity(parents.len());
        for parent in parents {
            // `aam_condition`, which only this engine has, leaves out a parent with some configs.
            let condition = text(parent, "aam_condition").map(|it| InterpolatedBoolean::new(it, parameters(parent)));
            let is_read = condition.map(|it| it.eval(&ctx.eval_context().scope(Vec::new()))).transpose()?;
            if is_read != Some(false) {
                built.push(Parent::build(parent, ctx, depth, build)?);
            }
        }
        Ok(Substream { parents: built })
    }

    /// Whether reading stores nothing in the parents.
    pub(super) fn keeps_nothing(&self) -> bool {
        self.parents.iter().all(|parent| parent.stream.keeps_nothing())
    }

    pub(super) fn has_options(&self) -> bool {
        self.parents.iter().any(|parent| parent.option.is_some())
    }

    pub(super) fn partition_fields(&self, at: &EvalContext<'_>) -> Result<Vec<String>, Failed> {
        self.parents.iter().map(|it| Ok(it.partition_field.eval_str(&at.scope(Vec::new()))?)).collect()
    }

    pub(super) fn options(&self, place: OptionPlace, slice: &Slice, at: &EvalContext<'_>) -> Result<Dict, Failed> {
        let mut options = Dict::default();
        let scope = at.scope(Vec::new());
        for parent in &self.parents {
            let Some(option) = parent.option.as_ref().filter(|it| it.place == place) else { continue };
            let name = parent.partition_field.eval_str(&scope)?;
            if let Some(value) = slice.partition.get(&name).filter(|it| it.truthy()) {
                option.inject(&mut options, value.clone(), &scope)?;
            }
        }
        Ok(options)
    }

    pub(super) fn slices<'r>(&'r self, run: &'r Run<'r>) -> ParentSlices<'r> {
        ParentSlices { rest: self.parents.iter(), run, current: None, records: 0 }
    }
}

impl Parent {
    fn build(node: &Value, ctx: &Context<'_>, depth: usize, build: BuildParent) -> Result<Parent, Failed> {
        let template = |key: &str| InterpolatedString::new(&field(node, key).to_str(), parameters(node));
        let path = |path: &Value| {
            let parts = path.as_list().unwrap_or_default();
            parts.iter().map(|part| InterpolatedString::new(&part.to_str(), parameters(node))).collect()
        };
        if items(node, "lazy_read_pointer").iter().any(|it| it.as_str().is_some_and(|text| text.contains('*'))) {
            let message = "The '*' wildcard in 'lazy_read_pointer' is not supported — only direct paths are allowed.";
            return Err(Failed::system("ValueError", message));
        }
        Ok(Parent {
            stream: build(field(node, "stream"), depth + 1, ctx)?,
            key: template("parent_key"),
            partition_field: template("partition_field"),
            extra_fields: items(node, "extra_fields").iter().map(path).collect(),
            option: set_field(node, "request_option").map(|it| RequestOption::build(it, &Value::None)).transpose()?,
            lazy: path_of(node, "lazy_read_pointer", parameters(node)),
        })
    }

    /// Returns the partition for a record of the parent, or `None` if the key is missing or null.
    fn slice(&self, record: &Value, of: &Slice, run: &Run<'_>) -> Result<Option<Slice>, Failed> {
        let scope = run.eval_context(None).scope(Vec::new());
        let key = self.key.eval(&scope, &[])?;
        let value = match dpath::get_at(record, &key)? {
            None | Some(Value::None) => return Ok(None),
            Some(value) => value.clone(),
        };
        let mut extra = Dict::default();
        for path in &self.extra_fields {
            let path = eval_path(path, &scope)?;
            let name = path.iter().map(Value::to_str).collect::<Vec<_>>().join(".");
            extra.insert(name.into(), dpath::get(record, &path)?.cloned().unwrap_or_default());
        }
        let child = match self.lazy.is_empty() {
            true => None,
            false => {
                let found = dpath::get(record, &eval_path(&self.lazy, &scope)?)?.cloned();
                Some(found.unwrap_or_else(|| Value::List(Vec::new())))
            }
        };
        let mut partition = pair(self.partition_field.eval_str(&scope)?, value);
        partition.insert("parent_slice".into(), of.partition.clone());
        let mut slice = Slice::new(partition, Dict::default(), extra)?;
        slice.child_response = child;
        Ok(Some(slice))
    }
}

/// The remaining partitions of all parents.
pub struct ParentSlices<'r> {
    rest: std::slice::Iter<'r, Parent>,
    run: &'r Run<'r>,
    current: Option<(&'r Parent, Box<dyn ParentRecords + 'r>)>,
    /// The number of parent records that were read so far.
    records: usize,
}

impl ParentSlices<'_> {
    /// # Errors
    /// Fails if reading the parent fails, or if a bound is reached.
    pub async fn next(&mut self) -> Result<Option<Slice>, Failed> {
        loop {
            let Some((parent, records)) = &mut self.current else {
                let Some(parent) = self.rest.next() else { return Ok(None) };
                self.current = Some((parent, parent.stream.read(self.run)?));
                continue;
            };
            let Some((slice, record)) = records.next().await? else {
                self.current = None;
                continue;
            };
            self.records += 1;
            if self.records > self.run.bounds.parent_records {
                return Err(Failed::bound("records of a parent stream", self.run.bounds.parent_records));
            }
            if let Some(slice) = parent.slice(&record, &slice, self.run)? {
                return Ok(Some(slice));
            }
        }
    }
}
