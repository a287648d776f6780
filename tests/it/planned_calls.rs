//! Every call of an attempt is one that `aam plan` prints. Each family that this build connects runs against a source
//! that records the requests it receives.

use crate::support::github::{app_credential, github};
use crate::support::lowcode_families::{
    CRM, CRM_CREDENTIAL, EngineFixture, MockVendor, ReceivedRequest, crm, json_response_with, policy, remaining_steps, slack,
};
use crate::support::openapi::{MockResponse, json_response};
use regex::Regex;
use serde_json::json;
use std::sync::{Arc, Mutex};

/// A line of a plan, `METHOD host path`, as a pattern. A placeholder stands for a part that AAM knows only from a
/// response of the source.
fn pattern(planned: &str) -> Regex {
    let mut text = String::new();
    let mut rest = planned;
    while let Some((before, after)) = rest.split_once('{') {
        text.push_str(&regex::escape(before));
        text.push_str(".*");
        rest = after.split_once('}').map_or("", |(_, behind)| behind);
    }
    Regex::new(&format!("^{text}{}$", regex::escape(rest))).unwrap()
}

fn assert_planned(called: &[String], planned: &[String]) {
    assert!(!called.is_empty(), "no call was made");
    let patterns: Vec<Regex> = planned.iter().map(|line| pattern(line)).collect();
    for call in called {
        assert!(patterns.iter().any(|pattern| pattern.is_match(call)), "{call} was not planned: {planned:#?}");
    }
}

/// Runs every step on the resource `id` and compares the requests that `vendor` received with the plan.
async fn assert_vendor_calls_planned(fixture: &EngineFixture, vendor: &MockVendor, family: &str, id: &str, secret: Option<&str>) {
    let opened = fixture.open(family, id, secret).await.unwrap_or_else(|failure| panic!("{family} {id}: {failure:?}"));
    remaining_steps(&opened).await.unwrap_or_else(|failure| panic!("{family} {id}: {failure:?}"));
    let called: Vec<String> = vendor
        .requests()
        .iter()
        .map(|request| format!("{} {} {}", request.call.split(' ').next().unwrap_or_default(), vendor.host(), request.path()))
        .collect();
    assert_planned(&called, &fixture.planned(family, id));
}

#[tokio::test]
async fn shipped_families_make_only_planned_calls() {
    let app = app_credential();
    for (id, secret) in [("acme", "gh-token-reads-1"), ("acme/widgets", "gh-token-reads-1"), ("acme", app.as_str())] {
        let vendor = MockVendor::start(github).await;
        let fixture = EngineFixture::at("github", &vendor.base);
        assert_vendor_calls_planned(&fixture, &vendor, "github", id, Some(secret)).await;
    }
    let vendor = MockVendor::start(slack).await;
    let fixture = EngineFixture::at("slack", &format!("{}/api", vendor.base));
    assert_vendor_calls_planned(&fixture, &vendor, "slack", "T0ACME", Some("xoxb-reads-1")).await;
}

#[tokio::test]
async fn a_custom_manifest_makes_only_planned_calls() {
    let vendor = MockVendor::start(crm).await;
    let post = format!(
        "posts: [{{url: \"{}/oauth/token\", why: \"a token\", idempotent: true, body: {{form: {{grant_type: any, client_id: any, \
         client_secret: any}}}}}}]",
        vendor.base
    );
    let policy = policy(&format!("manifests: {{dir: m, sources: {{acme_crm: {{{post}}}}}}}"));
    let fixture = EngineFixture::with_manifest(policy, "acme_crm", CRM);
    assert_vendor_calls_planned(&fixture, &vendor, "acme_crm", vendor.host(), Some(CRM_CREDENTIAL)).await;
}

/// A manifest whose paths come from responses: those of a stream below its parent, and links to the next page.
const TRACKER: &str = r##"
version: 6.44.0
type: DeclarativeSource
check: {type: CheckStream, stream_names: [issues]}
spec:
  type: Spec
  connection_specification: {type: object, required: [host], properties: {host: {type: string}}}
definitions:
  requester: {type: HttpRequester, url_base: "http://{{ config['host'] }}/v1/"}
  selector: {type: RecordSelector, extractor: {type: DpathExtractor, field_path: [data]}}
  schema: {type: InlineSchemaLoader, schema: {type: object, properties: {id: {type: integer}}}}
  projects:
    type: DeclarativeStream
    name: projects
    retriever:
      type: SimpleRetriever
      requester: {$ref: "#/definitions/requester", path: /projects}
      record_selector: {$ref: "#/definitions/selector"}
    schema_loader: {$ref: "#/definitions/schema"}
streams:
  - type: DeclarativeStream
    name: issues
    retriever:
      type: SimpleRetriever
      requester: {$ref: "#/definitions/requester", path: "projects/{{ stream_partition.project }}/issues"}
      record_selector: {$ref: "#/definitions/selector"}
      partition_router:
        type: SubstreamPartitionRouter
        parent_stream_configs:
          - {type: ParentStreamConfig, stream: {$ref: "#/definitions/projects"}, parent_key: id, partition_field: project}
      paginator:
        type: DefaultPaginator
        page_token_option: {type: RequestPath}
        pagination_strategy:
          type: CursorPagination
          cursor_value: "{{ response.get('next') }}"
          stop_condition: "{{ not response.get('next') }}"
    schema_loader: {$ref: "#/definitions/schema"}
"##;

fn tracker(home: &str, request: &ReceivedRequest) -> MockResponse {
    match request.path() {
        "/v1/projects" => json_response(r#"{"data":[{"id":7},{"id":8}]}"#),
        "/v1/projects/7/issues" => {
            json_response_with(200, &[], &json!({"data": [{"id": 1}], "next": format!("{home}/archive/7?page=2")}))
        }
        "/v1/projects/8/issues" => json_response(r#"{"data":[]}"#),
        "/archive/7" => json_response(r#"{"data":[{"id":2}]}"#),
        _ => json_response_with(404, &[], &json!({"message": "not found"})),
    }
}

#[tokio::test]
async fn parents_and_links_to_the_next_page_are_planned() {
    let vendor = MockVendor::start(tracker).await;
    let fixture = EngineFixture::with_manifest(policy("manifests: {dir: m}"), "tracker", TRACKER);
    assert_vendor_calls_planned(&fixture, &vendor, "tracker", vendor.host(), None).await;
    let called = vendor.calls().join("\n");
    assert!(called.contains("/v1/projects/7/issues") && called.contains("/archive/7"), "{called}");
    let planned = fixture.planned("tracker", "tracker.example");
    let expected = [
        "GET tracker.example /v1/projects/{stream_partition.project}/issues",
        "GET tracker.example /{link to the next page}",
        "GET tracker.example /v1/projects",
    ];
    assert!(expected.iter().all(|line| planned.iter().any(|call| call == line)), "{planned:#?}");
    assert_eq!(planned.len(), expected.len(), "{planned:#?}");
}

#[tokio::test]
async fn an_openapi_service_receives_only_planned_calls() {
    let vendor = MockVendor::start(|_: &str, request: &ReceivedRequest| match request.path() {
        "/openapi.json" => json_response_with(
            200,
            &[],
            &json!({
                "openapi": "3.0.3", "info": {"title": "Pets", "version": "1"},
                "paths": {"/pets": {"get": {"responses": {"200": {"description": "all", "content": {"application/json": {
                    "schema": {"type": "array", "items": {"type": "object", "properties": {"id": {"type": "integer"}}}}}}}}}}}
            }),
        ),
        "/pets" => json_response(r#"[{"id":1}]"#),
        _ => json_response_with(404, &[], &json!({"message": "not found"})),
    })
    .await;
    let fixture = EngineFixture::new(policy(""));
    assert_vendor_calls_planned(&fixture, &vendor, "openapi", &vendor.base, None).await;
    assert!(vendor.calls().iter().any(|call| call == "GET /pets"), "{:?}", vendor.calls());
}

#[tokio::test]
async fn an_object_store_receives_only_planned_calls() {
    let vendor = MockVendor::start(|_: &str, request: &ReceivedRequest| {
        let listing = "<ListBucketResult><Name>acme</Name><Contents><Key>a</Key><Size>1</Size></Contents></ListBucketResult>";
        let body = if request.call.starts_with("HEAD") { String::new() } else { listing.to_string() };
        (200, vec![("x-amz-request-id", "R".to_string())], body)
    })
    .await;
    let fixture = EngineFixture::new(policy(""));
    let id = format!("{}/acme", vendor.base);
    assert_vendor_calls_planned(&fixture, &vendor, "s3_compat", &id, Some("some-id:some-secret")).await;
}

/// The path of each `READ FILE` event of the call log that says that a read has ended, while `work` runs.
async fn files_read(work: impl Future<Output = ()>) -> Vec<String> {
    let out: Arc<Mutex<Vec<u8>>> = Arc::default();
    let sink = Arc::clone(&out);
    let writer = move || LogBuffer(Arc::clone(&sink));
    let subscriber = tracing_subscriber::fmt().json().with_max_level(tracing::Level::INFO).with_writer(writer).finish();
    let guard = tracing::subscriber::set_default(subscriber);
    // Another test may have made tracing cache that no subscriber wants these events.
    tracing::callsite::rebuild_interest_cache();
    work.await;
    drop(guard);
    let bytes = out.lock().unwrap().clone();
    let events = bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<serde_json::Value>(line).ok());
    let reads = events.filter(|event| event["target"] == "aam::egress" && event["fields"]["method"] == "READ FILE");
    reads.map(|event| format!("READ FILE local {}", event["fields"]["path"].as_str().unwrap_or_default())).collect()
}

struct LogBuffer(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for LogBuffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn files_and_local_databases_are_read_as_planned() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("shop.db");
    rusqlite::Connection::open(&database)
        .and_then(|shop| shop.execute_batch("CREATE TABLE orders (id INTEGER PRIMARY KEY); INSERT INTO orders VALUES (1);"))
        .unwrap();
    std::fs::write(folder.path().join("customers.csv"), "id,name\n1,a\n2,b\n").unwrap();
    let fixture = EngineFixture::new(policy(&format!("files: {{roots: [\"{}\"]}}", folder.path().display())));
    let csv = folder.path().join("customers.csv").display().to_string();
    for (family, id) in [("filesource", csv), ("jdbc", format!("jdbc:sqlite:{}", database.display()))] {
        let called = files_read(async {
            let opened = fixture.open(family, &id, None).await.unwrap_or_else(|failure| panic!("{id}: {failure:?}"));
            remaining_steps(&opened).await.unwrap_or_else(|failure| panic!("{id}: {failure:?}"));
        })
        .await;
        assert_planned(&called, &fixture.planned(family, &id));
    }
}
