//! The calls that an attempt would make, without making any.

use super::assess;
use crate::connectors::Engines;
use crate::model::{Intent, Origin, PlannedCall};
use crate::policy::LoadedPolicy;
use crate::providers::Providers;

/// Returns every call that an attempt for `intent` may make, and why it would end before its first call, if it would.
/// `aam plan` and `GET /plan` use it.
#[must_use]
pub fn planned_calls(
    engines: &Engines,
    providers: &Providers,
    loaded: &LoadedPolicy,
    intent: &Intent,
    origins: &[Origin],
) -> (Vec<PlannedCall>, Option<String>) {
    let bound = match assess(engines, &loaded.policy, &loaded.sources, intent, origins) {
        Err(failure) => return (Vec::new(), Some(format!("{}; {}", failure.title, failure.fix))),
        Ok(bound) => bound,
    };
    let Ok(resources) = bound.resources() else {
        return (Vec::new(), Some(format!("this version has no connector for {}", bound.family.title)));
    };
    let locator = intent.credential_locator.as_ref();
    let credential = locator.map(|locator| providers.planned_calls(&loaded.policy, locator, &bound.family));
    let mut calls = credential.unwrap_or_default();
    calls.extend(resources.iter().flat_map(|resource| resource.planned_calls()));
    (calls, None)
}
