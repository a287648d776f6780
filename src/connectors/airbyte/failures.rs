//! What the end of a run means for the connection: AAM's own failure, if it refused or could not send a request, otherwise
//! what the vendor answered, otherwise what the connector says.

use super::gate::{Obstacle, VendorError};
use super::run::{Ended, Ran};
use crate::credentials::redact;
use crate::memory_budget::size_text;
use crate::model::{Class, Failure};
use crate::policy::duration_text;
use airbyte_protocol::{Command, Kind, Origin, Trouble};
use std::time::Duration;

/// The wait before the next attempt if the connector says that the vendor limits its rate, and not for how long.
const RATE_WAIT: Duration = Duration::from_secs(60);
const MAX_MESSAGE_CHARS: usize = 500;
const MAX_INTERNAL_CHARS: usize = 300;
const STACK_LINES: usize = 2;

/// What a failure is about.
pub struct TroubleContext<'a> {
    /// The source type.
    pub name: &'a str,
    pub resource: &'a str,
    pub least_privilege: &'a str,
    pub command: Command,
    /// The bytes that one run may take.
    pub memory: u64,
}

/// Texts by which connectors say what is wrong, in lower case. They are looked for only where nothing else says it.
const REJECTED: [&str; 18] = [
    "401",
    "unauthorized",
    "unauthenticated",
    "not authenticated",
    "authentication failed",
    "invalid authentication",
    "invalid token",
    "invalid access token",
    "invalid api key",
    "invalid api token",
    "invalid credentials",
    "bad credentials",
    "invalid_grant",
    "invalid_client",
    "token has expired",
    "token expired",
    "revoked",
    "incorrect password",
];
const DENIED: [&str; 7] =
    ["403", "forbidden", "permission", "not authorized", "access denied", "insufficient scope", "missing scope"];
/// Texts in the body of a response with status 403 which say that the credential itself is not valid, in lower case. Amazon S3
/// answers 401 to nothing.
const REJECTED_IN_BODY: [&str; 10] = [
    "signaturedoesnotmatch",
    "invalidaccesskeyid",
    "expiredtoken",
    "<code>invalidtoken",
    "invalid_token",
    "invalid token",
    "token has expired",
    "token expired",
    "bad credentials",
    "revoked",
];
const LIMITED: [&str; 4] = ["429", "rate limit", "too many requests", "throttl"];
const UNREACHABLE: [&str; 12] = [
    "connection refused",
    "could not connect",
    "failed to establish",
    "network is unreachable",
    "name or service not known",
    "name resolution",
    "timed out",
    "timeout",
    "max retries exceeded",
    "operation not permitted",
    "unreachable",
    "proxyerror",
];
const OUT_OF_MEMORY: [&str; 3] = ["memoryerror", "out of memory", "cannot allocate memory"];

/// Returns the failure of a run, or `None` if the run answered.
#[must_use]
pub fn failure(ran: &Ran, context: &TroubleContext<'_>) -> Option<Failure> {
    if let Some(failure) = ran.observed.fatal() {
        return Some(failure);
    }
    let what = context.command.as_str();
    let name = context.name;
    match (&ran.result, ran.ended) {
        (_, Some(Ended::Memory(bytes))) => Some(too_much_memory(context, &format!("it took {}", size_text(bytes)))),
        (_, Some(Ended::TooMany(count, of))) => Some(
            Failure::new(
                Class::Remote,
                format!("{name} was ended: it had {count} {of} for {what}"),
                format!("use another version of the connector; a connector needs fewer {of}"),
            )
            .detail(output(ran)),
        ),
        (Ok(_), _) => None,
        (Err(_), Some(Ended::TimedOut(limit))) => Some(not_in_time(ran, context, limit)),
        (Err(trouble), Some(Ended::Waits)) => Some(of_trouble(trouble, ran, context)),
        (Err(trouble), None) => Some(of_trouble(trouble, ran, context)),
    }
}

fn too_much_memory(context: &TroubleContext<'_>, detail: &str) -> Failure {
    let name = context.name;
    Failure::new(
        Class::Misconfigured,
        format!("{name} was ended: {} needs more memory than {}", context.command.as_str(), size_text(context.memory)),
        format!("raise airbyte.connectors.{name}.memory in the policy if this machine has more to spare"),
    )
    .detail(detail)
}

fn not_in_time(ran: &Ran, context: &TroubleContext<'_>, limit: Duration) -> Failure {
    if let Some(Obstacle::Refused(failure)) = ran.observed.last() {
        return failure.detail(format!("{} did not end {} after that", context.name, context.command.as_str()));
    }
    let whole = if limit.as_secs() > 0 { Duration::from_secs(limit.as_secs()) } else { limit };
    let title = format!(
        "{} was ended: it did not answer {} within {}",
        context.name,
        context.command.as_str(),
        duration_text::format(&whole)
    );
    if let Some(Obstacle::Vendor(vendor)) = ran.observed.last() {
        // The connector waits before it tries again; what the vendor answered is the reason.
        let class = class_of_response(&vendor).unwrap_or(Class::Remote);
        return classified(class, context, &joined(&[shown(&vendor), title]));
    }
    let fix = format!(
        "see the detail; if the connector is only slow, raise safe_mode.step_timeout in the policy. Requests that were answered: {}",
        ran.observed.sent()
    );
    Failure::new(Class::Remote, title, fix).detail(output(ran))
}

fn of_trouble(trouble: &Trouble, ran: &Ran, context: &TroubleContext<'_>) -> Failure {
    let said = said(trouble, ran);
    match ran.observed.last() {
        Some(Obstacle::Refused(failure)) => {
            let detail = joined(&[failure.detail.clone(), format!("{} says: {said}", context.name)]);
            return failure.detail(detail);
        }
        Some(Obstacle::Vendor(vendor)) => {
            if let Some(class) = class_of_response(&vendor) {
                return classified(class, context, &joined(&[said, shown(&vendor)]));
            }
        }
        None => {}
    }
    let all =
        format!("{} {} {}", trouble.message, trouble.internal_message.as_deref().unwrap_or_default(), ran.stderr).to_lowercase();
    let has = |texts: &[&str]| texts.iter().any(|text| all.contains(text));
    let stack = trouble.stack_trace.as_deref().unwrap_or_default().to_lowercase();
    if trouble.kind == Kind::Memory || has(&OUT_OF_MEMORY) || OUT_OF_MEMORY.iter().any(|word| stack.contains(word)) {
        return too_much_memory(context, &said);
    }
    let class = match trouble.kind {
        Kind::Config | Kind::Transient if has(&LIMITED) => Class::Throttled,
        Kind::Config if has(&REJECTED) => Class::CredentialRejected,
        Kind::Config if has(&DENIED) => Class::PermissionDenied,
        Kind::Config | Kind::Transient if has(&UNREACHABLE) => Class::Network,
        Kind::Config => Class::Misconfigured,
        Kind::System if trouble.origin == Origin::Trace && has(&REJECTED) => Class::CredentialRejected,
        Kind::System if has(&UNREACHABLE) && ran.observed.sent() == 0 => Class::Network,
        Kind::Transient | Kind::System | Kind::Silent | Kind::Killed | Kind::Memory => Class::Remote,
    };
    classified(class, context, &said)
}

/// Returns the class of an error response. The rate limits of a vendor end the run before the connector sees them.
fn class_of_response(vendor: &VendorError) -> Option<Class> {
    let body = vendor.body.to_lowercase();
    match vendor.status {
        403 if REJECTED_IN_BODY.iter().any(|text| body.contains(text)) => Some(Class::CredentialRejected),
        401 => Some(Class::CredentialRejected),
        403 => Some(Class::PermissionDenied),
        404 | 410 => Some(Class::NotFound),
        500.. => Some(Class::Remote),
        _ => None,
    }
}

fn classified(class: Class, context: &TroubleContext<'_>, detail: &str) -> Failure {
    let TroubleContext { name, resource, least_privilege, command, .. } = context;
    let what = command.as_str();
    let failure = match class {
        Class::CredentialRejected => Failure::new(
            class,
            format!("{resource} rejects the credential of {name}"),
            "store a valid credential at the place of credential_locator; then aam heal",
        ),
        Class::PermissionDenied => Failure::new(
            class,
            format!("the credential of {name} lacks a permission for {resource}"),
            format!("see the detail for what is missing; least privilege: {least_privilege}; then aam heal"),
        ),
        Class::NotFound => Failure::new(
            class,
            format!("{resource} was not found"),
            "correct the resource id, or the config of the connector in the policy; the detail shows the request",
        ),
        Class::Throttled => {
            Failure::new(class, format!("{resource} limits the rate of {name}"), "AAM tries again automatically").after(RATE_WAIT)
        }
        Class::Network => Failure::new(
            class,
            format!("{name} could not connect to {resource}"),
            "check that this machine reaches the source; a connector has no network but AAM's proxy for HTTP and HTTPS, so a driver with a protocol of its own finds none",
        ),
        Class::Misconfigured => Failure::new(
            class,
            format!("{what} of {name} failed with this config"),
            format!("see the detail; correct airbyte.connectors.{name}.config in the policy, the credential or the resource id"),
        ),
        _ => Failure::new(
            class,
            format!("{what} of {name} failed"),
            "see the detail; AAM tries again automatically. If it stays, use another version of the connector",
        ),
    };
    failure.detail(detail)
}

/// What the connector says, scrubbed and then cut.
fn said(trouble: &Trouble, ran: &Ran) -> String {
    let message = redact::scrub_and_cut(&trouble.message, MAX_MESSAGE_CHARS);
    let internal = trouble.internal_message.as_deref().filter(|text| *text != trouble.message);
    let internal = internal.map(|text| redact::scrub_and_cut(text, MAX_INTERNAL_CHARS)).unwrap_or_default();
    let stack = trouble.stack_excerpt(STACK_LINES, |text| redact::scrub(text).into_owned());
    let stack = stack.map(|text| redact::scrub_and_cut(&text, MAX_INTERNAL_CHARS)).unwrap_or_default();
    let is_own = matches!(trouble.origin, Origin::Exit | Origin::Output);
    let output = if is_own { output(ran) } else { String::new() };
    joined(&[message, internal, stack, output])
}

/// What the run wrote besides its messages: its last log messages, and the end of stderr.
fn output(ran: &Ran) -> String {
    joined(&[ran.logs.join(" | "), ran.stderr.clone()])
}

fn shown(vendor: &VendorError) -> String {
    joined(&[format!("{}: status {}", vendor.call, vendor.status), vendor.body.clone()])
}

fn joined(parts: &[String]) -> String {
    parts.iter().filter(|part| !part.is_empty()).map(String::as_str).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
#[path = "failures_tests.rs"]
mod tests;
