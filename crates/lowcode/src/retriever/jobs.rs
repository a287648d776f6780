//! `AsyncRetriever`: the source prepares the records of a slice in a job, which is created, polled and downloaded
//! (`async_retriever.py`, `http_job_repository.py`).
//!
//! One job runs at a time, so that a sample makes no more jobs than it reads. Whether the request that makes a job may be
//! sent is the decision of the host.

mod download;
mod run;

pub use download::JobRecords;
pub use run::JobFailures;

use super::page_size::refuse_action;
use super::{Retriever, RetrieverOptions};
use crate::context::{Context, EvalContext, Run};
use crate::decode::Decoder;
use crate::error::Failed;
use crate::extraction::{Extractor, Selector, SelectorOptions};
use crate::interpolation::InterpolatedString;
use crate::node::{field, items, pair, parameters, set_field};
use crate::requester::{BuildOptions, Requester};
use crate::response::Response;
use crate::slice::Slice;
use crate::value::{Dict, Value};
use std::collections::HashMap;
use std::sync::Arc;

/// Reads the records that the source prepares in jobs.
pub struct AsyncRetriever {
    creation: Requester,
    polling: Requester,
    targets: Option<Requester>,
    abort: Option<Requester>,
    delete: Option<Requester>,
    /// Reads the status, and the targets of the download, in a response.
    decoder: Decoder,
    status: Extractor,
    target: Option<Extractor>,
    statuses: HashMap<String, Status>,
    download: Retriever,
    selector: Selector,
    /// How long a job may run, in seconds.
    timeout: i64,
    /// How long to wait before a failed job is made again, in seconds.
    retry_wait: Option<u64>,
}

/// The status of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Running,
    Completed,
    Failed,
    TimedOut,
    Skipped,
}

impl Status {
    fn as_str(self) -> &'static str {
        match self {
            Status::Running => "RUNNING",
            Status::Completed => "COMPLETED",
            Status::Failed => "FAILED",
            Status::TimedOut => "TIMED_OUT",
            Status::Skipped => "SKIPPED",
        }
    }
}

/// The fields of an AsyncJobStatusMap, and whether they are required.
const STATUSES: [(&str, Status, bool); 5] = [
    ("running", Status::Running, true),
    ("completed", Status::Completed, true),
    ("failed", Status::Failed, true),
    ("timeout", Status::TimedOut, true),
    ("skipped", Status::Skipped, false),
];

/// The requesters of the component.
const REQUESTERS: [&str; 6] = [
    "creation_requester",
    "polling_requester",
    "download_requester",
    "download_target_requester",
    "abort_requester",
    "delete_requester",
];

fn value_error(message: impl Into<String>) -> Failed {
    Failed::system("ValueError", message)
}

impl AsyncRetriever {
    /// # Errors
    /// Fails with the error that the CDK raises when it builds the component, or if this engine does not know a part of it.
    pub fn build(node: &Value, name: &str, options: SelectorOptions, ctx: &Context<'_>) -> Result<AsyncRetriever, Failed> {
        if set_field(node, "download_target_requester").is_some() && set_field(node, "download_target_extractor").is_none() {
            return Err(value_error("`download_target_extractor` required if using a `download_target_requester`"));
        }
        for requester in REQUESTERS {
            refuse_action(field(node, requester), &format!("`{requester}` of the AsyncRetriever of stream {name}"))?;
        }
        let decoder = Decoder::build(set_field(node, "decoder"))?;
        let expects_json = matches!(decoder, Decoder::Json);
        let requester = |key: &str| {
            let build = BuildOptions { expects_json, ..BuildOptions::default() };
            set_field(node, key).map(|it| Requester::build(it, name, ctx, build)).transpose()
        };
        let required = |key: &str| {
            requester(key)?.ok_or_else(|| Failed::config("UnsupportedComponent", format!("{key} of {name} is missing")))
        };
        let extractor = |key: &str| set_field(node, key).map(|it| Extractor::build(it, ctx)).transpose();
        let number = |key: &str| set_field(node, key).map(|it| evaluated(it, ctx)).transpose();
        let minutes = number("polling_job_timeout")?.filter(|it| *it != 0).unwrap_or(60);
        let retry_wait = number("failed_retry_wait_time_in_seconds")?.filter(|it| *it != 0);
        if retry_wait.is_some_and(|it| it < 0) {
            return Err(value_error("failed_retry_wait_time_in_seconds must be >= 1"));
        }
        let selector = SelectorOptions { client_side_cursor: None, is_client_side_incremental: false, ..options };
        Ok(AsyncRetriever {
            creation: required("creation_requester")?,
            polling: required("polling_requester")?,
            targets: requester("download_target_requester")?,
            abort: requester("abort_requester")?,
            delete: requester("delete_requester")?,
            decoder,
            status: Extractor::build(field(node, "status_extractor"), ctx)?,
            target: extractor("download_target_extractor")?,
            statuses: statuses(field(node, "status_mapping"))?,
            download: Retriever::build(&download(node), name, RetrieverOptions::default(), ctx)?,
            selector: Selector::build(field(node, "record_selector"), selector, ctx)?,
            timeout: minutes.saturating_mul(60),
            retry_wait: retry_wait.and_then(|it| u64::try_from(it).ok()),
        })
    }

    /// Returns the records of a slice whose job is complete.
    #[must_use]
    pub fn read<'r>(&'r self, run: &'r Run<'r>, slice: Slice, schema: Arc<Value>) -> JobRecords<'r> {
        JobRecords::new(self, run, slice, schema)
    }

    /// Returns what `extractor` finds in a response.
    fn extract(&self, extractor: &Extractor, response: &Response, at: &EvalContext<'_>) -> Result<Vec<Value>, Failed> {
        let bodies = self.decoder.decode(response, at.bounds)?;
        Ok(extractor.extract(&bodies, at)?.records.into_iter().collect())
    }
}

/// Returns the component that downloads the records. Filters and transformations belong to the stream's own selector.
fn download(node: &Value) -> Value {
    let mut extractor = field(node, "download_extractor").clone();
    if extractor.is_none() {
        let mut whole = pair("type", Value::str("DpathExtractor"));
        whole.insert("field_path".into(), Value::List(Vec::new()));
        whole.insert("$parameters".into(), parameters(node).clone());
        extractor = Value::Dict(whole);
    }
    let mut selector = pair("type", Value::str("RecordSelector"));
    selector.insert("extractor".into(), extractor);
    let mut all = pair("type", Value::str("SimpleRetriever"));
    all.insert("record_selector".into(), Value::Dict(selector));
    for (key, own) in [("requester", "download_requester"), ("decoder", "download_decoder"), ("paginator", "download_paginator")]
    {
        all.insert(key.into(), field(node, own).clone());
    }
    Value::Dict(all)
}

/// Python's `int` of a number or of a template.
fn evaluated(value: &Value, ctx: &Context<'_>) -> Result<i64, Failed> {
    let value = InterpolatedString::new(&value.to_str(), &Value::Dict(Dict::default())).eval(&ctx.scope(), &[])?;
    let number = match &value {
        Value::Str(text) => text.trim().parse().ok(),
        Value::Float(float) if float.is_finite() => Some(*float as i64),
        Value::Bool(bool) => Some(i64::from(*bool)),
        other => other.as_i64(),
    };
    number.ok_or_else(|| value_error(format!("invalid literal for int() with base 10: {}", value.repr())))
}

fn statuses(node: &Value) -> Result<HashMap<String, Status>, Failed> {
    let mut all = HashMap::new();
    for (key, status, is_required) in STATUSES {
        if is_required && set_field(node, key).is_none() {
            return Err(value_error(format!(
                "Required CDK status '{key}' has no API statuses mapped. Please provide at least an empty list for required \
                 status fields."
            )));
        }
        for name in items(node, key).iter().map(Value::to_str) {
            if all.contains_key(&name) {
                return Err(value_error(format!(
                    "API status {name} is already set for CDK status {key}. Please ensure API statuses are only provided once"
                )));
            }
            all.insert(name, status);
        }
    }
    Ok(all)
}

/// Returns a response for templates: the fields of its body, its headers and what was requested.
fn variables(response: &Response) -> Result<Value, Failed> {
    let body = match response.json() {
        Some(Value::Dict(body)) => Ok(body.clone()),
        Some(Value::List(list)) if list.is_empty() => Ok(Dict::default()),
        Some(_) => Err(Failed::system("TypeError", "the response about the job is not an object")),
        None => Err(Failed::system("JSONDecodeError", "Expecting value: line 1 column 1 (char 0)")),
    };
    let mut all = body?;
    if !all.contains_key("headers") {
        // Names of headers are not case-sensitive, so both spellings are there.
        let mut headers = response.headers_value().as_dict().cloned().unwrap_or_default();
        for (name, value) in headers.clone() {
            headers.entry(name.to_ascii_lowercase().into()).or_insert(value);
        }
        all.insert("headers".into(), Value::Dict(headers));
    }
    if !all.contains_key("request") {
        all.insert("request".into(), Value::Dict(pair("url", Value::str(response.url()))));
    }
    Ok(Value::Dict(all))
}

/// Returns the slice of a request about a job: that of the job, with further variables.
fn slice_with(slice: &Slice, more: Vec<(&str, Value)>) -> Result<Slice, Failed> {
    let dict = |value: &Value| value.as_dict().cloned().unwrap_or_default();
    let mut extra = dict(&slice.extra_fields);
    extra.extend(more.into_iter().map(|(key, value)| (Arc::from(key), value)));
    Slice::new(dict(&slice.partition), dict(&slice.cursor_slice), extra)
}

#[cfg(test)]
#[path = "jobs_tests.rs"]
mod tests;
