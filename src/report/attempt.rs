//! Renders the step reports of one attempt as text.

use crate::model::text::counted;
use crate::model::text::printable;
use crate::model::{Evidence, StepReport, StepStatus};
use serde_json::Value;
use std::fmt::Write;

/// Returns one line per step. The line of a step that failed or warned is followed by the problem and its fix.
#[must_use]
pub fn steps(reports: &[StepReport]) -> String {
    let mut text = String::new();
    for report in reports {
        let (status, failure) = match &report.status {
            StepStatus::Passed => ("ok", None),
            StepStatus::Warned { failure } => ("warn", Some(failure)),
            StepStatus::Failed { failure } => ("FAIL", Some(failure)),
            StepStatus::Skipped { .. } => ("-", None),
        };
        // Names and values of a source could contain line feeds.
        let details = match &report.status {
            StepStatus::Skipped { reason } => reason.clone(),
            _ => evidence(&report.evidence),
        };
        let duration = if status == "-" { String::new() } else { format!("{} ms", report.duration_ms) };
        let _ = writeln!(
            text,
            "{}",
            format!("  {status:<5}{:<11}{duration:>8}  {}", report.step.as_str(), printable(&details, &[])).trim_end()
        );
        if let Some(failure) = failure {
            // The class is not shown for a warning, because classes are named after failures.
            let class = if status == "FAIL" { format!(" ({})", failure.class.as_str()) } else { String::new() };
            let _ = writeln!(text, "       problem: {}{class}", printable(&failure.title, &[]));
            if !failure.detail.is_empty() {
                let _ = writeln!(text, "       detail:  {}", printable(&failure.detail, &[]));
            }
            if !failure.fix.is_empty() {
                let _ = writeln!(text, "       fix:     {}", printable(&failure.fix, &[]));
            }
        }
    }
    text
}

/// Formats the evidence on one line, for example `version 15.3, database shop`. Most nested values are left out; the
/// JSON output has them.
fn evidence(evidence: &Evidence) -> String {
    let mut parts = Vec::new();
    for (key, value) in evidence {
        match value {
            Value::String(text) if !text.is_empty() => parts.push(format!("{key} {text}")),
            Value::Number(number) => parts.push(format!("{key} {number}")),
            Value::Bool(true) => parts.push(key.clone()),
            Value::Object(privilege) if key == "privilege" => {
                if let Some(verdict) = privilege.get("verdict").and_then(Value::as_str) {
                    parts.push(format!("privilege {verdict}"));
                }
            }
            Value::Object(traffic) if key == "traffic" => {
                let number =
                    |name: &str| traffic.get(name).and_then(Value::as_u64).and_then(|number| usize::try_from(number).ok());
                parts.extend(number("calls").map(|calls| counted(calls, "call")));
                parts.extend(number("bytes").map(|bytes| counted(bytes, "byte")));
                parts.extend(number("reused").map(|reused| counted(reused, "reused response")));
            }
            _ => {}
        }
    }
    parts.join(", ")
}
