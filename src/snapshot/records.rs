//! The parts of a snapshot.

use crate::model::ledger::{Finished, HandoffFacts};
use crate::model::{ConnectionId, Digest, Origin, Timestamp};
use std::sync::Arc;

/// The document with which one origin desires a connection.
#[derive(Clone, Debug, PartialEq)]
pub struct Desired {
    pub origin: Origin,
    pub seq: u64,
    pub spec: Digest,
    /// The locator of the document, if it is known.
    pub locator: Option<Arc<str>>,
}

/// A recorded handoff. Its answer and its candidates are the body of entry `seq`.
#[derive(Clone, Debug, PartialEq)]
pub struct Handoff {
    pub seq: u64,
    pub at: Timestamp,
    pub facts: Box<HandoffFacts>,
}

/// A finished attempt. The step reports are the body of entry `seq`.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    pub seq: u64,
    pub at: Timestamp,
    pub facts: Finished,
}

/// A policy that was accepted. Its text is the body of entry `seq`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptedPolicy {
    pub seq: u64,
    pub at: Timestamp,
    pub digest: Digest,
}

/// A row of the table `checked`. It holds what the ledger does not, because a re-check that finds nothing new appends
/// nothing to the ledger.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Checked {
    pub connection: ConnectionId,
    pub at: Timestamp,
    /// The last full check, whether or not it changed anything.
    pub full_at: Option<Timestamp>,
    /// The number of failures in a row, including those that repeated the same result.
    pub failures: u32,
    /// The generation that `failures` belongs to. A newer document starts from zero.
    pub generation: u32,
}
