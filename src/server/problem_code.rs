//! The stable codes of problem documents.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! problem_codes {
    ($($variant:ident => $text:literal,)*) => {
        /// The machine-readable kind of a problem, part of the API contract. The schema of the API description is made from
        /// this list.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum ProblemCode {
            $(#[serde(rename = $text)] $variant,)*
        }

        impl ProblemCode {
            /// All codes.
            pub const ALL: &[ProblemCode] = &[$(ProblemCode::$variant,)*];

            /// Returns the code as it is sent.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(ProblemCode::$variant => $text,)*
                }
            }
        }
    };
}

problem_codes! {
    BadRequest => "BAD_REQUEST",
    BodyTooSlow => "BODY_TOO_SLOW",
    Busy => "BUSY",
    Defect => "DEFECT",
    DesiredAgain => "DESIRED_AGAIN",
    DesiredByFolder => "DESIRED_BY_FOLDER",
    FormOutdated => "FORM_OUTDATED",
    HandoffChanged => "HANDOFF_CHANGED",
    HoldChanged => "HOLD_CHANGED",
    HostNotAllowed => "HOST_NOT_ALLOWED",
    IdempotencyKeyInProgress => "IDEMPOTENCY_KEY_IN_PROGRESS",
    IdempotencyKeyReused => "IDEMPOTENCY_KEY_REUSED",
    InvalidHandoff => "INVALID_HANDOFF",
    InvalidIntent => "INVALID_INTENT",
    InvalidRequest => "INVALID_REQUEST",
    MethodNotAllowed => "METHOD_NOT_ALLOWED",
    NamespaceNotAllowed => "NAMESPACE_NOT_ALLOWED",
    NamespaceSealed => "NAMESPACE_SEALED",
    NotFound => "NOT_FOUND",
    NotJson => "NOT_JSON",
    NotJsonType => "NOT_JSON_TYPE",
    NotReady => "NOT_READY",
    OriginNotAllowed => "ORIGIN_NOT_ALLOWED",
    RateLimited => "RATE_LIMITED",
    RegistryFull => "REGISTRY_FULL",
    RegistryUnavailable => "REGISTRY_UNAVAILABLE",
    Retired => "RETIRED",
    ScopeMissing => "SCOPE_MISSING",
    Timeout => "TIMEOUT",
    TokenMalformed => "TOKEN_MALFORMED",
    TokenMissing => "TOKEN_MISSING",
    TokenUnknown => "TOKEN_UNKNOWN",
    TooLarge => "TOO_LARGE",
    UnsafeScopesMode => "UNSAFE_SCOPES_MODE",
    Unsupported => "UNSUPPORTED",
}

impl fmt::Display for ProblemCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
