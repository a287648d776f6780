//! Services of five frameworks, which generate their own descriptions: the daemon makes each of them ACTIVE from its base URL.

use crate::harness::variable;
use crate::support::daemon::{Workspace, intent};
use serde_json::{Value, json};

peer_tests! {
    [Litestar]: a_litestar_service_is_active;
    [Ninja]: a_django_ninja_service_is_active;
    [Spectacular]: a_drf_spectacular_service_is_active;
    [Nestjs]: a_nestjs_service_is_active;
    [Chromadb]: a_chromadb_server_is_active;
}

/// What a push was answered with, and the catalog of the connection.
struct Pushed {
    body: Value,
    catalog: Value,
}

impl Pushed {
    fn evidence(&self, step: &str) -> &Value {
        let steps = self.body["steps"].as_array().unwrap_or_else(|| panic!("steps: {}", self.body));
        &steps.iter().find(|found| found["step"] == step).unwrap_or_else(|| panic!("{step}: {}", self.body))["evidence"]
    }

    fn columns(&self, stream: &str) -> Vec<&str> {
        let streams = self.catalog["catalog"]["streams"].as_array().unwrap_or_else(|| panic!("streams: {}", self.catalog));
        let stream = streams.iter().find(|found| found["name"] == stream).unwrap_or_else(|| panic!("{stream}: {}", self.catalog));
        stream["json_schema"]["properties"].as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect()
    }

    fn assert_active(&self, rows: u64, operation: &str, security: &str) {
        assert_eq!((&self.body["status"], &self.body["first_sync_rows"]), (&json!("ACTIVE"), &json!(rows)), "{}", self.body);
        let health = self.evidence("health");
        assert_eq!((&health["operation"], &health["security"]), (&json!(operation), &json!(security)), "{health}");
        assert_eq!(health.get("failed"), None, "{health}");
    }
}

/// Pushes the service at the base URL of `peer` to a daemon with the policy's line `families`.
async fn push(peer: &str, secret: Option<&str>, families: &str) -> Pushed {
    let mut workspace = Workspace::new();
    workspace.write_policy(families);
    let mut document = intent("openapi", &variable(peer, "URL"));
    if let Some(secret) = secret {
        workspace.set("SERVICE_SECRET", secret);
        document["credential_locator"] = "env:SERVICE_SECRET".into();
    }
    let daemon = workspace.serve().await;
    let body = daemon.push(&document).await.body;
    let id = body["connection_id"].as_str().unwrap_or_else(|| panic!("an id: {body}")).to_string();
    let catalog = daemon.get(&format!("/connections/{id}/catalog")).await.body;
    Pushed { body, catalog }
}

/// A service with a credential is not ACTIVE with another one, or without one.
async fn assert_protected(peer: &str, wrong: &str) {
    let pushed = push(peer, Some(wrong), "").await;
    assert_eq!(pushed.body["error"]["class"], "credential_rejected", "{}", pushed.body);
    let missing = push(peer, None, "").await;
    assert_eq!(missing.body["status"], "AWAITING_CREDENTIALS", "{}", missing.body);
}

async fn a_litestar_service_is_active() {
    let pushed = push("LITESTAR", Some(&variable("LITESTAR", "TOKEN")), "").await;
    pushed.assert_active(20, "BooksListBooks", "BearerToken");
    assert_eq!(pushed.columns("BooksListBooks"), ["id", "title", "year"]);
    assert_protected("LITESTAR", "wrong").await;
}

async fn a_django_ninja_service_is_active() {
    let pushed = push("NINJA", Some(&variable("NINJA", "TOKEN")), "").await;
    pushed.assert_active(20, "__main___list_books", "Bearer");
    assert_eq!(pushed.columns("__main___list_books"), ["id", "title", "year"]);
    assert_protected("NINJA", "wrong").await;
}

async fn a_drf_spectacular_service_is_active() {
    let login = |password: &str| json!({"username": "reader", "password": password}).to_string();
    let pushed = push("SPECTACULAR", Some(&login(&variable("SPECTACULAR", "PASSWORD"))), "").await;
    pushed.assert_active(20, "users_list", "basicAuth");
    assert_eq!(pushed.columns("users_list"), ["date_joined", "id", "username"]);
    assert_protected("SPECTACULAR", &login("wrong")).await;
}

async fn a_nestjs_service_is_active() {
    let pushed = push("NESTJS", Some(&variable("NESTJS", "TOKEN")), "").await;
    pushed.assert_active(20, "BooksController_list", "bearer");
    assert_eq!(pushed.columns("BooksController_list"), ["id", "title"]);
    assert_protected("NESTJS", "wrong").await;
}

/// ChromaDB's lists are below a tenant and a database, for which the description does not have values, and the description
/// requires a key that this server does not: the policy says both.
async fn a_chromadb_server_is_active() {
    let path = "/api/v2/tenants/default_tenant/databases/default_database/collections";
    let services = format!("[{{match: \"{}/*\", health_path: {path}, auth: none}}]", variable("CHROMADB", "URL"));
    let pushed = push("CHROMADB", None, &format!("families: {{openapi: {{services: {services}}}}}\n")).await;
    pushed.assert_active(2, path, "none: the call does not need a credential");
    let columns = pushed.columns("list_collections");
    assert!(columns.contains(&"name") && columns.contains(&"tenant"), "{columns:?}");
    // Without the policy, only operations that need neither a value nor the key are called.
    let unnamed = push("CHROMADB", None, "").await;
    assert_eq!((&unnamed.body["status"], &unnamed.body["first_sync_rows"]), (&json!("ACTIVE"), &json!(1)), "{}", unnamed.body);
    let health = unnamed.evidence("health");
    assert_eq!(health["security"], "none: the call does not need a credential", "{health}");
}
