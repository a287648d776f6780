//! The entries of the ledger, which are appended and never changed.
//!
//! An entry has *facts* and a *body*. The facts are small, and the snapshot is built from them alone. The body is the
//! full text behind them (intent, step reports, catalog, policy) and is read only on demand.

pub use super::archived::{Archived, CallChainEnd};
use super::attempt::{EndingSecret, Outcome, Scope};
use super::ending::Nearness;
use super::failure::Class;
use super::ids::{ConnectionId, Digest, Origin};
pub use super::problem::RecordedProblems;
use super::step::{Step, StepReport, StepStatus};
use super::{CallsAnchor, Intent, Timestamp};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// One entry, without its body and its hash.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The number of the row, counted from 1 without gaps.
    pub seq: u64,
    pub at: Timestamp,
    /// Empty for entries that concern the whole registry.
    pub namespace: String,
    pub connection: Option<ConnectionId>,
    pub fact: Fact,
}

/// What an entry records.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Fact {
    /// An intent was accepted. Body: its canonical JSON.
    IntentAccepted {
        origin: Origin,
        spec: Digest,
        source_type: String,
        /// The locator of its credential, as written. Rows of earlier versions do not have it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        locator: Option<String>,
    },
    /// An origin no longer asks for the connection.
    IntentWithdrawn { origin: Origin, reason: String },
    /// An attempt is about to begin.
    AttemptBegun { generation: u32, scope: Scope, why: Why, policy: Digest },
    /// An attempt has finished. Body: the step reports.
    AttemptFinished(Finished),
    /// The schema of the source is new or changed. Body: the catalog.
    CatalogRegistered { version: u32, digest: Digest, streams: u32, breaking: Vec<String>, additive: Vec<String> },
    /// A person took note of the changes that a version of the catalog brought. `by` names who.
    DriftAcknowledged { version: u32, by: String, note: String },
    /// No origin asks for the connection any longer.
    ConnectionRetired,
    /// A person or the policy confirmed that the connection leaves although its departure was held. `cause` identifies the
    /// change, and `by` names who confirmed it.
    DepartureConfirmed { cause: Digest, by: String },
    /// A policy came into force. Body: its text.
    PolicyAccepted { policy: Digest },
    /// A discovery tool handed candidates over. Body: the answer and every candidate with what became of it.
    HandoffReceived(HandoffFacts),
    /// The seed of a namespace was loaded; the namespace is read-only from here on.
    NamespaceSealed { documents: u32 },
    /// The policy file or a manifest is not valid, so the policy that was accepted last stays in force. `file` is the digest
    /// of what was read.
    PolicyRejected { file: Digest, problems: RecordedProblems },
    /// The problems of one file of the intents folder changed. If there are none, the file is valid again.
    IntentProblems { file: String, problems: RecordedProblems },
    /// A credential that a person has to replace ends soon, or has ended. Recorded once for each step from [`Nearness`].
    CredentialExpiring { ends_at: Timestamp, nearness: Nearness, title: String, fix: String },
    /// A webhook of the policy is new: it receives what happens after this entry.
    WebhookStarted { webhook: String },
    /// A webhook accepted a message. It has received every event up to entry `up_to`.
    WebhookDelivered { webhook: String, message: String, up_to: u64, events: u32, tries: u32 },
    /// A webhook receives nothing any more. `reason` is empty if the policy no longer names it.
    WebhookStopped { webhook: String, reason: String },
    /// The batches of calls up to this one are recorded; the hash covers them. In PostgreSQL, `chains` names the last batch of
    /// each chain, and `calls` the newest of them.
    CallsRecorded {
        calls: CallsAnchor,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        chains: Vec<CallChainEnd>,
    },
    /// The batches of calls up to this one, all of them recorded before `before`, are dropped because of their age. In PostgreSQL,
    /// `chains` names the last batch of each chain that is dropped, and `calls` the newest of them.
    CallsDropped {
        calls: CallsAnchor,
        before: Timestamp,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        chains: Vec<CallChainEnd>,
    },
    /// Old batches of calls are in an archive file.
    CallsArchived(Archived),
    /// Old step reports are in an archive file.
    StepsArchived(Archived),
    /// The entries before this one, `rows` of them, were copied from a registry whose last row had the hash `head`.
    RegistryCopied { rows: u64, head: Digest },
    /// The last rows of the chains of a registry in PostgreSQL. The entry itself is in the first chain.
    ChainsAnchored { chains: Vec<ChainAnchor> },
}

/// The last row of one chain of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainAnchor {
    pub chain: u32,
    /// The number of the row in its chain, counted from 1.
    pub place: u64,
    pub hash: Digest,
}

/// The facts of a handoff.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandoffFacts {
    /// The id of the handoff: a UUIDv5 of the namespace and the run.
    pub handoff: String,
    /// The id of the discovery run.
    pub run: String,
    pub tenant_id: String,
    pub entity_id: String,
    /// The name of the token that handed them over.
    pub token: String,
    /// The digest of the content.
    pub content: Digest,
    pub received: u32,
    pub accepted: u32,
    pub rejected: u32,
    /// How many of the accepted candidates are recorded only.
    pub inventory_only: u32,
}

/// The facts of a finished attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finished {
    pub begun_at: Timestamp,
    pub generation: u32,
    pub scope: Scope,
    /// The digest of the policy that was in force during the attempt.
    pub policy: Digest,
    /// The digest of the part of the policy that concerns this family.
    pub slice: Digest,
    /// The class of the failure, or `None` if the attempt passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<Class>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_step: Option<Step>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// The connector opened and found the expected identity.
    pub upserted: bool,
    /// The health step passed.
    pub healthy: bool,
    /// The number of items that the tiny sync read. Only a full attempt has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<u64>,
    pub outcome: Digest,
    /// The title of the failure; empty if the attempt passed.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub title: Arc<str>,
    #[serde(default, skip_serializing_if = "is_empty")]
    pub fix: Arc<str>,
    /// The steps that passed and found something that a person should fix.
    #[serde(default, skip_serializing_if = "<[Warning]>::is_empty")]
    pub warnings: Box<[Warning]>,
    /// When the credential ends, if that is known and a person has to replace it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential_ends_at: Option<Timestamp>,
    /// The secret that ends then, if it is not that of the intent's locator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending_secret: Option<Box<EndingSecret>>,
    /// The calls of the attempt, if it made any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls: Option<CallsAnchor>,
}

/// A warning of one step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    pub step: Step,
    pub class: Class,
    pub title: Arc<str>,
    pub fix: Arc<str>,
}

fn is_empty(text: &Arc<str>) -> bool {
    text.is_empty()
}

/// Why an attempt is due. It is logged and stored; the pipeline does not depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The connection was never attempted.
    New,
    /// The intent changed.
    SpecChanged,
    /// The policy changed for this family or for the credential.
    PolicyChanged,
    /// The connection waited for a credential, and the file that holds it changed.
    CredentialChanged,
    /// A failure is due to be retried.
    Retry,
    /// The health check of a settled connection is due.
    Health,
    /// The schema check of a settled connection is due.
    Drift,
    /// A check was requested over the API or with `aam heal`.
    Heal,
}

impl Why {
    /// All reasons.
    pub const ALL: [Why; 8] =
        [Why::New, Why::SpecChanged, Why::PolicyChanged, Why::CredentialChanged, Why::Retry, Why::Health, Why::Drift, Why::Heal];

    /// Returns the name in the API and in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Why::New => "new",
            Why::SpecChanged => "spec_changed",
            Why::PolicyChanged => "policy_changed",
            Why::CredentialChanged => "credential_changed",
            Why::Retry => "retry",
            Why::Health => "health",
            Why::Drift => "drift",
            Why::Heal => "heal",
        }
    }

    /// Returns the reason as people read it.
    #[must_use]
    pub fn message(self) -> &'static str {
        match self {
            Why::New => "new",
            Why::SpecChanged => "the intent changed",
            Why::PolicyChanged => "the policy changed for this family",
            Why::CredentialChanged => "the stored credential changed",
            Why::Retry => "retry after a failure",
            Why::Health => "health check due",
            Why::Drift => "schema check due",
            Why::Heal => "heal requested",
        }
    }
}

/// This struct and the ones below hold the facts of the most frequent kinds. They are parsed directly, without serde's
/// search for the tag, because every start of AAM reads all rows.
#[derive(Deserialize)]
struct Accepted {
    origin: Origin,
    spec: Digest,
    source_type: String,
    #[serde(default)]
    locator: Option<String>,
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

impl Fact {
    /// Parses the stored text of a fact of `kind`.
    ///
    /// # Errors
    /// Returns the parser's error if the text is not valid for this version of AAM.
    pub fn read(kind: &str, facts: &str) -> Result<Fact, serde_json::Error> {
        Ok(match kind {
            "attempt_finished" => Fact::AttemptFinished(serde_json::from_str(facts)?),
            "intent_accepted" => {
                let Accepted { origin, spec, source_type, locator } = serde_json::from_str(facts)?;
                Fact::IntentAccepted { origin, spec, source_type, locator }
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

    /// The kinds of the facts about a connection, which its history consists of.
    pub const CONNECTION_KINDS: [&'static str; 8] = [
        "intent_accepted",
        "intent_withdrawn",
        "attempt_begun",
        "attempt_finished",
        "catalog_registered",
        "drift_acknowledged",
        "connection_retired",
        "departure_confirmed",
    ];

    /// Returns the kind as it is stored in the column `kind`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Fact::IntentAccepted { .. } => "intent_accepted",
            Fact::IntentWithdrawn { .. } => "intent_withdrawn",
            Fact::AttemptBegun { .. } => "attempt_begun",
            Fact::AttemptFinished(_) => "attempt_finished",
            Fact::CatalogRegistered { .. } => "catalog_registered",
            Fact::DriftAcknowledged { .. } => "drift_acknowledged",
            Fact::ConnectionRetired => "connection_retired",
            Fact::DepartureConfirmed { .. } => "departure_confirmed",
            Fact::PolicyAccepted { .. } => "policy_accepted",
            Fact::HandoffReceived(_) => "handoff_received",
            Fact::NamespaceSealed { .. } => "namespace_sealed",
            Fact::PolicyRejected { .. } => "policy_rejected",
            Fact::IntentProblems { .. } => "intent_problems",
            Fact::CredentialExpiring { .. } => "credential_expiring",
            Fact::WebhookStarted { .. } => "webhook_started",
            Fact::WebhookDelivered { .. } => "webhook_delivered",
            Fact::WebhookStopped { .. } => "webhook_stopped",
            Fact::CallsRecorded { .. } => "calls_recorded",
            Fact::RegistryCopied { .. } => "registry_copied",
            Fact::ChainsAnchored { .. } => "chains_anchored",
            Fact::CallsDropped { .. } => "calls_dropped",
            Fact::CallsArchived(_) => "calls_archived",
            Fact::StepsArchived(_) => "steps_archived",
        }
    }

    /// Creates the fact that `intent` was accepted from `origin`.
    #[must_use]
    pub fn accepted(intent: &Intent, origin: Origin) -> Fact {
        let locator = intent.credential_locator.as_ref().map(ToString::to_string);
        Fact::IntentAccepted { origin, spec: intent.digest(), source_type: intent.source_type.clone(), locator }
    }
}

/// The circumstances of an attempt, which do not change after it begins.
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
    /// Creates the facts of `outcome`. `catalog` is the digest of its catalog.
    #[must_use]
    pub fn new(outcome: &Outcome, catalog: Option<Digest>, context: &AttemptContext) -> Finished {
        let failure = outcome.failure();
        Finished {
            begun_at: context.begun_at,
            generation: context.generation,
            scope: outcome.scope,
            policy: context.policy,
            slice: context.slice,
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
            warnings: outcome.steps.iter().filter_map(Warning::new).collect(),
            credential_ends_at: outcome.credential_ends_at(),
            ending_secret: outcome.ending_secret().map(Box::new),
            calls: None,
        }
    }
}

impl Warning {
    fn new(report: &StepReport) -> Option<Warning> {
        let StepStatus::Warned { failure } = &report.status else { return None };
        let (title, fix) = (failure.title.as_str().into(), failure.fix.as_str().into());
        Some(Warning { step: report.step, class: failure.class, title, fix })
    }
}
