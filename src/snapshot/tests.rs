use super::history::{history, id, origin};
use super::*;
use crate::model::State;
use crate::model::ledger::Finished;
use proptest::prelude::*;

/// A simple model of the desired state: the newest document of each origin.
type DesiredPairs = BTreeMap<(ConnectionId, Origin), (u64, Digest)>;

fn desired_pairs(entries: &[Entry]) -> DesiredPairs {
    let mut desired_pairs = DesiredPairs::new();
    for entry in entries {
        match (&entry.fact, entry.connection) {
            (Fact::IntentAccepted { origin, spec, .. }, Some(id)) => {
                desired_pairs.insert((id, origin.clone()), (entry.seq, *spec));
            }
            (Fact::IntentWithdrawn { origin, .. }, Some(id)) => {
                desired_pairs.remove(&(id, origin.clone()));
            }
            _ => {}
        }
    }
    desired_pairs
}

/// The document in force of `id`.
fn newest(desired_pairs: &DesiredPairs, id: ConnectionId) -> Option<(u64, Digest)> {
    desired_pairs.iter().filter(|((one, _), _)| *one == id).map(|(_, document)| *document).max_by_key(|(seq, _)| *seq)
}

proptest! {
    #[test]
    fn folding_at_once_and_applying_step_by_step_agree(entries in history(), cut in 0..80_usize) {
        let cut = cut.min(entries.len());
        let mut snapshot = Snapshot::fold(&entries[..cut]);
        for entry in &entries[cut..] {
            snapshot.apply(entry);
        }
        prop_assert_eq!(snapshot, Snapshot::fold(&entries));
    }

    #[test]
    fn it_is_desired_while_any_origin_desires_it_and_the_newest_document_wins(entries in history()) {
        let (snapshot, desired_pairs) = (Snapshot::fold(&entries), desired_pairs(&entries));
        for (id, known) in snapshot.connections.iter() {
            let theirs: BTreeSet<&Origin> = known.origins.iter().map(|desire| &desire.origin).collect();
            let expected: BTreeSet<&Origin> = desired_pairs.keys().filter(|(one, _)| *one == id).map(|(_, origin)| origin).collect();
            prop_assert_eq!(theirs.len(), known.origins.len(), "an origin twice");
            prop_assert_eq!(theirs, expected);
            if let Some(document) = newest(&desired_pairs, id) {
                prop_assert_eq!((known.document, known.spec), document);
            }
        }
        let mut by_origin: BTreeMap<Origin, BTreeSet<ConnectionId>> = BTreeMap::new();
        for (id, origin) in desired_pairs.keys() {
            by_origin.entry(origin.clone()).or_default().insert(*id);
        }
        let listed: BTreeMap<Origin, BTreeSet<ConnectionId>> =
            snapshot.origins().into_iter().map(|origin| (origin.clone(), snapshot.desired_by(origin).collect())).collect();
        prop_assert_eq!(listed, by_origin);
    }

    #[test]
    fn a_generation_is_a_change_of_the_document_in_force(entries in history()) {
        let mut in_force: BTreeMap<ConnectionId, (Digest, u32)> = BTreeMap::new();
        for end in 1..=entries.len() {
            let now = desired_pairs(&entries[..end]);
            let Some(id) = entries[end - 1].connection else { continue };
            if let Some((_, spec)) = newest(&now, id) {
                let (before, count) = in_force.entry(id).or_default();
                if *count == 0 || *before != spec {
                    (*before, *count) = (spec, *count + 1);
                }
            }
        }
        let snapshot = Snapshot::fold(&entries);
        for (id, known) in snapshot.connections.iter() {
            prop_assert_eq!((known.spec, known.generation), in_force[&id]);
        }
    }

    #[test]
    fn withdrawals_by_other_origins_change_nothing(entries in history(), connection in 0..6_u8, times in 1..4_u64) {
        let before = Snapshot::fold(&entries);
        let mut after = before.clone();
        for seq in 0..times {
            after.apply(&Entry {
                seq: before.seq + 1 + seq,
                at: Timestamp(i64::MAX),
                namespace: "autonomy".to_string(),
                connection: Some(id(connection)),
                fact: Fact::IntentWithdrawn { origin: origin(99), reason: String::new() },
            });
        }
        (after.seq, after.revision) = (before.seq, before.revision);
        after.chain_rows = before.chain_rows.clone();
        prop_assert_eq!(after, before);
    }

    #[test]
    fn a_count_of_an_older_generation_does_not_come_back(entries in history(), failures in 2..9_u32) {
        let mut snapshot = Snapshot::fold(&entries);
        let Some((id, known)) = snapshot.connections.iter().next().map(|(id, known)| (id, known.into_owned())) else { return Ok(()) };
        let checked = |generation| Checked { connection: id, at: Timestamp(i64::MAX), full_at: None, failures, generation };
        snapshot.apply_checked(&checked(known.generation + 1));
        prop_assert_eq!(snapshot.connections[&id].failures, known.failures);
        snapshot.apply_checked(&checked(known.generation));
        prop_assert_eq!(snapshot.connections[&id].failures, failures);
        prop_assert_eq!(snapshot.connections[&id].checked_full, known.checked_full, "there was no full check");
    }
}

#[test]
fn a_retired_connection_that_is_desired_again_must_be_proven_again() {
    let entry = |seq, fact| Entry {
        seq,
        at: Timestamp(i64::try_from(seq).unwrap()),
        namespace: "autonomy".to_string(),
        connection: Some(id(0)),
        fact,
    };
    let accepted = |seq| {
        entry(
            seq,
            Fact::IntentAccepted { origin: origin(0), spec: history::digest(1), source_type: "jdbc".to_string(), locator: None },
        )
    };
    let passed = Finished {
        credential_ends_at: None,
        ending_secret: None,
        calls: None,
        begun_at: Timestamp(1),
        generation: 1,
        scope: crate::model::Scope::Full,
        policy: history::digest(0),
        slice: history::digest(0),
        class: None,
        failed_step: None,
        retry_after_ms: None,
        upserted: true,
        healthy: true,
        rows: Some(3),
        latency_ms: Some(1),
        outcome: history::digest(0),
        title: "".into(),
        fix: "".into(),
        warnings: Box::default(),
    };
    let mut snapshot = Snapshot::fold(&[accepted(1), entry(2, Fact::AttemptFinished(passed))]);
    assert_eq!(snapshot.connections[&id(0)].state(), State::Active);
    snapshot.apply(&entry(3, Fact::ConnectionRetired));
    assert_eq!(snapshot.connections[&id(0)].state(), State::Retired);
    snapshot.apply(&accepted(4));
    let known = &snapshot.connections[&id(0)];
    assert_eq!((known.state(), known.generation), (State::Pending, 1));
    assert_eq!((known.created, known.desired_since), (Timestamp(1), Timestamp(4)));
}
