//! Reads: the requests that the interpreter makes and the records that come out, against those of the CDK.
//!
//! The data has, for each stream by itself: the first two slices with two pages each (parents alike), the body that was
//! served to each request in order, and the records. Two-sided: where the CDK failed, the interpreter must fail.

use crate::outcome::Outcome;
use futures_util::future::{BoxFuture, FutureExt, ready};
use jiff::Timestamp;
use lowcode::bounds::Bounds;
use lowcode::context::{Limits, ResponseCache, Run};
use lowcode::error::Failed;
use lowcode::host::{Host, HostError, HostRequest, HostResponse};
use lowcode::load::load;
use lowcode::source::{SharedManifest, SourceBuilder};
use lowcode::stream::Stream;
use lowcode::value::Value;
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

/// Headers that every HTTP client chooses for itself.
const OF_THE_CLIENT: [&str; 5] = ["user-agent", "accept-encoding", "accept", "connection", "content-length"];

/// Answers in the order of the script and keeps what was asked.
#[derive(Default)]
struct Script {
    bodies: Mutex<VecDeque<Value>>,
    calls: Mutex<Vec<HostRequest>>,
}

impl Host for Script {
    fn send(&self, call: HostRequest) -> BoxFuture<'_, Result<HostResponse, HostError>> {
        let url = call.url.clone();
        self.calls.lock().unwrap().push(call);
        let next = self.bodies.lock().unwrap().pop_front();
        ready(match next {
            Some(body) => {
                let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
                let link = header("Link", "<https://api.example.invalid/next?page=2>; rel=\"next\"");
                let headers = vec![header("Content-Type", "application/json"), link];
                let body = match body {
                    Value::Str(text) => text.as_bytes().to_vec(),
                    other => serde_json::to_vec(&other).unwrap(),
                };
                Ok(HostResponse { status: 200, headers: headers.into(), body: body.into(), url })
            }
            None => Err(HostError::refused("the script is over")),
        })
        .boxed()
    }

    fn now(&self) -> Timestamp {
        "2025-06-15T12:34:56Z".parse().unwrap()
    }

    fn pause(&self, _wait: Duration) -> BoxFuture<'_, Result<(), HostError>> {
        ready(Ok(())).boxed()
    }

    fn uuid(&self) -> String {
        "00000000-0000-4000-8000-000000000000".into()
    }
}

/// Compares all streams of `data/reads` but those with custom classes.
pub fn run(data: &Path) -> Outcome {
    let mut outcome = Outcome::new("reads");
    let mut files: Vec<_> = std::fs::read_dir(data.join("reads")).unwrap().map(|it| it.unwrap().path()).collect();
    files.sort();
    for file in files {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(data.join("manifests").join(format!("{name}.yaml"))).unwrap();
        let json = |path: &Path| serde_json::from_slice::<Value>(&std::fs::read(path).unwrap()).unwrap();
        let config = json(&data.join("catalogs").join(format!("{name}.json"))).get("config").cloned().unwrap_or_default();
        let reads = json(&file);
        let Some(Value::Dict(streams)) = reads.get("streams") else { continue };
        let bounds = Bounds { calls: 10_000, slices: 100_000, parent_records: 100_000, pages: 1000, ..Bounds::default() };
        let (host, others) = (Script::default(), other(&config));
        let manifest = load(&text, &name, &bounds).map(SharedManifest::new);
        let Ok(manifest) = &manifest else {
            let reason = manifest.as_ref().err().and_then(|problems| problems.first().map(ToString::to_string));
            streams.keys().for_each(|stream| outcome.case(false, || format!("{name} {stream}: not loaded: {reason:?}")));
            continue;
        };
        // One command for all streams of a manifest: a rotated token stays.
        let command = |config| {
            let context = manifest.context(config, &host, &bounds);
            let mut run = Run::new(&context);
            run.limits = Limits { slices: Some(2), pages: Some(2), records: None };
            // The data was made without the cache of parent streams.
            run.cache = ResponseCache::off();
            (manifest.builder(context), run)
        };
        let (ours, theirs) = (command(&config), command(&others));
        let refused = |name: &str| manifest.refused_streams().iter().any(|it| it.name == name);
        // The code of a class failed at the reference, for example because it is older than this version of the CDK.
        let uses_class = |name: &str| manifest.classes().iter().any(|it| it.stream.as_deref() == Some(name));
        let failed = |name: &str, expected: &Value| uses_class(name) && expected.get("error").is_some();
        for (stream, expected) in streams.iter().filter(|(name, expected)| !refused(name) && !failed(name, expected)) {
            // Another connection of the manifest reads first, with another config: nothing of it may show in what they share.
            let _ = compare(&theirs, &host, stream, expected);
            let differences = compare(&ours, &host, stream, expected);
            outcome.case(differences.is_none(), || format!("{name} {stream}: {}", differences.unwrap_or_default()));
        }
    }
    outcome
}

/// A config of the same form with other texts in it, but for dates and for what chooses a way to log in.
fn other(config: &Value) -> Value {
    let chooses = |key: &str| key.contains("type") || key.contains("title");
    match config {
        Value::Str(text) if !text.starts_with(|first: char| first.is_ascii_digit()) => Value::from(format!("{text}-of-another")),
        Value::Dict(dict) => {
            let item = |key: &str, item: &Value| if chooses(key) { item.clone() } else { other(item) };
            Value::Dict(dict.iter().map(|(key, it)| (key.clone(), item(key, it))).collect())
        }
        Value::List(items) => Value::List(items.iter().map(other).collect()),
        same => same.clone(),
    }
}

/// What differs, or nothing.
fn compare((builder, command): &(SourceBuilder<'_>, Run<'_>), host: &Script, stream: &str, expected: &Value) -> Option<String> {
    let requests = expected.get("requests").and_then(Value::as_list).unwrap_or_default();
    *host.bodies.lock().unwrap() = requests.iter().map(|it| it.get("response").cloned().unwrap_or_default()).collect();
    host.calls.lock().unwrap().clear();
    let mut records = Vec::new();
    let result = futures_util::FutureExt::now_or_never(async {
        let source = builder.all_streams(command).await?;
        let stream = source.stream(stream).ok_or_else(|| Failed::system("KeyError", "no such stream"))?;
        read(stream, command, &mut records).await
    });
    let result = result.unwrap_or_else(|| Err(Failed::system("Pending", "the script waits")));
    let calls = std::mem::take(&mut *host.calls.lock().unwrap());
    let error = expected.get("error").map(Value::to_str);
    differ_in_requests(requests, &calls)
        .or_else(|| match (&error, &result) {
            (None, Err(failed)) => Some(format!("failed: {}: {}", failed.class, failed.message)),
            (Some(error), Ok(())) => Some(format!("did not fail: {error}")),
            _ => None,
        })
        .map(|it| match (&error, &result) {
            (_, Err(failed)) if !it.starts_with("failed") => {
                format!("{it} [ours: {}: {}; theirs: {error:?}]", failed.class, failed.message)
            }
            _ => it,
        })
        .or_else(|| differ_in_records(expected.get("records").and_then(Value::as_list).unwrap_or_default(), &records))
}

async fn read(stream: &Stream, run: &Run<'_>, records: &mut Vec<Value>) -> Result<(), Failed> {
    let mut slices = stream.slices(run)?;
    while let Some(slice) = slices.next().await? {
        let mut page = stream.records(run, slice).await?;
        while let Some(record) = page.next().await? {
            records.push(record);
        }
    }
    Ok(())
}

fn differ_in_requests(expected: &[Value], calls: &[HostRequest]) -> Option<String> {
    for (at, (expected, call)) in expected.iter().zip(calls).enumerate() {
        let text = |key: &str| expected.get(key).map(Value::to_str).unwrap_or_default();
        if text("method") != call.method {
            return Some(format!("request {at}: method {} for {}", call.method, text("method")));
        }
        if sorted(&text("url")) != sorted(&call.url) {
            return Some(format!("request {at}: url {} for {}", call.url, text("url")));
        }
        let (theirs, ours) = (their_headers(expected), our_headers(call));
        if theirs != ours {
            return Some(format!("request {at}: headers {ours:?} for {theirs:?}"));
        }
        let body = call.body.as_ref().map(|body| String::from_utf8_lossy(body).into_owned()).filter(|it| !it.is_empty());
        let wanted = expected.get("body").and_then(Value::as_str).filter(|it| !it.is_empty());
        if body.as_deref() != wanted && !same_json(body.as_deref(), wanted) {
            return Some(format!("request {at}: body {body:?} for {wanted:?}"));
        }
    }
    (expected.len() != calls.len()).then(|| {
        let next = match expected.get(calls.len()) {
            Some(missing) => format!("missing {}", missing.get("url").map(Value::to_str).unwrap_or_default()),
            None => format!("too many: {}", calls[expected.len()].url),
        };
        format!("{} requests for {}; {next}", calls.len(), expected.len())
    })
}

/// The address, and the pairs of the query in order of their text.
fn sorted(url: &str) -> (String, Vec<String>) {
    let (address, query) = url.split_once('?').unwrap_or((url, ""));
    let mut pairs: Vec<String> = query.split('&').map(str::to_owned).collect();
    pairs.sort();
    (address.to_owned(), pairs)
}

fn their_headers(expected: &Value) -> Vec<(String, String)> {
    let pairs = expected.get("headers").and_then(Value::as_dict).into_iter().flatten();
    own(pairs.map(|(key, value)| (key.to_string(), value.to_str())))
}

fn our_headers(call: &HostRequest) -> Vec<(String, String)> {
    own(call.headers.iter().cloned())
}

fn own(pairs: impl Iterator<Item = (String, String)>) -> Vec<(String, String)> {
    let mut pairs: Vec<_> = pairs.map(|(key, value)| (key.to_lowercase(), value)).collect();
    pairs.retain(|(key, _)| !OF_THE_CLIENT.contains(&key.as_str()));
    pairs.sort();
    pairs
}

fn same_json(ours: Option<&str>, theirs: Option<&str>) -> bool {
    let json = |text: Option<&str>| serde_json::from_str::<Value>(text?).ok();
    matches!((json(ours), json(theirs)), (Some(a), Some(b)) if a == b)
}

fn differ_in_records(expected: &[Value], records: &[Value]) -> Option<String> {
    if expected.len() != records.len() {
        return Some(format!("{} records for {}", records.len(), expected.len()));
    }
    let json = |value: &Value| serde_json::to_value(value).unwrap().to_string();
    expected
        .iter()
        .zip(records)
        .enumerate()
        .find(|(_, (a, b))| a != b || !same_types(a, b))
        .map(|(at, (expected, ours))| format!("record {at}: {} for {}", json(ours), json(expected)))
}

/// `1 == True` in Python, but not in JSON.
fn same_types(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::List(a), Value::List(b)) => a.iter().zip(b).all(|(a, b)| same_types(a, b)),
        (Value::Dict(a), Value::Dict(b)) => a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same_types(a, b))),
        (Value::Int(_) | Value::Float(_), Value::Int(_) | Value::Float(_)) => true,
        _ => std::mem::discriminant(a) == std::mem::discriminant(b),
    }
}
