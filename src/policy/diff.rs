//! What a new policy would change, and for which connections.
//!
//! Pure: the caller passes the connections of the registry. The lines are meant for the pull request that changes the
//! policy, so the changes with the widest effect come first.

mod credentials;
mod places;
mod wording;

use super::grants::Rights;
use super::{LoadedPolicy, Policy};
use crate::model::text::counted;
use crate::model::{ConnectionId, Locator, Origin, Risk, State};
use std::collections::{BTreeMap, BTreeSet};
use wording::{Live, settings, tokens};

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

/// Returns one line for each change, and no lines if nothing would change.
///
/// `connections` is `None` if the registry cannot be read; the effect on connections is then unknown. Retired
/// connections and those of the namespace `demo`, which no policy applies to, are ignored.
#[must_use]
pub fn diff(was: &LoadedPolicy, is: &LoadedPolicy, connections: Option<&[ConnectionLine]>) -> Vec<String> {
    let (old, new) = (&*was.policy, &*is.policy);
    let live = Live::new(connections);
    let mut out = Vec::new();
    allowlist(old, new, &live, &mut out);
    eligibility(old, new, &live, &mut out);
    network(old, new, &mut out);
    weak_logins(old, new, &mut out);
    roots(old, new, &live, &mut out);
    families(old, new, &live, &mut out);
    out.extend(super::manifests::diff(&old.manifests, &new.manifests));
    caps(old, new, &mut out);
    settings(old, new, &mut out);
    tokens(old, new, &mut out);
    credentials::credentials(old, new, &live, &mut out);
    places::places(&old.credentials, &new.credentials, &live, &mut out);
    rechecked(was, is, &live, &mut out);
    out
}

/// Applies the rules that the pipeline applies after the allowlist.
fn eligible(policy: &Policy, line: &ConnectionLine) -> bool {
    let rules = &policy.eligibility;
    line.is_understood
        && rules.accepts(&line.evidence_status)
        && line.risk <= rules.max_risk
        && line.confidence >= rules.min_confidence
}

fn allowlist(old: &Policy, new: &Policy, live: &Live<'_>, out: &mut Vec<String>) {
    for family in old.allowlist.difference(&new.allowlist) {
        let affected = live.of_family(family);
        let effect = live.effect(&affected, "becomes UNSUPPORTED", "become UNSUPPORTED");
        out.push(format!("{family} removed from the allowlist; {effect}"));
    }
    for family in new.allowlist.difference(&old.allowlist) {
        let (accepted, refused): (Vec<_>, Vec<_>) = live.of_family(family).into_iter().partition(|line| eligible(new, line));
        let effect = live.effect(&accepted, "would be tried", "would be tried");
        let mut text = format!("{family} added to the allowlist; {effect}");
        if !refused.is_empty() {
            text.push_str(&format!("; {}", live.effect(&refused, "would be REJECTED", "would be REJECTED")));
        }
        out.push(text);
    }
}

/// One line for each rule that changed, with the connections for which this rule decides differently.
fn eligibility(old: &Policy, new: &Policy, live: &Live<'_>, out: &mut Vec<String>) {
    let (was, is) = (&old.eligibility, &new.eligibility);
    let mut rule = |title: String,
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
        out.push(format!("{title}; {}", parts.join("; ")));
    };
    if was.max_risk != is.max_risk {
        let reason = format!("with risk above {}", is.max_risk);
        rule(
            format!("max_risk changes from {} to {}", was.max_risk, is.max_risk),
            reason,
            &|line| line.risk <= was.max_risk,
            &|line| line.risk <= is.max_risk,
        );
    }
    if was.min_confidence != is.min_confidence {
        let reason = format!("with an owner confidence below {}", is.min_confidence);
        let title = format!("min_confidence changes from {} to {}", was.min_confidence, is.min_confidence);
        rule(title, reason, &|line| line.confidence >= was.min_confidence, &|line| line.confidence >= is.min_confidence);
    }
    if was.evidence != is.evidence {
        let (had, has) = (was.evidence.join(", "), is.evidence.join(", "));
        let (before, after) = (
            |line: &ConnectionLine| was.accepts(&line.evidence_status),
            |line: &ConnectionLine| is.accepts(&line.evidence_status),
        );
        rule(format!("accepted evidence changes from [{had}] to [{has}]"), "with other evidence".to_string(), &before, &after);
    }
}

fn network(old: &Policy, new: &Policy, out: &mut Vec<String>) {
    let (was, is) = (&old.network, &new.network);
    for gone in was.allow_private.iter().filter(|net| !is.allow_private.contains(net)) {
        out.push(match is.allow_private.iter().find(|net| net.contains(gone)) {
            Some(wider) => {
                format!("{gone} removed from network.allow_private; still allowed as part of {wider}")
            }
            None => match is.allow_private.iter().find(|net| gone.contains(*net)) {
                Some(left) => format!(
                    "{gone} removed from network.allow_private; of it, only {left} and other listed ranges are still allowed"
                ),
                None => format!("{gone} removed from network.allow_private; private addresses in it are no longer allowed"),
            },
        });
    }
    for added in is.allow_private.iter().filter(|net| !was.allow_private.contains(net)) {
        out.push(match was.allow_private.iter().find(|net| net.contains(added)) {
            Some(wider) => {
                format!("{added} added to network.allow_private; it was already allowed as part of {wider}")
            }
            None => format!("{added} added to network.allow_private; all addresses in it are allowed, including private ones"),
        });
    }
    if was.proxy != is.proxy {
        out.push(format!("calls go {} instead of {}", route(is.proxy.as_deref()), route(was.proxy.as_deref())));
    }
    if was.ca_file != is.ca_file {
        let name =
            |path: &Option<std::path::PathBuf>| path.as_ref().map_or("none".to_string(), |path| path.display().to_string());
        out.push(format!("network.ca_file changes from {} to {}", name(&was.ca_file), name(&is.ca_file)));
    }
}

fn weak_logins(old: &Policy, new: &Policy, out: &mut Vec<String>) {
    let (was, is) = (&old.network.allow_weak_login, &new.network.allow_weak_login);
    for added in is.iter().filter(|host| !was.contains(host)) {
        out.push(format!(
            "{added} added to network.allow_weak_login; it may receive database passwords in clear text or as an MD5 digest without verified TLS"
        ));
    }
    for gone in was.iter().filter(|host| !is.contains(host)) {
        out.push(format!(
            "{gone} removed from network.allow_weak_login; without verified TLS it no longer receives a password that it could use"
        ));
    }
}

fn route(proxy: Option<&str>) -> String {
    proxy.map_or("directly to the source".to_string(), |proxy| format!("through the proxy {proxy}"))
}

/// Compares paths as text; it does not resolve symlinks, as the file engine does.
fn roots(old: &Policy, new: &Policy, live: &Live<'_>, out: &mut Vec<String>) {
    let below = |roots: &[std::path::PathBuf], line: &ConnectionLine| {
        local_paths(line).any(|path| roots.iter().any(|root| path.starts_with(root)))
    };
    let (was, is) = (&old.files.roots, &new.files.roots);
    for gone in was.iter().filter(|root| !is.contains(root)) {
        let only = std::slice::from_ref(gone);
        let affected = live.select(|line| below(only, line) && !below(is, line));
        out.push(format!(
            "files below {} may no longer be read; {}",
            gone.display(),
            live.effect(&affected, "loses its source", "lose their source")
        ));
    }
    for added in is.iter().filter(|root| !was.contains(root)) {
        let only = std::slice::from_ref(added);
        let affected = live.select(|line| below(only, line) && !below(was, line));
        out.push(format!(
            "files below {} may now be read; {}",
            added.display(),
            live.effect(&affected, "would be tried", "would be tried")
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

fn families(old: &Policy, new: &Policy, live: &Live<'_>, out: &mut Vec<String>) {
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
                changes.push(format!("{key} changes from {} to {}", shown(before), shown(after)));
            }
        }
        let added = is.hosts.iter().filter(|server| !was.hosts.contains(server));
        changes.extend(added.map(|server| format!("credentials may now be sent to the server {server}{}", credentials::WIDER)));
        let gone = was.hosts.iter().filter(|server| !is.hosts.contains(server));
        changes.extend(gone.map(|server| format!("the server {server} may no longer be read")));
        let denied = |name: &&String| !was.deny_operations.contains(name);
        changes
            .extend(is.deny_operations.iter().filter(denied).map(|name| format!("operation {name} will not be called any more")));
        let allowed = |name: &&String| !is.deny_operations.contains(name);
        changes.extend(was.deny_operations.iter().filter(allowed).map(|name| format!("operation {name} may be called again")));
        if !changes.is_empty() {
            let affected = live.of_family(family);
            out.push(format!("{family}: {}; {}", changes.join(", "), live.effect(&affected, "uses it", "use it")));
        }
        let changes = super::services::diff(&was.services, &is.services);
        if !changes.is_empty() {
            let changed = |line: &ConnectionLine| {
                line.source_type == *family && super::services::affects(&was.services, &is.services, &line.resource_ids)
            };
            let affected = live.select(changed);
            out.push(format!("{family}: {}; {}", changes.join(", "), live.effect(&affected, "is concerned", "are concerned")));
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
        let differing = figures
            .into_iter()
            .filter(|(_, was, is)| was != is)
            .map(|(key, was, is)| format!("{key} changes from {was} to {is}"));
        let differing: Vec<String> = differing.collect();
        (!differing.is_empty()).then(|| format!("{name}: {}", differing.join(", ")))
    };
    out.extend(changed("default caps", &old.caps.default, &new.caps.default));
    let names: BTreeSet<&String> = old.caps.families.keys().chain(new.caps.families.keys()).collect();
    for family in names {
        match (old.caps.families.get(family), new.caps.families.get(family)) {
            (Some(was), Some(is)) => out.extend(changed(&format!("caps of {family}"), was, is)),
            (None, Some(is)) => out.push(format!(
                "caps of {family}: the policy now sets {} instead of the family's default",
                super::effective::cap(is)
            )),
            (Some(was), None) => out
                .push(format!("caps of {family}: the family's default applies again instead of {}", super::effective::cap(was))),
            (None, None) => {}
        }
    }
}

/// The daemon checks connections again whose part of the policy changed and that are still allowed.
fn rechecked(old: &LoadedPolicy, new: &LoadedPolicy, live: &Live<'_>, out: &mut Vec<String>) {
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
        out.push(format!("{} would be checked again at once: {}", counted(affected.len(), "connection"), parts.join(", ")));
    }
}

#[cfg(test)]
mod tests;
