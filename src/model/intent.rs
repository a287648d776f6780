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
    pub risk_level: Risk,
    pub evidence: IntentEvidence,
    pub owner: Owner,
    /// Unknown fields, which are kept and reported as warnings.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The evidence that the system is in use and allowed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IntentEvidence {
    /// The status of the system, for example `Sanctioned`. The policy lists the eligible values.
    pub status: String,
    /// The kind of system that the evidence comes from: IdP, CMDB, Procurement or CASB.
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
    /// The reason to assume this owner: oauth_consenter, admin, usage, expense or idp_owner.
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

    /// Returns the digest of the canonical JSON. A new digest starts a new generation of the connection.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::from_bytes(self.canonical().as_bytes())
    }
}
