//! One run of the pipeline for one connection, as a value.

use super::catalog::{Catalog, Drift};
use super::failure::{Class, Failure};
use super::ids::Digest;
use super::step::{Step, StepReport};
use serde::{Deserialize, Serialize};

/// How much of the pipeline an attempt runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// All seven steps.
    Full,
    /// A re-check between two drift checks: discovery and tiny sync are skipped.
    Health,
}

/// What an attempt found. Everything else about the connection is derived from this.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    pub scope: Scope,
    /// One report for each of the seven steps, in order, never a missing one.
    pub steps: Vec<StepReport>,
    /// What discovery saw, also when a later step failed.
    pub catalog: Option<Catalog>,
    /// The difference to the catalog in force before.
    pub drift: Drift,
    /// Items that the tiny sync really read.
    pub rows: Option<u64>,
    /// Milliseconds that the tiny sync took.
    pub latency_ms: Option<u64>,
}

impl Outcome {
    /// The first failed step and why.
    #[must_use]
    pub fn failure(&self) -> Option<(Step, &Failure)> {
        self.steps.iter().find_map(|report| report.failure().map(|failure| (report.step, failure)))
    }

    /// The class of the failure; `None` is a pass.
    #[must_use]
    pub fn class(&self) -> Option<Class> {
        self.failure().map(|(_, failure)| failure.class)
    }

    /// Whether `step` did its work.
    #[must_use]
    pub fn did(&self, step: Step) -> bool {
        self.steps.iter().any(|report| report.step == step && report.done())
    }

    /// The digest of what was found, without times and evidence: an equal one is an unchanged re-check.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut text = String::new();
        for report in &self.steps {
            let words = serde_json::to_string(&report.status).unwrap_or_default();
            text.push_str(report.step.word());
            text.push_str(&words);
        }
        text.push_str(&format!("{:?}{:?}", self.rows, self.catalog.as_ref().map(Catalog::digest)));
        Digest::of(text.as_bytes())
    }
}
