//! The GET operations of a description: their URLs, parameters, security and responses.

use super::address::same_origin;
use super::memory;
use super::parameters::{GetRequest, PageLimit, build_request, page_limit, parameters};
use super::records::{ResponseRecords, locate_records};
use super::refs::{DocumentSet, Node};
use super::schema::{Expander, json_bytes};
use super::server::Servers;
use super::settings::ServiceSettings;
use super::side_effects::{self, NameRisk};
use crate::credentials::redact;
use crate::memory_budget::MemoryMeter;
use crate::policy::ServiceAuth;
use serde_json::Value;
use std::collections::BTreeSet;
use url::Url;

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
    pub call: Result<GetRequest, Uncallable>,
    /// The parameter that limits the page size.
    pub limit: Option<PageLimit>,
    /// Alternative security requirements; meeting one of them is enough. An empty requirement, or an empty list,
    /// means that no credential is needed.
    pub security: Vec<SecurityRequirement>,
    /// The schema of a successful response and where its records are. `None` if the description promises something
    /// other than JSON.
    pub answer: Option<ResponseRecords>,
    /// Whether the description marks the operation with `x-aam-health: true`.
    pub marked: bool,
    pub deprecated: bool,
    /// Whether the names of the operation say that it returns a list.
    pub named_like_a_list: bool,
    /// What the names of the operation say about calling it.
    pub risk: NameRisk,
}

impl Operation {
    /// Whether the operation returns a list, as far as the description and its names say.
    #[must_use]
    pub fn is_list(&self) -> bool {
        self.answer.as_ref().is_some_and(|records| records.is_list() || (!records.described && self.named_like_a_list))
    }

    /// Whether the description describes the JSON of the response.
    #[must_use]
    pub fn is_described(&self) -> bool {
        self.answer.as_ref().is_some_and(|records| records.described)
    }
}

/// Why AAM does not call an operation: the kind, by which reasons are counted, and a message about this operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uncallable {
    pub kind: Obstacle,
    pub message: String,
    /// The server of the operation, if the policy would have to allow it.
    pub server: Option<Url>,
}

impl Uncallable {
    #[must_use]
    pub fn new(kind: Obstacle, message: impl Into<String>) -> Uncallable {
        Uncallable { kind, message: message.into(), server: None }
    }
}

/// The kinds of reasons why an operation is not called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Obstacle {
    /// The request cannot be built from the description.
    Request,
    Server,
    Denied,
    SideEffect,
    /// The operation returns the description, which proves nothing about data.
    Description,
    NotJson,
    /// The description of the operation cannot be read.
    Unreadable,
}

impl Obstacle {
    /// Continues "1 operation" and "2 operations".
    #[must_use]
    pub fn message(self, count: usize) -> &'static str {
        match (self, count == 1) {
            (Obstacle::Request, true) => "needs a value that the description does not give",
            (Obstacle::Request, false) => "need a value that the description does not give",
            (Obstacle::Server, true) => "has a server that AAM does not call",
            (Obstacle::Server, false) => "have a server that AAM does not call",
            (Obstacle::Denied, true) => "is denied by the policy",
            (Obstacle::Denied, false) => "are denied by the policy",
            (Obstacle::SideEffect, true) => "has a name that suggests a side effect or a secret",
            (Obstacle::SideEffect, false) => "have names that suggest a side effect or a secret",
            (Obstacle::Description, true) => "returns the description itself",
            (Obstacle::Description, false) => "return the description itself",
            (Obstacle::NotJson, true) => "does not return JSON",
            (Obstacle::NotJson, false) => "do not return JSON",
            (Obstacle::Unreadable, true) => "cannot be read in the description",
            (Obstacle::Unreadable, false) => "cannot be read in the description",
        }
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

/// Reads all operations. An invalid one is skipped with its reason; the others are kept. A response whose schema cannot be
/// resolved has an unknown structure, and its operation is kept. What `memory` does not allow is left out, and `truncated` is
/// set.
#[must_use]
pub fn read(documents: &DocumentSet, servers: &Servers, settings: &ServiceSettings, memory: &MemoryMeter) -> Operations {
    let mut found = Operations::default();
    let mut expander = Expander::new(documents);
    let mut bytes = 0;
    let mut names = BTreeSet::new();
    let root = documents.root();
    let credential_header = match &settings.auth {
        Some(ServiceAuth::Header(name)) => Some(name.as_str()),
        _ => None,
    };
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
        let promised = if bytes < MAX_SCHEMA_BYTES { promised_response(documents, get) } else { Promised::Unknown };
        let (answer, media) = match promised {
            Promised::Json(schema) => (Some(records_of(expander.expand(schema), path)), None),
            Promised::Unknown => (Some(ResponseRecords::unknown()), None),
            Promised::Other(media) => (None, Some(media)),
        };
        let length = answer.as_ref().map_or(0, |records| json_bytes(&records.schema));
        let requirements = security(get, root);
        let needed = memory::of_schema(length).saturating_add(security_bytes(&requirements)).saturating_add(OPERATION_BYTES);
        if memory.take(needed).is_err() {
            found.truncated = true;
            break;
        }
        bytes += length;
        found.truncated |= bytes >= MAX_SCHEMA_BYTES;
        let parameters = parameters(documents, item, get, credential_header);
        let own = servers.base_of(get).or_else(|| servers.base_of(item));
        let base = own.unwrap_or_else(|| servers.base().map_err(|message| Uncallable::new(Obstacle::Server, message)));
        let call = match media {
            Some(media) => Err(Uncallable::new(Obstacle::NotJson, format!("the description promises {media}, not JSON"))),
            None => base.and_then(|base| {
                build_request(&base, path, &parameters).map_err(|message| Uncallable::new(Obstacle::Request, message))
            }),
        };
        let call = call.and_then(|call| {
            let is_description = same_origin(&call.url, documents.url()) && call.url.path() == documents.url().path();
            if is_description {
                Err(Uncallable::new(Obstacle::Description, "it returns the description itself"))
            } else {
                Ok(call)
            }
        });
        let call = call.and_then(|call| match side_effects::filled_action(&call.url, path) {
            None => Ok(call),
            Some(name) => {
                let message = format!("the value of a parameter suggests a side effect or a secret ({name})");
                Err(Uncallable::new(Obstacle::SideEffect, message))
            }
        });
        let id = get.text("operationId");
        found.list.push(Operation {
            call,
            limit: page_limit(&parameters),
            security: requirements,
            marked: get.value.get("x-aam-health") == Some(&Value::Bool(true)),
            deprecated: get.value.get("deprecated") == Some(&Value::Bool(true)),
            named_like_a_list: side_effects::looks_like_a_list(path, id),
            risk: side_effects::assess(path, id, get.text("summary")),
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

/// The records of an expanded schema. If a `$ref` could not be resolved, the structure is unknown, and the schema says why.
fn records_of(schema: Value, path: &str) -> ResponseRecords {
    if schema.get("x-aam-unresolved").is_some() {
        return ResponseRecords { schema, ..ResponseRecords::unknown() };
    }
    locate_records(schema, path)
}

/// What the description promises as the body of a successful response.
enum Promised<'a> {
    Json(Node<'a>),
    /// Nothing, so the response may be JSON.
    Unknown,
    /// Only other media types, of which this is the first.
    Other(String),
}

/// What the description promises for status 200, or for the first other status of success if it does not list 200. The
/// `default` response is not considered: it covers every other status, and mostly describes errors.
fn promised_response<'a>(documents: &'a DocumentSet, operation: Node<'a>) -> Promised<'a> {
    let Some(responses) = operation.get("responses") else {
        return Promised::Unknown;
    };
    let mut success: Vec<&str> = responses.fields().map(|(code, _)| code).filter(|code| code.starts_with('2')).collect();
    success.sort_unstable_by_key(|code| (*code != "200", !code.eq_ignore_ascii_case("2xx"), *code));
    let response = success.first().and_then(|code| responses.get(code)).and_then(|response| documents.follow(response).ok());
    let media = || response.and_then(|response| response.get("content")).into_iter().flat_map(Node::fields);
    if let Some((_, media)) = media().find(|(kind, _)| may_be_json(kind)) {
        return media.get("schema").map_or(Promised::Unknown, Promised::Json);
    }
    match media().next() {
        Some((kind, _)) => Promised::Other(redact::scrub_and_cut(kind, 80)),
        None => Promised::Unknown,
    }
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
