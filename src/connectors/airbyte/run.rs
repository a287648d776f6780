//! Runs one command of a connector: waits for its memory, prepares its files, starts it confined, and hands its requests to the
//! gate.

use super::authorities;
use super::gate::{Gate, Observed};
use super::hosts::Hosts;
use super::kept::Kept;
use super::pool::Pool;
use super::program::Program;
use super::rotation::Rotation;
use super::run_folder::{CONFIG, RunFolder};
use super::watch::Watch;
use crate::credentials::redact;
use crate::egress::Session;
use crate::memory_budget::AttemptMemory;
use crate::model::{Class, Failure};
use crate::policy::{ConnectorPolicy, Policy};
use airbyte_protocol::{Answer, Command, Counts, Limits as ProtocolLimits, Reader, Trouble};
use confinement::{Launcher, Limits, Plan, Weaker};
use intercept::{Authority, Upstream};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The part of the step's time that its runs may take together, so that the failure names the connector and not the step.
const SHARE_OF_STEP: f64 = 0.85;
/// The processes and threads that a connector may have at the same time. The kernel does not count those of root, so the watch does.
pub const MAX_THREADS: u64 = 256;
const MAX_OPEN_FILES: u64 = 512;
/// Memory that a process may have asked for and not used, besides twice what it may occupy: the stacks of its threads.
const UNUSED_MEMORY_BYTES: u64 = 512 << 20;

/// What makes the hardened unit of systemd allow that connectors are confined.
const DROP_IN: &str = "under systemd, install the drop-in docs/deploy/aam.service.d/airbyte.conf as its first lines say";

/// What all connectors of the process share.
pub struct Shared {
    pub launcher: Launcher,
    pub pool: Arc<Pool>,
    pub kept: Kept,
    pub locks: super::rotation::Locks,
}

/// One connector with one resource id.
pub struct Setup {
    pub shared: Arc<Shared>,
    pub policy: Arc<Policy>,
    pub connector: ConnectorPolicy,
    /// The source type.
    pub name: Arc<str>,
    /// The policy's `airbyte.dir` as an absolute path.
    pub dir: PathBuf,
    pub program: Program,
    pub hosts: Arc<Hosts>,
    pub session: Arc<Session>,
}

/// One command to run.
pub struct Invocation<'a> {
    pub command: Command,
    pub config: Option<&'a Value>,
    /// The content of the file for `read --catalog`.
    pub catalog: Option<String>,
    /// The number of records after which a `read` ends.
    pub records: usize,
}

/// Why AAM ended a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    TimedOut(Duration),
    /// It took more memory than the policy allows.
    Memory(u64),
    /// It had more of something than is allowed, for example `40 processes`.
    TooMany(u64, &'static str),
    /// It waited after AAM had refused a request, and would have tried again.
    Waits,
}

/// What one run did.
pub struct Ran {
    pub result: Result<Answer, Trouble>,
    pub ended: Option<Ended>,
    pub observed: Arc<Observed>,
    pub counts: Counts,
    /// The warnings and errors that the connector logged last, scrubbed.
    pub logs: Vec<String>,
    /// The end of stderr, scrubbed.
    pub stderr: String,
    pub took: Duration,
    /// The most memory that was seen, in bytes.
    pub peak: u64,
    /// What the kernel could not enforce.
    pub weaker: Vec<String>,
}

/// The time that is left for the runs of one step. Waiting for memory does not count.
pub struct StepClock {
    started: Instant,
    waited: Duration,
    limit: Duration,
    memory: Arc<AttemptMemory>,
}

impl StepClock {
    #[must_use]
    pub fn start(setup: &Setup) -> StepClock {
        let memory = Arc::clone(setup.session.memory());
        let limit = setup.policy.safe_mode(&setup.name).step_timeout.mul_f64(SHARE_OF_STEP);
        StepClock { started: Instant::now(), waited: memory.waited(), limit, memory }
    }

    /// The time that the runs may take together.
    #[must_use]
    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// Whether the time is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let waited = self.memory.waited().saturating_sub(self.waited);
        self.started.elapsed() > self.limit + waited
    }
}

/// The files of one run.
struct Prepared {
    folder: RunFolder,
    authority: Arc<Authority>,
    authorities: PathBuf,
    /// The folder with the file that Python runs at its start.
    python: PathBuf,
    arguments: Vec<String>,
}

impl Setup {
    /// Runs `invocation`. What the connector replaces in its config is kept by `rotation` before anything else happens.
    ///
    /// # Errors
    /// Returns the failure of a run that could not start, and `Misconfigured` if a replaced credential could not be kept.
    /// What the connector itself reports is part of the result.
    pub async fn run(&self, invocation: Invocation<'_>, clock: &StepClock, rotation: Option<&Rotation>) -> Result<Ran, Failure> {
        let _permit = self.permit().await?;
        let started = Instant::now();
        let (command, records) = (invocation.command, invocation.records);
        let prepared = self.prepare(invocation).await?;
        let plan = self.plan(&prepared);
        let weaker = if self.policy.airbyte.allow_weaker_confinement { Weaker::Allowed } else { Weaker::Refused };
        let spawned = confinement::spawn(&self.shared.launcher, &plan, weaker).await;
        let confined = spawned.map_err(|error| self.not_started(&error))?;
        let observed = Arc::new(Observed::default());
        let gate: Arc<dyn Upstream> = Arc::new(Gate {
            session: Arc::clone(&self.session),
            hosts: Arc::clone(&self.hosts),
            name: Arc::clone(&self.name),
            observed: Arc::clone(&observed),
            secrets: redact::attempt(),
        });
        let limits = ProtocolLimits { records, ..ProtocolLimits::for_command(command) };
        let watch = Watch {
            reader: Reader::new(command, limits),
            rotation,
            clock,
            observed: Arc::clone(&observed),
            memory: self.connector.memory,
            stderr: Vec::new(),
            peak: 0,
        };
        let Prepared { folder, authority, .. } = prepared;
        let ran = watch.until_end(confined, gate, &authority).await;
        folder.remove().await;
        let ran = ran?;
        tracing::info!(
            target: "aam::airbyte",
            connector = &*self.name,
            command = command.as_str(),
            ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            memory = ran.peak,
            requests = observed.sent(),
            "connector ended"
        );
        Ok(Ran { took: started.elapsed(), ..ran })
    }

    /// Waits for the memory of one run. The wait is not counted in the timeouts of the attempt.
    async fn permit(&self) -> Result<super::pool::Permit, Failure> {
        let (bytes, total) = (self.connector.memory, self.policy.airbyte.memory);
        let permit = self.session.memory().wait_for(self.shared.pool.take(bytes, total)).await;
        permit.ok_or_else(|| {
            let text = crate::memory_budget::size_text;
            Failure::new(
                Class::Misconfigured,
                format!("{} may take {} of memory, and all connectors together {}", self.name, text(bytes), text(total)),
                format!("raise airbyte.memory in the policy, or lower airbyte.connectors.{}.memory", self.name),
            )
        })
    }

    async fn prepare(&self, invocation: Invocation<'_>) -> Result<Prepared, Failure> {
        let Invocation { command, config, catalog, .. } = invocation;
        let config = config.map(|config| zeroize::Zeroizing::new(config.to_string()));
        let (dir, first) = (self.dir.clone(), self.program.arguments.clone());
        let prepare = move || -> Result<Prepared, String> {
            let text = |error: std::io::Error| error.to_string();
            let authority = Authority::new().map_err(|error| error.to_string())?;
            let folder = RunFolder::create(&dir).map_err(text)?;
            let authorities =
                folder.write("authorities.pem", authorities::bundle(&authority.certificate_pem()).as_bytes()).map_err(text)?;
            let python = folder.create_inside("python").map_err(text)?;
            let (name, start) = authorities::PYTHON_START;
            folder.write(&format!("python/{name}"), start.as_bytes()).map_err(text)?;
            let mut arguments = first;
            arguments.push(command.as_str().to_string());
            if let Some(config) = config {
                let path = folder.write(CONFIG, config.as_bytes()).map_err(text)?;
                arguments.extend(["--config".to_string(), path.display().to_string()]);
            }
            if let Some(catalog) = catalog {
                let path = folder.write("catalog.json", catalog.as_bytes()).map_err(text)?;
                arguments.extend(["--catalog".to_string(), path.display().to_string()]);
            }
            Ok(Prepared { folder, authority: Arc::new(authority), authorities, python, arguments })
        };
        let prepared = tokio::task::spawn_blocking(prepare).await.unwrap_or_else(|error| Err(error.to_string()));
        prepared.map_err(|reason| {
            Failure::new(
                Class::Misconfigured,
                format!("could not prepare a run of {} in {}", self.name, self.dir.display()),
                "make sure that the disk has free space and that the user of aam can write the folder; airbyte.dir in the policy names another one",
            )
            .detail(reason)
        })
    }

    fn plan(&self, prepared: &Prepared) -> Plan {
        let work = prepared.folder.work();
        let program = &self.program;
        let mut plan = Plan::new(&program.program, &work);
        plan.arguments.clone_from(&prepared.arguments);
        plan.environment = environment(&work, prepared, &program.program);
        plan.readable.extend(program.readable.iter().cloned());
        plan.readable.push(prepared.folder.path().to_path_buf());
        plan.executable.extend(program.executable.iter().cloned());
        let step = self.policy.safe_mode(&self.name).step_timeout;
        plan.limits = Limits {
            memory: self.connector.memory.saturating_mul(2).saturating_add(UNUSED_MEMORY_BYTES),
            cpu_seconds: step.as_secs().saturating_mul(2).max(10),
            open_files: MAX_OPEN_FILES,
            processes: MAX_THREADS,
            file_bytes: self.connector.memory,
        };
        plan
    }

    fn not_started(&self, error: &confinement::Error) -> Failure {
        let title = format!("{} was not started", self.name);
        match error {
            confinement::Error::NotEnforceable(support) => Failure::new(
                Class::Misconfigured,
                format!("{title}: this machine cannot confine connectors"),
                format!(
                    "run aam on a kernel with Landlock, seccomp and user namespaces (Linux 6.2 or later); {DROP_IN}; or accept less: airbyte.allow_weaker_confinement: true in the policy"
                ),
            )
            .detail(support.missing().join("; ")),
            confinement::Error::Filtered => Failure::new(
                Class::Misconfigured,
                format!("{title}: its service or container forbids the system calls that confine connectors"),
                format!("{DROP_IN}; elsewhere, allow the calls that the drop-in lists"),
            )
            .detail(error.to_string()),
            confinement::Error::NotStarted(reason) => Failure::new(
                Class::Misconfigured,
                title,
                format!("see the detail; check the program that airbyte.connectors.{}.run names in the policy", self.name),
            )
            .detail(redact::scrub_and_cut(reason, 400)),
            confinement::Error::System { .. } => Failure::new(
                Class::Remote,
                title,
                "see the detail; most often this machine does not have free memory or processes. AAM tries again automatically",
            )
            .detail(error.to_string()),
            confinement::Error::Launcher(_) => {
                Failure::new(Class::Bug, title, "report it with the detail; other connections are not affected").detail(error.to_string())
            }
        }
    }
}

/// Returns the whole environment of a connector. The folder of its program is the only one in `PATH`.
fn environment(work: &Path, prepared: &Prepared, program: &Path) -> Vec<(String, String)> {
    let (work, python) = (work.display().to_string(), prepared.python.display().to_string());
    let (work, python) = (work.as_str(), python.as_str());
    let folder = program.parent().map(|folder| folder.display().to_string()).unwrap_or_default();
    let fixed = [
        ("PATH", folder.as_str()),
        ("HOME", work),
        ("TMPDIR", work),
        ("XDG_CACHE_HOME", work),
        ("LANG", "C.UTF-8"),
        ("TZ", "UTC"),
        ("PYTHONUNBUFFERED", "1"),
        ("PYTHONDONTWRITEBYTECODE", "1"),
        ("PYTHONNOUSERSITE", "1"),
        ("PYTHONPATH", python),
        ("MALLOC_ARENA_MAX", "2"),
        ("HTTP_PROXY", "{proxy}"),
        ("HTTPS_PROXY", "{proxy}"),
        ("http_proxy", "{proxy}"),
        ("https_proxy", "{proxy}"),
        ("NO_PROXY", ""),
        ("no_proxy", ""),
        // The proxy has this address in a network of its own. Java has a trust store of its own, which is not changed.
        (
            "JAVA_TOOL_OPTIONS",
            "-Dhttp.proxyHost=127.0.0.1 -Dhttp.proxyPort=3128 -Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort=3128 -Dhttp.nonProxyHosts=",
        ),
    ];
    let bundle = prepared.authorities.display().to_string();
    let bundles = authorities::VARIABLES.iter().map(|name| ((*name).to_string(), bundle.clone()));
    fixed.into_iter().map(|(name, value)| (name.to_string(), value.to_string())).chain(bundles).collect()
}
