//! Times as clients write them, in RFC 3339.

use crate::model::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use serde_json::Value;

/// Seconds since 1970 are below this number until the year 5138; milliseconds are above it since 1973.
const FIRST_MILLISECONDS: i64 = 100_000_000_000;

/// The first and the last second of the years that an evidence may be from, 1990 to 2199. A number outside of them is more
/// likely a mistake than a time.
const YEARS: std::ops::Range<i64> = 631_152_000..7_258_118_400;

/// Returns the RFC 3339 form of a time that is written in another way, or `None` if it has this form already or cannot be
/// read as a time.
///
/// A time without a zone is UTC. A blank may stand for the `T`, the seconds may be missing, a date is its first instant,
/// and a number counts seconds or milliseconds since 1970.
#[must_use]
pub fn proper(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => from_text(text),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => from_number(whole),
            // Python's time.time() has a fraction.
            None => from_number((number.as_f64()? * 1000.0).round() as i64),
        },
        _ => None,
    }
}

fn from_text(text: &str) -> Option<String> {
    let trimmed = text.trim();
    if is_rfc3339(trimmed) {
        return (trimmed.len() != text.len()).then(|| trimmed.to_string());
    }
    if let Ok(number) = trimmed.parse::<i64>() {
        return from_number(number);
    }
    let upper = trimmed.to_ascii_uppercase();
    let with_t = match upper.split_once(' ') {
        Some((date, time)) => format!("{date}T{}", time.replace(' ', "")),
        None => upper,
    };
    let candidate = with_t.strip_suffix("UTC").map_or(with_t.clone(), |start| format!("{start}Z"));
    if is_rfc3339(&candidate) {
        return Some(candidate);
    }
    if let Ok(at) = Timestamp::parse(&candidate) {
        return Some(seconds(at));
    }
    let civil: DateTime = match candidate.parse::<Date>() {
        Ok(date) if !candidate.contains('T') => date.to_datetime(jiff::civil::Time::midnight()),
        _ => candidate.parse().ok()?,
    };
    let at = civil.to_zoned(TimeZone::UTC).ok()?.timestamp();
    Some(at.to_string())
}

fn from_number(number: i64) -> Option<String> {
    let ms = if number < FIRST_MILLISECONDS { number.checked_mul(1000)? } else { number };
    YEARS.contains(&ms.div_euclid(1000)).then(|| seconds(Timestamp(ms)))
}

/// Formats with as many digits after the second as are needed.
fn seconds(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.0).map_or_else(|_| at.rfc3339(), |at| at.to_string())
}

/// Whether the text is an RFC 3339 timestamp. AAM's timestamps accept more than that, for example a name of a time zone.
#[must_use]
pub fn is_rfc3339(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digits = |range: std::ops::Range<usize>| bytes.get(range).is_some_and(|part| part.iter().all(u8::is_ascii_digit));
    let at = |index: usize, options: &[u8]| bytes.get(index).is_some_and(|byte| options.contains(byte));
    let date = digits(0..4) && at(4, b"-") && digits(5..7) && at(7, b"-") && digits(8..10) && at(10, b"Tt");
    let time = digits(11..13) && at(13, b":") && digits(14..16) && at(16, b":") && digits(17..19);
    if !date || !time {
        return false;
    }
    let rest = text.get(19..).unwrap_or_default();
    let rest = match rest.strip_prefix('.') {
        Some(fraction) => {
            let zone = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
            if zone.len() == fraction.len() {
                return false;
            }
            zone
        }
        None => rest,
    };
    let offset = |zone: &[u8]| match zone {
        [b'+' | b'-', h1, h2, b':', m1, m2] => [h1, h2, m1, m2].iter().all(|digit| digit.is_ascii_digit()),
        _ => false,
    };
    (matches!(rest, "Z" | "z") || offset(rest.as_bytes())) && Timestamp::parse(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn times_get_the_form_of_rfc_3339() {
        for (sent, written) in [
            (json!("2026-11-08T18:00:00"), Some("2026-11-08T18:00:00Z")),
            (json!("2026-11-08 18:00:00"), Some("2026-11-08T18:00:00Z")),
            (json!("2026-11-08 18:00:00Z"), Some("2026-11-08T18:00:00Z")),
            (json!("2026-11-08 18:00:00 UTC"), Some("2026-11-08T18:00:00Z")),
            (json!("2026-11-08 18:00:00 +01:00"), Some("2026-11-08T18:00:00+01:00")),
            (json!("2026-11-08T18:00:00+0100"), Some("2026-11-08T17:00:00Z")),
            (json!("2026-11-08T18:00:00.123456"), Some("2026-11-08T18:00:00.123456Z")),
            (json!("2026-11-08T18:00"), Some("2026-11-08T18:00:00Z")),
            (json!("2026-11-08"), Some("2026-11-08T00:00:00Z")),
            (json!(" 2026-11-08T18:00:00Z "), Some("2026-11-08T18:00:00Z")),
            (json!(1_794_160_800), Some("2026-11-08T18:00:00Z")),
            (json!(1_794_160_800_500_i64), Some("2026-11-08T18:00:00.5Z")),
            (json!(1_794_160_800.25), Some("2026-11-08T18:00:00.25Z")),
            (json!("1794160800"), Some("2026-11-08T18:00:00Z")),
            (json!("2026-11-08T18:00:00Z"), None),
            (json!("2026-11-08t18:00:00.25+01:00"), None),
            (json!("yesterday"), None),
            (json!("2026-13-08"), None),
            (json!("2026-11-08T25:00:00"), None),
            (json!("08.11.2026"), None),
            (json!(""), None),
            (json!(0), None),
            (json!(12), None),
            (json!(-1_794_160_800), None),
            (json!(true), None),
        ] {
            assert_eq!(proper(&sent).as_deref(), written, "{sent}");
        }
        assert!(
            !is_rfc3339("2026-11-08T18:00:00") && !is_rfc3339("2026-11-08T18:00:00.Z") && !is_rfc3339("2026-99-08T18:00:00Z")
        );
    }

    proptest! {
        #[test]
        fn what_was_written_is_not_written_again(text in "[0-9TZtz:+. UTC-]{0,30}", number: i64, fraction: f64) {
            for value in [json!(text), json!(number), json!(fraction), json!(number % 3_000_000_000)] {
                if let Some(written) = proper(&value) {
                    prop_assert!(is_rfc3339(&written), "{} from {}", written, value);
                    prop_assert_eq!(proper(&json!(written)), None);
                }
            }
        }
    }
}
