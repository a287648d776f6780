//! What the record of calls promises, and what the log has beyond it: calls of killed attempts, ports, bytes and the options of
//! `aam calls`.

use crate::calls::{calls, with_warehouse};
use crate::support::daemon::{Workspace, intent, stderr, stdout, until};
use crate::support::described_service::{DescribedService, ServiceMode};
use serde_json::{Value, json};

fn host_of(service: &DescribedService) -> String {
    service.url.trim_start_matches("http://").split('/').next().expect("a host").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_of_a_killed_attempt_is_in_the_log_and_the_list_says_that_it_is_not_recorded() {
    let workspace = Workspace::new();
    let service = DescribedService::start(ServiceMode::Silent).await;
    let daemon = workspace.start();
    workspace.intent_file("service.json", &intent("openapi", &service.url));
    until("the service receives a call", || async { (service.hits() > 0, daemon.log()) }).await;
    let log = daemon.log();
    let begun = log.lines().find(|line| line.contains("call begins")).expect("a line before the call is sent");
    assert!(begun.contains(&host_of(&service)) && begun.contains("/openapi.json"), "{begun}");
    daemon.kill();
    let daemon = workspace.serve().await;
    let table = stdout(&workspace.run(&["calls"]));
    assert!(table.contains("was interrupted: its calls are not recorded; look for them in the log of that time"), "{table}");
    let listed = workspace.run(&["calls", "--json"]);
    assert!(serde_json::from_str::<Vec<Value>>(&stdout(&listed)).is_ok(), "the list stays a list of calls: {}", stdout(&listed));
    assert!(stderr(&listed).contains("was interrupted"), "{}", stderr(&listed));
    let connection = daemon.connections().await.remove(0);
    let id = connection["connection_id"].as_str().expect("an id");
    let page = daemon.get(&format!("/connections/{id}/calls")).await.body;
    let attempt = &page["interrupted_attempts"][0];
    assert!(attempt["seq"].is_u64() && attempt["message"].as_str().is_some_and(|text| text.contains("not recorded")), "{page}");
    for none in [&["--purpose", "webhook"][..], &["--family", "filesource"], &["--namespace", "other"], &["--until", "24h"]] {
        let table = stdout(&workspace.run(&[&["calls"], none].concat()));
        assert_eq!(table, "no call is recorded that matches\n", "{none:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_is_recorded_and_logged_with_its_port_its_name_and_its_statements() {
    let (workspace, _server, host) = with_warehouse().await;
    let log = stderr(&workspace.run(&["once", "-v"]));
    let all = calls(&workspace, &["--host", &host]);
    assert!(all.len() > 3 && all.iter().all(|call| call["host"] == json!(host) && call["path"] == "/dev"), "{all:#?}");
    let sent = |line: &&str| line.contains(&host) && line.contains("BEGIN TRANSACTION READ ONLY");
    let statements = log.lines().filter(sent).count();
    let recorded = all.iter().filter(|call| call["statement"].is_string()).count();
    assert_eq!(statements, 2 * recorded, "one line before each statement and one after it: {log}");
    assert!(!log.contains("hunter2"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_options_of_calls_select_by_time_and_namespace_and_refuse_what_is_not_valid() {
    let workspace = Workspace::new();
    let service = DescribedService::start(ServiceMode::Healthy).await;
    workspace.intent_file("service.json", &intent("openapi", &service.url));
    workspace.intent_file("file.json", &intent("filesource", &workspace.csv("things.csv", 3)));
    workspace.run(&["once"]);
    let all = calls(&workspace, &[]);
    let times: Vec<&str> = all.iter().filter_map(|call| call["at"].as_str()).collect();
    assert!(times.len() > 2 && times.is_sorted_by(|one, other| one >= other), "newest first: {times:?}");
    let namespace = all[0]["namespace"].as_str().expect("a namespace");
    assert_eq!(
        (calls(&workspace, &["--namespace", namespace]).len(), calls(&workspace, &["--namespace", "other"]).len()),
        (all.len(), 0)
    );
    let cut = workspace.run(&["calls", "--json", "--limit", "1"]);
    assert!(stderr(&cut).contains(&format!("only the newest 1 of {} calls are printed", all.len())), "{}", stderr(&cut));
    assert_eq!(serde_json::from_str::<Vec<Value>>(&stdout(&cut)).expect("a list"), all[..1]);
    for (options, text) in [
        (&["--limit", "0"][..], "write a whole number from 1"),
        (&["--family", "opnapi"], "did you mean openapi?"),
        (&["--family", "nope"], "aam families lists the families"),
        (&["--since", "1h", "--until", "2h"], "give the earlier time to --since"),
    ] {
        let output = workspace.run(&[&["calls"], options].concat());
        assert_eq!(output.status.code(), Some(64), "{options:?}: {}", stdout(&output));
        assert!(stderr(&output).contains(text), "{options:?}: {}", stderr(&output));
    }
    assert_eq!(calls(&workspace, &["--family", "webhook"]), Vec::<Value>::new(), "what makes calls outside of attempts is known");
}
