//! Which tables and views a tiny sync reads, until one has rows.
//!
//! One object that cannot be read says nothing about the others, so every failure of an object is noted and the next one
//! is tried. Only a failure of the connection itself ends the search; the caller decides which one that is.

use crate::connectors::Sample;
use crate::model::text::counted;
use crate::model::{Class, Evidence, Failure};
use serde_json::json;
use std::time::{Duration, Instant};

/// Limit on the number of objects that the evidence names. Further ones are only counted.
const MAX_NAMED: usize = 20;
/// The share of the step's time that the search may use, so that the step can still report what was found.
const SHARE_OF_STEP: f64 = 0.75;
/// The number of objects for which there is time, even if each of them uses its whole time limit.
const MIN_CANDIDATES: u32 = 4;

/// Returns the warning of discovery if the login may not read some of the `total` tables and views. `named` are those with
/// the missing privilege, and `grant` is the statement that gives it.
#[must_use]
pub fn unreadable_warning(named: &[String], total: usize, grant: String) -> Option<Failure> {
    let first = named.first()?;
    let verb = if named.len() == 1 { "is" } else { "are" };
    let others = if named.len() == 1 { String::new() } else { format!(" and {} more", named.len() - 1) };
    let title = format!("{} of {} {verb} not readable: {first}{others}", named.len(), counted(total, "table"));
    let listed: Vec<&str> = named.iter().take(MAX_NAMED).map(String::as_str).collect();
    Some(Failure::new(Class::PermissionDenied, title, grant).detail(listed.join(", ")))
}

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
        Sample::new(rows, evidence)
    }

    /// Ends the search without rows. `untried` is the number of objects for which there was no time.
    ///
    /// # Errors
    /// A failure of an object, if none could be read. Zero rows would then be a false claim.
    pub fn without_rows(self, untried: usize) -> Result<Sample, Failure> {
        if self.empty.is_empty() && !self.failed.is_empty() {
            return Err(self.failure(untried));
        }
        let mut evidence = self.evidence();
        let mut note = "empty: the tables that were read have no rows".to_string();
        if !self.failed.is_empty() {
            note.push_str(&format!("; {} could not be read", counted(self.failed.len(), "table")));
        }
        if untried > 0 {
            evidence.insert("not_tried".into(), json!(untried));
            note.push_str(&format!("; there was no time for {} more", counted(untried, "table")));
        }
        evidence.insert("note".into(), json!(note));
        Ok(Sample::new(0, evidence))
    }

    /// What was empty, and what was skipped and why.
    fn evidence(&self) -> Evidence {
        let mut evidence = Evidence::new();
        if !self.empty.is_empty() {
            let named: Vec<&String> = self.empty.iter().take(MAX_NAMED).collect();
            evidence.insert("empty_streams".into(), json!(named));
            evidence.insert("empty_count".into(), json!(self.empty.len()));
        }
        if !self.failed.is_empty() {
            let named = self.failed.iter().take(MAX_NAMED);
            let named: Vec<_> = named.map(|(name, failure)| json!({"stream": name, "reason": reason(failure)})).collect();
            evidence.insert("skipped".into(), json!(named));
            evidence.insert("skipped_count".into(), json!(self.failed.len()));
        }
        evidence
    }

    /// The first failure that is not a missing privilege, with the reasons of the others in its detail.
    fn failure(mut self, untried: usize) -> Failure {
        let denied = |failure: &Failure| failure.class == Class::PermissionDenied;
        let at = self.failed.iter().position(|(_, failure)| !denied(failure)).unwrap_or(0);
        let (_, first) = self.failed.remove(at);
        let mut detail = first.detail.clone();
        if !self.failed.is_empty() {
            let others = self.failed.iter().take(MAX_NAMED).map(|(name, failure)| format!("{name}: {}", reason(failure)));
            let gap = if detail.is_empty() { "" } else { "; " };
            detail.push_str(&format!("{gap}no other table could be read: {}", others.collect::<Vec<_>>().join("; ")));
        }
        if self.failed.len() > MAX_NAMED {
            detail.push_str(&format!("; and {} more", self.failed.len() - MAX_NAMED));
        }
        if untried > 0 {
            detail.push_str(&format!("; there was no time for {}", counted(untried, "table")));
        }
        first.detail(detail)
    }
}

/// Why an object was skipped, on one line. The title names the source and the object, which are shown beside it.
fn reason(failure: &Failure) -> String {
    let title = failure.title.split_once("could not read ").and_then(|(_, rest)| rest.split_once(": ")).map(|(_, why)| why);
    format!("{}; {}", title.unwrap_or(&failure.title), failure.detail).trim_end_matches("; ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(sample.evidence["skipped"], json!([{"stream": "aa", "reason": "locked"}]));
    }

    #[test]
    fn zero_rows_are_claimed_only_if_something_was_read() {
        let mut sampling = Sampling::new(Duration::from_secs(20));
        sampling.failed("aa", broken("locked"));
        sampling.failed("bb", broken("damaged"));
        let failure = sampling.without_rows(0).err().unwrap();
        assert_eq!((failure.title.as_str(), failure.detail.as_str()), ("locked", "no other table could be read: bb: damaged"));
        let mut sampling = Sampling::new(Duration::from_secs(20));
        sampling.failed("aa", broken("locked"));
        sampling.empty("bb");
        let sample = sampling.without_rows(1).unwrap();
        let note = "empty: the tables that were read have no rows; 1 table could not be read; there was no time for 1 table more";
        assert_eq!(sample.evidence["note"], json!(note));
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
