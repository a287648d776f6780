//! The engine `airbyte_platform`: the built binary, whose policy names a company's own Airbyte, against the Airbyte and the Okta
//! of the vendor sandbox.

use crate::support::daemon::{Daemon, Workspace, intent_with_locator, until};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const WORKSPACE: &str = "7a000000-0000-4000-8000-000000000001";
const APPLICATION: &str = r#"{"client_id": "airbyte-sandbox-client", "client_secret": "airbyte-sandbox-secret"}"#;
const DATABASE: &str = r#"{"username": "aam", "password": "postgres-sandbox-password"}"#;
const OKTA_TOKEN: &str = r#"{"api_token": "00sandboxReadOnlyAdministratorToken0000000"}"#;
/// The definition of the connector that makes sample data.
const FAKER: &str = "dfd88b22-b603-4c3d-aad7-3701784586b1";
/// Nothing listens there, so AAM itself cannot read the database.
const UNREACHED: &str = "postgres://127.0.0.1:1/shop";

/// The sandbox as a process. It ends when this is dropped, because its standard input closes then.
struct Sandbox {
    child: Child,
    state: tempfile::TempDir,
    addresses: Value,
    client: reqwest::Client,
}

impl Sandbox {
    async fn start() -> Sandbox {
        let binary = Path::new(env!("CARGO_BIN_EXE_aam")).with_file_name("aam-sandbox");
        assert!(binary.exists(), "{} does not exist; run cargo build -p aam-sandbox, or make unit", binary.display());
        let state = tempfile::tempdir().unwrap();
        let vendors = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("sandbox");
        let child = Command::new(binary)
            .args(["--only", "airbyte,okta", "--proxy", "127.0.0.1:0", "--http", "acme.airbyte.example=127.0.0.1:0"])
            .args(["--until-stdin-closes", "--vendors"])
            .arg(vendors)
            .arg("--state")
            .arg(state.path())
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let file = state.path().join("addresses.json");
        until("the sandbox is ready", || {
            let ready = file.exists();
            async move { (ready, String::new()) }
        })
        .await;
        let addresses: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        let _ = rustls::crypto::ring::default_provider().install_default();
        let proxy = reqwest::Proxy::http(format!("http://{}", addresses["proxy"].as_str().unwrap())).unwrap();
        let client = reqwest::Client::builder().proxy(proxy).build().unwrap();
        Sandbox { child, state, addresses, client }
    }

    /// A workspace whose policy serves okta and postgres by the Airbyte at `url`.
    fn workspace(&self, url: &str, credential: &str) -> Workspace {
        let mut workspace = Workspace::new();
        workspace.set("AIRBYTE_CREDENTIAL", credential);
        workspace.set("SHOP", DATABASE);
        workspace.set("OKTA", OKTA_TOKEN);
        let (proxy, ca) = (self.addresses["proxy"].as_str().unwrap(), self.state.path().join("ca.pem"));
        workspace.write_policy(&format!(
            "allowlist: [okta, postgres]\n\
             network: {{allow_private: [127.0.0.0/8], proxy: \"http://{proxy}\", ca_file: \"{}\"}}\n\
             breaker: {{failures: 1000}}\n\
             airbyte: {{platform: {{url: \"{url}\", workspace: {WORKSPACE}, credential: \"env:AIRBYTE_CREDENTIAL\"}}}}\n\
             families: {{okta: {{engine: airbyte}}, postgres: {{engine: airbyte}}}}\n\
             safe_mode: {{max_items: 20, step_timeout: 20s, attempt_timeout: 60s}}\n",
            ca.display()
        ));
        workspace
    }

    /// The calls to Airbyte as `METHOD path`, and what no file of a vendor describes.
    async fn calls(&self) -> (Vec<String>, Vec<String>) {
        let text = self.client.get("http://sandbox.invalid/calls").send().await.unwrap().text().await.unwrap();
        let calls: Vec<Value> = serde_json::from_str(&text).unwrap();
        let airbyte = calls.iter().filter(|call| call["family"] == "airbyte");
        let shown = |call: &Value| format!("{} {}", call["method"].as_str().unwrap(), call["path"].as_str().unwrap());
        let violations = calls.iter().filter_map(|call| call["violation"].as_str().map(str::to_string)).collect();
        (airbyte.map(shown).collect(), violations)
    }

    /// Calls Airbyte as a person with a token would.
    async fn person(&self, path: &str, body: &Value) -> Value {
        let address = self.addresses["http"]["acme.airbyte.example"].as_str().unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = client.post(format!("http://{address}/api/v1{path}")).bearer_auth("airbyte-sandbox-token-acme");
        let text = request.header("content-type", "application/json").body(body.to_string()).send().await.unwrap();
        serde_json::from_str(&text.text().await.unwrap()).unwrap()
    }

    async fn sources(&self) -> Vec<Value> {
        let listed = self.person("/sources/list", &json!({"workspaceId": WORKSPACE})).await;
        listed["sources"].as_array().unwrap().clone()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

async fn connect(daemon: &Daemon, source_type: &str, resource_id: &str) -> Value {
    let locator = if source_type == "okta" { "env:OKTA" } else { "env:SHOP" };
    let pushed = daemon.push(&intent_with_locator(source_type, resource_id, locator)).await.body;
    details(daemon, &pushed).await
}

async fn details(daemon: &Daemon, pushed: &Value) -> Value {
    let id = pushed["connection_id"].as_str().unwrap_or_else(|| panic!("{pushed}"));
    daemon.get(&format!("/connections/{id}")).await.body
}

/// Checks the connection again, wholly, and waits for the end of that attempt.
async fn heal(daemon: &Daemon, connection: &Value) -> Value {
    let id = connection["connection_id"].as_str().unwrap();
    daemon.post(&format!("/connections/{id}/heal"), &json!({})).await;
    details(daemon, connection).await
}

fn step<'a>(connection: &'a Value, name: &str) -> &'a Value {
    let steps = connection["steps"].as_array().expect("steps");
    steps.iter().find(|step| step["step"] == name).unwrap_or(&Value::Null)
}

fn count(calls: &[String], call: &str) -> usize {
    calls.iter().filter(|made| *made == call).count()
}

#[tokio::test]
async fn a_source_is_made_once_and_airbyte_checks_and_discovers_it() {
    let sandbox = Sandbox::start().await;
    let workspace = sandbox.workspace("https://acme.airbyte.example", APPLICATION);
    let daemon = workspace.serve().await;

    let okta = connect(&daemon, "okta", "acme.okta.com").await;
    assert_eq!(okta["status"], "ACTIVE", "{okta}");
    let upsert = &step(&okta, "upsert")["evidence"];
    assert_eq!(upsert["action"], "created", "{upsert}");
    let id = okta["connection_id"].as_str().unwrap();
    let name = upsert["source"].as_str().unwrap();
    assert!(name.starts_with(&format!("AAM okta acme.okta.com ({id}, installation ")), "{name}");
    assert!(upsert["retirement"].as_str().unwrap().contains("AAM deletes nothing at Airbyte"), "{upsert}");
    // Airbyte discovered logs, which AAM's own engine does not have; that engine read the records.
    let sync = step(&okta, "tiny_sync");
    assert!(sync["evidence"]["read_by"].as_str().is_some_and(|by| by.contains("AAM's own engine")), "{sync}");
    assert!(okta["first_sync_rows"].as_u64().is_some_and(|rows| rows > 0), "{okta}");
    assert_eq!(step(&okta, "discover")["evidence"]["streams"], 3, "{okta}");

    let healed = heal(&daemon, &okta).await;
    assert_eq!(step(&healed, "upsert")["evidence"]["action"], "unchanged", "{healed}");
    assert_eq!(sandbox.sources().await.len(), 1);

    // The database is in a network that only Airbyte reaches.
    let shop = connect(&daemon, "postgres", UNREACHED).await;
    assert_eq!(shop["status"], "ACTIVE", "{shop}");
    assert_eq!(shop["first_sync_rows"], Value::Null);
    let sync = step(&shop, "tiny_sync");
    assert_eq!(sync["status"], "skipped", "{sync}");
    assert!(sync["reason"].as_str().unwrap().starts_with("metadata only: "), "{sync}");
    assert!(shop["message"].as_str().unwrap().contains("metadata only"), "{shop}");

    let (calls, violations) = sandbox.calls().await;
    assert_eq!(violations, Vec::<String>::new());
    assert_eq!(count(&calls, "POST /api/v1/sources/create"), 2, "{calls:?}");
    assert_eq!(count(&calls, "POST /api/v1/sources/update"), 0, "{calls:?}");
    for call in &calls {
        assert!(call.starts_with("POST /api/v1/") && !call.contains("connections") && !call.contains("delete"), "{call}");
    }
    // Neither secret is in any file of AAM.
    for (path, bytes) in workspace.files() {
        for secret in ["airbyte-sandbox-secret", "airbyte-sandbox-token-acme", "postgres-sandbox-password"] {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{secret} is in {}", path.display());
        }
    }
}

#[tokio::test]
async fn a_changed_source_is_updated_and_of_two_the_oldest_is_used() {
    let sandbox = Sandbox::start().await;
    let workspace = sandbox.workspace("https://acme.airbyte.example/api/v1", "aam:airbyte-sandbox-password");
    let daemon = workspace.serve().await;
    let shop = connect(&daemon, "postgres", UNREACHED).await;
    assert_eq!(shop["status"], "ACTIVE", "{shop}");
    let source = sandbox.sources().await.remove(0);

    // Somebody changes the source by hand and copies it.
    let mut config = json!({"host": "elsewhere", "port": 1, "database": "shop", "username": "aam", "password": "other"});
    let changed = json!({"sourceId": source["sourceId"], "name": source["name"], "connectionConfiguration": config});
    sandbox.person("/sources/update", &changed).await;
    config["host"] = "copy".into();
    let copy = json!({"workspaceId": WORKSPACE, "name": source["name"], "sourceDefinitionId": source["sourceDefinitionId"], "connectionConfiguration": config});
    let copy = sandbox.person("/sources/create", &copy).await;

    let healed = heal(&daemon, &shop).await;
    assert_eq!(healed["status"], "ACTIVE", "{healed}");
    let upsert = step(&healed, "upsert");
    assert_eq!(upsert["status"], "warned", "{upsert}");
    assert_eq!(upsert["evidence"]["action"], "updated");
    assert_eq!(upsert["evidence"]["source_id"], source["sourceId"], "the oldest");
    assert_eq!(upsert["evidence"]["other_sources"], json!([copy["sourceId"]]));
    assert_eq!(upsert["evidence"]["changed_at_airbyte"], true, "{upsert}");
    let sources = sandbox.sources().await;
    assert_eq!(sources[0]["connectionConfiguration"]["host"], "127.0.0.1", "{sources:?}");
    assert_eq!(sources[1]["connectionConfiguration"]["host"], "copy", "{sources:?}");
    // After a restart AAM does not know what it wrote, so it writes it again; the source stays the same one.
    assert_eq!(daemon.stop().await, Some(0));
    let daemon = workspace.serve().await;
    let again = heal(&daemon, &shop).await;
    assert_eq!(step(&again, "upsert")["evidence"]["action"], "updated", "{again}");
    assert_eq!(sandbox.sources().await.len(), 2);
}

#[tokio::test]
async fn two_installations_with_the_same_intent_have_a_source_each() {
    let sandbox = Sandbox::start().await;
    let workspaces = [(); 2].map(|()| sandbox.workspace("https://acme.airbyte.example", APPLICATION));
    let daemons = [workspaces[0].serve().await, workspaces[1].serve().await];
    let shops = [connect(&daemons[0], "postgres", UNREACHED).await, connect(&daemons[1], "postgres", UNREACHED).await];
    assert_eq!(shops[0]["connection_id"], shops[1]["connection_id"], "the same intent");
    let name = |shop: &Value| step(shop, "upsert")["evidence"]["source"].as_str().unwrap().to_string();
    assert_ne!(name(&shops[0]), name(&shops[1]));
    for (daemon, shop) in daemons.iter().zip(&shops) {
        assert_eq!(shop["status"], "ACTIVE", "{shop}");
        let healed = heal(daemon, shop).await;
        assert_eq!(step(&healed, "upsert")["evidence"]["action"], "unchanged", "{healed}");
        assert_eq!(name(&healed), name(shop));
    }
    let (calls, _) = sandbox.calls().await;
    assert_eq!(sandbox.sources().await.len(), 2);
    assert_eq!(count(&calls, "POST /api/v1/sources/update"), 0, "{calls:?}");
}

#[tokio::test]
async fn a_source_that_an_earlier_version_named_is_taken_over_once_and_only_with_the_right_connector() {
    let sandbox = Sandbox::start().await;
    let [first, second] = [(); 2].map(|()| sandbox.workspace("https://acme.airbyte.example", APPLICATION));
    let daemon = first.serve().await;
    let shop = connect(&daemon, "postgres", UNREACHED).await;
    let own = sandbox.sources().await.remove(0);
    let earlier = format!("AAM postgres {UNREACHED} ({})", shop["connection_id"].as_str().unwrap());
    let config = json!({"host": "earlier", "port": 1, "database": "shop", "username": "aam", "password": "other"});
    for (definition, config) in [(FAKER, json!({"count": 7})), (own["sourceDefinitionId"].as_str().unwrap(), config)] {
        let source = json!({"workspaceId": WORKSPACE, "name": earlier, "sourceDefinitionId": definition, "connectionConfiguration": config});
        sandbox.person("/sources/create", &source).await;
    }

    let daemon = second.serve().await;
    let taken = connect(&daemon, "postgres", UNREACHED).await;
    assert_eq!(taken["status"], "ACTIVE", "{taken}");
    let upsert = &step(&taken, "upsert")["evidence"];
    assert!(upsert["action"].as_str().unwrap().starts_with("taken over"), "{upsert}");
    let healed = heal(&daemon, &taken).await;
    assert_eq!(step(&healed, "upsert")["evidence"]["action"], "unchanged", "{healed}");
    assert_eq!(step(&healed, "upsert")["evidence"]["source_id"], upsert["source_id"]);
    let sources = sandbox.sources().await;
    assert_eq!(sources.len(), 3, "nothing was created besides: {sources:?}");
    assert_eq!((&sources[0]["name"], &sources[0]["sourceId"]), (&own["name"], &own["sourceId"]), "the first one is untouched");
    assert_eq!((&sources[1]["name"], &sources[1]["connectionConfiguration"]), (&json!(earlier), &json!({"count": 7})));
    assert_eq!((&sources[2]["name"], &sources[2]["connectionConfiguration"]["host"]), (&upsert["source"], &json!("127.0.0.1")));
}

#[tokio::test]
async fn a_source_of_another_connector_is_refused_and_gets_nothing() {
    for url in ["https://acme.airbyte.example", "https://acme.airbyte.example/api/public/v1"] {
        let sandbox = Sandbox::start().await;
        let workspace = sandbox.workspace(url, APPLICATION);
        let daemon = workspace.serve().await;
        let okta = connect(&daemon, "okta", "acme.okta.com").await;
        assert_eq!(okta["status"], "ACTIVE", "{okta}");
        let own = sandbox.sources().await.remove(0);

        // Somebody renames the source, and another one with other data gets its name.
        let renamed =
            json!({"sourceId": own["sourceId"], "name": "set aside", "connectionConfiguration": own["connectionConfiguration"]});
        sandbox.person("/sources/update", &renamed).await;
        let foreign = json!({"workspaceId": WORKSPACE, "name": own["name"], "sourceDefinitionId": FAKER, "connectionConfiguration": {"count": 7}});
        let id = sandbox.person("/sources/create", &foreign).await["sourceId"].clone();
        let (before, _) = sandbox.calls().await;
        let refused = heal(&daemon, &okta).await;
        let error = &refused["error"];
        assert_eq!(error["class"], "misconfigured", "{refused}");
        let title = error["title"].as_str().unwrap();
        assert!(title.contains("airbyte/source-faker:7.2.1") && title.contains("airbyte/source-okta:0.3.26"), "{title}");
        let fix = error["fix"].as_str().unwrap();
        assert!(fix.contains("rename or delete") && fix.contains(id.as_str().unwrap()), "{fix}");
        let (calls, _) = sandbox.calls().await;
        for call in
            ["/api/v1/sources/update", "/api/v1/sources/create", "/api/v1/sources/check_connection", "/api/public/v1/sources"]
        {
            let call = format!("POST {call}");
            assert_eq!(count(&calls, &call), count(&before, &call), "{call} was sent");
        }
        assert_eq!(sandbox.sources().await[1]["connectionConfiguration"], json!({"count": 7}));

        // The fix works.
        let renamed = json!({"sourceId": id, "name": "not of AAM", "connectionConfiguration": {"count": 7}});
        sandbox.person("/sources/update", &renamed).await;
        let healed = heal(&daemon, &okta).await;
        assert_eq!(healed["status"], "ACTIVE", "{healed}");
        assert_eq!(step(&healed, "upsert")["evidence"]["action"], "created", "{healed}");
    }
}

#[tokio::test]
async fn a_source_whose_creation_was_not_answered_is_not_made_again() {
    let sandbox = Sandbox::start().await;
    let workspace = sandbox.workspace("https://forgetful-acme.airbyte.example", APPLICATION);
    let daemon = workspace.serve().await;
    let shop = connect(&daemon, "postgres", UNREACHED).await;
    assert_eq!(shop["status"], "ACTIVE", "{shop}");
    let action = step(&shop, "upsert")["evidence"]["action"].as_str().unwrap().to_string();
    assert!(action.contains("its answer was lost"), "{action}");
    let (calls, violations) = sandbox.calls().await;
    assert_eq!((count(&calls, "POST /api/v1/sources/create"), violations), (1, Vec::new()), "{calls:?}");
}

#[tokio::test]
async fn what_an_installation_refuses_or_lacks_is_named() {
    let sandbox = Sandbox::start().await;
    for (url, credential, class, title) in [
        (
            "https://old-acme.airbyte.example",
            APPLICATION,
            "wrong_service",
            "does not have the call POST /api/v1/sources/discover_schema (404)",
        ),
        (
            "https://before-applications-acme.airbyte.example",
            APPLICATION,
            "wrong_service",
            "does not have the call POST /api/v1/applications/token",
        ),
        (
            "https://broken-acme.airbyte.example",
            APPLICATION,
            "remote",
            "the check failed in the Airbyte at broken-acme.airbyte.example",
        ),
        (
            "https://acme.airbyte.example",
            r#"{"client_id": "airbyte-sandbox-client", "client_secret": "wrong-of-the-test"}"#,
            "credential_rejected",
            "does not accept the application of airbyte.platform.credential",
        ),
        (
            "https://acme.airbyte.example",
            "aam:wrong-of-the-test",
            "credential_rejected",
            "does not accept the credential of airbyte.platform.credential",
        ),
        ("https://other.airbyte.example", APPLICATION, "permission_denied", "may not use the workspace"),
        (
            "https://page-acme.airbyte.example",
            APPLICATION,
            "wrong_service",
            "did not answer POST /api/v1/applications/token as Airbyte does",
        ),
        ("https://moved-acme.airbyte.example", APPLICATION, "egress_refused", "redirected"),
        ("https://api.airbyte.com/v2", APPLICATION, "misconfigured", "is not the address of an API of Airbyte"),
    ] {
        let workspace = sandbox.workspace(url, credential);
        let daemon = workspace.serve().await;
        let shop = connect(&daemon, "postgres", UNREACHED).await;
        assert_ne!(shop["status"], "ACTIVE", "{url}");
        assert_eq!(shop["error"]["class"], class, "{url} {shop}");
        assert!(shop["error"]["title"].as_str().unwrap().contains(title), "{url} {shop}");
        assert!(!shop.to_string().contains("wrong-of-the-test"), "{shop}");
    }
    let (calls, _) = sandbox.calls().await;
    assert!(calls.iter().all(|call| call.starts_with("POST /api/v1/")), "{calls:?}");
}

#[tokio::test]
async fn the_cloud_and_the_public_api_create_and_discover_and_never_update() {
    for (url, base) in [("https://api.airbyte.com/v1", "/v1"), ("https://acme.airbyte.example/api/public/v1", "/api/public/v1")] {
        // Both addresses show the same workspace, so the second one would find the source of the first.
        let sandbox = Sandbox::start().await;
        let workspace = sandbox.workspace(url, APPLICATION);
        let daemon = workspace.serve().await;
        let okta = connect(&daemon, "okta", "acme.okta.com").await;
        assert_eq!(okta["status"], "ACTIVE", "{url} {okta}");
        assert_eq!(step(&okta, "discover")["evidence"]["streams"], 3, "{okta}");
        let healed = heal(&daemon, &okta).await;
        assert_eq!(healed["status"], "ACTIVE", "{url} {healed}");
        let (calls, violations) = sandbox.calls().await;
        assert_eq!(violations, Vec::<String>::new(), "{url}");
        assert_eq!(count(&calls, &format!("POST {base}/sources")), 1, "{calls:?}");
        let written: Vec<&String> = calls.iter().filter(|call| !call.starts_with("GET ")).collect();
        let expected = [format!("POST {base}/sources"), format!("POST {base}/applications/token")];
        assert!(written.iter().all(|call| expected.contains(call)), "{written:?}");
    }
}
