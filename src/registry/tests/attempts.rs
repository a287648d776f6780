use super::super::Reader;
use super::rig::{Rig, accepted, attempt, context, document, history, outcome};
use crate::model::ledger::{Fact, Why};
use crate::model::{Class, ConnectionId, Origin, RecordedCalls, Scope, State};

#[tokio::test]
async fn an_attempt_that_a_crash_interrupted_counts_as_a_failure_and_changes_no_state() {
    let rig = Rig::new();
    let registry = rig.open();
    let id = accepted(&registry, "db").await;
    assert!(attempt(&registry, id, Why::New, &outcome(None, Scope::Full, &["t"])).await);
    registry.close().await;
    for (why, failures) in [(Why::Heal, 2), (Why::Retry, 4), (Why::Retry, 6)] {
        let registry = rig.open();
        // Another failure comes first, so that the crashes are not in a row.
        attempt(&registry, id, Why::Retry, &outcome(Some(Class::Throttled), Scope::Full, &[])).await;
        let ticket = registry.begin(id, context(why, Scope::Full, 1)).await.unwrap();
        assert_eq!(registry.snapshot().connections[&id].begun.is_some(), why == Why::Heal);
        drop(ticket);
        registry.close().await;
        let registry = rig.open();
        let known = registry.snapshot().connections[&id].clone();
        assert_eq!(known.last.as_ref().unwrap().facts.class, Some(Class::Interrupted));
        assert_eq!((known.state(), known.failures, known.begun), (State::Active, failures, None));
        registry.close().await;
    }
    rig.rows();
}

/// Begins an attempt and ends the process.
async fn crash(rig: &Rig, id: ConnectionId, why: Why) {
    let registry = rig.open();
    let generation = registry.snapshot().connections[&id].generation;
    let _ = registry.begin(id, context(why, Scope::Full, generation)).await.unwrap();
    registry.close().await;
}

#[tokio::test]
async fn a_connection_whose_attempts_ended_the_process_twice_rests_until_it_is_healed_or_changed() {
    let rig = Rig::new();
    let id = {
        let registry = rig.open();
        let id = accepted(&registry, "db").await;
        registry.close().await;
        id
    };
    let class = |registry: &super::super::Registry| registry.snapshot().connections[&id].last.as_ref().unwrap().facts.class;
    crash(&rig, id, Why::New).await;
    crash(&rig, id, Why::Retry).await;
    let registry = rig.open();
    let known = registry.snapshot().connections[&id].clone();
    let last = known.last.clone().unwrap();
    assert_eq!((last.facts.class, known.state()), (Some(Class::CrashLoop), State::Error));
    assert!(last.facts.fix.contains(&format!("aam heal {id}")), "{}", last.facts.fix);
    registry.close().await;
    // A heal that ends the process again does not start the count anew.
    crash(&rig, id, Why::Heal).await;
    let registry = rig.open();
    assert_eq!(class(&registry), Some(Class::CrashLoop));
    assert!(attempt(&registry, id, Why::Heal, &outcome(None, Scope::Full, &["t"])).await);
    assert_eq!(registry.snapshot().connections[&id].state(), State::Active);
    registry.close().await;
    // Two documents, one crash each.
    crash(&rig, id, Why::Retry).await;
    let registry = rig.open();
    registry.accept(vec![document("db", "another")]).await.unwrap();
    registry.close().await;
    crash(&rig, id, Why::SpecChanged).await;
    assert_eq!(class(&rig.open()), Some(Class::Interrupted));
}

#[tokio::test]
async fn attempts_that_a_stop_interrupted_do_not_count_as_crashes() {
    let rig = Rig::new();
    let registry = rig.open();
    let id = accepted(&registry, "db").await;
    registry.close().await;
    for _ in 0..3 {
        let registry = rig.open();
        let _ = registry.begin(id, context(Why::Retry, Scope::Full, 1)).await.unwrap();
        registry.record_stopped().await.unwrap();
        let class = registry.snapshot().connections[&id].last.as_ref().unwrap().facts.class;
        assert_eq!(class, Some(Class::Interrupted));
        registry.close().await;
    }
    crash(&rig, id, Why::Retry).await;
    let registry = rig.open();
    assert_eq!(registry.snapshot().connections[&id].last.as_ref().unwrap().facts.class, Some(Class::Interrupted));
}

#[tokio::test]
async fn a_ticket_that_was_never_finished_is_interrupted_by_the_next_one() {
    let rig = Rig::new();
    let registry = rig.open();
    let id = accepted(&registry, "db").await;
    let _ = registry.begin(id, context(Why::New, Scope::Full, 1)).await.unwrap();
    let ticket = registry.begin(id, context(Why::Retry, Scope::Full, 1)).await.unwrap();
    let class =
        |registry: &super::super::Registry| registry.snapshot().connections[&id].last.as_ref().and_then(|last| last.facts.class);
    assert_eq!(class(&registry), Some(Class::Interrupted));
    registry.finish(&ticket, &outcome(None, Scope::Full, &["t"])).await.unwrap();
    assert_eq!(class(&registry), None);
    let kinds: Vec<&str> = history(&registry, id).iter().rev().map(|version| version.entry.fact.kind()).collect();
    assert_eq!(
        kinds,
        ["intent_accepted", "attempt_begun", "attempt_finished", "attempt_begun", "catalog_registered", "attempt_finished"]
    );
}

#[tokio::test]
async fn a_recheck_that_finds_nothing_new_appends_nothing_and_is_remembered() {
    let rig = Rig::new();
    let registry = rig.open();
    let id = accepted(&registry, "db").await;
    let failed = outcome(Some(Class::Network), Scope::Full, &[]);
    assert!(attempt(&registry, id, Why::New, &failed).await);
    let rows = rig.rows();
    let mut last_checked = registry.snapshot().connections[&id].last_checked();
    for failures in 2..=5 {
        assert!(!attempt(&registry, id, Why::Retry, &failed).await);
        let known = registry.snapshot().connections[&id].clone();
        assert_eq!(known.failures, failures);
        assert!(known.last_checked() > last_checked);
        last_checked = known.last_checked();
    }
    assert_eq!(rig.rows(), rows);
    registry.close().await;
    let registry = rig.open();
    let known = registry.snapshot().connections[&id].clone();
    assert_eq!((known.failures, known.last_checked()), (5, last_checked), "a restart neither shortens nor inflates a backoff");
}

/// The number of repeated failures is not part of the ledger. A different failure must not reset it.
#[tokio::test]
async fn another_failure_goes_on_counting_also_after_a_restart() {
    let rig = Rig::new();
    let registry = rig.open();
    let id = accepted(&registry, "db").await;
    for _ in 0..4 {
        attempt(&registry, id, Why::Retry, &outcome(Some(Class::Network), Scope::Full, &[])).await;
    }
    assert!(attempt(&registry, id, Why::Retry, &outcome(Some(Class::Remote), Scope::Full, &[])).await);
    assert_eq!(registry.snapshot().connections[&id].failures, 5);
    let ticket = registry.begin(id, context(Why::Retry, Scope::Full, 1)).await.unwrap();
    drop(ticket);
    registry.close().await;
    let registry = rig.open();
    assert_eq!(registry.snapshot().connections[&id].failures, 6, "with the interrupted one");
    registry.accept(vec![document("db", "another")]).await.unwrap();
    assert_eq!(registry.snapshot().connections[&id].failures, 0);
    registry.close().await;
    assert_eq!(rig.open().snapshot().connections[&id].failures, 0, "a new document starts from zero");
}

#[tokio::test]
async fn a_full_check_is_remembered_when_a_health_check_follows() {
    let rig = Rig::new();
    let registry = rig.open();
    let id = accepted(&registry, "db").await;
    let full = outcome(None, Scope::Full, &["t"]);
    attempt(&registry, id, Why::New, &full).await;
    assert!(!attempt(&registry, id, Why::Drift, &full).await);
    let full_at = registry.snapshot().connections[&id].checked_full;
    assert!(!attempt(&registry, id, Why::Health, &outcome(None, Scope::Health, &[])).await);
    assert!(attempt(&registry, id, Why::Health, &outcome(Some(Class::Network), Scope::Health, &[])).await);
    registry.close().await;
    assert_eq!(rig.open().snapshot().connections[&id].checked_full, full_at);
}

#[tokio::test]
async fn a_catalog_is_appended_only_when_its_structure_changed() {
    let rig = Rig::new();
    let registry = rig.open();
    let id = accepted(&registry, "db").await;
    for (streams, version) in [(["t", "u"], 1), (["t", "u"], 1), (["t", "v"], 2), (["t", "u"], 3)] {
        attempt(&registry, id, Why::Heal, &outcome(None, Scope::Full, &streams)).await;
        assert_eq!(registry.snapshot().connections[&id].catalog.map(|(version, _, _)| version), Some(version));
    }
    let (version, text) = registry.reader().catalog(id, Some(2)).unwrap().unwrap();
    assert!(version == 2 && text.contains("\"v\""), "{text}");
    assert_eq!(registry.reader().catalog(id, None).unwrap().map(|(version, _)| version), Some(3));
    assert_eq!(registry.reader().catalog(id, Some(4)).unwrap(), None);
}

#[tokio::test]
async fn an_outcome_for_a_connection_that_was_retired_meanwhile_is_dropped() {
    let rig = Rig::new();
    let registry = rig.open();
    let id = accepted(&registry, "db").await;
    let ticket = registry.begin(id, context(Why::Retry, Scope::Full, 1)).await.unwrap();
    registry.withdraw(vec![(id, Origin::folder("a.json"))], "gone").await.unwrap();
    let rows = rig.rows();
    let recorded = registry.finish(&ticket, &outcome(None, Scope::Full, &["t"])).await.unwrap();
    assert!(!recorded.appended);
    assert_eq!(rig.rows(), rows);
    let last = history(&registry, id);
    assert!(matches!(last[0].entry.fact, Fact::ConnectionRetired));
}

/// The answer to a commit can be lost after the commit. The outcome is then sent again.
#[tokio::test]
async fn an_outcome_that_is_sent_again_counts_once() {
    let rig = Rig::new();
    let registry = rig.open();
    let id = accepted(&registry, "db").await;
    let failed = outcome(Some(Class::Network), Scope::Full, &[]);
    let calls = RecordedCalls { calls: Vec::new(), cut: 3 };
    for (why, rows) in [(Why::New, 3), (Why::Health, 3)] {
        let ticket = registry.begin(id, context(why, Scope::Full, 1)).await.unwrap();
        let first = registry.finish_with_calls(&ticket, &failed, &calls).await.unwrap();
        let known = registry.snapshot().connections[&id].clone();
        let again = registry.finish_with_calls(&ticket, &failed, &calls).await.unwrap();
        assert_eq!((first.appended, again.appended, rig.rows()), (why == Why::New, false, rows), "{why:?}");
        assert_eq!(registry.snapshot().connections[&id], known, "{why:?}");
    }
    assert_eq!(registry.snapshot().connections[&id].failures, 2);
    // The outcome of an attempt that was recorded as interrupted, and the ticket of the next attempt stays.
    let old = registry.begin(id, context(Why::Health, Scope::Full, 1)).await.unwrap();
    let new = registry.begin(id, context(Why::Health, Scope::Full, 1)).await.unwrap();
    assert!(!registry.finish_with_calls(&old, &failed, &calls).await.unwrap().appended);
    let passed = registry.finish_with_calls(&new, &outcome(None, Scope::Full, &[]), &calls).await.unwrap();
    assert!(passed.appended);
    assert_eq!(registry.snapshot().connections[&id].failures, 0);
    registry.close().await;
    let calls = Reader::open(rig.location()).unwrap().verify().unwrap().calls;
    assert_eq!(calls.batches, 4, "one for each attempt that called: {calls:?}");
}
