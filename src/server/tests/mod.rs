//! Tests of the API contract over a real socket and a real registry. The outcomes of attempts are fixtures here,
//! because the pipeline that produces them has its own tests.

mod access;
mod bounds;
mod catalogs;
mod compatibility;
mod connection_actions;
mod connection_page;
mod connections_page;
mod consent;
mod contract;
mod examples;
mod idempotency;
mod issuer;
mod listener;
mod page;
mod pages_of_others;
mod push;
mod read;
mod reference_pages;
mod representations;
mod sign_in;
mod sign_in_oidc;
mod trend_section;

use super::{ServerInfo, ServerLimits, serve_with};
use crate::clock::Clock;
use crate::connectors::Engines;
use crate::egress::Egress;
use crate::egress::resolve::SystemLookup;
use crate::model::ledger::{AttemptContext, Why};
use crate::model::{
    Catalog, Class, ConnectionId, Digest, Drift, Failure, Intent, Origin, Outcome, Scope, Step, StepReport, StepStatus, Stream,
    SyncMode, Timestamp,
};
use crate::pipeline::Env;
use crate::policy::{ActivePolicy, LoadedPolicy};
use crate::providers::{Process, Providers};
use crate::reconcile::Handle;
use crate::registry::Registry;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// 2026-11-08T18:00:00Z.
pub const START: i64 = 1_794_160_800_000;

pub const FULL: &str = "token-of-aod-for-autonomy";
pub const READER: &str = "token-of-a-reader";
pub const OTHER: &str = "token-for-another-namespace";

/// A clock that only a test moves.
pub struct ManualClock(AtomicI64);

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }

    /// Only a test advances this clock.
    fn monotonic(&self) -> std::time::Duration {
        std::time::Duration::ZERO
    }
}

/// A running server with its registry.
pub struct TestServer {
    pub handle: Arc<Handle>,
    pub clock: Arc<ManualClock>,
    pub port: u16,
    pub served: tokio::task::JoinHandle<()>,
    _folder: tempfile::TempDir,
}

/// A policy with the three tokens above.
pub fn policy_text() -> String {
    let token = |name: &str, value: &str, scopes: &str, namespaces: &str| {
        let digest = Digest::from_bytes(value.as_bytes());
        format!("    - {{name: {name}, sha256: \"{digest}\", scopes: [{scopes}], namespaces: [{namespaces}]}}\n")
    };
    let all = "\"intents:write\", \"registry:read\", \"ops:heal\", \"ops:confirm\"";
    format!(
        "version: 1\nallowlist: [jdbc, s3]\napi:\n  mcp: true\n  tokens:\n{}{}{}",
        token("aod", FULL, all, "autonomy"),
        token("reader", READER, "\"registry:read\"", "autonomy"),
        token("other", OTHER, all, "other"),
    )
}

impl TestServer {
    pub async fn new() -> TestServer {
        TestServer::with(&policy_text(), ServerLimits::default()).await
    }

    pub async fn with(policy: &str, limits: ServerLimits) -> TestServer {
        let folder = tempfile::tempdir().expect("a folder");
        let manual_clock = Arc::new(ManualClock(AtomicI64::new(START)));
        let clock: Arc<dyn Clock> = manual_clock.clone();
        let path = folder.path().join("aam.db");
        let registry = Registry::open(&path, "test", Arc::clone(&clock)).expect("a registry");
        let policy = crate::policy::parse::parse(policy, "policy.yaml").expect("a policy");
        let active = ActivePolicy::new(LoadedPolicy::new(policy), None);
        let handle = Handle::new(Arc::new(registry), clock, active, folder.path().join("intents"), "policy/policy.yaml".into());
        handle.ready.send_replace(true);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let info = ServerInfo {
            service: "aam".to_string(),
            version: "0.0.0-test".to_string(),
            pid: 1,
            registry: "var/aam.db".to_string(),
            started: Timestamp(START).rfc3339(),
            port,
        };
        let served = tokio::spawn(serve_with(Arc::clone(&handle), Arc::new(env(&handle)), listener, info, limits));
        TestServer { handle, clock: manual_clock, port, served, _folder: folder }
    }

    /// Moves the clock forward by `ms` milliseconds.
    pub fn later(&self, ms: i64) {
        self.clock.0.fetch_add(ms, Ordering::SeqCst);
    }

    /// Accepts documents as if they came from a file.
    pub async fn accept(&self, documents: &[Value]) -> Vec<ConnectionId> {
        let documents = documents.iter().map(|document| (intent_of(document), Origin::folder("a.json"))).collect();
        let taken = self.handle.registry.accept(documents).await.expect("accepted");
        taken.into_iter().map(|taken| taken.connection).collect()
    }

    /// Records an attempt with this outcome.
    pub async fn attempt(&self, id: ConnectionId, outcome: Outcome) {
        record(&self.handle, id, &outcome).await;
    }

    /// Records an outcome for every connection that the server wakes the reconcile loop for. It stands in for the loop, so
    /// that no source is needed.
    pub fn answer_wakes(&self, outcome: fn(&str) -> Outcome) -> tokio::task::JoinHandle<()> {
        let handle = Arc::clone(&self.handle);
        tokio::spawn(async move {
            loop {
                handle.woken().await;
                let due: Vec<(ConnectionId, String)> = {
                    let snapshot = handle.registry.snapshot();
                    let due = snapshot.connections.iter().filter(|(id, known)| {
                        handle.in_flight.heals().contains(id)
                            || known.last.as_ref().is_none_or(|last| last.facts.generation != known.generation)
                    });
                    due.map(|(id, known)| (id, known.source_type.to_string())).collect()
                };
                for (id, source_type) in due {
                    record(&handle, id, &outcome(&source_type)).await;
                }
            }
        })
    }

    pub async fn get(&self, target: &str) -> HttpReply {
        self.send("GET", target, &[("Authorization", &bearer(FULL))], None).await
    }

    pub async fn delete(&self, target: &str) -> HttpReply {
        self.send("DELETE", target, &[("Authorization", &bearer(FULL))], None).await
    }

    pub async fn post(&self, target: &str, body: &Value) -> HttpReply {
        self.post_with(target, body, &[]).await
    }

    pub async fn post_with(&self, target: &str, body: &Value, more: &[(&str, &str)]) -> HttpReply {
        let token = bearer(FULL);
        let mut headers = vec![("Authorization", token.as_str()), ("Content-Type", "application/json")];
        headers.extend(more);
        self.send("POST", target, &headers, Some(&body.to_string())).await
    }

    pub async fn send(&self, method: &str, target: &str, headers: &[(&str, &str)], body: Option<&str>) -> HttpReply {
        let mut text = format!("{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n");
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(body) = body {
            text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        text.push_str("\r\n");
        text.push_str(body.unwrap_or_default());
        self.raw(text.as_bytes()).await
    }

    /// Sends bytes and reads until the server closes the connection.
    pub async fn raw(&self, bytes: &[u8]) -> HttpReply {
        let mut stream = self.connect().await;
        // A server that refuses a request early may close the connection before all bytes are sent.
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        HttpReply::read(&answer)
    }

    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).await.expect("connected")
    }
}

/// An environment without engines, whose providers read no variable.
fn env(handle: &Handle) -> Env {
    let budget: Arc<dyn crate::egress::DayBudget> = Arc::clone(&handle.registry) as _;
    let egress = Egress::with(budget, Arc::clone(&handle.clock), Arc::new(SystemLookup));
    let none: crate::providers::ReadEnv = Arc::new(|_| None);
    let providers = Providers::with_env(Arc::clone(&egress), Arc::clone(&handle.clock), Process::Recording, none);
    Env { engines: Engines::default(), egress, providers }
}

async fn record(handle: &Handle, id: ConnectionId, outcome: &Outcome) {
    let generation = handle.registry.snapshot().connections.get(&id).map_or(1, |known| known.generation);
    let under = AttemptContext {
        begun_at: handle.clock.now(),
        generation,
        scope: outcome.scope,
        why: Why::New,
        policy: Digest::default(),
        slice: Digest::default(),
    };
    let running = handle.in_flight.begin(id).expect("no attempt runs");
    let ticket = handle.registry.begin(id, under).await.expect("begun");
    handle.registry.finish(&ticket, outcome).await.expect("finished");
    drop(running);
}

/// A parsed HTTP response. The values of a header that is there several times are joined by commas.
#[derive(Debug)]
pub struct HttpReply {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl HttpReply {
    fn read(bytes: &[u8]) -> HttpReply {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let headers = lines.filter_map(|line| line.split_once(": "));
        let mut joined: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in headers {
            let known = joined.entry(name.to_ascii_lowercase()).or_default();
            let separator = if known.is_empty() { "" } else { ", " };
            known.push_str(&format!("{separator}{value}"));
        }
        HttpReply { status: status.unwrap_or(0), headers: joined, body: body.to_string() }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// Returns the code of a problem response, and asserts that the response is a valid problem document.
    pub fn code(&self) -> String {
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let body = self.json();
        assert_eq!(body["status"], self.status, "{body}");
        assert!(body["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{body}");
        assert_eq!(body["type"], format!("urn:aam:problem:{}", body["code"].as_str().unwrap_or("?")));
        body["code"].as_str().unwrap_or("?").to_string()
    }
}

pub fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// Returns a valid intent document.
pub fn document(source_type: &str, resource: &str) -> Value {
    json!({
        "source_type": source_type, "resource_ids": [resource], "risk_level": "low",
        "evidence": {"status": "Sanctioned", "source": "IdP", "ts": "2026-11-08T18:00:00Z"},
        "owner": {"user": "owner@acme.example", "confidence": 0.95, "why": "admin"},
    })
}

pub fn intent_of(document: &Value) -> Intent {
    let parsed = crate::intake::wire::parse(document.to_string().as_bytes(), &crate::intake::wire::Limits::default());
    let item = parsed.expect("readable").items.remove(0);
    item.outcome.expect("a good document")
}

pub fn passed(_: &str) -> Outcome {
    let step = |step: Step| StepReport { step, status: StepStatus::Passed, duration_ms: 2, evidence: serde_json::Map::new() };
    let stream = Stream {
        name: "orders".to_string(),
        namespace: None,
        json_schema: json!({"properties": {"id": {"type": "integer"}}}),
        supported_sync_modes: vec![SyncMode::FullRefresh],
        source_defined_primary_key: vec![vec!["id".to_string()]],
        row_estimate: None,
    };
    Outcome {
        scope: Scope::Full,
        steps: Step::ALL.into_iter().map(step).collect(),
        catalog: Some(Catalog { streams: vec![stream], ..Catalog::default() }),
        rows: Some(20),
        latency_ms: Some(12),
        drift: Drift::default(),
    }
}

/// Returns an outcome that failed at step `at`: earlier steps passed, and later ones were skipped.
pub fn failed(at: Step, failure: Failure) -> Outcome {
    let mut outcome = passed("");
    for report in &mut outcome.steps {
        if report.step == at {
            report.status = StepStatus::Failed { failure: failure.clone() };
        } else if report.step > at && report.step != Step::Registry {
            report.status = StepStatus::Skipped { reason: format!("{} failed", at.as_str()) };
        }
    }
    outcome.rows = None;
    outcome.latency_ms = None;
    outcome.catalog = None;
    outcome
}

/// Returns a passed outcome for `jdbc` and `s3`, and for other types the outcome for an unsupported type.
pub fn by_type(source_type: &str) -> Outcome {
    match source_type {
        "jdbc" | "s3" => passed(source_type),
        other => failed(
            Step::Allowlist,
            Failure::new(
                Class::Unsupported,
                format!("no connector of this build serves {other}"),
                "aam families lists what is served",
            ),
        ),
    }
}

/// A timeout that is long enough for a loaded machine. A test that passes never waits for all of it.
pub const TIMEOUT: Duration = Duration::from_secs(20);

/// Sends a push that waits for an attempt, which nothing runs, and waits until the server works on it. `more` are further lines of
/// the head, each with its line break.
async fn waiting_push(server: &TestServer, resource: &str, more: &str) -> TcpStream {
    let body = document("jdbc", resource).to_string();
    let head = format!(
        "POST /connections/onboard HTTP/1.1\r\nHost: localhost\r\nAuthorization: {}\r\nContent-Type: application/json\r\nPrefer: wait=300\r\n{more}Content-Length: {}\r\n\r\n{body}",
        bearer(FULL),
        body.len()
    );
    let mut changes = server.handle.registry.changes();
    let before = *changes.borrow_and_update();
    let mut stream = server.connect().await;
    stream.write_all(head.as_bytes()).await.expect("sent");
    while *changes.borrow_and_update() == before {
        changes.changed().await.expect("the writer lives");
    }
    stream
}
