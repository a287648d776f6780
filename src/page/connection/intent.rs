//! The intent in force, and who asks for the connection.

use super::ConnectionDetails;
use crate::model::Timestamp;
use crate::page::parts;
use maud::{Markup, html};

/// The intent and its origins.
#[derive(Clone, Debug, Default)]
pub struct IntentSection {
    /// The intent as indented JSON; empty if it cannot be read.
    pub json: String,
    /// Whether the text was cut.
    pub is_cut: bool,
    pub generation: u32,
    /// The origins that ask for the connection, the newest first.
    pub origins: Vec<OriginRow>,
    /// The number of all of them.
    pub origins_total: usize,
    /// Whether the connection is retired, so that nothing asks for it.
    pub is_retired: bool,
}

/// One origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginRow {
    /// What it is: a file, a token, a discovery tool or sample data.
    pub kind: &'static str,
    /// Its path or its name.
    pub name: String,
    /// When it first asked for the connection, if the history says it.
    pub first: Option<Timestamp>,
    /// When its newest document was accepted.
    pub last: Option<Timestamp>,
    /// Whether its document is the one in force.
    pub in_force: bool,
}

pub(super) fn section(details: &ConnectionDetails) -> Markup {
    let intent = &details.intent;
    html! {
        section id="intent" aria-labelledby="intent-title" {
            h2 id="intent-title" { "Intent " span.quiet { "generation " (intent.generation) } }
            h3 { "Where it comes from" }
            @if intent.origins.is_empty() {
                p { @if intent.is_retired { "No intent asks for this connection any more; this was the last one." } @else { "No origin asks for this connection at the moment." } }
            } @else { (origins(intent)) }
            h3 { "Document" }
            @if intent.json.is_empty() { p.quiet { "The intent cannot be read from the ledger." } } @else {
                details id="intent-document" open {
                    summary { "Canonical JSON" }
                    pre role="region" tabindex="0" aria-label="The intent as JSON" { (intent.json) }
                }
                @if intent.is_cut { p.quiet { "The rest is left out; GET /connections/{id}/versions returns all of it." } }
                p { (parts::copy("Copy the intent", &intent.json)) }
            }
        }
    }
}

fn origins(intent: &IntentSection) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Origins of the intent" {
            table {
                thead { tr { th scope="col" { "Origin" } th scope="col" { "Document" } th scope="col" { "First accepted" } th scope="col" { "Last accepted" } } }
                tbody {
                    @for origin in &intent.origins {
                        tr {
                            td { span.quiet { (origin.kind) " " } code { (origin.name) } }
                            td { @if origin.in_force { "in force" } @else { "another one, which a newer document replaces" } }
                            td { (when(origin.first)) }
                            td { (when(origin.last)) }
                        }
                    }
                }
            }
        }
        @if intent.origins.len() < intent.origins_total { p.quiet { "and " (intent.origins_total - intent.origins.len()) " more" } }
    }
}

fn when(at: Option<Timestamp>) -> Markup {
    html! { @match at { Some(at) => (parts::time(at)), None => span.quiet { "not known" } } }
}
