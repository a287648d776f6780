//! Tests with real files that SQLite itself creates in a directory of each test.

use super::*;
use crate::connectors::sql::SqlEngine;
use crate::egress::{AdmittedConnection, ServiceRecords};
use std::path::PathBuf;
use std::time::Duration;

/// Grants local files and nothing else.
struct LocalOnly;

impl DriverSession for LocalOnly {
    fn admit<'a>(&'a self, host: &'a str, _port: u16) -> BoxFuture<'a, Result<AdmittedConnection, Failure>> {
        Box::pin(async move { panic!("an SQLite file asked for {host}") })
    }

    fn service_records<'a>(&'a self, _: &'a str, host: &'a str) -> BoxFuture<'a, Result<ServiceRecords, Failure>> {
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

pub(super) struct DatabaseLocation {
    dir: tempfile::TempDir,
}

impl DatabaseLocation {
    pub(super) fn new() -> DatabaseLocation {
        DatabaseLocation { dir: tempfile::tempdir().unwrap() }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn make(&self, name: &str, sql: &str) -> rusqlite::Connection {
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

    pub(super) async fn open(&self, name: &str) -> Result<Opened, Failure> {
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
    let failure = catalog::sample(&file, Duration::from_secs(20), 20, &[]).err().unwrap();
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

impl DatabaseLocation {
    /// Opens, discovers and samples.
    async fn sampled(&self, name: &str) -> (Catalog, Sample) {
        let opened = self.open(name).await.unwrap_or_else(|failure| panic!("{name}: {failure:?}"));
        let found = opened.connector.discover(Bounds::default()).await.unwrap_or_else(|failure| panic!("{name}: {failure:?}"));
        let sample = opened.connector.tiny_sync(&found.catalog, 20).await.unwrap_or_else(|failure| panic!("{name}: {failure:?}"));
        (found.catalog, sample)
    }
}

#[tokio::test]
async fn databases_in_utf_16_are_read_in_every_journal_mode() {
    let place = DatabaseLocation::new();
    for (n, encoding) in ["UTF-16le", "UTF-16be"].iter().enumerate() {
        for journal in ["delete", "wal"] {
            let name = format!("{n}{journal}.db");
            drop(place.make(
                &name,
                &format!(
                    "PRAGMA encoding = '{encoding}'; PRAGMA journal_mode = {journal}; CREATE TABLE \"größe\"(a TEXT); INSERT INTO \"größe\" VALUES ('x')"
                ),
            ));
            let before = place.listing();
            let (catalog, sample) = place.sampled(&name).await;
            assert_eq!((catalog.streams[0].name.as_str(), sample.rows), ("größe", 1));
            assert_eq!(place.listing(), before, "{name}");
        }
    }
}

#[tokio::test]
async fn virtual_tables_are_read_and_those_of_an_unknown_module_are_skipped_with_the_reason() {
    let place = DatabaseLocation::new();
    drop(place.make(
        "geo.gpkg",
        "CREATE VIRTUAL TABLE rtree_roads_geom USING rtree(id, minx, maxx, miny, maxy);
         CREATE VIRTUAL TABLE docs USING fts5(body);
         CREATE VIRTUAL TABLE old USING fts4(body);
         INSERT INTO rtree_roads_geom VALUES (1, 0, 1, 0, 1);
         INSERT INTO docs VALUES ('hello'); INSERT INTO old VALUES ('hello');
         PRAGMA writable_schema = ON;
         INSERT INTO sqlite_schema VALUES ('table', 'shapes', 'shapes', 0, 'CREATE VIRTUAL TABLE shapes USING VirtualShape(x)');",
    ));
    let (catalog, _) = place.sampled("geo.gpkg").await;
    let names: Vec<&str> = catalog.streams.iter().map(|stream| stream.name.as_str()).collect();
    for name in ["rtree_roads_geom", "docs", "old"] {
        assert!(names.contains(&name), "{names:?} {:?}", catalog.skipped);
    }
    let skipped = catalog.skipped.iter().find(|skipped| skipped.name == "shapes").unwrap();
    assert!(skipped.reason.contains("VirtualShape"), "{skipped:?}");
    // Each of them is read, and no other statement that writes is allowed.
    let file = file::open(&place.path("geo.gpkg"), "geo.gpkg").unwrap();
    for name in ["rtree_roads_geom", "docs", "old"] {
        let rows: i64 =
            file.within("read", |base| base.query_row(&format!("SELECT count(*) FROM {name}"), [], |row| row.get(0))).unwrap();
        assert_eq!(rows, 1, "{name}");
    }
    let written = file.within("write", |base| base.execute("DELETE FROM rtree_roads_geom_node", [])).err().unwrap();
    assert!(written.detail.contains("readonly"), "{written:?}");
    let written =
        file.within("write", |base| base.execute("INSERT INTO rtree_roads_geom VALUES (2, 0, 1, 0, 1)", [])).err().unwrap();
    assert!(written.detail.contains("readonly") || written.detail.contains("not authorized"), "{written:?}");
}

#[tokio::test]
async fn an_r_tree_alone_is_a_source() {
    let place = DatabaseLocation::new();
    drop(place.make("rtree.db", "CREATE VIRTUAL TABLE r USING rtree(id, minx, maxx); INSERT INTO r VALUES (1, 0, 1)"));
    let (_, sample) = place.sampled("rtree.db").await;
    assert_eq!((sample.rows, &sample.evidence["stream"]), (1, &json!("r")));
}

#[tokio::test]
async fn every_empty_table_on_the_way_is_passed() {
    let place = DatabaseLocation::new();
    let tables: String = (0..300).map(|n| format!("CREATE TABLE a{n:03}(x);")).collect();
    drop(place.make("empty.db", &format!("{tables} CREATE TABLE b(x); INSERT INTO b VALUES (1)")));
    let (_, sample) = place.sampled("empty.db").await;
    assert_eq!((sample.rows, &sample.evidence["stream"]), (1, &json!("b")));
}

#[tokio::test]
async fn a_table_or_view_that_cannot_be_read_does_not_hide_the_next_one() {
    let place = DatabaseLocation::new();
    drop(place.make(
        "views.db",
        "CREATE VIEW aa AS SELECT * FROM gone;
         CREATE VIEW ab AS SELECT no_such_function(1) AS x;
         CREATE VIEW ac AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) AS x FROM n;
         CREATE VIEW zz AS SELECT 1 AS x;",
    ));
    let (_, sample) = place.sampled("views.db").await;
    assert_eq!((sample.rows, &sample.evidence["stream"]), (1, &json!("zz")));
    assert_eq!(sample.evidence["skipped_count"], json!(3), "{:?}", sample.evidence);
    // The first page of the table aa is damaged, and nothing else.
    drop(place.make(
        "page.db",
        "PRAGMA page_size = 4096; CREATE TABLE aa(x); CREATE TABLE zz(x); INSERT INTO aa VALUES (1); INSERT INTO zz VALUES (2)",
    ));
    let mut bytes = std::fs::read(place.path("page.db")).unwrap();
    bytes[4096..8192].fill(0xA5);
    std::fs::write(place.path("page.db"), bytes).unwrap();
    let (_, sample) = place.sampled("page.db").await;
    assert_eq!(sample.evidence["stream"], json!("zz"));
    assert!(sample.evidence["skipped"][0]["reason"].as_str().unwrap().contains("damaged"), "{:?}", sample.evidence);
}

#[tokio::test]
async fn a_blob_of_any_size_is_counted_and_not_read() {
    let place = DatabaseLocation::new();
    drop(place.make("blob.db", "CREATE TABLE t(b BLOB); INSERT INTO t VALUES (zeroblob(900000000))"));
    let (_, sample) = place.sampled("blob.db").await;
    assert_eq!((sample.rows, &sample.evidence["stream"]), (1, &json!("t")));
    assert!(sample.evidence["note"].as_str().unwrap().contains("8 MiB"), "{:?}", sample.evidence);
}

#[tokio::test]
async fn an_encrypted_file_and_a_generated_column() {
    let place = DatabaseLocation::new();
    // SQLCipher encrypts the whole file, so its first bytes are random.
    let random: Vec<u8> = (0..8192_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    std::fs::write(place.path("cipher.db"), random).unwrap();
    let failure = place.failure("cipher.db").await;
    assert!(failure.class == Class::WrongService && failure.title.contains("is encrypted, or is not"), "{failure:?}");
    drop(place.make("g.db", "CREATE TABLE t(a INT, b INT AS (a + 1) VIRTUAL, c INT AS (a + 2) STORED, PRIMARY KEY (a)) WITHOUT ROWID; INSERT INTO t(a) VALUES (1)"));
    let (catalog, sample) = place.sampled("g.db").await;
    assert_eq!(sample.rows, 1);
    assert_eq!(catalog.streams[0].json_schema["properties"].as_object().unwrap().len(), 3);
}

/// Every remedy that can be typed is done as it is printed, and ends the failure.
#[tokio::test]
async fn the_remedies_end_their_failures() {
    let place = DatabaseLocation::new();
    // A WAL without its index: sqlite3 PATH 'PRAGMA wal_checkpoint(TRUNCATE)'.
    let writer = place.make("live.db", "PRAGMA journal_mode = WAL; CREATE TABLE t(x); INSERT INTO t VALUES (1)");
    for suffix in ["", "-wal"] {
        std::fs::copy(place.path(&format!("live.db{suffix}")), place.path(&format!("copy.db{suffix}"))).unwrap();
    }
    let fix = place.failure("copy.db").await.fix;
    let statement = fix.split('\'').nth(1).unwrap();
    assert!(fix.contains(&format!("sqlite3 {}", place.path("copy.db").display())), "{fix}");
    let owner = rusqlite::Connection::open(place.path("copy.db")).unwrap();
    owner.query_row(statement, [], |_| Ok(())).unwrap();
    drop(owner);
    assert_eq!(place.sampled("copy.db").await.1.rows, 1);
    drop(writer);
    // A hot journal: "open it once with the program that owns it".
    let writer = place.make("hot.db", "PRAGMA cache_size = 5; CREATE TABLE t(x); INSERT INTO t VALUES (1)");
    let many = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 20000) INSERT INTO t SELECT hex(randomblob(50)) FROM n";
    writer.execute_batch(&format!("BEGIN; {many}")).unwrap();
    for suffix in ["", "-journal"] {
        std::fs::copy(place.path(&format!("hot.db{suffix}")), place.path(&format!("crashed.db{suffix}"))).unwrap();
    }
    let failure = place.failure("crashed.db").await;
    assert!(failure.class == Class::Remote && failure.fix.contains("open it once"), "{failure:?}");
    let owner = rusqlite::Connection::open(place.path("crashed.db")).unwrap();
    owner.query_row("SELECT count(*) FROM t", [], |_| Ok(())).unwrap();
    drop(owner);
    assert_eq!(place.sampled("crashed.db").await.1.rows, 1);
    drop(writer);
    // A lock: "look for a long-running write transaction".
    let writer = place.make("locked.db", SHOP);
    writer.execute_batch("BEGIN EXCLUSIVE").unwrap();
    assert!(place.failure("locked.db").await.fix.contains("write transaction"));
    writer.execute_batch("COMMIT").unwrap();
    assert_eq!(place.sampled("locked.db").await.1.rows, 20);
    // A path outside the roots: the printed key of the policy.
    let id = format!("jdbc:sqlite:{}", place.path("locked.db").display());
    let outside = Arc::new(crate::connectors::sql::test_policy(Vec::new()));
    let fix = SqlEngine.open_through(Arc::new(LocalOnly), &id, None, outside).await.err().unwrap().fix;
    let line = &fix[fix.find("files: {").unwrap()..];
    let text = format!("version: 1\nallowlist: [jdbc]\n{line}\n");
    let inside = crate::policy::parse::parse(&text, "policy.yaml").unwrap_or_else(|problems| panic!("{text}: {problems:?}"));
    SqlEngine
        .open_through(Arc::new(LocalOnly), &id, None, Arc::new(inside))
        .await
        .unwrap_or_else(|failure| panic!("{failure:?}"));
}
