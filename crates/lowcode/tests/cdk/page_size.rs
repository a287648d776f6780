//! `PageSizeReduction`, as GitHub's manifest uses it.

use super::compare;
use super::run::Case;
use super::server::{Route, json, ok};

const OFFSET: &str = "{type: OffsetIncrement, page_size: 8}";
const CURSOR: &str = "{type: CursorPagination, page_size: 8, cursor_value: \"{{ response.next }}\", \
    stop_condition: \"{{ last_page_size < page_size }}\"}";

fn manifest(strategy: &str, reduction: &str, paginator: &str, action: &str) -> String {
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
      {reduction}
      requester:
        type: HttpRequester
        url_base: BASE
        path: /items
        error_handler:
          type: CompositeErrorHandler
          error_handlers:
            - type: DefaultErrorHandler
              response_filters:
                - {{type: HttpResponseFilter, action: {action}, http_codes: [502], error_message: "too heavy"}}
      record_selector: {{type: RecordSelector, extractor: {{type: DpathExtractor, field_path: [r]}}}}
      paginator:
        type: DefaultPaginator
        page_size_option: {{type: RequestOption, inject_into: request_parameter, field_name: size}}
        {paginator}
        pagination_strategy: {strategy}
"#
    )
}

const TOKEN: &str = "page_token_option: {type: RequestOption, inject_into: request_parameter, field_name: at}";
const REDUCE: &str = "REDUCE_PAGE_SIZE";

fn page(ids: std::ops::Range<u32>, next: &str) -> super::server::Reply {
    let records: Vec<String> = ids.map(|id| format!(r#"{{"id": {id}}}"#)).collect();
    ok(&format!(r#"{{"r": [{}], "next": "{next}"}}"#, records.join(",")))
}

fn heavy() -> super::server::Reply {
    json(502, "{}")
}

fn read(name: &'static str, manifest: String, routes: Vec<Route>) -> Case {
    Case::read(name, manifest, routes)
}

#[test]
fn heavy_pages_become_smaller_as_in_the_cdk() {
    let reduction = |fields: &str| format!("page_size_reduction: {{type: PageSizeReduction, backoff_seconds: 0{fields}}}");
    let with = |strategy: &str, fields: &str| manifest(strategy, &reduction(fields), TOKEN, REDUCE);
    let sizes =
        || -> Vec<Route> { vec![("size=8", vec![heavy()]), ("size=4", vec![page(0..4, "4"), page(4..8, "8"), page(8..10, "")])] };
    let floor = || -> Vec<Route> { vec![("size=", vec![heavy()])] };
    let cases = vec![
        read("offsets", with(OFFSET, ""), sizes()),
        read("cursor", with(CURSOR, ""), sizes()),
        read("restored after each page", with(CURSOR, ", reset_policy: AFTER_SUCCESSFUL_PAGE"), sizes()),
        read(
            "a factor that is not whole",
            with(OFFSET, ", reduction_factor: 1.5"),
            vec![("size=8", vec![heavy()]), ("size=5", vec![heavy()]), ("size=3", vec![page(0..3, "3"), page(3..4, "")])],
        ),
        read("rejected at every size", with(OFFSET, ", failure_message: \"ask for less\""), floor()),
        read("too many reductions", with(OFFSET, ", max_attempts: 2"), floor()),
        read("the floor is above one", with(OFFSET, ", minimum_page_size: 3"), floor()),
        read("retries at the floor", with(OFFSET, ", minimum_page_size: 4, retries_at_minimum_page_size: 2"), floor()),
        read(
            "a retry at the floor helps",
            with(OFFSET, ", minimum_page_size: 4, retries_at_minimum_page_size: 2"),
            vec![("size=8", vec![heavy()]), ("size=4", vec![heavy(), heavy(), page(0..2, "")])],
        ),
        read(
            "heavy pages in the middle",
            with(CURSOR, ", max_attempts: 1"),
            vec![
                ("at=8", vec![heavy(), page(8..12, "12")]),
                ("at=12", vec![heavy(), page(12..13, "")]),
                ("size=8", vec![page(0..8, "8")]),
            ],
        ),
        read("a size from the config", with("{type: OffsetIncrement, page_size: \"{{ 8 }}\"}", ""), sizes()),
        read("no reduction", manifest(OFFSET, "", TOKEN, REDUCE), floor()),
        read("no action", manifest(OFFSET, &reduction(""), TOKEN, "IGNORE"), floor()),
        read("page numbers", with("{type: PageIncrement, page_size: 8}", ""), floor()),
        read("no size", with("{type: OffsetIncrement}", ""), floor()),
        read("a size at the floor", with("{type: OffsetIncrement, page_size: 8}", ", minimum_page_size: 8"), floor()),
        read("a path", manifest(CURSOR, &reduction(""), "page_token_option: {type: RequestPath}", REDUCE), floor()),
        Case { command: "check", ..read("check", with(OFFSET, ""), sizes()) },
        Case { command: "check", ..read("check at every size", with(OFFSET, ""), floor()) },
    ];
    compare("page-size", &cases);
}
