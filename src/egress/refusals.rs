//! The failures of calls that a limit of an account stops.

use super::Caller;
use crate::model::{Class, Failure, Timestamp};
use std::time::Duration;

fn whose(caller: &Caller) -> String {
    if is_webhook(caller) {
        return format!("the webhook at {}", caller.account);
    }
    format!("{} account {}", caller.family, caller.account)
}

/// Returns the key of the policy that sets a limit, or `None` if the limit is fixed.
fn policy_key(caller: &Caller, figure: &str) -> Option<String> {
    match &*caller.family {
        // These are not families: the hosts that credentials come from have budgets of their own.
        "vault" => Some(format!("credentials.caps.vault.{figure}")),
        "token" => Some(format!("credentials.caps.tokens.{figure}")),
        _ if is_webhook(caller) => None,
        family => Some(format!("caps.families.{family}.{figure}")),
    }
}

fn is_webhook(caller: &Caller) -> bool {
    *caller.family == *super::webhook::FAMILY
}

pub(super) fn spent(caller: &Caller, now: Timestamp) -> Failure {
    let (limit, next) = (caller.cap.per_day, now.next_day());
    let title = format!("the daily budget of {} is used up: {limit} calls a day", whose(caller));
    let raise = policy_key(caller, "per_day").map(|key| format!(", or raise {key} in the policy (now {limit})"));
    let fix = format!("wait until {next}{}", raise.unwrap_or_default());
    Failure::new(Class::Throttled, title, fix).after(next.since(now))
}

pub(super) fn unwritten(caller: &Caller, error: &str) -> Failure {
    let title = format!("no call was made for {}: the registry could not record it", whose(caller));
    let fix = "check that the disk of the registry has space and is writable; AAM retries automatically";
    Failure::new(Class::Throttled, title, fix).detail(error).after(Duration::from_secs(5))
}

pub(super) fn busy(caller: &Caller) -> Failure {
    let max_calls = caller.cap.concurrency;
    let title = format!("AAM's own limit of concurrent calls for {} is reached: {max_calls}", whose(caller));
    let raise = policy_key(caller, "concurrency");
    let raise = raise.map(|key| format!("; to go faster, raise {key} in the policy (now {max_calls})")).unwrap_or_default();
    let fix = format!("no action is required: AAM retries automatically{raise}");
    Failure::new(Class::Throttled, title, fix).after(Duration::from_secs(1))
}

pub(super) fn too_fast(caller: &Caller, wait: Duration) -> Failure {
    let rate = caller.cap.per_second;
    let title = format!("AAM's own rate limit for {} is reached: {rate} calls a second", whose(caller));
    let raise = policy_key(caller, "per_second");
    let raise = raise.map(|key| format!("; to go faster, raise {key} in the policy (now {rate})")).unwrap_or_default();
    let fix = format!("no action is required: AAM retries automatically{raise}");
    Failure::new(Class::Throttled, title, fix).after(wait)
}

pub(super) fn share_used(caller: &Caller, until: Timestamp) -> Failure {
    let title = format!("AAM's own share of the calls of {} is used up", whose(caller));
    let fix =
        format!("no action is required: AAM calls again after {until} and leaves the rest to the other clients of the account");
    Failure::new(Class::Throttled, title, fix)
}

pub(super) fn throttled(caller: &Caller, until: Timestamp) -> Failure {
    let by = if is_webhook(caller) { "the receiver" } else { "the source" };
    let title = format!("rate limited by {by}: {}", whose(caller));
    let lower = policy_key(caller, "per_second");
    let lower = lower.map(|key| format!("; if this happens again, lower {key} in the policy")).unwrap_or_default();
    let fix = format!("no action is required: AAM calls again after {until}{lower}");
    Failure::new(Class::Throttled, title, fix)
}

/// The failure of a call that waits until the other replicas have lowered their share of the limits.
pub(super) fn not_divided(caller: &Caller) -> Failure {
    let title = format!(
        "no call was made for {}: other replicas of AAM use its limits and have not lowered their share yet",
        whose(caller)
    );
    let fix = "no action is required: AAM calls as soon as they have; a replica that has ended keeps its share for 15 s";
    Failure::new(Class::Throttled, title, fix).after(Duration::from_secs(1))
}

/// The failure of a call that this process may not make now.
pub(super) fn not_permitted(caller: &Caller, reason: &str) -> Failure {
    let title = format!("no call was made for {}: this process of AAM may not call now", whose(caller));
    Failure::new(Class::Throttled, title, NOT_PERMITTED_FIX).detail(reason).after(Duration::from_secs(1))
}

/// What to do if this process may not call.
pub(super) const NOT_PERMITTED_FIX: &str =
    "no action is required: this or another replica tries again once the database of the registry confirms who may call";
