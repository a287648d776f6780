//! What happened to the connection, newest first.

use super::{ConnectionDetails, steps};
use crate::model::{State, Timestamp};
use crate::page::parts;
use maud::{Markup, html};

/// What kind of entry of the ledger it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Intent,
    AttemptPassed,
    AttemptFailed,
    Catalog,
    Credential,
    Departure,
    Retired,
}

impl Kind {
    /// The label, the symbol and the class.
    fn looks(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Kind::Intent => ("Intent", "◇", "calm"),
            Kind::AttemptPassed => ("Attempt", "✓", "good"),
            Kind::AttemptFailed => ("Attempt", "✕", "bad"),
            Kind::Catalog => ("Catalog", "≡", "calm"),
            Kind::Credential => ("Credential", "!", "warn"),
            Kind::Departure => ("Departure", "→", "warn"),
            Kind::Retired => ("Retired", "–", "calm"),
        }
    }
}

/// One entry of the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimelineItem {
    /// The number of the entry in the ledger.
    pub seq: u64,
    pub at: Timestamp,
    pub kind: Kind,
    /// What happened, in one sentence.
    pub text: String,
    /// The change of the state, if there was one. The state before is `None` for a connection that is new.
    pub change: Option<(Option<State>, State)>,
    /// The generation that the entry began, if it did.
    pub generation: Option<u32>,
    /// How long an attempt took.
    pub lasted_ms: Option<u128>,
    /// Why an attempt was due, if it is recorded.
    pub why: Option<&'static str>,
    /// The version of the catalog that the entry registered.
    pub catalog: Option<u32>,
}

/// One page of the history.
#[derive(Clone, Debug, Default)]
pub struct TimelineSection {
    /// Newest first.
    pub items: Vec<TimelineItem>,
    /// The value of `before` for older entries, if there are any.
    pub next_before: Option<u64>,
    /// Whether newer entries are left out.
    pub is_older: bool,
    /// Whether the history is so long that its oldest entries were not read.
    pub is_cut: bool,
}

pub(super) fn section(details: &ConnectionDetails) -> Markup {
    let timeline = &details.timeline;
    html! {
        section id="timeline" aria-labelledby="timeline-title" {
            h2 id="timeline-title" { "Timeline" }
            @if timeline.is_older { p { a href=(details.section_link("timeline", &[])) { "Back to the newest entries" } } }
            @if timeline.items.is_empty() { p.quiet { "The ledger does not have older entries of this connection." } } @else {
                ol.timeline { @for item in &timeline.items { (row(item, details)) } }
            }
            @if let Some(before) = timeline.next_before {
                p { a.button href=(details.section_link("timeline", &[("before", &before.to_string())])) { "Show more" } }
            } @else if timeline.is_cut {
                p.quiet { "Older entries are not shown here; GET /connections/{id}/versions returns all of them." }
            }
            @if !timeline.is_older { p.quiet { "A check that finds nothing new does not add an entry." } }
        }
    }
}

fn row(item: &TimelineItem, details: &ConnectionDetails) -> Markup {
    let (label, symbol, tone) = item.kind.looks();
    html! {
        li id=(format!("entry-{}", item.seq)) {
            span.when { (parts::time(item.at)) span.quiet { " entry " (item.seq) } }
            div {
                p {
                    span.(tone) aria-hidden="true" { (symbol) } " " strong { (label) }
                    @if let Some(generation) = item.generation { " " span.tag { "generation " (generation) } }
                    @if let Some((from, to)) = item.change { " " (change(from, to)) }
                }
                p.said { (item.text) }
                (more(item, details))
            }
        }
    }
}

/// The change of a state from one to another.
fn change(from: Option<State>, to: State) -> Markup {
    html! {
        span.change {
            @match from { Some(from) => (parts::state(from)), None => span.quiet { "new" } }
            span aria-hidden="true" { " → " } span.hidden { " to " } (parts::state(to))
        }
    }
}

fn more(item: &TimelineItem, details: &ConnectionDetails) -> Markup {
    let seq = item.seq.to_string();
    html! {
        @if let Some(ms) = item.lasted_ms {
            p.quiet {
                "took " (steps::duration(ms)) @if let Some(why) = item.why { ", because: " (why) } " · "
                a href=(details.section_link("steps", &[("attempt", &seq)])) { "its steps" }
            }
        }
        @if let Some(version) = item.catalog {
            p.quiet { a href=(details.section_link("catalog", &[("version", &version.to_string())])) { "this version of the catalog" } }
        }
    }
}
