//! The GET operations of a description: their URLs, parameters, security and responses.

use super::memory;
use super::parameters::{GetRequest, PageLimit, build_request, page_limit, parameters};
use super::records::{RecordPath, ResponseRecords, locate_records};
use super::refs::{DocumentSet, Node};
use super::schema::Expander;
use super::server::Servers;
use crate::credentials::redact;
use crate::memory_budget::MemoryMeter;
use serde_json::Value;
use std::collections::BTreeSet;

/// Limit on the operations that are read. If there are more, `truncated` is set.
const MAX_OPERATIONS: usize = 5000;
/// Limit on the bytes of all schemas together. Operations beyond it are listed without a schema.
const MAX_SCHEMA_BYTES: usize = 8 << 20;

/// One GET operation.
#[derive(Clone, Debug)]
pub struct Operation {
    /// The operationId, or the path if there is none. Unique within the description.
    pub name: String,
    pub path: String,
    /// The request with the values of its required parameters and without a page limit, or the reason why it cannot be called.
    pub call: Result<GetRequest, String>,
    /// The parameter that limits the page size.
    pub limit: Option<PageLimit>,
    /// Alternative security requirements; meeting one of them is enough. An empty requirement, or an empty list,
    /// means that no credential is needed.
    pub security: Vec<SecurityRequirement>,
    /// The schema of a successful response and where its records are.
    pub answer: Option<ResponseSchema>,
    /// Whether the description marks the operation with `x-aam-health: true`.
    pub marked: bool,
}

/// The schema of a successful response as text, which takes a small part of the memory of a value, and where the records of
/// the response are.
#[derive(Clone, Debug, PartialEq)]
pub struct ResponseSchema {
    text: Box<str>,
    pub path: RecordPath,
}

impl ResponseSchema {
    /// Encodes the schema of `records`.
    #[must_use]
    pub fn new(records: &ResponseRecords) -> ResponseSchema {
        ResponseSchema { text: records.schema.to_string().into(), path: records.path.clone() }
    }

    /// Decodes the schema.
    #[must_use]
    pub fn schema(&self) -> Value {
        // The text was made from a value, so it is valid.
        serde_json::from_str(&self.text).unwrap_or_default()
    }
}

/// One Security Requirement Object of OpenAPI: schemes that are needed together, each with its scopes.
pub type SecurityRequirement = Vec<(String, Vec<String>)>;

/// All GET operations, sorted by path, and what is known about the writing operations.
#[derive(Debug, Default)]
pub struct Operations {
    pub list: Vec<Operation>,
    /// The number of GET operations in the description.
    pub reading: usize,
    /// The security requirements of each writing operation (POST, PUT, PATCH, DELETE).
    pub writing: Vec<Vec<SecurityRequirement>>,
    /// Operations that cannot be described, with the reason.
    pub skipped: Vec<(String, String)>,
    pub truncated: bool,
}

/// Reads all operations. What `memory` does not allow is left out, and `truncated` is set. An invalid one is skipped with its reason; the others are kept.
#[must_use]
pub fn read(documents: &DocumentSet, servers: &Servers, memory: &MemoryMeter) -> Operations {
    let mut found = Operations::default();
    let mut expander = Expander::new(documents);
    let mut bytes = 0;
    let mut names = BTreeSet::new();
    let root = documents.root();
    let mut paths: Vec<(&str, Node<'_>)> =
        root.get("paths").into_iter().flat_map(Node::fields).filter(|(path, _)| path.starts_with('/')).collect();
    paths.sort_unstable_by_key(|(path, _)| *path);
    for (path, item) in paths {
        let item = match documents.follow(item) {
            Ok(item) => item,
            Err(reason) => {
                found.skipped.push((path.to_string(), reason));
                continue;
            }
        };
        for method in ["post", "put", "patch", "delete"] {
            let requirements = item.get(method).map(|operation| security(operation, root));
            match requirements.map(|requirements| memory.take(security_bytes(&requirements)).map(|()| requirements)) {
                Some(Ok(requirements)) => found.writing.push(requirements),
                Some(Err(_)) => found.truncated = true,
                None => {}
            }
        }
        let Some(get) = item.get("get").filter(|get| get.value.is_object()) else {
            continue;
        };
        found.reading += 1;
        if found.list.len() >= MAX_OPERATIONS {
            found.truncated = true;
            continue;
        }
        let mut name = redact::shortened(get.text("operationId").filter(|id| !id.is_empty()).unwrap_or(path), 200);
        // The specification requires unique operationIds, but they often are not unique. Paths always are.
        if !names.insert(name.clone()) {
            name = path.to_string();
        }
        let answer = if bytes < MAX_SCHEMA_BYTES { response_schema(documents, get) } else { Ok(None) };
        let answer = match answer {
            Ok(schema) => schema.map(|schema| locate_records(expander.expand(schema), path)),
            Err(reason) => {
                found.skipped.push((name, reason));
                continue;
            }
        };
        if let Some(reason) = answer.as_ref().and_then(|records| records.schema["x-aam-unresolved"].as_str()) {
            found.skipped.push((name, reason.to_string()));
            continue;
        }
        let answer = answer.as_ref().map(ResponseSchema::new);
        let length = answer.as_ref().map_or(0, |answer| answer.text.len());
        let requirements = security(get, root);
        let needed = memory::of_schema(length).saturating_add(security_bytes(&requirements)).saturating_add(OPERATION_BYTES);
        if memory.take(needed).is_err() {
            found.truncated = true;
            break;
        }
        bytes += length;
        found.truncated |= bytes >= MAX_SCHEMA_BYTES;
        let parameters = parameters(documents, item, get);
        let base = servers.base_of(get).or_else(|| servers.base_of(item)).unwrap_or_else(|| servers.base());
        found.list.push(Operation {
            call: base.and_then(|base| build_request(&base, path, &parameters)),
            limit: page_limit(&parameters),
            security: requirements,
            marked: get.value.get("x-aam-health") == Some(&Value::Bool(true)),
            path: path.to_string(),
            name,
            answer,
        });
    }
    found
}

/// The memory of an operation besides its schema and its security requirements.
const OPERATION_BYTES: u64 = 4 << 10;

/// The memory of security requirements.
fn security_bytes(requirements: &[SecurityRequirement]) -> u64 {
    let scopes = |scopes: &Vec<String>| scopes.iter().map(|scope| scope.len() + 40).sum::<usize>();
    let bytes: usize = requirements.iter().flatten().map(|(name, list)| name.len() + 80 + scopes(list)).sum();
    bytes as u64
}

/// The schema of the JSON body of a successful response.
fn response_schema<'a>(documents: &'a DocumentSet, operation: Node<'a>) -> Result<Option<Node<'a>>, String> {
    let Some(responses) = operation.get("responses") else {
        return Ok(None);
    };
    let mut success: Vec<&str> =
        responses.fields().map(|(code, _)| code).filter(|code| code.starts_with('2') && *code != "200").collect();
    success.sort_unstable();
    for code in ["200"].into_iter().chain(success).chain(["default"]) {
        let Some(response) = responses.get(code) else {
            continue;
        };
        let response = documents.follow(response)?;
        let json = response.get("content").into_iter().flat_map(Node::fields).find(|(kind, _)| may_be_json(kind));
        if let Some((_, media)) = json {
            return Ok(Some(media.get("schema").unwrap_or(Node { document: media.document, value: &Value::Bool(true) })));
        }
    }
    Ok(None)
}

/// Whether the media type is JSON or unspecific. springdoc writes `*/*` for responses that are JSON.
fn may_be_json(media: &str) -> bool {
    is_json(media) || matches!(media.trim(), "*/*" | "application/*")
}

/// Whether a media type is JSON: `application/json`, `text/json`, `…+json`.
#[must_use]
pub fn is_json(media: &str) -> bool {
    let bare = media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    bare == "application/json" || bare == "text/json" || bare.ends_with("+json")
}

/// The security requirements of an operation: its own `security`, or that of the description if it does not have one.
fn security(operation: Node<'_>, root: Node<'_>) -> Vec<SecurityRequirement> {
    let declared = operation.get("security").or_else(|| root.get("security"));
    let scopes = |node: Node<'_>| node.items().filter_map(|scope| scope.value.as_str().map(str::to_string)).collect();
    declared
        .into_iter()
        .flat_map(Node::items)
        .map(|requirement| requirement.fields().map(|(name, list)| (name.to_string(), scopes(list))).collect())
        .collect()
}
