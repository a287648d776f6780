//! The GET operations of a description: where they live, what they need, what they answer.

use super::address::{host_of, looks_secret, same_origin};
use super::refs::{Library, Node};
use super::schema::{Expander, size};
use super::server::{Servers, join};
use super::streams::{Record, record};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use std::collections::BTreeSet;
use url::Url;

/// Operations that are looked at; more are counted as truncated.
const MAX_OPERATIONS: usize = 5000;
/// Bytes of all schemas together; later operations are listed without one.
const MAX_SCHEMA_BYTES: usize = 8 << 20;
/// Parameters of one operation.
const MAX_PARAMETERS: usize = 200;

/// Parameter names by which services limit a page, the best first.
pub const LIMIT_NAMES: [&str; 9] = [
    "limit",
    "per_page",
    "perPage",
    "pageSize",
    "page_size",
    "$top",
    "maxResults",
    "max_results",
    "count",
];

/// One GET operation.
#[derive(Clone, Debug)]
pub struct Operation {
    /// operationId, else the path; unique within the description.
    pub name: String,
    pub path: String,
    /// The address of the call with the values of required parameters, without a limit; or why there is none.
    pub call: Result<Call, String>,
    /// The parameter that limits a page.
    pub limit: Option<Limit>,
    /// Ways to authenticate, any of which will do; an empty way needs nothing. Empty: nothing is needed.
    pub security: Vec<Way>,
    /// The schema of a good answer and where its records are.
    pub answer: Option<Record>,
    /// The description marks it with `x-aam-health: true`.
    pub marked: bool,
}

/// Schemes that are needed together, with the scopes that each asks for.
pub type Way = Vec<(String, Vec<String>)>;

/// A GET that can be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub url: Url,
    /// Required header parameters; public values from the description.
    pub headers: Vec<(String, String)>,
}

/// The page-limit parameter of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    pub name: String,
    pub minimum: u64,
    pub maximum: u64,
    /// The values it may have, where the description lists them.
    pub allowed: Vec<u64>,
}

impl Limit {
    /// The value to send for at most `wanted` items: the largest that is allowed and not above it.
    #[must_use]
    pub fn value(&self, wanted: u64) -> u64 {
        if self.allowed.is_empty() {
            return wanted.min(self.maximum).max(self.minimum);
        }
        let fits = self
            .allowed
            .iter()
            .copied()
            .filter(|value| *value <= wanted && *value > 0)
            .max();
        fits.or_else(|| {
            self.allowed
                .iter()
                .copied()
                .filter(|value| *value > 0)
                .min()
        })
        .unwrap_or(wanted)
    }
}

/// All operations, sorted by path, and how many GET, HEAD and writing operations there are.
#[derive(Debug, Default)]
pub struct Operations {
    pub list: Vec<Operation>,
    pub reading: usize,
    /// Security schemes of the operations that write, with the number of such operations.
    pub writing: Vec<Vec<Way>>,
    /// Streams that cannot be described, with the reason.
    pub skipped: Vec<(String, String)>,
    pub truncated: bool,
}

/// Reads all operations. A broken one is skipped with its reason; the others stand.
#[must_use]
pub fn read(library: &Library, servers: &Servers) -> Operations {
    let mut found = Operations::default();
    let mut expander = Expander::new(library);
    let mut bytes = 0;
    let mut names = BTreeSet::new();
    let root = library.root();
    let mut paths: Vec<(&str, Node<'_>)> = root
        .get("paths")
        .into_iter()
        .flat_map(Node::fields)
        .filter(|(path, _)| path.starts_with('/'))
        .collect();
    paths.sort_unstable_by_key(|(path, _)| *path);
    for (path, item) in paths {
        let item = match library.follow(item) {
            Ok(item) => item,
            Err(reason) => {
                found.skipped.push((path.to_string(), reason));
                continue;
            }
        };
        for method in ["post", "put", "patch", "delete"] {
            found
                .writing
                .extend(item.get(method).map(|operation| security(operation, root)));
        }
        let Some(get) = item.get("get").filter(|get| get.value.is_object()) else {
            continue;
        };
        found.reading += 1;
        if found.list.len() >= MAX_OPERATIONS {
            found.truncated = true;
            continue;
        }
        let mut name = get
            .text("operationId")
            .filter(|id| !id.is_empty())
            .unwrap_or(path)
            .chars()
            .take(200)
            .collect::<String>();
        // Ids ought to be unique and often are not; a path always is.
        if !names.insert(name.clone()) {
            name = path.to_string();
        }
        let answer = if bytes < MAX_SCHEMA_BYTES {
            answer(library, get)
        } else {
            Ok(None)
        };
        let answer = match answer {
            Ok(schema) => schema.map(|schema| record(expander.expand(schema), path)),
            Err(reason) => {
                found.skipped.push((name, reason));
                continue;
            }
        };
        if let Some(reason) = answer
            .as_ref()
            .and_then(|record| record.schema["x-aam-unresolved"].as_str())
        {
            found.skipped.push((name, reason.to_string()));
            continue;
        }
        bytes += answer.as_ref().map_or(0, |record| size(&record.schema));
        found.truncated |= bytes >= MAX_SCHEMA_BYTES;
        let parameters = parameters(library, item, get);
        let base = servers
            .of(get)
            .or_else(|| servers.of(item))
            .unwrap_or_else(|| servers.base());
        found.list.push(Operation {
            call: base.and_then(|base| call(&base, path, &parameters)),
            limit: limit(&parameters),
            security: security(get, root),
            marked: get.value.get("x-aam-health") == Some(&Value::Bool(true)),
            path: path.to_string(),
            name,
            answer,
        });
    }
    found
}

/// The schema of the JSON answer that a good call gives.
fn answer<'a>(library: &'a Library, operation: Node<'a>) -> Result<Option<Node<'a>>, String> {
    let Some(responses) = operation.get("responses") else {
        return Ok(None);
    };
    let mut good: Vec<&str> = responses
        .fields()
        .map(|(code, _)| code)
        .filter(|code| code.starts_with('2') && *code != "200")
        .collect();
    good.sort_unstable();
    for code in ["200"].into_iter().chain(good).chain(["default"]) {
        let Some(response) = responses.get(code) else {
            continue;
        };
        let response = library.follow(response)?;
        let json = response
            .get("content")
            .into_iter()
            .flat_map(Node::fields)
            .find(|(kind, _)| may_be_json(kind));
        if let Some((_, media)) = json {
            return Ok(Some(media.get("schema").unwrap_or(Node {
                document: media.document,
                value: &Value::Bool(true),
            })));
        }
    }
    Ok(None)
}

/// JSON, or left open: Spring's generator writes `*/*` for what is sent as JSON.
fn may_be_json(media: &str) -> bool {
    is_json(media) || matches!(media.trim(), "*/*" | "application/*")
}

/// Whether a media type is JSON: `application/json`, `text/json`, `…+json`.
#[must_use]
pub fn is_json(media: &str) -> bool {
    let bare = media
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    bare == "application/json" || bare == "text/json" || bare.ends_with("+json")
}

struct Parameter {
    name: String,
    place: String,
    required: bool,
    value: Option<String>,
    schema: Value,
}

/// The parameters of path item and operation; the operation's replace the item's.
fn parameters<'a>(library: &'a Library, item: Node<'a>, operation: Node<'a>) -> Vec<Parameter> {
    let mut list: Vec<Parameter> = Vec::new();
    let nodes = [operation, item]
        .into_iter()
        .filter_map(|node| node.get("parameters"))
        .flat_map(Node::items);
    for node in nodes.take(MAX_PARAMETERS) {
        // One that cannot be read may be required, so it counts as such.
        let unreadable = || Parameter {
            name: "(unreadable)".into(),
            place: "query".into(),
            required: true,
            value: None,
            schema: Value::Null,
        };
        let parameter = library
            .follow(node)
            .ok()
            .and_then(|node| parameter(library, node))
            .unwrap_or_else(unreadable);
        if !list
            .iter()
            .any(|known| known.name == parameter.name && known.place == parameter.place)
        {
            list.push(parameter);
        }
    }
    list
}

fn parameter<'a>(library: &'a Library, node: Node<'a>) -> Option<Parameter> {
    let schema = node
        .get("schema")
        .and_then(|schema| library.follow(schema).ok());
    let of_schema = |name: &str| schema.and_then(|schema| schema.value.get(name));
    let examples = node
        .get("examples")
        .into_iter()
        .flat_map(Node::fields)
        .find_map(|(_, example)| library.follow(example).ok()?.value.get("value"));
    let first_of =
        |list: Option<&'a Value>| list.and_then(Value::as_array).and_then(|list| list.first());
    let candidates = [
        of_schema("const"),
        of_schema("default"),
        node.value.get("example"),
        examples,
        of_schema("example"),
        first_of(of_schema("examples")),
    ];
    let place = node.text("in")?.to_string();
    Some(Parameter {
        name: node.text("name")?.to_string(),
        required: place == "path" || node.value.get("required") == Some(&Value::Bool(true)),
        value: candidates.into_iter().flatten().find_map(primitive),
        schema: schema
            .map(|schema| schema.value.clone())
            .filter(|schema| schema.to_string().len() < 4096)
            .unwrap_or_default(),
        place,
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

/// The address of a call, with the described values of what is required.
fn call(base: &Url, path: &str, parameters: &[Parameter]) -> Result<Call, String> {
    let mut path = path.to_string();
    let mut query = Vec::new();
    let mut headers = Vec::new();
    for parameter in parameters.iter().filter(|parameter| parameter.required) {
        let Parameter {
            name, place, value, ..
        } = parameter;
        let Some(value) = value else {
            return Err(format!(
                "the {place} parameter {name} is required and has no default or example"
            ));
        };
        match place.as_str() {
            "path" => {
                path = path.replace(
                    &format!("{{{name}}}"),
                    &utf8_percent_encode(value, NON_ALPHANUMERIC).to_string(),
                )
            }
            "query" | "cookie" if looks_secret(name) => {
                return Err(format!(
                    "the {place} parameter {name} looks like a secret, and no secret is sent so"
                ));
            }
            "query" => query.push((name.clone(), value.clone())),
            "header" => {
                let standard = [
                    "authorization",
                    "accept",
                    "content-type",
                    "host",
                    "cookie",
                    "content-length",
                    "connection",
                ];
                if !standard.contains(&name.to_ascii_lowercase().as_str()) {
                    if !is_header(name, value) {
                        return Err(format!("the header parameter {name} cannot be sent"));
                    }
                    headers.push((name.clone(), value.clone()));
                }
            }
            _ => {
                return Err(format!(
                    "the {place} parameter {name} is required, and such are not sent"
                ));
            }
        }
    }
    if let Some(open) = path.find('{').filter(|at| path[*at..].contains('}')) {
        return Err(format!(
            "the path names {}, which no parameter describes",
            path[open..].chars().take(60).collect::<String>()
        ));
    }
    let mut url = join(base, &path)?;
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    if !same_origin(&url, base) {
        return Err(format!("the path leads to {}", host_of(&url)));
    }
    Ok(Call { url, headers })
}

/// Whether name and value can be an HTTP header.
#[must_use]
pub fn is_header(name: &str, value: &str) -> bool {
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    !name.is_empty() && name.chars().all(token) && value.chars().all(|c| matches!(c, ' '..='~'))
}

fn limit(parameters: &[Parameter]) -> Option<Limit> {
    let same = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
    let parameter = LIMIT_NAMES.iter().find_map(|name| {
        parameters
            .iter()
            .find(|parameter| parameter.place == "query" && same(&parameter.name, name))
    })?;
    // Pydantic says "integer or null" with anyOf; the bounds are then in the branch.
    let branches = parameter.schema["anyOf"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let number = |name: &str| {
        std::iter::once(&parameter.schema)
            .chain(&branches)
            .find_map(|schema| schema[name].as_u64())
    };
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
    let allowed = parameter.schema["enum"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_u64)
        .collect();
    Some(Limit {
        name: parameter.name.clone(),
        minimum,
        maximum: maximum.max(1),
        allowed,
    })
}

/// What an operation asks for: its own `security`, else that of the description.
fn security(operation: Node<'_>, root: Node<'_>) -> Vec<Way> {
    let declared = operation.get("security").or_else(|| root.get("security"));
    let scopes = |node: Node<'_>| {
        node.items()
            .filter_map(|scope| scope.value.as_str().map(str::to_string))
            .collect()
    };
    declared
        .into_iter()
        .flat_map(Node::items)
        .map(|way| {
            way.fields()
                .map(|(name, list)| (name.to_string(), scopes(list)))
                .collect()
        })
        .collect()
}
