//! The dashboard's page. Pure: data in, markup out; maud escapes every text.

use super::dashboard::{Dashboard, Finding, PolicyInForce};
use crate::model::Digest;
use crate::report::result::{ConnectionResult, StepBody};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use std::sync::LazyLock;

const STYLE: &str = include_str!("dashboard.css");
const SCRIPT: &str = include_str!("dashboard.js");

static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = |text: &str| BASE64_STANDARD.encode(Digest::from_bytes(text.as_bytes()).0);
    format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash(STYLE),
        hash(SCRIPT)
    )
});

/// What the page may load: its own style and script, known by their hashes, and itself again.
#[must_use]
pub fn content_security_policy() -> &'static str {
    &POLICY
}

/// The whole page.
#[must_use]
pub fn render(data: &Dashboard) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (data.funnel.active) "/" (data.funnel.eligible) " active · " (data.namespace) " · AAM" }
                link rel="icon" href="data:,";
                noscript { meta http-equiv="refresh" content="10"; }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { "AAM " span.quiet { (data.namespace) } }
                    p.quiet {
                        "data source: " strong { (data.data_source) }
                        " · as of " (time(&data.as_of))
                        @if !data.ready { " · " strong { "not ready" } }
                    }
                }
                main #main {
                    (banners(data))
                    (numbers(data))
                    (blockers(data))
                    (connections(data))
                    (problems(data))
                    (policy(&data.policy))
                }
                footer.quiet { "aam " (data.version) " · read-only by construction · the same data as JSON: " code { "/dashboard.json" } }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    }
}

fn banners(data: &Dashboard) -> Markup {
    html! {
        @if !data.trouble.is_empty() {
            section.banner role="alert" {
                h2 { "✕ The registry cannot write" }
                p { (data.trouble) }
            }
        }
        @if let Some(rejected) = &data.policy.rejected {
            section.banner role="alert" {
                h2 { "✕ The policy file is refused; the last good policy stays in force" }
                p { "Refused at " (time(&rejected.at)) ": " code { (data.policy.file) } }
                (findings(&rejected.problems))
            }
        }
    }
}

fn numbers(data: &Dashboard) -> Markup {
    let funnel = &data.funnel;
    let main = [
        ("Received", funnel.received),
        ("Eligible", funnel.eligible),
        ("Reachable", funnel.reachable),
        ("Active", funnel.active),
    ];
    let rest = [
        ("Pending", funnel.pending),
        ("Awaiting credentials", funnel.awaiting_credentials),
        ("Network blocked", funnel.network_blocked),
        ("Healing", funnel.healing),
        ("Error", funnel.error),
        ("Unsupported type", funnel.unsupported_type),
        ("Rejected", funnel.rejected),
    ];
    // The first four lines are the summary; the blockers after them have a section of their own.
    let lines = funnel.summary.iter().take(4);
    html! {
        section aria-labelledby="summary" {
            h2 #summary {
                @if funnel.slo_met { span.good { "✓ Service level met" } } @else { span.bad { "✕ Service level not met" } }
            }
            dl.stages { @for (name, value) in main { div { dt { (name) } dd { (value) } } } }
            dl.stages.small { @for (name, value) in rest { div.zero[value == 0] { dt { (name) } dd { (value) } } } }
            pre.summary { @for line in lines { (line) "\n" } }
            @if data.attempts_in_flight > 0 { p.quiet { (data.attempts_in_flight) " attempts run right now." } }
        }
    }
}

fn blockers(data: &Dashboard) -> Markup {
    html! {
        @if !data.funnel.blockers.is_empty() {
            section aria-labelledby="blockers" {
                h2 #blockers { "What blocks the rest" }
                ol.blockers {
                    @for blocker in data.funnel.blockers.iter().take(20) {
                        li {
                            p { strong { (blocker.count) " ×" } " " (blocker.name) }
                            @if !blocker.fix.is_empty() { p.fix { (blocker.fix) } }
                        }
                    }
                }
                @if data.funnel.blockers.len() > 20 { p.quiet { "and " (data.funnel.blockers.len() - 20) " more kinds" } }
            }
        }
    }
}

fn connections(data: &Dashboard) -> Markup {
    let shown = data.connections.len();
    html! {
        section aria-labelledby="connections" {
            h2 #connections { "Connections " span.quiet { (data.total) } }
            @if shown == 0 {
                p.quiet { "None yet. Put a connection_intent into the intents folder, or push one to /connections/onboard." }
            } @else {
                @if shown < data.total { p.quiet { "The first " (shown) " of " (data.total) ", those that need a person first. All of them: GET /connections." } }
                div.scroll tabindex="0" role="region" aria-label="Connections" {
                    table {
                        thead { tr { th scope="col" { "State" } th scope="col" { "System" } th scope="col" { "What is known" } th scope="col" { "Steps" } th scope="col" { "Last looked at" } } }
                        tbody { @for result in &data.connections { (row(result)) } }
                    }
                }
            }
        }
    }
}

fn row(result: &ConnectionResult) -> Markup {
    let (symbol, tone) = symbol(&result.status);
    html! {
        tr {
            td.state { span class=(tone) { span aria-hidden="true" { (symbol) " " } (words(&result.status)) } @if result.checking { br; span.quiet { "checking now" } } }
            td {
                strong { (result.source_type) }
                ul.plain { @for id in result.resource_ids.iter().take(5) { li { code { (id) } } } @if result.resource_ids.len() > 5 { li.quiet { "and " (result.resource_ids.len() - 5) " more" } } }
                @if let Some(owner) = &result.owner { p.quiet { "owner " (owner.user) } }
            }
            td {
                p { (result.message) }
                @if let Some(error) = &result.error {
                    @if !error.fix.is_empty() { p.fix { (error.fix) } }
                    @if !error.detail.is_empty() { details id=(format!("d-{}", result.connection_id)) { summary { "In the source's own words" } p { code { (error.detail) } } } }
                }
                @for warning in &result.warnings { p.warn { "! " code { (warning.pointer) } " " (warning.message) @if !warning.hint.is_empty() { " — " (warning.hint) } } }
            }
            td { @if let Some(steps) = &result.steps { (step_list(steps)) } }
            td.when { (time(&result.updated_at)) }
        }
    }
}

fn step_list(steps: &[StepBody]) -> Markup {
    html! {
        @if steps.is_empty() { span.quiet { "none yet" } } @else {
            ol.steps {
                @for step in steps {
                    @let (symbol, tone) = step_symbol(&step.status);
                    li { span class=(tone) aria-hidden="true" { (symbol) } " " (words(&step.step)) " " span.quiet { (step.status) @if step.status != "skipped" { " · " (step.duration_ms) " ms" } } }
                }
            }
        }
    }
}

fn problems(data: &Dashboard) -> Markup {
    html! {
        @if data.problems_total > 0 {
            section aria-labelledby="problems" {
                h2 #problems { "Problems of the intents folder " span.quiet { (data.problems_total) } }
                p.quiet { "Connections of a file that cannot be read are held as they are." }
                (findings(&data.problems))
                @if data.problems.len() < data.problems_total { p.quiet { "and " (data.problems_total - data.problems.len()) " more; aam check prints all of them" } }
            }
        }
    }
}

fn findings(all: &[Finding]) -> Markup {
    html! {
        ul.findings {
            @for finding in all {
                li {
                    @if !finding.file.is_empty() { code { (finding.file) @if let (Some(line), Some(column)) = (finding.line, finding.column) { ":" (line) ":" (column) } } " " }
                    @if !finding.pointer.is_empty() { code { (finding.pointer) } " " }
                    (finding.message)
                    @if !finding.hint.is_empty() { p.fix { (finding.hint) } }
                }
            }
        }
    }
}

fn policy(policy: &PolicyInForce) -> Markup {
    html! {
        section aria-labelledby="policy" {
            h2 #policy { "Policy in force" }
            dl.pairs {
                dt { "File" } dd { code { (policy.file) } }
                dt { "SHA-256" } dd { code.long { (policy.digest) } }
                dt { "Accepted" } dd { @match &policy.accepted_at { Some(at) => (time(at)), None => "not recorded yet" } }
                dt { "Allowlist" } dd { (policy.allowlist) " families" }
                dt { "Safe Mode" } dd { "at most " (policy.max_items) " items in a first sync; nothing is ever written" }
            }
        }
    }
}

/// Machine-readable and, to the second, readable by a person.
fn time(rfc3339: &str) -> Markup {
    let plain = rfc3339.split('.').next().unwrap_or(rfc3339).replacen('T', " ", 1);
    html! { time datetime=(rfc3339) { (plain) @if rfc3339.contains('.') { " UTC" } } }
}

/// `AWAITING_CREDENTIALS` reads as `awaiting credentials`.
fn words(word: &str) -> String {
    word.to_lowercase().replace('_', " ")
}

fn symbol(status: &str) -> (&'static str, &'static str) {
    match status {
        "ACTIVE" => ("✓", "good"),
        "PENDING" => ("…", "calm"),
        "HEALING" => ("↻", "warn"),
        "AWAITING_CREDENTIALS" => ("?", "warn"),
        "NETWORK_BLOCKED" => ("⊘", "bad"),
        "ERROR" => ("✕", "bad"),
        "RETIRED" => ("–", "calm"),
        _ => ("○", "calm"),
    }
}

fn step_symbol(status: &str) -> (&'static str, &'static str) {
    match status {
        "passed" => ("✓", "good"),
        "warned" => ("!", "warn"),
        "failed" => ("✕", "bad"),
        _ => ("–", "calm"),
    }
}
