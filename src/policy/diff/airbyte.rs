//! Changes in which code that AAM did not write runs, and what it may do.

use super::super::airbyte::{ConnectorPolicy, Platform};
use super::super::size_text::format as size;
use super::super::{Policy, Run};
use super::change::{Changes, Effect, Parts};
use super::wording::Live;
use std::collections::BTreeSet;

pub fn airbyte(old: &Policy, new: &Policy, live: &Live<'_>, out: &mut Changes) {
    let (was, is) = (&old.airbyte, &new.airbyte);
    if was.dir != is.dir {
        let text = format!("connectors run from {} instead of {}", is.dir.display(), was.dir.display());
        out.add("airbyte.dir", Effect::Wider, text);
    }
    if was.memory != is.memory {
        let text = format!("airbyte.memory changes from {} to {}", size(&was.memory), size(&is.memory));
        out.add("airbyte.memory", Effect::Neutral, text);
    }
    if was.allow_weaker_confinement != is.allow_weaker_confinement {
        let text = match is.allow_weaker_confinement {
            true => "connectors run also where the kernel cannot confine them completely",
            false => "connectors do not run where the kernel cannot confine them completely",
        };
        out.add("airbyte.allow_weaker_confinement", Effect::wider_if(is.allow_weaker_confinement), text);
    }
    let names: BTreeSet<&String> = was.connectors.keys().chain(is.connectors.keys()).collect();
    for name in names {
        let key = format!("airbyte.connectors.{name}");
        let effect = live.effect(&live.of_family(name), "uses it", "use it");
        match (was.connectors.get(name), is.connectors.get(name)) {
            (None, Some(connector)) => out.add_with(&key, Effect::Wider, added(name, connector), &effect),
            (Some(connector), None) => {
                let text = format!("the connector {} of {name} removed", connector.run.message());
                out.add_with(&key, Effect::Narrower, text, &effect);
            }
            (Some(before), Some(after)) => {
                out.add_parts(&key, &format!("connector of {name}"), &changed(before, after), "; ", Some(&effect));
            }
            (None, None) => {}
        }
    }
    platform(was.platform.as_ref(), is.platform.as_ref(), out);
}

fn added(name: &str, connector: &ConnectorPolicy) -> String {
    let hosts = if connector.hosts.is_empty() { "no host".to_string() } else { connector.hosts.join(", ") };
    let paths: Vec<String> = connector.readable.iter().map(|path| path.display().to_string()).collect();
    let files = if paths.is_empty() { String::new() } else { format!(" and read {}", paths.join(", ")) };
    format!("{name} may be served by the connector {}, which may call {hosts}{files}", shown(&connector.run, &connector.version))
}

fn shown(run: &Run, version: &str) -> String {
    if version.is_empty() { run.message() } else { format!("{} {version}", run.message()) }
}

fn changed(before: &ConnectorPolicy, after: &ConnectorPolicy) -> Parts {
    let mut parts = Parts::default();
    parts.changed("run", Effect::Wider, &before.run.message(), &after.run.message());
    parts.changed("version", Effect::Wider, &before.version, &after.version);
    if before.sha256 != after.sha256 {
        let text = |sha256: &Option<String>| sha256.clone().unwrap_or("(not set)".to_string());
        let effect = Effect::wider_if(before.sha256.is_some());
        parts.changed("sha256", effect, &text(&before.sha256), &text(&after.sha256));
    }
    if before.config != after.config {
        let keys: BTreeSet<&String> = before.config.keys().chain(after.config.keys()).collect();
        let keys = keys.into_iter().filter(|key| before.config.get(*key) != after.config.get(*key));
        parts.add(Effect::Wider, format!("the config changes in {}", keys.cloned().collect::<Vec<_>>().join(", ")));
    }
    for host in after.hosts.iter().filter(|host| !before.hosts.contains(host)) {
        parts.add(Effect::Wider, format!("it may call {host}"));
    }
    for host in before.hosts.iter().filter(|host| !after.hosts.contains(host)) {
        parts.add(Effect::Narrower, format!("it may no longer call {host}"));
    }
    for rule in after.posts.iter().filter(|rule| !before.posts.contains(rule)) {
        let text = format!("POST {} ({}) is now allowed, because it only reads: {}", rule.url, rule.body.as_str(), rule.why);
        parts.add(Effect::Wider, text);
    }
    for rule in before.posts.iter().filter(|rule| !after.posts.contains(rule)) {
        parts.add(Effect::Narrower, format!("POST {} ({}) is not allowed any more", rule.url, rule.body.as_str()));
    }
    parts.changed("memory", Effect::Neutral, &size(&before.memory), &size(&after.memory));
    if before.streams != after.streams {
        let more = after.streams.iter().any(|stream| !before.streams.contains(stream)) && !before.streams.is_empty();
        let streams = |list: &[String]| if list.is_empty() { "(not set)".to_string() } else { list.join(", ") };
        let effect = Effect::wider_if(more || after.streams.is_empty());
        parts.changed("streams", effect, &streams(&before.streams), &streams(&after.streams));
    }
    for path in after.readable.iter().filter(|path| !before.readable.contains(path)) {
        parts.add(Effect::Wider, format!("it may read {}", path.display()));
    }
    for path in before.readable.iter().filter(|path| !after.readable.contains(path)) {
        parts.add(Effect::Narrower, format!("it may no longer read {}", path.display()));
    }
    parts
}

fn platform(was: Option<&Platform>, is: Option<&Platform>, out: &mut Changes) {
    match (was, is) {
        (None, Some(is)) => {
            let text = format!("AAM may create sources in the workspace {} of the Airbyte at {}", is.workspace, is.url);
            out.add("airbyte.platform", Effect::Wider, text);
        }
        (Some(was), None) => {
            out.add("airbyte.platform", Effect::Narrower, format!("the Airbyte at {} is not used any more", was.url));
        }
        (Some(was), Some(is)) => {
            let mut parts = Parts::default();
            parts.changed("url", Effect::Wider, was.url.as_str(), is.url.as_str());
            parts.changed("workspace", Effect::Wider, &was.workspace, &is.workspace);
            parts.changed("credential", Effect::Wider, &was.credential.to_string(), &is.credential.to_string());
            out.add_parts("airbyte.platform", "platform", &parts, ", ", None);
        }
        (None, None) => {}
    }
}
