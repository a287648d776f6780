//! The placeholders in the config and the hosts of a connector, and what fills them.

use super::ConnectorPolicy;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// What stands in braces in a text of a config. Other braces are left as they are, because a config may hold JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placeholder {
    /// `{resource_id}`, `{resource_id.host}`, `{resource_id.label}` or `{resource_id.tree}`.
    Resource(ResourcePart),
    /// `{credential.FIELD}`. With a question mark at the end (`{credential.FIELD?}`), the field may be missing; the key of
    /// the config, the item of the list or the host is then left out.
    Credential(CredentialField),
}

/// A part of the resource id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourcePart {
    /// All of it.
    Whole,
    /// The host of an address without its port, or the text before the first slash.
    Host,
    /// The first label of the host: `acme` of `acme.okta.com`.
    Label,
    /// The text itself if it has a slash, otherwise followed by `/*`: `acme/website`, `acme/*`.
    Tree,
}

/// A field of a credential that a config needs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CredentialField {
    pub name: String,
    /// Whether the connector works without it.
    pub is_optional: bool,
}

/// A text that is cut at its placeholders.
#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Placeholder(Placeholder),
}

impl ResourcePart {
    /// Returns this part of `resource_id`.
    #[must_use]
    pub fn of(self, resource_id: &str) -> String {
        match self {
            ResourcePart::Whole => resource_id.to_string(),
            ResourcePart::Host => host(resource_id).to_string(),
            ResourcePart::Label => host(resource_id).split('.').next().unwrap_or_default().to_string(),
            ResourcePart::Tree if resource_id.contains('/') => resource_id.to_string(),
            ResourcePart::Tree => format!("{resource_id}/*"),
        }
    }
}

/// The host of an address, or the text before the first slash, without a user name and a port.
fn host(resource_id: &str) -> &str {
    let rest = resource_id.split_once("://").map_or(resource_id, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// The placeholders of `text`, in their order.
///
/// # Errors
/// Returns what is wrong with a text in braces that begins like a placeholder.
pub fn placeholders(text: &str) -> Result<Vec<Placeholder>, String> {
    let found = pieces(text)?.into_iter().filter_map(|piece| match piece {
        Piece::Placeholder(placeholder) => Some(placeholder),
        Piece::Literal(_) => None,
    });
    Ok(found.collect())
}

/// Fills the placeholders of `text`. `credential` returns the value of a field.
///
/// Returns `None` if an optional field is missing.
///
/// # Errors
/// Returns the name of a field that is missing and not optional. A text that [`placeholders`] refuses is left as it is.
pub fn fill(text: &str, resource_id: &str, credential: &dyn Fn(&str) -> Option<String>) -> Result<Option<String>, String> {
    let Ok(pieces) = pieces(text) else { return Ok(Some(text.to_string())) };
    let mut out = String::new();
    for piece in pieces {
        match piece {
            Piece::Literal(literal) => out.push_str(&literal),
            Piece::Placeholder(Placeholder::Resource(part)) => out.push_str(&part.of(resource_id)),
            Piece::Placeholder(Placeholder::Credential(field)) => match credential(&field.name) {
                Some(value) => out.push_str(&value),
                None if field.is_optional => return Ok(None),
                None => return Err(field.name),
            },
        }
    }
    Ok(Some(out))
}

fn pieces(text: &str) -> Result<Vec<Piece>, String> {
    let (mut pieces, mut rest, mut literal) = (Vec::new(), text, String::new());
    while let Some(at) = rest.find('{') {
        let (before, from) = rest.split_at(at);
        literal.push_str(before);
        if !from.starts_with("{resource_id") && !from.starts_with("{credential") {
            literal.push('{');
            rest = from.strip_prefix('{').unwrap_or_default();
            continue;
        }
        let Some((inner, after)) = from.strip_prefix('{').and_then(|inner| inner.split_once('}')) else {
            return Err("a placeholder does not end with }".to_string());
        };
        if !literal.is_empty() {
            pieces.push(Piece::Literal(std::mem::take(&mut literal)));
        }
        pieces.push(Piece::Placeholder(placeholder(inner)?));
        rest = after;
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        pieces.push(Piece::Literal(literal));
    }
    Ok(pieces)
}

fn placeholder(inner: &str) -> Result<Placeholder, String> {
    let resource = match inner {
        "resource_id" => Some(ResourcePart::Whole),
        "resource_id.host" => Some(ResourcePart::Host),
        "resource_id.label" => Some(ResourcePart::Label),
        "resource_id.tree" => Some(ResourcePart::Tree),
        _ => None,
    };
    if let Some(part) = resource {
        return Ok(Placeholder::Resource(part));
    }
    let shown: String = inner.chars().filter(|c| !c.is_control()).take(63).collect();
    let Some(field) = inner.strip_prefix("credential.") else {
        return Err(format!("{{{shown}}} is not a placeholder"));
    };
    let (name, is_optional) = field.strip_suffix('?').map_or((field, false), |name| (name, true));
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if name.is_empty() || name.len() > 63 || !name.chars().all(fits) {
        return Err(format!("{{{shown}}} does not name a field of the credential"));
    }
    Ok(Placeholder::Credential(CredentialField { name: name.to_string(), is_optional }))
}

impl ConnectorPolicy {
    /// Returns the config for one resource.
    ///
    /// # Errors
    /// Returns the names of the fields that the credential does not have, each once and in order.
    pub fn filled_config(
        &self,
        resource_id: &str,
        credential: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Map<String, Value>, Vec<String>> {
        let mut missing = Vec::new();
        let config = filled_map(&self.config, &mut |text| match fill(text, resource_id, credential) {
            Ok(filled) => filled,
            Err(field) => {
                missing.push(field);
                None
            }
        });
        missing.sort();
        missing.dedup();
        if missing.is_empty() { Ok(config) } else { Err(missing) }
    }

    /// Returns the fields of the credential that config and hosts name, each once. A field is optional if no place needs it.
    #[must_use]
    pub fn credential_fields(&self) -> Vec<CredentialField> {
        let mut fields: BTreeMap<String, bool> = BTreeMap::new();
        let mut add = |text: &str| {
            for placeholder in placeholders(text).unwrap_or_default() {
                if let Placeholder::Credential(field) = placeholder {
                    let is_optional = fields.entry(field.name).or_insert(true);
                    *is_optional = *is_optional && field.is_optional;
                }
            }
        };
        self.hosts.iter().for_each(|host| add(host));
        for value in self.config.values() {
            each_text(value, &mut add);
        }
        fields.into_iter().map(|(name, is_optional)| CredentialField { name, is_optional }).collect()
    }
}

/// Calls `visit` for every text in `value`. The parser bounds the depth of a config, and with it this recursion.
pub(in crate::policy) fn each_text(value: &Value, visit: &mut dyn FnMut(&str)) {
    match value {
        Value::String(text) => visit(text),
        Value::Array(items) => items.iter().for_each(|item| each_text(item, visit)),
        Value::Object(entries) => entries.values().for_each(|item| each_text(item, visit)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn filled_map(map: &Map<String, Value>, fill: &mut dyn FnMut(&str) -> Option<String>) -> Map<String, Value> {
    map.iter().filter_map(|(key, value)| Some((key.clone(), filled(value, fill)?))).collect()
}

fn filled(value: &Value, fill: &mut dyn FnMut(&str) -> Option<String>) -> Option<Value> {
    match value {
        Value::String(text) => fill(text).map(Value::String),
        Value::Array(items) => Some(Value::Array(items.iter().filter_map(|item| filled(item, fill)).collect())),
        Value::Object(entries) => Some(Value::Object(filled_map(entries, fill))),
        other => Some(other.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none(_: &str) -> Option<String> {
        None
    }

    #[test]
    fn each_part_of_a_resource_id_is_found() {
        for (part, id, expected) in [
            ("{resource_id}", "acme/website", "acme/website"),
            ("{resource_id.host}", "https://user@acme.okta.com:8443/app?x#y", "acme.okta.com"),
            ("{resource_id.host}", "s3://bucket/prefix", "bucket"),
            ("{resource_id.host}", "acme", "acme"),
            ("{resource_id.label}", "acme.okta.com", "acme"),
            ("{resource_id.tree}", "acme/website", "acme/website"),
            ("{resource_id.tree}", "acme", "acme/*"),
            ("a{resource_id}b{resource_id}", "x", "axbx"),
            ("{\"header\": {\"a\": 1}}", "x", "{\"header\": {\"a\": 1}}"),
        ] {
            assert_eq!(fill(part, id, &none), Ok(Some(expected.to_string())), "{part} {id}");
        }
    }

    #[test]
    fn a_text_that_begins_like_a_placeholder_is_one_or_is_refused() {
        for (text, reason) in [
            ("{resource_id.hots}", "{resource_id.hots} is not a placeholder"),
            ("{credential}", "{credential} is not a placeholder"),
            ("{credential.}", "does not name a field"),
            ("{credential.a b}", "does not name a field"),
            ("x {credential.token", "does not end with }"),
        ] {
            assert!(placeholders(text).expect_err(text).contains(reason), "{text}");
        }
        assert_eq!(placeholders("{other} {{ jinja }} {").expect("no placeholder"), []);
    }

    #[test]
    fn missing_fields_are_named_and_optional_ones_left_out() {
        let text = r#"{"a": "{credential.key}", "b": {"c": "{credential.region?}", "d": ["{credential.region?}", "x", 1, null]},
            "e": "{credential.other} {credential.key}"}"#;
        let connector = super::super::tests::connector(text, &["{resource_id.host}.s3.{credential.region?}.example.com"]);
        let missing = connector.filled_config("r", &none).expect_err("fields are missing");
        assert_eq!(missing, ["key", "other"]);
        let filled = connector.filled_config("r", &|field| (field != "region").then(|| field.to_uppercase())).expect("filled");
        assert_eq!(serde_json::json!(filled), serde_json::json!({"a": "KEY", "b": {"d": ["x", 1, null]}, "e": "OTHER KEY"}));
        let fields: Vec<(String, bool)> =
            connector.credential_fields().into_iter().map(|field| (field.name, field.is_optional)).collect();
        assert_eq!(fields, [("key".into(), false), ("other".into(), false), ("region".into(), true)]);
    }
}
