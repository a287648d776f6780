//! The process crashes, receives a signal, or finds its port or registry in use by another process.

use crate::support::daemon::{Daemon, Workspace, intent, stderr, stdout, until};
use crate::support::described_service::{DescribedService, ServiceMode};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;

/// The places where the process kills itself, and on which passage of the place at most.
const BOUNDARIES: [(&str, usize); 15] = [
    ("take_in", 2),
    ("before_begin", 4),
    ("after_begin", 4),
    ("allowlist", 4),
    ("credential", 4),
    ("upsert", 4),
    ("discover", 4),
    ("health", 4),
    ("tiny_sync", 4),
    ("registry", 4),
    ("before_finish", 4),
    ("after_finish", 4),
    ("after_accept", 1),
    ("before_commit", 4),
    ("after_commit", 4),
];
const KILLS: usize = 100;
/// The number of documents that change in each round. Each change starts an attempt.
const CHANGES: usize = 4;

/// Twelve sources without a credential: files and databases.
fn sources(workspace: &Workspace) -> Vec<(&'static str, String)> {
    let source = |n: usize| match n % 3 {
        0 => {
            let path = workspace.path(&format!("data/{n}.db"));
            let db = rusqlite::Connection::open(&path).expect("a database");
            db.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO t VALUES (1, 'a'), (2, 'b')")
                .expect("rows");
            ("jdbc", format!("jdbc:sqlite:{}", path.display()))
        }
        _ => ("filesource", workspace.csv(&format!("{n}.csv"), 3)),
    };
    (0..12).map(source).collect()
}

fn with_owner(mut document: Value, round: usize) -> Value {
    document["owner"]["user"] = json!(format!("owner{round}@acme.example"));
    document
}

#[tokio::test]
async fn a_hundred_kills_lose_no_intent_and_create_no_duplicate() {
    let mut workspace = Workspace::new();
    // A killed process loses the calls it reserved from the daily budget; a hundred kills would use up a budget of 500.
    let caps = "caps: {families: {jdbc: {per_second: 1000, burst: 1000, per_day: 1000000, concurrency: 4}}}";
    workspace.write_policy(&format!("backoff: {{initial: 50ms, max: 200ms, jitter: 0.0}}\n{caps}\n"));
    let sources = sources(&workspace);
    workspace.serve().await.kill();
    workspace.set("AAM_TEST_KILL_AT", &workspace.path("kill").display().to_string());
    let mut wanted: BTreeMap<String, String> = BTreeMap::new();
    let mut unanswered = 0;
    for round in 0..KILLS {
        let (name, max_passes) = BOUNDARIES[round % BOUNDARIES.len()];
        let count = 1 + (round / BOUNDARIES.len()) % max_passes;
        std::fs::write(workspace.path("kill"), format!("{name} {count}")).expect("write");
        let change = |wanted: &mut BTreeMap<String, String>| {
            for n in 0..CHANGES {
                let (kind, resource) = &sources[(round * CHANGES + n) % sources.len()];
                let document = with_owner(intent(kind, resource), round);
                wanted.insert(resource.clone(), document["owner"]["user"].to_string());
                workspace.intent_file(&format!("{}.json", (round * CHANGES + n) % sources.len()), &document);
            }
        };
        // The documents change before the start in one round and while the daemon runs in the next.
        let before = round % 2 == 0;
        if before {
            change(&mut wanted);
        }
        let daemon = workspace.start();
        if !before {
            change(&mut wanted);
        }
        if name == "after_accept" || round % 5 == 0 {
            let pushed = workspace.csv(&format!("pushed{round}.csv"), 2);
            let document = intent("filesource", &pushed);
            let answered = daemon.try_push(&document).await.is_some_and(|status| status < 300);
            // A push is on disk before it is answered, so a kill between the two must not lose it.
            if answered || name == "after_accept" {
                unanswered += usize::from(!answered);
                wanted.insert(pushed, document["owner"]["user"].to_string());
            }
        }
        let ended = daemon.ended().await;
        assert_eq!(ended.signal(), Some(9), "round {round}: killed at {name} {count}");
    }
    assert!(unanswered > 0, "no kill came between the acceptance of a push and its response");
    workspace.env.retain(|(name, _)| name != "AAM_TEST_KILL_AT");
    assert_all_active(&workspace, &wanted).await;
}

/// Checks that every wanted connection exists once, is ACTIVE under the document saved last, and has a complete history.
async fn assert_all_active(workspace: &Workspace, wanted: &BTreeMap<String, String>) {
    let daemon = workspace.serve().await;
    // The last kills may have hit one connection twice in a row. It then rests until a person looks.
    for one in daemon.connections().await.iter().filter(|one| one["error"]["class"] == json!("crash_loop")) {
        daemon.post(&format!("/connections/{}/heal", one["connection_id"].as_str().expect("an id")), &json!({})).await;
    }
    until("all connections are ACTIVE again", || async {
        let funnel = daemon.funnel().await;
        let all = daemon.connections().await;
        let open: Vec<&Value> = all.iter().filter(|one| one["status"] != "ACTIVE" || one["checking"] != false).collect();
        let text = format!("{} of {}: {} {}", all.len(), wanted.len(), funnel["summary"], json!(open));
        (open.is_empty() && all.len() >= wanted.len(), text)
    })
    .await;
    let all = daemon.connections().await;
    let mut interrupted = 0;
    for one in &all {
        // Another attempt may be running: an interrupted one is retried while the connection stays ACTIVE.
        until("every attempt that began has finished", || async {
            let history = daemon.history(one).await;
            let count = |kind: &str| history.iter().filter(|entry| entry["kind"] == kind).count();
            let (begun, finished) = (count("attempt_begun"), count("attempt_finished"));
            (begun == finished, format!("{begun} {finished} {one}"))
        })
        .await;
        let finished = daemon.entries(one, "attempt_finished").await;
        interrupted += finished
            .iter()
            .filter(|entry| ["interrupted", "crash_loop"].iter().any(|class| entry["facts"]["class"] == *class))
            .count();
    }
    for (resource, owner) in wanted {
        let found: Vec<&Value> = all.iter().filter(|one| one["resource_ids"] == json!([resource])).collect();
        assert_eq!(found.len(), 1, "{resource} must have one connection");
        assert_eq!(&found[0]["owner"]["user"].to_string(), owner, "the newest document of {resource} is not in force");
    }
    // Nine of the fifteen boundaries are between the start and the end of an attempt.
    assert!(interrupted >= KILLS / 2, "only {interrupted} attempts are recorded as interrupted");
    assert!(workspace.rows() > 300);
}

#[tokio::test]
async fn a_panic_of_the_scan_is_reported_and_the_next_scan_knows_what_was_accepted() {
    let mut workspace = Workspace::new();
    let paths: Vec<String> = (0..3).map(|n| workspace.csv(&format!("{n}.csv"), 3)).collect();
    for (n, path) in paths.iter().enumerate().take(2) {
        workspace.intent_file(&format!("{n}.json"), &intent("filesource", path));
    }
    workspace.serve().await.stop().await;
    std::fs::write(workspace.path("kill"), "scan 2 panic").expect("write");
    workspace.set("AAM_TEST_KILL_AT", &workspace.path("kill").display().to_string());
    let daemon = workspace.serve().await;
    until("the scan panics", || async { (daemon.log().contains("a defect in AAM stopped it from reading"), String::new()) })
        .await;
    std::fs::remove_file(workspace.path("intents/0.json")).expect("remove");
    workspace.intent_file("2.json", &intent("filesource", &paths[2]));
    daemon.until_state(&paths[2], "ACTIVE").await;
    until("the connection of the removed file is retired", || async {
        let funnel = daemon.funnel().await;
        (funnel["active"] == 2 && funnel["received"] == 2, funnel.to_string())
    })
    .await;
    let shown = daemon.get("/dashboard.json").await.body;
    assert_eq!(shown["problems"], json!([]), "the defect is still reported");
}

#[tokio::test]
async fn a_missing_folder_is_reported_once() {
    let workspace = Workspace::new();
    let daemon = workspace.serve().await;
    std::fs::remove_dir(workspace.path("intents")).expect("remove");
    until("the missing folder is reported", || async {
        let shown = daemon.get("/dashboard.json").await.body;
        let problems = shown["problems"].as_array().map_or(0, Vec::len);
        assert!(problems < 2, "{}", shown["problems"]);
        (problems == 1, shown["problems"].to_string())
    })
    .await;
}

#[tokio::test]
async fn a_port_held_by_aam_is_reused_and_one_held_by_another_program_is_reported() {
    let workspace = Workspace::new();
    let daemon = workspace.serve().await;
    let port = daemon.port.to_string();
    let second = workspace.run(&["serve", "--port", &port]);
    let output = stdout(&second);
    assert_eq!(second.status.code(), Some(0), "{output} {}", stderr(&second));
    let registry = workspace.path("var/aam.db").display().to_string();
    for text in [&port, &daemon.pid().to_string(), &registry, env!("CARGO_PKG_VERSION"), "already runs"] {
        assert!(output.contains(text), "{text} is not in {output}");
    }
    let other = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = other.local_addr().expect("address").port().to_string();
    let refused = workspace.run(&["serve", "--port", &taken]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains(&format!("port {taken} is taken")), "{}", stderr(&refused));
}

#[tokio::test]
async fn a_second_writer_sees_which_process_has_the_registry_open_and_a_kill_releases_it() {
    let workspace = Workspace::new();
    let daemon = workspace.serve().await;
    let second = workspace.run(&["once"]);
    let output = stderr(&second);
    assert_eq!(second.status.code(), Some(1), "{output}");
    assert!(
        output.contains(&format!("process {}", daemon.pid())) && output.contains("serve") && output.contains("aam.db"),
        "{output}"
    );
    daemon.kill();
    let path = workspace.csv("a.csv", 3);
    workspace.intent_file("a.json", &intent("filesource", &path));
    let next = workspace.run(&["once"]);
    assert_eq!(next.status.code(), Some(0), "{} {}", stdout(&next), stderr(&next));
}

/// A daemon with one attempt in flight, waiting for a source that does not answer.
async fn waiting(workspace: &Workspace) -> (DescribedService, Daemon) {
    let service = DescribedService::start(ServiceMode::Silent).await;
    workspace.intent_file("a.json", &intent("openapi", &service.url));
    let daemon = workspace.serve().await;
    until("the source is called", || async { (service.hits() > 0, String::new()) }).await;
    (service, daemon)
}

#[tokio::test]
async fn a_graceful_stop_waits_for_the_attempt_in_flight() {
    let workspace = Workspace::new();
    let (service, daemon) = waiting(&workspace).await;
    daemon.terminate();
    until("the daemon is stopping", || async {
        (daemon.log().contains("stopping: waiting for the attempts in flight"), String::new())
    })
    .await;
    service.set_mode(ServiceMode::Healthy);
    assert_eq!(daemon.ended().await.code(), Some(0));
    let hits = service.hits();
    let daemon = workspace.serve().await;
    daemon.until_state(&service.url, "ACTIVE").await;
    assert_eq!(service.hits(), hits, "the result was not written before the process ended");
}

#[tokio::test]
async fn a_second_signal_stops_at_once_and_the_attempt_counts_as_interrupted() {
    let workspace = Workspace::new();
    let (service, daemon) = waiting(&workspace).await;
    daemon.terminate();
    until("the daemon is stopping", || async {
        (daemon.log().contains("stopping: waiting for the attempts in flight"), String::new())
    })
    .await;
    daemon.terminate();
    assert_eq!(daemon.ended().await.code(), Some(143));
    service.set_mode(ServiceMode::Healthy);
    let daemon = workspace.serve().await;
    let one = daemon.until_state(&service.url, "ACTIVE").await;
    let finished = daemon.entries(&one, "attempt_finished").await;
    assert_eq!(finished.len(), 2, "{finished:?}");
    assert!(finished[1].to_string().contains("interrupted"), "{}", finished[1]);
}

#[tokio::test]
async fn a_stop_does_not_wait_longer_than_its_drain_time() {
    let workspace = Workspace::new();
    let (_service, daemon) = waiting(&workspace).await;
    let started = std::time::Instant::now();
    assert_eq!(daemon.stop().await, Some(0));
    assert!(started.elapsed().as_secs() < 16, "the drain time is 10 s, the stop took {:?}", started.elapsed());
}
