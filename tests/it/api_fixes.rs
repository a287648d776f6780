//! The fix that a problem response names leads out of the problem when it is done as written.

use crate::support::daemon::{ApiResponse, Daemon, Workspace, intent, stderr, stdout, until};
use aam::credentials::Secret;
use serde_json::{Value, json};

/// The detail of a problem with this status and code.
fn detail(response: &ApiResponse, status: u16, code: &str) -> String {
    assert_eq!((response.status, response.body["code"].as_str()), (status, Some(code)), "{}", response.body);
    response.body["detail"].as_str().expect("a detail").to_string()
}

/// Runs a command of a fix: `aam …` up to the first word that is not part of it.
fn new_token(workspace: &Workspace, name: &str) -> (Secret, String) {
    let output = workspace.run(&["token", "new", "--name", name, "--format", "json"]);
    let value: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    (Secret::new(value["token"].as_str().expect("a token").to_string()), value["sha256"].as_str().expect("a digest").to_string())
}

async fn with_token(daemon: &mut Daemon, token: Secret, path: &str) -> ApiResponse {
    daemon.token = token;
    daemon.get(path).await
}

#[tokio::test]
async fn a_refused_token_is_fixed_as_the_detail_says() {
    let workspace = Workspace::new();
    let mut daemon = workspace.serve().await;
    // Without tokens in the policy, the detail names the file with the admin token.
    for wrong in ["", "wrong"] {
        let (status, code) = (401, if wrong.is_empty() { "TOKEN_MALFORMED" } else { "TOKEN_UNKNOWN" });
        let refused = with_token(&mut daemon, Secret::new(wrong.to_string()), "/connections").await;
        let detail = detail(&refused, status, code);
        if let Some(path) = detail.split("The admin token is in ").nth(1).and_then(|rest| rest.split(", which").next()) {
            let token = std::fs::read_to_string(path).expect("the file of the fix");
            assert_eq!(with_token(&mut daemon, Secret::new(token.trim().to_string()), "/connections").await.status, 200);
        } else {
            assert!(detail.contains("send Bearer <token>"), "{detail}");
        }
    }
    // With tokens, it names the command that creates one and the place where its entry belongs.
    let (token, sha256) = new_token(&workspace, "aod");
    let write = |scopes: &str, namespaces: &str| {
        let entry = format!("{{name: aod, sha256: \"{sha256}\", scopes: [{scopes}], namespaces: [{namespaces}]}}");
        workspace.write_policy(&format!("api: {{tokens: [{entry}]}}\n"));
    };
    let admin = std::mem::replace(&mut daemon.token, token);
    write("\"registry:read\"", "autonomy");
    let daemon = &daemon;
    let until_status = async |status: u16, path: &str| {
        until("the policy is in force", || async {
            let answer = daemon.get(path).await;
            (answer.status == status, format!("{} {}", answer.status, answer.body))
        })
        .await;
    };
    until_status(200, "/connections").await;
    let old = reqwest::Client::builder().no_proxy().build().expect("a client");
    let old = old.get(daemon.url("/connections")).bearer_auth(admin.expose()).send().await.expect("an answer");
    let old = old.text().await.expect("a body");
    assert!(old.contains("aam token new --name NAME") && old.contains("api.tokens"), "{old}");
    // A missing namespace and a missing scope are added to the entry of the token.
    let refused = daemon.get("/connections?namespace=other").await;
    let fix = detail(&refused, 403, "NAMESPACE_NOT_ALLOWED");
    assert!(fix.contains("add other to the namespaces"), "{fix}");
    assert!(fix.contains("Name a namespace of this token (autonomy)") && !fix.contains("names none"), "{fix}");
    assert_eq!(daemon.get("/connections?namespace=autonomy").await.status, 200);
    write("\"registry:read\"", "autonomy, other");
    until_status(200, "/connections?namespace=other").await;
    let refused = daemon.post("/connections/heal", &json!({})).await;
    assert!(detail(&refused, 403, "SCOPE_MISSING").contains("add ops:heal to the scopes"));
    write("\"registry:read\", \"ops:heal\"", "autonomy, other");
    until("the scope is in force", || async {
        (daemon.post("/connections/heal", &json!({})).await.status == 200, String::new())
    })
    .await;
}

#[tokio::test]
async fn a_refused_push_is_fixed_as_the_detail_says() {
    let workspace = Workspace::new();
    let daemon = workspace.serve().await;
    let document = intent("filesource", &workspace.csv("a.csv", 2));
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let push = |media_type: &'static str, body: String| {
        let request = client.post(daemon.url("/connections/onboard")).bearer_auth(daemon.token.expose());
        request.header("content-type", media_type).header("prefer", "wait=30").body(body).send()
    };
    let refused: Value =
        serde_json::from_str(&push("text/plain", document.to_string()).await.expect("an answer").text().await.expect("a body"))
            .expect("JSON");
    assert_eq!(
        (&refused["code"], &refused["detail"]),
        (&json!("NOT_JSON_TYPE"), &json!("Content-Type must be application/json, application/yaml or application/x-ndjson."))
    );
    assert_eq!(push("application/json", document.to_string()).await.expect("an answer").status(), 201);

    let mut large = document.clone();
    large["note"] = json!("n".repeat(1 << 20));
    let refused = daemon.push(&large).await;
    assert!(detail(&refused, 413, "TOO_LARGE").contains("smaller intents"));
    large["note"] = json!("n".repeat(1 << 10));
    assert_eq!(daemon.push(&large).await.status, 200);

    let refused = daemon.push(&json!([document])).await;
    assert_eq!(refused.status, 422, "{}", refused.body);
    assert!(refused.body["problems"][0]["hint"].as_str().is_some_and(|hint| hint.contains("/connections/onboard/batch")));
    let batch = daemon.post("/connections/onboard/batch", &json!({ "intents": [document] })).await;
    assert_eq!((batch.status, &batch.body["succeeded"]), (200, &json!(1)));

    let mut unsafe_scopes = document.clone();
    unsafe_scopes["scopes_mode"] = json!("read_write");
    assert!(detail(&daemon.push(&unsafe_scopes).await, 403, "UNSAFE_SCOPES_MODE").contains("set it to safe_readonly"));
    unsafe_scopes["scopes_mode"] = json!("safe_readonly");
    assert_eq!(daemon.push(&unsafe_scopes).await.status, 200);
}

#[tokio::test]
async fn a_retired_connection_comes_back_as_the_detail_says() {
    let workspace = Workspace::new();
    let path = workspace.csv("a.csv", 2);
    workspace.intent_file("a.json", &intent("filesource", &path));
    workspace.intent_file("b.json", &intent("filesource", &workspace.csv("b.csv", 2)));
    let daemon = workspace.serve().await;
    let one = daemon.until_state(&path, "ACTIVE").await;
    let id = one["connection_id"].as_str().expect("an id").to_string();
    std::fs::remove_file(workspace.path("intents/a.json")).expect("removed");
    daemon.until_state(&path, "RETIRED").await;
    let refused = daemon.post(&format!("/connections/{id}/heal"), &json!({})).await;
    assert!(detail(&refused, 409, "RETIRED").contains("Push its intent again or restore its file"));
    assert_eq!(daemon.push(&intent("filesource", &path)).await.body["status"], "ACTIVE");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_errors_of_aam_heal_are_fixed_as_they_say() {
    let workspace = Workspace::new();
    let daemon = workspace.serve().await;
    let port = daemon.port.to_string();
    let heal = |workspace: &Workspace, more: &[&str]| {
        let output = workspace.run(&[&["heal", "--port", &port], more].concat());
        (output.status.code(), stderr(&output))
    };
    // The admin token file is damaged: remove it, and the daemon writes a new one.
    let path = workspace.path("var/aam.db.admin-token");
    daemon.stop().await;
    std::fs::write(&path, "short").expect("written");
    let daemon = workspace.start();
    until("the daemon reports the damaged file", || async {
        (daemon.log().contains("does not hold a token; remove the file"), daemon.log())
    })
    .await;
    assert_eq!(daemon.get("/connections").await.status, 401);
    std::fs::remove_file(&path).expect("removed");
    assert_eq!(daemon.get("/connections").await.status, 401, "this request makes the daemon write a new file");
    let port = daemon.port.to_string();
    let output = workspace.run(&["heal", "--port", &port]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    // The policy lists tokens: the admin token is refused, and the message names the variable and the scope.
    let (token, sha256) = new_token(&workspace, "ops");
    workspace.write_policy(&format!(
        "api: {{tokens: [{{name: ops, sha256: \"{sha256}\", scopes: [\"ops:heal\"], namespaces: [autonomy]}}]}}\n"
    ));
    until("the policy is in force", || async {
        let output = workspace.run(&["heal", "--port", &port]);
        (stderr(&output).contains("set AAM_TOKEN to a token of the policy with the scope ops:heal"), stderr(&output))
    })
    .await;
    let output = workspace.command(&["heal", "--port", &port]).env("AAM_TOKEN", token.expose()).output().expect("it runs");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let (code, message) = heal(&workspace, &["not-an-id"]);
    assert!(code == Some(64) && message.contains("aam status lists the connections"), "{message}");
    assert_eq!(workspace.run(&["status"]).status.code(), Some(0));
}
