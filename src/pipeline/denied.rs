//! Partial success: some streams cannot be read, and the connection works with the others. The warning and the evidence of
//! discovery and of the tiny sync name every missing permission, so that no surface has to read the catalog for it.

use super::Job;
use crate::model::catalog::SkippedStream;
use crate::model::{Class, Failure};
use serde_json::{Value, json};

/// The key of the evidence of a step that names the streams that the source refused.
pub const DENIED: &str = "denied";

/// The maximum number of streams that the evidence and the warning list.
const MAX_LISTED: usize = 50;

/// Returns the streams that the source refused.
fn refused(skipped: &[SkippedStream]) -> impl Iterator<Item = (&SkippedStream, Class)> {
    skipped.iter().filter_map(|skipped| Some((skipped, skipped.class?)))
}

/// Returns each missing permission once, as the source names it.
fn missing(skipped: &[SkippedStream]) -> Vec<&str> {
    let mut names: Vec<&str> = refused(skipped).filter_map(|(skipped, _)| skipped.missing.as_deref()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// The maximum number of different fixes that the warning has.
const MAX_FIXES: usize = 5;

/// Stands for the missing permission in a fix.
const PERMISSION: &str = "\u{f8ff}";

/// Returns what to do about the streams for which `needs_fix` is true, in the terms of each failure: a licence, another
/// version of the API and a permission are not got in the same way. `None` if one of them has no fix of its own.
fn fixes(skipped: &[SkippedStream], needs_fix: &dyn Fn(&SkippedStream) -> bool) -> Option<String> {
    let mut fixes: Vec<(String, Vec<&str>, Vec<&str>)> = Vec::new();
    for (skipped, _) in refused(skipped).filter(|(skipped, _)| needs_fix(skipped)) {
        let (fix, missing) = (skipped.fix.as_deref()?, skipped.missing.as_deref());
        // Two fixes that differ only in the permission are one fix for both permissions.
        let fix = missing.filter(|name| !name.is_empty()).map_or(fix.to_string(), |name| fix.replace(name, PERMISSION));
        match fixes.iter_mut().find(|(known, ..)| *known == fix) {
            Some((_, names, all)) => {
                names.push(&skipped.name);
                all.extend(missing.filter(|name| !all.contains(name)));
            }
            None => fixes.push((fix, vec![&skipped.name], missing.into_iter().collect())),
        }
    }
    let several = fixes.len() > 1;
    let more = fixes.len().saturating_sub(MAX_FIXES);
    let text = |(fix, names, missing): &(String, Vec<&str>, Vec<&str>)| {
        let fix = fix.replace(PERMISSION, &missing.join(", "));
        match several {
            true => format!("{}: {fix}", names.iter().take(MAX_LISTED).copied().collect::<Vec<_>>().join(", ")),
            false => fix,
        }
    };
    let mut texts: Vec<String> = fixes.iter().take(MAX_FIXES).map(text).collect();
    if more > 0 {
        texts.push(format!("and {more} more in the evidence"));
    }
    (!texts.is_empty()).then(|| texts.join(" | "))
}

/// Returns the warning of a step if the source refused some of its `total` streams.
pub(super) fn warning(skipped: &[SkippedStream], total: usize, job: &Job) -> Option<Failure> {
    let family = job.sources.family(&job.intent.source_type);
    warning_with(skipped, total, family.map(|family| family.least_privilege.as_str()).unwrap_or_default())
}

/// Like [`warning`]; `least` is the least privilege of the family.
fn warning_with(skipped: &[SkippedStream], total: usize, least: &str) -> Option<Failure> {
    let count = refused(skipped).count();
    let (_, first) = refused(skipped).next()?;
    let class = if refused(skipped).any(|(_, class)| class == Class::PermissionDenied) { Class::PermissionDenied } else { first };
    let verb = if count == 1 { "is" } else { "are" };
    let title = |what: &str| format!("{count} of {total} streams {verb} not readable: {what}");
    let missing = missing(skipped);
    let names: Vec<&str> = refused(skipped).map(|(skipped, _)| skipped.name.as_str()).take(MAX_LISTED).collect();
    let failure = match missing.as_slice() {
        [] => {
            let needed = if count == 1 { "the stream is" } else { "these streams are" };
            let fix = match fixes(skipped, &|_| true) {
                Some(fixes) => format!("if {needed} needed: {fixes}"),
                None => {
                    format!("see the detail; if {needed} needed, give the credential access; least privilege: {least}")
                }
            };
            Failure::new(class, title(&names.join(", ")), fix)
        }
        missing => {
            let all = missing.join(", ");
            let verb = if missing.len() == 1 { "is" } else { "are" };
            let others = fixes(skipped, &|skipped| skipped.missing.is_none());
            let others = others.map(|fixes| format!("; for what is not missing a permission: {fixes}")).unwrap_or_default();
            // The fix of the failure says how the vendor gives the permission, which its name alone does not.
            let fix = match fixes(skipped, &|skipped| skipped.missing.is_some()) {
                Some(fixes) => format!("{fixes}{others}"),
                None => format!("give the credential {all}, then run aam heal; least privilege: {least}{others}"),
            };
            Failure::new(class, title(&format!("{all} {verb} missing")), fix)
        }
    };
    let reasons = refused(skipped).map(|(skipped, _)| format!("{}: {}", skipped.name, skipped.reason)).take(MAX_LISTED);
    Some(failure.detail(reasons.collect::<Vec<_>>().join(" | ")))
}

/// Returns the evidence: each refused stream with its class, its missing permission and the reason, and all missing
/// permissions.
pub(super) fn evidence(skipped: &[SkippedStream]) -> Value {
    let streams = refused(skipped).take(MAX_LISTED).map(|(skipped, class)| {
        json!({"stream": skipped.name, "resource": skipped.resource, "class": class, "missing": skipped.missing, "reason": skipped.reason, "fix": skipped.fix})
    });
    json!({"count": refused(skipped).count(), "missing": missing(skipped), "streams": streams.collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(name: &str, missing: Option<&str>, fix: Option<&str>) -> SkippedStream {
        let text = |text: Option<&str>| text.map(str::to_string);
        let class = Some(Class::PermissionDenied);
        SkippedStream { class, missing: text(missing), fix: text(fix), ..SkippedStream::new(name, "denied") }
    }

    fn fix(skipped: &[SkippedStream]) -> String {
        warning_with(skipped, 9, "read only").unwrap().fix
    }

    #[test]
    fn the_fix_is_that_of_the_failure() {
        let licence = stream("users", None, Some("buy a licence"));
        assert_eq!(fix(std::slice::from_ref(&licence)), "if the stream is needed: buy a licence");
        let removed = stream("issues", None, Some("use another version"));
        let also = stream("groups", None, Some("buy a licence"));
        let several = [licence.clone(), removed, also];
        assert_eq!(fix(&several), "if these streams are needed: users, groups: buy a licence | issues: use another version");
        let named = [licence, stream("teams", Some("read:org"), Some("grant it"))];
        assert_eq!(fix(&named), "grant it; for what is not missing a permission: buy a licence");
        let scopes = [
            stream("teams", Some("team:read"), Some("add the scope team:read; then aam heal")),
            stream("users", Some("users:read"), Some("add the scope users:read; then aam heal")),
        ];
        assert_eq!(fix(&scopes), "add the scope team:read, users:read; then aam heal");
        let unexplained = [stream("teams", Some("read:org"), None), stream("users", Some("read:user"), None)];
        assert_eq!(fix(&unexplained), "give the credential read:org, read:user, then run aam heal; least privilege: read only");
        let plain = stream("t", None, None);
        assert_eq!(
            fix(&[plain]),
            "see the detail; if the stream is needed, give the credential access; least privilege: read only"
        );
        let many: Vec<SkippedStream> = (0..8).map(|n| stream(&format!("s{n}"), None, Some(&format!("fix {n}")))).collect();
        assert!(fix(&many).ends_with("s4: fix 4 | and 3 more in the evidence"), "{}", fix(&many));
    }
}
