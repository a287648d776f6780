//! Changes in where AAM may go, what it may read there, and how often: network, files, families, manifests and caps.

use super::super::effective::cap as cap_text;
use super::super::services;
use super::super::{Cap, FamilyPolicy, LoadedPolicy, Policy};
use super::ConnectionLine;
use super::change::{Changes, Effect, Parts};
use super::wording::{Live, path_or_none, shown};
use crate::families;
use std::collections::BTreeSet;
use std::path::PathBuf;

pub fn network(old: &Policy, new: &Policy, out: &mut Changes) {
    let (was, is) = (&old.network, &new.network);
    let key = "network.allow_private";
    for gone in was.allow_private.iter().filter(|net| !is.allow_private.contains(net)) {
        let rest = match is.allow_private.iter().find(|net| net.contains(gone)) {
            Some(wider) => format!("still allowed as part of {wider}"),
            None => match is.allow_private.iter().find(|net| gone.contains(*net)) {
                Some(left) => format!("of it, only {left} and other listed ranges are still allowed"),
                None => "private addresses in it are no longer allowed".to_string(),
            },
        };
        out.add(key, Effect::Narrower, format!("{gone} removed from network.allow_private; {rest}"));
    }
    for added in is.allow_private.iter().filter(|net| !was.allow_private.contains(net)) {
        let (effect, rest) = match was.allow_private.iter().find(|net| net.contains(added)) {
            Some(wider) => (Effect::Neutral, format!("it was already allowed as part of {wider}")),
            None => (Effect::Wider, "all addresses in it are allowed, including private ones".to_string()),
        };
        out.add(key, effect, format!("{added} added to network.allow_private; {rest}"));
    }
    if was.proxy != is.proxy {
        let text = format!("calls go {} instead of {}", route(is.proxy.as_deref()), route(was.proxy.as_deref()));
        out.add("network.proxy", Effect::Wider, text);
    }
    if was.ca_file != is.ca_file {
        let text = format!("network.ca_file changes from {} to {}", path_or_none(&was.ca_file), path_or_none(&is.ca_file));
        out.add("network.ca_file", Effect::wider_if(is.ca_file.is_some()), text);
    }
}

pub fn weak_logins(old: &Policy, new: &Policy, out: &mut Changes) {
    let (was, is) = (&old.network.allow_weak_login, &new.network.allow_weak_login);
    let key = "network.allow_weak_login";
    for added in is.iter().filter(|host| !was.contains(host)) {
        let text = format!(
            "{added} added to network.allow_weak_login; it may receive database passwords in clear text or as an MD5 digest without verified TLS"
        );
        out.add(key, Effect::Wider, text);
    }
    for gone in was.iter().filter(|host| !is.contains(host)) {
        let text = format!(
            "{gone} removed from network.allow_weak_login; without verified TLS it no longer receives a password that it could use"
        );
        out.add(key, Effect::Narrower, text);
    }
}

fn route(proxy: Option<&str>) -> String {
    proxy.map_or("directly to the source".to_string(), |proxy| format!("through the proxy {proxy}"))
}

/// Compares paths as text; it does not resolve symlinks, as the file engine does.
pub fn roots(old: &Policy, new: &Policy, live: &Live<'_>, out: &mut Changes) {
    let below =
        |roots: &[PathBuf], line: &ConnectionLine| local_paths(line).any(|path| roots.iter().any(|root| path.starts_with(root)));
    let (was, is) = (&old.files.roots, &new.files.roots);
    for gone in was.iter().filter(|root| !is.contains(root)) {
        let only = std::slice::from_ref(gone);
        let affected = live.select(|line| below(only, line) && !below(is, line));
        let effect = live.effect(&affected, "loses its source", "lose their source");
        out.add_with("files.roots", Effect::Narrower, format!("files below {} may no longer be read", gone.display()), &effect);
    }
    for added in is.iter().filter(|root| !was.contains(root)) {
        let only = std::slice::from_ref(added);
        let affected = live.select(|line| below(only, line) && !below(was, line));
        let effect = live.effect(&affected, "would be tried", "would be tried");
        let covered = was.iter().any(|root| added.starts_with(root));
        let mark = if covered { Effect::Neutral } else { Effect::Wider };
        out.add_with("files.roots", mark, format!("files below {} may now be read", added.display()), &effect);
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

pub fn families(old: &Policy, new: &Policy, live: &Live<'_>, out: &mut Changes) {
    let names: BTreeSet<&String> = old.families.keys().chain(new.families.keys()).collect();
    for family in names {
        let (was, is) = (old.family(family), new.family(family));
        let key = format!("families.{family}");
        let changes = family_parts(&was, &is);
        let effect = live.effect(&live.of_family(family), "uses it", "use it");
        out.add_parts(&key, family, &changes, ", ", Some(&effect));
        let changes = services::diff(&was.services, &is.services);
        let changed = |line: &ConnectionLine| {
            line.source_type == *family && services::affects(&was.services, &is.services, &line.resource_ids)
        };
        let effect = live.effect(&live.select(changed), "is concerned", "are concerned");
        out.add_parts(&key, family, &changes, ", ", Some(&effect));
    }
}

fn family_parts(was: &FamilyPolicy, is: &FamilyPolicy) -> Parts {
    let mut changes = Parts::default();
    // An engine that runs a connector gives the credential to code that AAM did not write.
    changes.changed("engine", Effect::raised(&was.engine, &is.engine), was.engine.as_str(), is.engine.as_str());
    // Credentials are sent to the base URL, and a region is another host.
    changes.changed("base_url", Effect::Wider, &shown(&was.base_url), &shown(&is.base_url));
    changes.changed("region", Effect::Wider, &shown(&was.region), &shown(&is.region));
    let calls_more = Effect::wider_if(is.health_path.is_some());
    changes.changed("health_path", calls_more, &shown(&was.health_path), &shown(&is.health_path));
    for server in is.hosts.iter().filter(|server| !was.hosts.contains(server)) {
        changes.add(Effect::Wider, format!("credentials may now be sent to the server {server}"));
    }
    for server in was.hosts.iter().filter(|server| !is.hosts.contains(server)) {
        changes.add(Effect::Narrower, format!("the server {server} may no longer be read"));
    }
    for name in is.deny_operations.iter().filter(|name| !was.deny_operations.contains(name)) {
        changes.add(Effect::Narrower, format!("operation {name} will not be called any more"));
    }
    for name in was.deny_operations.iter().filter(|name| !is.deny_operations.contains(name)) {
        changes.add(Effect::Wider, format!("operation {name} may be called again"));
    }
    changes
}

/// The manifests whose files differ. A manifest defines what its source reads, and also its hosts unless the policy lists
/// them.
pub fn manifest_files(was: &LoadedPolicy, is: &LoadedPolicy, out: &mut Changes) {
    let names: BTreeSet<&String> = was.sources.manifests().chain(is.sources.manifests()).map(|(name, _)| name).collect();
    for name in names {
        let (before, after) = (was.sources.manifest(name), is.sources.manifest(name));
        let key = format!("manifests.dir.{name}");
        let hosts = match is.policy.manifests.source(name).hosts.as_slice() {
            [] => "the hosts that it names".to_string(),
            hosts => hosts.join(", "),
        };
        match (before.map(|file| file.digest), after.map(|file| file.digest)) {
            (None, Some(_)) => out.add(&key, Effect::Wider, format!("manifest {name} added; it may call {hosts}")),
            (Some(_), None) => {
                out.add(&key, Effect::Narrower, format!("manifest {name} removed; its source cannot be connected"))
            }
            (Some(a), Some(b)) if a != b => {
                out.add(&key, Effect::Wider, format!("manifest {name} changes what its source reads; it may call {hosts}"));
            }
            _ => {}
        }
    }
}

pub fn caps(old: &Policy, new: &Policy, out: &mut Changes) {
    out.add_parts("caps.default", "default caps", &cap_parts(&old.caps.default, &new.caps.default), ", ", None);
    let names: BTreeSet<&String> = old.caps.families.keys().chain(new.caps.families.keys()).collect();
    for family in names {
        let key = format!("caps.families.{family}");
        let own = families::find(family).map(|family| &family.cap);
        let (before, after) = (old.cap(family, own), new.cap(family, own));
        let parts = cap_parts(before, after);
        match (old.caps.families.get(family), new.caps.families.get(family)) {
            (Some(_), Some(_)) => out.add_parts(&key, &format!("caps of {family}"), &parts, ", ", None),
            (None, Some(is)) => {
                let text = format!(
                    "caps of {family}: the policy now sets {} instead of the family's default {}",
                    cap_text(is),
                    cap_text(before)
                );
                out.add(&key, parts.effect(), text);
            }
            (Some(was), None) => {
                let text = format!(
                    "caps of {family}: the family's default {} applies again instead of {}",
                    cap_text(after),
                    cap_text(was)
                );
                out.add(&key, parts.effect(), text);
            }
            (None, None) => {}
        }
    }
}

/// The figures of a budget that differ. A higher one allows more calls.
pub fn cap_parts(was: &Cap, is: &Cap) -> Parts {
    let mut parts = Parts::default();
    for (key, effect, was, is) in [
        ("per_second", Effect::raised(&was.per_second, &is.per_second), was.per_second.to_string(), is.per_second.to_string()),
        ("burst", Effect::raised(&was.burst, &is.burst), was.burst.to_string(), is.burst.to_string()),
        ("per_day", Effect::raised(&was.per_day, &is.per_day), was.per_day.to_string(), is.per_day.to_string()),
        (
            "concurrency",
            Effect::raised(&was.concurrency, &is.concurrency),
            was.concurrency.to_string(),
            is.concurrency.to_string(),
        ),
    ] {
        parts.changed(key, effect, &was, &is);
    }
    parts
}
