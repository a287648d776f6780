use super::super::{FileMark, IntentChange, Registry, ScanFindings};
use super::rig::{Rig, accepted, attempt, context, document, history, intent, outcome};
use crate::egress::BudgetReservation;
use crate::model::ledger::Why;
use crate::model::{Class, ConnectionId, Digest, Failure, Origin, Scope, State, StepStatus, Timestamp};
use crate::snapshot::Snapshot;
use futures_util::future::join_all;
use proptest::prelude::*;

#[tokio::test]
async fn two_hundred_pushes_at_once_of_one_intent_make_one_entry() {
    let rig = Rig::new();
    let registry = rig.open();
    let pushes = (0..200).map(|_| registry.accept(vec![document("db", "")]));
    let changes: Vec<IntentChange> = join_all(pushes).await.into_iter().map(|answer| answer.unwrap()[0].change).collect();
    assert_eq!(changes.iter().filter(|change| **change == IntentChange::Created).count(), 1);
    assert_eq!(changes.iter().filter(|change| **change == IntentChange::Unchanged).count(), 199);
    assert_eq!(rig.rows(), 1);
    assert_eq!(registry.snapshot().connections.values().next().unwrap().generation, 1);
}

#[tokio::test]
async fn a_burst_of_documents_shares_few_transactions() {
    let rig = Rig::new();
    let registry = rig.open();
    let before = registry.transactions();
    let names: Vec<String> = (0..2000).map(|number| format!("db{number}")).collect();
    let pushes = names.iter().map(|name| registry.accept(vec![document(name, "")]));
    assert!(join_all(pushes).await.into_iter().all(|answer| answer.unwrap()[0].change == IntentChange::Created));
    assert_eq!(rig.rows(), 2000);
    let transactions = registry.transactions() - before;
    assert!(transactions < 200, "{transactions} transactions for 2000 commands");
}

/// The last document of a command wins, whatever was in force before it and whatever else it holds.
#[tokio::test]
async fn documents_of_one_connection_in_one_command_are_taken_in_order() {
    let rig = Rig::new();
    let registry = rig.open();
    let in_force = |registry: &Registry| registry.snapshot().connections.values().next().unwrap().spec;
    let changes = |notes: &'static [&'static str]| {
        let documents = notes.iter().map(|note| document("db", note)).collect();
        let registry = &registry;
        async move { registry.accept(documents).await.unwrap().into_iter().map(|one| one.change).collect::<Vec<_>>() }
    };
    assert_eq!(
        changes(&["a", "b", "a", "a"]).await,
        [IntentChange::Created, IntentChange::Changed, IntentChange::Changed, IntentChange::Unchanged]
    );
    assert_eq!(in_force(&registry), document("db", "a").0.digest());
    assert_eq!(changes(&["b", "a"]).await, [IntentChange::Changed, IntentChange::Changed]);
    assert_eq!(in_force(&registry), document("db", "a").0.digest());
    assert_eq!(registry.snapshot().connections.values().next().unwrap().generation, 5);
    assert_eq!(rig.rows(), 5);
}

#[tokio::test]
async fn what_two_files_desired_is_retired_when_one_command_withdraws_both() {
    let rig = Rig::new();
    let registry = rig.open();
    let id = accepted(&registry, "db").await;
    let other = Origin::folder("b.json");
    registry.accept(vec![(document("db", "").0, other.clone())]).await.unwrap();
    let withdrawn = vec![(id, Origin::folder("a.json")), (id, other.clone()), (id, other)];
    registry.withdraw(withdrawn.clone(), "the file was removed").await.unwrap();
    assert_eq!(registry.snapshot().connections[&id].state(), State::Retired);
    assert_eq!(rig.rows(), 5, "two accepted, two withdrawn, one retired");
    registry.withdraw(withdrawn, "the file was removed").await.unwrap();
    assert_eq!(rig.rows(), 5, "repeated withdrawals append nothing");
    assert_eq!(registry.accept(vec![document("db", "")]).await.unwrap()[0].change, IntentChange::Created);
}

#[tokio::test]
async fn the_same_policy_again_appends_nothing() {
    let rig = Rig::new();
    let registry = rig.open();
    for (policy, rows) in [("a", 1), ("a", 1), ("b", 2), ("a", 3)] {
        let digest = Digest::from_bytes(policy.as_bytes());
        registry.accept_policy(digest, policy.to_string(), Vec::new()).await.unwrap();
        assert_eq!(rig.rows(), rows);
        assert_eq!(registry.reader().last_policy().unwrap().as_deref(), Some(policy));
        assert_eq!(registry.snapshot().policy.map(|(digest, _)| digest), Some(digest));
    }
}

/// One action of a process.
#[derive(Clone, Debug)]
enum Act {
    Accept(u8, u8, u8),
    Withdraw(u8, u8),
    Attempt(u8, Option<Class>, bool, bool),
    Lost(u8, bool),
    Policy(u8),
    Seal,
    Reopen,
}

fn act() -> impl Strategy<Value = Act> {
    let class = proptest::option::of(proptest::sample::select(vec![Class::Network, Class::Throttled, Class::Remote]));
    prop_oneof![
        4 => (0..3_u8, 0..2_u8, 0..2_u8).prop_map(|(db, origin, note)| Act::Accept(db, origin, note)),
        2 => (0..3_u8, 0..2_u8).prop_map(|(db, origin)| Act::Withdraw(db, origin)),
        8 => (0..3_u8, class, any::<bool>(), any::<bool>()).prop_map(|(db, class, full, heal)| Act::Attempt(db, class, full, heal)),
        2 => (0..3_u8, any::<bool>()).prop_map(|(db, heal)| Act::Lost(db, heal)),
        1 => (0..2_u8).prop_map(Act::Policy),
        1 => Just(Act::Seal),
        2 => Just(Act::Reopen),
    ]
}

fn name(db: u8) -> (&'static str, String) {
    (if db == 2 { "demo" } else { "autonomy" }, format!("db{db}"))
}

/// Performs one action. A sealed namespace may refuse it.
async fn run(rig: &Rig, registry: &mut Option<Registry>, act: Act) {
    let Some(open) = registry.as_ref() else {
        return;
    };
    let id = |db| ConnectionId::derive(name(db).0, "jdbc", &[name(db).1]);
    let file = |origin: u8| Origin::folder(&format!("{origin}.json"));
    let why = |heal| if heal { Why::Heal } else { Why::Retry };
    match act {
        Act::Accept(db, origin, note) => {
            let document = intent(name(db).0, &name(db).1, &note.to_string());
            let _ = open.accept(vec![(document, file(origin))]).await;
        }
        Act::Withdraw(db, origin) => {
            let _ = open.withdraw(vec![(id(db), file(origin))], "gone").await;
        }
        Act::Attempt(db, class, full, heal) => {
            let known = open.snapshot().connections.copy_of(&id(db)).filter(|known| known.retired.is_none());
            let sealed = open.snapshot().sealed.contains(name(db).0);
            if known.is_some() && !sealed {
                let scope = if full { Scope::Full } else { Scope::Health };
                attempt(open, id(db), why(heal), &outcome(class, scope, if full { &["t"] } else { &[] })).await;
            }
        }
        Act::Lost(db, heal) => {
            let generation = open.snapshot().connections.get(&id(db)).map_or(0, |known| known.generation);
            if generation > 0 {
                let _ = open.begin(id(db), super::rig::context(why(heal), Scope::Full, generation)).await;
            }
        }
        Act::Policy(policy) => open.accept_policy(Digest([policy; 32]), String::new(), Vec::new()).await.unwrap(),
        Act::Seal => drop(open.seal("demo", Vec::new()).await.unwrap()),
        Act::Reopen => {
            open.close().await;
            *registry = Some(rig.open());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// The writer's snapshot equals what a reader folds from the file, after every action and every restart. The snapshot
    /// of a past instant is the fold of the rows up to it.
    #[test]
    fn the_snapshot_of_the_writer_is_the_snapshot_of_a_reader(acts in proptest::collection::vec(act(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let rig = Rig::new();
            let mut registry = Some(rig.open());
            for act in acts {
                run(&rig, &mut registry, act.clone()).await;
                let open = registry.as_ref().unwrap();
                let (read, shared) = (open.reader().snapshot().unwrap(), open.snapshot().clone());
                assert_eq!(read, shared, "after {act:?}");
            }
            let open = registry.unwrap();
            rig.rows();
            prefixes(&open);
            open.close().await;
        });
    }
}

fn prefixes(registry: &Registry) {
    let ids: Vec<ConnectionId> = registry.snapshot().connections.keys().collect();
    let mut entries = Vec::new();
    for id in ids {
        entries.extend(history(registry, id).into_iter().map(|version| version.entry));
    }
    entries.sort_by_key(|entry| entry.seq);
    for at in entries.iter().map(|entry| entry.at).chain([Timestamp(0)]) {
        let last = entries.iter().rev().find(|entry| entry.at <= at).map_or(0, |entry| entry.seq);
        assert!(registry.reader().last_seq_at(at).unwrap() >= last);
        let snapshot = registry.reader().snapshot_at(at).unwrap();
        assert_eq!(registry.reader().last_seq_at(at).unwrap(), snapshot.seq);
        let expected = Snapshot::fold(entries.iter().filter(|entry| entry.at <= at));
        assert_eq!(snapshot.connections, expected.connections);
    }
}

/// A text of JSON may have this character, and a text of PostgreSQL may not.
#[tokio::test]
async fn a_text_with_u0000_harms_nothing_that_is_written_with_it() {
    let rig = Rig::new();
    let registry = rig.open();
    let bad = |text: &str| format!("{text}\u{0}end");
    let documents = vec![document("good", ""), (intent("autonomy", &bad("db"), &bad("note")), Origin::folder(&bad("a.json")))];
    let accepted = registry.accept(documents).await.unwrap();
    let (good, id) = (accepted[0].connection, accepted[1].connection);
    let reservation = BudgetReservation { account: "jdbc|db".to_string(), day: 7, wanted: 2, limit: 3 };
    for granted in [2, 1] {
        let (ticket, found) =
            registry.begin_with_budget(id, context(Why::New, Scope::Full, 1), vec![reservation.clone()]).await.unwrap();
        assert_eq!(found, [granted]);
        let mut failed = outcome(Some(Class::Remote), Scope::Full, &[]);
        for step in &mut failed.steps {
            step.evidence.insert(bad("key"), serde_json::json!(bad("value")));
            if let StepStatus::Failed { failure } = &mut step.status {
                *failure = Failure::new(Class::Remote, bad("title"), bad("fix"));
            }
        }
        registry.finish(&ticket, &failed).await.unwrap();
    }
    let key = bad("stream");
    assert!(attempt(&registry, id, Why::Retry, &outcome(None, Scope::Full, &[&key])).await);
    assert!(attempt(&registry, good, Why::New, &outcome(None, Scope::Full, &["t"])).await);
    assert_eq!(registry.snapshot().connections[&id].state(), State::Active);
    registry.close().await;
    rig.rows();
    assert_eq!(rig.open().snapshot().connections[&id].origins[0].origin, Origin::folder(&bad("a.json")));
}

/// An index of PostgreSQL holds keys of less than 2,704 bytes.
#[tokio::test]
async fn a_long_path_harms_nothing_that_is_written_with_it() {
    let rig = Rig::new();
    let registry = rig.open();
    // It cannot be compressed, so the index would have to hold all of it.
    let long: String = (0..60_u8).map(|number| Digest::from_bytes(&[number]).to_string()).collect();
    let mark = |path: &str| FileMark { path: path.to_string(), size: 1, mtime_ns: 2, inode: 3, content: [4; 16] };
    for removed_marks in [Vec::new(), vec![long.clone()]] {
        let (documents, marks) = (vec![document("db", "")], vec![mark("short.json"), mark(&long)]);
        let findings = ScanFindings { documents, marks, removed_marks, ..ScanFindings::default() };
        registry.record_scan(findings).await.unwrap();
    }
    let marks = registry.reader().marks().unwrap();
    assert!(marks.iter().any(|mark| mark.path == "short.json"), "{marks:?}");
    registry.close().await;
}
