//! What is known about the credential of a connection. Never the credential itself.

use super::super::View;
use super::collect::MAX_BODY_BYTES;
use crate::model::attempt::{ENDING_SECRET, ENDS_AT};
use crate::model::{Class, ConnectionId, Evidence, Locator, MissingFiles, Step, StepReport, Timestamp};
use crate::page::connection::CredentialSection;
use crate::report::result::{ConnectionResult, bounds};
use crate::server::problem::ApiProblem;
use crate::snapshot::Connection;
use serde_json::Value;
use std::collections::BTreeSet;

/// The number of scopes that are shown.
const MAX_SCOPES: usize = 200;

/// What the latest attempt that resolved the credential recorded. Archive files that cannot be read are added to `missing`.
///
/// # Errors
/// 503 if the registry cannot be read.
pub fn section(
    view: &View,
    id: ConnectionId,
    known: &Connection,
    result: &ConnectionResult,
    missing: &mut MissingFiles,
) -> Result<CredentialSection, ApiProblem> {
    let (mut evidence, found_at) = match recorded(view, known, missing)? {
        Some((at, evidence)) => (evidence, Some(at)),
        None => (Evidence::new(), None),
    };
    let mut take = |name: &str| evidence.remove(name);
    let provider = take("provider").and_then(|value| value.as_str().map(str::to_string));
    let scopes = take("scopes").map(|value| scopes(&value)).unwrap_or_default();
    let valid_until = take("valid_until").and_then(|value| Timestamp::parse(value.as_str()?).ok());
    // These are shown on their own.
    for name in ["locator", ENDS_AT, ENDING_SECRET] {
        take(name);
    }
    let ending = known.credential_ending(id, view.as_of());
    Ok(CredentialSection {
        locator: result.credential_locator.as_deref().map(bounds::text),
        provider,
        scopes,
        valid_until,
        ends_at: known.credential_ends_at(),
        ending: ending.map(|warning| (warning.title.to_string(), warning.fix.to_string())),
        facts: bounds::map(evidence),
        found_at,
    })
}

/// The evidence of the credential step of the latest attempt that has some, and when that attempt ended.
fn recorded(view: &View, known: &Connection, missing: &mut MissingFiles) -> Result<Option<(Timestamp, Evidence)>, ApiProblem> {
    let reader = view.app.handle.registry.reader();
    let attempts = [&known.last, &known.conclusive, &known.proven].map(Option::as_ref);
    let mut seen = BTreeSet::new();
    for attempt in attempts.into_iter().flatten().filter(|attempt| seen.insert(attempt.seq)) {
        let body = reader.bodies_left(&[attempt.seq], MAX_BODY_BYTES)?.pop();
        let text = body.and_then(|body| missing.left(body)).unwrap_or_default();
        let steps: Vec<StepReport> = serde_json::from_str(&text).unwrap_or_default();
        let found = steps.into_iter().find(|report| report.step == Step::Credential && !report.evidence.is_empty());
        if let Some(report) = found {
            return Ok(Some((attempt.at, report.evidence)));
        }
    }
    Ok(None)
}

/// Scopes are recorded as a list, or as one text with spaces as the vendor wrote it.
fn scopes(value: &Value) -> Vec<String> {
    let all: Vec<&str> = match value {
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
        Value::String(text) => text.split_whitespace().collect(),
        _ => Vec::new(),
    };
    all.into_iter().take(MAX_SCOPES).map(bounds::text).collect()
}

/// The address of the page on which the owner gives consent, if consent is what the connection waits for. It is the end of the
/// fix, which the provider of consents writes.
pub fn consent_link(result: &ConnectionResult) -> Option<String> {
    let locator = Locator::parse(result.credential_locator.as_deref()?).ok()?;
    let error = result.error.as_ref().filter(|error| error.class == Class::CredentialMissing.as_str())?;
    let Locator::Consent(_) = locator else { return None };
    let last = error.fix.rsplit(' ').next()?;
    let url = url::Url::parse(last).ok()?;
    (matches!(url.scheme(), "http" | "https") && url.path().contains("/consent/")).then(|| url.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn scopes_are_read_in_both_forms() {
        assert_eq!(scopes(&json!(["a", "b"])), ["a", "b"]);
        assert_eq!(scopes(&json!("a  b")), ["a", "b"]);
        assert!(scopes(&json!(7)).is_empty());
    }
}
