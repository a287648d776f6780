//! The seven steps of an attempt, with their durations as bars and their evidence.

use super::{ConnectionDetails, evidence, failure};
use crate::model::text::counted;
use crate::model::{MissingFile, Scope, Timestamp};
use crate::page::parts;
use crate::report::result::StepBody;
use maud::{Markup, html};

/// The width of the bars in units of the drawing.
const BAR_UNITS: u64 = 1000;

/// The steps of one attempt.
#[derive(Clone, Debug)]
pub struct StepsSection {
    /// `None` if no attempt has finished yet.
    pub attempt: Option<AttemptHead>,
    /// Whether it is the latest attempt.
    pub is_latest: bool,
    pub steps: Vec<StepBody>,
    /// The archive files that are missing, so that the steps are not shown.
    pub missing: Vec<MissingFile>,
}

/// What is known of an attempt as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptHead {
    /// The entry of the ledger with its outcome.
    pub seq: u64,
    pub began: Timestamp,
    pub ended: Timestamp,
    pub scope: Scope,
    /// The generation of the intent that it was made with.
    pub generation: u32,
    /// The beginning of the digest of the policy that was in force.
    pub policy: String,
    pub passed: bool,
}

pub(super) fn section(details: &ConnectionDetails) -> Markup {
    let StepsSection { attempt, is_latest, steps, missing } = &details.steps;
    let longest = steps.iter().map(|step| step.duration_ms).max().unwrap_or(0);
    html! {
        section id="steps" aria-labelledby="steps-title" {
            h2 id="steps-title" { "Steps" }
            @if let Some(attempt) = attempt { (head(attempt, *is_latest, details)) }
            @for file in missing { (not_shown(file)) }
            @if steps.is_empty() && !missing.is_empty() {
            } @else if steps.is_empty() {
                p.quiet { @if attempt.is_some() { "The steps of this attempt are too large to be shown; GET /connections/{id}/versions returns them." } @else { "No attempt has finished yet." } }
            } @else {
                ol.pipeline { @for step in steps { (row(step, longest, &details.family_title)) } }
            }
        }
    }
}

/// Says which archive file is missing, and how to get it back.
fn not_shown(file: &MissingFile) -> Markup {
    html! { p.warn { "! " (file.message) "." } (parts::fix(&file.fix)) }
}

fn head(attempt: &AttemptHead, is_latest: bool, details: &ConnectionDetails) -> Markup {
    html! {
        p.quiet {
            @if is_latest { "The latest recorded attempt, " } @else { "An earlier attempt, " }
            @match attempt.scope { Scope::Full => { "all steps" }, Scope::Health => { "a health check" } }
            @if attempt.passed { ", passed, " } @else { ", failed, " }
            "entry " (attempt.seq) " of the ledger: began " (parts::time(attempt.began)) " and took "
            (duration(attempt.ended.since(attempt.began).as_millis())) ", for generation " (attempt.generation) " of the intent, under policy " code { (attempt.policy) } "."
            @if !is_latest { " " a href=(details.section_link("steps", &[])) { "Show the latest attempt" } }
        }
    }
}

/// Formats a duration of `ms` milliseconds.
pub(super) fn duration(ms: u128) -> String {
    match ms {
        0..=9_999 => format!("{ms} ms"),
        _ => format!("{} s", ms / 1000),
    }
}

fn row(step: &StepBody, longest: u64, family_title: &str) -> Markup {
    let (symbol, tone) = symbol(&step.status);
    let ran = step.status != "skipped";
    html! {
        li id=(format!("step-{}", step.step)) {
            div.step {
                span.name { span.(tone) aria-hidden="true" { (symbol) } " " strong { (parts::readable(&step.step)) } " " span.(tone) { (step.status) } }
                span.ms { @if ran { (duration(u128::from(step.duration_ms))) } }
                @if ran { (bar(step.duration_ms, longest, tone)) }
            }
            p.quiet { (about(&step.step)) }
            @if let Some(reason) = &step.reason { p.quiet { "Skipped: " (reason) } }
            @if let Some(error) = &step.failure { (failure(error, family_title)) }
            @if !step.evidence.is_empty() {
                details id=(format!("evidence-{}", step.step)) open[step.status == "failed"] {
                    summary { "Evidence, " (counted(step.evidence.len(), "fact")) }
                    (evidence::list(&step.evidence))
                }
            }
        }
    }
}

/// Renders a duration as a bar. The longest one has the full width. The number next to it says the same.
fn bar(ms: u64, longest: u64, tone: &str) -> Markup {
    let width = ms.saturating_mul(BAR_UNITS).checked_div(longest).unwrap_or(0).clamp(2, BAR_UNITS);
    html! {
        svg.bar viewBox={ "0 0 " (BAR_UNITS) " 10" } preserveAspectRatio="none" aria-hidden="true" focusable="false" {
            rect.track x="0" y="0" width=(BAR_UNITS) height="10" {}
            rect.{ (tone) "-bar" } x="0" y="0" width=(width) height="10" {}
        }
    }
}

fn symbol(status: &str) -> (&'static str, &'static str) {
    match status {
        "passed" => ("✓", "good"),
        "warned" => ("!", "warn"),
        "failed" => ("✕", "bad"),
        _ => ("–", "calm"),
    }
}

/// What a step does, in one sentence.
fn about(step: &str) -> &'static str {
    match step {
        "allowlist" => "Checks that the policy lists the family and that the intent is eligible.",
        "credential" => "Resolves the locator to a credential, if the source needs one.",
        "upsert" => "Opens the source and checks that it is the one that the resource id names.",
        "discover" => "Reads the structure of the source, which is metadata only.",
        "health" => "Makes a request that only the expected system can answer.",
        "tiny_sync" => "Reads a few items and counts them.",
        "registry" => "Records the outcome in the ledger.",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_stay_within_the_drawing() {
        for (ms, longest, width) in [(0, 0, 2), (5, 0, 2), (1, 4, 250), (4, 4, 1000), (u64::MAX, 1, 1000), (0, 9, 2)] {
            let html = bar(ms, longest, "good").into_string();
            assert!(html.contains(&format!("class=\"good-bar\" x=\"0\" y=\"0\" width=\"{width}\"")), "{ms}/{longest}: {html}");
        }
    }
}
