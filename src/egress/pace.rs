//! What paces the calls of one account: slots, the rate limit, and the turns of its attempts.

use super::bucket::Bucket;
use crate::model::ConnectionId;
use crate::policy::Cap;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Slots for concurrent calls. Their number may change while calls are in flight.
pub(super) struct Slots {
    pub(super) semaphore: Arc<Semaphore>,
    size: usize,
    /// The number of slots still to be removed after the cap was lowered. A slot in use is removed when it becomes
    /// free.
    surplus: usize,
}

impl Slots {
    pub(super) fn new(cap: &Cap) -> Slots {
        let size = slots(cap);
        Slots { semaphore: Arc::new(Semaphore::new(size)), size, surplus: 0 }
    }

    /// Applies the number of slots of `part`.
    pub(super) fn resize(&mut self, part: &Cap) {
        let size = slots(part);
        if size > self.size {
            let grown = size - self.size;
            let kept = grown.min(self.surplus);
            self.surplus -= kept;
            self.semaphore.add_permits(grown - kept);
        } else {
            self.surplus += self.size - size;
        }
        self.size = size;
        if self.surplus > 0 {
            self.surplus -= self.semaphore.forget_permits(self.surplus);
        }
    }

    /// Returns `slot`, or removes it if the number of slots was lowered while its call waited.
    pub(super) fn keep(&mut self, slot: OwnedSemaphorePermit) -> Option<OwnedSemaphorePermit> {
        if self.surplus == 0 {
            return Some(slot);
        }
        self.surplus -= 1;
        slot.forget();
        None
    }

    /// Returns the number of calls that are in flight.
    pub(super) fn in_flight(&self) -> u32 {
        let slots = (self.size + self.surplus).saturating_sub(self.semaphore.available_permits());
        u32::try_from(slots).unwrap_or(u32::MAX)
    }
}

/// The rate limit of an account.
pub(super) struct Rate {
    pub(super) bucket: Bucket,
    /// The limits of the whole account, of which this process may have a part.
    pub(super) whole: Cap,
    /// Rate and burst of the bucket.
    shape: (f64, u32),
    /// How often they changed.
    pub(super) shapes: u64,
}

impl Rate {
    pub(super) fn new(cap: &Cap, now: Duration) -> Rate {
        let shape = (cap.per_second, cap.burst);
        Rate { bucket: Bucket::new(shape.0, shape.1, now), whole: cap.clone(), shape, shapes: 0 }
    }

    /// Applies other limits. The calls that wait reserve anew.
    pub(super) fn reshape(&mut self, part: &Cap, now: Duration) {
        if self.shape != (part.per_second, part.burst) {
            self.shape = (part.per_second, part.burst);
            self.shapes += 1;
            self.bucket.reshape_waiting(part.per_second, part.burst, now);
        }
    }

    /// Begins anew with `bucket`.
    pub(super) fn restart(&mut self, bucket: Bucket) {
        self.bucket = bucket;
        self.shapes += 1;
    }
}

/// When the attempts of an account may begin. Without this, attempts of many connections would use up the rate limit halfway,
/// fail, and repeat the calls that they have already made.
pub(super) struct Turns {
    bucket: Bucket,
    shape: (f64, u32),
    /// The attempts that wait, and when each may begin. Their number is bounded by that of the connections.
    granted: HashMap<ConnectionId, Duration>,
}

impl Turns {
    pub(super) fn new(cap: &Cap, now: Duration) -> Turns {
        let shape = (cap.per_second, cap.burst);
        Turns { bucket: Bucket::new(shape.0, shape.1, now), shape, granted: HashMap::new() }
    }

    /// Returns how long the attempt of `connection` has to wait. Once it may begin, its turn is used up.
    pub(super) fn wait(&mut self, connection: ConnectionId, cap: &Cap, calls: u32, now: Duration) -> Duration {
        if self.shape != (cap.per_second, cap.burst) {
            // The turns were granted at another pace.
            *self = Turns::new(cap, now);
        }
        let wait = match self.granted.get(&connection) {
            Some(at) => at.saturating_sub(now),
            None => self.bucket.reserve_attempt(now, calls),
        };
        match wait.is_zero() {
            true => self.granted.remove(&connection),
            false => self.granted.insert(connection, now.saturating_add(wait)),
        };
        wait
    }

    /// Lets the next attempt of `connection` begin without waiting behind the others, because the source throttled the
    /// attempt that has its turn now: what is left of this turn would be lost, and the connection would be the last one.
    pub(super) fn keep(&mut self, connection: ConnectionId, now: Duration) {
        self.granted.insert(connection, now);
    }
}

fn slots(cap: &Cap) -> usize {
    usize::try_from(cap.concurrency).unwrap_or(1).max(1)
}
