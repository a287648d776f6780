//! The GET operations of a description: where they live, what they need, what they answer.

use super::parameters::{Call, Limit, call, limit, parameters};
use super::refs::{Library, Node};
use super::schema::{Expander, size};
use super::server::Servers;
use super::streams::{Record, record};
use serde_json::Value;
use std::collections::BTreeSet;

/// Operations that are looked at; more are counted as truncated.
const MAX_OPERATIONS: usize = 5000;
/// Bytes of all schemas together; later operations are listed without one.
const MAX_SCHEMA_BYTES: usize = 8 << 20;
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
    let mut paths: Vec<(&str, Node<'_>)> =
        root.get("paths").into_iter().flat_map(Node::fields).filter(|(path, _)| path.starts_with('/')).collect();
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
            found.writing.extend(item.get(method).map(|operation| security(operation, root)));
        }
        let Some(get) = item.get("get").filter(|get| get.value.is_object()) else {
            continue;
        };
        found.reading += 1;
        if found.list.len() >= MAX_OPERATIONS {
            found.truncated = true;
            continue;
        }
        let mut name = get.text("operationId").filter(|id| !id.is_empty()).unwrap_or(path).chars().take(200).collect::<String>();
        // Ids ought to be unique and often are not; a path always is.
        if !names.insert(name.clone()) {
            name = path.to_string();
        }
        let answer = if bytes < MAX_SCHEMA_BYTES { answer(library, get) } else { Ok(None) };
        let answer = match answer {
            Ok(schema) => schema.map(|schema| record(expander.expand(schema), path)),
            Err(reason) => {
                found.skipped.push((name, reason));
                continue;
            }
        };
        if let Some(reason) = answer.as_ref().and_then(|record| record.schema["x-aam-unresolved"].as_str()) {
            found.skipped.push((name, reason.to_string()));
            continue;
        }
        bytes += answer.as_ref().map_or(0, |record| size(&record.schema));
        found.truncated |= bytes >= MAX_SCHEMA_BYTES;
        let parameters = parameters(library, item, get);
        let base = servers.of(get).or_else(|| servers.of(item)).unwrap_or_else(|| servers.base());
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
    let mut good: Vec<&str> =
        responses.fields().map(|(code, _)| code).filter(|code| code.starts_with('2') && *code != "200").collect();
    good.sort_unstable();
    for code in ["200"].into_iter().chain(good).chain(["default"]) {
        let Some(response) = responses.get(code) else {
            continue;
        };
        let response = library.follow(response)?;
        let json = response.get("content").into_iter().flat_map(Node::fields).find(|(kind, _)| may_be_json(kind));
        if let Some((_, media)) = json {
            return Ok(Some(media.get("schema").unwrap_or(Node { document: media.document, value: &Value::Bool(true) })));
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
    let bare = media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    bare == "application/json" || bare == "text/json" || bare.ends_with("+json")
}

/// What an operation asks for: its own `security`, else that of the description.
fn security(operation: Node<'_>, root: Node<'_>) -> Vec<Way> {
    let declared = operation.get("security").or_else(|| root.get("security"));
    let scopes = |node: Node<'_>| node.items().filter_map(|scope| scope.value.as_str().map(str::to_string)).collect();
    declared
        .into_iter()
        .flat_map(Node::items)
        .map(|way| way.fields().map(|(name, list)| (name.to_string(), scopes(list))).collect())
        .collect()
}
