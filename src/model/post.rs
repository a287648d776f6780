//! The list of POST requests that only read. `egress` refuses all others.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// A POST request that only reads. There are no wildcards: anything that the rule does not mention is refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostRule {
    /// The scheme, host, port and path, without a query. `{name}` is replaced by a value of the connection.
    pub url: String,
    /// Why the request changes nothing, for the reviewers of the list.
    pub why: String,
    /// The allowed query parameters.
    #[serde(default)]
    pub query: Shape,
    /// Headers that must be sent with exactly these values; names in lower case.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    pub body: BodyRule,
    /// True if the request may be repeated even though the first one may have arrived.
    #[serde(default)]
    pub idempotent: bool,
}

/// The allowed keys. A key with a fixed value is also required.
pub type Shape = BTreeMap<String, Allowed>;

/// The allowed body.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BodyRule {
    /// The body must be empty.
    None,
    /// The JSON value `null`, for functions without arguments of an API whose bodies are JSON.
    Null,
    /// A form (`application/x-www-form-urlencoded`).
    Form(Shape),
    /// A JSON object.
    Json(Shape),
}

impl BodyRule {
    /// Returns `none`, `null`, `form` or `json`.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            BodyRule::None => "none",
            BodyRule::Null => "null",
            BodyRule::Form(_) => "form",
            BodyRule::Json(_) => "json",
        }
    }
}

/// The allowed values of a key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Allowed {
    /// Any string, number or boolean, or a list of them, but no object.
    Any,
    /// Exactly this value. The key is required.
    Is(Value),
    /// One of these values.
    OneOf(Vec<Value>),
    /// One of these SQL statements. `{name}` in a statement stands for one identifier in double quotes.
    Sql(Vec<String>),
    /// An object of this shape.
    Object(Shape),
}

/// The rules of one source.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Posts {
    /// Where the rules are configured, for the message when a request is refused. Empty if the source does not have rules.
    pub list: String,
    pub rules: Vec<PostRule>,
}

impl PostRule {
    /// Returns the rule with every text passed through `fill`, which replaces `{name}` with values of the connection. The
    /// first argument of `fill` is true if the text is the URL.
    ///
    /// # Errors
    /// Returns the first error of `fill`.
    pub fn filled<E>(&self, fill: &dyn Fn(bool, &str) -> Result<String, E>) -> Result<PostRule, E> {
        let mut headers = BTreeMap::new();
        for (name, value) in &self.headers {
            headers.insert(name.clone(), fill(false, value)?);
        }
        Ok(PostRule {
            url: fill(true, &self.url)?,
            why: self.why.clone(),
            query: filled(&self.query, fill)?,
            headers,
            body: match &self.body {
                BodyRule::None => BodyRule::None,
                BodyRule::Null => BodyRule::Null,
                BodyRule::Form(shape) => BodyRule::Form(filled(shape, fill)?),
                BodyRule::Json(shape) => BodyRule::Json(filled(shape, fill)?),
            },
            idempotent: self.idempotent,
        })
    }
}

fn filled<E>(shape: &Shape, fill: &dyn Fn(bool, &str) -> Result<String, E>) -> Result<Shape, E> {
    let value = |value: &Value| match value {
        Value::String(text) => fill(false, text).map(Value::String),
        other => Ok(other.clone()),
    };
    let mut out = Shape::new();
    for (key, allowed) in shape {
        let allowed = match allowed {
            Allowed::Any => Allowed::Any,
            // What is in braces here stands for an identifier, and not for a value of the connection.
            Allowed::Sql(statements) => Allowed::Sql(statements.clone()),
            Allowed::Is(one) => Allowed::Is(value(one)?),
            Allowed::OneOf(list) => Allowed::OneOf(list.iter().map(value).collect::<Result<_, E>>()?),
            Allowed::Object(shape) => Allowed::Object(filled(shape, fill)?),
        };
        out.insert(key.clone(), allowed);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_rule_is_read_strictly_and_its_parts_are_filled() {
        let rule: PostRule = serde_json::from_value(json!({
            "url": "{base}/token", "why": "a token", "headers": {"x-target": "{part}"},
            "query": {"account": {"is": "{part}"}},
            "body": {"form": {"grant_type": {"is": "x"}, "n": {"one_of": ["{part}", 1]}, "o": {"object": {"p": {"is": "{part}"}}}}}
        }))
        .unwrap();
        let fill = |address: bool, text: &str| match text.contains("{missing}") {
            true => Err(()),
            false => Ok(text.replace("{base}", "https://a.example").replace("{part}", if address { "%7E" } else { "~" })),
        };
        let filled = rule.filled(&fill).unwrap();
        assert_eq!(filled.url, "https://a.example/token");
        assert_eq!(filled.headers["x-target"], "~");
        assert_eq!(filled.query["account"], Allowed::Is(json!("~")));
        let BodyRule::Form(shape) = &filled.body else { panic!("{filled:?}") };
        assert_eq!(shape["n"], Allowed::OneOf(vec![json!("~"), json!(1)]));
        assert!(PostRule { url: "{missing}".to_string(), ..rule }.filled(&fill).is_err());
        for broken in [
            json!({"url": "u", "why": "w"}),
            json!({"url": "u", "why": "w", "body": "any"}),
            json!({"url": "u", "why": "w", "body": "none", "method": "PUT"}),
            json!({"url": "u", "why": "w", "body": {"form": {"a": {"matches": ".*"}}}}),
        ] {
            assert!(serde_json::from_value::<PostRule>(broken.clone()).is_err(), "{broken}");
        }
        assert_eq!(
            serde_json::from_value::<PostRule>(json!({"url": "u", "why": "w", "body": "none"})).unwrap().body,
            BodyRule::None
        );
    }
}
