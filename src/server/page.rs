//! Renders the HTML of the dashboard. Pure; maud escapes all texts.

use super::dashboard::{Dashboard, FileProblem, PolicyInForce};
use crate::funnel::Stage;
use crate::model::Digest;
use crate::model::text::{counted, printable};
use crate::report::result::{ConnectionResult, StepBody, WarningBody};
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

/// Returns a policy that allows only the page's own style and script (by their hashes) and requests to its own origin.
#[must_use]
pub fn content_security_policy() -> &'static str {
    &POLICY
}

/// Returns the page as text. Characters that would change how the text around them is shown are escaped, because names and
/// messages come from sources and callers.
#[must_use]
pub fn text(data: &Dashboard) -> String {
    let page = render(data).into_string();
    printable(&page, &['\n', '\t']).into_owned()
}

/// Renders the page.
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
                    (holds(data))
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
                h2 { "✕ The policy file is not valid; the last valid policy stays in force" }
                p { "Rejected at " (time(&rejected.at)) ": " code { (data.policy.file) } }
                (file_problems(&rejected.problems))
            }
        }
    }
}

/// The changes that are held, first among what a person should decide.
fn holds(data: &Dashboard) -> Markup {
    html! {
        @for hold in &data.holds {
            section.banner role="alert" {
                h2 { "! Held: " (counted(hold.count, "connection")) " would leave at once" }
                p { (hold.message) "." }
                ul.plain {
                    @for held in hold.connections.iter().take(5) {
                        li { strong { (held.source_type) } " " code { (held.resource_ids.join(" ")) } " " span.quiet { (held.reason) } }
                    }
                    @if hold.count > 5 { li.quiet { "and " (hold.count - 5) " more; GET /holds lists them" } }
                }
                p.fix { (hold.fix) }
            }
        }
    }
}

fn numbers(data: &Dashboard) -> Markup {
    let funnel = &data.funnel;
    let (main, rest): (Vec<Stage>, Vec<Stage>) = Stage::ALL.into_iter().partition(|stage| Stage::MAIN.contains(stage));
    // Takes only the first four lines. The blockers, which follow them, have their own section.
    let lines = funnel.summary.iter().take(4);
    html! {
        section aria-labelledby="summary" {
            h2 #summary {
                @if funnel.slo_met { span.good { "✓ Service level met" } } @else { span.bad { "✕ Service level not met" } }
            }
            dl.stages { @for stage in main { div { dt { (stage.label()) } dd { (funnel.count(stage)) } } } }
            dl.stages.small {
                @for stage in rest { div.zero[funnel.count(stage) == 0] { dt { (stage.label()) } dd { (funnel.count(stage)) } } }
            }
            pre.summary { @for line in lines { (line) "\n" } }
            @if funnel.credentials_ending > 0 {
                p.warn { "! " (counted(usize::try_from(funnel.credentials_ending).unwrap_or(usize::MAX), "credential")) " to replace within 14 days." }
            }
            @if data.attempts_in_flight > 0 { p.quiet { (counted(data.attempts_in_flight, "attempt")) " in progress." } }
        }
    }
}

fn blockers(data: &Dashboard) -> Markup {
    html! {
        @if !data.funnel.blockers.is_empty() {
            section aria-labelledby="blockers" {
                h2 #blockers { "Blockers" }
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
                p.quiet { "No connections yet. Put a connection_intent into the intents folder, or push one to POST /connections/onboard." }
            } @else {
                @if shown < data.total { p.quiet { "The " (shown) " most urgent of " (data.total) " connections. GET /connections returns all of them." } }
                div.scroll tabindex="0" role="region" aria-label="Connections" {
                    table {
                        thead { tr { th scope="col" { "State" } th scope="col" { "System" } th scope="col" { "Details" } th scope="col" { "Steps" } th scope="col" { "Last checked" } } }
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
            td.state { span class=(tone) { span aria-hidden="true" { (symbol) " " } (readable(&result.status)) } @if result.checking { br; span.quiet { "checking now" } } }
            td {
                strong { (result.source_type) }
                ul.plain { @for id in result.resource_ids.iter().take(5) { li { code { (id) } } } @if result.resource_ids.len() > 5 { li.quiet { "and " (result.resource_ids.len() - 5) " more" } } }
                @if let Some(owner) = &result.owner { p.quiet { "owner " (owner.user) } }
            }
            td {
                p { (result.message) }
                @if let Some(error) = &result.error {
                    @if !error.fix.is_empty() { p.fix { (error.fix) } }
                    @if !error.detail.is_empty() { details id=(format!("d-{}", result.connection_id)) { summary { "Message from the source" } p { code { (error.detail) } } } }
                }
                @for warning in &result.warnings { (warning_text(warning)) }
            }
            td { @if let Some(steps) = &result.steps { (step_list(steps)) } }
            td.when { (time(&result.updated_at)) }
        }
    }
}

/// Renders a warning. The message of an ACTIVE connection already contains the warnings of its steps, but not their fixes.
fn warning_text(warning: &WarningBody) -> Markup {
    html! {
        @if warning.class.is_some() {
            p.warn { "! " (warning.message) }
            p.fix { (warning.hint) }
        } @else {
            p.warn { "! " code { (warning.pointer) } " " (warning.message) @if !warning.hint.is_empty() { " — " (warning.hint) } }
        }
    }
}

fn step_list(steps: &[StepBody]) -> Markup {
    html! {
        @if steps.is_empty() { span.quiet { "none yet" } } @else {
            ol.steps {
                @for step in steps {
                    @let (symbol, tone) = step_symbol(&step.status);
                    li { span class=(tone) aria-hidden="true" { (symbol) } " " (readable(&step.step)) " " span.quiet { (step.status) @if step.status != "skipped" { " · " (step.duration_ms) " ms" } } }
                }
            }
        }
    }
}

fn problems(data: &Dashboard) -> Markup {
    html! {
        @if data.problems_total > 0 {
            section aria-labelledby="problems" {
                h2 #problems { "Problems in the intents folder " span.quiet { (data.problems_total) } }
                p.quiet { "The connections of a file that cannot be read keep their current state." }
                (file_problems(&data.problems))
                @if data.problems.len() < data.problems_total { p.quiet { "and " (data.problems_total - data.problems.len()) " more; aam check prints all of them" } }
            }
        }
    }
}

fn file_problems(problems: &[FileProblem]) -> Markup {
    html! {
        ul.problems {
            @for problem in problems {
                li {
                    @if !problem.file.is_empty() { code { (problem.file) @if let (Some(line), Some(column)) = (problem.line, problem.column) { ":" (line) ":" (column) } } " " }
                    @if !problem.pointer.is_empty() { code { (problem.pointer) } " " }
                    (problem.message)
                    @if !problem.hint.is_empty() { p.fix { (problem.hint) } }
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
                dt { "Allowlist" } dd { @if policy.allowlist == 1 { "1 family" } @else { (policy.allowlist) " families" } }
                dt { "Safe Mode" } dd { "a first sync reads at most " (counted(usize::try_from(policy.max_items).unwrap_or(usize::MAX), "item")) "; AAM never writes to a source" }
            }
        }
    }
}

/// Renders a `time` element with the full timestamp in its attribute and a text to the second for people.
pub(super) fn time(rfc3339: &str) -> Markup {
    let plain = rfc3339.split('.').next().unwrap_or(rfc3339).replacen('T', " ", 1);
    html! { time datetime=(rfc3339) { (plain) @if rfc3339.contains('.') { " UTC" } } }
}

/// Formats a name for people: `AWAITING_CREDENTIALS` becomes `awaiting credentials`.
pub(super) fn readable(name: &str) -> String {
    name.to_lowercase().replace('_', " ")
}

pub(super) fn symbol(status: &str) -> (&'static str, &'static str) {
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
