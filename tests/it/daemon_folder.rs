//! What happens to connections when a platform engineer changes the intents folder or the policy file.

use crate::support::daemon::{Workspace, intent, stderr, stdout, until};
use serde_json::{Value, json};

#[tokio::test]
async fn a_dropped_file_becomes_an_active_connection_and_a_deleted_one_is_retired() {
    let workspace = Workspace::new();
    let daemon = workspace.serve().await;
    let path = workspace.csv("a.csv", 30);
    workspace.intent_file("a.json", &intent("filesource", &path));
    let one = daemon.until_state(&path, "ACTIVE").await;
    assert_eq!(one["first_sync_rows"], 20, "at most 20 of the 30 rows are read: {one}");
    std::fs::remove_file(workspace.path("intents/a.json")).expect("remove");
    let id = one["connection_id"].as_str().expect("id").to_string();
    until("it is retired", || async {
        let response = daemon.get(&format!("/connections/{id}")).await;
        (response.body["status"] == "RETIRED", response.body.to_string())
    })
    .await;
    assert_eq!(daemon.funnel().await["received"], 0);
    let versions = daemon.get(&format!("/connections/{id}/versions")).await;
    assert!(versions.body.to_string().contains("attempt_finished"), "the history is kept: {}", versions.body);
}

#[tokio::test]
async fn an_invalid_file_does_not_block_valid_ones_and_is_read_once_it_is_fixed() {
    let workspace = Workspace::new();
    let (good, bad) = (workspace.csv("good.csv", 3), workspace.csv("bad.csv", 3));
    workspace.intent_file("good.json", &intent("filesource", &good));
    std::fs::write(workspace.path("intents/bad.json"), "{\"source_type\": \"filesource\",").expect("write");
    let daemon = workspace.serve().await;
    daemon.until_state(&good, "ACTIVE").await;
    let shown = daemon.get("/dashboard.json").await.body.to_string();
    assert!(shown.contains("bad.json"), "the dashboard shows the problem: {shown}");
    workspace.intent_file("bad.json", &intent("filesource", &bad));
    daemon.until_state(&bad, "ACTIVE").await;
    // The file becomes invalid again, and its connection keeps its state.
    std::fs::write(workspace.path("intents/bad.json"), "[").expect("write");
    until("the dashboard shows the problem", || async {
        let shown = daemon.get("/dashboard.json").await.body.to_string();
        (shown.contains("bad.json"), shown)
    })
    .await;
    assert_eq!(daemon.funnel().await["active"], 2);
}

#[tokio::test]
async fn a_folder_that_vanishes_retires_nothing_and_is_watched_again_when_it_returns() {
    let workspace = Workspace::new();
    let path = workspace.csv("a.csv", 3);
    workspace.intent_file("a.json", &intent("filesource", &path));
    let daemon = workspace.serve().await;
    daemon.until_state(&path, "ACTIVE").await;
    std::fs::rename(workspace.path("intents"), workspace.path("elsewhere")).expect("rename");
    until("the missing folder is reported", || async {
        let shown = daemon.get("/dashboard.json").await.body;
        let shown = shown.to_string();
        (shown.contains("intents") && shown.contains("problem"), shown)
    })
    .await;
    assert_eq!(daemon.funnel().await["active"], 1, "a connection was retired");
    std::fs::rename(workspace.path("elsewhere"), workspace.path("intents")).expect("rename");
    let second = workspace.csv("b.csv", 3);
    workspace.intent_file("b.json", &intent("filesource", &second));
    daemon.until_state(&second, "ACTIVE").await;
    assert_eq!(daemon.funnel().await["active"], 2);
}

#[tokio::test]
async fn a_configmap_swap_is_one_scan() {
    use std::os::unix::fs::symlink;
    let workspace = Workspace::new();
    let (first, second) = (workspace.csv("first.csv", 3), workspace.csv("second.csv", 3));
    let mount = workspace.path("intents");
    for (version, path) in [("..v1", &first), ("..v2", &second)] {
        std::fs::create_dir(mount.join(version)).expect("folder");
        std::fs::write(mount.join(version).join("a.json"), intent("filesource", path).to_string()).expect("write");
    }
    symlink("..v1", mount.join("..data")).expect("link");
    symlink("..data/a.json", mount.join("a.json")).expect("link");
    let daemon = workspace.serve().await;
    daemon.until_state(&first, "ACTIVE").await;
    symlink("..v2", mount.join("..data_tmp")).expect("link");
    std::fs::rename(mount.join("..data_tmp"), mount.join("..data")).expect("swap");
    daemon.until_state(&second, "ACTIVE").await;
    let funnel = daemon.funnel().await;
    assert_eq!((&funnel["received"], &funnel["active"]), (&json!(1), &json!(1)), "the first one is retired: {funnel}");
}

#[tokio::test]
async fn policy_and_intent_saved_together_are_judged_by_the_new_policy() {
    let workspace = Workspace::new();
    workspace.write_policy("allowlist: [jdbc]\n");
    let daemon = workspace.serve().await;
    let path = workspace.csv("a.csv", 3);
    workspace.intent_file("a.json", &intent("filesource", &path));
    workspace.write_policy("");
    daemon.until_state(&path, "ACTIVE").await;
}

#[tokio::test]
async fn an_invalid_policy_leaves_the_last_valid_one_in_force_even_after_a_restart() {
    let workspace = Workspace::new();
    let path = workspace.csv("a.csv", 3);
    workspace.intent_file("a.json", &intent("filesource", &path));
    let daemon = workspace.serve().await;
    daemon.until_state(&path, "ACTIVE").await;
    workspace.write_policy("alowlist: [filesource]\n");
    let rejected = |shown: &Value| shown.to_string().contains("alowlist");
    until("the dashboard shows that the policy was rejected", || async {
        let shown = daemon.get("/dashboard.json").await.body;
        (rejected(&shown), shown.to_string())
    })
    .await;
    assert_eq!(daemon.stop().await, Some(0));
    let daemon = workspace.serve().await;
    assert!(rejected(&daemon.get("/dashboard.json").await.body), "the rejection is not shown after the restart");
    assert_eq!(daemon.funnel().await["active"], 1, "the last valid policy is not in force");
    workspace.write_policy("allowlist: [jdbc]\n");
    daemon.until_state(&path, "UNSUPPORTED").await;
    assert!(!rejected(&daemon.get("/dashboard.json").await.body));
}

#[tokio::test]
async fn a_first_start_with_an_invalid_policy_ends_with_78_and_every_problem() {
    let workspace = Workspace::new();
    workspace.write_policy("sloo: {coverage: 0.9}\nbackoff: {initial: 5}\n");
    let output = workspace.run(&["serve", "--port", "0"]);
    assert_eq!(output.status.code(), Some(78));
    let output = stderr(&output);
    assert!(output.contains("sloo") && output.contains("did you mean") && output.contains("initial"), "{output}");
    assert_eq!(workspace.run(&["check"]).status.code(), Some(78));
}

#[tokio::test]
async fn a_restart_changes_no_number_and_appends_nothing() {
    let workspace = Workspace::new();
    let path = workspace.csv("a.csv", 5);
    workspace.intent_file("a.json", &intent("filesource", &path));
    let once = || stdout(&workspace.run(&["once"]));
    let (first, verified) = (once(), stdout(&workspace.run(&["verify"])));
    assert!(first.contains("Coverage 1/1"), "{first}");
    assert_eq!(once(), first);
    assert_eq!(stdout(&workspace.run(&["verify"])), verified, "the second run appended a row");
    let plan = workspace.run(&["plan"]);
    assert_eq!((plan.status.code(), stdout(&plan).starts_with("nothing to do")), (Some(0), true), "{}", stdout(&plan));
}
