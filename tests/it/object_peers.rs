//! `s3` and `s3_compat` against moto in auth mode, which verifies every signature and IAM policy,
//! and against a server of a few lines where a store misbehaves in a way moto cannot.
//!
//! `scripts/peers/moto.sh start DIR` writes DIR/env; its variables must be set, or these tests fail.

use crate::object_wire::{Moved, Plain, Seen, http, serve};
use aam::connectors::object::ObjectEngine;
use aam::connectors::{Bounds, Opened};
use aam::credentials::{Credential, Secret};
use aam::model::{Catalog, Class, Failure, Privilege};
use aam::policy::FamilyPolicy;
use std::sync::Arc;

fn variable(name: &str) -> String {
    let full = format!("AAM_TEST_MOTO_{name}");
    std::env::var(&full).unwrap_or_else(|_| panic!("{full} is not set: run scripts/peers/moto.sh start DIR and set what DIR/env says"))
}

fn endpoint() -> String {
    variable("ENDPOINT")
}

fn credential(text: &str) -> Credential {
    Credential::read(Secret::new(text.to_string()))
}

/// The key of one of the seed's users.
fn key_of(user: &str) -> Credential {
    credential(&format!("{}:{}", variable(&format!("{user}_KEY_ID")), variable(&format!("{user}_SECRET"))))
}

/// Opens `bucket` at `endpoint` as `s3_compat`.
async fn open_at(endpoint: &str, bucket: &str, key: &Credential) -> (Arc<Plain>, Result<Opened, Failure>) {
    let wire = Plain::new();
    let engine = ObjectEngine::compatible(Arc::new(Moved(0)));
    let opened = engine.open_on(wire.clone(), &format!("{endpoint}/{bucket}"), Some(key), &FamilyPolicy::default()).await;
    (wire, opened)
}

async fn opened(bucket: &str, key: &Credential) -> Opened {
    match open_at(&endpoint(), bucket, key).await.1 {
        Ok(opened) => opened,
        Err(failure) => panic!("{bucket}: {failure:?}"),
    }
}

async fn refused(endpoint: &str, bucket: &str, key: &Credential) -> Failure {
    match open_at(endpoint, bucket, key).await.1 {
        Ok(opened) => panic!("{bucket} opened: {:?}", opened.identity),
        Err(failure) => failure,
    }
}

async fn discover(opened: &Opened, bounds: Bounds) -> Catalog {
    opened.connector.discover(bounds).await.expect("discovery").catalog
}

fn names(catalog: &Catalog) -> Vec<&str> {
    catalog.streams.iter().map(|stream| stream.name.as_str()).collect()
}

#[tokio::test]
async fn the_least_privilege_opens_discovers_and_samples() {
    let (wire, result) = open_at(&endpoint(), "aam-landing", &key_of("LISTER")).await;
    let opened = result.unwrap_or_else(|failure| panic!("{failure:?}"));
    assert_eq!(opened.identity["bucket"], "aam-landing");
    assert_eq!(opened.identity["addressing"], "path");
    assert!(matches!(opened.privilege, Privilege::Unknown { .. }));

    let catalog = discover(&opened, Bounds::default()).await;
    assert_eq!(names(&catalog), ["events/", "objects", "orders/", "räume/"]);
    let top = catalog.streams.iter().find(|stream| stream.name == "objects").expect("the top");
    assert_eq!((top.row_estimate, top.namespace.as_deref()), (Some(2), Some("aam-landing")));
    assert!(top.json_schema["properties"].get("etag").is_some());

    let health = opened.connector.health().await.expect("healthy");
    assert_eq!(health["status"], 200);
    let sample = opened.connector.tiny_sync(&catalog, 20).await.expect("a sample");
    assert_eq!((sample.rows, &sample.evidence["metadata_only"], &sample.evidence["more"]), (20, &true.into(), &true.into()));
    assert_eq!(opened.connector.tiny_sync(&catalog, 3).await.expect("a sample").rows, 3);

    let sent = wire.sent.lock().expect("unpoisoned");
    let secret = variable("LISTER_SECRET");
    assert_eq!(opened.connector.traffic().calls, sent.len() as u64);
    for call in sent.iter() {
        let line = call.lines().next().unwrap_or_default();
        assert!(line.starts_with("HEAD ") || line.contains("/aam-landing?list-type=2&"), "only listings: {line}");
        assert!(!call.contains(&secret) && !line.contains("Signature"), "{line}");
    }
}

#[tokio::test]
async fn both_families_open_the_same_bucket_through_the_policys_base_url() {
    let policy = FamilyPolicy { base_url: Some(endpoint()), ..FamilyPolicy::default() };
    for (engine, id) in [
        (ObjectEngine::new(Arc::new(Moved(0))), "arn:aws:s3:::aam-landing"),
        (ObjectEngine::new(Arc::new(Moved(0))), "s3://aam-landing/orders"),
        (ObjectEngine::compatible(Arc::new(Moved(0))), "aam-landing"),
    ] {
        let opened = engine.open_on(Plain::new(), id, Some(&key_of("LISTER")), &policy).await;
        assert_eq!(opened.map(|opened| opened.identity["bucket"].clone()).unwrap_or_else(|failure| panic!("{id}: {failure:?}")), "aam-landing");
    }
}

#[tokio::test]
async fn a_prefix_with_odd_characters_is_signed_and_bounds_what_is_seen() {
    let key = key_of("LISTER");
    let orders = opened("aam-landing/orders", &key).await;
    let catalog = discover(&orders, Bounds::default()).await;
    assert_eq!(names(&catalog), ["orders/2026/", "orders/objects"]);
    assert_eq!(orders.connector.tiny_sync(&catalog, 20).await.expect("a sample").rows, 12);
    let odd = opened("aam-landing/r%C3%A4ume", &key).await;
    assert_eq!(odd.connector.tiny_sync(&Catalog::default(), 20).await.expect("a sample").rows, 1);
    // A folder's name is not the beginning of another one's.
    let order = opened("aam-landing/order", &key).await;
    assert_eq!(order.connector.tiny_sync(&Catalog::default(), 20).await.expect("a sample").rows, 0);
}

#[tokio::test]
async fn temporary_keys_need_their_session_token() {
    let (id, secret, token) = (variable("SESSION_KEY_ID"), variable("SESSION_SECRET"), variable("SESSION_TOKEN"));
    let json = |token: &str| credential(&serde_json::json!({"access_key_id": id, "secret_access_key": secret, "session_token": token}).to_string());
    assert_eq!(opened("aam-landing", &json(&token)).await.identity["bucket"], "aam-landing");
    let failure = refused(&endpoint(), "aam-landing", &json("another")).await;
    assert_eq!(failure.class, Class::CredentialRejected, "{failure:?}");
}

#[tokio::test]
async fn a_wrong_secret_and_an_unknown_key_are_rejected() {
    let wrong = credential(&format!("{}:not-the-secret", variable("LISTER_KEY_ID")));
    let failure = refused(&endpoint(), "aam-landing", &wrong).await;
    assert_eq!(failure.class, Class::CredentialRejected);
    assert!(failure.detail.starts_with("SignatureDoesNotMatch"), "{failure:?}");
    let failure = refused(&endpoint(), "aam-landing", &credential("nobody-knows-me:not-the-secret")).await;
    assert_eq!(failure.class, Class::CredentialRejected);
    assert!(failure.detail.starts_with("InvalidAccessKeyId"), "{failure:?}");
}

#[tokio::test]
async fn a_missing_right_is_named_with_its_remedy() {
    for (user, bucket) in [("NOBODY", "aam-landing"), ("LISTER", "empty-bucket")] {
        let failure = refused(&endpoint(), bucket, &key_of(user)).await;
        assert_eq!(failure.class, Class::PermissionDenied, "{failure:?}");
        assert!(failure.title.contains("s3:ListBucket") && failure.title.contains(&format!("arn:aws:s3:::{bucket}")), "{failure:?}");
        assert!(failure.fix.contains(r#""Action":["s3:ListBucket"]"#) && failure.detail.starts_with("AccessDenied"), "{failure:?}");
    }
}

#[tokio::test]
async fn missing_empty_dotted_and_large_buckets() {
    let key = key_of("AUDITOR");
    let failure = refused(&endpoint(), "no-such-bucket", &key).await;
    assert_eq!(failure.class, Class::NotFound, "{failure:?}");

    let empty = opened("empty-bucket", &key).await;
    let catalog = discover(&empty, Bounds::default()).await;
    let sample = empty.connector.tiny_sync(&catalog, 20).await.expect("a sample");
    assert_eq!((names(&catalog), sample.rows, &sample.evidence["note"]), (vec!["objects"], 0, &"empty".into()));

    let dotted = opened("dotted.bucket.name", &key).await;
    assert_eq!(dotted.connector.tiny_sync(&Catalog::default(), 20).await.expect("a sample").rows, 1);

    let many = opened("many-folders", &key).await;
    let whole = discover(&many, Bounds { streams: 5000, ..Bounds::default() }).await;
    assert_eq!((whole.streams.len(), whole.truncated), (1101, false));
    let bounded = discover(&many, Bounds { streams: 100, ..Bounds::default() }).await;
    assert_eq!((bounded.streams.len(), bounded.truncated), (100, true));
}

const KEY: &str = "some-id:some-secret";

fn listing(bucket: &str, more: &str) -> String {
    http("200 OK", "x-amz-request-id: R\r\n", &format!("<ListBucketResult><Name>{bucket}</Name>{more}</ListBucketResult>"))
}

#[tokio::test]
async fn a_region_in_the_header_is_signed_for_and_moved_to() {
    // The path stands for the host that follows the region.
    let at = serve(|seen: &Seen| match (seen.target().starts_with("/eu-central-1/acme"), seen.signed_for("eu-central-1")) {
        (true, true) if seen.is_head() => http("200 OK", "x-amz-bucket-region: eu-central-1\r\nx-amz-request-id: R\r\n", ""),
        (true, true) => listing("acme", ""),
        _ => http("301 Moved Permanently", "x-amz-bucket-region: eu-central-1\r\n", ""),
    })
    .await;
    let policy = FamilyPolicy { base_url: Some(format!("{at}/{{region}}")), ..FamilyPolicy::default() };
    let engine = ObjectEngine::new(Arc::new(Moved(0)));
    let opened = engine.open_on(Plain::new(), "acme", Some(&credential(KEY)), &policy).await.unwrap_or_else(|failure| panic!("{failure:?}"));
    assert_eq!((&opened.identity["region"], &opened.identity["region_from"]), (&"eu-central-1".into(), &"the store".into()));
    assert_eq!(opened.connector.health().await.expect("healthy")["probe"], "HEAD bucket");
}

#[tokio::test]
async fn a_region_in_the_error_body_is_signed_for() {
    let at = serve(|seen: &Seen| match (seen.signed_for("garage"), seen.is_head()) {
        (false, true) => http("400 Bad Request", "", ""),
        (false, false) => {
            http("400 Bad Request", "", "<Error><Code>AuthorizationHeaderMalformed</Code><Message>m</Message><Region>garage</Region></Error>")
        }
        (true, _) => listing("acme", ""),
    })
    .await;
    let (_, result) = open_at(&at, "acme", &credential(KEY)).await;
    assert_eq!(result.map(|opened| opened.identity["region"].clone()).unwrap_or_else(|failure| panic!("{failure:?}")), "garage");
}

#[tokio::test]
async fn a_store_that_sends_around_or_away_is_not_followed() {
    let around = serve(|seen: &Seen| {
        let other = if seen.signed_for("a") { "b" } else { "a" };
        http("301 Moved Permanently", &format!("x-amz-bucket-region: {other}\r\n"), "")
    })
    .await;
    assert_eq!(refused(&around, "acme", &credential(KEY)).await.class, Class::Misconfigured);
    let away = serve(|_: &Seen| http("301 Moved Permanently", "x-amz-bucket-region: evil.example/\r\nlocation: http://evil.example/\r\n", "")).await;
    let (wire, result) = open_at(&away, "acme", &credential(KEY)).await;
    assert_eq!(result.err().map(|failure| failure.class), Some(Class::WrongService));
    assert!(wire.sent.lock().expect("unpoisoned").iter().all(|call| call.contains(&away)));
}

#[tokio::test]
async fn cut_foreign_and_other_buckets_answers_are_no_pass() {
    let cases: [(&str, String, Class); 5] = [
        ("cut XML", http("200 OK", "", "<?xml version=\"1.0\"?><ListBucketResult><Name>acme</Name><Contents><Key>a"), Class::Remote),
        ("cut body", "HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n<ListBucketResult><Name>acme</Name>".to_string(), Class::Remote),
        ("web server", http("200 OK", "content-type: text/html\r\n", "<!doctype html><html></html>"), Class::WrongService),
        ("other bucket", listing("other", ""), Class::WrongService),
        ("slow down", http("503 Slow Down", "", "<Error><Code>SlowDown</Code><Message>m</Message></Error>"), Class::Throttled),
    ];
    for (name, get, class) in cases {
        let at = serve(move |seen: &Seen| if seen.is_head() { http("200 OK", "", "") } else { get.clone() }).await;
        let failure = refused(&at, "acme", &credential(KEY)).await;
        assert_eq!(failure.class, class, "{name}: {failure:?}");
    }
}

#[tokio::test]
async fn nobody_there_and_nobody_answering() {
    let gone = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        format!("http://{}", listener.local_addr().expect("an address"))
    };
    assert_eq!(refused(&gone, "acme", &credential(KEY)).await.class, Class::Network);
    let silent = serve(|_: &Seen| String::new()).await;
    assert_eq!(refused(&silent, "acme", &credential(KEY)).await.class, Class::Network);
}

#[tokio::test]
async fn a_key_that_may_list_and_not_head_is_enough() {
    let at = serve(|seen: &Seen| match (seen.is_head(), seen.target().contains("prefix=logs%2F")) {
        (false, true) => listing("acme", "<Contents><Key>logs/a</Key><Size>3</Size></Contents>"),
        _ => http("403 Forbidden", "", ""),
    })
    .await;
    let (_, result) = open_at(&at, "acme/logs", &credential(KEY)).await;
    let opened = result.unwrap_or_else(|failure| panic!("{failure:?}"));
    assert_eq!(opened.identity["head_status"], 403);
    assert_eq!(opened.connector.health().await.expect("healthy")["probe"], "ListObjectsV2 max-keys=1");
}

#[tokio::test]
async fn endless_and_greedy_listings_are_bounded() {
    let endless = serve(|seen: &Seen| {
        let next = seen.target().split("continuation-token=").nth(1).and_then(|text| text.split('&').next()).map_or(1, |token| token.len() + 1);
        let token = "t".repeat(next);
        listing("acme", &format!("<CommonPrefixes><Prefix>{token}/</Prefix></CommonPrefixes><IsTruncated>true</IsTruncated><NextContinuationToken>{token}</NextContinuationToken>"))
    })
    .await;
    let (wire, result) = open_at(&endless, "acme", &credential(KEY)).await;
    let opened = result.unwrap_or_else(|failure| panic!("{failure:?}"));
    let before = wire.sent.lock().expect("unpoisoned").len();
    let catalog = discover(&opened, Bounds::default()).await;
    assert_eq!((catalog.streams.len(), catalog.truncated), (6, true));
    assert_eq!(wire.sent.lock().expect("unpoisoned").len() - before, 5);

    let greedy = serve(|_: &Seen| listing("acme", &"<Contents><Key>a</Key></Contents>".repeat(50))).await;
    let (_, result) = open_at(&greedy, "acme", &credential(KEY)).await;
    let opened = result.unwrap_or_else(|failure| panic!("{failure:?}"));
    assert_eq!(opened.connector.tiny_sync(&Catalog::default(), 20).await.expect("a sample").rows, 20);
}

#[tokio::test]
async fn no_secret_is_in_any_failure() {
    // A store that repeats everything it was sent, as SignatureDoesNotMatch does.
    let echo = serve(|seen: &Seen| {
        let body = format!("<Error><Code>SignatureDoesNotMatch</Code><Message>no</Message><CanonicalRequest>{}</CanonicalRequest></Error>", seen.0.replace('&', "&amp;"));
        http("403 Forbidden", "", &body)
    })
    .await;
    let key = credential(r#"{"access_key_id":"some-id","secret_access_key":"canary-secret","session_token":"canary-token"}"#);
    let failure = refused(&echo, "acme", &key).await;
    assert_eq!(failure.class, Class::CredentialRejected);
    assert!(!format!("{failure:?}").contains("canary"), "{failure:?}");
}
