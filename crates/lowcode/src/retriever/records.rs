//! The records of one slice of a `SimpleRetriever`, page by page.

use super::Retriever;
use super::page_size::PageSize;
use crate::context::{EvalContext, Run};
use crate::decode::file;
use crate::error::Failed;
use crate::extraction::{Extractor, Truncated};
use crate::host::HostResponse;
use crate::node::pair;
use crate::pagination::Page;
use crate::response::Response;
use crate::slice::Slice;
use crate::value::{Dict, Value};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The remaining records of one slice.
pub struct Records<'r> {
    pub(super) retriever: &'r Retriever,
    pub(super) run: &'r Run<'r>,
    pub(super) original: Slice,
    pub(super) slice: Slice,
    pub(super) schema: Arc<Value>,
    pub(super) token: Option<Value>,
    pub(super) pending: VecDeque<Value>,
    /// The number of records of the page that are no longer pending.
    pub(super) taken: usize,
    /// The truncated records of the page that are still ahead.
    pub(super) truncated: VecDeque<Truncated>,
    /// The whole list of the truncated record that is being read.
    pub(super) whole: Option<WholeList<'r>>,
    /// The names of fields for each request of a page.
    pub(super) chunks: Option<Vec<Vec<String>>>,
    /// The records of a page that several requests answered.
    pub(super) ready: VecDeque<Value>,
    /// Whether the slice ends with these records, because there was no response.
    pub(super) is_last: bool,
    /// The page that is being read.
    pub(super) open: Option<Open>,
    pub(super) pages: usize,
    /// The number of records since the last reset, and below it the latest of them according to the cursor.
    pub(super) observed: usize,
    pub(super) most_recent: Option<(i128, Value)>,
    pub(super) tries: usize,
    pub(super) done: bool,
    pub(super) page_size: PageSize,
}

pub(super) struct Open {
    pub(super) response: Response,
    pub(super) extracted: usize,
    pub(super) records: usize,
    pub(super) last_record: Option<Value>,
}

/// The whole list of a truncated record.
pub(super) struct WholeList<'r> {
    pub(super) records: Box<Records<'r>>,
    pub(super) of: Truncated,
    pub(super) fetched: usize,
}

impl<'r> Records<'r> {
    pub(super) fn new(retriever: &'r Retriever, run: &'r Run<'r>, slice: Slice, schema: Arc<Value>) -> Records<'r> {
        let token = retriever.paginator.initial_token();
        Records {
            retriever,
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
            page_size: PageSize::default(),
            done: false,
        }
    }

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

    pub(super) fn at(&self) -> EvalContext<'_> {
        self.run.eval_context(Some(&self.slice))
    }

    pub(super) fn select(&mut self, raw: Value) -> Result<Option<Value>, Failed> {
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

    /// Fetches a page. The slice ends if the response is ignored.
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
            None => {
                let (slice, token, reduced) = (&self.slice, self.token.as_ref(), self.page_size.reduced);
                self.retriever.send(self.run, slice, token, reduced).await
            }
        };
        let response = match sent {
            Err(error) if error.class == "PaginationResetRequiredException" => return self.reset(),
            Err(error) if error.class == "PageSizeReductionRequiredException" => return self.reduce(&error).await,
            other => other?,
        };
        let Some(response) = response else {
            self.done = true;
            return Ok(());
        };
        let bodies = match &self.retriever.selector.extractor {
            Extractor::File { keeps_na } => file::rows(&response, *keeps_na, self.run.bounds)?.into(),
            _ => self.retriever.decoder.decode(&response, self.run.bounds)?,
        };
        let extracted = self.retriever.selector.extractor.extract(&bodies, &self.at())?;
        if self.run.needs_lists && (extracted.count == 0 || self.retriever.selector.extractor.requires_list()) {
            self.retriever.check_list(&response, self.run, &self.at())?;
        }
        self.pending = extracted.records;
        (self.truncated, self.taken) = (extracted.truncated, 0);
        self.open = Some(Open { response, extracted: extracted.count, records: 0, last_record: None });
        Ok(())
    }

    /// Prepares the page to be requested again with a smaller size.
    async fn reduce(&mut self, rejected: &Failed) -> Result<(), Failed> {
        let (retriever, run) = (self.retriever, self.run);
        let Some(reduction) = &retriever.reduction else { return Err(rejected.clone()) };
        let configured = retriever.paginator.page_size(&self.at())?;
        // The page was not read.
        self.pages -= 1;
        let (name, rejection) = (retriever.requester.name(), rejected.internal.as_deref());
        self.page_size.reduce(reduction, configured, name, rejection, run).await
    }

    /// Ends a page. Stores the token of the next page, or ends the slice.
    fn turn(&mut self, open: &Open) -> Result<(), Failed> {
        let reduced_size = self.page_size.reduced;
        if let Some(reduction) = &self.retriever.reduction {
            self.page_size.succeeded(reduction);
        }
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
            reduced_size,
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
    pub(super) fn reset(&mut self) -> Result<(), Failed> {
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
