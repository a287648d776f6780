//! The OpenAPI 3.1 document, from the route table and the answer types.

use super::problem::{Document, MEDIA_TYPE};
use super::routes::{Access, ROUTES, Route, Verb};
use super::{ServerInfo, dashboard, heal, meta, push, read};
use crate::funnel::Funnel;
use crate::report::result::ConnectionResult;
use bytes::Bytes;
use serde_json::{Map, Value, json};
use std::sync::LazyLock;
use utoipa::ToSchema;

static TEXT: LazyLock<Bytes> = LazyLock::new(|| {
    let text = serde_json::to_vec_pretty(&document()).unwrap_or_default();
    Bytes::from(text)
});

/// The document as it is served.
#[must_use]
pub fn text() -> Bytes {
    TEXT.clone()
}

/// The document as a value.
#[must_use]
pub fn document() -> Value {
    let mut paths = Map::new();
    for route in &ROUTES {
        let item = paths.entry(route.path).or_insert_with(|| Value::Object(Map::new()));
        if let Some(item) = item.as_object_mut() {
            item.insert(verb(route).to_string(), operation(route));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "AAM",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Turns connection_intent documents into live, read-only, proven connections, and says in plain words what is connected and what blocks the rest.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "A token of the policy (api.tokens), or the admin token that the first start wrote beside the registry."},
                "basic": {"type": "http", "scheme": "basic", "description": "The same token as the password, for browsers; the user name does not matter."},
            },
        },
    })
}

/// The method's word in the document.
#[must_use]
pub fn verb(route: &Route) -> &'static str {
    match route.verb {
        Verb::Get => "get",
        Verb::Post => "post",
    }
}

fn operation(route: &Route) -> Value {
    let mut operation = json!({
        "operationId": operation_id(route),
        "summary": route.summary,
        "parameters": parameters(route),
        "responses": responses(route),
    });
    match route.access {
        Access::Open => operation["security"] = json!([]),
        Access::Scope(scope) => {
            let scope = scope.as_str();
            operation["security"] = json!([{"bearer": [scope]}, {"basic": [scope]}]);
            operation["description"] = format!("Needs a token with the scope `{scope}`.").into();
        }
    }
    if let Some((schema, optional)) = route.body {
        let content = json!({"schema": reference(schema), "example": example(schema)});
        operation["requestBody"] = json!({"required": !optional, "content": {"application/json": content}});
    }
    operation
}

fn operation_id(route: &Route) -> String {
    let words = route.path.split(['/', '.', '_']).filter(|word| !word.is_empty() && *word != "json");
    let path: Vec<String> = words.map(|word| word.trim_matches(['{', '}']).to_string()).collect();
    match path.is_empty() {
        true => format!("{}_dashboard_page", verb(route)),
        false => format!("{}_{}", verb(route), path.join("_")),
    }
}

fn parameters(route: &Route) -> Vec<Value> {
    let mut all = Vec::new();
    if route.path.contains("{id}") {
        all.push(json!({"name": "id", "in": "path", "required": true, "description": "The connection_id.", "schema": {"type": "string", "format": "uuid"}}));
    }
    all.extend(route.query.iter().map(|param| {
        json!({"name": param.name, "in": "query", "required": false, "description": param.about, "schema": {"type": param.kind}})
    }));
    if route.waits {
        all.push(json!({"name": "Prefer", "in": "header", "required": false, "description": "RFC 7240: wait=N seconds, at most 300, 30 if left out; respond-async answers at once.", "schema": {"type": "string"}, "example": "wait=60"}));
    }
    all
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
        let mut response = json!({"description": meaning(*status), "content": {*kind: content}});
        if *status == 202 {
            response["headers"] =
                json!({"Location": {"description": "Where to ask for the outcome.", "schema": {"type": "string"}}});
        }
        all.insert(status.to_string(), response);
    }
    let guarded: &[u16] = match route.access {
        Access::Open => &[],
        Access::Scope(_) => &[401, 403],
    };
    let takes_query: &[u16] = &[400];
    for status in guarded.iter().chain(takes_query).chain(route.problems) {
        let problem = json!({"description": meaning(*status), "content": {MEDIA_TYPE: {"schema": reference("Problem")}}});
        all.insert(status.to_string(), problem);
    }
    let other = json!({"description": "Any other problem", "content": {MEDIA_TYPE: {"schema": reference("Problem")}}});
    all.insert("default".to_string(), other);
    all
}

fn meaning(status: u16) -> &'static str {
    match status {
        200 => "The answer",
        201 => "Accepted for the first time, and settled",
        202 => "Accepted, and not settled within the time that the caller would wait",
        400 => "The request has not the documented form, or the body is no JSON",
        401 => "No token, a malformed or an unknown one",
        403 => "The token may not do this, not in this namespace, or nobody may",
        404 => "Nothing of that name that this token may see",
        408 => "The body did not arrive in time",
        409 => "Recorded, and in no state to go on: UNSUPPORTED or RETIRED",
        413 => "The body is too large",
        415 => "The body is not said to be JSON",
        422 => "Every problem of the document, with JSON pointer and hint",
        503 => "Not now: the registry cannot write, or the process starts or stops",
        _ => "See RFC 9110",
    }
}

fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

fn example(schema: &str) -> Value {
    let intent = json!({
        "source_type": "github", "resource_ids": ["acme"], "credential_locator": "env:GITHUB_TOKEN",
        "namespace": "autonomy", "risk_level": "low",
        "evidence": {"status": "Sanctioned", "source": "IdP", "ts": "2026-11-08T18:00:00Z"},
        "owner": {"user": "owner@acme.example", "confidence": 0.95, "why": "oauth_consenter"},
    });
    match schema {
        "connection_intent" => intent,
        "IntentBatch" => json!({"intents": [intent]}),
        _ => json!({"namespace": "autonomy", "state": "AWAITING_CREDENTIALS"}),
    }
}

fn schemas() -> Map<String, Value> {
    let mut all = Map::new();
    add::<Document>(&mut all);
    add::<ConnectionResult>(&mut all);
    add::<Funnel>(&mut all);
    add::<ServerInfo>(&mut all);
    add::<meta::StatusAnswer>(&mut all);
    add::<read::ConnectionPage>(&mut all);
    add::<read::HealthAnswer>(&mut all);
    add::<read::VersionPage>(&mut all);
    add::<read::CatalogAnswer>(&mut all);
    add::<heal::HealRequest>(&mut all);
    add::<heal::HealAnswer>(&mut all);
    add::<push::BatchAnswer>(&mut all);
    add::<dashboard::Dashboard>(&mut all);
    // The schema that is enforced, without the keywords that only stand at a document's root.
    let mut intent: Value = serde_json::from_str(crate::intake::schema::TEXT).unwrap_or_default();
    if let Some(intent) = intent.as_object_mut() {
        intent.remove("$schema");
        intent.remove("$id");
    }
    all.insert("connection_intent".to_string(), intent);
    all.insert(
        "IntentBatch".to_string(),
        json!({
            "type": "object",
            "required": ["intents"],
            "properties": {"intents": {"type": "array", "items": reference("connection_intent")}},
        }),
    );
    all
}

/// The schema of `T` and of everything it is made of.
fn add<T: ToSchema>(all: &mut Map<String, Value>) {
    let mut parts = vec![(T::name().into_owned(), T::schema())];
    T::schemas(&mut parts);
    for (name, schema) in parts {
        all.insert(name, serde_json::to_value(schema).unwrap_or_default());
    }
}
