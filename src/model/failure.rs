//! The reason why an attempt failed, as a value that is stored and shown.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The class of a failure. It determines the retry ([`Class::retry`]) and the state (`State::derive`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// The policy's eligibility rules refuse the intent: not sanctioned, risk too high, confidence too low.
    NotEligible,
    /// The family does not understand a resource id of the intent.
    NotMappable,
    /// This version has no connector for the source type, or the policy does not list it.
    Unsupported,
    /// The locator does not resolve to a usable secret, or the policy does not let the intent use it.
    CredentialMissing,
    /// The source rejects the credential as wrong, expired or revoked (401, 28P01, 1045, InvalidAccessKeyId).
    CredentialRejected,
    /// The credential is valid but lacks a permission (403, 42501, 1142, AccessDenied).
    PermissionDenied,
    /// The credential can do more than read. This is only ever a warning.
    OverPrivileged,
    /// The credential ends soon, and a person has to replace it. This is only ever a warning.
    CredentialEnding,
    /// A failure of DNS, routing, the connection or TLS, or a timeout.
    Network,
    /// AAM refused the address or the call, because the policy does not allow it.
    EgressRefused,
    /// The circuit breaker of this host is open; nothing was sent.
    BreakerOpen,
    /// The source or AAM's own budget limits the rate. This says nothing about the connection.
    Throttled,
    /// The tenant, database, bucket or file of the resource id does not exist.
    NotFound,
    /// The service that answered is not the one that the resource id names.
    WrongService,
    /// The policy entry of this source is not valid, or the source is set up in a way that AAM cannot use.
    Misconfigured,
    /// The source failed or sent an invalid response (5xx, a truncated response, a wrong format).
    Remote,
    /// The schema changed in a way that breaks consumers.
    Drift,
    /// The process ended in the middle of the attempt.
    Interrupted,
    /// The process ended in the middle of two attempts in a row, so that this connection may be the reason.
    CrashLoop,
    /// A defect in AAM: a panic was caught.
    Bug,
}

/// When a failed attempt is retried automatically.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// When the document or the policy changes, or when a person heals the connection.
    OnChange,
    /// After the policy's `recheck.awaiting_credentials`, because a secret may be added at any time.
    Recheck,
    /// After the delay that the failure carries.
    After,
    /// After the policy's backoff, which grows with the number of consecutive failures.
    Backoff,
}

impl Class {
    /// All classes, for tables and tests.
    pub const ALL: [Class; 20] = [
        Class::NotEligible,
        Class::NotMappable,
        Class::Unsupported,
        Class::CredentialMissing,
        Class::CredentialRejected,
        Class::PermissionDenied,
        Class::OverPrivileged,
        Class::CredentialEnding,
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
        Class::CrashLoop,
        Class::Bug,
    ];

    /// Returns the name in the API, in reports and in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Class::NotEligible => "not_eligible",
            Class::NotMappable => "not_mappable",
            Class::Unsupported => "unsupported",
            Class::CredentialMissing => "credential_missing",
            Class::CredentialRejected => "credential_rejected",
            Class::PermissionDenied => "permission_denied",
            Class::OverPrivileged => "over_privileged",
            Class::CredentialEnding => "credential_ending",
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
            Class::CrashLoop => "crash_loop",
            Class::Bug => "bug",
        }
    }

    /// Returns when a failure of this class is retried.
    #[must_use]
    pub fn retry(self) -> Retry {
        match self {
            Class::NotEligible | Class::NotMappable | Class::Unsupported | Class::Misconfigured | Class::CrashLoop => {
                Retry::OnChange
            }
            Class::CredentialMissing
            | Class::CredentialRejected
            | Class::PermissionDenied
            | Class::OverPrivileged
            | Class::CredentialEnding => Retry::Recheck,
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

    /// Returns true if the source could not be reached or failed by itself, so that it may work again without a change by anybody.
    #[must_use]
    pub fn is_outage(self) -> bool {
        matches!(self, Class::Network | Class::BreakerOpen | Class::Remote)
    }

    /// Returns true if a failure of this class says anything about the connection. A throttled or interrupted attempt
    /// does not, so the connection keeps its state.
    #[must_use]
    pub fn conclusive(self) -> bool {
        !matches!(self, Class::Throttled | Class::Interrupted)
    }
}

/// How the title of [`Failure::unknown_source_type`] ends, and that of [`Failure::without_connector`] begins.
const NOT_KNOWN: &str = " is not known";
const NO_CONNECTOR: &str = "this version of aam does not have a connector for ";
/// How a fix begins that names what was probably meant.
pub const DID_YOU_MEAN: &str = "did you mean ";

/// Whether the connection needs a connector that AAM does not have, so that nothing in its intent, in the policy or at its source
/// can make it ACTIVE. A source type that is probably misspelt is not meant.
#[must_use]
pub fn needs_connector(class: Class, title: &str, fix: &str) -> bool {
    let is_unknown = title.starts_with("source type ") && title.ends_with(NOT_KNOWN) && !fix.starts_with(DID_YOU_MEAN);
    class == Class::Unsupported && (is_unknown || title.starts_with(NO_CONNECTOR))
}

/// What happened and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub class: Class,
    /// What happened, on one line without a full stop.
    pub title: String,
    /// What to do next, where possible as a command or a setting to paste.
    pub fix: String,
    /// The message of the source: its code, its text, the missing permission. May be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// The time to wait in milliseconds, for `Throttled` and `BreakerOpen`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

impl Failure {
    /// Creates a failure; add the rest with `detail` and `after`.
    #[must_use]
    pub fn new(class: Class, title: impl Into<String>, fix: impl Into<String>) -> Failure {
        Failure { class, title: title.into(), fix: fix.into(), detail: String::new(), retry_after_ms: None }
    }

    /// Creates the failure for a source type that neither AAM nor a manifest knows.
    #[must_use]
    pub fn unknown_source_type(source_type: &str, fix: impl Into<String>) -> Failure {
        Failure::new(Class::Unsupported, format!("source type {source_type}{NOT_KNOWN}"), fix)
    }

    /// Creates the failure for a family that this version cannot connect. `family` is its title.
    #[must_use]
    pub fn without_connector(family: &str) -> Failure {
        Failure::new(
            Class::Unsupported,
            format!("{NO_CONNECTOR}{family}"),
            "wait for a version that has one; aam families shows what this version connects",
        )
    }

    /// Adds the message of the source.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Failure {
        self.detail = detail.into();
        self
    }

    /// Adds the time to wait for `Retry::After`.
    #[must_use]
    pub fn after(mut self, wait: Duration) -> Failure {
        self.retry_after_ms = Some(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        self
    }
}
