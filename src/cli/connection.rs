//! The connection that an argument names.

use super::CommandError;
use crate::model::ConnectionId;
use crate::snapshot::Snapshot;

/// The number of candidates that the error of an ambiguous start names.
const MAX_CANDIDATES: usize = 5;

/// Returns the connection whose id starts with `start`.
///
/// # Errors
/// If there is none, or more than one.
pub fn find(snapshot: &Snapshot, start: &str) -> Result<ConnectionId, CommandError> {
    let matches: Vec<ConnectionId> = snapshot.connections.keys().filter(|id| id.to_string().starts_with(start)).collect();
    match matches.as_slice() {
        [id] => Ok(*id),
        [] => {
            Err(CommandError::new(format!("no connection has an id that starts with {start}; aam status lists the connections")))
        }
        many => {
            let count = many.len();
            let shown: Vec<String> = many.iter().take(MAX_CANDIDATES).map(ToString::to_string).collect();
            let more = if count > shown.len() { format!(", and {} more", count - shown.len()) } else { String::new() };
            Err(CommandError::new(format!(
                "{count} connections have an id that starts with {start}; give more of the id: {}{more}",
                shown.join(", ")
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::history::history;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_ambiguous_start_names_its_candidates(entries in history()) {
            let snapshot = Snapshot::fold(&entries);
            let found = find(&snapshot, "0000");
            match snapshot.connections.keys().collect::<Vec<_>>().as_slice() {
                [] => prop_assert!(found.is_err_and(|error| error.message.contains("no connection has an id"))),
                [only] => prop_assert_eq!(found.ok(), Some(*only)),
                [first, ..] => {
                    let message = found.err().map(|error| error.message).unwrap_or_default();
                    prop_assert!(message.contains(&format!("give more of the id: {first}")), "{}", message);
                }
            }
        }
    }
}
