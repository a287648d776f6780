//! A real [`Session`] for the engine tests, with every guard, budget and timeout of the daemon, which also records what an
//! engine sends.

use aam::clock::SystemClock;
use aam::connectors::driver_session::DriverSession;
use aam::connectors::{object, openapi};
use aam::egress::resolve::SystemLookup;
use aam::egress::{AdmittedConnection, Caller, DayBudget, Egress, HttpRequest, HttpResponse, ServiceRecords, Session, Traffic};
use aam::model::{Class, ConnectionId, Failure};
use aam::policy::Policy;
use futures_util::future::BoxFuture;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Grants every call. Tests of the daemon cover the durable budget.
pub struct UnlimitedBudget;

impl DayBudget for UnlimitedBudget {
    fn take<'a>(&'a self, _key: &'a str, _day: i64, wanted: u64, _limit: u64) -> BoxFuture<'a, Result<u64, String>> {
        Box::pin(async move { Ok(wanted) })
    }
}

/// A policy that allows loopback and has caps that are too large for a test to reach. `step` is the timeout of a step.
pub fn policy(step: Duration, ca_file: Option<&Path>) -> Policy {
    let authority = ca_file.map_or("null".to_string(), |file| format!("\"{}\"", file.display()));
    let text = format!(
        "version: 1\nallowlist: [openapi, jdbc, postgres, s3, s3_compat]\n\
         safe_mode: {{max_items: 20, step_timeout: {}ms, attempt_timeout: 300s}}\n\
         network: {{allow_private: [127.0.0.0/8], proxy: null, ca_file: {authority}}}\n\
         caps: {{default: {{per_second: 1000, burst: 1000, per_day: 100000, concurrency: 16}}}}\n",
        step.as_millis()
    );
    aam::policy::parse::parse(&text, "policy.yaml").unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// A session with its own egress, so that an open circuit breaker of one test does not affect another test.
pub fn session(family: &'static str, policy: Arc<Policy>) -> Session {
    let egress = Egress::with(Arc::new(UnlimitedBudget), Arc::new(SystemClock), Arc::new(SystemLookup));
    egress.session(Caller {
        purpose: aam::model::CallPurpose::Source,
        connection: ConnectionId::derive("autonomy", family, &["a test".to_string()]),
        family: family.into(),
        account: "a test".to_string(),
        cap: policy.caps.default.clone(),
        policy,
        posts: Arc::default(),
    })
}

/// A session that records the requests and connections that go through it.
pub struct RecordingSession {
    session: Session,
    /// One entry for each request: `METHOD URL`, then one line for each header with its value.
    pub sent: Mutex<Vec<String>>,
    /// One entry for each admitted connection: the number of bytes and the class of its failure.
    pub settled: Mutex<Vec<(u64, Option<Class>)>>,
}

impl RecordingSession {
    pub fn new(family: &'static str, policy: Arc<Policy>) -> Arc<RecordingSession> {
        Arc::new(RecordingSession { session: session(family, policy), sent: Mutex::default(), settled: Mutex::default() })
    }

    /// `METHOD URL` of every request.
    pub fn calls(&self) -> Vec<String> {
        let sent = self.sent.lock().expect("unpoisoned");
        sent.iter().map(|call| call.lines().next().unwrap_or_default().to_string()).collect()
    }

    fn record_and_send(&self, request: HttpRequest) -> BoxFuture<'_, Result<HttpResponse, Failure>> {
        let mut call = format!("{} {}", request.method.as_str(), request.url);
        for (name, value) in &request.headers {
            call.push_str(&format!("\n{name}: {}", value.expose()));
        }
        self.sent.lock().expect("unpoisoned").push(call);
        Box::pin(self.session.http(request))
    }
}

impl object::HttpTransport for RecordingSession {
    fn send(&self, request: HttpRequest) -> BoxFuture<'_, Result<HttpResponse, Failure>> {
        self.record_and_send(request)
    }

    fn traffic(&self) -> Traffic {
        self.session.traffic()
    }
}

impl openapi::wire::HttpTransport for RecordingSession {
    fn http(&self, request: HttpRequest) -> BoxFuture<'_, Result<HttpResponse, Failure>> {
        self.record_and_send(request)
    }

    fn traffic(&self) -> Traffic {
        self.session.traffic()
    }
}

impl DriverSession for RecordingSession {
    fn admit<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, Result<AdmittedConnection, Failure>> {
        Box::pin(self.session.admit(host, port))
    }

    fn service_records<'a>(&'a self, service: &'a str, host: &'a str) -> BoxFuture<'a, Result<ServiceRecords, Failure>> {
        Box::pin(self.session.service_records(service, host))
    }

    fn settle(&self, wire: &str, host: &str, bytes: u64, took: Duration, failure: Option<&Failure>) {
        let class = failure.map(|failure| failure.class);
        self.settled.lock().expect("unpoisoned").push((bytes, class));
        self.session.settle(wire, host, bytes, took, failure);
    }

    fn local<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(self.session.local(path))
    }

    fn local_ended(&self, path: &str, bytes: u64, took: Duration, error: &str) {
        self.session.local_ended(path, bytes, took, error);
    }

    fn traffic(&self) -> Traffic {
        self.session.traffic()
    }
}
