//! In plain words: what a new policy would change, and for which connections.
//!
//! Pure: the caller brings the connections from the registry. The lines are meant for the pull request
//! that changes the policy, so the widest consequences come first.

mod words;

use super::{LoadedPolicy, Policy};
use crate::model::{ConnectionId, Risk, State};
use std::collections::{BTreeMap, BTreeSet};
use words::{connections, counted, settings, tokens};

/// What `diff` needs to know of one connection.
#[derive(Clone, Debug, PartialEq)]
pub struct ConnectionLine {
    pub id: ConnectionId,
    pub namespace: String,
    pub source_type: String,
    pub resource_ids: Vec<String>,
    pub risk: Risk,
    pub evidence_status: String,
    /// `owner.confidence`, 0 to 1.
    pub confidence: f64,
    pub state: State,
}

/// The lines of the difference; none when nothing would change. Retired connections and those of the
/// namespace `demo`, which no policy touches, are left out.
#[must_use]
pub fn diff(was: &LoadedPolicy, is: &LoadedPolicy, lines: &[ConnectionLine]) -> Vec<String> {
    let (old, new) = (&*was.policy, &*is.policy);
    let live: Vec<&ConnectionLine> =
        lines.iter().filter(|line| line.state != State::Retired && line.namespace != "demo").collect();
    let mut out = Vec::new();
    allowlist(old, new, &live, &mut out);
    eligibility(old, new, &live, &mut out);
    network(old, new, &mut out);
    roots(old, new, &live, &mut out);
    families(old, new, &live, &mut out);
    out.extend(super::manifests::diff(&old.manifests, &new.manifests));
    caps(old, new, &mut out);
    settings(old, new, &mut out);
    tokens(old, new, &mut out);
    again(was, is, &live, &mut out);
    out
}

/// The pipeline asks the allowlist first, then the eligibility.
fn eligible(policy: &Policy, line: &ConnectionLine) -> bool {
    let rules = &policy.eligibility;
    rules.evidence.contains(&line.evidence_status) && line.risk <= rules.max_risk && line.confidence >= rules.min_confidence
}

fn allowlist(old: &Policy, new: &Policy, live: &[&ConnectionLine], out: &mut Vec<String>) {
    let of = |family: &str| -> Vec<&ConnectionLine> { live.iter().copied().filter(|line| line.source_type == family).collect() };
    for family in old.allowlist.difference(&new.allowlist) {
        let hit = of(family);
        out.push(format!("{family} leaves the allowlist: {}", connections(&hit, "becomes UNSUPPORTED", "become UNSUPPORTED")));
    }
    for family in new.allowlist.difference(&old.allowlist) {
        let (hit, refused): (Vec<_>, Vec<_>) = of(family).into_iter().partition(|line| eligible(new, line));
        let mut text = format!("{family} enters the allowlist: {}", connections(&hit, "would be tried", "would be tried"));
        if !refused.is_empty() {
            text.push_str(&format!("; {}", connections(&refused, "would be REJECTED", "would be REJECTED")));
        }
        out.push(text);
    }
}

/// One line for each rule that changed, with those whose verdict changes by this rule.
fn eligibility(old: &Policy, new: &Policy, live: &[&ConnectionLine], out: &mut Vec<String>) {
    let (was, is) = (&old.eligibility, &new.eligibility);
    let mut rule = |title: String,
                    why: String,
                    before: &dyn Fn(&ConnectionLine) -> bool,
                    after: &dyn Fn(&ConnectionLine) -> bool| {
        let allowed =
            |line: &&ConnectionLine| old.allowlist.contains(&line.source_type) && new.allowlist.contains(&line.source_type);
        let both: Vec<&ConnectionLine> = live.iter().copied().filter(allowed).collect();
        let out_now: Vec<_> = both.iter().copied().filter(|line| eligible(old, line) && before(line) && !after(line)).collect();
        let in_now: Vec<_> = both.iter().copied().filter(|line| eligible(new, line) && !before(line) && after(line)).collect();
        let mut parts = Vec::new();
        if !out_now.is_empty() || in_now.is_empty() {
            let verb = format!("{why} would be REJECTED");
            parts.push(connections(&out_now, &verb, &verb));
        }
        if !in_now.is_empty() {
            parts.push(connections(&in_now, "would be tried", "would be tried"));
        }
        out.push(format!("{title}: {}", parts.join("; ")));
    };
    if was.max_risk != is.max_risk {
        let why = format!("with risk above {}", is.max_risk);
        rule(
            format!("max_risk goes from {} to {}", was.max_risk, is.max_risk),
            why,
            &|line| line.risk <= was.max_risk,
            &|line| line.risk <= is.max_risk,
        );
    }
    if was.min_confidence != is.min_confidence {
        let why = format!("with an owner confidence below {}", is.min_confidence);
        let title = format!("min_confidence goes from {} to {}", was.min_confidence, is.min_confidence);
        rule(title, why, &|line| line.confidence >= was.min_confidence, &|line| line.confidence >= is.min_confidence);
    }
    if was.evidence != is.evidence {
        let (had, has) = (was.evidence.join(", "), is.evidence.join(", "));
        let (before, after) = (
            |line: &ConnectionLine| was.evidence.contains(&line.evidence_status),
            |line: &ConnectionLine| is.evidence.contains(&line.evidence_status),
        );
        rule(format!("accepted evidence goes from [{had}] to [{has}]"), "with other evidence".to_string(), &before, &after);
    }
}

fn network(old: &Policy, new: &Policy, out: &mut Vec<String>) {
    let (was, is) = (&old.network, &new.network);
    for gone in was.allow_private.iter().filter(|net| !is.allow_private.contains(net)) {
        out.push(match is.allow_private.iter().find(|net| net.contains(gone)) {
            Some(wider) => {
                format!("{gone} leaves the list, and may still be reached through {wider}")
            }
            None => match is.allow_private.iter().find(|net| gone.contains(*net)) {
                Some(left) => format!("{gone} may no longer be reached, except {left} and what else is listed"),
                None => format!("{gone} may no longer be reached"),
            },
        });
    }
    for added in is.allow_private.iter().filter(|net| !was.allow_private.contains(net)) {
        out.push(match was.allow_private.iter().find(|net| net.contains(added)) {
            Some(wider) => {
                format!("{added} is listed; it could be reached before through {wider}")
            }
            None => format!("{added} may now be reached, private or not"),
        });
    }
    if was.proxy != is.proxy {
        out.push(format!("calls go {} instead of {}", through(is.proxy.as_deref()), through(was.proxy.as_deref())));
    }
    if was.ca_file != is.ca_file {
        let name =
            |path: &Option<std::path::PathBuf>| path.as_ref().map_or("none".to_string(), |path| path.display().to_string());
        out.push(format!("the file of further certificate authorities: {} -> {}", name(&was.ca_file), name(&is.ca_file)));
    }
}

fn through(proxy: Option<&str>) -> String {
    proxy.map_or("straight to the source".to_string(), |proxy| format!("through the proxy {proxy}"))
}

/// A root is compared by its words; symlinks are the file engine's business.
fn roots(old: &Policy, new: &Policy, live: &[&ConnectionLine], out: &mut Vec<String>) {
    let below = |roots: &[std::path::PathBuf], line: &ConnectionLine| {
        local_paths(line).any(|path| roots.iter().any(|root| path.starts_with(root)))
    };
    let (was, is) = (&old.files.roots, &new.files.roots);
    for gone in was.iter().filter(|root| !is.contains(root)) {
        let only = std::slice::from_ref(gone);
        let hit: Vec<_> = live.iter().copied().filter(|line| below(only, line) && !below(is, line)).collect();
        out.push(format!(
            "files below {} may no longer be read: {}",
            gone.display(),
            connections(&hit, "loses its source", "lose their source")
        ));
    }
    for added in is.iter().filter(|root| !was.contains(root)) {
        let only = std::slice::from_ref(added);
        let hit: Vec<_> = live.iter().copied().filter(|line| below(only, line) && !below(was, line)).collect();
        out.push(format!(
            "files below {} may now be read: {}",
            added.display(),
            connections(&hit, "would be tried", "would be tried")
        ));
    }
}

fn local_paths(line: &ConnectionLine) -> impl Iterator<Item = &std::path::Path> {
    let scheme = match line.source_type.as_str() {
        "filesource" => Some(""),
        "jdbc" => Some("jdbc:sqlite:"),
        _ => None,
    };
    line.resource_ids.iter().filter_map(move |id| id.strip_prefix(scheme?)).map(std::path::Path::new)
}

fn families(old: &Policy, new: &Policy, live: &[&ConnectionLine], out: &mut Vec<String>) {
    let names: BTreeSet<&String> = old.families.keys().chain(new.families.keys()).collect();
    for family in names {
        let (was, is) = (old.family(family), new.family(family));
        let mut changes = Vec::new();
        for (key, before, after) in [
            ("base_url", &was.base_url, &is.base_url),
            ("region", &was.region, &is.region),
            ("health_path", &was.health_path, &is.health_path),
        ] {
            if before != after {
                let shown = |value: &Option<String>| value.clone().unwrap_or("(not set)".to_string());
                changes.push(format!("{key} {} -> {}", shown(before), shown(after)));
            }
        }
        let denied = |name: &&String| !was.deny_operations.contains(name);
        changes.extend(is.deny_operations.iter().filter(denied).map(|name| format!("operation {name} is no longer called")));
        let allowed = |name: &&String| !is.deny_operations.contains(name);
        changes.extend(was.deny_operations.iter().filter(allowed).map(|name| format!("operation {name} may be called again")));
        if !changes.is_empty() {
            let hit: Vec<_> = live.iter().copied().filter(|line| line.source_type == **family).collect();
            out.push(format!("{family}: {}: {}", changes.join(", "), connections(&hit, "uses it", "use it")));
        }
    }
}

fn caps(old: &Policy, new: &Policy, out: &mut Vec<String>) {
    let changed = |name: &str, was: &super::Cap, is: &super::Cap| {
        let figures = [
            ("per_second", was.per_second.to_string(), is.per_second.to_string()),
            ("burst", was.burst.to_string(), is.burst.to_string()),
            ("per_day", was.per_day.to_string(), is.per_day.to_string()),
            ("concurrency", was.concurrency.to_string(), is.concurrency.to_string()),
        ];
        let differing = figures.into_iter().filter(|(_, was, is)| was != is).map(|(key, was, is)| format!("{key} {was} -> {is}"));
        let differing: Vec<String> = differing.collect();
        (!differing.is_empty()).then(|| format!("{name} {}", differing.join(", ")))
    };
    out.extend(changed("caps of families without figures of their own:", &old.caps.default, &new.caps.default));
    let names: BTreeSet<&String> = old.caps.families.keys().chain(new.caps.families.keys()).collect();
    for family in names {
        match (old.caps.families.get(family), new.caps.families.get(family)) {
            (Some(was), Some(is)) => out.extend(changed(&format!("caps of {family}"), was, is)),
            (None, Some(is)) => out
                .push(format!("caps of {family}: the policy now sets {} instead of the family's own", super::effective::cap(is))),
            (Some(was), None) => {
                out.push(format!("caps of {family}: the family's own come back instead of {}", super::effective::cap(was)))
            }
            (None, None) => {}
        }
    }
}

/// Those whose part of the policy changed and who stay allowed are checked again by the daemon.
fn again(old: &LoadedPolicy, new: &LoadedPolicy, live: &[&ConnectionLine], out: &mut Vec<String>) {
    let mut by_family: BTreeMap<&str, usize> = BTreeMap::new();
    for line in live {
        let family = line.source_type.as_str();
        if new.policy.allowlist.contains(family) && old.slice(family) != new.slice(family) {
            *by_family.entry(family).or_default() += 1;
        }
    }
    let total = by_family.values().sum::<usize>();
    if total > 0 {
        let parts: Vec<String> = by_family.iter().map(|(family, count)| format!("{count} {family}")).collect();
        out.push(format!("{} would be checked again at once: {}", counted(total), parts.join(", ")));
    }
}

#[cfg(test)]
mod tests;
