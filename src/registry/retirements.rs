//! What the writer records when connections are retired on request.

use super::RegistryError;
use super::writer::Writer;
use crate::model::ledger::Fact;
use crate::model::{ConnectionId, Origin};

impl Writer {
    /// Withdraws `connection` for `origins`, and retires it if no other origin desires it.
    pub(super) fn retire(&mut self, connection: ConnectionId, origins: Vec<Origin>, reason: &str) -> Result<(), RegistryError> {
        let namespace = self.namespace_of(connection);
        self.refuse_sealed(&namespace)?;
        self.withdraw(origins.into_iter().map(|origin| (connection, origin)).collect(), reason)?;
        // A connection that lost its last origin earlier, and whose retirement was held, is retired by this request.
        if self.with_known(connection, |known| known.is_some_and(|known| known.orphaned())) {
            self.append(&namespace, Some(connection), Fact::ConnectionRetired, None)?;
        }
        Ok(())
    }
}
