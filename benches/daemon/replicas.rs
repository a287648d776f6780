//! Connections to the sandbox from an empty registry to ACTIVE: on SQLite, and on PostgreSQL with one, two and four replicas. Beside
//! each run on PostgreSQL, pgbench commits as many rows for each transaction as AAM did, with a session for each replica.

use crate::Measured;
use crate::daemon::{self, Daemon};
use crate::fixture::Fixture;
use crate::server::{Rows, Server};
use crate::stats::seconds;
use crate::table::Table;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The numbers of replicas that are measured.
pub const REPLICAS: [usize; 3] = [1, 2, 4];
/// The pause between two looks at the funnel: short compared to the figure.
const POLL: Duration = Duration::from_millis(250);
/// How long the number of connections that are ACTIVE may stay the same.
const TIMEOUT: Duration = Duration::from_secs(60);
/// AAM is to commit at least this share of the rows that pgbench commits in the same time.
const MIN_SHARE: f64 = 0.6;
/// The static credential of `sandbox/okta.yaml` that may read users, groups and apps.
const CREDENTIAL: &str = r#"{"token": "okta-sandbox-reader"}"#;

/// Measures `count` connections. Each has an account of its own, so that no cap makes it wait.
pub fn measure(count: usize, table: &mut Table) -> Measured<()> {
    let sandbox = Sandbox::start()?;
    let fixture = Fixture::of_okta(count, &sandbox.proxy, &sandbox.authority())?;
    let figure = format!("{count} connections of the sandbox");
    let sqlite = run(&fixture, 1, |_, log| daemon::aam(&fixture, &fixture.registry("sqlite"), log))?;
    table.add(format!("{figure}, SQLite"), seconds(sqlite.took), "", "", "-", true);
    table.add(format!("{figure}, SQLite: peak memory"), format!("{:.1} MB", sqlite.peak), "", "", "-", true);
    for replicas in REPLICAS {
        let server = Server::start()?;
        let url = server.registry(&fixture)?;
        let before = server.rows()?;
        let ours = run(&fixture, replicas, |number, log| {
            let mut command = daemon::aam(&fixture, Path::new(&url), log)?;
            // Each has its own lock and its own token of the operator.
            let folder = fixture.home().join(format!("of-{replicas}-{number}"));
            std::fs::create_dir(&folder)?;
            command.env(Server::SECRET, Server::PASSWORD).current_dir(folder);
            Ok(command)
        })?;
        let rows = server.rows()?.since(before);
        let share = add(table, &figure, replicas, &ours, &rows, &server)?;
        eprintln!("bench: {rows:?} in {} transactions of AAM, a share of {share:.2}", ours.commits);
    }
    Ok(())
}

/// Adds the rows of one run on PostgreSQL. Returns AAM's share of what pgbench commits.
fn add(table: &mut Table, figure: &str, replicas: usize, ours: &Run, rows: &Rows, server: &Server) -> Measured<f64> {
    #[expect(clippy::cast_precision_loss, reason = "numbers of rows")]
    let (written, commits) = (rows.written as f64, ours.commits.max(1) as f64);
    let each = (written / commits).round().max(1.0);
    let limit = server.limit(replicas, each, rows.bytes)?;
    let rate = written / ours.took.as_secs_f64();
    let share = rate / limit;
    let figure = format!("{figure}, PostgreSQL, replicas: {replicas}");
    table.add(
        &figure,
        format!("{} ({rate:.0} rows/s)", seconds(ours.took)),
        format!("{limit:.0} rows/s (pgbench, {each:.0} rows for each transaction)"),
        format!("{share:.2}"),
        ">= 0.60",
        share >= MIN_SHARE,
    );
    table.add(format!("{figure}: peak memory of the largest"), format!("{:.1} MB", ours.peak), "", "", "-", true);
    Ok(share)
}

/// A run from the spawn of the first process until all connections are ACTIVE.
struct Run {
    took: Duration,
    /// The peak memory of the largest process, in MB (10^6 bytes).
    peak: f64,
    /// The transactions that the processes logged.
    commits: usize,
}

fn run(fixture: &Fixture, replicas: usize, command: impl Fn(usize, &Path) -> Measured<Command>) -> Measured<Run> {
    let log = |number: usize| fixture.home().join(format!("replica-{replicas}-{number}.log"));
    let started = Instant::now();
    let daemons: Vec<Daemon> =
        (0..replicas).map(|number| Daemon::spawn(command(number, &log(number))?, log(number))).collect::<Measured<_>>()?;
    let first = daemons.first().ok_or("no daemon was started")?;
    let (mut before, mut changed) = (0, started);
    loop {
        let active = first.funnel("active")?;
        if active == fixture.count as u64 {
            break;
        }
        if active != before {
            (before, changed) = (active, Instant::now());
        }
        if changed.elapsed() > TIMEOUT {
            return Err(format!("{active} of {} connections were ACTIVE, and no other one in {TIMEOUT:?}", fixture.count).into());
        }
        std::thread::sleep(POLL);
    }
    let took = started.elapsed();
    let mut run = Run { took, peak: 0.0, commits: 0 };
    for daemon in daemons {
        run.peak = run.peak.max(daemon.peak()?);
        run.commits += daemon.logged("committed")?.len();
        daemon.stop()?;
    }
    Ok(run)
}

/// The sandbox as a process. It ends when this is dropped, because its standard input closes then.
struct Sandbox {
    child: Child,
    state: tempfile::TempDir,
    /// The address of its proxy.
    proxy: String,
}

impl Sandbox {
    fn start() -> Measured<Sandbox> {
        let binary = Path::new(env!("CARGO_BIN_EXE_aam")).with_file_name("aam-sandbox");
        if !binary.exists() {
            return Err(format!("{} does not exist; make bench builds it", binary.display()).into());
        }
        let state = tempfile::tempdir()?;
        let vendors = Path::new(env!("CARGO_MANIFEST_DIR")).join("sandbox");
        let mut child = Command::new(binary)
            .args(["--proxy", "127.0.0.1:0", "--until-stdin-closes", "--only", "okta", "--vendors"])
            .arg(vendors)
            .arg("--state")
            .arg(state.path())
            .stdin(Stdio::piped())
            .spawn()?;
        let addresses = state.path().join("addresses.json");
        while !addresses.exists() {
            if let Some(status) = child.try_wait()? {
                return Err(format!("the sandbox ended ({status})").into());
            }
            std::thread::sleep(POLL);
        }
        let addresses: serde_json::Value = serde_json::from_slice(&std::fs::read(addresses)?)?;
        let proxy = addresses["proxy"].as_str().ok_or("the sandbox did not say the address of its proxy")?.to_string();
        Ok(Sandbox { child, state, proxy })
    }

    /// The certificate of the authority that signed the vendors' certificates.
    fn authority(&self) -> PathBuf {
        self.state.path().join("ca.pem")
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// The variable with the credential of the connections, and its value.
pub fn credential() -> (&'static str, &'static str) {
    ("BENCH_OKTA", CREDENTIAL)
}
