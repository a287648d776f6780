//! What the pages for people read, and that each read is bounded.

use super::super::{Reader, RecentEntries};
use super::rig::{Rig, accepted, document, intent};
use crate::egress::DayBudget;
use crate::model::{Digest, Origin};

const POLICY: &str = "version: 1\nallowlist: [jdbc]\n";

/// A registry with five intents in two namespaces and a policy as entry 3.
async fn filled() -> Rig {
    let rig = Rig::new();
    let registry = rig.open();
    for (namespace, resource) in [("autonomy", "a"), ("other", "b")] {
        registry.accept(vec![(intent(namespace, resource, "x"), Origin::folder("a.json"))]).await.unwrap();
    }
    registry.accept_policy(Digest::from_bytes(POLICY.as_bytes()), POLICY.to_string(), Vec::new()).await.unwrap();
    for resource in ["c", "d", "e"] {
        registry.accept(vec![document(resource, "x")]).await.unwrap();
    }
    registry.close().await;
    assert_eq!(rig.rows(), 6);
    rig
}

/// The numbers of the entries, in order. In PostgreSQL they have gaps.
fn numbers(reader: &Reader) -> Vec<u64> {
    reader.entries_after(0, u64::MAX, 100).unwrap().into_iter().map(|(entry, _)| entry.seq).collect()
}

fn seqs(found: &RecentEntries) -> Vec<u64> {
    found.entries.iter().map(|(entry, _)| entry.seq).collect()
}

#[tokio::test]
async fn recent_entries_are_those_of_the_wanted_namespaces_within_bounds() {
    let rig = filled().await;
    let reader = Reader::open(rig.location()).unwrap();
    let read =
        |before, limit, rows, name: &'static str| reader.recent_entries(before, limit, rows, |found| found == name).unwrap();
    let of = numbers(&reader);
    let page = read(u64::MAX, 2, 100, "autonomy");
    assert_eq!((seqs(&page), page.reached), (vec![of[5], of[4]], of[4]));
    assert_eq!(page.entries[0].1, reader.hash_of(of[5]).unwrap().unwrap());
    let page = read(page.reached, 100, 100, "autonomy");
    assert_eq!(
        (seqs(&page), page.reached),
        (vec![of[3], of[0]], of[0]),
        "the entries of the registry and of another namespace are left out"
    );
    let page = read(u64::MAX, 100, 2, "other");
    assert_eq!((seqs(&page), page.reached), (vec![], of[4]), "no more rows are looked at than allowed");
    assert_eq!(seqs(&read(u64::MAX, 100, 100, "")), [of[2]]);
    assert_eq!(read(of[0], 100, 100, "autonomy"), RecentEntries::default());
}

#[tokio::test]
async fn a_fold_follows_the_ledger() {
    let rig = filled().await;
    let reader = Reader::open(rig.location()).unwrap();
    let mut snapshot = reader.snapshot().unwrap();
    let (known, mut passed) = (numbers(&reader).len(), Vec::new());
    let registry = rig.open();
    assert!(registry.settled() >= registry.snapshot().seq, "only this process writes");
    accepted(&registry, "f").await;
    accepted(&registry, "g").await;
    for _ in 0..2 {
        reader.follow(&mut snapshot, |entry| passed.push(entry.seq)).unwrap();
        assert_eq!(passed, numbers(&reader)[known..], "each of them once");
        assert_eq!(snapshot.connections, registry.snapshot().connections);
    }
    registry.close().await;
}

#[tokio::test]
async fn the_newest_entries_are_checked_and_no_others() {
    let rig = filled().await;
    let reader = Reader::open(rig.location()).unwrap();
    let all = reader.verify_newest(6, 100, 1 << 20).unwrap();
    assert_eq!((all.first, all.last, all.broken), (1, 6, None));
    let some = reader.verify_newest(5, 2, 1 << 20).unwrap();
    assert_eq!((some.first, some.last, some.broken), (4, 5, None));
    let none = reader.verify_newest(6, 100, 1).unwrap();
    assert_eq!((none.first, none.last, none.broken), (7, 6, None), "the last entry is larger than what may be read");
    for (sql, first_broken, why) in [
        ("UPDATE ledger SET body = body || ' ' WHERE seq = 4", Some(4), "changed after it was written"),
        ("UPDATE ledger SET prev = zeroblob(32) WHERE seq = 5", Some(5), "link to the row before"),
        ("UPDATE ledger SET hash = zeroblob(32) WHERE seq = 3", Some(4), "link to the row before"),
        ("DELETE FROM ledger WHERE seq = 5", Some(5), "missing"),
        ("DELETE FROM ledger WHERE seq = 6", Some(6), "missing"),
        ("UPDATE ledger SET body = body || ' ' WHERE seq = 2", None, ""),
    ] {
        let rig = filled().await;
        let db = rig.raw();
        db.execute_batch("DROP TRIGGER ledger_no_update; DROP TRIGGER ledger_no_delete").unwrap();
        assert_eq!(db.execute(sql, []).unwrap(), 1, "{sql}");
        drop(db);
        let verdict = Reader::open(&rig.path()).unwrap().verify_newest(6, 3, 1 << 20).unwrap();
        assert_eq!(verdict.broken.as_ref().map(|(seq, _)| *seq), first_broken, "{sql}");
        assert!(verdict.broken.is_none_or(|(_, found)| found.contains(why)), "{sql}");
    }
}

#[tokio::test]
async fn policies_seals_and_budgets_are_read() {
    let rig = filled().await;
    let registry = rig.open();
    let reader = registry.reader();
    let policy = reader.policy_text(numbers(reader)[2]).unwrap().unwrap();
    assert_eq!((policy.text.as_str(), policy.digest), (POLICY, Digest::from_bytes(POLICY.as_bytes())));
    assert_eq!(reader.policy_text(numbers(reader)[3]).unwrap(), None, "an intent is not a policy");
    assert_eq!(reader.policy_text(u64::MAX).unwrap(), None);
    assert_eq!(reader.seal_of("demo").unwrap(), None);
    registry.seal("demo", Vec::new()).await.unwrap();
    assert_eq!(reader.seal_of("demo").unwrap().map(|entry| entry.namespace), Some("demo".to_string()));
    for (account, day, calls) in
        [("jdbc|db.example", 9, 3), ("jdbc|db.example:5432", 9, 7), ("jdbc_other|x", 9, 1), ("vault|v", 9, 2), ("jdbc|old", 8, 5)]
    {
        assert_eq!(registry.take(account, day, calls, 100).await, Ok(calls));
    }
    let families: Vec<(String, usize, u64)> =
        reader.budget_by_family(9, 10).unwrap().into_iter().map(|usage| (usage.family, usage.accounts, usage.most)).collect();
    let expected = [("jdbc", 2, 7), ("jdbc_other", 1, 1), ("vault", 1, 2)];
    assert_eq!(families, expected.map(|(family, accounts, most)| (family.to_string(), accounts, most)));
    let accounts: Vec<(String, u64)> =
        reader.budget_of_family(9, "jdbc", 10).unwrap().into_iter().map(|usage| (usage.account, usage.used)).collect();
    assert_eq!(accounts, [("db.example:5432".to_string(), 7), ("db.example".to_string(), 3)]);
    assert_eq!(reader.budget_of_family(9, "jdbc", 1).unwrap().len(), 1);
}

#[tokio::test]
async fn a_comparison_of_policies_knows_what_an_intent_says() {
    let rig = Rig::new();
    let registry = rig.open();
    let id = accepted(&registry, "db").await;
    let known = registry.snapshot().connections[&id].clone();
    let line = registry.reader().policy_line(id, &known).unwrap();
    assert_eq!(
        (line.source_type.as_str(), line.resource_ids, line.evidence_status.as_str()),
        ("jdbc", vec!["db".to_string()], "Sanctioned")
    );
}
