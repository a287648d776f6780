//! Headers of a request: case-insensitive, in order, and safe to send.

use crate::connectors::lowcode::error::Failed;
use crate::connectors::lowcode::value::Value;

/// Headers as `CaseInsensitiveDict` of requests keeps them: a later one of the same name wins, name included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    /// Sets a header.
    ///
    /// # Errors
    /// `InvalidHeader` of requests: a line break anywhere, a blank at the start, a colon in the name. Stricter than there:
    /// no control character at all, and no name that is not a token of RFC 9110.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), Failed> {
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(token) {
            return Err(invalid("name", name));
        }
        let control = |c: char| c.is_control() && c != '\t';
        if value.chars().any(control) || value.starts_with(char::is_whitespace) {
            // The value may be a secret: it is not shown.
            return Err(invalid("value", &format!("of {name}")));
        }
        match self.0.iter_mut().find(|(key, _)| key.eq_ignore_ascii_case(name)) {
            Some(pair) => *pair = (name.to_owned(), value.to_owned()),
            None => self.0.push((name.to_owned(), value.to_owned())),
        }
        Ok(())
    }

    /// The header called `name`, in any case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// In order.
    #[must_use]
    pub fn into_vec(self) -> Vec<(String, String)> {
        self.0
    }

    /// In order.
    #[must_use]
    pub fn as_slice(&self) -> &[(String, String)] {
        &self.0
    }
}

fn invalid(part: &str, what: &str) -> Failed {
    let what = Value::str(what).repr();
    let message = format!("Invalid leading whitespace, reserved character(s), or return character(s) in header {part}: {what}");
    Failed::system("InvalidHeader", message)
}
