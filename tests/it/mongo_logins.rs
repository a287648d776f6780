//! Logins of the engine `mongo`, at a server of the test that verifies them, and at one that only pretends to be MongoDB.

use crate::support::mongo::{Answer, Behavior, FakeMongo, PASSWORD, error};
use crate::support::mongo_session::{credential, open, open_with, refused};
use crate::support::sql::policy;
use aam::credentials::{Credential, Secret};
use aam::model::{Class, Failure, Privilege};
use serde_json::json;
use std::sync::Arc;

async fn with_password(server: &FakeMongo, options: &str, password: &str) -> Failure {
    let opened = open_with(&server.id(options), Some(&credential(password)), policy(None), Arc::default()).await;
    opened.err().unwrap_or_else(|| panic!("{password} was accepted"))
}

#[tokio::test]
async fn each_mechanism_and_each_database_of_users_is_found() {
    for (mechanism, sources, options, source) in [
        ("SCRAM-SHA-256", vec!["admin"], "", "admin"),
        ("SCRAM-SHA-256", vec!["shop"], "", "shop"),
        ("SCRAM-SHA-1", vec!["admin"], "?authSource=admin", "admin"),
        ("SCRAM-SHA-1", vec!["users"], "?authSource=users&authMechanism=SCRAM-SHA-1", "users"),
    ] {
        let server = FakeMongo::start(Behavior { mechanism, sources, ..Behavior::default() }).await;
        let opened = open(&server.id(options)).await.unwrap_or_else(|failure| panic!("{mechanism} {options}: {failure:?}"));
        assert_eq!((&opened.identity["mechanism"], &opened.identity["auth_source"]), (&json!(mechanism), &json!(source)));
        assert!(opened.connector.accepted_credential() && !server.saw_password());
    }
    // The connection string that Atlas shows, stored as the credential.
    let server = FakeMongo::start(Behavior::default()).await;
    let uri = Credential::read(Secret::new(format!("mongodb+srv://reader:{}@c.example.net/?w=1", PASSWORD.replace('-', "%2D"))));
    let opened = open_with(&server.id(""), Some(&uri), policy(None), Arc::default()).await;
    assert!(opened.is_ok());
}

#[tokio::test]
async fn a_refused_login_says_what_to_do() {
    let server = FakeMongo::start(Behavior::default()).await;
    let failure = with_password(&server, "", "another-password").await;
    assert_eq!(failure.class, Class::CredentialRejected);
    assert!(
        failure.title.contains("reader of the database admin") && !format!("{failure:?}").contains("another-p"),
        "{failure:?}"
    );
    let failure = with_password(&server, "", "hunter2%2Dhunter2").await;
    assert!(failure.fix.contains("percent-encoded"), "{failure:?}");
    // The server knows the user elsewhere.
    let failure = with_password(&server, "?authSource=shop", PASSWORD).await;
    assert!(failure.fix.contains("write authSource=admin"), "{failure:?}");
    let nowhere = FakeMongo::start(Behavior { sources: Vec::new(), ..Behavior::default() }).await;
    let failure = refused(&nowhere.id("")).await;
    assert_eq!(failure.class, Class::CredentialRejected);
    assert_eq!(failure.detail, "the server said: 18 AuthenticationFailed: Authentication failed.");
    let cloud = Behavior::default().failing("saslContinue", 8000, "AtlasError", "bad auth : Authentication failed.");
    let failure = refused(&FakeMongo::start(cloud).await.id("")).await;
    assert!(failure.class == Class::CredentialRejected && failure.detail.contains("8000 AtlasError"), "{failure:?}");
}

#[tokio::test]
async fn a_server_that_does_not_prove_itself_is_not_read() {
    let behavior = Behavior { knows_password: false, ..Behavior::default() };
    let failure = refused(&FakeMongo::start(behavior).await.id("")).await;
    assert!(failure.class == Class::WrongService && failure.title.contains("did not prove"), "{failure:?}");
    let server = FakeMongo::start(Behavior { iterations: 1000, ..Behavior::default() }).await;
    let failure = refused(&server.id("")).await;
    assert!(failure.title.contains("1000 SCRAM iterations") && server.documents("saslContinue").is_empty(), "{failure:?}");
    let failure = refused(&FakeMongo::start(Behavior { iterations: 5_000_000, ..Behavior::default() }).await.id("")).await;
    assert_eq!(failure.class, Class::Unsupported);
    // A login as somebody else.
    let status = bson::rawdoc! { "authInfo": { "authenticatedUsers": [ { "user": "other", "db": "admin" } ] }, "ok": 1.0 };
    let behavior = Behavior::default().answering("connectionStatus", Answer::Document(status));
    let failure = refused(&FakeMongo::start(behavior).await.id("")).await;
    assert!(failure.class == Class::WrongService && failure.detail.contains("other@admin"), "{failure:?}");
}

/// Some servers that speak the protocol have no logins. On this machine nothing else can prove them, and nothing is sent.
#[tokio::test]
async fn a_server_without_logins_never_receives_the_credential() {
    let missing = Answer::Document(error(59, "CommandNotFound", "no such command: 'saslStart'"));
    let behavior = Behavior { access_control: false, ..Behavior::default() }.answering("saslStart", missing);
    let server = FakeMongo::start(behavior).await;
    let opened = open(&server.id("")).await.unwrap_or_else(|failure| panic!("{failure:?}"));
    assert!(opened.identity["login"].as_str().is_some_and(|text| text.contains("the credential was not used")));
    assert!(!opened.connector.accepted_credential() && server.documents("saslContinue").is_empty() && !server.saw_password());
    // The verdict is that of an intent without a credential, and the result says that the credential was not used.
    let anonymous = open_with(&server.id(""), None, policy(None), Arc::default()).await.unwrap();
    assert!(
        opened.privilege == anonymous.privilege && matches!(opened.privilege, Privilege::Over { .. }),
        "{:?}",
        opened.privilege
    );
    let warning = opened.connector.warning().unwrap();
    assert!(warning.class == Class::OverPrivileged && warning.title.contains("the credential was not used"), "{warning:?}");
    assert!(anonymous.connector.warning().is_none());
}

#[tokio::test]
async fn a_mechanism_that_needs_another_credential_is_named() {
    let server = FakeMongo::start(Behavior::default()).await;
    let failure = refused(&server.id("?authMechanism=MONGODB-X509")).await;
    assert!(failure.class == Class::CredentialMissing && failure.title.contains("certificate and private_key"), "{failure:?}");
}
