//! `aam plan` says what the next run does: what it attempts, what it retires, and what it holds back.

use crate::support::daemon::{Workspace, intent, stderr, stdout};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;

fn plan(workspace: &Workspace) -> Value {
    let output = workspace.run(&["plan", "--format", "json"]);
    serde_json::from_str(&stdout(&output)).unwrap_or_else(|error| panic!("{error}: {}", stderr(&output)))
}

/// How many connections are in `state`.
fn count(workspace: &Workspace, state: &str) -> usize {
    let listed: Value = serde_json::from_str(&stdout(&workspace.run(&["status", "--format", "json"]))).expect("JSON");
    listed.as_array().into_iter().flatten().filter(|line| line["status"] == state).count()
}

/// A workspace with `count` ACTIVE connections, one for each file.
fn connected(policy: &str, count: usize) -> Workspace {
    let workspace = Workspace::new();
    workspace.write_policy(policy);
    for n in 0..count {
        workspace.intent_file(&format!("{n:02}.json"), &intent("filesource", &workspace.csv(&format!("{n:02}.csv"), 2)));
    }
    let once = workspace.run(&["once"]);
    assert!(once.status.success(), "{}{}", stdout(&once), stderr(&once));
    workspace
}

#[test]
fn a_lost_mount_and_a_broken_file_retire_nothing_in_the_plan_either() {
    let workspace = connected("", 3);
    workspace.replace("intents/00.json", b"{");
    std::fs::remove_file(workspace.path("intents/01.json")).expect("removed");
    let planned = plan(&workspace);
    assert_eq!((planned["retire"].as_array().map(Vec::len), &planned["totals"]["problems"]), (Some(1), &json!(1)), "{planned}");
    workspace.run(&["once"]);
    assert_eq!((count(&workspace, "ACTIVE"), count(&workspace, "RETIRED")), (2, 1), "as planned");
    // Another, empty folder is in the place of the intents: the next run withdraws nothing.
    std::fs::rename(workspace.path("intents"), workspace.path("elsewhere")).expect("moved");
    std::fs::create_dir(workspace.path("intents")).expect("a folder");
    let planned = plan(&workspace);
    assert_eq!(planned["retire"], json!([]), "{planned}");
    assert!(planned["problems"][0].to_string().contains("nothing is withdrawn"), "{planned}");
    workspace.run(&["once"]);
    assert_eq!(count(&workspace, "ACTIVE"), 2, "as planned");
}

#[test]
fn the_policy_that_is_judged_first_is_part_of_the_plan() {
    let workspace = connected("", 2);
    workspace.replace("policy/policy.yaml", b"version: 2\n");
    let output = workspace.run(&["plan"]);
    let text = stdout(&output);
    assert!(text.contains("! the policy file is not valid; this is the plan of the last accepted policy"), "{text}");
    assert!(text.contains("nothing to do now"), "{text}");
    assert_eq!(plan(&workspace)["policy_rejected"], true);
    for command in ["report", "status"] {
        let note = stderr(&workspace.run(&[command]));
        assert!(note.contains("the policy file is not valid; the last accepted policy stays in force"), "{command}: {note}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heal_and_report_name_broken_files() {
    let workspace = connected("", 1);
    let daemon = workspace.serve().await;
    workspace.replace("intents/broken.json", b"{");
    let port = daemon.port.to_string();
    for arguments in [&["heal", "--port", &port][..], &["report"]] {
        let output = workspace.run(arguments);
        let note = stderr(&output);
        assert!(output.status.success(), "{note}");
        assert!(note.contains("1 problem in the intents folder") && note.contains("broken.json"), "{arguments:?}: {note}");
    }
}

#[test]
fn a_held_connection_is_planned_as_it_is_checked() {
    let workspace = connected("recheck: {health: 50ms, drift: 1h, awaiting_credentials: 1h}\n", 12);
    for n in 0..12 {
        let mut revoked = intent("filesource", &workspace.path(&format!("data/{n:02}.csv")).display().to_string());
        revoked["evidence"]["status"] = json!("Shadow");
        workspace.intent_file(&format!("{n:02}.json"), &revoked);
    }
    let checks_of = |planned: &Value| planned["now"].as_array().cloned().unwrap_or_default();
    // The checks become due one after the other.
    let planned = (0..200).map(|_| plan(&workspace)).find(|planned| checks_of(planned).len() == 12).expect("all checks are due");
    assert_eq!((&planned["totals"]["held"], &planned["retire"]), (&json!(12), &json!([])), "{planned}");
    let checks = checks_of(&planned);
    for check in &checks {
        assert_eq!((&check["held"], &check["why"]), (&json!(true), &json!("health")), "{check}");
        assert!(check["blocked"].is_null() && check["source_type"] == "filesource", "{check}");
    }
    let text = stdout(&workspace.run(&["plan"]));
    assert!(text.contains("held: it is checked as before its change") && text.contains("held: 12 connections stay as they are"));
    workspace.run(&["once"]);
    assert_eq!(count(&workspace, "ACTIVE"), 12, "as planned");
}

#[test]
fn the_totals_are_at_the_end_and_the_whole_plan_is_in_a_file() {
    let workspace = Workspace::new();
    for n in 0..3 {
        workspace.intent_file(&format!("{n}.json"), &intent("filesource", &workspace.csv(&format!("{n}.csv"), 2)));
    }
    workspace.intent_file("off.json", &intent("github", "acme"));
    let text = stdout(&workspace.run(&["plan"]));
    let totals = "4 attempts, 0 retirements\n  by reason: 4 new\n  by family: 3 filesource, 1 github\n  at most ";
    assert!(text.contains(totals) && text.trim_end().ends_with("1 attempt stops before its first call"), "{text}");
    let path = workspace.path("plan.json").display().to_string();
    let short = workspace.run(&["plan", "--out", &path]);
    assert_eq!(short.status.code(), Some(2), "{}", stderr(&short));
    let ending = format!("the whole plan is in {path}\n");
    assert_eq!(stdout(&short), text[text.find("4 attempts").expect("totals")..].to_string() + &ending);
    let written = std::fs::read_to_string(&path).expect("a plan");
    let planned: Value = serde_json::from_str(&written).expect("JSON");
    assert_eq!((planned["now"].as_array().map(Vec::len), &planned["totals"]["blocked"]), (Some(4), &json!(1)));
    assert_eq!(std::fs::metadata(&path).expect("a plan").permissions().mode() & 0o777, 0o600);
    for time in [&planned["as_of"], &planned["now"][0]["due"]] {
        let text = time.as_str().expect("a text");
        assert!(text.len() == 24 && text.ends_with('Z') && text.as_bytes()[10] == b'T', "{text}");
    }
    workspace.run(&["once"]);
    let later = plan(&workspace);
    assert!(later["next_due"].as_str().is_some_and(|text| text.ends_with('Z')), "{later}");
    let unwritable = workspace.run(&["plan", "--out", "/proc/plan.json"]);
    assert_eq!(unwritable.status.code(), Some(1), "{}", stderr(&unwritable));
}

#[test]
fn files_are_read_once_more_after_the_rules_of_intake_changed() {
    let workspace = connected("", 2);
    let path = workspace.path("intents/00.json");
    let before = std::fs::metadata(&path).expect("a file");
    let changed = std::fs::read_to_string(&path).expect("an intent").replace("00.csv", "02.csv");
    workspace.csv("02.csv", 2);
    // What the marks remember of the file stays the same, as if only the reading of it had changed.
    std::fs::write(&path, changed).expect("written");
    let times = std::fs::FileTimes::new().set_modified(before.modified().expect("a time"));
    std::fs::File::options().write(true).open(&path).and_then(|file| file.set_times(times)).expect("its time");
    workspace.run(&["once"]);
    assert_eq!((plan(&workspace)["retire"].clone(), count(&workspace, "RETIRED")), (json!([]), 0), "the file was not read");
    let db = rusqlite::Connection::open(workspace.path("var/aam.db")).expect("the registry");
    assert_eq!(db.execute("UPDATE folder_marks SET size = 0 WHERE path = '*rules'", []).expect("changed"), 1);
    drop(db);
    assert_eq!(plan(&workspace)["retire"].as_array().map(Vec::len), Some(1), "the plan knows it");
    workspace.run(&["once"]);
    assert_eq!((count(&workspace, "ACTIVE"), count(&workspace, "RETIRED")), (2, 1), "it is read");
    let rows = workspace.rows();
    workspace.run(&["once"]);
    assert_eq!(workspace.rows(), rows, "and not again");
}
