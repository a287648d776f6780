//! Programs that try to do harm, each started by the launcher of this crate.
//!
//! A test that cannot run on this machine says so on the standard error output, with the reason, and passes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed test ends with a panic")]

mod ends;
mod files;
mod limits;
mod network;
mod system_calls;
mod weaker;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::OnceLock;
use std::time::Duration;

use confinement::{Confined, Error, Launcher, Plan, Support, Weaker};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt};

/// How a program ended and what it wrote.
#[derive(Debug)]
struct Outcome {
    status: ExitStatus,
    stdout: String,
    stderr: String,
}

fn launcher() -> Launcher {
    Launcher { program: env!("CARGO_BIN_EXE_confinement-launcher").into(), arguments: Vec::new() }
}

/// Whether this kernel can enforce everything. If not, the test that asks is named with the reason.
async fn enforceable(test: &str) -> bool {
    let support: Support = confinement::support(&launcher()).await.unwrap();
    if !support.is_full() {
        not_run(test, &support.missing().join("; "));
    }
    support.is_full()
}

/// Says loudly that a test did not run. It writes to the terminal itself, since the output of a passed test is hidden.
fn not_run(test: &str, reason: &str) {
    let _ = writeln!(std::io::stderr(), "\n*** NOT RUN: {test}: {reason}");
}

/// The interpreter behind whatever `python3` is, and the folder with its libraries.
fn python() -> &'static (PathBuf, PathBuf) {
    static PYTHON: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let ask = "import sys; print(sys.executable); print(sys.base_prefix)";
        let output = Command::new("python3").args(["-c", ask]).output().expect("the tests need python3");
        let text = String::from_utf8(output.stdout).unwrap();
        let mut lines = text.lines().map(PathBuf::from);
        (lines.next().unwrap().canonicalize().unwrap(), lines.next().unwrap())
    })
}

/// A plan that runs a Python script in a new private directory.
fn python_plan(script: &str) -> (Plan, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let (program, libraries) = python();
    let mut plan = Plan::new(program, directory.path());
    // The interpreter of the system has its libraries among those of the system.
    if libraries != Path::new("/usr") {
        plan.executable.push(libraries.clone());
    }
    plan.arguments = ["-I", "-c", script].map(String::from).to_vec();
    (plan, directory)
}

/// A plan that runs a shell script in a new private directory.
fn shell_plan(script: &str) -> (Plan, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let mut plan = Plan::new("/bin/sh", directory.path());
    plan.executable.extend(["/bin", "/usr/bin"].map(PathBuf::from));
    plan.arguments = ["-c", script].map(String::from).to_vec();
    (plan, directory)
}

async fn spawn(plan: &Plan) -> Result<Confined, Error> {
    confinement::spawn(&launcher(), plan, Weaker::Refused).await
}

async fn run(plan: &Plan) -> Outcome {
    finish(spawn(plan).await.unwrap()).await
}

/// Runs a Python script that is expected to succeed and returns the lines that it prints.
async fn python_lines(script: &str) -> Vec<String> {
    let (plan, _directory) = python_plan(script);
    lines(&run(&plan).await)
}

fn lines(outcome: &Outcome) -> Vec<String> {
    assert!(outcome.status.success(), "{outcome:?}");
    outcome.stdout.lines().map(String::from).collect()
}

/// Reads both outputs to their end and waits for the program.
async fn finish(confined: Confined) -> Outcome {
    let Confined { stdout, stderr, mut process, listener, .. } = confined;
    let all = async { tokio::join!(text(stdout), text(stderr), process.wait()) };
    let (stdout, stderr, status) = tokio::time::timeout(Duration::from_secs(60), all).await.expect("the program does not end");
    drop(listener);
    Outcome { status: status.unwrap(), stdout, stderr }
}

async fn text(mut output: impl AsyncRead + Unpin) -> String {
    let mut bytes = Vec::new();
    output.read_to_end(&mut bytes).await.unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Waits for a condition that another process makes true.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let started = std::time::Instant::now();
    while !condition() {
        assert!(started.elapsed() < Duration::from_secs(30), "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Python that runs each named attempt and prints its name with `allowed` or with the name of the error.
const ATTEMPTS: &str = "
import errno
def attempt(name, work):
    try:
        work()
        print(name, 'allowed', flush=True)
    except OSError as error:
        print(name, errno.errorcode.get(error.errno, error), flush=True)
";
