//! The stored fold: a snapshot as bytes, so that a start does not have to fold the whole ledger.
//!
//! A stored fold is a sequence of records. Each holds one part of the snapshot: a connection, the trend of a namespace, a
//! handoff, or, as the last one, everything else. A record of a connection replaces an earlier record of the same connection,
//! so that a snapshot can be copied in parts while entries are applied to it ([`Snapshot::begin_copy`]).
//!
//! It is exactly the fold of the entries up to [`Snapshot::seq`]: the times of re-checks that found nothing new are not part
//! of it, because the ledger does not have them. Texts that connections share are shared again after decoding.
//!
//! Pure: the registry writes the bytes to a file and reads them.

mod decode;
mod encode;
pub(super) mod packed;
mod records;
mod tables;

use super::Snapshot;
use crate::model::{ConnectionId, Digest};
pub use decode::Decoder;
pub use encode::Encoder;
use std::collections::BTreeSet;

/// Identifies the code of the fold, with 16 characters. `build.rs` computes it from the source of `model` and `snapshot`. A
/// stored fold is used only by the code that wrote it, so that a change of the fold never meets the result of an earlier one.
pub const CODE: &str = env!("AAM_FOLD_CODE");

/// The number of connections that are encoded at a time to compute a digest.
const PART: usize = 1000;

/// The connections that entries changed since a copy began. `None` while no copy is made.
#[derive(Clone, Debug, Default)]
pub(super) struct Touched(Option<BTreeSet<ConnectionId>>);

/// A copy that is being made does not affect the state, so all values are equal.
impl PartialEq for Touched {
    fn eq(&self, _: &Touched) -> bool {
        true
    }
}

impl Touched {
    /// Adds the connection of an entry.
    pub(super) fn add(&mut self, connection: Option<ConnectionId>) {
        if let (Some(touched), Some(id)) = (&mut self.0, connection) {
            touched.insert(id);
        }
    }
}

impl Snapshot {
    /// Begins a copy in parts. Afterwards, [`Snapshot::copy_connections`] copies all connections in as many calls as the caller
    /// wants, entries may be applied between them, and [`Snapshot::copy_rest`] completes the copy. [`Snapshot::end_copy`] must
    /// follow in any case.
    pub fn begin_copy(&mut self) {
        self.touched = Touched(Some(BTreeSet::new()));
    }

    /// Ends a copy, whether or not it is complete.
    pub fn end_copy(&mut self) {
        self.touched = Touched(None);
    }

    /// Encodes up to `count` connections that come after `after`. Returns the last of them, or `None` if there are no more.
    ///
    /// # Errors
    /// If a record cannot be encoded.
    pub fn copy_connections(
        &self,
        encoder: &mut Encoder,
        after: Option<ConnectionId>,
        count: usize,
    ) -> Result<Option<ConnectionId>, String> {
        let mut last = None;
        for (id, connection) in self.connections.after(after).take(count) {
            encoder.connection(id, &connection)?;
            last = Some(id);
        }
        Ok(last)
    }

    /// Encodes the connections that were changed since [`Snapshot::begin_copy`], and everything that is not a connection. The
    /// records of the copy are then those of this snapshot.
    ///
    /// # Errors
    /// If a record cannot be encoded.
    pub fn copy_rest(&self, encoder: &mut Encoder) -> Result<(), String> {
        for id in self.touched.0.iter().flatten() {
            if let Some(connection) = self.connections.get(id) {
                encoder.connection(*id, &connection)?;
            }
        }
        encoder.rest(self)
    }

    /// The fold without what depends on the order in which entries of different chains were applied, which is another one on each
    /// replica.
    #[must_use]
    pub fn without_order(mut self) -> Snapshot {
        (self.trend, self.recovered) = Default::default();
        (self.recent_changes, self.dropped_up_to) = Default::default();
        self
    }

    /// A digest of what a stored fold of this snapshot holds. It is equal for equal folds, whether they were decoded or folded.
    ///
    /// # Errors
    /// If a record cannot be encoded.
    pub fn fold_digest(&self) -> Result<Digest, String> {
        let (mut encoder, mut digest, mut last) = (Encoder::default(), Digest::default(), None);
        loop {
            last = self.copy_connections(&mut encoder, last, PART)?;
            if last.is_none() {
                encoder.rest(self)?;
            }
            digest = Digest::from_parts(&[&digest.0, &encoder.take()]);
            if last.is_none() {
                return Ok(digest);
            }
        }
    }
}

#[cfg(test)]
mod tests;
