//! Tests with real files that SQLite itself creates in a directory of each test.

use super::*;
use crate::connectors::sql::SqlEngine;
use crate::egress::AdmittedConnection;
use std::path::PathBuf;
use std::time::Duration;

/// Grants local files and nothing else.
struct LocalOnly;

impl DriverSession for LocalOnly {
    fn admit<'a>(&'a self, host: &'a str, _port: u16) -> BoxFuture<'a, Result<AdmittedConnection, Failure>> {
        Box::pin(async move { panic!("an SQLite file asked for {host}") })
    }

    fn settle(&self, _: &str, _: &str, _: u64, _: Duration, _: Option<&Failure>) {}

    fn local<'a>(&'a self, _path: &'a str) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async { Ok(()) })
    }

    fn traffic(&self) -> Traffic {
        Traffic::default()
    }
}

struct DatabaseLocation {
    dir: tempfile::TempDir,
}

impl DatabaseLocation {
    fn new() -> DatabaseLocation {
        DatabaseLocation { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn make(&self, name: &str, sql: &str) -> rusqlite::Connection {
        let base = rusqlite::Connection::open(self.path(name)).unwrap();
        base.execute_batch(sql).unwrap();
        base
    }

    fn listing(&self) -> Vec<(String, u64)> {
        let mut all: Vec<_> = std::fs::read_dir(self.dir.path())
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.metadata().unwrap().len()))
            .collect();
        all.sort();
        all
    }

    async fn open(&self, name: &str) -> Result<Opened, Failure> {
        let id = format!("jdbc:sqlite:{}", self.path(name).display());
        SqlEngine.open_through(Arc::new(LocalOnly), &id, None, policy(self.dir.path())).await
    }

    async fn failure(&self, name: &str) -> Failure {
        self.open(name).await.err().unwrap_or_else(|| panic!("{name} was opened"))
    }
}

fn policy(root: &Path) -> Arc<Policy> {
    Arc::new(crate::connectors::sql::test_policy(vec![root.to_path_buf()]))
}

const SHOP: &str = "CREATE TABLE customer (id INTEGER PRIMARY KEY, name TEXT NOT NULL, born DATE, vip BOOLEAN, spent DECIMAL(10,2), extra);
    CREATE TABLE \"or\"\"der\" (customer INT NOT NULL REFERENCES customer, \"größe\" VARCHAR(20), PRIMARY KEY (\"größe\", customer)) WITHOUT ROWID;
    CREATE VIEW vips AS SELECT * FROM customer WHERE vip;
    CREATE VIEW broken AS SELECT * FROM gone;
    INSERT INTO customer(name) WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 50) SELECT 'c' || x FROM n;";

#[tokio::test]
async fn a_database_is_identified_described_and_sampled() {
    let place = DatabaseLocation::new();
    drop(place.make("shop.db", SHOP));
    let opened = place.open("shop.db").await.unwrap();
    assert_eq!(opened.identity["schema_objects"], json!(4));
    let found = opened.connector.discover(Bounds::default()).await.unwrap();
    let text = serde_json::to_string_pretty(&found.catalog).unwrap();
    insta::with_settings!({snapshot_path => concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots"), prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!("sql_sqlite_catalog", text);
    });
    assert_eq!(opened.connector.tiny_sync(&found.catalog, 20).await.unwrap().rows, 20);
    assert_eq!(opened.connector.health().await.unwrap()["page_count"], opened.identity["page_count"]);
}

#[tokio::test]
async fn bounds_are_kept_and_said() {
    let place = DatabaseLocation::new();
    drop(place.make("shop.db", SHOP));
    let opened = place.open("shop.db").await.unwrap();
    let few = opened.connector.discover(Bounds { streams: 1, ..Bounds::default() }).await.unwrap().catalog;
    assert!(few.truncated && few.streams.len() == 1);
    let narrow = opened.connector.discover(Bounds { columns: 2, ..Bounds::default() }).await.unwrap().catalog;
    assert!(
        narrow.truncated && narrow.streams.iter().all(|stream| stream.json_schema["properties"].as_object().unwrap().len() <= 2)
    );
}

#[tokio::test]
async fn an_empty_database_is_a_truthful_zero_and_an_empty_file_is_none() {
    let place = DatabaseLocation::new();
    drop(place.make("empty.db", "PRAGMA user_version = 7"));
    let opened = place.open("empty.db").await.unwrap();
    assert_eq!(opened.identity["user_version"], json!(7));
    let sample = opened.connector.tiny_sync(&Catalog::default(), 20).await.unwrap();
    assert_eq!((sample.rows, sample.evidence["note"].as_str()), (0, Some("empty: the database has no tables")));
    std::fs::write(place.path("zero.db"), "").unwrap();
    assert_eq!(place.failure("zero.db").await.class, Class::WrongService);
}

#[tokio::test]
async fn what_is_no_database_says_so() {
    let place = DatabaseLocation::new();
    std::fs::write(
        place.path("notes.db"),
        "these are notes, not pages, and long enough to hold a header of one hundred bytes, which they do not have. ".repeat(9),
    )
    .unwrap();
    let failure = place.failure("notes.db").await;
    assert_eq!(failure.class, Class::WrongService);
    assert!(failure.detail.contains("file is not a database"), "{failure:?}");
    assert_eq!(place.failure("none.db").await.class, Class::NotFound);
}

#[tokio::test]
async fn a_damaged_page_is_a_failure_of_the_source() {
    let place = DatabaseLocation::new();
    drop(place.make("shop.db", SHOP));
    let mut bytes = std::fs::read(place.path("shop.db")).unwrap();
    let from = bytes.len() / 4;
    bytes[from..].fill(0xA5);
    std::fs::write(place.path("shop.db"), bytes).unwrap();
    let class = match place.open("shop.db").await {
        Ok(opened) => opened.connector.tiny_sync(&Catalog::default(), 20).await.err().map(|failure| failure.class),
        Err(failure) => Some(failure.class),
    };
    assert_eq!(class, Some(Class::Remote));
}

#[tokio::test]
async fn a_wal_database_at_rest_is_read_and_nothing_appears_beside_it() {
    let place = DatabaseLocation::new();
    drop(place.make("wal.db", &format!("PRAGMA journal_mode = WAL; {SHOP}")));
    let before = place.listing();
    assert_eq!(before.len(), 1, "the last writer left helpers: {before:?}");
    let opened = place.open("wal.db").await.unwrap();
    assert!(opened.identity["opened"].as_str().is_some_and(|how| how.contains("immutable")));
    let found = opened.connector.discover(Bounds::default()).await.unwrap();
    assert_eq!(opened.connector.tiny_sync(&found.catalog, 20).await.unwrap().rows, 20);
    assert_eq!(place.listing(), before);
    drop(opened);
    assert_eq!(place.listing(), before);
}

#[tokio::test]
async fn a_wal_database_in_use_is_read_with_the_writers_latest_rows() {
    let place = DatabaseLocation::new();
    let writer = place.make("wal.db", "PRAGMA journal_mode = WAL; CREATE TABLE t(x); INSERT INTO t VALUES (1)");
    let before = place.listing();
    let opened = place.open("wal.db").await.unwrap();
    assert_eq!(opened.connector.tiny_sync(&Catalog::default(), 20).await.unwrap().rows, 1);
    assert_eq!(place.listing(), before);
    // The reader has neither blocked the writer nor released the writer's locks.
    writer.execute_batch("BEGIN IMMEDIATE; INSERT INTO t VALUES (2); COMMIT").unwrap();
    assert_eq!(opened.connector.tiny_sync(&Catalog::default(), 20).await.unwrap().rows, 2);
    drop(opened);
    writer.execute_batch("INSERT INTO t VALUES (3)").unwrap();
}

#[tokio::test]
async fn a_wal_without_its_index_is_refused_because_reading_would_create_one() {
    let place = DatabaseLocation::new();
    let writer = place.make("live.db", "PRAGMA journal_mode = WAL; CREATE TABLE t(x)");
    for suffix in ["", "-wal"] {
        std::fs::copy(place.path(&format!("live.db{suffix}")), place.path(&format!("copy.db{suffix}"))).unwrap();
    }
    let before = place.listing();
    let failure = place.failure("copy.db").await;
    assert!(failure.class == Class::Remote && failure.fix.contains("wal_checkpoint"), "{failure:?}");
    assert_eq!(place.listing(), before);
    drop(writer);
}

#[tokio::test]
async fn a_locked_database_is_said_to_be_locked() {
    let place = DatabaseLocation::new();
    let writer = place.make("shop.db", SHOP);
    writer.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE").unwrap();
    let failure = place.failure("shop.db").await;
    assert!(failure.class == Class::Remote && failure.title.contains("locked"), "{failure:?}");
}

#[test]
fn a_view_that_computes_without_end_is_stopped() {
    let place = DatabaseLocation::new();
    drop(place.make(
        "v.db",
        "CREATE VIEW v AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) AS x FROM n",
    ));
    let mut file = file::open(&place.path("v.db"), "v.db").unwrap();
    file.limit = Duration::from_millis(50);
    let failure = catalog::sample(&file, 20).err().unwrap();
    assert!(failure.class == Class::Remote && failure.title.contains("time limit"), "{failure:?}");
}

#[test]
fn nothing_but_reading_is_authorised() {
    let place = DatabaseLocation::new();
    drop(place.make("shop.db", SHOP));
    let path = place.path("shop.db");
    let file = file::open(&path, "shop.db").unwrap();
    for sql in [
        "INSERT INTO customer(name) VALUES ('x')",
        "DELETE FROM customer",
        "CREATE TABLE x(y)",
        "CREATE TEMP TABLE x(y)",
        "DROP TABLE customer",
        "ATTACH '/etc/hosts' AS other",
        "VACUUM INTO 'copy.db'",
        "PRAGMA query_only = OFF",
        "PRAGMA journal_mode = DELETE",
        "PRAGMA writable_schema = ON",
        "SELECT load_extension('x')",
    ] {
        let failure = file.within("write", |base| base.prepare(sql).and_then(|mut statement| statement.raw_execute())).err();
        let detail = failure.map(|failure| failure.detail);
        // VACUUM is refused when its inner ATTACH is prepared. Everything else is refused immediately.
        let denied = |reason: &String| reason.contains("not authorized") || reason.contains("authorization denied");
        assert!(detail.as_ref().is_some_and(denied), "{sql}: {detail:?}");
    }
}

#[test]
fn the_verdict_is_what_the_kernel_says() {
    let place = DatabaseLocation::new();
    drop(place.make("shop.db", SHOP));
    assert!(matches!(privilege(&place.path("shop.db")), Privilege::Over { .. }));
    assert!(matches!(privilege(&place.path("none.db")), Privilege::Unknown { .. }));
}
