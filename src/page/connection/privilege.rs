//! What the credential may do beyond reading, and how to take it away.

use super::ConnectionDetails;
use crate::page::parts;
use crate::report::privileges::{ConnectionPrivilege, PrivilegeVerdict, ResourcePrivilege};
use maud::{Markup, html};

/// The number of resources, and of the grants, statements and steps of each, that are shown.
const MAX_SHOWN: usize = 100;

pub(super) fn section(details: &ConnectionDetails) -> Markup {
    html! {
        section id="privilege" aria-labelledby="privilege-title" {
            h2 id="privilege-title" { "Privilege" }
            @match &details.privilege {
                Some(privilege) => (verdict(privilege)),
                None => p.quiet { "A retired connection is not judged." },
            }
        }
    }
}

fn verdict(privilege: &ConnectionPrivilege) -> Markup {
    let (symbol, tone, sentence) = looks(privilege.verdict);
    html! {
        p { strong.(tone) { span aria-hidden="true" { (symbol) } " " (sentence) } @if let Some(at) = &privilege.found_at { span.quiet { " Found at " (parts::time_text(at)) "." } } }
        @if privilege.credential_locator.is_none() && privilege.verdict == PrivilegeVerdict::Over {
            p.quiet { "This connection does not use a credential: the rights are those of the user that runs AAM." }
        }
        @for resource in privilege.resources.iter().take(MAX_SHOWN) { (of_resource(resource, privilege.resources.len() > 1)) }
        @if privilege.resources.len() > MAX_SHOWN { p.quiet { "and " (privilege.resources.len() - MAX_SHOWN) " more resources; GET /privileges lists them" } }
        @if !privilege.least_privilege.is_empty() { p { "What AAM needs at least: " (privilege.least_privilege) } }
    }
}

/// The symbol, the class and the sentence of a verdict.
fn looks(verdict: PrivilegeVerdict) -> (&'static str, &'static str, &'static str) {
    match verdict {
        PrivilegeVerdict::Over => ("!", "warn", "It can do more than read."),
        PrivilegeVerdict::Unknown => ("?", "calm", "The source does not say what it may do."),
        PrivilegeVerdict::NotChecked => ("…", "calm", "No attempt has asked the source yet."),
        PrivilegeVerdict::Ok => ("✓", "good", "It only reads, as the source says."),
    }
}

fn of_resource(resource: &ResourcePrivilege, is_named: bool) -> Markup {
    html! {
        div.resource {
            @if is_named { h3 { code { (resource.resource_id) } " " span.quiet { (looks(resource.verdict).2) } } }
            @if !resource.reason.is_empty() { p { "Unknown, because: " (resource.reason) } }
            @if !resource.grants.is_empty() { h3 { "Excess" } (texts(&resource.grants)) }
            @if !resource.statements.is_empty() {
                h3 { "Take it away: statements to run at the source" }
                @let all = resource.statements.join("\n");
                pre { @for statement in resource.statements.iter().take(MAX_SHOWN) { (statement) "\n" } }
                @if resource.statements.len() > MAX_SHOWN { p.quiet { "and " (resource.statements.len() - MAX_SHOWN) " more; the button copies all of them" } }
                p { (parts::copy("Copy the statements", &all)) }
            }
            @if !resource.steps.is_empty() { h3 { "Take it away: what an administrator does" } (texts(&resource.steps)) }
        }
    }
}

fn texts(texts: &[String]) -> Markup {
    html! {
        ul {
            @for text in texts.iter().take(MAX_SHOWN) { li { (text) } }
            @if texts.len() > MAX_SHOWN { li.quiet { "and " (texts.len() - MAX_SHOWN) " more" } }
        }
    }
}
