//! Retrievers, which read the records of a slice.
//!
//! A `SimpleRetriever` reads them page by page, and requests each page only when it is needed ([`records`]). An
//! `AsyncRetriever` lets the source prepare them in a job ([`jobs`]).

pub mod jobs;
mod page_size;
mod properties;
mod records;
mod several;

use super::context::{Context, EvalContext, Run};
use super::cursor::Cursor;
use super::decode::Decoder;
use super::error::Failed;
use super::extraction::{ListInBody, Selector, SelectorOptions};
use super::host::Purpose;
use super::node::{field, flag, items, kind, pair, set_field, text};
use super::pagination::Paginator;
use super::request::merge::combine;
use super::request::option::OptionPlace;
use super::requester::{BuildOptions, RequestParts, Requester};
use super::response::Response;
use super::slice::Slice;
use super::slicing::SlicerOptions;
use super::value::Value;
use page_size::PageSizeReduction;
use properties::QueryProperties;
pub use records::Records;
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
    /// What is done if the source rejects a page because of its size.
    reduction: Option<PageSizeReduction>,
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
        if let Some(class) = decoder.refused_for_pages().filter(|_| kind(field(node, "paginator")) == "DefaultPaginator") {
            return Err(Failed::system("ValueError", unsupported_decoder(class)));
        }
        let expects_json = matches!(decoder, Decoder::Json);
        let (properties, query_properties_key, requester) = QueryProperties::build(requester, name, ctx)?;
        let build = BuildOptions { query_properties_key, use_cache: options.use_cache, purpose: Purpose::Data, expects_json };
        let lazy = items(field(node, "partition_router"), "parent_stream_configs")
            .iter()
            .any(|parent| !items(parent, "lazy_read_pointer").is_empty());
        let selector = Selector::build(field(node, "record_selector"), options.selector, ctx)?;
        let fetcher = |it: &Value| Retriever::build(it, FETCHER, RetrieverOptions::default(), ctx);
        let fetchers = selector.extractor.expanders().into_iter().map(|it| it.fetcher().map(fetcher).transpose());
        let fetchers = fetchers.collect::<Result<_, _>>()?;
        let paginator = Paginator::build(field(node, "paginator"), data_feed.clone(), ctx)?;
        let reduction = PageSizeReduction::build(node, name, properties.is_some())?;
        if lazy && reduction.is_some() {
            let message = "`page_size_reduction` and the REDUCE_PAGE_SIZE response action are not supported when reading a \
                           parent stream lazily.";
            return Err(Failed::system("ValueError", format!("{message} Stream {name}.")));
        }
        Ok(Retriever {
            requester: Requester::build(&requester, name, ctx, build)?,
            properties,
            decoder,
            selector,
            fetchers,
            paginator,
            slicer: options.slicer,
            ignore_slicer_on_pages: flag(node, "ignore_stream_slicer_parameters_on_paginated_requests"),
            reset_after: reset_after.and_then(|it| usize::try_from(it).ok()),
            reset_by_cursor: options.cursor.filter(|_| text(reset, "action") == Some("SPLIT_USING_CURSOR")),
            data_feed,
            lazy,
            reduction,
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
        Records::new(self, run, slice, schema)
    }

    async fn send(
        &self,
        run: &Run<'_>,
        slice: &Slice,
        token: Option<&Value>,
        reduced: Option<i64>,
    ) -> Result<Option<Response>, Failed> {
        let at = run.eval_context(Some(slice));
        let next = token.map(|token| Value::Dict(pair("next_page_token", token.clone())));
        let sliced = token.is_none() || !self.ignore_slicer_on_pages;
        let options = |place: OptionPlace| -> Result<Value, Failed> {
            let paged = Value::Dict(self.paginator.options(place, token, reduced, &at)?);
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
    if set_field(node, "request_window_splitting").is_some() {
        return refuse("request_window_splitting");
    }
    Ok(())
}

/// The message for a decoder of which the paginator cannot read the body.
fn unsupported_decoder(class: &str) -> String {
    format!(
        "Specified decoder of <class 'airbyte_cdk.sources.declarative.decoders.{class}'> is not supported for pagination.Please \
         set as `JsonDecoder`, `XmlDecoder`, or a `CompositeRawDecoder` with an inner_parser of `JsonParser` or `GzipParser` \
         instead.If using `GzipParser`, please ensure that the lowest level inner_parser is a `JsonParser`."
    )
}

/// Converts header values to text.
fn texts(headers: Value) -> Value {
    match headers {
        Value::Dict(dict) => Value::Dict(dict.into_iter().map(|(key, item)| (key, Value::from(item.to_str()))).collect()),
        other => other,
    }
}

#[cfg(test)]
#[path = "retriever_tests.rs"]
mod tests;
