//! Headers of a request: case-insensitive, in order, and validated before they are sent.

use crate::error::Failed;
use crate::value::Value;

/// The bytes that RFC 9110 allows in a token.
const TOKEN: [bool; 256] = {
    let (mut table, signs, mut at) = ([false; 256], b"!#$%&'*+-.^_`|~", 0);
    while at < 256 {
        table[at] = (at as u8).is_ascii_alphanumeric();
        at += 1;
    }
    at = 0;
    while at < signs.len() {
        table[signs[at] as usize] = true;
        at += 1;
    }
    table
};

/// Sets a header like the `CaseInsensitiveDict` of the package `requests`: a later header of the same name replaces an
/// earlier one, including its spelling.
///
/// # Errors
/// Fails with the `InvalidHeader` of `requests` if there is a line break anywhere, a blank at the start, or a colon in
/// the name. It is stricter than `requests`: control characters and names that are not a token of RFC 9110 are refused too.
pub fn set(headers: &mut Vec<(String, String)>, name: &str, value: &str) -> Result<(), Failed> {
    if name.is_empty() || !name.bytes().all(|byte| TOKEN[usize::from(byte)]) {
        return Err(invalid("name", name));
    }
    let control = |c: char| c.is_control() && c != '\t';
    let plain = value.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    if (!plain && value.chars().any(control)) || value.starts_with(char::is_whitespace) {
        // The value may be a secret, so the message does not show it.
        return Err(invalid("value", &format!("of {name}")));
    }
    match headers.iter_mut().find(|(key, _)| key.eq_ignore_ascii_case(name)) {
        Some(pair) => *pair = (name.to_owned(), value.to_owned()),
        None => headers.push((name.to_owned(), value.to_owned())),
    }
    Ok(())
}

fn invalid(part: &str, what: &str) -> Failed {
    let what = Value::str(what).repr();
    let message = format!("Invalid leading whitespace, reserved character(s), or return character(s) in header {part}: {what}");
    Failed::system("InvalidHeader", message)
}
