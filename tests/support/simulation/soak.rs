//! Days of many connections in minutes: re-checks, drift, rotated secrets, outages, withdrawals and restarts in simulated time.

use super::clock::SimulatedClock;
use super::script::{self, Event, Kind, Script};
use super::source::Source;
use super::{Paths, Simulated, Simulation, usage};
use aam::clock::Clock;
use aam::model::{ConnectionId, Intent, Origin, Timestamp};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The time at which every soak begins, so that two runs see the same instants: 2027-01-15T08:00:00Z.
const START: Timestamp = Timestamp(1_800_000_000_000);
/// The number of documents that are accepted at a time.
const AT_A_TIME: usize = 512;
/// The number of samples of a run.
const SAMPLES: u32 = 100;
/// How much more memory, in per cent, the last quarter may use than the second one. The first quarter warms up.
const MEMORY_TOLERANCE: f64 = 5.0;
/// How many more handles and threads the last quarter may use than the first one. Pools of idle threads and of readers breathe.
const HANDLE_TOLERANCE: usize = 8;
const THREAD_TOLERANCE: usize = 3;

/// The size of a soak.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub connections: usize,
    /// The simulated time.
    pub total: Duration,
    /// How often each connection is checked in that time.
    pub checks: u32,
    /// The time does not jump by less than this, so that attempts which are due at about the same time share a commit.
    pub step: Duration,
}

/// One of the counts of a sample.
type CountOf = fn(&Sample) -> usize;

/// What was measured at one instant.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The simulated time since the start.
    pub after: Duration,
    pub opened: u64,
    pub rows: u64,
    /// In MB.
    pub resident: f64,
    pub handles: usize,
    pub threads: usize,
}

/// What a soak found.
#[derive(Debug, Default)]
pub struct Report {
    pub samples: Vec<Sample>,
    pub counts: script::Counts,
    /// Everything that is not as it should be. Empty if the soak passed.
    pub problems: Vec<String>,
}

/// A running soak.
struct Soak<'a> {
    size: Size,
    paths: Paths,
    clock: Arc<SimulatedClock>,
    script: Arc<Script>,
    simulation: Simulation,
    folder: &'a Path,
}

/// As [`run`], on a runtime of its own.
pub fn in_own_runtime(size: Size, folder: &Path, on_sample: &mut dyn FnMut(&Sample)) -> Simulated<Report> {
    // With one thread, what can run now runs before the time is advanced.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(8).build()?;
    runtime.block_on(run(size, folder, on_sample))
}

/// Runs a soak below `folder`. `on_sample` is called with each sample.
pub async fn run(size: Size, folder: &Path, on_sample: &mut dyn FnMut(&Sample)) -> Simulated<Report> {
    let paths = prepare(size, folder)?;
    let clock = SimulatedClock::new(START);
    let script = Script::new(Arc::clone(&clock) as Arc<dyn Clock>, size.total);
    let simulation = start(&paths, &clock, &script)?;
    let mut soak = Soak { size, paths, clock, script, simulation, folder };
    soak.accept().await?;
    let mut report = Report::default();
    for (at, event) in soak.timeline() {
        soak.advance_to(at).await;
        match event {
            Some(event) => soak.act(event).await?,
            None => {
                let sample = soak.sample()?;
                on_sample(&sample);
                report.samples.push(sample);
            }
        }
    }
    report.counts = soak.script.counts();
    report.problems = soak.wrong_ends()?;
    report.problems.extend(not_flat(&report.samples));
    for class in ["network", "credential_rejected", "remote", "throttled"] {
        if !report.counts.failed.contains_key(class) {
            report.problems.push(format!("no attempt failed with {class}, so the soak proves less than it should"));
        }
    }
    soak.simulation.stop().await?;
    Ok(report)
}

fn start(paths: &Paths, clock: &Arc<SimulatedClock>, script: &Arc<Script>) -> Simulated<Simulation> {
    let (clock, source) = (Arc::clone(clock) as Arc<dyn Clock>, Arc::clone(script) as Arc<dyn Source>);
    Simulation::start(paths, &clock, &source, aam::reconcile::Until::Stopped)
}

/// Writes the policy and the first version of each secret.
fn prepare(size: Size, folder: &Path) -> Simulated<Paths> {
    let (intents, secrets) = (folder.join("intents"), folder.join("secrets"));
    for path in [&intents, &secrets] {
        std::fs::create_dir_all(path)?;
    }
    for secret in script::secrets() {
        store(folder, &secret, 0)?;
    }
    let policy = folder.join("policy.yaml");
    let seconds = |duration: Duration| duration.as_secs().max(1);
    let (health, drift) = (seconds(size.total / size.checks), seconds(size.total / 8));
    let text = format!(
        "version: 1\nallowlist: [filesource]\neligibility: {{max_risk: med}}\nreconcile: {{resync: 10m, concurrency: 256}}\n\
         recheck: {{health: {health}s, drift: {drift}s, awaiting_credentials: 30m}}\n\
         backoff: {{initial: 1m, max: 30m}}\ncredentials: {{secrets_dir: \"{}\"}}\n",
        secrets.display()
    );
    std::fs::write(&policy, text)?;
    Ok(Paths { intents, policy, registry: folder.join("aam.db") })
}

/// Replaces the file of a secret in one step.
fn store(folder: &Path, secret: &str, version: usize) -> Simulated<()> {
    let (new, path) = (folder.join("new-secret"), folder.join("secrets").join(secret));
    let mut file = std::fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(script::value(secret, version).as_bytes())?;
    std::fs::rename(new, path)?;
    Ok(())
}

fn intent(number: usize) -> Simulated<Intent> {
    let kind = Kind::new(number);
    let risk = if kind == Kind::Refused { "high" } else { "low" };
    Ok(serde_json::from_value(serde_json::json!({
        "source_type": "filesource", "resource_ids": [format!("/soak/{number}")], "scopes_mode": "safe_readonly",
        "credential_locator": kind.secret().map(|name| format!("env:{name}")),
        "namespace": "autonomy", "risk_level": risk,
        "evidence": {"status": "Sanctioned", "source": "CMDB", "ts": "2026-11-08T18:00:00Z"},
        "owner": {"user": "owner@acme.example", "confidence": 0.9, "why": "admin"}
    }))?)
}

fn origin() -> Origin {
    Origin::folder("soak.json")
}

impl Soak<'_> {
    /// All events and samples with their instants, in order.
    fn timeline(&self) -> Vec<(Timestamp, Option<Event>)> {
        let samples = (1..=SAMPLES).map(|sample| (self.script.at(f64::from(sample) / f64::from(SAMPLES)), None));
        let events = script::events().into_iter().map(|(share, event)| (self.script.at(share), Some(event)));
        let mut timeline: Vec<_> = events.chain(samples).collect();
        timeline.sort_by_key(|(at, _)| *at);
        timeline
    }

    async fn accept(&self) -> Simulated<()> {
        let numbers: Vec<usize> = (0..self.size.connections).collect();
        for some in numbers.chunks(AT_A_TIME) {
            let documents = some.iter().map(|number| Ok((intent(*number)?, origin())));
            self.simulation.handle.registry.accept(documents.collect::<Simulated<_>>()?).await?;
        }
        self.simulation.handle.wake();
        Ok(())
    }

    /// Lets the time pass until `until`: from one instant at which something is due to the next.
    async fn advance_to(&self, until: Timestamp) {
        loop {
            self.quiet().await;
            let now = self.clock.now();
            if now >= until {
                return;
            }
            let wake = self.clock.next_wake().unwrap_or(until);
            self.clock.set(wake.max(now.plus(self.size.step)).min(until));
        }
    }

    /// Waits until no attempt runs and the loop sleeps until a later instant.
    async fn quiet(&self) {
        loop {
            // Everything that can run now runs before this goes on, because the runtime has one thread.
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
            let sleeps = self.clock.next_wake().is_some_and(|wake| wake > self.clock.now());
            if sleeps && self.simulation.handle.attempts_in_flight() == 0 {
                return;
            }
            self.clock.slept().await;
        }
    }

    async fn act(&mut self, event: Event) -> Simulated<()> {
        match event {
            Event::Store { secret, version } => store(self.folder, &secret, version)?,
            Event::Withdraw => {
                let withdrawn = (0..self.size.connections).filter(|number| Kind::new(*number) == Kind::Withdrawn);
                let withdrawn = withdrawn.map(|number| Ok((intent(number)?.connection_id(), origin())));
                let withdrawn = withdrawn.collect::<Simulated<Vec<(ConnectionId, Origin)>>>()?;
                self.simulation.handle.registry.withdraw(withdrawn, "the simulation withdraws it").await?;
                self.simulation.handle.wake();
            }
            Event::Restart => self.restart().await?,
        }
        Ok(())
    }

    /// Stops the process of the simulation and starts another one on the same registry.
    async fn restart(&mut self) -> Simulated<()> {
        self.simulation.stop().await?;
        self.simulation = start(&self.paths, &self.clock, &self.script)?;
        Ok(())
    }

    fn sample(&self) -> Simulated<Sample> {
        Ok(Sample {
            after: self.clock.now().since(START),
            opened: self.script.counts().opened,
            rows: self.simulation.handle.registry.snapshot().seq,
            resident: usage::resident()?,
            handles: usage::handles()?,
            threads: usage::threads()?,
        })
    }

    /// Compares every connection with its script, and the ledger with the fold in memory and with its own chain.
    fn wrong_ends(&self) -> Simulated<Vec<String>> {
        let registry = &self.simulation.handle.registry;
        let mut problems = Vec::new();
        let verdict = registry.reader().verify()?;
        if !verdict.is_intact() {
            problems.push(format!("the ledger does not verify: {verdict:?}"));
        }
        let folded = registry.reader().snapshot()?;
        let snapshot = registry.snapshot();
        if *snapshot != folded {
            problems.push("the fold in memory is not the fold of the ledger".to_string());
        }
        for number in 0..self.size.connections {
            let (kind, id) = (Kind::new(number), intent(number)?.connection_id());
            let Some(known) = snapshot.connections.get(&id) else {
                problems.push(format!("connection {number} is lost"));
                continue;
            };
            let end = (known.state(), known.catalog.map(|(version, ..)| version));
            if end != kind.end() {
                problems.push(format!("connection {number} ({kind:?}) ended as {end:?} instead of {:?}", kind.end()));
            }
            let age = self.clock.now().since(known.last_checked().unwrap_or_default());
            if kind.end().0 == aam::model::State::Active && age > self.size.total / self.size.checks + self.size.step * 4 {
                problems.push(format!("connection {number} ({kind:?}) was last checked {age:?} ago"));
            }
        }
        Ok(problems)
    }
}

/// The problems of samples: what grows although nothing that is kept does.
pub fn not_flat(samples: &[Sample]) -> Vec<String> {
    let quarter = samples.len() / 4;
    let part = |from: usize| samples.iter().skip(from * quarter).take(quarter);
    let most = |from: usize, figure: fn(&Sample) -> usize| part(from).map(figure).max().unwrap_or_default();
    let median = |from: usize| {
        let mut sizes: Vec<f64> = part(from).map(|sample| sample.resident).collect();
        sizes.sort_by(f64::total_cmp);
        sizes.get(sizes.len() / 2).copied().unwrap_or_default()
    };
    let mut problems = Vec::new();
    let figures: [(&str, CountOf, usize); 2] =
        [("file handles", |sample| sample.handles, HANDLE_TOLERANCE), ("threads", |sample| sample.threads, THREAD_TOLERANCE)];
    for (name, figure, tolerance) in figures {
        let (first, last) = (most(0, figure), most(3, figure));
        if last > first + tolerance {
            problems.push(format!("{name} grew from {first} in the first quarter to {last} in the last one"));
        }
    }
    let (second, last) = (median(1), median(3));
    if last > second * (1.0 + MEMORY_TOLERANCE / 100.0) {
        problems.push(format!("memory grew from {second:.1} MB in the second quarter to {last:.1} MB in the last one"));
    }
    problems
}
