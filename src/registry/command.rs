//! The commands of the writer and their results.

use super::RegistryError;
use super::answers::{AnswerKey, StoredAnswer};
use super::calls::LedgerHead;
use crate::egress::BudgetReservation;
use crate::model::ending::Nearness;
use crate::model::ledger::{AttemptContext, Fact, Finished, HandoffFacts, RecordedProblems};
use crate::model::{ConnectionId, Digest, Intent, NewCallBatch, Origin, Outcome, RecordedCalls, Timestamp};
use tokio::sync::oneshot;

pub(super) type Reply<T> = oneshot::Sender<Result<T, RegistryError>>;

/// A command for the writer.
pub(super) enum Command {
    Accept {
        documents: Vec<(Intent, Origin)>,
        reply: Reply<Vec<Acceptance>>,
    },
    Withdraw {
        withdrawn: Vec<(ConnectionId, Origin)>,
        reason: String,
        reply: Reply<()>,
    },
    Handoff {
        handoff: Box<NewHandoff>,
        reply: Reply<HandoffReceipt>,
    },
    RetireOrphans {
        connections: Vec<ConnectionId>,
        reply: Reply<()>,
    },
    Confirm {
        members: Vec<(ConnectionId, Digest)>,
        by: String,
        reply: Reply<()>,
    },
    Retire {
        connection: ConnectionId,
        origins: Vec<Origin>,
        reason: String,
        reply: Reply<()>,
    },
    Begin {
        connection: ConnectionId,
        context: AttemptContext,
        budget_reservations: Vec<BudgetReservation>,
        reply: Reply<(Ticket, Vec<u64>)>,
    },
    Finish {
        finish: Box<Finish>,
        reply: Reply<Recorded>,
    },
    AcceptPolicy {
        policy: Digest,
        text: String,
        webhooks: Vec<String>,
        reply: Reply<()>,
    },
    RecordNotices {
        notices: Vec<Notice>,
        reply: Reply<()>,
    },
    StoreMessage {
        message: WebhookMessage,
        reply: Reply<()>,
    },
    Seal {
        namespace: String,
        documents: Vec<(Intent, Origin)>,
        reply: Reply<bool>,
    },
    TakeBudget {
        account: String,
        day: i64,
        wanted: u64,
        limit: u64,
        reply: Reply<u64>,
    },
    RecordScan {
        findings: Box<ScanFindings>,
        reply: Reply<Vec<Acceptance>>,
    },
    StoreAnswer {
        key: AnswerKey,
        answer: Box<StoredAnswer>,
        reply: Reply<()>,
    },
    RecordCalls {
        batches: Vec<NewCallBatch>,
        reply: Reply<()>,
    },
    AnchorCalls {
        reply: Reply<LedgerHead>,
    },
    DropCalls {
        before: Timestamp,
        reply: Reply<bool>,
    },
    Probe {
        reply: Reply<()>,
    },
    RecordStopped {
        reply: Reply<()>,
    },
    Close {
        done: oneshot::Sender<()>,
    },
}

/// The result of accepting one document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acceptance {
    pub connection: ConnectionId,
    pub change: IntentChange,
}

/// A handoff to record, together with the intents that follow from it.
#[derive(Clone, Debug)]
pub struct NewHandoff {
    pub namespace: String,
    pub facts: HandoffFacts,
    /// The answer and the candidates, as JSON.
    pub body: String,
    pub documents: Vec<(Intent, Origin)>,
    pub origin: Origin,
    /// The connections that `origin` does not desire any more.
    pub withdrawn: Vec<ConnectionId>,
}

/// The result of recording a handoff.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandoffReceipt {
    Recorded,
    /// The run was recorded earlier with this content and this sequence number; nothing was appended.
    Known {
        content: Digest,
        seq: u64,
    },
}

/// What a document changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntentChange {
    /// The connection is new, or it was retired.
    Created,
    /// A known connection has a new document or another origin.
    Changed,
    /// The document was in force already; nothing was appended.
    Unchanged,
}

/// The result of a scan of the intents folder, which is recorded in one transaction.
#[derive(Clone, Debug, Default)]
pub struct ScanFindings {
    pub documents: Vec<(Intent, Origin)>,
    /// Connections that an origin no longer desires, and why.
    pub withdrawn: Vec<(ConnectionId, Origin, &'static str)>,
    /// Marks to store.
    pub marks: Vec<FileMark>,
    /// Paths whose marks are deleted.
    pub removed_marks: Vec<String>,
}

/// A fact that is recorded because people are notified of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// See [`Fact::PolicyRejected`].
    PolicyRejected { file: Digest, problems: RecordedProblems },
    /// See [`Fact::IntentProblems`].
    IntentProblems { file: String, problems: RecordedProblems },
    /// See [`Fact::CredentialExpiring`].
    CredentialExpiring { connection: ConnectionId, ends_at: Timestamp, nearness: Nearness, title: String, fix: String },
    /// See [`Fact::DriftAcknowledged`].
    DriftAcknowledged { connection: ConnectionId, version: u32, by: String, note: String },
    /// See [`Fact::WebhookDelivered`].
    WebhookDelivered { webhook: String, message: String, up_to: u64, events: u32, tries: u32 },
    /// See [`Fact::WebhookStopped`].
    WebhookStopped { webhook: String, reason: String },
}

/// The message that a webhook is sent at the moment. It holds the events after the cursor, up to entry `up_to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookMessage {
    pub webhook: String,
    pub up_to: u64,
    /// The number of failed tries.
    pub tries: u32,
    /// When the next try may begin.
    pub next_at: Timestamp,
    /// Why the last try failed; empty before the first one.
    pub problem: String,
}

impl Notice {
    /// Returns the connection that the notice concerns, and the fact.
    pub(super) fn into_fact(self) -> (Option<ConnectionId>, Fact) {
        match self {
            Notice::PolicyRejected { file, problems } => (None, Fact::PolicyRejected { file, problems }),
            Notice::IntentProblems { file, problems } => (None, Fact::IntentProblems { file, problems }),
            Notice::CredentialExpiring { connection, ends_at, nearness, title, fix } => {
                (Some(connection), Fact::CredentialExpiring { ends_at, nearness, title, fix })
            }
            Notice::DriftAcknowledged { connection, version, by, note } => {
                (Some(connection), Fact::DriftAcknowledged { version, by, note })
            }
            Notice::WebhookDelivered { webhook, message, up_to, events, tries } => {
                (None, Fact::WebhookDelivered { webhook, message, up_to, events, tries })
            }
            Notice::WebhookStopped { webhook, reason } => (None, Fact::WebhookStopped { webhook, reason }),
        }
    }
}

/// The permission to make the calls of one attempt.
#[must_use = "a ticket that is not finished counts as an interrupted attempt"]
#[derive(Clone, Debug, PartialEq)]
pub struct Ticket {
    pub connection: ConnectionId,
    pub context: AttemptContext,
}

/// The result of recording an outcome.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// False if the outcome added nothing new, so that nothing was appended.
    pub appended: bool,
    pub facts: Finished,
}

/// What the last scan recorded of one file of the intents folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileMark {
    pub path: String,
    /// In bytes.
    pub size: u64,
    /// The modification time in nanoseconds since 1970 UTC.
    pub mtime_ns: i64,
    pub inode: u64,
    /// The first half of the SHA-256 of the content.
    pub content: [u8; 16],
}

/// An outcome whose texts are already serialized, so that the writer thread does not have to.
pub(super) struct Finish {
    pub connection: ConnectionId,
    pub context: AttemptContext,
    pub facts: Finished,
    pub steps: String,
    pub catalog: Option<FinishCatalog>,
    pub calls: RecordedCalls,
}

pub(super) struct FinishCatalog {
    pub digest: Digest,
    pub streams: u32,
    pub text: String,
    pub breaking: Vec<String>,
    pub additive: Vec<String>,
}

impl Finish {
    pub(super) fn new(ticket: &Ticket, outcome: &Outcome) -> Finish {
        let catalog = outcome.catalog.as_ref().map(|catalog| {
            let (text, digest) = catalog.written();
            FinishCatalog {
                digest,
                streams: u32::try_from(catalog.streams.len()).unwrap_or(u32::MAX),
                text,
                breaking: outcome.drift.breaking.clone(),
                additive: outcome.drift.additive.clone(),
            }
        });
        Finish {
            connection: ticket.connection,
            context: ticket.context,
            facts: Finished::new(outcome, catalog.as_ref().map(|catalog| catalog.digest), &ticket.context),
            steps: serde_json::to_string(&outcome.steps).unwrap_or_default(),
            catalog,
            calls: RecordedCalls::default(),
        }
    }
}
