use super::super::chain::{self, GENESIS, LedgerRow};
use super::super::{Reader, schema};
use super::rig::{Rig, accepted, attempt, document, outcome};
use crate::model::ledger::Why;
use crate::model::{Digest, Scope};
use proptest::prelude::*;

async fn filled() -> Rig {
    let rig = Rig::new();
    let registry = rig.open();
    let id = accepted(&registry, "db").await;
    attempt(&registry, id, Why::New, &outcome(None, Scope::Full, &["t"])).await;
    registry.accept(vec![document("db", "changed")]).await.unwrap();
    registry.close().await;
    assert_eq!(rig.rows(), 5);
    rig
}

#[tokio::test]
async fn no_sql_changes_deletes_or_replaces_a_row() {
    let rig = filled().await;
    let db = rig.raw();
    let columns = "at, kind, namespace, connection, facts, body, prev, hash";
    for (sql, text) in [
        ("UPDATE ledger SET body = 'x' WHERE seq = 1".to_string(), "never changes"),
        ("UPDATE OR REPLACE ledger SET seq = 2 WHERE seq = 1".to_string(), "never changes"),
        ("DELETE FROM ledger WHERE seq = 5".to_string(), "never deleted"),
        ("DELETE FROM ledger".to_string(), "never deleted"),
        (format!("INSERT OR REPLACE INTO ledger SELECT seq, {columns} FROM ledger WHERE seq = 2"), "comes after the last one"),
        (format!("INSERT INTO ledger SELECT seq + 2, {columns} FROM ledger WHERE seq = 5"), "comes after the last one"),
        (format!("INSERT INTO ledger SELECT 0, {columns} FROM ledger WHERE seq = 5"), "comes after the last one"),
        (format!("INSERT INTO ledger ({columns}) SELECT {columns} FROM ledger WHERE seq = 5"), "comes after the last one"),
        (
            format!("INSERT INTO ledger SELECT seq, {columns} FROM ledger WHERE seq = 2 ON CONFLICT DO UPDATE SET body = 'x'"),
            "comes after the last one",
        ),
    ] {
        let error = db.execute(&sql, []).map(|rows| rows.to_string()).unwrap_err().to_string();
        assert!(error.contains("append-only") && error.contains(text), "{sql}: {error}");
    }
    drop(db);
    assert_eq!(rig.rows(), 5);
}

#[tokio::test]
async fn verify_names_the_first_row_that_was_tampered_with() {
    for (sql, seq, text) in [
        ("UPDATE ledger SET facts = replace(facts, 'a.json', 'b.json') WHERE seq = 1", 1, "changed after it was written"),
        ("UPDATE ledger SET body = body || ' ' WHERE seq = 3", 3, "changed after it was written"),
        ("UPDATE bodies SET body = '' WHERE seq = 4", 4, "changed after it was written"),
        ("DELETE FROM bodies WHERE seq = 4", 4, "changed after it was written"),
        ("UPDATE ledger SET body = '[]' WHERE seq = 4", 4, "changed after it was written"),
        ("UPDATE ledger SET body = '' WHERE seq = 2", 2, "changed after it was written"),
        ("UPDATE ledger SET at = at + 1 WHERE seq = 5", 5, "changed after it was written"),
        ("UPDATE ledger SET kind = 'x' WHERE seq = 5", 5, "changed after it was written"),
        ("UPDATE ledger SET namespace = 'x' WHERE seq = 5", 5, "changed after it was written"),
        ("UPDATE ledger SET connection = NULL WHERE seq = 5", 5, "changed after it was written"),
        ("UPDATE ledger SET hash = zeroblob(32) WHERE seq = 5", 5, "changed after it was written"),
        ("UPDATE ledger SET hash = zeroblob(32) WHERE seq = 2", 2, "changed after it was written"),
        ("UPDATE ledger SET prev = zeroblob(32) WHERE seq = 2", 2, "link to the row before"),
        ("DELETE FROM ledger WHERE seq = 1", 2, "row 1 is missing"),
        ("DELETE FROM ledger WHERE seq = 3", 4, "row 3 is missing"),
        ("UPDATE ledger SET seq = 9 WHERE seq = 5", 9, "row 5 is missing"),
        ("UPDATE ledger SET seq = -1 WHERE seq = 5", -1, "before the first"),
        ("UPDATE ledger SET seq = 0 WHERE seq = 5", 0, "before the first"),
    ] {
        let rig = filled().await;
        let whole = Reader::open(&rig.path()).unwrap().verify().unwrap();
        assert_eq!((whole.rows, whole.broken), (5, None));
        let db = rig.raw();
        let triggers = ["ledger_no_update", "ledger_no_delete", "bodies_no_update", "bodies_archived"];
        for trigger in triggers {
            db.execute_batch(&format!("DROP TRIGGER {trigger}")).unwrap();
        }
        assert_eq!(db.execute(sql, []).unwrap(), 1, "{sql}");
        drop(db);
        let verdict = Reader::open(&rig.path()).unwrap().verify().unwrap();
        let (found, why) = verdict.broken.unwrap();
        assert!(found == seq && why.contains(text), "{sql}: row {found}: {why}");
    }
}

/// Without its last rows, the chain still matches. A copy of the head that is kept elsewhere reveals the removal.
#[tokio::test]
async fn removed_last_rows_change_the_head() {
    let rig = filled().await;
    let reader = Reader::open(&rig.path()).unwrap();
    let before = reader.verify().unwrap().head;
    rig.raw().execute_batch("DROP TRIGGER ledger_no_delete; DELETE FROM ledger WHERE seq = 5").unwrap();
    assert_ne!(reader.verify().unwrap().head, before);
}

fn text() -> impl Strategy<Value = String> {
    "[ab\u{0}:é]{0,4}"
}

proptest! {
    /// Different rows have different hashes, even if text moves from one column to the next.
    #[test]
    fn another_row_has_another_hash(a in (text(), text(), proptest::option::of(text()), text(), proptest::option::of(text()), 0..3_u64, 0..3_i64),
                                    b in (text(), text(), proptest::option::of(text()), text(), proptest::option::of(text()), 0..3_u64, 0..3_i64)) {
        let hash = |(kind, namespace, connection, facts, body, seq, at): &(String, String, Option<String>, String, Option<String>, u64, i64)| {
            let row = LedgerRow { seq: *seq, at: *at, kind, namespace, connection: connection.as_deref(), facts, body: body.as_deref() };
            (chain::hash(&GENESIS, &row), chain::hash(&Digest([1; 32]), &row))
        };
        prop_assert_eq!(hash(&a).0 == hash(&b).0, a == b);
        prop_assert_ne!(hash(&a).0, hash(&a).1, "the row before is part of it");
    }
}

#[test]
fn every_migration_is_known_by_its_text() {
    let digests: Vec<String> = schema::MIGRATIONS.iter().map(|sql| Digest::from_bytes(sql.as_bytes()).short()).collect();
    insta::with_settings!({snapshot_path => concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots"), prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!("registry_migrations", digests.join("\n"));
    });
}
