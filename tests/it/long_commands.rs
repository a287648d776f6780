//! What a person sees while a command takes long: a bar on a terminal, lines elsewhere, and no line for each connection.

use crate::support::daemon::{Workspace, intent, stderr, stdout};
use crate::support::network::silent_address;
use serde_json::{Value, json};
use std::io::Read;
use std::process::{Command, Stdio};

/// A workspace in which nothing is tried again, with a line about the progress every `interval` milliseconds.
fn workspace(interval: u32) -> Workspace {
    let mut workspace = Workspace::new();
    workspace.write_policy("safe_mode: {step_timeout: 1s, attempt_timeout: 3s}\nbackoff: {initial: 1h, max: 2h, jitter: 0.0}\n");
    workspace.set("AAM_TEST_PROGRESS_MS", &interval.to_string());
    workspace
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_intents_are_a_summary_and_not_thousands_of_lines() {
    let workspace = workspace(1);
    let intents = |kind: &str, count: usize, name: &str| -> Vec<Value> {
        (0..count).map(|n| intent(kind, &workspace.path(&format!("data/{name}{n}.csv")).display().to_string())).collect()
    };
    let mut all = intents("filesource", 1000, "gone");
    all.extend(intents("not_a_family", 500, "unknown"));
    let mut waiting = intents("filesource", 500, "waiting");
    for document in &mut waiting {
        document["credential_locator"] = json!("env:NOT_SET");
    }
    all.extend(waiting);
    workspace.replace("intents/all.json", json!(all).to_string().as_bytes());
    for n in 0..50 {
        workspace.replace(&format!("intents/broken{n}.json"), b"{");
    }
    let once = workspace.run(&["once", "-q"]);
    assert_eq!(once.status.code(), Some(2), "{}", stderr(&once));
    let (summary, notes) = (stdout(&once), stderr(&once));
    assert!(summary.contains("Unsupported Type: 500") && summary.contains("Error: 1000"), "{summary}");
    assert!(summary.lines().count() + notes.lines().count() <= 40, "{summary}{notes}");
    assert!(notes.contains("problem: and ") && notes.contains("more; aam check lists them all"), "{notes}");
    let verify = workspace.run(&["verify"]);
    assert!(verify.status.success() && stdout(&verify).contains("the ledger is intact"), "{}", stderr(&verify));
    let lines = stderr(&verify);
    assert!(!lines.is_empty() && lines.lines().all(|line| line.starts_with("verifying, ")), "{lines}");
    assert!(stderr(&workspace.run(&["verify", "-q"])).is_empty());
    let daemon = workspace.serve().await;
    let mut heal = workspace.command(&["heal", "--port", &daemon.port.to_string()]);
    heal.env("AAM_TEST_PROGRESS_MS", "200");
    let heal = tokio::task::spawn_blocking(move || heal.output().expect("it runs")).await.expect("an end");
    assert!(
        heal.status.code() == Some(2) && stdout(&heal).ends_with("and 1000 more; aam status shows them\n"),
        "{}",
        stderr(&heal)
    );
    assert!(stderr(&heal).lines().any(|line| line.starts_with("healing, ") && line.contains(" of 2000 connections; ")));
}

#[test]
fn a_log_file_keeps_each_attempt_that_failed() {
    let workspace = workspace(600_000);
    for n in 0..3 {
        let path = workspace.path(&format!("data/gone{n}.csv")).display().to_string();
        workspace.intent_file(&format!("{n}.json"), &intent("filesource", &path));
    }
    let log = workspace.path("once.log").display().to_string();
    let once = workspace.run(&["once", "--log-file", &log]);
    assert!(stderr(&once).is_empty(), "{}", stderr(&once));
    assert_eq!(std::fs::read_to_string(&log).expect("a log").lines().filter(|line| line.contains("failed")).count(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_name_the_counts_and_the_slowest_sources() {
    let workspace = workspace(100);
    let (address, _) = silent_address().await;
    let resource = format!("http://{address}/openapi.json");
    workspace.intent_file("slow.json", &intent("openapi", &resource));
    workspace.intent_file("good.json", &intent("filesource", &workspace.csv("good.csv", 3)));
    let run = async |arguments: Vec<String>| {
        let mut command = workspace.command(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        tokio::task::spawn_blocking(move || command.stdin(Stdio::null()).output().expect("it runs")).await.expect("an end")
    };
    let quiet = run(vec!["test".to_string(), workspace.path("intents").display().to_string(), "-q".to_string()]).await;
    assert!(stderr(&quiet).is_empty() && stdout(&quiet).contains("2 intents: "), "{}{}", stdout(&quiet), stderr(&quiet));
    let tested = run(vec!["test".to_string(), workspace.path("intents").display().to_string()]).await;
    assert!(stderr(&tested).contains(" of 2 intents; the latest: openapi http://"), "{}", stderr(&tested));
    let once = run(vec!["once".to_string()]).await;
    let wanted = format!("1 of 2 connections; 1 PENDING, 1 ACTIVE; 1 running, the slowest: openapi {resource} ");
    assert!(stderr(&once).lines().any(|line| line.starts_with("checking, ") && line.contains(&wanted)), "{}", stderr(&once));
    assert!(stdout(&once).starts_with("Eligible: 2"), "{}", stdout(&once));
    let daemon = workspace.serve().await;
    let heal = run(vec!["heal".to_string(), "--port".to_string(), daemon.port.to_string()]).await;
    let wanted = format!("0 of 1 connections; 1 NETWORK_BLOCKED; 1 running, the slowest: openapi {resource} ");
    assert!(stderr(&heal).lines().any(|line| line.starts_with("healing, ") && line.contains(&wanted)), "{}", stderr(&heal));
    assert_eq!(heal.status.code(), Some(2), "{}", stdout(&heal));
}

/// What a terminal of 100 columns gets on stderr while the command runs.
fn on_terminal(mut command: Command) -> String {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use rustix::termios::{Winsize, tcsetwinsize};
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&terminal).and_then(|()| unlockpt(&terminal)).expect("granted");
    let size = Winsize { ws_row: 40, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&terminal, size).expect("its size");
    let path = ptsname(&terminal, Vec::new()).expect("a path").into_string().expect("a path");
    let side = std::fs::File::options().read(true).write(true).open(path).expect("the other side");
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(side).spawn().expect("it runs");
    // The copy of the other side that `command` holds would keep the terminal open.
    drop(command);
    let (mut terminal, mut shown, mut bytes) = (std::fs::File::from(terminal), Vec::new(), [0; 4096]);
    // Linux answers EIO once the other side is closed.
    while let Ok(length @ 1..) = terminal.read(&mut bytes) {
        shown.extend_from_slice(&bytes[..length]);
    }
    child.wait().expect("an end");
    String::from_utf8_lossy(&shown).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_shows_a_bar_that_lines_of_the_log_do_not_break() {
    let mut workspace = workspace(600_000);
    let (address, _) = silent_address().await;
    workspace.intent_file("slow.json", &intent("openapi", &format!("http://{address}/openapi.json")));
    workspace.set("TERM", "xterm");
    let command = workspace.command(&["once", "-v"]);
    let shown = tokio::task::spawn_blocking(move || on_terminal(command)).await.expect("an end");
    assert!(shown.contains("checking [") && shown.contains("0 of 1 connections"), "{shown:?}");
    assert!(shown.contains("1 running, the slowest: openapi http://"), "{shown:?}");
    let drawn = shown.split("\x1b[2K").find(|part| part.contains("aam::attempt")).unwrap_or_default();
    let failed = drawn.lines().find(|line| line.contains("aam::attempt")).unwrap_or_default();
    assert!(failed.contains("network") && !failed.contains("checking ["), "{failed:?}");
    // The bar is gone at the end.
    let end = shown.rsplit("checking [").next().unwrap_or_default();
    assert!(end.contains("\x1b[2K") || end.contains("\x1b[J"), "{end:?}");
    let mut dumb = workspace.command(&["once"]);
    dumb.env("TERM", "dumb");
    let shown = tokio::task::spawn_blocking(move || on_terminal(dumb)).await.expect("an end");
    assert!(!shown.contains('\x1b'), "{shown:?}");
}

#[test]
fn the_smoke_test_says_what_it_waits_for() {
    let script = "import smoke_90, threading
smoke_90.LINE_INTERVAL = 0.01
with smoke_90.Progress(2) as progress:
    with progress.step('connecting jdbc', 'jdbc'):
        pass
    with progress.step('connecting okta', 'okta'):
        threading.Event().wait(0.2)
    progress.say('201 ACTIVE')
";
    let scripts = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts");
    let mut python = Command::new("python3");
    let output =
        python.args(["-B", "-c", script]).env("PYTHONPATH", scripts).stdin(Stdio::null()).output().expect("python3 runs");
    assert!(output.status.success() && stdout(&output) == "201 ACTIVE\n", "{}", stderr(&output));
    let lines = stderr(&output);
    assert!(lines.contains("smoke-90 1 of 2 sources, 0 s: connecting okta; the slowest: jdbc 0.0 s\n"), "{lines}");
}
