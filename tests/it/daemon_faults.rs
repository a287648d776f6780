//! The process ends when it should not, is asked to end, or is not alone.

use crate::daemon_support::{Daemon, Place, intent, stderr, stdout, until};
use crate::daemon_vendor::{Mood, Vendor};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;

/// Where the process is killed, and how often at most the boundary is passed before that.
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
/// Documents that change in each round: as many attempts begin for certain.
const CHANGES: usize = 4;

/// Twelve sources without a credential: files and databases.
fn sources(place: &Place) -> Vec<(&'static str, String)> {
    let source = |n: usize| match n % 3 {
        0 => {
            let path = place.path(&format!("data/{n}.db"));
            let db = rusqlite::Connection::open(&path).expect("a database");
            db.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO t VALUES (1, 'a'), (2, 'b')")
                .expect("rows");
            ("jdbc", format!("jdbc:sqlite:{}", path.display()))
        }
        _ => ("filesource", place.csv(&format!("{n}.csv"), 3)),
    };
    (0..12).map(source).collect()
}

fn owned_by(mut document: Value, round: usize) -> Value {
    document["owner"]["user"] = json!(format!("owner{round}@acme.example"));
    document
}

#[tokio::test]
async fn a_hundred_kills_lose_no_intent_and_make_none_twice() {
    let mut place = Place::new();
    // A killed process loses the calls that it took from the day in advance: a hundred of them spend a day of 500.
    let caps = "caps: {families: {jdbc: {per_second: 1000, burst: 1000, per_day: 1000000, concurrency: 4}}}";
    place.write_policy(&format!("backoff: {{initial: 50ms, max: 200ms, jitter: 0.0}}\n{caps}\n"));
    let sources = sources(&place);
    place.serve().await.kill();
    place.set("AAM_TEST_KILL_AT", &place.path("kill").display().to_string());
    let mut wanted: BTreeMap<String, String> = BTreeMap::new();
    let mut unanswered = 0;
    for round in 0..KILLS {
        let (name, most) = BOUNDARIES[round % BOUNDARIES.len()];
        let count = 1 + (round / BOUNDARIES.len()) % most;
        std::fs::write(place.path("kill"), format!("{name} {count}")).expect("write");
        let change = |wanted: &mut BTreeMap<String, String>| {
            for n in 0..CHANGES {
                let (kind, resource) = &sources[(round * CHANGES + n) % sources.len()];
                let document = owned_by(intent(kind, resource), round);
                wanted.insert(resource.clone(), document["owner"]["user"].to_string());
                place.intent_file(&format!("{}.json", (round * CHANGES + n) % sources.len()), &document);
            }
        };
        // Found at the start in one round, saved while it runs in the next.
        let before = round % 2 == 0;
        if before {
            change(&mut wanted);
        }
        let daemon = place.start();
        if !before {
            change(&mut wanted);
        }
        if name == "after_accept" || round % 5 == 0 {
            let pushed = place.csv(&format!("pushed{round}.csv"), 2);
            let document = intent("filesource", &pushed);
            let answered = daemon.try_push(&document).await.is_some_and(|status| status < 300);
            // On disk before it is answered: killed between the two, it is there all the same.
            if answered || name == "after_accept" {
                unanswered += usize::from(!answered);
                wanted.insert(pushed, document["owner"]["user"].to_string());
            }
        }
        let ended = daemon.ended().await;
        assert_eq!(ended.signal(), Some(9), "round {round}: killed at {name} {count}");
    }
    assert!(unanswered > 0, "some pushes were accepted and not answered");
    place.env.retain(|(name, _)| name != "AAM_TEST_KILL_AT");
    all_there(&place, &wanted).await;
}

/// Every wanted connection once, ACTIVE, with the document that was saved last, and a whole history.
async fn all_there(place: &Place, wanted: &BTreeMap<String, String>) {
    let daemon = place.serve().await;
    until("everything is ACTIVE again", || async {
        let funnel = daemon.funnel().await;
        let all = daemon.connections().await;
        let open: Vec<&Value> = all.iter().filter(|one| one["status"] != "ACTIVE" || one["checking"] != false).collect();
        let said = format!("{} of {}: {} {}", all.len(), wanted.len(), funnel["summary"], json!(open));
        (open.is_empty() && all.len() >= wanted.len(), said)
    })
    .await;
    let all = daemon.connections().await;
    let mut interrupted = 0;
    for one in &all {
        // Another attempt may be on its way: what was interrupted is tried again, and ACTIVE stands meanwhile.
        until("what began has an end", || async {
            let history = daemon.history(one).await;
            let count = |kind: &str| history.iter().filter(|entry| entry["kind"] == kind).count();
            let (begun, finished) = (count("attempt_begun"), count("attempt_finished"));
            (begun == finished, format!("{begun} {finished} {one}"))
        })
        .await;
        let finished = daemon.entries(one, "attempt_finished").await;
        interrupted += finished.iter().filter(|entry| entry["facts"].to_string().contains("interrupted")).count();
    }
    for (resource, owner) in wanted {
        let found: Vec<&Value> = all.iter().filter(|one| one["resource_ids"] == json!([resource])).collect();
        assert_eq!(found.len(), 1, "{resource} is there once");
        assert_eq!(&found[0]["owner"]["user"].to_string(), owner, "the newest document of {resource} is in force");
    }
    // 9 of the 15 boundaries lie between begin and finish.
    assert!(interrupted >= KILLS / 2, "{interrupted} attempts are recorded as interrupted");
    assert!(place.rows() > 300);
}

#[tokio::test]
async fn a_panic_of_the_scan_is_told_and_the_next_scan_remembers_what_was_taken_in() {
    let mut place = Place::new();
    let paths: Vec<String> = (0..3).map(|n| place.csv(&format!("{n}.csv"), 3)).collect();
    for (n, path) in paths.iter().enumerate().take(2) {
        place.intent_file(&format!("{n}.json"), &intent("filesource", path));
    }
    place.serve().await.stop().await;
    std::fs::write(place.path("kill"), "scan 2 panic").expect("write");
    place.set("AAM_TEST_KILL_AT", &place.path("kill").display().to_string());
    let daemon = place.serve().await;
    until("the scan panics", || async { (daemon.log().contains("a defect of aam was met"), String::new()) }).await;
    std::fs::remove_file(place.path("intents/0.json")).expect("remove");
    place.intent_file("2.json", &intent("filesource", &paths[2]));
    daemon.until_state(&paths[2], "ACTIVE").await;
    until("the removed one is retired", || async {
        let funnel = daemon.funnel().await;
        (funnel["active"] == 2 && funnel["received"] == 2, funnel.to_string())
    })
    .await;
    let shown = daemon.get("/dashboard.json").await.body;
    assert_eq!(shown["problems"], json!([]), "and the defect is not told for ever");
}

#[tokio::test]
async fn a_folder_that_is_gone_is_told_once() {
    let place = Place::new();
    let daemon = place.serve().await;
    std::fs::remove_dir(place.path("intents")).expect("remove");
    until("it is told", || async {
        let shown = daemon.get("/dashboard.json").await.body;
        let told = shown["problems"].as_array().map_or(0, Vec::len);
        assert!(told < 2, "{}", shown["problems"]);
        (told == 1, shown["problems"].to_string())
    })
    .await;
}

#[tokio::test]
async fn a_taken_port_is_reused_when_an_aam_has_it_and_named_when_anybody_else_has() {
    let place = Place::new();
    let daemon = place.serve().await;
    let port = daemon.port.to_string();
    let second = place.run(&["serve", "--port", &port]);
    let told = stdout(&second);
    assert_eq!(second.status.code(), Some(0), "{told} {}", stderr(&second));
    let registry = place.path("var/aam.db").display().to_string();
    for word in [&port, &daemon.pid().to_string(), &registry, env!("CARGO_PKG_VERSION"), "already runs"] {
        assert!(told.contains(word), "{word} is in {told}");
    }
    let other = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = other.local_addr().expect("address").port().to_string();
    let refused = place.run(&["serve", "--port", &taken]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains(&format!("port {taken} is taken")), "{}", stderr(&refused));
}

#[tokio::test]
async fn a_second_writer_is_told_who_holds_the_registry_and_a_kill_frees_it() {
    let place = Place::new();
    let daemon = place.serve().await;
    let second = place.run(&["once"]);
    let told = stderr(&second);
    assert_eq!(second.status.code(), Some(1), "{told}");
    assert!(told.contains(&format!("process {}", daemon.pid())) && told.contains("serve") && told.contains("aam.db"), "{told}");
    daemon.kill();
    let path = place.csv("a.csv", 3);
    place.intent_file("a.json", &intent("filesource", &path));
    let freed = place.run(&["once"]);
    assert_eq!(freed.status.code(), Some(0), "{} {}", stdout(&freed), stderr(&freed));
}

/// A daemon with one attempt that waits for its silent source.
async fn waiting(place: &Place) -> (Vendor, Daemon) {
    let vendor = Vendor::start(Mood::Silent).await;
    place.intent_file("a.json", &intent("openapi", &vendor.url));
    let daemon = place.serve().await;
    until("the source is called", || async { (vendor.hits() > 0, String::new()) }).await;
    (vendor, daemon)
}

#[tokio::test]
async fn a_graceful_stop_lets_the_attempt_in_flight_end() {
    let place = Place::new();
    let (vendor, daemon) = waiting(&place).await;
    daemon.terminate();
    until("the stop is under way", || async { (daemon.log().contains("nothing new begins"), String::new()) }).await;
    vendor.turn(Mood::Well);
    assert_eq!(daemon.ended().await.code(), Some(0));
    let hits = vendor.hits();
    let daemon = place.serve().await;
    daemon.until_state(&vendor.url, "ACTIVE").await;
    assert_eq!(vendor.hits(), hits, "the outcome was written before the end");
}

#[tokio::test]
async fn a_second_signal_ends_at_once_and_the_attempt_counts_as_interrupted() {
    let place = Place::new();
    let (vendor, daemon) = waiting(&place).await;
    daemon.terminate();
    until("the stop is under way", || async { (daemon.log().contains("nothing new begins"), String::new()) }).await;
    daemon.terminate();
    assert_eq!(daemon.ended().await.code(), Some(143));
    vendor.turn(Mood::Well);
    let daemon = place.serve().await;
    let one = daemon.until_state(&vendor.url, "ACTIVE").await;
    let finished = daemon.entries(&one, "attempt_finished").await;
    assert_eq!(finished.len(), 2, "{finished:?}");
    assert!(finished[1].to_string().contains("interrupted"), "{}", finished[1]);
}

#[tokio::test]
async fn a_stop_does_not_wait_longer_than_its_drain_time() {
    let place = Place::new();
    let (_vendor, daemon) = waiting(&place).await;
    let started = std::time::Instant::now();
    assert_eq!(daemon.stop().await, Some(0));
    assert!(started.elapsed().as_secs() < 16, "10 s for attempts in flight, {:?} taken", started.elapsed());
}
