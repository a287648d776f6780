//! Tests that the route table, the router and the OpenAPI document agree.

use super::*;
use crate::server::routes::ROUTES;
use std::collections::BTreeSet;

#[tokio::test]
async fn the_router_and_the_document_hold_the_same_routes() {
    let server = TestServer::new().await;
    let document = server.get("/openapi.json").await.json();
    assert_eq!(document["openapi"], "3.1.0");
    let empty = serde_json::Map::new();
    let paths = document["paths"].as_object().unwrap_or(&empty);
    let documented: BTreeSet<(String, String)> = paths
        .iter()
        .flat_map(|(path, item)| item.as_object().unwrap_or(&empty).keys().map(move |verb| (path.clone(), verb.clone())))
        .collect();
    assert_eq!(documented.len(), ROUTES.len());
    // Asks the running server which methods it allows, for every path of the document.
    for path in paths.keys() {
        let target = path
            .replace("{id}", "8d5b2ab0-3a0f-5d2c-9d5c-3f0f3b1c2d4e")
            .replace("{name}", "github")
            .replace("{handoff_id}", "run");
        let reply = server.send("OPTIONS", &target, &[], None).await;
        assert_eq!((reply.status, reply.code().as_str()), (405, "METHOD_NOT_ALLOWED"), "{path}");
        let allowed: BTreeSet<String> =
            reply.header("allow").split(',').map(|verb| verb.trim().to_lowercase()).filter(|verb| verb != "head").collect();
        let known: BTreeSet<String> =
            documented.iter().filter(|(known, _)| known == path).map(|(_, verb)| verb.clone()).collect();
        assert_eq!(allowed, known, "{path}");
    }
    for path in ["/nothing", "/connections/a/b", "/api/v1", "/api/v1/aam/nothing"] {
        assert_eq!(server.get(path).await.code(), "NOT_FOUND", "{path}");
    }
    assert!(!documented.contains(&("/nothing".to_string(), "get".to_string())));
}

#[test]
fn every_reference_of_the_document_leads_somewhere() {
    let document = crate::server::openapi::document();
    let text = document.to_string();
    let mut references: BTreeSet<&str> = BTreeSet::new();
    for rest in text.split("\"$ref\":\"#").skip(1) {
        references.insert(rest.split('"').next().unwrap_or(""));
    }
    assert!(references.len() > 10);
    for reference in references {
        assert!(document.pointer(reference).is_some(), "{reference}");
    }
    let ids: Vec<String> = document["paths"]
        .as_object()
        .into_iter()
        .flatten()
        .flat_map(|(_, item)| item.as_object().into_iter().flatten().map(|(_, op)| op["operationId"].to_string()))
        .collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ROUTES.len(), "operation ids are unique: {ids:?}");
}

/// Every success response matches the schema that the document gives for it.
#[tokio::test]
async fn answers_have_the_documented_form() {
    let server = TestServer::new().await;
    let worker = server.answer_wakes(by_type);
    let pushed = server.post("/connections/onboard", &crate::server::tests::document("jdbc", "a")).await.json();
    let id = pushed["connection_id"].as_str().unwrap_or_default().to_string();
    let openapi = crate::server::openapi::document();
    for route in &ROUTES {
        let reply = examples::call(&server, route, &id).await;
        if ["/holds/{digest}/confirm", "/connections/{id}/drift/acknowledge"].contains(&route.path) {
            assert_eq!((reply.status, reply.code().as_str()), (404, "NOT_FOUND"), "nothing is held and nothing changed here");
            continue;
        }
        let Some((_, kind, schema)) = route.answers.iter().find(|(status, _, _)| *status == reply.status) else {
            panic!("{} answers {reply:?}", route.path);
        };
        assert_eq!(reply.header("content-type"), *kind, "{}", route.path);
        if !schema.is_empty() && *kind == "application/json" {
            let reference = json!({"$ref": format!("#/components/schemas/{schema}")});
            let errors = examples::schema_errors(&openapi, &reference, &reply.json());
            assert!(errors.is_empty(), "{}: {errors:?}\n{}", route.path, reply.body);
        }
    }
    worker.abort();
}

#[tokio::test]
async fn families_are_described_with_what_an_intent_and_a_credential_need() {
    let server = TestServer::new().await;
    let list = server.get("/families").await.json();
    let named = |id: &str| list["families"].as_array().unwrap().iter().find(|family| family["id"] == id).cloned();
    assert_eq!(named("github").unwrap()["connects"], true);
    assert!(named("nothing").is_none());
    assert_eq!(list["families"].as_array().map(Vec::len), Some(crate::families::all().len()));
    let (allowed, other) = (named("jdbc").unwrap(), named("github").unwrap());
    assert_eq!((&allowed["allowed"], &other["allowed"]), (&json!(true), &json!(false)), "as the allowlist says");
    assert_eq!(allowed["cap_in_force"], allowed["cap"]);
    let github = server.get("/families/github").await.json();
    assert_eq!(github["examples"], json!(["acme/website", "acme"]));
    assert_eq!(github["kinds"][0]["streams"], json!(["repository", "contributors", "tags"]));
    let forms: Vec<&str> = github["locators"].as_array().unwrap().iter().filter_map(|form| form["form"].as_str()).collect();
    assert_eq!(forms, ["env:NAME", "file:PATH", "vault:PATH", "sp:NAME", "consent:NAME"]);
    for key in ["how_to_grant", "proof", "login"] {
        assert!(github[key].as_array().is_some_and(|items| !items.is_empty()), "{key}");
    }
    let missing = server.get("/families/githb").await;
    assert_eq!((missing.status, missing.code().as_str()), (404, "NOT_FOUND"));
    assert!(missing.body.contains("Did you mean github?"), "{}", missing.body);
}

#[tokio::test]
async fn every_answer_carries_the_security_headers_and_head_has_no_body() {
    let server = TestServer::new().await;
    for path in ["/", "/healthz", "/connections", "/nothing", "/metrics"] {
        let reply = server.get(path).await;
        // The forms of a page are sent with their origin, which browsers leave out with "no-referrer".
        let referrer = if path == "/" { "same-origin" } else { "no-referrer" };
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", referrer),
            ("cache-control", "no-store"),
            ("x-frame-options", "DENY"),
        ] {
            assert_eq!(reply.header(name), value, "{path}");
        }
        let policy = reply.header("content-security-policy");
        assert!(
            policy.starts_with("default-src 'none'") && policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"),
            "{path}: {policy}"
        );
        let head = server.send("HEAD", path, &[("Authorization", &bearer(FULL))], None).await;
        assert_eq!(
            (head.status, head.body.as_str(), head.header("content-length")),
            (reply.status, "", reply.header("content-length")),
            "{path}"
        );
    }
    let schema = server.get("/schemas/connection_intent.json").await;
    assert_eq!(schema.body, crate::intake::schema::TEXT);
}
