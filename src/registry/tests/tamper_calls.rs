//! Recorded calls that somebody added, removed, hid or dropped: verification finds each, and no reader takes one for a fact.

use super::super::chain::{self, LedgerRow};
use super::super::{CallFilter, Reader, Verdict};
use super::rig::{Rig, accepted, context, outcome};
use crate::model::ledger::{Fact, Why};
use crate::model::{CallPurpose, CallTarget, CallsAnchor, ConnectionId, Digest, RecordedCall, RecordedCalls, Scope, Timestamp};
use crate::registry::query::QueryLimits;
use rusqlite::params;
use std::sync::atomic::Ordering;
use std::time::Duration;

const DAY_MS: i64 = 86_400_000;
pub const POLICY: &str = "version: 1\nallowlist: [jdbc]\nevidence: {keep_calls: 30d}\n";
/// The columns of a batch and of a call after their number, to copy rows.
const BATCH: &str = "at, connection, namespace, family, begun_at, why, policy, attempt, calls, cut, hash";
const CALL: &str = "call, target, at, status, sent, bytes, ms, error";

pub fn calls(at: Timestamp, path: &str) -> RecordedCalls {
    let call = |method: &str| RecordedCall {
        at,
        target: CallTarget {
            purpose: CallPurpose::Source,
            method: method.to_string(),
            host: "api.example".to_string(),
            path: path.to_string(),
            statement: String::new(),
            rule: "GET and HEAD only read".to_string(),
        },
        status: Some(200),
        sent: Some(0),
        bytes: 10,
        ms: 1,
        error: String::new(),
    };
    RecordedCalls { calls: vec![call("HEAD"), call("GET")], cut: 0 }
}

/// Records an attempt with two calls on each of `days`, and returns the connection.
async fn record(rig: &Rig, days: &[i64]) -> ConnectionId {
    rig.clock.0.store(days[0] * DAY_MS, Ordering::SeqCst);
    let registry = rig.open();
    registry.accept_policy(Digest::from_bytes(POLICY.as_bytes()), POLICY.to_string(), Vec::new()).await.unwrap();
    let id = accepted(&registry, "db").await;
    for day in days {
        rig.clock.0.store(day * DAY_MS + 1000, Ordering::SeqCst);
        let ticket = registry.begin(id, context(Why::Heal, Scope::Full, 1)).await.unwrap();
        let calls = calls(Timestamp(day * DAY_MS), &format!("/day/{day}"));
        assert!(registry.finish_with_calls(&ticket, &outcome(None, Scope::Full, &["t"]), &calls).await.unwrap().appended);
    }
    registry.close().await;
    assert!(verdict(rig).is_intact(), "{:?}", verdict(rig));
    id
}

/// Three batches of day 100.
async fn recorded() -> (Rig, ConnectionId) {
    let rig = Rig::new();
    let id = record(&rig, &[100, 100, 100]).await;
    (rig, id)
}

/// The batches of days 100 to 102 are dropped on day 140, and one is left.
async fn dropped() -> (Rig, ConnectionId) {
    let rig = Rig::new();
    let id = record(&rig, &[100, 101, 102, 139]).await;
    rig.raw().execute("VACUUM INTO ?1", [rig.dir.path().join("before.db").display().to_string()]).unwrap();
    rig.clock.0.store(140 * DAY_MS, Ordering::SeqCst);
    let registry = rig.open();
    assert!(registry.drop_calls(Timestamp(110 * DAY_MS)).await.unwrap());
    assert!(!registry.drop_calls(Timestamp(110 * DAY_MS)).await.unwrap());
    registry.close().await;
    (rig, id)
}

fn verdict(rig: &Rig) -> Verdict {
    Reader::open(&rig.path()).unwrap().verify().unwrap()
}

/// Everything that verification found.
fn found(rig: &Rig) -> String {
    let verdict = verdict(rig);
    assert!(!verdict.is_intact());
    format!("{:?} {:?} {:?}", verdict.broken, verdict.calls.broken, verdict.damage)
}

/// Runs SQL without the triggers, which are put back afterwards as they were.
fn tamper(rig: &Rig, sql: &str) {
    let db = rig.raw();
    let mut statement = db.prepare("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").unwrap();
    let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))).unwrap();
    let triggers: Vec<(String, String)> = rows.map(Result::unwrap).collect();
    drop(statement);
    for (name, _) in &triggers {
        db.execute_batch(&format!("DROP TRIGGER {name}")).unwrap();
    }
    db.execute_batch(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    for (_, trigger) in &triggers {
        db.execute_batch(trigger).unwrap();
    }
}

/// The paths of the calls of `connection`, as all readers return them.
fn paths(rig: &Rig, connection: Option<ConnectionId>) -> Vec<String> {
    let reader = Reader::open(&rig.path()).unwrap();
    let filter = CallFilter { connections: connection.into_iter().collect(), ..CallFilter::default() };
    let mut paths = Vec::new();
    let take = |call: crate::model::StoredCall| {
        paths.push(call.target.path);
        true
    };
    reader.calls(&filter, None, take).unwrap();
    assert_eq!(reader.count_calls(&filter).unwrap(), paths.len() as u64);
    let mut of_batches = 0;
    let count = |batch: super::super::CallBatch| {
        of_batches += batch.calls.len();
        true
    };
    reader.call_batches(Timestamp(i64::MIN), Timestamp(i64::MAX), count).unwrap();
    assert_eq!(of_batches, paths.len());
    paths
}

#[tokio::test]
async fn rows_outside_of_the_batches_are_found_and_not_listed() {
    let batch = |number: i64| {
        format!(
            "INSERT INTO call_batches SELECT {number}, {BATCH} FROM call_batches WHERE batch = 2;
             INSERT INTO call_rows SELECT {number}, {CALL} FROM call_rows WHERE batch = 2;"
        )
    };
    let after_call = CALL.trim_start_matches("call, ");
    let call = |number: i64| {
        format!("INSERT INTO call_rows SELECT 2, {number}, {after_call} FROM call_rows WHERE batch = 2 AND call = 1;")
    };
    for (sql, text) in [
        (batch(0), "batch 0 of the recorded calls was not written by AAM"),
        (batch(-5), "batch -5 of the recorded calls was not written by AAM"),
        (format!("INSERT INTO call_rows SELECT 99, {CALL} FROM call_rows WHERE batch = 2;"), "calls of batch 99, which does not exist"),
        (format!("INSERT INTO call_rows SELECT -1, {CALL} FROM call_rows WHERE batch = 2;"), "calls of batch -1, which does not exist"),
        (call(3), "batch 2 of the recorded calls has other calls than it counts"),
        (call(0), "batch 2 of the recorded calls has other calls than it counts"),
        (call(-1), "batch 2 of the recorded calls has other calls than it counts"),
        (
            "INSERT INTO call_targets SELECT 99, x'00', month, purpose, 'DELETE', host, path, statement, rule FROM call_targets WHERE target = 1;"
                .to_string(),
            "row 99 of call_targets belongs to no call",
        ),
    ] {
        let (rig, id) = recorded().await;
        let before = paths(&rig, None);
        assert_eq!(before.len(), 6);
        tamper(&rig, &sql);
        let found = found(&rig);
        assert!(found.contains(text), "{sql}: {found}");
        assert_eq!((paths(&rig, None), paths(&rig, Some(id))), (before.clone(), before), "{sql}");
        let limits = QueryLimits { rows: 10, time: Duration::from_secs(10) };
        let below = Reader::open(&rig.path()).unwrap().query("SELECT count(*) AS n FROM calls WHERE batch < 1", &[], limits);
        assert_eq!(below.unwrap().rows, [[rusqlite::types::Value::Integer(0)]], "{sql}");
    }
}

#[tokio::test]
async fn a_dropped_batch_does_not_come_back() {
    let (rig, id) = dropped().await;
    let verified = verdict(&rig);
    assert!(verified.is_intact() && verified.calls.dropped_up_to == 3, "{verified:?}");
    assert_eq!(paths(&rig, Some(id)), ["/day/139", "/day/139"]);
    let restore = |batches: &str| {
        format!(
            "ATTACH '{}' AS earlier;
             INSERT OR IGNORE INTO call_targets SELECT * FROM earlier.call_targets;
             INSERT INTO call_batches SELECT * FROM earlier.call_batches WHERE batch IN ({batches});
             INSERT INTO call_rows SELECT * FROM earlier.call_rows WHERE batch IN ({batches});",
            rig.dir.path().join("before.db").display()
        )
    };
    // A process that was killed between two transactions leaves the last ones, which no reader lists.
    tamper(&rig, &restore("2, 3"));
    assert!(verdict(&rig).is_intact(), "{:?}", verdict(&rig));
    assert_eq!(paths(&rig, None), ["/day/139", "/day/139"]);
    tamper(&rig, "UPDATE call_rows SET status = 404 WHERE batch = 3;");
    assert!(found(&rig).contains("batch 3 of the recorded calls was dropped"), "{}", found(&rig));
    tamper(&rig, "DELETE FROM call_rows WHERE batch = 3; DELETE FROM call_batches WHERE batch = 3;");
    assert!(found(&rig).contains("batch 2 of the recorded calls was dropped"), "{}", found(&rig));
    assert_eq!(paths(&rig, None), ["/day/139", "/day/139"]);
}

/// Appends an entry that drops all calls up to `batch`, with a right hash and all triggers in place, and deletes them.
fn drop_calls(rig: &Rig, batch: u64, before: i64) {
    let db = rig.raw();
    let last = "SELECT seq, hash, at FROM ledger ORDER BY seq DESC LIMIT 1";
    let (seq, prev, at) =
        db.query_row(last, [], |row| Ok((row.get::<_, u64>(0)?, Digest(row.get(1)?), row.get::<_, i64>(2)?))).unwrap();
    let hash = db.query_row("SELECT hash FROM call_batches WHERE batch = ?1", [batch], |row| Ok(Digest(row.get(0)?))).unwrap();
    let fact = Fact::CallsDropped { calls: CallsAnchor { batch, hash }, before: Timestamp(before), chains: Vec::new() };
    let facts = serde_json::to_string(&fact).unwrap();
    let row =
        LedgerRow { seq: seq + 1, at: at + 1, kind: "calls_dropped", namespace: "", connection: None, facts: &facts, body: None };
    let hash = chain::hash(&prev, &row);
    let sql = "INSERT INTO ledger (seq, at, kind, namespace, facts, prev, hash) VALUES (?1, ?2, ?3, '', ?4, ?5, ?6)";
    db.execute(sql, params![seq + 1, at + 1, row.kind, facts, prev.0, hash.0]).unwrap();
    db.execute("DELETE FROM call_rows WHERE batch <= ?1", [batch]).unwrap();
    db.execute("DELETE FROM call_batches WHERE batch <= ?1", [batch]).unwrap();
}

#[tokio::test]
async fn calls_that_were_not_old_enough_are_not_dropped_unseen() {
    for (batch, before, text) in [
        (3, 0, "shows that it is younger than 1970-01-01"),
        (3, 100 * DAY_MS + DAY_MS, "keeps calls for 30 d"),
        (3, 70 * DAY_MS, "shows that it is younger"),
        (1, 70 * DAY_MS, "shows that it is younger"),
    ] {
        let (rig, _) = recorded().await;
        drop_calls(&rig, batch, before);
        let found = found(&rig);
        assert!(found.contains(text) && found.contains("drops it and all before it"), "{batch} before {before}: {found}");
    }
    // Among old calls, too: the last batch is one day old.
    let (rig, _) = dropped().await;
    drop_calls(&rig, 4, 109 * DAY_MS);
    assert!(found(&rig).contains("shows that it is younger"), "{}", found(&rig));
}

#[tokio::test]
async fn a_lowered_policy_drops_calls_also_before_the_ledger_has_it() {
    let rig = Rig::new();
    record(&rig, &[100, 110]).await;
    let registry = rig.open();
    // The daemon drops calls at its start, and records the policy of the file a moment later.
    assert!(registry.drop_calls(Timestamp(108 * DAY_MS)).await.unwrap());
    let policy = POLICY.replace("30d", "2d");
    registry.accept_policy(Digest::from_bytes(policy.as_bytes()), policy, Vec::new()).await.unwrap();
    registry.close().await;
    assert!(verdict(&rig).is_intact(), "{:?}", verdict(&rig));
}

#[tokio::test]
async fn calls_show_that_the_end_of_the_ledger_was_cut_off() {
    let (rig, _) = recorded().await;
    let last = rig.rows();
    tamper(&rig, &format!("DELETE FROM ledger WHERE seq = {last};"));
    assert!(found(&rig).contains("its end was cut off"), "{}", found(&rig));
    tamper(&rig, "DELETE FROM ledger WHERE seq > 2;");
    assert!(found(&rig).contains("the ledger ends at row 2"), "{}", found(&rig));
}

/// Makes an index anew from another expression, and puts its SQL back.
fn replace_index(rig: &Rig, name: &str, table: &str, columns: &str) {
    let db = rig.raw();
    let sql: String = db.query_row("SELECT sql FROM sqlite_schema WHERE name = ?1", [name], |row| row.get(0)).unwrap();
    db.execute_batch(&format!("DROP INDEX {name}; CREATE INDEX {name} ON {table} ({columns}); PRAGMA writable_schema = ON;"))
        .unwrap();
    assert_eq!(db.execute("UPDATE sqlite_schema SET sql = ?1 WHERE name = ?2", [&sql, name]).unwrap(), 1);
}

#[tokio::test]
async fn an_index_that_leaves_rows_out_is_found_and_hides_nothing() {
    for (name, table, columns) in [
        ("call_batches_connection", "call_batches", "'z' || connection, batch"),
        ("call_batches_at", "call_batches", "CASE WHEN batch > 1 THEN 0 ELSE at END"),
        ("ledger_at", "ledger", "CASE WHEN seq > 3 THEN 0 ELSE at END, seq"),
    ] {
        let (rig, id) = recorded().await;
        let rows = rig.rows();
        replace_index(&rig, name, table, columns);
        let found = found(&rig);
        assert!(found.contains(&format!("missing from index {name}")), "{found}");
        assert_eq!(paths(&rig, Some(id)).len(), 6, "{name}");
        let mut lines = 0;
        let count = |_| {
            lines += 1;
            true
        };
        let reader = Reader::open(&rig.path()).unwrap();
        reader.ledger_lines(Timestamp(99 * DAY_MS), Timestamp(i64::MAX), count).unwrap();
        assert_eq!(lines, rows, "{name}");
        let filter = CallFilter { since: Some(Timestamp(99 * DAY_MS)), ..CallFilter::default() };
        assert_eq!(reader.count_calls(&filter).unwrap(), 6, "{name}");
    }
}
