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
        an_account_that_requires_tls_differs_from_a_wrong_password, an_expired_password_and_a_locked_account_say_so,
        the_printed_grants_make_the_database_readable, a_damaged_table_alone_is_a_failure_with_a_remedy, the_remedies_for_views_and_locks_end_their_failures,
        the_remedies_for_accounts_end_their_failures;
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

async fn an_account_that_requires_tls_differs_from_a_wrong_password() {
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

/// The failure of the only object of a database.
async fn alone(name: &str, class: Class, title: &str) -> Failure {
    let failure = sample(name).await.0.err().unwrap_or_else(|| panic!("{name} was read"));
    assert!(failure.class == class && failure.title.contains(title), "{failure:?}");
    failure
}

async fn the_remedies_for_views_and_locks_end_their_failures() {
    let (mut admin, mut other) = (admin().await, admin().await);
    // A view on something that is gone: "change the view".
    database(&mut admin, "r_broken").await;
    run(&mut admin, &["CREATE TABLE gone (a INT)", "CREATE VIEW v AS SELECT * FROM gone", "DROP TABLE gone"]).await;
    let failure = alone("r_broken", Class::Remote, "refers to something that is missing").await;
    assert!(failure.fix.contains("change the view"), "{failure:?}");
    run(&mut admin, &["CREATE OR REPLACE VIEW v AS SELECT 1 AS a"]).await;
    assert_eq!(sampled("r_broken").await.rows, 1);
    // A definer that is gone: "ALTER DEFINER = an existing account VIEW ...".
    database(&mut admin, "r_definer").await;
    run(
        &mut admin,
        &["CREATE OR REPLACE USER leaver@'%'", "CREATE DEFINER = leaver@'%' VIEW v AS SELECT 1 AS a", "DROP USER leaver@'%'"],
    )
    .await;
    let failure = alone("r_definer", Class::PermissionDenied, "DEFINER").await;
    assert!(failure.fix.starts_with("ALTER DEFINER = "), "{failure:?}");
    run(&mut admin, &["ALTER DEFINER = super@'%' VIEW v AS SELECT 1 AS a"]).await;
    assert_eq!(sampled("r_definer").await.rows, 1);
    // A lock: "look for the session that holds the lock".
    database(&mut admin, "r_locked").await;
    run(&mut admin, &["CREATE TABLE t AS SELECT 1 AS a"]).await;
    run(&mut other, &["LOCK TABLES r_locked.t WRITE"]).await;
    alone("r_locked", Class::Remote, "another session has locked it").await;
    run(&mut other, &["UNLOCK TABLES"]).await;
    assert_eq!(sampled("r_locked").await.rows, 1);
    // A view that writes, beside one that does not: "REVOKE SELECT on it FROM ...".
    database(&mut admin, "r_writes").await;
    run(
        &mut admin,
        &[
            "CREATE TABLE log (a INT)",
            "CREATE FUNCTION sneak() RETURNS INT MODIFIES SQL DATA BEGIN INSERT INTO log VALUES (1); RETURN 1; END",
            "CREATE VIEW v AS SELECT sneak() AS a",
            "DROP TABLE log",
            "CREATE TABLE log (a INT)",
            "REVOKE SELECT, SHOW VIEW ON r_writes.* FROM reader@'%'",
            "GRANT SELECT ON r_writes.v TO reader@'%'",
        ],
    )
    .await;
    let failure = alone("r_writes", Class::Remote, "would write").await;
    assert!(failure.fix.contains("REVOKE SELECT on it FROM 'reader'@'HOST';"), "{failure:?}");
    run(
        &mut admin,
        &[
            "REVOKE SELECT ON r_writes.v FROM 'reader'@'%'",
            "CREATE VIEW w AS SELECT 1 AS a",
            "GRANT SELECT ON r_writes.w TO reader@'%'",
        ],
    )
    .await;
    assert_eq!(sampled("r_writes").await.rows, 1);
}

async fn the_remedies_for_accounts_end_their_failures() {
    let mut admin = admin().await;
    // A plugin that AAM does not support: the statement for MariaDB.
    run(
        &mut admin,
        &[
            "CREATE OR REPLACE USER old@'%' IDENTIFIED VIA mysql_old_password USING '6f8c114b58f2ce9e'",
            "CREATE OR REPLACE USER one@'%' IDENTIFIED BY 'onePW' WITH MAX_USER_CONNECTIONS 1",
            "GRANT SELECT ON shop.* TO old@'%', one@'%'",
        ],
    )
    .await;
    let failure = opened_as("old", "oldPW", "shop", true).await.err().unwrap();
    assert!(failure.class == Class::Unsupported && failure.detail.contains("ERROR 1275"), "{failure:?}");
    run(&mut admin, &["SET GLOBAL secure_auth = OFF"]).await;
    let failure = opened_as("old", "oldPW", "shop", true).await.err().unwrap();
    assert!(failure.class == Class::Unsupported && failure.title.contains("mysql_old_password"), "{failure:?}");
    let statement = failure.fix.split("in MariaDB: ").nth(1).unwrap().trim_end_matches(';');
    run(&mut admin, &[&statement.replace("'HOST'", "'%'").replace("'...'", "'oldPW'")]).await;
    opened_as("old", "oldPW", "shop", true).await.unwrap_or_else(|failure| panic!("{statement}: {failure:?}"));
    // No free connection: "raise ... the account's MAX_USER_CONNECTIONS".
    let first = opened_as("one", "onePW", "shop", true).await.unwrap_or_else(|failure| panic!("{failure:?}"));
    let failure = opened_as("one", "onePW", "shop", true).await.err().unwrap();
    assert!(failure.class == Class::Throttled && failure.fix.contains("MAX_USER_CONNECTIONS"), "{failure:?}");
    run(&mut admin, &["ALTER USER one@'%' WITH MAX_USER_CONNECTIONS 2"]).await;
    opened_as("one", "onePW", "shop", true).await.unwrap_or_else(|failure| panic!("{failure:?}"));
    drop(first);
    // No such database: "SHOW DATABASES lists those that exist".
    let failure = refused(Mariadb, "super", "shopp").await;
    assert!(failure.class == Class::NotFound && failure.fix.contains("SHOW DATABASES"), "{failure:?}");
    let databases: Vec<String> = admin.query("SHOW DATABASES").await.unwrap();
    assert!(databases.contains(&"shop".to_string()));
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
