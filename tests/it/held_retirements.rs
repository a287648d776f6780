//! Changes that would make many connections leave at once are held until they are confirmed.

use crate::support::daemon::{Daemon, Workspace, intent, stderr, stdout, until};
use aam::credentials::Secret;
use serde_json::{Value, json};

/// Writes `count` intents, each into a file of its own, and returns the resource ids.
fn files(workspace: &Workspace, count: usize) -> Vec<String> {
    (0..count)
        .map(|number| {
            let path = workspace.csv(&format!("{number:02}.csv"), 2);
            workspace.intent_file(&format!("{number:02}.json"), &intent("filesource", &path));
            path
        })
        .collect()
}

async fn until_active(daemon: &Daemon, count: usize) {
    until("the connections are ACTIVE", || async {
        let funnel = daemon.funnel().await;
        (funnel["active"] == json!(count), funnel.to_string())
    })
    .await;
}

async fn holds(daemon: &Daemon) -> Vec<Value> {
    daemon.get("/holds?namespace=autonomy").await.body["holds"].as_array().cloned().unwrap_or_default()
}

/// Waits until exactly `count` connections are held; returns the digest of the change.
async fn until_held(daemon: &Daemon, count: usize) -> String {
    let digest = std::cell::RefCell::new(String::new());
    until("the change is held", || async {
        let held = holds(daemon).await;
        let found = held.iter().find(|hold| hold["count"] == json!(count));
        digest.replace(found.and_then(|hold| hold["digest"].as_str()).unwrap_or_default().to_string());
        (found.is_some() && held.len() == 1, format!("{held:?}"))
    })
    .await;
    digest.into_inner()
}

async fn until_nothing_is_held(daemon: &Daemon) {
    until("nothing is held", || async {
        let held = holds(daemon).await;
        (held.is_empty(), format!("{held:?}"))
    })
    .await;
}

/// The states of all connections, and how many there are of each.
async fn count(daemon: &Daemon, state: &str) -> usize {
    daemon.connections().await.iter().filter(|one| one["status"] == state).count()
}

fn remove(workspace: &Workspace, numbers: std::ops::Range<usize>) {
    for number in numbers {
        std::fs::remove_file(workspace.path(&format!("intents/{number:02}.json"))).expect("removed");
    }
}

#[tokio::test]
async fn an_emptied_folder_is_held_until_exactly_this_change_is_confirmed() {
    let workspace = Workspace::new();
    let paths = files(&workspace, 14);
    let daemon = workspace.serve().await;
    until_active(&daemon, 14).await;
    // Most files are moved away. One is edited and one is new: these changes proceed.
    std::fs::create_dir(workspace.path("elsewhere")).expect("a folder");
    for number in 0..12 {
        let name = format!("{number:02}.json");
        std::fs::rename(workspace.path(&format!("intents/{name}")), workspace.path(&format!("elsewhere/{name}"))).expect("moved");
    }
    let mut edited = intent("filesource", &paths[12]);
    edited["owner"]["user"] = json!("new@acme.example");
    workspace.intent_file("12.json", &edited);
    let added = workspace.csv("added.csv", 2);
    workspace.intent_file("added.json", &intent("filesource", &added));
    daemon.until_state(&added, "ACTIVE").await;
    daemon.until_connection(&paths[12], "the new owner", |one| one["owner"]["user"] == "new@acme.example").await;
    let digest = until_held(&daemon, 12).await;
    let funnel = daemon.funnel().await;
    assert_eq!((&funnel["received"], &funnel["active"]), (&json!(15), &json!(15)), "the funnel counts what is held");
    let one = daemon.until_state(&paths[0], "ACTIVE").await;
    assert_eq!((&one["held"]["change"], &one["held"]["digest"]), (&json!("withdrawn"), &json!(digest)));
    assert!(daemon.log().contains("would leave at once"), "{}", daemon.log());
    // It is verified on.
    let id = one["connection_id"].as_str().expect("an id");
    std::fs::remove_file(&paths[0]).expect("removed");
    let healed = daemon.post(&format!("/connections/{id}/heal"), &json!({})).await;
    assert_eq!((healed.status, healed.body["status"].as_str()), (200, Some("ERROR")), "{}", healed.body);
    workspace.csv("00.csv", 2);
    assert_eq!(daemon.post(&format!("/connections/{id}/heal"), &json!({})).await.body["status"], "ACTIVE");
    // A restart finds the same change.
    daemon.kill();
    let daemon = workspace.serve().await;
    assert_eq!((until_held(&daemon, 12).await, count(&daemon, "ACTIVE").await), (digest.clone(), 15));
    // The page, the plan, the status and the check show it.
    let page = daemon.get("/?namespace=autonomy").await.body.to_string();
    assert!(
        page.contains("Held: 12 connections would leave at once") && page.contains(&format!("aam confirm {}", &digest[..12]))
    );
    assert_eq!(daemon.get("/dashboard.json").await.body["holds"][0]["digest"], json!(digest));
    for command in ["plan", "status", "check", "confirm"] {
        let text = stdout(&workspace.run(&[command]));
        assert!(
            text.contains("= held: 12 connections") && text.contains(&format!("aam confirm {}", &digest[..12])),
            "{command}: {text}"
        );
    }
    let text = stdout(&workspace.run(&["confirm"])).replace(&workspace.dir.path().display().to_string(), "DIR");
    let text = text.replace(&digest[..12], "DIGEST");
    let filters = [("[0-9a-f]{8}-[0-9a-f-]{27}", "ID"), (r"\d\d\.csv", "NN.csv"), (r"\d\d\.json", "NN.json")];
    crate::support::snapshot::assert_snapshot("held_change", &text, &filters);
    // The change grows: the earlier digest confirms nothing.
    remove(&workspace, 13..14);
    let grown = until_held(&daemon, 13).await;
    assert_ne!(grown, digest);
    let port = daemon.port.to_string();
    let confirm = |digest: &str| workspace.run(&["confirm", digest, "--port", &port]);
    let refused = confirm(&digest[..12]);
    assert!(refused.status.code() == Some(1) && stderr(&refused).contains(&grown[..12]), "{}", stderr(&refused));
    assert_eq!(count(&daemon, "RETIRED").await, 0);
    let done = confirm(&grown[..12]);
    assert!(done.status.success() && stdout(&done).contains("confirmed: 13 connections"), "{} {}", stdout(&done), stderr(&done));
    until_nothing_is_held(&daemon).await;
    assert_eq!((count(&daemon, "RETIRED").await, count(&daemon, "ACTIVE").await), (13, 2));
    let retired = daemon.until_state(&paths[0], "RETIRED").await;
    let confirmed = daemon.entries(&retired, "departure_confirmed").await;
    assert_eq!(confirmed[0]["facts"]["by"], "token admin", "{confirmed:?}");
    // A confirmation of what is not held any more says so.
    let again = confirm(&grown[..12]);
    assert!(again.status.code() == Some(1) && stderr(&again).contains("GET /holds"), "{}", stderr(&again));
}

#[tokio::test]
async fn files_that_come_back_end_the_hold_and_small_changes_are_never_held() {
    let workspace = Workspace::new();
    let paths = files(&workspace, 13);
    let daemon = workspace.serve().await;
    until_active(&daemon, 13).await;
    std::fs::create_dir(workspace.path("elsewhere")).expect("a folder");
    let move_all = |from: &str, to: &str| {
        for number in 0..13 {
            let name = format!("{number:02}.json");
            std::fs::rename(workspace.path(from).join(&name), workspace.path(to).join(&name)).expect("moved");
        }
    };
    move_all("intents", "elsewhere");
    until_held(&daemon, 13).await;
    move_all("elsewhere", "intents");
    until_nothing_is_held(&daemon).await;
    assert_eq!(count(&daemon, "ACTIVE").await, 13);
    assert_eq!(daemon.entries(&daemon.until_state(&paths[0], "ACTIVE").await, "attempt_finished").await.len(), 1);
    // Two files are a change of one person. Moving files within the folder is no change at all.
    remove(&workspace, 0..2);
    daemon.until_state(&paths[0], "RETIRED").await;
    daemon.until_state(&paths[1], "RETIRED").await;
    std::fs::create_dir(workspace.path("intents/team")).expect("a folder");
    for number in 2..13 {
        let name = format!("{number:02}.json");
        std::fs::rename(workspace.path("intents").join(&name), workspace.path("intents/team").join(&name)).expect("moved");
    }
    until("the moved files are read", || async {
        let known = daemon.until_state(&paths[12], "ACTIVE").await;
        let origins = daemon.entries(&known, "intent_withdrawn").await;
        (!origins.is_empty(), format!("{origins:?}"))
    })
    .await;
    assert_eq!((count(&daemon, "ACTIVE").await, holds(&daemon).await.len()), (11, 0));
}

#[tokio::test]
async fn a_smaller_allowlist_is_held_and_the_rest_of_the_policy_is_in_force() {
    let workspace = Workspace::new();
    let paths = files(&workspace, 12);
    let database = workspace.path("data/shop.db");
    rusqlite::Connection::open(&database).expect("a database").execute_batch("CREATE TABLE t (a INTEGER)").expect("a table");
    workspace.intent_file("shop.json", &intent("jdbc", &format!("jdbc:sqlite:{}", database.display())));
    workspace.write_policy("allowlist: [filesource]\n");
    let daemon = workspace.serve().await;
    daemon.until_state(&format!("jdbc:sqlite:{}", database.display()), "UNSUPPORTED").await;
    until_active(&daemon, 12).await;
    // The edit removes a family with 12 connections and adds another one.
    workspace.write_policy("allowlist: [jdbc]\n");
    let digest = until_held(&daemon, 12).await;
    daemon.until_state(&format!("jdbc:sqlite:{}", database.display()), "ACTIVE").await;
    assert_eq!(daemon.until_state(&paths[0], "ACTIVE").await["held"]["change"], "policy");
    // New connections of the removed family are not connected.
    let new = daemon.push(&intent("filesource", &workspace.csv("new.csv", 2))).await;
    assert_eq!((new.status, new.body["code"].as_str()), (409, Some("UNSUPPORTED")), "{}", new.body);
    // The held ones are verified as before.
    let known = daemon.until_state(&paths[0], "ACTIVE").await;
    let path = format!("/connections/{}/heal", known["connection_id"].as_str().expect("an id"));
    let healed = daemon.post(&path, &json!({})).await;
    assert_eq!((healed.status, healed.body["status"].as_str()), (200, Some("ACTIVE")), "{}", healed.body);
    assert_eq!(daemon.stop().await, Some(0));
    let daemon = workspace.serve().await;
    assert_eq!((until_held(&daemon, 12).await, count(&daemon, "ACTIVE").await), (digest.clone(), 13));
    // The policy itself confirms the change.
    workspace.write_policy(&format!(
        "allowlist: [jdbc]\nreconcile: {{concurrency: 16, resync: 1s, confirm: [\"{}\"]}}\n",
        &digest[..12]
    ));
    until("the connections have left", || async {
        let left = count(&daemon, "UNSUPPORTED").await;
        (left == 13, left.to_string())
    })
    .await;
    until_nothing_is_held(&daemon).await;
}

#[tokio::test]
async fn stricter_eligibility_and_a_batch_that_supersedes_are_the_same_case() {
    let workspace = Workspace::new();
    let daemon = workspace.serve().await;
    let documents: Vec<Value> = (0..12).map(|number| intent("filesource", &workspace.csv(&format!("{number}.csv"), 2))).collect();
    let batch = daemon.post("/connections/onboard/batch", &json!({ "intents": documents })).await;
    assert_eq!(batch.body["succeeded"], 12, "{}", batch.body);
    until_active(&daemon, 12).await;
    workspace.write_policy("eligibility: {min_confidence: 0.99}\n");
    until_held(&daemon, 12).await;
    assert_eq!(count(&daemon, "ACTIVE").await, 12);
    workspace.write_policy("");
    until_nothing_is_held(&daemon).await;
    // The batch says that none of them is sanctioned any more. It is answered at once and recorded.
    let mut revoked = documents.clone();
    for document in &mut revoked {
        document["evidence"]["status"] = json!("Shadow");
    }
    let answer = daemon.post("/connections/onboard/batch", &json!({ "intents": revoked })).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let digest = until_held(&daemon, 12).await;
    assert_eq!(count(&daemon, "ACTIVE").await, 12);
    let first = daemon.connections().await[0].clone();
    assert_eq!((&first["held"]["change"], &first["version"]), (&json!("document"), &json!(2)));
    // It is verified with the document that was proven, also after a restart.
    daemon.kill();
    let daemon = workspace.serve().await;
    assert_eq!(until_held(&daemon, 12).await, digest);
    let healed = daemon.post("/connections/heal", &json!({"ids": [first["connection_id"]]})).await;
    assert_eq!((&healed.body["active"], &healed.body["settled"]), (&json!(1), &json!(1)), "{}", healed.body);
    // One of them is sanctioned again: it leaves the change, which gets another digest.
    let again = daemon.push(&documents[0]).await;
    assert_eq!(again.body["status"], "ACTIVE", "{}", again.body);
    let smaller = until_held(&daemon, 11).await;
    let confirmed = daemon.post(&format!("/holds/{smaller}/confirm"), &json!({})).await;
    assert_eq!((confirmed.status, &confirmed.body["confirmed"]), (200, &json!(11)), "{}", confirmed.body);
    until("they are REJECTED", || async {
        let rejected = count(&daemon, "REJECTED").await;
        (rejected == 11, rejected.to_string())
    })
    .await;
    until_nothing_is_held(&daemon).await;
}

#[tokio::test]
async fn once_says_what_is_held_and_confirm_works_without_a_daemon() {
    let workspace = Workspace::new();
    files(&workspace, 12);
    assert!(stdout(&workspace.run(&["once"])).contains("Coverage 12/12"));
    remove(&workspace, 0..12);
    workspace.intent_file("keep.json", &json!([]));
    // The plan knows it before it is recorded, with the same digest.
    let planned = workspace.run(&["plan", "--format", "json"]);
    let planned: Value = serde_json::from_str(&stdout(&planned)).expect("JSON");
    let digest = planned["held"][0]["digest"].as_str().expect("a digest").to_string();
    assert_eq!(planned["retire"], json!([]));
    let once = workspace.run(&["once"]);
    assert!(stdout(&once).contains("Coverage 12/12"), "{}", stdout(&once));
    assert!(
        stderr(&once).contains("= held: 12 connections") && stderr(&once).contains(&format!("aam confirm {}", &digest[..12]))
    );
    let wrong = workspace.run(&["confirm", "000000000000", "--port", "1"]);
    assert!(wrong.status.code() == Some(1) && stderr(&wrong).contains(&digest[..12]), "{}", stderr(&wrong));
    let confirmed = workspace.run(&["confirm", &digest[..12], "--port", "1"]);
    assert!(confirmed.status.success(), "{}", stderr(&confirmed));
    assert!(stdout(&workspace.run(&["once"])).contains("Coverage 0/0"));
    assert!(workspace.rows() > 0, "the chain is intact");
    assert_eq!(workspace.run(&["confirm"]).status.code(), Some(0), "nothing is held any more");
}

#[tokio::test]
async fn only_a_token_with_the_scope_and_the_namespace_confirms() {
    let workspace = Workspace::new();
    files(&workspace, 12);
    let (pusher, first) = workspace.new_token("pusher", "intents:write, registry:read, ops:heal", "autonomy");
    let (foreign, second) = workspace.new_token("foreign", "ops:confirm, registry:read", "elsewhere");
    let (owner, third) = workspace.new_token("owner", "ops:confirm, registry:read", "autonomy");
    workspace.write_policy(&format!("api: {{tokens: [{first}, {second}, {third}]}}\n"));
    let mut daemon = workspace.serve().await;
    daemon.token = owner.clone();
    until_active(&daemon, 12).await;
    remove(&workspace, 0..12);
    let digest = until_held(&daemon, 12).await;
    let confirm = async |daemon: &mut Daemon, token: &Secret, digest: &str| {
        daemon.token = token.clone();
        daemon.post(&format!("/holds/{digest}/confirm"), &json!({})).await
    };
    assert_eq!(confirm(&mut daemon, &pusher, &digest).await.body["code"], "SCOPE_MISSING");
    assert_eq!(confirm(&mut daemon, &foreign, &digest).await.status, 404, "another namespace is not revealed");
    assert_eq!(confirm(&mut daemon, &owner, &digest[..11]).await.body["code"], "HOLD_CHANGED", "too short to name a change");
    // The command says which token it needs, and that the policy can confirm instead.
    daemon.token = owner.clone();
    let port = daemon.port.to_string();
    let arguments = ["confirm", &digest[..12], "--port", &port];
    let refused = stderr(&workspace.run(&arguments));
    for part in ["the scope ops:confirm", "aam token new", &format!("reconcile: {{confirm: [\"{}\"]}}", &digest[..12])] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
    let confirmed = workspace.command(&arguments).env("AAM_TOKEN", owner.expose()).output().expect("it runs");
    assert!(confirmed.status.success(), "{}", stderr(&confirmed));
    until_nothing_is_held(&daemon).await;
    assert_eq!(confirm(&mut daemon, &owner, &digest).await.status, 404);
}

#[tokio::test]
async fn connections_whose_manifest_is_gone_keep_their_state_and_are_not_checked() {
    let mut workspace = Workspace::new();
    workspace.set("CRM_TOKEN", "the-token-of-the-crm");
    std::fs::create_dir(workspace.path("manifests")).expect("a folder");
    let manifest = workspace.path("manifests/acme_crm.yaml");
    let text = crate::support::manifests::things_manifest("{{ config['domain'] }}", &["api_token", "domain"]);
    std::fs::write(&manifest, &text).expect("a manifest");
    workspace.write_policy(&format!(
        "allowlist: [acme_crm]\nmanifests: {{dir: {}, sources: {{acme_crm: {{resource: domain}}}}}}\n",
        workspace.path("manifests").display()
    ));
    for number in 0..12 {
        let mut document = intent("acme_crm", &format!("127.0.0.1:{}", 9001 + number));
        document["credential_locator"] = json!("env:CRM_TOKEN");
        workspace.intent_file(&format!("{number:02}.json"), &document);
    }
    let daemon = workspace.serve().await;
    until("every attempt has ended", || async {
        let states: Vec<Value> = daemon.connections().await.iter().map(|one| one["status"].clone()).collect();
        let settled = states.len() == 12 && states.iter().all(|state| state != "PENDING");
        (settled && states.iter().all(|state| state != "UNSUPPORTED" && state != "REJECTED"), format!("{states:?}"))
    })
    .await;
    let states = async || {
        let mut states: Vec<String> = daemon.connections().await.iter().map(|one| one["status"].to_string()).collect();
        states.sort();
        states
    };
    let before = states().await;
    std::fs::remove_file(&manifest).expect("removed");
    until_held(&daemon, 12).await;
    let one = daemon.connections().await[0].clone();
    let path = format!("/connections/{}/heal", one["connection_id"].as_str().expect("an id"));
    assert_eq!(daemon.post_with(&path, &json!({}), "wait=1").await.status, 202, "it cannot be checked without the manifest");
    assert_eq!(states().await, before);
    std::fs::write(&manifest, &text).expect("a manifest");
    until_nothing_is_held(&daemon).await;
    assert_eq!(states().await, before);
}
