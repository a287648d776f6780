//! `aam query` on a registry in PostgreSQL: the same SQL on the same views, and nothing else of the database.

use crate::registry_postgres::{Database, sources, until_active, workspace};
use crate::support::daemon::{Workspace, stderr, stdout, until};
use crate::support::snapshot::assert_snapshot;
use aam::registry::views::VIEWS;
use serde_json::{Value, json};

peer_tests! {
    [Postgres]: every_view_has_the_same_rows_in_a_file_and_in_its_copy, a_query_reads_the_views_of_a_database_only,
        a_query_of_a_database_sees_no_dropped_calls;
}

fn rows(workspace: &Workspace, sql: &str) -> Value {
    let output = workspace.run(&["query", sql, "--json"]);
    assert!(output.status.success(), "{sql}: {}", stderr(&output));
    serde_json::from_str(&stdout(&output)).expect("JSON")
}

/// The rows of every view. The hashes of the chains differ, and the copy has two entries more.
fn all_views(workspace: &Workspace) -> Vec<(&'static str, Value)> {
    let select = |view: &aam::registry::views::View| {
        let columns: Vec<&str> = view.columns.iter().map(|column| column.name).filter(|name| *name != "hash").collect();
        let more = if view.name == "entries" { " WHERE kind NOT IN ('registry_copied', 'chains_anchored')" } else { "" };
        let listed = columns.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
        let order = (1..=columns.len()).map(|number| number.to_string()).collect::<Vec<_>>().join(", ");
        (view.name, rows(workspace, &format!("SELECT {listed} FROM {}{more} ORDER BY {order}", view.name)))
    };
    VIEWS.iter().map(select).collect()
}

async fn every_view_has_the_same_rows_in_a_file_and_in_its_copy() {
    let (mut workspace, database) = (workspace(), Database::new());
    let ids = sources(&workspace, 5);
    let daemon = workspace.serve().await;
    until_active(&daemon, &ids).await;
    let one = daemon.until_state(&ids[0], "ACTIVE").await;
    std::fs::write(workspace.path("data/source-0.csv"), "id,title\n1,other\n").expect("written");
    let id = one["connection_id"].as_str().expect("an id").to_string();
    let healed = daemon.post(&format!("/connections/{id}/heal"), &json!({})).await;
    assert!(healed.status < 300, "{}", healed.body);
    until("the schema changed", || async {
        let changes = rows(&workspace, "SELECT count(*) AS n FROM schema_changes");
        (changes[0]["n"].as_i64().is_some_and(|n| n > 0), changes.to_string())
    })
    .await;
    assert_eq!(daemon.stop().await, Some(0));
    let of_file = all_views(&workspace);
    let filled = of_file.iter().filter(|(_, rows)| rows.as_array().is_some_and(|rows| !rows.is_empty())).count();
    assert!(filled > 8, "{filled} views have rows");
    let file = workspace.path("var/aam.db").display().to_string();
    database.prepare(&mut workspace);
    let copied = workspace.run(&["registry", "migrate", "--registry", &file, "--to", &database.url(&database.role)]);
    assert!(copied.status.success(), "{}", stderr(&copied));
    for ((view, of_file), (_, of_copy)) in of_file.into_iter().zip(all_views(&workspace)) {
        assert_eq!(of_file, of_copy, "{view}");
    }
}

async fn audited(count: usize) -> (Workspace, Database) {
    let (mut workspace, database) = (workspace(), Database::new());
    database.prepare(&mut workspace);
    let ids = sources(&workspace, count);
    let daemon = workspace.serve().await;
    until_active(&daemon, &ids).await;
    assert_eq!(daemon.stop().await, Some(0));
    (workspace, database)
}

async fn a_query_reads_the_views_of_a_database_only() {
    let (workspace, database) = audited(4).await;
    assert_eq!(
        rows(&workspace, "SELECT status, count(*) AS n FROM connections GROUP BY 1"),
        json!([{"status": "ACTIVE", "n": 4}])
    );
    let counted = rows(&workspace, "SELECT count(*) AS n FROM entries");
    assert_eq!(counted[0]["n"].as_i64(), Some(database.count("SELECT count(*) FROM aam.ledger")));
    let in_sqlite =
        "SELECT date(at / 1000, 'unixepoch') > '2020' AS recent, json_extract(facts, '$.policy') IS NOT NULL AS has_policy
                     FROM attempts_begun LIMIT 1";
    assert_eq!(rows(&workspace, in_sqlite), json!([{"recent": 1, "has_policy": 1}]), "the SQL is that of SQLite");
    let joined = "WITH slow AS (SELECT connection, max(ms) AS ms FROM calls GROUP BY 1) SELECT count(*) AS n FROM slow JOIN connections USING (connection)";
    assert_eq!(rows(&workspace, joined), json!([{"n": 4}]));
    let refused = [
        "DELETE FROM entries",
        "INSERT INTO entries (seq) VALUES (1)",
        "UPDATE connections SET status = 'ACTIVE'",
        "WITH gone AS (DELETE FROM aam.ledger RETURNING 1) SELECT * FROM gone",
        "DROP TABLE entries",
        "SELECT * FROM ledger",
        "SELECT * FROM aam.ledger",
        "SELECT * FROM call_batches",
        "SELECT * FROM idempotency_keys",
        "SELECT * FROM pg_authid",
        "SELECT * FROM pg_catalog.pg_stat_activity",
        "SELECT pg_sleep_for('1 hour')",
        "SELECT set_config('role', 'none', false)",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT lo_import('/etc/passwd')",
        "SELECT query_to_xml('SELECT * FROM ledger', true, false, '')",
        "SELECT pg_advisory_lock(1) FROM entries",
        "SELECT nextval('ledger_seq')",
        "SELECT * FROM dblink('dbname=postgres', 'SELECT 1') AS t (a int)",
        "SELECT 1; SELECT 2",
        "COPY entries TO '/tmp/x'",
        "SET ROLE super",
        "BEGIN",
        "ATTACH 'x.db' AS x",
        "PRAGMA table_list",
        "SELECT load_extension('x')",
    ];
    let statements = database.count("SELECT count(*) FROM aam.ledger");
    let said_in_snapshot = ["DELETE FROM entries", "SELECT * FROM ledger", "SELECT pg_sleep_for('1 hour')"];
    let mut said = String::new();
    for sql in refused {
        let output = workspace.run(&["query", sql]);
        assert_eq!((output.status.code(), stdout(&output)), (Some(64), String::new()), "{sql}: {}", stderr(&output));
        if said_in_snapshot.contains(&sql) {
            said.push_str(&format!("{sql}\n{}", stderr(&output)));
        }
    }
    assert_eq!(database.count("SELECT count(*) FROM aam.ledger"), statements);
    assert_snapshot("query_of_a_database_refused", &said, &[("the views are [a-z_, ]*", "the views are …")]);
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
    let slow = workspace.run(&["query", endless, "--timeout", "1"]);
    assert!(slow.status.code() == Some(1) && stderr(&slow).contains("did not finish within 1 s"), "{}", stderr(&slow));
    locked(&workspace, &database);
}

/// A database that does not answer in time stops a query as well.
fn locked(workspace: &Workspace, database: &Database) {
    let owner = Database::session(&database.name, &database.owner, &database.owner);
    owner.begin_write().expect("a transaction");
    owner.execute_batch("LOCK TABLE call_targets IN ACCESS EXCLUSIVE MODE").expect("a lock");
    let waited = workspace.run(&["query", "SELECT host FROM calls", "--timeout", "1"]);
    assert!(waited.status.code() == Some(1) && stderr(&waited).contains("did not finish within 1 s"), "{}", stderr(&waited));
    owner.rollback().expect("rolled back");
    assert!(rows(workspace, "SELECT host FROM calls").as_array().is_some_and(|calls| !calls.is_empty()));
}

async fn a_query_of_a_database_sees_no_dropped_calls() {
    let (workspace, database) = audited(3).await;
    let batches = rows(&workspace, "SELECT DISTINCT batch FROM calls ORDER BY 1");
    let batches: Vec<i64> = batches.as_array().expect("rows").iter().filter_map(|row| row["batch"].as_i64()).collect();
    assert_eq!(batches.len(), 3);
    // As AAM records it, while the rows wait to be deleted.
    let owner = Database::session(&database.name, &database.owner, &database.owner);
    let dropped = "ALTER TABLE ledger DISABLE TRIGGER ALL; INSERT INTO ledger (seq, at, kind, namespace, facts, prev, hash, chain, place)
        SELECT (SELECT max(seq) + 1 FROM ledger), at, 'calls_dropped', '', json_build_object('kind', 'calls_dropped', 'calls',
          json_build_object('batch', batch, 'hash', encode(hash, 'hex')), 'before', 0, 'chains', json_build_array(json_build_object(
            'chain', chain, 'place', place, 'batch', batch, 'hash', encode(hash, 'hex')))), '\\x00', '\\x00', 0,
          (SELECT max(place) + 1 FROM ledger WHERE chain = 0)
        FROM call_batches ORDER BY batch LIMIT 1";
    owner.execute_batch(dropped).expect("an entry");
    let left = rows(&workspace, "SELECT DISTINCT batch FROM calls ORDER BY 1");
    let left: Vec<i64> = left.as_array().expect("rows").iter().filter_map(|row| row["batch"].as_i64()).collect();
    assert_eq!(left, batches[1..]);
}
