//! The section `evidence`: how long recorded calls are kept, and where the head of the ledger is written.

use serde::{Serialize, Serializer};
use std::path::PathBuf;
use std::time::Duration;

/// What is kept for later, and how a cut registry is noticed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EvidencePolicy {
    /// How many days recorded calls are kept.
    #[serde(serialize_with = "days")]
    pub keep_calls: u32,
    /// The head of the ledger is appended to this file at every start, stop and hour.
    pub head_file: Option<PathBuf>,
    /// The head of the ledger is sent to this webhook of `notify` at the same times.
    pub head_webhook: Option<String>,
}

impl EvidencePolicy {
    /// The days for which calls are kept if the policy does not say.
    pub const KEEP_CALLS_DAYS: u32 = 90;

    /// Returns how long recorded calls are kept.
    #[must_use]
    pub fn calls_age(&self) -> Duration {
        Duration::from_secs(u64::from(self.keep_calls) * 86_400)
    }
}

impl Default for EvidencePolicy {
    fn default() -> EvidencePolicy {
        EvidencePolicy { keep_calls: EvidencePolicy::KEEP_CALLS_DAYS, head_file: None, head_webhook: None }
    }
}

// Serde passes a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn days<S: Serializer>(days: &u32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format!("{days}d"))
}
