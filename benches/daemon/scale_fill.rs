//! Fills a registry with connections whose attempts a script answers, in a process of its own, and measures what that costs.

use crate::Measured;
use crate::fixture::Fixture;
use crate::simulation::source::{Source, catalog};
use crate::simulation::{self, Paths, Simulated, Simulation, usage};
use crate::stats::{median, timed};
use aam::clock::{self, Clock};
use aam::funnel;
use aam::model::{Catalog, Class, ConnectionId, Failure, Intent, Origin, Timestamp};
use aam::plan::{self, PlanContext};
use aam::reconcile::{Handle, Until};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The first argument that makes this program fill a registry and print what that took.
pub const COMMAND: &str = "--fill-registry";

/// The number of documents that are sent at a time.
const AT_A_TIME: usize = 512;
/// The number of repetitions of what is measured more than once.
const RUNS: usize = 5;
/// The number of intents that are sent one by one.
const ONE_BY_ONE: usize = 20;
/// The connections whose sources fail together, and their first number.
const OUTAGE: usize = 50;
const FIRST_OF_OUTAGE: usize = 90_000_000;
/// The first number of the intents that are sent one by one.
const FIRST_OF_MORE: usize = 80_000_000;
/// How long a part may take that waits for attempts.
const PATIENCE: Duration = Duration::from_secs(300);

/// What filling a registry took.
#[derive(Debug, Default)]
pub struct Filled {
    /// Accepting all documents.
    pub accept: Duration,
    /// The first attempt of each, with the scan and the plan before them.
    pub attempts: Duration,
    pub rows: u64,
    pub commits: u64,
    /// One plan of all connections.
    pub plan: Duration,
    pub funnel: Duration,
    /// Accepting all documents once more.
    pub pushed_again: Duration,
    pub rows_of_push: u64,
    /// From one more document to the end of its first attempt.
    pub one_more: Duration,
    /// The time for each connection when an outage ends.
    pub recovery: Duration,
}

/// Fills `registry` with `count` connections under the policy of `fixture`.
pub fn in_own_process(registry: &Path, fixture: &Fixture, count: usize) -> Measured<Filled> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(COMMAND).arg(registry).arg(fixture.policy()).arg(fixture.intents()).arg(count.to_string());
    let output = command.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("filling a registry ended with {}", output.status).into());
    }
    let text = String::from_utf8(output.stdout)?;
    let pairs = text.lines().filter_map(|line| line.split_once(' '));
    let numbers: BTreeMap<&str, u64> = pairs.filter_map(|(name, number)| Some((name, number.parse().ok()?))).collect();
    let number = |name: &str| numbers.get(name).copied().ok_or_else(|| format!("filling a registry did not print {name}"));
    let time = |name: &str| number(name).map(Duration::from_micros);
    Ok(Filled {
        accept: time("accept")?,
        attempts: time("attempts")?,
        rows: number("rows")?,
        commits: number("commits")?,
        plan: time("plan")?,
        funnel: time("funnel")?,
        pushed_again: time("pushed_again")?,
        rows_of_push: number("rows_of_push")?,
        one_more: time("one_more")?,
        recovery: time("recovery")?,
    })
}

/// Fills the registry and prints a line for each figure, with times in microseconds.
pub fn run(arguments: &[String]) {
    if let Err(error) = try_run(arguments) {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

fn try_run(arguments: &[String]) -> Measured<()> {
    let [registry, policy, intents, count] = arguments else { return Err("four arguments are needed".into()) };
    let [registry, policy, intents] = [registry, policy, intents].map(PathBuf::from);
    let count: usize = count.parse()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(fill(&Paths { intents, policy, registry }, count))
}

/// Sources that work, except that some of them do not answer while `out` is true.
#[derive(Default)]
struct Vendor {
    out: AtomicBool,
}

impl Source for Vendor {
    fn open(&self, number: usize, _: Option<&str>) -> Result<(), Failure> {
        match number >= FIRST_OF_OUTAGE && self.out.load(Ordering::Relaxed) {
            true => Err(Failure::new(Class::Network, "connection refused", "start the source")),
            false => Ok(()),
        }
    }

    fn catalog(&self, _: usize) -> Catalog {
        catalog(&["id".to_string(), "name".to_string()])
    }
}

async fn fill(paths: &Paths, count: usize) -> Measured<()> {
    let (vendor, clock) = (Arc::new(Vendor::default()), clock::from_env());
    let source = Arc::clone(&vendor) as Arc<dyn Source>;
    let (handle, env) = simulation::open(paths, &clock, &source)?;
    let registry = Arc::clone(&handle.registry);

    show("accept", accept(&handle, count).await?);
    let started = Instant::now();
    Simulation::run(Arc::clone(&handle), Arc::clone(&env), Until::Settled)?.ended().await?;
    show("attempts", started.elapsed());
    println!("rows {}\ncommits {}", registry.snapshot().seq, registry.transactions());
    let active = registry.snapshot().connections.values().filter(|known| known.state() == aam::model::State::Active).count();
    if active != count {
        return Err(format!("only {active} of {count} connections are ACTIVE").into());
    }
    eprintln!("bench: scale {count}: {:.1} MB after the fill", usage::resident()?);

    show("plan", planned(&handle, count)?);
    show("funnel", median(&(0..RUNS).map(|_| funnelled(&handle, clock.as_ref())).collect::<Vec<_>>()));
    let before = registry.snapshot().seq;
    show("pushed_again", accept(&handle, count).await?);
    println!("rows_of_push {}", registry.snapshot().seq - before);

    let mut simulation = Simulation::run(Arc::clone(&handle), env, Until::Stopped)?;
    let mut times = Vec::new();
    // The first one waits for the first plan of the new loop.
    for number in 0..=ONE_BY_ONE {
        let started = Instant::now();
        settle(&handle, &[FIRST_OF_MORE + number]).await?;
        times.push(started.elapsed());
    }
    show("one_more", median(times.get(1..).unwrap_or_default()));

    vendor.out.store(true, Ordering::Relaxed);
    let numbers: Vec<usize> = (FIRST_OF_OUTAGE..FIRST_OF_OUTAGE + OUTAGE).collect();
    let ids = settle(&handle, &numbers).await?;
    vendor.out.store(false, Ordering::Relaxed);
    let (started, since) = (Instant::now(), handle.clock.now());
    handle.heal(ids.iter().copied());
    handle.all_settled(&ids, since, PATIENCE).await;
    show("recovery", started.elapsed() / u32::try_from(OUTAGE)?);
    let failed = ids.iter().filter(|id| registry.snapshot().connections.get(id).is_none_or(|known| known.in_outage())).count();
    if failed > 0 {
        return Err(format!("{failed} connections did not recover").into());
    }
    simulation.stop().await
}

fn show(name: &str, time: Duration) {
    println!("{name} {}", time.as_micros());
}

/// Accepts all documents and returns how long the registry took.
async fn accept(handle: &Handle, count: usize) -> Measured<Duration> {
    let mut took = Duration::ZERO;
    let numbers: Vec<usize> = (0..count).collect();
    for some in numbers.chunks(AT_A_TIME) {
        let documents = documents(some)?;
        let started = Instant::now();
        handle.registry.accept(documents).await?;
        took += started.elapsed();
    }
    Ok(took)
}

/// Accepts documents, wakes the loop and waits for their attempts.
async fn settle(handle: &Handle, numbers: &[usize]) -> Simulated<Vec<ConnectionId>> {
    let accepted = handle.registry.accept(documents(numbers)?).await?;
    handle.wake();
    let ids: Vec<ConnectionId> = accepted.into_iter().map(|acceptance| acceptance.connection).collect();
    handle.all_settled(&ids, Timestamp(0), PATIENCE).await;
    match ids.iter().all(|id| handle.is_settled(*id, Timestamp(0))) {
        true => Ok(ids),
        false => Err("an attempt did not end in time".into()),
    }
}

fn documents(numbers: &[usize]) -> Simulated<Vec<(Intent, Origin)>> {
    numbers.iter().map(|number| Ok((intent(*number)?, Origin::api("bench")))).collect()
}

fn intent(number: usize) -> Simulated<Intent> {
    Ok(serde_json::from_value(serde_json::json!({
        "source_type": "slack", "resource_ids": [format!("workspace_T{number:07}")], "scopes_mode": "safe_readonly",
        "namespace": "autonomy", "risk_level": "low",
        "evidence": {"status": "Sanctioned", "source": "CMDB", "ts": "2026-11-08T18:00:00Z"},
        "owner": {"user": "owner@acme.example", "confidence": 0.9, "why": "admin"}
    }))?)
}

/// How long one plan of all connections takes, as the loop makes it.
fn planned(handle: &Handle, count: usize) -> Measured<Duration> {
    let snapshot = handle.registry.snapshot();
    let context = PlanContext::new(handle.loaded(), &snapshot);
    let now = handle.clock.now();
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let (items, took) = timed(|| plan::plan(&snapshot, &context, &BTreeSet::new(), now));
        if items.len() != count || items.iter().any(|item| item.due <= now) {
            return Err("the plan of a registry in which nothing is due is not as expected".into());
        }
        times.push(took);
    }
    Ok(median(&times))
}

fn funnelled(handle: &Handle, clock: &dyn Clock) -> Duration {
    let now = clock.now();
    timed(|| funnel::funnel(&handle.registry.snapshot(), "autonomy", 0.9, now)).1
}
