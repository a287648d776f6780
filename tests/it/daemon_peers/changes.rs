//! What happens to an ACTIVE connection when somebody changes the source behind it.

use super::support::*;
use crate::daemon_support::{Daemon, Place};
use serde_json::{Value, json};

/// A daemon with one ACTIVE connection to a database of the test's own.
async fn active(what: &'static str, name: &str, retry: &str) -> (Place, Daemon, Value) {
    let mut place = Place::new();
    let id = format!("postgresql://{}/{name}", at("POSTGRES"));
    let all = [source(what, "postgres", id, login(name, &password_of(name)))];
    lend(&mut place, &all);
    place.write_policy(&policy(retry, ""));
    let daemon = place.serve().await;
    let told = daemon.push(&all[0].intent()).await;
    assert_eq!(told.body["status"], "ACTIVE", "{}", told.body);
    (place, daemon, told.body)
}

fn words(one: &Value) -> String {
    one["error"].to_string()
}

#[tokio::test]
async fn a_password_changed_in_the_database_is_healing_until_it_fits_again() {
    let (name, admin) = own_postgres("rotated").await;
    let (_place, daemon, one) = active("rotated", &name, "1h").await;
    admin.batch_execute(&format!("ALTER ROLE {name} PASSWORD 'another'")).await.expect("rotated");
    let told = heal(&daemon, &one).await;
    assert_eq!((&told["status"], &told["error"]["class"]), (&json!("HEALING"), &json!("credential_rejected")), "{told}");
    assert!(words(&told).contains("28P01") && words(&told).contains("ALTER ROLE"), "{told}");
    // Asked again with nothing changed, nothing is promoted.
    assert_eq!(heal(&daemon, &one).await["status"], "HEALING");
    assert_eq!(daemon.funnel().await["healing"], 1);
    admin.batch_execute(&format!("ALTER ROLE {name} PASSWORD '{}'", password_of(&name))).await.expect("rotated back");
    let told = heal(&daemon, &one).await;
    assert_eq!((&told["status"], &told["error"]), (&json!("ACTIVE"), &Value::Null), "{told}");
}

#[tokio::test]
async fn a_right_that_is_revoked_is_healing_and_named_with_its_grant() {
    let (name, admin) = own_postgres("revoked").await;
    let (_place, daemon, one) = active("revoked", &name, "1h").await;
    let id = one["connection_id"].as_str().expect("an id");
    // One table of two is skipped and keeps its description; the connection works on.
    admin.batch_execute(&format!("REVOKE SELECT ON people FROM {name}")).await.expect("revoked");
    let told = heal(&daemon, &one).await;
    assert_eq!(told["status"], "ACTIVE", "{told}");
    let catalog = daemon.get(&format!("/connections/{id}/catalog")).await.body;
    let streams = catalog["catalog"]["streams"].as_array().expect("streams");
    assert!(streams.iter().any(|stream| stream["name"] == "people"), "unreadable is not absent: {catalog}");
    // With the last one there is nothing to read any more.
    admin.batch_execute(&format!("REVOKE SELECT ON orders FROM {name}")).await.expect("revoked");
    let told = heal(&daemon, &one).await;
    assert_eq!((&told["status"], &told["error"]["class"]), (&json!("HEALING"), &json!("permission_denied")), "{told}");
    let error = words(&told);
    assert!(error.contains("orders") && error.contains("GRANT SELECT"), "{error}");
    admin.batch_execute(&format!("GRANT SELECT ON orders, people TO {name}")).await.expect("granted");
    assert_eq!(heal(&daemon, &one).await["status"], "ACTIVE");
}

#[tokio::test]
async fn a_dropped_table_is_breaking_drift_and_proven_again_by_the_next_attempt() {
    let (name, admin) = own_postgres("dropped").await;
    let (_place, daemon, one) = active("dropped", &name, "3s").await;
    assert_eq!(one["catalog_version"], 1);
    admin.batch_execute("ALTER TABLE orders ADD COLUMN note text").await.expect("widened");
    let told = heal(&daemon, &one).await;
    assert_eq!((&told["status"], &told["catalog_version"]), (&json!("ACTIVE"), &json!(2)), "a new column breaks nobody: {told}");
    admin.batch_execute("DROP TABLE people").await.expect("dropped");
    let told = heal(&daemon, &one).await;
    assert_eq!((&told["status"], &told["error"]["class"]), (&json!("HEALING"), &json!("drift")), "{told}");
    assert!(words(&told).contains("people"), "{told}");
    // Nobody asks: the backoff's own attempt finds the new structure whole.
    let id = one["resource_ids"][0].as_str().expect("an id");
    let again = daemon.until_state(id, "ACTIVE").await;
    assert_eq!(again["catalog_version"], 3, "{again}");
}
