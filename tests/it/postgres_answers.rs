//! What a server with PostgreSQL's protocol says about the login and answers to statements, read as PostgreSQL and as Redshift.

use crate::support::fake_postgres::{Answer, Asks, Behavior, FakePostgres};
use crate::support::lowcode_families::{EngineFixture, remaining_steps};
use aam::connectors::Opened;
use aam::model::{Class, Failure, Privilege};
use serde_json::json;

const LOGIN: &str = r#"{"user":"aam","password":"hunter2-hunter2"}"#;

/// The engines under a policy that, with `weak`, lets the server on `port` ask for the digest of the password.
fn fixture(port: u16, weak: bool) -> EngineFixture {
    let weak = if weak { format!(", allow_weak_login: [\"127.0.0.1:{port}\"]") } else { String::new() };
    let text = format!("version: 1\nallowlist: [redshift]\nnetwork: {{allow_private: [127.0.0.0/8]{weak}}}\n");
    EngineFixture::new(aam::policy::parse::parse(&text, "policy.yaml").unwrap_or_else(|problems| panic!("{problems:?}")))
}

/// Opens the server as a database of `family`.
async fn open_as(family: &str, server: &FakePostgres, weak: bool) -> Result<Opened, Failure> {
    let port = server.port;
    let database = if family == "redshift" { "dev" } else { "shop" };
    fixture(port, weak).open(family, &format!("127.0.0.1:{port}/{database}"), Some(LOGIN)).await
}

async fn redshift(behavior: Behavior) -> Result<Opened, Failure> {
    open_as("redshift", &FakePostgres::start(behavior).await, true).await
}

async fn refused(family: &str, behavior: Behavior) -> Failure {
    let server = FakePostgres::start(behavior).await;
    open_as(family, &server, true).await.err().unwrap_or_else(|| panic!("{family} was opened"))
}

#[tokio::test]
async fn a_warehouse_that_answers_is_read() {
    let opened = redshift(Behavior::redshift()).await.unwrap_or_else(|failure| panic!("{failure:?}"));
    assert_eq!((&opened.privilege, &opened.identity["user"]), (&Privilege::Ok, &json!("aam")));
    assert!(opened.connector.accepted_credential() && opened.connector.warning().is_none());
    let (found, sample) = remaining_steps(&opened).await.unwrap();
    assert_eq!((found.catalog.streams.len(), sample.rows), (1, 1));
}

/// Redshift has no pg_hba.conf, no SCRAM and no CONNECT, and its users are changed with ALTER USER.
#[tokio::test]
async fn no_fix_of_redshift_names_what_only_postgresql_has() {
    let mut fixes = Vec::new();
    let weak = FakePostgres::start(Behavior::redshift()).await;
    fixes.push(open_as("redshift", &weak, false).await.err().unwrap());
    assert!(!weak.was_answered(), "the password was used");
    for (code, rest) in [(3, vec![]), (7, vec![]), (9, vec![]), (13, vec![0; 4]), (14, vec![]), (10, b"OAUTHBEARER\0\0".to_vec())]
    {
        let server = FakePostgres::start(Behavior::redshift().asking(Asks::For(code, rest))).await;
        fixes.push(open_as("redshift", &server, false).await.err().unwrap());
        assert!(!server.was_answered(), "{code}: the password was used");
    }
    for (code, text) in [
        ("28000", "password authentication failed for user \"aam\""),
        ("28000", "IAM Authentication token has expired"),
        ("28000", "no pg_hba.conf entry for host \"10.0.0.1\", user \"aam\", database \"dev\", SSL off"),
        ("28000", "something else"),
        ("28P01", "wrong"),
        ("3D000", "database \"dev\" does not exist"),
        ("42501", "permission denied for database dev"),
        ("53300", "too many connections"),
        ("57P03", "the cluster is resuming"),
        ("XX000", "something else"),
    ] {
        fixes.push(refused("redshift", Behavior::redshift().asking(Asks::AndRefuses(code, text))).await);
    }
    for (code, text) in [("42501", "permission denied for relation svv_columns"), ("57014", "canceled"), ("55P03", "lock")] {
        let server = FakePostgres::start(Behavior::redshift().answering("svv_columns", Answer::Error(code, text))).await;
        let opened = open_as("redshift", &server, true).await.unwrap_or_else(|failure| panic!("{failure:?}"));
        fixes.push(opened.connector.discover(aam::connectors::Bounds::default()).await.err().unwrap());
    }
    for failure in &fixes {
        for foreign in [
            "pg_hba",
            "scram",
            "ALTER ROLE",
            "CONNECT",
            "pgbouncer",
            "PgBouncer",
            "max_connections",
            "pg_locks",
            "SCHEMA pg_catalog",
        ] {
            let names = failure.fix.replace("CONNECTION LIMIT", "").contains(foreign);
            assert!(!names, "{foreign}: {failure:?}");
        }
    }
    let fix_of =
        |text: &str| fixes.iter().find(|failure| failure.detail.contains(text)).map(|failure| failure.fix.clone()).unwrap();
    assert!(fix_of("IAM Authentication").starts_with("use the Data API"));
    assert!(fix_of("svv_columns").ends_with("GRANT SELECT ON svv_columns TO \"aam\";"));
    assert!(fix_of("password authentication failed").ends_with("ALTER USER \"aam\" PASSWORD '...'"));
}

#[tokio::test]
async fn the_session_of_another_user_is_not_read() {
    let rows = |values: &[&'static str]| Answer::Rows(values.len(), vec![values.to_vec()]);
    let root = rows(&["dev", "root", "PostgreSQL 8.0.2 on i686, Redshift 1.0.77467"]);
    let failure = refused("redshift", Behavior::redshift().answering("version()", root)).await;
    assert!(failure.class == Class::WrongService && failure.title.contains("a login of root"), "{failure:?}");
    let root = rows(&["shop", "root", "16.1", "f", "on", "77", "root"]);
    let failure = refused("postgres", Behavior::postgres().answering("current_setting", root)).await;
    assert!(failure.class == Class::WrongService && failure.title.contains("that of aam"), "{failure:?}");
    // A pooler sends a process id of its own, and may log in as the user of its configuration.
    let pooled = rows(&["shop", "pool", "16.1", "f", "on", "1234", "pool"]);
    let server = FakePostgres::start(Behavior::postgres().answering("current_setting", pooled)).await;
    let opened = open_as("postgres", &server, true).await.unwrap_or_else(|failure| panic!("{failure:?}"));
    assert_eq!(opened.identity["login"], json!("the pooler logs in as pool for the user aam"));
    // ALTER ROLE aam SET role = reader: the login is that of the credential.
    let role = rows(&["shop", "reader", "16.1", "f", "on", "77", "aam"]);
    let server = FakePostgres::start(Behavior::postgres().answering("current_setting", role)).await;
    assert_eq!(open_as("postgres", &server, true).await.unwrap().identity["user"], json!("reader"));
}

/// Any program can admit every user. On this machine it is read, and the result says that the credential was not used.
#[tokio::test]
async fn a_server_that_does_not_ask_for_the_password_is_flagged() {
    for (family, behavior) in [("redshift", Behavior::redshift()), ("postgres", Behavior::postgres())] {
        let server = FakePostgres::start(behavior.asking(Asks::Nothing)).await;
        let opened = open_as(family, &server, false).await.unwrap_or_else(|failure| panic!("{family}: {failure:?}"));
        assert!(opened.identity["login"].as_str().unwrap().contains("the credential was not used"), "{:?}", opened.identity);
        assert!(!opened.connector.accepted_credential());
        let warning = opened.connector.warning().unwrap();
        assert!(warning.class == Class::OverPrivileged && warning.title.contains("did not ask for the password"), "{warning:?}");
        assert_eq!(warning.fix.contains("pg_hba.conf"), family == "postgres", "{warning:?}");
    }
}

/// A response without the columns of the statement does not say that there are no tables.
#[tokio::test]
async fn a_response_of_another_form_is_not_an_empty_database() {
    for (family, behavior, statement) in
        [("redshift", Behavior::redshift(), "svv_columns"), ("postgres", Behavior::postgres(), "reltuples")]
    {
        for answer in [Answer::Done, Answer::Rows(2, vec![vec!["sales", "orders"]]), Answer::Rows(0, Vec::new())] {
            let server = FakePostgres::start(behavior.clone().answering(statement, answer.clone())).await;
            let opened = open_as(family, &server, true).await.unwrap_or_else(|failure| panic!("{family}: {failure:?}"));
            let failure = remaining_steps(&opened).await.err().unwrap_or_else(|| panic!("{family} {answer:?}: read as empty"));
            assert!(failure.class == Class::Remote && failure.title.contains("does not have the form of"), "{failure:?}");
        }
    }
    let failure = refused("postgres", Behavior::postgres().answering("current_setting", Answer::Done)).await;
    assert!(failure.title.contains("does not have the form of PostgreSQL"), "{failure:?}");
    let privileges = Behavior::redshift().answering("pg_tables", Answer::Done);
    let opened = redshift(privileges).await.unwrap();
    assert!(matches!(opened.privilege, Privilege::Unknown { .. }), "{:?}", opened.privilege);
}

/// `svv_columns` shows no table both if there are none and if the user may not use their schemas.
#[tokio::test]
async fn a_warehouse_without_visible_tables_is_empty_or_not_allowed() {
    let hidden = |schemas: Vec<Vec<&'static str>>| {
        let empty = |columns| Answer::Rows(columns, Vec::new());
        let behavior = Behavior::redshift().answering("svv_columns", empty(5)).answering("svv_tables", empty(3));
        behavior.answering("pg_class", Answer::Rows(2, schemas))
    };
    let opened = redshift(hidden(Vec::new())).await.unwrap();
    let (found, sample) = remaining_steps(&opened).await.unwrap();
    assert!(found.evidence["note"].as_str().unwrap().starts_with("empty:") && sample.rows == 0, "{:?}", found.evidence);
    let opened = redshift(hidden(vec![vec!["hr", "f"], vec!["sales", "t"]])).await.unwrap();
    let failure = remaining_steps(&opened).await.err().unwrap();
    assert_eq!(failure.class, Class::PermissionDenied);
    assert!(
        failure.fix.starts_with("GRANT USAGE ON SCHEMA \"hr\" TO \"aam\";") && failure.detail.contains("\"sales\""),
        "{failure:?}"
    );
    let opened = redshift(hidden(vec![vec!["sales", "t"]])).await.unwrap();
    let failure = remaining_steps(&opened).await.err().unwrap();
    assert!(failure.fix.starts_with("GRANT SELECT ON ALL TABLES IN SCHEMA \"sales\" TO \"aam\";"), "{failure:?}");
}

/// A schema of the resource id that does not exist is not an empty one.
#[tokio::test]
async fn a_misspelt_schema_of_a_warehouse_is_named() {
    let server = FakePostgres::start(Behavior::redshift()).await;
    let port = server.port;
    let fixture = fixture(port, true);
    let id = |schema: &str| format!("127.0.0.1:{port}/dev?currentSchema={schema}");
    assert_eq!(fixture.open("redshift", &id("sales"), Some(LOGIN)).await.unwrap().identity["schema"], json!("sales"));
    let failure = fixture.open("redshift", &id("slaes"), Some(LOGIN)).await.err().unwrap();
    assert!(failure.class == Class::NotFound && failure.fix.contains("sales"), "{failure:?}");
}
