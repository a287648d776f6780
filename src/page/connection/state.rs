//! The state of the connection, why it is in it, and what to do.

use super::{ConnectionDetails, actions, failure};
use crate::model::ledger::Why;
use crate::model::text::{age as age_text, counted};
use crate::model::{State, Timestamp};
use crate::page::parts;
use crate::report::result::{ConnectionResult, WarningBody};
use maud::{Markup, html};

/// The number of resource ids that are shown.
const MAX_RESOURCES: usize = 20;

/// When the connection is checked next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextCheck {
    /// An attempt is running.
    Running,
    /// At this time, for this reason. A time that has passed means that the check waits for a free worker.
    At { due: Timestamp, why: Why },
    /// Not without a change; why, in one sentence.
    Never(String),
    /// The page shows the past, for which it is not recorded.
    Unknown,
}

pub(super) fn section(details: &ConnectionDetails) -> Markup {
    let result = &details.result;
    html! {
        section.card.connection id="state" aria-labelledby="state-title" {
            h2.hidden id="state-title" { "State" }
            p.statement {
                (parts::state(details.state))
                @if let Some(at) = details.state_since { span.quiet { " since " (parts::time(at)) ", " (parts::age(at, details.as_of)) } }
            }
            (reason(details))
            @if let Some(link) = &details.consent_link {
                p.consent { "The owner gives consent on this page: " a href=(link) rel="noreferrer" { (link) } }
            }
            p id="next" { strong { "Next check: " } (next(&details.next, details.as_of)) }
            (held(result))
            (warnings(&result.warnings))
            (facts(details))
            (actions::forms(details))
        }
    }
}

/// The failure that the state is derived from, or what the state means.
fn reason(details: &ConnectionDetails) -> Markup {
    html! {
        @match &details.result.error {
            Some(error) => div.reason { (failure(error, &details.family_title)) },
            None => p { (details.result.message) },
        }
        @if details.failures > 1 { p.quiet { (details.failures) " attempts in a row failed." } }
    }
}

fn next(next: &NextCheck, now: Timestamp) -> Markup {
    match next {
        NextCheck::Running => html! { "an attempt is running now." },
        NextCheck::At { due, why } if *due <= now => html! { "due now (" (why.message()) ")." },
        NextCheck::At { due, why } => {
            html! { "in " (age_text(due.since(now))) ", at " (parts::time(*due)) " (" (why.message()) ")." }
        }
        NextCheck::Never(why) => html! { (why) },
        NextCheck::Unknown => {
            html! { span.quiet { "not shown for the past, because it depends on the policy that is in force." } }
        }
    }
}

/// The change that would make the connection leave.
fn held(result: &ConnectionResult) -> Markup {
    html! {
        @if let Some(held) = &result.held {
            div.held id="held" {
                h3 { "! A change that would make this connection leave is held" }
                p { (held.reason) }
                (parts::fix(&held.fix))
            }
        }
    }
}

fn warnings(warnings: &[WarningBody]) -> Markup {
    html! {
        @if !warnings.is_empty() {
            div id="warnings" {
                h3 { (counted(warnings.len(), "warning")) }
                ul.warnings {
                    @for warning in warnings {
                        li {
                            p.warn { span aria-hidden="true" { "! " } @if warning.class.is_none() { code { (warning.pointer) } " " } (warning.message) }
                            @if !warning.hint.is_empty() { (parts::fix(&warning.hint)) }
                        }
                    }
                }
            }
        }
    }
}

fn facts(details: &ConnectionDetails) -> Markup {
    let result = &details.result;
    html! {
        dl.pairs {
            dt { "Source" } dd { (details.family_title) " " code { (result.source_type) } }
            dt { @if result.resource_ids.len() == 1 { "Resource" } @else { "Resources" } } dd { (resources(&result.resource_ids)) }
            @if let Some(owner) = &result.owner { dt { "Owner" } dd { (owner.user) " " span.quiet { "(" (owner.why) ", confidence " (owner.confidence) ")" } } }
            @if let Some(risk) = &result.risk_level { dt { "Risk" } dd { (risk) } }
            dt { "Namespace" } dd { (result.namespace) }
            dt { "Accepted" } dd { (parts::time_text(&result.created_at)) }
            dt { "Last checked" } dd { (checked(details)) }
            @if let (Some(rows), Some(ms)) = (result.first_sync_rows, result.latency_ms) {
                dt { "First sync" } dd { (counted(usize::try_from(rows).unwrap_or(usize::MAX), "item")) " in " (ms) " ms" }
            }
            dt { "Stage" } dd { (parts::readable(&result.funnel_stage)) }
            dt { "Id" } dd { code { (result.id) } " " (parts::copy("Copy the id", &result.id)) }
        }
    }
}

fn checked(details: &ConnectionDetails) -> Markup {
    let at = details.result.last_health_check.as_deref();
    match at.map(|text| (text, Timestamp::parse(text))) {
        Some((_, Ok(at))) => html! { (parts::age(at, details.as_of)) ", " (parts::time(at)) },
        Some((text, Err(_))) => html! { (text) },
        None if details.state == State::Retired => html! { span.quiet { "not since it was retired" } },
        None => html! { span.quiet { "not yet" } },
    }
}

fn resources(ids: &[String]) -> Markup {
    html! {
        ul.plainlist {
            @for id in ids.iter().take(MAX_RESOURCES) { li { code { (id) } } }
            @if ids.len() > MAX_RESOURCES { li.quiet { "and " (ids.len() - MAX_RESOURCES) " more; the intent below has all of them" } }
        }
    }
}
