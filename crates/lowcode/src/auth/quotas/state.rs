//! The counters of quotas: what the source says of them, and what a request does to them.

use super::Quota;
use crate::datetime::DateTime;
use crate::datetime::iso::isoparse;
use crate::error::Failed;
use crate::node::walk;
use crate::response::Response;
use crate::tokens::{QuotaCounters, QuotaState};
use crate::value::Value;

/// The shortest wait for a quota, in seconds. A source may name a time that has passed.
pub(super) const MIN_WAIT: f64 = 5.0;
/// The longest delay before a request while some of the quota is left, in seconds.
const MAX_DELAY: f64 = 10.0;
/// How far the reset of a response may be behind the known one and still mean the same window, in microseconds.
const RESET_SKEW: i64 = 60_000_000;
/// A number with more digits is not a time in seconds.
const MAX_SECONDS: i64 = 9_999_999_999;

/// When requests are slowed down: if all tokens have at most this fraction of their limit left, or this number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reserve {
    pub fraction: f64,
    pub least: f64,
}

/// What to do before a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Step {
    /// Send with this token, after a delay in seconds.
    Send { token: usize, delay: f64 },
    /// Decide again with the next token.
    Rotate,
    /// Wait this many seconds, because all tokens are spent.
    Wait(f64),
}

fn seconds_until(reset_at: i64, now: i64) -> f64 {
    reset_at.saturating_sub(now) as f64 / 1e6
}

/// Whether every token has nothing left of the quota.
pub(super) fn is_spent(counters: &QuotaCounters, quota: usize) -> bool {
    counters.states.iter().filter_map(|it| it.get(quota)).all(|it| it.remaining <= 0 && it.is_tracked)
}

/// Takes one call of `quota` from the active token, or says what to do first. `now` is in microseconds.
pub(super) fn step(counters: &mut QuotaCounters, quota: usize, reserve: Reserve, now: i64) -> Step {
    let (token, count) = (counters.active, counters.states.len().max(1));
    let next = (token + 1) % count;
    let Some(state) = counters.states.get_mut(token).and_then(|it| it.get_mut(quota)) else {
        return Step::Send { token, delay: 0.0 };
    };
    if !state.is_tracked {
        counters.active = next;
        return Step::Send { token, delay: 0.0 };
    }
    if state.remaining > 0 {
        state.remaining -= 1;
        let delay = delay(counters, quota, reserve, now);
        return Step::Send { token, delay };
    }
    if is_spent(counters, quota) {
        let resets = counters.states.iter().filter_map(|it| it.get(quota)).map(|it| it.reset_at);
        return Step::Wait(seconds_until(resets.min().unwrap_or(now), now));
    }
    counters.active = next;
    Step::Rotate
}

/// Spreads the last calls over the time until the reset.
fn delay(counters: &QuotaCounters, quota: usize, reserve: Reserve, now: i64) -> f64 {
    let states = || counters.states.iter().filter_map(|it| it.get(quota));
    let low = |it: &QuotaState| it.is_tracked && it.remaining as f64 <= reserve.least.max(it.limit as f64 * reserve.fraction);
    let reset_at = counters.states.get(counters.active).and_then(|it| it.get(quota)).map_or(now, |it| it.reset_at);
    let left: i64 = states().map(|it| it.remaining.max(0)).sum();
    let seconds = seconds_until(reset_at, now);
    if !states().all(low) || left <= 0 || seconds <= 0.0 {
        return 0.0;
    }
    (seconds / left as f64).min(MAX_DELAY)
}

/// Reads the state of a quota from the response about it.
///
/// # Errors
/// Fails if the response does not have the paths of the manifest, or if their values are not numbers and times.
pub(super) fn state_of(quota: &Quota, body: Option<&Value>, is_tracked: bool, now: i64) -> Result<QuotaState, Failed> {
    if !is_tracked {
        return Ok(QuotaState { remaining: 0, limit: 0, reset_at: now, is_tracked });
    }
    let body = body.ok_or_else(|| Failed::system("JSONDecodeError", "Expecting value: line 1 column 1 (char 0)"))?;
    let at = |path: &[String], what: &str| found(body, path).ok_or_else(|| missing(quota, path, what));
    let (remaining, reset) = (at(&quota.remaining_path, "remaining")?, at(&quota.reset_path, "reset")?);
    let limit = if quota.limit_path.is_empty() { remaining } else { at(&quota.limit_path, "limit")? };
    let no_time = || Failed::system("ValueError", format!("Could not parse datetime string: {}", reset.to_str()));
    Ok(QuotaState {
        remaining: integer(remaining)?,
        limit: integer(limit)?,
        reset_at: instant(reset).ok_or_else(no_time)?,
        is_tracked,
    })
}

/// Only keys of objects are followed.
fn found<'b>(body: &'b Value, path: &[String]) -> Option<&'b Value> {
    path.iter().try_fold(body, |value, key| match value {
        Value::Dict(_) => walk(value, [key.clone()]),
        _ => None,
    })
}

fn missing(quota: &Quota, path: &[String], what: &str) -> Failed {
    let name = &quota.name;
    let list = Value::List(path.iter().map(|part| Value::str(part.as_str())).collect()).repr();
    let message = format!("Quota status response does not contain the configured {what} path for token quota \"{name}\".");
    Failed::system("AirbyteTracedException", message).with(|it| {
        it.internal = Some(format!("Quota status response did not contain the {what} path {list} configured for quota '{name}'"));
    })
}

/// Python's `int(value)`.
fn integer(value: &Value) -> Result<i64, Failed> {
    let number = match value {
        Value::Str(text) => text.trim().parse().ok(),
        Value::Float(float) if float.is_finite() => Some(*float as i64),
        Value::Bool(bool) => Some(i64::from(*bool)),
        other => other.as_i64(),
    };
    number.ok_or_else(|| Failed::system("ValueError", format!("invalid literal for int() with base 10: {}", value.repr())))
}

/// Implements `ab_datetime_parse`: seconds since the epoch, or a time in ISO 8601. Returns microseconds.
fn instant(value: &Value) -> Option<i64> {
    let text = match value {
        Value::Int(_) | Value::Str(_) => value.to_str(),
        _ => return None,
    };
    if let Ok(seconds) = text.parse::<i64>() {
        return (0..=MAX_SECONDS).contains(&seconds).then(|| seconds.saturating_mul(1_000_000));
    }
    let time: DateTime = isoparse(&text.replacen(' ', "T", 1)).ok()?.or_utc();
    Some(time.epoch_micros())
}

/// Corrects the state by what the headers of a response say.
pub(super) fn observe(quota: &Quota, state: &mut QuotaState, response: &Response) {
    let header = |name: &Option<String>| response.header(name.as_deref()?).map(|value| value.trim().to_owned());
    let is_exhausted = quota.exhaustion_codes.contains(&i64::from(response.status()));
    let number = |name: &Option<String>| header(name)?.parse::<i64>().ok();
    let remaining = number(&quota.remaining_header).or_else(|| is_exhausted.then_some(0));
    let reset_at = header(&quota.reset_header).and_then(|text| instant(&Value::from(text)));
    let limit = number(&quota.limit_header);
    if !state.is_tracked {
        return;
    }
    if let Some(limit) = limit.filter(|it| *it > 0)
        && reset_at.is_none_or(|it| it >= state.reset_at)
    {
        state.limit = limit;
    }
    match (reset_at, remaining) {
        // The window has ended, so the old count means nothing.
        (Some(reset_at), remaining) if reset_at > state.reset_at => {
            state.reset_at = reset_at;
            state.remaining = remaining.unwrap_or(state.limit);
        }
        // In the same window, a late response must not give calls back.
        (reset_at, Some(remaining))
            if (remaining <= 0 && is_exhausted) || reset_at.is_none_or(|it| it >= state.reset_at.saturating_sub(RESET_SKEW)) =>
        {
            state.remaining = state.remaining.min(remaining);
        }
        _ => {}
    }
}
