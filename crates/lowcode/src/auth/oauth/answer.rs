//! Reads the fields of a token endpoint's response.

use crate::datetime::iso::isoparse;
use crate::error::Failed;
use crate::errors::backoff::parse_float;
use crate::value::Value;
use jiff::{SignedDuration, Timestamp};

/// The maximum depth at which a field is searched (`max_depth` of abstract_oauth.py).
const MAX_DEPTH: usize = 5;

/// Returns the first value called `key`, in depth-first order.
///
/// # Errors
/// Fails if the response is nested more deeply than the CDK searches.
pub(super) fn find(value: &Value, key: &str) -> Result<Option<Value>, Failed> {
    find_below(value, key, 0)
}

fn find_below(value: &Value, key: &str, depth: usize) -> Result<Option<Value>, Failed> {
    if depth > MAX_DEPTH {
        let message = format!("The maximum level of recursion is reached. Couldn't find the specified `{key}` in the response.");
        return Err(Failed::config("ResponseKeysMaxRecurtionReached", message));
    }
    let mut items: Box<dyn Iterator<Item = &Value>> = match value {
        Value::Dict(dict) => match dict.get(key) {
            Some(found) => return Ok(Some(found.clone()).filter(|it| !it.is_none())),
            None => Box::new(dict.values()),
        },
        Value::List(list) => Box::new(list.iter()),
        _ => return Ok(None),
    };
    items.find_map(|item| find_below(item, key, depth + 1).transpose()).transpose()
}

/// Returns when the token expires. The value is a number of seconds from `now`, or a time if a format is given.
///
/// # Errors
/// Fails with ValueError in the same cases as the CDK.
pub(super) fn expiry(value: &Value, format: Option<&str>, now: Timestamp) -> Result<Timestamp, Failed> {
    if format.is_some() {
        return parse_moment(&Value::from(value.to_str()))
            .map_err(|error| invalid(format!("Invalid token expiry date format: {}", error.message)));
    }
    let seconds = parse_float(&value.to_str()).filter(|it| it.is_finite() && it.abs() < 1e12);
    let Some(seconds) = seconds else {
        let shown = value.to_str();
        return Err(invalid(format!("Invalid expires_in value: {shown}. Expected number of seconds when no format specified.")));
    };
    after(now, SignedDuration::from_secs(seconds as i64))
}

/// Returns `now` plus `more`.
///
/// # Errors
/// Fails with OverflowError if the result is out of range.
pub(super) fn after(now: Timestamp, more: SignedDuration) -> Result<Timestamp, Failed> {
    now.checked_add(more).map_err(|_| Failed::system("OverflowError", "date value out of range"))
}

/// Implements `ab_datetime_parse`: reads seconds since 1970, a date, or a time. A time without a zone is UTC.
///
/// # Errors
/// Fails with ValueError if the text has none of these forms.
pub(super) fn parse_moment(value: &Value) -> Result<Timestamp, Failed> {
    let text = value.to_str();
    let unread = || invalid(format!("Could not parse datetime string: {text}"));
    let digits = text.strip_prefix('-').unwrap_or(&text);
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        if text.starts_with('-') {
            return Err(invalid("Timestamp cannot be negative".into()));
        }
        if digits.len() > 10 {
            return Err(invalid("Timestamp value too large".into()));
        }
        let seconds = digits.parse().map_err(|_| unread())?;
        return Timestamp::from_second(seconds).map_err(|_| unread());
    }
    if text.contains(':') && text.matches('-').count() < 2 && text.matches('/').count() < 2 {
        return Err(invalid(format!("Missing date part in datetime string: {text}")));
    }
    let time = isoparse(text.trim()).map_err(|_| unread())?.or_utc();
    Timestamp::from_microsecond(time.epoch_micros()).map_err(|_| unread())
}

/// Formats a time as the CDK writes it into the config.
pub(super) fn timestamp(moment: Timestamp) -> String {
    let micros = moment.subsec_microsecond();
    let second = moment.strftime("%Y-%m-%dT%H:%M:%S");
    if micros == 0 { format!("{second}+00:00") } else { format!("{second}.{micros:06}+00:00") }
}

fn invalid(message: String) -> Failed {
    Failed::system("ValueError", message)
}
