//! The trend on the home page: states as stacked areas, the coverage as a line, policy changes as marks, and the values as
//! text. The script shows the values of the column under the pointer, or of the position of the slider, in `#trend-value`.

use super::Links;
use super::chart::{self, LAYERS, Layer, Series, Size, number, sentence, short_time};
use super::parts::percent;
use crate::funnel::coverage::target_percent;
use crate::model::text::counted;
use crate::snapshot::AcceptedPolicy;
use crate::snapshot::trend::{MAX_NAMESPACES, Point, TrendRange};
use maud::{Markup, html};

/// The units of the drawing. The browser stretches them to the width of the page.
const SIZE: Size = Size { width: 960.0, height: 220.0 };
/// The space above the areas, in pixels, for the marks of policy changes.
const TOP: u32 = 14;
/// The bottom of the areas and of the labels of the time axis, in pixels.
const BOTTOM: u32 = 234;
const LABELS: u32 = 252;
/// The number of policy changes that are listed. The chart has a mark for each.
const MAX_LISTED_POLICIES: usize = 6;

/// The data of the trend.
#[derive(Clone, Debug, Default)]
pub struct TrendData {
    pub series: Series,
    pub links: Links,
}

/// Renders the trend as a section of the home page.
#[must_use]
pub fn trend(data: &TrendData) -> Markup {
    let series = &data.series;
    html! {
        section.trend #trend aria-labelledby="trend-title" {
            div.trend-head {
                h2 #trend-title { "Trend" }
                (ranges(data))
            }
            @if series.points.is_empty() {
                p.quiet { "The trend begins with the first intent of the namespace. It is kept for the first " (MAX_NAMESPACES) " namespaces." }
            } @else {
                p { (summary(series)) }
                (figure(series))
                (legend(series))
                (policies(data))
                (table(series))
            }
        }
    }
}

/// The links that choose how far back the trend goes.
fn ranges(data: &TrendData) -> Markup {
    html! {
        ul.chips aria-label="Time range of the trend" {
            @for range in TrendRange::ALL {
                @let is_default = range == TrendRange::default();
                @let href = data.links.to("/", &[("range", if is_default { "" } else { range.as_str() })]);
                li { a.chip href=(href) aria-current=[(range == data.series.range).then_some("true")] { (range.label()) } }
            }
        }
    }
}

/// Says in one sentence how the coverage changed from the first point to the last.
#[must_use]
pub fn summary(series: &Series) -> String {
    let (Some(first), Some(last)) = (series.points.first(), series.points.last()) else { return String::new() };
    let share = |point: &Point| point.counts.coverage().map(percent);
    let is_complete = u32::try_from(series.points.len()).is_ok_and(|length| length == series.range.points());
    let since = if is_complete { format!("{} ago", series.range.label()) } else { format!("at {} UTC", short_time(first.at)) };
    match (share(first), share(last)) {
        (_, None) => "Nothing is eligible, so the coverage is not defined.".to_string(),
        (None, Some(now)) => format!("The coverage is {now}. Nothing was eligible {since}."),
        (Some(_), Some(now)) if series.points.len() == 1 => format!("The coverage is {now}."),
        (Some(then), Some(now)) if then == now => format!("The coverage is {now}, as it was {since}."),
        (Some(then), Some(now)) => format!("The coverage is {now}. It was {then} {since}."),
    }
}

/// The chart with its axes. It is one image for a screen reader; the values follow it as text.
fn figure(series: &Series) -> Markup {
    let top = series.axis_top();
    let last = series.points.len().saturating_sub(1);
    let shown = series.points.last().map(sentence).unwrap_or_default();
    html! {
        div.trend-titles.quiet aria-hidden="true" { span { "connections" } span { "coverage" } }
        div.trend-figure {
            div.trend-axis aria-hidden="true" { span { (top) } span { (top / 2) } span { "0" } }
            svg.trend-chart #trend-chart width="100%" height=(LABELS + 4) role="img" aria-label=(description(series)) {
                (chart::patterns())
                (drawing(series))
                @for (place, label) in series.ticks() {
                    text.trend-label x=(share(place)) y=(LABELS) { (label) }
                }
                @for mark in &series.policies {
                    @if let Some(place) = series.place(mark.at) { (policy_mark(place)) }
                }
                (columns(series))
            }
            div.trend-axis.percents aria-hidden="true" { span { "100 %" } span { "50 %" } span { "0 %" } }
        }
        label.trend-slider for="trend-point" {
            span.hidden { "Point in time" }
            input #trend-point type="range" min="0" max=(last) step="1" value=(last) aria-valuetext=(shown);
        }
        p #trend-value.trend-value { (shown) }
    }
}

/// The areas and lines, which are stretched to the width of the page.
fn drawing(series: &Series) -> Markup {
    let target = number(SIZE.height * (1.0 - series.target));
    html! {
        svg x="0" y=(TOP) width="100%" height=(number(SIZE.height)) viewBox=(format!("0 0 {} {}", SIZE.width, SIZE.height)) preserveAspectRatio="none" {
            @for (layer, path) in chart::areas(series, SIZE) {
                path.trend-area d=(path) fill=(chart::fill(layer)) {}
            }
            line.trend-target x1="0" x2=(number(SIZE.width)) y1=(target) y2=(target) vector-effect="non-scaling-stroke" {}
            path.trend-coverage-edge d=(chart::coverage(series, SIZE)) fill="none" vector-effect="non-scaling-stroke" {}
            path.trend-coverage d=(chart::coverage(series, SIZE)) fill="none" vector-effect="non-scaling-stroke" {}
        }
    }
}

fn policy_mark(place: f64) -> Markup {
    let x = share(place);
    html! {
        line.trend-policy x1=(x) x2=(x) y1=(TOP) y2=(BOTTOM) {}
        text.trend-diamond x=(x) y=(TOP - 3) { "◆" }
    }
}

/// A column above each point, which takes the pointer. Its title holds the values.
fn columns(series: &Series) -> Markup {
    html! {
        @for (index, ((left, right), point)) in series.columns().into_iter().zip(&series.points).enumerate() {
            rect.trend-column x=(share(left)) y=(TOP) width=(share(right - left)) height=(number(SIZE.height)) data-trend=(index) {
                title { (sentence(point)) (policy_texts(&series.policies_of(index))) }
            }
        }
    }
}

/// Formats a place between 0 and 1 as the length of an attribute.
fn share(place: f64) -> String {
    let text = format!("{:.3}", place * 100.0);
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

fn policy_texts(policies: &[&AcceptedPolicy]) -> String {
    policies.iter().map(|mark| format!(", policy changed at {}", short_time(mark.at))).collect()
}

fn description(series: &Series) -> String {
    let policies = match series.policies.len() {
        0 => String::new(),
        number => format!(" {} of the policy.", counted(number, "change")),
    };
    format!("Connections by state and coverage over {}. {}{policies}", series.range.label(), summary(series))
}

/// The key of the areas, with the current counts, so that nothing depends on a colour.
fn legend(series: &Series) -> Markup {
    let Some(last) = series.points.last() else { return html! {} };
    let is_shown = |layer: &&Layer| series.points.iter().any(|point| (layer.count)(&point.counts) > 0);
    html! {
        ul.trend-legend aria-label="Key of the trend, with the counts at its end" {
            @for layer in LAYERS.iter().filter(is_shown) {
                li {
                    svg width="16" height="16" aria-hidden="true" { rect.trend-swatch width="16" height="16" fill=(chart::fill(layer)) {} }
                    " " (layer.label) " " strong { ((layer.count)(&last.counts)) }
                }
            }
            li {
                svg width="16" height="16" aria-hidden="true" { line.trend-coverage x1="0" x2="16" y1="8" y2="8" {} }
                " coverage " strong { (last.counts.coverage().map_or_else(|| "none".to_string(), percent)) }
            }
            li {
                svg width="16" height="16" aria-hidden="true" { line.trend-target x1="0" x2="16" y1="8" y2="8" {} }
                " target " strong { (target_percent(series.target)) " %" }
            }
        }
    }
}

/// The policy changes of the range as links, the newest first.
fn policies(data: &TrendData) -> Markup {
    let marks = &data.series.policies;
    let href = |seq: u64| format!("{}#difference", data.links.to("/ui/policy", &[("to", &seq.to_string())]));
    html! {
        @if !marks.is_empty() {
            p.trend-policies.quiet {
                span aria-hidden="true" { "◆ " } "Policy changed: "
                @for (index, mark) in marks.iter().rev().take(MAX_LISTED_POLICIES).enumerate() {
                    @if index > 0 { ", " }
                    a href=(href(mark.seq)) { (short_time(mark.at)) " (entry " (mark.seq) ")" }
                }
                @if marks.len() > MAX_LISTED_POLICIES { " and " (marks.len() - MAX_LISTED_POLICIES) " earlier" }
            }
        }
    }
}

/// The points as a table. A point with the counts of the one before it has no row.
fn table(series: &Series) -> Markup {
    let rows = changes(series);
    html! {
        details #trend-table {
            summary { "Values as a table" }
            div.scroll tabindex="0" role="region" aria-label="Values of the trend" {
                table {
                    caption.quiet { "One row for each change; times are in UTC, " (short_time(series.as_of)) " is the end." }
                    thead {
                        tr {
                            th scope="col" { "Time" }
                            th scope="col" { "Coverage" }
                            @for layer in &LAYERS { th scope="col" { (layer.label) } }
                            th scope="col" { "Policy" }
                        }
                    }
                    tbody {
                        @for (index, point) in rows {
                            tr data-key=(point.at.0) {
                                th scope="row" { (short_time(point.at)) }
                                td { (point.counts.coverage().map_or_else(|| "none".to_string(), percent)) }
                                @for layer in &LAYERS { td { ((layer.count)(&point.counts)) } }
                                td { @if !series.policies_of(index).is_empty() { "changed" } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The first point, and those that differ from the one before them or have a policy change, with their positions.
fn changes(series: &Series) -> Vec<(usize, &Point)> {
    let mut last = None;
    let mut rows = Vec::new();
    for (index, point) in series.points.iter().enumerate() {
        if last != Some(point.counts) || !series.policies_of(index).is_empty() {
            rows.push((index, point));
        }
        last = Some(point.counts);
    }
    rows
}

#[cfg(test)]
mod tests;
