//! What the ledger holds: entries that are appended and never changed.
//!
//! An entry has *facts*, small and enough for every fold, and a *body*, the full text behind them
//! (document, step reports, catalog, policy), read only when somebody asks for it.

use super::attempt::{Outcome, Scope};
use super::failure::Class;
use super::ids::{ConnectionId, Digest, Origin};
use super::step::Step;
use super::{Intent, Timestamp};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// One appended entry, without its body and its place in the hash chain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The row's number, from 1, without gaps.
    pub seq: u64,
    pub at: Timestamp,
    /// Empty for entries that concern the whole registry.
    pub namespace: String,
    pub connection: Option<ConnectionId>,
    pub fact: Fact,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Fact {
    /// A document was accepted. Body: its canonical JSON.
    IntentAccepted { origin: Origin, spec: Digest, source_type: String },
    /// An origin no longer desires the connection.
    IntentWithdrawn { origin: Origin, reason: String },
    /// An attempt is about to have side effects.
    AttemptBegun { generation: u32, scope: Scope, why: Why, policy: Digest },
    /// An attempt ended. Body: the step reports.
    AttemptFinished(Finished),
    /// The structure of the source, new or changed. Body: the catalog.
    CatalogRegistered { version: u32, digest: Digest, streams: u32, breaking: Vec<String>, additive: Vec<String> },
    /// Nobody desires the connection any more.
    ConnectionRetired,
    /// A policy came into force. Body: its text.
    PolicyAccepted { policy: Digest },
    /// The seed of a namespace was loaded; the namespace is sealed from here on.
    NamespaceSealed { documents: u32 },
}

/// The facts of a finished attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finished {
    pub begun_at: Timestamp,
    pub generation: u32,
    pub scope: Scope,
    /// The digest of the whole policy it ran under.
    pub policy: Digest,
    /// The digest of the policy's part for this family.
    pub slice: Digest,
    /// The class of the failure; `None` is a pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<Class>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_step: Option<Step>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// The connector opened and met the right identity.
    pub upserted: bool,
    /// The health step passed.
    pub healthy: bool,
    /// Items the tiny sync read; only of a full attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<u64>,
    pub outcome: Digest,
    /// One line for lists: the failure's title, empty after a pass.
    #[serde(default, skip_serializing_if = "nothing")]
    pub title: Arc<str>,
    #[serde(default, skip_serializing_if = "nothing")]
    pub fix: Arc<str>,
}

fn nothing(text: &Arc<str>) -> bool {
    text.is_empty()
}

/// Why an attempt is due. Logged and stored; the pipeline never sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Never attempted.
    New,
    /// The document changed.
    SpecChanged,
    /// The policy changed for this family.
    PolicyChanged,
    /// After a failure, by class.
    Retry,
    /// The health of a settled connection is due.
    Health,
    /// The structure of a settled connection is due.
    Drift,
    /// Somebody asked.
    Heal,
}

impl Why {
    /// The reason in words, as plan and history print it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Why::New => "new",
            Why::SpecChanged => "the document changed",
            Why::PolicyChanged => "the policy changed for this family",
            Why::Retry => "retry after a failure",
            Why::Health => "health check due",
            Why::Drift => "drift check due",
            Why::Heal => "heal asked for",
        }
    }
}

/// The facts of the kinds that a registry holds most of, read without looking for the tag first:
/// a start folds every row there is.
#[derive(Deserialize)]
struct Accepted {
    origin: Origin,
    spec: Digest,
    source_type: String,
}

#[derive(Deserialize)]
struct Begun {
    generation: u32,
    scope: Scope,
    why: Why,
    policy: Digest,
}

#[derive(Deserialize)]
struct Registered {
    version: u32,
    digest: Digest,
    streams: u32,
    breaking: Vec<String>,
    additive: Vec<String>,
}

/// The name of a fact's kind, as stored in the `kind` column.
impl Fact {
    /// Reads the stored text of a fact of `kind`.
    ///
    /// # Errors
    /// When the text is not what this build knows.
    pub fn read(kind: &str, facts: &str) -> Result<Fact, serde_json::Error> {
        Ok(match kind {
            "attempt_finished" => Fact::AttemptFinished(serde_json::from_str(facts)?),
            "intent_accepted" => {
                let Accepted { origin, spec, source_type } = serde_json::from_str(facts)?;
                Fact::IntentAccepted { origin, spec, source_type }
            }
            "attempt_begun" => {
                let Begun { generation, scope, why, policy } = serde_json::from_str(facts)?;
                Fact::AttemptBegun { generation, scope, why, policy }
            }
            "catalog_registered" => {
                let Registered { version, digest, streams, breaking, additive } = serde_json::from_str(facts)?;
                Fact::CatalogRegistered { version, digest, streams, breaking, additive }
            }
            _ => serde_json::from_str(facts)?,
        })
    }

    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Fact::IntentAccepted { .. } => "intent_accepted",
            Fact::IntentWithdrawn { .. } => "intent_withdrawn",
            Fact::AttemptBegun { .. } => "attempt_begun",
            Fact::AttemptFinished(_) => "attempt_finished",
            Fact::CatalogRegistered { .. } => "catalog_registered",
            Fact::ConnectionRetired => "connection_retired",
            Fact::PolicyAccepted { .. } => "policy_accepted",
            Fact::NamespaceSealed { .. } => "namespace_sealed",
        }
    }

    /// The fact of accepting `intent` from `origin`.
    #[must_use]
    pub fn accepted(intent: &Intent, origin: Origin) -> Fact {
        Fact::IntentAccepted { origin, spec: intent.digest(), source_type: intent.source_type.clone() }
    }
}

/// What an attempt ran under; fixed when it begins.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttemptContext {
    pub begun_at: Timestamp,
    pub generation: u32,
    pub scope: Scope,
    pub why: Why,
    pub policy: Digest,
    pub slice: Digest,
}

impl Finished {
    /// The facts of `outcome`, whose catalog has the digest `catalog`.
    #[must_use]
    pub fn new(outcome: &Outcome, catalog: Option<Digest>, under: &AttemptContext) -> Finished {
        let failure = outcome.failure();
        Finished {
            begun_at: under.begun_at,
            generation: under.generation,
            scope: outcome.scope,
            policy: under.policy,
            slice: under.slice,
            class: failure.map(|(_, failure)| failure.class),
            failed_step: failure.map(|(step, _)| step),
            retry_after_ms: failure.and_then(|(_, failure)| failure.retry_after_ms),
            upserted: outcome.did(Step::Upsert),
            healthy: outcome.did(Step::Health),
            rows: outcome.rows,
            latency_ms: outcome.latency_ms,
            outcome: outcome.digest_with(catalog),
            title: failure.map(|(_, failure)| failure.title.as_str().into()).unwrap_or_default(),
            fix: failure.map(|(_, failure)| failure.fix.as_str().into()).unwrap_or_default(),
        }
    }
}
