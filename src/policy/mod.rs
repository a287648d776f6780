//! The policy: one file, reviewed in git, that defines what AAM may do.
//!
//! - `parse` parses the text into a [`Policy`], or reports every [`Problem`](crate::model::Problem) in it.
//! - `active` keeps the last valid policy in force.
//! - `airbyte` names the connectors that run as processes, and a company's own Airbyte.
//! - `diff` describes what a change of the policy would do.
//! - `credentials` names the places that credentials come from: folders, a vault, service principals, consents.
//! - `notify` names the webhooks that are notified of events.
//! - `grants` decides who may send which credential where.
//! - `oidc` says how people sign in to the pages.
//! - `handoff` supplies what the candidates of a discovery tool lack.
//! - `effective` prints a policy with all defaults filled in.

pub mod active;
pub mod airbyte;
pub mod credentials;
pub mod diff;
pub mod effective;
mod evidence;
pub mod grants;
pub mod handoff;
mod listed_server;
mod login_host;
pub mod manifests;
pub mod notify;
pub mod oidc;
pub mod parse;
mod read;
mod registry;
pub mod services;
mod yaml;

use crate::families::{self, Family};
pub use crate::model::Cap;
use crate::model::{Digest, Locator, Risk, Timestamp};
pub use active::{ActivePolicy, LoadedPolicy, Rejected};
pub use airbyte::{Airbyte, ConnectorPolicy, EngineChoice, EngineInForce, Platform, Run};
pub use credentials::{Credentials, Principal};
pub use evidence::EvidencePolicy;
use grants::CredentialGrant;
pub use handoff::{Handoff, HandoffVendor};
use ipnet::IpNet;
pub use listed_server::ListedServer;
pub use login_host::LoginHost;
pub use manifests::{IdentityPolicy, Manifests, SourcePolicy};
pub use notify::{Webhook, WebhookAddress, WebhookForm};
pub use oidc::{OidcPolicy, OidcRole};
pub use parse::host_and_port;
pub use registry::RegistryPolicy;
use serde::Serialize;
pub use services::{ServiceAuth, ServicePolicy};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

/// A policy with all defaults filled in.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Policy {
    pub version: u32,
    /// The namespace of new connections.
    pub namespace: String,
    pub slo: Slo,
    pub eligibility: Eligibility,
    pub safe_mode: SafeMode,
    pub allowlist: BTreeSet<String>,
    pub network: Network,
    pub files: Files,
    pub caps: Caps,
    pub backoff: Backoff,
    pub breaker: Breaker,
    pub recheck: Recheck,
    pub reconcile: Reconcile,
    pub families: BTreeMap<String, FamilyPolicy>,
    pub manifests: Manifests,
    pub airbyte: Airbyte,
    pub credentials: Credentials,
    pub handoff: Handoff,
    /// Who is notified of what.
    pub notify: Vec<Webhook>,
    pub evidence: EvidencePolicy,
    pub registry: RegistryPolicy,
    pub api: Api,
    /// SHA-256 of the file's bytes.
    pub digest: Digest,
}

/// The service level objective that the funnel is compared with.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Slo {
    /// The share of eligible connections that should be active, from 0 to 1.
    pub coverage: f64,
}

/// Which intents may be connected at all.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Eligibility {
    /// Accepted values of `evidence.status`, in any case.
    pub evidence: Vec<String>,
    pub max_risk: Risk,
    /// The minimum of `owner.confidence`, from 0 to 1.
    pub min_confidence: f64,
}

impl Eligibility {
    /// Whether the policy accepts this `evidence.status`. Upper and lower case do not matter.
    #[must_use]
    pub fn accepts(&self, status: &str) -> bool {
        let status = status.trim().to_lowercase();
        self.evidence.iter().any(|accepted| accepted.trim().to_lowercase() == status)
    }
}

/// The limits of one attempt.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SafeMode {
    /// The number of items to read per stream, at most 20.
    pub max_items: u32,
    #[serde(with = "duration_text")]
    pub step_timeout: Duration,
    #[serde(with = "duration_text")]
    pub attempt_timeout: Duration,
}

impl SafeMode {
    /// The defaults, which the timeouts of a family replace.
    pub const STEP_TIMEOUT: Duration = Duration::from_secs(20);
    pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(60);
}

/// Where calls may go.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Network {
    /// Private, loopback, link-local or metadata address ranges that are allowed as exceptions.
    pub allow_private: Vec<IpNet>,
    pub proxy: Option<String>,
    /// A PEM file with additional certificate authorities.
    pub ca_file: Option<PathBuf>,
    /// Database servers that may receive a password in a form that they, or a server that impersonates them, can use,
    /// although TLS does not prove which server it is.
    pub allow_weak_login: Vec<LoginHost>,
}

impl Network {
    /// Whether the database server `host:port` may receive a password in clear text or as an MD5 digest without verified
    /// TLS. `host` has no brackets.
    #[must_use]
    pub fn allows_weak_login(&self, host: &str, port: u16) -> bool {
        self.allow_weak_login.iter().any(|entry| entry.matches(host, port))
    }
}

/// Where files may be read.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Files {
    /// The folders below which files may be read, relative to the working directory of the process.
    pub roots: Vec<PathBuf>,
}

/// Call budgets per family and vendor account.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Caps {
    pub default: Cap,
    pub families: BTreeMap<String, Cap>,
}

/// Waits after failures.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Backoff {
    #[serde(with = "duration_text")]
    pub initial: Duration,
    #[serde(with = "duration_text")]
    pub max: Duration,
    /// The share of the wait that is random, from 0 to 1.
    pub jitter: f64,
}

/// When the circuit breaker of a host opens.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Breaker {
    /// The number of failures in a row that open the breaker. Throttling and denials do not count.
    pub failures: u32,
    #[serde(with = "duration_text")]
    pub open_for: Duration,
}

/// How often a settled connection is checked again.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Recheck {
    #[serde(with = "duration_text")]
    pub health: Duration,
    #[serde(with = "duration_text")]
    pub drift: Duration,
    #[serde(with = "duration_text")]
    pub awaiting_credentials: Duration,
}

/// The settings of the reconcile loop.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reconcile {
    /// The maximum number of concurrent attempts.
    pub concurrency: usize,
    #[serde(with = "duration_text")]
    pub resync: Duration,
    /// The bytes that all attempts together may hold.
    #[serde(with = "size_text")]
    pub memory: u64,
    /// How many connections may leave at once without a confirmation; `None` if any number may.
    pub max_retire: Option<MaxRetire>,
    /// The held changes that the policy confirms, by the first hex digits of their digests.
    pub confirm: Vec<String>,
}

/// The limits for connections that leave at once. A change that exceeds one of them is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MaxRetire {
    pub connections: usize,
    /// The share of the desired connections of the namespace, for changes of more than 5 connections.
    pub percent: u8,
}

impl Default for MaxRetire {
    fn default() -> MaxRetire {
        MaxRetire { connections: 10, percent: 20 }
    }
}

/// The settings of one family.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct FamilyPolicy {
    /// Which engine serves the family.
    #[serde(skip_serializing_if = "EngineChoice::is_default")]
    pub engine: EngineChoice,
    /// The base URL of the API, for example of a GitHub Enterprise or MinIO server.
    pub base_url: Option<String>,
    /// The servers that the company runs itself or reaches under a name of its own.
    pub hosts: Vec<ListedServer>,
    /// The region of an object store, if it cannot be discovered.
    pub region: Option<String>,
    /// Only for `openapi`: the path of the health call, relative to the server.
    pub health_path: Option<String>,
    /// Only for `openapi`: operations that are never called, for example GETs with side effects.
    pub deny_operations: Vec<String>,
    /// Only for `openapi`: settings of single services. The first whose `match` fits the service applies.
    pub services: Vec<ServicePolicy>,
}

/// Who may call the HTTP API, under which names and how often.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Api {
    /// Names under which clients reach the API, for example behind a proxy, each with an optional port. In lower case.
    /// The address that AAM listens on and the names of loopback are always served.
    pub hosts: Vec<String>,
    /// The rate limit of each token.
    pub rate: ApiRate,
    /// Whether assistants and agents may use the API as tools over the Model Context Protocol.
    pub mcp: bool,
    /// The origins whose pages may call the API, as a browser writes them in the Origin header.
    pub cors_origins: Vec<String>,
    /// The origins whose pages may show the dashboard in a frame, as in the directive frame-ancestors.
    pub frame_ancestors: Vec<String>,
    /// Whether a token may also be sent in the header X-API-Key.
    pub api_key_header: bool,
    /// Whether the funnel is answered with 503 while the SLO is not met.
    pub enforce_slo: bool,
    /// How people sign in to the pages with OpenID Connect; `None` if they need a token.
    pub oidc: Option<OidcPolicy>,
    pub tokens: Vec<Token>,
}

/// How many requests one token may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ApiRate {
    pub per_second: u32,
    /// The number of requests that may come at once after a pause.
    pub burst: u32,
}

impl Default for ApiRate {
    fn default() -> ApiRate {
        ApiRate { per_second: 500, burst: 5000 }
    }
}

/// One bearer token, of which only the digest is known.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Token {
    pub name: String,
    pub sha256: Digest,
    pub scopes: BTreeSet<TokenScope>,
    pub namespaces: BTreeSet<String>,
    /// When the token ends; `None` if never.
    pub expires: Option<Timestamp>,
    /// The credentials that intents which are pushed with the token may name.
    #[serde(flatten)]
    pub grant: CredentialGrant,
}

/// What a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum TokenScope {
    #[serde(rename = "intents:write")]
    IntentsWrite,
    #[serde(rename = "registry:read")]
    RegistryRead,
    #[serde(rename = "ops:heal")]
    OpsHeal,
    /// Confirms changes that are held.
    #[serde(rename = "ops:confirm")]
    OpsConfirm,
}

impl TokenScope {
    /// All scopes.
    pub const ALL: [TokenScope; 4] =
        [TokenScope::IntentsWrite, TokenScope::RegistryRead, TokenScope::OpsHeal, TokenScope::OpsConfirm];

    /// The name of the scope in the policy and in API errors.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            TokenScope::IntentsWrite => "intents:write",
            TokenScope::RegistryRead => "registry:read",
            TokenScope::OpsHeal => "ops:heal",
            TokenScope::OpsConfirm => "ops:confirm",
        }
    }
}

impl Policy {
    /// The budget of a family: the entry of the policy, otherwise the default of the family, otherwise the default of the
    /// policy.
    #[must_use]
    pub fn cap<'a>(&'a self, family: &str, family_default: Option<&'a Cap>) -> &'a Cap {
        self.caps.families.get(family).or(family_default).unwrap_or(&self.caps.default)
    }

    /// The limits of an attempt on a source of `family`. A family whose vendor answers slowly has timeouts of its own, which
    /// replace the defaults of `safe_mode`; so has one that a connector of Airbyte or the company's own Airbyte serves.
    #[must_use]
    pub fn safe_mode(&self, family: &str) -> SafeMode {
        let mut mode = self.safe_mode.clone();
        let own = families::find(family).and_then(|known| known.timeouts.as_ref());
        let slow = self.engine(family).seconds(own.map(|own| (own.step_seconds, own.attempt_seconds)));
        if let Some((step, attempt)) = slow {
            if mode.step_timeout == SafeMode::STEP_TIMEOUT {
                mode.step_timeout = Duration::from_secs(step);
            }
            if mode.attempt_timeout == SafeMode::ATTEMPT_TIMEOUT {
                mode.attempt_timeout = Duration::from_secs(attempt);
            }
        }
        mode
    }

    /// The settings of `family`, or defaults if the policy has none.
    #[must_use]
    pub fn family(&self, family: &str) -> FamilyPolicy {
        self.families.get(family).cloned().unwrap_or_default()
    }

    /// Returns what AAM itself uses the secret at `locator` for, if an intent must not name it.
    #[must_use]
    pub fn reserved_for(&self, locator: &Locator) -> Option<&'static str> {
        let client = self.api.oidc.as_ref().and_then(|oidc| oidc.client_secret.as_ref());
        let signs_in = client.is_some_and(|secret| self.credentials.same_secret(secret, locator));
        let platform = self.airbyte.platform.as_ref().map(|platform| &platform.credential);
        let is_platform = platform.is_some_and(|secret| self.credentials.same_secret(secret, locator));
        let reserved = self.credentials.reserved_for(locator);
        let reserved = reserved.or_else(|| signs_in.then_some("AAM proves itself with it when people sign in"));
        reserved.or_else(|| is_platform.then_some("AAM logs in to the company's Airbyte with it"))
    }

    /// The digest of the part that can change the outcome for `family`; `custom` is that family if it is a custom
    /// source. Caps, waits and tokens are left out, so that editing them does not run anything again.
    fn slice(&self, family: &str, custom: Option<&Family>) -> Digest {
        let slice = serde_json::json!({
            "allowed": self.allowlist.contains(family),
            "eligibility": self.eligibility,
            "max_items": self.safe_mode.max_items,
            "memory": self.reconcile.memory,
            "network": self.network,
            "files": self.files,
            "family": self.families.get(family),
        });
        let slice = match custom {
            // A changed manifest may change the outcome like a changed policy.
            Some(custom) => serde_json::json!([
                slice,
                self.manifests.source(family),
                custom.manifest.as_ref().map(|manifest| manifest.digest)
            ]),
            None => slice,
        };
        let slice = match self.airbyte_slice(family) {
            Some(airbyte) => serde_json::json!([slice, airbyte]),
            None => slice,
        };
        Digest::from_bytes(slice.to_string().as_bytes())
    }
}

/// Formats sizes as in the policy file: `256MiB`, `1GiB`.
pub mod size_text {
    /// Formats a number of bytes in the largest unit that divides it without a remainder, at least in KiB.
    #[must_use]
    pub fn format(bytes: &u64) -> String {
        for (unit, shift) in [("GiB", 30), ("MiB", 20)] {
            if *bytes >= 1 << shift && bytes.is_multiple_of(1 << shift) {
                return std::format!("{}{unit}", bytes >> shift);
            }
        }
        std::format!("{}KiB", bytes >> 10)
    }

    /// Serializes a size with [`format()`].
    ///
    /// # Errors
    /// If the serializer fails.
    pub fn serialize<S: serde::Serializer>(bytes: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format(bytes))
    }
}

/// Formats durations as in the policy file: `20s`, `15m`, `6h`, `500ms`.
pub mod duration_text {
    use std::time::Duration;

    /// Formats a duration in the largest unit that divides it without a remainder.
    #[must_use]
    pub fn format(duration: &Duration) -> String {
        let ms = duration.as_millis();
        for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)] {
            if ms >= size && ms.is_multiple_of(size) {
                return std::format!("{}{unit}", ms / size);
            }
        }
        format!("{ms}ms")
    }

    /// Serializes a duration with [`format()`].
    ///
    /// # Errors
    /// If the serializer fails.
    pub fn serialize<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format(duration))
    }
}
