//! Bundles of evidence: what AAM was allowed to do and what it did in a period, in files that can be verified on another machine.
//!
//! - `bundle` writes a bundle from the registry.
//! - `check` verifies one; it needs nothing but the folder.
//! - `signature` signs the list of checksums with a key of the operator's, and checks such a signature.
//! - `summary` is the part that people read.

mod bundle;
mod check;
mod signature;
mod summary;

pub use bundle::{BundlePeriod, BundleWritten, write};
pub use check::{BundleVerdict, SignedBy, verify};
pub use signature::{BundleKey, PublicKey, generate};

use crate::model::Digest;
use serde::{Deserialize, Serialize};

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
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct HeadBody {
    seq: u64,
    hash: Digest,
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
