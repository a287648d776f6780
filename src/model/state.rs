//! The word for a connection, derived from rows and never stored by hand.

use super::failure::Class;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a connection is called on every surface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum State {
    Pending,
    Active,
    AwaitingCredentials,
    NetworkBlocked,
    Healing,
    Error,
    Unsupported,
    Rejected,
    Retired,
}

impl State {
    /// All states, in the order of the README's table.
    pub const ALL: [State; 9] = [
        State::Pending,
        State::Active,
        State::AwaitingCredentials,
        State::NetworkBlocked,
        State::Healing,
        State::Error,
        State::Unsupported,
        State::Rejected,
        State::Retired,
    ];

    /// The word of answers, reports and filters.
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

    /// Reads the word, in any case.
    #[must_use]
    pub fn parse(text: &str) -> Option<State> {
        State::ALL.into_iter().find(|state| state.as_str().eq_ignore_ascii_case(text))
    }

    /// The class -> state table. `None` is a pass. `was_active`: this connection was proven before.
    ///
    /// A secret that does not resolve is AWAITING_CREDENTIALS even after success, because the
    /// funnel counts as eligible only what has a credential. A secret that the source rejects,
    /// a right that went missing and breaking drift are HEALING then.
    #[must_use]
    pub fn derive(failure: Option<Class>, was_active: bool) -> State {
        let Some(class) = failure else {
            return State::Active;
        };
        match class {
            Class::NotEligible => State::Rejected,
            Class::Unsupported => State::Unsupported,
            Class::CredentialMissing => State::AwaitingCredentials,
            Class::CredentialRejected | Class::PermissionDenied if was_active => State::Healing,
            Class::CredentialRejected | Class::PermissionDenied => State::AwaitingCredentials,
            Class::Drift => State::Healing,
            Class::Network | Class::EgressRefused | Class::BreakerOpen => State::NetworkBlocked,
            Class::Throttled | Class::Interrupted => State::Pending,
            Class::NotFound | Class::WrongService | Class::Misconfigured | Class::Remote | Class::Bug => State::Error,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
