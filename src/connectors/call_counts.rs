//! The calls of an attempt, as the family files name them.

use crate::model::Scope;
use serde::{Deserialize, Serialize};

/// The calls that AAM makes to a source whose lists fit into one page each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CallCounts {
    /// Until a new connection is ACTIVE, without the calls that fetch the credential.
    pub onboarding: u64,
    /// For a check of an existing connection, which reads no metadata.
    pub health: u64,
}

impl CallCounts {
    /// Returns the calls of an attempt.
    #[must_use]
    pub fn of_attempt(self, scope: Scope) -> u32 {
        let calls = match scope {
            Scope::Full => self.onboarding,
            Scope::Health => self.health,
        };
        u32::try_from(calls).unwrap_or(u32::MAX)
    }
}
