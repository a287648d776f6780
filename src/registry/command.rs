//! The commands of the writer and their results.

use super::RegistryError;
use super::account_marks::{LimitsAnswer, LimitsCommand};
use super::answers::{AnswerKey, StoredAnswer};
use super::calls::LedgerHead;
use super::lease::Partitions;
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
    /// Says where this process listens and which policy file it has. Nothing waits for it.
    Describe {
        address: String,
        policy: String,
    },
    /// Says which policy file was read last. Nothing waits for it.
    HasPolicyFile {
        policy: String,
    },
    /// Asks the replicas that have the partitions of connections to check them now. Nothing waits for it.
    AskToHeal {
        connections: Vec<ConnectionId>,
    },
    Limits {
        ask: LimitsCommand,
        reply: Reply<LimitsAnswer>,
    },
    NameArchive {
        fact: Box<Fact>,
        reply: Reply<()>,
    },
    RemoveArchived {
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

impl Command {
    /// The partitions to whose chains the command may append. `held` are those that this process has.
    pub(super) fn partitions(&self, held: Partitions) -> Partitions {
        let of = |documents: &[(Intent, Origin)]| documents.iter().map(|(intent, _)| intent.connection_id()).collect();
        match self {
            Command::Accept { documents, .. } => of(documents),
            Command::Withdraw { withdrawn, .. } => withdrawn.iter().map(|(connection, _)| *connection).collect(),
            Command::Handoff { handoff, .. } => {
                let withdrawn: Partitions = handoff.withdrawn.iter().copied().collect();
                of(&handoff.documents).union(withdrawn).union(Partitions::GLOBAL)
            }
            Command::RetireOrphans { connections, .. } => connections.iter().copied().collect(),
            Command::Confirm { members, .. } => members.iter().map(|(connection, _)| *connection).collect(),
            Command::Retire { connection, .. } | Command::Begin { connection, .. } => std::iter::once(*connection).collect(),
            Command::Finish { finish, .. } => std::iter::once(finish.connection).collect(),
            Command::RecordNotices { notices, .. } => {
                let connections = notices.iter().filter_map(Notice::connection);
                connections.collect::<Partitions>().union(Partitions::GLOBAL)
            }
            Command::Seal { documents, .. } => of(documents).union(Partitions::GLOBAL),
            Command::RecordScan { findings, .. } => {
                let withdrawn: Partitions = findings.withdrawn.iter().map(|(connection, ..)| *connection).collect();
                of(&findings.documents).union(withdrawn)
            }
            Command::RecordCalls { batches, .. } => batches.iter().map(|batch| batch.connection).collect(),
            Command::AcceptPolicy { .. } => Partitions::GLOBAL,
            // An anchor names the last rows of all chains.
            Command::AnchorCalls { .. } | Command::DropCalls { .. } => Partitions::ALL,
            Command::RecordStopped { .. } => held,
            Command::StoreMessage { .. }
            | Command::TakeBudget { .. }
            | Command::StoreAnswer { .. }
            | Command::Describe { .. }
            | Command::HasPolicyFile { .. }
            | Command::AskToHeal { .. }
            | Command::Limits { .. }
            | Command::NameArchive { .. }
            | Command::RemoveArchived { .. }
            | Command::Probe { .. }
            | Command::Close { .. } => Partitions::default(),
        }
    }

    /// About how many rows of the ledger the command appends.
    pub(super) fn rows(&self) -> usize {
        match self {
            Command::Accept { documents, .. } | Command::Seal { documents, .. } => documents.len() + 1,
            Command::RecordScan { findings, .. } => findings.documents.len() + findings.withdrawn.len(),
            Command::Handoff { handoff, .. } => handoff.documents.len() + handoff.withdrawn.len() + 1,
            Command::Withdraw { withdrawn, .. } => 2 * withdrawn.len(),
            Command::RetireOrphans { connections, .. } => connections.len(),
            Command::Confirm { members, .. } => members.len(),
            Command::Finish { .. } => 2,
            _ => 1,
        }
    }
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
    /// The connection that the notice concerns.
    fn connection(&self) -> Option<ConnectionId> {
        match self {
            Notice::CredentialExpiring { connection, .. } | Notice::DriftAcknowledged { connection, .. } => Some(*connection),
            _ => None,
        }
    }

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
