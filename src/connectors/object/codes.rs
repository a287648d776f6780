//! Turns an error code of a store into a failure. Pure.
//!
//! The codes are from "Error responses" in the Amazon S3 API reference
//! (<https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>). MinIO and Ceph use the same ones. A code that
//! is not listed here keeps its own name and text.

use super::address::{Flavor, ObjectLocation};
use super::classify::{by_status, denied, printable, region_needed, rejected, skewed, throttled};
use super::list::StoreError;
use crate::egress::HttpResponse;
use crate::model::{Class, Failure, Timestamp};

const NEW_KEY: &str = "create an access key for the read-only user and store it where credential_locator points";
const ASK_OPERATOR: &str = "ask the operator of the store, who can find the call by the request id in the detail";

/// The failure for an error that the store sent in response to a call that was signed at `signed_at`.
#[must_use]
pub fn failure(place: &ObjectLocation, answer: &HttpResponse, error: &StoreError, signed_at: Timestamp) -> Failure {
    let failure = credential(place, error)
        .or_else(|| account(place, error))
        .or_else(|| bucket(place, error))
        .or_else(|| call(place, answer, error, signed_at))
        .unwrap_or_else(|| unlisted(place, answer, error));
    let id = error.request_id.as_deref().or(answer.header("x-amz-request-id")).unwrap_or("none");
    let (code, message) = (printable(&error.code), printable(&error.message));
    failure.detail(format!("the store said: \"{code}: {message}\" (HTTP {}, request id {})", answer.status, printable(id)))
}

/// Errors of the access key.
fn credential(place: &ObjectLocation, error: &StoreError) -> Option<Failure> {
    let host = place.host();
    Some(match error.code.as_str() {
        "InvalidAccessKeyId" => rejected(format!("{host} does not know the access key"), NEW_KEY),
        "SignatureDoesNotMatch" => rejected(
            format!("{host} rejected the signature: the secret access key does not belong to the access key id"),
            "store the secret_access_key that was shown when the key was created, or create a new key; a proxy that rewrites the Host header has the same effect",
        ),
        "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" => rejected(
            "the session token has expired".to_string(),
            "issue new temporary keys and store all three values where credential_locator points",
        ),
        "InvalidToken" | "InvalidClientTokenId" | "UnrecognizedClientException" => rejected(
            "the session token is not valid for this access key".to_string(),
            "store access_key_id, secret_access_key and session_token of the same session; a long-lived key has no session_token",
        ),
        "InvalidSecurity" | "CredentialsNotSupported" | "MissingSecurityHeader" | "UnauthorizedAccess" => {
            rejected(format!("{host} does not accept the access key"), NEW_KEY)
        }
        "AuthorizationHeaderMalformed" => match &error.region {
            Some(region) => region_needed(place, region),
            None => rejected(format!("{host} cannot read the access key"), NEW_KEY),
        },
        _ => return None,
    })
}

/// Errors of the account and of permissions.
fn account(place: &ObjectLocation, error: &StoreError) -> Option<Failure> {
    let bucket = &place.bucket;
    let refused = |title: String, fix: &str| Failure::new(Class::PermissionDenied, title, fix);
    Some(match error.code.as_str() {
        "AccessDenied" | "AccessDeniedException" | "Forbidden" => access_denied(place, &error.message),
        "AllAccessDisabled" => refused(
            format!("all access to bucket {bucket} is disabled"),
            "ask the owner of the bucket why; at Amazon, only AWS Support can enable it again",
        ),
        "AccountProblem" | "AccountSuspended" | "UserSuspended" => refused(
            "the account of the access key is suspended or has a problem".to_string(),
            "ask the owner of the account to settle it with the provider of the store, for example an unpaid bill",
        ),
        "NotSignedUp" | "OptInRequired" => refused(
            "the account of the access key is not signed up for the store".to_string(),
            "sign the account up for the service in the provider's console, or use a key of another account",
        ),
        "InvalidPayer" | "RequesterPays" => refused(
            format!("bucket {bucket} wants the caller to pay for its requests, which this account is not set up for"),
            "ask the owner of the bucket for a bucket without requester pays, or for a key of the owner's account",
        ),
        "InvalidObjectState" => Failure::new(
            Class::Misconfigured,
            format!("the store refuses because an object in {} is archived", place.name()),
            "restore the object in the store, or name a folder whose objects are not archived in resource_ids",
        ),
        code if code.starts_with("KMS.") => Failure::new(
            Class::Misconfigured,
            format!("the encryption key of bucket {bucket} cannot be used ({})", printable(code)),
            "enable the KMS key of the bucket, or ask its owner to; aam heal verifies it",
        ),
        _ => return None,
    })
}

/// The failure for `AccessDenied`. Amazon's text may name the action, the resource and the policy that denies it: "User: U is
/// not authorized to perform: s3:ListBucket on resource: \"R\" because no identity-based policy allows the s3:ListBucket
/// action", or "... with an explicit deny in a service control policy".
fn access_denied(place: &ObjectLocation, message: &str) -> Failure {
    let after = |marker: &str| message.split_once(marker).map(|(_, rest)| rest);
    let word = |text: &str| text.split_whitespace().next().unwrap_or_default().trim_matches(['"', '\'', ',', '.']).to_string();
    let is_action = |text: &String| {
        text.contains(':') && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'*'))
    };
    let action = after("not authorized to perform: ").map(word).filter(is_action);
    let resource = after("on resource: ").map(word).filter(|text| text.starts_with("arn:")).map(|text| printable(&text));
    let usual = action.as_deref().is_none_or(|action| action == "s3:ListBucket");
    if let Some(policy) = after("explicit deny in ") {
        let action = action.unwrap_or_else(|| "s3:ListBucket".to_string());
        let kind = policy.split(['.', ',', ':', ';']).next().unwrap_or_default();
        return Failure::new(
            Class::PermissionDenied,
            format!("{action} on {} is denied explicitly, in {}", resource.unwrap_or_else(|| place.arn()), printable(kind)),
            "an explicit deny outweighs every permission: ask the owner of that policy to exempt the user or role of the key",
        );
    }
    match action {
        Some(action) if !usual && is_readable(&action) => {
            let resource = resource.filter(|resource| is_grantable(place, resource)).unwrap_or_else(|| place.arn());
            let policy = serde_json::json!({
                "Version": "2012-10-17",
                "Statement": [{"Effect": "Allow", "Action": [action], "Resource": resource}],
            });
            let title = format!("{action} on {resource} is not allowed for this access key");
            Failure::new(Class::PermissionDenied, title, format!("attach this policy to the user or role of the key: {policy}"))
        }
        _ => denied(place),
    }
}

/// Whether a policy that people paste may name the action. Any server can write the message that names it.
fn is_readable(action: &str) -> bool {
    let reads = action.split_once(':').is_some_and(|(service, name)| {
        service == "kms" && name == "Decrypt" || service == "s3" && ["Get", "List"].iter().any(|verb| name.starts_with(verb))
    });
    reads && !action.contains('*')
}

/// Whether a policy that people paste may name the resource: the bucket, what is in it, or one key of KMS.
fn is_grantable(place: &ObjectLocation, resource: &str) -> bool {
    let key = resource.splitn(6, ':').collect::<Vec<_>>();
    let is_key = key.get(2) == Some(&"kms") && key.get(5).is_some_and(|name| name.starts_with("key/"));
    let bucket = place.arn();
    let in_bucket = resource.strip_prefix(&bucket).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    (is_key || in_bucket) && !resource.contains(['*', '?', '$'])
}

/// Errors of the bucket.
fn bucket(place: &ObjectLocation, error: &StoreError) -> Option<Failure> {
    let (bucket, host, family) = (&place.bucket, place.host(), place.flavor.family());
    Some(match error.code.as_str() {
        "NoSuchBucket" => Failure::new(
            Class::NotFound,
            format!("bucket {bucket} does not exist at {host}"),
            "correct the bucket in resource_ids, or remove the intent if the bucket was deleted",
        ),
        "InvalidBucketName" => Failure::new(
            Class::Misconfigured,
            format!("{host} does not accept {bucket} as a bucket name"),
            "correct the bucket in resource_ids",
        ),
        "PermanentRedirect"
        | "TemporaryRedirect"
        | "Redirect"
        | "IllegalLocationConstraintException"
        | "InvalidLocationConstraint" => {
            let other = error.endpoint.as_deref().map_or("another endpoint".to_string(), printable);
            let fix = match (place.flavor, error.endpoint.is_some()) {
                (Flavor::Compatible, true) => format!(
                    "write the endpoint {other} into resource_ids, or set families.{family}.region in the policy to the bucket's region"
                ),
                _ => format!("set families.{family}.region in the policy to the bucket's region"),
            };
            Failure::new(Class::Misconfigured, format!("bucket {bucket} is served by {other}"), fix)
        }
        _ => return None,
    })
}

/// Errors of the call: time, rate, and what the store does not implement.
fn call(place: &ObjectLocation, answer: &HttpResponse, error: &StoreError, signed_at: Timestamp) -> Option<Failure> {
    let host = place.host();
    Some(match error.code.as_str() {
        "RequestTimeTooSkewed" | "RequestExpired" => skewed(place, answer, error, signed_at),
        // The codes with which S3 and compatible stores ask to slow down. ServiceUnavailable and Busy only mean that the
        // store failed. MinIO has SlowDownRead and SlowDownWrite.
        "TooManyRequests" | "RequestLimitExceeded" | "RequestThrottled" | "BandwidthLimitExceeded" => throttled(place, answer),
        code if code.starts_with("Throttl") || code.starts_with("SlowDown") => throttled(place, answer),
        "NotImplemented" | "MethodNotAllowed" => Failure::new(
            Class::Unsupported,
            format!("{host} does not implement ListObjectsV2, which aam uses to list a bucket"),
            "update the store, or name another endpoint of it in resource_ids",
        ),
        _ => return None,
    })
}

/// The failure for a code that is not listed. It keeps the code; the detail has the store's text.
fn unlisted(place: &ObjectLocation, answer: &HttpResponse, error: &StoreError) -> Failure {
    let named = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if answer.status >= 500 || error.code.is_empty() || error.code.len() > 80 || !error.code.bytes().all(named) {
        return by_status(place, answer, "");
    }
    let class = match answer.status {
        401 => Class::CredentialRejected,
        403 => Class::PermissionDenied,
        404 => Class::NotFound,
        429 => return throttled(place, answer),
        _ => Class::Remote,
    };
    let title = format!("{} refused to list bucket {} with {}", place.host(), place.bucket, error.code);
    Failure::new(class, title, format!("the detail has the store's own text; if it does not help, {ASK_OPERATOR}"))
}
