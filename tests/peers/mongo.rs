//! The `mongo` engine against two servers that others wrote: smongo (SCRAM, roles, TLS) and NX-27017 (no logins).

use crate::harness::variable;
use crate::support::daemon::{Workspace, intent_with_locator};
use crate::support::mongo::{Behavior, FakeMongo, PASSWORD, USER};
use crate::support::mongo_session::open_with;
use crate::support::sql::policy;
use aam::connectors::{Bounds, Opened};
use aam::credentials::{Credential, Secret};
use aam::model::{Class, Failure, Privilege};
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;

/// The tests against NX-27017, and with `AAM_SMONGO=1` those against smongo, whose build takes minutes.
pub fn tests() -> Vec<crate::harness::PeerTest> {
    let mut tests = nx27017::tests();
    if std::env::var_os("AAM_SMONGO").is_some() {
        tests.extend(with_logins::tests());
    }
    tests
}

mod nx27017 {
    use super::*;

    peer_tests! {
        [Nx27017]: a_database_of_nx_27017_is_read_without_a_login, a_database_that_nx_27017_does_not_have_is_named;
    }
}

mod with_logins {
    use super::*;

    peer_tests! {
        [Smongo]: a_reader_of_smongo_passes_every_step, logins_that_smongo_refuses_are_explained, smongo_is_read_over_tls,
            the_daemon_connects_a_database_of_smongo, pymongo_accepts_the_server_of_the_tests;
    }
}

async fn opened(id: &str, user: Option<(&str, &str)>) -> Result<Opened, Failure> {
    let credential = user.map(|(user, password)| Credential::read(Secret::new(format!("{user}:{password}"))));
    open_with(id, credential.as_ref(), policy(None), Arc::default()).await
}

fn smongo(database: &str) -> String {
    format!("mongodb://127.0.0.1:{}/{database}", variable("SMONGO", "PORT"))
}

fn password(user: &str) -> String {
    variable("SMONGO", &format!("{}_PASSWORD", user.to_uppercase()))
}

async fn a_reader_of_smongo_passes_every_step() {
    let opened =
        opened(&smongo("shop"), Some(("reader", &password("reader")))).await.unwrap_or_else(|failure| panic!("{failure:?}"));
    let identity = &opened.identity;
    assert_eq!((&identity["user"], &identity["auth_source"]), (&json!("reader"), &json!("admin")));
    assert_eq!((&identity["mechanism"], &identity["role"]), (&json!("SCRAM-SHA-256"), &json!("standalone")));
    assert_eq!(opened.privilege, Privilege::Ok);
    let found = opened.connector.discover(Bounds::default()).await.unwrap_or_else(|failure| panic!("{failure:?}"));
    // The server evaluates the expression that describes documents, so that no value leaves it.
    assert_eq!(found.evidence["server_sends"], json!("names and types only"));
    let orders = found.catalog.streams.iter().find(|stream| stream.name == "orders").expect("the collection orders");
    assert_eq!(orders.row_estimate, Some(30));
    let fields = &orders.json_schema["properties"];
    assert_eq!(fields["_id"]["x-native-type"], json!("objectId"));
    assert_eq!((&fields["total"]["type"], &fields["placed"]["format"]), (&json!(["null", "number"]), &json!("date-time")));
    assert_eq!(fields["customer"]["properties"]["tags"]["items"]["x-native-type"], json!("int, string"));
    assert!(!serde_json::to_string(&found.catalog).unwrap().contains("customer 1"));
    assert_eq!(opened.connector.tiny_sync(&found.catalog, 20).await.unwrap().rows, 1, "the collection lines");
    opened.connector.health().await.unwrap_or_else(|failure| panic!("{failure:?}"));
}

async fn logins_that_smongo_refuses_are_explained() {
    let refused =
        async |database: &str, user: Option<(&str, &str)>| opened(&smongo(database), user).await.err().expect("a failure");
    let wrong = refused("shop", Some(("reader", "not-the-password"))).await;
    assert!(wrong.class == Class::CredentialRejected && wrong.detail.contains("18 AuthenticationFailed"), "{wrong:?}");
    let unknown = refused("shop", Some(("nobody", "not-the-password"))).await;
    assert_eq!(unknown.class, Class::CredentialRejected);
    let without = refused("shop", None).await;
    assert_eq!(without.class, Class::CredentialMissing);
    let blind = refused("shop", Some(("blind", &password("blind")))).await;
    assert!(blind.class == Class::PermissionDenied && blind.fix.contains("grantRolesToUser(\"blind\""), "{blind:?}");
    let writer =
        opened(&smongo("shop"), Some(("writer", &password("writer")))).await.unwrap_or_else(|failure| panic!("{failure:?}"));
    let Privilege::Over { grants } = writer.privilege else { panic!("{:?}", writer.privilege) };
    assert_eq!(grants, ["role readWrite on shop"]);
    let sha1 = opened(&format!("{}?authMechanism=SCRAM-SHA-1", smongo("shop")), Some(("reader", &password("reader")))).await;
    if let Err(failure) = sha1 {
        assert_eq!(failure.class, Class::CredentialRejected, "{failure:?}");
    }
}

async fn smongo_is_read_over_tls() {
    let names = crate::support::mongo_session::Names {
        hosts: [("localhost".to_string(), "127.0.0.1".parse().unwrap())].into(),
        ..Default::default()
    };
    let id = format!("mongodb://localhost:{}/shop?tls=true&authSource=admin", variable("SMONGO", "TLS_PORT"));
    let credential = Credential::read(Secret::new(format!("reader:{}", password("reader"))));
    let names = Arc::new(names);
    let trusted = policy(Some(PathBuf::from(variable("SMONGO", "CA_FILE"))));
    let opened = open_with(&id, Some(&credential), trusted, Arc::clone(&names)).await;
    assert_eq!(opened.unwrap_or_else(|failure| panic!("{failure:?}")).identity["encrypted"], json!(true));
    let unknown = open_with(&id, Some(&credential), policy(None), names).await.err().expect("an unknown authority");
    assert!(unknown.class == Class::Network && unknown.fix.contains("network.ca_file"), "{unknown:?}");
}

async fn the_daemon_connects_a_database_of_smongo() {
    let mut workspace = Workspace::new();
    workspace.set("MONGO_LOGIN", &format!("reader:{}", password("reader")));
    workspace.write_policy("allowlist: [mongo]\n");
    let id = smongo("shop");
    workspace.intent_file("shop.json", &intent_with_locator("mongo", &id, "env:MONGO_LOGIN"));
    let daemon = workspace.serve().await;
    daemon.until_state(&id, "ACTIVE").await;
    assert_eq!(daemon.stop().await, Some(0));
}

/// The server of the tests in `tests/it` must be one for an independent client too.
async fn pymongo_accepts_the_server_of_the_tests() {
    const SCRIPT: &str = "import sys, pymongo\n\
        with pymongo.MongoClient(sys.argv[1], directConnection=True, serverSelectionTimeoutMS=10000) as client:\n\
        \x20   print([found['_id'] for found in client['shop']['orders'].find({}, limit=20)], client['shop'].list_collection_names())";
    for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-1"] {
        let server = FakeMongo::start(Behavior { mechanism, ..Behavior::default() }).await;
        let run = async |password: &str| {
            let uri =
                format!("mongodb://{USER}:{password}@127.0.0.1:{}/shop?authSource=admin&authMechanism={mechanism}", server.port);
            let mut command = tokio::process::Command::new(variable("SMONGO", "PYTHON"));
            command.args(["-c", SCRIPT, &uri]).output().await.expect("a run of pymongo")
        };
        let good = run(PASSWORD).await;
        let printed = String::from_utf8_lossy(&good.stdout).into_owned();
        assert!(good.status.success() && printed.starts_with("[1, 2]") && printed.contains("orders"), "{good:?}");
        let wrong = run("not-the-password").await;
        assert!(!wrong.status.success() && String::from_utf8_lossy(&wrong.stderr).contains("Authentication failed"), "{wrong:?}");
    }
}

fn nx(database: &str) -> String {
    format!("mongodb://127.0.0.1:{}/{database}", variable("NX27017", "PORT"))
}

async fn a_database_of_nx_27017_is_read_without_a_login() {
    let opened = opened(&nx("shop"), None).await.unwrap_or_else(|failure| panic!("{failure:?}"));
    assert!(matches!(&opened.privilege, Privilege::Over { grants } if grants[0].contains("access control is not enabled")));
    let found = opened.connector.discover(Bounds::default()).await.unwrap_or_else(|failure| panic!("{failure:?}"));
    let names: Vec<&str> = found.catalog.streams.iter().map(|stream| stream.name.as_str()).collect();
    assert_eq!(names, ["lines", "orders"]);
    // This server does not evaluate the expression, so AAM keeps names and types of the documents itself.
    assert_eq!(found.evidence["server_sends"], json!("documents, of which AAM keeps names and types"));
    let fields = &found.catalog.streams[1].json_schema["properties"];
    assert_eq!(fields["customer"]["properties"]["name"]["x-native-type"], json!("string"));
    assert!(!serde_json::to_string(&found.catalog).unwrap().contains("customer 1"));
    assert_eq!(opened.connector.tiny_sync(&found.catalog, 20).await.unwrap().rows, 1);
    // It has no logins, so a credential is not used.
    let with_login =
        self::opened(&nx("shop"), Some(("reader", "some-password"))).await.unwrap_or_else(|failure| panic!("{failure:?}"));
    assert!(!with_login.connector.accepted_credential() && matches!(with_login.privilege, Privilege::Over { .. }));
}

async fn a_database_that_nx_27017_does_not_have_is_named() {
    let failure = opened(&nx("Shop"), None).await.err().expect("a failure");
    assert_eq!(failure.class, Class::NotFound);
    assert!(failure.fix.contains("write /shop in the resource id"), "{failure:?}");
}
