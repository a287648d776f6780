//! Databases in which one table or view cannot be read. The others are read all the same, and each reason is named.

use super::server::*;
use crate::support::sql::{open_at, policy};
use aam::connectors::{Bounds, Opened, Sample};
use aam::credentials::{Credential, Secret};
use aam::model::{Catalog, Class, Failure};
use serde_json::json;
use tokio_postgres::Client;

peer_tests! {
    [Postgres]: a_relation_that_cannot_be_read_hides_no_other, every_empty_table_is_passed_on_the_way_to_rows,
        an_unlogged_table_on_a_standby_hides_no_other, a_server_that_stops_answering_for_one_relation_is_asked_again,
        a_large_row_among_small_ones_is_left_out, the_fix_of_an_unreadable_relation_works, a_schema_that_does_not_exist_is_not_found,
        names_and_values_that_are_not_utf8_are_skipped, a_name_without_its_schema_is_said_to_rely_on_the_search_path;
}

/// A database for one test, which `statements` fill. The role reader may read everything in it.
async fn database(name: &str, statements: &str) -> Client {
    database_with(name, "", statements).await
}

async fn database_with(name: &str, options: &str, statements: &str) -> Client {
    let server = superuser("postgres").await;
    server.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await.unwrap();
    server.batch_execute(&format!("CREATE DATABASE {name} {options}")).await.unwrap();
    let client = superuser(name).await;
    client.batch_execute(statements).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
    client.batch_execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader").await.unwrap();
    client
}

async fn open_reader(name: &str) -> Opened {
    open(Postgres, "reader", name).await.unwrap_or_else(|failure| panic!("{name}: {failure:?}"))
}

/// Runs every step as the pipeline does. Opening, discovery and health must succeed.
async fn sample(opened: &Opened) -> Result<Sample, Failure> {
    let found = opened.connector.discover(Bounds::default()).await.unwrap();
    opened.connector.health().await.unwrap();
    opened.connector.tiny_sync(&found.catalog, 20).await
}

const ROWS: &str = "CREATE TABLE zz (a int); INSERT INTO zz VALUES (1);";
const ROWS_OF_VIEW: &str = "CREATE VIEW zz AS SELECT 1 AS x;";

/// The name of the database, the statements that create `aa`, and a part of the reason why it is skipped.
fn unreadable() -> Vec<(&'static str, String, &'static str)> {
    vec![
        ("p1_unpopulated", format!("{ROWS} CREATE MATERIALIZED VIEW aa AS SELECT * FROM zz WITH NO DATA;"), "is not populated"),
        (
            "p1_policy",
            format!(
                "CREATE TABLE aa (a int, t text); INSERT INTO aa VALUES (1, 'x'); ALTER TABLE aa ENABLE ROW LEVEL SECURITY; \
                 CREATE POLICY p ON aa USING (t = current_setting('app.tenant')); {ROWS}"
            ),
            "uses the setting app.tenant",
        ),
        ("p1_locked", format!("CREATE TABLE aa (a int); INSERT INTO aa VALUES (1); {ROWS}"), "holds a lock"),
        ("p1_broken", format!("CREATE VIEW aa AS SELECT 1/0 AS x; {ROWS_OF_VIEW}"), "division by zero"),
        ("p1_sleeping", format!("CREATE VIEW aa AS SELECT 1 AS x FROM pg_sleep_for('100 s'); {ROWS_OF_VIEW}"), "time limit"),
        (
            "p1_foreign",
            format!(
                "CREATE EXTENSION postgres_fdw; \
                 CREATE SERVER dead FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '1'); \
                 CREATE USER MAPPING FOR PUBLIC SERVER dead OPTIONS (user 'x', password 'y'); \
                 CREATE FOREIGN TABLE aa (a int) SERVER dead; CREATE VIEW bb AS SELECT * FROM aa; {ROWS_OF_VIEW}"
            ),
            "foreign server",
        ),
        (
            "p1_huge",
            format!(
                "CREATE TABLE aa (a int, b bytea); \
                 INSERT INTO aa SELECT i, decode(repeat('ff', 5000000), 'hex') FROM generate_series(1, 20) AS i; {ROWS}"
            ),
            "AAM reads rows of at most 1048576 bytes",
        ),
        (
            "p1_second_row",
            format!("CREATE VIEW aa AS SELECT 1 / (3 - i) AS x FROM generate_series(1, 5) AS i; {ROWS_OF_VIEW}"),
            "division by zero",
        ),
        (
            "p1_raising",
            format!(
                "CREATE FUNCTION no() RETURNS int LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no tenant''; END'; \
                 CREATE VIEW aa AS SELECT no() AS x; {ROWS_OF_VIEW}"
            ),
            "raises an error",
        ),
        (
            "p1_recursive",
            format!(
                "CREATE TABLE aa (a int); INSERT INTO aa VALUES (1); ALTER TABLE aa ENABLE ROW LEVEL SECURITY; \
                 CREATE POLICY p ON aa USING (EXISTS (SELECT 1 FROM aa)); {ROWS}"
            ),
            "refers to itself",
        ),
        (
            "p1_many",
            format!(
                "DO $$ BEGIN FOR i IN 10..29 LOOP EXECUTE format('CREATE VIEW aa%s AS SELECT 1/0 AS x', i); END LOOP; END $$; \
                 {ROWS_OF_VIEW}"
            ),
            "division by zero",
        ),
    ]
}

async fn a_relation_that_cannot_be_read_hides_no_other() {
    for (name, statements, reason) in unreadable() {
        let holder = database(name, &statements).await;
        if name == "p1_locked" {
            holder.batch_execute("BEGIN; LOCK TABLE aa IN ACCESS EXCLUSIVE MODE").await.unwrap();
        }
        let opened = open_reader(name).await;
        let sample = sample(&opened).await.unwrap_or_else(|failure| panic!("{name}: {failure:?}"));
        assert_eq!((sample.rows, &sample.evidence["stream"]), (1, &json!("public.zz")), "{name}: {:?}", sample.evidence);
        let skipped = sample.evidence.get("skipped").unwrap_or_else(|| panic!("{name}: {:?}", sample.evidence));
        assert!(
            skipped[0]["stream"].as_str().is_some_and(|stream| stream.contains("\"aa") || stream.contains("\"bb")),
            "{name}: {skipped}"
        );
        assert!(skipped[0]["reason"].as_str().is_some_and(|text| text.contains(reason)), "{name}: {skipped}");
        // The session is still usable.
        opened.connector.health().await.unwrap();
    }
}

async fn every_empty_table_is_passed_on_the_way_to_rows() {
    let empty: String = (0..60).map(|n| format!("CREATE TABLE aa{n} (a int);")).collect();
    database("p1_empty", &format!("{empty} CREATE TABLE no_columns (); {ROWS}")).await;
    let sample = sample(&open_reader("p1_empty").await).await.unwrap();
    assert_eq!((sample.rows, &sample.evidence["stream"]), (1, &json!("public.zz")), "{:?}", sample.evidence);
    assert_eq!(sample.evidence["empty_count"], 61);
    // Without the table that has rows, the result names what was read.
    superuser("p1_empty").await.batch_execute("DROP TABLE zz").await.unwrap();
    let empty = open_reader("p1_empty").await.connector.tiny_sync(&Catalog::default(), 20).await.unwrap();
    assert_eq!((empty.rows, &empty.evidence["note"]), (0, &json!("empty: the tables that were read have no rows")));
}

async fn an_unlogged_table_on_a_standby_hides_no_other() {
    database("p1_standby", &format!("CREATE UNLOGGED TABLE aa (a int); {ROWS} CREATE TABLE replayed ();")).await;
    let port = Postgres.variable("STANDBY_PORT").parse().unwrap();
    let id = Postgres.id_at("127.0.0.1", port, "p1_standby?currentSchema=public");
    let credential = Postgres.credential("reader");
    crate::support::daemon::until("the standby has the tables", || async {
        match open_at(&id, &credential, policy(None)).await {
            Ok(opened) => {
                let found = opened.connector.discover(Bounds::default()).await.unwrap();
                let readable = found.evidence["readable"].as_u64();
                (readable >= Some(2), format!("{:?}", found.evidence))
            }
            Err(failure) => (false, format!("{failure:?}")),
        }
    })
    .await;
    let opened = open_at(&id, &credential, policy(None)).await.unwrap();
    assert_eq!(opened.identity["in_recovery"], json!(true));
    let sample = sample(&opened).await.unwrap();
    assert_eq!((sample.rows, &sample.evidence["stream"]), (1, &json!("public.zz")), "{:?}", sample.evidence);
    assert!(sample.evidence["skipped"][0]["reason"].as_str().unwrap().contains("unlogged table"), "{:?}", sample.evidence);
}

/// A foreign server that accepts connections and never answers: the session that waits for it cannot be interrupted.
async fn a_server_that_stops_answering_for_one_relation_is_asked_again() {
    let (silent, _) = crate::support::network::silent_address().await;
    database(
        "p1_silent",
        &format!(
            "CREATE EXTENSION postgres_fdw; \
             CREATE SERVER silent FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '{}'); \
             CREATE USER MAPPING FOR PUBLIC SERVER silent OPTIONS (user 'x', password 'y'); \
             CREATE FOREIGN TABLE far (a int) SERVER silent; CREATE VIEW aa AS SELECT * FROM far; {ROWS_OF_VIEW}",
            silent.port()
        ),
    )
    .await;
    let sample = sample(&open_reader("p1_silent").await).await.unwrap();
    assert_eq!((sample.rows, &sample.evidence["stream"]), (1, &json!("public.zz")), "{:?}", sample.evidence);
    let skipped = sample.evidence.get("skipped").map(|skipped| skipped[0].to_string()).unwrap_or_default();
    assert!(skipped.contains("no response within"), "{skipped}");
}

/// Rows that are too large count only if the table has no others.
async fn a_large_row_among_small_ones_is_left_out() {
    database("large_rows", "CREATE TABLE aa (b text); INSERT INTO aa VALUES (repeat('x', 2000000)), ('small'), ('small');").await;
    let result = sample(&open_reader("large_rows").await).await.unwrap();
    assert_eq!((result.rows, &result.evidence["stream"]), (2, &json!("public.aa")), "{:?}", result.evidence);
    assert!(result.evidence["too_large"].as_str().unwrap().starts_with("1 row not read"), "{:?}", result.evidence);
    // A database with nothing else says what AAM does not do, and that is not damage.
    superuser("large_rows").await.batch_execute("DELETE FROM aa WHERE b = 'small'").await.unwrap();
    let failure = sample(&open_reader("large_rows").await).await.err().unwrap();
    assert_eq!(failure.class, Class::Misconfigured, "{failure:?}");
    assert!(failure.title.contains("a row with up to 2000"), "{failure:?}");
    superuser("large_rows")
        .await
        .batch_execute("CREATE VIEW bb AS SELECT length(b) FROM aa; GRANT SELECT ON bb TO reader")
        .await
        .unwrap();
    assert_eq!(sample(&open_reader("large_rows").await).await.unwrap().rows, 1, "the fix names a view without the large columns");
}

/// The statement that a fix prints, up to its semicolon, with a value for what it leaves open.
fn statement(fix: &str) -> String {
    let start =
        ["REFRESH ", "ALTER ", "GRANT ", "SELECT pid", "EXPLAIN ", "REVOKE "].iter().filter_map(|word| fix.find(word)).min();
    let from = &fix[start.unwrap_or_else(|| panic!("no statement in {fix}"))..];
    from[..=from.find(';').unwrap()].replace("'...'", "'x'")
}

/// Each relation is the only one of its database, so that its failure is that of the connection.
async fn the_fix_of_an_unreadable_relation_works() {
    for (name, statements, class) in [
        ("fix_unpopulated", "CREATE MATERIALIZED VIEW aa AS SELECT 1 AS x WITH NO DATA;", Class::Remote),
        (
            "fix_policy",
            "CREATE TABLE aa (a int, t text); INSERT INTO aa VALUES (1, 'x'); ALTER TABLE aa ENABLE ROW LEVEL SECURITY; \
             CREATE POLICY p ON aa USING (t = current_setting('fix.tenant'));",
            Class::Remote,
        ),
        (
            "fix_owner",
            "CREATE SCHEMA inner_one; CREATE TABLE inner_one.other AS SELECT 1 AS x; \
             CREATE VIEW aa WITH (security_invoker = true) AS SELECT x FROM inner_one.other; GRANT USAGE ON SCHEMA inner_one TO reader;",
            Class::PermissionDenied,
        ),
    ] {
        let client = database(name, statements).await;
        let failure = sample(&open_reader(&format!("{name}?currentSchema=public")).await).await.err().unwrap();
        assert_eq!(failure.class, class, "{name}: {failure:?}");
        let fix = statement(&failure.fix)
            .replace("\"public\".\"aa\" TO", if name == "fix_owner" { "inner_one.other TO" } else { "\"public\".\"aa\" TO" });
        client.batch_execute(&fix).await.unwrap_or_else(|error| panic!("{name}: {fix}: {error:?}"));
        let sample = sample(&open_reader(&format!("{name}?currentSchema=public")).await).await;
        assert_eq!(sample.map(|sample| sample.rows).map_err(|failure| format!("{name}: {failure:?}")), Ok(1));
    }
    superuser("postgres").await.batch_execute("ALTER ROLE reader RESET fix.tenant").await.unwrap();

    // The statement finds the session that holds the lock.
    let holder = database("fix_locked", "CREATE TABLE aa AS SELECT 1 AS x;").await;
    holder.batch_execute("BEGIN; LOCK TABLE aa IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let opened = open_reader("fix_locked").await;
    let failure = sample(&opened).await.err().unwrap();
    assert!(failure.title.contains("holds a lock"), "{failure:?}");
    let pid: i32 = superuser("fix_locked").await.query_one(&statement(&failure.fix), &[]).await.unwrap().get(0);
    superuser("postgres").await.execute("SELECT pg_terminate_backend($1)", &[&pid]).await.unwrap();
    assert_eq!(sample(&opened).await.unwrap().rows, 1);
}

async fn a_schema_that_does_not_exist_is_not_found() {
    for (rest, class, says) in [
        ("shop?currentSchema=nope", Class::NotFound, "write one of the existing schemas after currentSchema=: "),
        ("shop?currentSchema=PUBLIC", Class::NotFound, "write currentSchema=public"),
        ("shop?currentSchema=Sales", Class::NotFound, "write currentSchema=sales"),
        ("shop?search_path=nope", Class::NotFound, "sales"),
        ("shop?currentSchema=information_schema", Class::Misconfigured, "schema with tables of users"),
        ("shop?currentSchema=pg_catalog", Class::Misconfigured, "schema with tables of users"),
    ] {
        let failure = refused(Postgres, "reader", rest).await;
        assert_eq!(failure.class, class, "{rest}: {failure:?}");
        assert!(failure.fix.contains(says), "{rest}: {failure:?}");
    }
    // What the fix says works.
    let opened = open(Postgres, "reader", "shop?currentSchema=sales").await.unwrap();
    assert_eq!(opened.identity["schema"], json!("sales"));
    assert_eq!(sample(&opened).await.unwrap().rows, 20);
    // The schema may disappear later.
    let client = database("schema_dropped", "CREATE SCHEMA later;").await;
    let opened = open_reader("schema_dropped?currentSchema=later").await;
    client.batch_execute("DROP SCHEMA later").await.unwrap();
    assert_eq!(opened.connector.health().await.err().map(|failure| failure.class), Some(Class::NotFound));
}

/// A database with the encoding SQL_ASCII accepts any bytes, also in names; one with LATIN1 converts them.
async fn names_and_values_that_are_not_utf8_are_skipped() {
    let ascii = "ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0";
    database_with(
        "enc_ascii",
        ascii,
        &format!(
            "CREATE TABLE aa (t text); INSERT INTO aa SELECT convert_from('\\xe9'::bytea, 'SQL_ASCII'); \
             CREATE TABLE \"größe\" (a int); {ROWS}"
        ),
    )
    .await;
    let opened = open_reader("enc_ascii").await;
    let result = sample(&opened).await.unwrap();
    assert_eq!((result.rows, &result.evidence["stream"]), (1, &json!("public.zz")), "{:?}", result.evidence);
    assert!(
        result.evidence["skipped"][0]["reason"].as_str().unwrap().contains("not valid text in the encoding"),
        "{:?}",
        result.evidence
    );

    // Names: the catalog itself cannot be sent as text.
    let client = superuser("enc_ascii").await;
    // CREATE TABLE "caf\xe9" (a int)
    client
        .batch_execute("DO $$ BEGIN EXECUTE convert_from('\\x435245415445205441424c452022636166e92220286120696e7429'::bytea, 'SQL_ASCII'); END $$")
        .await
        .unwrap();
    // ALTER TABLE zz ADD COLUMN "\xe9" int
    client
        .batch_execute("DO $$ BEGIN EXECUTE convert_from('\\x414c544552205441424c45207a7a2041444420434f4c554d4e2022e92220696e74'::bytea, 'SQL_ASCII'); END $$")
        .await
        .unwrap();
    let opened = open_reader("enc_ascii").await;
    let found = opened.connector.discover(Bounds::default()).await.unwrap();
    let names: Vec<&str> = found.catalog.streams.iter().map(|stream| stream.name.as_str()).collect();
    assert_eq!(names, ["aa", "größe"], "{:?}", found.catalog.skipped);
    let skipped: Vec<&str> = found.catalog.skipped.iter().map(|skipped| skipped.name.as_str()).collect();
    assert!(skipped.contains(&"caf\\xe9") && skipped.contains(&"zz"), "{skipped:?}");
    assert_eq!(sample(&opened).await.unwrap().rows, 1);

    let latin = "ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0";
    database_with("enc_latin", latin, "CREATE TABLE \"größe\" AS SELECT 'é'::text AS \"ä\";").await;
    let opened = open_reader("enc_latin").await;
    assert_eq!(opened.connector.discover(Bounds::default()).await.unwrap().catalog.streams[0].name, "größe");
    assert_eq!(sample(&opened).await.unwrap().rows, 1);
}

async fn a_name_without_its_schema_is_said_to_rely_on_the_search_path() {
    database(
        "p2_path",
        "CREATE TABLE mem (u text); \
         CREATE FUNCTION cur() RETURNS text LANGUAGE sql STABLE AS $$SELECT u FROM mem LIMIT 1$$; \
         CREATE TABLE aa (a int, t text); INSERT INTO aa VALUES (1, 'x'); \
         ALTER TABLE aa ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON aa USING (t = cur()); DROP TABLE IF EXISTS zz;",
    )
    .await;
    let client = superuser("p2_path").await;
    let empty = sample(&open_reader("p2_path").await).await.unwrap();
    assert_eq!(empty.rows, 0, "{:?}", empty.evidence);
    let note = empty.evidence["note"].as_str().unwrap();
    assert!(note.contains("1 table could not be read"), "{note}");
    let reason = empty.evidence["skipped"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("the name mem without its schema") && reason.contains("search_path = pg_catalog"), "{reason}");
    // As the only table, it is the failure of the connection, and its fix works.
    client.batch_execute("REVOKE SELECT ON mem FROM reader; INSERT INTO mem VALUES ('x')").await.unwrap();
    let failure = sample(&open_reader("p2_path").await).await.err().unwrap();
    assert!(failure.fix.contains("ALTER FUNCTION NAME(...) SET search_path = SCHEMA;"), "{failure:?}");
    client.batch_execute("ALTER FUNCTION cur() SET search_path = public; GRANT SELECT ON mem TO reader; DELETE FROM mem; INSERT INTO mem VALUES ('x')").await.unwrap();
    assert_eq!(sample(&open_reader("p2_path").await).await.unwrap().rows, 1);
}

/// The reader's login with another password.
pub fn login(user: &str, password: &str) -> Credential {
    Credential::read(Secret::new(json!({"user": user, "password": password}).to_string()))
}
