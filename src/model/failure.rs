//! A failure is a value: class, title, fix, detail. `Err` is kept for "the registry cannot write".

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What went wrong, for a machine. One table maps it to a retry (here) and to a state (`State::derive`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// The policy's eligibility refuses the document: not sanctioned, too risky, owner too unsure.
    NotEligible,
    /// No connector of this build serves the source type, or the policy does not list it.
    Unsupported,
    /// The locator does not resolve to a usable secret.
    CredentialMissing,
    /// The source says the credential is wrong, expired or revoked (401, 28P01, 1045, InvalidAccessKeyId).
    CredentialRejected,
    /// The credential is good, a right is missing (403, 42501, 1142, AccessDenied).
    PermissionDenied,
    /// Name, route, port, TLS or time: nobody answered as they should.
    Network,
    /// AAM's own guard refused the address or the call; the policy decides.
    EgressRefused,
    /// The breaker of this host is open; nothing was sent.
    BreakerOpen,
    /// The source or AAM's own budget said "later". Says nothing about the connection.
    Throttled,
    /// The tenant, database, bucket or file of the resource id does not exist.
    NotFound,
    /// Something answered that is not what the resource id names.
    WrongService,
    /// The resource id or the policy entry of this source cannot be used as written.
    Misconfigured,
    /// The source failed or answered nonsense (5xx, cut answers, wrong format).
    Remote,
    /// The structure changed in a way that breaks readers.
    Drift,
    /// The process ended between begin and finish.
    Interrupted,
    /// A defect of AAM: a panic was caught.
    Bug,
}

/// When to look again without anybody asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// When the document or the policy changes.
    OnChange,
    /// After the policy's `recheck.awaiting_credentials`: a secret may appear at any time.
    Recheck,
    /// After the delay that the failure names.
    After,
    /// By the policy's backoff and the number of failures in a row.
    Backoff,
}

impl Class {
    /// All classes, for tables and tests.
    pub const ALL: [Class; 16] = [
        Class::NotEligible,
        Class::Unsupported,
        Class::CredentialMissing,
        Class::CredentialRejected,
        Class::PermissionDenied,
        Class::Network,
        Class::EgressRefused,
        Class::BreakerOpen,
        Class::Throttled,
        Class::NotFound,
        Class::WrongService,
        Class::Misconfigured,
        Class::Remote,
        Class::Drift,
        Class::Interrupted,
        Class::Bug,
    ];

    /// The word used in answers, reports and the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Class::NotEligible => "not_eligible",
            Class::Unsupported => "unsupported",
            Class::CredentialMissing => "credential_missing",
            Class::CredentialRejected => "credential_rejected",
            Class::PermissionDenied => "permission_denied",
            Class::Network => "network",
            Class::EgressRefused => "egress_refused",
            Class::BreakerOpen => "breaker_open",
            Class::Throttled => "throttled",
            Class::NotFound => "not_found",
            Class::WrongService => "wrong_service",
            Class::Misconfigured => "misconfigured",
            Class::Remote => "remote",
            Class::Drift => "drift",
            Class::Interrupted => "interrupted",
            Class::Bug => "bug",
        }
    }

    /// The class -> retry table.
    #[must_use]
    pub fn retry(self) -> Retry {
        match self {
            Class::NotEligible | Class::Unsupported | Class::Misconfigured => Retry::OnChange,
            Class::CredentialMissing | Class::CredentialRejected | Class::PermissionDenied => Retry::Recheck,
            Class::Throttled | Class::BreakerOpen => Retry::After,
            Class::Network
            | Class::EgressRefused
            | Class::NotFound
            | Class::WrongService
            | Class::Remote
            | Class::Drift
            | Class::Interrupted
            | Class::Bug => Retry::Backoff,
        }
    }

    /// Whether an attempt that ended so says anything about the connection.
    /// A throttled or interrupted one does not: the state before it stands.
    #[must_use]
    pub fn conclusive(self) -> bool {
        !matches!(self, Class::Throttled | Class::Interrupted)
    }
}

/// What happened, what to do, and the words of whoever said so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub class: Class,
    /// One line, no full stop: what happened and to what.
    pub title: String,
    /// What to do next, in words or a command a person can paste.
    pub fix: String,
    /// The source's own words: code, message, missing permission. May be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// For `Throttled` and `BreakerOpen`: how long to wait, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

impl Failure {
    /// A failure with title and fix; add the rest with `detail` and `after`.
    #[must_use]
    pub fn new(class: Class, title: impl Into<String>, fix: impl Into<String>) -> Failure {
        Failure { class, title: title.into(), fix: fix.into(), detail: String::new(), retry_after_ms: None }
    }

    /// Adds the source's own words.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Failure {
        self.detail = detail.into();
        self
    }

    /// Adds the wait that `Retry::After` obeys.
    #[must_use]
    pub fn after(mut self, wait: Duration) -> Failure {
        self.retry_after_ms = Some(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        self
    }
}
