//! Counts what the process did since its start: attempts, steps, calls, commits. `GET /metrics` exports it.
//!
//! The labels are families and fixed names only, so the number of series is bounded whatever intents contain.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, PoisonError, RwLock};
use std::time::Duration;

/// The number of families that are counted separately. The calls and attempts of further ones count as those of `other`.
pub const MAX_FAMILIES: usize = 100;

/// The upper bounds of the buckets for attempts and steps, in seconds.
pub const WORK_BOUNDS: [f64; 11] = [0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// The upper bounds of the buckets for commits, in seconds.
pub const COMMIT_BOUNDS: [f64; 11] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];

/// The meters of the process.
static METERS: LazyLock<Meters> = LazyLock::new(Meters::default);

/// Returns the meters of the process.
#[must_use]
pub fn meters() -> &'static Meters {
    &METERS
}

/// All meters.
#[derive(Default)]
pub struct Meters {
    families: RwLock<BTreeMap<String, Arc<FamilyMeters>>>,
    commits: Meter,
    queue_length: AtomicU64,
    /// When the first waiting attempt is due, in milliseconds since 1970 UTC; 0 if none waits.
    queue_next_due_ms: AtomicI64,
}

/// The meters of one family. The maps are keyed by names from fixed lists.
#[derive(Default)]
struct FamilyMeters {
    attempts: Meter,
    outcomes: Counts,
    steps: RwLock<BTreeMap<&'static str, Arc<Meter>>>,
    calls: Counts,
}

#[derive(Default)]
struct Counts(RwLock<BTreeMap<String, Arc<AtomicU64>>>);

/// A histogram with up to 12 buckets, of which the last has no upper bound.
#[derive(Default)]
struct Meter {
    buckets: [AtomicU64; 12],
    micros: AtomicU64,
}

/// The values of a histogram.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HistogramValues {
    /// The upper bound of each bucket in seconds, and the number of values that are in it and in no earlier one.
    pub buckets: Vec<(f64, u64)>,
    /// The sum of all values in seconds.
    pub sum: f64,
}

impl HistogramValues {
    /// Returns the number of values.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }
}

/// The values of the meters of one family.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FamilyValues {
    pub family: String,
    pub attempts: HistogramValues,
    /// Attempts by outcome: `passed`, or the class of the failure.
    pub outcomes: Vec<(String, u64)>,
    /// By the name of the step.
    pub steps: Vec<(&'static str, HistogramValues)>,
    /// Calls by outcome: `answered`, or the class of the failure.
    pub calls: Vec<(String, u64)>,
}

/// The values of all meters.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MeterValues {
    pub families: Vec<FamilyValues>,
    pub commits: HistogramValues,
    pub queue_length: u64,
    /// In milliseconds since 1970 UTC. `None` if no attempt waits.
    pub queue_next_due_ms: Option<i64>,
}

impl Meter {
    fn observe(&self, bounds: &[f64; 11], took: Duration) {
        let seconds = took.as_secs_f64();
        let index = bounds.iter().position(|bound| seconds <= *bound).unwrap_or(bounds.len());
        if let Some(bucket) = self.buckets.get(index) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn read(&self, bounds: &[f64; 11]) -> HistogramValues {
        let bounds = bounds.iter().copied().chain([f64::INFINITY]);
        let buckets = bounds.zip(&self.buckets).map(|(bound, count)| (bound, count.load(Ordering::Relaxed))).collect();
        #[expect(clippy::cast_precision_loss, reason = "a rounded sum of microseconds is precise enough")]
        let sum = self.micros.load(Ordering::Relaxed) as f64 / 1e6;
        HistogramValues { buckets, sum }
    }
}

impl Counts {
    fn add(&self, name: &str) {
        if let Some(count) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            count.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut counts = self.0.write().unwrap_or_else(PoisonError::into_inner);
        counts.entry(name.to_string()).or_default().fetch_add(1, Ordering::Relaxed);
    }

    fn read(&self) -> Vec<(String, u64)> {
        let counts = self.0.read().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|(name, count)| (name.clone(), count.load(Ordering::Relaxed))).collect()
    }
}

impl Meters {
    /// Counts an attempt. `outcome` is `passed` or the class of the failure.
    pub fn attempt(&self, family: &str, outcome: &'static str, took: Duration) {
        let family = self.family(family);
        family.attempts.observe(&WORK_BOUNDS, took);
        family.outcomes.add(outcome);
    }

    /// Counts a step that ran.
    pub fn step(&self, family: &str, step: &'static str, took: Duration) {
        let family = self.family(family);
        let known = family.steps.read().unwrap_or_else(PoisonError::into_inner).get(step).cloned();
        let meter = known
            .unwrap_or_else(|| Arc::clone(family.steps.write().unwrap_or_else(PoisonError::into_inner).entry(step).or_default()));
        meter.observe(&WORK_BOUNDS, took);
    }

    /// Counts a call. `error` is the class of the failure, or empty.
    pub fn call(&self, family: &str, error: &str) {
        self.family(family).calls.add(if error.is_empty() { "answered" } else { error });
    }

    /// Counts a transaction of the registry.
    pub fn commit(&self, took: Duration) {
        self.commits.observe(&COMMIT_BOUNDS, took);
    }

    /// Sets the number of attempts that wait, and when the first of them is due, in milliseconds since 1970 UTC.
    pub fn queue(&self, length: usize, next_due_ms: Option<i64>) {
        self.queue_length.store(length as u64, Ordering::Relaxed);
        self.queue_next_due_ms.store(next_due_ms.unwrap_or(0), Ordering::Relaxed);
    }

    /// Returns the current values.
    #[must_use]
    pub fn read(&self) -> MeterValues {
        let families = self.families.read().unwrap_or_else(PoisonError::into_inner);
        let values = |(name, family): (&String, &Arc<FamilyMeters>)| {
            let steps = family.steps.read().unwrap_or_else(PoisonError::into_inner);
            FamilyValues {
                family: name.clone(),
                attempts: family.attempts.read(&WORK_BOUNDS),
                outcomes: family.outcomes.read(),
                steps: steps.iter().map(|(step, meter)| (*step, meter.read(&WORK_BOUNDS))).collect(),
                calls: family.calls.read(),
            }
        };
        MeterValues {
            families: families.iter().map(values).collect(),
            commits: self.commits.read(&COMMIT_BOUNDS),
            queue_length: self.queue_length.load(Ordering::Relaxed),
            queue_next_due_ms: Some(self.queue_next_due_ms.load(Ordering::Relaxed)).filter(|due| *due > 0),
        }
    }

    fn family(&self, name: &str) -> Arc<FamilyMeters> {
        if let Some(known) = self.families.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Arc::clone(known);
        }
        let mut families = self.families.write().unwrap_or_else(PoisonError::into_inner);
        let name = if families.len() < MAX_FAMILIES { name } else { "other" };
        Arc::clone(families.entry(name.to_string()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_families_is_bounded_and_nothing_is_lost() {
        let meters = Meters::default();
        for number in 0..MAX_FAMILIES + 50 {
            meters.attempt(&format!("family{number}"), "passed", Duration::from_millis(30));
            meters.call(&format!("family{number}"), "");
        }
        let values = meters.read();
        assert_eq!(values.families.len(), MAX_FAMILIES + 1);
        assert_eq!(values.families.iter().map(|family| family.attempts.count()).sum::<u64>(), 150);
        let other = values.families.iter().find(|family| family.family == "other").unwrap();
        assert_eq!(
            (&other.outcomes[..], &other.calls[..]),
            (&[("passed".to_string(), 50)][..], &[("answered".to_string(), 50)][..])
        );
    }

    #[test]
    fn values_are_in_the_bucket_of_the_first_bound_that_is_not_smaller() {
        let meters = Meters::default();
        for millis in [0, 25, 26, 60_000, 60_001] {
            meters.step("slack", "health", Duration::from_millis(millis));
        }
        let [(_, values)] = &meters.read().families[0].steps[..] else { panic!("one step") };
        let filled: Vec<(f64, u64)> = values.buckets.iter().copied().filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, [(0.025, 2), (0.05, 1), (60.0, 1), (f64::INFINITY, 1)]);
        assert!((values.sum - 120.052).abs() < 1e-9, "{}", values.sum);
    }
}
