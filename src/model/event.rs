//! The types of events.

/// What kind of event it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EventType {
    /// An intent was accepted that is new or changed.
    IntentAccepted,
    /// The state of a connection changed.
    StateChanged,
    /// No origin asks for the connection any longer.
    Retired,
    /// The schema of a source changed.
    Drift,
    /// A credential that a person has to replace ends soon, or has ended.
    CredentialExpiring,
    /// The coverage of a namespace is below the target.
    SloMissed,
    /// The coverage of a namespace is at least the target.
    SloMet,
    /// A policy came into force.
    PolicyAccepted,
    /// The policy file is not valid; an earlier policy stays in force.
    PolicyRejected,
    /// A file of the intents folder has problems.
    IntentProblem,
    /// A file of the intents folder had problems and has none any longer.
    IntentProblemResolved,
}

impl EventType {
    /// All types.
    pub const ALL: [EventType; 11] = [
        EventType::IntentAccepted,
        EventType::StateChanged,
        EventType::Retired,
        EventType::Drift,
        EventType::CredentialExpiring,
        EventType::SloMissed,
        EventType::SloMet,
        EventType::PolicyAccepted,
        EventType::PolicyRejected,
        EventType::IntentProblem,
        EventType::IntentProblemResolved,
    ];

    /// Returns the name of the type in the API, in messages and in the policy.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            EventType::IntentAccepted => "intent_accepted",
            EventType::StateChanged => "state_changed",
            EventType::Retired => "retired",
            EventType::Drift => "drift",
            EventType::CredentialExpiring => "credential_expiring",
            EventType::SloMissed => "slo_missed",
            EventType::SloMet => "slo_met",
            EventType::PolicyAccepted => "policy_accepted",
            EventType::PolicyRejected => "policy_rejected",
            EventType::IntentProblem => "intent_problem",
            EventType::IntentProblemResolved => "intent_problem_resolved",
        }
    }

    /// Parses the name of a type.
    #[must_use]
    pub fn parse(text: &str) -> Option<EventType> {
        EventType::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// Returns the type that announces the end of what this type announced. Who asks to be notified of the first is notified of
    /// the second too.
    #[must_use]
    pub fn end(self) -> Option<EventType> {
        match self {
            EventType::SloMissed => Some(EventType::SloMet),
            EventType::IntentProblem => Some(EventType::IntentProblemResolved),
            _ => None,
        }
    }
}
