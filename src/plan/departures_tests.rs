use super::*;
use crate::model::ledger::{Entry, Fact, Finished};
use crate::model::{Class, Scope};
use crate::policy::parse::parse;
use crate::snapshot::history::{digest, id, origin};
use proptest::prelude::*;

fn policy(reconcile: &str) -> Policy {
    parse(&format!("version: 1\nallowlist: [jdbc]\nreconcile: {{{reconcile}}}\n"), "policy.yaml").expect("a policy")
}

/// A namespace of `desired` connections.
fn namespace_of(desired: u8) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for number in 0..desired {
        apply(&mut snapshot, number, 1000, accepted(number));
    }
    snapshot
}

fn apply(snapshot: &mut Snapshot, connection: u8, at: i64, fact: Fact) {
    let namespace = "autonomy".to_string();
    let entry = Entry { seq: snapshot.seq + 1, at: Timestamp(at), namespace, connection: Some(id(connection)), fact };
    snapshot.apply(&entry);
}

fn accepted(number: u8) -> Fact {
    Fact::IntentAccepted { origin: origin(number), spec: digest(1), source_type: "jdbc".to_string(), locator: None }
}

fn withdrawn(number: u8) -> Fact {
    Fact::IntentWithdrawn { origin: origin(number), reason: String::new() }
}

fn departures(snapshot: &Snapshot) -> BTreeMap<ConnectionId, Departure> {
    snapshot.connections.iter().filter_map(|(id, known)| Some((id, Departure::withdrawn(&known)?))).collect()
}

fn holds(snapshot: &Snapshot, policy: &Policy) -> Holds {
    Holds::new(snapshot, &departures(snapshot), policy)
}

#[test]
fn the_limits_are_ten_connections_or_a_fifth_of_more_than_five() {
    let limit = MaxRetire::default();
    // (leaving, desired, held)
    for (count, desired, held) in [
        (1, 3, false),
        (3, 3, false),
        (5, 5, false),
        (6, 6, true),
        (6, 30, false),
        (7, 30, true),
        (10, 50, false),
        (11, 50, true),
        (10, 1000, false),
        (11, 1000, true),
        (150, 1000, true),
    ] {
        assert_eq!(exceeds(count, desired, &limit), held, "{count} of {desired}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// A change is held exactly if it exceeds a limit, it names exactly those that leave, and any other change has another
    /// digest.
    #[test]
    fn a_hold_is_exactly_the_change(desired in 1..60_u8, leaving in proptest::collection::btree_set(0..60_u8, 0..60), more in 0..60_u8) {
        let mut snapshot = namespace_of(desired);
        let leaving: BTreeSet<u8> = leaving.into_iter().filter(|number| *number < desired).collect();
        for number in &leaving {
            apply(&mut snapshot, *number, 5000, withdrawn(*number));
        }
        let policy = policy("");
        let held = holds(&snapshot, &policy);
        prop_assert_eq!(!held.holds.is_empty(), exceeds(leaving.len(), usize::from(desired), &MaxRetire::default()));
        prop_assert_eq!(held.ids().len(), if held.holds.is_empty() { 0 } else { leaving.len() });
        prop_assert_eq!(&holds(&snapshot, &policy), &held, "the same facts give the same holds");
        if let Some(hold) = held.holds.first() {
            prop_assert_eq!(hold.desired, usize::from(desired));
            let mut grown = snapshot.clone();
            if more < desired && !leaving.contains(&more) {
                apply(&mut grown, more, 6000, withdrawn(more));
                prop_assert_ne!(holds(&grown, &policy).holds[0].digest, hold.digest);
            }
            // An intent that asks for one of them again takes it out of the change.
            let back = *leaving.first().unwrap();
            apply(&mut snapshot, back, 7000, accepted(back));
            prop_assert!(!holds(&snapshot, &policy).contains(id(back)));
        }
    }

    /// Connections that are removed one after the other within ten minutes are held like those that are removed at once.
    #[test]
    fn a_slow_change_is_held_too(desired in 20..60_u8, steps in proptest::collection::vec(1..4_u8, 1..20)) {
        let mut snapshot = namespace_of(desired);
        let (mut next, mut at) = (0_u8, 2000_i64);
        for step in steps {
            for _ in 0..step {
                if next < desired {
                    apply(&mut snapshot, next, at, withdrawn(next));
                    next += 1;
                }
            }
            for gone in departures(&snapshot).keys().filter(|gone| !holds(&snapshot, &policy("")).contains(**gone)).copied().collect::<Vec<_>>() {
                let number = u8::try_from(gone.0.as_u128() - 1).unwrap();
                apply(&mut snapshot, number, at, Fact::ConnectionRetired);
            }
            at += 20_000;
            let retired = snapshot.connections.values().filter(|known| known.retired.is_some()).count();
            prop_assert!(!exceeds(retired, usize::from(desired), &MaxRetire::default()), "{} of {} left", retired, desired);
        }
    }
}

#[test]
fn a_confirmation_is_for_the_change_that_was_confirmed() {
    let mut snapshot = namespace_of(20);
    for number in 0..12 {
        apply(&mut snapshot, number, 5000, withdrawn(number));
    }
    let shown = holds(&snapshot, &policy(""));
    for (id, departure) in &shown.holds[0].departures {
        let number = u8::try_from(id.0.as_u128() - 1).unwrap();
        apply(&mut snapshot, number, 6000, Fact::DepartureConfirmed { cause: departure.cause, by: "a test".to_string() });
    }
    assert!(holds(&snapshot, &policy("")).holds.is_empty());
    // What leaves later is another change, and what was confirmed does not count with it.
    for number in 12..16 {
        apply(&mut snapshot, number, 7000, withdrawn(number));
    }
    assert!(holds(&snapshot, &policy("")).holds.is_empty(), "4 of 20");
    for number in 16..18 {
        apply(&mut snapshot, number, 7000, withdrawn(number));
    }
    assert_eq!(holds(&snapshot, &policy("")).ids().len(), 6);
    // An intent that comes back and leaves again needs a new confirmation.
    apply(&mut snapshot, 0, 8000, accepted(0));
    apply(&mut snapshot, 0, 9000, withdrawn(0));
    assert!(holds(&snapshot, &policy("")).contains(id(0)));
}

#[test]
fn a_withdrawal_by_a_handoff_is_foreseen_as_it_is_held_and_is_not_checked() {
    let (tool, mut snapshot) = (Origin::handoff("aod"), Snapshot::default());
    let handed_over =
        || Fact::IntentAccepted { origin: tool.clone(), spec: digest(1), source_type: "jdbc".to_string(), locator: None };
    for number in 0..13 {
        apply(&mut snapshot, number, 1000, handed_over());
    }
    // A file asks for the last one, too.
    apply(&mut snapshot, 12, 1000, accepted(12));
    let ids: Vec<ConnectionId> = (0..13).map(id).collect();
    let policy = policy("");
    let foresee = |ids: &[ConnectionId]| Holds::default().foresee(&snapshot, &policy, ("autonomy", &tool), ids, Timestamp(5000));
    assert_eq!(foresee(&ids[..2]), None, "2 of 13 leave at once");
    assert_eq!(foresee(&ids[12..]), None, "it does not leave");
    let foreseen = foresee(&ids).expect("a hold");
    for number in 0..13 {
        apply(&mut snapshot, number, 5000, Fact::IntentWithdrawn { origin: tool.clone(), reason: String::new() });
    }
    let held = holds(&snapshot, &policy);
    assert_eq!(held.holds, vec![foreseen]);
    assert!(!held.contains(id(12)) && held.holds[0].departures.values().all(|departure| !departure.checkable));
}

#[test]
fn the_policy_lifts_the_limits_or_confirms_one_change() {
    let mut snapshot = namespace_of(20);
    for number in 0..12 {
        apply(&mut snapshot, number, 5000, withdrawn(number));
    }
    let held = holds(&snapshot, &policy(""));
    let digest = held.holds[0].digest.short();
    assert!(holds(&snapshot, &policy("max_retire: none")).holds.is_empty());
    assert!(holds(&snapshot, &policy("max_retire: {connections: 12, percent: 100}")).holds.is_empty());
    assert!(!holds(&snapshot, &policy("max_retire: {connections: 11, percent: 100}")).holds.is_empty());
    assert!(!holds(&snapshot, &policy("max_retire: {connections: 100}")).holds.is_empty(), "the share still counts");
    let mut confirmed = holds(&snapshot, &policy(&format!("confirm: [\"{digest}\"]")));
    assert_eq!((confirmed.take_confirmed().len(), confirmed.holds.len()), (1, 0));
    let mut other = holds(&snapshot, &policy("confirm: [\"000000000000\"]"));
    assert_eq!((other.take_confirmed().len(), other.holds.len()), (0, 1));
}

#[test]
fn a_superseded_document_is_kept_until_an_attempt_with_the_new_one() {
    let mut snapshot = namespace_of(1);
    let finished = |generation: u32, class: Option<Class>| {
        Fact::AttemptFinished(Finished {
            begun_at: Timestamp(0),
            generation,
            scope: Scope::Full,
            policy: digest(0),
            slice: digest(0),
            class,
            failed_step: None,
            retry_after_ms: None,
            upserted: true,
            healthy: true,
            rows: None,
            latency_ms: None,
            outcome: digest(9),
            title: "".into(),
            fix: "".into(),
            warnings: Box::default(),
            credential_ends_at: None,
            ending_secret: None,
            calls: None,
        })
    };
    let change =
        |spec: u8| Fact::IntentAccepted { origin: origin(0), spec: digest(spec), source_type: "jdbc".to_string(), locator: None };
    apply(&mut snapshot, 0, 2000, finished(1, None));
    apply(&mut snapshot, 0, 3000, change(2));
    apply(&mut snapshot, 0, 4000, change(3));
    let known = &snapshot.connections[&id(0)];
    let before = known.before_departure();
    assert_eq!((known.generation, before.generation, before.document, before.spec), (3, 1, 1, digest(1)));
    assert_eq!(before.origins_in_force().count(), 1);
    // A check with the earlier document does not end it; one with the new document does.
    apply(&mut snapshot, 0, 5000, finished(1, None));
    assert!(snapshot.connections[&id(0)].superseded.is_some());
    apply(&mut snapshot, 0, 6000, finished(3, Some(Class::NotEligible)));
    assert!(snapshot.connections[&id(0)].superseded.is_none());
}
