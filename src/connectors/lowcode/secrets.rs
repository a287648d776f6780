//! Which texts are secret: the values of the config that the spec marks `airbyte_secret`.

use super::url::{parse_qs, quote_plus, unquote};
use super::value::Value;
use std::borrow::Cow;
use std::collections::BTreeSet;

/// Shorter secrets count only where they are a whole value: `abc` stands in half of all URLs.
const LONG: usize = 8;
/// What takes the place of a secret.
const MASK: &str = "****";

/// The secrets of a config. Never printed.
#[derive(Clone, Default)]
pub struct Secrets {
    all: BTreeSet<String>,
    /// The long ones in order, with how they stand in a query.
    long: Vec<(String, String)>,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secrets({})", self.all.len())
    }
}

impl Secrets {
    /// The secrets of `config` by the spec of `manifest`.
    #[must_use]
    pub fn of(manifest: &Value, config: &Value) -> Secrets {
        let mut secrets = Secrets::default();
        if let Some(schema) = manifest.get("spec").and_then(|it| it.get("connection_specification")) {
            secrets.collect(schema, config);
        }
        let long = secrets.all.iter().filter(|it| it.len() >= LONG);
        secrets.long = long.map(|secret| (secret.clone(), quote_plus(secret))).collect();
        secrets
    }

    /// The depth of recursion is that of the manifest's values, which is bounded when they are read.
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

    /// Whether a secret stands in `url`: anywhere where it is long, else as a whole value or segment.
    #[must_use]
    pub fn in_url(&self, url: &str) -> bool {
        if self.all.is_empty() {
            return false;
        }
        let plain = unquote(url);
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let stands = |(secret, quoted): &(String, String)| {
            // Where nothing is escaped, what was unescaped is the same text.
            plain.contains(secret) || ((quoted != secret || matches!(plain, Cow::Owned(_))) && url.contains(quoted))
        };
        self.long.iter().any(stands)
            || parse_qs(query).any(|(_, value)| self.all.contains(&*value))
            || path.split('/').skip(3).any(|segment| self.all.contains(&*unquote(segment)))
    }

    /// `text` with long secrets masked, as `filter_secrets` of the CDK does it.
    #[must_use]
    pub fn mask(&self, text: &str) -> String {
        let mut out = text.to_owned();
        for (secret, quoted) in self.long.iter().rev() {
            for form in [secret, quoted] {
                if out.contains(form) {
                    out = out.replace(form, MASK);
                }
            }
        }
        out
    }
}
