//! Judges each response before the interpreter reads it. The interpreter works like Airbyte's CDK, which reads a sign-in page
//! as an empty list; so what is not data must not reach it, whichever stream, parent, schema or list of streams it is for.

use super::errors::{self, ErrorContext, ResponseView};
use super::host::ReceivedResponse;
use super::open::Resource;
use crate::credentials::redact;
use crate::egress::WaitRequest;
use crate::model::{Class, Failure};
use ::lowcode::host::{Host, HostError, HostRequest, HostResponse, PauseReason, Purpose};
use futures_util::future::BoxFuture;
use std::time::Duration;

impl Resource {
    /// Returns the failure that a response stands for, or `None` if it is data of `stream`.
    pub(super) fn not_data(&self, view: &ResponseView<'_>, stream: &str) -> Option<Failure> {
        let (rules, context) = (self.binding.errors, self.error_context(stream));
        let failure = errors::classify(rules, view, &context).or_else(|| errors::hidden(rules?, view, &context))?;
        if failure.class != Class::Throttled {
            return Some(failure);
        }
        // Only the family's rules recognize this rate limit. A header may name the time all the same.
        let wait = self.host.named_wait(view.headers);
        Some(self.stopped(failure, wait))
    }

    /// Returns the failure of a response that must not reach the interpreter.
    fn refused(&self, received: &ReceivedResponse, purpose: Purpose, expects_json: bool) -> Option<Failure> {
        let (view, stream) = (received.view(), received.stream.as_str());
        if let Some(wait) = received.wait {
            return self.throttled(received, wait);
        }
        if purpose != Purpose::Data || !(200..300).contains(&view.status) {
            return None;
        }
        let context = self.error_context(stream);
        // A page for people is not data in any other format either.
        let unreadable = || if expects_json { errors::not_json(&view, &context) } else { errors::html_page(&view, &context) };
        let other_form = || errors::not_in_form(self.binding.errors?, &view, &context);
        self.not_data(&view, stream).or_else(unreadable).or_else(other_form)
    }

    /// Stops the account because of a throttled response, in the terms of the family. Returns `None` for a denial that only
    /// used the last call of a window.
    fn throttled(&self, received: &ReceivedResponse, wait: WaitRequest) -> Option<Failure> {
        let (view, context): (_, ErrorContext<'_>) = (received.view(), self.error_context(&received.stream));
        match errors::by_rules(self.binding.errors, &view, &context) {
            Some(failure) if failure.class == Class::Throttled => Some(self.stopped(failure, wait.named)),
            // This response says what is missing. Only the next call of the account fails.
            Some(_) if !wait.is_certain && !errors::is_about_limits(&view) => {
                drop(self.host.stopped(received, wait));
                None
            }
            // A server that is not available and names a wait: the family says why, and the wait is the server's.
            Some(failure) if view.status == 503 => Some(self.paused(failure, wait)),
            None if view.status == 503 && self.binding.errors.is_some() => {
                let title = format!("{} is not available for now (503)", context.title);
                let fix = "no action is required: AAM retries automatically";
                let detail = errors::vendor_message(self.binding.errors, &view, &errors::parsed(&view), context.title);
                Some(self.paused(Failure::new(Class::Throttled, title, fix).detail(redact::scrub(&detail)), wait))
            }
            _ => Some(self.host.stopped(received, wait)),
        }
    }

    /// Stops all calls of the account for the wait that an unavailable server names. The calls are not too many, so the fix of
    /// `failure` stays as it is.
    fn paused(&self, failure: Failure, wait: WaitRequest) -> Failure {
        let stopped = self.host.throttled(wait.wait(), &format!("{}: {}", failure.title, failure.detail));
        Failure { class: Class::Throttled, retry_after_ms: stopped.retry_after_ms, ..failure }
    }

    /// Stops all calls of the account for the wait that the response names, otherwise for that of the rule. Returns the
    /// failure with the text of the rule and the time of the next call.
    fn stopped(&self, failure: Failure, named: Option<Duration>) -> Failure {
        let wait = named.unwrap_or_else(|| Duration::from_millis(failure.retry_after_ms.unwrap_or(60_000)));
        let stopped = self.host.throttled(wait, &format!("{}: {}", failure.title, failure.detail));
        let fix = match failure.fix.as_str() {
            NOTHING_TO_DO => stopped.fix,
            fix => format!("{fix}; {}", stopped.fix.trim_start_matches("no action is required: ")),
        };
        Failure { fix, retry_after_ms: stopped.retry_after_ms, ..failure }
    }
}

/// The fix of a rule that has nothing to add to the time of the next call.
const NOTHING_TO_DO: &str = "no action is required: AAM retries automatically";

/// Returns true if the failure shows that the vendor accepts the credential.
pub(super) fn accepts_credential(failure: &Failure) -> bool {
    matches!(failure.class, Class::PermissionDenied | Class::Throttled)
}

impl Host for Resource {
    fn send(&self, request: HostRequest) -> BoxFuture<'_, Result<HostResponse, HostError>> {
        Box::pin(async move {
            let (purpose, expects_json) = (request.purpose, request.expects_json);
            let received = self.host.exchange(request).await?;
            if let Some(failure) = self.refused(&received, purpose, expects_json) {
                self.host.forget_received(&received);
                return Err(self.host.host_error(failure));
            }
            if received.wait.is_some() {
                self.host.accept(&received, false).await?;
            }
            Ok(received.response)
        })
    }

    fn now(&self) -> jiff::Timestamp {
        self.host.now()
    }

    fn pause(&self, wait: Duration) -> BoxFuture<'_, Result<(), HostError>> {
        self.host.pause(wait)
    }

    fn pause_for(&self, wait: Duration, reason: PauseReason) -> BoxFuture<'_, Result<(), HostError>> {
        self.host.pause_for(wait, reason)
    }

    fn uuid(&self) -> String {
        self.host.uuid()
    }
}
