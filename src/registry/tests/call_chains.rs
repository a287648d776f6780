//! Recorded calls in PostgreSQL: several processes append to the chains of batches, and verification finds what was done to them.
//! These tests run against the server that `rig.rs` names. Without one, they do nothing.

use super::super::call_chain::{BatchHash, BatchRow};
use super::super::consents::ConsentCopy;
use super::super::{CallFilter, Location, Reader, Verdict, call_heads, migrate, postgres_schema};
use super::rig::{Rig, accepted, context, outcome};
use super::tamper_calls::{POLICY, calls};
use crate::model::ledger::{AttemptContext, Why};
use crate::model::{ConnectionId, Digest, NewCallBatch, Scope, StoredCall, Timestamp};
use sqlstore::{Connection, params};
use std::sync::atomic::Ordering;

const DAY_MS: i64 = 86_400_000;

/// A rig with a registry in PostgreSQL, or `None` if the tests have no server.
fn rig() -> Option<Rig> {
    let rig = Rig::new();
    rig.location().postgres().is_some().then_some(rig)
}

/// A session of the owner of the tables in `schema`.
fn owner(rig: &Rig, schema: &str) -> Connection {
    let mut options = rig.location().postgres().unwrap().options().unwrap();
    options.user = std::env::var("AAM_TEST_POSTGRES_SUPER").unwrap();
    options.password = Some(std::env::var("AAM_TEST_POSTGRES_SUPER_PASSWORD").unwrap().into());
    options.schema = Some(schema.to_string());
    Connection::postgres(options).unwrap()
}

fn schema(rig: &Rig) -> String {
    rig.location().postgres().unwrap().schema.clone()
}

/// Runs SQL without the triggers, which are put back afterwards as they were.
fn tamper(rig: &Rig, sql: &str) {
    let db = owner(rig, &schema(rig));
    let tables = ["ledger", "call_batches", "call_rows", "call_targets"];
    db.begin_write().unwrap();
    for table in tables {
        db.execute_batch(&format!("ALTER TABLE {table} DISABLE TRIGGER ALL")).unwrap();
    }
    db.execute_batch(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    let on = "DO $$ DECLARE one record; BEGIN
        FOR one IN SELECT t.tgname AS name, t.tgrelid::regclass AS owner FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid
          WHERE c.relnamespace = current_schema()::regnamespace AND NOT t.tgisinternal
        LOOP EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', one.owner, one.name); END LOOP; END $$";
    db.execute_batch(on).unwrap();
    db.commit().unwrap();
}

fn verdict(location: &Location) -> Verdict {
    Reader::open(location).unwrap().verify().unwrap()
}

fn intact(location: &Location) -> bool {
    verdict(location).is_intact()
}

/// Everything that verification found.
fn found(rig: &Rig) -> String {
    let verdict = verdict(rig.location());
    assert!(!verdict.is_intact());
    format!("{:?} {:?} {:?}", verdict.broken, verdict.calls.broken, verdict.damage)
}

/// Sets the time of the database as far as the registry reads it for its rows.
fn set_time(rig: &Rig, ms: i64) {
    rig.clock.0.store(ms, Ordering::SeqCst);
    let schema = schema(rig);
    let sql = format!(
        "CREATE OR REPLACE FUNCTION clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS
           $$ SELECT to_timestamp(CAST({ms} AS double precision) / 1000) $$;
         ALTER FUNCTION lock_chains(text) SET search_path TO {schema}, pg_catalog, pg_temp"
    );
    owner(rig, &schema).execute_batch(&sql).unwrap();
}

fn number(rig: &Rig, sql: &str) -> i64 {
    owner(rig, &schema(rig)).query_row(sql, [], |row| row.get(0)).unwrap()
}

/// The paths of all calls, as the readers return them.
fn paths(location: &Location) -> Vec<String> {
    let (reader, filter, mut paths) = (Reader::open(location).unwrap(), CallFilter::default(), Vec::new());
    let take = |call: StoredCall| {
        paths.push(call.target.path);
        true
    };
    reader.calls(&filter, None, take).unwrap();
    assert_eq!(reader.count_calls(&filter).unwrap(), paths.len() as u64);
    let mut of_batches = 0;
    let count = |batch: super::super::CallBatch| {
        assert_eq!(batch.computed_hash(&batch.prev), batch.hash);
        of_batches += batch.calls.len();
        true
    };
    reader.call_batches(Timestamp(i64::MIN), Timestamp(i64::MAX), count).unwrap();
    assert_eq!(of_batches, paths.len());
    paths.sort();
    paths
}

/// Records an attempt with two calls for each of eight connections on each of `days`, then calls without an attempt for one of
/// them, and closes the registry, which names the ends of all chains.
async fn record(rig: &Rig, days: &[i64]) -> Vec<ConnectionId> {
    set_time(rig, days[0] * DAY_MS);
    let registry = rig.open();
    registry.accept_policy(Digest::from_bytes(POLICY.as_bytes()), POLICY.to_string(), Vec::new()).await.unwrap();
    let mut ids = Vec::new();
    for name in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        ids.push(accepted(&registry, name).await);
    }
    for day in days {
        set_time(rig, day * DAY_MS + 1000);
        let recorded = |path: &str| calls(Timestamp(day * DAY_MS), path);
        for id in &ids {
            let policy = Digest::from_bytes(POLICY.as_bytes());
            let context = AttemptContext { policy, ..context(Why::Heal, Scope::Full, 1) };
            let ticket = registry.begin(*id, context).await.unwrap();
            registry
                .finish_with_calls(&ticket, &outcome(None, Scope::Full, &["t"]), &recorded(&format!("/day/{day}")))
                .await
                .unwrap();
        }
        let batch = NewCallBatch { connection: ids[0], family: "webhook".to_string(), calls: recorded(&format!("/hook/{day}")) };
        registry.record_calls(vec![batch]).await.unwrap();
    }
    registry.anchor_calls().await.unwrap();
    let recorded = "SELECT count(*) FROM ledger WHERE kind = 'calls_recorded'";
    let before = number(rig, recorded);
    registry.anchor_calls().await.unwrap();
    assert_eq!(number(rig, recorded), before, "all chains are named already");
    registry.close().await;
    let verdict = verdict(rig.location());
    assert!(verdict.is_intact(), "{verdict:?}");
    ids
}

#[tokio::test]
async fn what_was_done_to_a_batch_of_any_chain_is_found() {
    let hook = "(SELECT min(batch) FROM call_batches WHERE family = 'webhook')";
    let last_hook = "(SELECT max(batch) FROM call_batches WHERE family = 'webhook')";
    let last = "(SELECT max(batch) FROM call_batches WHERE attempt IS NOT NULL)";
    for (what, sql, text) in [
        ("changed", format!("UPDATE call_rows SET status = 404 WHERE batch = {last} AND call = 1"), "does not match its hash"),
        ("changed calls without an attempt", format!("UPDATE call_rows SET ms = 7 WHERE batch = {hook}"), "does not match its hash"),
        ("another target", "UPDATE call_targets SET path = '/elsewhere'".to_string(), "does not match its hash"),
        (
            "missing",
            format!("DELETE FROM call_rows WHERE batch = {hook}; DELETE FROM call_batches WHERE batch = {hook}"),
            "is missing",
        ),
        (
            "cut",
            format!("DELETE FROM call_rows WHERE batch = {last}; DELETE FROM call_batches WHERE batch = {last}"),
            "it is missing, but row",
        ),
        (
            "the end of the chain without an attempt",
            format!("DELETE FROM call_rows WHERE batch = {last_hook}; DELETE FROM call_batches WHERE batch = {last_hook}"),
            "it is missing, but row",
        ),
        (
            "moved to another chain",
            format!("UPDATE call_batches SET chain = (chain + 1) % 64, place = 99 WHERE batch = {hook}"),
            "missing",
        ),
        (
            "moved in its chain",
            format!("UPDATE call_batches SET place = place + 100 WHERE batch = {hook}"),
            "is missing",
        ),
        (
            "moved to the end",
            "INSERT INTO call_batches SELECT nextval('call_batch_numbers'), at, connection, namespace, family, begun_at, why, policy,
               NULL, 0, cut, hash, chain, place + 1 FROM call_batches ORDER BY chain, place DESC LIMIT 1"
                .to_string(),
            "does not match its hash",
        ),
        ("an old chain", "INSERT INTO call_batches SELECT 1000, at, connection, namespace, family, begun_at, why, policy, attempt,
            calls, cut, hash, 64, 1 FROM call_batches ORDER BY batch LIMIT 1".to_string(), "is missing"),
        ("other calls", format!("INSERT INTO call_rows SELECT batch, 9, target, at, status, sent, bytes, ms, error FROM call_rows
            WHERE batch = {hook} AND call = 1"), "has other calls than it counts"),
        ("calls of no batch", format!("INSERT INTO call_rows SELECT 5000, 1, target, at, status, sent, bytes, ms, error FROM call_rows
            WHERE batch = {hook} AND call = 1"), "calls of batch 5000, which does not exist"),
    ] {
        let Some(rig) = rig() else { return };
        record(&rig, &[100, 101]).await;
        assert!(number(&rig, "SELECT count(DISTINCT chain) FROM call_batches") > 3, "several chains");
        if !sql.starts_with("INSERT") {
            let role = Connection::postgres(rig.location().postgres().unwrap().options().unwrap()).unwrap();
            let first = sql.split_once(';').map_or(sql.as_str(), |(first, _)| first);
            assert!(role.execute_batch(first).is_err(), "{what}: the role may not");
        }
        tamper(&rig, &sql);
        let found = found(&rig);
        assert!(found.contains(text), "{what}: {found}");
    }
}

/// Appends a batch without calls, as another process does between two transactions of this one.
fn append_elsewhere(rig: &Rig, id: ConnectionId) {
    let db = Connection::postgres(rig.location().postgres().unwrap().options().unwrap()).unwrap();
    db.begin_write().unwrap();
    let (end, at) = call_heads::end(&db, call_heads::chain_of(id)).unwrap();
    let batch: u64 = db.query_row("SELECT nextval('call_batch_numbers')", [], |row| row.get(0)).unwrap();
    let connection = id.to_string();
    let row = BatchRow {
        batch,
        at,
        connection: &connection,
        namespace: "",
        family: "webhook",
        begun_at: None,
        why: None,
        policy: None,
        attempt: None,
        cut: 5,
    };
    let hash = BatchHash::new(&end.hash, &row).finish();
    let sql = "INSERT INTO call_batches (batch, at, connection, namespace, family, calls, cut, hash, chain, place)
               VALUES (?1, ?2, ?3, '', 'webhook', 0, 5, ?4, ?5, ?6)";
    db.execute(sql, params![batch, at, connection, hash.0, end.chain, end.place + 1]).unwrap();
    db.commit().unwrap();
}

#[tokio::test]
async fn a_chain_goes_on_where_another_process_left_it() {
    let Some(rig) = rig() else { return };
    let ids = record(&rig, &[100]).await;
    let registry = rig.open();
    let batch = |id: ConnectionId, path: &str| NewCallBatch {
        connection: id,
        family: "webhook".to_string(),
        calls: calls(Timestamp(100 * DAY_MS), path),
    };
    for round in 0..3 {
        append_elsewhere(&rig, ids[round]);
        let batches = vec![batch(ids[round], "/one"), batch(ids[round], "/two"), batch(ids[round + 1], "/three")];
        registry.record_calls(batches).await.unwrap();
    }
    registry.anchor_calls().await.unwrap();
    registry.close().await;
    let verdict = verdict(rig.location());
    assert!(verdict.is_intact(), "{verdict:?}");
    assert_eq!(verdict.calls.batches, 9 + 3 * 4);
    // A second row of the same target, as two processes can insert it at the same time, is not a problem.
    tamper(&rig, "WITH twin AS (INSERT INTO call_targets (digest, month, purpose, method, host, path, statement, rule)
        SELECT digest, month, purpose, method, host, path, statement, rule FROM call_targets WHERE path = '/one' LIMIT 1 RETURNING target)
        UPDATE call_rows SET target = (SELECT target FROM twin) WHERE batch = (SELECT batch FROM call_rows JOIN call_targets
        USING (target) WHERE path = '/one' ORDER BY batch DESC LIMIT 1) AND call = 1");
    assert!(intact(rig.location()));
}

#[tokio::test]
async fn old_batches_of_all_chains_are_dropped_by_days() {
    let Some(rig) = rig() else { return };
    let ids = record(&rig, &[100, 101, 139]).await;
    let early = owner(&rig, &schema(&rig)).execute_batch("DELETE FROM call_rows").unwrap_err().to_string();
    assert!(early.contains("only after the ledger records"), "{early}");
    set_time(&rig, 140 * DAY_MS);
    let registry = rig.open();
    while registry.drop_calls(Timestamp(101 * DAY_MS)).await.unwrap() {}
    assert_eq!(paths(rig.location()).iter().filter(|path| *path == "/day/100").count(), 0);
    assert!(verdict(rig.location()).is_intact(), "{:?}", verdict(rig.location()));
    owner(&rig, &schema(&rig))
        .execute_batch(
            "CREATE TABLE kept_batches AS SELECT * FROM call_batches; CREATE TABLE kept_rows AS SELECT * FROM call_rows",
        )
        .unwrap();
    while registry.drop_calls(Timestamp(110 * DAY_MS)).await.unwrap() {}
    let days = "SELECT count(*) FROM ledger WHERE kind = 'calls_dropped'";
    assert_eq!(number(&rig, days), 2);
    assert!(!registry.drop_calls(Timestamp(110 * DAY_MS)).await.unwrap());
    assert_eq!(number(&rig, days), 2, "each day is dropped once");
    let batch = NewCallBatch { connection: ids[3], family: "webhook".to_string(), calls: calls(Timestamp(140 * DAY_MS), "/new") };
    registry.record_calls(vec![batch]).await.unwrap();
    registry.anchor_calls().await.unwrap();
    registry.close().await;
    let left = paths(rig.location());
    assert_eq!(left.len(), 2 * 9 + 2);
    assert!(left.iter().all(|path| path.ends_with("139") || path == "/new"), "{left:?}");
    let verified = verdict(rig.location());
    assert!(verified.is_intact() && verified.calls.dropped_up_to > 0, "{verified:?}");

    // The end of what was dropped may be left by a process that was killed. No reader lists it.
    let restore = |condition: &str| {
        format!(
            "INSERT INTO call_batches SELECT * FROM kept_batches AS k WHERE {condition} AND batch NOT IN (SELECT batch FROM call_batches);
             INSERT INTO call_rows SELECT * FROM kept_rows AS k WHERE batch IN (SELECT batch FROM call_batches)
               AND batch NOT IN (SELECT batch FROM call_rows)"
        )
    };
    let last = "k.place = (SELECT max(place) FROM kept_batches AS o WHERE o.chain = k.chain AND o.at < 9504000000)";
    tamper(&rig, &restore(last));
    assert_eq!(paths(rig.location()), left);
    let verified = verdict(rig.location());
    assert!(verified.is_intact(), "{verified:?}");
    tamper(
        &rig,
        "DELETE FROM call_rows WHERE batch IN (SELECT batch FROM call_batches WHERE at < 9504000000);
        DELETE FROM call_batches WHERE at < 9504000000;",
    );
    tamper(&rig, &restore(&format!("k.at < 9504000000 AND k.family <> 'webhook' AND k.connection = '{}'", ids[0])));
    assert!(found(&rig).contains("was dropped, and its row is not the one that AAM wrote"), "{}", found(&rig));
}

#[tokio::test]
async fn batches_of_the_one_chain_of_earlier_versions_are_kept_and_verified() {
    let Some(rig) = rig() else { return };
    // A registry in a file, and its copy in the database.
    let file = Rig::of_file();
    file.clock.0.store(100 * DAY_MS, Ordering::SeqCst);
    let source = file.open();
    source.accept_policy(Digest::from_bytes(POLICY.as_bytes()), POLICY.to_string(), Vec::new()).await.unwrap();
    for name in ["a", "b"] {
        let id = accepted(&source, name).await;
        let ticket = source.begin(id, context(Why::Heal, Scope::Full, 1)).await.unwrap();
        source.finish_with_calls(&ticket, &outcome(None, Scope::Full, &["t"]), &calls(Timestamp(1), "/old")).await.unwrap();
        let batch = NewCallBatch { connection: id, family: "webhook".to_string(), calls: calls(Timestamp(1), "/hook") };
        source.record_calls(vec![batch]).await.unwrap();
    }
    source.anchor_calls().await.unwrap();
    source.close().await;
    migrate(&file.path(), rig.location(), || Ok(ConsentCopy::default()), Timestamp(101 * DAY_MS)).unwrap();
    assert!(verdict(rig.location()).is_intact(), "{:?}", verdict(rig.location()));
    assert_eq!(number(&rig, "SELECT count(*) FROM call_batches WHERE chain = 64 AND place = batch"), 4);

    // The tables as the first version of the schema had them, with the rows of the copy.
    let (copied, earlier) = (schema(&rig), format!("{}_v1", schema(&rig)));
    let db = owner(&rig, &earlier);
    let batch = "batch, at, connection, namespace, family, begun_at, why, policy, attempt, calls, cut, hash";
    db.execute_batch(&format!("CREATE SCHEMA {earlier}; SET search_path TO {earlier}")).unwrap();
    db.execute_batch(postgres_schema::MIGRATIONS[0]).unwrap();
    let version = Digest::from_bytes(postgres_schema::MIGRATIONS[0].as_bytes()).to_string();
    db.execute("INSERT INTO schema_migrations VALUES (1, ?1)", [version]).unwrap();
    db.execute_batch(&format!(
        "INSERT INTO ledger SELECT * FROM {copied}.ledger ORDER BY seq;
         INSERT INTO call_batches SELECT {batch} FROM {copied}.call_batches ORDER BY batch;
         INSERT INTO call_targets SELECT * FROM {copied}.call_targets;
         SELECT setval(pg_get_serial_sequence('call_targets', 'target'), max(target)) FROM call_targets;
         INSERT INTO call_rows SELECT * FROM {copied}.call_rows"
    ))
    .unwrap();
    let url = |user: &str, credential: &str| -> Location {
        let server = |name: &str| std::env::var(format!("AAM_TEST_POSTGRES_{name}")).unwrap();
        let (host, port) = (server("HOST"), server("PORT"));
        let text = format!("postgres://{user}@{host}:{port}/postgres?schema={earlier}&sslmode=disable&credential={credential}");
        text.parse().unwrap()
    };
    let superuser = std::env::var("AAM_TEST_POSTGRES_SUPER").unwrap();
    let role = url("aam_registry_tests", &format!("file:{}", rig.dir.path().join("password").display()));
    postgres_schema::initialize(&url(&superuser, "env:AAM_TEST_POSTGRES_SUPER_PASSWORD"), "aam_registry_tests").unwrap();
    let upgraded = rig.with_location(role.at(rig.dir.path().join("upgraded")));
    assert!(verdict(upgraded.location()).is_intact(), "{:?}", verdict(upgraded.location()));

    for rig in [&rig, &upgraded] {
        // New batches are in the chains of their connections, and the one chain is closed.
        record(rig, &[102]).await;
        assert_eq!(number(rig, "SELECT count(*) FROM call_batches WHERE chain < 64"), 9);
        let closed = format!(
            "INSERT INTO call_batches ({batch}, chain, place) SELECT 9000, at, connection, namespace, family,
            begun_at, why, policy, attempt, calls, cut, hash, 64, 5 FROM call_batches WHERE batch = 1"
        );
        let refused = owner(rig, &schema(rig)).execute_batch(&closed).unwrap_err().to_string();
        assert!(refused.contains("is closed"), "{refused}");
        set_time(rig, 140 * DAY_MS);
        let registry = rig.open();
        while registry.drop_calls(Timestamp(102 * DAY_MS)).await.unwrap() {}
        registry.close().await;
        assert_eq!(number(rig, "SELECT count(*) FROM call_batches WHERE chain = 64"), 0, "the old ones are old enough");
        assert_eq!(paths(rig.location()).len(), 2 * 9);
        assert!(verdict(rig.location()).is_intact(), "{:?}", verdict(rig.location()));
    }
}
