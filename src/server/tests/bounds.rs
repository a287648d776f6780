//! Tests of rate limits, of the names that are served, and of the size of responses.

use super::*;
use crate::server::bounded::MAX_PAGE_BYTES;

fn limited() -> String {
    policy_text().replace("api:\n", "api:\n  hosts: [aam.example]\n  rate: {per_second: 1, burst: 3}\n")
}

#[tokio::test]
async fn a_token_that_sends_too_much_gets_429_and_others_do_not() {
    let server = TestServer::with(&limited(), ServerLimits::default()).await;
    for left in ["2", "1", "0"] {
        let reply = server.get("/connections").await;
        assert_eq!((reply.status, reply.header("ratelimit-remaining"), reply.header("ratelimit-limit")), (200, left, "3"));
    }
    let refused = server.get("/connections").await;
    assert_eq!((refused.status, refused.code().as_str()), (429, "RATE_LIMITED"));
    assert_eq!((refused.header("retry-after"), refused.header("ratelimit-remaining")), ("1", "0"));
    let detail = refused.json()["detail"].as_str().map(str::to_string).unwrap_or_default();
    assert!(detail.contains("Token aod") && detail.contains("api.rate"), "{detail}");
    let reader = server.send("GET", "/connections", &[("Authorization", &bearer(READER))], None).await;
    assert_eq!(reader.status, 200, "each token has its own limit");
    assert_eq!(server.get("/healthz").await.status, 200, "health needs no token and has no limit");
}

#[tokio::test]
async fn invalid_tokens_are_limited_for_each_address_and_valid_ones_still_work() {
    let server = TestServer::new().await;
    let mut statuses = Vec::new();
    for n in 0..200 {
        let token = bearer(&format!("guess-{n}"));
        statuses.push(server.send("GET", "/connections", &[("Authorization", &token)], None).await.status);
    }
    assert!(statuses[..100].iter().all(|status| *status == 401), "{statuses:?}");
    assert!(statuses.contains(&429), "{statuses:?}");
    assert_eq!(server.get("/connections").await.status, 200, "a valid token works from the same address");
    assert_eq!(
        server.send("GET", "/connections", &[], None).await.status,
        401,
        "a request without a token does not count as a guess"
    );
}

#[tokio::test]
async fn requests_under_other_names_and_from_other_sites_are_refused() {
    let server = TestServer::with(&limited(), ServerLimits::default()).await;
    let token = bearer(FULL);
    let raw = async |method: &str, path: &str, headers: &str| {
        let head = format!("{method} {path} HTTP/1.1\r\n{headers}Authorization: {token}\r\nConnection: close\r\n\r\n");
        server.raw(head.as_bytes()).await
    };
    for (headers, code) in [
        ("", "BAD_REQUEST"),
        ("Host: localhost\r\nHost: localhost\r\n", "BAD_REQUEST"),
        ("Host: a b\r\n", "BAD_REQUEST"),
        ("Host: evil.example\r\n", "HOST_NOT_ALLOWED"),
        ("Host: localhost\r\nOrigin: https://evil.example\r\n", "ORIGIN_NOT_ALLOWED"),
        ("Host: localhost\r\nSec-Fetch-Site: cross-site\r\n", "ORIGIN_NOT_ALLOWED"),
    ] {
        let reply = raw("POST", "/connections/heal", headers).await;
        assert_eq!(reply.code(), code, "{headers:?}");
        assert_eq!(reply.json()["instance"], "/connections/heal");
    }
    assert_eq!(raw("GET", "/nothing", "Host: evil.example\r\n").await.code(), "HOST_NOT_ALLOWED");
    assert_eq!(raw("GET", "/healthz", "Host: evil.example\r\n").await.status, 200);
    assert_eq!(raw("GET", "/healthz", "").await.status, 400);
    let own = format!("Host: aam.example\r\nOrigin: http://127.0.0.1:{}\r\nSec-Fetch-Site: same-origin\r\n", server.port);
    assert_eq!(raw("POST", "/connections/heal", &own).await.status, 200);
    let old = server.raw(format!("GET /version HTTP/1.0\r\nAuthorization: {token}\r\n\r\n").as_bytes()).await;
    assert_eq!(old.status, 200, "HTTP/1.0 does not have a Host header");
}

/// The fix of a refused host is the line of the policy that lets it in.
#[tokio::test]
async fn the_fix_of_a_refused_host_works_when_it_is_pasted() {
    let ask = async |policy: &str| {
        let server = TestServer::with(policy, ServerLimits::default()).await;
        server.raw(b"GET /version HTTP/1.1\r\nHost: Aam.Corp.example:8443\r\nConnection: close\r\n\r\n").await
    };
    let policy = "version: 1\nallowlist: [jdbc]\n";
    let refused = ask(policy).await.json()["detail"].as_str().map(str::to_string).unwrap_or_default();
    let line = refused.split("add it to the policy: ").nth(1).and_then(|rest| rest.split(". GET").next()).unwrap_or_default();
    assert_eq!(line, "api: {hosts: [\"aam.corp.example:8443\"]}");
    assert_eq!(ask(&format!("{policy}{line}\n")).await.status, 200);
}

/// A document with many unknown fields with long names, each of which causes a warning.
fn fat(resource: &str, fields: usize) -> Value {
    let mut document = document("jdbc", resource);
    for n in 0..fields {
        document[format!("field-{n}-{}", "x".repeat(50))] = json!("y");
    }
    document
}

#[tokio::test]
async fn pages_of_fat_documents_end_at_their_size_and_hold_every_connection() {
    let server = TestServer::new().await;
    let with_long_ids = |n: usize| {
        let mut document = fat("", 100);
        document["resource_ids"] = (0..64).map(|id| format!("{id}-{n}-{}", "r".repeat(2000))).collect();
        document
    };
    let documents: Vec<Value> = (0..100).map(with_long_ids).collect();
    assert_eq!(server.accept(&documents).await.len(), 100);
    let (mut target, mut seen, mut pages) = ("/connections?limit=1000".to_string(), 0, 0);
    loop {
        let reply = server.get(&target).await;
        assert!(reply.body.len() <= MAX_PAGE_BYTES + (64 << 10), "{} bytes", reply.body.len());
        let page = reply.json();
        let found = page["connections"].as_array().map_or(0, Vec::len);
        assert!(found > 0 && page["total"] == 100);
        assert!(page["connections"][0]["warnings"].as_array().is_some_and(|warnings| warnings.len() <= 20));
        (seen, pages) = (seen + found, pages + 1);
        match page["next_cursor"].as_str() {
            Some(cursor) => target = format!("/connections?limit=1000&cursor={cursor}"),
            None => break,
        }
    }
    assert!(seen == 100 && pages >= 3, "{seen} connections on {pages} pages");
    for path in ["/dashboard.json", "/", "/metrics/funnel", "/metrics"] {
        let reply = server.get(path).await;
        assert!(reply.status == 200 && reply.body.len() <= 2 * MAX_PAGE_BYTES, "{path}: {} bytes", reply.body.len());
    }
    let healed = server.post_with("/connections/heal", &json!({}), &[("Prefer", "respond-async")]).await;
    assert!(healed.json()["total"] == 100 && healed.body.len() <= MAX_PAGE_BYTES + (64 << 10), "{} bytes", healed.body.len());
}

#[tokio::test]
async fn histories_end_at_their_size_and_hold_every_entry() {
    let server = TestServer::new().await;
    let mut id = None;
    for n in 0..12 {
        let mut document = document("jdbc", "a");
        document["note"] = json!(format!("{n}{}", "n".repeat(900 << 10)));
        id = server.accept(&[document]).await.first().copied();
    }
    let id = id.expect("a connection");
    let (mut target, mut seqs, mut pages) = (format!("/connections/{id}/versions?limit=1000"), Vec::new(), 0);
    loop {
        let reply = server.get(&target).await;
        assert!(reply.body.len() <= MAX_PAGE_BYTES + (64 << 10), "{} bytes", reply.body.len());
        let page = reply.json();
        for entry in page["versions"].as_array().into_iter().flatten() {
            let note = entry["body"]["note"].as_str().map_or(0, str::len);
            assert!(note > 900 << 10 && entry["body_bytes"].as_u64() > Some(900 << 10), "the body is complete");
            seqs.push(entry["seq"].as_u64());
        }
        pages += 1;
        match page["next_cursor"].as_str() {
            Some(cursor) => target = format!("/connections/{id}/versions?limit=1000&cursor={cursor}"),
            None => break,
        }
    }
    assert!(pages >= 3, "{pages} pages");
    assert_eq!(seqs.len(), 12);
    assert!(seqs.is_sorted_by(|left, right| left > right), "newest first, each once");
}

#[tokio::test]
async fn a_fat_catalog_is_read_in_pages_and_fat_steps_are_cut() {
    let server = TestServer::new().await;
    let id = server.accept(&[document("jdbc", "a")]).await[0];
    let mut outcome = passed("");
    let stream = outcome.catalog.as_ref().expect("a catalog").streams[0].clone();
    let streams = (0..3000).map(|n| Stream {
        name: format!("table{n:04}"),
        json_schema: json!({"properties": {"column": {"description": "d".repeat(3000)}}}),
        ..stream.clone()
    });
    outcome.catalog = Some(Catalog { streams: streams.collect(), ..Catalog::default() });
    for step in &mut outcome.steps {
        step.evidence.insert("list".to_string(), json!((0..50_000).collect::<Vec<u32>>()));
        step.evidence.insert("text".to_string(), json!("t".repeat(100 << 10)));
    }
    server.attempt(id, outcome).await;
    let (mut target, mut names) = (format!("/connections/{id}/catalog"), Vec::new());
    loop {
        let reply = server.get(&target).await;
        assert!(reply.body.len() <= MAX_PAGE_BYTES + (64 << 10), "{} bytes", reply.body.len());
        let page = reply.json();
        assert_eq!(page["streams_total"], 3000);
        names.extend(page["catalog"]["streams"].as_array().into_iter().flatten().map(|stream| stream["name"].to_string()));
        match page["next_cursor"].as_str() {
            Some(cursor) => target = format!("/connections/{id}/catalog?cursor={cursor}"),
            None => break,
        }
    }
    assert!(names.len() == 3000 && names.is_sorted(), "every stream once, in order");
    assert_eq!(server.get(&format!("/connections/{id}/catalog?limit=2")).await.json()["next_cursor"], "1.2");
    for path in ["", "/health"] {
        let reply = server.get(&format!("/connections/{id}{path}")).await;
        assert!(reply.status == 200 && reply.body.len() < 1 << 20, "{path}: {} bytes", reply.body.len());
        assert!(reply.body.contains("50000 items in total"), "what is cut is said");
    }
}

#[tokio::test]
async fn a_batch_names_every_item_in_a_bounded_response() {
    let server = TestServer::new().await;
    let intents: Vec<Value> = (0..1000).map(|n| fat(&format!("r{n}"), 100)).collect();
    let invalid: Vec<Value> = (0..1000).map(|_| json!({"source_type": 1, "resource_ids": "x", "evidence": 3})).collect();
    let body = json!({ "intents": intents.into_iter().chain(invalid).collect::<Vec<Value>>() });
    let sent = body.to_string().len();
    let reply = server.post_with("/connections/onboard/batch", &body, &[("Prefer", "respond-async")]).await;
    let answer = reply.json();
    assert_eq!((&answer["total"], &answer["failed"]), (&json!(2000), &json!(1000)));
    assert_eq!(answer["results"].as_array().map(Vec::len), Some(2000));
    assert!(reply.body.len() < MAX_PAGE_BYTES + sent, "{} bytes for {sent}", reply.body.len());
    let large = fat("large", 20_000);
    let reply = server.post("/connections/onboard/batch", &json!({ "intents": [large] })).await;
    assert_eq!(reply.json()["results"][0]["http_status"], 413, "the limit of one intent holds in a batch too");
}
