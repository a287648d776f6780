//! Requesters, compared with what airbyte-cdk 7.39.1 did with the same component, config and responses (`cdk.json`).

use super::retry::Wait;
use super::*;
use crate::bounds::Bounds;
use crate::host::{Host, HostError, HostErrorKind, HostRequest, HostResponse};
use crate::json::parse;
use crate::request::json::{Style, dumps};
use crate::value::Dict;
use jiff::{SignedDuration, Timestamp};
use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

/// A host that responds from a script. Its clock advances when it is asked to wait.
#[derive(Default)]
pub(crate) struct Script {
    replies: Mutex<VecDeque<Value>>,
    calls: Mutex<Vec<HostRequest>>,
    pauses: Mutex<Vec<f64>>,
    clock: Mutex<SignedDuration>,
    rotated: Mutex<Vec<Value>>,
    /// Pauses longer than this are refused.
    patience: Option<Duration>,
}

impl Script {
    /// The responses `[status, headers, body]` in order. The last one is repeated.
    pub(crate) fn new(replies: &[Value]) -> Script {
        let clock = Mutex::new(SignedDuration::from_secs(1_750_000_000));
        Script { replies: Mutex::new(replies.iter().cloned().collect()), clock, ..Script::default() }
    }

    fn calls(&self) -> Vec<HostRequest> {
        self.calls.lock().unwrap().clone()
    }

    fn reply(&self, url: String) -> Result<HostResponse, HostError> {
        let mut replies = self.replies.lock().unwrap();
        let next = if replies.len() > 1 { replies.pop_front().unwrap() } else { replies[0].clone() };
        let Some([status, headers, body]) = next.as_list() else {
            let kind = if next.as_str() == Some("network") { HostErrorKind::Network } else { HostErrorKind::Refused };
            return Err(HostError { kind, message: "the network failed".into(), failure: None });
        };
        let headers = headers.as_dict().unwrap().iter().map(|(name, value)| (name.to_string(), value.to_str())).collect();
        let body = body.as_str().map_or_else(|| dumps(body, Style::SPACED).unwrap(), str::to_owned).into();
        Ok(HostResponse { status: u16::try_from(status.as_i64().unwrap()).unwrap(), headers, body, url })
    }
}

impl Host for Script {
    fn send(&self, request: HostRequest) -> BoxFuture<'_, Result<HostResponse, HostError>> {
        let reply = self.reply(request.url.clone());
        self.calls.lock().unwrap().push(request);
        Box::pin(async move { reply })
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_duration(*self.clock.lock().unwrap()).unwrap()
    }

    fn pause(&self, wait: Duration) -> BoxFuture<'_, Result<(), HostError>> {
        let refused = self.patience.is_some_and(|patience| wait > patience);
        self.pauses.lock().unwrap().push(wait.as_secs_f64());
        *self.clock.lock().unwrap() += SignedDuration::try_from(wait).unwrap();
        let no = HostError::refused("too long");
        Box::pin(async move { if refused { Err(no) } else { Ok(()) } })
    }

    fn uuid(&self) -> String {
        "00000000-0000-4000-8000-000000000000".into()
    }

    fn rotated(&self, config: &Value) {
        self.rotated.lock().unwrap().push(config.clone());
    }
}

/// Runs a future that never has to wait for a reactor.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// Adds the `type` and the names that `parameters.rs` would have added.
fn typed(node: &Value) -> Value {
    let mut node = node.clone();
    if let Value::Dict(dict) = &mut node {
        dict.insert("type".into(), Value::str("HttpRequester"));
    }
    node
}

fn json_of(text: &str) -> Value {
    parse(text, 50).unwrap()
}

fn ask_of<'a>(parts: &'a Value, slice: Option<&'a Slice>) -> RequestParts<'a> {
    let get = |key: &str| parts.get(key).cloned().unwrap_or_default();
    RequestParts {
        slice,
        next_page_token: parts.get("token"),
        path: parts.get("path").and_then(Value::as_str),
        query: get("query"),
        headers: get("headers"),
        body_data: get("data"),
        body_json: get("json"),
        is_repeated: false,
    }
}

/// The result of a case, in the format of the table.
fn outcome(case: &Value, bounds: &Bounds) -> Value {
    let empty = Value::Dict(Dict::default());
    let config = case.get("config").unwrap_or(&empty).clone();
    let script = Script::new(case.get("replies").unwrap().as_list().unwrap());
    let ctx = Context::new(&empty, &config, &script, bounds);
    let requester = match Requester::build(&typed(case.get("requester").unwrap()), "s", &ctx, BuildOptions::default()) {
        Ok(requester) => requester,
        Err(failed) => return dict([("build", failed.class.into()), ("message", failed.message.clone().into())]),
    };
    let parts = case.get("ask").unwrap_or(&empty);
    let slice = parts.get("slice").map(|partition| {
        let extra = parts.get("extra").and_then(Value::as_dict).cloned().unwrap_or_default();
        Slice::new(partition.as_dict().unwrap().clone(), Dict::default(), extra).unwrap()
    });
    let parts = ask_of(parts, slice.as_ref());
    let run = Run::new(&ctx);
    let mut outcomes = Vec::new();
    for round in 0..case.get("sends").and_then(Value::as_i64).unwrap_or(1) {
        let gap = if round > 0 { case.get("gap").and_then(Value::as_i64).unwrap_or(0) } else { 0 };
        *script.clock.lock().unwrap() += SignedDuration::from_secs(gap);
        outcomes.push(match block_on(requester.send(&run, &parts)) {
            Ok(response) => dict([("status", response.map_or(Value::None, |it| Value::Int(i64::from(it.status()))))]),
            Err(failed) => dict([
                ("error", failed.class.into()),
                ("message", failed.message.clone().into()),
                (
                    "type",
                    if ["AirbyteTracedException", "ResponseKeysMaxRecurtionReached"].contains(&failed.class) {
                        failed.failure_type.as_str().into()
                    } else {
                        Value::None
                    },
                ),
            ]),
        });
    }
    let mut out = vec![
        ("calls", Value::List(script.calls().into_iter().map(shown).collect())),
        ("sleeps", Value::List(script.pauses.lock().unwrap().iter().map(|it| Value::Float(*it)).collect())),
        ("outcomes", Value::List(outcomes)),
    ];
    if let Some(config) = run.tokens.rotated_config() {
        assert_eq!(script.rotated.lock().unwrap().last(), Some(&config));
        out.push(("config", config));
    }
    dict(out)
}

fn dict(pairs: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    Value::Dict(pairs.into_iter().map(|(key, value)| (key.into(), value)).collect())
}

fn shown(request: HostRequest) -> Value {
    let headers = request.headers.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    let body = request.body.map_or(Value::None, |it| String::from_utf8(it).unwrap().into());
    Value::List(vec![request.method.into(), request.url.into(), Value::Dict(headers), body])
}

/// Removes what may differ from the CDK: the jitter of token retries, the CDK's second pause of zero seconds, messages
/// of the JSON parser, the error class of control actions, and the part of a message from `Request (body)` on.
fn comparable(value: &Value) -> String {
    let list = |key: &str| value.get(key).and_then(Value::as_list).unwrap_or_default();
    let sleeps: Vec<String> =
        list("sleeps").iter().filter_map(Value::number).filter(|it| *it > 0.0).map(|it| format!("{it:.3}")).collect();
    let outcomes: Vec<String> = list("outcomes")
        .iter()
        .map(|outcome| {
            let text = |key: &str| outcome.get(key).map(Value::to_str).unwrap_or_default();
            let class = text("error");
            let silent = ["JSONDecodeError", "PaginationResetRequiredException", "InvalidHeader"].contains(&&*class);
            let message = text("message");
            let message = message.split("Request (body)").next().unwrap_or_default();
            let kind = text("type");
            format!("{} {class} {kind} {}", text("status"), if silent { "" } else { message })
        })
        .collect();
    let calls: Vec<String> = list("calls").iter().map(|it| sorted(it).repr()).collect();
    let config = value.get("config").map(|it| sorted(it).repr()).unwrap_or_default();
    let build = value.get("build").map(|it| format!("{} {:?}", it.to_str(), value.get("message"))).unwrap_or_default();
    format!("calls {}\n   sleeps {sleeps:?}\n   {outcomes:?}\n   {config} {build}", calls.join("\n      "))
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Dict(dict) => {
            let mut dict: Dict = dict.iter().map(|(key, item)| (key.clone(), sorted(item))).collect();
            dict.sort_keys();
            Value::Dict(dict)
        }
        Value::List(items) => Value::List(items.iter().map(sorted).collect()),
        other => other.clone(),
    }
}

#[test]
fn sends_what_the_cdk_sends() {
    let bounds = Bounds { time: Duration::from_secs(100_000), ..Bounds::default() };
    let cases = json_of(include_str!("cdk.json"));
    let cases = cases.as_list().unwrap();
    assert!(cases.len() > 150);
    let mut wrong = Vec::new();
    for case in cases {
        let name = case.get("name").unwrap().to_str();
        let ours = comparable(&outcome(case, &bounds));
        let theirs = comparable(case.get("expect").unwrap());
        let jitter = name == "oauth 500 then ok";
        let strip = |text: &str| text.lines().filter(|line| !(jitter && line.contains("sleeps"))).collect::<Vec<_>>().join("\n");
        if strip(&ours) != strip(&theirs) {
            wrong.push(format!("{name}\n  ours   {ours}\n  theirs {theirs}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// Sends one request of `requester` with `config` and the spec of `manifest`.
fn sent(script: &Script, requester: &str, config: &str, manifest: &str, bounds: &Bounds) -> Result<Option<Response>, Failed> {
    let (config, manifest) = (json_of(config), json_of(manifest));
    let ctx = Context::new(&manifest, &config, script, bounds);
    let requester = Requester::build(&typed(&json_of(requester)), "s", &ctx, BuildOptions::default())?;
    block_on(requester.send(&Run::new(&ctx), &RequestParts::default()))
}

const SPEC: &str = r#"{"spec":{"connection_specification":{"properties":{
    "key":{"type":"string","airbyte_secret":true},
    "login":{"oneOf":[{"properties":{"pin":{"airbyte_secret":true}}}]}}}}}"#;

fn replies(text: &str) -> Script {
    Script::new(json_of(text).as_list().unwrap())
}

#[test]
fn a_secret_in_the_url_is_marked() {
    let config = r#"{"key":"long-secret-1","login":{"pin":77},"name":"x"}"#;
    let marked = |rest: &str| {
        let script = replies("[[200,{},{}]]");
        let requester = format!(r#"{{"url_base":"https://api.x.com/v1",{rest}}}"#);
        sent(&script, &requester, config, SPEC, &Bounds::default()).unwrap();
        script.calls()[0].secret_in_url
    };
    let key = |place: &str| {
        format!(
            r#""authenticator":{{"type":"ApiKeyAuthenticator","api_token":"t",
               "inject_into":{{"type":"RequestOption","inject_into":"{place}","field_name":"k"}}}}"#
        )
    };
    assert!(marked(&key("request_parameter")));
    assert!(!marked(&key("header")));
    // The value of a secret field is a secret, whatever parameter the manifest puts it in.
    assert!(marked(r#""request_parameters":{"q":"{{ config['key'] }}"}"#));
    assert!(marked(r#""path":"users-{{ config['key'] }}""#));
    assert!(marked(r#""path":"{{ config['login']['pin'] }}/x""#));
    assert!(!marked(r#""path":"x-{{ config['login']['pin'] }}""#), "too short to be found inside of a word");
    assert!(!marked(r#""request_parameters":{"q":"{{ config['name'] }}"}"#));
    assert!(marked(r#""path":"https://user:pw@api.x.com/""#));
}

#[test]
fn a_failure_shows_no_secret() {
    let script = replies(r#"[[418,{},{"echo":"long-secret-1"}]]"#);
    let requester = r#"{"url_base":"https://api.x.com","path":"{{ config['key'] }}","error_handler":{"type":
        "DefaultErrorHandler","response_filters":[{"type":"HttpResponseFilter","http_codes":[418],"action":"FAIL"}]}}"#;
    let failed = sent(&script, requester, r#"{"key":"long-secret-1"}"#, SPEC, &Bounds::default()).unwrap_err();
    assert_eq!(failed.status, Some(418));
    assert!(failed.message.contains("****"), "{}", failed.message);
    let all = format!("{failed:?}");
    assert!(!all.contains("long-secret-1"), "{all}");
}

#[test]
fn endless_retries_meet_a_bound() {
    let requester = r#"{"url_base":"https://api.x.com","error_handler":{"type":"DefaultErrorHandler","max_retries":1000000000,
        "backoff_strategies":[{"type":"ConstantBackoffStrategy","backoff_time_in_seconds":0.001}]}}"#;
    let script = replies("[[500,{},{}]]");
    let bounds = Bounds { calls: 7, ..Bounds::default() };
    assert_eq!(sent(&script, requester, "{}", "{}", &bounds).unwrap_err().class, "Bound");
    assert_eq!(script.calls().len(), 7);
    let script = replies("[[500,{},{}]]");
    let bounds = Bounds { time: Duration::from_secs(5), ..Bounds::default() };
    assert_eq!(sent(&script, requester, "{}", "{}", &bounds).unwrap_err().class, "Bound");
    assert!(script.calls().len() < 7, "a second more than asked is waited each time");
}

#[test]
fn a_host_that_does_not_wait_ends_the_request() {
    let script = Script { patience: Some(Duration::from_secs(3)), ..replies(r#"[[429,{"Retry-After":"3600"},{}]]"#) };
    let requester = r#"{"url_base":"https://api.x.com","error_handler":{"type":"DefaultErrorHandler","backoff_strategies":
        [{"type":"WaitTimeFromHeader","header":"retry-after"}]}}"#;
    let failed = sent(&script, requester, "{}", "{}", &Bounds::default()).unwrap_err();
    assert_eq!((failed.status, failed.message.as_str()), (Some(429), "API rate limit exceeded."));
    assert!(failed.host_error.is_some());
    assert_eq!(*script.pauses.lock().unwrap(), [3601.0]);
    // A request that the host refuses to send is not retried.
    let script = replies(r#"["refused"]"#);
    let failed = sent(&script, r#"{"url_base":"https://api.x.com"}"#, "{}", "{}", &Bounds::default()).unwrap_err();
    assert_eq!(failed.class, "Refused");
    assert_eq!(script.calls().len(), 1);
}

#[test]
fn a_giant_body_ends_with_an_error() {
    let script = Script::new(&[Value::List(vec![Value::Int(200), Value::Dict(Dict::default()), "x".repeat(1000).into()])]);
    let bounds = Bounds { body_bytes: 999, ..Bounds::default() };
    let requester = r#"{"url_base":"https://api.x.com"}"#;
    assert_eq!(sent(&script, requester, "{}", "{}", &bounds).unwrap_err().class, "Bound");
    let bounds = Bounds { total_bytes: 999, ..Bounds::default() };
    assert_eq!(sent(&script, requester, "{}", "{}", &bounds).unwrap_err().class, "Bound");
}

#[test]
fn call_rates_are_kept_by_waiting() {
    let manifest = json_of(
        r#"{"api_budget":{"type":"HTTPAPIBudget","policies":[{"type":"MovingWindowCallRatePolicy",
        "rates":[{"limit":2,"interval":"PT10S"}],
        "matchers":[{"method":"get","url_path_pattern":"^/v1","params":{"a":"1"},"headers":{"x-a":"b"}}]}]}}"#,
    );
    let config = json_of("{}");
    let (script, bounds) = (replies("[[200,{},{}]]"), Bounds::default());
    let ctx = Context::new(&manifest, &config, &script, &bounds);
    let node = json_of(r#"{"url_base":"https://api.x.com/v1","request_headers":{"X-A":"b"},"request_parameters":{"a":"1"}}"#);
    let limited = Requester::build(&typed(&node), "s", &ctx, BuildOptions::default()).unwrap();
    let free =
        Requester::build(&typed(&json_of(r#"{"url_base":"https://api.x.com/v2"}"#)), "s", &ctx, BuildOptions::default()).unwrap();
    let run = Run::new(&ctx);
    for _ in 0..5 {
        block_on(limited.send(&run, &RequestParts::default())).unwrap();
        block_on(free.send(&run, &RequestParts::default())).unwrap();
    }
    assert_eq!(*script.pauses.lock().unwrap(), [10.0, 10.0]);
    let impossible = json_of(
        r#"{"api_budget":{"policies":[{"type":"FixedWindowCallRatePolicy","call_limit":0,"period":"PT1H","matchers":[]}]}}"#,
    );
    let ctx = Context { manifest: &impossible, ..ctx };
    let none = Requester::build(&typed(&node), "s", &ctx, BuildOptions::default()).unwrap();
    assert_eq!(block_on(none.send(&run, &RequestParts::default())).unwrap_err().class, "ValueError");
}

#[test]
fn a_cached_answer_is_not_asked_for_again() {
    let (script, bounds) = (replies("[[500,{},{}],[200,{},{}]]"), Bounds::default());
    let (config, manifest) = (json_of(r#"{"k":"a"}"#), json_of("{}"));
    let ctx = Context::new(&manifest, &config, &script, &bounds);
    let node = typed(&json_of(r#"{"url_base":"https://api.x.com/v1"}"#));
    let options = BuildOptions { use_cache: true, ..BuildOptions::default() };
    let requester = Requester::build(&node, "s", &ctx, options).unwrap();
    let run = Run::new(&ctx);
    for query in ["{}", "{}", r#"{"a":1}"#, "{}"] {
        let parts = RequestParts { query: json_of(query), ..RequestParts::default() };
        block_on(requester.send(&run, &parts)).unwrap();
    }
    assert_eq!(script.calls().len(), 3, "the failure is not kept, another query is another request");
}

proptest::proptest! {
    /// Any sequence of waits ends, and no layer makes more tries than allowed.
    #[test]
    fn layers_end(kinds in proptest::collection::vec(0..3_u8, 0..400), retries in 0..4_i64) {
        let mut layers = super::retry::Layers::new(retries);
        let now = Timestamp::UNIX_EPOCH;
        let mut tries = 0;
        for kind in kinds {
            tries += 1;
            let wait = [Wait::Asked(1.0, true), Wait::RateLimited, Wait::Default][usize::from(kind)];
            match layers.next(wait, now) {
                Some(seconds) => proptest::prop_assert!(seconds > 0.0),
                None => break,
            }
        }
        proptest::prop_assert!(tries <= (retries + 1).pow(3));
    }
}
