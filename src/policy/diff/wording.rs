//! The effect of a change on connections, and the changes that do not concern single connections.

use super::super::duration_text::format as duration;
use super::super::{Handoff, HandoffVendor, MaxRetire, Policy, size_text};
use super::ConnectionLine;
use super::change::{Changes, Effect};
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

/// `(not set)` for a value that the policy leaves out.
pub fn shown(value: &Option<String>) -> String {
    value.clone().unwrap_or("(not set)".to_string())
}

/// `none` for a path that the policy leaves out.
pub fn path_or_none(path: &Option<PathBuf>) -> String {
    path.as_ref().map_or("none".to_string(), |path| path.display().to_string())
}

/// What the policy supplies for the candidates of a discovery tool. An entry that is added or changed supplies credentials,
/// owners or a namespace that were not supplied before.
fn handoff(old: &Handoff, new: &Handoff, out: &mut Changes) {
    let text = |value: Option<String>| value.unwrap_or("none".to_string());
    let vendor = |entry: &HandoffVendor| serde_json::to_string(entry).unwrap_or_default();
    let vendors = |handoff: &Handoff| handoff.vendors.iter().map(|(name, entry)| (name.clone(), vendor(entry))).collect();
    let (was_vendors, is_vendors): (BTreeMap<String, String>, BTreeMap<String, String>) = (vendors(old), vendors(new));
    let maps = [
        ("vendors", &was_vendors, &is_vendors),
        ("statuses", &old.statuses, &new.statuses),
        ("namespaces", &old.namespaces, &new.namespaces),
    ];
    for (list, was, is) in maps {
        for name in was.keys().chain(is.keys()).collect::<BTreeSet<_>>() {
            let (before, after) = (was.get(name), is.get(name));
            if before != after {
                let key = format!("handoff.{list}.{name}");
                let change = format!("{key} changes from {} to {}", text(before.cloned()), text(after.cloned()));
                // Without an entry, the candidates of a tenant go to the namespace of the policy.
                out.add(&key, Effect::wider_if(after.is_some() || list == "namespaces"), change);
            }
        }
    }
}

/// Settings of how AAM works, and the limits of what it does by itself.
pub fn settings(old: &Policy, new: &Policy, out: &mut Changes) {
    let mut put = |key: &str, effect: Effect, was: &dyn Display, is: &dyn Display| {
        let (was, is) = (was.to_string(), is.to_string());
        if was != is {
            let name = if key == "namespace" { "the namespace of new connections" } else { key };
            out.add(key, effect, format!("{name} changes from {was} to {is}"));
        }
    };
    // In a namespace with credentials of its own, new connections may use them.
    let entered = new.credentials.namespaces.contains_key(&new.namespace);
    put("namespace", if entered { Effect::Wider } else { Effect::Neutral }, &old.namespace, &new.namespace);
    put("slo.coverage", Effect::Neutral, &old.slo.coverage, &new.slo.coverage);
    let (was, is) = (&old.safe_mode, &new.safe_mode);
    put("safe_mode.max_items", Effect::raised(&was.max_items, &is.max_items), &was.max_items, &is.max_items);
    put("safe_mode.step_timeout", Effect::Neutral, &duration(&was.step_timeout), &duration(&is.step_timeout));
    put("safe_mode.attempt_timeout", Effect::Neutral, &duration(&was.attempt_timeout), &duration(&is.attempt_timeout));
    let (was, is) = (&old.backoff, &new.backoff);
    put("backoff.initial", Effect::Neutral, &duration(&was.initial), &duration(&is.initial));
    put("backoff.max", Effect::Neutral, &duration(&was.max), &duration(&is.max));
    put("backoff.jitter", Effect::Neutral, &was.jitter, &is.jitter);
    put("breaker.failures", Effect::Neutral, &old.breaker.failures, &new.breaker.failures);
    put("breaker.open_for", Effect::Neutral, &duration(&old.breaker.open_for), &duration(&new.breaker.open_for));
    let (was, is) = (&old.recheck, &new.recheck);
    put("recheck.health", Effect::Neutral, &duration(&was.health), &duration(&is.health));
    put("recheck.drift", Effect::Neutral, &duration(&was.drift), &duration(&is.drift));
    let (before, after) = (duration(&was.awaiting_credentials), duration(&is.awaiting_credentials));
    put("recheck.awaiting_credentials", Effect::Neutral, &before, &after);
    let (was, is) = (&old.reconcile, &new.reconcile);
    put("reconcile.concurrency", Effect::Neutral, &was.concurrency, &is.concurrency);
    put("reconcile.resync", Effect::Neutral, &duration(&was.resync), &duration(&is.resync));
    put("reconcile.memory", Effect::Neutral, &size_text::format(&was.memory), &size_text::format(&is.memory));
    let limit = |limit: Option<MaxRetire>| {
        limit.map_or("none".to_string(), |limit| format!("{} connections, {} %", limit.connections, limit.percent))
    };
    put("reconcile.max_retire", leaves_more(was.max_retire, is.max_retire), &limit(was.max_retire), &limit(is.max_retire));
    let confirms = Effect::wider_if(is.confirm.iter().any(|digest| !was.confirm.contains(digest)));
    put("reconcile.confirm", confirms, &listed(&was.confirm), &listed(&is.confirm));
    let (was, is) = (&old.evidence, &new.evidence);
    let keep = |days: u32| format!("{days}d");
    put("evidence.keep_calls", Effect::raised(&is.keep_calls, &was.keep_calls), &keep(was.keep_calls), &keep(is.keep_calls));
    put("evidence.head_file", Effect::Wider, &path_or_none(&was.head_file), &path_or_none(&is.head_file));
    let name = |webhook: &Option<String>| webhook.clone().unwrap_or_else(|| "none".to_string());
    put("evidence.head_webhook", Effect::Wider, &name(&was.head_webhook), &name(&is.head_webhook));
    let kept = |days: Option<u32>| days.map_or("everything".to_string(), |days| format!("{days}d"));
    put("registry.keep", Effect::Neutral, &kept(old.registry.keep), &kept(new.registry.keep));
    handoff(&old.handoff, &new.handoff, out);
    api(old, new, out);
}

/// Whether more connections may leave at once without a confirmation.
fn leaves_more(was: Option<MaxRetire>, is: Option<MaxRetire>) -> Effect {
    match (was, is) {
        (Some(_), None) => Effect::Wider,
        (None, _) => Effect::Narrower,
        (Some(was), Some(is)) => Effect::wider_if(is.connections > was.connections || is.percent > was.percent),
    }
}

fn api(old: &Policy, new: &Policy, out: &mut Changes) {
    let (was, is) = (&old.api, &new.api);
    for host in is.hosts.iter().filter(|host| !was.hosts.contains(host)) {
        out.add("api.hosts", Effect::Wider, format!("the API may now be called under the name {host}"));
    }
    for host in was.hosts.iter().filter(|host| !is.hosts.contains(host)) {
        out.add("api.hosts", Effect::Narrower, format!("the API may no longer be called under the name {host}"));
    }
    for (key, before, after) in
        [("api.rate.per_second", was.rate.per_second, is.rate.per_second), ("api.rate.burst", was.rate.burst, is.rate.burst)]
    {
        if before != after {
            out.add(key, Effect::raised(&before, &after), format!("{key} changes from {before} to {after}"));
        }
    }
    if was.mcp != is.mcp {
        out.add("api.mcp", Effect::wider_if(is.mcp), format!("api.mcp changes from {} to {}", was.mcp, is.mcp));
    }
}

/// Which pages of other sites may use the API, and where a token may be sent.
pub fn pages(old: &Policy, new: &Policy, out: &mut Changes) {
    let (was, is) = (&old.api, &new.api);
    for (key, before, after, may) in [
        ("api.cors.origins", &was.cors_origins, &is.cors_origins, "call the API with a token"),
        ("api.frame_ancestors", &was.frame_ancestors, &is.frame_ancestors, "show the dashboard in a frame"),
    ] {
        for origin in after.iter().filter(|origin| !before.contains(origin)) {
            out.add(key, Effect::Wider, format!("pages of {origin} may now {may}"));
        }
        for origin in before.iter().filter(|origin| !after.contains(origin)) {
            out.add(key, Effect::Narrower, format!("pages of {origin} may no longer {may}"));
        }
    }
    match (was.api_key_header, is.api_key_header) {
        (false, true) => {
            out.add("api.api_key_header", Effect::Wider, "a token may now also be sent in the header X-API-Key");
        }
        (true, false) => {
            out.add("api.api_key_header", Effect::Narrower, "a token may no longer be sent in the header X-API-Key");
        }
        _ => {}
    }
    match (was.enforce_slo, is.enforce_slo) {
        (false, true) => {
            out.add("api.enforce_slo", Effect::Neutral, "GET /metrics/funnel now answers 503 while the SLO is not met");
        }
        (true, false) => {
            out.add("api.enforce_slo", Effect::Neutral, "GET /metrics/funnel now answers 200 even while the SLO is not met");
        }
        _ => {}
    }
}

fn listed(items: &[String]) -> String {
    format!("[{}]", items.join(", "))
}
