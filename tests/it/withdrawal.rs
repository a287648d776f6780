//! `DELETE /connections/{id}` and `POST /connections/heal` with ids.

use crate::support::daemon::{ApiResponse, Daemon, Workspace, intent, stdout, until};
use aam::credentials::Secret;
use serde_json::{Value, json};

fn id(connection: &Value) -> String {
    connection["connection_id"].as_str().expect("a connection id").to_string()
}

async fn delete(daemon: &Daemon, connection: &Value) -> ApiResponse {
    daemon.delete(&format!("/connections/{}", id(connection))).await
}

/// Waits until a new policy with tokens is in force.
async fn until_accepted(daemon: &Daemon) {
    until("the token is in force", || async {
        let status = daemon.get("/connections").await.status;
        (status == 200, status.to_string())
    })
    .await;
}

#[tokio::test]
async fn a_delete_retires_what_was_pushed_and_a_push_brings_it_back() {
    let workspace = Workspace::new();
    let daemon = workspace.serve().await;
    let document = intent("filesource", &workspace.csv("a.csv", 3));
    let pushed = daemon.push(&document).await.body;
    assert_eq!(pushed["status"], "ACTIVE");
    let deleted = delete(&daemon, &pushed).await;
    assert_eq!((deleted.status, &deleted.body["status"]), (200, &json!("RETIRED")), "{}", deleted.body);
    assert_eq!(daemon.funnel().await["received"], 0, "a retired connection is in no number");
    let withdrawn = daemon.entries(&pushed, "intent_withdrawn").await;
    assert_eq!(withdrawn[0]["facts"]["origin"], "api:admin", "{withdrawn:?}");
    assert!(withdrawn[0]["facts"]["reason"].as_str().is_some_and(|reason| reason.contains("token admin")), "{withdrawn:?}");
    // Repeated, it answers the same and appends nothing; the history stays readable.
    let rows = workspace.rows();
    let again = delete(&daemon, &pushed).await;
    assert_eq!((again.status, &again.body["status"], workspace.rows()), (200, &json!("RETIRED"), rows));
    let kinds: Vec<Value> = daemon.history(&pushed).await.iter().map(|entry| entry["kind"].clone()).collect();
    assert!(kinds.contains(&json!("attempt_finished")) && kinds.contains(&json!("connection_retired")), "{kinds:?}");
    // It stays retired across a restart, until it is pushed again.
    assert_eq!(daemon.stop().await, Some(0));
    let daemon = workspace.serve().await;
    assert_eq!(daemon.get(&format!("/connections/{}", id(&pushed))).await.body["status"], "RETIRED");
    let back = daemon.push(&document).await;
    assert_eq!((back.status, &back.body["status"]), (201, &json!("ACTIVE")), "{}", back.body);
    assert_eq!(id(&back.body), id(&pushed));
}

#[tokio::test]
async fn what_a_file_desires_is_refused_with_the_name_of_the_file() {
    let workspace = Workspace::new();
    let path = workspace.csv("a.csv", 3);
    let document = intent("filesource", &path);
    std::fs::create_dir(workspace.path("intents/team")).expect("a folder");
    workspace.intent_file("team/a.json", &document);
    let daemon = workspace.serve().await;
    let known = daemon.until_state(&path, "ACTIVE").await;
    daemon.push(&document).await;
    let rows = workspace.rows();
    let refused = delete(&daemon, &known).await;
    assert_eq!((refused.status, refused.body["code"].as_str()), (409, Some("DESIRED_BY_FOLDER")), "{}", refused.body);
    let detail = refused.body["detail"].as_str().expect("a detail");
    let file = workspace.path("intents/team/a.json").display().to_string();
    assert!(detail.contains(&file), "{detail}");
    assert_eq!(workspace.rows(), rows, "the refusal changed nothing");
    // The fix: without the file, the pushed intent alone desires the connection, and the delete retires it.
    std::fs::remove_file(&file).expect("removed");
    until("the delete is accepted", || async {
        let answer = delete(&daemon, &known).await;
        (answer.status == 200 && answer.body["status"] == "RETIRED", answer.body.to_string())
    })
    .await;
}

#[tokio::test]
async fn a_delete_needs_the_scope_and_the_namespace_and_not_the_token_that_pushed() {
    let workspace = Workspace::new();
    let (pusher, first) = workspace.new_token("pusher", "intents:write, registry:read", "autonomy");
    let (cleaner, second) = workspace.new_token("cleaner", "intents:write, registry:read", "autonomy");
    let (reader, third) = workspace.new_token("reader", "registry:read", "autonomy");
    let (foreign, fourth) = workspace.new_token("foreign", "intents:write, registry:read", "elsewhere");
    let (writer, fifth) = workspace.new_token("writer", "intents:write", "autonomy");
    workspace.write_policy(&format!("api: {{tokens: [{first}, {second}, {third}, {fourth}, {fifth}]}}\n"));
    let mut daemon = workspace.serve().await;
    let become_caller = |daemon: &mut Daemon, token: &Secret| daemon.token = token.clone();
    become_caller(&mut daemon, &pusher);
    until_accepted(&daemon).await;
    let document = intent("filesource", &workspace.csv("a.csv", 3));
    let pushed = daemon.push(&document).await.body;
    become_caller(&mut daemon, &reader);
    assert_eq!(delete(&daemon, &pushed).await.body["code"], "SCOPE_MISSING");
    become_caller(&mut daemon, &foreign);
    assert_eq!(delete(&daemon, &pushed).await.status, 404, "another namespace is not revealed");
    become_caller(&mut daemon, &cleaner);
    for unknown in ["8d5b2ab0-3a0f-5d2c-9d5c-3f0f3b1c2d4e", "no-uuid", "%00"] {
        assert_eq!(daemon.delete(&format!("/connections/{unknown}")).await.status, 404, "{unknown}");
    }
    assert_eq!(delete(&daemon, &pushed).await.body["status"], "RETIRED");
    // Two tokens desire it: one delete withdraws both. A token that may not read sees the state only.
    for token in [&pusher, &cleaner] {
        become_caller(&mut daemon, token);
        daemon.push(&document).await;
    }
    become_caller(&mut daemon, &writer);
    let deleted = delete(&daemon, &pushed).await;
    assert_eq!((deleted.status, &deleted.body["status"], &deleted.body["owner"]), (200, &json!("RETIRED"), &Value::Null));
    become_caller(&mut daemon, &reader);
    let withdrawn = daemon.entries(&pushed, "intent_withdrawn").await;
    let origins: Vec<&str> = withdrawn.iter().take(2).filter_map(|entry| entry["facts"]["origin"].as_str()).collect();
    assert!(origins.contains(&"api:pusher") && origins.contains(&"api:cleaner"), "{withdrawn:?}");
}

#[tokio::test]
async fn heal_takes_a_list_of_ids_and_one_bad_id_does_not_affect_the_others() {
    let workspace = Workspace::new();
    let daemon = workspace.serve().await;
    let active = daemon.push(&intent("filesource", &workspace.csv("a.csv", 3))).await.body;
    let missing = workspace.path("data/later.csv").display().to_string();
    let broken = daemon.push(&intent("filesource", &missing)).await.body;
    let gone = daemon.push(&intent("filesource", &workspace.csv("c.csv", 3))).await.body;
    delete(&daemon, &gone).await;
    workspace.csv("later.csv", 2);
    let unknown = "8d5b2ab0-3a0f-5d2c-9d5c-3f0f3b1c2d4e";
    let ids = json!([id(&active), "no-uuid", id(&broken), unknown, id(&gone), id(&active)]);
    let healed = daemon.post("/connections/heal", &json!({ "ids": ids })).await;
    assert_eq!((healed.status, &healed.body["total"], &healed.body["active"]), (200, &json!(2), &json!(2)), "{}", healed.body);
    let skipped: Vec<(&str, &str)> = healed.body["skipped"]
        .as_array()
        .expect("skipped ids")
        .iter()
        .map(|one| (one["id"].as_str().unwrap_or_default(), one["code"].as_str().unwrap_or_default()))
        .collect();
    assert_eq!(skipped, [("no-uuid", "NOT_FOUND"), (unknown, "NOT_FOUND"), (id(&gone).as_str(), "RETIRED")]);
    let nothing = daemon.post("/connections/heal", &json!({ "ids": [unknown] })).await;
    assert_eq!((nothing.status, &nothing.body["total"]), (200, &json!(0)), "{}", nothing.body);
    // An array is the list of ids, also if it is empty.
    let healed = daemon.post("/connections/heal", &json!([id(&active), id(&broken)])).await;
    assert_eq!((healed.status, &healed.body["total"]), (200, &json!(2)), "{}", healed.body);
    for nothing in [json!([]), json!({"ids": []})] {
        let healed = daemon.post("/connections/heal", &nothing).await;
        assert_eq!((healed.status, &healed.body["total"]), (200, &json!(0)), "{}", healed.body);
    }
    let upper = daemon.post("/connections/heal", &json!({"namespace": "AUTONOMY", "state": "active"})).await;
    assert_eq!((upper.status, &upper.body["total"]), (200, &json!(2)), "{}", upper.body);
    for invalid in [
        json!({"ids": "x"}),
        json!({"ids": [1]}),
        json!([1]),
        json!({"ids": null}),
        json!({"ids": [], "state": "ERROR"}),
        json!({"ids": vec!["x"; 10_001]}),
    ] {
        assert_eq!(daemon.post("/connections/heal", &invalid).await.status, 422);
    }
    // The command sends its ids in one request.
    let heal = |ids: &[&str]| {
        let port = daemon.port.to_string();
        let output = workspace.run(&[&["heal", "--port", &port], ids].concat());
        (output.status.code(), stdout(&output))
    };
    let (code, text) = heal(&[&id(&active), &id(&broken)]);
    assert_eq!((code, text.matches("ACTIVE").count()), (Some(0), 2), "{text}");
    let (code, text) = heal(&[&id(&active), unknown]);
    assert!(code == Some(1) && text.contains("ACTIVE") && text.contains(&format!("not checked          {unknown}")), "{text}");
}
