//! Tests of read-only POSTs over real sockets. A listed POST is sent in the form that was checked, and any other POST
//! is not sent.

use super::rig::{Captured, Reply, Server, World, answer};
use crate::credentials::Secret;
use crate::egress::{CallRecorder, HttpRequest, Method};
use crate::model::{Class, Failure, PostRule, Posts};
use serde_json::json;
use std::sync::{Arc, Mutex};

fn rules(server: &Server) -> Posts {
    let list = json!([
        {"url": server.url("/token"), "why": "a token", "idempotent": true,
         "body": {"form": {"grant_type": {"is": "client_credentials"}, "client_id": "any", "client_secret": "any"}}},
        {"url": server.url("/query"), "why": "reads", "query": {"limit": {"is": 1}},
         "body": {"json": {"statement": {"one_of": ["SHOW TABLES LIMIT 20"]}, "timeout": "any", "options": {"object": {"n": "any"}}}}},
        {"url": server.url("/aws"), "why": "reads", "headers": {"x-amz-target": "Org.List", "content-type": "application/x-amz-json-1.1"},
         "body": {"json": {"MaxResults": "any"}}},
        {"url": server.url("/who"), "why": "who am I", "body": "none"},
        {"url": server.url("/account"), "why": "a function without arguments", "body": "null"},
    ]);
    let rules: Vec<PostRule> = serde_json::from_value(list).unwrap();
    Posts { list: "posts in families/test.yaml".to_string(), rules }
}

fn world(server: &Server) -> World {
    World { posts: rules(server), ..World::new() }
}

fn post(url: &str, headers: &[(&str, &str)], body: Option<&str>) -> HttpRequest {
    let headers = headers.iter().map(|(name, value)| ((*name).to_string(), Secret::new((*value).to_string()))).collect();
    let method = Method::ListedPost(body.map(|body| Secret::new(body.to_string())));
    HttpRequest { method, url: url::Url::parse(url).unwrap(), headers, max_bytes: 1 << 20, follow_redirects: true }
}

async fn refused(world: &World, server: &Server, path: &str, headers: &[(&str, &str)], body: Option<&str>) -> Failure {
    let failure = world.session().http(post(&server.url(path), headers, body)).await.unwrap_err();
    assert_eq!(failure.class, Class::EgressRefused, "{failure:?}");
    failure
}

const FORM: &str = "grant_type=client_credentials&client_id=i&client_secret=of-the-canary-7777";

#[tokio::test]
async fn a_post_off_the_list_never_opens_a_socket() {
    let server = Server::start(vec![answer(200, &[], b"done")]).await;
    let listed = world(&server);
    for (path, body, expected) in [
        ("/delete", None, "no entry names this address"),
        ("/who/", None, "no entry names this address"),
        ("/who", Some("{}"), "the entry allows no body"),
        ("/account", None, "the entry allows only the body null"),
        ("/account", Some("{}"), "the entry allows only the body null"),
        ("/account", Some("nulls"), "the entry allows only the body null"),
        ("/who?team=1", None, "query key team is not allowed (allowed: none)"),
        ("/token", Some("client_id=i"), "form key grant_type is missing"),
        ("/token", Some("grant_type=password"), "form key grant_type has a value that the entry does not allow"),
        ("/token", Some("grant_type=client_credentials&grant_type=password"), "form key grant_type is repeated"),
        ("/token", Some("grant_type=client_credentials&_method=delete"), "form key _method is not allowed"),
        (
            "/query?limit=1",
            Some(r#"{"statement":"DROP TABLE t"}"#),
            "body key statement has a value that the entry does not allow",
        ),
        ("/query?limit=1", Some(r#"{"timeout":{"a":1}}"#), "body key timeout has a value that the entry does not allow"),
        ("/query?limit=1", Some(r#"{"options":{"m":1}}"#), "options key m is not allowed (allowed: n)"),
        ("/query?limit=1", Some("[1]"), "the body is not a JSON object"),
        ("/query?limit=1", Some("a=b"), "the body is not valid JSON"),
        ("/query?limit=2", Some("{}"), "query key limit has a value that the entry does not allow"),
        ("/query", Some("{}"), "query key limit is missing"),
        ("/aws", Some("{}"), "the entry requires the header content-type: application/x-amz-json-1.1"),
    ] {
        let failure = refused(&listed, &server, path, &[], body).await;
        assert!(failure.detail.contains(expected), "{path} {body:?}: {failure:?}");
        assert!(failure.fix.contains("posts in families/test.yaml"), "{failure:?}");
    }
    let twice = [("x-amz-target", "Org.List"), ("X-Amz-Target", "Org.Close")];
    refused(&listed, &server, "/aws", &twice, Some("{}")).await;
    refused(&listed, &server, "/token", &[("content-type", "application/json")], Some(FORM)).await;
    let none = World::new();
    let failure = refused(&none, &server, "/who", &[], None).await;
    assert!(failure.title.starts_with(&format!("POST http://127.0.0.1:{}/who was not sent", server.port)), "{failure:?}");
    assert!(failure.fix.contains("this source has no such list"), "{failure:?}");
    assert_eq!((server.count(), listed.budget.total(), none.budget.total()), (0, 0, 0));
    assert!(listed.lookup.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_function_without_arguments_has_the_body_null() {
    let server = Server::start(vec![answer(200, &[], b"{}")]).await;
    for headers in [&[][..], &[("content-type", "application/json")]] {
        let call = post(&server.url("/account"), headers, Some(" null "));
        assert_eq!(world(&server).session().http(call).await.unwrap().status, 200);
    }
    for head in server.heads.lock().unwrap().iter() {
        assert!(head.contains("content-type: application/json\r\n") && head.ends_with("\r\n\r\nnull"), "{head}");
    }
}

#[tokio::test]
async fn a_listed_post_is_sent_as_it_was_judged() {
    let server = Server::start(vec![answer(200, &[], b"{}")]).await;
    let world = world(&server);
    let session = world.session();
    let calls = [
        post(&server.url("/token"), &[("authorization", "Basic x")], Some(FORM)),
        post(
            &server.url("/query?limit=1"),
            &[("content-type", "application/json; charset=utf-8")],
            Some(r#"{"timeout": 5, "timeout": 6}"#),
        ),
        post(&server.url("/aws"), &[("X-Amz-Target", "Org.List"), ("content-type", "application/x-amz-json-1.1")], Some("{ }")),
        post(&server.url("/who"), &[], None),
    ];
    for call in calls {
        assert_eq!(session.http(call).await.unwrap().status, 200);
    }
    let heads = server.heads.lock().unwrap().clone();
    for (head, parts) in heads.iter().zip([
        ["POST /token HTTP/1.1", "content-type: application/x-www-form-urlencoded", FORM],
        // The key is repeated in the original body. The server receives the body that was checked, with only one of the
        // two values.
        ["POST /query?limit=1 HTTP/1.1", "content-type: application/json; charset=utf-8", r#"{"timeout":6}"#],
        ["POST /aws HTTP/1.1", "content-type: application/x-amz-json-1.1", "\r\n\r\n{}"],
        ["POST /who HTTP/1.1", "content-length: 0", "\r\n\r\n"],
    ]) {
        assert!(parts.iter().all(|part| head.contains(part)), "{parts:?}: {head}");
        assert_eq!(head.matches("content-type").count(), usize::from(!head.contains("/who")), "{head}");
    }
    assert_eq!((heads.len(), world.budget.total(), session.traffic().calls), (4, 10, 4));
}

#[tokio::test]
async fn a_post_is_sent_once_unless_its_entry_is_idempotent() {
    let cut = Server::start(vec![Reply::Close, answer(200, &[], b"late")]).await;
    let failure = world(&cut).session().http(post(&cut.url("/who"), &[], None)).await.unwrap_err();
    assert_eq!((failure.class, cut.count()), (Class::Network, 1));
    let busy = Server::start(vec![answer(502, &[], b""), answer(200, &[], b"late")]).await;
    assert_eq!(world(&busy).session().http(post(&busy.url("/who"), &[], None)).await.unwrap().status, 502);
    assert_eq!(busy.count(), 1);
    let token = Server::start(vec![answer(502, &[], b""), Reply::Close, answer(200, &[], b"t")]).await;
    assert_eq!(world(&token).session().http(post(&token.url("/token"), &[], Some(FORM))).await.unwrap().status, 200);
    assert_eq!(token.count(), 3);
}

#[tokio::test]
async fn a_post_is_never_redirected_and_respects_throttling_and_the_guard() {
    let other = Server::start(vec![answer(200, &[], b"gotcha")]).await;
    for place in ["/query".to_string(), other.url("/")] {
        let server = Server::start(vec![answer(307, &[("location", &place)], b"")]).await;
        let failure = world(&server).session().http(post(&server.url("/token"), &[], Some(FORM))).await.unwrap_err();
        assert_eq!((failure.class, server.count()), (Class::EgressRefused, 1));
        assert!(failure.title.ends_with("/token is redirected; AAM does not follow redirects of a POST"), "{failure:?}");
    }
    assert_eq!(other.count(), 0);
    let busy = Server::start(vec![answer(429, &[("retry-after", "7")], b"slow down")]).await;
    let failure = world(&busy).session().http(post(&busy.url("/who"), &[], None)).await.unwrap_err();
    assert_eq!((failure.class, failure.retry_after_ms), (Class::Throttled, Some(7000)));
    let mut closed = world(&busy);
    closed.policy.network.allow_private.clear();
    let failure = closed.session().http(post(&busy.url("/who"), &[], None)).await.unwrap_err();
    assert!(failure.title.contains("a loopback address"), "{failure:?}");
    assert_eq!(busy.count(), 1);
}

#[tokio::test]
async fn no_header_turns_a_read_into_a_write() {
    let server = Server::start(vec![answer(200, &[], b"")]).await;
    let world = world(&server);
    let headers = [
        "X-HTTP-Method-Override",
        "X_HTTP_Method_Override",
        "x-http-method",
        "X-Method-Override",
        "X-Original-URL",
        "X-Rewrite_URL",
        "Host",
        "Transfer-Encoding",
    ];
    for name in headers {
        let failure = refused(&world, &server, "/who", &[(name, "DELETE")], None).await;
        assert_eq!(failure.title, format!("the header {name} is never sent"));
        let mut get = super::rig::get(&server.url("/"));
        get.headers.push((name.to_string(), Secret::new("DELETE".to_string())));
        assert_eq!(world.session().http(get).await.unwrap_err().class, Class::EgressRefused);
    }
    assert_eq!((server.count(), world.budget.total()), (0, 0));
}

#[tokio::test]
async fn the_log_names_the_post_and_nothing_of_its_body() {
    let server = Server::start(vec![answer(200, &[], b"{}")]).await;
    let world = world(&server);
    let out = Arc::new(Mutex::new(Vec::new()));
    let writer = Captured(Arc::clone(&out));
    let subscriber =
        tracing_subscriber::fmt().json().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone()).finish();
    // `tracing` caches for the whole process whether an event is enabled. Make a first call without a subscriber, then
    // rebuild the cache once the subscriber is set.
    world.session().http(post(&server.url("/token"), &[], Some(FORM))).await.unwrap();
    let _guard = tracing::subscriber::set_default(subscriber);
    tracing::callsite::rebuild_interest_cache();
    world.session().http(post(&server.url("/token"), &[], Some(FORM))).await.unwrap();
    let failure = refused(&world, &server, "/token", &[], Some("grant_type=x&client_secret=of-the-canary-7777")).await;
    let text = String::from_utf8(out.lock().unwrap().clone()).unwrap();
    let port = url::Url::parse(&server.url("/")).unwrap().port().unwrap();
    let call = format!(r#""method":"POST","host":"127.0.0.1:{port}","path":"/token","status":200"#);
    assert!(text.contains(&call), "{text}");
    assert!(!text.contains("canary-7777") && !format!("{failure:?}").contains("canary-7777"), "{text}");
}

#[tokio::test]
async fn the_record_of_a_post_counts_the_response_and_the_request_apart() {
    let server = Server::start(vec![answer(200, &[], b"{}")]).await;
    let (world, recorder) = (world(&server), CallRecorder::new());
    let target = [("X-Amz-Target", "Org.List"), ("content-type", "application/x-amz-json-1.1")];
    let work = async {
        world.session().http(post(&server.url("/aws"), &target, Some("{\"MaxResults\":20}"))).await.unwrap();
    };
    recorder.run(work).await;
    let calls = recorder.take().calls;
    assert_eq!(calls.len(), 1, "{calls:?}");
    assert_eq!((calls[0].bytes, calls[0].sent), (2, Some(17)), "{calls:?}");
    let host = server.url("").replace("http://", "");
    assert_eq!((calls[0].target.host.as_str(), calls[0].target.statement.as_str()), (host.as_str(), "Org.List"));
}
