//! The folder of intents: what a platform engineer does to it, and what becomes of the connections.

use crate::daemon_support::{Place, intent, stderr, stdout, until};
use serde_json::{Value, json};

#[tokio::test]
async fn a_dropped_file_becomes_an_active_connection_and_a_deleted_one_is_retired() {
    let place = Place::new();
    let daemon = place.serve().await;
    let path = place.csv("a.csv", 30);
    place.intent_file("a.json", &intent("filesource", &path));
    let one = daemon.until_state(&path, "ACTIVE").await;
    assert_eq!(one["first_sync_rows"], 20, "at most 20 of the 30 rows are read: {one}");
    std::fs::remove_file(place.path("intents/a.json")).expect("remove");
    let id = one["connection_id"].as_str().expect("id").to_string();
    until("it is retired", || async {
        let told = daemon.get(&format!("/connections/{id}")).await;
        (told.body["status"] == "RETIRED", told.body.to_string())
    })
    .await;
    assert_eq!(daemon.funnel().await["received"], 0);
    let versions = daemon.get(&format!("/connections/{id}/versions")).await;
    assert!(versions.body.to_string().contains("attempt_finished"), "the history stays: {}", versions.body);
}

#[tokio::test]
async fn a_bad_file_among_good_ones_holds_nobody_and_is_picked_up_once_mended() {
    let place = Place::new();
    let (good, bad) = (place.csv("good.csv", 3), place.csv("bad.csv", 3));
    place.intent_file("good.json", &intent("filesource", &good));
    std::fs::write(place.path("intents/bad.json"), "{\"source_type\": \"filesource\",").expect("write");
    let daemon = place.serve().await;
    daemon.until_state(&good, "ACTIVE").await;
    let shown = daemon.get("/dashboard.json").await.body.to_string();
    assert!(shown.contains("bad.json"), "the problem is shown: {shown}");
    place.intent_file("bad.json", &intent("filesource", &bad));
    daemon.until_state(&bad, "ACTIVE").await;
    // Turned unreadable again, the running connection is held, not dropped.
    std::fs::write(place.path("intents/bad.json"), "[").expect("write");
    until("the problem is shown", || async {
        let shown = daemon.get("/dashboard.json").await.body.to_string();
        (shown.contains("bad.json"), shown)
    })
    .await;
    assert_eq!(daemon.funnel().await["active"], 2);
}

#[tokio::test]
async fn a_folder_that_vanishes_retires_nothing_and_is_watched_again_when_it_returns() {
    let place = Place::new();
    let path = place.csv("a.csv", 3);
    place.intent_file("a.json", &intent("filesource", &path));
    let daemon = place.serve().await;
    daemon.until_state(&path, "ACTIVE").await;
    std::fs::rename(place.path("intents"), place.path("elsewhere")).expect("rename");
    until("the loss is told", || async {
        let shown = daemon.get("/dashboard.json").await.body;
        let told = shown.to_string().contains("intents");
        (told && shown.to_string().contains("problem"), shown.to_string())
    })
    .await;
    assert_eq!(daemon.funnel().await["active"], 1, "nothing is retired");
    std::fs::rename(place.path("elsewhere"), place.path("intents")).expect("rename");
    let second = place.csv("b.csv", 3);
    place.intent_file("b.json", &intent("filesource", &second));
    daemon.until_state(&second, "ACTIVE").await;
    assert_eq!(daemon.funnel().await["active"], 2);
}

#[tokio::test]
async fn a_configmap_swap_is_one_look() {
    use std::os::unix::fs::symlink;
    let place = Place::new();
    let (first, second) = (place.csv("first.csv", 3), place.csv("second.csv", 3));
    let mount = place.path("intents");
    for (version, path) in [("..v1", &first), ("..v2", &second)] {
        std::fs::create_dir(mount.join(version)).expect("folder");
        std::fs::write(mount.join(version).join("a.json"), intent("filesource", path).to_string()).expect("write");
    }
    symlink("..v1", mount.join("..data")).expect("link");
    symlink("..data/a.json", mount.join("a.json")).expect("link");
    let daemon = place.serve().await;
    daemon.until_state(&first, "ACTIVE").await;
    symlink("..v2", mount.join("..data_tmp")).expect("link");
    std::fs::rename(mount.join("..data_tmp"), mount.join("..data")).expect("swap");
    daemon.until_state(&second, "ACTIVE").await;
    let funnel = daemon.funnel().await;
    assert_eq!((&funnel["received"], &funnel["active"]), (&json!(1), &json!(1)), "the first one is retired: {funnel}");
}

#[tokio::test]
async fn policy_and_intent_saved_together_are_judged_by_the_new_policy() {
    let place = Place::new();
    place.write_policy("allowlist: [jdbc]\n");
    let daemon = place.serve().await;
    let path = place.csv("a.csv", 3);
    place.intent_file("a.json", &intent("filesource", &path));
    place.write_policy("");
    daemon.until_state(&path, "ACTIVE").await;
}

#[tokio::test]
async fn a_bad_policy_keeps_the_last_good_one_also_across_a_restart_and_the_next_good_one_loads() {
    let place = Place::new();
    let path = place.csv("a.csv", 3);
    place.intent_file("a.json", &intent("filesource", &path));
    let daemon = place.serve().await;
    daemon.until_state(&path, "ACTIVE").await;
    place.write_policy("alowlist: [filesource]\n");
    let rejected = |shown: &Value| shown.to_string().contains("alowlist");
    until("the rejection is shown", || async {
        let shown = daemon.get("/dashboard.json").await.body;
        (rejected(&shown), shown.to_string())
    })
    .await;
    assert_eq!(daemon.stop().await, Some(0));
    let daemon = place.serve().await;
    assert!(rejected(&daemon.get("/dashboard.json").await.body), "shown after the restart too");
    assert_eq!(daemon.funnel().await["active"], 1, "the last good policy is in force");
    place.write_policy("allowlist: [jdbc]\n");
    daemon.until_state(&path, "UNSUPPORTED").await;
    assert!(!rejected(&daemon.get("/dashboard.json").await.body));
}

#[tokio::test]
async fn a_first_start_with_a_bad_policy_ends_with_78_and_every_problem() {
    let place = Place::new();
    place.write_policy("sloo: {coverage: 0.9}\nbackoff: {initial: 5}\n");
    let output = place.run(&["serve", "--port", "0"]);
    assert_eq!(output.status.code(), Some(78));
    let told = stderr(&output);
    assert!(told.contains("sloo") && told.contains("did you mean") && told.contains("initial"), "{told}");
    assert_eq!(place.run(&["check"]).status.code(), Some(78));
}

#[tokio::test]
async fn a_restart_changes_no_number_and_appends_nothing() {
    let place = Place::new();
    let path = place.csv("a.csv", 5);
    place.intent_file("a.json", &intent("filesource", &path));
    let once = || stdout(&place.run(&["once"]));
    let (first, verified) = (once(), stdout(&place.run(&["verify"])));
    assert!(first.contains("Coverage 1/1"), "{first}");
    assert_eq!(once(), first);
    assert_eq!(stdout(&place.run(&["verify"])), verified, "not one row more");
    let plan = place.run(&["plan"]);
    assert_eq!((plan.status.code(), stdout(&plan).starts_with("nothing to do")), (Some(0), true), "{}", stdout(&plan));
}
