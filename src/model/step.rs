//! The seven steps of the Safe Mode pipeline and what one of them reports.

use super::failure::Failure;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The steps, in the order in which they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The policy lists the family and finds the document eligible.
    Allowlist,
    /// The locator resolves to a secret, or the source needs none.
    Credential,
    /// The connector opens, and the identity it meets matches the resource id.
    Upsert,
    /// Metadata only: Catalog v1.
    Discover,
    /// An authenticated probe whose answer only the right system can give.
    Health,
    /// At most `safe_mode.max_items` items are really read and counted.
    TinySync,
    /// The outcome is appended.
    Registry,
}

impl Step {
    /// All steps, in order.
    pub const ALL: [Step; 7] =
        [Step::Allowlist, Step::Credential, Step::Upsert, Step::Discover, Step::Health, Step::TinySync, Step::Registry];

    /// The word used in answers, reports and the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Step::Allowlist => "allowlist",
            Step::Credential => "credential",
            Step::Upsert => "upsert",
            Step::Discover => "discover",
            Step::Health => "health",
            Step::TinySync => "tiny_sync",
            Step::Registry => "registry",
        }
    }
}

/// What a step saw: small facts a person can check. Never a secret, never a row of data.
pub type Evidence = Map<String, Value>;

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum StepStatus {
    Passed,
    /// The step did its work and found something a person should mend, for example too many rights.
    Warned {
        failure: Failure,
    },
    Failed {
        failure: Failure,
    },
    Skipped {
        reason: String,
    },
}

/// One step of one attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    pub step: Step,
    #[serde(flatten)]
    pub status: StepStatus,
    /// Milliseconds.
    pub duration_ms: u64,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub evidence: Evidence,
}

impl StepReport {
    /// Passed or warned: the step did what it is for.
    #[must_use]
    pub fn done(&self) -> bool {
        matches!(self.status, StepStatus::Passed | StepStatus::Warned { .. })
    }

    /// The failure of a failed step.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        match &self.status {
            StepStatus::Failed { failure } => Some(failure),
            _ => None,
        }
    }
}

/// What the credential may do beyond reading. Three-valued: nobody may say `ok` who could not ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "lowercase")]
pub enum Privilege {
    Ok,
    /// The excess grants, in the source's own words.
    Over {
        grants: Vec<String>,
    },
    /// The source offers no way to ask; the reason says why.
    Unknown {
        reason: String,
    },
}
