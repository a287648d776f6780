//! The seven steps of the Safe Mode pipeline and their reports.

use super::failure::Failure;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The steps of the pipeline, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Checks that the policy lists the family and that the intent is eligible.
    Allowlist,
    /// Resolves the locator to a secret, unless the source does not need one.
    Credential,
    /// Opens the connector and checks that the identity that it finds matches the resource id.
    Upsert,
    /// Reads the catalog, which is metadata only.
    Discover,
    /// Makes an authenticated request and checks that the response can only come from the expected system.
    Health,
    /// Reads at most `safe_mode.max_items` items and counts them.
    TinySync,
    /// Appends the outcome to the registry.
    Registry,
}

impl Step {
    /// All steps, in order.
    pub const ALL: [Step; 7] =
        [Step::Allowlist, Step::Credential, Step::Upsert, Step::Discover, Step::Health, Step::TinySync, Step::Registry];

    /// Returns the name in the API, in reports and in the database.
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

/// What a step found, as short facts. It never contains a secret or a row of data.
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

impl StepStatus {
    /// The names of all ways in which a step can end.
    pub const NAMES: [&'static str; 4] = ["passed", "warned", "failed", "skipped"];

    /// Returns the name in the API and in the database.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            StepStatus::Passed => "passed",
            StepStatus::Warned { .. } => "warned",
            StepStatus::Failed { .. } => "failed",
            StepStatus::Skipped { .. } => "skipped",
        }
    }
}

/// One step of one attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    pub step: Step,
    #[serde(flatten)]
    pub status: StepStatus,
    /// The duration of the step in milliseconds.
    pub duration_ms: u64,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub evidence: Evidence,
}

impl StepReport {
    /// Returns true if the step passed, with or without a warning.
    #[must_use]
    pub fn done(&self) -> bool {
        matches!(self.status, StepStatus::Passed | StepStatus::Warned { .. })
    }

    /// Returns the failure if the step failed.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        match &self.status {
            StepStatus::Failed { failure } => Some(failure),
            _ => None,
        }
    }
}

/// Whether the credential has more than read access. The verdict is `Ok` only after the source was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "lowercase")]
pub enum Privilege {
    Ok,
    /// The excess permissions, as the source names them.
    Over {
        grants: Vec<String>,
    },
    /// AAM could not find out; `reason` says why.
    Unknown {
        reason: String,
    },
}
