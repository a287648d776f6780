//! The call that proves the identity of a resource, or the next one if the credential is not allowed to make it.

use super::family_spec::Identity;
use super::host::KeptResponse;
use super::identity;
use super::open::{Resource, json};
use crate::model::attempt::ENDS_AT;
use crate::model::{Class, Evidence, Failure, Timestamp};
use serde_json::Value as Json;
use std::sync::{Arc, PoisonError};

/// What proves the identity of a resource.
pub(super) struct Proof {
    pub record: Json,
    pub kept: Option<Arc<KeptResponse>>,
    pub evidence: Evidence,
}

impl Resource {
    /// Makes the calls of `rule` until one of them is allowed, and compares its response with the resource id.
    ///
    /// # Errors
    /// Returns the failure of a call that says more than that this call is not allowed, the errors of [`identity::prove`], and
    /// if no call is allowed, the failure of the one that needs the least.
    pub(super) async fn proof(&self, rule: &Identity) -> Result<Proof, Failure> {
        let mut refused = Vec::new();
        for rule in rule.calls() {
            let (record, kept) = match self.probe(&rule.stream).await {
                Ok(read) => read,
                Err(failure) if matches!(failure.class, Class::PermissionDenied | Class::NotFound) => {
                    refused.push(failure);
                    continue;
                }
                Err(failure) => return Err(failure),
            };
            let record = record.as_ref().map(json).unwrap_or(Json::Null);
            let response = kept.as_deref().map(|kept| &kept.response);
            let binding = &self.binding;
            let found = (&record, response);
            let mut evidence = identity::prove(rule, found, &binding.parts, &binding.title, &binding.base_url)?;
            if let Some(end) = rule.ends.as_deref().and_then(|pointer| end(record.pointer(pointer)?.as_str()?)) {
                evidence.insert(ENDS_AT.to_string(), end.rfc3339().into());
            }
            if !rule.streams.is_empty() {
                *self.proven_streams.lock().unwrap_or_else(PoisonError::into_inner) = Some(rule.streams.clone());
            }
            return Ok(Proof { record, kept, evidence });
        }
        let none = || Failure::new(Class::Bug, "the family has no identity call", "report this as a defect of AAM");
        Err(most_useful(refused).unwrap_or_else(none))
    }
}

/// Returns the failure to show if no call was allowed. A missing permission can be granted, so it is shown before a resource
/// that was not found; and the calls after the first one need less.
fn most_useful(refused: Vec<Failure>) -> Option<Failure> {
    let (denied, others): (Vec<_>, Vec<_>) = refused.into_iter().partition(|failure| failure.class == Class::PermissionDenied);
    denied.into_iter().take(2).last().or(others.into_iter().next())
}

/// Parses the end of a credential, which is a time or a day. A credential that ends on a day is not valid on that day.
fn end(text: &str) -> Option<Timestamp> {
    Timestamp::parse(text).or_else(|_| Timestamp::parse(&format!("{text}T00:00:00Z"))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_failure_of_the_call_that_needs_least_is_shown() {
        let failure = |class, title: &str| Failure::new(class, title.to_string(), "fix");
        let shown = |failures: &[(Class, &str)]| {
            let failures = failures.iter().map(|(class, title)| failure(*class, title)).collect();
            most_useful(failures).map(|failure| failure.title.to_string())
        };
        assert_eq!(shown(&[]), None);
        let (denied, absent) = (Class::PermissionDenied, Class::NotFound);
        assert_eq!(shown(&[(denied, "org"), (denied, "users"), (denied, "groups")]).as_deref(), Some("users"));
        assert_eq!(shown(&[(absent, "project"), (absent, "group")]).as_deref(), Some("project"));
        assert_eq!(shown(&[(absent, "project"), (denied, "group")]).as_deref(), Some("group"));
    }

    #[test]
    fn ends_are_times_or_days() {
        assert_eq!(end("2026-08-15").map(Timestamp::rfc3339), end("2026-08-15T00:00:00Z").map(Timestamp::rfc3339));
        assert!(end("2026-08-15").is_some());
        for nothing in ["", "never", "2026-13-45", "T00:00:00Z"] {
            assert_eq!(end(nothing), None, "{nothing}");
        }
    }
}
