//! The `sql` engine against a real PostgreSQL and a real MariaDB.

pub mod faults;
pub mod mariadb;
pub mod poolers;
pub mod privileges;
pub mod record;
pub mod relations;
pub mod server;

use crate::support::snapshot::assert_snapshot;
use crate::support::sql::{open_at, policy, recording_session};
use aam::connectors::sql::SqlEngine;
use aam::connectors::{Bounds, Sample};
use aam::credentials::{Credential, Secret};
use aam::model::{Catalog, Class, Failure, Privilege};
use privileges::{
    a_role_that_can_be_chosen_is_not_only_reading, every_privilege_of_new_versions_is_found_and_taken_away,
    every_privilege_that_writes_is_found_and_taken_away,
};
use serde_json::json;
use server::*;
use std::path::PathBuf;
use std::sync::Arc;

peer_tests! {
    [Postgres, Mariadb]: a_reader_passes_every_step, bounds_are_respected_and_reported, every_failure_has_its_class_and_its_fix,
        an_empty_database_is_distinguished_from_an_unreadable_one, excess_privileges_are_named,
        nothing_is_written_even_with_an_account_that_may_write;
    [Postgres]: a_database_behind_a_pooler_is_read, the_server_logs_only_read_only_transactions,
        every_privilege_that_writes_is_found_and_taken_away;
    [Postgres18]: every_privilege_of_new_versions_is_found_and_taken_away;
    [Mariadb]: a_role_that_can_be_chosen_is_not_only_reading;
}

async fn a_reader_passes_every_step() {
    for (database, name) in [(Postgres, "sql_postgres_catalog"), (Mariadb, "sql_mariadb_catalog")] {
        let policy = Arc::new(policy(None));
        let session = recording_session(&policy);
        let opened = SqlEngine
            .open_through(session.clone(), &database.id("shop"), Some(&database.credential("reader")), policy)
            .await
            .unwrap();
        assert_eq!((&opened.identity["database"], &opened.identity["read_only"]), (&json!("shop"), &json!(true)));
        assert_eq!(opened.privilege, Privilege::Ok);
        let mut found = opened.connector.discover(Bounds::default()).await.unwrap();
        assert!(
            found.catalog.streams.iter().any(|stream| stream.row_estimate.is_some_and(|rows| (100..400).contains(&rows))),
            "{:?}",
            found.evidence
        );
        found.catalog.streams.iter_mut().for_each(|stream| stream.row_estimate = None);
        assert_snapshot(
            name,
            &format!("{}\n{}", json!(found.evidence), serde_json::to_string_pretty(&found.catalog).unwrap()),
            &[],
        );
        opened.connector.health().await.unwrap();
        assert_eq!(opened.connector.tiny_sync(&found.catalog, 20).await.unwrap().rows, 20);
        assert_eq!(opened.connector.tiny_sync(&found.catalog, 3).await.unwrap().rows, 3);
        assert!(opened.connector.traffic().bytes > 500);
        drop(opened);
        let settled = session.settled.lock().unwrap().clone();
        assert!(matches!(settled.as_slice(), [(bytes, None)] if *bytes > 500), "{settled:?}");
    }
}

/// PgBouncer in transaction mode supports neither startup options nor named statements.
async fn a_database_behind_a_pooler_is_read() {
    let port = Postgres.variable("POOLER_PORT").parse().unwrap();
    let id = Postgres.id_at("127.0.0.1", port, "shop");
    let credential = Postgres.credential("reader");
    let (first, second) =
        (open_at(&id, &credential, policy(None)).await.unwrap(), open_at(&id, &credential, policy(None)).await.unwrap());
    for opened in [&first, &second, &first] {
        assert_eq!(opened.identity["read_only"], json!(true));
        assert!(opened.identity["pooler"].is_string(), "the pooler accepted the startup options");
        let found = opened.connector.discover(Bounds::default()).await.unwrap();
        assert_eq!(found.catalog.streams.len(), 4);
        let sample = opened.connector.tiny_sync(&found.catalog, 20).await.unwrap();
        assert_eq!(sample.rows, 20);
    }
}

async fn bounds_are_respected_and_reported() {
    for database in [Postgres, Mariadb] {
        let opened = open(database, "reader", "shop").await.unwrap();
        let few = opened.connector.discover(Bounds { streams: 2, ..Bounds::default() }).await.unwrap().catalog;
        assert!(few.truncated && few.streams.len() == 2, "{few:?}");
        let narrow = opened.connector.discover(Bounds { columns: 1, ..Bounds::default() }).await.unwrap().catalog;
        assert!(narrow.truncated && narrow.streams.iter().all(|s| s.json_schema["properties"].as_object().unwrap().len() <= 1));
    }
}

/// Every failure with its message, and with the message of the server in its detail.
async fn every_failure_has_its_class_and_its_fix() {
    for (database, name) in [(Postgres, "sql_postgres_failures"), (Mariadb, "sql_mariadb_failures")] {
        let wrong = Credential::read(Secret::new("reader:not-the-password".to_string()));
        let mut all = vec![(
            "wrong password",
            open_at(&database.id("shop"), &wrong, policy(None)).await.err().unwrap(),
            Class::CredentialRejected,
        )];
        all.push(("no such database", refused(database, "super", "gone").await, Class::NotFound));
        let blind = match open(database, "blind", "shop").await {
            Err(failure) => failure,
            Ok(opened) => opened.connector.tiny_sync(&Catalog::default(), 20).await.err().unwrap(),
        };
        all.push(("no permission", blind, Class::PermissionDenied));
        if database == Mariadb {
            let narrow = open(database, "narrow", "shop").await.unwrap();
            let found = narrow.connector.discover(Bounds::default()).await.unwrap();
            assert_eq!(found.evidence["unreadable"], json!(["`payroll` (lacks SELECT)"]));
            let warning = found.warning.expect("a part of the database is not readable");
            assert_eq!(warning.class, Class::PermissionDenied);
            assert!(warning.title.contains("not readable: `payroll` (lacks SELECT)"), "{warning:?}");
            assert!(warning.fix.starts_with("GRANT SELECT"), "{warning:?}");
            all.push((
                "visible, but not readable",
                narrow.connector.tiny_sync(&found.catalog, 20).await.err().unwrap(),
                Class::PermissionDenied,
            ));
        }
        all.push(("TLS by an unknown authority", refused(database, "reader", "shop?sslMode=verify-full").await, Class::Network));
        let writes = sample_of(database, "writes").await.err().unwrap();
        all.push(("a view that writes", writes, Class::Remote));
        all.push(("a view that never ends", sample_of(database, "slow").await.err().unwrap(), Class::Remote));
        let mut text = String::new();
        for (what, failure, class) in all {
            assert_eq!(failure.class, class, "{what}: {failure:?}");
            assert!(!failure.fix.is_empty() && !failure.detail.is_empty(), "{what}: {failure:?}");
            assert!(!format!("{failure:?}").contains("not-the-password"));
            text.push_str(&format!("# {what}\n{}\n", shown(database, &failure)));
        }
        assert_snapshot(name, &text, &[]);
    }
}

/// The end of a resource id that selects the schema or database with the object `what`, for example a view that writes.
fn trap(database: Database, what: &str) -> String {
    match (database, what) {
        (Postgres, schema) => format!("trap?currentSchema={schema}"),
        (Mariadb, "writes") => "trap".to_string(),
        (Mariadb, database) => database.to_string(),
    }
}

async fn sample_of(database: Database, what: &str) -> Result<Sample, Failure> {
    let opened = open(database, "writer", &trap(database, what)).await.unwrap();
    opened.connector.tiny_sync(&Catalog::default(), 20).await
}

async fn an_empty_database_is_distinguished_from_an_unreadable_one() {
    for database in [Postgres, Mariadb] {
        let sample = sample_of(database, "void").await.unwrap();
        let place = if database == Postgres { "the schema void" } else { "the database" };
        assert_eq!((sample.rows, &sample.evidence["note"]), (0, &json!(format!("empty: {place} has no tables"))));
    }
    let hidden = sample_of(Postgres, "hidden").await.unwrap();
    assert!(
        hidden.rows == 0 && hidden.evidence["note"].as_str().unwrap().contains("row level security"),
        "{:?}",
        hidden.evidence
    );
    assert_eq!(sample_of(Postgres, "narrow").await.unwrap().rows, 1, "a grant on one column is enough to read that column");
}

async fn excess_privileges_are_named() {
    let Privilege::Over { grants } = open(Postgres, "writer", "shop").await.unwrap().privilege else { panic!("not over") };
    assert_eq!(grants[..2], ["CREATEDB", "CREATE on schema \"sales\""]);
    assert!(grants.contains(&"INSERT, UPDATE, DELETE on table \"sales\".\"customer\"".to_string()), "{grants:?}");
    let Privilege::Over { grants } = open(Mariadb, "writer", "shop").await.unwrap().privilege else { panic!("not over") };
    assert!(
        grants.iter().any(|g| g == "FILE ON *.*") && grants.iter().any(|g| g == "INSERT, UPDATE, DELETE ON `shop`.*"),
        "{grants:?}"
    );
    assert!(
        matches!(open(Postgres, "super", "shop").await.unwrap().privilege, Privilege::Over { grants } if grants[0] == "SUPERUSER")
    );
}

/// A view inserts a row when it is read. AAM reads it with an account that may insert: the server refuses, and an
/// independent connection counts the same number of rows as before.
async fn nothing_is_written_even_with_an_account_that_may_write() {
    let before = (rows_in_postgres_log().await, rows_in_mariadb_log().await);
    for database in [Postgres, Mariadb] {
        let opened = open(database, "writer", &trap(database, "writes")).await.unwrap();
        assert!(matches!(opened.privilege, Privilege::Over { .. }));
        let failure = opened.connector.tiny_sync(&Catalog::default(), 20).await.err().unwrap();
        assert!(failure.title.contains("would write"), "{failure:?}");
        // The session continues and is still read-only.
        assert_eq!(opened.connector.health().await.unwrap()["read_only"], json!(true));
    }
    assert_eq!((rows_in_postgres_log().await, rows_in_mariadb_log().await), before);
    assert_eq!(before, (1, 1));
}

async fn rows_in_postgres_log() -> i64 {
    superuser("trap").await.query_one("SELECT count(*) FROM writes.log", &[]).await.unwrap().get(0)
}

async fn rows_in_mariadb_log() -> i64 {
    use mysql_async::prelude::Queryable;
    let opts = mysql_async::OptsBuilder::default()
        .ip_or_hostname("127.0.0.1")
        .tcp_port(Mariadb.port())
        .user(Some("super"))
        .pass(Some(Mariadb.variable("SUPER_PASSWORD")))
        .prefer_socket(Some(false));
    let mut conn = mysql_async::Conn::new(opts).await.unwrap();
    conn.query_first("SELECT count(*) FROM trap.log").await.unwrap().unwrap()
}

/// In the server's own log of the session, every statement is inside a read-only transaction.
async fn the_server_logs_only_read_only_transactions() {
    let opened =
        open_at(&Postgres.id("shop?ApplicationName=aam-log-test"), &Postgres.credential("reader"), policy(None)).await.unwrap();
    let pid_of = "SELECT pid FROM pg_stat_activity WHERE application_name = 'aam-log-test'";
    let pid: i32 = superuser("shop").await.query_one(pid_of, &[]).await.unwrap().get(0);
    let found = opened.connector.discover(Bounds::default()).await.unwrap();
    opened.connector.tiny_sync(&found.catalog, 20).await.unwrap();
    drop(opened);
    let log = std::fs::read_to_string(PathBuf::from(Postgres.variable("CA_FILE")).with_file_name("log")).unwrap();
    let statements: Vec<&str> =
        log.lines().filter(|line| line.contains(&format!("[{pid}]")) && line.contains("statement: ")).collect();
    assert!(statements.len() >= 5, "{statements:?}");
    for line in statements {
        let statement = line.split_once("statement: ").map_or("", |(_, statement)| statement);
        assert!(statement.starts_with("BEGIN TRANSACTION READ ONLY; SET LOCAL") && statement.ends_with("; ROLLBACK"), "{line}");
    }
}
