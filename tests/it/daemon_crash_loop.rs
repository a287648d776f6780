//! A connection whose attempts end the process: it is not checked again until a person heals or changes it, and the other
//! connections go on.

use crate::support::daemon::{Workspace, intent, until};
use serde_json::json;
use std::os::unix::process::ExitStatusExt;

/// A workspace whose process kills itself in the step `discover` of the first attempt.
async fn killed_twice(resource: &str, workspace: &mut Workspace) {
    workspace.intent_file("bad.json", &intent("filesource", resource));
    workspace.set("AAM_TEST_KILL_AT", &workspace.path("kill").display().to_string());
    std::fs::write(workspace.path("kill"), "discover 1").expect("write");
    for _ in 0..2 {
        assert_eq!(workspace.start().ended().await.signal(), Some(9));
    }
    workspace.env.retain(|(name, _)| name != "AAM_TEST_KILL_AT");
}

#[tokio::test]
async fn a_connection_that_ended_the_process_twice_rests_until_it_is_healed() {
    let mut workspace = Workspace::new();
    let bad = workspace.csv("bad.csv", 3);
    killed_twice(&bad, &mut workspace).await;
    let good = workspace.csv("good.csv", 3);
    workspace.intent_file("good.json", &intent("filesource", &good));
    let daemon = workspace.serve().await;
    // The other connection is new, so all that is due has begun when it is ACTIVE.
    daemon.until_state(&good, "ACTIVE").await;
    let one = daemon.until_state(&bad, "ERROR").await;
    let id = one["connection_id"].as_str().expect("an id").to_string();
    assert_eq!(one["error"]["class"], json!("crash_loop"), "{one}");
    assert!(one["error"]["fix"].as_str().is_some_and(|fix| fix.contains(&format!("aam heal {id}"))), "{one}");
    let due = workspace.run(&["plan", "--format", "json"]);
    assert!(due.status.success() && !String::from_utf8_lossy(&due.stdout).contains(&id), "{due:?}");
    assert_eq!(daemon.entries(&one, "attempt_begun").await.len(), 2, "no third attempt");
    // The fix, as it is printed.
    let port = daemon.port.to_string();
    let healed = workspace.run(&["heal", &id, "--port", &port]);
    assert!(healed.status.success(), "{healed:?}");
    daemon.until_state(&bad, "ACTIVE").await;
}

#[tokio::test]
async fn a_changed_document_ends_the_rest_too() {
    let mut workspace = Workspace::new();
    let bad = workspace.csv("bad.csv", 3);
    killed_twice(&bad, &mut workspace).await;
    let daemon = workspace.serve().await;
    daemon.until_state(&bad, "ERROR").await;
    let mut changed = intent("filesource", &bad);
    changed["owner"]["user"] = json!("other@acme.example");
    workspace.intent_file("bad.json", &changed);
    daemon.until_state(&bad, "ACTIVE").await;
}

/// The connections that were checked at the moment of a crash are checked one after another, so that the next crash shows
/// which of them is the reason, and the others do not rest with it.
#[tokio::test]
async fn the_connections_that_were_checked_at_the_same_time_do_not_rest() {
    let mut workspace = Workspace::new();
    let all: Vec<String> = (0..6).map(|n| workspace.csv(&format!("{n}.csv"), 3)).collect();
    for (n, path) in all.iter().enumerate() {
        workspace.intent_file(&format!("{n}.json"), &intent("filesource", path));
    }
    workspace.set("AAM_TEST_KILL_AT", &workspace.path("kill").display().to_string());
    std::fs::write(workspace.path("kill"), "discover 1").expect("write");
    for _ in 0..2 {
        assert_eq!(workspace.start().ended().await.signal(), Some(9));
    }
    workspace.env.retain(|(name, _)| name != "AAM_TEST_KILL_AT");
    let daemon = workspace.serve().await;
    until("at most one connection rests, and the others are ACTIVE", || async {
        let all = daemon.connections().await;
        let resting = all.iter().filter(|one| one["error"]["class"] == json!("crash_loop")).count();
        let active = all.iter().filter(|one| one["status"] == json!("ACTIVE")).count();
        (all.len() == 6 && resting <= 1 && active + resting == 6, format!("{all:?}"))
    })
    .await;
}
