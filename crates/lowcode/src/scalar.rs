//! Plain scalars of YAML 1.1 as PyYAML's safe loader reads them: `yes` is true, `010` is eight, `1:30` is ninety.

use super::value::Value;

/// Python's limit on the number of digits of a decimal integer.
const MAX_DIGITS: usize = 4_300;

/// The meaning of a plain scalar.
#[derive(Clone, Debug, PartialEq)]
pub enum Plain {
    Value(Value),
    /// A date or time, which PyYAML reads as an object. Here it remains text, and the loader emits a warning.
    Timestamp,
    /// A scalar for which PyYAML fails.
    Wrong(&'static str),
}

/// Reads a plain scalar, that is, one without quotes and without a tag.
#[must_use]
pub fn plain(text: &str) -> Plain {
    let Some(first) = text.bytes().next() else { return Plain::Value(Value::None) };
    match first {
        b'y' | b'Y' | b'n' | b'N' | b't' | b'T' | b'f' | b'F' | b'o' | b'O' | b'~' => constant(text),
        b'-' | b'+' | b'0'..=b'9' | b'.' => number(text),
        b'=' if text == "=" => Plain::Wrong("a single `=` is not a valid value in YAML 1.1; put it in quotes"),
        _ => Plain::Value(Value::str(text)),
    }
}

fn constant(text: &str) -> Plain {
    Plain::Value(match text {
        "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Value::Bool(true),
        "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Value::Bool(false),
        "null" | "Null" | "NULL" | "~" => Value::None,
        _ => Value::str(text),
    })
}

fn number(text: &str) -> Plain {
    if text.len() <= MAX_DIGITS + 64
        && let Some(plain) = float(text).or_else(|| integer(text))
    {
        return plain;
    }
    if timestamp(text) { Plain::Timestamp } else { Plain::Value(Value::str(text)) }
}

/// Reads a float. Returns `None` if the text is not a float.
#[must_use]
pub fn float(text: &str) -> Option<Plain> {
    let (negative, body) = sign(text);
    let signed = body.len() != text.len();
    let sign = if negative { -1.0 } else { 1.0 };
    match body {
        ".inf" | ".Inf" | ".INF" => return Some(Plain::Value(Value::Float(sign * f64::INFINITY))),
        ".nan" | ".NaN" | ".NAN" if !signed => return Some(Plain::Value(Value::Float(f64::NAN))),
        _ => {}
    }
    let (whole, rest) = body.split_once('.')?;
    if whole.is_empty() && signed {
        return None;
    }
    let (fraction, exponent) = match rest.find(['e', 'E']) {
        Some(at) => (rest.get(..at)?, Some(rest.get(at + 1..)?)),
        None => (rest, None),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_');
    // YAML 1.1 requires a sign in the exponent, so `1.0e5` is a string.
    if let Some(exponent) = exponent
        && !exponent.strip_prefix(['+', '-']).is_some_and(|it| !it.is_empty() && it.bytes().all(|byte| byte.is_ascii_digit()))
    {
        return None;
    }
    if !digits(fraction) || (whole.is_empty() && !fraction.starts_with(|char: char| char.is_ascii_digit())) {
        return None;
    }
    if whole.contains(':') {
        let whole = sixty(whole)?;
        let fraction: f64 = format!("0.{}", plain_digits(fraction)).parse().ok()?;
        return exponent.is_none().then(|| Plain::Value(Value::Float(sign * (whole as f64 + fraction))));
    }
    if !whole.is_empty() && (!digits(whole) || whole.starts_with('_')) {
        return None;
    }
    let text = format!("0{}.{}0e{}", plain_digits(whole), plain_digits(fraction), exponent.unwrap_or("0"));
    Some(Plain::Value(Value::Float(sign * text.parse::<f64>().ok()?)))
}

/// Reads an integer. Returns `None` if the text is not an integer.
#[must_use]
pub fn integer(text: &str) -> Option<Plain> {
    let (negative, body) = sign(text);
    if let Some(digits) = body.strip_prefix("0b") {
        return radix(digits, 2, negative);
    }
    if let Some(digits) = body.strip_prefix("0x") {
        return radix(digits, 16, negative);
    }
    if body == "0" {
        return Some(Plain::Value(Value::Int(0)));
    }
    if let Some(digits) = body.strip_prefix('0') {
        return if plain_digits(digits).is_empty() && !digits.is_empty() {
            Some(Plain::Value(Value::Int(0)))
        } else {
            radix(digits, 8, negative)
        };
    }
    if body.contains(':') {
        let int = sixty(body)?;
        return Some(Plain::Value(Value::Int(if negative { -int } else { int })));
    }
    if !body.starts_with(|char: char| char.is_ascii_digit()) || !body.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_') {
        return None;
    }
    let digits = plain_digits(body);
    if digits.len() > MAX_DIGITS {
        return Some(Plain::Wrong("the integer has too many digits"));
    }
    let text = if negative { format!("-{digits}") } else { digits };
    Some(Plain::Value(text.parse().map_or_else(|_| Value::Big(text.as_str().into()), Value::Int)))
}

fn sign(text: &str) -> (bool, &str) {
    match text.as_bytes().first() {
        Some(b'-') => (true, text.get(1..).unwrap_or_default()),
        Some(b'+') => (false, text.get(1..).unwrap_or_default()),
        _ => (false, text),
    }
}

fn plain_digits(text: &str) -> String {
    text.chars().filter(|char| *char != '_').collect()
}

fn radix(digits: &str, radix: u32, negative: bool) -> Option<Plain> {
    if digits.is_empty() || !digits.chars().all(|char| char == '_' || char.is_digit(radix)) {
        return None;
    }
    let Ok(int) = i128::from_str_radix(&plain_digits(digits), radix) else {
        return Some(Plain::Wrong("the integer is too wide"));
    };
    let int = if negative { -int } else { int };
    Some(Plain::Value(i64::try_from(int).map_or_else(|_| Value::Big(int.to_string().into()), Value::Int)))
}

/// Reads a number in base 60, in which `1:30` is ninety. Returns `None` if the text is not such a number, or is
/// implausibly large.
fn sixty(text: &str) -> Option<i64> {
    let mut parts = text.split(':');
    let first = parts.next()?;
    if !first.starts_with(|char: char| char.is_ascii_digit()) || !first.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_')
    {
        return None;
    }
    let mut sum: i64 = plain_digits(first).parse().ok()?;
    for part in parts {
        let small = matches!(part.len(), 1 | 2) && part.bytes().all(|byte| byte.is_ascii_digit());
        let part: i64 = part.parse().ok().filter(|part| small && *part < 60)?;
        sum = sum.checked_mul(60)?.checked_add(part)?;
    }
    Some(sum)
}

/// Whether PyYAML reads the text as a date or datetime.
fn timestamp(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let dash = |at: usize| bytes.get(at) == Some(&b'-');
    if !((0..4).all(digit) && dash(4) && digit(5)) {
        return false;
    }
    if bytes.len() == 10 {
        return digit(6) && dash(7) && digit(8) && digit(9);
    }
    let Some((date, time)) = text.split_once(['T', 't', ' ', '\t']) else { return false };
    let date = date.get(5..).and_then(|rest| rest.split_once('-'));
    let short = |part: &str| matches!(part.len(), 1 | 2) && part.bytes().all(|byte| byte.is_ascii_digit());
    let two = |part: &str| part.len() == 2 && short(part);
    let mut parts = time.trim_start().splitn(3, ':');
    let (hour, minute, second) = (parts.next(), parts.next(), parts.next());
    date.is_some_and(|(month, day)| short(month) && short(day))
        && hour.is_some_and(short)
        && minute.is_some_and(two)
        && second.is_some_and(|second| second.get(..2).is_some_and(two) && tail(second.get(2..).unwrap_or_default()))
}

/// Whether the text consists of an optional fraction of a second and an optional time zone.
fn tail(text: &str) -> bool {
    let text = text.strip_prefix('.').map_or(text, |rest| rest.trim_start_matches(|char: char| char.is_ascii_digit()));
    let text = text.trim_start_matches([' ', '\t']);
    text.is_empty()
        || text == "Z"
        || text.strip_prefix(['+', '-']).is_some_and(|zone| {
            zone.len() <= 5 && !zone.is_empty() && zone.bytes().all(|byte| byte.is_ascii_digit() || byte == b':')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Value {
        match plain(text) {
            Plain::Value(value) => value,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn words_and_numbers_are_those_of_yaml_1_1() {
        for (text, repr) in [
            ("yes", "True"),
            ("off", "False"),
            ("~", "None"),
            ("", "None"),
            ("nul", "'nul'"),
            ("010", "8"),
            ("08", "'08'"),
            ("0o10", "'0o10'"),
            ("1_000", "1000"),
            ("0x_1F", "31"),
            ("-0b11", "-3"),
            ("1:30", "90"),
            ("1:99", "'1:99'"),
            ("1e5", "'1e5'"),
            ("1.0e5", "'1.0e5'"),
            ("1.0e+5", "100000.0"),
            ("1.", "1.0"),
            (".5", "0.5"),
            ("-.5", "'-.5'"),
            ("-.inf", "-inf"),
            (".NaN", "nan"),
            ("1:30.5", "90.5"),
            ("1.2.3", "'1.2.3'"),
            ("-", "'-'"),
            ("+", "'+'"),
            ("00", "0"),
            ("18446744073709551615", "18446744073709551615"),
            ("2024-01", "'2024-01'"),
        ] {
            assert_eq!(value(text).repr(), repr, "{text}");
        }
    }

    #[test]
    fn times_are_seen() {
        for text in ["2024-01-02", "2024-1-2T03:04:05", "2024-01-02 3:04:05.5 +01:00", "2024-01-02t03:04:05Z"] {
            assert_eq!(plain(text), Plain::Timestamp, "{text}");
        }
        assert_eq!(plain("2024-01-02T03:04"), Plain::Value(Value::str("2024-01-02T03:04")));
        assert!(matches!(plain("="), Plain::Wrong(_)));
    }
}
