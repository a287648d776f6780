//! The sql engine against a real PostgreSQL and a real MariaDB.
//!
//! Run through `scripts/with_peers.sh postgres mariadb -- cargo test --test it sql_peers`.
//! Without the servers these tests fail; they are never skipped.

mod broken;
mod support;

use aam::connectors::sql::SqlEngine;
use aam::connectors::{Bounds, Sample};
use aam::credentials::{Credential, Secret};
use aam::model::{Catalog, Class, Failure, Privilege};
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use support::*;

#[tokio::test]
async fn a_reader_passes_every_step() {
    for (peer, name) in [(Postgres, "sql_postgres_catalog"), (Mariadb, "sql_mariadb_catalog")] {
        let policy = Arc::new(policy(None));
        let gate = gate(&policy);
        let opened =
            SqlEngine.open_through(gate.clone(), &peer.id("shop"), Some(&peer.credential("reader")), policy).await.unwrap();
        assert_eq!((&opened.identity["database"], &opened.identity["read_only"]), (&json!("shop"), &json!(true)));
        assert_eq!(opened.privilege, Privilege::Ok);
        let mut found = opened.connector.discover(Bounds::default()).await.unwrap();
        assert!(
            found.catalog.streams.iter().any(|stream| stream.row_estimate.is_some_and(|rows| (100..400).contains(&rows))),
            "{:?}",
            found.evidence
        );
        found.catalog.streams.iter_mut().for_each(|stream| stream.row_estimate = None);
        snapshot(name, &format!("{}\n{}", json!(found.evidence), serde_json::to_string_pretty(&found.catalog).unwrap()));
        opened.connector.health().await.unwrap();
        assert_eq!(opened.connector.tiny_sync(&found.catalog, 20).await.unwrap().rows, 20);
        assert_eq!(opened.connector.tiny_sync(&found.catalog, 3).await.unwrap().rows, 3);
        assert!(opened.connector.traffic().bytes > 500);
        drop(opened);
        let settled = gate.settled.lock().unwrap().clone();
        assert!(matches!(settled.as_slice(), [(bytes, None)] if *bytes > 500), "{settled:?}");
    }
}

/// PgBouncer in transaction mode, which knows neither start options nor named statements.
#[tokio::test]
async fn a_pooler_before_the_server_is_read_through() {
    let port = Postgres.var("POOLER_PORT").parse().unwrap();
    let id = Postgres.id_at("127.0.0.1", port, "shop");
    let credential = Postgres.credential("reader");
    let (first, second) =
        (open_at(&id, &credential, policy(None)).await.unwrap(), open_at(&id, &credential, policy(None)).await.unwrap());
    for opened in [&first, &second, &first] {
        assert_eq!(opened.identity["read_only"], json!(true));
        assert!(opened.identity["pooler"].is_string(), "the start options were not refused");
        let found = opened.connector.discover(Bounds::default()).await.unwrap();
        assert_eq!(found.catalog.streams.len(), 4);
        let sample = opened.connector.tiny_sync(&found.catalog, 20).await.unwrap();
        assert_eq!(sample.rows, 20);
    }
}

#[tokio::test]
async fn bounds_are_kept_and_said() {
    for peer in [Postgres, Mariadb] {
        let opened = open(peer, "reader", "shop").await.unwrap();
        let few = opened.connector.discover(Bounds { streams: 2, ..Bounds::default() }).await.unwrap().catalog;
        assert!(few.truncated && few.streams.len() == 2, "{few:?}");
        let narrow = opened.connector.discover(Bounds { columns: 1, ..Bounds::default() }).await.unwrap().catalog;
        assert!(narrow.truncated && narrow.streams.iter().all(|s| s.json_schema["properties"].as_object().unwrap().len() <= 1));
    }
}

/// Every refusal a person reads, in the servers' own words.
#[tokio::test]
async fn refusals_have_their_class_and_their_fix() {
    for (peer, name) in [(Postgres, "sql_postgres_failures"), (Mariadb, "sql_mariadb_failures")] {
        let wrong = Credential::read(Secret::new("reader:not-the-password".to_string()));
        let mut all = vec![(
            "wrong password",
            open_at(&peer.id("shop"), &wrong, policy(None)).await.err().unwrap(),
            Class::CredentialRejected,
        )];
        all.push(("no such database", refused(peer, "super", "gone").await, Class::NotFound));
        let blind = match open(peer, "blind", "shop").await {
            Err(failure) => failure,
            Ok(opened) => opened.connector.tiny_sync(&Catalog::default(), 20).await.err().unwrap(),
        };
        all.push(("no permission", blind, Class::PermissionDenied));
        if peer == Mariadb {
            let narrow = open(peer, "narrow", "shop").await.unwrap();
            let found = narrow.connector.discover(Bounds::default()).await.unwrap();
            assert_eq!(found.evidence["unreadable"], json!(["`payroll` (lacks SELECT)"]));
            all.push((
                "sees, may not read",
                narrow.connector.tiny_sync(&found.catalog, 20).await.err().unwrap(),
                Class::PermissionDenied,
            ));
        }
        all.push(("TLS by an unknown authority", refused(peer, "reader", "shop?sslMode=verify-full").await, Class::Network));
        let writes = sample_of(peer, "writes").await.err().unwrap();
        all.push(("a view that writes", writes, Class::Remote));
        all.push(("a view that never ends", sample_of(peer, "slow").await.err().unwrap(), Class::Remote));
        let mut text = String::new();
        for (what, failure, class) in all {
            assert_eq!(failure.class, class, "{what}: {failure:?}");
            assert!(!failure.fix.is_empty() && !failure.detail.is_empty(), "{what}: {failure:?}");
            assert!(!format!("{failure:?}").contains("not-the-password"));
            text.push_str(&format!("# {what}\n{}\n", shown(peer, &failure)));
        }
        snapshot(name, &text);
    }
}

/// The places in `trap` that hold one awkward thing each.
fn awkward(peer: Peer, what: &str) -> String {
    match (peer, what) {
        (Postgres, schema) => format!("trap?currentSchema={schema}"),
        (Mariadb, "writes") => "trap".to_string(),
        (Mariadb, database) => database.to_string(),
    }
}

async fn sample_of(peer: Peer, what: &str) -> Result<Sample, Failure> {
    let opened = open(peer, "writer", &awkward(peer, what)).await.unwrap();
    opened.connector.tiny_sync(&Catalog::default(), 20).await
}

#[tokio::test]
async fn an_empty_answer_is_told_from_a_blind_one() {
    for peer in [Postgres, Mariadb] {
        let sample = sample_of(peer, "void").await.unwrap();
        assert_eq!((sample.rows, &sample.evidence["note"]), (0, &json!("empty: the database has no tables")));
    }
    let hidden = sample_of(Postgres, "hidden").await.unwrap();
    assert!(
        hidden.rows == 0 && hidden.evidence["note"].as_str().unwrap().contains("row level security"),
        "{:?}",
        hidden.evidence
    );
    assert_eq!(sample_of(Postgres, "narrow").await.unwrap().rows, 1, "a grant on one column is enough to read that column");
}

#[tokio::test]
async fn too_many_rights_are_named() {
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

/// A view that inserts a row when it is read is read with an account that may insert: the server
/// refuses, and a second, independent connection counts the same rows as before.
#[tokio::test]
async fn nothing_can_be_written_even_with_the_right_to() {
    let before = (rows_in_postgres_log().await, rows_in_mariadb_log().await);
    for peer in [Postgres, Mariadb] {
        let opened = open(peer, "writer", &awkward(peer, "writes")).await.unwrap();
        assert!(matches!(opened.privilege, Privilege::Over { .. }));
        let failure = opened.connector.tiny_sync(&Catalog::default(), 20).await.err().unwrap();
        assert!(failure.title.contains("would write"), "{failure:?}");
        // The session goes on, still read-only.
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
        .pass(Some(Mariadb.var("SUPER_PASSWORD")))
        .prefer_socket(Some(false));
    let mut conn = mysql_async::Conn::new(opts).await.unwrap();
    conn.query_first("SELECT count(*) FROM trap.log").await.unwrap().unwrap()
}

/// What the server itself logged of our sessions: every statement is inside a read-only transaction.
#[tokio::test]
async fn the_servers_log_holds_no_other_statement() {
    let opened =
        open_at(&Postgres.id("shop?ApplicationName=aam-log-test"), &Postgres.credential("reader"), policy(None)).await.unwrap();
    let pid_of = "SELECT pid FROM pg_stat_activity WHERE application_name = 'aam-log-test'";
    let pid: i32 = superuser("shop").await.query_one(pid_of, &[]).await.unwrap().get(0);
    let found = opened.connector.discover(Bounds::default()).await.unwrap();
    opened.connector.tiny_sync(&found.catalog, 20).await.unwrap();
    drop(opened);
    let log = std::fs::read_to_string(PathBuf::from(Postgres.var("CA_FILE")).with_file_name("log")).unwrap();
    let statements: Vec<&str> =
        log.lines().filter(|line| line.contains(&format!("[{pid}]")) && line.contains("statement: ")).collect();
    assert!(statements.len() >= 5, "{statements:?}");
    for line in statements {
        let statement = line.split_once("statement: ").map_or("", |(_, statement)| statement);
        assert!(statement.starts_with("BEGIN TRANSACTION READ ONLY; SET LOCAL") && statement.ends_with("; ROLLBACK"), "{line}");
    }
}
