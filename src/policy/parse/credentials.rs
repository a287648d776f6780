//! The section `credentials`.

use super::super::credentials::{
    ConsentStore, CredentialCaps, Credentials, DEFAULT_KV_TTL, VaultLogin, VaultPath, VaultPolicy, file_path,
};
use super::super::read::{Fields, Reader, Spot};
use super::super::yaml::shown;
use super::consents::{consent_store, consents};
use super::grants::locators;
use super::principals::principals;
use super::reach::{address, cap};
use crate::model::Locator;
use crate::model::locator::LOCATOR_SCHEMES;
use crate::model::recipient::{is_loopback, normal_host};
use std::collections::BTreeMap;
use std::path::PathBuf;

const KEYS: [&str; 8] = ["namespaces", "secrets_dir", "files", "vault", "principals", "consents", "consent_store", "caps"];

pub fn credentials(r: &mut Reader, spot: &Spot<'_>) -> Option<Credentials> {
    let fields = r.fields(spot, &KEYS)?;
    let default = Credentials::default();
    let mut namespaces = BTreeMap::new();
    if let Some(spot) = fields.get("namespaces") {
        for (name, spot) in r.entries(&spot, "a mapping of namespaces") {
            if let Some(list) = locators(r, &spot) {
                // Intents have the names of their namespaces in lower case.
                namespaces.insert(name.to_ascii_lowercase(), list);
            }
        }
    }
    let credentials = Credentials {
        namespaces,
        secrets_dir: r.field(&fields, "secrets_dir", default.secrets_dir, folder),
        files: r.field(&fields, "files", Vec::new(), |r, spot| r.unique(spot, "folders", folder)),
        vault: r.optional(&fields, "vault", vault),
        principals: r.field(&fields, "principals", BTreeMap::new(), principals),
        consents: r.field(&fields, "consents", BTreeMap::new(), consents),
        consent_store: r.field(&fields, "consent_store", ConsentStore::default(), consent_store),
        caps: r.field(&fields, "caps", CredentialCaps::default(), caps),
    };
    check_secrets(r, &credentials, fields.get("vault").is_some());
    Some(credentials)
}

/// Reports secrets of the policy itself that could never be read: files outside of `files`, and secrets of a vault that is
/// not described.
fn check_secrets(r: &mut Reader, credentials: &Credentials, has_vault: bool) {
    for (locator, pointer, place) in std::mem::take(&mut r.secrets) {
        match &locator {
            Locator::File(path) => {
                if let Err(failure) = file_path::find(path, &credentials.files) {
                    r.report_at(&pointer, place, failure.title, failure.fix);
                }
            }
            Locator::Vault(_) if !has_vault => r.report_at(
                &pointer,
                place,
                format!("{locator} cannot be read, because the policy does not describe a vault"),
                "write credentials.vault with address and login, or name env:NAME or file:PATH",
            ),
            _ => {}
        }
    }
}

/// Reads the path of a folder. The root directory is refused, because every file would lie below it.
fn folder(r: &mut Reader, spot: &Spot<'_>) -> Option<PathBuf> {
    let path = file(r, spot)?;
    if path.has_root() && path.parent().is_none() {
        r.report(spot, "the root directory is not allowed here", "write the folder that holds only credentials");
        return None;
    }
    Some(path)
}

pub(super) fn file(r: &mut Reader, spot: &Spot<'_>) -> Option<PathBuf> {
    r.text(spot, "a path").map(PathBuf::from)
}

/// Reads where a secret of the policy itself is stored. A principal or a consent cannot depend on another one.
pub(super) fn locator(r: &mut Reader, spot: &Spot<'_>) -> Option<Locator> {
    secret_locator(r, spot, "write env:NAME, file:PATH or vault:PATH#FIELD")
}

fn secret_locator(r: &mut Reader, spot: &Spot<'_>, hint: &str) -> Option<Locator> {
    let text = r.text(spot, "a locator")?;
    match Locator::parse(text) {
        Ok(locator @ (Locator::Env(_) | Locator::File(_) | Locator::Vault(_))) => {
            if super::super::grants::is_process_variable(&locator) {
                r.report(
                    spot,
                    "this is a variable of the process itself and is never used as a credential",
                    "store the credential in a variable of its own",
                );
                return None;
            }
            r.secrets.push((locator.clone(), spot.pointer.clone(), spot.node.place));
            Some(locator)
        }
        Ok(locator) if LOCATOR_SCHEMES.contains(&locator.scheme()) => {
            r.report(spot, format!("a {}: locator is not allowed here", locator.scheme()), hint);
            None
        }
        // The value is not repeated, because it may be a secret that was pasted by mistake.
        Ok(_) | Err(_) => {
            r.report(spot, "this is not a locator; the policy never contains a secret itself", hint);
            None
        }
    }
}

pub(super) fn text(r: &mut Reader, fields: &Fields<'_>, name: &str, hint: &str) -> Option<String> {
    let spot = r.required(fields, name, hint)?;
    r.text(&spot, hint).map(str::to_string)
}

fn vault(r: &mut Reader, spot: &Spot<'_>) -> Option<VaultPolicy> {
    let fields = r.fields(spot, &["address", "ca_file", "namespace", "path", "login", "kv_ttl"])?;
    let url = r.required(&fields, "address", "write the URL of the vault, for example https://vault.acme.example:8200");
    let address = url.and_then(|spot| {
        let text = address(r, &spot, "the URL of the vault, for example https://vault.acme.example:8200")?;
        let bare = url::Url::parse(&text).is_ok_and(|url| url.path() == "/");
        if !bare {
            r.report(
                &spot,
                "the URL has a path",
                "write scheme, host and port only; the path of secrets is credentials.vault.path",
            );
        }
        // A token that crosses a network in clear text opens every secret.
        let safe = url::Url::parse(&text)
            .is_ok_and(|url| url.scheme() == "https" || url.host_str().is_some_and(|host| is_loopback(&normal_host(host))));
        if !safe {
            r.report(
                &spot,
                "the vault would be called without TLS, so its token and all secrets would cross the network in clear text",
                "write https://, or run an agent or proxy of the vault on this machine and write http://127.0.0.1:PORT",
            );
        }
        (bare && safe).then(|| text.trim_end_matches('/').to_string())
    });
    let login = r
        .required(
            &fields,
            "login",
            "write how AAM logs in, for example login: {method: approle, role_id: env:..., secret_id: file:...}",
        )
        .and_then(|spot| vault_login(r, &spot));
    let path = |r: &mut Reader, spot: &Spot<'_>| {
        let text = r.text(spot, "MOUNT/FOLDER")?.trim_matches('/').to_string();
        // A name below the path must be a path that a locator may have.
        match VaultPath::parse(&format!("//{text}/name"), None) {
            Ok(_) if !text.contains('#') => Some(text),
            _ => {
                r.report(spot, "this is not a path of a vault", "write the mount and the folder, for example secret/aam");
                None
            }
        }
    };
    let namespace = |r: &mut Reader, spot: &Spot<'_>| r.text(spot, "a namespace of the vault").map(str::to_string);
    Some(VaultPolicy {
        ca_file: r.optional(&fields, "ca_file", file),
        namespace: r.optional(&fields, "namespace", namespace),
        path: r.optional(&fields, "path", path),
        kv_ttl: r.field(&fields, "kv_ttl", DEFAULT_KV_TTL, Reader::duration),
        address: address?,
        login: login?,
    })
}

fn vault_login(r: &mut Reader, spot: &Spot<'_>) -> Option<VaultLogin> {
    const ALL: [&str; 8] = ["method", "mount", "token", "file", "role_id", "secret_id", "role", "token_file"];
    let fields = r.fields(spot, &ALL)?;
    let method = r.required(&fields, "method", "write token, token_file, approle, kubernetes or jwt")?;
    let method = r.one_of(&method, "way to log in", &["token", "token_file", "approle", "kubernetes", "jwt"])?;
    let used: &[&str] = match method {
        "token" => &["token"],
        "token_file" => &["file"],
        "approle" => &["mount", "role_id", "secret_id"],
        "kubernetes" => &["mount", "role", "token_file"],
        _ => &["mount", "role", "token", "token_file"],
    };
    for name in ALL.iter().filter(|name| **name != "method" && !used.contains(name)) {
        if let Some(spot) = fields.get(name) {
            r.report(
                &spot,
                format!("{name} has no meaning for the method {method}"),
                format!("its keys are {}", used.join(", ")),
            );
        }
    }
    let mount = |r: &mut Reader, default: &str| {
        let read = |r: &mut Reader, spot: &Spot<'_>| {
            r.text(spot, "the path of the auth mount").map(|text| text.trim_matches('/').to_string())
        };
        r.field(&fields, "mount", default.to_string(), read)
    };
    let stored = |r: &mut Reader, name: &str| {
        let spot = r.required(
            &fields,
            name,
            &format!("write where it is stored, for example {name}: env:VAULT_{}", name.to_uppercase()),
        )?;
        login_locator(r, &spot)
    };
    let path = |r: &mut Reader, name: &str| {
        let spot = r.required(&fields, name, "write the path of the file")?;
        file(r, &spot)
    };
    Some(match method {
        "token" => VaultLogin::Token { token: stored(r, "token")? },
        "token_file" => VaultLogin::TokenFile { file: path(r, "file")? },
        "approle" => {
            let (role_id, secret_id) = (stored(r, "role_id"), stored(r, "secret_id"));
            VaultLogin::Approle { mount: mount(r, "approle"), role_id: role_id?, secret_id: secret_id? }
        }
        "kubernetes" => {
            let default = PathBuf::from("/var/run/secrets/kubernetes.io/serviceaccount/token");
            let role = text(r, &fields, "role", "the role of the auth mount");
            let token_file = r.field(&fields, "token_file", default, file);
            VaultLogin::Kubernetes { mount: mount(r, "kubernetes"), role: role?, token_file }
        }
        _ => {
            let role = text(r, &fields, "role", "the role of the auth mount");
            let (token, token_file) = (r.optional(&fields, "token", login_locator), r.optional(&fields, "token_file", file));
            if fields.get("token").is_some() == fields.get("token_file").is_some() {
                r.report(spot, "the method jwt needs either token or token_file", "write token: LOCATOR or token_file: PATH");
                return None;
            }
            let mount = mount(r, "jwt");
            match token.is_some() || token_file.is_some() {
                true => VaultLogin::Jwt { mount, role: role?, token, token_file },
                // The problem of the one that is written is reported.
                false => return None,
            }
        }
    })
}

/// Reads where a secret of the login to the vault is stored, which cannot be the vault itself.
fn login_locator(r: &mut Reader, spot: &Spot<'_>) -> Option<Locator> {
    match secret_locator(r, spot, "write env:NAME or file:PATH")? {
        Locator::Vault(_) => {
            r.report(spot, "what AAM logs in to the vault with cannot be read from the vault", "write env:NAME or file:PATH");
            None
        }
        locator => Some(locator),
    }
}

/// Whether `sp:NAME` or `consent:NAME` can name the entry; if not, that is a problem.
pub(super) fn is_locator_name(r: &mut Reader, name: &str, spot: &Spot<'_>) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
    let valid = (1..=63).contains(&name.len()) && name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(fits);
    if !valid {
        let hint = "use letters, digits, _, -, . and /, starting with a letter or digit, at most 63 characters";
        r.report(spot, format!("{} is not valid as the name of a credential", shown(name)), hint);
    }
    valid
}

fn caps(r: &mut Reader, spot: &Spot<'_>) -> Option<CredentialCaps> {
    let fields = r.fields(spot, &["vault", "tokens"])?;
    let default = CredentialCaps::default();
    Some(CredentialCaps {
        vault: r.field(&fields, "vault", default.vault, |r, spot| cap(r, spot, true)),
        tokens: r.field(&fields, "tokens", default.tokens, |r, spot| cap(r, spot, true)),
    })
}
