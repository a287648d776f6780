//! The servers' own counters and checksums, before and after all steps, show that AAM wrote nothing.

use super::sources::*;
use crate::harness::{get_json, variable};
use crate::support::daemon::{Workspace, until};
use mysql_async::prelude::Queryable;
use serde_json::Value;
use std::path::Path;

peer_tests! {
    [Postgres, Mariadb, Moto, Nanio, Fastapi]: the_servers_own_counters_show_no_write;
}

/// The counters of PostgreSQL for the tables of one database: rows inserted, changed or deleted, and rows read.
async fn postgres_counters(admin: &tokio_postgres::Client) -> (i64, i64) {
    let text = "SELECT coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::bigint, coalesce(sum(seq_tup_read), 0)::bigint FROM pg_stat_user_tables";
    let row = admin.query_one(text, &[]).await.expect("counters");
    (row.get(0), row.get(1))
}

/// A checksum over all rows.
async fn postgres_rows(admin: &tokio_postgres::Client) -> String {
    let text = "SELECT md5(string_agg(t::text, ',' ORDER BY t::text)) FROM (SELECT o::text FROM orders o UNION ALL SELECT p::text FROM people p) AS t";
    admin.query_one(text, &[]).await.expect("rows").get(0)
}

/// The counters of MariaDB for one user: rows written, writing commands, rows read.
async fn mariadb_counters(admin: &mut mysql_async::Conn, user: &str) -> (u64, u64, u64) {
    let text = format!(
        "SELECT CAST(COALESCE(SUM(ROWS_INSERTED + ROWS_UPDATED + ROWS_DELETED), 0) AS UNSIGNED),
                CAST(COALESCE(SUM(UPDATE_COMMANDS), 0) AS UNSIGNED), CAST(COALESCE(SUM(ROWS_READ), 0) AS UNSIGNED)
         FROM information_schema.USER_STATISTICS WHERE USER = '{user}'"
    );
    admin.query_first(text).await.expect("counters").expect("one row")
}

async fn mariadb_rows(admin: &mut mysql_async::Conn, name: &str) -> (String, Option<u64>) {
    admin.query_first(format!("CHECKSUM TABLE {name}.orders")).await.expect("a checksum").expect("one row")
}

/// Creates a database, and a user that has read and write privileges on it.
async fn create_mariadb_database(admin: &mut mysql_async::Conn, name: &str) {
    for text in [
        "SET GLOBAL userstat = 1".to_string(),
        format!("CREATE DATABASE {name}"),
        format!("USE {name}"),
        format!("CREATE TABLE {name}.orders AS SELECT seq AS id, seq * 2 AS amount FROM seq_1_to_50"),
        format!("CREATE USER {name}@'%' IDENTIFIED BY '{}'", password_of(name)),
        format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {name}.* TO {name}@'%'"),
    ] {
        admin.query_drop(text).await.expect("the administrator has the privilege");
    }
}

/// All buckets and keys that moto reports.
async fn moto_objects() -> Value {
    let url = format!("{}/moto-api/data.json", variable("MOTO", "ENDPOINT"));
    get_json(&url).await["s3"].take()
}

/// Every file below `folder` with its size and modification time.
fn listing(folder: &Path, found: &mut Vec<(String, u64, std::time::SystemTime)>) {
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let meta = entry.metadata().expect("a file");
        if meta.is_dir() {
            listing(&entry.path(), found);
        } else {
            found.push((entry.path().display().to_string(), meta.len(), meta.modified().expect("a time")));
        }
    }
    found.sort();
}

fn nanio_objects() -> Vec<(String, u64, std::time::SystemTime)> {
    let mut found = Vec::new();
    listing(Path::new(&variable("NANIO", "DATA")).join("landing").as_path(), &mut found);
    found
}

async fn the_servers_own_counters_show_no_write() {
    let (name, admin) = create_database("proof").await;
    // The account has write privileges, so only AAM itself prevents a write.
    admin.batch_execute(&format!("GRANT INSERT, UPDATE, DELETE ON orders, people TO {name}")).await.expect("granted");
    let mut maria = mariadb().await;
    create_mariadb_database(&mut maria, &name).await;
    // PostgreSQL updates its counters with a delay, so the test waits until they contain the rows that it wrote itself.
    until("PostgreSQL has counted the rows that the test wrote", || async {
        let (written, _) = postgres_counters(&admin).await;
        (written == 80, written.to_string())
    })
    .await;
    let (_, read_before) = postgres_counters(&admin).await;
    let before = (postgres_rows(&admin).await, mariadb_rows(&mut maria, &name).await, moto_objects().await, nanio_objects());
    assert!(
        before.2.as_object().is_some_and(|s3| !s3.is_empty()) && before.3.len() > 20,
        "the stores did not list their objects"
    );

    let mut workspace = Workspace::new();
    let all = [
        source("own", "postgres", format!("postgresql://{}/{name}", address("POSTGRES")), login(&name, &password_of(&name))),
        source("own", "jdbc", format!("jdbc:mariadb://{}/{name}", address("MARIADB")), login(&name, &password_of(&name))),
        source("moto", "s3_compat", format!("{}/aam-landing", variable("MOTO", "ENDPOINT")), key("MOTO", "LISTER")),
        source("nanio", "s3_compat", format!("{}/landing", variable("NANIO", "ENDPOINT")), key("NANIO", "")),
        source("books", "openapi", variable("FASTAPI", "URL"), variable("FASTAPI", "TOKEN")),
    ];
    set_secrets(&mut workspace, &all);
    workspace.write_policy(&policy("1h", ""));
    let daemon = workspace.serve().await;
    for source in &all {
        let response = daemon.push(&source.intent()).await;
        assert_eq!(response.body["status"], "ACTIVE", "{}", response.body);
        assert_eq!(heal(&daemon, &response.body).await["status"], "ACTIVE", "{}", source.what);
    }
    assert_eq!(daemon.stop().await, Some(0));

    let after = (postgres_rows(&admin).await, mariadb_rows(&mut maria, &name).await, moto_objects().await, nanio_objects());
    assert!(after == before, "a row or an object changed");
    // The counters are updated some time after a session ends. Once they contain AAM's reads, they would also contain its
    // writes.
    until("PostgreSQL has counted the rows that AAM read", || async {
        let (_, read) = postgres_counters(&admin).await;
        (read >= read_before + 2 * 80 + 40, format!("{read} rows after {read_before}; the test itself read 80 rows twice"))
    })
    .await;
    assert_eq!(postgres_counters(&admin).await.0, 80, "rows written");
    let (written, commands, read) = mariadb_counters(&mut maria, &name).await;
    assert_eq!((written, commands), (0, 0), "rows written, writing commands");
    assert!(read >= 40, "MariaDB did not count the rows that AAM read: {read}");
    let calls = get_json(&format!("{}/calls", variable("FASTAPI", "URL"))).await;
    let methods: Vec<&String> = calls.as_object().expect("counts").keys().collect();
    assert!(methods.iter().all(|method| ["GET", "HEAD"].contains(&method.as_str())), "{calls}");
    assert!(calls["GET"].as_u64().is_some_and(|count| count > 3), "{calls}");
}
