use super::*;
use crate::funnel::funnel;
use crate::model::ledger::{Entry, Fact};
use crate::model::{Digest, Timestamp};
use crate::snapshot::Snapshot;
use crate::snapshot::history::{NAMESPACES, history};
use crate::snapshot::trend::Counts;
use proptest::prelude::*;

/// 2026-11-08T18:00:00Z.
const NOW: Timestamp = Timestamp(1_794_160_800_000);
const QUARTER_MS: i64 = 15 * 60 * 1000;

/// A series whose last points have these counts of active connections and of errors.
fn data(counts: &[(u32, u32)]) -> TrendData {
    let first = NOW.0 - QUARTER_MS * (i64::try_from(counts.len()).unwrap() - 1);
    let points = (0_i64..).zip(counts).map(|(number, (active, error))| Point {
        at: Timestamp(first + number * QUARTER_MS),
        counts: Counts { active: *active, error: *error, ..Counts::default() },
    });
    let policies = vec![AcceptedPolicy { seq: 17, at: Timestamp(NOW.0 - 60_000), digest: Digest::default() }];
    let series = Series { range: TrendRange::Day, points: points.collect(), policies, target: 0.9, as_of: NOW };
    TrendData { series, links: Links::default() }
}

fn text(data: &TrendData) -> String {
    trend(data).into_string()
}

#[test]
fn the_trend_of_an_hour() {
    let page = text(&data(&[(1, 1), (1, 1), (2, 0), (2, 1)])).replace('>', ">\n").replace("</", "\n</");
    insta::with_settings!({snapshot_path => concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots"), prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!("page_trend", page);
    });
}

#[test]
fn an_empty_trend_says_when_it_begins() {
    let page = text(&TrendData::default());
    assert!(page.contains("The trend begins with the first intent") && !page.contains("<svg"), "{page}");
}

#[test]
fn the_table_has_a_row_for_each_change() {
    let page = text(&data(&[(1, 1), (1, 1), (1, 1), (2, 0), (2, 0)]));
    let rows = page.matches("scope=\"row\"").count();
    assert_eq!(rows, 3, "the first point, the change, and the policy change: {page}");
    assert!(page.contains("8 Nov 17:00") && page.contains("100 %"), "{page}");
}

#[test]
fn each_point_has_a_column_with_its_values_and_the_slider_reaches_all() {
    let page = text(&data(&[(1, 1), (2, 0), (2, 0)]));
    assert_eq!(page.matches(" data-trend=").count(), 3);
    assert!(page.contains("<title>8 Nov 17:30: coverage 50 %, 1 active, 1 error</title>"), "{page}");
    assert!(page.contains("coverage 100 %, 2 active, policy changed at 8 Nov 17:59</title>"), "{page}");
    assert!(page.contains("min=\"0\" max=\"2\""), "{page}");
}

#[test]
fn links_keep_the_namespace_and_the_instant() {
    let mut data = data(&[(1, 0)]);
    data.links = Links { prefix: String::new(), namespace: Some("team_a".to_string()), at: Some(NOW) };
    let page = text(&data);
    for link in [
        "/?range=7d&amp;namespace=team_a&amp;at=2026",
        "/?namespace=team_a&amp;at=2026",
        "/ui/policy?to=17&amp;namespace=team_a&amp;at=2026",
    ] {
        assert!(page.contains(link), "{link} is missing in {page}");
    }
}

#[test]
fn the_sentence_compares_the_ends() {
    let said = |counts: &[(u32, u32)]| summary(&data(counts).series);
    assert_eq!(said(&[(1, 1), (2, 0)]), "The coverage is 100 %. It was 50 % at 8 Nov 17:45 UTC.");
    assert_eq!(said(&[(1, 1), (1, 1)]), "The coverage is 50 %, as it was at 8 Nov 17:45 UTC.");
    assert_eq!(said(&[(0, 0), (1, 1)]), "The coverage is 50 %. Nothing was eligible at 8 Nov 17:45 UTC.");
    assert_eq!(said(&[(0, 0)]), "Nothing is eligible, so the coverage is not defined.");
    assert_eq!(said(&[(1, 0)]), "The coverage is 100 %.");
    assert_eq!(said(&[(1, 0); 96]), "The coverage is 100 %, as it was 24 hours ago.");
}

proptest! {
    /// The last point of a series is what the funnel of the same instant says.
    #[test]
    fn the_trend_ends_at_the_funnel(entries in history()) {
        let snapshot = Snapshot::fold(&entries);
        let now = entries.last().map_or(NOW, |entry| entry.at);
        for namespace in NAMESPACES {
            let series = Series::new(&snapshot, namespace, TrendRange::Week, now, 0.9);
            let f = funnel(&snapshot, namespace, 0.9, now);
            let Some(last) = series.points.last() else {
                prop_assert_eq!(f.received, 0);
                continue;
            };
            let counts = last.counts;
            prop_assert_eq!(f.received, u64::from(counts.received()));
            prop_assert_eq!((f.eligible, f.reachable, f.active), (u64::from(counts.eligible()), u64::from(counts.reachable), u64::from(counts.active)));
            prop_assert!((f.coverage - counts.coverage().unwrap_or(0.0)).abs() < 1e-12);
        }
    }
}

#[test]
fn only_the_policies_of_the_range_are_marked() {
    let day = 24 * 3_600_000;
    let accepted = |seq: u64| Entry {
        seq,
        at: Timestamp(i64::try_from(seq).unwrap() * day),
        namespace: String::new(),
        connection: None,
        fact: Fact::PolicyAccepted { policy: Digest::default() },
    };
    let entries: Vec<Entry> = (1..=40).map(accepted).collect();
    let snapshot = Snapshot::fold(&entries);
    let seqs = |range, now: i64| {
        let series = Series::new(&snapshot, "autonomy", range, Timestamp(now * day), 0.9);
        series.policies.iter().map(|mark| mark.seq).collect::<Vec<_>>()
    };
    assert_eq!(seqs(TrendRange::Day, 40), [40]);
    assert_eq!(seqs(TrendRange::Week, 40), [34, 35, 36, 37, 38, 39, 40]);
    assert_eq!(seqs(TrendRange::Month, 20).len(), 20);
}
