//! How replicas divide the limits of one account. This module is pure; the time is a parameter.
//!
//! Each replica that uses an account has a row in the database: until when it uses the account, and the number of parts that it
//! counts on. A replica that counts on `n` parts uses at most one of `n` equal parts of the limits. It follows three rules:
//!
//! 1. It uses a smaller share before its row says so, and a larger share only after its row says so.
//! 2. It begins to use a share, or uses a larger one, only after it has read, later than its own row was written, that every other
//!    living row counts on at least as many parts as there are rows.
//! 3. It uses nothing once its own row may have ended.
//!
//! Of two replicas that write their rows and then read those of the others, at least one sees the other. So the shares in use are
//! never more than the whole, however late a replica writes or reads, and a replica that hangs keeps its share until its row ends.

use super::bucket::Bucket;
use crate::policy::Cap;
use std::time::Duration;

/// How long a row lasts after it was written, by the clock of the database.
pub const HOLD: Duration = Duration::from_secs(15);
/// How much earlier than the database a replica takes its own row to have ended.
const MARGIN: Duration = Duration::from_secs(1);
/// How long a replica keeps its row after its last call to the account.
pub const IDLE: Duration = Duration::from_secs(60);

/// The share of one process in the limits of one account. All times are those of one monotonic clock.
#[derive(Clone, Debug, Default)]
pub struct Share {
    /// The process uses one of this many parts. `None`: it makes no calls.
    applied: Option<u32>,
    /// The number of parts in the row, if that is certain.
    published: Option<u32>,
    /// When it was confirmed that the row says so.
    published_at: Duration,
    /// Until when the row certainly lives.
    valid_until: Duration,
    /// The number of the last write. The answers to earlier ones do not say what the row contains now.
    writes: u64,
}

/// A write of the row that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowWrite {
    number: u64,
    /// When it was sent, at the latest.
    asked: Duration,
}

impl Share {
    /// Returns the number of parts of which the process may use one now. `None`: it may not call.
    #[must_use]
    pub fn parts(&self, now: Duration) -> Option<u32> {
        self.applied.filter(|_| self.is_held(now))
    }

    /// Whether the row certainly lives, so that all others count it.
    #[must_use]
    pub fn is_held(&self, now: Duration) -> bool {
        now < self.valid_until
    }

    /// Begins to write a new row, because the process has none or the last one may have ended.
    pub fn join(&mut self, now: Duration) -> RowWrite {
        let writes = self.writes + 1;
        *self = Share { writes, ..Share::default() };
        RowWrite { number: writes, asked: now }
    }

    /// Begins to write the row again: with other parts, or to keep it. `None`: the row is not certain, so it is not kept.
    pub fn renew(&mut self, parts: Option<u32>, now: Duration) -> Option<(RowWrite, u32)> {
        let parts = parts.or(self.published).filter(|_| self.is_held(now))?;
        if self.published != Some(parts) {
            self.published = None;
        }
        self.writes += 1;
        Some((RowWrite { number: self.writes, asked: now }, parts))
    }

    /// Reports that `write` wrote `parts`.
    pub fn written(&mut self, write: RowWrite, parts: u32, now: Duration) {
        if write.number != self.writes {
            return;
        }
        if self.published != Some(parts) {
            (self.published, self.published_at) = (Some(parts), now);
        }
        self.valid_until = self.valid_until.max((write.asked + HOLD).saturating_sub(MARGIN));
    }

    /// Reports that `write` found that the row had ended.
    pub fn ended(&mut self, write: RowWrite) {
        if write.number == self.writes {
            *self = Share { writes: self.writes, ..Share::default() };
        }
    }

    /// Gives the share up.
    pub fn leave(&mut self) {
        *self = Share { writes: self.writes + 1, ..Share::default() };
    }

    /// Takes in the parts on which the other living rows count, as they were read after `read_began`. A smaller share applies at
    /// once. `in_flight` are the calls of the process that have not ended, also those from before it lost its row.
    pub fn observe(&mut self, read_began: Duration, others: &[u32], (in_flight, cap): (u32, &Cap), now: Duration) {
        let rows = u32::try_from(others.len()).unwrap_or(u32::MAX).saturating_add(1);
        let agreed = others.iter().all(|parts| *parts >= rows);
        let certain = self.published == Some(rows) && self.published_at <= read_began && self.is_held(now);
        match self.applied {
            Some(applied) if applied < rows => self.applied = Some(rows),
            Some(applied) if applied == rows => {}
            _ if certain && agreed && in_flight <= part(cap, rows).concurrency => self.applied = Some(rows),
            _ => {}
        }
    }

    /// Returns the number of parts that the row should say after `others` rows of others were read, or `None` if it says so
    /// already. The caller writes a smaller share only when its calls fit into it.
    #[must_use]
    pub fn unpublished(&self, others: usize) -> Option<u32> {
        let rows = u32::try_from(others).unwrap_or(u32::MAX).saturating_add(1);
        (self.published != Some(rows)).then_some(rows)
    }
}

/// Returns one of `parts` equal parts of `cap`. Burst and concurrency are at least 1, so a cap with fewer calls than there are
/// replicas can be exceeded by the replicas that have more than their part.
#[must_use]
pub fn part(cap: &Cap, parts: u32) -> Cap {
    let parts = parts.max(1);
    Cap {
        per_second: cap.per_second / f64::from(parts),
        burst: (cap.burst / parts).max(1),
        per_day: cap.per_day,
        concurrency: (cap.concurrency / parts).max(1),
    }
}

/// Returns a bucket for `part`, as it is `idle` after the last call of any process. `None`: so long after it that it is full.
#[must_use]
pub fn bucket(part: &Cap, idle: Option<Duration>, now: Duration) -> Bucket {
    let mut bucket = Bucket::new(part.per_second, part.burst, now);
    if let Some(idle) = idle {
        bucket.empty(idle);
    }
    bucket
}

#[cfg(test)]
mod tests;
