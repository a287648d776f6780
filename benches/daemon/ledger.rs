//! The start of a registry with a long history: a million rows of a hundred thousand connections.

use crate::Measured;
use crate::daemon::Daemon;
use crate::fixture::Fixture;
use crate::stats::{median, ms, percentile, timed};
use crate::table::Table;
use aam::clock;
use aam::model::ledger::{AttemptContext, Why};
use aam::model::{
    Catalog, Class, ConnectionId, Digest, Drift, Failure, Intent, Origin, Outcome, Scope, Step, StepReport, StepStatus, Stream,
    SyncMode, Timestamp,
};
use aam::registry::Registry;
use futures_util::future::try_join_all;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// The first argument that makes this program open a registry and print what that took.
pub const COMMAND: &str = "--open-registry";
/// The argument that makes it also append rows while the fold is stored.
const AND_COMMIT: &str = "--and-commit";

/// The number of starts with the stored fold.
const STARTS: usize = 5;
/// The number of commands that are sent at a time while the registry is filled.
const AT_A_TIME: usize = 512;
/// The attempts of each connection: three rows for the first one, which registers a catalog, and two for each other one. With
/// the accepted intent this makes ten rows.
const ATTEMPTS: usize = 4;
/// How long the fold is waited for.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Fills a registry through the writer, and measures its start with and without the stored fold.
pub fn measure(connections: usize, table: &mut Table) -> Measured<()> {
    let fixture = Fixture::of_known(0)?;
    let registry = fixture.registry("history");
    let (rows, took) = timed(|| fill(&registry, connections));
    let rows = rows?;
    let stored = std::fs::metadata(fold_of(&registry))?.len();
    eprintln!("bench: wrote {rows} rows in {took:?}; the stored fold has {stored} bytes");
    let mut starts = Vec::new();
    let mut opened = Opened::default();
    for _ in 0..STARTS {
        opened = open(&registry, &[])?;
        starts.push(opened.took);
    }
    let start = median(&starts);
    let daemon = Daemon::start(&fixture, &registry)?;
    let ready = daemon.ready_after;
    daemon.stop()?;
    std::fs::remove_file(fold_of(&registry))?;
    let folded = open(&registry, &[])?;
    let ratio = format!("{:.2}", start.as_secs_f64() / folded.took.as_secs_f64());
    let below_a_second = start < Duration::from_secs(1);
    table.add(format!("open {rows} rows"), ms(start), format!("fold all {}", ms(folded.took)), ratio, "< 1 s", below_a_second);
    table.add(format!("cold start to ready, {rows} rows"), ms(ready), "", "", "< 1 s", ready < Duration::from_secs(1));
    let (ours, theirs) = (opened.resident, folded.resident);
    let ratio = ours / theirs;
    let baseline = format!("fold all {theirs:.1} MB");
    table.add("open: resident", format!("{ours:.1} MB"), baseline, format!("{ratio:.2}"), "<= 1.05", ratio <= 1.05);
    let (ours, theirs) = (opened.peak, folded.peak);
    let ratio = ours / theirs;
    let baseline = format!("fold all {theirs:.1} MB");
    table.add("open: peak resident", format!("{ours:.1} MB"), baseline, format!("{ratio:.2}"), "<= 1.1", ratio <= 1.1);
    let line = open(&registry, &[AND_COMMIT])?.rest;
    eprintln!("bench: a commit while the fold is stored, and afterwards: {line}");
    Ok(())
}

/// What the program printed that opened a registry.
#[derive(Default)]
pub struct Opened {
    pub took: Duration,
    /// In MB.
    pub resident: f64,
    peak: f64,
    rest: String,
}

/// Opens the registry in a process of its own.
pub fn open(registry: &Path, more: &[&str]) -> Measured<Opened> {
    let output = Command::new(std::env::current_exe()?).arg(COMMAND).arg(registry).args(more).output()?;
    let text = String::from_utf8(output.stdout)?;
    let mut words = text.split_whitespace();
    let mut number = || words.next().and_then(|word| word.parse::<u64>().ok()).ok_or("the registry could not be opened");
    #[expect(clippy::cast_precision_loss, reason = "a size in memory")]
    let (took, resident, peak) = (Duration::from_micros(number()?), number()? as f64 / 1e3, number()? as f64 / 1e3);
    Ok(Opened { took, resident, peak, rest: words.collect::<Vec<_>>().join(" ") })
}

/// Opens the registry and prints the time in microseconds, and the memory in kB (10^3 bytes).
pub fn run(arguments: &[String]) {
    if let Err(error) = try_run(arguments) {
        eprintln!("{error}");
        std::process::exit(1);
    }
    // The registry is not closed, because that would store the fold.
    std::process::exit(0);
}

fn try_run(arguments: &[String]) -> Measured<()> {
    let path = PathBuf::from(arguments.first().ok_or("no registry was named")?);
    let (opened, took) = timed(|| Registry::open(&path, "bench", clock::from_env()));
    let registry = opened?;
    let (resident, peak) = (memory("VmRSS:")?, memory("VmHWM:")?);
    print!("{} {resident} {peak}", took.as_micros());
    if arguments.get(1).is_some_and(|argument| argument == AND_COMMIT) {
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        // The writer stores the fold when no command comes for a while.
        std::thread::sleep(Duration::from_millis(200));
        let (mut during, mut after) = (Vec::new(), Vec::new());
        let started = Instant::now();
        while after.len() < 200 && started.elapsed() < TIMEOUT {
            let stored = fold_of(&path).exists();
            let intent = intent(&format!("new {}", during.len() + after.len()))?;
            let (accepted, took) = timed(|| runtime.block_on(registry.accept(vec![(intent, Origin::api("bench"))])));
            accepted?;
            if stored { after.push(took) } else { during.push(took) }
        }
        let figures = |times: &[Duration]| {
            format!(
                "{} p50 {} p99 {} max {}",
                times.len(),
                ms(percentile(times, 50)),
                ms(percentile(times, 99)),
                ms(percentile(times, 100))
            )
        };
        print!(" {}; {}", figures(&during), figures(&after));
    }
    println!();
    Ok(())
}

/// A number of /proc/self/status in kB.
fn memory(field: &str) -> Measured<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)).ok_or("the kernel does not name the memory")?;
    Ok(line.split_whitespace().next().unwrap_or_default().parse::<u64>()? * 1024 / 1000)
}

fn fold_of(registry: &Path) -> PathBuf {
    registry.with_extension("db.fold")
}

/// Writes the history. Returns the number of rows.
fn fill(path: &Path, connections: usize) -> Measured<u64> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(async {
        let registry = Registry::open(path, "bench", clock::from_env())?;
        let mut ids = Vec::new();
        for first in (0..connections).step_by(AT_A_TIME) {
            let numbers = first..connections.min(first + AT_A_TIME);
            let documents = numbers.map(|number| Ok((intent(&format!("workspace_T{number:06}"))?, Origin::api("bench"))));
            let accepted = registry.accept(documents.collect::<Measured<_>>()?).await?;
            ids.extend(accepted.into_iter().map(|acceptance| acceptance.connection));
        }
        for attempt in 0..ATTEMPTS {
            let outcome = outcome(attempt);
            for some in ids.chunks(AT_A_TIME) {
                try_join_all(some.iter().map(|id| record(&registry, *id, &outcome))).await?;
            }
        }
        let rows = registry.snapshot().seq;
        registry.close().await;
        Ok(rows)
    })
}

async fn record(registry: &Registry, id: ConnectionId, outcome: &Outcome) -> Measured<()> {
    let (policy, slice) = (Digest::default(), Digest::default());
    let context = AttemptContext { begun_at: Timestamp(0), generation: 1, scope: outcome.scope, why: Why::New, policy, slice };
    let ticket = registry.begin(id, context).await?;
    registry.finish(&ticket, outcome).await?;
    Ok(())
}

/// Every second attempt fails, so that each finds something new.
fn outcome(attempt: usize) -> Outcome {
    let fails = attempt % 2 == 1;
    let status = |step| match fails && step == Step::Health {
        true => StepStatus::Failed { failure: Failure::new(Class::Network, "connection refused", "start the source") },
        false => StepStatus::Passed,
    };
    let report = |step| StepReport { step, status: status(step), duration_ms: 12, evidence: serde_json::Map::new() };
    let stream = |number: usize| Stream {
        name: format!("stream_{number}"),
        namespace: None,
        json_schema: serde_json::json!({"type": "object", "properties": {"id": {"type": "integer"}, "name": {"type": "string"}}}),
        supported_sync_modes: vec![SyncMode::FullRefresh],
        source_defined_primary_key: Vec::new(),
        row_estimate: None,
    };
    let catalog = Catalog { streams: (0..4).map(stream).collect(), ..Catalog::default() };
    Outcome {
        scope: Scope::Full,
        steps: Step::ALL.into_iter().map(report).collect(),
        catalog: Some(catalog),
        drift: Drift::default(),
        rows: (!fails).then_some(20),
        latency_ms: (!fails).then_some(12),
    }
}

fn intent(resource: &str) -> Measured<Intent> {
    Ok(serde_json::from_value(serde_json::json!({
        "source_type": "slack", "resource_ids": [resource], "scopes_mode": "safe_readonly",
        "credential_locator": format!("env:BENCH_{resource}").replace(' ', "_"),
        "namespace": "autonomy", "risk_level": "low",
        "evidence": {"status": "Sanctioned", "source": "CMDB", "ts": "2026-11-08T18:00:00Z"},
        "owner": {"user": "owner@acme.example", "confidence": 0.9, "why": "admin"}
    }))?)
}
