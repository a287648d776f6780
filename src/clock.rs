//! The clock. All code that needs the wall time gets it from here, so that tests can replace it.

use crate::model::Timestamp;
use futures_util::future::BoxFuture;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A source of wall time. Pure code gets timestamps as arguments instead.
pub trait Clock: Send + Sync {
    /// The current time in milliseconds since 1970 UTC.
    fn now(&self) -> Timestamp;

    /// How long this process has been running, by a clock that cannot be set.
    fn monotonic(&self) -> Duration {
        STARTED.elapsed()
    }

    /// Waits until `duration` of this clock has passed. A clock whose time jumps decides itself when that is.
    fn wait(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// The start of the monotonic time.
static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The clock of the machine.
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp(jiff::Timestamp::now().as_millisecond())
    }
}

/// The machine's clock plus an offset in milliseconds that is read from a file, so that a test can advance the clock of a
/// running daemon.
struct ShiftedClock {
    offset_file: PathBuf,
}

impl Clock for ShiftedClock {
    fn now(&self) -> Timestamp {
        let shift = std::fs::read_to_string(&self.offset_file).ok().and_then(|text| text.trim().parse::<i64>().ok());
        Timestamp(SystemClock.now().0.saturating_add(shift.unwrap_or(0)))
    }
}

/// The time of the ledger: it never goes back, and it goes on while the clock of the machine is behind it.
///
/// Rows carry the time at which they were appended, and waits count from it. If the clock of the machine was ahead and is
/// set back, waits that counted to an instant of the machine's clock would last until it is reached again. This clock
/// instead advances with a monotonic clock, a tenth more slowly, until the clock of the machine has caught up.
pub struct LedgerClock {
    system: Arc<dyn Clock>,
    state: Mutex<LedgerTime>,
}

struct LedgerTime {
    micros: i64,
    /// The monotonic time at which `micros` was right.
    at: Duration,
}

impl LedgerClock {
    /// Creates a clock that starts at the time of the last row, or at the time of `system` if that is later.
    #[must_use]
    pub fn new(system: Arc<dyn Clock>, last_row: Timestamp) -> LedgerClock {
        let start = system.now().max(last_row);
        let state = Mutex::new(LedgerTime { micros: start.0.saturating_mul(1000), at: system.monotonic() });
        LedgerClock { system, state }
    }
}

impl Clock for LedgerClock {
    fn now(&self) -> Timestamp {
        let system = self.system.now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let monotonic = self.system.monotonic();
        let elapsed = monotonic.saturating_sub(state.at);
        state.at = monotonic;
        state.micros = advance(state.micros, elapsed, system.0.saturating_mul(1000));
        Timestamp(state.micros.div_euclid(1000))
    }

    fn wait(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.system.wait(duration)
    }
}

/// Returns the time of the ledger in microseconds, `elapsed` after it was `before`.
fn advance(before: i64, elapsed: Duration, system: i64) -> i64 {
    let elapsed = i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX);
    let slower = before.saturating_add(elapsed - elapsed / 10);
    slower.max(system)
}

/// The clock of this process. A debug build uses the offset file that `AAM_TEST_CLOCK` names, if it is set.
#[must_use]
pub fn from_env() -> Arc<dyn Clock> {
    match std::env::var_os("AAM_TEST_CLOCK") {
        Some(path) if cfg!(debug_assertions) => Arc::new(ShiftedClock { offset_file: path.into() }),
        _ => Arc::new(SystemClock),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever the clock of the machine does, the time of the ledger never goes back, and a wait of it ends after at most
        /// ten ninths of its length.
        #[test]
        fn no_clock_of_a_machine_stops_or_turns_back_the_ledger(
            start in 0..i64::MAX / 4,
            steps in proptest::collection::vec((0..10_000_000_u64, -1_000_000_000_i64..1_000_000_000), 1..50),
        ) {
            let (mut time, mut elapsed_in_all) = (start, 0_i64);
            for (elapsed, skew) in steps {
                let next = advance(time, Duration::from_micros(elapsed), start.saturating_add(skew));
                prop_assert!(next >= time && next >= start.saturating_add(skew));
                elapsed_in_all += i64::try_from(elapsed).unwrap_or(i64::MAX);
                time = next;
            }
            prop_assert!(time - start >= elapsed_in_all / 10 * 9);
        }

        /// With a right clock, the time of the ledger is the time of the machine.
        #[test]
        fn a_right_clock_is_followed(start in 0..i64::MAX / 4, elapsed in 0..10_000_000_u64) {
            let system = start + i64::try_from(elapsed).unwrap_or(i64::MAX);
            prop_assert_eq!(advance(start, Duration::from_micros(elapsed), system), system);
        }
    }
}
