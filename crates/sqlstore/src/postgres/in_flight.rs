//! Counts the statements that were sent and not answered yet.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// The maximum number of statements for whose answers the caller does not wait.
const MAX_IN_FLIGHT: usize = 256;

/// The statements that are under way.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    count: Mutex<usize>,
    answered: Condvar,
}

/// One statement that is under way. When it is dropped, another one may be sent.
#[derive(Debug)]
pub(super) struct Permit(Arc<InFlight>);

impl InFlight {
    /// Waits until another statement may be sent. `None` if that takes longer than `limit`.
    pub(super) fn admit(self: &Arc<InFlight>, limit: Duration) -> Option<Permit> {
        let count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.answered.wait_timeout_while(count, limit, |count| *count >= MAX_IN_FLIGHT);
        let (mut count, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() && *count >= MAX_IN_FLIGHT {
            return None;
        }
        *count += 1;
        Some(Permit(Arc::clone(self)))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut count = self.0.count.lock().unwrap_or_else(PoisonError::into_inner);
        *count = count.saturating_sub(1);
        self.0.answered.notify_one();
    }
}
