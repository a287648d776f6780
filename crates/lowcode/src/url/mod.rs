//! Builds URLs as `urllib.parse`, `requests` and `urllib3` do in Python, in the order in which the CDK calls them.

use std::borrow::Cow;

mod join;
mod prepare;
mod query;

pub use join::urljoin;
pub use prepare::{Prepared, prepare};
#[cfg(test)]
pub use query::encode_pairs;
pub use query::{encode_params, parse_qs, quote_plus};

/// Bytes that no URL encoding of Python changes.
fn unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b'~')
}

/// `urllib.parse.quote`. All bytes except the unreserved ones and those in `safe` become `%XX`.
pub fn quote(text: &[u8], safe: &[u8], out: &mut String) {
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| !unreserved(*byte) && !safe.contains(byte)) {
        let (plain, tail) = rest.split_at_checked(at).unwrap_or((rest, &[]));
        push_plain(plain, out);
        let Some((byte, tail)) = tail.split_first() else { return };
        push_escape(*byte, out);
        rest = tail;
    }
    push_plain(rest, out);
}

/// Converts ASCII bytes to text.
fn push_plain(bytes: &[u8], out: &mut String) {
    out.push_str(std::str::from_utf8(bytes).unwrap_or_default());
}

fn push_escape(byte: u8, out: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    out.push('%');
    for nibble in [byte >> 4, byte & 15] {
        out.push(HEX.get(usize::from(nibble)).map_or('0', |digit| char::from(*digit)));
    }
}

/// `urllib.parse.unquote`. Escapes become bytes, and invalid UTF-8 becomes U+FFFD.
#[must_use]
pub fn unquote(text: &str) -> Cow<'_, str> {
    match text.contains('%') {
        true => Cow::Owned(String::from_utf8_lossy(&unquote_bytes(text)).into_owned()),
        false => Cow::Borrowed(text),
    }
}

fn unquote_bytes(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match escape_at(bytes, at) {
            Some(escaped) => {
                out.push(escaped);
                at += 3;
            }
            None => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

/// Decodes the escape at `at` to a byte.
fn escape_at(bytes: &[u8], at: usize) -> Option<u8> {
    if bytes.get(at) != Some(&b'%') {
        return None;
    }
    let digit = |offset: usize| char::from(*bytes.get(at + offset)?).to_digit(16);
    u8::try_from(digit(1)? * 16 + digit(2)?).ok()
}
