//! Problems: what keeps files, the policy, the registry or webhooks from working, and changes that wait for a person.

use super::{Links, parts};
use crate::model::text::counted;
use crate::model::{Problem, Timestamp};
use crate::report::holds::HoldBody;
use maud::{Markup, html};

/// The number of connections of a held change that the page shows.
const MAX_HELD: usize = 20;

/// The states that count as needing attention, as the filter of the list of connections writes them.
const TROUBLED: &str = "HEALING,ERROR,NETWORK_BLOCKED,AWAITING_CREDENTIALS";

/// The data of the page.
#[derive(Clone, Debug, PartialEq)]
pub struct ProblemPage {
    pub links: Links,
    pub as_of: Timestamp,
    /// Whether the reader sees what concerns all namespaces.
    pub sees_registry: bool,
    /// Why AAM is not ready: a title and a reason. `None` if it is.
    pub not_ready: Option<(String, String)>,
    /// Why the registry cannot be used. Empty if it can.
    pub trouble: String,
    pub policy: Option<RejectedPolicy>,
    /// The held changes of the namespaces that the reader may read.
    pub holds: Vec<HoldBody>,
    pub files: FileProblems,
    /// The webhooks that do not receive their messages.
    pub webhooks: Vec<WebhookProblem>,
    pub namespaces: Vec<NamespaceLine>,
    /// What the ledger says of a past instant.
    pub past: Option<PastProblems>,
}

/// A policy file that is not valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedPolicy {
    pub file: String,
    pub at: Timestamp,
    pub problems: Vec<Problem>,
    /// The number of all of them.
    pub total: usize,
}

/// The problems of the intents folder and its files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileProblems {
    pub first: Vec<Problem>,
    /// The number of all of them.
    pub total: usize,
}

/// A webhook that does not receive its messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookProblem {
    pub name: String,
    pub host: String,
    pub problem: String,
    pub fix: String,
    pub tries: u32,
    pub next_at: Option<Timestamp>,
}

/// A namespace with what needs a person in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceLine {
    pub name: String,
    /// Addresses of pages of this namespace.
    pub links: Links,
    pub connections: usize,
    /// The connections that are in error, healing, blocked or without a credential.
    pub troubled: usize,
    pub held: usize,
    pub is_sealed: bool,
}

/// What was recorded of the problems of a past instant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PastProblems {
    /// Whether the policy file was not valid then.
    pub is_policy_rejected: bool,
    /// The files of the intents folder with problems.
    pub files: Vec<String>,
}

impl ProblemPage {
    /// Whether the page has nothing to say.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        let past = self.past.as_ref().is_none_or(|past| !past.is_policy_rejected && past.files.is_empty());
        self.not_ready.is_none()
            && self.trouble.is_empty()
            && self.policy.is_none()
            && self.holds.is_empty()
            && self.files.total == 0
            && self.webhooks.is_empty()
            && past
    }
}

/// Renders the page.
#[must_use]
pub fn render(page: &ProblemPage) -> Markup {
    html! {
        h1 { "Problems" }
        @if page.is_clear() { (clear(page)) }
        @if let Some(past) = &page.past { (self::past(past)) }
        (registry(page))
        @if let Some(policy) = &page.policy { (self::policy(policy, page.sees_registry)) }
        (holds(&page.holds))
        (files(&page.files))
        (webhooks(&page.webhooks))
        (namespaces(&page.namespaces))
        @if !page.sees_registry { p.quiet #hidden { "Files, the policy and webhooks concern all namespaces. To see their problems, sign in with a token that may read the namespace of the policy." } }
    }
}

/// Says what was looked at, so that nothing is claimed that the reader does not see.
fn clear(page: &ProblemPage) -> Markup {
    let text = match (page.past.is_some(), page.sees_registry) {
        (true, _) => "The ledger records no problem of the policy or of a file at that time.",
        (false, true) => {
            "The policy and all files are valid, the registry can write, no change is held, and every webhook receives its messages."
        }
        (false, false) => "The registry can write, and no change is held in your namespaces.",
    };
    html! {
        section.card #clear {
            p { strong.good { @if page.sees_registry { "✓ Nothing is wrong." } @else { "✓ Nothing that you may see is wrong." } } " " (text) }
            p.quiet { "Connections that are not ACTIVE are on the " a href=(page.links.to("/ui/connections", &[])) { "list of connections" } "." }
        }
    }
}

fn past(past: &PastProblems) -> Markup {
    html! {
        p.quiet #past { "The ledger does not record webhooks, held changes and the state of the process, so they are left out. Problems of files are shown by name only." }
        @if past.is_policy_rejected {
            section.banner #policy { h2 { "✕ The policy file was not valid" } p { "The policy that was accepted before stayed in force." } }
        }
        @if !past.files.is_empty() {
            section #files { h2 { "Files with problems " span.quiet { (past.files.len()) } } ul.plainlist { @for file in &past.files { li.ref-row { code { (file) } } } } }
        }
    }
}

fn registry(page: &ProblemPage) -> Markup {
    html! {
        @if !page.trouble.is_empty() {
            section.banner #registry {
                h2 { "✕ The registry cannot be used" }
                p { (page.trouble) }
                p { "Nothing is accepted and no attempt begins until AAM can write again; it tries by itself." }
            }
        } @else if let Some((title, reason)) = &page.not_ready {
            section.banner #registry { h2 { "✕ " (title) } p { (reason) } }
        }
    }
}

fn policy(policy: &RejectedPolicy, sees_registry: bool) -> Markup {
    html! {
        section.banner #policy {
            h2 { "✕ The policy file is not valid; the last valid policy stays in force" }
            p { "Rejected at " (parts::time(policy.at)) @if !policy.file.is_empty() { ": " code { (policy.file) } } }
            @if sees_registry {
                (problems(&policy.problems, policy.total, "aam check lists all of them"))
                p { code { "aam check" } " shows when the file is valid. " (parts::copy("Copy the command", "aam check")) }
            }
        }
    }
}

fn holds(holds: &[HoldBody]) -> Markup {
    html! {
        @if !holds.is_empty() {
            section #holds {
                h2 { "Held changes " span.quiet { (holds.len()) } }
                @for hold in holds { (self::hold(hold)) }
            }
        }
    }
}

fn hold(hold: &HoldBody) -> Markup {
    let command = format!("aam confirm {}", hold.digest.get(..12).unwrap_or(&hold.digest));
    html! {
        article.card id=(format!("hold-{}", hold.digest)) {
            h3 { "! " (counted(hold.count, "connection")) " of namespace " (hold.namespace) " would leave at once" }
            p { (hold.message) "." }
            (parts::fix(&hold.fix))
            p { code { (command) } " " (parts::copy("Copy the command", &command)) }
            details id=(format!("held-{}", hold.digest)) {
                summary { (counted(hold.count, "connection")) }
                ul.plainlist {
                    @for held in hold.connections.iter().take(MAX_HELD) {
                        li.ref-row { strong { (held.source_type) } " " code { (held.resource_ids.join(" ")) } " " span.quiet { (held.reason) } }
                    }
                }
                @if hold.count > MAX_HELD { p.quiet { "and " (hold.count - MAX_HELD) " more; GET /holds lists them" } }
            }
        }
    }
}

fn files(files: &FileProblems) -> Markup {
    html! {
        @if files.total > 0 {
            section #files {
                h2 { "Intent files " span.quiet { (counted(files.total, "problem")) } }
                p.quiet { "The connections of a file that cannot be read keep their current state." }
                (problems(&files.first, files.total, "aam check lists all of them"))
            }
        }
    }
}

/// Renders problems of files with their places.
fn problems(problems: &[Problem], total: usize, rest: &str) -> Markup {
    html! {
        ul.plainlist {
            @for problem in problems {
                li.card.ref-row {
                    @if !problem.file.is_empty() { code { (problem.file) @if let Some(place) = problem.place { ":" (place.line) ":" (place.column) } } " " }
                    @if let Some(place) = problem.place { span.quiet { "line " (place.line) ", column " (place.column) } " " }
                    @if !problem.pointer.is_empty() { code { (problem.pointer) } }
                    p { (problem.message) }
                    @if !problem.hint.is_empty() { (parts::fix(&problem.hint)) }
                }
            }
        }
        @if problems.len() < total { p.quiet { "and " (total - problems.len()) " more; " (rest) } }
    }
}

fn webhooks(webhooks: &[WebhookProblem]) -> Markup {
    html! {
        @if !webhooks.is_empty() {
            section #webhooks {
                h2 { "Webhooks that do not receive their messages " span.quiet { (webhooks.len()) } }
                ul.plainlist {
                    @for webhook in webhooks {
                        li.card.ref-row id=(format!("webhook-{}", webhook.name)) {
                            strong { (webhook.name) } " " code { (webhook.host) }
                            p { (webhook.problem) @if webhook.tries > 0 { " · " @if webhook.tries == 1 { "1 failed try" } @else { (webhook.tries) " failed tries" } } @if let Some(at) = webhook.next_at { " · next try at " (parts::time(at)) } }
                            @if !webhook.fix.is_empty() { (parts::fix(&webhook.fix)) }
                        }
                    }
                }
            }
        }
    }
}

fn namespaces(lines: &[NamespaceLine]) -> Markup {
    html! {
        section #namespaces-list {
            h2 { "Namespaces" }
            div.scroll tabindex="0" role="region" aria-label="Namespaces" {
                table {
                    thead { tr { th scope="col" { "Namespace" } th.number scope="col" { "Connections" } th.number scope="col" { "Need attention" } th.number scope="col" { "Held" } } }
                    tbody { @for line in lines {
                        tr id=(format!("namespace-{}", line.name)) {
                            td { a data-row href=(line.links.to("/", &[])) { (line.name) } @if line.is_sealed { " " span.quiet { "sealed" } } }
                            td.number { a href=(line.links.to("/ui/connections", &[])) { (line.connections) } }
                            td.number { @if line.troubled > 0 { a href=(line.links.to("/ui/connections", &[("state", TROUBLED)])) { (line.troubled) } } @else { "0" } }
                            td.number { (line.held) }
                        }
                    } }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::State;

    #[test]
    fn the_filter_of_troubled_connections_names_states() {
        assert!(TROUBLED.split(',').all(|name| State::parse(name).is_some()));
    }
}
