//! Changes in which namespace may send which credential.

use super::super::Policy;
use super::super::grants::{CredentialUse, LocatorPattern, judge};
use super::ConnectionLine;
use super::change::{CONNECTIONS, Changes, Effect};
use super::wording::Live;
use std::collections::{BTreeMap, BTreeSet};

/// The changes of `credentials.namespaces`, and the connections that gain or lose their credential.
pub fn credentials(old: &Policy, new: &Policy, live: &Live<'_>, out: &mut Changes) {
    let (was, is) = (&old.credentials.namespaces, &new.credentials.namespaces);
    for namespace in was.keys().chain(is.keys()).collect::<BTreeSet<_>>() {
        let key = format!("credentials.namespaces.{namespace}");
        match (was.get(namespace), is.get(namespace)) {
            (None, Some(list)) => {
                // Until now, only other namespaces could use what their lists reserve.
                let reserved = list.iter().any(|pattern| was.values().flatten().any(|other| overlaps(pattern, other)));
                let text = format!("the namespace {namespace} may use only {}; no other namespace may use them", joined(list));
                out.add(&key, Effect::wider_if(reserved), text);
            }
            (Some(list), None) => {
                let text = format!(
                    "the limit of the namespace {namespace} to {} is removed, and namespaces that are not listed may use them",
                    joined(list)
                );
                out.add(&key, Effect::Wider, text);
            }
            (Some(before), Some(after)) => changed_list(namespace, before, after, is, out),
            (None, None) => {}
        }
    }
    let gained = live.select(|line| !allowed(old, line) && allowed(new, line));
    let lost = live.select(|line| allowed(old, line) && !allowed(new, line));
    if !lost.is_empty() {
        let verb = "AWAITING_CREDENTIALS, because the policy no longer lets them use their credential";
        let text = live.effect(&lost, &format!("becomes {verb}"), &format!("become {verb}"));
        out.add(CONNECTIONS, Effect::Neutral, text);
    }
    if !gained.is_empty() {
        let text = live.effect(&gained, "may use its credential now", "may use their credential now");
        out.add(CONNECTIONS, Effect::Neutral, text);
    }
}

fn changed_list(
    namespace: &str,
    before: &[LocatorPattern],
    after: &[LocatorPattern],
    all: &BTreeMap<String, Vec<LocatorPattern>>,
    out: &mut Changes,
) {
    let key = format!("credentials.namespaces.{namespace}");
    for added in after.iter().filter(|pattern| !before.contains(pattern)) {
        let covered = before.iter().any(|wide| wide.covers(added));
        let effect = if covered { Effect::Neutral } else { Effect::Wider };
        out.add(&key, effect, format!("the namespace {namespace} may now use {added}"));
    }
    for removed in before.iter().filter(|pattern| !after.contains(pattern)) {
        let others = all.values().flatten().any(|wide| wide.covers(removed));
        let rest = if others { "" } else { "; namespaces that are not listed may use it" };
        out.add(&key, Effect::wider_if(!others), format!("{removed} no longer belongs to the namespace {namespace}{rest}"));
    }
}

/// Whether some locator may match both patterns.
fn overlaps(a: &LocatorPattern, b: &LocatorPattern) -> bool {
    a.covers(b) || b.covers(a)
}

/// Whether the policy lets the connection use its credential. The hosts are not considered, because only an engine can
/// derive them from the resource ids.
fn allowed(policy: &Policy, line: &ConnectionLine) -> bool {
    line.locator.as_ref().is_none_or(|locator| {
        let (namespace, source_type) = (&line.namespace, &line.source_type);
        judge(policy, &CredentialUse { origins: &line.origins, namespace, source_type, locator, recipients: &[] }).is_ok()
    })
}

fn joined(locators: &[LocatorPattern]) -> String {
    if locators.is_empty() {
        return "no locator".to_string();
    }
    locators.iter().map(LocatorPattern::as_str).collect::<Vec<_>>().join(", ")
}
