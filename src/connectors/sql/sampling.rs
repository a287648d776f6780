//! Which tables and views a tiny sync reads, until one has rows.
//!
//! One object that cannot be read says nothing about the others, so every failure of an object is noted and the next one
//! is tried. Only a failure of the connection itself ends the search; the caller decides which one that is.

use crate::connectors::Sample;
use crate::model::{Evidence, Failure};
use serde_json::json;
use std::time::{Duration, Instant};

/// The number of objects whose failures are named in the evidence. Further ones are only counted.
const MAX_NAMED_FAILURES: usize = 10;
/// The share of the step's time that the search may use, so that the step can still report what was found.
const SHARE_OF_STEP: f64 = 0.75;
/// The number of objects for which there is time, even if each of them uses its whole time limit.
const MIN_CANDIDATES: u32 = 4;

/// The search of one tiny sync.
pub struct Sampling {
    started: Instant,
    limit: Duration,
    empty: Vec<String>,
    failed: Vec<(String, Failure)>,
}

impl Sampling {
    /// Begins a search in a step that has `step_timeout`.
    #[must_use]
    pub fn new(step_timeout: Duration) -> Sampling {
        Sampling { started: Instant::now(), limit: step_timeout.mul_f64(SHARE_OF_STEP), empty: Vec::new(), failed: Vec::new() }
    }

    /// The time limit for one object: at most `max`, and so short that several objects can be read.
    #[must_use]
    pub fn object_timeout(&self, max: Duration) -> Duration {
        (self.limit / MIN_CANDIDATES).min(max)
    }

    /// Whether there is time for another object that may use `timeout`.
    #[must_use]
    pub fn has_time(&self, timeout: Duration) -> bool {
        self.started.elapsed() + timeout <= self.limit
    }

    /// Notes an object without rows.
    pub fn empty(&mut self, name: impl Into<String>) {
        self.empty.push(name.into());
    }

    /// Notes an object that could not be read.
    pub fn failed(&mut self, name: impl Into<String>, failure: Failure) {
        self.failed.push((name.into(), failure));
    }

    /// Whether no object was tried yet.
    #[must_use]
    pub fn is_unused(&self) -> bool {
        self.empty.is_empty() && self.failed.is_empty()
    }

    /// Ends the search with an object that has rows.
    #[must_use]
    pub fn found(self, name: &str, rows: u64) -> Sample {
        let mut evidence = self.evidence();
        evidence.insert("stream".into(), json!(name));
        evidence.insert("rows".into(), json!(rows));
        Sample { rows, evidence }
    }

    /// Ends the search without rows. `unread` is the number of objects that were not reached in time.
    ///
    /// # Errors
    /// The first failure, if no object could be read. Zero rows would then be a false claim.
    pub fn without_rows(mut self, unread: usize) -> Result<Sample, Failure> {
        if self.empty.is_empty() && !self.failed.is_empty() {
            return Err(self.failed.swap_remove(0).1);
        }
        let mut evidence = self.evidence();
        let note = match (unread, self.failed.is_empty()) {
            (0, true) => "empty: the tables that were read have no rows".to_string(),
            (0, false) => "empty: the tables that could be read have no rows".to_string(),
            (unread, _) => {
                let plural = if unread == 1 { "1 more table was" } else { &format!("{unread} more tables were") };
                format!("empty: the tables that were read have no rows; {plural} not read within the time limit")
            }
        };
        evidence.insert("empty_streams".into(), json!(self.empty.into_iter().take(MAX_NAMED_FAILURES).collect::<Vec<_>>()));
        evidence.insert("note".into(), json!(note));
        Ok(Sample { rows: 0, evidence })
    }

    /// What was skipped, and why.
    fn evidence(&self) -> Evidence {
        let mut evidence = Evidence::new();
        if !self.failed.is_empty() {
            let named = self.failed.iter().take(MAX_NAMED_FAILURES);
            let named: Vec<_> =
                named.map(|(name, failure)| json!({"stream": name, "reason": failure.title, "detail": failure.detail})).collect();
            evidence.insert("skipped_streams".into(), json!(named));
            evidence.insert("skipped_count".into(), json!(self.failed.len()));
        }
        evidence
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Class;

    fn broken(title: &str) -> Failure {
        Failure::new(Class::Remote, title, "fix it")
    }

    #[test]
    fn a_failed_object_does_not_hide_the_next_one() {
        let mut sampling = Sampling::new(Duration::from_secs(20));
        sampling.failed("aa", broken("locked"));
        sampling.empty("bb");
        let sample = sampling.found("zz", 7);
        assert_eq!((sample.rows, &sample.evidence["stream"]), (7, &json!("zz")));
        assert_eq!(sample.evidence["skipped_streams"][0]["reason"], json!("locked"));
    }

    #[test]
    fn zero_rows_are_claimed_only_if_something_was_read() {
        let mut sampling = Sampling::new(Duration::from_secs(20));
        sampling.failed("aa", broken("locked"));
        sampling.failed("bb", broken("damaged"));
        assert_eq!(sampling.without_rows(0).err().unwrap().title, "locked");
        let mut sampling = Sampling::new(Duration::from_secs(20));
        sampling.failed("aa", broken("locked"));
        sampling.empty("bb");
        let sample = sampling.without_rows(1).unwrap();
        assert!(sample.evidence["note"].as_str().unwrap().ends_with("1 more table was not read within the time limit"));
        assert_eq!(sample.evidence["skipped_count"], json!(1));
    }

    #[test]
    fn there_is_time_for_four_objects_of_any_speed() {
        for seconds in [4, 8, 20, 60] {
            let sampling = Sampling::new(Duration::from_secs(seconds));
            let timeout = sampling.object_timeout(Duration::from_secs(5));
            assert!(timeout * 4 <= Duration::from_secs(seconds) && timeout <= Duration::from_secs(5));
            assert!(sampling.has_time(timeout));
        }
    }
}
