use super::*;
use crate::model::Origin;
use crate::model::ledger::Fact;
use crate::snapshot::history::{NAMESPACES, digest, history, id, namespace};
use proptest::prelude::*;

/// The history with all times multiplied, so that it takes hours or weeks.
fn slowed(entries: Vec<Entry>, factor: i64) -> Vec<Entry> {
    entries.into_iter().map(|entry| Entry { at: Timestamp(entry.at.0 * factor), ..entry }).collect()
}

/// Counts the connections of a namespace one by one. `None` if it has no connection.
fn counted(snapshot: &Snapshot, namespace: &str) -> Option<Counts> {
    snapshot.of_namespace(namespace).next()?;
    let count = |wanted: State| {
        u32::try_from(snapshot.of_namespace(namespace).filter(|(_, known)| known.state() == wanted).count()).unwrap()
    };
    let eligible = [State::Active, State::Healing, State::Error, State::NetworkBlocked];
    let reachable =
        snapshot.of_namespace(namespace).filter(|(_, known)| eligible.contains(&known.state()) && known.is_healthy()).count();
    Some(Counts {
        active: count(State::Active),
        healing: count(State::Healing),
        error: count(State::Error),
        network_blocked: count(State::NetworkBlocked),
        awaiting_credentials: count(State::AwaitingCredentials),
        pending: count(State::Pending),
        unsupported: count(State::Unsupported),
        rejected: count(State::Rejected),
        reachable: u32::try_from(reachable).unwrap(),
    })
}

/// The number of points and the minutes between them, as people know the ranges.
const RANGES: [(TrendRange, i64, i64); 3] =
    [(TrendRange::Day, 96, 15), (TrendRange::Week, 168, 60), (TrendRange::Month, 120, 360)];

/// The points that a fold of the entries up to each instant gives.
fn expected(entries: &[Entry], namespace: &str, (_, points, minutes): (TrendRange, i64, i64), now: i64) -> Vec<Point> {
    let step = minutes * 60_000;
    let last = (now + step - 1) / step * step;
    let (mut snapshot, mut rest, mut found) = (Snapshot::default(), entries, Vec::new());
    for back in (0..points).rev() {
        let at = (last - back * step).min(now);
        while let Some((entry, later)) = rest.split_first().filter(|(entry, _)| entry.at.0 <= at) {
            snapshot.apply(entry);
            rest = later;
        }
        found.extend(counted(&snapshot, namespace).map(|counts| Point { at: Timestamp(at), counts }));
    }
    found
}

proptest! {
    /// Also after samples were dropped and thinned, because a history takes up to about two months.
    #[test]
    fn each_point_counts_what_a_fold_up_to_it_counts(entries in history(), factor in 1..700_i64, later in 0..40 * DAY_MS) {
        let entries = slowed(entries, factor);
        let snapshot = Snapshot::fold(&entries);
        let end = entries.last().map_or(1, |entry| entry.at.0);
        for now in [end, end + later] {
            for namespace in NAMESPACES {
                for range in RANGES {
                    let points = snapshot.trend.series(namespace, range.0, Timestamp(now));
                    prop_assert_eq!(points, expected(&entries, namespace, range, now), "{} {:?} at {}", namespace, range, now);
                }
            }
        }
    }

    #[test]
    fn the_current_counts_are_a_full_count(entries in history()) {
        let snapshot = Snapshot::fold(&entries);
        for namespace in NAMESPACES {
            let kept = snapshot.trend.namespaces.get(namespace).map(|kept| kept.counts);
            prop_assert_eq!(kept, counted(&snapshot, namespace));
        }
    }

    /// A fold up to an instant, as a reader of the past makes it, shows what was shown then.
    #[test]
    fn the_past_looks_as_it_did(entries in history(), factor in 1..700_i64, cut in 0..80_usize) {
        let entries = slowed(entries, factor);
        let Some(entry) = entries.get(cut) else { return Ok(()) };
        let past = Snapshot::fold(entries.iter().filter(|earlier| earlier.at <= entry.at));
        for namespace in NAMESPACES {
            for range in RANGES {
                let points = past.trend.series(namespace, range.0, entry.at);
                prop_assert_eq!(points, expected(&entries, namespace, range, entry.at.0));
            }
        }
    }
}

fn accepted(seq: u64, at: i64, connection: u8) -> Entry {
    Entry {
        seq,
        at: Timestamp(at),
        namespace: namespace(connection).to_string(),
        connection: Some(id(connection)),
        fact: Fact::IntentAccepted {
            origin: Origin::folder("a.json"),
            spec: digest(1),
            source_type: "jdbc".to_string(),
            locator: None,
        },
    }
}

fn retired(seq: u64, at: i64, connection: u8) -> Entry {
    Entry { fact: Fact::ConnectionRetired, ..accepted(seq, at, connection) }
}

#[test]
fn years_of_changes_take_little_memory() {
    let mut snapshot = Snapshot::default();
    for quarter in 0..20_000_i64 {
        let seq = u64::try_from(quarter).unwrap();
        let entry = if quarter % 2 == 0 { accepted } else { retired };
        snapshot.apply(&entry(seq + 1, quarter * QUARTER_MS + 1, 0));
    }
    let samples = &snapshot.trend.namespaces["autonomy"].samples;
    assert!((300..=360).contains(&samples.len()), "{} samples", samples.len());
}

#[test]
fn repeated_entries_add_no_sample() {
    let mut snapshot = Snapshot::default();
    for day in 0..10_i64 {
        snapshot.apply(&accepted(u64::try_from(day).unwrap() + 1, day * DAY_MS, 0));
    }
    assert!(snapshot.trend.namespaces["autonomy"].samples.is_empty());
    let points = snapshot.trend.series("autonomy", TrendRange::Week, Timestamp(9 * DAY_MS));
    assert_eq!((points.len(), points.iter().map(|point| point.counts.pending).sum::<u32>()), (168, 168));
}

#[test]
fn the_number_of_namespaces_is_bounded() {
    let mut snapshot = Snapshot::default();
    for number in 0..=u64::try_from(MAX_NAMESPACES).unwrap() {
        let mut entry = accepted(number + 1, 1, 0);
        entry.namespace = format!("team_{number}");
        entry.connection = Some(ConnectionId(uuid::Uuid::from_u128(u128::from(number))));
        snapshot.apply(&entry);
    }
    let points = |name: &str| snapshot.trend.series(name, TrendRange::Day, Timestamp(1)).len();
    assert_eq!((points("team_0"), points("team_999"), points("team_1000"), points("unknown")), (1, 1, 0, 0));
}

#[test]
fn a_reader_with_a_late_clock_sees_the_latest_counts() {
    let snapshot = Snapshot::fold(&[accepted(1, DAY_MS, 0)]);
    let points = snapshot.trend.series("autonomy", TrendRange::Day, Timestamp(1));
    assert_eq!(points.iter().map(|point| (point.at, point.counts.pending)).collect::<Vec<_>>(), [(Timestamp(DAY_MS), 1)]);
}

#[test]
fn ranges_are_read_as_they_are_written() {
    for range in TrendRange::ALL {
        assert_eq!(TrendRange::parse(range.as_str()), Some(range));
    }
    assert_eq!(TrendRange::parse("1h"), None);
}
