//! The geometry of the trend's chart: areas of states that are stacked, the line of the coverage, and its axes. Colours come
//! from classes, so a page and a file may style them differently.
//!
//! Each point is a column of the width of one step, because the counts hold until they change. A chart with few points is
//! therefore as true as one with many.

use super::parts::percent;
use crate::model::Timestamp;
use crate::snapshot::trend::{Counts, Point, TrendRange};
use crate::snapshot::{AcceptedPolicy, Snapshot};
use maud::{Markup, html};

/// A group of states that the chart shows as one area.
pub struct Layer {
    /// The end of the names of its class and its pattern.
    pub key: &'static str,
    pub label: &'static str,
    /// The strokes of its pattern in a square of 8 by 8, so that areas differ without colour. Empty for a plain area.
    strokes: &'static str,
    pub count: fn(&Counts) -> u32,
}

/// The layers from the bottom to the top.
pub static LAYERS: [Layer; 7] = [
    Layer { key: "active", label: "active", strokes: "", count: |counts| counts.active },
    Layer { key: "healing", label: "healing", strokes: "M0 8L8 0", count: |counts| counts.healing },
    Layer { key: "error", label: "error", strokes: "M0 0L8 8M0 8L8 0", count: |counts| counts.error },
    Layer { key: "blocked", label: "network blocked", strokes: "M0 4H8", count: |counts| counts.network_blocked },
    Layer {
        key: "awaiting",
        label: "awaiting credentials",
        strokes: "M2 2h2M6 6h2",
        count: |counts| counts.awaiting_credentials,
    },
    Layer { key: "pending", label: "pending", strokes: "M4 0V8", count: |counts| counts.pending },
    Layer { key: "other", label: "rejected or unsupported", strokes: "M4 0V8M0 4H8", count: Counts::not_connectable },
];

/// What the chart is drawn from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    pub range: TrendRange,
    /// The points in order of time, without gaps; see [`crate::snapshot::trend::Trend::series`].
    pub points: Vec<Point>,
    /// The accepted policies of the range, in order of time.
    pub policies: Vec<AcceptedPolicy>,
    /// The target of the coverage, from 0 to 1.
    pub target: f64,
    /// The instant that the series ends at.
    pub as_of: Timestamp,
}

impl Series {
    /// The series of `namespace` that ends at `as_of`. `target` is the policy's `slo.coverage`.
    #[must_use]
    pub fn new(snapshot: &Snapshot, namespace: &str, range: TrendRange, as_of: Timestamp, target: f64) -> Series {
        let (from, until) = range.window(as_of);
        let policies = snapshot.policies.iter().filter(|mark| mark.at > from && mark.at <= until).copied().collect();
        Series { range, points: snapshot.trend.series(namespace, range, as_of), policies, target, as_of }
    }

    /// The place of `at` between the left end and the right end of the chart, from 0 to 1. `None` outside of it.
    #[must_use]
    pub fn place(&self, at: Timestamp) -> Option<f64> {
        let (from, until) = self.range.window(self.as_of);
        let (distance, length) = (at.since(from).as_secs_f64(), until.since(from).as_secs_f64());
        (at >= from && at <= until && length > 0.0).then(|| distance / length)
    }

    /// The left and the right end of the column of each point, from 0 to 1.
    #[must_use]
    pub fn columns(&self) -> Vec<(f64, f64)> {
        let slots = self.range.points();
        let first = slots.saturating_sub(u32::try_from(self.points.len()).unwrap_or(slots));
        (first..slots).map(|slot| (f64::from(slot) / f64::from(slots), f64::from(slot + 1) / f64::from(slots))).collect()
    }

    /// The policies that were accepted in the time of the column of each point.
    #[must_use]
    pub fn policies_of(&self, index: usize) -> Vec<&AcceptedPolicy> {
        let Some((left, right)) = self.columns().get(index).copied() else { return Vec::new() };
        let inside = |mark: &&AcceptedPolicy| self.place(mark.at).is_some_and(|place| place > left && place <= right);
        self.policies.iter().filter(inside).collect()
    }

    /// The count at the top of the axis: an even number that is easy to read, at least as large as every column.
    #[must_use]
    pub fn axis_top(&self) -> u32 {
        let most = self.points.iter().map(|point| point.counts.received()).max().unwrap_or(0);
        let mut unit = 1_u32;
        loop {
            let tops = [2, 3, 4, 5, 6, 8, 10].into_iter().map(|times| unit.saturating_mul(times));
            // Half of it is a label, too.
            let fits = tops.filter(|top| *top % 2 == 0 || *top == u32::MAX).find(|top| *top >= most);
            match fits {
                Some(top) => return top,
                None => unit = unit.saturating_mul(10),
            }
        }
    }

    /// The labels of the time axis with their places from 0 to 1: every 6 hours, every day, or every 5 days.
    #[must_use]
    pub fn ticks(&self) -> Vec<(f64, String)> {
        let (hours, format) = match self.range {
            TrendRange::Day => (6, "%H:%M"),
            TrendRange::Week => (24, "%-d %b"),
            TrendRange::Month => (5 * 24, "%-d %b"),
        };
        let step = hours * 3_600_000_i64;
        let (from, until) = self.range.window(self.as_of);
        let first = from.0.saturating_add(step - 1).div_euclid(step);
        let last = until.0.div_euclid(step);
        let instants = (first..=last).take(32).map(|number| Timestamp(number.saturating_mul(step)));
        // A label at the very end would be cut off.
        let placed = instants.filter_map(|at| Some((self.place(at).filter(|place| (0.04..=0.96).contains(place))?, at)));
        placed.map(|(place, at)| (place, formatted(at, format))).collect()
    }
}

/// The width and the height of a drawing, in its own units.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub width: f64,
    pub height: f64,
}

/// The paths of the areas, each with its layer. Layers without connections are left out.
#[must_use]
pub fn areas(series: &Series, size: Size) -> Vec<(&'static Layer, String)> {
    let (columns, top) = (series.columns(), f64::from(series.axis_top()));
    let mut lower: Vec<u32> = vec![0; series.points.len()];
    let mut paths = Vec::new();
    for layer in &LAYERS {
        let counts = series.points.iter().map(|point| (layer.count)(&point.counts));
        let upper: Vec<u32> = lower.iter().zip(counts).map(|(below, count)| below.saturating_add(count)).collect();
        if upper != lower {
            let height = |count: &u32| size.height * (1.0 - f64::from(*count) / top);
            let (above, below): (Vec<f64>, Vec<f64>) = (upper.iter().map(height).collect(), lower.iter().map(height).collect());
            paths.push((layer, area(&columns, &above, &below, size)));
        }
        lower = upper;
    }
    paths
}

/// The path of an area in steps: along its upper edge to the right, and along its lower edge back.
fn area(columns: &[(f64, f64)], above: &[f64], below: &[f64], size: Size) -> String {
    let mut path = String::new();
    let mut last = String::new();
    for ((left, _), y) in columns.iter().zip(above) {
        let (x, y) = (number(left * size.width), number(*y));
        match last.is_empty() {
            true => path.push_str(&format!("M{x} {y}")),
            false if y != last => path.push_str(&format!("H{x}V{y}")),
            false => {}
        }
        last = y;
    }
    last.clear();
    for ((_, right), y) in columns.iter().zip(below).rev() {
        let (x, y) = (number(right * size.width), number(*y));
        if y != last {
            path.push_str(&format!("H{x}V{y}"));
        }
        last = y;
    }
    if let Some((left, _)) = columns.first() {
        path.push_str(&format!("H{}Z", number(left * size.width)));
    }
    path
}

/// The path of the coverage in steps, with gaps where nothing is eligible.
#[must_use]
pub fn coverage(series: &Series, size: Size) -> String {
    let mut path = String::new();
    // The right end and the height of the line so far, unless it is interrupted.
    let mut drawn: Option<(String, String)> = None;
    for ((left, right), point) in series.columns().into_iter().zip(&series.points) {
        let y = point.counts.coverage().map(|share| number(size.height * (1.0 - share)));
        match (&drawn, &y) {
            (None, Some(y)) => path.push_str(&format!("M{} {y}", number(left * size.width))),
            (Some((_, before)), Some(y)) if before == y => {}
            (Some((x, _)), Some(y)) => path.push_str(&format!("H{x}V{y}")),
            (Some((x, _)), None) => path.push_str(&format!("H{x}")),
            (None, None) => {}
        }
        drawn = y.map(|y| (number(right * size.width), y));
    }
    if let Some((x, _)) = drawn {
        path.push_str(&format!("H{x}"));
    }
    path
}

/// The patterns that the areas are filled with. A document has them once.
#[must_use]
pub fn patterns() -> Markup {
    html! {
        defs {
            @for layer in &LAYERS {
                pattern id=(format!("trend-{}", layer.key)) width="8" height="8" patternUnits="userSpaceOnUse" {
                    rect width="8" height="8" class=(format!("trend-fill trend-{}", layer.key)) {}
                    @if !layer.strokes.is_empty() { path d=(layer.strokes) class="trend-strokes" {} }
                }
            }
        }
    }
}

/// The value of the attribute `fill` that fills with the pattern of `layer`.
#[must_use]
pub fn fill(layer: &Layer) -> String {
    format!("url(#trend-{})", layer.key)
}

/// The values of a point as text: `8 Nov 18:15: coverage 77 %, 7 active, 2 error`.
#[must_use]
pub fn sentence(point: &Point) -> String {
    let coverage = match point.counts.coverage() {
        Some(share) => format!("coverage {}", percent(share)),
        None => "nothing eligible".to_string(),
    };
    let counts = LAYERS.iter().map(|layer| (layer, (layer.count)(&point.counts))).filter(|(_, count)| *count > 0);
    let parts: Vec<String> = counts.map(|(layer, count)| format!("{count} {}", layer.label)).collect();
    let parts = if parts.is_empty() { "no connections".to_string() } else { parts.join(", ") };
    format!("{}: {coverage}, {parts}", short_time(point.at))
}

/// Formats an instant as `8 Nov 18:15`, in UTC.
#[must_use]
pub fn short_time(at: Timestamp) -> String {
    formatted(at, "%-d %b %H:%M")
}

fn formatted(at: Timestamp, format: &str) -> String {
    jiff::Timestamp::from_millisecond(at.0).map_or_else(|_| at.rfc3339(), |at| at.strftime(format).to_string())
}

/// Formats a coordinate with at most one decimal place.
#[must_use]
pub fn number(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Digest;

    const SIZE: Size = Size { width: 96.0, height: 10.0 };
    const NOW: Timestamp = Timestamp(1_794_160_800_000);

    fn series(counts: &[Counts]) -> Series {
        let points = counts.iter().map(|counts| Point { at: NOW, counts: *counts }).collect();
        Series { points, target: 0.9, as_of: NOW, ..Series::default() }
    }

    fn counts(active: u32, error: u32) -> Counts {
        Counts { active, error, ..Counts::default() }
    }

    #[test]
    fn areas_are_stacked_in_steps() {
        let series = series(&[counts(1, 1), counts(2, 0), counts(2, 0)]);
        let paths: Vec<(&str, String)> = areas(&series, SIZE).into_iter().map(|(layer, path)| (layer.key, path)).collect();
        let expected = [("active", "M93 5H94V0H96V10H93Z"), ("error", "M93 0H96V0H94V5H93Z")];
        assert_eq!(paths, expected.map(|(key, path)| (key, path.to_string())));
    }

    #[test]
    fn the_coverage_has_gaps_where_nothing_is_eligible() {
        let series = series(&[counts(1, 1), counts(0, 0), counts(1, 0), counts(1, 0), counts(0, 1)]);
        assert_eq!(coverage(&series, SIZE), "M91 5H92M93 0H95V10H96");
        assert_eq!(coverage(&Series::default(), SIZE), "");
    }

    #[test]
    fn the_axis_ends_at_an_even_number() {
        let top = |active| series(&[counts(active, 0)]).axis_top();
        assert_eq!([0, 1, 3, 10, 11, 41, 300, 10_000, 10_001].map(top), [2, 2, 4, 10, 20, 50, 300, 10_000, 20_000]);
        assert_eq!(top(u32::MAX), u32::MAX);
    }

    #[test]
    fn the_time_axis_has_round_times() {
        let labels = |range| {
            let series = Series { range, ..series(&[]) };
            series.ticks().into_iter().map(|(_, label)| label).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(labels(TrendRange::Day), "00:00 06:00 12:00");
        assert_eq!(labels(TrendRange::Week), "3 Nov 4 Nov 5 Nov 6 Nov 7 Nov 8 Nov");
        assert_eq!(labels(TrendRange::Month), "14 Oct 19 Oct 24 Oct 29 Oct 3 Nov");
    }

    #[test]
    fn a_policy_belongs_to_the_column_of_its_time() {
        let quarter = 15 * 60_000;
        let mut series = series(&[counts(1, 0), counts(1, 0)]);
        let policy = |at: i64| AcceptedPolicy { seq: 7, at: Timestamp(at), digest: Digest::default() };
        series.policies = vec![policy(NOW.0 - quarter), policy(NOW.0 - 1)];
        assert_eq!([series.policies_of(0).len(), series.policies_of(1).len(), series.policies_of(2).len()], [1, 1, 0]);
    }

    #[test]
    fn a_point_is_a_sentence() {
        let point = |counts| sentence(&Point { at: NOW, counts });
        assert_eq!(point(counts(7, 2)), "8 Nov 18:00: coverage 77 %, 7 active, 2 error");
        assert_eq!(point(counts(0, 0)), "8 Nov 18:00: nothing eligible, no connections");
    }
}
