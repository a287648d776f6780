//! Changes in who may send which credential where. What widens it is marked.

use super::super::grants::{CredentialUse, LocatorPattern, judge, summary};
use super::super::{Policy, Token};
use super::ConnectionLine;
use super::wording::Live;
use std::collections::BTreeSet;

/// The mark of a change that lets more documents send a credential, or send it to more hosts.
pub const WIDER: &str = " (wider)";

/// The credentials of a token that is new.
pub fn of_new(token: &Token) -> String {
    let mark = if token.grant.locators.is_empty() { "" } else { WIDER };
    format!("credentials: {}{mark}", summary::of_token(token))
}

/// One line for each list of a token that changed.
pub fn of_token(was: &Token, is: &Token, out: &mut Vec<String>) {
    let name = &is.name;
    for added in is.grant.locators.iter().filter(|pattern| !was.grant.locators.contains(pattern)) {
        let covered = was.grant.locators.iter().any(|wide| wide.covers(added));
        out.push(format!("token {name} may now use {added}{}", if covered { "" } else { WIDER }));
    }
    for removed in was.grant.locators.iter().filter(|pattern| !is.grant.locators.contains(pattern)) {
        out.push(format!("token {name} may no longer use {removed}, unless another of its locators covers it"));
    }
    for added in is.grant.hosts.iter().filter(|host| !was.grant.hosts.contains(host)) {
        out.push(format!("token {name} may now send its credentials to {added}{WIDER}"));
    }
    for removed in was.grant.hosts.iter().filter(|host| !is.grant.hosts.contains(host)) {
        out.push(format!("token {name} may no longer send its credentials to {removed}, unless another of its hosts covers it"));
    }
}

/// The changes of `credentials.namespaces`, and the connections that gain or lose their credential.
pub fn credentials(old: &Policy, new: &Policy, live: &Live<'_>, out: &mut Vec<String>) {
    let (was, is) = (&old.credentials.namespaces, &new.credentials.namespaces);
    for namespace in was.keys().chain(is.keys()).collect::<BTreeSet<_>>() {
        match (was.get(namespace), is.get(namespace)) {
            (None, Some(list)) => {
                out.push(format!("the namespace {namespace} may use only {}; no other namespace may use them", joined(list)));
            }
            (Some(list), None) => out.push(format!(
                "the limit of the namespace {namespace} to {} is removed, and namespaces that are not listed may use them{WIDER}",
                joined(list)
            )),
            (Some(before), Some(after)) => {
                for added in after.iter().filter(|pattern| !before.contains(pattern)) {
                    let covered = before.iter().any(|wide| wide.covers(added));
                    out.push(format!("the namespace {namespace} may now use {added}{}", if covered { "" } else { WIDER }));
                }
                for removed in before.iter().filter(|pattern| !after.contains(pattern)) {
                    let others = is.values().flatten().any(|wide| wide.covers(removed));
                    let effect =
                        if others { String::new() } else { format!("; namespaces that are not listed may use it{WIDER}") };
                    out.push(format!("{removed} no longer belongs to the namespace {namespace}{effect}"));
                }
            }
            (None, None) => {}
        }
    }
    let gained = live.select(|line| !allowed(old, line) && allowed(new, line));
    let lost = live.select(|line| allowed(old, line) && !allowed(new, line));
    if !lost.is_empty() {
        let verb = "AWAITING_CREDENTIALS, because the policy no longer lets them use their credential";
        out.push(live.effect(&lost, &format!("becomes {verb}"), &format!("become {verb}")));
    }
    if !gained.is_empty() {
        out.push(live.effect(&gained, "may use its credential now", "may use their credential now"));
    }
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
