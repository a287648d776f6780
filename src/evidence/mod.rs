//! Bundles of evidence: what AAM was allowed to do and what it did in a period, in files that can be verified on another machine.
//!
//! - `bundle` writes a bundle from the registry.
//! - `folder` writes its files and their checksums.
//! - `check` verifies one; it needs nothing but the folder. `files` compares the files with their checksums, and `chains`
//!   computes the hash chains again.
//! - `signature` signs the list of checksums with a key of the operator's, and checks such a signature.
//! - `summary` is the part that people read.

mod bundle;
mod chains;
mod check;
mod files;
mod folder;
mod signature;
mod summary;

pub use bundle::{BundlePeriod, BundleWritten, write};
pub use chains::ExpectedHead;
pub use check::{BundleVerdict, SignedBy, verify};
pub use signature::{BundleKey, NewKey, PublicKey, generate, write_new_key};

use crate::model::Digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The form of the bundle. A later form has another number.
const FORMAT: &str = "aam-evidence/1";

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
    /// The last entry of the ledger when the bundle was written.
    head: HeadBody,
    ledger: ChainBody,
    calls: ChainBody,
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
