//! The records of a stored fold. The number of a text, an origin, a locator or a digest is its place among those that the records so far
//! have defined.

use super::super::chain_rows::ChainRows;
use super::super::trend::NamespaceTrend;
use super::tables::RawDigest;
use crate::model::ending::Nearness;
use crate::model::ledger::HandoffFacts;
use crate::model::{Class, ConnectionId, EndingSecret, Scope, Step, Timestamp};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A record: the values that it uses first, and its part of the snapshot.
#[derive(Serialize, Deserialize)]
pub(super) struct Record<'a> {
    #[serde(borrow)]
    pub texts: Vec<&'a str>,
    #[serde(borrow)]
    pub origins: Vec<&'a str>,
    #[serde(borrow)]
    pub locators: Vec<&'a str>,
    pub digests: Vec<RawDigest>,
    pub part: Part,
}

/// A part of the snapshot.
#[derive(Serialize, Deserialize)]
pub(super) enum Part {
    Connection(ConnectionId, Box<StoredConnection>),
    /// The trend of the namespace with this text.
    Trend(u32, NamespaceTrend),
    Handoff(Box<StoredHandoff>),
    /// The last record.
    Rest(Box<Rest>),
}

/// A connection. `checked` is not stored: without re-checks that found nothing new it is the time of the latest attempt.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredConnection {
    pub namespace: u32,
    pub source_type: u32,
    pub created: Timestamp,
    pub desired_since: Timestamp,
    pub origins: Vec<StoredDesired>,
    pub generation: u32,
    pub spec: RawDigest,
    pub document: u64,
    pub locator: Option<u32>,
    pub retired: Option<Timestamp>,
    pub withdrawn: Option<(StoredDesired, Timestamp)>,
    pub superseded: Option<StoredSuperseded>,
    pub confirmed: Option<RawDigest>,
    pub begun: Option<Timestamp>,
    /// The attempts that the three next fields name by their place here.
    pub attempts: Vec<StoredAttempt>,
    pub last: Option<u8>,
    pub conclusive: Option<u8>,
    pub proven: Option<u8>,
    pub failures: u32,
    pub checked_full: Option<Timestamp>,
    pub catalog: Option<(u32, u64, RawDigest)>,
    pub changed: (u64, Timestamp),
}

#[derive(Serialize, Deserialize)]
pub(super) struct StoredDesired {
    pub origin: u32,
    pub seq: u64,
    /// `None` if it is that of the connection.
    pub spec: Option<RawDigest>,
    pub locator: Option<u32>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct StoredSuperseded {
    pub document: u64,
    pub generation: u32,
    pub spec: RawDigest,
    pub locator: Option<u32>,
    pub origin: u32,
    pub at: Timestamp,
}

#[derive(Serialize, Deserialize)]
pub(super) struct StoredAttempt {
    pub seq: u64,
    pub at: Timestamp,
    pub begun_at: Timestamp,
    pub generation: u32,
    pub scope: Scope,
    /// The number of the digest, because thousands of attempts have the same policy.
    pub policy: u32,
    pub slice: u32,
    pub class: Option<Class>,
    pub failed_step: Option<Step>,
    pub retry_after_ms: Option<u64>,
    pub upserted: bool,
    pub healthy: bool,
    pub rows: Option<u64>,
    pub latency_ms: Option<u64>,
    pub outcome: RawDigest,
    pub title: u32,
    pub fix: u32,
    pub warnings: Vec<(Step, Class, u32, u32)>,
    pub credential_ends_at: Option<Timestamp>,
    pub ending_secret: Option<EndingSecret>,
    pub calls: Option<(u64, RawDigest)>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct StoredHandoff {
    pub namespace: String,
    pub run: String,
    pub seq: u64,
    pub at: Timestamp,
    pub facts: HandoffFacts,
}

/// The name of a webhook, up to which entry it has received everything, and when and why it failed or was stopped.
pub(super) type StoredWebhook = (Arc<str>, u64, Option<Timestamp>, Option<Arc<str>>);

/// What is not in the other records. The connections that each origin desires follow from the connections.
#[derive(Serialize, Deserialize)]
pub(super) struct Rest {
    pub seq: u64,
    pub revision: u64,
    pub chain_rows: ChainRows,
    pub sealed: Vec<String>,
    pub policy: Option<(RawDigest, u64)>,
    pub policy_at: Timestamp,
    pub policies: Vec<(u64, Timestamp, RawDigest)>,
    pub policy_file: Option<(RawDigest, bool)>,
    pub intent_problems: Vec<(Arc<str>, RawDigest)>,
    pub expiring: Vec<(ConnectionId, Timestamp, Nearness)>,
    pub webhooks: Vec<StoredWebhook>,
    pub families: Vec<u32>,
    pub recovered: Vec<(u32, Timestamp)>,
    pub recent_changes: Vec<(u64, ConnectionId)>,
    pub dropped_up_to: u64,
}
