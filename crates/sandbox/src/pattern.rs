//! Patterns of hosts and paths: `{name}` captures one part, `{name*}` everything.

use percent_encoding::percent_decode_str;
use regex::Regex;

pub type Captures = Vec<(String, String)>;

pub struct Pattern {
    pub text: String,
    regex: Regex,
    names: Vec<String>,
}

impl Pattern {
    /// # Errors
    /// Fails if a brace is not closed or a name is not an identifier.
    pub fn host(text: &str) -> Result<Pattern, String> {
        Pattern::new(text, "[^.]+", true)
    }

    /// # Errors
    /// As [`Pattern::host`].
    pub fn path(text: &str) -> Result<Pattern, String> {
        if !text.starts_with('/') {
            return Err("a path begins with /".to_owned());
        }
        Pattern::new(text, "[^/]+", false)
    }

    fn new(text: &str, part: &str, caseless: bool) -> Result<Pattern, String> {
        let mut source = String::from(if caseless { "(?i)^" } else { "^" });
        let mut names = Vec::new();
        let mut rest = text;
        while let Some((fixed, after)) = rest.split_once('{') {
            source.push_str(&regex::escape(fixed));
            let (name, after) = after.split_once('}').ok_or("a { is not closed")?;
            let (name, part) = name.strip_suffix('*').map_or((name, part), |name| (name, ".+"));
            if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                return Err(format!("{name:?} is not a name"));
            }
            names.push(name.to_owned());
            // Lazy, so that fixed text behind the name is matched as early as possible.
            source.push_str(&format!("({part}?)"));
            rest = after;
        }
        source.push_str(&regex::escape(rest));
        source.push('$');
        let regex = Regex::new(&source).map_err(|error| error.to_string())?;
        Ok(Pattern { text: text.to_owned(), regex, names })
    }

    pub fn names(&self, name: &str) -> bool {
        self.names.iter().any(|known| known == name)
    }

    /// How many parts it captures.
    pub fn parts(&self) -> usize {
        self.names.len()
    }

    pub fn captures(&self, text: &str) -> Option<Captures> {
        let found = self.regex.captures(text)?;
        let value = |at: usize| found.get(at + 1).map(|value| decoded(value.as_str())).unwrap_or_default();
        Some(self.names.iter().enumerate().map(|(at, name)| (name.clone(), value(at))).collect())
    }

    /// The host that the pattern names with this account, if the account is all that it captures.
    pub fn fill(&self, account: &str) -> Option<String> {
        self.names.iter().all(|name| name == "account").then(|| self.text.replace("{account}", account))
    }
}

pub fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// The path with every escape written out, except those of `/` and `%`, which separate parts or begin an escape.
pub fn readable(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        let escape = (*first == b'%')
            .then(|| tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok()))
            .flatten()
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match escape {
            Some(byte) if byte != b'/' && byte != b'%' => {
                bytes.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            _ => bytes.push(*first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
