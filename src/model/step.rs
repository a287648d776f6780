//! The seven steps of the Safe Mode pipeline and their reports.

use super::failure::Failure;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The steps of the pipeline, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The policy lists the family, and the intent is eligible.
    Allowlist,
    /// The locator resolves to a secret, or the source does not need one.
    Credential,
    /// The connector opens, and the identity that it finds matches the resource id.
    Upsert,
    /// The catalog is read; metadata only.
    Discover,
    /// An authenticated request is answered as only the expected system can answer it.
    Health,
    /// At most `safe_mode.max_items` items are read and counted.
    TinySync,
    /// The outcome is appended to the registry.
    Registry,
}

impl Step {
    /// All steps, in order.
    pub const ALL: [Step; 7] =
        [Step::Allowlist, Step::Credential, Step::Upsert, Step::Discover, Step::Health, Step::TinySync, Step::Registry];

    /// The name in the API, in reports and in the database.
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

/// What a step found, as small facts. It never contains a secret or a row of data.
pub type Evidence = Map<String, Value>;

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum StepStatus {
    Passed,
    /// The step passed and found something that should be fixed, for example excess permissions.
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
    /// Whether the step passed, with or without a warning.
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

/// Whether the credential may do more than read. It is `Ok` only if the source was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "lowercase")]
pub enum Privilege {
    Ok,
    /// The excess permissions, as the source names them.
    Over {
        grants: Vec<String>,
    },
    /// The source was not asked; `reason` says why.
    Unknown {
        reason: String,
    },
}
