//! The outcome of one run of the pipeline for one connection.

use super::Timestamp;
use super::catalog::{Catalog, Drift};
use super::failure::{Class, Failure};
use super::ids::Digest;
use super::step::{Step, StepReport, StepStatus};
use serde::{Deserialize, Serialize};

/// The key in the evidence of the credential step for the time at which a person has to replace the credential.
pub const ENDS_AT: &str = "ends_at";
/// The key of the evidence of the credential step that says which secret ends, if it is not that of the intent's locator.
pub const ENDING_SECRET: &str = "ending_secret";

/// The secret whose end limits a credential, if it is not the one that `credential_locator` names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndingSecret {
    /// The token at this locator, with which AAM logs in to the vault.
    VaultLogin(String),
    /// The key or secret of this service principal.
    Principal(String),
    /// The grant of this consent.
    Consent(String),
}

/// How much of the pipeline an attempt runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// All seven steps.
    Full,
    /// A re-check of the health only. Discovery and tiny sync are skipped.
    Health,
}

impl Scope {
    /// All scopes.
    pub const ALL: [Scope; 2] = [Scope::Full, Scope::Health];

    /// Returns the name in the API and in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Scope::Full => "full",
            Scope::Health => "health",
        }
    }
}

/// The outcome of an attempt, from which the state of the connection is derived.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    pub scope: Scope,
    /// One report for each of the seven steps, in order.
    pub steps: Vec<StepReport>,
    /// The result of discovery, even if a later step failed.
    pub catalog: Option<Catalog>,
    /// The difference from the previous catalog.
    pub drift: Drift,
    /// The number of items that the tiny sync read.
    pub rows: Option<u64>,
    /// The duration of the tiny sync in milliseconds.
    pub latency_ms: Option<u64>,
}

impl Outcome {
    /// Returns the first failed step and its failure.
    #[must_use]
    pub fn failure(&self) -> Option<(Step, &Failure)> {
        self.steps.iter().find_map(|report| report.failure().map(|failure| (report.step, failure)))
    }

    /// Returns the class of the failure, or `None` if the attempt passed.
    #[must_use]
    pub fn class(&self) -> Option<Class> {
        self.failure().map(|(_, failure)| failure.class)
    }

    /// Returns true if `step` passed, with or without a warning.
    #[must_use]
    pub fn did(&self, step: Step) -> bool {
        self.steps.iter().any(|report| report.step == step && report.done())
    }

    /// Returns when the credential ends, if a person has to replace it: as the place where it is stored says, or as the vendor
    /// says.
    #[must_use]
    pub fn credential_ends_at(&self) -> Option<Timestamp> {
        let ends_at = |report: &StepReport| Timestamp::parse(report.evidence.get(ENDS_AT)?.as_str()?).ok();
        self.steps.iter().filter_map(ends_at).min()
    }

    /// Returns the secret that ends at [`Outcome::credential_ends_at`], if it is not that of the intent's locator.
    #[must_use]
    pub fn ending_secret(&self) -> Option<EndingSecret> {
        let report = self.steps.iter().find(|report| report.step == Step::Credential)?;
        EndingSecret::deserialize(report.evidence.get(ENDING_SECRET)?).ok()
    }

    /// Returns a digest of the outcome that leaves out times and evidence. If a re-check has the same digest as the attempt
    /// before it, it found nothing new.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest_with(self.catalog.as_ref().map(Catalog::digest))
    }

    /// Like [`Outcome::digest`], for a caller that already knows the digest of the catalog.
    #[must_use]
    pub fn digest_with(&self, catalog: Option<Digest>) -> Digest {
        let mut text = String::new();
        for report in &self.steps {
            let status = match &report.status {
                StepStatus::Warned { failure } | StepStatus::Failed { failure } => {
                    stable_text(failure, report.failure().is_some())
                }
                other => serde_json::to_string(other).unwrap_or_default(),
            };
            text.push_str(report.step.as_str());
            text.push_str(&status);
        }
        text.push_str(&format!("{:?}{:?}", self.rows, catalog));
        Digest::from_bytes(text.as_bytes())
    }
}

/// Returns the part of a failure that does not change from attempt to attempt. It leaves out request ids and times,
/// which sources put into their messages. With them, every retry would count as new and append to the ledger.
fn stable_text(failure: &Failure, failed: bool) -> String {
    let detail: Vec<&str> = failure
        .detail
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.contains(|c: char| c.is_ascii_digit()))
        .collect();
    serde_json::json!([failed, failure.class, failure.title, failure.fix, failure.retry_after_ms, detail]).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Evidence;

    fn failed(detail: &str, duration_ms: u64) -> Outcome {
        let failure = Failure::new(Class::Remote, "the bucket cannot be listed", "try later");
        let report = |step| StepReport {
            step,
            status: if step == Step::Health {
                StepStatus::Failed { failure: failure.clone().detail(detail) }
            } else {
                StepStatus::Passed
            },
            duration_ms,
            evidence: Evidence::new(),
        };
        Outcome {
            scope: Scope::Full,
            steps: Step::ALL.into_iter().map(report).collect(),
            catalog: None,
            drift: Drift::default(),
            rows: None,
            latency_ms: Some(duration_ms),
        }
    }

    #[test]
    fn request_ids_and_times_do_not_change_the_digest_and_other_text_does() {
        let once = failed("SlowDown at 2026-11-08T18:00:00Z, RequestId 7F3A-00c1", 3).digest();
        let again = failed("SlowDown at 2026-11-09T06:30:12Z, RequestId 91BB-12d4", 900).digest();
        assert_eq!(once, again);
        assert_ne!(once, failed("AccessDenied at 2026-11-08T18:00:00Z, RequestId 7F3A-00c1", 3).digest());
        let mut warned = failed("", 3);
        let mut other = failed("", 3);
        for report in &mut warned.steps {
            if let StepStatus::Failed { failure } = report.status.clone() {
                report.status = StepStatus::Warned { failure };
            }
        }
        assert_ne!(warned.digest(), other.digest(), "a warning is not a failure");
        other.rows = Some(1);
        assert_ne!(failed("", 3).digest(), other.digest());
    }
}
