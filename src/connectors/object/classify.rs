//! From an answer of the store to a listing or a failure with the store's own words. Pure.
//!
//! Codes: AWS, "Amazon S3 API error responses"; MinIO and Ceph use the same ones.

use super::address::{Flavor, Place};
use super::list::{self, Document, Listing, StoreError, Unread};
use crate::credentials::redact;
use crate::egress::HttpResponse;
use crate::model::{Class, Failure, Timestamp};
use std::time::Duration;

/// S3 names no wait with `SlowDown`.
const PAUSE: Duration = Duration::from_secs(30);

/// A call that gave no listing.
#[derive(Clone, Debug)]
pub struct Refused {
    /// The region that the store named, for a second try.
    pub region: Option<String>,
    pub failure: Failure,
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Refused {
        Refused { region: None, failure }
    }
}

/// Judges the answer to a `ListObjectsV2` that was signed at `signed_at`.
///
/// # Errors
/// Everything but the listing of the bucket that was asked for.
pub fn listing(place: &Place, answer: &HttpResponse, signed_at: Timestamp) -> Result<Listing, Refused> {
    let header_region = answer.header("x-amz-bucket-region").map(str::to_string);
    let (failure, region) = match (answer.status, list::read(&answer.body)) {
        (200, Ok(Document::Listing(listing))) if listing.bucket == place.bucket => {
            return Ok(listing);
        }
        (200, Ok(Document::Listing(listing))) => {
            let title = format!("{} lists bucket {:?} instead of {:?}", place.host(), printable(&listing.bucket), place.bucket);
            (Failure::new(Class::WrongService, title, wrong_fix(place)), None)
        }
        // Without its code a cut error says nothing: 403 may be the key, the right or the clock.
        (status, Err(Unread::Broken(why))) if status == 200 || !answer.body.is_empty() => {
            let title = format!("the answer about bucket {} is cut off or broken", place.bucket);
            let fix = "nothing to do if it passes; if it stays, a proxy between AAM and the store cuts answers";
            (Failure::new(Class::Remote, title, fix).detail(format!("HTTP {status}: {why}")), None)
        }
        (200, Err(Unread::Foreign(begin))) => (foreign(place, answer, &begin), None),
        (_, Ok(Document::Error(error))) => (by_code(place, answer, &error, signed_at), error.region),
        (status, Ok(Document::Listing(_))) => (foreign(place, answer, &format!("a listing with HTTP {status}")), None),
        (_, Err(Unread::Broken(_))) => (by_status(place, answer, ""), None),
        (_, Err(Unread::Foreign(begin))) => (by_status(place, answer, &begin), None),
    };
    Err(Refused { region: header_region.or(region), failure })
}

/// The code decides; an unknown code is judged by its status.
fn by_code(place: &Place, answer: &HttpResponse, error: &StoreError, signed_at: Timestamp) -> Failure {
    let bucket = &place.bucket;
    let new_key = "create an access key for the read-only user and store it where the credential_locator points";
    let failure = match error.code.as_str() {
        "InvalidAccessKeyId" => rejected(format!("{} does not know the access key", place.host()), new_key),
        "SignatureDoesNotMatch" => rejected(
            format!("{} refuses the signature: the secret access key does not belong to the access key id", place.host()),
            "store the secret_access_key that was shown when the key was created, or create a new key; a proxy that rewrites the Host header has the same effect",
        ),
        "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" => rejected(
            "the session token has expired".to_string(),
            "issue new temporary keys and store all three values where the credential_locator points",
        ),
        "InvalidToken" | "InvalidClientTokenId" => rejected(
            "the session token is not valid for this access key".to_string(),
            "store access_key_id, secret_access_key and session_token of one and the same session; a long-lived key has no session_token",
        ),
        "AuthorizationHeaderMalformed" if error.region.is_some() => {
            region_needed(place, error.region.as_deref().unwrap_or_default())
        }
        "AuthorizationHeaderMalformed" => rejected(format!("{} cannot read the access key", place.host()), new_key),
        "AccessDenied" | "AllAccessDisabled" | "AccountProblem" | "Forbidden" => denied(place),
        "NoSuchBucket" => Failure::new(
            Class::NotFound,
            format!("bucket {bucket} does not exist at {}", place.host()),
            "correct the bucket in resource_ids, or remove the intent if the bucket was deleted",
        ),
        "InvalidBucketName" => Failure::new(
            Class::Misconfigured,
            format!("{} takes {bucket} for no bucket name", place.host()),
            "correct the bucket in resource_ids",
        ),
        "RequestTimeTooSkewed" => skewed(place, answer, error, signed_at),
        "SlowDown" | "ServiceUnavailable" | "Busy" | "TooManyRequests" | "RequestLimitExceeded" | "RequestThrottled" => {
            throttled(place, answer)
        }
        code if code.starts_with("Throttl") => throttled(place, answer),
        "PermanentRedirect" | "TemporaryRedirect" | "Redirect" | "IllegalLocationConstraintException" => {
            let other = error.endpoint.as_deref().map_or("another endpoint".to_string(), printable);
            Failure::new(
                Class::Misconfigured,
                format!("bucket {bucket} is served by {other}"),
                format!("set families.{}.region in the policy to the bucket's region", place.flavor.family()),
            )
        }
        _ => by_status(place, answer, ""),
    };
    let id = error.request_id.as_deref().or(answer.header("x-amz-request-id")).unwrap_or("none");
    let words = format!(
        "{}: {} (HTTP {}, request id {})",
        printable(&error.code),
        printable(&error.message),
        answer.status,
        printable(id)
    );
    failure.detail(words)
}

/// No code that is known: the status, and what the body begins with if it is not a store's.
fn by_status(place: &Place, answer: &HttpResponse, begin: &str) -> Failure {
    let host = place.host();
    let detail = if begin.is_empty() { format!("HTTP {}", answer.status) } else { format!("HTTP {}: {begin}", answer.status) };
    let failure = match answer.status {
        429 | 503 => throttled(place, answer),
        500.. => Failure::new(
            Class::Remote,
            format!("{host} failed with HTTP {}", answer.status),
            "nothing to do if it passes; otherwise look at the store's own status page",
        ),
        _ if !begin.is_empty() => return foreign(place, answer, begin),
        401 => rejected(
            format!("{host} refuses the access key"),
            "create an access key for the read-only user and store it where the credential_locator points",
        ),
        403 => denied(place),
        404 => Failure::new(
            Class::NotFound,
            format!("bucket {} does not exist at {host}", place.bucket),
            "correct the bucket in resource_ids",
        ),
        _ => return foreign(place, answer, begin),
    };
    failure.detail(detail)
}

/// Something answered that is no object store.
fn foreign(place: &Place, answer: &HttpResponse, begin: &str) -> Failure {
    let kind = answer.header("content-type").map_or("no content type".to_string(), printable);
    let to = answer.header("location").and_then(|to| answer.url.join(to).ok()).and_then(|to| to.host_str().map(str::to_string));
    let to = to.map(|host| format!(", sends to {host}")).unwrap_or_default();
    Failure::new(Class::WrongService, format!("{} answers, and not as an object store", place.host()), wrong_fix(place))
        .detail(format!("HTTP {}, {kind}{to}: {}", answer.status, printable(begin)))
}

fn wrong_fix(place: &Place) -> String {
    match place.flavor {
        Flavor::Aws => "check families.s3.base_url in the policy, and that no proxy or portal answers in the store's place".to_string(),
        Flavor::Compatible => {
            "write the S3 API's own endpoint into resource_ids (not the web console's), and check that no proxy or portal answers in its place".to_string()
        }
    }
}

fn rejected(title: String, fix: &str) -> Failure {
    Failure::new(Class::CredentialRejected, title, fix)
}

/// The missing right and a policy to paste.
fn denied(place: &Place) -> Failure {
    let arn = place.arn();
    let condition = if place.prefix.is_empty() {
        String::new()
    } else {
        let prefix = serde_json::Value::String(format!("{}*", place.prefix));
        format!(r#","Condition":{{"StringLike":{{"s3:prefix":[{prefix}]}}}}"#)
    };
    let policy = format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Action":["s3:ListBucket"],"Resource":"{arn}"{condition}}},{{"Effect":"Allow","Action":["s3:GetBucketLocation"],"Resource":"{arn}"}}]}}"#
    );
    let hint = match place.flavor {
        Flavor::Aws => {
            "attach this policy to the key's user or role (a bucket policy of another account must allow the same; if the bucket may not exist, check its name)"
        }
        Flavor::Compatible => "give the key this policy, or the store's own right to list the bucket",
    };
    let title = format!("s3:ListBucket on {arn} is not allowed for this access key");
    Failure::new(Class::PermissionDenied, title, format!("{hint}: {policy}"))
}

fn throttled(place: &Place, answer: &HttpResponse) -> Failure {
    let wait = answer.header("retry-after").and_then(|text| text.trim().parse().ok()).map_or(PAUSE, Duration::from_secs);
    let wait = wait.clamp(Duration::from_secs(1), Duration::from_secs(86_400));
    let fix = format!("nothing to do; if it happens often, lower caps.families.{} in the policy", place.flavor.family());
    Failure::new(Class::Throttled, format!("{} asks to slow down", place.host()), fix)
        .detail(format!("HTTP {}", answer.status))
        .after(wait)
}

/// The bucket's region is known to the store and the second try for it did not help.
pub fn region_needed(place: &Place, region: &str) -> Failure {
    Failure::new(
        Class::Misconfigured,
        format!("bucket {} is in region {}, asked for as {}", place.bucket, printable(region), place.region),
        format!("set families.{}.region in the policy to {}", place.flavor.family(), printable(region)),
    )
}

/// Neither the key nor the store is wrong: this machine's clock is. It passes by itself once the clock is set.
fn skewed(place: &Place, answer: &HttpResponse, error: &StoreError, signed_at: Timestamp) -> Failure {
    let stated = error.server_time.as_deref().and_then(|text| Timestamp::parse(text).ok());
    let theirs = stated.or_else(|| answer.header("date").and_then(http_date));
    let off = theirs.map_or("too far off that".to_string(), |theirs| {
        let seconds = (signed_at.0.saturating_sub(theirs.0)) / 1000;
        format!("{} s {}", seconds.unsigned_abs(), if seconds > 0 { "ahead of that" } else { "behind that" })
    });
    Failure::new(
        Class::Remote,
        format!("this machine's clock is {off} of {}, so its signatures are refused", place.host()),
        "set this machine's clock, for example: timedatectl set-ntp true",
    )
}

fn http_date(text: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::parse(text).ok().map(|at| Timestamp(at.timestamp().as_millisecond()))
}

/// Somebody else's words on one line, at most 300 characters. Scrubbed before they are cut: half a
/// secret would not be recognised.
pub fn printable(text: &str) -> String {
    redact::scrub(text).split_whitespace().collect::<Vec<_>>().join(" ").chars().filter(|c| !c.is_control()).take(300).collect()
}

#[cfg(test)]
mod tests;
