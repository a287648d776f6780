//! The OpenAPI 3.1 document, built from the route table and the response types.
//!
//! - [`names`]: operation ids and tags
//! - [`enums`]: the schemas of fixed texts
//! - [`limits`]: limits and formats of single fields
//! - [`intent`]: the schema of intents
//! - [`examples`]: recorded responses

pub mod enums;
pub mod examples;
pub mod intent;
pub mod limits;
pub mod names;

use super::onboard::MAX_BATCH_ITEMS;
use super::problem::{MEDIA_TYPE, ProblemDocument};
use super::routes::{Access, Method, ROUTES, Route};
use super::routes::{QueryParam, QueryValue};
use super::{
    ServerInfo, calls, catalogs, dashboard, drift, families, handoff, heal, health, history, holds, meta, onboard, plan,
    privileges, read,
};
use crate::family_guide::FamilyGuide;
use crate::funnel::Funnel;
use crate::policy::TokenScope;
use crate::report::result::ConnectionResult;
use bytes::Bytes;
use serde_json::{Map, Value, json};
use std::sync::LazyLock;
use utoipa::ToSchema;

static TEXT: LazyLock<Bytes> = LazyLock::new(|| {
    let text = serde_json::to_vec_pretty(&document()).unwrap_or_default();
    Bytes::from(text)
});

static SCHEMAS: LazyLock<Map<String, Value>> = LazyLock::new(schemas);

/// Returns the document as it is served.
#[must_use]
pub fn text() -> Bytes {
    TEXT.clone()
}

/// Builds the document.
#[must_use]
pub fn document() -> Value {
    let mut paths = Map::new();
    for route in &ROUTES {
        let item = paths.entry(route.path).or_insert_with(|| Value::Object(Map::new()));
        if let Some(item) = item.as_object_mut() {
            item.insert(method_name(route).to_string(), operation(route));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "AAM",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Turns connection_intent documents into live, read-only, proven connections, and reports what is connected and what blocks the rest.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [
            {"url": "/"},
            {"url": "/api/v1/aam", "description": "Every endpoint, at the addresses of the predecessor."},
        ],
        "tags": names::TAGS.map(|(name, description)| json!({"name": name, "description": description})),
        "paths": paths,
        "components": {
            "schemas": &*SCHEMAS,
            "examples": examples::problems(),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "A token of the policy (api.tokens), or the admin token that the first start writes next to the registry."},
                "api_key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same token, where the policy sets api.api_key_header: true."},
                "basic": {"type": "http", "scheme": "basic", "description": "The same token as the password, for browsers; the user name is ignored."},
            },
        },
    })
}

/// Returns the key of the route's method in the document.
#[must_use]
pub fn method_name(route: &Route) -> &'static str {
    match route.method {
        Method::Get => "get",
        Method::Post => "post",
        Method::Delete => "delete",
    }
}

fn operation(route: &Route) -> Value {
    let mut operation = json!({
        "operationId": operation_id(route),
        "tags": [names::tag(route.path)],
        "summary": route.summary,
        "parameters": parameters(route),
        "responses": responses(route),
    });
    match route.access {
        Access::Open | Access::Link | Access::Page(_) | Access::SignIn => operation["security"] = json!([]),
        Access::Scope(scope) => {
            let scope = scope.as_str();
            operation["security"] = json!([{"bearer": [scope]}, {"basic": [scope]}, {"api_key": [scope]}]);
            operation["description"] = format!("Needs a token with the scope `{scope}`.").into();
        }
    }
    if let Some((schema, optional)) = route.body {
        let example = examples::request(schema);
        let content = match example.is_null() {
            true => json!({"schema": reference(schema)}),
            false => json!({"schema": reference(schema), "example": example}),
        };
        operation["requestBody"] = json!({"required": !optional, "content": {"application/json": content}});
    }
    operation
}

/// Returns the operation id of the route.
#[must_use]
pub fn operation_id(route: &Route) -> String {
    names::operation_id(route, method_name(route))
}

/// Returns the schema of a query parameter. An empty value counts as a missing one.
fn query_schema(param: &QueryParam) -> Value {
    match param.value {
        QueryValue::Any => json!({"type": param.json_type}),
        QueryValue::Integer { min, max } => json!({"type": "integer", "minimum": min, "maximum": max}),
        QueryValue::State => reference("State"),
        QueryValue::Namespace => {
            let pattern = limits::intent_limit("/properties/namespace/pattern");
            let inner = pattern.as_str().unwrap_or_default().trim_start_matches('^').trim_end_matches('$').to_string();
            json!({"type": "string", "pattern": format!("^({inner})?$")})
        }
        QueryValue::Pattern(pattern) => json!({"type": "string", "pattern": format!("^({pattern})?$")}),
        QueryValue::Timestamp => json!({"type": "string", "format": "date-time"}),
    }
}

/// Returns the schema of the component with this name.
#[must_use]
pub fn schema(name: &str) -> Value {
    SCHEMAS.get(name).cloned().unwrap_or_default()
}

/// Returns the parameters of a route as in the document.
#[must_use]
pub fn parameters(route: &Route) -> Vec<Value> {
    let mut all = Vec::new();
    if route.path.contains("{id}") {
        let (description, schema) = match route.access {
            Access::Link => ("The id of the link.", json!({"type": "string"})),
            _ => ("The connection_id.", json!({"type": "string", "format": "uuid"})),
        };
        all.push(json!({"name": "id", "in": "path", "required": true, "description": description, "schema": schema}));
    }
    if route.path.contains("{digest}") {
        let description = "The digest of the held change, or its first 12 or more hex digits.";
        let schema = json!({"type": "string", "pattern": "^[0-9a-fA-F]{12,64}$"});
        all.push(json!({"name": "digest", "in": "path", "required": true, "description": description, "schema": schema}));
    }
    if route.path.contains("{handoff_id}") {
        let description = "The handoff_id of the answer, or the id of the discovery run.";
        let schema = json!({"type": "string"});
        all.push(json!({"name": "handoff_id", "in": "path", "required": true, "description": description, "schema": schema}));
    }
    if route.path.contains("{name}") {
        let description = "The id of the family, which is the source_type of its intents.";
        let schema = json!({"type": "string", "minLength": 1, "maxLength": 64});
        all.push(json!({"name": "name", "in": "path", "required": true, "description": description, "schema": schema}));
    }
    all.extend(route.query.iter().map(|param| {
        json!({"name": param.name, "in": "query", "required": false, "allowEmptyValue": true, "description": param.description, "schema": query_schema(param)})
    }));
    if route.waits {
        all.push(json!({"name": "Prefer", "in": "header", "required": false, "description": "RFC 7240: wait=N waits up to N seconds for the result, at most 300; by default, the answer comes within 10 s; respond-async does not wait.", "schema": {"type": "string"}, "example": "wait=60"}));
    }
    if is_keyed(route) {
        all.push(json!({"name": "Idempotency-Key", "in": "header", "required": false, "description": "A key that you choose, for example a UUID. The same request with the same key gets the same answer for a day, with the header Idempotency-Replayed.", "schema": {"type": "string", "minLength": 1, "maxLength": 255}}));
    }
    if is_tagged(route) {
        all.push(json!({"name": "If-None-Match", "in": "header", "required": false, "description": "The ETag of an earlier answer: 304 without a body if the answer would be the same.", "schema": {"type": "string"}}));
    }
    all
}

/// Whether requests may have an idempotency key.
fn is_keyed(route: &Route) -> bool {
    matches!(route.access, Access::Scope(_)) && route.method != Method::Get
}

/// Whether answers have a tag.
fn is_tagged(route: &Route) -> bool {
    matches!(route.access, Access::Scope(_))
        && route.method == Method::Get
        && route.answers.iter().any(|(_, kind, _)| kind.ends_with("json"))
}

fn responses(route: &Route) -> Map<String, Value> {
    let mut all = Map::new();
    for (status, kind, schema) in route.answers {
        let content = match *schema {
            "" if kind.starts_with("text") || *kind == meta::METRICS => {
                json!({"schema": {"type": "string"}})
            }
            "" => json!({"schema": {"type": "object"}}),
            schema => json!({"schema": reference(schema)}),
        };
        let mut content = content;
        if let Some(example) = examples::response(&operation_id(route), *status) {
            content["example"] = example.clone();
        }
        let mut response = json!({"description": status_description(*status), "content": {*kind: content}});
        if *status == 202 {
            response["headers"] =
                json!({"Location": {"description": "The URL to poll for the result.", "schema": {"type": "string"}}});
        }
        if *status == 200 && route.path == "/metrics/funnel" {
            response["headers"] =
                json!({"X-SLO-Coverage": {"description": "The coverage, as in the body.", "schema": {"type": "number"}}});
        }
        all.insert(status.to_string(), response);
    }
    if is_tagged(route) {
        all.insert("304".to_string(), json!({"description": status_description(304)}));
    }
    let guarded: &[u16] = match route.access {
        Access::Open => &[403],
        Access::Link | Access::SignIn => &[403, 429],
        Access::Scope(_) | Access::Page(_) => &[401, 403, 429],
    };
    let takes_query: &[u16] = &[400];
    let content = match route.access {
        Access::Link | Access::Page(_) | Access::SignIn => json!({dashboard::HTML: {"schema": {"type": "string"}}}),
        Access::Open | Access::Scope(_) => json!({MEDIA_TYPE: {"schema": reference("Problem")}}),
    };
    let keyed: &[u16] = if is_keyed(route) { &[409, 422] } else { &[] };
    for status in guarded.iter().chain(takes_query).chain(keyed).chain(route.problems) {
        let mut content = content.clone();
        if let (Some(_), Some(body)) = (examples::problem(*status), content.get_mut(MEDIA_TYPE)) {
            body["examples"] = json!({"response": {"$ref": format!("#/components/examples/problem_{status}")}});
        }
        let earlier = all.get(&status.to_string()).and_then(|answer| answer.get("content")).and_then(Value::as_object);
        for (kind, schema) in earlier.into_iter().flatten() {
            content[kind] = schema.clone();
        }
        all.insert(status.to_string(), json!({"description": status_description(*status), "content": content}));
    }
    let other = json!({"description": "Any other error", "content": content});
    all.insert("default".to_string(), other);
    all
}

fn status_description(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Accepted for the first time; the first attempt has finished",
        202 => "Accepted; the attempt did not finish within the time that the caller asked to wait",
        304 => "The answer is that of If-None-Match",
        303 => "Go to the address in Location",
        400 => "Invalid request, or the body is not valid JSON",
        401 => "The token is missing, malformed or unknown",
        403 => {
            "The token is not allowed to do this or not in this namespace, or it is never allowed; or the request names a host that AAM does not serve, or comes from a web page of another site"
        }
        404 => "Not found, or the token has no access to it",
        408 => "The body did not arrive in time",
        409 => {
            "The connection cannot be connected (UNSUPPORTED, although its intent was recorded), is RETIRED, or is desired by a file; the request does not fit what is recorded; or the first request with the Idempotency-Key is in progress"
        }
        413 => "The body is too large",
        415 => "Content-Type must be application/json",
        422 => {
            "The document is not valid; `problems` lists every invalid value with a JSON pointer and a hint; or the Idempotency-Key was used for another request"
        }
        410 => "The link was used, has ended or was replaced",
        429 => "The token or the address has sent too many requests; Retry-After says when to repeat the request",
        502 => "The vendor or the source did not confirm the consent",
        503 => {
            "The registry cannot write, the process is starting or stopping, or too many requests are being served; try again later. For the funnel also: the SLO is not met and the caller or the policy asks for this status"
        }
        _ => "See RFC 9110",
    }
}

fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

fn schemas() -> Map<String, Value> {
    let mut all = derived_schemas();
    // A test checks that every limit has its field.
    let _ = limits::add(&mut all);
    all
}

/// Returns the schemas without the limits of single fields.
fn derived_schemas() -> Map<String, Value> {
    let mut all = Map::new();
    add::<ProblemDocument>(&mut all);
    add::<ConnectionResult>(&mut all);
    add::<Funnel>(&mut all);
    add::<ServerInfo>(&mut all);
    add::<meta::StatusAnswer>(&mut all);
    add::<read::ConnectionPage>(&mut all);
    add::<health::HealthAnswer>(&mut all);
    add::<health::HealthPage>(&mut all);
    add::<meta::ServiceHealth>(&mut all);
    add::<history::VersionPage>(&mut all);
    add::<history::CatalogAnswer>(&mut all);
    add::<calls::CallPage>(&mut all);
    add::<heal::HealRequest>(&mut all);
    add::<heal::HealAnswer>(&mut all);
    add::<onboard::BatchAnswer>(&mut all);
    add::<holds::HoldList>(&mut all);
    add::<holds::ConfirmAnswer>(&mut all);
    add::<handoff::HandoffAnswer>(&mut all);
    add::<handoff::HandoffPage>(&mut all);
    add::<handoff::HandoffDetail>(&mut all);
    all.insert("HandoffBody".to_string(), handoff_body());
    add::<dashboard::Dashboard>(&mut all);
    add::<catalogs::CatalogLine>(&mut all);
    add::<drift::DriftAnswer>(&mut all);
    add::<drift::DriftPage>(&mut all);
    add::<drift::AcknowledgeRequest>(&mut all);
    add::<plan::PlanAnswer>(&mut all);
    add::<privileges::PrivilegeList>(&mut all);
    add::<families::FamilyList>(&mut all);
    add::<FamilyGuide>(&mut all);
    add::<TokenScope>(&mut all);
    all.insert("connection_intent".to_string(), intent::schema());
    all.insert("IntentBatch".to_string(), intent::batch(MAX_BATCH_ITEMS));
    all.insert(
        "McpMessage".to_string(),
        json!({
            "description": "A JSON-RPC 2.0 message of the Model Context Protocol.",
            "type": "object",
            "required": ["jsonrpc"],
            "properties": {"jsonrpc": {"const": "2.0"}, "method": {"type": "string"}, "params": {"type": "object"}},
        }),
    );
    all
}

/// The schema of what a discovery tool hands over. A candidate may have other fields; AAM does not use them.
fn handoff_body() -> Value {
    let text = json!({"type": ["string", "null"], "maxLength": 512});
    json!({
        "type": "object",
        "required": ["aod_discovery_id", "tenant_id", "entity_id", "candidates"],
        "properties": {
            "aod_discovery_id": {"type": "string", "minLength": 1, "maxLength": 200, "description": "The id of the discovery run."},
            "tenant_id": {"type": "string", "minLength": 1, "maxLength": 200},
            "entity_id": {"type": "string", "minLength": 1, "maxLength": 200},
            "handoff_timestamp": {"type": ["string", "null"], "description": "When the tool sent the handoff; not part of its content."},
            "candidates": {
                "type": "array",
                "maxItems": crate::handoff::MAX_CANDIDATES,
                "items": {
                    "type": "object",
                    "required": ["asset_key"],
                    "properties": {
                        "asset_key": {"type": "string", "minLength": 1, "maxLength": 512},
                        "aod_asset_id": text, "vendor_name": text, "display_name": text, "category": text,
                        "governance_status": text,
                        "known_endpoints": {"type": ["array", "null"], "items": {"type": "string"}},
                        "execution_allowed": {"type": ["boolean", "null"], "default": true},
                        "action_type": {"type": ["string", "null"], "description": "provision (default), or inventory_only."},
                    },
                },
            },
        },
    })
}

/// Adds the schema of `T` and of the types that it contains.
fn add<T: ToSchema>(all: &mut Map<String, Value>) {
    let mut parts = vec![(T::name().into_owned(), T::schema())];
    T::schemas(&mut parts);
    for (name, schema) in parts {
        all.insert(name, serde_json::to_value(schema).unwrap_or_default());
    }
}
