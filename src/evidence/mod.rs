//! Bundles of evidence: what AAM was allowed to do and what it did in a period, in files that can be verified on another machine.
//!
//! - `bundle` writes a bundle from the registry, with `chained_bundle` for a registry in PostgreSQL, which has several chains.
//! - `folder` writes its files and their checksums.
//! - `check` verifies one; it needs nothing but the folder. `files` compares the files with their checksums, and `chains`
//!   computes the hash chains again. `chained` does the same for several chains: `chained_ledger` for the entries, and
//!   `chained_calls` for the calls.
//! - `signature` signs the list of checksums with a key of the operator's, and checks such a signature.
//! - `summary` is the part that people read.

mod bundle;
mod chained;
mod chained_bundle;
mod chained_calls;
mod chained_ledger;
#[cfg(test)]
mod chained_tests;
mod chains;
mod check;
mod files;
mod folder;
mod signature;
mod summary;

pub use bundle::{BundlePeriod, BundleWritten, write};
pub use chained::LastAnchor;
pub use chains::ExpectedHead;
pub use check::{BundleVerdict, SignedBy, verify};
pub use signature::{BundleKey, NewKey, PublicKey, generate, write_new_key};

use crate::model::Digest;
use crate::model::ledger::CallChainEnd;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The form of the bundle of a registry in a file, which has one chain. A later form has another number.
const FORMAT: &str = "aam-evidence/1";
/// The form of the bundle of a registry in PostgreSQL, which has several chains.
const CHAINED_FORMAT: &str = "aam-evidence/2";

const MANIFEST: &str = "manifest.json";
const SUMMARY: &str = "SUMMARY.md";
const LEDGER: &str = "ledger.jsonl";
const CALLS: &str = "calls.jsonl";
const INTENTS: &str = "intents.jsonl";
const ATTEMPTS: &str = "attempts.jsonl";
const PRIVILEGES: &str = "privileges.jsonl";
const POLICIES: &str = "policies";
const PUBLIC_KEY: &str = "signer.pub";
/// In the form of `sha256sum`.
const SUMS: &str = "SHA256SUMS";
/// The Ed25519 signature of the bytes of [`SUMS`], 64 bytes.
const SIGNATURE: &str = "SHA256SUMS.sig";

/// The maximum length of a line of a file in bytes, with its line feed. An entry of the ledger with its documents is far
/// shorter.
const MAX_LINE_BYTES: u64 = 256 << 20;

/// What the bundle is about, and where its chains begin and end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Manifest {
    format: String,
    aam_version: String,
    created_at: String,
    since: String,
    /// The period ends before this instant.
    until: String,
    /// The last entry of the ledger when the bundle was written; with several chains, that of the first one.
    head: HeadBody,
    /// With several chains, only the number of rows and the first of them.
    ledger: ChainBody,
    calls: ChainBody,
    /// The parts of the chains, if there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    chains: Option<ChainsBody>,
    /// The last batch of calls that was dropped because of its age before the bundle was written; 0 if none was.
    calls_dropped_up_to: u64,
    /// The last entry since the start of the period that dropped calls.
    calls_dropped: Option<DroppedBody>,
    /// All other files, without the checksums and their signature.
    files: BTreeMap<String, FileBody>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct HeadBody {
    seq: u64,
    hash: Digest,
    /// When the entry was appended. `None` if the ledger has no entries.
    at: Option<String>,
}

/// An entry of the ledger that dropped the calls up to a batch because of their age.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct DroppedBody {
    seq: u64,
    batch: u64,
    hash: Digest,
    /// All of them were recorded before this instant.
    before: String,
    /// The last batch of each chain, if there are several. `batch` is the newest of them then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    chains: Vec<CallChainEnd>,
}

impl DroppedBody {
    /// Whether the calls of the attempt that ends with an entry of `chain` are dropped. `batch` is what the entry names.
    fn covers(&self, chain: Option<u32>, batch: u64) -> bool {
        let is_dropped = |end: &CallChainEnd| chain.is_none_or(|chain| end.may_hold(chain)) && batch <= end.batch;
        if self.chains.is_empty() { batch <= self.batch } else { self.chains.iter().any(is_dropped) }
    }
}

/// The size and the checksum of a file.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct FileBody {
    bytes: u64,
    sha256: Digest,
}

/// A part of a hash chain: of the ledger, or of the batches of calls.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct ChainBody {
    count: u64,
    /// The number of the first row or batch; 0 if there are none.
    first: u64,
    /// The hash of the row or batch before the first one.
    prev: Digest,
    /// The hash of the last one, or `prev` if there are none.
    last_hash: Digest,
}

impl ChainBody {
    fn new(prev: Digest) -> ChainBody {
        ChainBody { count: 0, first: 0, prev, last_hash: prev }
    }

    fn add(&mut self, number: u64, hash: Digest) {
        if self.count == 0 {
            self.first = number;
        }
        self.count += 1;
        self.last_hash = hash;
    }
}

/// The parts of several chains that a bundle has, by chain.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct ChainsBody {
    ledger: Vec<PartBody>,
    calls: Vec<PartBody>,
}

/// A part of one of several chains.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct PartBody {
    chain: u32,
    /// The numbers of its first and of its last row in the chain.
    first_place: u64,
    last_place: u64,
    /// The hash of the row before the first one.
    prev: Digest,
    last_hash: Digest,
}

/// The parts of several chains, while their rows are added.
#[derive(Default)]
struct Parts(BTreeMap<u32, PartBody>);

impl Parts {
    fn add(&mut self, chain: u32, place: u64, prev: Digest, hash: Digest) {
        let part = PartBody { chain, first_place: place, last_place: place, prev, last_hash: hash };
        let part = self.0.entry(chain).or_insert(part);
        (part.last_place, part.last_hash) = (place, hash);
    }

    fn get(&self, chain: u32) -> Option<PartBody> {
        self.0.get(&chain).copied()
    }

    fn list(&self) -> Vec<PartBody> {
        self.0.values().copied().collect()
    }
}
