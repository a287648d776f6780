//! `RateLimitedMultipleTokenAuthenticator`, with the fields that GitHub's manifest uses.

use super::compare;
use super::run::Case;
use super::server::{Reply, Route, json, ok};

fn manifest(quota: &str, more: &str, stream: &str) -> String {
    format!(
        r#"
version: 7.0.0
type: DeclarativeSource
check: {{type: CheckStream, stream_names: [s]}}
streams:
  - type: DeclarativeStream
    name: s
    schema_loader: {{type: InlineSchemaLoader, schema: {{type: object}}}}
    retriever:
      type: SimpleRetriever
      requester:
        type: HttpRequester
        url_base: BASE
        path: /repos
        authenticator:
          type: RateLimitedMultipleTokenAuthenticator
          tokens: "{{{{ config['tokens'] }}}}"
          auth_method: token
          quota_status_source:
            type: QuotaStatusSource
            url: "BASE/rate_limit"
            request_headers: {{Accept: "application/json"}}
            {more}
          quotas:
            - type: TokenQuota
              name: search
              remaining_path: [resources, search, remaining]
              reset_path: [resources, search, reset]
              matchers: [{{method: GET, url_path_pattern: "^/search"}}]
            - type: TokenQuota
              name: core
              remaining_path: [resources, core, remaining]
              reset_path: [resources, core, reset]
              limit_path: [resources, core, limit]
              {quota}
        error_handler:
          type: DefaultErrorHandler
          max_retries: 3
          response_filters:
            - {{type: HttpResponseFilter, action: RATE_LIMITED, http_codes: [403]}}
      record_selector: {{type: RecordSelector, extractor: {{type: DpathExtractor, field_path: []}}}}
      {stream}
"#
    )
}

const PAGES: &str = "paginator: {type: DefaultPaginator, page_token_option: {type: RequestOption, inject_into: request_parameter, \
    field_name: page}, pagination_strategy: {type: PageIncrement, page_size: 1, start_from_page: 1}}";

fn quota(core: i64, reset: &str) -> Reply {
    ok(&format!(
        r#"{{"resources": {{"core": {{"limit": 5000, "remaining": {core}, "reset": {reset}}},
            "search": {{"remaining": 30, "reset": {reset}}}}}}}"#
    ))
}

const LATER: &str = "4102444800";

fn pages() -> Route {
    ("/repos", vec![ok(r#"[{"id": 1}]"#), ok(r#"[{"id": 2}]"#), ok(r#"[{"id": 3}]"#), ok(r#"[{"id": 4}]"#), ok("[]")])
}

fn with(mut headers: Vec<(&'static str, &str)>, (status, mut own, body): Reply) -> Reply {
    own.extend(headers.drain(..).map(|(name, value)| (name, value.to_owned())));
    (status, own, body)
}

fn read(name: &'static str, manifest: String, tokens: &str, routes: Vec<Route>) -> Case {
    Case { config: serde_json::json!({ "tokens": tokens }), ..Case::read(name, manifest, routes) }
}

#[test]
fn tokens_with_quotas_rotate_as_in_the_cdk() {
    let plain = || manifest("", "", PAGES);
    let aware = "remaining_header: X-Remaining\n              reset_header: X-Reset\n              limit_header: X-Limit\n              \
                 exhaustion_status_codes: [403]";
    let aware = || manifest(aware, "", PAGES);
    let cases = vec![
        read(
            "two tokens",
            plain(),
            "one, two",
            vec![("/rate_limit one", vec![quota(2, LATER)]), ("/rate_limit two", vec![quota(5000, LATER)]), pages()],
        ),
        read("few calls are left", plain(), "one,two", vec![("/rate_limit", vec![quota(3, LATER)]), pages()]),
        read(
            "all are spent and full again",
            plain(),
            "one,two",
            vec![
                ("/rate_limit one", vec![quota(0, "1"), quota(9, LATER)]),
                ("/rate_limit two", vec![quota(0, "1"), quota(9, LATER)]),
                pages(),
            ],
        ),
        read("all are spent for long", plain(), "one", vec![("/rate_limit", vec![quota(0, LATER)]), pages()]),
        read(
            "headers tell of spent calls",
            aware(),
            "one,two",
            vec![
                ("/rate_limit", vec![quota(100, LATER)]),
                (
                    "/repos",
                    vec![
                        with(vec![("X-Remaining", "1"), ("X-Reset", LATER), ("X-Limit", "60")], ok(r#"[{"id": 1}]"#)),
                        with(vec![("X-Remaining", "0"), ("X-Reset", LATER)], json(403, "{}")),
                        ok(r#"[{"id": 2}]"#),
                        with(vec![("X-Remaining", "7"), ("X-Reset", "4102444900")], ok(r#"[{"id": 3}]"#)),
                        ok("[]"),
                    ],
                ),
            ],
        ),
        read(
            "a status alone tells of spent calls",
            aware(),
            "one,two",
            vec![
                ("/rate_limit", vec![quota(100, LATER)]),
                ("/repos one", vec![json(403, "{}")]),
                ("/repos", vec![ok(r#"[{"id": 1}]"#), ok("[]")]),
            ],
        ),
        read(
            "every token is rejected",
            aware(),
            "one,two",
            vec![("/rate_limit", vec![quota(100, LATER)]), ("/repos", vec![json(403, "{}")])],
        ),
        read(
            "rejections without alternative",
            plain(),
            "one,two",
            vec![("/rate_limit", vec![quota(100, LATER)]), ("/repos", vec![json(403, "{}"), ok(r#"[{"id": 1}]"#), ok("[]")])],
        ),
        read(
            "quotas are unavailable",
            manifest("", "unavailable_status_codes: [404]", PAGES),
            "one,two",
            vec![("/rate_limit", vec![json(404, "{}")]), pages()],
        ),
        read(
            "one token is not tracked",
            manifest("", "unavailable_status_codes: [404]", PAGES),
            "one,two",
            vec![("/rate_limit one", vec![quota(2, LATER)]), ("/rate_limit two", vec![json(404, "{}")]), pages()],
        ),
        read("quotas fail", plain(), "one", vec![("/rate_limit", vec![json(404, "{}")])]),
        read("quotas are unauthorized", plain(), "one", vec![("/rate_limit", vec![json(401, "{}")])]),
        read("quotas have other fields", plain(), "one", vec![("/rate_limit", vec![ok(r#"{"resources": {"search": {}}}"#)])]),
        read(
            "quotas have text numbers",
            plain(),
            "one",
            vec![
                (
                    "/rate_limit",
                    vec![ok(r#"{"resources": {"core": {"limit": "60", "remaining": "59", "reset": "2100-01-01T00:00:00Z"},
                    "search": {"remaining": 5, "reset": "2100-01-01 00:00:00+00:00"}}}"#)],
                ),
                pages(),
            ],
        ),
        read("no token", plain(), " , ", vec![pages()]),
        Case { command: "check", ..read("check", plain(), "one,two", vec![("/rate_limit", vec![quota(9, LATER)]), pages()]) },
        Case {
            command: "check",
            ..read("check of spent tokens", plain(), "one", vec![("/rate_limit", vec![quota(0, LATER)]), pages()])
        },
    ];
    compare("quotas", &cases);
}
