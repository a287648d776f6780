//! Changes in the places that credentials come from: folders, the vault, service principals and consents. What lets AAM
//! ask another place, or ask for more, is marked.

use super::super::credentials::{ConsentPolicy, Credentials, Principal, Setting, VaultPolicy};
use super::super::duration_text::format as duration;
use super::change::{Changes, Effect, Parts};
use super::reach::cap_parts;
use super::wording::{Live, shown as text_or_not_set};
use crate::families;
use crate::model::Locator;
use std::collections::BTreeSet;
use std::path::Path;

pub fn places(was: &Credentials, is: &Credentials, live: &Live<'_>, out: &mut Changes) {
    if was.secrets_dir != is.secrets_dir {
        let uses = live.select(|line| matches!(line.locator, Some(Locator::Env(_))));
        let text = format!("credentials.secrets_dir changes from {} to {}", was.secrets_dir.display(), is.secrets_dir.display());
        let effect = live.effect(&uses, "may find another value", "may find other values");
        out.add_with("credentials.secrets_dir", Effect::Wider, text, &effect);
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
        let text = "credentials.consent_store changes; grants that are stored elsewhere must be given again";
        out.add("credentials.consent_store", Effect::Wider, text);
    }
    for (name, before, after) in [("vault", &was.caps.vault, &is.caps.vault), ("tokens", &was.caps.tokens, &is.caps.tokens)] {
        let key = format!("credentials.caps.{name}");
        out.add_parts(&key, &key, &cap_parts(before, after), ", ", None);
    }
}

fn folders(was: &Credentials, is: &Credentials, live: &Live<'_>, out: &mut Changes) {
    let below = |folder: &Path| {
        live.select(|line| matches!(&line.locator, Some(Locator::File(path)) if Path::new(path).starts_with(folder)))
    };
    for gone in was.files.iter().filter(|folder| !is.files.contains(folder)) {
        let effect = live.effect(&below(gone), "loses its credential", "lose their credential");
        let text = format!("credentials below {} may no longer be read", gone.display());
        out.add_with("credentials.files", Effect::Narrower, text, &effect);
    }
    for added in is.files.iter().filter(|folder| !was.files.contains(folder)) {
        let effect = live.effect(&below(added), "would be tried", "would be tried");
        let covered = was.files.iter().any(|folder| added.starts_with(folder));
        let mark = if covered { Effect::Neutral } else { Effect::Wider };
        out.add_with("credentials.files", mark, format!("credentials below {} may now be read", added.display()), &effect);
    }
}

fn vault(was: Option<&VaultPolicy>, is: Option<&VaultPolicy>, live: &Live<'_>, out: &mut Changes) {
    if was == is {
        return;
    }
    let uses = live.select(|line| matches!(line.locator, Some(Locator::Vault(_))));
    let effect = live.effect(&uses, "uses it", "use it");
    let key = "credentials.vault";
    match (was, is) {
        (None, Some(vault)) => {
            let text = format!("the vault {} may now be asked, with a login by {}", vault.address, vault.login.method());
            out.add_with(key, Effect::Wider, text, &effect);
        }
        (Some(vault), None) => {
            out.add_with(key, Effect::Narrower, format!("the vault {} may no longer be asked", vault.address), &effect);
        }
        (Some(before), Some(after)) => {
            let file = |path: &Option<std::path::PathBuf>| path.as_ref().map(|path| path.display().to_string());
            let login = |vault: &VaultPolicy| serde_json::json!(vault.login).to_string();
            let mut parts = Parts::default();
            parts.changed("address", Effect::Wider, &before.address, &after.address);
            parts.changed("login", Effect::Wider, &login(before), &login(after));
            for (key, effect, before, after) in [
                ("namespace", Effect::Wider, before.namespace.clone(), after.namespace.clone()),
                ("path", Effect::Wider, before.path.clone(), after.path.clone()),
                ("ca_file", Effect::wider_if(after.ca_file.is_some()), file(&before.ca_file), file(&after.ca_file)),
            ] {
                parts.changed(key, effect, &text_or_not_set(&before), &text_or_not_set(&after));
            }
            let lasts = Effect::raised(&before.kv_ttl, &after.kv_ttl);
            parts.changed("kv_ttl", lasts, &duration(&before.kv_ttl), &duration(&after.kv_ttl));
            out.add_parts(key, "the vault", &parts, ", ", Some(&effect));
        }
        (None, None) => {}
    }
}

fn principal(name: &str, was: Option<&Principal>, is: Option<&Principal>, live: &Live<'_>, out: &mut Changes) {
    if was == is {
        return;
    }
    let uses = live.select(|line| matches!(&line.locator, Some(Locator::ServicePrincipal(used)) if used == name));
    let effect = live.effect(&uses, "uses it", "use it");
    let key = format!("credentials.principals.{name}");
    match (was, is) {
        (None, Some(principal)) => {
            let text = format!("service principal {name} added: {}", ability(principal));
            out.add_with(&key, Effect::Wider, text, &effect);
        }
        (Some(_), None) => out.add_with(&key, Effect::Narrower, format!("service principal {name} removed"), &effect),
        (Some(before), Some(after)) if before.kind != after.kind => {
            let text = format!("service principal {name} changes from {} to {}", ability(before), ability(after));
            out.add_with(&key, Effect::Wider, text, &effect);
        }
        (Some(before), Some(after)) => {
            let mut parts = Parts::default();
            for setting in before.settings.keys().chain(after.settings.keys()).collect::<BTreeSet<_>>() {
                let (was, is) = (before.settings.get(setting), after.settings.get(setting));
                parts.changed(setting, setting_effect(setting, was, is), &shown(was), &shown(is));
            }
            out.add_parts(&key, &format!("service principal {name}"), &parts, ", ", Some(&effect));
        }
        (None, None) => {}
    }
}

/// What a changed setting of a principal allows. The day on which its secret ends is only a reminder.
fn setting_effect(key: &str, was: Option<&Setting>, is: Option<&Setting>) -> Effect {
    match (was, is) {
        _ if key == crate::policy::credentials::EXPIRES.name => Effect::Neutral,
        (Some(Setting::List(was)), Some(Setting::List(is))) => Effect::wider_if(!is_part_of(is, was)),
        _ => Effect::Wider,
    }
}

/// Whether every item of `items` is in `all`, and there is one: an empty list asks for the default.
fn is_part_of(items: &[String], all: &[String]) -> bool {
    !items.is_empty() && items.iter().all(|item| all.contains(item))
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

fn consent(name: &str, was: Option<&ConsentPolicy>, is: Option<&ConsentPolicy>, live: &Live<'_>, out: &mut Changes) {
    if was == is {
        return;
    }
    let uses = live.select(|line| matches!(&line.locator, Some(Locator::Consent(used)) if used == name));
    let effect = live.effect(&uses, "uses it", "use it");
    let key = format!("credentials.consents.{name}");
    match (was, is) {
        (None, Some(consent)) => {
            let text = format!(
                "consent {name} added: owners of {} may let AAM read with {}, as the client {}",
                consent.family,
                consent_scopes(consent),
                consent.client_id
            );
            out.add_with(&key, Effect::Wider, text, &effect);
        }
        (Some(_), None) => out.add_with(&key, Effect::Narrower, format!("consent {name} removed"), &effect),
        (Some(before), Some(after)) => {
            let asks_less = matches!((&before.scopes, &after.scopes), (Some(was), Some(is)) if is_part_of(is, was));
            let (before, after) = (serde_json::json!(before), serde_json::json!(after));
            let keys = before.as_object().into_iter().chain(after.as_object()).flat_map(|keys| keys.keys());
            let value = |of: &serde_json::Value, key: &str| match of.get(key) {
                None | Some(serde_json::Value::Null) => "(not set)".to_string(),
                Some(serde_json::Value::String(text)) => text.clone(),
                Some(other) => other.to_string(),
            };
            let mut parts = Parts::default();
            for key in keys.collect::<BTreeSet<_>>() {
                let effect = Effect::wider_if(key != "scopes" || !asks_less);
                parts.changed(key, effect, &value(&before, key), &value(&after, key));
            }
            out.add_parts(&key, &format!("consent {name}"), &parts, ", ", Some(&effect));
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
