//! What a new policy would change, and for which connections.
//!
//! Pure: the caller passes the connections of the registry. The lines are meant for the pull request that changes the
//! policy, so the changes with the widest effect come first.

mod airbyte;
mod change;
mod credentials;
mod markdown;
mod oidc;
mod places;
mod reach;
mod rules;
mod tokens;
mod wording;

use super::grants::Rights;
use super::{LoadedPolicy, Policy};
use crate::model::text::counted;
use crate::model::{ConnectionId, Digest, Locator, Origin, Risk, State};
pub use change::{CONNECTIONS, Change, Changes, Effect, Parts, Verdict};
pub use markdown::markdown;
pub use rules::{RULES, Rule};
use std::collections::BTreeMap;
use wording::{Live, pages, settings};

/// What `diff` needs to know about a connection.
#[derive(Clone, Debug, PartialEq)]
pub struct ConnectionLine {
    pub id: ConnectionId,
    pub namespace: String,
    pub source_type: String,
    pub resource_ids: Vec<String>,
    pub risk: Risk,
    /// Whether AAM knows all values of the intent. Otherwise it is not eligible under any policy.
    pub is_understood: bool,
    pub evidence_status: String,
    /// `owner.confidence`, 0 to 1.
    pub confidence: f64,
    pub state: State,
    /// The origins that desire the document in force, the newest first.
    pub origins: Vec<Origin>,
    pub locator: Option<Locator>,
}

/// Returns the changes, and none if nothing would change.
///
/// `connections` is `None` if the registry cannot be read; the effect on connections is then unknown. Retired
/// connections and those of the namespace `demo`, which no policy applies to, are ignored. `admin` is the digest of the
/// admin token, if it is known.
#[must_use]
pub fn diff(
    was: &LoadedPolicy,
    is: &LoadedPolicy,
    connections: Option<&[ConnectionLine]>,
    admin: Option<&Digest>,
) -> Vec<Change> {
    let (old, new) = (&*was.policy, &*is.policy);
    let live = Live::new(connections);
    let mut out = Changes::default();
    allowlist(old, new, &live, &mut out);
    eligibility(old, new, &live, &mut out);
    reach::network(old, new, &mut out);
    reach::weak_logins(old, new, &mut out);
    reach::roots(old, new, &live, &mut out);
    reach::families(old, new, &live, &mut out);
    super::manifests::diff(&old.manifests, &new.manifests, &mut out);
    reach::manifest_files(was, is, &mut out);
    airbyte::airbyte(old, new, &live, &mut out);
    reach::caps(old, new, &mut out);
    settings(old, new, &mut out);
    pages(old, new, &mut out);
    tokens::tokens(old, new, admin, &mut out);
    oidc::oidc(old, new, &mut out);
    credentials::credentials(old, new, &live, &mut out);
    places::places(&old.credentials, &new.credentials, &live, &mut out);
    super::notify::diff(&old.notify, &new.notify, &mut out);
    rules::undescribed(old, new, &mut out);
    rechecked(was, is, &live, &mut out);
    out.0
}

/// Applies the rules that the pipeline applies after the allowlist.
fn eligible(policy: &Policy, line: &ConnectionLine) -> bool {
    let rules = &policy.eligibility;
    line.is_understood
        && rules.accepts(&line.evidence_status)
        && line.risk <= rules.max_risk
        && line.confidence >= rules.min_confidence
}

fn allowlist(old: &Policy, new: &Policy, live: &Live<'_>, out: &mut Changes) {
    for family in old.allowlist.difference(&new.allowlist) {
        let affected = live.of_family(family);
        let effect = live.effect(&affected, "becomes UNSUPPORTED", "become UNSUPPORTED");
        out.add_with("allowlist", Effect::Narrower, format!("{family} removed from the allowlist"), &effect);
    }
    for family in new.allowlist.difference(&old.allowlist) {
        let (accepted, refused): (Vec<_>, Vec<_>) = live.of_family(family).into_iter().partition(|line| eligible(new, line));
        let mut effect = live.effect(&accepted, "would be tried", "would be tried");
        if !refused.is_empty() {
            effect.push_str(&format!("; {}", live.effect(&refused, "would be REJECTED", "would be REJECTED")));
        }
        out.add_with("allowlist", Effect::Wider, format!("{family} added to the allowlist"), &effect);
    }
}

/// One line for each rule that changed, with the connections for which this rule decides differently.
fn eligibility(old: &Policy, new: &Policy, live: &Live<'_>, out: &mut Changes) {
    let (was, is) = (&old.eligibility, &new.eligibility);
    let mut rule = |key: &str,
                    effect: Effect,
                    title: String,
                    reason: String,
                    before: &dyn Fn(&ConnectionLine) -> bool,
                    after: &dyn Fn(&ConnectionLine) -> bool| {
        let allowed =
            |line: &ConnectionLine| old.allowlist.contains(&line.source_type) && new.allowlist.contains(&line.source_type);
        let both = live.select(allowed);
        let refused: Vec<_> = both.iter().copied().filter(|line| eligible(old, line) && before(line) && !after(line)).collect();
        let accepted: Vec<_> = both.iter().copied().filter(|line| eligible(new, line) && !before(line) && after(line)).collect();
        let mut parts = Vec::new();
        if !refused.is_empty() || accepted.is_empty() {
            let verb = format!("{reason} would be REJECTED");
            parts.push(live.effect(&refused, &verb, &verb));
        }
        if !accepted.is_empty() {
            parts.push(live.effect(&accepted, "would be tried", "would be tried"));
        }
        out.add_with(key, effect, title, &parts.join("; "));
    };
    if was.max_risk != is.max_risk {
        let reason = format!("with risk above {}", is.max_risk);
        rule(
            "eligibility.max_risk",
            Effect::raised(&was.max_risk, &is.max_risk),
            format!("max_risk changes from {} to {}", was.max_risk, is.max_risk),
            reason,
            &|line| line.risk <= was.max_risk,
            &|line| line.risk <= is.max_risk,
        );
    }
    if was.min_confidence != is.min_confidence {
        let reason = format!("with an owner confidence below {}", is.min_confidence);
        let title = format!("min_confidence changes from {} to {}", was.min_confidence, is.min_confidence);
        rule(
            "eligibility.min_confidence",
            Effect::raised(&is.min_confidence, &was.min_confidence),
            title,
            reason,
            &|line| line.confidence >= was.min_confidence,
            &|line| line.confidence >= is.min_confidence,
        );
    }
    if was.evidence != is.evidence {
        let (had, has) = (was.evidence.join(", "), is.evidence.join(", "));
        let (before, after) = (
            |line: &ConnectionLine| was.accepts(&line.evidence_status),
            |line: &ConnectionLine| is.accepts(&line.evidence_status),
        );
        let effect = Effect::wider_if(is.evidence.iter().any(|status| !was.accepts(status)));
        let title = format!("accepted evidence changes from [{had}] to [{has}]");
        rule("eligibility.evidence", effect, title, "with other evidence".to_string(), &before, &after);
    }
}

/// The daemon checks connections again whose part of the policy changed and that are still allowed.
fn rechecked(old: &LoadedPolicy, new: &LoadedPolicy, live: &Live<'_>, out: &mut Changes) {
    let (rights_before, rights_after) = (Rights::new(&old.policy), Rights::new(&new.policy));
    let affected = live.select(|line| {
        let family = line.source_type.as_str();
        let locator = line.locator.as_ref().map(ToString::to_string);
        let inputs = |loaded: &LoadedPolicy, rights: &Rights| {
            let inputs = rights.add_to(loaded.slice(family), line.origins.iter());
            loaded.policy.credentials.add_definition(inputs, locator.as_deref())
        };
        new.policy.allowlist.contains(family) && inputs(old, &rights_before) != inputs(new, &rights_after)
    });
    let mut by_family: BTreeMap<&str, usize> = BTreeMap::new();
    for line in &affected {
        *by_family.entry(line.source_type.as_str()).or_default() += 1;
    }
    if !affected.is_empty() {
        let parts: Vec<String> = by_family.iter().map(|(family, count)| format!("{count} {family}")).collect();
        let text = format!("{} would be checked again at once: {}", counted(affected.len(), "connection"), parts.join(", "));
        out.add(CONNECTIONS, Effect::Neutral, text);
    }
}

#[cfg(test)]
mod tests;
