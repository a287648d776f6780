//! What the writer can be asked for, and what it answers.

use super::RegistryError;
use crate::egress::BudgetReservation;
use crate::model::ledger::{AttemptContext, Finished};
use crate::model::{ConnectionId, Digest, Intent, Origin, Outcome};
use tokio::sync::oneshot;

pub(super) type Reply<T> = oneshot::Sender<Result<T, RegistryError>>;

/// One request to the writer.
pub(super) enum Command {
    Accept {
        documents: Vec<(Intent, Origin)>,
        reply: Reply<Vec<Acceptance>>,
    },
    Withdraw {
        wishes: Vec<(ConnectionId, Origin)>,
        reason: String,
        reply: Reply<()>,
    },
    Begin {
        connection: ConnectionId,
        under: AttemptContext,
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
    TakeIn {
        findings: Box<Findings>,
        reply: Reply<Vec<Acceptance>>,
    },
    Probe {
        reply: Reply<()>,
    },
    Close {
        done: oneshot::Sender<()>,
    },
}

/// What became of one document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acceptance {
    pub connection: ConnectionId,
    pub how: How,
}

/// How a document was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// The connection was not known, or was retired.
    Created,
    /// A new document, or a further origin, of a known connection.
    Changed,
    /// Nothing was appended.
    Unchanged,
}

/// What a look at the intents folder found, written in one transaction: all of it or nothing.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    pub documents: Vec<(Intent, Origin)>,
    /// Who no longer desires what, and why.
    pub withdrawn: Vec<(ConnectionId, Origin, &'static str)>,
    pub seen: Vec<Mark>,
    /// Paths whose marks go.
    pub gone: Vec<String>,
}

/// The right to have side effects for one attempt.
#[must_use = "a ticket that is not finished counts as an interrupted attempt"]
#[derive(Clone, Debug, PartialEq)]
pub struct Ticket {
    pub connection: ConnectionId,
    pub under: AttemptContext,
}

/// What became of an outcome.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// False: it said nothing new and nothing was appended.
    pub appended: bool,
    pub facts: Finished,
}

/// One file of the intents folder as the last scan saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    pub path: String,
    pub size: u64,
    pub mtime_ns: i64,
    pub inode: u64,
    /// The first half of the SHA-256 of the content.
    pub content: [u8; 16],
}

/// An outcome with its texts made, so that the writer only writes.
pub(super) struct Finish {
    pub connection: ConnectionId,
    pub under: AttemptContext,
    pub facts: Finished,
    pub steps: String,
    pub catalog: Option<FinishCatalog>,
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
            under: ticket.under,
            facts: Finished::new(outcome, catalog.as_ref().map(|catalog| catalog.digest), &ticket.under),
            steps: serde_json::to_string(&outcome.steps).unwrap_or_default(),
            catalog,
        }
    }
}
