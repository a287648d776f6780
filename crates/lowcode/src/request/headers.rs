//! Headers of a request: case-insensitive, in order, and safe to send.

use crate::error::Failed;
use crate::value::Value;

/// The bytes of a token of RFC 9110.
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

/// Sets a header as the `CaseInsensitiveDict` of requests does: a later one of the same name wins, its spelling included.
///
/// # Errors
/// `InvalidHeader` of requests: a line break anywhere, a blank at the start, a colon in the name. Stricter than there:
/// no control character at all, and no name that is not a token of RFC 9110.
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
