//! Runs a case on both sides and compares what they print and ask.

use super::server::{Route, Server};
use futures_util::future::BoxFuture;
use lowcode::bounds::Bounds;
use lowcode::commands::{CommandResult, Commands, Selection};
use lowcode::context::Run;
use lowcode::host::{Host, HostError, HostRequest, HostResponse};
use lowcode::load::load;
use lowcode::value::Value as Python;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Without a spec, the CDK does not begin.
const SPEC: &str = "spec: {type: Spec, connection_specification: {type: object}}\n";

/// One command line.
pub struct Case {
    pub name: &'static str,
    pub command: &'static str,
    pub manifest: String,
    pub config: Value,
    /// The streams of the catalog, each with the properties of its schema.
    pub streams: Vec<(&'static str, Value)>,
    pub routes: Vec<Route>,
}

impl Case {
    /// A read of the stream `s`.
    pub fn read(name: &'static str, manifest: String, routes: Vec<Route>) -> Case {
        Case { name, command: "read", manifest, config: json!({}), streams: vec![("s", json!({}))], routes }
    }
}

#[derive(Debug, PartialEq)]
struct Output {
    exit: i32,
    messages: BTreeMap<String, Vec<String>>,
    requests: Vec<String>,
}

/// The runner of the CDK, which runs each case in a process of its own.
struct Cdk {
    child: Child,
    input: ChildStdin,
    results: std::io::Lines<std::io::BufReader<std::process::ChildStdout>>,
}

impl Cdk {
    fn start() -> Option<Cdk> {
        let variable = |name: &str| std::env::var_os(format!("AAM_TEST_CDK_{name}"));
        let mut child = Command::new(variable("PYTHON")?)
            .arg(variable("RUNNER")?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("Python starts");
        let input = child.stdin.take().unwrap();
        let results = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
        Some(Cdk { child, input, results })
    }

    fn run(&mut self, arguments: &[String]) -> (i32, String) {
        writeln!(self.input, "{}", json!({"arguments": arguments, "waits": false})).expect("Python reads the case");
        let result: Value = serde_json::from_str(&self.results.next().expect("a result").unwrap()).unwrap();
        (i32::try_from(result["exit"].as_i64().unwrap()).unwrap(), result["stdout"].as_str().unwrap().to_owned())
    }
}

/// Compares all cases, and lists every difference.
pub fn compare(topic: &str, cases: &[Case]) {
    let Some(mut cdk) = Cdk::start() else {
        let required = std::env::var_os("AAM_REQUIRE_PEERS").is_some_and(|value| !value.is_empty());
        assert!(!required, "AAM_TEST_CDK_PYTHON is not set");
        println!("{topic}: airbyte-cdk is not here: nothing was compared");
        return;
    };
    let server = Server::start();
    let folder = std::env::temp_dir().join(format!("lowcode-{topic}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let only = std::env::var("AAM_CDK_ONLY").unwrap_or_default();
    let (mut differences, mut with_records) = (Vec::new(), 0);
    for case in cases.iter().filter(|case| case.name.contains(&only)) {
        let manifest = format!("{}\n{SPEC}", case.manifest.replace("BASE", &server.base));
        let catalog = catalog(case);
        let file = |name: &str, text: &str| -> String {
            let path: PathBuf = folder.join(name);
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let mut arguments = vec![case.command.to_owned(), "--config".into(), file("config.json", &case.config.to_string())];
        arguments.extend(["--manifest-path".into(), file("manifest.yaml", &manifest)]);
        if case.command == "read" {
            arguments.extend(["--catalog".into(), file("catalog.json", &catalog.to_string())]);
        }
        server.play(&case.routes);
        let (exit, stdout) = cdk.run(&arguments);
        let theirs = Output { exit, messages: messages(&stdout), requests: sorted(server.requests()) };
        server.play(&case.routes);
        let (exit, stdout) = ours(case, &manifest);
        let ours = Output { exit, messages: messages(&stdout), requests: sorted(server.requests()) };
        if std::env::var_os("AAM_CDK_SHOW").is_some() {
            println!("{}: {theirs:#?}", case.name);
        }
        with_records += usize::from(theirs.messages.keys().any(|key| key.starts_with("records of")));
        if ours != theirs {
            differences.push(format!("== {}\n{}", case.name, difference(&ours, &theirs)));
        }
    }
    drop(cdk.input);
    let _ = cdk.child.wait();
    let _ = std::fs::remove_dir_all(&folder);
    assert!(with_records > 0 || cases.iter().all(|case| case.command == "check"), "no case of {topic} has a record");
    assert!(differences.is_empty(), "{} of {} cases differ\n{}", differences.len(), cases.len(), differences.join("\n"));
}

fn catalog(case: &Case) -> Value {
    let streams = case.streams.iter().map(|(name, properties)| {
        json!({"stream": {"name": name, "json_schema": {"properties": properties}, "supported_sync_modes": ["full_refresh"]},
               "sync_mode": "full_refresh", "destination_sync_mode": "append"})
    });
    let streams: Vec<Value> = streams.collect();
    json!({ "streams": streams })
}

fn sorted(mut requests: Vec<String>) -> Vec<String> {
    requests.sort();
    requests
}

fn ours(case: &Case, manifest: &str) -> (i32, String) {
    let bounds = Bounds { records: 1000, pages: 100, ..Bounds::default() };
    let manifest = load(manifest, "manifest.yaml", &bounds).unwrap_or_else(|problems| panic!("{}: {problems:?}", case.name));
    let config: Python = serde_json::from_value(case.config.clone()).unwrap();
    let host = Loopback::default();
    let commands = Commands { manifest: &manifest, config: &config, host: &host, bounds: &bounds };
    let mut run = Run::new(&commands.context());
    for (name, properties) in case.streams.iter().filter(|_| case.command == "read") {
        run.selected.insert((*name).to_owned(), serde_json::from_value(properties.clone()).unwrap());
    }
    let names = case.streams.iter().map(|(name, _)| (*name).to_owned()).collect();
    let selection = Selection { catalog: Some(names), ..Selection::default() };
    let mut out = String::new();
    let mut print = |message: lowcode::protocol::Message<'_>| {
        out.push_str(&message.line());
        out.push('\n');
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let ended = runtime.block_on(async {
        match case.command {
            "check" => commands.check(&run, &mut print).await,
            _ => commands.read(&selection, &run, &mut print).await,
        }
    });
    (i32::from(ended == CommandResult::Failed), out)
}

/// A host that calls servers of this machine and never waits.
#[derive(Default)]
struct Loopback {
    uuids: AtomicUsize,
}

impl Host for Loopback {
    fn send(&self, request: HostRequest) -> BoxFuture<'_, Result<HostResponse, HostError>> {
        Box::pin(async move { exchange(&request).ok_or_else(|| HostError::network("no answer")) })
    }

    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::now()
    }

    fn pause(&self, _wait: Duration) -> BoxFuture<'_, Result<(), HostError>> {
        Box::pin(async { Ok(()) })
    }

    fn uuid(&self) -> String {
        format!("00000000-0000-4000-8000-{:012}", self.uuids.fetch_add(1, Ordering::Relaxed))
    }
}

fn exchange(request: &HostRequest) -> Option<HostResponse> {
    let (host, path) = request.url.strip_prefix("http://")?.split_once('/')?;
    let body = request.body.clone().unwrap_or_default();
    let mut head = format!("{} /{path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\n", request.method, body.len());
    request.headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
    let mut stream = TcpStream::connect(host).ok()?;
    stream.write_all(format!("{head}\r\n").as_bytes()).ok()?;
    stream.write_all(&body).ok()?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).ok()?;
    let end = bytes.windows(4).position(|it| it == b"\r\n\r\n")?;
    let head = String::from_utf8(bytes[..end].to_vec()).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<(String, String)> =
        lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.into(), value.into())).collect();
    Some(HostResponse { status, headers: headers.into(), body: bytes[end + 4..].to_vec().into(), url: request.url.clone() })
}

/// The messages, grouped by type and stream, each as one line.
fn messages(stdout: &str) -> BTreeMap<String, Vec<String>> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut put = |key: String, value: String| all.entry(key).or_default().push(value);
    for line in stdout.lines() {
        let message: Value = serde_json::from_str(line).unwrap_or_else(|_| json!({"type": "not JSON", "line": line}));
        let kind = message["type"].as_str().unwrap_or_default();
        let trace = &message["trace"];
        match (kind, trace["type"].as_str().unwrap_or_default()) {
            ("LOG", _) => {}
            ("RECORD", _) => put(format!("records of {}", message["record"]["stream"]), message["record"]["data"].to_string()),
            ("STATE", _) => put("states".into(), message["state"]["stream"]["stream_state"].to_string()),
            // The interpreter does not report that it waits for a rate limit.
            ("TRACE", "STREAM_STATUS") if trace["stream_status"]["reasons"].is_array() => {}
            ("TRACE", "STREAM_STATUS") => {
                let status = &trace["stream_status"];
                put(format!("statuses of {}", status["stream_descriptor"]["name"]), status["status"].to_string());
            }
            ("TRACE", "ERROR") => {
                let mut error = trace["error"].clone();
                error.as_object_mut().unwrap().remove("stack_trace");
                put(format!("errors of {}", error["stream_descriptor"]["name"]), without_ids(&error.to_string()));
            }
            _ => put(kind.to_owned(), message.to_string()),
        }
    }
    for (key, values) in &mut all {
        match key.starts_with("records of") {
            true => values.sort(),
            false if key == "states" => *values = values.last().cloned().into_iter().collect(),
            false => {}
        }
    }
    all
}

/// Replaces random ids, which differ on both sides.
fn without_ids(text: &str) -> String {
    let id = regex::Regex::new("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").unwrap();
    id.replace_all(text, "ID").into_owned()
}

fn difference(ours: &Output, theirs: &Output) -> String {
    let mut text = String::new();
    if ours.exit != theirs.exit {
        text.push_str(&format!("exit code {} instead of {}\n", ours.exit, theirs.exit));
    }
    let none = Vec::new();
    let mut both = |key: &str, mine: &[String], other: &[String]| {
        if mine != other {
            text.push_str(&format!("{key}:\n  aam: {}\n  cdk: {}\n", mine.join("\n       "), other.join("\n       ")));
        }
    };
    let keys: std::collections::BTreeSet<&String> = ours.messages.keys().chain(theirs.messages.keys()).collect();
    for key in keys {
        both(key, ours.messages.get(key).unwrap_or(&none), theirs.messages.get(key).unwrap_or(&none));
    }
    both("requests", &ours.requests, &theirs.requests);
    text
}
