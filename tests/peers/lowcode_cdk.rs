//! `aam lowcode` and airbyte-cdk 7.39.1 with the same manifest, configs and server: messages and requests are compared.
//!
//! The CDK reads streams and slices on several threads, so the comparison ignores the order between them. It compares
//! the records of a stream as a set, its statuses in order, its last state and its errors, and the requests as a set.

use crate::harness::variable;
use crate::support::daemon::Workspace;
use crate::support::shop::Shop;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

peer_tests! {
    [Cdk]: aam_and_the_cdk_print_the_same_messages_and_send_the_same_requests;
}

const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/lowcode/shop.yaml");
const STREAMS: [&str; 3] = ["customers", "orders", "events"];

/// One command line, and a config that selects the behaviour of the shop.
struct Case {
    name: &'static str,
    command: &'static str,
    config: Value,
    streams: &'static [&'static str],
}

/// The messages that a run printed, and the requests that it sent.
#[derive(Debug, PartialEq)]
struct RunOutput {
    exit: i32,
    /// All messages except logs, in a form that can be compared.
    messages: BTreeMap<String, Vec<String>>,
    requests: Vec<String>,
}

fn cases(shop: &Shop) -> Vec<Case> {
    let ok = shop.config("ok");
    let with = |key: &str, value: Value| {
        let mut config = ok.clone();
        config[key] = value;
        config
    };
    let mut without = ok.clone();
    without.as_object_mut().unwrap().remove("api_key");
    let wrong_token = with("api_key", json!("shop-token-2"));
    let case = |name, command, config: &Value, streams| Case { name, command, config: config.clone(), streams };
    let all = &STREAMS[..];
    let one = &STREAMS[..1];
    vec![
        case("spec", "spec", &ok, &[]),
        case("check", "check", &ok, &[]),
        case("check, wrong token", "check", &wrong_token, &[]),
        case("check, no key", "check", &without, &[]),
        case("check, wrong date", "check", &with("start_date", json!("2024-01-01")), &[]),
        case("check, wrong value", "check", &with("sort", json!("up")), &[]),
        case("check, wrong type", "check", &with("shop", json!(7)), &[]),
        case("check, 404", "check", &shop.config("missing"), &[]),
        case("check, 500 then 200", "check", &shop.config("retry"), &[]),
        case("check, 500", "check", &shop.config("broken"), &[]),
        case("check, not JSON", "check", &shop.config("html"), &[]),
        case("discover", "discover", &ok, &[]),
        case("discover, no key", "discover", &without, &[]),
        case("read", "read", &ok, all),
        case("read, two streams", "read", &ok, &STREAMS[1..]),
        case("read, null fields", "read", &shop.config("nulls"), one),
        case("read, 403 of one slice", "read", &shop.config("nulls"), all),
        case("read, wrong token", "read", &wrong_token, one),
        case("read, 500 then 200", "read", &shop.config("retry"), one),
        case("read, 500", "read", &shop.config("broken"), one),
        case("read, 404", "read", &shop.config("missing"), one),
        case("read, not JSON", "read", &shop.config("html"), one),
        case("read, list in another field", "read", &shop.config("nofield"), one),
        case("read, no key", "read", &without, one),
        case("read, unknown stream", "read", &ok, &["customers", "unknown"]),
    ]
}

async fn aam_and_the_cdk_print_the_same_messages_and_send_the_same_requests() {
    let (workspace, shop) = (workspace(), Shop::start());
    let cases = cases(&shop);
    let files: Vec<(PathBuf, PathBuf)> = cases.iter().enumerate().map(|(n, case)| write(&workspace, n, case)).collect();
    let mut child = Command::new(variable("CDK", "PYTHON"))
        .arg(variable("CDK", "RUNNER"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("Python starts");
    let mut input = child.stdin.take().unwrap();
    let mut results = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let mut differences = Vec::new();
    for (case, (config, catalog)) in cases.iter().zip(&files) {
        let (config, catalog) = (config.to_str().unwrap(), catalog.to_str().unwrap());
        writeln!(input, "{}", cdk_case(case, config, catalog)).expect("Python reads the case");
        let result: Value = serde_json::from_str(&results.next().expect("a result from Python").unwrap()).unwrap();
        let theirs = RunOutput {
            exit: i32::try_from(result["exit"].as_i64().unwrap()).unwrap(),
            messages: messages(result["stdout"].as_str().unwrap()),
            requests: requests(&shop, case),
        };
        let mut arguments = vec!["lowcode", case.command, "--manifest", MANIFEST];
        if case.command != "spec" {
            arguments.extend(["--config", config]);
        }
        if case.command == "read" {
            arguments.extend(["--catalog", catalog]);
        }
        let output = workspace.run(&arguments);
        let ours = RunOutput {
            exit: output.status.code().unwrap_or(-1),
            messages: messages(&String::from_utf8_lossy(&output.stdout)),
            requests: requests(&shop, case),
        };
        if ours != theirs {
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            differences.push(format!("== {}\n{}stderr: {errors}", case.name, difference(&ours, &theirs)));
        }
    }
    drop(input);
    let _ = child.wait();
    assert!(differences.is_empty(), "{} of {} cases differ\n{}", differences.len(), cases.len(), differences.join("\n"));
}

/// A workspace whose policy allows loopback and does not slow down the comparison.
fn workspace() -> Workspace {
    let workspace = Workspace::new();
    workspace.write_policy("caps: {default: {per_second: 1000, burst: 1000, per_day: 100000, concurrency: 4}}\nbreaker: {failures: 1000, open_for: 1s}\n");
    workspace
}

fn write(workspace: &Workspace, number: usize, case: &Case) -> (PathBuf, PathBuf) {
    let (config, catalog) = (workspace.path(&format!("config-{number}.json")), workspace.path(&format!("catalog-{number}.json")));
    std::fs::write(&config, case.config.to_string()).unwrap();
    let streams: Vec<Value> = case
        .streams
        .iter()
        .map(|name| {
            json!({"stream": {"name": name, "json_schema": {}, "supported_sync_modes": ["full_refresh"]},
                   "sync_mode": "full_refresh", "destination_sync_mode": "append"})
        })
        .collect();
    std::fs::write(&catalog, json!({ "streams": streams }).to_string()).unwrap();
    (config, catalog)
}

fn cdk_case(case: &Case, config: &str, catalog: &str) -> Value {
    match case.command {
        "spec" => json!({"arguments": ["spec"], "manifest": MANIFEST}),
        "read" => json!({"arguments": ["read", "--config", config, "--manifest-path", MANIFEST, "--catalog", catalog]}),
        other => json!({"arguments": [other, "--config", config, "--manifest-path", MANIFEST]}),
    }
}

/// The requests, sorted. If several streams read the same parent, the threads of the CDK may repeat a request before the
/// first response is in its cache. In that case each request is counted once.
fn requests(shop: &Shop, case: &Case) -> Vec<String> {
    let mut requests = shop.take_requests();
    requests.sort();
    if case.streams.len() > 1 {
        requests.dedup();
    }
    requests
}

/// The messages, grouped by type and stream, each as one line.
fn messages(stdout: &str) -> BTreeMap<String, Vec<String>> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut put = |key: String, value: String| all.entry(key).or_default().push(value);
    for line in stdout.lines() {
        let Ok(message) = serde_json::from_str::<Value>(line) else {
            put("not JSON".into(), line.to_string());
            continue;
        };
        let kind = message["type"].as_str().unwrap_or_default();
        let trace = &message["trace"];
        match (kind, trace["type"].as_str().unwrap_or_default()) {
            ("LOG", _) => {}
            ("RECORD", _) => {
                let record = &message["record"];
                put(format!("records of {}", record["stream"]), record["data"].to_string());
            }
            ("STATE", _) => {
                let stream = &message["state"]["stream"];
                put(format!("states of {}", stream["stream_descriptor"]["name"]), message["state"].to_string());
            }
            ("TRACE", "STREAM_STATUS") => {
                let status = &trace["stream_status"];
                put(format!("statuses of {}", status["stream_descriptor"]["name"]), status["status"].to_string());
            }
            ("TRACE", "ERROR") => {
                let mut error = trace["error"].clone();
                error.as_object_mut().unwrap().remove("stack_trace");
                put(format!("errors of {}", error["stream_descriptor"]["name"]), error.to_string());
            }
            _ => put(kind.to_string(), message.to_string()),
        }
    }
    for (key, values) in &mut all {
        if key.starts_with("records of") {
            values.sort();
        } else if key.starts_with("states of") {
            *values = vec![last_state(values)];
        }
    }
    all
}

/// The number of state messages depends on threads, so the last state and the sum of their record counts are compared.
fn last_state(states: &[String]) -> String {
    let parsed: Vec<Value> = states.iter().map(|state| serde_json::from_str(state).unwrap()).collect();
    let records: f64 = parsed.iter().filter_map(|state| state["sourceStats"]["recordCount"].as_f64()).sum();
    let last = parsed.last().map(|state| state["stream"]["stream_state"].to_string()).unwrap_or_default();
    format!("{last} after {records} records")
}

fn difference(ours: &RunOutput, theirs: &RunOutput) -> String {
    let mut text = String::new();
    if ours.exit != theirs.exit {
        text.push_str(&format!("exit code {} instead of {}\n", ours.exit, theirs.exit));
    }
    let none = Vec::new();
    let keys: std::collections::BTreeSet<&String> = ours.messages.keys().chain(theirs.messages.keys()).collect();
    for key in keys {
        let (mine, other) = (ours.messages.get(key).unwrap_or(&none), theirs.messages.get(key).unwrap_or(&none));
        if mine != other {
            text.push_str(&format!("{key}:\n  aam: {}\n  cdk: {}\n", mine.join("\n       "), other.join("\n       ")));
        }
    }
    if ours.requests != theirs.requests {
        text.push_str(&format!(
            "requests:\n  aam: {}\n  cdk: {}\n",
            ours.requests.join("\n       "),
            theirs.requests.join("\n       ")
        ));
    }
    text
}
