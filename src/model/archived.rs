//! What entries of the ledger say about batches of calls and archive files.

use super::text::counted;
use super::{Digest, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

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

/// An archive file that is missing or cannot be read, so that what is in it is not shown.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MissingFile {
    /// The path of the file on the machine of AAM.
    pub file: String,
    /// When the period begins whose calls or step reports are in it. RFC 3339.
    pub since: String,
    /// When this period ends; what was recorded at this time is not part of it. RFC 3339.
    pub until: String,
    /// What is wrong with the file, and what is therefore not shown.
    pub message: String,
    /// How to get the file back.
    pub fix: String,
}

/// The number of missing files that an answer or a command names.
pub const MAX_MISSING_FILES: usize = 5;

/// The missing files that reading something found: the first [`MAX_MISSING_FILES`] of them, and the number of all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MissingFiles {
    named: Vec<MissingFile>,
    others: BTreeSet<String>,
}

impl MissingFiles {
    /// Adds a file, unless it was added before.
    pub fn add(&mut self, file: MissingFile) {
        if self.named.iter().any(|known| known.file == file.file) {
            return;
        }
        if self.named.len() < MAX_MISSING_FILES {
            self.named.push(file);
        } else {
            self.others.insert(file.file);
        }
    }

    /// Returns what was read, or adds the file that it is in.
    pub fn left<T: Default>(&mut self, read: Result<T, MissingFile>) -> T {
        read.unwrap_or_else(|file| {
            self.add(file);
            T::default()
        })
    }

    /// Whether no file is missing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.named.is_empty()
    }

    /// The files that are named.
    #[must_use]
    pub fn named(&self) -> &[MissingFile] {
        &self.named
    }

    /// One line for each file that is named, and one for the others. Empty if no file is missing.
    #[must_use]
    pub fn text(&self) -> String {
        let mut lines: Vec<String> = self.named.iter().map(|file| format!("{}; fix: {}", file.message, file.fix)).collect();
        if !self.others.is_empty() {
            let others = counted(self.others.len(), "other archive file");
            lines.push(format!("the content of {others} is not shown either; aam verify names all of them"));
        }
        lines.join("\n")
    }
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
