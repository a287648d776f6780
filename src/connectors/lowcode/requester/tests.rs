//! Requesters against what airbyte-cdk 7.39.1 did with the same component, config and answers (`cdk.json`).

use super::*;
use crate::connectors::lowcode::bounds::Bounds;
use crate::connectors::lowcode::decode::json::parse;
use crate::connectors::lowcode::host::{Call, Host, NoReply, NoReplyKind, Reply};
use crate::connectors::lowcode::request::json::{Style, dumps};
use crate::connectors::lowcode::value::Dict;
use jiff::{SignedDuration, Timestamp};
use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

/// A host that answers from a script; its clock moves when it is asked to wait.
#[derive(Default)]
pub(in crate::connectors::lowcode) struct Script {
    replies: Mutex<VecDeque<Value>>,
    calls: Mutex<Vec<Call>>,
    pauses: Mutex<Vec<f64>>,
    clock: Mutex<SignedDuration>,
    rotated: Mutex<Vec<Value>>,
    /// Pauses longer than this are refused.
    patience: Option<Duration>,
}

impl Script {
    /// Answers `[status, headers, body]` in order, the last one again and again.
    pub(in crate::connectors::lowcode) fn new(replies: &[Value]) -> Script {
        let clock = Mutex::new(SignedDuration::from_secs(1_750_000_000));
        Script { replies: Mutex::new(replies.iter().cloned().collect()), clock, ..Script::default() }
    }

    fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    fn reply(&self, url: String) -> Result<Reply, NoReply> {
        let mut replies = self.replies.lock().unwrap();
        let next = if replies.len() > 1 { replies.pop_front().unwrap() } else { replies[0].clone() };
        let Some([status, headers, body]) = next.as_list() else {
            let kind = if next.as_str() == Some("network") { NoReplyKind::Network } else { NoReplyKind::Refused };
            return Err(NoReply { kind, message: "the network failed".into(), source: None });
        };
        let headers = headers.as_dict().unwrap().iter().map(|(name, value)| (name.to_string(), value.to_str())).collect();
        let body = body.as_str().map_or_else(|| dumps(body, Style::SPACED).unwrap(), str::to_owned).into_bytes();
        Ok(Reply { status: u16::try_from(status.as_i64().unwrap()).unwrap(), headers, body, url })
    }
}

impl Host for Script {
    fn send(&self, call: Call) -> BoxFuture<'_, Result<Reply, NoReply>> {
        let reply = self.reply(call.url.clone());
        self.calls.lock().unwrap().push(call);
        Box::pin(async move { reply })
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_duration(*self.clock.lock().unwrap()).unwrap()
    }

    fn pause(&self, wait: Duration) -> BoxFuture<'_, Result<(), NoReply>> {
        let refused = self.patience.is_some_and(|patience| wait > patience);
        self.pauses.lock().unwrap().push(wait.as_secs_f64());
        *self.clock.lock().unwrap() += SignedDuration::try_from(wait).unwrap();
        let no = NoReply { kind: NoReplyKind::Refused, message: "too long".into(), source: None };
        Box::pin(async move { if refused { Err(no) } else { Ok(()) } })
    }

    fn uuid(&self) -> String {
        "00000000-0000-4000-8000-000000000000".into()
    }

    fn rotated(&self, config: &Value) {
        self.rotated.lock().unwrap().push(config.clone());
    }
}

/// Runs what needs no reactor.
pub(in crate::connectors::lowcode) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// `type` and names as `parameters.rs` would have put them.
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

fn ask_of<'a>(ask: &'a Value, slice: Option<&'a Slice>) -> Ask<'a> {
    let get = |key: &str| ask.get(key).cloned().unwrap_or_default();
    Ask {
        slice,
        next_page_token: ask.get("token"),
        path: ask.get("path").and_then(Value::as_str),
        query: get("query"),
        headers: get("headers"),
        body_data: get("data"),
        body_json: get("json"),
    }
}

/// What came of a case, in the form of the table.
fn outcome(case: &Value, bounds: &Bounds) -> Value {
    let empty = Value::Dict(Dict::new());
    let config = case.get("config").unwrap_or(&empty).clone();
    let script = Script::new(case.get("replies").unwrap().as_list().unwrap());
    let ctx = Context { manifest: &empty, config: &config, host: &script, bounds };
    let requester = match Requester::build(&typed(case.get("requester").unwrap()), "s", &ctx) {
        Ok(requester) => requester,
        Err(failed) => return dict([("build", failed.class.into()), ("message", failed.message.into())]),
    };
    let ask = case.get("ask").unwrap_or(&empty);
    let slice = ask.get("slice").map(|partition| {
        let extra = ask.get("extra").and_then(Value::as_dict).cloned().unwrap_or_default();
        Slice::new(partition.as_dict().unwrap().clone(), Dict::new(), extra).unwrap()
    });
    let ask = ask_of(ask, slice.as_ref());
    let run = Run::new(&script, &config, bounds);
    let mut outcomes = Vec::new();
    for round in 0..case.get("sends").and_then(Value::as_i64).unwrap_or(1) {
        let gap = if round > 0 { case.get("gap").and_then(Value::as_i64).unwrap_or(0) } else { 0 };
        *script.clock.lock().unwrap() += SignedDuration::from_secs(gap);
        outcomes.push(match block_on(requester.send(&run, &ask)) {
            Ok(response) => dict([("status", response.map_or(Value::None, |it| Value::Int(i64::from(it.status()))))]),
            Err(failed) => dict([
                ("error", failed.class.into()),
                ("message", failed.message.into()),
                (
                    "type",
                    if ["AirbyteTracedException", "ResponseKeysMaxRecurtionReached"].contains(&failed.class) {
                        failed.failure_type.word().into()
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

fn shown(call: Call) -> Value {
    let headers = call.headers.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    let body = call.body.map_or(Value::None, |it| String::from_utf8(it).unwrap().into());
    Value::List(vec![call.method.into(), call.url.into(), Value::Dict(headers), body])
}

/// What may differ: jitter of the token retries, the second pause of zero seconds that the CDK takes, words that are
/// the JSON parser's own, the class of the control actions, the header of a body that is no request's.
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
