//! The number of requests that a failing source receives. Each kind of failure is retried in one place only. Egress
//! retries a closed connection, for every engine. A gateway error is retried by egress for the native engines, and by
//! the manifest's error handler for low-code sources. So the two never multiply.

use crate::support::lowcode_families::{EngineFixture, policy};
use aam::policy::Policy;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What the source does with every request.
#[derive(Clone, Copy, Debug)]
enum Behaviour {
    Answers503,
    Answers429,
    /// Accepts the connection and never answers.
    Hangs,
    /// Closes the connection without an answer.
    Closes,
}

/// A source on loopback: its base URL, and the number of requests that it received.
async fn source(behaviour: Behaviour) -> (String, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let received = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&received);
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut socket, _)) = listener.accept().await {
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && matches!(socket.read(&mut byte).await, Ok(1)) {
                head.push(byte[0]);
            }
            if head.is_empty() {
                continue;
            }
            count.fetch_add(1, Ordering::SeqCst);
            let status = match behaviour {
                Behaviour::Answers503 => "503 Service Unavailable",
                Behaviour::Answers429 => "429 Too Many Requests",
                Behaviour::Hangs => {
                    open.push(socket);
                    continue;
                }
                Behaviour::Closes => continue,
            };
            let response = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
            let _ = socket.write_all(response.as_bytes()).await;
        }
    });
    (base, received)
}

/// A policy whose steps are short if the source never answers.
fn policy_for(behaviour: Behaviour, more: &str) -> Policy {
    let mut policy = policy(more);
    if matches!(behaviour, Behaviour::Hangs) {
        policy.safe_mode.step_timeout = Duration::from_millis(600);
    }
    policy
}

/// The request for the description by the native engine `openapi`.
async fn native(behaviour: Behaviour) -> usize {
    let (base, received) = source(behaviour).await;
    let fixture = EngineFixture::new(policy_for(behaviour, ""));
    assert!(fixture.open("openapi", &format!("{base}/openapi.json"), None).await.is_err());
    received.load(Ordering::SeqCst)
}

/// The identity call of a family whose error handler does not retry.
async fn family(behaviour: Behaviour) -> usize {
    let (base, received) = source(behaviour).await;
    let fixture = EngineFixture::new(policy_for(behaviour, &format!("families: {{github: {{base_url: \"{base}\"}}}}")));
    assert!(fixture.open("github", "acme", Some("gh-token-reads-1")).await.is_err());
    received.load(Ordering::SeqCst)
}

/// The manifest has no error handler, so it has the default one: up to 5 retries, after 1, 2, 4, 8 and 16 seconds.
const MANIFEST: &str = r##"
version: 6.44.0
type: DeclarativeSource
check: {type: CheckStream, stream_names: [items]}
spec:
  type: Spec
  connection_specification: {type: object, required: [host], properties: {host: {type: string}}}
streams:
  - type: DeclarativeStream
    name: items
    retriever:
      type: SimpleRetriever
      requester: {type: HttpRequester, url_base: "http://{{ config['host'] }}", path: /items}
      record_selector: {type: RecordSelector, extractor: {type: DpathExtractor, field_path: []}}
    schema_loader: {type: InlineSchemaLoader, schema: {type: object, properties: {}}}
"##;

/// The check of a custom manifest with the default error handler.
async fn custom(behaviour: Behaviour) -> usize {
    let (base, received) = source(behaviour).await;
    let fixture = EngineFixture::with_manifest(policy_for(behaviour, "manifests: {dir: m}"), "items", MANIFEST);
    assert!(fixture.open("items", base.trim_start_matches("http://"), None).await.is_err());
    received.load(Ordering::SeqCst)
}

#[tokio::test]
async fn a_native_engine_leaves_all_retries_to_egress() {
    assert_eq!(native(Behaviour::Answers503).await, 3, "two retries of a gateway error");
    assert_eq!(native(Behaviour::Answers429).await, 1, "a rate limit pauses the account");
    assert_eq!(native(Behaviour::Hangs).await, 1, "a timeout is not retried");
    assert_eq!(native(Behaviour::Closes).await, 3, "two retries of a closed connection");
}

#[tokio::test]
async fn the_error_handler_of_a_family_decides_which_statuses_are_retried() {
    assert_eq!(family(Behaviour::Answers503).await, 1, "its error handler does not retry");
    assert_eq!(family(Behaviour::Answers429).await, 1, "a rate limit pauses the account");
    assert_eq!(family(Behaviour::Hangs).await, 1, "a timeout is not retried");
    assert_eq!(family(Behaviour::Closes).await, 3, "two retries of a closed connection, by egress");
}

#[tokio::test]
async fn the_default_error_handler_of_a_custom_manifest_is_not_multiplied_by_egress() {
    assert_eq!(custom(Behaviour::Answers503).await, 3, "retries after 1 s and 2 s; the daemon does not wait 4 s in an attempt");
    assert_eq!(custom(Behaviour::Answers429).await, 1, "a rate limit pauses the account");
    assert_eq!(custom(Behaviour::Hangs).await, 1, "a timeout is not retried");
    assert_eq!(custom(Behaviour::Closes).await, 3, "two retries of a closed connection, by egress only");
}
