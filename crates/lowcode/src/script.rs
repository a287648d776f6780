//! A host for tests: it responds from a script and records the requests.

use super::bounds::Bounds;
use super::context::{Context, Limits, Run};
use super::error::Failed;
use super::host::{Host, HostError, HostRequest, HostResponse};
use super::source::SourceBuilder;
use super::value::Value;
use futures_util::future::{BoxFuture, FutureExt, ready};
use jiff::Timestamp;
use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

/// Answers each URL with the body of the first key that the URL contains. A key that ends with `$` matches only the
/// end of the URL.
pub struct Script {
    pub bodies: Vec<(&'static str, &'static str)>,
    pub calls: Mutex<Vec<HostRequest>>,
}

impl Script {
    pub fn new(bodies: &[(&'static str, &'static str)]) -> Script {
        Script { bodies: bodies.to_vec(), calls: Mutex::new(Vec::new()) }
    }

    /// The URL of each request so far.
    pub fn urls(&self) -> Vec<String> {
        self.calls.lock().unwrap().iter().map(|call| call.url.clone()).collect()
    }
}

impl Host for Script {
    fn send(&self, request: HostRequest) -> BoxFuture<'_, Result<HostResponse, HostError>> {
        let url = request.url.clone();
        self.calls.lock().unwrap().push(request);
        let fits = |key: &str| key.strip_suffix('$').map_or_else(|| url.contains(key), |end| url.ends_with(end));
        let found = self.bodies.iter().find(|(key, _)| fits(key));
        let response = match found {
            Some((_, body)) => {
                let (status, body) = body.strip_prefix("!").map_or((200, *body), |body| (401, body));
                Ok(HostResponse { status, headers: [].into(), body: body.as_bytes().to_vec().into(), url })
            }
            None => Err(HostError::refused(format!("no script for {url}"))),
        };
        ready(response).boxed()
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

/// One answer: status, headers, body.
pub type Reply = (u16, Vec<(&'static str, &'static str)>, &'static str);

/// Answers the requests that contain all parts of a key one after the other. The last answer is repeated. The parts are
/// looked for in the method, the URL, the header `Authorization` and the body. Waits only move the clock.
pub struct Turns {
    routes: Mutex<Vec<(&'static str, VecDeque<Reply>)>>,
    calls: Mutex<Vec<String>>,
    /// The requests for which an earlier response must not be used.
    repeated: Mutex<Vec<String>>,
    /// The seconds of all waits.
    waited: Mutex<Vec<f64>>,
}

impl Turns {
    pub fn new(routes: &[(&'static str, &[Reply])]) -> Turns {
        let routes = routes.iter().map(|(key, replies)| (*key, replies.iter().cloned().collect())).collect();
        Turns { routes: Mutex::new(routes), calls: Mutex::default(), repeated: Mutex::default(), waited: Mutex::default() }
    }

    /// The requests so far.
    pub fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }

    pub fn repeated(&self) -> Vec<String> {
        self.repeated.lock().unwrap().clone()
    }

    pub fn waited(&self) -> Vec<f64> {
        self.waited.lock().unwrap().clone()
    }
}

impl Host for Turns {
    fn send(&self, request: HostRequest) -> BoxFuture<'_, Result<HostResponse, HostError>> {
        let body = String::from_utf8_lossy(request.body.as_deref().unwrap_or_default()).into_owned();
        let authorization = request.header("Authorization").unwrap_or_default();
        let call = format!("{} {} {authorization} {body}", request.method, request.url.replace("https://h.example", ""));
        let call = call.split_whitespace().collect::<Vec<_>>().join(" ");
        if request.is_retry {
            self.repeated.lock().unwrap().push(call.clone());
        }
        let mut routes = self.routes.lock().unwrap();
        let found = routes.iter_mut().find(|(key, _)| key.split(' ').all(|word| call.contains(word)));
        let reply = found.and_then(|(_, replies)| match replies.len() {
            0 | 1 => replies.front().cloned(),
            _ => replies.pop_front(),
        });
        let response = match reply {
            Some((status, headers, body)) => {
                let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
                Ok(HostResponse { status, headers, body: body.as_bytes().to_vec().into(), url: request.url })
            }
            None => Err(HostError::refused(format!("not allowed: {call}"))),
        };
        self.calls.lock().unwrap().push(call);
        ready(response).boxed()
    }

    fn now(&self) -> Timestamp {
        let waited: f64 = self.waited().iter().sum();
        "2025-06-15T12:34:56Z".parse::<Timestamp>().unwrap() + Duration::from_secs_f64(waited)
    }

    fn pause(&self, wait: Duration) -> BoxFuture<'_, Result<(), HostError>> {
        self.waited.lock().unwrap().push(wait.as_secs_f64());
        ready(Ok(())).boxed()
    }

    fn uuid(&self) -> String {
        "00000000-0000-4000-8000-000000000000".into()
    }
}

/// Parses JSON text into a value.
pub fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// Returns the JSON of a stream on `https://h.example`, with additional fields for its retriever and for the stream.
pub fn stream(name: &str, path: &str, retriever: &str, more: &str) -> String {
    format!(
        r#"{{"type": "DeclarativeStream", "name": "{name}", "retriever": {{"type": "SimpleRetriever",
            "requester": {{"type": "HttpRequester", "url_base": "https://h.example", "path": "{path}"}},
            "record_selector": {{"type": "RecordSelector", "extractor": {{"type": "DpathExtractor", "field_path": ["r"]}}}}
            {retriever}}} {more}}}"#
    )
}

/// Reads the stream `name` of a manifest with these streams.
pub fn read(
    streams: &[String],
    name: &str,
    host: &dyn Host,
    bounds: &Bounds,
    limits: Limits,
) -> (Vec<Value>, Result<(), Failed>) {
    let manifest = json(&format!(r#"{{"streams": [{}]}}"#, streams.join(",")));
    let config = json(r#"{"start": "2025-06-01", "k": 7}"#);
    let ctx = Context::new(&manifest, &config, host, bounds);
    let mut run = Run::new(&ctx);
    run.limits = limits;
    let mut records = Vec::new();
    let result = async {
        let source = SourceBuilder::new(ctx).all_streams(&run).await?;
        let stream = source.stream(name).ok_or_else(|| Failed::system("KeyError", "no such stream"))?;
        let mut slices = stream.slices(&run)?;
        while let Some(slice) = slices.next().await? {
            let mut page = stream.records(&run, slice).await?;
            while let Some(record) = page.next().await? {
                records.push(record);
            }
        }
        Ok(())
    };
    let result = result.now_or_never().unwrap();
    (records, result)
}
