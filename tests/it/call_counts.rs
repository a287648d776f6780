//! How few calls an attempt makes: an equal request is sent once, and the numbers of calls are those of the family file.

use crate::support::github::{app_credential, github};
use crate::support::lowcode_families::{
    EngineFixture, MockVendor, ReceivedRequest, json_response_with, policy, remaining_steps, slack,
};
use crate::support::openapi::MockResponse;
use aam::connectors::lowcode::spec;
use aam::egress::Traffic;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// The vendor, whose lists fit into one page.
fn one_page(
    vendor: impl Fn(&str, &ReceivedRequest) -> MockResponse + Clone + Send + Sync + 'static,
) -> impl Fn(&str, &ReceivedRequest) -> MockResponse + Clone + Send + Sync + 'static {
    move |home, request| {
        let (status, headers, body) = vendor(home, request);
        let headers = headers.into_iter().filter(|(name, _)| *name != "link").collect();
        (status, headers, body.replace("dGVhbTpDMg==", ""))
    }
}

/// The calls and the reused responses of all steps of `id`, and those of a check of the connection.
async fn measured(fixture: &EngineFixture, family: &str, (id, secret): (&str, &str)) -> (Traffic, Traffic) {
    let opened = fixture.open(family, id, Some(secret)).await.unwrap_or_else(|failure| panic!("{family} {id}: {failure:?}"));
    remaining_steps(&opened).await.unwrap_or_else(|failure| panic!("{family} {id}: {failure:?}"));
    let onboarding = opened.connector.traffic();
    let opened = fixture.open(family, id, Some(secret)).await.unwrap();
    opened.connector.health().await.unwrap();
    (onboarding, opened.connector.traffic())
}

#[tokio::test]
async fn each_family_makes_as_many_calls_as_its_file_says() {
    let github = MockVendor::start(one_page(github)).await;
    let slack = MockVendor::start(one_page(slack)).await;
    let at_github = EngineFixture::at("github", &github.base);
    let at_slack = EngineFixture::at("slack", &format!("{}/api", slack.base));
    let cases = [
        ("github", &at_github, vec![("acme", "gh-token-reads-1"), ("acme/widgets", "gh-token-reads-1")]),
        ("slack", &at_slack, vec![("T0ACME", "xoxb-reads-1")]),
    ];
    for (family, fixture, resources) in cases {
        let (mut onboarding, mut health) = (0, 0);
        for resource in resources {
            let (all, check) = measured(fixture, family, resource).await;
            // Without reuse, it would be as many calls as the steps ask for: 7 and 8 at GitHub, 8 at Slack.
            assert!(all.reused >= 2 && all.calls + all.reused >= 7, "{family} {resource:?}: {all:?}");
            onboarding = onboarding.max(all.calls);
            health = health.max(check.calls);
        }
        let expected = spec::find(family).unwrap().form.calls.unwrap();
        assert_eq!((onboarding, health), (expected.onboarding, expected.health), "{family}");
    }
    assert_eq!(github.calls()[..1], ["GET /orgs/acme"], "the identity is proven before anything else is read");
    assert_eq!(slack.calls()[..1], ["POST /api/auth.test"]);
}

#[tokio::test]
async fn no_request_of_an_attempt_is_repeated_and_none_is_shared_by_two_attempts() {
    let vendor = MockVendor::start(github).await;
    let fixture = EngineFixture::at("github", &vendor.base);
    for attempt in 1..=2 {
        for secret in ["gh-token-reads-1".to_string(), app_credential()] {
            let before = vendor.calls().len();
            let opened = fixture.open("github", "acme", Some(&secret)).await.unwrap();
            remaining_steps(&opened).await.unwrap();
            let calls = vendor.calls().split_off(before);
            let different: BTreeSet<&String> = calls.iter().collect();
            assert_eq!((calls.len(), different.len()), (opened.connector.traffic().calls as usize, calls.len()), "{calls:#?}");
            assert!(calls.contains(&"GET /orgs/acme".to_string()), "attempt {attempt} reads everything itself: {calls:#?}");
        }
    }
}

/// Two streams of which both are checked, discovered and read.
const SHOP: &str = r##"
version: 6.44.0
type: DeclarativeSource
check: {type: CheckStream, stream_names: [orders, products]}
spec:
  type: Spec
  connection_specification: {type: object, required: [host], properties: {host: {type: string}}}
definitions:
  schema: {type: InlineSchemaLoader, schema: {type: object, properties: {id: {type: integer}}}}
  selector: {type: RecordSelector, extractor: {type: DpathExtractor, field_path: [data]}}
  requester:
    type: HttpRequester
    url_base: "http://{{ config['host'] }}"
    error_handler:
      type: DefaultErrorHandler
      max_retries: 1
      backoff_strategies: [{type: ConstantBackoffStrategy, backoff_time_in_seconds: 0.01}]
      response_filters:
        - {type: HttpResponseFilter, action: RETRY, predicate: "{{ response.get('state') == 'busy' }}"}
        - {type: HttpResponseFilter, action: FAIL, predicate: "{{ response.get('state') == 'broken' }}"}
streams:
  - type: DeclarativeStream
    name: orders
    retriever: {type: SimpleRetriever, requester: {$ref: "#/definitions/requester", path: /orders}, record_selector: {$ref: "#/definitions/selector"}}
    schema_loader: {$ref: "#/definitions/schema"}
  - type: DeclarativeStream
    name: products
    retriever: {type: SimpleRetriever, requester: {$ref: "#/definitions/requester", path: /products}, record_selector: {$ref: "#/definitions/selector"}}
    schema_loader: {$ref: "#/definitions/schema"}
"##;

/// A shop whose first answer to `path` is `first`, with status 200.
async fn shop(path: &'static str, first: Value) -> (MockVendor, Arc<AtomicUsize>) {
    let asked: Arc<AtomicUsize> = Arc::default();
    let count = Arc::clone(&asked);
    let vendor = MockVendor::start(move |_: &str, request: &ReceivedRequest| {
        let is_first = request.path() == path && count.fetch_add(1, Ordering::SeqCst) == 0;
        let body = if is_first { first.clone() } else { json!({"data": [{"id": 1}, {"id": 2}]}) };
        json_response_with(200, &[], &body)
    })
    .await;
    (vendor, asked)
}

#[tokio::test]
async fn a_response_that_asks_for_another_try_is_not_used_again() {
    let (vendor, asked) = shop("/orders", json!({"state": "busy"})).await;
    let fixture = EngineFixture::with_manifest(policy("manifests: {dir: m}"), "shop", SHOP);
    let opened = fixture.open("shop", vendor.host(), None).await.unwrap();
    let (_, sample) = remaining_steps(&opened).await.unwrap();
    assert_eq!((sample.rows, asked.load(Ordering::SeqCst)), (4, 2), "{:?}", vendor.calls());
    assert_eq!((opened.connector.traffic().calls, opened.connector.traffic().reused), (3, 4));
}

#[tokio::test]
async fn a_failed_response_is_not_used_again() {
    let (vendor, asked) = shop("/orders", json!({"state": "broken"})).await;
    let fixture = EngineFixture::with_manifest(policy("manifests: {dir: m}"), "shop", SHOP);
    let opened = fixture.open("shop", vendor.host(), None).await.unwrap();
    let discovery = opened.connector.discover(aam::connectors::Bounds::default()).await.unwrap();
    assert!(opened.identity["not_readable"]["orders"].is_string(), "{:?}", opened.identity);
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    let health = opened.connector.health().await.unwrap();
    assert_eq!((asked.load(Ordering::SeqCst), &health["read"]), (2, &json!("orders (200), products (200, reused)")));
    drop(discovery);
}

/// The greatest number of requests that were answered at the same time is not visible from outside, so the vendor answers a
/// list only when the others have been asked for too.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn independent_reads_run_side_by_side_also_behind_a_login() {
    let lists = ["/orgs/acme/repos", "/orgs/acme/teams"];
    let waiting: Arc<(Mutex<BTreeSet<String>>, std::sync::Condvar)> = Arc::default();
    let vendor = MockVendor::start(move |home: &str, request: &ReceivedRequest| {
        if lists.contains(&request.path()) {
            let (paths, changed) = &*waiting;
            let mut paths = paths.lock().unwrap();
            paths.insert(request.path().to_string());
            changed.notify_all();
            let limit = std::time::Duration::from_secs(20);
            // The other request may be a task of this thread.
            let (paths, timeout) = tokio::task::block_in_place(|| {
                changed.wait_timeout_while(paths, limit, |paths| paths.len() < lists.len()).unwrap()
            });
            drop(paths);
            if timeout.timed_out() {
                return json_response_with(500, &[], &json!({"message": "the other list was not asked for meanwhile"}));
            }
        }
        one_page(github)(home, request)
    })
    .await;
    let fixture = EngineFixture::at("github", &vendor.base);
    let opened = fixture.open("github", "acme", Some(&app_credential())).await.unwrap();
    let (discovery, _) = remaining_steps(&opened).await.unwrap();
    assert!(discovery.catalog.skipped.is_empty(), "{:?}", discovery.catalog.skipped);
    let logins = vendor.calls().iter().filter(|call| call.starts_with("POST")).count();
    assert_eq!(logins, 1, "the streams share one installation token");
}
