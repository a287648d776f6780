//! The section `credentials` with all values.

use super::super::credentials::{ConsentPolicy, Credentials, Principal, Setting, VaultLogin, VaultPolicy};
use super::super::grants::LocatorPattern;
use super::{cap, duration, list, or_null, quoted};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

pub fn credentials(credentials: &Credentials) -> String {
    let mut out = String::from("credentials:");
    let mut line = |key: &str, value: String| {
        let _ = write!(out, "\n  {key}:{}{value}", if value.starts_with('\n') { "" } else { " " });
    };
    let patterns = |locators: &[LocatorPattern]| list(locators.iter().map(LocatorPattern::as_str));
    line("namespaces", entries(credentials.namespaces.iter().map(|(name, locators)| (name.as_str(), patterns(locators)))));
    line("secrets_dir", path(&credentials.secrets_dir));
    line("files", list(credentials.files.iter().map(|folder| folder.to_string_lossy())));
    line("vault", credentials.vault.as_ref().map_or("null".to_string(), vault));
    line("principals", entries(credentials.principals.iter().map(|(name, value)| (name.as_str(), principal(value)))));
    line("consents", entries(credentials.consents.iter().map(|(name, value)| (name.as_str(), consent(value)))));
    let store = &credentials.consent_store;
    let key = or_null(store.key.as_ref().map(ToString::to_string).as_ref());
    line("consent_store", format!("{{file: {}, key: {key}}}", path(&store.file)));
    line("caps", format!("{{vault: {}, tokens: {}}}", cap(&credentials.caps.vault), cap(&credentials.caps.tokens)));
    out
}

/// A mapping in block form, or `{}`.
fn entries<'a>(entries: impl Iterator<Item = (&'a str, String)>) -> String {
    let text = entries.fold(String::new(), |text, (name, value)| format!("{text}\n    {}: {value}", quoted(name)));
    if text.is_empty() { "{}".to_string() } else { text }
}

/// A mapping in flow form, without the keys that have no value.
fn flow(pairs: Vec<(&str, Option<String>)>) -> String {
    let pairs: Vec<String> = pairs.into_iter().filter_map(|(key, value)| value.map(|value| format!("{key}: {value}"))).collect();
    format!("{{{}}}", pairs.join(", "))
}

fn path(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}

fn vault(vault: &VaultPolicy) -> String {
    let login = &vault.login;
    let locator = |locator: &crate::model::Locator| quoted(&locator.to_string());
    let mut pairs = vec![("method", Some(login.method().to_string()))];
    pairs.extend(match login {
        VaultLogin::Token { token } => vec![("token", Some(locator(token)))],
        VaultLogin::TokenFile { file } => vec![("file", Some(path(file)))],
        VaultLogin::Approle { mount, role_id, secret_id } => {
            vec![("mount", Some(quoted(mount))), ("role_id", Some(locator(role_id))), ("secret_id", Some(locator(secret_id)))]
        }
        VaultLogin::Kubernetes { mount, role, token_file } => {
            vec![("mount", Some(quoted(mount))), ("role", Some(quoted(role))), ("token_file", Some(path(token_file)))]
        }
        VaultLogin::Jwt { mount, role, token, token_file } => vec![
            ("mount", Some(quoted(mount))),
            ("role", Some(quoted(role))),
            ("token", token.as_ref().map(locator)),
            ("token_file", token_file.as_deref().map(path)),
        ],
    });
    let ca_file = vault.ca_file.as_deref().map_or("null".to_string(), path);
    format!(
        "\n    address: {}\n    ca_file: {ca_file}\n    namespace: {}\n    path: {}\n    login: {}\n    kv_ttl: {}",
        quoted(&vault.address),
        or_null(vault.namespace.as_ref()),
        or_null(vault.path.as_ref()),
        flow(pairs),
        duration(&vault.kv_ttl)
    )
}

fn principal(principal: &Principal) -> String {
    let mut pairs = vec![("kind", Some(principal.kind.to_string()))];
    pairs.extend(principal.settings.iter().map(|(key, value)| {
        let value = match value {
            Setting::Text(text) => quoted(text),
            Setting::Locator(locator) => quoted(&locator.to_string()),
            Setting::List(items) => list(items),
            Setting::Flag(flag) => flag.to_string(),
        };
        (*key, Some(value))
    }));
    flow(pairs)
}

fn consent(consent: &ConsentPolicy) -> String {
    let text = |text: &Option<String>| text.as_ref().map(|text| quoted(text));
    let values = |values: &BTreeMap<String, String>| {
        let pairs: Vec<String> = values.iter().map(|(key, value)| format!("{}: {}", quoted(key), quoted(value))).collect();
        format!("{{{}}}", pairs.join(", "))
    };
    flow(vec![
        ("family", Some(quoted(&consent.family))),
        ("client_id", Some(quoted(&consent.client_id))),
        ("client_secret", consent.client_secret.as_ref().map(|locator| quoted(&locator.to_string()))),
        ("auth", text(&consent.auth)),
        ("redirect", Some(quoted(&consent.redirect))),
        ("scopes", consent.scopes.as_ref().map(list)),
        ("authorize_url", text(&consent.authorize_url)),
        ("token_url", text(&consent.token_url)),
        ("revoke_url", text(&consent.revoke_url)),
        ("issuer", text(&consent.issuer)),
        ("values", Some(values(&consent.values))),
    ])
}
