//! What AAM says about the responses of a vendor: it claims a rate limit only if the vendor asked for one, names the call
//! that was answered, and suspects the address if nothing of the vendor came back.

use crate::support::github::github;
use crate::support::lowcode_families::{
    EngineFixture, MockVendor, ReceivedRequest, json_response_with, policy, remaining_steps, slack, stream_names,
};
use crate::support::openapi::{MockResponse, json_response};
use aam::model::{Class, Failure, State};
use futures_util::future::join_all;
use serde_json::json;

/// A manifest with one stream and without an error handler. `requester` is YAML that is put into its requester.
fn manifest(requester: &str) -> String {
    format!(
        "version: 6.44.0\ntype: DeclarativeSource\ncheck: {{type: CheckStream, stream_names: [things]}}\nspec:\n  type: Spec\n  \
         connection_specification: {{type: object, required: [host], properties: {{host: {{type: string}}}}}}\nstreams:\n  \
         - type: DeclarativeStream\n    name: things\n    retriever:\n      type: SimpleRetriever\n      \
         requester: {{type: HttpRequester, url_base: \"http://{{{{ config['host'] }}}}\", path: /things{requester}}}\n      \
         record_selector: {{type: RecordSelector, extractor: {{type: DpathExtractor, field_path: [data]}}}}\n    \
         schema_loader: {{type: InlineSchemaLoader, schema: {{type: object, properties: {{}}}}}}\n"
    )
}

/// The failure of the custom source with `manifest` at a vendor that answers everything with `response`.
async fn custom(manifest: String, response: MockResponse) -> Failure {
    let vendor = MockVendor::start(move |_, _: &ReceivedRequest| response.clone()).await;
    let fixture = EngineFixture::with_manifest(policy("manifests: {dir: m}"), "shop", &manifest);
    fixture.open("shop", vendor.host(), None).await.err().expect("this must fail")
}

/// The failure of a family at a vendor that answers everything with `response`.
async fn family(family: &str, id: &str, response: MockResponse) -> Failure {
    let vendor = MockVendor::start(move |_, _: &ReceivedRequest| response.clone()).await;
    EngineFixture::at(family, &vendor.base).open(family, id, Some("token-of-the-test-1")).await.err().expect("this must fail")
}

fn message(status: u16, headers: &[(&'static str, &str)]) -> MockResponse {
    json_response_with(status, headers, &json!({"message": "the vendor's own words"}))
}

/// Every status of an error that is in use, except 429.
const STATUSES: [u16; 35] = [
    400, 401, 402, 403, 404, 405, 406, 408, 409, 410, 411, 412, 413, 414, 415, 417, 418, 421, 422, 423, 424, 425, 426, 428, 431,
    451, 500, 501, 502, 503, 504, 507, 520, 529, 599,
];

#[tokio::test]
async fn no_status_is_reported_as_a_wish_of_the_source_unless_the_source_asked() {
    let custom = join_all(STATUSES.map(|status| custom(manifest(""), message(status, &[])))).await;
    let github = join_all(STATUSES.map(|status| family("github", "acme", message(status, &[])))).await;
    for (status, failure) in STATUSES.iter().zip(&custom).chain(STATUSES.iter().zip(&github)) {
        assert_ne!(failure.class, Class::Throttled, "{status}: {failure:?}");
        assert!(failure.detail.contains(&format!("answered {status}")), "{status}: {failure:?}");
        assert!(failure.detail.contains("said: \"the vendor's own words\""), "{status}: {failure:?}");
        let state = State::derive(Some(failure.class), false);
        let expected = if matches!(status, 401 | 403) { State::AwaitingCredentials } else { State::Error };
        assert_eq!(state, expected, "{status}: {failure:?}");
    }
}

#[tokio::test]
async fn a_wish_of_the_source_is_reported_with_its_words() {
    for (status, header) in [(429, ("x-nothing", "1")), (429, ("retry-after", "77")), (503, ("retry-after", "77"))] {
        let failure = custom(manifest(""), message(status, &[header])).await;
        assert_eq!(failure.class, Class::Throttled, "{failure:?}");
        assert!(failure.title.contains("by the source") && failure.detail.contains("the vendor's own words"), "{failure:?}");
    }
    let waits = |strategy: &str| {
        manifest(&format!(
            ", error_handler: {{type: DefaultErrorHandler, backoff_strategies: [{strategy}], response_filters: [{{type: HttpResponseFilter, action: RETRY, http_codes: [500]}}]}}"
        ))
    };
    let header = "{type: WaitTimeFromHeader, header: X-Wait}";
    let asked = custom(waits(header), message(500, &[("x-wait", "120")])).await;
    assert_eq!((asked.class, asked.retry_after_ms), (Class::Throttled, Some(121_000)), "{asked:?}");
    assert!(asked.detail.contains("asked to wait 121 s") && asked.detail.contains("the vendor's own words"), "{asked:?}");
    // The same manifest at a source that does not send the header, and waits that only the manifest wants.
    for strategy in [
        header,
        "{type: ConstantBackoffStrategy, backoff_time_in_seconds: 60}",
        "{type: ExponentialBackoffStrategy, factor: 20}",
        "{type: WaitUntilTimeFromHeader, header: X-Until, min_wait: 60}",
        "{type: WaitTimeFromResponse, wait_time_in_seconds: \"{{ 60 }}\"}",
    ] {
        let own = custom(waits(strategy), message(500, &[])).await;
        assert_eq!(own.class, Class::Remote, "{strategy}: {own:?}");
        assert!(own.detail.contains("answered 500"), "{strategy}: {own:?}");
    }
    // A manifest may call a response a rate limit, for a vendor that has a status of its own for it.
    let limited = manifest(
        ", error_handler: {type: DefaultErrorHandler, backoff_strategies: [{type: ConstantBackoffStrategy, backoff_time_in_seconds: 60}], response_filters: [{type: HttpResponseFilter, action: RATE_LIMITED, http_codes: [420]}]}",
    );
    assert_eq!(custom(limited, message(420, &[])).await.class, Class::Throttled);
}

#[tokio::test]
async fn the_manifest_s_own_budget_is_called_aam_s() {
    let vendor = MockVendor::start(|_, _: &ReceivedRequest| json_response(r#"{"data":[{"id":1}]}"#)).await;
    let budget = "api_budget: {type: HTTPAPIBudget, policies: [{type: MovingWindowCallRatePolicy, rates: [{type: Rate, limit: 1, interval: PT1H}], matchers: []}]}\n";
    let pages = manifest("").replace(
        "      record_selector",
        "      paginator: {type: DefaultPaginator, page_token_option: {type: RequestOption, inject_into: request_parameter, field_name: page}, pagination_strategy: {type: PageIncrement, page_size: 1}}\n      record_selector",
    );
    let fixture = EngineFixture::with_manifest(policy("manifests: {dir: m}"), "shop", &format!("{budget}{pages}"));
    let opened = fixture.open("shop", vendor.host(), None).await.unwrap();
    let failure = remaining_steps(&opened).await.err().expect("the second call exceeds the budget");
    assert_eq!(failure.class, Class::Throttled, "{failure:?}");
    assert!(failure.title.contains("AAM's own share") && failure.detail.contains("api_budget"), "{failure:?}");
}

/// A stream that no probe reads is only met by the tiny sync, which warns in the same way.
#[tokio::test]
async fn a_stream_that_only_the_sync_meets_is_named_there() {
    let two = manifest("");
    let stream = two.split_once("streams:\n").unwrap().1.replace("name: things", "name: others").replace("/things", "/others");
    let two = format!("{two}{stream}");
    let vendor = MockVendor::start(|_, request: &ReceivedRequest| match request.path() {
        "/others" => json_response_with(403, &[], &json!({"message": "the vendor's own words"})),
        _ => json_response(r#"{"data":[{"id":1}]}"#),
    })
    .await;
    let fixture = EngineFixture::with_manifest(policy("manifests: {dir: m}"), "shop", &two);
    let opened = fixture.open("shop", vendor.host(), None).await.unwrap();
    let (_, sample) = remaining_steps(&opened).await.unwrap();
    let denied: Vec<_> = sample.denied.iter().map(|stream| (stream.name.as_str(), stream.class)).collect();
    assert_eq!(denied, [("others", Some(aam::model::Class::PermissionDenied))]);
}

fn page(kind: &str, body: &str) -> MockResponse {
    (200, vec![("content-type", kind.to_string())], body.to_string())
}

#[tokio::test]
async fn an_identity_probe_says_what_came_back_instead_of_json() {
    for (response, expected, class) in [
        (page("text/html; charset=utf-8", "<html>Sign in</html>"), "an HTML page", Class::WrongService),
        (page("application/json", "  <!DOCTYPE html><p>hello"), "an HTML page", Class::WrongService),
        (page("application/json", ""), "an empty body", Class::Remote),
        (page("application/json", " \r\n"), "an empty body", Class::Remote),
        (page("application/json", r#"{"login": "acm"#), "truncated JSON", Class::Remote),
        (page("application/json", r#"[{"id": 1}, "#), "truncated JSON", Class::Remote),
        (page("text/plain", "It works!"), "text that is not JSON", Class::WrongService),
    ] {
        for failure in [
            family("github", "acme", response.clone()).await,
            family("github", "acme/widgets", response.clone()).await,
            family("slack", "T0ACME", response.clone()).await,
            custom(manifest(""), response.clone()).await,
        ] {
            assert_eq!(failure.class, class, "{failure:?}");
            assert!(failure.title.contains(&format!("answered with {expected}")), "{expected}: {failure:?}");
            assert!(
                failure.title.starts_with("GET http://127.0.0.1:") || failure.title.starts_with("POST http://127.0.0.1:"),
                "{failure:?}"
            );
            assert!(failure.fix.contains("base_url") || failure.fix.contains("url_base"), "{failure:?}");
            assert!(!format!("{failure:?}").contains("not found"), "{failure:?}");
        }
    }
}

#[tokio::test]
async fn a_404_names_the_call_and_what_it_can_mean() {
    // Nothing of the vendor's format: the address is wrong.
    for response in [
        (404, vec![("content-type", "text/html".to_string())], "<html>nginx</html>".to_string()),
        (404, vec![], String::new()),
        (404, vec![("content-type", "text/plain".to_string())], "404 page not found".to_string()),
        json_response_with(404, &[], &json!({"type": "about:blank", "title": "Not here"})),
        (405, vec![("content-type", "text/html".to_string())], "<html>no</html>".to_string()),
    ] {
        let failure = family("github", "acme", response.clone()).await;
        assert_eq!(failure.class, Class::WrongService, "{failure:?}");
        assert!(
            failure.title.contains("GET http://127.0.0.1:") && failure.title.contains("/orgs/acme answered 40"),
            "{failure:?}"
        );
        assert!(failure.fix.contains("families.github.base_url") && !failure.title.contains("was not found"), "{failure:?}");
        let failure = family("slack", "T0ACME", response).await;
        assert_eq!(failure.class, Class::WrongService, "{failure:?}");
        assert!(failure.fix.contains("families.slack.base_url"), "{failure:?}");
    }
    // JSON of another service.
    let other = family("github", "acme", json_response(r#"{"status":"ok"}"#)).await;
    assert!(other.class == Class::WrongService && other.fix.contains("families.github.base_url"), "{other:?}");
    // GitHub's own format: the resource, or the access to it.
    let vendor = MockVendor::start(github).await;
    let unknown =
        EngineFixture::at("github", &vendor.base).open("github", "umbrella", Some("gh-token-reads-1")).await.err().unwrap();
    assert_eq!(unknown.class, Class::NotFound);
    assert!(unknown.title.contains(&format!("GET {}/orgs/umbrella answered 404", vendor.base)), "{unknown:?}");
    // A custom source whose manifest or resource id is wrong.
    let other = custom(manifest(""), message(404, &[])).await;
    assert_eq!(other.class, Class::NotFound);
    assert!(
        other.title.ends_with("/things answered 404") && other.fix.contains("url_base in the manifest m/shop.yaml"),
        "{other:?}"
    );
    let page = custom(manifest(""), (404, vec![("content-type", "text/html".to_string())], "<html>no</html>".to_string())).await;
    assert!(page.class == Class::WrongService && page.fix.contains("url_base"), "{page:?}");
}

/// GitHub, except that the streams of the organization answer with `status`.
async fn github_without(paths: &'static [&'static str], status: u16) -> Result<(Vec<String>, serde_json::Value), Failure> {
    let vendor = MockVendor::start(move |home: &str, request: &ReceivedRequest| match paths.contains(&request.path()) {
        true => json_response_with(status, &[], &json!({"message": "the vendor's own words"})),
        false => github(home, request),
    })
    .await;
    let opened = EngineFixture::at("github", &vendor.base).open("github", "acme", Some("gh-token-reads-1")).await?;
    let (discovery, _) = remaining_steps(&opened).await?;
    let names = stream_names(&discovery).into_iter().map(str::to_string).collect();
    Ok((names, json!(discovery.catalog.skipped)))
}

#[tokio::test]
async fn after_the_identity_matched_no_resource_is_blamed_and_no_stream_hides_the_others() {
    for status in [403, 404, 409, 410, 422, 451, 500, 502] {
        let (names, skipped) = github_without(&["/orgs/acme/teams"], status).await.unwrap();
        assert_eq!(names, ["members", "repositories"], "{status}");
        let reason = skipped[0]["reason"].as_str().unwrap();
        assert!(reason.contains("the vendor's own words") && !reason.contains("acme was not found"), "{status}: {reason}");
        assert!(skipped[0]["class"].is_string(), "{skipped}");
    }
    let all: &[&str] = &["/orgs/acme/teams", "/orgs/acme/members", "/orgs/acme/repos"];
    let failure = github_without(all, 404).await.unwrap_err();
    assert_eq!(failure.class, Class::NotFound);
    assert!(failure.title.contains("/orgs/acme/") && failure.title.contains("answered 404"), "{failure:?}");
    assert!(failure.fix.contains("acme itself was found"), "{failure:?}");
    // A login that fails concerns the whole connection.
    assert_eq!(github_without(&["/orgs/acme/teams"], 401).await.unwrap_err().class, Class::CredentialRejected);
}

#[tokio::test]
async fn all_missing_scopes_are_named_at_once() {
    let vendor = MockVendor::start(slack).await;
    let fixture = EngineFixture::at("slack", &format!("{}/api", vendor.base));
    let opened = fixture.open("slack", "T0ACME", Some("xoxb-nothing-6")).await.unwrap();
    let failure = remaining_steps(&opened).await.err().unwrap();
    assert_eq!(failure.class, Class::PermissionDenied);
    for scope in ["channels:read", "team:read", "users:read"] {
        assert!(failure.title.contains(scope) && failure.fix.contains(scope), "{failure:?}");
    }
    assert!(failure.fix.contains("OAuth & Permissions"), "{failure:?}");
}

/// One stream of a check that fails does not hide the other.
#[tokio::test]
async fn a_custom_source_is_healthy_if_one_stream_of_its_check_can_be_read() {
    let two = manifest("").replace("stream_names: [things]", "stream_names: [things, others]");
    let stream = two.split_once("streams:\n").unwrap().1.replace("name: things", "name: others").replace("/things", "/others");
    let two = format!("{two}{}", stream.split_once("streams:\n").map_or(stream.as_str(), |(_, rest)| rest));
    for (status, names) in [(403, vec!["others"]), (500, vec!["others"])] {
        let vendor = MockVendor::start(move |_, request: &ReceivedRequest| match request.path() {
            "/things" => json_response_with(status, &[], &json!({"message": "the vendor's own words"})),
            _ => json_response(r#"{"data":[{"id":1}]}"#),
        })
        .await;
        let fixture = EngineFixture::with_manifest(policy("manifests: {dir: m}"), "shop", &two);
        let opened = fixture.open("shop", vendor.host(), None).await.unwrap();
        assert!(opened.identity["not_readable"]["things"].as_str().unwrap().contains("the vendor's own words"));
        let (discovery, sample) = remaining_steps(&opened).await.unwrap();
        assert_eq!((stream_names(&discovery), sample.rows), (names, 1), "{status}");
        assert_eq!(discovery.catalog.skipped[0].name, "things");
    }
}
