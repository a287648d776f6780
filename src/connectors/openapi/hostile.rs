//! Tests with random and hostile descriptions. Processing must always end quickly and without a panic.

use super::document::Description;
use super::operations;
use super::refs::{DocumentSet, Node};
use super::select::{self, CredentialFit, OperationRules};
use super::server::Servers;
use super::{auth, classify, streams};
use crate::connectors::Bounds;
use crate::credentials::{Credential, Secret};
use crate::memory_budget::MemoryMeter;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use std::time::{Duration, Instant};
use url::Url;

/// Field names that have a meaning for the engine, so that random input reaches its branches.
const NAMES: [&str; 44] = [
    "openapi",
    "info",
    "title",
    "version",
    "paths",
    "/a",
    "/a/{id}",
    "/",
    "get",
    "post",
    "parameters",
    "name",
    "in",
    "required",
    "schema",
    "responses",
    "200",
    "default",
    "content",
    "application/json",
    "type",
    "properties",
    "items",
    "allOf",
    "oneOf",
    "anyOf",
    "nullable",
    "enum",
    "$ref",
    "security",
    "components",
    "securitySchemes",
    "schemas",
    "servers",
    "url",
    "variables",
    "operationId",
    "x-aam-health",
    "data",
    "limit",
    "minimum",
    "maximum",
    "example",
    "examples",
];
const TEXTS: [&str; 22] = [
    "3.1.0",
    "object",
    "array",
    "string",
    "null",
    "integer",
    "path",
    "query",
    "header",
    "limit",
    "id",
    "apiKey",
    "http",
    "bearer",
    "#/paths",
    "#/components/schemas/A",
    "#/",
    "part.json#/A",
    "//b.example/x",
    "/v1/{x}",
    "{",
    "../..",
];

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        4 => proptest::sample::select(&TEXTS[..]).prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        1 => any::<bool>().prop_map(Value::from),
        1 => Just(Value::Null),
        1 => "\\PC{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(7, 80, 6, |inner| {
        prop_oneof![
            1 => proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            4 => proptest::collection::vec((proptest::sample::select(&NAMES[..]), inner), 0..6)
                .prop_map(|entries| entries.into_iter().map(|(name, value)| (name.to_string(), value)).collect::<Map<_, _>>().into()),
        ]
    })
}

/// Runs everything that the engine computes from a description.
fn work(root: &Value) -> usize {
    let url = Url::parse("https://a.example/openapi.json").unwrap();
    let _ = Description::read(root.to_string().as_bytes(), url.clone());
    let documents = DocumentSet::new(url.clone(), root.clone());
    let _ = documents.missing();
    let Ok(servers) = Servers::read(documents.root(), &url, Some("https://b.example")) else {
        return 0;
    };
    let operations = operations::read(&documents, &servers, &MemoryMeter::unlimited());
    let rules = OperationRules { deny: vec!["*z*".into()], health_path: None };
    let credential = Credential::read(Secret::new("t".into()));
    for operation in &operations.list {
        let _ = auth::authorize(&documents, &operation.security, Some(&credential));
        if let (Ok(call), Some(records)) = (&operation.call, &operation.answer) {
            assert!(servers.allows(&call.url), "{}", call.url);
            let context = classify::ErrorContext { url: &call.url, what: &operation.name, scopes: &[], schemes: &[] };
            let _ = classify::check_shape(root, &records.schema(), context);
        }
    }
    let _ = select::health_operation(&operations, &rules, &servers, Some("/a"), |_| CredentialFit::NoCredential);
    let _ = select::sample_operation(&operations, &rules, 20, |_| CredentialFit::NoCredential);
    streams::catalog(&operations, &rules, Bounds::default()).streams.len()
}

proptest! {
    #[test]
    fn any_json_is_answered(root in value()) {
        work(&root);
    }

    #[test]
    fn any_operation_is_answered(get in value(), components in value(), servers in value()) {
        let root = json!({"openapi": "3.1.0", "info": {"title": "T", "version": "1"}, "servers": servers, "paths": {"/a/{id}": {"get": get}}, "components": components});
        work(&root);
    }

    #[test]
    fn any_schema_is_answered(schema in value(), a in value()) {
        let get = json!({"responses": {"200": {"content": {"application/json": {"schema": schema}}}}});
        let root = json!({"paths": {"/a": {"get": get}}, "components": {"schemas": {"A": a}}});
        let documents = DocumentSet::new(Url::parse("https://a.example/x").unwrap(), root.clone());
        let schema = Node { document: 0, value: &schema };
        prop_assert!(super::schema::Expander::new(&documents).expand(schema).to_string().len() < 1 << 20);
        work(&root);
    }
}

/// A thousand list operations over two hundred schemas, each of which references ten others.
fn web() -> Value {
    let schemas: Map<String, Value> = (0..200)
        .map(|i| {
            let properties: Map<String, Value> = (0..10)
                .map(|p| (format!("p{p}"), json!({"$ref": format!("#/components/schemas/S{}", (i * 7 + p * 13 + 1) % 200)})))
                .collect();
            (format!("S{i}"), json!({"type": "object", "description": "x".repeat(3000), "properties": properties}))
        })
        .collect();
    let paths: Map<String, Value> = (0..1000)
        .map(|i| {
            let schema = json!({"type": "array", "items": {"$ref": format!("#/components/schemas/S{}", i % 200)}});
            (format!("/p{i}"), json!({"get": {"responses": {"200": {"content": {"application/json": {"schema": schema}}}}}}))
        })
        .collect();
    json!({"openapi": "3.0.0", "info": {"title": "T", "version": "1"}, "paths": paths, "components": {"schemas": schemas}})
}

#[test]
fn a_web_of_references_is_not_expanded() {
    let url = Url::parse("https://a.example/x").unwrap();
    let text = web().to_string();
    let begun = Instant::now();
    let root = super::parse::parse(&text).unwrap();
    let documents = DocumentSet::new(url.clone(), root);
    assert!(documents.missing().is_empty());
    let servers = Servers::read(documents.root(), &url, None).unwrap();
    let operations = operations::read(&documents, &servers, &MemoryMeter::unlimited());
    let catalog = streams::catalog(&operations, &OperationRules::default(), Bounds::default());
    assert_eq!((catalog.streams.len(), catalog.truncated), (1000, false));
    // If a schema were fully expanded, its number of values would be ten to the power of its depth.
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}
