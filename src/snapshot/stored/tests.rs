use super::super::history::{digest, history, id};
use super::super::{Checked, Snapshot};
use super::*;
use crate::model::ending::Nearness;
use crate::model::ledger::{Entry, Fact, Finished, HandoffFacts, RecordedProblems, Warning};
use crate::model::{CallsAnchor, Class, EndingSecret, Origin, Problem, Scope, Step, Timestamp};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Copies the snapshot `part` connections at a time. After each part, `between` may change it.
fn stored(snapshot: &mut Snapshot, part: usize, mut between: impl FnMut(&mut Snapshot)) -> Vec<u8> {
    let (mut encoder, mut last, mut bytes) = (Encoder::default(), None, Vec::new());
    snapshot.begin_copy();
    loop {
        last = snapshot.copy_connections(&mut encoder, last, part).unwrap();
        bytes.extend(encoder.take());
        if last.is_none() {
            break;
        }
        between(snapshot);
    }
    snapshot.copy_rest(&mut encoder).unwrap();
    snapshot.end_copy();
    bytes.extend(encoder.take());
    bytes
}

/// The records without their lengths.
fn records(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut records = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let (record, rest) = rest.split_at(usize::try_from(u32::from_le_bytes(*length)).unwrap());
        records.push(record);
        bytes = rest;
    }
    records
}

/// The snapshot of these records, which is the same one whether or not its connections are packed.
fn decoded(bytes: &[u8]) -> Result<Snapshot, String> {
    let decoded = |empty| {
        let mut decoder = Decoder::new(empty);
        for record in records(bytes) {
            decoder.record(record)?;
        }
        decoder.finish()
    };
    let whole = decoded(Snapshot::default());
    assert_eq!(whole, decoded(Snapshot::packed()));
    for (id, known) in whole.iter().flat_map(|snapshot| snapshot.connections.iter()) {
        assert_eq!(known.origins.capacity(), known.origins.len(), "{id} needs more memory than it has content");
    }
    whole
}

/// The history as it would be with entries of the other kinds between the generated ones.
fn with_other_kinds(entries: Vec<Entry>) -> Vec<Entry> {
    let mut all = Vec::new();
    for entry in entries {
        let at = entry.at;
        let about = entry.connection;
        all.push(entry);
        for (connection, fact) in [(None, global(all.len())), (about, of_connection(all.len(), at))] {
            let namespace = if connection.is_some() { "autonomy" } else { "other" }.to_string();
            all.push(Entry { seq: 0, at, namespace, connection, fact });
        }
    }
    for (seq, entry) in (1..).zip(&mut all) {
        entry.seq = seq;
    }
    all
}

fn global(number: usize) -> Fact {
    let name = format!("name {}", number % 5);
    match number % 6 {
        0 => Fact::WebhookStarted { webhook: name },
        1 => Fact::WebhookDelivered { webhook: name, message: String::new(), up_to: 7, events: 1, tries: 1 },
        2 => Fact::WebhookStopped { webhook: name, reason: "it failed".to_string() },
        3 => {
            let problem = Problem::new("", name.clone());
            Fact::IntentProblems { file: name, problems: RecordedProblems::new([&problem]) }
        }
        4 => Fact::PolicyRejected { file: digest(9), problems: RecordedProblems::default() },
        _ => Fact::HandoffReceived(HandoffFacts {
            handoff: name.clone(),
            run: name,
            tenant_id: "tenant".to_string(),
            entity_id: "entity".to_string(),
            token: "token".to_string(),
            content: digest(3),
            received: 4,
            accepted: 3,
            rejected: 1,
            inventory_only: 2,
        }),
    }
}

fn of_connection(number: usize, at: Timestamp) -> Fact {
    match number % 3 {
        0 => Fact::CredentialExpiring { ends_at: at, nearness: Nearness::Urgent, title: String::new(), fix: String::new() },
        1 => Fact::DepartureConfirmed { cause: digest(5), by: "somebody".to_string() },
        _ => Fact::AttemptFinished(warned()),
    }
}

/// An attempt with everything that only some attempts have.
fn warned() -> Finished {
    Finished {
        begun_at: Timestamp(5),
        generation: 1,
        scope: Scope::Full,
        policy: digest(1),
        slice: digest(2),
        class: None,
        failed_step: None,
        retry_after_ms: Some(4),
        upserted: true,
        healthy: true,
        rows: Some(3),
        latency_ms: Some(2),
        outcome: digest(7),
        title: "a title".into(),
        fix: "a fix".into(),
        warnings: Box::new([Warning {
            step: Step::Health,
            class: Class::OverPrivileged,
            title: "too much".into(),
            fix: "less".into(),
        }]),
        credential_ends_at: Some(Timestamp(9)),
        ending_secret: Some(Box::new(EndingSecret::Consent("consent".to_string()))),
        calls: Some(CallsAnchor { batch: 3, hash: digest(8) }),
    }
}

/// How many connections have each text, by the place of the text in memory.
fn sharing(snapshot: &Snapshot) -> BTreeMap<(String, usize), usize> {
    let mut uses: BTreeMap<*const u8, (String, usize)> = BTreeMap::new();
    let mut add = |text: &Arc<str>| uses.entry(text.as_ptr()).or_insert_with(|| (text.to_string(), 0)).1 += 1;
    for known in snapshot.connections.values() {
        [&known.namespace, &known.source_type].into_iter().for_each(&mut add);
        known.origins.iter().for_each(|desired| add(&desired.origin.0));
        known.origins.iter().filter_map(|desired| desired.locator.as_ref()).for_each(&mut add);
        known.locator.iter().for_each(&mut add);
        let attempts = [&known.last, &known.conclusive, &known.proven].into_iter().flatten();
        attempts.for_each(|attempt| {
            [&attempt.facts.title, &attempt.facts.fix].into_iter().filter(|text| !text.is_empty()).for_each(&mut add);
            attempt.facts.warnings.iter().for_each(|warning| add(&warning.title));
        });
    }
    snapshot.desired_pairs.iter().for_each(|(origin, _)| add(&origin.0));
    snapshot.families.iter().for_each(&mut add);
    snapshot.trend.namespaces.keys().for_each(&mut add);
    let mut counted = BTreeMap::new();
    uses.into_values().for_each(|key| *counted.entry(key).or_default() += 1);
    counted
}

proptest! {
    /// `PartialEq` of the snapshot covers its private parts: the trend, the recent changes and the recoveries.
    #[test]
    fn a_stored_prefix_and_the_rest_give_the_full_fold(entries in history(), cut in 0..240_usize, part in 1..8_usize) {
        let entries = with_other_kinds(entries);
        let cut = cut.min(entries.len());
        let mut prefix = Snapshot::fold(&entries[..cut]);
        let mut snapshot = decoded(&stored(&mut prefix, part, |_| ())).unwrap();
        prop_assert_eq!(&snapshot, &prefix);
        prop_assert_eq!(snapshot.fold_digest(), prefix.fold_digest());
        entries[cut..].iter().for_each(|entry| snapshot.apply(entry));
        let full = Snapshot::fold(&entries);
        prop_assert_eq!(&snapshot, &full);
        prop_assert_eq!(snapshot.fold_digest(), full.fold_digest());
        for seq in 0..=full.seq {
            prop_assert_eq!(snapshot.changed_after(seq), full.changed_after(seq));
        }
    }

    /// Each part is copied at another entry, and the copy is still the fold up to the last one.
    #[test]
    fn entries_may_be_applied_during_a_copy(entries in history(), cut in 0..240_usize, pace in 1..20_usize) {
        let entries = with_other_kinds(entries);
        let cut = cut.min(entries.len());
        let mut snapshot = Snapshot::fold(&entries[..cut]);
        let mut rest = entries[cut..].iter();
        let bytes = stored(&mut snapshot, 1, |snapshot| rest.by_ref().take(pace).for_each(|entry| snapshot.apply(entry)));
        prop_assert_eq!(decoded(&bytes).unwrap(), snapshot);
    }

    /// A re-check that found nothing new is not part of the ledger, so it is not part of its fold.
    #[test]
    fn rechecks_are_not_stored(entries in history(), failures in 2..9_u32, full in any::<bool>()) {
        let folded = Snapshot::fold(&entries);
        let mut live = folded.clone();
        for (id, known) in folded.connections.iter() {
            let (at, full_at) = (Timestamp(i64::MAX), full.then_some(Timestamp(i64::MAX)));
            live.apply_checked(&Checked { connection: id, at, full_at, failures, generation: known.generation });
        }
        prop_assert_eq!(folded.connections.is_empty(), live == folded);
        prop_assert_eq!(decoded(&stored(&mut live, 3, |_| ())).unwrap(), folded);
    }

    #[test]
    fn as_many_texts_are_shared_as_before(entries in history()) {
        let entries = with_other_kinds(entries);
        let mut snapshot = Snapshot::fold(&entries);
        let loaded = decoded(&stored(&mut snapshot, 2, |_| ())).unwrap();
        let (before, after) = (sharing(&snapshot), sharing(&loaded));
        let copies = |counted: &BTreeMap<(String, usize), usize>| counted.values().sum::<usize>();
        prop_assert!(copies(&after) <= copies(&before), "{after:?} instead of {before:?}");
    }

    /// No bytes make the decoder panic.
    #[test]
    fn damaged_records_are_refused_or_decoded(entries in history(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = stored(&mut Snapshot::fold(&entries), 2, |_| ());
        let records: Vec<Vec<u8>> = records(&bytes).into_iter().map(<[u8]>::to_vec).collect();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let mut decoder = Decoder::default();
        for record in records.into_iter().map(|mut record| {
            let place = at % record.len();
            record[place] = byte;
            record
        }) {
            if decoder.record(&record).is_err() {
                return Ok(());
            }
        }
        let _ = decoder.finish();
    }
}

fn entry(seq: u64, connection: u8, fact: Fact) -> Entry {
    Entry { seq, at: Timestamp(1), namespace: "autonomy".to_string(), connection: Some(id(connection)), fact }
}

fn accepted(seq: u64, connection: u8) -> Entry {
    let origin = Origin::folder("one.json");
    let locator = Some("env:SECRET".to_string());
    entry(seq, connection, Fact::IntentAccepted { origin, spec: digest(1), source_type: "jdbc".to_string(), locator })
}

#[test]
fn what_is_folded_later_shares_the_texts_that_were_loaded() {
    let mut snapshot = Snapshot::fold(&[accepted(1, 0), entry(2, 0, Fact::AttemptFinished(warned()))]);
    let mut loaded = decoded(&stored(&mut snapshot, 9, |_| ())).unwrap();
    [accepted(3, 1), entry(4, 1, Fact::AttemptFinished(warned()))].iter().for_each(|entry| loaded.apply(entry));
    let (old, new) = (&loaded.connections[&id(0)], &loaded.connections[&id(1)]);
    assert!(Arc::ptr_eq(&old.namespace, &new.namespace));
    assert!(Arc::ptr_eq(&old.source_type, &new.source_type));
    assert!(Arc::ptr_eq(old.locator.as_ref().unwrap(), new.locator.as_ref().unwrap()));
    assert!(Arc::ptr_eq(&old.origins[0].origin.0, &new.origins[0].origin.0));
    assert!(Arc::ptr_eq(&old.origins[0].origin.0, &loaded.desired_pairs.first().unwrap().0.0));
    let title = |known: &super::super::Connection| Arc::clone(&known.last.as_ref().unwrap().facts.title);
    assert!(Arc::ptr_eq(&title(old), &title(new)));
    assert!(Arc::ptr_eq(old.last.as_ref().unwrap(), old.proven.as_ref().unwrap()), "an attempt is stored once");
}

#[test]
fn an_incomplete_fold_is_refused() {
    let bytes = stored(&mut Snapshot::fold(&[accepted(1, 0), accepted(2, 1)]), 1, |_| ());
    let all = records(&bytes);
    let mut decoder = Decoder::default();
    let (last, first) = all.split_last().unwrap();
    first.iter().for_each(|record| decoder.record(record).unwrap());
    assert_eq!(decoder.finish().unwrap_err(), "the last record is missing");
    // The first record defines the texts that the others use.
    let mut decoder = Decoder::default();
    let missing: Result<(), String> = all[1..].iter().try_for_each(|record| decoder.record(record));
    assert_eq!(missing.unwrap_err(), "value 0 is not defined");
    let mut decoder = Decoder::default();
    all.iter().for_each(|record| decoder.record(record).unwrap());
    assert_eq!(decoder.record(last).unwrap_err(), "there are records after the last one");
    assert_eq!(Decoder::default().record(&[all[0], &[0]].concat()).unwrap_err(), "a record is longer than its content");
}

#[test]
fn a_fold_that_differs_has_another_digest() {
    let one = Snapshot::fold(&[accepted(1, 0), accepted(2, 1)]);
    let other = Snapshot::fold(&[accepted(1, 0), accepted(2, 2)]);
    assert_ne!(one.fold_digest(), other.fold_digest());
    let mut changed = one.clone();
    changed.trend.namespaces.clear();
    assert_ne!(one.fold_digest(), changed.fold_digest());
}
