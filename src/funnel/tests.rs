use super::*;
use crate::snapshot::history::{NAMESPACES, history};
use proptest::prelude::*;

proptest! {
    #[test]
    fn the_partitions_hold_for_every_history(entries in history(), target in 0.0..=1.0_f64) {
        let snapshot = Snapshot::fold(&entries);
        for namespace in NAMESPACES {
            let f = funnel(&snapshot, namespace, target, Timestamp(0));
            prop_assert_eq!(f.received, f.rejected + f.unsupported_type + f.awaiting_credentials + f.pending + f.eligible);
            prop_assert_eq!(f.eligible, f.active + f.network_blocked + f.healing + f.error);
            prop_assert!(f.active <= f.reachable && f.reachable <= f.eligible);
            let expected = if f.eligible == 0 { 0.0 } else { f.active as f64 / f.eligible as f64 };
            prop_assert!((f.coverage - expected).abs() < 1e-12);
            prop_assert_eq!(f.slo_met, f.eligible > 0 && expected >= target);
            prop_assert_eq!(&f.data_source, "database");
        }
    }

    /// Each connection that is not retired is counted in exactly one of the stages that correspond to a state.
    #[test]
    fn every_connection_is_counted_once_and_retired_ones_never(entries in history()) {
        let snapshot = Snapshot::fold(&entries);
        for namespace in NAMESPACES {
            let states: Vec<State> = snapshot.of_namespace(namespace).map(|(_, known)| known.state()).collect();
            let count = |state| states.iter().filter(|one| **one == state).count() as u64;
            let f = funnel(&snapshot, namespace, 0.9, Timestamp(0));
            let numbers = [f.healing, f.error, f.network_blocked, f.awaiting_credentials, f.unsupported_type, f.rejected, f.pending, f.active];
            prop_assert_eq!(numbers.to_vec(), State::ALL[..8].iter().map(|state| count(*state)).collect::<Vec<_>>());
            prop_assert_eq!(f.received, states.len() as u64 - count(State::Retired));
            let blocked: u64 = f.blockers.iter().filter(|blocker| !blocker.name.starts_with("ACTIVE")).map(|blocker| blocker.count).sum();
            prop_assert!(blocked >= f.received - f.active - f.pending && blocked <= f.received - f.active);
        }
    }

    #[test]
    fn the_p95_is_the_nearest_rank(mut values in proptest::collection::vec(0..10_000_u64, 1..200)) {
        let found = p95(&mut values.clone());
        values.sort_unstable();
        let at_most = values.iter().filter(|value| **value <= found).count();
        let below = values.iter().filter(|value| **value < found).count();
        prop_assert!(at_most * 100 >= values.len() * 95 && below * 100 < values.len() * 95);
    }
}
