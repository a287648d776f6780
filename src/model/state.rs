//! The state of a connection. It is derived from the ledger and never stored.

use super::failure::Class;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The state of a connection. The variants are ordered from the most to the least urgent, and so is every list that
/// is ordered by state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum State {
    Healing,
    Error,
    NetworkBlocked,
    AwaitingCredentials,
    Unsupported,
    Rejected,
    Pending,
    Active,
    Retired,
}

impl State {
    /// All states, from the most to the least urgent.
    pub const ALL: [State; 9] = [
        State::Healing,
        State::Error,
        State::NetworkBlocked,
        State::AwaitingCredentials,
        State::Unsupported,
        State::Rejected,
        State::Pending,
        State::Active,
        State::Retired,
    ];

    /// Returns the name of the state in the API, in reports and in filters.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            State::Pending => "PENDING",
            State::Active => "ACTIVE",
            State::AwaitingCredentials => "AWAITING_CREDENTIALS",
            State::NetworkBlocked => "NETWORK_BLOCKED",
            State::Healing => "HEALING",
            State::Error => "ERROR",
            State::Unsupported => "UNSUPPORTED",
            State::Rejected => "REJECTED",
            State::Retired => "RETIRED",
        }
    }

    /// Parses the name of a state, in upper or lower case.
    #[must_use]
    pub fn parse(text: &str) -> Option<State> {
        State::ALL.into_iter().find(|state| state.as_str().eq_ignore_ascii_case(text))
    }

    /// Maps the failure of the latest attempt to a state. `failure` is `None` if the attempt passed. `was_active` is true
    /// if an earlier attempt passed.
    ///
    /// If the secret does not resolve, the state is AWAITING_CREDENTIALS even if the connection was active before, because
    /// the funnel counts only connections with a credential as eligible. If the source rejects the secret or a permission
    /// is missing, the state is HEALING for a connection that was active before. It is always HEALING after a breaking
    /// schema change.
    #[must_use]
    pub fn derive(failure: Option<Class>, was_active: bool) -> State {
        let Some(class) = failure else {
            return State::Active;
        };
        match class {
            Class::NotEligible | Class::NotMappable => State::Rejected,
            Class::Unsupported => State::Unsupported,
            Class::CredentialMissing => State::AwaitingCredentials,
            Class::CredentialRejected | Class::PermissionDenied if was_active => State::Healing,
            Class::CredentialRejected | Class::PermissionDenied => State::AwaitingCredentials,
            Class::Drift => State::Healing,
            Class::Network | Class::EgressRefused | Class::BreakerOpen => State::NetworkBlocked,
            Class::Throttled | Class::Interrupted => State::Pending,
            Class::OverPrivileged
            | Class::CredentialEnding
            | Class::NotFound
            | Class::WrongService
            | Class::Misconfigured
            | Class::Remote
            | Class::CrashLoop
            | Class::Bug => State::Error,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
