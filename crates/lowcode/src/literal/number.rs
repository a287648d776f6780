//! Parses the numbers in literals.

use super::Literal;

/// Python refuses to convert a decimal integer with more digits than this.
const MAX_DIGITS: usize = 4300;

pub(super) fn negate(number: Literal, negative: bool) -> Option<Literal> {
    Some(match number {
        Literal::Int(int) if negative => Literal::Int(-int),
        // The smallest 64-bit integer is the only one that fits into 64 bits with its sign but not without it.
        Literal::Big(digits) if negative => {
            format!("-{digits}").parse().map_or(Literal::Big(format!("-{digits}").into()), Literal::Int)
        }
        Literal::Float(float) if negative => Literal::Float(-float),
        other => other,
    })
}

/// The length of a run of digits. Single underscores between digits are allowed.
fn digits(text: &str, valid: fn(u8) -> bool) -> usize {
    let bytes = text.as_bytes();
    let mut at = 0;
    loop {
        while bytes.get(at).is_some_and(|b| valid(*b)) {
            at += 1;
        }
        if at == 0 || bytes.get(at) != Some(&b'_') || !bytes.get(at + 1).is_some_and(|b| valid(*b)) {
            return at;
        }
        at += 1;
    }
}

pub(super) fn number_length(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    if bytes.first() == Some(&b'0') {
        let valid: Option<fn(u8) -> bool> = match bytes.get(1) {
            Some(b'x' | b'X') => Some(|b| b.is_ascii_hexdigit()),
            Some(b'o' | b'O') => Some(|b| matches!(b, b'0'..=b'7')),
            Some(b'b' | b'B') => Some(|b| matches!(b, b'0' | b'1')),
            _ => None,
        };
        if let Some(valid) = valid {
            let start = 2 + usize::from(bytes.get(2) == Some(&b'_'));
            let length = digits(text.get(start..)?, valid);
            return (length > 0).then_some(start + length);
        }
    }
    let decimal = |b: u8| b.is_ascii_digit();
    let mut at = digits(text, decimal);
    if bytes.get(at) == Some(&b'.') {
        at += 1 + digits(text.get(at + 1..)?, decimal);
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        let length = digits(text.get(at + 1 + sign..)?, decimal);
        at += if length > 0 { 1 + sign + length } else { 0 };
    }
    (at > 0).then_some(at)
}

pub(super) fn read_number(text: &str) -> Option<Literal> {
    let text: String = text.chars().filter(|c| *c != '_').collect();
    let prefix = text.get(..2).unwrap_or_default().to_ascii_lowercase();
    let radix = match prefix.as_str() {
        "0x" => 16,
        "0o" => 8,
        "0b" => 2,
        _ => 10,
    };
    if radix != 10 {
        let int = i128::from_str_radix(text.get(2..)?, radix).ok()?;
        return Some(i64::try_from(int).map_or_else(|_| Literal::Big(int.to_string().into()), Literal::Int));
    }
    if text.contains(['.', 'e', 'E']) {
        return (text != ".").then(|| text.parse().ok().map(Literal::Float))?;
    }
    let significant = text.trim_start_matches('0');
    if significant.len() != text.len() && !significant.is_empty() || text.len() > MAX_DIGITS {
        return None; // Python rejects `0123` and accepts `000`.
    }
    Some(text.parse().map_or_else(|_| Literal::Big(text.into()), Literal::Int))
}
