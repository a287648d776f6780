//! Tests of tokens, scopes and namespaces.

use super::*;
use crate::server::auth;
use crate::server::routes::{Access, Method, ROUTES};
use base64::Engine as _;

#[tokio::test]
async fn every_guarded_route_refuses_callers_without_a_token_and_no_other_does() {
    for route in &ROUTES {
        // A server allows an address only so many invalid tokens.
        let server = TestServer::new().await;
        let method = match route.method {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Delete => "DELETE",
        };
        let path = route.path.replace("{id}", "8d5b2ab0-3a0f-5d2c-9d5c-3f0f3b1c2d4e");
        let reply = server.send(method, &path, &[], None).await;
        if route.access == Access::Open {
            assert_eq!(reply.status, 200, "{path}");
            continue;
        }
        if route.access == Access::Link {
            assert!([400, 404].contains(&reply.status) && reply.header("www-authenticate").is_empty(), "{path}: {reply:?}");
            continue;
        }
        assert_eq!((reply.status, reply.code().as_str()), (401, "TOKEN_MISSING"), "{path}");
        let expected = if path == "/" { "Basic realm=\"AAM token\", charset=\"UTF-8\"" } else { "Bearer realm=\"AAM\"" };
        assert_eq!(reply.header("www-authenticate"), expected, "{path}");
        for (value, code) in [
            ("Bearer nonsense", "TOKEN_UNKNOWN"),
            ("Digest x", "TOKEN_MALFORMED"),
            ("Bearer a b", "TOKEN_MALFORMED"),
            ("Basic ???", "TOKEN_MALFORMED"),
        ] {
            let reply = server.send(method, &path, &[("Authorization", value)], None).await;
            assert_eq!((reply.status, reply.code().as_str()), (401, code), "{path} {value}");
            assert!(!reply.body.contains("nonsense"));
        }
    }
}

#[tokio::test]
async fn a_missing_scope_is_named() {
    let server = TestServer::new().await;
    let reader = bearer(READER);
    for (path, scope) in [
        ("/connections/onboard", "intents:write"),
        ("/connections/onboard/batch", "intents:write"),
        ("/connections/heal", "ops:heal"),
    ] {
        let reply = server.send("POST", path, &[("Authorization", &reader)], None).await;
        assert_eq!((reply.status, reply.code().as_str()), (403, "SCOPE_MISSING"));
        assert!(reply.body.contains(scope), "{path}");
    }
    assert_eq!(server.send("GET", "/connections", &[("Authorization", &reader)], None).await.status, 200);
}

#[tokio::test]
async fn a_browser_gives_the_token_as_the_password_and_no_url_does() {
    let server = TestServer::new().await;
    let basic = format!("Basic {}", base64::prelude::BASE64_STANDARD.encode(format!("me:{FULL}")));
    assert_eq!(server.send("GET", "/", &[("Authorization", &basic)], None).await.status, 200);
    let reply = server.send("GET", &format!("/connections?access_token={FULL}"), &[], None).await;
    assert_eq!(reply.status, 401);
    let twice = [("Authorization", basic.as_str()), ("Authorization", basic.as_str())];
    assert_eq!(server.send("GET", "/", &twice, None).await.code(), "TOKEN_MALFORMED");
}

#[tokio::test]
async fn a_token_sees_its_namespaces_only() {
    let server = TestServer::new().await;
    let id = server.accept(&[document("jdbc", "jdbc:sqlite:a.db")]).await[0];
    let other = bearer(OTHER);
    let other = [("Authorization", other.as_str()), ("Content-Type", "application/json")];
    for path in [
        "/connections?namespace=autonomy",
        "/metrics/funnel?namespace=autonomy",
        "/?namespace=autonomy",
        "/dashboard.json?namespace=autonomy",
        "/connections",
    ] {
        let reply = server.send("GET", path, &other, None).await;
        assert_eq!((reply.status, reply.code().as_str()), (403, "NAMESPACE_NOT_ALLOWED"), "{path}");
    }
    for path in ["", "/health", "/versions", "/catalog"] {
        let reply = server.send("GET", &format!("/connections/{id}{path}"), &other, None).await;
        assert_eq!((reply.status, reply.code().as_str()), (404, "NOT_FOUND"), "{path}");
    }
    assert_eq!(server.send("POST", &format!("/connections/{id}/heal"), &other, None).await.status, 404);
    let body = document("jdbc", "x").to_string();
    let reply = server.send("POST", "/connections/onboard", &other, Some(&body)).await;
    assert_eq!((reply.status, reply.code().as_str()), (403, "NAMESPACE_NOT_ALLOWED"));
    assert_eq!(server.send("GET", "/connections?namespace=other", &other, None).await.json()["total"], 0);
    let metrics = server.send("GET", "/metrics", &other, None).await;
    assert!(metrics.body.contains("aam_ready 1") && !metrics.body.contains("autonomy"), "{}", metrics.body);
}

#[tokio::test]
async fn without_tokens_the_admin_token_opens_everything_but_demo() {
    let server = TestServer::with("version: 1\nallowlist: [jdbc]\n", ServerLimits::default()).await;
    // Once the server answers, it has created the admin token.
    assert_eq!(server.get("/healthz").await.status, 200);
    let registry = server.handle.registry.path().to_path_buf();
    let admin = auth::read_admin(&registry).expect("the first start made it");
    let token = bearer(admin.token().expose());
    let headers = [("Authorization", token.as_str()), ("Content-Type", "application/json"), ("Prefer", "respond-async")];
    assert_eq!(server.send("GET", "/connections?namespace=anything", &headers, None).await.status, 200);
    assert_eq!(server.get("/connections").await.code(), "TOKEN_UNKNOWN");
    let mut demo = document("jdbc", "x");
    demo["namespace"] = "demo".into();
    let reply = server.send("POST", "/connections/onboard", &headers, Some(&demo.to_string())).await;
    assert_eq!((reply.status, reply.code().as_str()), (403, "NAMESPACE_SEALED"));
    demo["namespace"] = "sealed-one".into();
    server.handle.registry.seal("sealed-one", Vec::new()).await.expect("sealed");
    let reply = server.send("POST", "/connections/onboard", &headers, Some(&demo.to_string())).await;
    assert_eq!((reply.status, reply.code().as_str()), (403, "NAMESPACE_SEALED"));
    let reply = server.send("POST", "/connections/heal", &headers, Some(r#"{"namespace":"demo"}"#)).await;
    assert_eq!((reply.status, reply.code().as_str()), (403, "NAMESPACE_SEALED"));
    assert_eq!(server.handle.registry.snapshot().connections.len(), 0);
}

#[tokio::test]
async fn a_kept_answer_is_given_only_to_callers_who_may_see_it() {
    let server = TestServer::new().await;
    server.accept(&[document("jdbc", "a")]).await;
    for path in ["/connections", "/metrics/funnel?namespace=autonomy", "/dashboard.json"] {
        let first = server.get(path).await;
        let again = server.get(path).await;
        assert_eq!((first.status, &first.body), (200, &again.body), "{path}");
        for name in ["content-type", "content-security-policy", "cache-control", "content-length"] {
            assert_eq!(first.header(name), again.header(name), "{path} {name}");
        }
        assert_eq!(server.send("GET", path, &[("Authorization", &bearer(READER))], None).await.body, first.body);
        assert_eq!(server.send("GET", path, &[("Authorization", &bearer(OTHER))], None).await.status, 403, "{path}");
        assert_eq!(server.send("GET", path, &[("Authorization", &bearer("none"))], None).await.status, 401, "{path}");
        assert_eq!(server.send("GET", path, &[], None).await.status, 401, "{path}");
    }
}
