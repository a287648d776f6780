//! Determines which texts are secret: the config values that the spec marks with `airbyte_secret`, and those that the spec
//! does not describe and whose name says that they are secret.
//!
//! What the spec itself contains as a default, constant, choice or example is published with the manifest. It is not a
//! secret even if it is the value of a secret field: the default `common` of a secret tenant would otherwise be removed
//! from every record.

use super::url::{parse_qs, quote_plus, unquote};
use super::value::{Dict, Value};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Secrets shorter than this many bytes count only as a whole value, because a text like `abc` occurs in many URLs by chance.
pub const MIN_SUBSTRING_BYTES: usize = 8;
/// The text that replaces a secret.
const MASK: &str = "****";

/// Parts of a field name that indicate a secret, for fields that the spec does not describe.
const SECRET_WORDS: [&str; 8] = ["pass", "secret", "token", "key", "pin", "pwd", "credential", "auth"];
/// Names that contain such a part although the field is not a secret.
const HARMLESS: [&str; 6] = ["auth_type", "auth_method", "credentials_title", "token_type", "primary_key", "keywords"];

/// Returns the secret texts of `config`: the values that `spec` (a JSON schema) marks with `airbyte_secret`, and those of
/// fields that `spec` does not describe and whose name indicates a secret. What `spec` publishes is left out.
#[must_use]
pub fn texts(spec: Option<&Value>, config: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    collect_named(spec, config, false, &mut found);
    leave_out_published(spec, &mut found);
    found
}

/// Adds the secrets of `value`. The recursion is as deep as the config, whose depth is bounded when it is read.
fn collect_named(schema: Option<&Value>, value: &Value, secret: bool, out: &mut BTreeSet<String>) {
    let secret = secret || schema.and_then(|schema| schema.get("airbyte_secret")).is_some_and(Value::truthy);
    match value {
        Value::Dict(dict) => {
            for (name, value) in dict {
                let described = described(schema, name);
                if described.is_empty() {
                    collect_named(None, value, secret || sounds_secret(name), out);
                }
                for schema in described {
                    collect_named(Some(schema), value, secret, out);
                }
            }
        }
        Value::List(items) => {
            let schema = schema.and_then(|schema| schema.get("items"));
            items.iter().for_each(|item| collect_named(schema, item, secret, out));
        }
        Value::None | Value::Bool(_) => {}
        scalar if secret => {
            let text = scalar.to_str();
            out.extend(several(&text).map(str::to_owned));
            out.insert(text);
        }
        _ => {}
    }
}

/// Returns the tokens of a text that contains several, which a comma separates. Each is a secret of its own. A text with
/// other parts, for example a JSON document, is one secret.
fn several(text: &str) -> impl Iterator<Item = &str> {
    let is_token = |part: &str| {
        part.len() >= MIN_SUBSTRING_BYTES && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.~+/=".contains(&byte))
    };
    let parts = || text.split(',').map(str::trim);
    let all = text.contains(',') && parts().all(is_token);
    parts().filter(move |_| all)
}

/// Returns all schemas of the field `name`, including those in variants of the schema.
fn described<'a>(schema: Option<&'a Value>, name: &str) -> Vec<&'a Value> {
    let Some(schema) = schema else { return Vec::new() };
    let variants = VARIANTS.into_iter().filter_map(|key| schema.get(key)?.as_list()).flatten();
    let found = std::iter::once(schema).chain(variants);
    found.filter_map(|schema| schema.get("properties")?.get(name)).collect()
}

fn sounds_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    !HARMLESS.contains(&name.as_str()) && SECRET_WORDS.iter().any(|part| name.contains(part))
}

/// The keys of a JSON schema that list variants of it.
const VARIANTS: [&str; 3] = ["oneOf", "anyOf", "allOf"];

/// Returns what `spec` (a JSON schema) contains as a default, constant, choice or example. None of it is a secret.
#[must_use]
pub fn published(spec: &Value) -> BTreeSet<String> {
    let mut published = BTreeSet::new();
    collect_published(spec, &mut published);
    published
}

/// Removes from `found` what the spec publishes, and texts that are empty.
fn leave_out_published(spec: Option<&Value>, found: &mut BTreeSet<String>) {
    if found.is_empty() {
        return;
    }
    let published = spec.map(published).unwrap_or_default();
    found.retain(|text| !text.trim().is_empty() && !published.contains(text.trim()));
}

/// Adds what a schema contains as a default, constant, choice or example. The recursion is as deep as the manifest.
fn collect_published(schema: &Value, out: &mut BTreeSet<String>) {
    for key in ["default", "const", "enum", "example", "examples"] {
        schema.get(key).into_iter().for_each(|value| collect_scalars(value, out));
    }
    for property in schema.get("properties").and_then(Value::as_dict).into_iter().flat_map(Dict::values) {
        collect_published(property, out);
    }
    let variants = VARIANTS.into_iter().filter_map(|key| schema.get(key)?.as_list()).flatten();
    variants.chain(schema.get("items")).for_each(|schema| collect_published(schema, out));
}

fn collect_scalars(value: &Value, out: &mut BTreeSet<String>) {
    match value {
        Value::List(items) => items.iter().for_each(|item| collect_scalars(item, out)),
        Value::Dict(dict) => dict.values().for_each(|item| collect_scalars(item, out)),
        Value::None => {}
        scalar => {
            out.insert(scalar.to_str().trim().to_string());
        }
    }
}

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
            leave_out_published(Some(schema), &mut secrets.all);
        }
        let long = secrets.all.iter().filter(|it| it.len() >= MIN_SUBSTRING_BYTES);
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
        for key in VARIANTS {
            for variant in schema.get(key).and_then(Value::as_list).unwrap_or_default() {
                self.collect(variant, config);
            }
        }
        if let (Some(items), Some(list)) = (schema.get("items"), config.as_list()) {
            list.iter().for_each(|item| self.collect(items, item));
        }
    }

    fn add(&mut self, value: &Value) {
        match value {
            Value::Str(text) if !text.trim().is_empty() => {
                self.all.extend(several(text).map(str::to_owned));
                self.all.insert(text.to_string());
            }
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

    const SPEC: &str = r#"{
        "properties": {
            "key_of_map": {"type": "string"},
            "tenant": {"airbyte_secret": true, "default": "common"},
            "mode": {"type": "string", "enum": ["published-mode", 12345678]},
            "door": {"airbyte_secret": true, "examples": ["published-example"]},
            "pin": {"airbyte_secret": true},
            "credentials": {"oneOf": [
                {"properties": {"auth_type": {"const": "published-const"}}},
                {"properties": {"code": {"airbyte_secret": true}}}
            ]}
        }
    }"#;

    fn found(config: &str) -> (Vec<String>, Secrets) {
        let spec = parse(SPEC, 20).unwrap();
        let config = parse(config, 20).unwrap();
        let manifest = parse(&format!(r#"{{"spec": {{"connection_specification": {SPEC}}}}}"#), 20).unwrap();
        (texts(Some(&spec), &config).into_iter().collect(), Secrets::of(&manifest, &config))
    }

    #[test]
    fn the_spec_decides_and_names_where_it_is_silent() {
        let (found, _) = found(
            r#"{"key_of_map": "visible-1", "door": "hidden-1", "api_token": "hidden-2", "region": "visible-2", "pin": 4711,
                "credentials": {"auth_type": "visible-3", "code": "hidden-3"}, "more": {"password": ["hidden-4"]}}"#,
        );
        assert_eq!(found, ["4711", "hidden-1", "hidden-2", "hidden-3", "hidden-4"]);
    }

    #[test]
    fn each_of_several_tokens_is_a_secret() {
        let (found, secrets) = found(r#"{"door": "token-number-1, token-number-2", "pin": "a, token-number-3"}"#);
        assert_eq!(found, ["a, token-number-3", "token-number-1", "token-number-1, token-number-2", "token-number-2"]);
        assert_eq!(secrets.mask("Bearer token-number-2."), "Bearer ****.");
    }

    #[test]
    fn what_the_spec_publishes_is_not_a_secret() {
        let (none, secrets) = found(
            r#"{"tenant": "common", "door": "published-example", "pin": 12345678,
                "credentials": {"code": "published-const"}, "more": {"password": "published-mode"}}"#,
        );
        assert_eq!(none, Vec::<String>::new());
        for url in ["https://h/common/x", "https://h/published-example", "https://h/?q=12345678", "https://h/published-const"] {
            assert!(!secrets.in_url(url), "{url}");
        }
        assert_eq!(secrets.mask("at published-example"), "at published-example");
        let (other, secrets) = found(r#"{"tenant": "contoso-tenant", "door": "  "}"#);
        assert_eq!(other, ["contoso-tenant"]);
        assert!(secrets.in_url("https://h/xcontoso-tenantx"));
        assert_eq!(secrets.mask("at contoso-tenant."), "at ****.");
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
