//! What happens to an ACTIVE connection when its source changes.

use super::sources::*;
use crate::support::daemon::{Daemon, Workspace};
use serde_json::{Value, json};

peer_tests! {
    [Postgres]: a_password_changed_in_the_database_is_healing_until_it_fits_again,
        a_right_that_is_revoked_is_healing_and_named_with_its_grant,
        a_dropped_table_is_breaking_drift_and_proven_again_by_the_next_attempt;
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

async fn a_password_changed_in_the_database_is_healing_until_it_fits_again() {
    let (name, admin) = own_postgres("rotated").await;
    let (_place, daemon, one) = active("rotated", &name, "1h").await;
    admin.batch_execute(&format!("ALTER ROLE {name} PASSWORD 'another'")).await.expect("rotated");
    let response = heal(&daemon, &one).await;
    assert_eq!(
        (&response["status"], &response["error"]["class"]),
        (&json!("HEALING"), &json!("credential_rejected")),
        "{response}"
    );
    assert!(error_text(&response).contains("28P01") && error_text(&response).contains("ALTER ROLE"), "{response}");
    // ReceivedRequest again with nothing changed, nothing is promoted.
    assert_eq!(heal(&daemon, &one).await["status"], "HEALING");
    assert_eq!(daemon.funnel().await["healing"], 1);
    admin.batch_execute(&format!("ALTER ROLE {name} PASSWORD '{}'", password_of(&name))).await.expect("rotated back");
    let response = heal(&daemon, &one).await;
    assert_eq!((&response["status"], &response["error"]), (&json!("ACTIVE"), &Value::Null), "{response}");
}

async fn a_right_that_is_revoked_is_healing_and_named_with_its_grant() {
    let (name, admin) = own_postgres("revoked").await;
    let (_place, daemon, one) = active("revoked", &name, "1h").await;
    let id = one["connection_id"].as_str().expect("an id");
    // One table of two is skipped and keeps its schema; the connection stays ACTIVE.
    admin.batch_execute(&format!("REVOKE SELECT ON people FROM {name}")).await.expect("revoked");
    let response = heal(&daemon, &one).await;
    assert_eq!(response["status"], "ACTIVE", "{response}");
    let catalog = daemon.get(&format!("/connections/{id}/catalog")).await.body;
    let streams = catalog["catalog"]["streams"].as_array().expect("streams");
    assert!(streams.iter().any(|stream| stream["name"] == "people"), "unreadable is not absent: {catalog}");
    // Without the last table there is nothing left to read.
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

async fn a_dropped_table_is_breaking_drift_and_proven_again_by_the_next_attempt() {
    let (name, admin) = own_postgres("dropped").await;
    let (_place, daemon, one) = active("dropped", &name, "3s").await;
    assert_eq!(one["catalog_version"], 1);
    admin.batch_execute("ALTER TABLE orders ADD COLUMN note text").await.expect("widened");
    let response = heal(&daemon, &one).await;
    assert_eq!(
        (&response["status"], &response["catalog_version"]),
        (&json!("ACTIVE"), &json!(2)),
        "a new column breaks no reader: {response}"
    );
    admin.batch_execute("DROP TABLE people").await.expect("dropped");
    let response = heal(&daemon, &one).await;
    assert_eq!((&response["status"], &response["error"]["class"]), (&json!("HEALING"), &json!("drift")), "{response}");
    assert!(error_text(&response).contains("people"), "{response}");
    // Without a heal, the attempt after the backoff verifies the new structure.
    let id = one["resource_ids"][0].as_str().expect("an id");
    let again = daemon.until_state(id, "ACTIVE").await;
    assert_eq!(again["catalog_version"], 3, "{again}");
}
