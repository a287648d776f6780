//! What entries of the ledger say about batches of calls and archive files.

use super::{Digest, Timestamp};
use serde::{Deserialize, Serialize};

/// An archive file, which is in a folder beside the registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Archived {
    /// Its name in the folder.
    pub file: String,
    pub sha256: Digest,
    /// Its length.
    pub bytes: u64,
    /// Where its index begins.
    pub index: u64,
    /// The first and the last batch of calls, or the entries that the first and the last step report belong to.
    pub first: u64,
    pub last: u64,
    /// The hash of the last batch of calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<Digest>,
    /// The number of batches or step reports.
    pub count: u64,
    /// Everything in it was recorded before this time, which is the end of a UTC day.
    pub before: Timestamp,
}

/// A batch of calls and all before it in its chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallChainEnd {
    /// From 0 to 63; 64 for the one chain of batches that were copied from a file, or recorded before there were 64.
    pub chain: u32,
    /// The number of the batch in its chain, counted from 1.
    pub place: u64,
    pub batch: u64,
    pub hash: Digest,
}

impl CallChainEnd {
    /// Whether the calls of an attempt whose entry is in `chain` of the ledger may be in this chain.
    #[must_use]
    pub fn may_hold(&self, chain: u32) -> bool {
        const BEFORE_THERE_WERE_CHAINS: u32 = 64;
        self.chain == chain || self.chain == BEFORE_THERE_WERE_CHAINS
    }
}
