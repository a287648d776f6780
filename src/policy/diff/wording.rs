//! The effect of a change on connections, and the changes that do not concern single connections.

use super::super::duration_text::format as duration;
use super::super::{Handoff, HandoffVendor, MaxRetire, Policy, Token, TokenScope, size_text};
use super::ConnectionLine;
use super::credentials::{WIDER, of_new, of_token};
use crate::model::text::counted;
use crate::model::{DEMO_NAMESPACE, State};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::path::PathBuf;

/// The number of connections that are listed by name; the rest is only counted.
const MAX_LISTED: usize = 10;

/// The connections that a policy applies to.
pub struct Live<'a> {
    lines: Vec<&'a ConnectionLine>,
    /// False if the registry could not be read.
    known: bool,
}

impl<'a> Live<'a> {
    /// Leaves out retired connections and the namespace `demo`. `None` means that the connections are unknown.
    pub fn new(connections: Option<&'a [ConnectionLine]>) -> Live<'a> {
        let applies = |line: &&ConnectionLine| line.state != State::Retired && line.namespace != DEMO_NAMESPACE;
        let lines = connections.unwrap_or_default().iter().filter(applies).collect();
        Live { lines, known: connections.is_some() }
    }

    /// The connections that fulfil `condition`.
    pub fn select(&self, condition: impl Fn(&ConnectionLine) -> bool) -> Vec<&'a ConnectionLine> {
        self.lines.iter().copied().filter(|line| condition(line)).collect()
    }

    /// The connections of `family`.
    pub fn of_family(&self, family: &str) -> Vec<&'a ConnectionLine> {
        self.select(|line| line.source_type == family)
    }

    /// `2 connections become X: <id> (autonomy/slack/acme), ...`.
    pub fn effect(&self, affected: &[&ConnectionLine], one: &str, many: &str) -> String {
        if !self.known {
            return "effect on connections unknown".to_string();
        }
        if affected.is_empty() {
            return "affects 0 connections".to_string();
        }
        let verb = if affected.len() == 1 { one } else { many };
        let name = |line: &&ConnectionLine| {
            format!("{} ({}/{}/{})", line.id, line.namespace, line.source_type, line.resource_ids.join("+"))
        };
        let mut names: Vec<String> = affected.iter().take(MAX_LISTED).map(name).collect();
        if affected.len() > MAX_LISTED {
            names.push(format!("and {} more", affected.len() - MAX_LISTED));
        }
        format!("{} {verb}: {}", counted(affected.len(), "connection"), names.join(", "))
    }
}

/// What the policy supplies for the candidates of a discovery tool.
fn handoff(old: &Handoff, new: &Handoff, put: &mut impl FnMut(&str, &dyn Display, &dyn Display)) {
    let vendor = |entry: Option<&HandoffVendor>| {
        entry.map_or("none".to_string(), |entry| serde_json::to_string(entry).unwrap_or_default())
    };
    let names: BTreeSet<&String> = old.vendors.keys().chain(new.vendors.keys()).collect();
    for name in names {
        put(&format!("handoff.vendors.{name}"), &vendor(old.vendors.get(name)), &vendor(new.vendors.get(name)));
    }
    let map = |map: &BTreeMap<String, String>| serde_json::to_string(map).unwrap_or_default();
    put("handoff.statuses", &map(&old.statuses), &map(&new.statuses));
    put("handoff.namespaces", &map(&old.namespaces), &map(&new.namespaces));
}

/// Settings of how AAM works, as opposed to what it is allowed to do.
pub fn settings(old: &Policy, new: &Policy, out: &mut Vec<String>) {
    let mut put = |name: &str, was: &dyn Display, is: &dyn Display| {
        let (was, is) = (was.to_string(), is.to_string());
        if was != is {
            out.push(format!("{name} changes from {was} to {is}"));
        }
    };
    put("the namespace of new connections", &old.namespace, &new.namespace);
    put("slo.coverage", &old.slo.coverage, &new.slo.coverage);
    let (was, is) = (&old.safe_mode, &new.safe_mode);
    put("safe_mode.max_items", &was.max_items, &is.max_items);
    put("safe_mode.step_timeout", &duration(&was.step_timeout), &duration(&is.step_timeout));
    put("safe_mode.attempt_timeout", &duration(&was.attempt_timeout), &duration(&is.attempt_timeout));
    let (was, is) = (&old.backoff, &new.backoff);
    put("backoff.initial", &duration(&was.initial), &duration(&is.initial));
    put("backoff.max", &duration(&was.max), &duration(&is.max));
    put("backoff.jitter", &was.jitter, &is.jitter);
    put("breaker.failures", &old.breaker.failures, &new.breaker.failures);
    put("breaker.open_for", &duration(&old.breaker.open_for), &duration(&new.breaker.open_for));
    let (was, is) = (&old.recheck, &new.recheck);
    put("recheck.health", &duration(&was.health), &duration(&is.health));
    put("recheck.drift", &duration(&was.drift), &duration(&is.drift));
    put("recheck.awaiting_credentials", &duration(&was.awaiting_credentials), &duration(&is.awaiting_credentials));
    put("reconcile.concurrency", &old.reconcile.concurrency, &new.reconcile.concurrency);
    put("reconcile.resync", &duration(&old.reconcile.resync), &duration(&new.reconcile.resync));
    put("reconcile.memory", &size_text::format(&old.reconcile.memory), &size_text::format(&new.reconcile.memory));
    let limit = |limit: Option<MaxRetire>| {
        limit.map_or("none".to_string(), |limit| format!("{} connections, {} %", limit.connections, limit.percent))
    };
    put("reconcile.max_retire", &limit(old.reconcile.max_retire), &limit(new.reconcile.max_retire));
    put("reconcile.confirm", &listed(&old.reconcile.confirm), &listed(&new.reconcile.confirm));
    let (was, is) = (&old.evidence, &new.evidence);
    put("evidence.keep_calls", &format!("{}d", was.keep_calls), &format!("{}d", is.keep_calls));
    let path = |file: &Option<PathBuf>| file.as_ref().map_or("none".to_string(), |file| file.display().to_string());
    put("evidence.head_file", &path(&was.head_file), &path(&is.head_file));
    let name = |webhook: &Option<String>| webhook.clone().unwrap_or_else(|| "none".to_string());
    put("evidence.head_webhook", &name(&was.head_webhook), &name(&is.head_webhook));
    handoff(&old.handoff, &new.handoff, &mut put);
    let (was, is) = (&old.api, &new.api);
    put("api.hosts", &listed(&was.hosts), &listed(&is.hosts));
    put("api.rate.per_second", &was.rate.per_second, &is.rate.per_second);
    put("api.rate.burst", &was.rate.burst, &is.rate.burst);
    put("api.mcp", &was.mcp, &is.mcp);
}

/// Which pages of other sites may use the API, and where a token may be sent. What widens it is marked.
pub fn pages(old: &Policy, new: &Policy, out: &mut Vec<String>) {
    let (was, is) = (&old.api, &new.api);
    for (before, after, may) in [
        (&was.cors_origins, &is.cors_origins, "call the API with a token"),
        (&was.frame_ancestors, &is.frame_ancestors, "show the dashboard in a frame"),
    ] {
        let added = after.iter().filter(|origin| !before.contains(origin));
        out.extend(added.map(|origin| format!("pages of {origin} may now {may}{WIDER}")));
        let removed = before.iter().filter(|origin| !after.contains(origin));
        out.extend(removed.map(|origin| format!("pages of {origin} may no longer {may}")));
    }
    match (was.api_key_header, is.api_key_header) {
        (false, true) => out.push(format!("a token may now also be sent in the header X-API-Key{WIDER}")),
        (true, false) => out.push("a token may no longer be sent in the header X-API-Key".to_string()),
        _ => {}
    }
    match (was.enforce_slo, is.enforce_slo) {
        (false, true) => out.push("GET /metrics/funnel now answers 503 while the SLO is not met".to_string()),
        (true, false) => out.push("GET /metrics/funnel now answers 200 even while the SLO is not met".to_string()),
        _ => {}
    }
}

fn listed(items: &[String]) -> String {
    format!("[{}]", items.join(", "))
}

/// Who may call the API, with which scopes and in which namespaces.
pub fn tokens(old: &Policy, new: &Policy, out: &mut Vec<String>) {
    fn find<'a>(policy: &'a Policy, name: &str) -> Option<&'a Token> {
        policy.api.tokens.iter().find(|token| token.name == name)
    }
    for was in &old.api.tokens {
        match find(new, &was.name) {
            None => out.push(format!("token {} removed; it can no longer call the API", was.name)),
            Some(is) => one_token(was, is, out),
        }
    }
    for is in new.api.tokens.iter().filter(|token| find(old, &token.name).is_none()) {
        let (scopes, namespaces) = (scopes(&is.scopes), joined(&is.namespaces));
        let credentials = of_new(is);
        out.push(format!("token {} added; scopes: {scopes}; namespaces: {namespaces}; {credentials}", is.name));
    }
}

fn one_token(was: &Token, is: &Token, out: &mut Vec<String>) {
    let name = &is.name;
    if was.sha256 != is.sha256 {
        out.push(format!("token {name} replaced; the old secret no longer works"));
    }
    let (gained, lost) = (&is.scopes - &was.scopes, &was.scopes - &is.scopes);
    let (entered, left) = (&is.namespaces - &was.namespaces, &was.namespaces - &is.namespaces);
    for (change, set) in [
        ("scopes added", scopes(&gained)),
        ("scopes removed", scopes(&lost)),
        ("namespaces added", joined(&entered)),
        ("namespaces removed", joined(&left)),
    ] {
        if !set.is_empty() {
            out.push(format!("token {name}: {change}: {set}"));
        }
    }
    of_token(was, is, out);
}

fn scopes(scopes: &BTreeSet<TokenScope>) -> String {
    scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(", ")
}

fn joined(names: &BTreeSet<String>) -> String {
    names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}
