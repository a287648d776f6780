//! A stream with its slices, its retriever and its schema.

use super::context::{Context, EvalContext, Run};
use super::cursor::{Cursor, CursorSlices};
use super::error::Failed;
use super::extraction::{SelectorOptions, Transformation};
use super::node::{field, flag, items, kind, text};
use super::reader::{Reader, StreamRecords};
use super::refused::{self, part};
use super::retriever::RetrieverOptions;
use super::retriever::jobs::{AsyncRetriever, JobFailures};
use super::slice::Slice;
use super::slicing::{IntervalOptions, ParentRecords, ParentStream, Partitions, Router, SlicerOptions};
use super::stream_schema::StreamSchema;
use super::value::{Dict, Value};
use futures_util::future::BoxFuture;
use std::collections::HashSet;
use std::sync::Arc;

/// A stream of the manifest.
pub struct Stream {
    pub name: String,
    /// The primary key as the manifest writes it: a string, a list, or a list of lists.
    pub primary_key: Value,
    /// The fields of the component that the catalog entry needs. For a StateDelegatingStream, they are those of the
    /// stream that is used for reads without a state.
    pub node: Value,
    pub cursor: Option<Arc<Cursor>>,
    pub router: Arc<Router>,
    pub schema: StreamSchema,
    /// The retriever, or the reason why the stream cannot be read.
    retriever: Result<Reader, Failed>,
}

/// The fields that [`Stream::node`] keeps. Others are dropped because schemas are large.
const KEPT_FIELDS: [&str; 5] = ["type", "name", "primary_key", "incremental_sync", "file_uploader"];

/// The purpose for which a stream is built.
#[derive(Clone, Copy, Debug, Default)]
pub struct StreamOptions {
    /// Whether responses are cached, because the stream is the parent of another one.
    pub use_cache: bool,
    /// The nesting depth below the stream that is read: 0 for that stream itself, at least 1 for its parents.
    pub depth: usize,
}

impl Stream {
    /// # Errors
    /// Fails with the error that the CDK raises when it builds the stream, or if this engine does not know a component.
    pub fn build(node: &Value, options: StreamOptions, ctx: &Context<'_>) -> Result<Stream, Failed> {
        if options.depth > ctx.bounds.depth {
            return Err(Failed::bound("parents of a stream", ctx.bounds.depth));
        }
        let node = delegate(node)?;
        if !matches!(kind(node), "DeclarativeStream" | "") {
            return Err(Failed::config("UnsupportedComponent", format!("stream {} is not supported", kind(node))));
        }
        let name = text(node, "name").unwrap_or_default();
        let mut refused = refused::reason(node);
        let (retriever, sync) = (field(node, "retriever"), field(node, "incremental_sync"));
        let router = Router::build(field(retriever, "partition_router"), ctx, options.depth, parent);
        let router = Arc::new(part(router, &mut refused)?.unwrap_or(Router::Single));
        let cursor = part(cursor_of(sync, &router, name, &ctx.eval_context()), &mut refused)?.flatten();
        let reader = reader_options(node, &router, cursor.clone(), options, ctx);
        let built = match part(reader, &mut refused)? {
            Some(reader) => part(Reader::build(retriever, name, reader, ctx), &mut refused)?,
            None => None,
        };
        let schema = part(StreamSchema::build(node, ctx, parent), &mut refused)?;
        let unread = || Failed::config("UnsupportedComponent", format!("the stream {name} is not supported"));
        let retriever = match (refused, built) {
            (None, Some(retriever)) => Ok(retriever),
            (refused, _) => Err(refused.unwrap_or_else(unread)),
        };
        let kept = |key: &&str| Some((Arc::from(*key), node.get(key)?.clone()));
        Ok(Stream {
            name: name.to_owned(),
            primary_key: field(node, "primary_key").clone(),
            retriever,
            schema: schema.unwrap_or_default(),
            node: Value::Dict(KEPT_FIELDS.iter().filter_map(kept).collect()),
            cursor,
            router,
        })
    }

    /// Returns why the stream cannot be read, if it uses a component that this engine does not run.
    #[must_use]
    pub fn refused(&self) -> Option<&Failed> {
        self.retriever.as_ref().err()
    }

    /// Whether reading leaves nothing behind in the stream: no token, no cursor state, and no schema from a response.
    #[must_use]
    pub fn keeps_nothing(&self) -> bool {
        let retriever = self.retriever.as_ref().is_ok_and(Reader::keeps_nothing);
        retriever && self.cursor.is_none() && self.router.keeps_nothing() && matches!(self.schema, StreamSchema::Static(_))
    }

    /// Returns the slices of the stream.
    ///
    /// # Errors
    /// Fails if the cursor or the router fails, or if this engine cannot read the stream.
    pub fn slices<'r>(&'r self, run: &'r Run<'r>) -> Result<StreamSlices<'r>, Failed> {
        if let Some(refused) = self.refused() {
            return Err(refused.clone());
        }
        let at = run.eval_context(None);
        let source = match (&self.cursor, self.router.is_single()) {
            (Some(cursor), true) => Origin::Cursor(cursor, cursor.slices(&at)?),
            (Some(cursor), false) => Origin::Both(Box::new(PerPartition {
                cursor,
                partitions: self.router.slices(run)?,
                ahead: None,
                begun: false,
                seen: HashSet::new(),
                open: None,
            })),
            (None, _) => Origin::Router(self.router.slices(run)?),
        };
        let jobs = self.retriever.as_ref().ok().and_then(Reader::jobs);
        Ok(StreamSlices { run, source, count: 0, jobs: jobs.map(|it| (it, JobFailures::default())) })
    }

    /// Returns the records of a slice.
    ///
    /// # Errors
    /// Fails if loading the schema fails.
    pub async fn records<'r>(&'r self, run: &'r Run<'r>, slice: Slice) -> Result<StreamRecords<'r>, Failed> {
        let retriever = self.retriever.as_ref().map_err(Clone::clone)?;
        Ok(retriever.read(run, slice, self.schema.get(run).await?))
    }
}

fn reader_options(
    node: &Value,
    router: &Arc<Router>,
    cursor: Option<Arc<Cursor>>,
    options: StreamOptions,
    ctx: &Context<'_>,
) -> Result<RetrieverOptions, Failed> {
    let sync = field(node, "incremental_sync");
    let interval = match cursor {
        Some(_) => Some(Arc::new(IntervalOptions::build(sync, node)?)),
        None => None,
    };
    let transformations = items(node, "transformations").iter().map(|it| Transformation::build(it, ctx));
    let (is_data_feed, client_side) = (flag(sync, "is_data_feed"), flag(sync, "is_client_side_incremental"));
    let selector = SelectorOptions {
        transformations: transformations.collect::<Result<_, _>>()?,
        client_side_cursor: cursor.clone().filter(|_| client_side && !is_data_feed),
        is_client_side_incremental: client_side,
    };
    let slicer = SlicerOptions { router: Some(router.clone()), interval };
    Ok(RetrieverOptions { selector, slicer, cursor, is_data_feed, use_cache: options.use_cache })
}

/// Builds a stream that is the parent of others, for the routers that read it.
///
/// # Errors
/// Fails like [`Stream::build`].
pub fn parent(node: &Value, depth: usize, ctx: &Context<'_>) -> Result<Box<dyn ParentStream>, Failed> {
    Ok(Box::new(Stream::build(node, StreamOptions { use_cache: true, depth }, ctx)?))
}

impl ParentStream for Stream {
    fn read<'r>(&'r self, run: &'r Run<'r>) -> Result<Box<dyn ParentRecords + 'r>, Failed> {
        let slices = self.slices(run)?;
        Ok(Box::new(RecordsOfStream { stream: self, slices, begun: false, next_slice: None, open: None }))
    }

    fn keeps_nothing(&self) -> bool {
        Stream::keeps_nothing(self)
    }
}

/// The records of a parent stream, slice by slice.
///
/// Like `iterate_with_last_flag` of the CDK, it reads one slice and one record ahead. Therefore the second page of a
/// parent is requested before the last record of its first page becomes a partition.
struct RecordsOfStream<'r> {
    stream: &'r Stream,
    slices: StreamSlices<'r>,
    begun: bool,
    next_slice: Option<Slice>,
    /// The slice that is being read, its records, and the next record.
    open: Option<(Slice, StreamRecords<'r>, Option<Value>)>,
}

impl ParentRecords for RecordsOfStream<'_> {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<(Slice, Value)>, Failed>> {
        Box::pin(async move {
            if !self.begun {
                self.begun = true;
                self.next_slice = self.slices.next().await?;
            }
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
                let mut records = self.stream.records(self.slices.run, slice.clone()).await?;
                let first = records.next().await?;
                self.open = Some((slice, records, first));
            }
        })
    }
}

/// Returns the stream to build. For a StateDelegatingStream, this is the one that is used for reads without a state.
fn delegate(node: &Value) -> Result<&Value, Failed> {
    if kind(node) != "StateDelegatingStream" {
        return Ok(node);
    }
    let (full, incremental) = (field(node, "full_refresh_stream"), field(node, "incremental_stream"));
    let name = text(node, "name");
    if text(full, "name") != name || text(incremental, "name") != name {
        return Err(Failed::system(
            "ValueError",
            format!(
                "state_delegating_stream, full_refresh_stream name and incremental_stream must have equal names. Instead has \
                 {}, {} and {}.",
                field(node, "name").to_str(),
                field(full, "name").to_str(),
                field(incremental, "name").to_str()
            ),
        ));
    }
    Ok(full)
}

fn cursor_of(sync: &Value, router: &Router, name: &str, at: &EvalContext<'_>) -> Result<Option<Arc<Cursor>>, Failed> {
    if sync.is_none() {
        return Ok(None);
    }
    if !router.is_single() && kind(sync) == "IncrementingCountCursor" {
        return Err(Failed::system(
            "ValueError",
            format!(
                "The low-code framework does not currently support usage of a PartitionRouter and an IncrementingCountCursor \
                 at the same time. Please specify only one of these options for stream {name}."
            ),
        ));
    }
    Ok(Some(Arc::new(Cursor::build(sync, !router.is_single(), at)?)))
}

/// The remaining slices of a stream.
pub struct StreamSlices<'r> {
    run: &'r Run<'r>,
    source: Origin<'r>,
    count: usize,
    /// What prepares each slice in a job, and the jobs that failed.
    jobs: Option<(&'r AsyncRetriever, JobFailures)>,
}

enum Origin<'r> {
    Router(Partitions<'r>),
    Cursor(&'r Cursor, CursorSlices),
    Both(Box<PerPartition<'r>>),
}

/// The cursor's slices for each partition (`concurrent_partition_cursor.py`). It reads one partition and one slice ahead.
struct PerPartition<'r> {
    cursor: &'r Cursor,
    partitions: Partitions<'r>,
    ahead: Option<Slice>,
    begun: bool,
    /// The keys of the partitions so far. A partition that occurs again is skipped.
    seen: HashSet<String>,
    open: Option<(Slice, CursorSlices, Option<Dict>)>,
}

impl StreamSlices<'_> {
    /// Returns the next slice.
    ///
    /// # Errors
    /// Fails if reading a parent fails, or if a bound is reached.
    #[expect(clippy::should_implement_trait, reason = "it waits for answers and may fail, as no Iterator can")]
    pub fn next(&mut self) -> BoxFuture<'_, Result<Option<Slice>, Failed>> {
        // The future is boxed because parents have slices too.
        Box::pin(async move {
            let Some((jobs, mut failures)) = self.jobs.take() else { return self.next_plain().await };
            let next = self.next_prepared(jobs, &mut failures).await;
            self.jobs = Some((jobs, failures));
            next
        })
    }

    /// Returns the next slice that has something to read, after the source prepared it.
    async fn next_prepared(&mut self, jobs: &AsyncRetriever, failures: &mut JobFailures) -> Result<Option<Slice>, Failed> {
        let run = self.run;
        loop {
            let slice = match self.next_plain().await {
                Ok(slice) => slice,
                Err(failed) => {
                    failures.note(failed)?;
                    None
                }
            };
            let Some(slice) = slice else { return failures.end().map(|()| None) };
            if let Some(prepared) = jobs.prepare(run, &slice, failures).await? {
                return Ok(Some(prepared));
            }
        }
    }

    fn next_plain(&mut self) -> BoxFuture<'_, Result<Option<Slice>, Failed>> {
        Box::pin(async move {
            if self.run.limits.slices.is_some_and(|most| self.count >= most) {
                return Ok(None);
            }
            let at = self.run.eval_context(None);
            let slice = match &mut self.source {
                Origin::Router(partitions) => partitions.next().await?,
                Origin::Cursor(cursor, slices) => match cursor.next(slices, &at)? {
                    Some(interval) => Some(Slice::new(Dict::default(), interval, Dict::default())?),
                    None => None,
                },
                Origin::Both(both) => both.next(&at).await?,
            };
            if slice.is_some() {
                self.count += 1;
                if self.count > self.run.bounds.slices {
                    return Err(Failed::bound("slices of a stream", self.run.bounds.slices));
                }
            }
            Ok(slice)
        })
    }
}

impl PerPartition<'_> {
    async fn next(&mut self, at: &EvalContext<'_>) -> Result<Option<Slice>, Failed> {
        loop {
            if let Some((partition, slices, ahead)) = &mut self.open {
                if let Some(interval) = ahead.take() {
                    *ahead = self.cursor.next(slices, at)?;
                    let dict = |value: &Value| value.as_dict().cloned().unwrap_or_default();
                    let mut slice = Slice::new(dict(&partition.partition), interval, dict(&partition.extra_fields))?;
                    slice.child_response = partition.child_response.clone();
                    return Ok(Some(slice));
                }
                self.open = None;
            }
            if !self.begun {
                self.begun = true;
                self.ahead = self.partitions.next().await?;
            }
            let Some(partition) = self.ahead.take() else { return Ok(None) };
            self.ahead = self.partitions.next().await?;
            if !self.seen.insert(partition_key(&partition.partition)) {
                continue;
            }
            let mut slices = self.cursor.slices(at)?;
            let first = self.cursor.next(&mut slices, at)?;
            self.open = Some((partition, slices, first));
        }
    }
}

/// Returns a text that is the same for equal partitions, regardless of the order of their keys.
#[must_use]
pub fn partition_key(partition: &Value) -> String {
    match partition {
        Value::Dict(dict) => {
            let mut pairs: Vec<_> = dict.iter().map(|(key, item)| format!("{key:?}:{}", partition_key(item))).collect();
            pairs.sort();
            format!("{{{}}}", pairs.join(","))
        }
        Value::List(list) => format!("[{}]", list.iter().map(partition_key).collect::<Vec<_>>().join(",")),
        other => other.repr(),
    }
}
