//! What Airbyte says about a source that it checked or discovered, as a failure of AAM.

use super::client::PlatformApi;
use crate::credentials::redact;
use crate::model::{Class, Failure};
use serde_json::Value;

/// The characters of a message of a connector that are shown.
const MAX_MESSAGE_CHARS: usize = 1000;

/// Parts of messages with which connectors refuse a credential, in lower case.
const CREDENTIAL: [&str; 16] = [
    "401",
    "unauthorized",
    "authenticat",
    "invalid credential",
    "invalid api key",
    "invalid token",
    "bad credentials",
    "access token",
    "password",
    "invalid_grant",
    "invalid_client",
    "expired",
    "revoked",
    "access key id",
    "signature",
    "login",
];
/// Parts of messages about a missing permission.
const PERMISSION: [&str; 7] = ["403", "forbidden", "permission", "access denied", "accessdenied", "not authorized", "scope"];
/// Parts of messages about a source that Airbyte cannot reach.
const NETWORK: [&str; 9] = [
    "connection attempt failed",
    "connection refused",
    "timed out",
    "timeout",
    "unknown host",
    "unknownhost",
    "name or service not known",
    "unreachable",
    "connection reset",
];

/// Reads the answer of a check.
///
/// # Errors
/// Returns the failure that the check found.
pub fn check(api: &PlatformApi, body: &Value) -> Result<(), Failure> {
    match body.get("status").and_then(Value::as_str) {
        Some("succeeded") => Ok(()),
        Some(_) => Err(failure(api, "check", "", "", body.get("message").and_then(Value::as_str).unwrap_or_default())),
        None => Err(job_failure(api, "check", body)),
    }
}

/// Returns the failure of a job that did not succeed.
#[must_use]
pub fn job_failure(api: &PlatformApi, what: &str, body: &Value) -> Failure {
    let reason = body.get("jobInfo").and_then(|job| job.get("failureReason"));
    let text = |key: &str| reason.and_then(|reason| reason.get(key)).and_then(Value::as_str).unwrap_or_default();
    let message = [text("externalMessage"), text("internalMessage")].into_iter().find(|text| !text.is_empty());
    failure(api, what, text("failureOrigin"), text("failureType"), message.unwrap_or_default())
}

fn failure(api: &PlatformApi, what: &str, origin: &str, kind: &str, message: &str) -> Failure {
    let host = api.address.host();
    let message = redact::scrub_and_cut(message, MAX_MESSAGE_CHARS);
    let class = class(origin, kind, &message);
    let (title, fix) = match class {
        Class::CredentialRejected => (
            format!("the source does not accept the credential, as the {what} of the Airbyte at {host} says"),
            "store a valid credential where credential_locator points".to_string(),
        ),
        Class::PermissionDenied => (
            format!("the credential lacks a permission, as the {what} of the Airbyte at {host} says"),
            "give the credential the permission that the message names, and nothing more".to_string(),
        ),
        Class::Network => (
            format!("the Airbyte at {host} could not connect to the source"),
            format!("let the network of {host} reach the source; AAM retries automatically"),
        ),
        Class::Misconfigured => (
            format!("the connector refuses its config, as the {what} of the Airbyte at {host} says"),
            "compare the resource id and the fields of the credential with the specification of the connector in Airbyte"
                .to_string(),
        ),
        _ => (
            format!("the {what} failed in the Airbyte at {host}"),
            format!("AAM retries automatically; if this happens again, look at the jobs of Airbyte at {host}"),
        ),
    };
    Failure::new(class, title, fix).detail(message)
}

/// Returns the class of a failure by what Airbyte knows of it, and otherwise by what the message says.
fn class(origin: &str, kind: &str, message: &str) -> Class {
    let message = message.to_lowercase();
    let says = |parts: &[&str]| parts.iter().any(|part| message.contains(part));
    match kind {
        _ if matches!(origin, "airbyte_platform" | "persistence" | "replication") => Class::Remote,
        "transient_error" | "system_error" | "heartbeat_timeout" | "manual_cancellation" => Class::Remote,
        _ if says(&NETWORK) => Class::Network,
        _ if says(&PERMISSION) && !says(&["401", "unauthorized"]) => Class::PermissionDenied,
        _ if says(&CREDENTIAL) => Class::CredentialRejected,
        "config_error" => Class::Misconfigured,
        // A check that fails without a reason says that the config does not work.
        "" if origin.is_empty() && !message.is_empty() => Class::Misconfigured,
        _ => Class::Remote,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_class_follows_from_the_job_and_then_from_the_message() {
        for (origin, kind, message, expected) in [
            ("", "", "State code: 28P01; Message: FATAL: password authentication failed for user aam", Class::CredentialRejected),
            ("", "", "401 Client Error: Unauthorized for url: https://acme.okta.com/api/v1/users", Class::CredentialRejected),
            ("", "", "HTTP Status Code: 403. Error: Forbidden.", Class::PermissionDenied),
            ("", "", "State code: 08001; Message: The connection attempt failed.", Class::Network),
            ("source", "config_error", "The start date is not valid", Class::Misconfigured),
            ("source", "config_error", "Invalid API key", Class::CredentialRejected),
            ("source", "transient_error", "401 for a moment", Class::Remote),
            ("airbyte_platform", "config_error", "no worker", Class::Remote),
            ("source", "system_error", "KeyError", Class::Remote),
            ("", "", "", Class::Remote),
        ] {
            assert_eq!(class(origin, kind, message), expected, "{kind} {message}");
        }
    }
}
