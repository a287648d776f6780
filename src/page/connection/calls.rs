//! The calls that were made for the connection, newest first.

use super::{ConnectionDetails, steps};
use crate::page::parts;
use crate::report::calls::{CallBody, InterruptedAttemptBody};
use maud::{Markup, html};

/// One page of calls.
#[derive(Clone, Debug, Default)]
pub struct CallsSection {
    /// Newest first.
    pub calls: Vec<CallBody>,
    /// The value of `calls` for older calls, if there are any.
    pub next_cursor: Option<String>,
    /// Whether newer calls are left out.
    pub is_older: bool,
    /// Attempts whose calls are not recorded.
    pub interrupted: Vec<InterruptedAttemptBody>,
}

pub(super) fn section(details: &ConnectionDetails) -> Markup {
    let section = &details.calls;
    html! {
        section id="calls" aria-labelledby="calls-title" {
            h2 id="calls-title" { "Calls" }
            @if section.is_older { p { a href=(details.section_link("calls", &[])) { "Back to the newest calls" } } }
            @if section.calls.is_empty() {
                p.quiet { "No call is recorded for this connection. Calls are kept for as long as evidence.keep_calls of the policy says." }
            } @else {
                p.quiet { "All of them only read. The last column is the rule that allowed the call." }
                (table(&section.calls))
            }
            @for attempt in &section.interrupted { p.warn { (attempt.message) } }
            @if let Some(cursor) = &section.next_cursor {
                p { a.button href=(details.section_link("calls", &[("calls", cursor)])) { "Show older calls" } }
            }
        }
    }
}

fn table(calls: &[CallBody]) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Table of calls" {
            table.calls {
                thead {
                    tr {
                        th scope="col" { "At" } th scope="col" { "For" } th scope="col" { "Method" } th scope="col" { "Host" }
                        th scope="col" { "Path or statement" } th scope="col" { "Status" } th.number scope="col" { "Bytes" }
                        th.number scope="col" { "Duration" } th scope="col" { "Allowed by" }
                    }
                }
                tbody { @for call in calls { (row(call)) } }
            }
        }
    }
}

fn row(call: &CallBody) -> Markup {
    html! {
        tr {
            td.when { (parts::time_text(&call.at)) }
            td { (call.purpose.as_str()) }
            td { code { (call.method) } }
            td { (call.host) }
            td { @if !call.path.is_empty() { code { (call.path) } } @if let Some(statement) = &call.statement { " " code { (statement) } } }
            td { (status(call)) }
            td.number { (call.bytes) }
            td.number { (steps::duration(u128::from(call.duration_ms))) }
            td { (call.rule) }
        }
    }
}

fn status(call: &CallBody) -> Markup {
    html! {
        @if let Some(status) = call.status { (status) " " }
        @match &call.error {
            Some(error) => span.bad { "✕ " (error) },
            None if call.status.is_none() => span.good { "✓ ok" },
            None => {},
        }
    }
}
