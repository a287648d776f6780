//! Intents as clients really write them: other names, other cases, values that AAM does not know, and UUIDs as namespaces.

use crate::support::daemon::{Workspace, intent, stderr, stdout};
use serde_json::{Value, json};

fn warnings(body: &Value) -> Vec<(String, String, String)> {
    let text = |warning: &Value, field: &str| warning[field].as_str().unwrap_or_default().to_string();
    let list = body["warnings"].as_array().cloned().unwrap_or_default();
    list.iter().map(|warning| (text(warning, "pointer"), text(warning, "message"), text(warning, "hint"))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_names_are_read_with_a_warning_and_are_the_same_connection() {
    let workspace = Workspace::new();
    let daemon = workspace.serve().await;
    let path = workspace.csv("a.csv", 3);
    let proper = daemon.push(&intent("filesource", &path)).await;
    assert_eq!((proper.status, &proper.body["status"]), (201, &json!("ACTIVE")), "{}", proper.body);
    assert_eq!(proper.body["warnings"], json!([]));
    let mut spelled = intent("Local-File", &format!(" {path} "));
    spelled["risk_level"] = json!("LOW");
    spelled["namespace"] = json!("Autonomy");
    spelled["scopes_mode"] = json!("SAFE_READONLY");
    spelled["evidence"] = json!({"status": "SANCTIONED", "source": "cmdb", "ts": "2026-11-08 18:00:00"});
    spelled["owner"]["why"] = json!("Administrator");
    let again = daemon.push(&spelled).await;
    assert_eq!((again.status, &again.body["connection_id"]), (200, &proper.body["connection_id"]), "{}", again.body);
    assert_eq!((&again.body["version"], &again.body["source_type"]), (&json!(1), &json!("filesource")), "no new generation");
    let found = warnings(&again.body);
    for (pointer, hint) in [
        ("/source_type", "write filesource"),
        ("/resource_ids/0", "remove them"),
        ("/risk_level", "write low"),
        ("/namespace", "write autonomy"),
        ("/scopes_mode", "write safe_readonly"),
        ("/evidence/status", "write Sanctioned"),
        ("/evidence/source", "write CMDB"),
        ("/evidence/ts", "write 2026-11-08T18:00:00Z"),
        ("/owner/why", "write admin"),
    ] {
        assert!(found.iter().any(|(at, _, how)| at == pointer && how == hint), "{pointer} {hint}: {found:?}");
    }
    // What the client sent can be found in the ledger, and the connection shows the warnings.
    let second = workspace.csv("b.csv", 3);
    spelled["resource_ids"] = json!([second]);
    let first = daemon.push(&spelled).await;
    assert_eq!((first.status, &first.body["status"]), (201, &json!("ACTIVE")), "{}", first.body);
    let accepted = daemon.entries(&first.body, "intent_accepted").await;
    let document = &accepted[0]["body"];
    assert_eq!((&document["source_type"], &document["as_sent"]["/source_type"]), (&json!("filesource"), &json!("Local-File")));
    assert_eq!(document["as_sent"]["/evidence/ts"], "2026-11-08 18:00:00");
    let id = first.body["connection_id"].as_str().expect("an id");
    let shown = daemon.get(&format!("/connections/{id}")).await.body;
    let kept = warnings(&shown);
    assert!(
        kept.contains(&("/owner/why".to_string(), "\"Administrator\" is read as admin".to_string(), "write admin".to_string())),
        "{kept:?}"
    );
    let by_alias = daemon.get("/connections?namespace=AUTONOMY&source_type=local_file").await.body;
    assert_eq!(by_alias["total"], 2, "{by_alias}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_of_databases_get_the_addresses_of_their_family() {
    let workspace = Workspace::new();
    let file = workspace.path("data/shop.db");
    let db = rusqlite::Connection::open(&file).expect("a database");
    db.execute_batch("CREATE TABLE orders (id INTEGER PRIMARY KEY); INSERT INTO orders VALUES (1);").expect("a table");
    let path = file.display().to_string();
    let daemon = workspace.serve().await;
    let proper = daemon.push(&intent("jdbc", &format!("jdbc:sqlite:{path}"))).await;
    assert_eq!(proper.body["status"], "ACTIVE", "{}", proper.body);
    for (name, id) in [("sqlite", path.clone()), ("SQLite3", format!("sqlite://{path}")), ("sqlite", format!("file:{path}"))] {
        let pushed = daemon.push(&intent(name, &id)).await;
        assert_eq!(
            (pushed.status, &pushed.body["connection_id"]),
            (200, &proper.body["connection_id"]),
            "{name} {id}: {}",
            pushed.body
        );
        let found = warnings(&pushed.body);
        assert!(found.iter().any(|(at, what, _)| at == "/resource_ids/0" && what.contains("jdbc:sqlite:PATH")), "{found:?}");
    }
    // Nothing listens there; what counts is which connection it is.
    let postgres = daemon.push(&intent("postgres", "postgresql://127.0.0.1:9/shop")).await;
    for name in ["postgresql", "PostgreSQL", "pg"] {
        let pushed = daemon.push(&intent(name, "postgresql://127.0.0.1:9/shop")).await;
        assert_eq!((pushed.status, &pushed.body["connection_id"]), (200, &postgres.body["connection_id"]), "{name}");
    }
    let mysql = daemon.push(&intent("MySQL", "mysql://127.0.0.1:9/shop")).await;
    assert_eq!(
        (&mysql.body["source_type"], &mysql.body["resource_ids"]),
        (&json!("jdbc"), &json!(["jdbc:mysql://127.0.0.1:9/shop"]))
    );
    let unknown = daemon.push(&intent("Acme CRM", "acme")).await;
    assert_eq!((unknown.status, &unknown.body["code"]), (409, &json!("UNSUPPORTED")), "{}", unknown.body);
    assert_eq!(unknown.body["result"]["source_type"], "acme_crm");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_understood_is_kept_and_not_eligible() {
    let workspace = Workspace::new();
    let daemon = workspace.serve().await;
    let cases = [
        ("/evidence/source", json!("spreadsheet"), "write IdP, CMDB, Procurement or CASB as evidence.source"),
        ("/owner/why", json!("a guess"), "write oauth_consenter, admin, usage, expense or idp_owner as owner.why"),
        ("/risk_level", json!("apocalyptic"), "write low, med or high as risk_level"),
    ];
    for (at, (pointer, value, fix)) in cases.iter().enumerate() {
        let mut document = intent("filesource", &workspace.csv(&format!("{at}.csv"), 3));
        *document.pointer_mut(pointer).expect("a field") = value.clone();
        let pushed = daemon.push(&document).await;
        assert_eq!((pushed.status, &pushed.body["status"]), (201, &json!("REJECTED")), "{}", pushed.body);
        let error = &pushed.body["error"];
        assert_eq!(error["class"], "not_eligible");
        assert!(error["title"].as_str().is_some_and(|title| title.contains(value.as_str().expect("a text"))), "{error}");
        assert!(error["fix"].as_str().is_some_and(|text| text.contains(fix)), "{error}");
        assert!(warnings(&pushed.body).iter().any(|(at, what, _)| at == pointer && what.contains("is not eligible")));
    }
    for (at, locator) in ["GITHUB_TOKEN", "env:GITHUB-TOKEN", "/run/secrets/github", "${GITHUB_TOKEN}"].iter().enumerate() {
        let mut document = intent("filesource", &workspace.csv(&format!("l{at}.csv"), 3));
        document["credential_locator"] = json!(locator);
        let pushed = daemon.push(&document).await;
        assert_eq!((pushed.status, &pushed.body["status"]), (201, &json!("AWAITING_CREDENTIALS")), "{locator}: {}", pushed.body);
        assert!(pushed.body["error"]["fix"].as_str().is_some_and(|fix| fix.starts_with("did you mean ")), "{}", pushed.body);
    }
    let funnel = daemon.funnel().await;
    assert_eq!((&funnel["rejected"], &funnel["awaiting_credentials"], &funnel["eligible"]), (&json!(3), &json!(4), &json!(0)));
    // A mistake without any meaning, a pasted secret and an unsafe mode are refused as before.
    let refused = |pointer: &str, value: Value| {
        let mut document = intent("filesource", "/x.csv");
        *document.pointer_mut(pointer).expect("a field") = value;
        document
    };
    for (document, status) in [
        (refused("/risk_level", json!(3)), 422),
        (refused("/evidence/ts", json!("yesterday")), 422),
        (refused("/owner/why", json!(format!("{}{}", "ghp_", "hunter2canary"))), 422),
        (refused("/scopes_mode", json!("read_write")), 403),
        (refused("/namespace", json!("Demo")), 403),
    ] {
        let answer = daemon.push(&document).await;
        assert_eq!(answer.status, status, "{}", answer.body);
        assert!(!answer.body.to_string().contains("canary"), "{}", answer.body);
    }
    assert_eq!(daemon.connections().await.len(), 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_uuid_is_a_namespace_for_the_api_the_folder_and_tokens() {
    let workspace = Workspace::new();
    let (tenant, other) = ("550e8400-e29b-41d4-a716-446655440000", "9d3c4d2e-0000-4000-8000-000000000001");
    // The digests of the texts "reader-of-tenant" and nothing else; the second token belongs to another namespace.
    let token = "reader-of-tenant";
    let digest = data_encoding::HEXLOWER.encode(ring::digest::digest(&ring::digest::SHA256, token.as_bytes()).as_ref());
    workspace.write_policy(&format!(
        "api: {{tokens: [{{name: tenant, sha256: \"{digest}\", scopes: [intents:write, registry:read], namespaces: [{}]}}]}}\n",
        tenant.to_uppercase()
    ));
    let path = workspace.csv("a.csv", 3);
    let mut document = intent("filesource", &path);
    document["namespace"] = json!(tenant.to_uppercase());
    workspace.intent_file("a.json", &document);
    let check = workspace.run(&["check"]);
    assert!(check.status.success(), "{}{}", stdout(&check), stderr(&check));
    let daemon = workspace.serve().await;
    let client = reqwest::Client::new();
    let get = |path: String| client.get(daemon.url(&path)).bearer_auth(token).send();
    let mut ticks = tokio::time::interval(std::time::Duration::from_millis(20));
    let listed = loop {
        let answer = get(format!("/connections?namespace={tenant}")).await.expect("an answer");
        assert_eq!(answer.status(), 200);
        let body: Value = answer.json().await.expect("JSON");
        if body["connections"][0]["status"] == "ACTIVE" {
            break body;
        }
        ticks.tick().await;
    };
    assert_eq!((&listed["total"], &listed["namespace"]), (&json!(1), &json!(tenant)));
    document["resource_ids"] = json!([workspace.csv("b.csv", 3)]);
    let push = |document: &Value| {
        let request = client.post(daemon.url("/connections/onboard")).bearer_auth(token);
        request.header("content-type", "application/json").body(document.to_string()).send()
    };
    assert_eq!(push(&document).await.expect("an answer").status(), 201);
    document["namespace"] = json!(other);
    assert_eq!(push(&document).await.expect("an answer").status(), 403, "the namespace of another tenant");
    assert_eq!(get(format!("/connections?namespace={other}")).await.expect("an answer").status(), 403);
}

#[test]
fn families_show_their_other_names() {
    let workspace = Workspace::new();
    let list = stdout(&workspace.run(&["families"]));
    let mongo = list.lines().find(|line| line.starts_with("mongo ")).expect("a line");
    assert!(mongo.contains("MongoDB; also mongodb") && mongo.contains("mongodb_atlas"), "{mongo}");
    for name in ["mongodb", "Mongo-DB", "mongodb_atlas"] {
        let page = stdout(&workspace.run(&["families", name]));
        assert!(page.starts_with("MongoDB (mongo") && page.contains("\nother names: mongodb, "), "{name}: {page}");
    }
    let json: Value = serde_json::from_str(&stdout(&workspace.run(&["families", "--format", "json"]))).expect("JSON");
    let jdbc = json.as_array().expect("a list").iter().find(|family| family["id"] == "jdbc").expect("jdbc");
    for name in ["mysql", "mariadb", "sqlite"] {
        assert!(jdbc["aliases"].as_array().is_some_and(|names| names.contains(&json!(name))), "{jdbc}");
    }
    workspace.write_policy("allowlist: [mongodb]\n");
    let check = stdout(&workspace.run(&["check"]));
    assert!(check.contains("did you mean mongo?"), "{check}");
}
