//! Partial success of discovery: some streams cannot be read, and the connection works with the others. The warning and
//! the evidence name every missing permission, so that no surface has to read the catalog for it.

use super::Job;
use crate::model::catalog::SkippedStream;
use crate::model::{Catalog, Class, Failure};
use serde_json::{Value, json};

/// The maximum number of streams that the evidence and the warning list.
const MAX_LISTED: usize = 50;

/// Returns the streams that the source refused, in the order of the catalog.
fn refused(catalog: &Catalog) -> impl Iterator<Item = (&SkippedStream, Class)> {
    catalog.skipped.iter().filter_map(|skipped| Some((skipped, skipped.class?)))
}

/// Returns each missing permission once, as the source names it.
fn missing(catalog: &Catalog) -> Vec<&str> {
    let mut names: Vec<&str> = refused(catalog).filter_map(|(skipped, _)| skipped.missing.as_deref()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Returns the warning of the discover step if the source refused some of the streams.
pub(super) fn warning(catalog: &Catalog, job: &Job) -> Option<Failure> {
    let count = refused(catalog).count();
    let (_, first) = refused(catalog).next()?;
    let class = if refused(catalog).any(|(_, class)| class == Class::PermissionDenied) { Class::PermissionDenied } else { first };
    let total = catalog.streams.len() + catalog.skipped.len();
    let verb = if count == 1 { "is" } else { "are" };
    let title = |what: &str| format!("{count} of {total} streams {verb} not readable: {what}");
    let missing = missing(catalog);
    let names: Vec<&str> = refused(catalog).map(|(skipped, _)| skipped.name.as_str()).take(MAX_LISTED).collect();
    let least = job.sources.family(&job.intent.source_type).map(|family| family.least_privilege.as_str()).unwrap_or_default();
    let failure = match missing.as_slice() {
        [] => {
            let fix = format!(
                "see the detail; if {} needed, give the credential access; least privilege: {least}",
                if count == 1 { "the stream is" } else { "these streams are" }
            );
            Failure::new(class, title(&names.join(", ")), fix)
        }
        missing => {
            let all = missing.join(", ");
            let verb = if missing.len() == 1 { "is" } else { "are" };
            let fix = format!("give the credential {all}, then run aam heal; least privilege: {least}");
            Failure::new(class, title(&format!("{all} {verb} missing")), fix)
        }
    };
    let reasons = refused(catalog).map(|(skipped, _)| format!("{}: {}", skipped.name, skipped.reason)).take(MAX_LISTED);
    Some(failure.detail(reasons.collect::<Vec<_>>().join(" | ")))
}

/// Returns the evidence: each refused stream with its class, its missing permission and the reason, and all missing
/// permissions.
pub(super) fn evidence(catalog: &Catalog) -> Value {
    let streams = refused(catalog).take(MAX_LISTED).map(|(skipped, class)| {
        json!({"stream": skipped.name, "resource": skipped.resource, "class": class, "missing": skipped.missing, "reason": skipped.reason})
    });
    json!({"count": refused(catalog).count(), "missing": missing(catalog), "streams": streams.collect::<Vec<_>>()})
}
