//! The step report of one attempt, as text. The same value is the row, the JSON answer and the page.

use crate::model::{Evidence, StepReport, StepStatus};
use serde_json::Value;
use std::fmt::Write;

/// One line for each step, and the words of whatever failed or should be mended.
#[must_use]
pub fn steps(reports: &[StepReport]) -> String {
    let mut text = String::new();
    for report in reports {
        let (word, failure) = match &report.status {
            StepStatus::Passed => ("ok", None),
            StepStatus::Warned { failure } => ("warn", Some(failure)),
            StepStatus::Failed { failure } => ("FAIL", Some(failure)),
            StepStatus::Skipped { .. } => ("-", None),
        };
        let told = match &report.status {
            StepStatus::Skipped { reason } => reason.clone(),
            _ => evidence(&report.evidence),
        };
        let duration = if word == "-" { String::new() } else { format!("{} ms", report.duration_ms) };
        let _ = writeln!(text, "{}", format!("  {word:<5}{:<11}{duration:>8}  {told}", report.step.as_str()).trim_end());
        if let Some(failure) = failure {
            // A warning is no failure: its class would read like one.
            let class = if word == "FAIL" { format!(" ({})", failure.class.as_str()) } else { String::new() };
            let _ = writeln!(text, "       what: {}{class}", failure.title);
            if !failure.detail.is_empty() {
                let _ = writeln!(text, "       said: {}", failure.detail);
            }
            if !failure.fix.is_empty() {
                let _ = writeln!(text, "       fix:  {}", failure.fix);
            }
        }
    }
    text
}

/// Small facts on one line: `version 15.3, database shop`. Nested values are left to the JSON form.
fn evidence(evidence: &Evidence) -> String {
    let mut words = Vec::new();
    for (key, value) in evidence {
        match value {
            Value::String(text) if !text.is_empty() => words.push(format!("{key} {text}")),
            Value::Number(number) => words.push(format!("{key} {number}")),
            Value::Bool(true) => words.push(key.clone()),
            Value::Object(privilege) if key == "privilege" => {
                if let Some(verdict) = privilege.get("verdict").and_then(Value::as_str) {
                    words.push(format!("privilege {verdict}"));
                }
            }
            Value::Object(traffic) if key == "traffic" => {
                words.push(format!(
                    "{} call(s), {} bytes",
                    traffic.get("calls").unwrap_or(&Value::Null),
                    traffic.get("bytes").unwrap_or(&Value::Null)
                ));
            }
            _ => {}
        }
    }
    words.join(", ")
}
