//! Handoffs that do not allow connections any more, which an earlier handoff asked for.

use crate::support::daemon::{Daemon, Workspace, intent, until};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const RECEIVE: &str = "/api/handoff/aod/receive";
/// Enough connections for a change that is held.
const COUNT: usize = 12;

fn handoff(run: &str, vendors: &[String], is_allowed: bool) -> Value {
    let candidate = |vendor: &String| {
        json!({
            "asset_key": format!("{vendor}.example"),
            "vendor_name": vendor,
            "aod_asset_id": vendor,
            "governance_status": "governed",
            "execution_allowed": is_allowed
        })
    };
    let candidates: Vec<Value> = vendors.iter().map(candidate).collect();
    json!({"aod_discovery_id": run, "tenant_id": "acme", "entity_id": "acme", "candidates": candidates})
}

/// A policy with one vendor for each file, and checks that are due every second.
fn policy(files: &[(String, String)]) -> String {
    let entry = |(name, path): &(String, String)| {
        format!("    {name}: {{source_type: filesource, resource_ids: [\"{path}\"], owner: data@acme.example}}\n")
    };
    let entries: String = files.iter().map(entry).collect();
    format!("recheck: {{health: 1s}}\nhandoff:\n  vendors:\n{entries}")
}

async fn detail(daemon: &Daemon, answer: &Value) -> Vec<Value> {
    let id = answer["handoff_id"].as_str().expect("a handoff id");
    daemon.get(&format!("/api/handoff/aod/{id}")).await.body["candidates"].as_array().cloned().unwrap_or_default()
}

/// When each connection was checked last, by its resource id.
async fn last_checks(daemon: &Daemon) -> BTreeMap<String, String> {
    let connections = daemon.connections().await;
    connections.iter().map(|one| (one["resource_ids"][0].to_string(), one["last_health_check"].to_string())).collect()
}

#[tokio::test]
async fn what_a_handoff_does_not_allow_is_not_called_while_its_retirement_is_held() {
    let workspace = Workspace::new();
    let files: Vec<(String, String)> =
        (0..=COUNT).map(|number| (format!("vendor-{number}"), workspace.csv(&format!("{number}.csv"), 2))).collect();
    workspace.write_policy(&policy(&files));
    let daemon = workspace.serve().await;
    let vendors: Vec<String> = files.iter().map(|(name, _)| name.clone()).collect();
    let first = daemon.post(RECEIVE, &handoff("run-1", &vendors, true)).await;
    assert_eq!((first.status, first.body.get("connections_withdrawn")), (200, None), "{}", first.body);
    for (_, path) in &files {
        daemon.until_state(path, "ACTIVE").await;
    }
    // The next run does not allow them any more, except for the last one.
    let (kept, stopped) = vendors.split_last().expect("vendors");
    let second = daemon.post(RECEIVE, &handoff("run-2", stopped, false)).await;
    let withdrawn = second.body["connections_withdrawn"].as_array().cloned().unwrap_or_default();
    assert_eq!((withdrawn.len(), &second.body["connections"]), (COUNT, &json!(0)), "{}", second.body);
    let digest = second.body["held"]["digest"].as_str().expect("a hold").to_string();
    let fix = second.body["held"]["fix"].as_str().unwrap_or_default();
    assert!(fix.contains(&format!("aam confirm {}", &digest[..12])), "{}", second.body);
    until("the change is held as the answer said", || async {
        let holds = daemon.get("/holds").await.body;
        (holds["holds"][0]["digest"] == json!(digest) && holds["holds"][0]["count"] == json!(COUNT), holds.to_string())
    })
    .await;
    // The candidates show the connections that AAM still has.
    let candidates = detail(&daemon, &second.body).await;
    for one in &candidates {
        assert_eq!((&one["decision"], &one["status"]), (&json!("inventory_only"), &json!("ACTIVE")), "{one}");
        assert!(withdrawn.contains(&one["connection_id"]), "{one}");
        assert!(one["held"]["reason"].as_str().is_some_and(|reason| reason.contains("AAM does not call it")), "{one}");
    }
    // Attempts that began before may end. After the other connection was checked again, no more of them run.
    let last = format!("{:?}", files[COUNT].1);
    let until_checked_again = async |since: &BTreeMap<String, String>| {
        until("the other connection is checked again", || async {
            let now = last_checks(&daemon).await;
            (now.get(&last) != since.get(&last), format!("{now:?}"))
        })
        .await;
        last_checks(&daemon).await
    };
    let mut before = until_checked_again(&last_checks(&daemon).await).await;
    for _ in 0..3 {
        let now = until_checked_again(&before).await;
        for (_, path) in &files[..COUNT] {
            let key = format!("{path:?}");
            assert_eq!(now.get(&key), before.get(&key), "{path} is not called any more");
        }
        before = now;
    }
    // A request to check it is not waited for, and nothing is called.
    let id = withdrawn[0].as_str().expect("an id");
    let healed = daemon.post(&format!("/connections/{id}/heal"), &json!({})).await;
    assert_eq!((healed.status, &healed.body["held"]["digest"]), (202, &json!(digest)), "{}", healed.body);
    // The hold and what it stops survive a crash, and the recorded answer is repeated.
    daemon.kill();
    let daemon = workspace.serve().await;
    assert_eq!(daemon.post(RECEIVE, &handoff("run-2", stopped, false)).await.body, second.body);
    // The change is undone for one of them: it is checked again. The others are retired by the confirmation.
    let third = daemon.post(RECEIVE, &handoff("run-3", &[stopped[0].clone(), kept.clone()], true)).await;
    assert_eq!(third.body["connections"], 2, "{}", third.body);
    until("one of them is checked again", || async {
        let now = last_checks(&daemon).await;
        let key = format!("{:?}", files[0].1);
        (now.get(&key) != before.get(&key), format!("{now:?}"))
    })
    .await;
    until("the other ones are held", || async {
        let holds = daemon.get("/holds").await.body;
        (holds["holds"][0]["count"] == json!(COUNT - 1), holds.to_string())
    })
    .await;
    let smaller = daemon.get("/holds").await.body["holds"][0]["digest"].as_str().expect("a digest").to_string();
    assert_eq!(daemon.post(&format!("/holds/{smaller}/confirm"), &json!({})).await.status, 200);
    for (_, path) in &files[1..COUNT] {
        daemon.until_state(path, "RETIRED").await;
    }
    let candidates = detail(&daemon, &second.body).await;
    let retired = candidates.iter().filter(|one| one["status"] == "RETIRED" && one.get("held").is_none()).count();
    assert_eq!((retired, candidates.len()), (COUNT - 1, COUNT), "{candidates:?}");
}

#[tokio::test]
async fn few_of_them_are_retired_at_once_and_what_a_push_asks_for_stays() {
    let workspace = Workspace::new();
    let files: Vec<(String, String)> =
        (0..3).map(|number| (format!("vendor-{number}"), workspace.csv(&format!("{number}.csv"), 2))).collect();
    workspace.write_policy(&policy(&files));
    let daemon = workspace.serve().await;
    let vendors: Vec<String> = files.iter().map(|(name, _)| name.clone()).collect();
    daemon.post(RECEIVE, &handoff("run-1", &vendors, true)).await;
    for (_, path) in &files {
        daemon.until_state(path, "ACTIVE").await;
    }
    let pushed = daemon.push(&intent("filesource", &files[0].1)).await;
    assert_eq!(pushed.body["status"], "ACTIVE", "{}", pushed.body);
    let second = daemon.post(RECEIVE, &handoff("run-2", &vendors, false)).await;
    let withdrawn = second.body["connections_withdrawn"].as_array().map_or(0, Vec::len);
    assert_eq!((withdrawn, second.body.get("held")), (3, None), "{}", second.body);
    daemon.until_state(&files[1].1, "RETIRED").await;
    daemon.until_state(&files[2].1, "RETIRED").await;
    let candidates = detail(&daemon, &second.body).await;
    let states: Vec<&str> = candidates.iter().map(|one| one["status"].as_str().unwrap_or_default()).collect();
    assert_eq!(states, ["ACTIVE", "RETIRED", "RETIRED"], "the push asks for the first one: {candidates:?}");
    assert_eq!(candidates[0]["connection_id"], pushed.body["connection_id"]);
}
