//! The calls of an attempt: those that `aam plan` lists, and those that were made.

use super::{ConnectionId, Digest, Timestamp};
use serde::{Deserialize, Serialize};

/// A call that an attempt may make.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct PlannedCall {
    /// The kind of call, for example `GET`, `HEAD`, `SQL READ ONLY` or `READ FILE`.
    pub method: String,
    pub host: String,
    pub path: String,
}

/// What a call was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CallPurpose {
    /// The source itself.
    Source,
    /// A vault that holds the credential.
    Vault,
    /// A token endpoint: of a service principal, of a consent, or of the machine.
    Token,
    /// A message to a webhook of the policy.
    Webhook,
}

impl CallPurpose {
    /// All purposes.
    pub const ALL: [CallPurpose; 4] = [CallPurpose::Source, CallPurpose::Vault, CallPurpose::Token, CallPurpose::Webhook];

    /// Returns the name in the API and in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            CallPurpose::Source => "source",
            CallPurpose::Vault => "vault",
            CallPurpose::Token => "token",
            CallPurpose::Webhook => "webhook",
        }
    }

    /// Returns the purpose with this name.
    #[must_use]
    pub fn parse(text: &str) -> Option<CallPurpose> {
        CallPurpose::ALL.into_iter().find(|purpose| purpose.as_str() == text)
    }
}

/// What a call is, without what differs from one attempt to the next. The registry stores equal ones once.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CallTarget {
    pub purpose: CallPurpose,
    /// The HTTP method, or the protocol: `postgres`, `mysql`, `mongodb`, `sqlite`, `READ FILE`, `DNS SRV`.
    pub method: String,
    /// The host, with the port if it is not the default of the scheme or protocol; `local` for a file of this machine.
    pub host: String,
    /// The path of a URL without its query, the path of a file, or the database of a connection with a slash before it.
    pub path: String,
    /// The SQL statement without values, the command of MongoDB with its collection, or the operation that a POST names. Empty
    /// for other calls.
    pub statement: String,
    /// The rule that allowed the call.
    pub rule: String,
}

/// One call that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedCall {
    /// When it began.
    pub at: Timestamp,
    #[serde(flatten)]
    pub target: CallTarget,
    /// The status of the HTTP response.
    pub status: Option<u16>,
    /// The bytes that were sent, if they are known on their own.
    pub sent: Option<u64>,
    /// The bytes of the response, after decompression. For the connection of a database, the bytes in both directions.
    pub bytes: u64,
    /// How long it took, in milliseconds.
    pub ms: u64,
    /// The class of the failure; empty if the call succeeded.
    pub error: String,
}

/// The calls that were made together, such as those of one attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordedCalls {
    pub calls: Vec<RecordedCall>,
    /// The number of further calls that were not kept, because there were too many.
    pub cut: u64,
}

impl RecordedCalls {
    /// Whether no call was made.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty() && self.cut == 0
    }
}

/// The attempt that calls belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallAttempt {
    pub begun_at: Timestamp,
    pub policy: Digest,
    /// Why the attempt was due, as [`Why::as_str`](super::ledger::Why::as_str) returns it.
    pub why: &'static str,
}

/// Calls to record, with what they were made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewCallBatch {
    /// The connection that the calls were made for.
    pub connection: ConnectionId,
    /// The family of the connection, or what made the calls: `vault`, `token`, `webhook`.
    pub family: String,
    pub calls: RecordedCalls,
}

/// The batch of calls that belongs to an entry of the ledger. The hash covers all batches before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallsAnchor {
    pub batch: u64,
    pub hash: Digest,
}

/// A call that the registry holds.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredCall {
    pub position: CallPosition,
    pub at: Timestamp,
    pub connection: String,
    pub namespace: String,
    pub family: String,
    /// The entry that ends the attempt; `None` if the attempt found nothing new, or if the call belongs to no attempt.
    pub attempt: Option<u64>,
    /// When the attempt began; `None` if the call belongs to no attempt.
    pub begun_at: Option<Timestamp>,
    pub why: Option<String>,
    pub policy: Option<Digest>,
    pub target: CallTarget,
    pub status: Option<u16>,
    pub sent: Option<u64>,
    pub bytes: u64,
    pub ms: u64,
    pub error: String,
    /// The number of further calls of the same attempt that were only counted.
    pub cut: u64,
}

/// An attempt that ended with the process. Its calls were only in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterruptedAttempt {
    /// The entry that records the end of the attempt, which was written at the next start.
    pub seq: u64,
    pub connection: ConnectionId,
    pub namespace: String,
    pub begun_at: Timestamp,
}

/// The place of a call: its batch and its number in the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallPosition {
    pub batch: u64,
    pub call: u64,
}
