//! `s3` and `s3_compat` against a small server that fails in ways in which moto and nanio do not.

use crate::support::network::closed_port;
use crate::support::object_store::{
    OffsetClock, ReceivedHead, credential, discover, http, open_at, recording_session, refused, serve,
};
use aam::connectors::Bounds;
use aam::connectors::object::ObjectEngine;
use aam::model::{Catalog, Class};
use aam::policy::FamilyPolicy;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

const KEY: &str = "some-id:some-secret";

fn listing(bucket: &str, more: &str) -> String {
    http("200 OK", "x-amz-request-id: R\r\n", &format!("<ListBucketResult><Name>{bucket}</Name>{more}</ListBucketResult>"))
}

#[tokio::test]
async fn a_region_in_the_header_is_used_for_the_signature_and_the_host() {
    // In this test the region is in the path of the URL; at Amazon it is in the host name.
    let at = serve(|request: &ReceivedHead| {
        match (request.target().starts_with("/eu-central-1/acme"), request.signed_for("eu-central-1")) {
            (true, true) if request.is_head() => {
                http("200 OK", "x-amz-bucket-region: eu-central-1\r\nx-amz-request-id: R\r\n", "")
            }
            (true, true) => listing("acme", ""),
            _ => http("301 Moved Permanently", "x-amz-bucket-region: eu-central-1\r\n", ""),
        }
    })
    .await;
    let policy = FamilyPolicy { base_url: Some(format!("{at}/{{region}}")), ..FamilyPolicy::default() };
    let engine = ObjectEngine::new(Arc::new(OffsetClock(0)));
    let opened = engine
        .open_on(recording_session("s3_compat"), "acme", Some(&credential(KEY)), &policy)
        .await
        .unwrap_or_else(|failure| panic!("{failure:?}"));
    assert_eq!((&opened.identity["region"], &opened.identity["region_from"]), (&"eu-central-1".into(), &"the store".into()));
    assert_eq!(opened.connector.health().await.expect("healthy")["probe"], "HEAD bucket");
}

#[tokio::test]
async fn a_region_in_the_error_body_is_used_for_the_signature() {
    let at = serve(|request: &ReceivedHead| match (request.signed_for("garage"), request.is_head()) {
        (false, true) => http("400 Bad Request", "", ""),
        (false, false) => http(
            "400 Bad Request",
            "",
            "<Error><Code>AuthorizationHeaderMalformed</Code><Message>m</Message><Region>garage</Region></Error>",
        ),
        (true, _) => listing("acme", ""),
    })
    .await;
    let (_, result) = open_at(&at, "acme", &credential(KEY)).await;
    assert_eq!(result.map(|opened| opened.identity["region"].clone()).unwrap_or_else(|failure| panic!("{failure:?}")), "garage");
}

#[tokio::test]
async fn redirect_loops_and_redirects_to_other_hosts_are_not_followed() {
    let looping = serve(|request: &ReceivedHead| {
        let other = if request.signed_for("a") { "b" } else { "a" };
        http("301 Moved Permanently", &format!("x-amz-bucket-region: {other}\r\n"), "")
    })
    .await;
    assert_eq!(refused(&looping, "acme", &credential(KEY)).await.class, Class::Misconfigured);
    let away = serve(|_: &ReceivedHead| {
        http("301 Moved Permanently", "x-amz-bucket-region: evil.example/\r\nlocation: http://evil.example/\r\n", "")
    })
    .await;
    let (session, result) = open_at(&away, "acme", &credential(KEY)).await;
    assert_eq!(result.err().map(|failure| failure.class), Some(Class::WrongService));
    assert!(session.sent.lock().expect("unpoisoned").iter().all(|call| call.contains(&away)));
}

#[tokio::test]
async fn truncated_and_foreign_responses_are_failures() {
    let cases: [(&str, String, Class); 8] = [
        (
            "cut XML",
            http("200 OK", "", "<?xml version=\"1.0\"?><ListBucketResult><Name>acme</Name><Contents><Key>a"),
            Class::Remote,
        ),
        (
            "cut body",
            "HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n<ListBucketResult><Name>acme</Name>".to_string(),
            Class::Remote,
        ),
        ("web server", http("200 OK", "content-type: text/html\r\n", "<!doctype html><html></html>"), Class::WrongService),
        ("other bucket", listing("other", ""), Class::WrongService),
        ("too long", listing("acme", &" ".repeat(9 << 20)), Class::Remote),
        ("too many requests", http("429 Too Many Requests", "retry-after: 7\r\n", ""), Class::Throttled),
        ("later", http("503 Service Unavailable", "retry-after: 7\r\n", ""), Class::Throttled),
        ("slow down", http("503 Slow Down", "", "<Error><Code>SlowDown</Code><Message>m</Message></Error>"), Class::Throttled),
    ];
    for (name, get, class) in cases {
        let at = serve(move |request: &ReceivedHead| if request.is_head() { http("200 OK", "", "") } else { get.clone() }).await;
        let failure = refused(&at, "acme", &credential(KEY)).await;
        assert_eq!(failure.class, class, "{name}: {failure:?}");
        let waits = failure.retry_after_ms.is_some();
        assert_eq!(waits, class == Class::Throttled, "{name}: {failure:?}");
    }
}

#[tokio::test]
async fn an_unreachable_and_a_silent_store_are_network_failures() {
    let (_socket, closed) = closed_port();
    let gone = format!("http://127.0.0.1:{closed}");
    assert_eq!(refused(&gone, "acme", &credential(KEY)).await.class, Class::Network);
    let silent = serve(|_: &ReceivedHead| String::new()).await;
    assert_eq!(refused(&silent, "acme", &credential(KEY)).await.class, Class::Network);
}

#[tokio::test]
async fn a_key_that_may_list_but_not_head_is_enough() {
    let at = serve(|request: &ReceivedHead| match (request.is_head(), request.target().contains("prefix=logs%2F")) {
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
async fn a_permission_that_is_revoked_later_is_named_by_the_health_check() {
    let revoked = Arc::new(AtomicBool::new(false));
    let now = Arc::clone(&revoked);
    let at = serve(move |request: &ReceivedHead| match (now.load(SeqCst), request.is_head()) {
        (false, true) => http("200 OK", "x-amz-request-id: R\r\n", ""),
        (false, false) => listing("acme", ""),
        (true, true) => http("403 Forbidden", "", ""),
        (true, false) => http("403 Forbidden", "", "<Error><Code>AccessDenied</Code><Message>revoked</Message></Error>"),
    })
    .await;
    let (_, result) = open_at(&at, "acme", &credential(KEY)).await;
    let opened = result.unwrap_or_else(|failure| panic!("{failure:?}"));
    let health = opened.connector.health().await.expect("healthy");
    assert_eq!(health["probe"], "HEAD bucket");
    revoked.store(true, SeqCst);
    let failure = opened.connector.health().await.expect_err("revoked");
    assert_eq!(failure.class, Class::PermissionDenied);
    assert!(failure.detail.contains("revoked"), "{failure:?}");
}

#[tokio::test]
async fn endless_and_oversized_listings_are_bounded() {
    let endless = serve(|request: &ReceivedHead| {
        let next = request.target().split("continuation-token=").nth(1).and_then(|text| text.split('&').next()).map_or(1, |token| token.len() + 1);
        let token = "t".repeat(next);
        listing("acme", &format!("<CommonPrefixes><Prefix>{token}/</Prefix></CommonPrefixes><IsTruncated>true</IsTruncated><NextContinuationToken>{token}</NextContinuationToken>"))
    })
    .await;
    let (session, result) = open_at(&endless, "acme", &credential(KEY)).await;
    let opened = result.unwrap_or_else(|failure| panic!("{failure:?}"));
    let before = session.sent.lock().expect("unpoisoned").len();
    let catalog = discover(&opened, Bounds::default()).await;
    assert_eq!((catalog.streams.len(), catalog.truncated), (6, true));
    assert_eq!(session.sent.lock().expect("unpoisoned").len() - before, 5);

    let oversized = serve(|_: &ReceivedHead| listing("acme", &"<Contents><Key>a</Key></Contents>".repeat(50))).await;
    let (_, result) = open_at(&oversized, "acme", &credential(KEY)).await;
    let opened = result.unwrap_or_else(|failure| panic!("{failure:?}"));
    assert_eq!(opened.connector.tiny_sync(&Catalog::default(), 20).await.expect("a sample").rows, 20);
}

/// A store with the object `b/c.csv` and the folder `orders/`.
async fn small_store() -> String {
    serve(|request: &ReceivedHead| {
        let prefix = request.target().split("prefix=").nth(1).and_then(|text| text.split('&').next()).unwrap_or_default();
        let prefix = prefix.replace("%2F", "/");
        let keys = ["b/c.csv", "orders/1.csv"].into_iter().filter(|key| key.starts_with(&prefix)).take(1);
        let contents: String = keys.map(|key| format!("<Contents><Key>{key}</Key><Size>3</Size></Contents>")).collect();
        if request.is_head() { http("200 OK", "x-amz-request-id: R\r\n", "") } else { listing("acme", &contents) }
    })
    .await
}

#[tokio::test]
async fn a_resource_id_must_name_a_bucket_or_a_folder_with_keys() {
    let at = small_store().await;
    for (id, class, title) in [
        ("acme/b/c.csv", Class::Misconfigured, "acme/b/c.csv is an object, but aam registers buckets and folders"),
        ("acme/order", Class::NotFound, "bucket acme has no keys below order/"),
        ("acme/none/", Class::NotFound, "bucket acme has no keys below none/"),
        ("acme/*", Class::NotMappable, "\"acme/*\" contains *, and wildcards are not expanded"),
    ] {
        let failure = refused(&at, id, &credential(KEY)).await;
        assert_eq!((failure.class, failure.title.as_str()), (class, title), "{failure:?}");
        // Where the fix names another resource id, that one opens.
        if let Some((_, named)) = failure.fix.split_once(&format!(": {at}/")) {
            let (_, result) = open_at(&at, named, &credential(KEY)).await;
            assert!(result.is_ok(), "{}", failure.fix);
        } else {
            assert!(!id.starts_with("acme/b") && !id.starts_with("acme/o"), "{failure:?}");
        }
    }
    for id in ["acme", "acme/b", "acme/orders/"] {
        assert!(open_at(&at, id, &credential(KEY)).await.1.is_ok(), "{id}");
    }
}

#[tokio::test]
async fn the_health_check_reaches_the_folder() {
    let emptied = Arc::new(AtomicBool::new(false));
    let now = Arc::clone(&emptied);
    let at = serve(move |request: &ReceivedHead| match (request.is_head(), now.load(SeqCst)) {
        (true, _) => http("200 OK", "x-amz-request-id: R\r\n", ""),
        (false, false) => listing("acme", "<Contents><Key>logs/a</Key></Contents>"),
        (false, true) => listing("acme", ""),
    })
    .await;
    let opened = open_at(&at, "acme/logs", &credential(KEY)).await.1.unwrap_or_else(|failure| panic!("{failure:?}"));
    assert_eq!(opened.connector.health().await.expect("healthy")["probe"], "ListObjectsV2 max-keys=1");
    emptied.store(true, SeqCst);
    assert_eq!(opened.connector.health().await.expect_err("the folder is gone").class, Class::NotFound);
}

#[tokio::test]
async fn pages_that_were_listed_are_kept_if_a_later_page_fails() {
    let at = serve(|request: &ReceivedHead| match (request.is_head(), request.target().contains("continuation-token")) {
        (true, _) => http("200 OK", "x-amz-request-id: R\r\n", ""),
        (false, false) => listing("acme", "<CommonPrefixes><Prefix>a/</Prefix></CommonPrefixes><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>"),
        (false, true) => http("403 Forbidden", "", "<Error><Code>AccessDenied</Code><Message>page two</Message></Error>"),
    })
    .await;
    let opened = open_at(&at, "acme", &credential(KEY)).await.1.unwrap_or_else(|failure| panic!("{failure:?}"));
    let found = opened.connector.discover(Bounds::default()).await.unwrap_or_else(|failure| panic!("{failure:?}"));
    assert_eq!((found.catalog.streams.len(), found.catalog.truncated), (2, true));
    let warning = found.warning.expect("a warning");
    assert_eq!(warning.class, Class::PermissionDenied);
    assert!(
        warning.title.starts_with("the listing of acme stopped after 1 page: ") && warning.detail.contains("page two"),
        "{warning:?}"
    );
}

#[tokio::test]
async fn no_secret_is_in_any_failure() {
    // A store that sends back everything it received, as the error SignatureDoesNotMatch does.
    let echo = serve(|request: &ReceivedHead| {
        let body = format!(
            "<Error><Code>SignatureDoesNotMatch</Code><Message>no</Message><CanonicalRequest>{}</CanonicalRequest></Error>",
            request.0.replace('&', "&amp;")
        );
        http("403 Forbidden", "", &body)
    })
    .await;
    let key = credential(r#"{"access_key_id":"some-id","secret_access_key":"canary-secret","session_token":"canary-token"}"#);
    let failure = refused(&echo, "acme", &key).await;
    assert_eq!(failure.class, Class::CredentialRejected);
    assert!(!format!("{failure:?}").contains("canary"), "{failure:?}");
}
