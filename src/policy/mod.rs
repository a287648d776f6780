//! The one git-reviewed file that says what AAM may do.
//!
//! `parse` turns text into a [`Policy`] or into every [`Problem`](crate::model::Problem) of it.
//! `active` keeps the last good one. `diff` says in plain words what a change would do.
//! `effective` prints it with every default.

pub mod active;
pub mod diff;
pub mod effective;
pub mod manifests;
pub mod parse;
mod read;
mod yaml;

use crate::families::Family;
pub use crate::model::Cap;
use crate::model::{Digest, Risk};
pub use active::{ActivePolicy, LoadedPolicy, Rejected};
use ipnet::IpNet;
pub use manifests::{IdentityPolicy, Manifests, SourcePolicy};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

/// A policy with every default filled in.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Policy {
    pub version: u32,
    /// The namespace of new work.
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
    pub api: Api,
    /// SHA-256 of the file's bytes.
    pub digest: Digest,
}

/// The service level the funnel is held against.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Slo {
    /// 0 to 1.
    pub coverage: f64,
}

/// Which documents may be connected at all.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Eligibility {
    /// Accepted values of `evidence.status`.
    pub evidence: Vec<String>,
    pub max_risk: Risk,
    /// Least `owner.confidence`, 0 to 1.
    pub min_confidence: f64,
}

/// The bounds of one attempt.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SafeMode {
    /// At most 20.
    pub max_items: u32,
    #[serde(with = "duration_text")]
    pub step_timeout: Duration,
    #[serde(with = "duration_text")]
    pub attempt_timeout: Duration,
}

/// Where calls may go.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Network {
    /// Private, loopback, link-local or metadata ranges that are allowed all the same.
    pub allow_private: Vec<IpNet>,
    pub proxy: Option<String>,
    /// PEM file of further certificate authorities.
    pub ca_file: Option<PathBuf>,
}

/// Where files may be read.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Files {
    /// Relative to the working directory of the process.
    pub roots: Vec<PathBuf>,
}

/// Call budgets, per family and vendor account.
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
    /// 0 to 1: the share of the wait that is drawn by chance.
    pub jitter: f64,
}

/// When a host is left alone.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Breaker {
    /// Failures in a row, not counting throttles and denials.
    pub failures: u32,
    #[serde(with = "duration_text")]
    pub open_for: Duration,
}

/// How often a settled connection is looked at again.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Recheck {
    #[serde(with = "duration_text")]
    pub health: Duration,
    #[serde(with = "duration_text")]
    pub drift: Duration,
    #[serde(with = "duration_text")]
    pub awaiting_credentials: Duration,
}

/// The loop.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reconcile {
    /// Attempts at the same time.
    pub concurrency: usize,
    #[serde(with = "duration_text")]
    pub resync: Duration,
}

/// What a company sets for one family.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct FamilyPolicy {
    /// For example a GitHub Enterprise or MinIO address.
    pub base_url: Option<String>,
    /// The region of an object store, where it cannot be discovered.
    pub region: Option<String>,
    /// `openapi`: the path of the health call, relative to the server.
    pub health_path: Option<String>,
    /// `openapi`: operations that are never called, for example GETs with side effects.
    pub deny_operations: Vec<String>,
}

/// Who may call the HTTP API.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Api {
    pub tokens: Vec<Token>,
}

/// One bearer token; only its digest is known.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Token {
    pub name: String,
    pub sha256: Digest,
    pub scopes: BTreeSet<TokenScope>,
    pub namespaces: BTreeSet<String>,
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
}

impl TokenScope {
    /// All scopes.
    pub const ALL: [TokenScope; 3] = [TokenScope::IntentsWrite, TokenScope::RegistryRead, TokenScope::OpsHeal];

    /// The word of the policy and of refusals.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            TokenScope::IntentsWrite => "intents:write",
            TokenScope::RegistryRead => "registry:read",
            TokenScope::OpsHeal => "ops:heal",
        }
    }
}

impl Policy {
    /// The budget of a family: the policy's entry, else the family's own default, else the policy's default.
    #[must_use]
    pub fn cap<'a>(&'a self, family: &str, family_default: Option<&'a Cap>) -> &'a Cap {
        self.caps.families.get(family).or(family_default).unwrap_or(&self.caps.default)
    }

    /// What the company set for `family`.
    #[must_use]
    pub fn family(&self, family: &str) -> FamilyPolicy {
        self.families.get(family).cloned().unwrap_or_default()
    }

    /// The digest of the part that can change the outcome for `family`; `custom` is that family if it is a custom
    /// source. Caps, waits and tokens are left out, so that editing them does not run anything again.
    fn slice(&self, family: &str, custom: Option<&Family>) -> Digest {
        let slice = serde_json::json!({
            "allowed": self.allowlist.contains(family),
            "eligibility": self.eligibility,
            "max_items": self.safe_mode.max_items,
            "network": self.network,
            "files": self.files,
            "family": self.families.get(family),
        });
        let slice = match custom {
            // A changed manifest is a changed source.
            Some(custom) => serde_json::json!([
                slice,
                self.manifests.source(family),
                custom.manifest.as_ref().map(|manifest| manifest.digest)
            ]),
            None => slice,
        };
        Digest::from_bytes(slice.to_string().as_bytes())
    }
}

/// Durations are written as the policy writes them: `20s`, `15m`, `6h`, `500ms`.
pub mod duration_text {
    use std::time::Duration;

    /// The largest unit that divides the duration without rest.
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

    /// Serialises as [`format`].
    ///
    /// # Errors
    /// Those of the serialiser.
    pub fn serialize<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format(duration))
    }
}
