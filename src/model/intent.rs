//! The `connection_intent` document, after validation.

use super::Locator;
use super::ids::{ConnectionId, Digest};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fmt;

/// The only allowed value of `scopes_mode`.
pub const SAFE_READONLY: &str = "safe_readonly";

/// A validated intent. Only `intake::wire` creates one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Intent {
    pub source_type: String,
    /// Tenants, orgs, sites, repos, buckets or database URIs. There is at least one; they are sorted and unique.
    pub resource_ids: Vec<String>,
    pub scopes_mode: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential_locator: Option<Locator>,
    pub namespace: String,
    pub risk_level: RiskLevel,
    pub evidence: IntentEvidence,
    pub owner: Owner,
    /// What the client sent, by JSON pointer, where AAM reads another spelling. It does not belong to the digest, so a
    /// document means the same in every spelling.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub as_sent: Map<String, Value>,
    /// Unknown fields, which are kept and reported as warnings.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The evidence that the system is in use and allowed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IntentEvidence {
    /// The status of the system, for example `Sanctioned`. The policy lists the eligible values.
    pub status: String,
    /// The kind of system that the evidence comes from: IdP, CMDB, Procurement or CASB. An intent with another one is kept
    /// and not eligible.
    pub source: String,
    /// The time of the evidence in RFC 3339.
    pub ts: String,
    /// Unknown fields, as in [`Intent`].
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The owner of the system.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Owner {
    pub user: String,
    /// The confidence that this is the owner, from 0 to 1.
    pub confidence: f64,
    /// The reason to assume this owner: oauth_consenter, admin, usage, expense or idp_owner. An intent with another one is
    /// kept and not eligible.
    pub why: String,
    /// Unknown fields, as in [`Intent`].
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The risk that the discovery tool assigned to the system, ordered `low < med < high`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Risk {
    Low,
    Med,
    High,
}

impl Risk {
    /// All levels, in order.
    pub const ALL: [Risk; 3] = [Risk::Low, Risk::Med, Risk::High];

    /// Returns the name in intents, in the policy and in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Risk::Low => "low",
            Risk::Med => "med",
            Risk::High => "high",
        }
    }
}

impl fmt::Display for Risk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The value of `risk_level`. An intent with an unknown one is kept and not eligible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RiskLevel {
    Known(Risk),
    Unknown(String),
}

impl RiskLevel {
    /// Returns the risk. An unknown value counts as the highest.
    #[must_use]
    pub fn risk(&self) -> Risk {
        match self {
            RiskLevel::Known(risk) => *risk,
            RiskLevel::Unknown(_) => Risk::High,
        }
    }
}

impl From<Risk> for RiskLevel {
    fn from(risk: Risk) -> RiskLevel {
        RiskLevel::Known(risk)
    }
}

impl fmt::Display for RiskLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RiskLevel::Known(risk) => risk.fmt(f),
            RiskLevel::Unknown(text) => f.write_str(text),
        }
    }
}

impl Serialize for RiskLevel {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RiskLevel {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<RiskLevel, D::Error> {
        let text = String::deserialize(deserializer)?;
        let known = [Risk::Low, Risk::Med, Risk::High].into_iter().find(|risk| risk.to_string() == text);
        Ok(known.map_or(RiskLevel::Unknown(text), RiskLevel::Known))
    }
}

impl Intent {
    /// Returns the id of the connection that the intent asks for.
    #[must_use]
    pub fn connection_id(&self) -> ConnectionId {
        ConnectionId::derive(&self.namespace, &self.source_type, &self.resource_ids)
    }

    /// Returns the texts of the caller that reports about the connection repeat.
    #[must_use]
    pub fn texts(&self) -> Vec<String> {
        let evidence = [&self.evidence.status, &self.evidence.source, &self.evidence.ts];
        let fixed = [&self.source_type, &self.namespace, &self.owner.user, &self.owner.why].into_iter().chain(evidence);
        let locator = self.credential_locator.as_ref().map(ToString::to_string);
        fixed.chain(&self.resource_ids).cloned().chain(locator).collect()
    }

    /// Returns the canonical JSON. Fields are in declaration order and extra fields in key order, so that equal intents
    /// have equal bytes.
    #[must_use]
    pub fn canonical(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Returns the digest of the canonical JSON without `as_sent`. A new digest starts a new generation of the connection.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest_with(&self.canonical())
    }

    /// As [`Intent::digest`], for a caller that has the canonical JSON already.
    #[must_use]
    pub fn digest_with(&self, canonical: &str) -> Digest {
        if self.as_sent.is_empty() {
            return Digest::from_bytes(canonical.as_bytes());
        }
        let proper = Intent { as_sent: Map::new(), ..self.clone() };
        Digest::from_bytes(proper.canonical().as_bytes())
    }
}
