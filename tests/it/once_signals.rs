//! `aam once` that is asked to stop, and the run after one that was killed.

use crate::support::daemon::{Workspace, intent, stderr, stdout, until};
use crate::support::described_service::{DescribedService, ServiceMode};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::process::{Child, Stdio};

/// A workspace with one attempt at a time, in which nothing is tried again.
fn workspace() -> Workspace {
    let workspace = Workspace::new();
    workspace.write_policy("reconcile: {concurrency: 1, resync: 1h}\nbackoff: {initial: 1h, max: 2h, jitter: 0.0}\n");
    workspace
}

/// Starts `aam once`, whose stderr goes to a file.
fn start(workspace: &Workspace) -> Child {
    let errors = std::fs::File::create(workspace.path("errors")).expect("a file");
    let mut command = workspace.command(&["once"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors).spawn().expect("it runs")
}

fn errors(workspace: &Workspace) -> String {
    std::fs::read_to_string(workspace.path("errors")).unwrap_or_default()
}

fn send(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).expect("a process id")), signal).expect("the signal is sent");
}

async fn until_called(services: &[&DescribedService]) {
    until("a source is called", || async { (services.iter().any(|service| service.hits() > 0), String::new()) }).await;
}

async fn until_printed(workspace: &Workspace, wanted: &str) {
    until(&format!("{wanted:?} is printed"), || async {
        let text = errors(workspace);
        (text.contains(wanted), text)
    })
    .await;
}

fn states(workspace: &Workspace) -> Vec<String> {
    let listed: Value = serde_json::from_str(&stdout(&workspace.run(&["status", "--format", "json"]))).expect("JSON");
    listed.as_array().into_iter().flatten().filter_map(|one| Some(one["status"].as_str()?.to_string())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_lets_the_running_attempt_end_and_names_what_was_not_done() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let workspace = workspace();
        let services = [DescribedService::start(ServiceMode::Silent).await, DescribedService::start(ServiceMode::Silent).await];
        for (name, service) in ["a.json", "b.json"].into_iter().zip(&services) {
            workspace.intent_file(name, &intent("openapi", &service.url));
        }
        let child = start(&workspace);
        until_called(&services.each_ref()).await;
        send(&child, signal);
        until_printed(&workspace, "stopping: waiting up to 10 s for 1 check in flight").await;
        services.iter().for_each(|service| service.set_mode(ServiceMode::Healthy));
        let output = tokio::task::spawn_blocking(move || child.wait_with_output().expect("an end")).await.expect("an output");
        let text = errors(&workspace);
        assert_eq!(output.status.code(), Some(2), "{signal}: {text}");
        assert!(text.contains("stopped by a signal; not checked: 1 connection\n  openapi http://"), "{signal}: {text}");
        assert!(stdout(&output).starts_with("Eligible: 1 |"), "{}", stdout(&output));
        let mut found = states(&workspace);
        found.sort();
        assert_eq!(found, ["ACTIVE", "PENDING"], "the attempt in flight was recorded, and the other one did not begin");
        let calls = workspace.run(&["calls"]);
        assert!(stdout(&calls).contains("/openapi.json"), "{}{}", stdout(&calls), stderr(&calls));
        let next = workspace.run(&["once"]);
        assert_eq!(next.status.code(), Some(0), "{}", stderr(&next));
        workspace.rows();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_it_at_once() {
    let workspace = workspace();
    let service = DescribedService::start(ServiceMode::Silent).await;
    workspace.intent_file("a.json", &intent("openapi", &service.url));
    let child = start(&workspace);
    until_called(&[&service]).await;
    send(&child, Signal::SIGTERM);
    until_printed(&workspace, "a second signal stops at once").await;
    send(&child, Signal::SIGTERM);
    let output = tokio::task::spawn_blocking(move || child.wait_with_output().expect("an end")).await.expect("an output");
    assert_eq!(output.status.code(), Some(143), "{}", errors(&workspace));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_run_after_a_kill_settles_what_was_interrupted() {
    let workspace = workspace();
    let service = DescribedService::start(ServiceMode::Silent).await;
    workspace.intent_file("a.json", &intent("openapi", &service.url));
    let mut child = start(&workspace);
    until_called(&[&service]).await;
    child.kill().expect("killed");
    child.wait().expect("an end");
    service.set_mode(ServiceMode::Healthy);
    let next = workspace.run(&["once"]);
    assert_eq!((next.status.code(), states(&workspace)), (Some(0), vec!["ACTIVE".to_string()]), "{}", stderr(&next));
    workspace.rows();
}
