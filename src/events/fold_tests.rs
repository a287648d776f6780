use super::*;
use crate::funnel::funnel;
use crate::model::{Digest, Timestamp};
use crate::snapshot::Snapshot;
use crate::snapshot::history::{NAMESPACES, history, id};
use proptest::prelude::*;

fn entry(seq: u64, connection: Option<u8>, fact: Fact) -> Entry {
    let namespace = if connection.is_some() { "autonomy" } else { "" };
    Entry { seq, at: Timestamp(1000), namespace: namespace.to_string(), connection: connection.map(id), fact }
}

fn accepted(connection: u8) -> Fact {
    let (origin, spec) = (crate::snapshot::history::origin(connection), Digest([1; 32]));
    Fact::IntentAccepted { origin, spec, source_type: "jdbc".to_string(), locator: None }
}

/// A finished full attempt that passed, or failed with `class`.
fn finished(class: Option<crate::model::Class>) -> Fact {
    let text = json!({
        "begun_at": 0, "generation": 1, "scope": "full", "policy": Digest::default(), "slice": Digest::default(),
        "class": class, "upserted": true, "healthy": class.is_none(), "outcome": Digest::default(), "title": "it fails", "fix": "fix it",
    });
    Fact::read("attempt_finished", &text.to_string()).expect("a fact")
}

fn names(fold: &mut EventFold, entry: &Entry) -> Vec<String> {
    fold.apply(entry, None).iter().map(|event| format!("{} {}", event.id, event.kind.as_str())).collect()
}

#[test]
fn the_coverage_is_missed_only_when_that_is_certain() {
    let mut fold = EventFold::default();
    assert_eq!(names(&mut fold, &entry(1, Some(0), accepted(0))), ["1-1 intent_accepted"]);
    assert_eq!(names(&mut fold, &entry(2, Some(1), accepted(1))), ["2-1 intent_accepted"]);
    let failed = finished(Some(crate::model::Class::Remote));
    assert_eq!(names(&mut fold, &entry(3, Some(0), failed.clone())), ["3-1 state_changed", "3-2 slo_missed"]);
    assert_eq!(names(&mut fold, &entry(4, Some(1), finished(None))), ["4-1 state_changed"]);
    assert_eq!(names(&mut fold, &entry(5, Some(0), failed)), [""; 0], "the same state is not an event");
    assert_eq!(names(&mut fold, &entry(6, Some(0), finished(None))), ["6-1 state_changed", "6-2 slo_met"]);
    assert_eq!(names(&mut fold, &entry(7, Some(0), Fact::ConnectionRetired)), ["7-1 retired", "7-2 state_changed"]);
    assert_eq!(names(&mut fold, &entry(8, Some(0), accepted(0))), ["8-1 state_changed", "8-2 intent_accepted"]);
}

#[test]
fn a_policy_says_what_the_target_is() {
    let mut fold = EventFold::default();
    for (seq, connection) in [(1, 0), (2, 1)] {
        fold.apply(&entry(seq, Some(connection), accepted(connection)), None);
    }
    fold.apply(&entry(3, Some(0), finished(None)), None);
    fold.apply(&entry(4, Some(1), finished(Some(crate::model::Class::Remote))), None);
    let accepted = Fact::PolicyAccepted { policy: Digest::default() };
    let events = fold.apply(&entry(5, None, accepted), Some("version: 1\nallowlist: []\nslo: {coverage: 0.5}\n"));
    assert_eq!(events.iter().map(|event| event.kind).collect::<Vec<_>>(), [EventType::PolicyAccepted, EventType::SloMet]);
    assert_eq!((&*events[0].namespace, &*events[1].namespace), ("", "autonomy"));
    assert_eq!(events[1].data["target"], 0.5);
}

#[test]
fn ids_are_positions() {
    for text in ["0", "17", "17-1", "18446744073709551615-4294967294"] {
        assert_eq!(EventId::parse(text).expect(text).to_string(), text);
    }
    for text in ["", "-", "1-", "-1", "+1", "1-2-3", "x", " 1", "18446744073709551616"] {
        assert_eq!(EventId::parse(text), None, "{text:?}");
    }
    let (one, two, all) = (EventId { seq: 7, index: 1 }, EventId { seq: 7, index: 2 }, EventId::after_entry(7));
    assert!(one < two && two < all && all < EventId { seq: 8, index: 1 });
}

proptest! {
    /// The fold agrees with the snapshot and the funnel after every history, and its events say how the states came about.
    #[test]
    fn it_agrees_with_the_snapshot(history in history()) {
        let (mut fold, mut snapshot) = (EventFold::default(), Snapshot::default());
        let mut announced: HashMap<ConnectionId, State> = HashMap::new();
        for entry in &history {
            snapshot.apply(entry);
            for event in fold.apply(entry, None) {
                prop_assert_eq!(event.id.seq, entry.seq);
                let Some(connection) = &event.connection else { continue };
                match event.kind {
                    EventType::IntentAccepted => drop(announced.entry(connection.id).or_insert(State::Pending)),
                    EventType::StateChanged => {
                        let from = announced.insert(connection.id, State::parse(event.data["to"].as_str().unwrap()).unwrap());
                        prop_assert_eq!(from.map(State::as_str), event.data["from"].as_str());
                    }
                    _ => {}
                }
            }
        }
        for (id, connection) in snapshot.connections.iter() {
            prop_assert_eq!(fold.state(id), Some(connection.state()));
            prop_assert_eq!(announced.get(&id), Some(&connection.state()));
        }
        for namespace in NAMESPACES {
            let funnel = funnel(&snapshot, namespace, 0.9, Timestamp(0));
            let counts = fold.namespaces.get(namespace).copied().unwrap_or_default();
            prop_assert_eq!((counts.eligible, counts.active, counts.pending), (funnel.eligible, funnel.active, funnel.pending));
        }
    }

    /// A fold that was cut anywhere gives the same events as one that was not.
    #[test]
    fn the_same_entries_give_the_same_events(history in history(), cut in 0..80_usize) {
        let mut whole = EventFold::default();
        let all: Vec<Event> = history.iter().flat_map(|entry| whole.apply(entry, None)).collect();
        let mut again = EventFold::default();
        let (first, rest) = history.split_at(cut.min(history.len()));
        let mut events: Vec<Event> = first.iter().flat_map(|entry| again.apply(entry, None)).collect();
        events.extend(rest.iter().flat_map(|entry| again.apply(entry, None)));
        prop_assert_eq!(&events, &all);
        prop_assert!(all.windows(2).all(|pair| pair[0].id < pair[1].id));
    }
}
