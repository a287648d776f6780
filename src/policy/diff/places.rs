//! Changes in the places that credentials come from: folders, the vault, service principals and consents. What lets AAM
//! ask another place, or ask for more, is marked.

use super::super::credentials::{ConsentPolicy, Credentials, Principal, Setting, VaultPolicy};
use super::super::duration_text::format as duration;
use super::super::effective::cap;
use super::credentials::WIDER;
use super::wording::Live;
use crate::families;
use crate::model::Locator;
use std::collections::BTreeSet;
use std::path::Path;

pub fn places(was: &Credentials, is: &Credentials, live: &Live<'_>, out: &mut Vec<String>) {
    if was.secrets_dir != is.secrets_dir {
        let uses = live.select(|line| matches!(line.locator, Some(Locator::Env(_))));
        out.push(format!(
            "credentials.secrets_dir changes from {} to {}; {}",
            was.secrets_dir.display(),
            is.secrets_dir.display(),
            live.effect(&uses, "may find another value", "may find other values")
        ));
    }
    folders(was, is, live, out);
    vault(was.vault.as_ref(), is.vault.as_ref(), live, out);
    for name in was.principals.keys().chain(is.principals.keys()).collect::<BTreeSet<_>>() {
        principal(name, was.principals.get(name), is.principals.get(name), live, out);
    }
    for name in was.consents.keys().chain(is.consents.keys()).collect::<BTreeSet<_>>() {
        consent(name, was.consents.get(name), is.consents.get(name), live, out);
    }
    let (before, after) = (&was.consent_store, &is.consent_store);
    if before != after {
        out.push("credentials.consent_store changes; grants that are stored elsewhere must be given again".to_string());
    }
    for (name, before, after) in [("vault", &was.caps.vault, &is.caps.vault), ("tokens", &was.caps.tokens, &is.caps.tokens)] {
        if before != after {
            out.push(format!("credentials.caps.{name} changes from {} to {}", cap(before), cap(after)));
        }
    }
}

fn folders(was: &Credentials, is: &Credentials, live: &Live<'_>, out: &mut Vec<String>) {
    let below = |folder: &Path| {
        live.select(|line| matches!(&line.locator, Some(Locator::File(path)) if Path::new(path).starts_with(folder)))
    };
    for gone in was.files.iter().filter(|folder| !is.files.contains(folder)) {
        let effect = live.effect(&below(gone), "loses its credential", "lose their credential");
        out.push(format!("credentials below {} may no longer be read; {effect}", gone.display()));
    }
    for added in is.files.iter().filter(|folder| !was.files.contains(folder)) {
        let effect = live.effect(&below(added), "would be tried", "would be tried");
        out.push(format!("credentials below {} may now be read{WIDER}; {effect}", added.display()));
    }
}

fn vault(was: Option<&VaultPolicy>, is: Option<&VaultPolicy>, live: &Live<'_>, out: &mut Vec<String>) {
    if was == is {
        return;
    }
    let uses = live.select(|line| matches!(line.locator, Some(Locator::Vault(_))));
    let effect = live.effect(&uses, "uses it", "use it");
    match (was, is) {
        (None, Some(vault)) => out.push(format!(
            "the vault {} may now be asked, with a login by {}{WIDER}; {effect}",
            vault.address,
            vault.login.method()
        )),
        (Some(vault), None) => out.push(format!("the vault {} may no longer be asked; {effect}", vault.address)),
        (Some(before), Some(after)) => {
            let shown = |text: &Option<String>| text.clone().unwrap_or("(not set)".to_string());
            let file = |path: &Option<std::path::PathBuf>| path.as_ref().map(|path| path.display().to_string());
            let login = |vault: &VaultPolicy| serde_json::json!(vault.login).to_string();
            let mut changes = Vec::new();
            for (key, before, after, mark) in [
                ("address", before.address.clone(), after.address.clone(), WIDER),
                ("login", login(before), login(after), WIDER),
                ("namespace", shown(&before.namespace), shown(&after.namespace), WIDER),
                ("path", shown(&before.path), shown(&after.path), ""),
                ("ca_file", shown(&file(&before.ca_file)), shown(&file(&after.ca_file)), WIDER),
                ("kv_ttl", duration(&before.kv_ttl), duration(&after.kv_ttl), ""),
            ] {
                if before != after {
                    changes.push(format!("{key} changes from {before} to {after}{mark}"));
                }
            }
            out.push(format!("the vault: {}; {effect}", changes.join(", ")));
        }
        (None, None) => {}
    }
}

fn principal(name: &str, was: Option<&Principal>, is: Option<&Principal>, live: &Live<'_>, out: &mut Vec<String>) {
    if was == is {
        return;
    }
    let uses = live.select(|line| matches!(&line.locator, Some(Locator::ServicePrincipal(used)) if used == name));
    let effect = live.effect(&uses, "uses it", "use it");
    match (was, is) {
        (None, Some(principal)) => {
            out.push(format!("service principal {name} added: {}{WIDER}; {effect}", ability(principal)));
        }
        (Some(_), None) => out.push(format!("service principal {name} removed; {effect}")),
        (Some(before), Some(after)) if before.kind != after.kind => {
            out.push(format!("service principal {name} changes from {} to {}{WIDER}; {effect}", ability(before), ability(after)));
        }
        (Some(before), Some(after)) => {
            let keys: BTreeSet<_> = before.settings.keys().chain(after.settings.keys()).collect();
            let changed = keys.into_iter().filter(|key| before.settings.get(*key) != after.settings.get(*key));
            let changes: Vec<String> = changed
                .map(|key| {
                    let mark = if *key == crate::policy::credentials::EXPIRES.name { "" } else { WIDER };
                    format!("{key} changes from {} to {}{mark}", shown(before.settings.get(key)), shown(after.settings.get(key)))
                })
                .collect();
            out.push(format!("service principal {name}: {}; {effect}", changes.join(", ")));
        }
        (None, None) => {}
    }
}

/// What a principal lets AAM do, for example `kind entra, may mint tokens at HOST with the scopes of the family`.
fn ability(principal: &Principal) -> String {
    let mut hosts: Vec<String> =
        principal.calls().iter().filter_map(|(_, url)| url::Url::parse(url).ok()?.host_str().map(str::to_string)).collect();
    hosts.dedup();
    let scopes = match principal.list("scopes") {
        Some(scopes) => format!("the scopes {}", scopes.join(" ")),
        None => "the scopes of the family".to_string(),
    };
    match hosts.as_slice() {
        [] => format!("kind {}, makes no call of its own", principal.kind),
        hosts => format!("kind {}, may mint tokens at {} with {scopes}", principal.kind, hosts.join(", ")),
    }
}

fn shown(setting: Option<&Setting>) -> String {
    match setting {
        None => "(not set)".to_string(),
        Some(Setting::Text(text)) => text.clone(),
        Some(Setting::Locator(locator)) => locator.to_string(),
        Some(Setting::List(items)) => format!("[{}]", items.join(", ")),
        Some(Setting::Flag(flag)) => flag.to_string(),
    }
}

fn consent(name: &str, was: Option<&ConsentPolicy>, is: Option<&ConsentPolicy>, live: &Live<'_>, out: &mut Vec<String>) {
    if was == is {
        return;
    }
    let uses = live.select(|line| matches!(&line.locator, Some(Locator::Consent(used)) if used == name));
    let effect = live.effect(&uses, "uses it", "use it");
    match (was, is) {
        (None, Some(consent)) => out.push(format!(
            "consent {name} added: owners of {} may let AAM read with {}, as the client {}{WIDER}; {effect}",
            consent.family,
            consent_scopes(consent),
            consent.client_id
        )),
        (Some(_), None) => out.push(format!("consent {name} removed; {effect}")),
        (Some(before), Some(after)) => {
            let (before, after) = (serde_json::json!(before), serde_json::json!(after));
            let keys = before.as_object().into_iter().chain(after.as_object()).flat_map(|keys| keys.keys());
            let changed: BTreeSet<&String> = keys.filter(|key| before.get(*key) != after.get(*key)).collect();
            let value = |of: &serde_json::Value, key: &str| match of.get(key) {
                None | Some(serde_json::Value::Null) => "(not set)".to_string(),
                Some(serde_json::Value::String(text)) => text.clone(),
                Some(other) => other.to_string(),
            };
            let changes: Vec<String> = changed
                .into_iter()
                .map(|key| format!("{key} changes from {} to {}{WIDER}", value(&before, key), value(&after, key)))
                .collect();
            out.push(format!("consent {name}: {}; {effect}", changes.join(", ")));
        }
        (None, None) => {}
    }
}

fn consent_scopes(consent: &ConsentPolicy) -> String {
    let of_family = || {
        let oauth = families::find(&consent.family)?.oauth.as_ref()?;
        Some(oauth.scopes.iter().map(|scope| scope.name.clone()).collect::<Vec<_>>())
    };
    match consent.scopes.clone().or_else(of_family) {
        Some(scopes) => format!("the scopes {}", scopes.join(" ")),
        None => "the scopes of the family".to_string(),
    }
}
