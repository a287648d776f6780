//! `SubstreamPartitionRouter`: one partition for each record of a parent stream.

use super::Slice;
use crate::context::{Context, Run};
use crate::error::Failed;
use crate::extraction::transform::{eval_path, path_of};
use crate::extraction::{At, dpath};
use crate::interpolation::InterpolatedString;
use crate::node::{field, flag, items, pair, parameters, set_field};
use crate::request::option::{Place, RequestOption};
use crate::retriever::Records;
use crate::stream::{Stream, StreamOptions, StreamSlices};
use crate::value::{Dict, Value};

/// A router over parent streams.
pub struct Substream {
    parents: Vec<Parent>,
}

/// One parent stream (`ParentStreamConfig`).
pub struct Parent {
    pub stream: Stream,
    key: InterpolatedString,
    partition_field: InterpolatedString,
    extra_fields: Vec<Vec<InterpolatedString>>,
    option: Option<RequestOption>,
    lazy: Vec<InterpolatedString>,
    /// The parent's own state belongs to the child's (`incremental_dependency`).
    pub incremental: bool,
}

impl Substream {
    /// # Errors
    /// What building a parent fails with.
    pub fn build(node: &Value, ctx: &Context<'_>, depth: usize) -> Result<Substream, Failed> {
        let parents = items(node, "parent_stream_configs");
        if parents.is_empty() {
            return Err(Failed::system("ValueError", "SubstreamPartitionRouter needs at least 1 parent stream"));
        }
        let parents = parents.iter().map(|parent| Parent::build(parent, ctx, depth)).collect::<Result<_, _>>()?;
        Ok(Substream { parents })
    }

    /// The parents.
    #[must_use]
    pub fn parents(&self) -> &[Parent] {
        &self.parents
    }

    pub(super) fn has_options(&self) -> bool {
        self.parents.iter().any(|parent| parent.option.is_some())
    }

    pub(super) fn partition_fields(&self, at: &At<'_>) -> Result<Vec<String>, Failed> {
        self.parents.iter().map(|it| Ok(it.partition_field.eval_str(&at.scope(Vec::new()))?)).collect()
    }

    pub(super) fn options(&self, place: Place, slice: &Slice, at: &At<'_>) -> Result<Dict, Failed> {
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
    fn build(node: &Value, ctx: &Context<'_>, depth: usize) -> Result<Parent, Failed> {
        let template = |key: &str| InterpolatedString::new(&field(node, key).to_str(), parameters(node));
        let path = |path: &Value| {
            let parts = path.as_list().unwrap_or_default();
            parts.iter().map(|part| InterpolatedString::new(&part.to_str(), parameters(node))).collect()
        };
        if items(node, "lazy_read_pointer").iter().any(|it| it.as_str().is_some_and(|text| text.contains('*'))) {
            let message = "The '*' wildcard in 'lazy_read_pointer' is not supported — only direct paths are allowed.";
            return Err(Failed::system("ValueError", message));
        }
        let options = StreamOptions { use_cache: true, depth: depth + 1 };
        Ok(Parent {
            stream: Stream::build(field(node, "stream"), options, ctx)?,
            key: template("parent_key"),
            partition_field: template("partition_field"),
            extra_fields: items(node, "extra_fields").iter().map(path).collect(),
            option: set_field(node, "request_option").map(|it| RequestOption::build(it, &Value::None)).transpose()?,
            lazy: path_of(node, "lazy_read_pointer", parameters(node)),
            incremental: flag(node, "incremental_dependency"),
        })
    }

    /// The partition of a record of the parent; None where the key is missing or null.
    fn slice(&self, record: &Value, of: &Slice, run: &Run<'_>) -> Result<Option<Slice>, Failed> {
        let at = At { config: run.config, host: run.host, bounds: run.bounds, slice: None };
        let scope = at.scope(Vec::new());
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

/// The partitions of all parents that are still to come.
///
/// As `iterate_with_last_flag` there, it looks one partition and one record ahead: the second page of a parent is asked
/// for before the last record of its first page becomes a partition.
pub struct ParentSlices<'r> {
    rest: std::slice::Iter<'r, Parent>,
    run: &'r Run<'r>,
    current: Option<Reading<'r>>,
    /// Records of parents so far.
    records: usize,
}

struct Reading<'r> {
    parent: &'r Parent,
    slices: StreamSlices<'r>,
    next_slice: Option<Slice>,
    /// The slice that is read, its records, and the record that is next.
    open: Option<(Slice, Records<'r>, Option<Value>)>,
}

impl<'r> ParentSlices<'r> {
    /// # Errors
    /// What reading the parent fails with, and a bound that was met.
    pub async fn next(&mut self) -> Result<Option<Slice>, Failed> {
        loop {
            let Some(reading) = &mut self.current else {
                let Some(parent) = self.rest.next() else { return Ok(None) };
                let mut slices = parent.stream.slices(self.run)?;
                let next_slice = slices.next().await?;
                self.current = Some(Reading { parent, slices, next_slice, open: None });
                continue;
            };
            let Some((slice, record)) = reading.next().await? else {
                self.current = None;
                continue;
            };
            self.records += 1;
            if self.records > self.run.bounds.parent_records {
                return Err(Failed::bound("records of a parent stream", self.run.bounds.parent_records));
            }
            if let Some(slice) = reading.parent.slice(&record, &slice, self.run)? {
                return Ok(Some(slice));
            }
        }
    }
}

impl<'r> Reading<'r> {
    /// The next record of the parent and the slice that it belongs to.
    async fn next(&mut self) -> Result<Option<(Slice, Value)>, Failed> {
        loop {
            if let Some((slice, records, ahead)) = &mut self.open {
                if let Some(record) = ahead.take() {
                    *ahead = records.next().await?;
                    return Ok(Some((slice.clone(), record)));
                }
                self.open = None;
            }
            let Some(slice) = self.next_slice.take() else { return Ok(None) };
            self.next_slice = self.slices.next().await?;
            let mut records = self.parent.stream.records(self.slices.run(), slice.clone()).await?;
            let first = records.next().await?;
            self.open = Some((slice, records, first));
        }
    }
}
