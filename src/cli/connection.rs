//! The connection that an argument names.

use super::CommandError;
use crate::model::ConnectionId;
use crate::snapshot::Snapshot;

/// Returns the connection whose id starts with `start`.
///
/// # Errors
/// If there is none, or more than one.
pub fn find(snapshot: &Snapshot, start: &str) -> Result<ConnectionId, CommandError> {
    let matches: Vec<ConnectionId> =
        snapshot.connections.keys().filter(|id| id.to_string().starts_with(start)).copied().collect();
    match matches.as_slice() {
        [id] => Ok(*id),
        [] => {
            Err(CommandError::new(format!("no connection has an id that starts with {start}; aam status lists the connections")))
        }
        many => {
            let count = many.len();
            Err(CommandError::new(format!("{count} connections have an id that starts with {start}; give more of the id")))
        }
    }
}
