//! Determines which texts are secret: the config values that the spec marks with `airbyte_secret`.

use super::url::{parse_qs, quote_plus, unquote};
use super::value::Value;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Secrets shorter than this many bytes count only as a whole value, because a text like `abc` occurs in many URLs by chance.
const LONG: usize = 8;
/// The text that replaces a secret.
const MASK: &str = "****";

/// The secrets of a config. They are never printed.
#[derive(Clone, Default)]
pub struct Secrets(Arc<Found>);

#[derive(Default)]
struct Found {
    all: BTreeSet<String>,
    /// The long secrets in order, each with its form in a query.
    long: Vec<(String, String)>,
    /// The length of the shortest secret in bytes. Texts that are shorter than this cannot be secrets.
    shortest: usize,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secrets({})", self.0.all.len())
    }
}

impl Secrets {
    /// Returns the values of `config` that the spec of `manifest` marks as secret.
    #[must_use]
    pub fn of(manifest: &Value, config: &Value) -> Secrets {
        let mut secrets = Found::default();
        if let Some(schema) = manifest.get("spec").and_then(|it| it.get("connection_specification")) {
            secrets.collect(schema, config);
        }
        let long = secrets.all.iter().filter(|it| it.len() >= LONG);
        secrets.long = long.map(|secret| (secret.clone(), quote_plus(secret))).collect();
        secrets.shortest = secrets.all.iter().map(String::len).min().unwrap_or(0);
        Secrets(Arc::new(secrets))
    }

    /// Whether `url` contains a secret. A long secret counts anywhere; a short one only as a whole query value or path segment.
    #[must_use]
    pub fn in_url(&self, url: &str) -> bool {
        if self.0.all.is_empty() {
            return false;
        }
        let plain = unquote(url);
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let stands = |(secret, quoted): &(String, String)| {
            // If nothing is escaped, the unescaped and the escaped text are the same.
            plain.contains(secret) || ((quoted != secret || matches!(plain, Cow::Owned(_))) && url.contains(quoted))
        };
        let whole = |text: &str| text.len() >= self.0.shortest && self.0.all.contains(text);
        self.0.long.iter().any(stands)
            || (query.len() >= self.0.shortest && parse_qs(query).any(|(_, value)| whole(&value)))
            || segments(path).filter(|segment| segment.len() >= self.0.shortest).any(|segment| whole(&unquote(segment)))
    }

    /// Returns `text` with the long secrets masked, like `filter_secrets` of the CDK.
    #[must_use]
    pub fn mask(&self, text: &str) -> String {
        let mut out = text.to_owned();
        for (secret, quoted) in self.0.long.iter().rev() {
            for form in [secret, quoted] {
                if out.contains(form) {
                    out = out.replace(form, MASK);
                }
            }
        }
        out
    }
}

/// Returns the parts of a path after the host. It splits at bytes, which is several times faster than splitting at characters.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.as_bytes().split(|byte| *byte == b'/').skip(3).filter_map(|part| std::str::from_utf8(part).ok())
}

impl Found {
    /// The recursion is as deep as the manifest's values, whose depth is bounded when they are read.
    fn collect(&mut self, schema: &Value, config: &Value) {
        if schema.get("airbyte_secret").is_some_and(Value::truthy) {
            self.add(config);
        }
        if let Some(properties) = schema.get("properties").and_then(Value::as_dict) {
            for (key, property) in properties {
                if let Some(value) = config.get(key) {
                    self.collect(property, value);
                }
            }
        }
        for word in ["oneOf", "anyOf", "allOf"] {
            for variant in schema.get(word).and_then(Value::as_list).unwrap_or_default() {
                self.collect(variant, config);
            }
        }
        if let (Some(items), Some(list)) = (schema.get("items"), config.as_list()) {
            list.iter().for_each(|item| self.collect(items, item));
        }
    }

    fn add(&mut self, value: &Value) {
        match value {
            Value::Str(text) if !text.trim().is_empty() => drop(self.all.insert(text.to_string())),
            Value::Int(_) | Value::Big(_) => drop(self.all.insert(value.to_str())),
            Value::List(items) => items.iter().for_each(|item| self.add(item)),
            Value::Dict(dict) => dict.values().for_each(|item| self.add(item)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::parse;
    use proptest::prelude::*;

    fn of(secrets: &[String]) -> Secrets {
        let text = serde_json::json!({ "secrets": secrets }).to_string();
        let manifest = r#"{"spec": {"connection_specification": {"properties": {"secrets": {"airbyte_secret": true}}}}}"#;
        Secrets::of(&parse(manifest, 9).unwrap(), &parse(&text, 9).unwrap())
    }

    #[test]
    fn a_secret_is_found_where_it_stands_whole_and_a_long_one_anywhere() {
        let secrets = of(&["abc".to_string(), "a long/secret".to_string()]);
        for url in [
            "https://h/x/abc/y",
            "https://h/x?y=abc",
            "https://h/%61bc",
            "https://h/?y=%61bc&z",
            "https://h/xa%20long%2Fsecretx",
            "https://h/?q=xa+long%2Fsecretx",
            "https://h/xa%20long/secretx",
        ] {
            assert!(secrets.in_url(url), "{url}");
        }
        for url in
            ["https://abc/", "https://h/xabcx", "https://h/?y=abcd", "https://h/?abc=y", "https://h/ab", "https://h/a%20long"]
        {
            assert!(!secrets.in_url(url), "{url}");
        }
    }

    proptest! {
        /// Checks that skipping short texts does not miss a secret.
        #[test]
        fn a_whole_segment_or_value_is_always_found(
            secret in "[a-cäß%/ ]{1,9}", before in "([a-c]{0,3}/){0,2}", after in "(/[a-c]{0,3}){0,2}", query in any::<bool>(),
        ) {
            prop_assume!(!secret.trim().is_empty());
            let secrets = of(std::slice::from_ref(&secret));
            let quoted = quote_plus(&secret).replace('+', "%20");
            let url = match query {
                true => format!("https://host/{before}?a=b&c={quoted}&d"),
                false => format!("https://host/{before}{quoted}{after}"),
            };
            prop_assert!(secrets.in_url(&url), "{url}");
        }
    }
}
