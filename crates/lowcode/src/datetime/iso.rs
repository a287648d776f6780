//! Parses ISO 8601 as dateutil's `isoparse` and isodate's `parse_duration` do.

use super::{DAY, Date, DateTime, Delta, Duration, SECOND, Zone, clock_micros};
use crate::error::EvalError;

fn bad<T>(message: &str) -> Result<T, EvalError> {
    Err(EvalError::value_error(message))
}

/// Python's `int()` for a few bytes. Spaces around the number, a sign and single underscores are allowed.
fn int(bytes: &[u8]) -> Result<i64, EvalError> {
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    let digits = text.trim().strip_prefix(['+', '-']).unwrap_or(text.trim());
    let shaped = digits.split('_').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
    match text.trim().replace('_', "").parse() {
        Ok(int) if shaped => Ok(int),
        _ => bad(&format!("invalid literal for int() with base 10: b'{text}'")),
    }
}

/// The bytes `from..to`, or fewer if the text ends before.
fn part(bytes: &[u8], from: usize, to: usize) -> &[u8] {
    bytes.get(from.min(bytes.len())..to.min(bytes.len())).unwrap_or_default()
}

/// Parses a time. Missing parts of the date become 1, and a time without a zone is naive.
///
/// # Errors
/// ValueError if the text is not ISO 8601.
pub fn isoparse(text: &str) -> Result<DateTime, EvalError> {
    if !text.is_ascii() {
        return bad("ISO-8601 strings should contain only ASCII characters");
    }
    let bytes = text.as_bytes();
    // The uncommon formats are tried only if the date cannot be parsed. A date that does not exist fails below.
    let ((year, month, day), at) = common_date(bytes).or_else(|_| uncommon_date(bytes))?;
    let (mut clock, mut zone) = ([0; 4], None);
    if bytes.len() > at {
        (clock, zone) = time_parts(part(bytes, at + 1, bytes.len()))?;
    }
    let next_day = clock.first() == Some(&24);
    if next_day {
        clock = [0; 4];
    }
    let time = DateTime::from_date(Date::new(year, month, day)?, clock_micros(clock)?, zone);
    if next_day { time.plus(Delta { micros: i128::from(DAY) }) } else { Ok(time) }
}

type DateParts = ((i64, i64, i64), usize);

fn common_date(bytes: &[u8]) -> Result<DateParts, EvalError> {
    if bytes.len() < 4 {
        return bad("ISO string too short");
    }
    let year = int(part(bytes, 0, 4))?;
    if bytes.len() == 4 {
        return Ok(((year, 1, 1), 4));
    }
    let dash = bytes.get(4) == Some(&b'-');
    let at = 4 + usize::from(dash);
    if bytes.len() < at + 2 {
        return bad("Invalid common month");
    }
    let month = int(part(bytes, at, at + 2))?;
    let mut at = at + 2;
    if at >= bytes.len() {
        return if dash { Ok(((year, month, 1), at)) } else { bad("Invalid ISO format") };
    }
    if dash {
        if bytes.get(at) != Some(&b'-') {
            return bad("Invalid separator in ISO string");
        }
        at += 1;
    }
    if bytes.len() < at + 2 {
        return bad("Invalid common day");
    }
    Ok(((year, month, int(part(bytes, at, at + 2))?), at + 2))
}

fn uncommon_date(bytes: &[u8]) -> Result<DateParts, EvalError> {
    if bytes.len() < 4 {
        return bad("ISO string too short");
    }
    let year = int(part(bytes, 0, 4))?;
    let dash = bytes.get(4) == Some(&b'-');
    let mut at = 4 + usize::from(dash);
    let date = if bytes.get(at) == Some(&b'W') {
        let week = int(part(bytes, at + 1, at + 3))?;
        at += 3;
        let mut day = 1;
        if bytes.len() > at {
            if (bytes.get(at) == Some(&b'-')) != dash {
                return bad("Inconsistent use of dash separator");
            }
            at += usize::from(dash);
            day = int(part(bytes, at, at + 1))?;
            at += 1;
        }
        if !(1..54).contains(&week) || !(1..8).contains(&day) {
            return bad("Invalid week");
        }
        Date::from_iso_week(year, week, day - 1)?
    } else {
        if bytes.len() < at + 3 {
            return bad("Invalid ordinal day");
        }
        let day = int(part(bytes, at, at + 3))?;
        at += 3;
        let first = Date::new(year, 1, 1);
        if day < 1 || day > first.as_ref().map_or(366, |first| first.days_in_year()) {
            return bad("Invalid ordinal day");
        }
        Date::from_ordinal(first?.ordinal() + day - 1)?
    };
    Ok((date.parts(), at))
}

fn time_parts(bytes: &[u8]) -> Result<([i64; 4], Option<Zone>), EvalError> {
    if bytes.len() < 2 {
        return bad("ISO time too short");
    }
    let (mut clock, mut zone, mut at, mut colon) = ([0i64; 4], None, 0, false);
    for step in 0..6 {
        if at >= bytes.len() {
            break;
        }
        if matches!(bytes.get(at), Some(b'-' | b'+' | b'Z' | b'z')) {
            zone = Some(zone_part(part(bytes, at, bytes.len()))?);
            at = bytes.len();
            break;
        }
        let is_colon = bytes.get(at) == Some(&b':');
        if step == 1 && is_colon {
            colon = true;
            at += 1;
        } else if step == 2 && colon {
            if !is_colon {
                return bad("Inconsistent use of colon separator");
            }
            at += 1;
        }
        if step < 3 {
            if let Some(slot) = clock.get_mut(step) {
                *slot = int(part(bytes, at, at + 2))?;
            }
            at += 2;
        } else if step == 3 {
            at += fraction(part(bytes, at, bytes.len()), &mut clock);
        }
    }
    if at < bytes.len() {
        return bad("Unused components in ISO string");
    }
    if clock.first() == Some(&24) && clock != [24, 0, 0, 0] {
        return bad("Hour may only be 24 at 24:00:00.000");
    }
    Ok((clock, zone))
}

/// Parses a fraction such as `.123456` and also returns its length. Digits after the sixth are dropped.
fn fraction(bytes: &[u8], clock: &mut [i64; 4]) -> usize {
    if !matches!(bytes.first(), Some(b'.' | b',')) {
        return 0;
    }
    let digits = bytes.iter().skip(1).take_while(|b| b.is_ascii_digit()).count();
    if digits == 0 {
        return 0;
    }
    let mut value = 0;
    for index in 0..6 {
        let digit = if index < digits { bytes.get(1 + index).map_or(0, |b| i64::from(b - b'0')) } else { 0 };
        value = value * 10 + digit;
    }
    clock[3] = value;
    1 + digits
}

fn zone_part(bytes: &[u8]) -> Result<Zone, EvalError> {
    if matches!(bytes, b"Z" | b"z") {
        return Ok(Zone::UTC);
    }
    if !matches!(bytes.len(), 3 | 5 | 6) {
        return bad("Time zone offset must be 1, 3, 5 or 6 characters");
    }
    let sign = match bytes.first() {
        Some(b'-') => -1,
        Some(b'+') => 1,
        _ => return bad("Time zone offset requires sign"),
    };
    let hours = int(part(bytes, 1, 3))?;
    let start = if bytes.get(3) == Some(&b':') { 4 } else { 3 };
    let minutes = if bytes.len() == 3 { 0 } else { int(part(bytes, start, bytes.len()))? };
    if minutes > 59 || hours > 23 {
        return bad("Invalid time zone offset");
    }
    Ok(Zone { offset: sign * (hours * 60 + minutes) * 60 * SECOND, name: None })
}

/// A parsed ISO 8601 duration.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Span {
    /// The part of the duration without years and months.
    Delta(Delta),
    Duration(Duration),
}

/// Parses a duration such as `P1Y2M3W4DT5H6M7.5S`. A sign is optional, and the decimal mark is a point or a comma.
///
/// # Errors
/// ISO8601Error if the text is not a duration.
pub fn parse_duration(text: &str) -> Result<Span, EvalError> {
    let unreadable = || EvalError::new("ISO8601Error", format!("Unable to parse duration string '{text}'"));
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let body = unsigned.strip_prefix('P').ok_or_else(unreadable)?;
    let body = body.strip_suffix('\n').unwrap_or(body);
    if !body.starts_with(|c: char| c.is_alphanumeric()) {
        // isodate's pattern has `P(?!\b)` here, so a letter or digit must follow.
        return Err(unreadable());
    }
    let (date, time) = body.split_once('T').map_or((body, None), |(date, time)| (date, Some(time)));
    let [years, months, weeks, days] = amounts(date, ['Y', 'M', 'W', 'D']).ok_or_else(unreadable)?;
    let [hours, minutes, seconds, _] = amounts(time.unwrap_or_default(), ['H', 'M', 'S', '\0']).ok_or_else(unreadable)?;
    let rest = [(weeks, 7 * DAY), (days, DAY), (hours, 3600 * SECOND), (minutes, 60 * SECOND), (seconds, SECOND)];
    let delta = Delta::from_parts(&rest)?;
    let negative = text.starts_with('-');
    if years == 0.0 && months == 0.0 {
        return Ok(Span::Delta(if negative { Delta { micros: -delta.micros } } else { delta }));
    }
    let duration = Duration { years, months, delta };
    Ok(Span::Duration(if negative { duration.negated() } else { duration }))
}

/// Reads the amounts of up to four units. Each unit occurs at most once, in order. Returns `None` if text remains.
fn amounts(mut text: &str, units: [char; 4]) -> Option<[f64; 4]> {
    let mut amounts = [0.0; 4];
    for (slot, unit) in amounts.iter_mut().zip(units) {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ',').unwrap_or(text.len());
        let number = text.get(..end)?;
        let Some(rest) = text.get(end..).and_then(|rest| rest.strip_prefix(unit)) else { continue };
        let plain = number.replace(',', ".");
        let (whole, part) = plain.split_once('.').unwrap_or((&plain, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(part) {
            return None;
        }
        *slot = plain.parse().ok()?;
        text = rest;
    }
    text.is_empty().then_some(amounts)
}
