//! A server that does not keep to the protocol of MongoDB, or that announces what no server sends.

use crate::support::mongo::{Answer, Behavior, FakeMongo, cursor, response};
use crate::support::mongo_session::{open, refused};
use crate::support::network::{closed_port, cutting_proxy, silent_address};
use aam::connectors::Bounds;
use aam::model::{Class, Failure};
use bson::raw::{RawDocumentBuf, cstr};
use bson::{RawBson, rawdoc};
use std::time::{Duration, Instant};

async fn answering(command: &str, answer: Answer) -> FakeMongo {
    FakeMongo::start(Behavior::default().answering(command, answer)).await
}

#[tokio::test]
async fn what_no_server_sends_ends_the_connection_with_its_own_sentence() {
    let ok = [&[0; 5][..], rawdoc! { "ok": 1.0 }.as_bytes()].concat();
    for (bytes, detail) in [
        (response(i32::MAX, 4, 2013, &ok), "longer than 16 MiB"),
        (response(-5, 4, 2013, &ok), "negative"),
        (response(17, 4, 2013, &ok), "too short"),
        (response(100, 999, 2013, &ok), "another request"),
        (response(100, 4, 2012, &ok), "neither OP_MSG nor OP_REPLY"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), "neither OP_MSG nor OP_REPLY"),
    ] {
        // The first command after the login, which is the fourth request.
        let server = answering("connectionStatus", Answer::Bytes(bytes)).await;
        let failure = refused(&server.id("?authSource=admin")).await;
        assert!(failure.class == Class::Remote && failure.title.contains("breaks MongoDB's protocol"), "{failure:?}");
        assert!(failure.detail.contains(detail), "{detail}: {failure:?}");
    }
    let other = answering("hello", Answer::Bytes(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec())).await;
    let failure = refused(&other.id("")).await;
    assert!(failure.class == Class::WrongService && failure.title.contains("does not speak MongoDB's protocol"), "{failure:?}");
}

/// The announced 16 MiB never arrive; they must not be allocated, and the connection must not wait for ever.
#[tokio::test]
async fn an_announced_length_is_not_believed() {
    let bytes = response(16 << 20, 4, 2013, &[0; 200]);
    let server = answering("connectionStatus", Answer::Bytes(bytes)).await;
    let failure = refused(&server.id("?authSource=admin&socketTimeoutMS=300")).await;
    assert!(failure.class == Class::Network && failure.title.contains("no response within 0.3 s"), "{failure:?}");
}

#[tokio::test]
async fn deep_documents_and_endless_cursors_are_bounded() {
    let mut deep = rawdoc! {};
    for _ in 0..2000 {
        let mut outer = RawDocumentBuf::new();
        outer.append(cstr!("a"), RawBson::Document(deep));
        deep = outer;
    }
    // More documents than were asked for, and a cursor that never ends.
    let documents = std::iter::repeat_n(deep, 60).collect();
    let server = answering("find", Answer::Document(cursor(documents, i64::MAX))).await;
    let opened = open(&server.id("")).await.unwrap_or_else(|failure| panic!("{failure:?}"));
    let found = opened.connector.discover(Bounds::default()).await.unwrap_or_else(|failure| panic!("{failure:?}"));
    assert!(serde_json::to_string(&found.catalog).unwrap().len() < 10_000);
    let sample = opened.connector.tiny_sync(&found.catalog, 20).await.unwrap();
    assert_eq!(sample.rows, 20);
    assert!(server.documents("getMore").is_empty());
}

/// A response without its cursor does not say that there are no documents or no databases.
#[tokio::test]
async fn a_response_without_a_cursor_is_not_an_empty_collection() {
    let ok = || Answer::Document(rawdoc! { "ok": 1.0 });
    let nameless = || Answer::Document(cursor(vec![rawdoc! { "type": "collection" }], 0));
    let no_document = || Answer::Document(rawdoc! { "cursor": { "id": 0_i64, "firstBatch": [ "x" ] }, "ok": 1.0 });
    for (commands, opens) in [
        (vec![("find", ok()), ("aggregate", ok())], true),
        (vec![("find", ok())], true),
        (vec![("find", no_document())], true),
        (vec![("listCollections", ok())], true),
        (vec![("listCollections", nameless())], true),
        (vec![("listDatabases", ok()), ("listCollections", ok())], false),
    ] {
        let behavior =
            commands.iter().fold(Behavior::default(), |behavior, (command, answer)| behavior.answering(command, answer.clone()));
        let server = FakeMongo::start(behavior).await;
        let failure = match open(&server.id("")).await {
            Err(failure) => failure,
            Ok(opened) => {
                let steps = async {
                    let found = opened.connector.discover(Bounds::default()).await?;
                    opened.connector.tiny_sync(&found.catalog, 20).await
                };
                assert!(opens, "{commands:?}");
                steps.await.err().unwrap_or_else(|| panic!("{commands:?}: read as empty"))
            }
        };
        assert!(failure.class == Class::Remote && failure.title.contains("does not have the form of MongoDB"), "{failure:?}");
    }
    // A server that lists no databases in its form may still list collections.
    let server = answering("listDatabases", ok()).await;
    assert!(open(&server.id("")).await.is_ok());
}

#[tokio::test]
async fn servers_that_do_not_answer_are_named() {
    let (address, _) = silent_address().await;
    let started = Instant::now();
    let failure = refused(&format!("mongodb://{address}/shop?connectTimeoutMS=300")).await;
    assert!(
        failure.class == Class::Network && failure.title.contains("no response within 0.3 s while trying to connect"),
        "{failure:?}"
    );
    assert!(started.elapsed() < Duration::from_secs(5));
    let (_socket, closed) = closed_port();
    let failure = refused(&format!("mongodb://127.0.0.1:{closed}/shop")).await;
    assert!(failure.title.ends_with(&format!("connection refused by 127.0.0.1:{closed}")), "{failure:?}");
    // A server that requires TLS closes a connection without it.
    let closing = Behavior::default().answering("hello", Answer::Close).answering("isMaster", Answer::Close);
    let failure = refused(&FakeMongo::start(closing).await.id("")).await;
    assert!(failure.class == Class::Network && failure.fix.contains("add tls=true"), "{failure:?}");
    let silent = answering("listDatabases", Answer::Silence).await;
    let failure = refused(&silent.id("?socketTimeoutMS=300")).await;
    assert!(failure.title.contains("while trying to list the databases"), "{failure:?}");
}

#[tokio::test]
async fn a_connection_that_is_cut_anywhere_fails_and_never_panics() {
    let server = FakeMongo::start(Behavior::default()).await;
    for limit in [0, 1, 15, 16, 40, 150, 400, 700] {
        let proxy = cutting_proxy(server.port, limit).await;
        let failure = refused(&format!("mongodb://127.0.0.1:{proxy}/shop")).await;
        assert!(matches!(failure.class, Class::Network | Class::Remote), "{limit}: {failure:?}");
    }
}

/// What a server says in each of its conditions, after the login.
#[tokio::test]
async fn every_condition_of_a_server_has_its_class_and_its_fix() {
    let mut all = String::new();
    for (code, name, message, class) in [
        (13, "Unauthorized", "not authorized on admin to execute command", Class::PermissionDenied),
        (13, "Unauthorized", "Command listCollections requires authentication", Class::CredentialMissing),
        (50, "MaxTimeMSExpired", "operation exceeded time limit", Class::Remote),
        (59, "CommandNotFound", "no such command: 'listCollections'", Class::Unsupported),
        (91, "ShutdownInProgress", "The server is in quiesce mode and will shut down", Class::Remote),
        (189, "PrimarySteppedDown", "Primary stepped down", Class::Remote),
        (13435, "NotPrimaryNoSecondaryOk", "not master and slaveOk=false", Class::Remote),
        (13436, "NotPrimaryOrSecondary", "node is recovering", Class::Remote),
        (133, "FailedToSatisfyReadPreference", "Could not find host matching read preference", Class::Remote),
        (
            498_870,
            "Location498870",
            "The apiVersion parameter is required, please configure your MongoClient's API version",
            Class::Unsupported,
        ),
        (391, "ReauthenticationRequired", "reauthentication required", Class::CredentialRejected),
        (462, "IngressRequestRateLimitExceeded", "rate limit exceeded", Class::Throttled),
        (16500, "RequestRateTooLarge", "Error=16500, RetryAfterMs=34", Class::Throttled),
        (8000, "AtlasError", "user is not allowed to do action [listCollections] on [shop.]", Class::PermissionDenied),
        (8000, "AtlasError", "cluster is paused, please resume it", Class::Remote),
        (8000, "AtlasError", "you have exceeded the number of connections", Class::Throttled),
        (8000, "AtlasError", "something else", Class::Remote),
        (8, "UnknownError", "something else", Class::Remote),
    ] {
        let behavior = Behavior::default().failing("listDatabases", 13, "Unauthorized", "not authorized").failing(
            "listCollections",
            code,
            name,
            message,
        );
        let server = FakeMongo::start(behavior).await;
        let failure = refused(&server.id("")).await;
        assert_eq!(failure.class, class, "{code} {message}: {failure:?}");
        all.push_str(&text(&format!("{code} {message}"), &failure, server.port));
    }
    insta::with_settings!({snapshot_path => concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots"), prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!("mongo_conditions", all);
    });
}

fn text(what: &str, failure: &Failure, port: u16) -> String {
    let text = format!("# {what}\n{:?}\n  {}\n  fix: {}\n", failure.class, failure.title, failure.fix);
    text.replace(&format!(":{port}"), ":27017")
}
