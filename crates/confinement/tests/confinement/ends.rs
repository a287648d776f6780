//! How a program and everything that it started end.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use confinement::{Error, Launcher, Weaker};
use rustix::process::{Pid, test_kill_process_group};
use tokio::io::{AsyncBufReadExt, BufReader as AsyncBufReader};

use crate::{enforceable, python_plan, run, shell_plan, spawn, until};

/// Forks a tree of seven processes that ignore `SIGTERM`, and says when all of them run.
const TREE: &str = "
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for _ in range(2):
    os.fork()
if os.fork() == 0:
    try:
        os.setsid()
        print('escaped')
    except PermissionError:
        pass
print('ready', flush=True)
time.sleep(600)
";

fn group(id: i32) -> Pid {
    Pid::from_raw(id).unwrap()
}

#[tokio::test]
async fn a_tree_that_ignores_the_request_to_end_is_killed_after_the_grace() {
    if !enforceable("tree").await {
        return;
    }
    let (plan, _directory) = python_plan(TREE);
    let mut confined = spawn(&plan).await.unwrap();
    let mut output = AsyncBufReader::new(&mut confined.stdout).lines();
    for _ in 0..8 {
        assert_eq!(output.next_line().await.unwrap().as_deref(), Some("ready"));
    }
    assert_eq!(confined.process.usage().unwrap().processes, 8);
    let id = group(confined.process.id());
    let started = std::time::Instant::now();
    let status = confined.process.end(Duration::from_millis(300)).await.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(300));
    assert_eq!(status.signal(), Some(libc::SIGKILL));
    // Every process of the group had the output open, so its end means that all have ended.
    assert_eq!(output.next_line().await.unwrap(), None);
    until("the group is gone", || test_kill_process_group(id).is_err()).await;
}

#[tokio::test]
async fn a_program_that_is_asked_to_end_may_do_so_itself() {
    if !enforceable("grace").await {
        return;
    }
    let (plan, _directory) = shell_plan("trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done");
    let mut plan = plan;
    plan.environment.push(("PATH".to_string(), "/usr/bin:/bin".to_string()));
    let mut confined = spawn(&plan).await.unwrap();
    let mut output = AsyncBufReader::new(&mut confined.stdout).lines();
    assert_eq!(output.next_line().await.unwrap().as_deref(), Some("ready"));
    let status = confined.process.end(Duration::from_secs(30)).await.unwrap();
    assert_eq!(status.code(), Some(7));
    // A second wait gives the same answer.
    assert_eq!(confined.process.wait().await.unwrap().code(), Some(7));
}

#[tokio::test]
async fn what_a_program_leaves_behind_ends_with_it() {
    if !enforceable("orphans").await {
        return;
    }
    let script = "import os, time\nif os.fork() == 0: time.sleep(600)\nelse: os._exit(3)";
    let (plan, _directory) = python_plan(script);
    // The outputs end only when the last process of the group has ended.
    assert_eq!(run(&plan).await.status.code(), Some(3));
}

#[tokio::test]
async fn dropping_a_process_kills_its_group() {
    if !enforceable("drop").await {
        return;
    }
    let (plan, _directory) = python_plan(TREE);
    let mut confined = spawn(&plan).await.unwrap();
    let mut output = AsyncBufReader::new(&mut confined.stdout).lines();
    assert_eq!(output.next_line().await.unwrap().as_deref(), Some("ready"));
    let id = group(confined.process.id());
    drop(confined);
    until("the group is gone", || test_kill_process_group(id).is_err()).await;
}

#[tokio::test]
async fn the_end_of_a_program_is_reported_as_it_was() {
    if !enforceable("exit codes and signals").await {
        return;
    }
    for (script, code, signal) in [
        ("raise SystemExit(200)", Some(200), None),
        ("import os; os.abort()", None, Some(libc::SIGABRT)),
        ("import os; os.kill(os.getpid(), 9)", None, Some(libc::SIGKILL)),
        ("import ctypes; ctypes.string_at(1)", None, Some(libc::SIGSEGV)),
    ] {
        let (plan, _directory) = python_plan(script);
        let status = run(&plan).await.status;
        assert_eq!((status.code(), status.signal()), (code, signal), "{script}");
    }
}

/// The test starts itself again as a caller that is killed: with the variable it plays that caller.
#[tokio::test]
async fn a_program_and_what_it_started_end_when_the_caller_is_killed() {
    const VARIABLE: &str = "CONFINEMENT_TEST_IS_CALLER";
    let (plan, _directory) = python_plan(TREE);
    if std::env::var_os(VARIABLE).is_some() {
        let mut confined = spawn(&plan).await.unwrap();
        let mut output = AsyncBufReader::new(&mut confined.stdout).lines();
        for _ in 0..8 {
            assert_eq!(output.next_line().await.unwrap().as_deref(), Some("ready"));
        }
        println!("\nprogram={}", confined.process.id());
        return std::future::pending().await;
    }
    if !enforceable("death of the caller").await {
        return;
    }
    let mut caller = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "ends::a_program_and_what_it_started_end_when_the_caller_is_killed", "--nocapture"])
        .env(VARIABLE, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(caller.stdout.take().unwrap()).lines();
    let id = lines.map_while(Result::ok).find_map(|line| line.strip_prefix("program=")?.parse().ok());
    let id = group(id.expect("the caller starts a program"));
    test_kill_process_group(id).expect("the program runs");
    caller.kill().unwrap();
    caller.wait().unwrap();
    until("every process of the group has ended", || test_kill_process_group(id).is_err()).await;
}

#[tokio::test]
async fn a_launcher_that_is_something_else_is_an_error() {
    let (plan, _directory) = shell_plan("exit 0");
    let launcher = Launcher { program: "/bin/true".into(), arguments: Vec::new() };
    let error = confinement::spawn(&launcher, &plan, Weaker::Refused).await.unwrap_err();
    assert!(matches!(error, Error::Launcher(_)), "{error}");
    let launcher = Launcher { program: "/does/not/exist".into(), arguments: Vec::new() };
    let error = confinement::spawn(&launcher, &plan, Weaker::Refused).await.unwrap_err();
    assert!(matches!(error, Error::System { .. }), "{error}");
    // A service manager's filter of system calls ends a process like this.
    let arguments = ["-c", "ulimit -c 0; kill -SYS $$"].map(String::from).to_vec();
    let launcher = Launcher { program: "/bin/sh".into(), arguments };
    let error = confinement::spawn(&launcher, &plan, Weaker::Allowed).await.unwrap_err();
    assert!(matches!(error, Error::Filtered), "{error}");
}

#[test]
fn the_launcher_started_by_hand_says_what_it_is() {
    let output = Command::new(crate::launcher().program).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(message.contains("not by hand") && message.contains("not a socket"), "{message}");
}
