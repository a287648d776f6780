//! Ledger: its head, its newest entries, and how to prove that nothing in it was changed.

use super::{Links, parts};
use crate::model::Timestamp;
use crate::model::ledger::{Entry, Fact, RecordedProblems};
use crate::model::text::counted;
use crate::report::history;
use maud::{Markup, html};

/// The data of the page.
#[derive(Clone, Debug, PartialEq)]
pub struct LedgerPage {
    pub links: Links,
    pub as_of: Timestamp,
    pub namespace: String,
    /// The head of the ledger. `None` for a reader who does not see what concerns all namespaces.
    pub head: Option<LedgerHeadLine>,
    pub entries: Vec<EntryLine>,
    /// The entry before which the next page begins.
    pub earlier: Option<u64>,
    /// Whether this is the first page.
    pub is_newest: bool,
    /// Whether the entries are those of all namespaces that the reader may read.
    pub is_all: bool,
}

/// The head of the ledger, and what was checked for this page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerHeadLine {
    pub seq: u64,
    pub hash: String,
    pub at: Option<Timestamp>,
    pub check: NewestCheck,
    /// Where heads are kept outside of the registry, as sentences.
    pub kept: Vec<String>,
    /// The commands that prove more, each with what it does.
    pub commands: Vec<(String, String)>,
}

/// The check of the newest entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewestCheck {
    /// The first entry that was checked. It is greater than `last` if none was.
    pub first: u64,
    pub last: u64,
    /// The first entry that does not match the chain, and why.
    pub broken: Option<(u64, String)>,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryLine {
    pub seq: u64,
    pub at: Timestamp,
    pub kind: String,
    /// What happened, in one sentence.
    pub text: String,
    /// Empty for an entry of the whole registry.
    pub namespace: String,
    /// The id of the connection with its name.
    pub connection: Option<(String, String)>,
    pub hash: String,
}

/// Renders the page.
#[must_use]
pub fn render(page: &LedgerPage) -> Markup {
    html! {
        h1 { "Ledger" }
        @match &page.head {
            Some(head) => { (self::head(head, page.links.at.is_some())) },
            None => { p.quiet #hidden { "The head of the ledger concerns all namespaces. To see it, sign in with a token that may read the namespace of the policy." } },
        }
        (entries(page))
    }
}

fn head(head: &LedgerHeadLine, is_past: bool) -> Markup {
    let shown = format!("{}:{}", head.seq, head.hash);
    html! {
        section.card #head {
            h2 { @if is_past { "Head then" } @else { "Head" } }
            @if head.seq == 0 {
                p { "The ledger does not have an entry yet." }
            } @else {
                dl.pairs {
                    dt { "Entry" } dd { (head.seq) @if let Some(at) = head.at { " · " (parts::time(at)) } }
                    dt { "SHA-256" } dd { code { (head.hash) } " " (parts::copy("Copy SEQ:SHA256", &shown)) }
                    dt { "Checked now" } dd { (check(&head.check)) }
                }
            }
        }
        section #verify {
            h2 { "Prove that nothing was changed" }
            @for (about, command) in &head.commands {
                p { (about) }
                p.fix { code { (command) } " " (parts::copy("Copy the command", command)) }
            }
            @for sentence in &head.kept { p.quiet { (sentence) } }
        }
    }
}

/// Says exactly what was checked, and what was not.
fn check(check: &NewestCheck) -> Markup {
    html! {
        @match &check.broken {
            Some((seq, why)) => {
                p.bad #check { strong { "✕ Entry " (seq) " does not match the hash chain: " (why) "." } }
                @if *seq > check.first { p { "The entries " (check.first) " to " (seq - 1) " before it match." } }
                p { "Restore the registry from an earlier backup, and find out who changed it." }
            },
            None => {
                @if check.first > check.last {
                    p #check { "Nothing, because the last entry is larger than what a page checks." }
                } @else {
                    p #check { span.good { "✓ " } @if check.first == check.last { "Entry " (check.last) " matches its hash" } @else { "The entries " (check.first) " to " (check.last) " match their hashes and each other" } @if check.first > 1 { ", and the hash that entry " (check.first - 1) " has" } "." }
                }
                p.quiet { @if check.first > 1 { "Earlier entries, the" } @else { "The" } " recorded calls and the file itself were not checked for this page, and AAM does not record when aam verify ran." }
            },
        }
    }
}

fn entries(page: &LedgerPage) -> Markup {
    let (links, all) = (&page.links, if page.is_all { "true" } else { "" });
    html! {
        section #entries {
            h2 { "Entries" }
            ul.chips {
                li { (parts::chip(&format!("Namespace {}", page.namespace), &links.to("/ui/ledger", &[]), !page.is_all)) }
                li { (parts::chip("All that you may read", &links.to("/ui/ledger", &[("all", "true")]), page.is_all)) }
            }
            @if page.entries.is_empty() {
                p { @if page.earlier.is_some() { "The entries that were looked at belong to other namespaces." } @else { "The ledger does not have an entry here." } }
            } @else {
                div.scroll tabindex="0" role="region" aria-label="Entries" {
                    table.ledger {
                        thead { tr { th.number scope="col" { "Entry" } th scope="col" { "Time" } th scope="col" { "What" } th scope="col" { "Connection" } @if page.is_all { th scope="col" { "Namespace" } } th scope="col" { "SHA-256" } } }
                        tbody { @for entry in &page.entries {
                            tr id=(format!("entry-{}", entry.seq)) {
                                td.number { (entry.seq) }
                                td { (parts::time(entry.at)) }
                                td { (entry.text) p.quiet { code { (entry.kind) } } }
                                td { @if let Some((id, name)) = &entry.connection { a data-row href=(links.connection(id)) { (name) } } }
                                @if page.is_all { td { @if entry.namespace.is_empty() { span.quiet { "whole registry" } } @else { (entry.namespace) } } }
                                td { code title=(entry.hash) { (entry.hash.get(..12).unwrap_or(&entry.hash)) } }
                            }
                        } }
                    }
                }
            }
            p.ref-pages {
                @if !page.is_newest { a rel="prev" href=(format!("{}#entries", links.to("/ui/ledger", &[("all", all)]))) { "Newest entries" } " " }
                @if let Some(before) = page.earlier { a rel="next" href=(format!("{}#entries", links.to("/ui/ledger", &[("before", before.to_string().as_str()), ("all", all)]))) { "Earlier entries" } }
            }
        }
    }
}

/// Says what an entry records, in one sentence.
#[must_use]
pub fn sentence(entry: &Entry) -> String {
    if let Some(event) = history::event(entry) {
        return event.event;
    }
    match &entry.fact {
        Fact::AttemptBegun { scope, why, .. } => format!("attempt began ({}): {}", scope.as_str(), why.message()),
        Fact::DepartureConfirmed { by, .. } => format!("confirmed by {by}: the connection may leave"),
        Fact::PolicyAccepted { policy } => format!("policy {} came into force", policy.short()),
        Fact::HandoffReceived(facts) => format!(
            "{} received from token {} (run {}): {} accepted, {} rejected",
            number(facts.received, "candidate"),
            facts.token,
            facts.run,
            facts.accepted,
            facts.rejected
        ),
        Fact::NamespaceSealed { documents } => {
            format!("namespace sealed after {}; it accepts nothing more", number(*documents, "intent"))
        }
        Fact::PolicyRejected { problems, .. } => format!("the policy file is not valid: {}", recorded(problems)),
        Fact::IntentProblems { file, problems } if problems.total == 0 => format!("{file} is valid again"),
        Fact::IntentProblems { file, problems } => format!("{file} is not valid: {}", recorded(problems)),
        Fact::CredentialExpiring { title, .. } => title.clone(),
        Fact::WebhookStarted { webhook } => format!("webhook {webhook} receives what happens from here on"),
        Fact::WebhookDelivered { webhook, events, up_to, .. } => {
            format!("webhook {webhook} received {} up to entry {up_to}", number(*events, "event"))
        }
        Fact::WebhookStopped { webhook, reason } if reason.is_empty() => {
            format!("webhook {webhook} stopped, because the policy does not name it any more")
        }
        Fact::WebhookStopped { webhook, reason } => format!("webhook {webhook} stopped: {reason}"),
        Fact::CallsRecorded { calls, .. } => format!("recorded calls up to batch {}", calls.batch),
        Fact::CallsArchived(archived) => format!("recorded calls up to batch {} archived in {}", archived.last, archived.file),
        Fact::StepsArchived(archived) => {
            format!("step reports up to entry {} archived in {}", archived.last, archived.file)
        }
        Fact::RegistryCopied { rows, head } => format!("copied {rows} entries from a registry that ended with {head}"),
        Fact::ChainsAnchored { chains } => format!("anchored the ends of {}", counted(chains.len(), "chain")),
        Fact::CallsDropped { calls, before, .. } => {
            format!("recorded calls up to batch {} dropped, because they are from before {before}", calls.batch)
        }
        // The others are events of a connection.
        _ => parts::readable(entry.fact.kind()),
    }
}

fn number(count: u32, noun: &str) -> String {
    counted(usize::try_from(count).unwrap_or(usize::MAX), noun)
}

fn recorded(problems: &RecordedProblems) -> String {
    let first = problems.first.first().map(|problem| format!(", first: {}", problem.message)).unwrap_or_default();
    format!("{}{first}", counted(problems.total, "problem"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CallsAnchor, Digest, Problem};

    #[test]
    fn every_kind_of_entry_has_a_sentence() {
        let anchor = CallsAnchor { batch: 7, hash: Digest::default() };
        let problems = RecordedProblems::new(&[Problem::new("/allowlist", "the allowlist is missing")]);
        let file = "a.json".to_string();
        for (fact, expected) in [
            (Fact::NamespaceSealed { documents: 1 }, "namespace sealed after 1 intent; it accepts nothing more"),
            (Fact::IntentProblems { file: file.clone(), problems: RecordedProblems::default() }, "a.json is valid again"),
            (Fact::IntentProblems { file, problems }, "a.json is not valid: 1 problem, first: the allowlist is missing"),
            (Fact::CallsRecorded { calls: anchor, chains: Vec::new() }, "recorded calls up to batch 7"),
            (Fact::ConnectionRetired, "retired, because no intent asks for it any more"),
        ] {
            let entry = Entry { seq: 1, at: Timestamp(0), namespace: String::new(), connection: None, fact };
            assert_eq!(sentence(&entry), expected);
        }
    }

    #[test]
    fn a_check_claims_only_what_it_checked() {
        let text = |first, last, broken: Option<(u64, String)>| check(&NewestCheck { first, last, broken }).into_string();
        let some = text(5, 9, None);
        assert!(some.contains("5 to 9 match") && some.contains("Earlier entries, the recorded calls and the file"), "{some}");
        assert!(!text(1, 9, None).contains("Earlier entries"));
        assert!(text(10, 9, None).contains("Nothing, because"));
        let broken = text(5, 9, Some((7, "it is missing".to_string())));
        assert!(broken.contains("Entry 7 does not match") && broken.contains("5 to 6") && !broken.contains("✓"), "{broken}");
    }
}
