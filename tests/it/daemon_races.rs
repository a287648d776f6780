//! Many at once, again and again, and later: one attempt, one row, one wait.

use crate::daemon_support::{Daemon, Place, intent, stdout, until};
use crate::daemon_vendor::{Mood, Vendor};
use serde_json::{Value, json};

/// Waits until the loop has seen everything that happened in the folder before.
async fn caught_up(place: &Place, daemon: &Daemon, name: &str) {
    let path = place.csv(&format!("{name}.csv"), 1);
    place.intent_file(&format!("{name}.json"), &intent("filesource", &path));
    daemon.until_state(&path, "ACTIVE").await;
}

/// Moves the daemon's clock to so many minutes ahead of the machine's.
fn ahead(place: &Place, minutes: i64) {
    place.replace("clock", (minutes * 60_000).to_string().as_bytes());
}

fn with_clock() -> Place {
    let mut place = Place::new();
    place.set("AAM_TEST_CLOCK", &place.path("clock").display().to_string());
    place
}

#[tokio::test]
async fn two_hundred_pushes_of_one_intent_are_one_connection_and_one_attempt() {
    let place = Place::new();
    let daemon = place.serve().await;
    let document = intent("filesource", &place.csv("a.csv", 3));
    let answers = futures_util::future::join_all((0..200).map(|_| daemon.push(&document))).await;
    let count = |status: u16| answers.iter().filter(|told| told.status == status).count();
    assert_eq!((count(201), count(200)), (1, 199));
    let all = daemon.connections().await;
    assert_eq!((all.len(), &all[0]["version"], &all[0]["status"]), (1, &json!(1), &json!("ACTIVE")));
    for kind in ["intent_accepted", "attempt_begun", "attempt_finished"] {
        assert_eq!(daemon.entries(&all[0], kind).await.len(), 1, "{kind}");
    }
    place.rows();
}

#[tokio::test]
async fn a_thousand_wakes_make_one_attempt() {
    let place = Place::new();
    let vendor = Vendor::start(Mood::Well).await;
    let document = intent("openapi", &vendor.url);
    place.intent_file("a.json", &document);
    let daemon = place.serve().await;
    let one = daemon.until_state(&vendor.url, "ACTIVE").await;
    let hits = vendor.hits();
    for turn in 0..1000 {
        if turn % 2 == 0 {
            place.intent_file("a.json", &document);
        } else {
            let file = std::fs::File::options().write(true).open(place.path("intents/a.json")).expect("open");
            file.set_modified(std::time::SystemTime::now()).expect("touch");
        }
    }
    caught_up(&place, &daemon, "fence").await;
    assert_eq!(vendor.hits(), hits);
    for kind in ["intent_accepted", "attempt_begun"] {
        assert_eq!(daemon.entries(&one, kind).await.len(), 1, "{kind}");
    }
}

#[tokio::test]
async fn neither_a_save_nor_a_restart_shortens_a_backoff() {
    let place = with_clock();
    place.write_policy("backoff: {initial: 1h, max: 2h, jitter: 0.0}\n");
    let vendor = Vendor::start(Mood::Broken).await;
    let document = intent("openapi", &vendor.url);
    place.intent_file("a.json", &document);
    let daemon = place.serve().await;
    let failed = |one: &Value| one["error"].is_object() && one["checking"] == false;
    daemon.until_connection(&vendor.url, "it fails", failed).await;
    let hits = vendor.hits();
    place.intent_file("a.json", &document);
    caught_up(&place, &daemon, "saved").await;
    assert_eq!(vendor.hits(), hits, "a save is no reason to call");
    assert_eq!(daemon.stop().await, Some(0));
    vendor.turn(Mood::Well);
    let daemon = place.serve().await;
    caught_up(&place, &daemon, "restarted").await;
    ahead(&place, 58);
    caught_up(&place, &daemon, "nearly").await;
    assert_eq!(vendor.hits(), hits, "nor is a restart");
    ahead(&place, 61);
    daemon.until_state(&vendor.url, "ACTIVE").await;
}

#[tokio::test]
async fn a_recheck_that_finds_nothing_new_appends_nothing() {
    let place = with_clock();
    let vendor = Vendor::start(Mood::Well).await;
    place.intent_file("a.json", &intent("openapi", &vendor.url));
    let daemon = place.serve().await;
    let mut seen = daemon.until_state(&vendor.url, "ACTIVE").await;
    let rows = place.rows();
    for hours in [7, 14, 40] {
        let hits = vendor.hits();
        ahead(&place, hours * 60);
        let looked = |one: &Value| one["updated_at"] != seen["updated_at"] && one["checking"] == false;
        let one = daemon.until_connection(&vendor.url, "it is looked at again", looked).await;
        assert!(vendor.hits() > hits, "the source was really asked");
        assert_eq!((&one["status"], place.rows()), (&json!("ACTIVE"), rows), "after {hours} h");
        seen = one;
    }
}

#[tokio::test]
async fn a_source_that_goes_and_returns_and_one_that_changes_are_told_apart_and_heal() {
    let place = Place::new();
    place.write_policy("backoff: {initial: 1h, max: 2h, jitter: 0.0}\n");
    let (path, other) = (place.csv("a.csv", 3), place.csv("other.csv", 3));
    place.intent_file("a.json", &intent("filesource", &path));
    place.intent_file("other.json", &intent("filesource", &other));
    let daemon = place.serve().await;
    daemon.until_state(&other, "ACTIVE").await;
    let one = daemon.until_state(&path, "ACTIVE").await;
    let id = one["connection_id"].as_str().expect("id").to_string();
    let port = daemon.port.to_string();
    let heal = |more: &[&str]| {
        let arguments: Vec<&str> = ["heal", "--port", &port].iter().chain(more).copied().collect();
        let output = place.run(&arguments);
        (output.status.code(), stdout(&output))
    };
    std::fs::remove_file(&path).expect("remove");
    let (code, told) = heal(&[&id]);
    assert!(code == Some(2) && told.starts_with("ERROR"), "{told}");
    let gone = daemon.until_state(&path, "ERROR").await;
    assert_eq!(gone["error"]["class"], "not_found", "{gone}");
    place.csv("a.csv", 3);
    let (code, told) = heal(&[]);
    assert!(code == Some(0) && told.starts_with("ACTIVE") && told.lines().count() == 1, "{told}");
    std::fs::write(&path, "id,title\n1,a\n2,b\n").expect("write");
    let (code, told) = heal(&[&id]);
    assert!(code == Some(2) && told.starts_with("HEALING"), "{told}");
    let drifted = daemon.until_state(&path, "HEALING").await;
    assert!(drifted["error"]["class"] == "drift" && drifted["error"]["detail"].to_string().contains("name"), "{drifted}");
    let funnel = daemon.funnel().await;
    assert_eq!((&funnel["healing"], &funnel["active"]), (&json!(1), &json!(1)), "{funnel}");
    let (code, told) = heal(&[]);
    assert!(code == Some(0) && told.starts_with("ACTIVE"), "{told}");
    let healed = daemon.until_state(&path, "ACTIVE").await;
    assert_eq!(healed["catalog_version"], 2);
    let (code, told) = heal(&[]);
    assert_eq!((code, told.trim()), (Some(0), "nothing to heal: every connection is ACTIVE"));
}

#[tokio::test]
async fn two_thousand_intents_at_once_settle() {
    const FILES: usize = 1000;
    let place = Place::new();
    let mut list = Vec::new();
    for n in 0..FILES {
        let path = place.csv(&format!("{n}.csv"), 1);
        std::fs::write(place.path(&format!("intents/{n}.json")), intent("filesource", &path).to_string()).expect("write");
        list.push(intent("filesource", &place.csv(&format!("listed{n}.csv"), 1)));
    }
    place.intent_file("list.json", &json!(list));
    let daemon = place.serve().await;
    until("all are ACTIVE", || async {
        let funnel = daemon.funnel().await;
        (funnel["active"] == 2 * FILES, funnel["summary"].to_string())
    })
    .await;
    let funnel = daemon.funnel().await;
    assert_eq!((&funnel["received"], &funnel["pending"]), (&json!(2 * FILES), &json!(0)));
    assert!(place.rows() >= 8 * FILES as u64, "accepted, begun, catalog and finished for each");
}
