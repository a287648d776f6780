//! `SimpleRetriever`: reads the records of one slice page by page, and requests each page only when it is needed.

mod properties;
mod several;

use super::context::{Context, EvalContext, Run};
use super::cursor::Cursor;
use super::decode::Decoder;
use super::error::Failed;
use super::extraction::{ListInBody, Selector, SelectorOptions, Truncated};
use super::host::{HostResponse, Purpose};
use super::node::{field, flag, items, kind, pair, set_field, text};
use super::pagination::{Page, Paginator};
use super::request::merge::combine;
use super::request::option::OptionPlace;
use super::requester::{BuildOptions, RequestParts, Requester};
use super::response::Response;
use super::slice::Slice;
use super::slicing::SlicerOptions;
use super::value::{Dict, Value};
use properties::QueryProperties;
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

/// Reads the records of a slice.
pub struct Retriever {
    requester: Requester,
    decoder: Decoder,
    selector: Selector,
    paginator: Paginator,
    slicer: SlicerOptions,
    ignore_slicer_on_pages: bool,
    /// `pagination_reset`: the number of records after which pagination starts over.
    reset_after: Option<usize>,
    /// Set if the action of `pagination_reset` is SPLIT_USING_CURSOR.
    reset_by_cursor: Option<Arc<Cursor>>,
    /// `is_data_feed`: records outside the cursor's interval are dropped, but only after the page has been counted.
    data_feed: Option<Arc<Cursor>>,
    /// Whether the first page of a slice is contained in the parent's record.
    lazy: bool,
    /// What reads the whole lists of truncated records, by the number of the expander.
    fetchers: Vec<Option<Retriever>>,
    /// The names of fields that each page asks for, in one or several requests.
    properties: Option<QueryProperties>,
}

/// The name of the retrievers that read the whole lists of truncated records.
const FETCHER: &str = "record_expander_truncated_list";

/// What the stream passes to its retriever.
#[derive(Default)]
pub struct RetrieverOptions {
    pub selector: SelectorOptions,
    pub slicer: SlicerOptions,
    pub cursor: Option<Arc<Cursor>>,
    pub is_data_feed: bool,
    pub use_cache: bool,
}

impl Retriever {
    /// # Errors
    /// Fails with the error that the CDK raises when it builds the component, or if this engine does not know the component.
    pub fn build(node: &Value, name: &str, options: RetrieverOptions, ctx: &Context<'_>) -> Result<Retriever, Failed> {
        if kind(node) != "SimpleRetriever" {
            return Err(Failed::config("UnsupportedComponent", format!("retriever {} is not supported", kind(node))));
        }
        let requester = field(node, "requester");
        refuse_unsupported(node, requester)?;
        let reset = field(node, "pagination_reset");
        let reset_after = field(field(reset, "limits"), "number_of_records").as_i64();
        if reset_after.is_some() && set_field(field(node, "record_selector"), "record_filter").is_some() {
            return Err(Failed::system("ValueError", "PaginationResetLimits are not supported while having record filter."));
        }
        let data_feed = options.cursor.clone().filter(|_| options.is_data_feed);
        let decoder = Decoder::build(set_field(node, "decoder"))?;
        let expects_json = matches!(decoder, Decoder::Json);
        let (properties, query_properties_key, requester) = QueryProperties::build(requester, ctx)?;
        let build = BuildOptions { query_properties_key, use_cache: options.use_cache, purpose: Purpose::Data, expects_json };
        let lazy = items(field(node, "partition_router"), "parent_stream_configs")
            .iter()
            .any(|parent| !items(parent, "lazy_read_pointer").is_empty());
        let selector = Selector::build(field(node, "record_selector"), options.selector, ctx)?;
        let fetcher = |it: &Value| Retriever::build(it, FETCHER, RetrieverOptions::default(), ctx);
        let fetchers = selector.extractor.expanders().into_iter().map(|it| it.fetcher().map(fetcher).transpose());
        let fetchers = fetchers.collect::<Result<_, _>>()?;
        Ok(Retriever {
            requester: Requester::build(&requester, name, ctx, build)?,
            properties,
            decoder,
            selector,
            fetchers,
            paginator: Paginator::build(field(node, "paginator"), data_feed.clone(), ctx)?,
            slicer: options.slicer,
            ignore_slicer_on_pages: flag(node, "ignore_stream_slicer_parameters_on_paginated_requests"),
            reset_after: reset_after.and_then(|it| usize::try_from(it).ok()),
            reset_by_cursor: options.cursor.filter(|_| text(reset, "action") == Some("SPLIT_USING_CURSOR")),
            data_feed,
            lazy,
        })
    }

    /// Whether the retriever stores nothing between requests.
    #[must_use]
    pub fn keeps_nothing(&self) -> bool {
        let properties = self.properties.as_ref().is_none_or(QueryProperties::keeps_nothing);
        properties && self.requester.is_fixed() && self.fetchers.iter().flatten().all(Retriever::keeps_nothing)
    }

    /// Returns the records of `slice`.
    #[must_use]
    pub fn read<'r>(&'r self, run: &'r Run<'r>, slice: Slice, schema: Arc<Value>) -> Records<'r> {
        let token = self.paginator.initial_token();
        Records {
            retriever: self,
            run,
            original: slice.clone(),
            slice,
            schema,
            token,
            pending: VecDeque::new(),
            taken: 0,
            truncated: VecDeque::new(),
            whole: None,
            chunks: None,
            ready: VecDeque::new(),
            is_last: false,
            open: None,
            pages: 0,
            observed: 0,
            most_recent: None,
            tries: 0,
            done: false,
        }
    }

    async fn send(&self, run: &Run<'_>, slice: &Slice, token: Option<&Value>) -> Result<Option<Response>, Failed> {
        let at = run.eval_context(Some(slice));
        let next = token.map(|token| Value::Dict(pair("next_page_token", token.clone())));
        let sliced = token.is_none() || !self.ignore_slicer_on_pages;
        let options = |place: OptionPlace| -> Result<Value, Failed> {
            let paged = Value::Dict(self.paginator.options(place, token, &at)?);
            let by_slice = match sliced {
                true => Value::Dict(self.slicer.options(place, slice, &at)?),
                false => Value::None,
            };
            Ok(combine([paged, by_slice], place == OptionPlace::BodyJson)?.into_value())
        };
        let path = self.paginator.path(token);
        // The options are evaluated in the order of `_fetch_next_page`, so that the same error comes first.
        let mut parts =
            RequestParts { slice: Some(slice), next_page_token: next.as_ref(), path: path.as_deref(), ..RequestParts::default() };
        parts.headers = texts(options(OptionPlace::Header)?);
        parts.query = options(OptionPlace::Query)?;
        parts.body_data = options(OptionPlace::BodyData)?;
        parts.body_json = options(OptionPlace::BodyJson)?;
        self.requester.send(run, &parts).await
    }

    /// Checks that a response has the list in which its records are or would be.
    fn check_list(&self, response: &Response, run: &Run<'_>, at: &EvalContext<'_>) -> Result<(), Failed> {
        let Some(body) = response.json().filter(|_| matches!(self.decoder, Decoder::Json)) else { return Ok(()) };
        let place = Some((response.status(), response.url()));
        match self.selector.extractor.list_in(body, at)? {
            ListInBody::Present => Ok(()),
            ListInBody::Missing(path) => Err(Failed::missing_list(&path, place)),
            ListInBody::NotAList(path) => Err(Failed::not_a_list(&path, place)),
            ListInBody::Null(_) => {
                let stream = self.requester.name();
                let mut streams = run.null_lists.lock().unwrap_or_else(PoisonError::into_inner);
                if !streams.iter().any(|known| known == stream) {
                    streams.push(stream.to_owned());
                }
                Ok(())
            }
        }
    }
}

/// # Errors
/// Fails if the manifest uses a feature that this engine does not have.
fn refuse_unsupported(node: &Value, requester: &Value) -> Result<(), Failed> {
    let refuse = |what: &str| Err(Failed::config("UnsupportedComponent", format!("{what} is not supported")));
    if kind(requester) != "HttpRequester" {
        return refuse(&format!("requester {}", kind(requester)));
    }
    for (at, key) in [(node, "page_size_reduction"), (node, "request_window_splitting")] {
        if set_field(at, key).is_some() {
            return refuse(key);
        }
    }
    Ok(())
}

/// Converts header values to text.
fn texts(headers: Value) -> Value {
    match headers {
        Value::Dict(dict) => Value::Dict(dict.into_iter().map(|(key, item)| (key, Value::from(item.to_str()))).collect()),
        other => other,
    }
}

/// The remaining records of one slice.
pub struct Records<'r> {
    retriever: &'r Retriever,
    run: &'r Run<'r>,
    original: Slice,
    slice: Slice,
    schema: Arc<Value>,
    token: Option<Value>,
    pending: VecDeque<Value>,
    /// The number of records of the page that are no longer pending.
    taken: usize,
    /// The truncated records of the page that are still ahead.
    truncated: VecDeque<Truncated>,
    /// The whole list of the truncated record that is being read.
    whole: Option<WholeList<'r>>,
    /// The names of fields for each request of a page.
    chunks: Option<Vec<Vec<String>>>,
    /// The records of a page that several requests answered.
    ready: VecDeque<Value>,
    /// Whether the slice ends with these records, because there was no response.
    is_last: bool,
    /// The page that is being read.
    open: Option<Open>,
    pages: usize,
    /// The number of records since the last reset, and below it the latest of them according to the cursor.
    observed: usize,
    most_recent: Option<(i128, Value)>,
    tries: usize,
    done: bool,
}

struct Open {
    response: Response,
    extracted: usize,
    records: usize,
    last_record: Option<Value>,
}

/// The whole list of a truncated record.
struct WholeList<'r> {
    records: Box<Records<'r>>,
    of: Truncated,
    fetched: usize,
}

impl<'r> Records<'r> {
    /// Returns the next record, or `None` at the end and after an error.
    ///
    /// # Errors
    /// Fails if a request, a template or a path fails, or if a bound is reached.
    pub async fn next(&mut self) -> Result<Option<Value>, Failed> {
        loop {
            if self.done {
                return Ok(None);
            }
            match self.step().await {
                Ok(Some(record)) => return Ok(Some(record)),
                Ok(None) => {}
                Err(error) => {
                    self.done = true;
                    return Err(error);
                }
            }
        }
    }

    /// Makes one step: returns one record of the open page, ends the page, or fetches a new page.
    async fn step(&mut self) -> Result<Option<Value>, Failed> {
        if self.whole.is_some() {
            return self.step_of_whole_list().await;
        }
        if let Some(of) = self.truncated.pop_front_if(|it| it.at == self.taken) {
            let run = self.run;
            if let Some(fetcher) = self.retriever.fetchers.get(of.expander).and_then(Option::as_ref) {
                let slice = Slice::new(pair("parent_record", of.parent.clone()), Dict::default(), Dict::default())?;
                let records = Box::new(fetcher.read(run, slice, Arc::new(Value::Dict(Dict::default()))));
                self.whole = Some(WholeList { records, of, fetched: 0 });
            }
            return Ok(None);
        }
        if let Some(raw) = self.pending.pop_front() {
            self.taken += 1;
            return self.select(raw);
        }
        if let Some(record) = self.ready.pop_front() {
            return self.emit(record);
        }
        match self.open.take() {
            None if self.is_last => self.done = true,
            Some(open) => self.turn(&open)?,
            None => self.fetch().await?,
        }
        Ok(None)
    }

    fn at(&self) -> EvalContext<'_> {
        self.run.eval_context(Some(&self.slice))
    }

    fn select(&mut self, raw: Value) -> Result<Option<Value>, Failed> {
        match self.retriever.selector.select(raw, &self.schema, &self.at())? {
            Some(record) => self.emit(record),
            None => Ok(None),
        }
    }

    /// Counts a record of the page, and returns it unless the cursor does not want it.
    fn emit(&mut self, record: Value) -> Result<Option<Value>, Failed> {
        self.observe(&record)?;
        let keep_last = self.retriever.paginator.needs_last_record();
        if let Some(open) = &mut self.open {
            open.records += 1;
            if keep_last {
                open.last_record = Some(record.clone());
            }
        }
        let wanted = match &self.retriever.data_feed {
            Some(cursor) => cursor.should_be_synced(&record, &self.at())?,
            None => true,
        };
        Ok(wanted.then_some(record))
    }

    /// Fetches a page. The slice ends if there is no response.
    async fn fetch(&mut self) -> Result<(), Failed> {
        if self.pages > 0 && self.pages >= self.run.bounds.pages {
            return Err(Failed::bound("pages of a slice", self.run.bounds.pages));
        }
        self.pages += 1;
        if let Some(properties) = &self.retriever.properties {
            return self.fetch_chunks(properties).await;
        }
        let sent = match self.slice.child_response.take().filter(|_| self.retriever.lazy) {
            Some(body) => Ok(Some(embedded(&body, self.run)?)),
            None => self.retriever.send(self.run, &self.slice, self.token.as_ref()).await,
        };
        let response = match sent {
            Err(error) if error.class == "PaginationResetRequiredException" => return self.reset(),
            other => other?,
        };
        let Some(response) = response else {
            self.done = true;
            return Ok(());
        };
        let bodies = self.retriever.decoder.decode(&response, self.run.bounds)?;
        let extracted = self.retriever.selector.extractor.extract(&bodies, &self.at())?;
        if self.run.needs_lists && (extracted.count == 0 || self.retriever.selector.extractor.requires_list()) {
            self.retriever.check_list(&response, self.run, &self.at())?;
        }
        self.pending = extracted.records;
        (self.truncated, self.taken) = (extracted.truncated, 0);
        self.open = Some(Open { response, extracted: extracted.count, records: 0, last_record: None });
        Ok(())
    }

    /// Ends a page. Stores the token of the next page, or ends the slice.
    fn turn(&mut self, open: &Open) -> Result<(), Failed> {
        if self.retriever.reset_after.is_some_and(|limit| self.observed >= limit) {
            return self.reset();
        }
        let is_last = self.run.limits.pages.is_some_and(|most| self.pages >= most);
        let page = Page {
            response: &open.response,
            decoder: &self.retriever.decoder,
            records: open.records,
            extracted: open.extracted,
            last_record: open.last_record.as_ref(),
            token: self.token.as_ref(),
        };
        if is_last {
            // A last page whose token cannot be evaluated is a last page too.
            let next = self.retriever.paginator.next_token(&page, &self.at()).unwrap_or_default();
            self.run.cut.fetch_or(next.is_some(), Ordering::Relaxed);
            self.done = true;
            return Ok(());
        }
        self.token = self.retriever.paginator.next_token(&page, &self.at())?;
        self.done = self.token.is_none();
        Ok(())
    }

    fn observe(&mut self, record: &Value) -> Result<(), Failed> {
        self.observed += 1;
        let Some(cursor) = &self.retriever.reset_by_cursor else { return Ok(()) };
        if let Some((instant, text)) = cursor.position(record, &self.at())?
            && self.most_recent.as_ref().is_none_or(|(most, _)| *most < instant)
        {
            self.most_recent = Some((instant, text));
        }
        Ok(())
    }

    /// Starts the slice again. If a cursor is given, it starts from the latest record (`pagination_tracker.py`).
    fn reset(&mut self) -> Result<(), Failed> {
        let by_cursor = self.retriever.reset_by_cursor.as_ref();
        let fields = match by_cursor {
            Some(cursor) => cursor.boundary_fields(&self.at())?,
            None => None,
        };
        let before = self.slice.cursor_slice.clone();
        if let (Some((start, _)), Some((_, text))) = (fields, self.most_recent.take()) {
            let mut interval = self.original.cursor_slice.as_dict().cloned().unwrap_or_default();
            interval.insert(start, text);
            let dict = |value: &Value| value.as_dict().cloned().unwrap_or_default();
            self.slice = Slice::new(dict(&self.original.partition), interval, dict(&self.original.extra_fields))?;
        }
        if self.slice.cursor_slice == before {
            self.tries += 1;
            if self.tries >= if by_cursor.is_some() { 1 } else { 2 } {
                let message = format!("There were {} attempts with the same slice already", self.tries);
                return Err(Failed::system("AirbyteTracedException", message));
            }
        } else {
            self.tries = 0;
        }
        self.observed = 0;
        self.token = self.retriever.paginator.initial_token();
        Ok(())
    }
}

/// Returns the response that is embedded in the record of a lazy parent.
fn embedded(body: &Value, run: &Run<'_>) -> Result<Response, Failed> {
    let body = serde_json::to_vec(body).map_err(|error| Failed::system("TypeError", error.to_string()))?;
    let response = HostResponse { status: 200, headers: [].into(), body: body.into(), url: String::new() };
    Response::new(Arc::new(response), run.bounds)
}

#[cfg(test)]
#[path = "retriever_tests.rs"]
mod tests;
