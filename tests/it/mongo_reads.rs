//! What the engine `mongo` reads, and with which commands, from a server of the test.

use crate::support::daemon::{Workspace, intent_with_locator};
use crate::support::mongo::{self, Answer, Behavior, FakeMongo, PASSWORD, cursor, grants};
use crate::support::mongo_session::{open, open_with, refused};
use crate::support::sql::policy;
use aam::connectors::mongo::READ_ONLY_COMMANDS;
use aam::connectors::{Bounds, Opened};
use aam::model::{Class, Privilege};
use bson::rawdoc;
use serde_json::json;
use std::sync::Arc;

async fn opened(id: &str) -> Opened {
    open(id).await.unwrap_or_else(|failure| panic!("{id}: {failure:?}"))
}

#[tokio::test]
async fn a_database_is_described_by_names_and_types_and_nothing_is_written() {
    let server = FakeMongo::start(Behavior::default()).await;
    let opened = opened(&server.id("")).await;
    assert_eq!((&opened.identity["database"], &opened.identity["auth_source"]), (&json!("shop"), &json!("admin")));
    assert_eq!(opened.identity["server_version"], json!("MongoDB 7.0"));
    assert_eq!(opened.privilege, Privilege::Ok);
    opened.connector.health().await.unwrap();
    let found = opened.connector.discover(Bounds::default()).await.unwrap();
    let names: Vec<&str> = found.catalog.streams.iter().map(|stream| stream.name.as_str()).collect();
    assert_eq!(names, ["empty", "late", "orders"], "without those of the system");
    let orders = &found.catalog.streams[2];
    let fields = &orders.json_schema["properties"];
    assert_eq!(fields["lines"]["items"]["properties"]["sku"]["x-native-type"], json!("string"));
    assert_eq!((orders.row_estimate, &fields["at"]["format"]), (Some(2), &json!("date-time")));
    assert!(!serde_json::to_string(&found.catalog).unwrap().contains("secret-value"));
    let sample = opened.connector.tiny_sync(&found.catalog, 20).await.unwrap();
    assert_eq!((sample.rows, &sample.evidence["stream"]), (2, &json!("orders")));
    for name in server.commands() {
        assert!(READ_ONLY_COMMANDS.contains(&name.as_str()), "{name}");
    }
    for find in server.documents("find") {
        assert!(find.get_i32("limit").unwrap() <= 20 && find.get_bool("singleBatch").unwrap());
    }
    assert!(!server.saw_password());
    // The server refused the operators once, and is not asked again.
    assert_eq!(server.documents("aggregate").len(), 1);
}

#[tokio::test]
async fn a_server_that_describes_documents_itself_sends_no_values() {
    let described = rawdoc! { "f": [ { "k": "_id", "t": "objectId" }, { "k": "total", "t": "double" } ] };
    let answer = Answer::Document(cursor(vec![described], 0));
    let server = FakeMongo::start(Behavior::default().answering("aggregate", answer)).await;
    let found = opened(&server.id("")).await.connector.discover(Bounds::default()).await.unwrap();
    assert_eq!(found.evidence["server_sends"], json!("names and types only"));
    assert!(found.catalog.streams.iter().all(|stream| stream.json_schema["properties"]["total"].is_object()));
    assert!(server.documents("find").is_empty());
}

#[tokio::test]
async fn a_collection_that_is_denied_is_a_warning_with_the_grant() {
    let behavior = Behavior::default().failing("find orders", 13, "Unauthorized", "not authorized on shop to execute command");
    let server = FakeMongo::start(behavior).await;
    let opened = opened(&server.id("")).await;
    let found = opened.connector.discover(Bounds::default()).await.unwrap();
    let warning = found.warning.expect("a warning");
    assert_eq!(warning.title, "1 of 3 collections is not readable: orders");
    let grant = r#"db.getSiblingDB("admin").grantRolesToUser("reader", [{role: "read", db: "shop"}])"#;
    assert_eq!((warning.class, warning.fix.as_str()), (Class::PermissionDenied, grant));
    assert_eq!(found.catalog.skipped[0].missing.as_deref(), Some("find on shop.orders"));
    let sample = opened.connector.tiny_sync(&found.catalog, 20).await.unwrap();
    assert_eq!(sample.evidence["stream"], json!("late"));
}

#[tokio::test]
async fn a_cursor_that_the_server_keeps_is_closed_and_the_catalog_says_that_it_is_cut() {
    let listed = cursor(vec![rawdoc! { "name": "orders", "type": "collection" }], 99);
    let server = FakeMongo::start(Behavior::default().answering("listCollections", Answer::Document(listed))).await;
    let found = opened(&server.id("")).await.connector.discover(Bounds::default()).await.unwrap();
    assert!(found.catalog.truncated);
    let closed = server.documents("killCursors");
    assert_eq!(closed.len(), 1);
    assert_eq!(closed[0].get_array("cursors").unwrap().get_i64(0).unwrap(), 99);
}

#[tokio::test]
async fn rights_beyond_reading_are_named() {
    let behavior = Behavior { privileges: grants("shop", &["find", "insert", "dropCollection"]), ..Behavior::default() };
    let server = FakeMongo::start(behavior).await;
    let Privilege::Over { grants } = opened(&server.id("")).await.privilege else { panic!("not over") };
    assert_eq!(grants, ["dropCollection, insert on shop.*"]);
}

#[tokio::test]
async fn a_database_that_is_not_visible_is_either_missing_or_forbidden() {
    let behavior = Behavior { databases: vec!["Shop", "hr"], ..Behavior::default() };
    let server = FakeMongo::start(behavior).await;
    let failure = refused(&server.id("")).await;
    assert_eq!(failure.class, Class::NotFound);
    assert!(failure.fix.contains("write /Shop in the resource id"), "{failure:?}");
    let behavior = Behavior { databases: vec!["hr"], ..Behavior::default() };
    let failure = refused(&FakeMongo::start(behavior).await.id("")).await;
    assert!(failure.class == Class::NotFound && failure.fix.contains("hr"), "{failure:?}");
    let behavior = Behavior { databases: vec!["hr"], privileges: mongo::reads("hr"), ..Behavior::default() };
    let failure = refused(&FakeMongo::start(behavior).await.id("")).await;
    assert!(failure.class == Class::PermissionDenied && failure.fix.contains("grantRolesToUser"), "{failure:?}");
}

#[tokio::test]
async fn a_server_without_access_control_is_read_and_flagged() {
    let behavior = Behavior { access_control: false, ..Behavior::default() };
    let server = FakeMongo::start(behavior).await;
    let opened = open_with(&server.id(""), None, policy(None), Arc::default()).await.unwrap_or_else(|f| panic!("{f:?}"));
    assert!(matches!(opened.privilege, Privilege::Over { .. }) && !opened.connector.accepted_credential());
    assert!(server.documents("saslStart").is_empty());
    let with_access_control = FakeMongo::start(Behavior::default()).await;
    let failure = open_with(&with_access_control.id(""), None, policy(None), Arc::default()).await.err().unwrap();
    assert!(failure.class == Class::CredentialMissing && failure.fix.contains("credential_locator"), "{failure:?}");
}

#[tokio::test]
async fn the_daemon_connects_a_database_and_keeps_no_value_of_it() {
    let mut workspace = Workspace::new();
    workspace.set("MONGO_LOGIN", &format!("reader:{PASSWORD}"));
    workspace.write_policy("allowlist: [mongo]\n");
    let server = FakeMongo::start(Behavior::default()).await;
    let id = server.id("?authSource=admin");
    workspace.intent_file("shop.json", &intent_with_locator("mongo", &id, "env:MONGO_LOGIN"));
    let daemon = workspace.serve().await;
    let one = daemon.until_state(&id, "ACTIVE").await;
    assert!(!one.to_string().contains("secret-value"), "{one}");
    assert!(!daemon.log().contains(PASSWORD), "{}", daemon.log());
    assert_eq!(daemon.stop().await, Some(0));
    for (path, bytes) in workspace.files() {
        let found =
            ["secret-value", PASSWORD].iter().any(|value| bytes.windows(value.len()).any(|part| part == value.as_bytes()));
        assert!(!found, "{}", path.display());
    }
}
