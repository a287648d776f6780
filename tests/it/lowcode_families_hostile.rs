//! Untrusted manifests: they cannot write, leak a secret, reach private addresses or run without end.

use crate::support::lowcode_families::{EngineFixture, MockVendor, policy, remaining_steps};
use aam::model::{Class, Digest, Failure, Problem};
use aam::policy_loader::parse_manifest;
use std::time::Instant;

/// A manifest with one stream. `requester` is YAML that is put into its requester, and `more` into its retriever.
fn manifest(requester: &str, more: &str) -> String {
    format!(
        "version: 6.44.0\ntype: DeclarativeSource\ncheck: {{type: CheckStream, stream_names: [things]}}\nspec:\n  type: Spec\n  \
         connection_specification:\n    type: object\n    required: [host]\n    properties:\n      host: {{type: string}}\n      \
         key: {{type: string, airbyte_secret: true}}\nstreams:\n  - type: DeclarativeStream\n    name: things\n    retriever:\n      \
         type: SimpleRetriever\n      requester: {{type: HttpRequester, url_base: \"http://{{{{ config['host'] }}}}\", {requester}}}\n      \
         record_selector: {{type: RecordSelector, extractor: {{type: DpathExtractor, field_path: [data]}}}}\n{more}    \
         schema_loader: {{type: InlineSchemaLoader, schema: {{type: object, properties: {{}}}}}}\n"
    )
}

fn fixture(text: &str) -> EngineFixture {
    EngineFixture::with_manifest(policy("manifests: {dir: m}"), "stranger", text)
}

/// Why the loader refuses the manifest `text`.
fn refused(text: &str) -> Vec<Problem> {
    let problems = parse_manifest(text, "m/stranger.yaml", Digest::default()).expect_err("a manifest that is refused");
    assert!(!problems.is_empty());
    problems
}

async fn outcome(text: &str, host: &str) -> Result<u64, Failure> {
    let opened = fixture(text).open("stranger", host, Some(r#"{"key": "key-of-the-stranger-9"}"#)).await?;
    Ok(remaining_steps(&opened).await?.1.rows)
}

#[tokio::test]
async fn nothing_is_written_and_no_secret_is_put_into_a_url() {
    let vendor = MockVendor::start(|_, _| crate::support::openapi::json_response(r#"{"data":[]}"#)).await;
    for (requester, expected) in [
        ("path: /things, http_method: POST", "list of read-only POSTs"),
        ("path: /things, request_body_json: {a: 1}", "GET with a body"),
        ("path: \"/things?k={{ config['key'] }}\"", "secret into the URL"),
        ("path: /things, request_parameters: {k: \"{{ config['key'] }}\"}", "secret into the URL"),
        ("path: /things, request_headers: {X-HTTP-Method-Override: DELETE}", "is never sent"),
        ("path: /things, request_headers: {Transfer-Encoding: chunked}", "is never sent"),
        ("path: \"http://other.example/things\"", "other.example"),
    ] {
        let failure = outcome(&manifest(requester, ""), vendor.host()).await.expect_err(requester);
        assert_eq!(failure.class, Class::EgressRefused, "{requester}: {failure:?}");
        assert!(failure.title.contains(expected), "{requester}: {failure:?}");
        assert!(!format!("{failure:?}").contains("key-of-the-stranger-9"), "{failure:?}");
    }
    // A manifest with a method that writes is refused when it is loaded.
    for method in ["PUT", "PATCH", "DELETE"] {
        let problems = refused(&manifest(&format!("path: /things, http_method: {method}"), ""));
        assert!(problems[0].hint == "allowed: GET, POST" && problems[0].place.is_some(), "{problems:?}");
    }
    assert_eq!(vendor.calls(), Vec::<String>::new());
}

#[tokio::test]
async fn private_and_metadata_addresses_stay_blocked() {
    for host in ["169.254.169.254", "10.0.0.1", "[fd00::1]"] {
        let failure = outcome(&manifest("path: /latest/meta-data", ""), host).await.unwrap_err();
        assert_eq!(failure.class, Class::EgressRefused, "{host}: {failure:?}");
    }
}

#[tokio::test]
async fn endless_pages_and_slices_are_bounded_by_the_sample() {
    let vendor = MockVendor::start(|_, _| crate::support::openapi::json_response(r#"{"data":[{"id":1}],"next":"more"}"#)).await;
    let pages = "      paginator:\n        type: DefaultPaginator\n        page_token_option: {type: RequestOption, inject_into: request_parameter, field_name: after}\n        \
                 pagination_strategy: {type: CursorPagination, cursor_value: \"{{ response['next'] }}\"}\n";
    assert_eq!(outcome(&manifest("path: /things", pages), vendor.host()).await.unwrap(), 12);
    let calls = vendor.calls().len();
    assert!(calls <= 16, "{calls} calls");
    let slices: Vec<String> = (0..10_000).map(|number| format!("\"{number}\"")).collect();
    let many =
        format!("      partition_router: {{type: ListPartitionRouter, cursor_field: n, values: [{}]}}\n", slices.join(","));
    let started = Instant::now();
    assert_eq!(outcome(&manifest("path: \"/things/{{ stream_slice['n'] }}\"", &many), vendor.host()).await.unwrap(), 5);
    assert!(vendor.calls().len() - calls <= 8 && started.elapsed().as_secs() < 10, "{:?}", started.elapsed());
}

#[test]
fn manifests_that_cannot_be_read_are_refused_quickly_with_their_file_name() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_string();
    for level in 1..12 {
        let list = vec![format!("*a{}", level - 1); 9].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{list}]\n"));
    }
    let nested = format!("streams: {}{}", "[".repeat(5000), "]".repeat(5000));
    let cycle = "type: DeclarativeSource\ndefinitions:\n  a: {$ref: \"#/definitions/b\"}\n  b: {$ref: \"#/definitions/a\"}\nstreams: [{$ref: \"#/definitions/a\"}]\n";
    for text in [bomb.as_str(), nested.as_str(), cycle, "", "[", "streams: 7", "\u{0}"] {
        let started = Instant::now();
        let problems = refused(text);
        assert!(problems.iter().all(|problem| problem.file == "m/stranger.yaml" && !problem.message.is_empty()), "{problems:?}");
        assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
    }
}
