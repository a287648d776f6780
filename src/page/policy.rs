//! Policy: what is in force, what it allows, what changed, and when.

mod summary;

pub use summary::{CapLine, Summary, TokenLine, WebhookLine};

use super::{Links, parts};
use crate::model::text::counted;
use crate::model::{Cap, Timestamp};
use crate::policy::diff::{CONNECTIONS, Change, Effect, Verdict};
use maud::{Markup, html};

/// The number of changes that a page shows.
const MAX_CHANGES: usize = 300;
/// The number of lines up to which the text is shown without a click.
const SHORT_TEXT: usize = 120;

/// The data of the page.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyPage {
    pub links: Links,
    pub as_of: Timestamp,
    /// Whether the reader sees what concerns all namespaces.
    pub sees_registry: bool,
    /// `None` if no policy was accepted up to the instant of the page.
    pub in_force: Option<InForce>,
    /// True while the file on disk is not valid, so that the policy in force is an earlier one.
    pub is_rejected: bool,
    /// What the policy allows. `None` if this version of AAM cannot read it.
    pub summary: Option<Summary>,
    /// Why the summary is missing; empty if it is not.
    pub unreadable: String,
    pub difference: Option<Difference>,
    pub history: Vec<VersionLine>,
    /// The entry before which the next page of the history begins.
    pub earlier: Option<u64>,
    pub text: Option<PolicyLines>,
}

/// The policy in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InForce {
    /// The file of the policy. `None` on a page of the past, because the ledger does not hold its path, and for a reader who
    /// does not see what concerns all namespaces.
    pub file: Option<String>,
    pub digest: String,
    /// The entry that recorded it, and when. `None` until it is recorded.
    pub accepted: Option<(u64, Timestamp)>,
}

/// One accepted policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionLine {
    pub seq: u64,
    pub at: Timestamp,
    pub digest: String,
    /// The entry of the policy before it, if the page knows it.
    pub before: Option<u64>,
}

/// What changed from one policy to another.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    pub from: (u64, Timestamp),
    pub to: (u64, Timestamp),
    /// The changes, or why the policies cannot be compared.
    pub changes: Result<Vec<Change>, String>,
    /// For which connections the effects were computed.
    pub note: String,
}

/// The text of the policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyLines {
    pub seq: u64,
    pub lines: Vec<String>,
    /// The number of further lines.
    pub more: usize,
}

/// Renders the page.
#[must_use]
pub fn render(page: &PolicyPage) -> Markup {
    html! {
        h1 { "Policy" }
        (in_force(page))
        @if !page.unreadable.is_empty() { p.warn { "! " (page.unreadable) } }
        @if let Some(summary) = &page.summary { (allowed(summary, page)) }
        @if page.sees_registry {
            @if let Some(difference) = &page.difference { (self::difference(difference)) }
            (history(page))
            @if let Some(text) = &page.text { (self::text(text)) }
        } @else {
            p.quiet #hidden { "Addresses, places of credentials, tokens, webhooks, the history and the text concern all namespaces. To see them, sign in with a token that may read the namespace of the policy." }
        }
    }
}

fn in_force(page: &PolicyPage) -> Markup {
    let Some(policy) = &page.in_force else {
        return html! { section.card #in-force { h2 { "No policy was in force" } p { "AAM had not accepted a policy by then." } } };
    };
    html! {
        section.card #in-force {
            h2 { @if page.links.at.is_some() { "In force then" } @else { "In force" } }
            dl.pairs {
                @if let Some(file) = &policy.file { dt { "File" } dd { code { (file) } } }
                dt { "SHA-256" } dd { code { (policy.digest) } " " (parts::copy("Copy", &policy.digest)) }
                dt { "Accepted" }
                dd {
                    @match policy.accepted {
                        Some((seq, at)) => {
                            (parts::time(at)) " · " (parts::age(at, page.as_of))
                            @if page.sees_registry { " · " a href=(page.links.to("/ui/ledger", &[("before", (seq + 1).to_string().as_str())])) { "entry " (seq) } }
                        },
                        None => { "not recorded yet" },
                    }
                }
            }
            @if page.is_rejected {
                p.bad { "✕ The file on disk is not valid, so it is not in force. " a href=(format!("{}#policy", page.links.to("/ui/problems", &[]))) { "Its problems" } }
            }
        }
    }
}

fn allowed(summary: &Summary, page: &PolicyPage) -> Markup {
    html! {
        section #allows {
            h2 { "What it allows" }
            dl.pairs.card {
                dt { "Families" }
                dd {
                    @if summary.allowlist.is_empty() { "none: no connection can be connected" }
                    ul.chips { @for family in &summary.allowlist { li { a.chip href=(page.links.to(&format!("/ui/families/{family}"), &[])) { (family) } } } }
                }
                @for (name, text) in &summary.rules { dt { (name) } dd { (text) } }
            }
            (lists("Addresses and folders that it adds", "hosts", &summary.hosts))
            (lists("Places of credentials", "credentials", &summary.credentials))
            (caps(&summary.caps))
            @if page.sees_registry { (tokens(summary, page.as_of)) (webhooks(&summary.webhooks)) }
        }
    }
}

fn lists(title: &str, id: &str, entries: &[(String, Vec<String>)]) -> Markup {
    html! {
        @if !entries.is_empty() {
            section id=(id) {
                h3 { (title) }
                dl.pairs.card { @for (key, values) in entries { dt { code { (key) } } dd { @for value in values { code.ref-item { (value) } " " } } } }
            }
        }
    }
}

/// Renders a budget as a sentence.
#[must_use]
pub fn cap_text(cap: &Cap) -> String {
    let at_once = counted(usize::try_from(cap.concurrency).unwrap_or(usize::MAX), "call");
    format!("{} calls a day, {} a second, {} in a burst, {at_once} at the same time", cap.per_day, cap.per_second, cap.burst)
}

fn caps(lines: &[CapLine]) -> Markup {
    html! {
        @if !lines.is_empty() {
            section #caps {
                h3 { "Calls to one account" }
                div.scroll tabindex="0" role="region" aria-label="Calls to one account" {
                    table {
                        thead { tr { th scope="col" { "Family" } th.number scope="col" { "A day" } th.number scope="col" { "A second" } th.number scope="col" { "In a burst" } th.number scope="col" { "At once" } th scope="col" { "Set by" } } }
                        tbody { @for line in lines {
                            tr id=(format!("cap-{}", line.family)) { td { (line.family) } td.number { (line.cap.per_day) } td.number { (line.cap.per_second) } td.number { (line.cap.burst) } td.number { (line.cap.concurrency) } td.quiet { @if line.is_set { "the policy" } @else { "the default of the family" } } }
                        } }
                    }
                }
            }
        }
    }
}

fn tokens(summary: &Summary, now: Timestamp) -> Markup {
    html! {
        section #tokens {
            h3 { "Who may call the API" }
            @if summary.tokens.is_empty() {
                p { "The policy lists no token, so only the admin token of this machine is accepted." }
            } @else {
                div.scroll tabindex="0" role="region" aria-label="Who may call the API" {
                    table {
                        thead { tr { th scope="col" { "Name" } th scope="col" { "Scopes" } th scope="col" { "Namespaces" } th scope="col" { "Ends" } th scope="col" { "Credentials" } } }
                        tbody { @for token in &summary.tokens {
                            tr id=(format!("token-{}", token.name.replace(' ', "-"))) {
                                td { strong { (token.name) } }
                                td { (token.scopes.join(", ")) }
                                td { (token.namespaces.join(", ")) }
                                td { @match token.expires { None => { "never" }, Some(end) => { (parts::time(end)) @if end <= now { span.bad { " ✕ ended" } } } } }
                                td { @if token.locators.is_empty() { span.quiet { "none" } } @else { @for locator in &token.locators { code.ref-item { (locator) } " " } } @if !token.hosts.is_empty() { span.quiet { "to " (token.hosts.join(", ")) } } }
                            }
                        } }
                    }
                }
            }
        }
    }
}

fn webhooks(lines: &[WebhookLine]) -> Markup {
    html! {
        @if !lines.is_empty() {
            section #webhooks {
                h3 { "Webhooks" }
                ul.plainlist {
                    @for line in lines {
                        li.card.ref-row id=(format!("webhook-{}", line.name)) {
                            strong { (line.name) } " " code { (line.host) } span.quiet { " " (line.form) }
                            p { (line.events.join(", ")) }
                            p.quiet { @if line.namespaces.is_empty() { "of all namespaces" } @else { "of " (line.namespaces.join(", ")) } }
                        }
                    }
                }
            }
        }
    }
}

fn difference(difference: &Difference) -> Markup {
    let (from, to) = (difference.from, difference.to);
    html! {
        section #difference {
            h2 { "What changed" }
            p.quiet { "From entry " (from.0) " (" (parts::time(from.1)) ") to entry " (to.0) " (" (parts::time(to.1)) ")" }
            @match &difference.changes {
                Err(reason) => { p.warn { "! " (reason) } },
                Ok(changes) => { (self::changes(changes)) },
            }
            @if !difference.note.is_empty() { p.quiet { (difference.note) } }
        }
    }
}

fn changes(changes: &[Change]) -> Markup {
    let groups = [
        (Effect::Wider, "Wider: AAM or a caller may do more", "▲", "bad"),
        (Effect::Narrower, "Narrower", "▼", "good"),
        (Effect::Neutral, "Other changes and what follows from them", "•", "calm"),
    ];
    let total = changes.iter().filter(|change| change.key != CONNECTIONS).count();
    let (wider, narrower) = (count(changes, Effect::Wider), count(changes, Effect::Narrower));
    html! {
        @match Verdict::over(changes) {
            Verdict::None => { p #verdict { "No changes: both allow the same." } },
            verdict => {
                p #verdict {
                    @if verdict == Verdict::Wider { strong.bad { "▲ Wider" } } @else { strong.good { "▼ Not wider" } }
                    " · " (counted(total, "change")) ": " (wider) " wider, " (narrower) " narrower"
                }
            },
        }
        @for (effect, title, symbol, tone) in groups {
            @if count(changes, effect) > 0 {
                h3 { (title) }
                ul.policy-changes {
                    @for change in changes.iter().filter(|change| change.effect == effect).take(MAX_CHANGES) {
                        li { span class=(tone) aria-hidden="true" { (symbol) " " } code { (change.key) } " " (change.text) }
                    }
                }
                @if count(changes, effect) > MAX_CHANGES { p.quiet { "and " (count(changes, effect) - MAX_CHANGES) " more; aam policy diff lists them all" } }
            }
        }
    }
}

fn count(changes: &[Change], effect: Effect) -> usize {
    changes.iter().filter(|change| change.effect == effect).count()
}

fn history(page: &PolicyPage) -> Markup {
    let links = &page.links;
    let current = page.in_force.as_ref().and_then(|policy| policy.accepted).map(|(seq, _)| seq);
    html! {
        section #history {
            h2 { "History" }
            @if page.history.is_empty() {
                p.quiet { "The ledger does not record a policy before this." }
            } @else {
                (compare(page))
                div.scroll tabindex="0" role="region" aria-label="History of the policy" {
                    table {
                        thead { tr { th.number scope="col" { "Entry" } th scope="col" { "Accepted" } th scope="col" { "SHA-256" } th scope="col" { "Show" } } }
                        tbody { @for version in &page.history {
                            @let seq = version.seq.to_string();
                            tr id=(format!("policy-{}", version.seq)) {
                                td.number { (seq) }
                                td { (parts::time(version.at)) @if current == Some(version.seq) { " " strong { "in force" } } }
                                td { code { (version.digest) } }
                                td {
                                    a href=(Links { at: Some(version.at), ..links.clone() }.to("/ui/policy", &[])) { "as of then" }
                                    @if let Some(before) = version.before { " · " a data-row href=(format!("{}#difference", links.to("/ui/policy", &[("from", before.to_string().as_str()), ("to", seq.as_str())]))) { "what changed" } }
                                }
                            }
                        } }
                    }
                }
                @if let Some(before) = page.earlier { p { a rel="next" href=(format!("{}#history", links.to("/ui/policy", &[("before", before.to_string().as_str())]))) { "Earlier policies" } } }
            }
        }
    }
}

/// The form that compares two of the listed policies.
fn compare(page: &PolicyPage) -> Markup {
    let (from, to) = page.difference.as_ref().map_or((0, 0), |difference| (difference.from.0, difference.to.0));
    let options = |chosen: u64| {
        html! { @for version in &page.history { option value=(version.seq) selected[version.seq == chosen] { (version.seq) " · " (version.at.rfc3339()) } } }
    };
    html! {
        @if page.history.len() > 1 {
            form.compare method="get" action=(format!("{}/ui/policy#difference", page.links.prefix)) {
                (kept(&page.links))
                label { "From " select name="from" { (options(from)) } }
                label { "to " select name="to" { (options(to)) } }
                button { "Compare" }
            }
        }
    }
}

/// The fields of a form that keep the namespace and the instant.
fn kept(links: &Links) -> Markup {
    html! {
        @if let Some(namespace) = &links.namespace { input type="hidden" name="namespace" value=(namespace); }
        @if let Some(at) = links.at { input type="hidden" name="at" value=(at.rfc3339()); }
    }
}

fn text(text: &PolicyLines) -> Markup {
    html! {
        section {
            h2 #text { "Text" }
            details #policy-text open[text.lines.len() <= SHORT_TEXT] {
                summary { (counted(text.lines.len() + text.more, "line")) " of entry " (text.seq) }
                ol.lines { @for (at, line) in text.lines.iter().enumerate() { li id=(format!("L{}", at + 1)) { code { (line) } } } }
                @if text.more > 0 {
                    @let command = format!("aam query \"SELECT text FROM policy_versions WHERE seq = {}\"", text.seq);
                    p.quiet { "and " (counted(text.more, "further line")) "; " code { (command) } " prints all of it " (parts::copy("Copy the command", &command)) }
                }
            }
        }
    }
}
