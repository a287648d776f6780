//! What the writer records when connections are retired on request.

use super::RegistryError;
use super::writer::Writer;
use crate::model::ledger::Fact;
use crate::model::{ConnectionId, Digest, Origin};

impl Writer {
    /// Withdraws `connection` for `origins`, and retires it if no other origin desires it.
    pub(super) fn retire(&mut self, connection: ConnectionId, origins: Vec<Origin>, reason: &str) -> Result<(), RegistryError> {
        let namespace = self.namespace_of(connection);
        self.refuse_sealed(&namespace)?;
        self.withdraw(origins.into_iter().map(|origin| (connection, origin)).collect(), reason)?;
        // A connection that lost its last origin earlier, and whose retirement was held, is retired by this request.
        self.retire_orphans(&[connection])
    }

    /// Retires those of `connections` that no origin desires.
    pub(super) fn retire_orphans(&mut self, connections: &[ConnectionId]) -> Result<(), RegistryError> {
        for connection in connections {
            let namespace = self.namespace_of(*connection);
            let orphaned = self.with_known(*connection, |known| known.is_some_and(|known| known.orphaned()));
            if orphaned && !self.closed(&namespace) {
                self.append(&namespace, Some(*connection), Fact::ConnectionRetired, None)?;
            }
        }
        Ok(())
    }

    /// Records the confirmations that are not recorded yet.
    pub(super) fn confirm(&mut self, members: Vec<(ConnectionId, Digest)>, by: &str) -> Result<(), RegistryError> {
        for (connection, cause) in members {
            let namespace = self.namespace_of(connection);
            let known = |known: Option<&crate::snapshot::Connection>| {
                known.is_none_or(|known| known.retired.is_some() || known.confirmed.as_deref() == Some(&cause))
            };
            if !self.with_known(connection, known) && !self.closed(&namespace) {
                let fact = Fact::DepartureConfirmed { cause, by: by.to_string() };
                self.append(&namespace, Some(connection), fact, None)?;
            }
        }
        Ok(())
    }
}
