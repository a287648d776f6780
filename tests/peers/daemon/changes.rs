//! What happens to an ACTIVE connection when its source changes.

use super::sources::*;
use crate::support::daemon::{Daemon, Workspace};
use serde_json::{Value, json};

peer_tests! {
    [Postgres]: a_changed_password_leads_to_healing_until_the_credential_is_valid_again,
        a_revoked_permission_leads_to_healing_and_is_named_with_its_grant,
        a_dropped_table_is_a_breaking_schema_change_that_the_next_attempt_verifies;
}

/// A daemon with one ACTIVE connection to the database `name`.
async fn active(what: &'static str, name: &str, retry: &str) -> (Workspace, Daemon, Value) {
    let mut workspace = Workspace::new();
    let id = format!("postgresql://{}/{name}", address("POSTGRES"));
    let all = [source(what, "postgres", id, login(name, &password_of(name)))];
    set_secrets(&mut workspace, &all);
    workspace.write_policy(&policy(retry, ""));
    let daemon = workspace.serve().await;
    let response = daemon.push(&all[0].intent()).await;
    assert_eq!(response.body["status"], "ACTIVE", "{}", response.body);
    (workspace, daemon, response.body)
}

fn error_text(one: &Value) -> String {
    one["error"].to_string()
}

async fn a_changed_password_leads_to_healing_until_the_credential_is_valid_again() {
    let (name, admin) = create_database("rotated").await;
    let (_workspace, daemon, one) = active("rotated", &name, "1h").await;
    admin.batch_execute(&format!("ALTER ROLE {name} PASSWORD 'another'")).await.expect("rotated");
    let response = heal(&daemon, &one).await;
    assert_eq!(
        (&response["status"], &response["error"]["class"]),
        (&json!("HEALING"), &json!("credential_rejected")),
        "{response}"
    );
    assert!(error_text(&response).contains("28P01") && error_text(&response).contains("ALTER ROLE"), "{response}");
    // A second check without a change leaves the connection in HEALING.
    assert_eq!(heal(&daemon, &one).await["status"], "HEALING");
    assert_eq!(daemon.funnel().await["healing"], 1);
    admin.batch_execute(&format!("ALTER ROLE {name} PASSWORD '{}'", password_of(&name))).await.expect("rotated back");
    let response = heal(&daemon, &one).await;
    assert_eq!((&response["status"], &response["error"]), (&json!("ACTIVE"), &Value::Null), "{response}");
}

async fn a_revoked_permission_leads_to_healing_and_is_named_with_its_grant() {
    let (name, admin) = create_database("revoked").await;
    let (_workspace, daemon, one) = active("revoked", &name, "1h").await;
    let id = one["connection_id"].as_str().expect("an id");
    // One of the two tables cannot be read any more. It is skipped and keeps its schema, and the connection stays ACTIVE.
    admin.batch_execute(&format!("REVOKE SELECT ON people FROM {name}")).await.expect("revoked");
    let response = heal(&daemon, &one).await;
    assert_eq!(response["status"], "ACTIVE", "{response}");
    let catalog = daemon.get(&format!("/connections/{id}/catalog")).await.body;
    let streams = catalog["catalog"]["streams"].as_array().expect("streams");
    assert!(
        streams.iter().any(|stream| stream["name"] == "people"),
        "a table that cannot be read must stay in the catalog: {catalog}"
    );
    // Now no table can be read.
    admin.batch_execute(&format!("REVOKE SELECT ON orders FROM {name}")).await.expect("revoked");
    let response = heal(&daemon, &one).await;
    assert_eq!(
        (&response["status"], &response["error"]["class"]),
        (&json!("HEALING"), &json!("permission_denied")),
        "{response}"
    );
    let error = error_text(&response);
    assert!(error.contains("orders") && error.contains("GRANT SELECT"), "{error}");
    admin.batch_execute(&format!("GRANT SELECT ON orders, people TO {name}")).await.expect("granted");
    assert_eq!(heal(&daemon, &one).await["status"], "ACTIVE");
}

async fn a_dropped_table_is_a_breaking_schema_change_that_the_next_attempt_verifies() {
    let (name, admin) = create_database("dropped").await;
    let (_workspace, daemon, one) = active("dropped", &name, "3s").await;
    assert_eq!(one["catalog_version"], 1);
    admin.batch_execute("ALTER TABLE orders ADD COLUMN note text").await.expect("widened");
    let response = heal(&daemon, &one).await;
    assert_eq!(
        (&response["status"], &response["catalog_version"]),
        (&json!("ACTIVE"), &json!(2)),
        "a new column is not a breaking change: {response}"
    );
    admin.batch_execute("DROP TABLE people").await.expect("dropped");
    let response = heal(&daemon, &one).await;
    assert_eq!((&response["status"], &response["error"]["class"]), (&json!("HEALING"), &json!("drift")), "{response}");
    assert!(error_text(&response).contains("people"), "{response}");
    // Without a heal, the next attempt, after the backoff, verifies against the new schema.
    let id = one["resource_ids"][0].as_str().expect("an id");
    let verified = daemon.until_state(id, "ACTIVE").await;
    assert_eq!(verified["catalog_version"], 3, "{verified}");
}
