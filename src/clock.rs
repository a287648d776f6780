//! The one seam through which wall time enters.

use crate::model::Timestamp;
use std::path::PathBuf;
use std::sync::Arc;

/// Wall time. Pure code never sees it; edges are handed one.
pub trait Clock: Send + Sync {
    /// Now, in milliseconds since 1970 UTC.
    fn now(&self) -> Timestamp;
}

/// The clock of the machine.
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp(jiff::Timestamp::now().as_millisecond())
    }
}

/// The machine's clock plus the milliseconds written in a file, so that a scenario can move a running daemon.
struct ShiftedClock {
    offset: PathBuf,
}

impl Clock for ShiftedClock {
    fn now(&self) -> Timestamp {
        let shift = std::fs::read_to_string(&self.offset).ok().and_then(|text| text.trim().parse::<i64>().ok());
        Timestamp(SystemClock.now().0.saturating_add(shift.unwrap_or(0)))
    }
}

/// The clock of this process. Only a debug build obeys `AAM_TEST_CLOCK`, the path of an offset file.
#[must_use]
pub fn of_process() -> Arc<dyn Clock> {
    match std::env::var_os("AAM_TEST_CLOCK") {
        Some(path) if cfg!(debug_assertions) => Arc::new(ShiftedClock { offset: path.into() }),
        _ => Arc::new(SystemClock),
    }
}
