//! Concurrent pushes, repeated saves, restarts and rechecks: each leads to the attempts and rows it should, and no more.

use crate::support::daemon::{Daemon, Workspace, intent, stdout, until};
use crate::support::described_service::{DescribedService, ServiceMode};
use serde_json::{Value, json};

/// Waits until the daemon has processed all earlier changes of the folder: a file that is saved now becomes ACTIVE
/// only after them.
async fn until_caught_up(workspace: &Workspace, daemon: &Daemon, name: &str) {
    let path = workspace.csv(&format!("{name}.csv"), 1);
    workspace.intent_file(&format!("{name}.json"), &intent("filesource", &path));
    daemon.until_state(&path, "ACTIVE").await;
}

/// Sets the daemon's clock `minutes` ahead of the machine's.
fn advance_clock(workspace: &Workspace, minutes: i64) {
    workspace.replace("clock", (minutes * 60_000).to_string().as_bytes());
}

fn workspace_with_clock() -> Workspace {
    let mut workspace = Workspace::new();
    workspace.set("AAM_TEST_CLOCK", &workspace.path("clock").display().to_string());
    workspace
}

#[tokio::test]
async fn two_hundred_pushes_of_one_intent_are_one_connection_and_one_attempt() {
    let workspace = Workspace::new();
    let daemon = workspace.serve().await;
    let document = intent("filesource", &workspace.csv("a.csv", 3));
    let responses = futures_util::future::join_all((0..200).map(|_| daemon.push(&document))).await;
    let count = |status: u16| responses.iter().filter(|response| response.status == status).count();
    assert_eq!((count(201), count(200)), (1, 199));
    let all = daemon.connections().await;
    assert_eq!((all.len(), &all[0]["version"], &all[0]["status"]), (1, &json!(1), &json!("ACTIVE")));
    for kind in ["intent_accepted", "attempt_begun", "attempt_finished"] {
        assert_eq!(daemon.entries(&all[0], kind).await.len(), 1, "{kind}");
    }
    workspace.rows();
}

#[tokio::test]
async fn a_thousand_saves_of_one_file_make_one_attempt() {
    let workspace = Workspace::new();
    let service = DescribedService::start(ServiceMode::Healthy).await;
    let document = intent("openapi", &service.url);
    workspace.intent_file("a.json", &document);
    let daemon = workspace.serve().await;
    let one = daemon.until_state(&service.url, "ACTIVE").await;
    let hits = service.hits();
    for turn in 0..1000 {
        if turn % 2 == 0 {
            workspace.intent_file("a.json", &document);
        } else {
            let file = std::fs::File::options().write(true).open(workspace.path("intents/a.json")).expect("open");
            file.set_modified(std::time::SystemTime::now()).expect("touch");
        }
    }
    until_caught_up(&workspace, &daemon, "fence").await;
    assert_eq!(service.hits(), hits);
    for kind in ["intent_accepted", "attempt_begun"] {
        assert_eq!(daemon.entries(&one, kind).await.len(), 1, "{kind}");
    }
}

#[tokio::test]
async fn neither_a_save_nor_a_restart_shortens_a_backoff() {
    let workspace = workspace_with_clock();
    workspace.write_policy("backoff: {initial: 1h, max: 2h, jitter: 0.0}\n");
    let service = DescribedService::start(ServiceMode::Failing).await;
    let document = intent("openapi", &service.url);
    workspace.intent_file("a.json", &document);
    let daemon = workspace.serve().await;
    let failed = |one: &Value| one["error"].is_object() && one["checking"] == false;
    daemon.until_connection(&service.url, "it fails", failed).await;
    let hits = service.hits();
    workspace.intent_file("a.json", &document);
    until_caught_up(&workspace, &daemon, "saved").await;
    assert_eq!(service.hits(), hits, "a save made the daemon call the source before the backoff ended");
    assert_eq!(daemon.stop().await, Some(0));
    service.set_mode(ServiceMode::Healthy);
    let daemon = workspace.serve().await;
    until_caught_up(&workspace, &daemon, "restarted").await;
    advance_clock(&workspace, 58);
    until_caught_up(&workspace, &daemon, "nearly").await;
    assert_eq!(service.hits(), hits, "a restart made the daemon call the source before the backoff ended");
    advance_clock(&workspace, 61);
    daemon.until_state(&service.url, "ACTIVE").await;
}

#[tokio::test]
async fn a_recheck_that_finds_no_change_appends_nothing() {
    let workspace = workspace_with_clock();
    let service = DescribedService::start(ServiceMode::Healthy).await;
    workspace.intent_file("a.json", &intent("openapi", &service.url));
    let daemon = workspace.serve().await;
    let mut before = daemon.until_state(&service.url, "ACTIVE").await;
    let rows = workspace.rows();
    for hours in [7, 14, 40] {
        let hits = service.hits();
        advance_clock(&workspace, hours * 60);
        let rechecked = |one: &Value| one["updated_at"] != before["updated_at"] && one["checking"] == false;
        let one = daemon.until_connection(&service.url, "it is checked again", rechecked).await;
        assert!(service.hits() > hits, "the source was not called");
        assert_eq!((&one["status"], workspace.rows()), (&json!("ACTIVE"), rows), "after {hours} h");
        before = one;
    }
}

#[tokio::test]
async fn a_missing_source_and_a_changed_schema_are_distinguished_and_can_be_healed() {
    let workspace = Workspace::new();
    workspace.write_policy("backoff: {initial: 1h, max: 2h, jitter: 0.0}\n");
    let (path, other) = (workspace.csv("a.csv", 3), workspace.csv("other.csv", 3));
    workspace.intent_file("a.json", &intent("filesource", &path));
    workspace.intent_file("other.json", &intent("filesource", &other));
    let daemon = workspace.serve().await;
    daemon.until_state(&other, "ACTIVE").await;
    let one = daemon.until_state(&path, "ACTIVE").await;
    let id = one["connection_id"].as_str().expect("id").to_string();
    let port = daemon.port.to_string();
    let heal = |more: &[&str]| {
        let arguments: Vec<&str> = ["heal", "--port", &port].iter().chain(more).copied().collect();
        let output = workspace.run(&arguments);
        (output.status.code(), stdout(&output))
    };
    std::fs::remove_file(&path).expect("remove");
    let (code, output) = heal(&[&id]);
    assert!(code == Some(2) && output.starts_with("ERROR"), "{output}");
    let gone = daemon.until_state(&path, "ERROR").await;
    assert_eq!(gone["error"]["class"], "not_found", "{gone}");
    workspace.csv("a.csv", 3);
    let (code, output) = heal(&[]);
    assert!(code == Some(0) && output.starts_with("ACTIVE") && output.lines().count() == 1, "{output}");
    std::fs::write(&path, "id,title\n1,a\n2,b\n").expect("write");
    let (code, output) = heal(&[&id]);
    assert!(code == Some(2) && output.starts_with("HEALING"), "{output}");
    let drifted = daemon.until_state(&path, "HEALING").await;
    assert!(drifted["error"]["class"] == "drift" && drifted["error"]["detail"].to_string().contains("name"), "{drifted}");
    let funnel = daemon.funnel().await;
    assert_eq!((&funnel["healing"], &funnel["active"]), (&json!(1), &json!(1)), "{funnel}");
    let (code, output) = heal(&[]);
    assert!(code == Some(0) && output.starts_with("ACTIVE"), "{output}");
    let healed = daemon.until_state(&path, "ACTIVE").await;
    assert_eq!(healed["catalog_version"], 2);
    let (code, output) = heal(&[]);
    assert_eq!((code, output.trim()), (Some(0), "nothing to heal: the namespace autonomy has no connection that is not ACTIVE"));
}

#[tokio::test]
async fn two_thousand_intents_that_arrive_at_once_all_become_active() {
    const FILES: usize = 1000;
    let workspace = Workspace::new();
    let mut list = Vec::new();
    for n in 0..FILES {
        let path = workspace.csv(&format!("{n}.csv"), 1);
        std::fs::write(workspace.path(&format!("intents/{n}.json")), intent("filesource", &path).to_string()).expect("write");
        list.push(intent("filesource", &workspace.csv(&format!("listed{n}.csv"), 1)));
    }
    workspace.intent_file("list.json", &json!(list));
    let daemon = workspace.serve().await;
    until("all connections are ACTIVE", || async {
        let funnel = daemon.funnel().await;
        (funnel["active"] == 2 * FILES, funnel["summary"].to_string())
    })
    .await;
    let funnel = daemon.funnel().await;
    assert_eq!((&funnel["received"], &funnel["pending"]), (&json!(2 * FILES), &json!(0)));
    assert!(workspace.rows() >= 8 * FILES as u64, "accepted, begun, catalog and finished for each");
}
