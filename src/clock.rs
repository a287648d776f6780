//! The clock. All code that needs the wall time gets it from here, so that tests can replace it.

use crate::model::Timestamp;
use std::path::PathBuf;
use std::sync::Arc;

/// A source of wall time. Pure code gets timestamps as arguments instead.
pub trait Clock: Send + Sync {
    /// The current time in milliseconds since 1970 UTC.
    fn now(&self) -> Timestamp;
}

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

/// The clock of this process. A debug build uses the offset file that `AAM_TEST_CLOCK` names, if it is set.
#[must_use]
pub fn from_env() -> Arc<dyn Clock> {
    match std::env::var_os("AAM_TEST_CLOCK") {
        Some(path) if cfg!(debug_assertions) => Arc::new(ShiftedClock { offset_file: path.into() }),
        _ => Arc::new(SystemClock),
    }
}
