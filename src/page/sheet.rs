//! The summary on one page of paper: the answer, the funnel, the trend, and the ten blockers whose fix gains the most. It is
//! a file of its own (SVG or HTML) for a mail or a printer: light, without scripts, and without anything that is loaded.
//!
//! - `svg`: the file as SVG 1.1 in the size of A4
//! - `html`: the file as HTML

pub mod html;
pub mod svg;

use super::chart::{LAYERS, Layer, Series};
use super::parts::readable;
use crate::funnel::causes::{Blocked, Cause, causes};
use crate::funnel::coverage::{points, target_percent};
use crate::funnel::{Coverage, Funnel, Stage, funnel};
use crate::model::Timestamp;
use crate::model::text::{counted, printable};
use crate::snapshot::Snapshot;
use crate::snapshot::trend::TrendRange;
use maud::{Markup, html};

/// The number of blockers on the page.
const MAX_BLOCKERS: usize = 10;

/// The colours of the chart in both files. The classes are those of [`super::chart`].
const CHART_STYLE: &str = ".trend-active{fill:#3f9a63}.trend-healing,.trend-awaiting{fill:#d9982b}\
.trend-error,.trend-blocked{fill:#cf5b52}.trend-pending,.trend-other{fill:#9aa5b1}\
.trend-strokes{fill:none;stroke:#fff;stroke-width:1.5}.edge{fill:none;stroke:#fff;stroke-width:5}\
.coverage{fill:none;stroke:#1b1f24;stroke-width:2.5}.target{stroke:#1b1f24;stroke-width:1.5;stroke-dasharray:6 4}\
.policy{stroke:#0b57a4;stroke-dasharray:2 3}.mark{fill:#0b57a4}.frame{fill:none;stroke:#dfe2e6}.track{fill:#eef1f4}\
.bar{fill:#3f9a63}.label{fill:#59626d}";

/// What the page shows.
#[derive(Clone, Debug)]
pub struct Sheet {
    pub namespace: String,
    pub as_of: Timestamp,
    pub funnel: Funnel,
    pub series: Series,
    /// What keeps connections from being ACTIVE, the largest gain first, at most ten.
    pub blockers: Vec<Blocker>,
    /// The number of further blockers.
    pub more: usize,
}

/// A cause, as the page shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocker {
    pub title: String,
    pub connections: usize,
    /// By how much the coverage rises when it is fixed, for example `+14 points`; empty if it does not rise.
    pub gain: String,
    /// May be empty.
    pub fix: String,
}

impl Sheet {
    /// Collects the page of `namespace` as of `as_of`. `target` is the policy's `slo.coverage`.
    #[must_use]
    pub fn new(snapshot: &Snapshot, namespace: &str, target: f64, as_of: Timestamp) -> Sheet {
        let funnel = funnel(snapshot, namespace, target, as_of);
        let blocked = snapshot.of_namespace(namespace).filter_map(|(id, connection)| Blocked::new(id, &connection)).collect();
        let causes = causes(blocked, Coverage::from(&funnel));
        let more = (causes.raising.len() + causes.others.len()).saturating_sub(MAX_BLOCKERS);
        let raising = causes.raising.iter().map(|cause| Blocker::new(cause, true));
        let others = causes.others.iter().map(|cause| Blocker::new(cause, false));
        Sheet {
            namespace: namespace.to_string(),
            as_of,
            blockers: raising.chain(others).take(MAX_BLOCKERS).collect(),
            more,
            series: Series::new(snapshot, namespace, TrendRange::Week, as_of, target),
            funnel,
        }
    }

    /// The title of the page.
    fn title(&self) -> String {
        format!("Connections of {}", clean(&self.namespace))
    }

    /// The instant of the page to the second.
    fn instant(&self) -> String {
        let text = self.as_of.rfc3339();
        format!("As of {} UTC", text.split('.').next().unwrap_or(&text).replacen('T', " ", 1))
    }

    /// The answer and what it is compared with.
    fn answer(&self) -> (String, String) {
        let (funnel, coverage) = (&self.funnel, Coverage::from(&self.funnel));
        let target = format!("target {} %", target_percent(funnel.target));
        if funnel.received == 0 {
            return ("Nothing received yet".to_string(), format!("{target} · the README shows a first intent"));
        }
        if funnel.eligible == 0 {
            let received = counted(usize::try_from(funnel.received).unwrap_or(usize::MAX), "connection");
            return ("Nothing is eligible yet".to_string(), format!("{target} · {received} received"));
        }
        let answer = format!("{} % connected", coverage.percent());
        match coverage.missing(funnel.target) {
            0 => (answer, format!("{target} · met")),
            1 => (answer, format!("{target} · 1 more connection needed")),
            missing => (answer, format!("{target} · {missing} more connections needed")),
        }
    }

    /// Where connections were lost on the way, in two lines. Empty lines are left out.
    fn losses(&self) -> Vec<String> {
        const NOT_ELIGIBLE: [Stage; 4] = [Stage::Rejected, Stage::UnsupportedType, Stage::AwaitingCredentials, Stage::Pending];
        const NOT_ACTIVE: [Stage; 3] = [Stage::NetworkBlocked, Stage::Healing, Stage::Error];
        let listed = |name: &str, stages: &[Stage]| {
            let counts = stages.iter().map(|stage| (self.funnel.count(*stage), readable(stage.as_str())));
            let parts: Vec<String> =
                counts.filter(|(count, _)| *count > 0).map(|(count, name)| format!("{count} {name}")).collect();
            (!parts.is_empty()).then(|| format!("{name}: {}", parts.join(", ")))
        };
        [listed("Not eligible", &NOT_ELIGIBLE), listed("Eligible and not active", &NOT_ACTIVE)].into_iter().flatten().collect()
    }

    /// The stages of the funnel with their counts and their shares of what was received.
    fn stages(&self) -> Vec<(&'static str, u64, f64)> {
        let received = part(self.funnel.received).max(1.0);
        Stage::MAIN
            .into_iter()
            .map(|stage| (stage.label(), self.funnel.count(stage), part(self.funnel.count(stage)) / received))
            .collect()
    }

    /// The layers that the chart has.
    fn layers(&self) -> Vec<&'static Layer> {
        let is_shown = |layer: &&Layer| self.series.points.iter().any(|point| (layer.count)(&point.counts) > 0);
        LAYERS.iter().filter(is_shown).collect()
    }

    /// The count of a layer at the end of the chart.
    fn last_count(&self, layer: &Layer) -> u32 {
        self.series.points.last().map_or(0, |point| (layer.count)(&point.counts))
    }
}

impl Blocker {
    fn new(cause: &Cause, raises: bool) -> Blocker {
        // One of several fixes is an example that can be done; their common form has gaps.
        let fix = match cause.fixes.as_slice() {
            [first, rest @ ..] if !rest.is_empty() => format!("{first}; and {} more like it", rest.len()),
            _ => cause.fix.clone(),
        };
        Blocker {
            title: clean(&cause.title),
            connections: cause.members.len(),
            gain: if raises { points(cause.gain) } else { String::new() },
            fix: clean(&fix),
        }
    }

    /// How many connections, and what the fix gains.
    fn size(&self) -> String {
        let connections = counted(self.connections, "connection");
        if self.gain.is_empty() { connections } else { format!("{connections}, {}", self.gain) }
    }
}

/// A count as a part of a share.
fn part(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// The text on one line, without characters that a file of XML cannot hold or that would change the text around them.
fn clean(text: &str) -> String {
    let one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    printable(&one_line, &[]).replace(['\u{fffe}', '\u{ffff}'], "\u{fffd}")
}

/// Breaks a text into at most `max_lines` lines of at most `columns` columns. A text that is longer ends with `…`.
fn wrapped(text: &str, columns: usize, max_lines: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let (mut line, mut used) = (String::new(), 0);
    for part in text.split_whitespace().flat_map(|word| pieces(word, columns)) {
        let length = width(&part);
        if used > 0 && used + 1 + length > columns {
            lines.push(std::mem::take(&mut line));
            used = 0;
        }
        if lines.len() == max_lines {
            cut(&mut lines, columns);
            return lines;
        }
        if used > 0 {
            line.push(' ');
            used += 1;
        }
        line.push_str(&part);
        used += length;
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

/// Shows that the text goes on after the last line.
fn cut(lines: &mut [String], columns: usize) {
    if let Some(last) = lines.last_mut() {
        while width(last) + 1 > columns && last.pop().is_some() {}
        last.push('…');
    }
}

/// Breaks a word that is longer than a line.
fn pieces(word: &str, columns: usize) -> Vec<String> {
    let mut pieces = vec![String::new()];
    let mut used = 0;
    for c in word.chars() {
        if used + char_width(c) > columns {
            pieces.push(String::new());
            used = 0;
        }
        if let Some(piece) = pieces.last_mut() {
            piece.push(c);
        }
        used += char_width(c);
    }
    pieces
}

fn width(text: &str) -> usize {
    text.chars().map(char_width).sum()
}

/// The columns of a character. The characters of East Asia and emoji are twice as wide as others.
fn char_width(c: char) -> usize {
    if u32::from(c) < 0x1100 || ('\u{2000}'..='\u{2bff}').contains(&c) { 1 } else { 2 }
}

/// The chart with its axes as text. Its upper left corner is at the origin; the labels are outside of its size.
fn chart(series: &Series, size: super::chart::Size) -> Markup {
    use super::chart::{areas, coverage, fill, number, patterns};
    let (right, bottom) = (number(size.width), number(size.height));
    let (middle, target) = (number(size.height / 2.0 + 4.0), number(size.height * (1.0 - series.target)));
    let top = series.axis_top();
    html! {
        (patterns())
        rect.frame width=(right) height=(bottom) {}
        @for (layer, path) in areas(series, size) { path d=(path) fill=(fill(layer)) {} }
        line.target x1="0" x2=(right) y1=(target) y2=(target) {}
        path.edge d=(coverage(series, size)) {}
        path.coverage d=(coverage(series, size)) {}
        @for place in series.policies.iter().filter_map(|mark| series.place(mark.at)) {
            @let x = number(place * size.width);
            line.policy x1=(x) x2=(x) y1="0" y2=(bottom) {}
            text.mark x=(x) y="-3" text-anchor="middle" font-size="9" { "◆" }
        }
        g.label font-size="10" {
            g text-anchor="end" {
                text x="-6" y="4" { (top) }
                text x="-6" y=(middle) { (top / 2) }
                text x="-6" y=(number(size.height + 4.0)) { "0" }
            }
            @for (y, label) in [("4".to_string(), "100 %"), (middle.clone(), "50 %"), (number(size.height + 4.0), "0 %")] {
                text x=(number(size.width + 6.0)) y=(y) { (label) }
            }
            @for (place, label) in series.ticks() {
                text x=(number(place * size.width)) y=(number(size.height + 15.0)) text-anchor="middle" { (label) }
            }
        }
    }
}

#[cfg(test)]
mod tests;
