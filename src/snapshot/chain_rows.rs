//! How many rows of each chain of the ledger were folded. Pure.

use crate::model::{ConnectionId, PARTITIONS};
use serde::{Deserialize, Serialize};

/// The number of rows of each chain that were folded. Where several processes append, this says what a fold contains, because rows
/// of different chains may be committed in another order than that of their numbers. The rows of one chain never are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainRows(Vec<u64>);

impl ChainRows {
    /// Counts a row of `connection`, or of the whole registry.
    pub(super) fn add(&mut self, connection: Option<ConnectionId>) {
        self.0.resize(PARTITIONS, 0);
        if let Some(rows) = self.0.get_mut(connection.map_or(0, ConnectionId::partition)) {
            *rows += 1;
        }
    }

    /// The chains that have rows, with their numbers of rows.
    pub fn iter(&self) -> impl Iterator<Item = (usize, u64)> {
        self.0.iter().copied().enumerate().filter(|(_, rows)| *rows > 0)
    }
}
