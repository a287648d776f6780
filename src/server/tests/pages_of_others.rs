//! Tests of requests from pages of other sites, of frames, and of the header X-API-Key.

use super::*;
use base64::Engine as _;

fn open() -> String {
    policy_text().replace(
        "api:\n",
        "api:\n  cors: {origins: [\"https://portal.example\"]}\n  frame_ancestors: [\"https://portal.example\", self]\n  api_key_header: true\n",
    )
}

const PORTAL: [(&str, &str); 2] = [("Origin", "https://portal.example"), ("Sec-Fetch-Site", "cross-site")];

#[tokio::test]
async fn by_default_no_page_of_another_site_may_do_anything() {
    let server = TestServer::new().await;
    let token = bearer(FULL);
    let preflight = [("Access-Control-Request-Method", "GET")];
    let reply = server.send("OPTIONS", "/connections", &[PORTAL.as_slice(), &preflight].concat(), None).await;
    assert_eq!((reply.status, reply.code().as_str()), (403, "ORIGIN_NOT_ALLOWED"));
    let detail = reply.json()["detail"].as_str().unwrap_or_default().to_string();
    assert!(detail.contains("api.cors.origins"), "{detail}");
    let reply = server.send("GET", "/connections", &[PORTAL.as_slice(), &[("Authorization", &token)]].concat(), None).await;
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (403, ""));
    assert_eq!(reply.header("vary"), "");
    let reply = server.send("GET", "/connections", &[("X-API-Key", FULL)], None).await;
    assert_eq!((reply.status, reply.code().as_str()), (401, "TOKEN_MISSING"));
    assert!(reply.body.contains("api.api_key_header") && !reply.body.contains(FULL), "{}", reply.body);
}

#[tokio::test]
async fn a_listed_page_may_call_the_api_with_a_token() {
    let server = TestServer::with(&open(), ServerLimits::default()).await;
    let token = bearer(FULL);
    let preflight = [("Access-Control-Request-Method", "POST"), ("Access-Control-Request-Headers", "authorization,content-type")];
    let reply = server.send("OPTIONS", "/api/v1/aam/connections/onboard", &[PORTAL.as_slice(), &preflight].concat(), None).await;
    assert_eq!((reply.status, reply.body.as_str()), (204, ""), "{reply:?}");
    assert_eq!(reply.header("access-control-allow-origin"), "https://portal.example");
    assert!(reply.header("access-control-allow-methods").contains("POST"));
    for name in ["authorization", "content-type", "idempotency-key", "x-api-key", "prefer"] {
        assert!(reply.header("access-control-allow-headers").contains(name), "{name}");
    }
    assert_eq!(reply.header("access-control-allow-credentials"), "", "credentials of the browser are never used");
    assert!(reply.header("vary").contains("Origin"));
    let authorized = [PORTAL.as_slice(), &[("Authorization", token.as_str())]].concat();
    let reply = server.send("GET", "/connections", &authorized, None).await;
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (200, "https://portal.example"), "{reply:?}");
    assert!(reply.header("access-control-expose-headers").contains("location") && reply.header("vary").contains("Origin"));
    let reply = server.send("GET", "/connections", &PORTAL, None).await;
    assert_eq!(
        (reply.status, reply.header("access-control-allow-origin")),
        (401, "https://portal.example"),
        "a readable refusal"
    );
    assert!(server.get("/connections").await.header("vary").contains("Origin"), "also without an origin, for caches");
}

#[tokio::test]
async fn a_listed_page_gets_neither_stored_passwords_nor_consent_links_and_others_get_nothing() {
    let server = TestServer::with(&open(), ServerLimits::default()).await;
    let token = bearer(FULL);
    let basic = format!("Basic {}", base64::prelude::BASE64_STANDARD.encode(format!("me:{FULL}")));
    let reply =
        server.send("POST", "/connections/heal", &[PORTAL.as_slice(), &[("Authorization", &basic)]].concat(), Some("")).await;
    assert_eq!((reply.status, reply.code().as_str()), (401, "TOKEN_MALFORMED"), "a password that the browser adds by itself");
    assert_eq!(server.send("POST", "/connections/heal", &[("Authorization", &basic)], Some("")).await.status, 200);
    let reply = server.send("POST", "/consent/abc", &PORTAL, Some("")).await;
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (403, ""));
    for origin in ["https://evil.example", "http://portal.example", "https://portal.example:444", "null"] {
        let headers = [("Origin", origin), ("Authorization", &token)];
        let reply = server.send("GET", "/connections", &headers, None).await;
        assert_eq!((reply.status, reply.header("access-control-allow-origin")), (403, ""), "{origin}");
    }
    let headers = [("Sec-Fetch-Site", "cross-site"), ("Authorization", token.as_str())];
    assert_eq!(server.send("GET", "/connections", &headers, None).await.status, 403, "a request without an origin");
    let request = format!(
        "GET /connections HTTP/1.1\r\nHost: rebound.example\r\nOrigin: https://portal.example\r\nAuthorization: {token}\r\nConnection: close\r\n\r\n"
    );
    assert_eq!(server.raw(request.as_bytes()).await.code(), "HOST_NOT_ALLOWED", "the host is checked as before");
}

#[tokio::test]
async fn only_the_dashboard_may_be_in_a_frame_of_the_listed_pages() {
    let server = TestServer::with(&open(), ServerLimits::default()).await;
    for path in ["/", "/api/v1/aam/"] {
        let page = server.get(path).await;
        assert_eq!((page.status, page.header("x-frame-options")), (200, ""), "{path}");
        let policy = page.header("content-security-policy");
        assert!(
            policy.contains("frame-ancestors https://portal.example 'self'") && policy.contains("default-src 'none'"),
            "{policy}"
        );
    }
    for path in ["/connections", "/consent/abc", "/nothing", "/openapi.json"] {
        let reply = server.get(path).await;
        assert_eq!(reply.header("x-frame-options"), "DENY", "{path}");
        assert!(reply.header("content-security-policy").contains("frame-ancestors 'none'"), "{path}");
    }
}

#[tokio::test]
async fn a_key_in_x_api_key_is_a_token_in_every_respect() {
    let server = TestServer::with(&open(), ServerLimits::default()).await;
    let send = async |headers: &[(&str, &str)]| server.send("GET", "/connections", headers, None).await;
    assert_eq!(send(&[("X-API-Key", FULL)]).await.status, 200);
    assert_eq!(send(&[("x-api-key", OTHER)]).await.code(), "NAMESPACE_NOT_ALLOWED");
    let unknown = send(&[("X-API-Key", "no-such-token")]).await;
    assert_eq!((unknown.status, unknown.code().as_str()), (401, "TOKEN_UNKNOWN"));
    assert!(!unknown.body.contains("no-such-token"));
    for malformed in ["", "a b", &"x".repeat(2000)] {
        assert_eq!(send(&[("X-API-Key", malformed)]).await.code(), "TOKEN_MALFORMED", "{malformed}");
    }
    let both = [("X-API-Key", FULL), ("Authorization", &bearer(FULL))];
    assert_eq!(send(&both).await.code(), "TOKEN_MALFORMED", "two credentials");
    assert_eq!(send(&[("X-API-Key", FULL), ("X-API-Key", FULL)]).await.code(), "TOKEN_MALFORMED");
    let mut statuses = Vec::new();
    for n in 0..150 {
        statuses.push(send(&[("X-API-Key", &format!("guess-{n}"))]).await.status);
    }
    assert!(statuses.contains(&429), "guesses are limited: {statuses:?}");
    assert_eq!(send(&[("X-API-Key", FULL)]).await.status, 200, "a valid key works from the same address");
}
