//! Recorded calls: every call of an attempt is a fact, for `aam calls`, the API and `aam verify`.

use crate::principals::{SECRET, client, server, workspace};
use crate::support::daemon::{Workspace, intent, intent_with_locator, stderr, stdout, until};
use crate::support::described_service::{DescribedService, ServiceMode};
use crate::support::fake_postgres::{Behavior, FakePostgres};
use crate::support::receiver::Receiver;
use crate::support::token_endpoint::TokenService;
use rusqlite::Connection;
use serde_json::{Value, json};

/// The calls that `aam calls` prints as JSON.
pub(crate) fn calls(workspace: &Workspace, options: &[&str]) -> Vec<Value> {
    let output = workspace.run(&[&["calls", "--json", "--limit", "10000"], options].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_str(&stdout(&output)).expect("a list")
}

/// A workspace with an intent for a warehouse, the server that plays it, and its host with port.
pub(crate) async fn with_warehouse() -> (Workspace, FakePostgres, String) {
    let mut workspace = Workspace::new();
    workspace.set("WAREHOUSE", r#"{"user":"aam","password":"hunter2-hunter2"}"#);
    let server = FakePostgres::start(Behavior::redshift()).await;
    let host = format!("127.0.0.1:{}", server.port);
    workspace.write_policy(&format!(
        "allowlist: [redshift]\nnetwork: {{allow_private: [127.0.0.0/8], allow_weak_login: [\"{host}\"]}}\n"
    ));
    workspace.intent_file("dev.json", &intent_with_locator("redshift", &format!("{host}/dev"), "env:WAREHOUSE"));
    (workspace, server, host)
}

fn sqlite_file(workspace: &Workspace) -> String {
    let path = workspace.path("data/shop.db");
    let db = Connection::open(&path).expect("a database");
    db.execute_batch("CREATE TABLE orders (id INTEGER PRIMARY KEY, total REAL); INSERT INTO orders VALUES (1, 2.5);")
        .expect("rows");
    format!("jdbc:sqlite:{}", path.display())
}

/// Runs SQL in the registry while no AAM runs.
fn tamper(workspace: &Workspace, sql: &str) -> rusqlite::Result<()> {
    Connection::open(workspace.path("var/aam.db")).expect("a registry").execute_batch(sql)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_call_of_an_attempt_is_listed_with_its_rule() {
    let workspace = Workspace::new();
    let service = DescribedService::start(ServiceMode::Healthy).await;
    let host = service.url.trim_start_matches("http://").split('/').next().expect("a host").to_owned();
    let (csv, database) = (workspace.csv("things.csv", 3), sqlite_file(&workspace));
    workspace.intent_file("service.json", &intent("openapi", &service.url));
    workspace.intent_file("file.json", &intent("filesource", &csv));
    workspace.intent_file("database.json", &intent("jdbc", &database));
    workspace.run(&["once"]);
    let all = calls(&workspace, &[]);
    let http: Vec<&Value> = all.iter().filter(|call| call["method"] == "GET").collect();
    assert_eq!(http.len(), service.hits(), "each request is one call: {all:#?}");
    let description = http.iter().find(|call| call["path"] == "/openapi.json").expect("the description");
    assert_eq!(
        (&description["host"], &description["status"], &description["purpose"]),
        (&json!(host), &json!(200), &json!("source"))
    );
    assert_eq!((&description["rule"], &description["sent_bytes"]), (&json!("GET and HEAD only read"), &json!(0)));
    assert!(description["bytes"].as_u64() > Some(100) && description["attempt"]["why"] == "new", "{description}");
    assert!(
        description["attempt"]["seq"].is_u64() && description["attempt"]["policy"].as_str().is_some_and(|hash| hash.len() == 64)
    );
    let statements: Vec<&str> = all.iter().filter_map(|call| call["statement"].as_str()).collect();
    assert!(statements.iter().any(|text| text.contains("FROM \"orders\"")), "{statements:?}");
    assert!(!statements.iter().any(|text| text.contains('\'')), "no value stays in a statement: {statements:?}");
    let of = |options: &[&str]| calls(&workspace, options).len();
    assert_eq!((of(&["--host", &host]), of(&["--host", "127.0.0.1"])), (http.len(), http.len()), "with and without the port");
    let id = description["connection_id"].as_str().expect("an id");
    assert_eq!((of(&["--connection", &id[..13]]), of(&["--family", "openapi"])), (http.len(), http.len()));
    assert_eq!((of(&["--since", "1h"]), of(&["--until", "1h"]), of(&["--purpose", "token"])), (all.len(), 0, 0));
    let table = stdout(&workspace.run(&["calls", "--family", "openapi", "--limit", "1"]));
    assert!(table.starts_with("AT ") && table.contains(&format!("the newest 1 of {} calls", http.len())), "{table}");
    for (options, code) in [(&["--since", "yesterday"][..], 64), (&["--purpose", "fun"], 64), (&["--connection", "zzz"], 1)] {
        assert_eq!(workspace.run(&[&["calls"], options].concat()).status.code(), Some(code), "{options:?}");
    }
    let verified = workspace.run(&["verify"]);
    assert!(stdout(&verified).contains(&format!("the recorded calls are intact: {} calls", all.len())), "{}", stdout(&verified));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_that_finds_nothing_new_is_recorded_too_and_the_api_lists_it_in_pages() {
    let workspace = Workspace::new();
    workspace.write_policy("recheck: {health: 300ms, drift: 1h}\n");
    let service = DescribedService::start(ServiceMode::Healthy).await;
    let daemon = workspace.serve().await;
    daemon.push(&intent("openapi", &service.url)).await;
    let connection = daemon.until_state(&service.url, "ACTIVE").await;
    let id = connection["connection_id"].as_str().expect("an id").to_owned();
    let path = format!("/connections/{id}/calls");
    until("a check without news is recorded", || async {
        let body = daemon.get(&format!("{path}?limit=1000")).await.body;
        let calls = body["calls"].as_array().cloned().unwrap_or_default();
        let rechecks = calls.iter().filter(|call| call["attempt"]["why"] == "health" && call["attempt"]["seq"].is_null()).count();
        (rechecks >= 2, format!("{rechecks} of {} calls", calls.len()))
    })
    .await;
    let (mut cursor, mut listed): (String, Vec<Value>) = (String::new(), Vec::new());
    loop {
        let page = daemon.get(&format!("{path}?limit=2&until=2999-01-01T00:00:00Z{cursor}")).await;
        assert_eq!(page.status, 200);
        listed.extend(page.body["calls"].as_array().expect("calls").clone());
        let Some(next) = page.body["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    let times: Vec<&str> = listed.iter().filter_map(|call| call["at"].as_str()).collect();
    assert!(listed.len() >= 4 && times.is_sorted_by(|one, other| one >= other), "{times:?}");
    assert!(listed.iter().any(|call| call["attempt"]["why"] == "new"), "the pages reach the first attempt");
    for wrong in ["?cursor=7", "?purpose=fun", "?since=yesterday", "?limit=0"] {
        assert_eq!(daemon.get(&format!("{path}{wrong}")).await.status, 400, "{wrong}");
    }
    assert_eq!(daemon.get("/connections/00000000-0000-0000-0000-000000000000/calls").await.status, 404);
    assert_eq!(daemon.get(&format!("{path}?purpose=token")).await.body["calls"], json!([]));
    daemon.stop().await;
    let verified = workspace.run(&["verify"]);
    assert!(verified.status.success(), "{}", stderr(&verified));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_for_tokens_and_messages_to_webhooks_are_calls_with_their_purpose() {
    let (service, receiver) = (TokenService::start(server("client_secret_basic")).await, Receiver::start().await);
    let mut workspace = workspace(&client(&service, "secret: \"env:CRM_SECRET\""));
    workspace.set("HOOK_SECRET", "the key of the tests, of 32 bytes");
    let policy = std::fs::read_to_string(workspace.path("policy/policy.yaml")).expect("a policy");
    let hook =
        format!("notify: [{{name: ops, url: \"{}\", secret: \"env:HOOK_SECRET\", on: [state_changed]}}]\n", receiver.url());
    workspace.replace("policy/policy.yaml", (policy + &hook).as_bytes());
    workspace.intent_file("crm.json", &intent_with_locator("openapi", &service.resource(), "sp:crm"));
    let daemon = workspace.serve().await;
    daemon.until_state(&service.resource(), "ACTIVE").await;
    until("the message arrives", || async { (receiver.count() > 0, String::new()) }).await;
    daemon.stop().await;
    let tokens = calls(&workspace, &["--purpose", "token"]);
    assert_eq!(tokens.len(), service.token_calls().len(), "{tokens:#?}");
    assert_eq!((&tokens[0]["method"], &tokens[0]["path"], &tokens[0]["status"]), (&json!("POST"), &json!("/token"), &json!(200)));
    assert!(tokens[0]["rule"].as_str().is_some_and(|rule| rule.contains("credentials.principals.crm")), "{}", tokens[0]);
    assert!(tokens[0]["sent_bytes"].as_u64() > Some(0) && tokens[0]["source_type"] == "openapi", "{}", tokens[0]);
    let messages = calls(&workspace, &["--purpose", "webhook"]);
    assert!(
        !messages.is_empty() && messages.iter().all(|call| call["rule"] == "notify: ops" && call["path"] == ""),
        "{messages:#?}"
    );
    let everything = json!(calls(&workspace, &[])).to_string();
    assert!(!everything.contains(SECRET) && service.issued().iter().all(|token| !everything.contains(token.as_str())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_are_recorded_without_their_values() {
    let (workspace, _server, _host) = with_warehouse().await;
    workspace.run(&["once"]);
    let all = calls(&workspace, &["--family", "redshift"]);
    let statements: Vec<&str> = all.iter().filter_map(|call| call["statement"].as_str()).collect();
    assert!(
        statements.iter().all(|text| text.starts_with("BEGIN TRANSACTION READ ONLY;")) && statements.len() > 2,
        "{statements:#?}"
    );
    assert!(
        statements.iter().any(|text| text.contains("pg_user")) && !json!(all).to_string().contains("hunter2"),
        "{statements:#?}"
    );
    assert!(!statements.iter().any(|text| text.contains('\'')), "no value stays: {statements:#?}");
    assert!(
        all.iter().any(|call| call["statement"].is_null() && call["rule"] == "read-only session"),
        "the connection: {all:#?}"
    );
    assert!(all.iter().all(|call| call["statement"].is_null() || call["rule"] == "read-only transaction"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_and_removed_calls_are_found() {
    for (what, sql, found) in [
        (
            "a changed status",
            "DROP TRIGGER call_rows_no_update; UPDATE call_rows SET status = 404 WHERE batch = 2 AND call = 1;",
            "batch 2",
        ),
        ("a changed path", "DROP TRIGGER call_targets_no_update; UPDATE call_targets SET path = '/elsewhere';", "batch 1"),
        ("a removed call", "DROP TRIGGER call_rows_dropped; DELETE FROM call_rows WHERE batch = 2 AND call = 1;", "batch 2"),
        ("a removed batch", "DROP TRIGGER call_batches_dropped; DELETE FROM call_batches WHERE batch = 1;", "batch 1"),
        ("the last batch", "DROP TRIGGER call_batches_dropped; DELETE FROM call_batches WHERE batch = 2;", "batch 2"),
    ] {
        let workspace = Workspace::new();
        for name in ["one", "two"] {
            workspace.intent_file(&format!("{name}.json"), &intent("filesource", &workspace.csv(&format!("{name}.csv"), 2)));
        }
        workspace.run(&["once"]);
        let guarded = sql.split_once(';').map(|(_, change)| change).expect("a trigger and a change");
        assert!(tamper(&workspace, guarded).is_err(), "{what}: the trigger refuses it");
        assert!(workspace.run(&["verify"]).status.success());
        tamper(&workspace, sql).unwrap_or_else(|error| panic!("{what}: {error}"));
        let verified = workspace.run(&["verify"]);
        assert_eq!(verified.status.code(), Some(1), "{what}: {}", stdout(&verified));
        assert!(stderr(&verified).contains(found), "{what}: {}", stderr(&verified));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_dropped_by_age_and_the_chain_still_verifies() {
    let mut workspace = Workspace::new();
    workspace.set("AAM_TEST_CLOCK", &workspace.path("clock").display().to_string());
    workspace.write_policy("evidence: {keep_calls: 2d}\n");
    workspace.intent_file("one.json", &intent("filesource", &workspace.csv("one.csv", 2)));
    workspace.run(&["once"]);
    assert!(!calls(&workspace, &[]).is_empty());
    let five_days = 5 * 86_400_000_i64;
    std::fs::write(workspace.path("clock"), five_days.to_string()).expect("an offset");
    let daemon = workspace.serve().await;
    until("the old calls are dropped", || async {
        let old = calls(&workspace, &["--until", "1d"]).len();
        (old == 0, format!("{old} calls"))
    })
    .await;
    assert!(daemon.log().contains("head of the ledger"), "{}", daemon.log());
    daemon.stop().await;
    let verified = workspace.run(&["verify"]);
    assert!(stdout(&verified).contains("older ones were dropped"), "{}{}", stdout(&verified), stderr(&verified));
    tamper(&workspace, "DROP TRIGGER call_batches_dropped; DELETE FROM call_batches;").expect("deleted");
    let verified = workspace.run(&["verify"]);
    assert!(stderr(&verified).contains("is missing"), "what should still be there: {}", stderr(&verified));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evidence_is_written_only_from_an_intact_registry_and_forged_calls_are_not_listed() {
    let workspace = Workspace::new();
    for name in ["one", "two"] {
        workspace.intent_file(&format!("{name}.json"), &intent("filesource", &workspace.csv(&format!("{name}.csv"), 2)));
    }
    workspace.run(&["once"]);
    let (before, backup) = (calls(&workspace, &[]), workspace.path("backup.db").display().to_string());
    assert!(workspace.run(&["backup", &backup]).status.success());
    tamper(
        &workspace,
        "DROP TRIGGER call_batches_next;
         INSERT INTO call_targets SELECT 777, x'00', month, purpose, 'DELETE', 'forged.example', path, statement, rule FROM call_targets LIMIT 1;
         INSERT INTO call_batches SELECT 0, at, connection, namespace, family, begun_at, why, policy, attempt, calls, cut, hash
         FROM call_batches WHERE batch = 1;
         INSERT INTO call_rows SELECT 0, call, 777, at, status, sent, bytes, ms, error FROM call_rows WHERE batch = 1;",
    )
    .expect("tampering");
    assert_eq!(calls(&workspace, &[]), before);
    assert!(calls(&workspace, &["--host", "forged.example"]).is_empty());
    let key = workspace.path("evidence.key").display().to_string();
    assert!(workspace.run(&["evidence", "keygen", &key]).status.success());
    let out = workspace.path("bundle");
    let bundle = || workspace.run(&["evidence", "--since", "1d", "--out", &out.display().to_string(), "--key", &key]);
    for refused in [workspace.run(&["verify"]), bundle()] {
        let text = stderr(&refused);
        assert!(
            refused.status.code() == Some(1) && text.contains("batch 0 of the recorded calls was not written by AAM"),
            "{text}"
        );
        assert!(text.contains("restore the file from an earlier backup"), "{text}");
    }
    assert!(stderr(&bundle()).contains("is not intact, so no bundle was written") && !out.exists());
    let restored = workspace.run(&["restore", &backup]);
    assert!(restored.status.success(), "{}", stderr(&restored));
    let written = bundle();
    assert!(written.status.success() && out.join("SHA256SUMS.sig").exists(), "{}", stderr(&written));
}
