//! The parameters of an operation: the required ones, and the one that limits the page size.

use super::address::{host_of, looks_secret, same_origin};
use super::refs::{DocumentSet, Node};
use super::server::join;
use crate::credentials::redact;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use url::Url;

/// Limit on the parameters of one operation.
const MAX_PARAMETERS: usize = 200;

/// Names of parameters with which services limit the page size, the most common first.
pub const LIMIT_NAMES: [&str; 9] =
    ["limit", "per_page", "perPage", "pageSize", "page_size", "$top", "maxResults", "max_results", "count"];

/// A GET request that can be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GetRequest {
    pub url: Url,
    /// Required header parameters, with public values from the description.
    pub headers: Vec<(String, String)>,
}

/// The parameter that limits the page size of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageLimit {
    pub name: String,
    pub minimum: u64,
    pub maximum: u64,
    /// The values that the description allows; empty if it does not list them.
    pub allowed: Vec<u64>,
}

impl PageLimit {
    /// The value to send in order to receive at most `wanted` items. This is the largest allowed value that does not exceed
    /// `wanted`.
    #[must_use]
    pub fn value(&self, wanted: u64) -> u64 {
        if self.allowed.is_empty() {
            return wanted.min(self.maximum).max(self.minimum);
        }
        let fits = self.allowed.iter().copied().filter(|value| *value <= wanted && *value > 0).max();
        fits.or_else(|| self.allowed.iter().copied().filter(|value| *value > 0).min()).unwrap_or(wanted)
    }
}

/// A parameter of the description, with a value to send if the description has one.
pub struct Parameter {
    name: String,
    location: String,
    required: bool,
    value: Option<String>,
    schema: Value,
}

/// The parameters of path item and operation. Those of the operation replace those of the path item.
pub fn parameters<'a>(documents: &'a DocumentSet, item: Node<'a>, operation: Node<'a>) -> Vec<Parameter> {
    let mut list: Vec<Parameter> = Vec::new();
    let nodes = [operation, item].into_iter().filter_map(|node| node.get("parameters")).flat_map(Node::items);
    for node in nodes.take(MAX_PARAMETERS) {
        // A parameter that cannot be read may be required, so it is treated as required.
        let unreadable = || Parameter {
            name: "(unreadable)".into(),
            location: "query".into(),
            required: true,
            value: None,
            schema: Value::Null,
        };
        let parameter = documents.follow(node).ok().and_then(|node| parameter(documents, node)).unwrap_or_else(unreadable);
        if !list.iter().any(|known| known.name == parameter.name && known.location == parameter.location) {
            list.push(parameter);
        }
    }
    list
}

fn parameter<'a>(documents: &'a DocumentSet, node: Node<'a>) -> Option<Parameter> {
    let schema = node.get("schema").and_then(|schema| documents.follow(schema).ok());
    let of_schema = |name: &str| schema.and_then(|schema| schema.value.get(name));
    let examples = node
        .get("examples")
        .into_iter()
        .flat_map(Node::fields)
        .find_map(|(_, example)| documents.follow(example).ok()?.value.get("value"));
    let first_of = |list: Option<&'a Value>| list.and_then(Value::as_array).and_then(|list| list.first());
    let candidates = [
        of_schema("const"),
        of_schema("default"),
        node.value.get("example"),
        examples,
        of_schema("example"),
        first_of(of_schema("examples")),
    ];
    let location = node.text("in")?.to_string();
    Some(Parameter {
        name: node.text("name")?.to_string(),
        required: location == "path" || node.value.get("required") == Some(&Value::Bool(true)),
        value: candidates.into_iter().flatten().find_map(primitive),
        schema: schema.map(|schema| schema.value.clone()).filter(|schema| schema.to_string().len() < 4096).unwrap_or_default(),
        location,
    })
}

fn primitive(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() && text.len() <= 200 => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

/// Builds the request with the values that the description has for the required parameters.
///
/// # Errors
/// The reason why the operation cannot be called.
pub fn build_request(base: &Url, path: &str, parameters: &[Parameter]) -> Result<GetRequest, String> {
    let mut path = path.to_string();
    let mut query = Vec::new();
    let mut headers = Vec::new();
    for parameter in parameters.iter().filter(|parameter| parameter.required) {
        let Parameter { name, location, value, .. } = parameter;
        let Some(value) = value else {
            return Err(format!(
                "the {location} parameter {name} is required, but the description has no default or example for it"
            ));
        };
        match location.as_str() {
            "path" => path = path.replace(&format!("{{{name}}}"), &utf8_percent_encode(value, NON_ALPHANUMERIC).to_string()),
            "query" | "cookie" if looks_secret(name) => {
                return Err(format!(
                    "the {location} parameter {name} looks like a secret, and AAM sends secrets only in headers"
                ));
            }
            "query" => query.push((name.clone(), value.clone())),
            "header" => {
                let standard = ["authorization", "accept", "content-type", "host", "cookie", "content-length", "connection"];
                if !standard.contains(&name.to_ascii_lowercase().as_str()) {
                    if !is_header(name, value) {
                        return Err(format!("the header parameter {name} is not a valid header"));
                    }
                    headers.push((name.clone(), value.clone()));
                }
            }
            _ => {
                return Err(format!("the {location} parameter {name} is required, but AAM does not send {location} parameters"));
            }
        }
    }
    if let Some(open) = path.find('{').filter(|at| path[*at..].contains('}')) {
        return Err(format!(
            "the path contains {}, but no parameter with that name is described",
            redact::scrub_and_cut(&path[open..], 60)
        ));
    }
    let mut url = join(base, &path)?;
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    if !same_origin(&url, base) {
        return Err(format!("the path leads to another host, {}", host_of(&url)));
    }
    Ok(GetRequest { url, headers })
}

/// Whether `name` and `value` form a valid HTTP header.
#[must_use]
pub fn is_header(name: &str, value: &str) -> bool {
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    !name.is_empty() && name.chars().all(token) && value.chars().all(|c| matches!(c, ' '..='~'))
}

/// The parameter that limits the page size, if the operation has one.
pub fn page_limit(parameters: &[Parameter]) -> Option<PageLimit> {
    let same = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
    let parameter = LIMIT_NAMES
        .iter()
        .find_map(|name| parameters.iter().find(|parameter| parameter.location == "query" && same(&parameter.name, name)))?;
    // Pydantic describes "integer or null" with anyOf. The bounds are then in the branches.
    let branches = parameter.schema["anyOf"].as_array().cloned().unwrap_or_default();
    let number = |name: &str| std::iter::once(&parameter.schema).chain(&branches).find_map(|schema| schema[name].as_u64());
    let bound = |name: &str, exclusive: &str| match (number(name), &parameter.schema[exclusive]) {
        (Some(value), Value::Bool(true)) => (Some(value), true),
        (_, Value::Number(value)) => (value.as_u64(), true),
        (value, _) => (value, false),
    };
    let minimum = match bound("minimum", "exclusiveMinimum") {
        (Some(value), true) => value.saturating_add(1),
        (value, _) => value.unwrap_or(1),
    };
    let maximum = match bound("maximum", "exclusiveMaximum") {
        (Some(value), true) => value.saturating_sub(1),
        (value, _) => value.unwrap_or(u64::MAX),
    };
    let allowed = parameter.schema["enum"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
    Some(PageLimit { name: parameter.name.clone(), minimum, maximum: maximum.max(1), allowed })
}
