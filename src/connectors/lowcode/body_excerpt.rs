//! What is shown of the body of a response: no tokens of sessions, and no names or e-mail addresses of people.

use crate::credentials::redact;
use regex::{Captures, Regex};
use serde_json::Value;
use std::sync::LazyLock;

/// The maximum number of characters of a body that are shown.
const MAX_EXCERPT_CHARS: usize = 200;
/// The maximum number of characters of a body that are searched for what must not be shown.
const MAX_SEARCHED_CHARS: usize = 4000;
/// The maximum number of bytes of a body from which these characters are taken.
const MAX_SEARCHED_BYTES: usize = 64 << 10;
/// The maximum number of fields of a body that are named.
const MAX_NAMED_FIELDS: usize = 12;

/// A field in JSON or a form whose name says that its value is a secret or names a person.
static FIELD: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let names = "token|secret|passw|password|api_?key|credential|session|cookie|csrf|nonce|e?mail|phone|display_?name|full_?name|\
                 first_?name|last_?name|given_?name|surname|familiar_?name|user_?name|login";
    Regex::new(&format!(r#"(?i)("[^"\n]{{0,40}}(?:{names})[^"\n]{{0,20}}"\s*:\s*")((?:[^"\\]|\\.)*)"#)).ok()
});

/// A value of an element of HTML, where pages for people keep the tokens of their forms.
static ATTRIBUTE: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r#"(?i)\b((?:content|value)=["'])([^"']*)"#).ok());

static ADDRESS: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"[A-Za-z0-9._%+'-]{1,64}@[A-Za-z0-9.-]{1,180}").ok());

/// Returns what the body of a success is made of. Its values are data: names, e-mail addresses and tokens of people.
pub(super) fn shape(body: &Value, bytes: &[u8]) -> Option<String> {
    let parsed: Value;
    let body = match body {
        Value::Null => {
            parsed = serde_json::from_slice(bytes).ok()?;
            &parsed
        }
        body => body,
    };
    match body {
        Value::Object(fields) if fields.is_empty() => Some("the body is an empty object".to_string()),
        Value::Object(fields) => {
            let names: Vec<&str> = fields.keys().map(String::as_str).take(MAX_NAMED_FIELDS).collect();
            Some(format!("the body is an object with {}", redact::scrub_and_cut(&names.join(", "), MAX_EXCERPT_CHARS)))
        }
        Value::Array(items) => Some(format!("the body is a list of {}", items.len())),
        _ => None,
    }
}

/// Returns the beginning of a body. Secrets are removed before the text is cut, because a partial secret would not be
/// recognized; so are e-mail addresses, and the values of fields that hold secrets or name people.
pub(super) fn excerpt(body: &[u8]) -> String {
    let begin = String::from_utf8_lossy(body.get(..MAX_SEARCHED_BYTES).unwrap_or(body));
    let start = redact::shortened(&begin, MAX_SEARCHED_CHARS);
    redact::scrub_and_cut(&without_persons(&start), MAX_EXCERPT_CHARS)
}

/// Returns `text` without the values that concern people.
fn without_persons(text: &str) -> String {
    let mut text = text.to_string();
    for pattern in [&*FIELD, &*ATTRIBUTE].into_iter().flatten() {
        text = pattern.replace_all(&text, |found: &Captures<'_>| format!("{}[not shown]", &found[1])).into_owned();
    }
    match &*ADDRESS {
        Some(pattern) => pattern.replace_all(&text, "[e-mail address]").into_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_and_their_tokens_are_not_shown() {
        for (text, expected) in [
            (
                r#"{"user":{"authenticity_token":"abc\"d","email":"a@b.example","name":{"display_name":"Ann Lee"}},"code":7}"#,
                r#"{"user":{"authenticity_token":"[not shown]","email":"[not shown]","name":{"display_name":"[not shown]"}},"code":7}"#,
            ),
            ("user Ann.Lee@acme.example is locked", "user [e-mail address] is locked"),
            (r#"<meta name="csrf-token" content="Zm9v">"#, r#"<meta name="csrf-token" content="[not shown]">"#),
            (r#"{"message":"no such table"}"#, r#"{"message":"no such table"}"#),
        ] {
            assert_eq!(without_persons(text), expected);
        }
    }
}
