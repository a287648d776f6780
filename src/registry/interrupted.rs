//! Reads the attempts whose calls are not recorded, because the process ended while they ran.

use super::commands::CRASHED;
use super::reader::{COLUMNS, entry};
use super::{CallFilter, Reader, RegistryError};
use crate::model::ledger::Fact;
use crate::model::{Class, ConnectionId, InterruptedAttempt};
use sqlstore::params;

impl Reader {
    /// Passes the attempts without a record of their calls to `take`, newest first, until it returns false. Of `filter`, only
    /// connections and times count: what such an attempt called is not known.
    ///
    /// # Errors
    /// If the registry cannot be read.
    pub fn interrupted_attempts(
        &self,
        filter: &CallFilter,
        take: impl FnMut(InterruptedAttempt) -> bool,
    ) -> Result<(), RegistryError> {
        let of_connection = match filter.connections.is_empty() {
            true => "",
            false => " AND connection = ?3",
        };
        let sql = format!(
            "SELECT {COLUMNS} FROM ledger WHERE kind = 'attempt_finished' AND json_extract(facts, '$.class') IN (?1, ?2)\
             {of_connection} ORDER BY seq DESC"
        );
        let classes = [Class::Interrupted.as_str(), Class::CrashLoop.as_str()];
        // One query for each connection, so that the index on connections is used.
        let connections: Vec<Option<ConnectionId>> = match filter.connections.as_slice() {
            [] => vec![None],
            some => some.iter().copied().map(Some).collect(),
        };
        self.with_taker(take, |db, take| {
            let mut statement = db.prepare_cached(&sql)?;
            for connection in &connections {
                let mut rows = match connection {
                    Some(id) => statement.query(params![classes[0], classes[1], id.to_string()])?,
                    None => statement.query(classes)?,
                };
                while let Some(row) = rows.next()? {
                    let entry = entry(row)?;
                    let (Some(connection), Fact::AttemptFinished(finished)) = (entry.connection, entry.fact) else { continue };
                    // After an orderly stop, the calls are recorded outside of the attempt.
                    let is_lost = finished.calls.is_none()
                        && (finished.class == Some(Class::CrashLoop) || &*finished.title == CRASHED)
                        && filter.since.is_none_or(|since| entry.at >= since)
                        && filter.until.is_none_or(|until| finished.begun_at < until);
                    let (seq, namespace) = (entry.seq, entry.namespace);
                    let attempt = InterruptedAttempt { seq, connection, namespace, begun_at: finished.begun_at };
                    if is_lost && !take(attempt) {
                        return Ok(());
                    }
                }
            }
            Ok(())
        })
    }
}
