//! Classifies a response of the store as a listing or as a failure that quotes the store. Pure.

use super::address::{Flavor, ObjectLocation};
use super::codes;
use super::list::{self, Document, ObjectListing, StoreError, UnreadableBody};
use crate::credentials::redact;
use crate::egress::HttpResponse;
use crate::model::{Class, Failure, Timestamp};
use std::time::Duration;

/// The wait after `SlowDown`. S3 does not say how long to wait.
const SLOW_DOWN_WAIT: Duration = Duration::from_secs(30);

/// A call that did not return a listing.
#[derive(Clone, Debug)]
pub struct RefusedCall {
    /// The region that the store named, with which the call can be tried again.
    pub region: Option<String>,
    pub failure: Failure,
}

impl From<Failure> for RefusedCall {
    fn from(failure: Failure) -> RefusedCall {
        RefusedCall { region: None, failure }
    }
}

/// Classifies the response to a `ListObjectsV2` request that was signed at `signed_at`.
///
/// # Errors
/// A failure for everything except the listing of the requested bucket.
pub fn listing(place: &ObjectLocation, answer: &HttpResponse, signed_at: Timestamp) -> Result<ObjectListing, RefusedCall> {
    let header_region = answer.header("x-amz-bucket-region").map(str::to_string);
    let (failure, region) = match (answer.status, list::read(&answer.body)) {
        (200, Ok(Document::Listing(listing))) if listing.bucket == place.bucket => {
            return Ok(listing);
        }
        (200, Ok(Document::Listing(listing))) => {
            let title = format!("{} listed bucket {:?} instead of {:?}", place.host(), printable(&listing.bucket), place.bucket);
            (Failure::new(Class::WrongService, title, wrong_fix(place)), None)
        }
        // A truncated error does not have a code. Without it, a 403 may be about the key, the permission or the clock.
        (status, Err(UnreadableBody::Broken(why))) if status == 200 || !answer.body.is_empty() => {
            let title = format!("the response for bucket {} is truncated or not valid", place.bucket);
            let fix = "nothing to do if it does not repeat; if it does, a proxy between AAM and the store truncates responses";
            (Failure::new(Class::Remote, title, fix).detail(format!("HTTP {status}: {why}")), None)
        }
        (200, Err(UnreadableBody::Foreign(begin))) => (foreign(place, answer, &begin), None),
        (_, Ok(Document::Error(error))) => (codes::failure(place, answer, &error, signed_at), error.region),
        (status, Ok(Document::Listing(_))) => (foreign(place, answer, &format!("a listing with HTTP {status}")), None),
        (_, Err(UnreadableBody::Broken(_))) => (by_status(place, answer, ""), None),
        (_, Err(UnreadableBody::Foreign(begin))) => (by_status(place, answer, &begin), None),
    };
    Err(RefusedCall { region: header_region.or(region), failure })
}

/// Classifies a response by its status. If the body is not from a store, `begin` is the beginning of the body.
pub fn by_status(place: &ObjectLocation, answer: &HttpResponse, begin: &str) -> Failure {
    let host = place.host();
    let detail = if begin.is_empty() { format!("HTTP {}", answer.status) } else { format!("HTTP {}: {begin}", answer.status) };
    let failure = match answer.status {
        429 => throttled(place, answer),
        503 if answer.header("retry-after").is_some() => throttled(place, answer),
        500.. => Failure::new(
            Class::Remote,
            format!("{host} failed with HTTP {}", answer.status),
            "nothing to do if it does not repeat; otherwise check the status page of the store",
        ),
        _ if !begin.is_empty() => return foreign(place, answer, begin),
        401 => rejected(
            format!("{host} rejected the access key"),
            "create an access key for the read-only user and store it where credential_locator points",
        ),
        403 => {
            let Failure { fix, .. } = denied(place);
            let title = format!("{host} answered the listing of bucket {} with HTTP 403 and without a code of S3", place.bucket);
            Failure::new(Class::PermissionDenied, title, format!("check that the key is active and may list the bucket; {fix}"))
        }
        404 => Failure::new(
            Class::NotFound,
            format!("bucket {} does not exist at {host}", place.bucket),
            "correct the bucket in resource_ids",
        ),
        _ => return foreign(place, answer, begin),
    };
    failure.detail(detail)
}

/// The failure for a response that is not from an object store.
fn foreign(place: &ObjectLocation, answer: &HttpResponse, begin: &str) -> Failure {
    let kind = answer.header("content-type").map_or("no content type".to_string(), printable);
    let to = answer.header("location").and_then(|to| answer.url.join(to).ok()).and_then(|to| to.host_str().map(str::to_string));
    let to = to.map(|host| format!(", redirects to {host}")).unwrap_or_default();
    Failure::new(Class::WrongService, format!("{} does not respond like an object store", place.host()), wrong_fix(place))
        .detail(format!("HTTP {}, {kind}{to}: {}", answer.status, printable(begin)))
}

fn wrong_fix(place: &ObjectLocation) -> String {
    match place.flavor {
        Flavor::Aws => "check families.s3.base_url in the policy, and that no proxy or portal responds in place of the store".to_string(),
        Flavor::Compatible => {
            "write the endpoint of the S3 API into resource_ids (not that of the web console), and check that no proxy or portal responds in its place".to_string()
        }
    }
}

/// The failure for a rejected access key.
pub fn rejected(title: String, fix: &str) -> Failure {
    Failure::new(Class::CredentialRejected, title, fix)
}

/// The failure for a missing permission, with a policy to paste.
pub fn denied(place: &ObjectLocation) -> Failure {
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
            "attach this policy to the user or role of the key (if the bucket belongs to another account, its bucket policy must allow the same; also check the name of the bucket)"
        }
        Flavor::Compatible => "give the key this policy, or the permission of the store to list the bucket",
    };
    let title = format!("s3:ListBucket on {arn} is not allowed for this access key");
    Failure::new(Class::PermissionDenied, title, format!("{hint}: {policy}"))
}

/// The failure for a store that limits the rate.
pub fn throttled(place: &ObjectLocation, answer: &HttpResponse) -> Failure {
    let wait = answer.header("retry-after").and_then(|text| text.trim().parse().ok()).map_or(SLOW_DOWN_WAIT, Duration::from_secs);
    let wait = wait.clamp(Duration::from_secs(1), Duration::from_secs(86_400));
    let fix = format!(
        "nothing to do: AAM retries automatically; if it happens often, lower caps.families.{} in the policy",
        place.flavor.family()
    );
    Failure::new(Class::Throttled, format!("{} rate limited AAM", place.host()), fix)
        .detail(format!("HTTP {}", answer.status))
        .after(wait)
}

/// The failure for a bucket in another region, if following the region that the store named did not help.
pub fn region_needed(place: &ObjectLocation, region: &str) -> Failure {
    let is_name = !region.is_empty() && region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let to = if is_name { region } else { "the region of the bucket" };
    Failure::new(
        Class::Misconfigured,
        format!("bucket {} is in region {}, but was requested in {}", place.bucket, printable(region), place.region),
        format!("set families.{}.region in the policy to {to}", place.flavor.family()),
    )
}

/// The failure if the clock of this machine is wrong. AAM recovers automatically once the clock is set.
pub fn skewed(place: &ObjectLocation, answer: &HttpResponse, error: &StoreError, signed_at: Timestamp) -> Failure {
    let stated = error.server_time.as_deref().and_then(|text| Timestamp::parse(text).ok());
    let theirs = stated.or_else(|| answer.header("date").and_then(Timestamp::from_http_date));
    let off = theirs.map_or("too far off".to_string(), |theirs| signed_at.distance_from(theirs));
    Failure::new(
        Class::Remote,
        format!("this machine's clock is {off} that of {}, so its signatures are rejected", place.host()),
        "set this machine's clock, for example: timedatectl set-ntp true",
    )
}

/// Puts text from the store on one line of at most 300 characters. Secrets are scrubbed before the text is cut, because the
/// scrubber would not recognise half of a secret.
pub fn printable(text: &str) -> String {
    redact::scrub_and_cut(text, 300)
}

#[cfg(test)]
mod tests;
