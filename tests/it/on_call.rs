//! What a person on call sees: the trouble of the daemon beside the output of other commands, a registry that was moved away, and an
//! intents folder that is empty.

use crate::support::daemon::{Daemon, Workspace, intent, stderr, stdout, until};
use serde_json::json;
use std::process::Output;
use std::time::{Duration, Instant};

/// The commands that read the registry, of which none fails because of the daemon.
const READING: [&str; 4] = ["status", "report", "plan", "check"];

/// Runs a command to its end, which must come within a minute.
async fn run(workspace: &Workspace, arguments: &[&str]) -> Output {
    let mut command = workspace.command(arguments);
    command.stdin(std::process::Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output().expect("the binary runs"));
    tokio::time::timeout(Duration::from_secs(60), output).await.expect("an end within a minute").expect("an output")
}

async fn until_not_ready(daemon: &Daemon, reason: &str) {
    until("/readyz is 503", || async {
        let answer = daemon.get("/readyz").await;
        let text = answer.body.to_string();
        (answer.status == 503 && text.contains(reason), text)
    })
    .await;
}

fn signal(daemon: &Daemon, signal: nix::sys::signal::Signal) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(daemon.pid()).expect("a process id"));
    nix::sys::signal::kill(pid, signal).expect("the signal is sent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_ends_heal_at_once_and_is_named_beside_the_output_of_other_commands() {
    let mut workspace = Workspace::new();
    workspace.set("AAM_TEST_MAX_PAGES", &workspace.path("pages").display().to_string());
    let gone = workspace.path("data/gone.csv").display().to_string();
    workspace.intent_file("gone.json", &intent("filesource", &gone));
    let daemon = workspace.serve().await;
    daemon.until_state(&gone, "ERROR").await;
    for command in READING {
        let quiet = run(&workspace, &[command]).await;
        assert!(!stderr(&quiet).contains("the daemon"), "{command}: {}", stderr(&quiet));
    }
    workspace.replace("pages", b"1");
    let mut big = intent("filesource", &workspace.csv("big.csv", 3));
    big["note"] = json!("filler ".repeat(20_000));
    assert_eq!(daemon.push(&big).await.status, 503);
    until_not_ready(&daemon, "the disk is full").await;
    let heal = run(&workspace, &["heal"]).await;
    let text = stderr(&heal);
    assert!(heal.status.code() == Some(1) && text.contains("so it checks nothing: the disk is full"), "{text}");
    assert!(text.contains("free some space"), "{text}");
    for command in READING {
        let noted = run(&workspace, &[command]).await;
        let text = stderr(&noted);
        let lines: Vec<&str> = text.lines().filter(|line| line.contains("the daemon is not ready")).collect();
        assert!(
            lines.len() == 1 && lines[0].contains("the disk is full") && lines[0].contains("free some space"),
            "{command}: {text}"
        );
        let expected = if command == "plan" { noted.status.code() } else { Some(0) };
        assert!(
            noted.status.code() == expected && noted.status.code() != Some(1),
            "{command} fails because of the daemon: {text}"
        );
        assert!(!stdout(&noted).is_empty(), "{command}");
    }
    workspace.replace("pages", b"1000000");
    until("the daemon is ready again", || async {
        let status = daemon.get("/readyz").await.status;
        (status == 200, status.to_string())
    })
    .await;
    assert!(!stderr(&run(&workspace, &["status"]).await).contains("the daemon"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_does_not_answer_is_named_and_delays_no_command_for_long() {
    let workspace = Workspace::new();
    let path = workspace.csv("a.csv", 3);
    workspace.intent_file("a.json", &intent("filesource", &path));
    let daemon = workspace.serve().await;
    daemon.until_state(&path, "ACTIVE").await;
    signal(&daemon, nix::sys::signal::Signal::SIGSTOP);
    let began = Instant::now();
    let status = run(&workspace, &["status"]).await;
    let took = began.elapsed();
    signal(&daemon, nix::sys::signal::Signal::SIGCONT);
    let text = stderr(&status);
    assert!(status.status.success() && stdout(&status).contains("ACTIVE"), "{text}");
    let wanted =
        format!("the daemon (pid {}) did not answer on 127.0.0.1:{} within 2 s; look at its log", daemon.pid(), daemon.port);
    assert!(text.contains(&wanted), "{text}");
    // Much more than the 2 s, because other tests run at the same time, and much less than any other timeout.
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!(daemon.stop().await, Some(0));
    let after = run(&workspace, &["status"]).await;
    assert!(after.status.success() && !stderr(&after).contains("the daemon"), "{}", stderr(&after));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_is_moved_away_makes_the_daemon_not_ready_although_nothing_is_written() {
    let mut workspace = Workspace::new();
    workspace.write_policy("reconcile: {concurrency: 16, resync: 1h}\n");
    workspace.set("AAM_LOG", "info");
    let path = workspace.csv("a.csv", 3);
    workspace.intent_file("a.json", &intent("filesource", &path));
    let daemon = workspace.serve().await;
    daemon.until_state(&path, "ACTIVE").await;
    let port = daemon.port.to_string();
    let health = ["health", "--port", &port];
    assert_eq!(run(&workspace, &health).await.status.code(), Some(0));
    std::fs::rename(workspace.path("var/aam.db"), workspace.path("var/moved.db")).expect("moved");
    let moved = run(&workspace, &health).await;
    let text = stderr(&moved);
    assert!(moved.status.code() == Some(1) && text.contains("aam.db was deleted or replaced"), "{text}");
    assert!(text.contains("put the file or a backup back"), "{text}");
    // Another file at its place is not the registry either.
    std::fs::write(workspace.path("var/aam.db"), "another file").expect("written");
    assert_eq!(run(&workspace, &health).await.status.code(), Some(1));
    std::fs::rename(workspace.path("var/moved.db"), workspace.path("var/aam.db")).expect("moved back");
    until("the daemon is ready again", || async {
        let status = daemon.get("/readyz").await.status;
        (status == 200, status.to_string())
    })
    .await;
    assert_eq!(daemon.stop().await, Some(0));
    workspace.rows();
}

#[test]
fn check_and_plan_name_a_lost_mount_and_an_emptied_folder_alike() {
    let workspace = Workspace::new();
    std::fs::create_dir(workspace.path("intents/team")).expect("a folder");
    workspace.intent_file("team/a.json", &intent("filesource", &workspace.csv("a.csv", 3)));
    workspace.intent_file("b.json", &intent("filesource", &workspace.csv("b.csv", 3)));
    assert_eq!(workspace.run(&["once"]).status.code(), Some(0));
    assert_eq!(workspace.run(&["check"]).status.code(), Some(0));
    // The empty folder below a mount point is another folder.
    std::fs::rename(workspace.path("intents/team"), workspace.path("intents/.mounted")).expect("a rename");
    std::fs::create_dir(workspace.path("intents/team")).expect("a folder");
    let lost = "intents/team: is empty and is not the same folder as before, which had 1 file";
    let check = workspace.run(&["check"]);
    assert!(check.status.code() == Some(78) && stdout(&check).contains(lost), "{}", stdout(&check));
    let plan = workspace.run(&["plan"]);
    assert!(stdout(&plan).contains(lost), "{}", stdout(&plan));
    // The folder itself is emptied while no daemon runs.
    std::fs::remove_file(workspace.path("intents/b.json")).expect("removed");
    std::fs::remove_dir(workspace.path("intents/team")).expect("removed");
    std::fs::remove_dir_all(workspace.path("intents/.mounted")).expect("removed");
    let emptied = "is empty and had 2 files when it was last read: it was emptied, or its mount is missing; nothing is withdrawn";
    for command in ["check", "plan"] {
        let output = workspace.run(&[command]);
        let text = stdout(&output);
        assert!(text.contains(emptied) && !text.contains("not the same folder"), "{command}: {text}");
    }
}
