//! What clients ask about a connection: whether it is healthy, and when it last changed.

use super::Connection;
use crate::model::Timestamp;

impl Connection {
    /// Whether the latest conclusive attempt passed the health step.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.conclusive.as_ref().is_some_and(|attempt| attempt.facts.healthy)
    }

    /// When what is known of the connection last changed, or when it was last checked, whichever is later.
    #[must_use]
    pub fn updated(&self) -> Timestamp {
        self.last_checked().max(Some(self.changed.1)).unwrap_or(self.created)
    }
}
