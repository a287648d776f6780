//! MariaDB: objects that cannot be read, accounts that are refused, and the remedies that the failures name.

use super::server::*;
use crate::support::sql::{open_at, policy};
use aam::connectors::{Bounds, Opened, Sample};
use aam::credentials::{Credential, Secret};
use aam::model::{Catalog, Class, Failure};
use mysql_async::prelude::Queryable;
use serde_json::json;
use std::path::PathBuf;

peer_tests! {
    [Mariadb]: a_table_or_view_that_cannot_be_read_does_not_hide_the_next_one, every_empty_table_on_the_way_is_passed,
        a_row_of_20_mib_is_read_without_transferring_it, an_account_with_ed25519_logs_in,
        an_account_that_requires_tls_is_told_from_a_wrong_password, an_expired_password_and_a_locked_account_say_so,
        the_printed_grants_make_the_database_readable, a_damaged_table_alone_is_a_failure_with_a_remedy;
}

/// A connection as the administrator.
pub async fn admin() -> mysql_async::Conn {
    let opts = mysql_async::OptsBuilder::default()
        .ip_or_hostname("127.0.0.1")
        .tcp_port(Mariadb.port())
        .user(Some("super"))
        .pass(Some(Mariadb.variable("SUPER_PASSWORD")))
        .max_allowed_packet(Some(64 << 20))
        .prefer_socket(Some(false));
    mysql_async::Conn::new(opts).await.expect("a connection as the administrator")
}

async fn run(admin: &mut mysql_async::Conn, statements: &[&str]) {
    for statement in statements {
        admin.query_drop(*statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
}

/// Creates an empty database that `reader` may read.
async fn database(admin: &mut mysql_async::Conn, name: &str) {
    run(
        admin,
        &[
            &format!("CREATE OR REPLACE DATABASE {name}"),
            &format!("GRANT SELECT, SHOW VIEW ON {name}.* TO reader@'%'"),
            &format!("USE {name}"),
        ],
    )
    .await;
}

/// Discovers and samples `name` as `reader`.
async fn sample(name: &str) -> (Result<Sample, Failure>, Opened) {
    let opened = open(Mariadb, "reader", name).await.unwrap_or_else(|failure| panic!("{name}: {failure:?}"));
    let found = opened.connector.discover(Bounds::default()).await.unwrap_or_else(|failure| panic!("{name}: {failure:?}"));
    let sample = opened.connector.tiny_sync(&found.catalog, 20).await;
    opened.connector.health().await.unwrap_or_else(|failure| panic!("{name}: the session does not go on: {failure:?}"));
    (sample, opened)
}

async fn sampled(name: &str) -> Sample {
    sample(name).await.0.unwrap_or_else(|failure| panic!("{name}: {failure:?}"))
}

/// Moves the file with the rows of a MyISAM table away, as a backup would hold it. Returns both places.
async fn lose_rows(admin: &mut mysql_async::Conn, database: &str, table: &str) -> (PathBuf, PathBuf) {
    run(admin, &[&format!("FLUSH TABLES {database}.{table}")]).await;
    let file = PathBuf::from(Mariadb.variable("DATA")).join(database).join(format!("{table}.MYD"));
    let backup = file.with_extension("backup");
    std::fs::rename(&file, &backup).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    (file, backup)
}

async fn a_table_or_view_that_cannot_be_read_does_not_hide_the_next_one() {
    let (mut admin, mut other) = (admin().await, admin().await);
    let zz = "CREATE TABLE zz (a INT) AS SELECT 1 AS a";
    database(&mut admin, "p1_locked").await;
    run(&mut admin, &["CREATE TABLE aa AS SELECT 1 AS a", zz]).await;
    run(&mut other, &["LOCK TABLES p1_locked.aa WRITE"]).await;
    database(&mut admin, "p1_myisam").await;
    run(&mut admin, &["CREATE TABLE aa (a INT) ENGINE = MyISAM AS SELECT 1 AS a", zz]).await;
    lose_rows(&mut admin, "p1_myisam", "aa").await;
    database(&mut admin, "p1_sleeps").await;
    run(
        &mut admin,
        &[
            "CREATE VIEW aa AS SELECT SLEEP(100) AS x",
            "CREATE VIEW ab AS SELECT SLEEP(100) AS x",
            "CREATE VIEW zz AS SELECT 1 AS x",
        ],
    )
    .await;
    database(&mut admin, "p1_broken").await;
    run(
        &mut admin,
        &[
            "CREATE TABLE gone (a INT)",
            "CREATE VIEW aa AS SELECT * FROM gone",
            "DROP TABLE gone",
            "CREATE VIEW zz AS SELECT 1 AS x",
        ],
    )
    .await;
    for name in ["p1_locked", "p1_myisam", "p1_sleeps", "p1_broken"] {
        let sample = sampled(name).await;
        assert_eq!((sample.rows, &sample.evidence["stream"]), (1, &json!("zz")), "{name}: {:?}", sample.evidence);
        assert_eq!(sample.evidence["skipped"][0]["stream"], json!("aa"), "{name}: {:?}", sample.evidence);
    }
}

async fn every_empty_table_on_the_way_is_passed() {
    let mut admin = admin().await;
    database(&mut admin, "s3_empty").await;
    for n in 0..60 {
        run(&mut admin, &[&format!("CREATE TABLE a{n:02} (x INT)")]).await;
    }
    run(&mut admin, &["CREATE VIEW b AS SELECT 1 AS x"]).await;
    let sample = sampled("s3_empty").await;
    assert_eq!((sample.rows, &sample.evidence["stream"]), (1, &json!("b")));
}

async fn a_row_of_20_mib_is_read_without_transferring_it() {
    let mut admin = admin().await;
    run(&mut admin, &["SET GLOBAL max_allowed_packet = 64 * 1024 * 1024"]).await;
    let mut admin = super::mariadb::admin().await;
    database(&mut admin, "p1_huge").await;
    run(
        &mut admin,
        &[
            "CREATE TABLE aa (a INT, b LONGBLOB, c LONGTEXT, j JSON)",
            "INSERT INTO aa VALUES (1, REPEAT('x', 20 << 20), REPEAT('y', 20 << 20), NULL)",
            "CREATE TABLE zz AS SELECT 1 AS a",
        ],
    )
    .await;
    let (sample, opened) = sample("p1_huge").await;
    let sample = sample.unwrap();
    assert_eq!(sample.evidence["stream"], json!("aa"));
    assert!(opened.connector.traffic().bytes < 1 << 20, "{} bytes", opened.connector.traffic().bytes);
}

async fn opened_as(user: &str, password: &str, rest: &str, ca_file: bool) -> Result<Opened, Failure> {
    let credential = Credential::read(Secret::new(json!({"user": user, "password": password}).to_string()));
    let policy = policy(ca_file.then(|| PathBuf::from(Mariadb.variable("CA_FILE"))));
    open_at(&Mariadb.id_at("localhost", Mariadb.port(), rest), &credential, policy).await
}

async fn an_account_with_ed25519_logs_in() {
    let mut admin = admin().await;
    run(
        &mut admin,
        &["CREATE OR REPLACE USER ed@'%' IDENTIFIED VIA ed25519 USING PASSWORD('edPW')", "GRANT SELECT ON shop.* TO ed@'%'"],
    )
    .await;
    for rest in ["shop", "shop?sslMode=verify-full"] {
        let opened = opened_as("ed", "edPW", rest, true).await.unwrap_or_else(|failure| panic!("{failure:?}"));
        assert_eq!(opened.connector.tiny_sync(&Catalog::default(), 20).await.unwrap().rows, 20);
    }
    let failure = opened_as("ed", "other", "shop", true).await.err().unwrap();
    assert_eq!(failure.class, Class::CredentialRejected, "{failure:?}");
}

async fn an_account_that_requires_tls_is_told_from_a_wrong_password() {
    let mut admin = admin().await;
    run(
        &mut admin,
        &["CREATE OR REPLACE USER tlsonly@'%' IDENTIFIED BY 'tlsPW' REQUIRE SSL", "GRANT SELECT ON shop.* TO tlsonly@'%'"],
    )
    .await;
    // Nothing in the resource id forbids TLS, so it is used.
    let opened = opened_as("tlsonly", "tlsPW", "shop", true).await.unwrap_or_else(|failure| panic!("{failure:?}"));
    assert_eq!(opened.identity["encrypted"], json!(true));
    let failure = opened_as("tlsonly", "tlsPW", "shop?useSSL=false", true).await.err().unwrap();
    assert!(failure.class == Class::Misconfigured && failure.fix.contains("sslMode=verify-full"), "{failure:?}");
    // The fix, as it is printed.
    opened_as("tlsonly", "tlsPW", "shop?sslMode=verify-full", true).await.unwrap_or_else(|failure| panic!("{failure:?}"));
    // Without the authority of the certificate, TLS cannot be tried.
    let failure = opened_as("tlsonly", "tlsPW", "shop", false).await.err().unwrap();
    assert!(failure.class == Class::CredentialRejected && failure.fix.contains("network.ca_file"), "{failure:?}");
    let failure = opened_as("tlsonly", "wrong", "shop", true).await.err().unwrap();
    assert!(failure.class == Class::CredentialRejected && !failure.fix.contains("sslMode"), "{failure:?}");
}

async fn an_expired_password_and_a_locked_account_say_so() {
    let mut admin = admin().await;
    run(
        &mut admin,
        &[
            "CREATE OR REPLACE USER expired@'%' IDENTIFIED BY 'oldPW' PASSWORD EXPIRE",
            "CREATE OR REPLACE USER locked@'%' IDENTIFIED BY 'lockPW' ACCOUNT LOCK",
            "GRANT SELECT ON shop.* TO expired@'%', locked@'%'",
        ],
    )
    .await;
    for (user, password, new, what) in [("expired", "oldPW", "newPW", "has expired"), ("locked", "lockPW", "lockPW", "is locked")]
    {
        let failure = opened_as(user, password, "shop", true).await.err().unwrap();
        assert!(failure.class == Class::CredentialRejected && failure.title.contains(what), "{failure:?}");
        // The statement of the fix, with the host and the password filled in.
        let statement = failure.fix.split(';').next().unwrap().replace("'HOST'", "'%'").replace("'...'", &format!("'{new}'"));
        run(&mut admin, &[&statement]).await;
        opened_as(user, new, "shop", true).await.unwrap_or_else(|failure| panic!("{statement}: {failure:?}"));
    }
}

async fn the_printed_grants_make_the_database_readable() {
    let mut admin = admin().await;
    run(&mut admin, &["CREATE OR REPLACE USER bare@'%' IDENTIFIED BY 'barePW'", "GRANT INSERT ON shop.payroll TO bare@'%'"])
        .await;
    let opened = opened_as("bare", "barePW", "shop", true).await.unwrap_or_else(|failure| panic!("{failure:?}"));
    let failure = opened.connector.tiny_sync(&Catalog::default(), 20).await.err().unwrap();
    assert_eq!(failure.class, Class::PermissionDenied);
    run(&mut admin, &[&failure.fix.trim_end_matches(';').replace("'HOST'", "'%'")]).await;
    let opened = opened_as("bare", "barePW", "shop", true).await.unwrap();
    assert_eq!(opened.connector.tiny_sync(&Catalog::default(), 20).await.unwrap().rows, 20);
    // An account without any privilege on the database is refused at the login, with the same remedy.
    run(&mut admin, &["CREATE OR REPLACE USER stranger@'%' IDENTIFIED BY 'barePW'"]).await;
    let failure = opened_as("stranger", "barePW", "shop", true).await.err().unwrap();
    assert_eq!(failure.class, Class::PermissionDenied, "{failure:?}");
    run(&mut admin, &[&failure.fix.trim_end_matches(';').replace("'HOST'", "'%'")]).await;
    opened_as("stranger", "barePW", "shop", true).await.unwrap_or_else(|failure| panic!("{failure:?}"));
}

async fn a_damaged_table_alone_is_a_failure_with_a_remedy() {
    let mut admin = admin().await;
    database(&mut admin, "p1_alone").await;
    run(&mut admin, &["CREATE TABLE aa (a INT) ENGINE = MyISAM AS SELECT 1 AS a"]).await;
    let (file, backup) = lose_rows(&mut admin, "p1_alone", "aa").await;
    let failure = sample("p1_alone").await.0.err().unwrap();
    assert!(failure.class == Class::Remote && failure.fix.contains("restore the table from a backup"), "{failure:?}");
    std::fs::rename(&backup, &file).unwrap();
    run(&mut admin, &["FLUSH TABLES aa"]).await;
    assert_eq!(sampled("p1_alone").await.rows, 1);
}
