//! The section `credentials`: which places of credentials exist, and how AAM proves itself to each.
//!
//! Who may use which of them is decided in [`super::grants`]. No value of a secret stands in the policy: where a key or a
//! password is needed, a locator says where it is stored.

pub mod aws;
mod consents;
mod definition;
mod examples;
pub mod file_path;
mod kinds;
pub mod netsuite;
mod reserved;
pub mod vault_path;

use super::Cap;
use super::grants::LocatorPattern;
use crate::model::{Locator, Timestamp};
pub use consents::{ConsentTerms, TermsProblem};
pub use definition::Definitions;
pub use examples::{PrincipalExample, kind_examples, principal_examples};
pub use kinds::{CallSpec, EXPIRES, KIND_SPECS, KeyForm, KeySpec, KindSpec, kind_spec};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
pub use vault_path::VaultPath;

/// The section `credentials` of the policy.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Credentials {
    /// The locators that belong to each namespace. A namespace that is listed may use only these, and no other namespace
    /// may use them unless it lists them too.
    pub namespaces: BTreeMap<String, Vec<LocatorPattern>>,
    /// The folder in which `env:NAME` is looked up as the file `NAME` if the process has no such variable.
    pub secrets_dir: PathBuf,
    /// The folders below which `file:PATH` may read.
    pub files: Vec<PathBuf>,
    pub vault: Option<VaultPolicy>,
    /// The service principals that `sp:NAME` may name.
    pub principals: BTreeMap<String, Principal>,
    /// The OAuth clients that `consent:NAME` may name.
    pub consents: BTreeMap<String, ConsentPolicy>,
    pub consent_store: ConsentStore,
    pub caps: CredentialCaps,
}

impl Default for Credentials {
    fn default() -> Credentials {
        Credentials {
            namespaces: BTreeMap::new(),
            secrets_dir: PathBuf::from("var/secrets"),
            files: Vec::new(),
            vault: None,
            principals: BTreeMap::new(),
            consents: BTreeMap::new(),
            consent_store: ConsentStore::default(),
            caps: CredentialCaps::default(),
        }
    }
}

/// The call budgets of the hosts that credentials come from. They count for each host.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CredentialCaps {
    pub vault: Cap,
    /// Token endpoints of service principals and consents.
    pub tokens: Cap,
}

impl Default for CredentialCaps {
    fn default() -> CredentialCaps {
        CredentialCaps {
            vault: Cap { per_second: 50.0, burst: 200, per_day: 100_000, concurrency: 8 },
            tokens: Cap { per_second: 5.0, burst: 20, per_day: 20_000, concurrency: 4 },
        }
    }
}

/// The vault that `vault:` locators name: HashiCorp Vault or OpenBao.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VaultPolicy {
    /// The URL of the server, without a path.
    pub address: String,
    /// A PEM file with the certificate authorities of the server, in addition to those of `network.ca_file`.
    pub ca_file: Option<PathBuf>,
    /// The namespace (Vault Enterprise, OpenBao), sent with each request.
    pub namespace: Option<String>,
    /// The mount and folder, for example `secret/aam`, below which `vault:NAME` is looked up if NAME has no slash.
    pub path: Option<String>,
    pub login: VaultLogin,
    /// How long a value without a lease counts as valid while the vault cannot be asked.
    #[serde(with = "super::duration_text")]
    pub kv_ttl: Duration,
}

/// The default of [`VaultPolicy::kv_ttl`]. It is longer than the default of `recheck.health`, so that a vault that is down
/// for an hour changes no connection.
pub const DEFAULT_KV_TTL: Duration = Duration::from_secs(8 * 3600);

/// How AAM logs in to the vault.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "method", rename_all = "snake_case")]
pub enum VaultLogin {
    /// A token that AAM renews.
    Token { token: Locator },
    /// A file in which an agent keeps a valid token. It is read again at each use.
    TokenFile { file: PathBuf },
    /// AppRole.
    Approle { mount: String, role_id: Locator, secret_id: Locator },
    /// A Kubernetes service account. The file is read again at each login.
    Kubernetes { mount: String, role: String, token_file: PathBuf },
    /// A JWT from a locator or from a file that is read again at each login.
    Jwt { mount: String, role: String, token: Option<Locator>, token_file: Option<PathBuf> },
}

impl VaultLogin {
    /// The value of `method` in the policy.
    #[must_use]
    pub fn method(&self) -> &'static str {
        match self {
            VaultLogin::Token { .. } => "token",
            VaultLogin::TokenFile { .. } => "token_file",
            VaultLogin::Approle { .. } => "approle",
            VaultLogin::Kubernetes { .. } => "kubernetes",
            VaultLogin::Jwt { .. } => "jwt",
        }
    }
}

/// A service principal: an identity of AAM at a vendor.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Principal {
    /// The name of its [`KindSpec`].
    pub kind: &'static str,
    /// The values of the keys that the kind has. The parser has checked that the required keys exist and have the form that
    /// the kind states.
    pub settings: BTreeMap<&'static str, Setting>,
}

/// The value of one key of a principal.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Setting {
    /// A text, one of a list of texts, a URL or the path of a file, as the form of the key says.
    Text(String),
    Locator(Locator),
    List(Vec<String>),
    Flag(bool),
}

impl Principal {
    /// Returns the text, URL or path of the key `name`.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.settings.get(name) {
            Some(Setting::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// Returns when the day of the key `expires` ends in UTC.
    #[must_use]
    pub fn expires(&self) -> Option<Timestamp> {
        let start = Timestamp::parse(&format!("{}T00:00:00Z", self.text("expires")?)).ok()?;
        Some(start.next_day())
    }

    /// Returns where the secret of the key `name` is stored.
    #[must_use]
    pub fn locator(&self, name: &str) -> Option<&Locator> {
        match self.settings.get(name) {
            Some(Setting::Locator(locator)) => Some(locator),
            _ => None,
        }
    }

    /// Returns the list of the key `name`.
    #[must_use]
    pub fn list(&self, name: &str) -> Option<&[String]> {
        match self.settings.get(name) {
            Some(Setting::List(items)) => Some(items),
            _ => None,
        }
    }

    /// Whether the key `name` is `true`.
    #[must_use]
    pub fn flag(&self, name: &str) -> bool {
        matches!(self.settings.get(name), Some(Setting::Flag(true)))
    }
}

/// An OAuth client with which owners or administrators let AAM read.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ConsentPolicy {
    /// The family, or the custom source, whose connections may use the grant.
    pub family: String,
    pub client_id: String,
    /// `None` for a public client, which proves itself by PKCE only.
    pub client_secret: Option<Locator>,
    /// `client_secret_basic` or `client_secret_post`. If neither is written, the exchange of the code finds out which one the
    /// vendor accepts.
    pub auth: Option<String>,
    /// The address of AAM's own callback, as registered at the vendor: `https://HOST/consent/callback`.
    pub redirect: String,
    /// The scopes to ask for, if fewer than the family's. If the family states none, these are all.
    pub scopes: Option<Vec<String>>,
    /// Replace the addresses of the family, for a server of one's own or a custom source.
    pub authorize_url: Option<String>,
    pub token_url: Option<String>,
    pub revoke_url: Option<String>,
    /// The issuer that the callback and the ID token must name, if the vendor has one.
    pub issuer: Option<String>,
    /// What is filled into `{name}` in the addresses of the family, for example the tenant.
    pub values: BTreeMap<String, String>,
}

/// Where refresh tokens are kept.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ConsentStore {
    /// The encrypted file.
    pub file: PathBuf,
    /// Where the key is stored: 32 bytes in base64 or hexadecimal. Without it, no consent can be stored.
    pub key: Option<Locator>,
}

impl Default for ConsentStore {
    fn default() -> ConsentStore {
        ConsentStore { file: PathBuf::from("var/consents.json"), key: None }
    }
}
