use crate::bounds::Bounds;
use crate::context::Limits;
use crate::script::{Turns, read, stream};

/// A stream with pages of 8 that are reduced after a 502.
fn reduced(fields: &str) -> String {
    let retriever = format!(
        r#", "page_size_reduction": {{"type": "PageSizeReduction" {fields}}}, "paginator": {{"type": "DefaultPaginator",
            "page_size_option": {{"type": "RequestOption", "inject_into": "request_parameter", "field_name": "size"}},
            "page_token_option": {{"type": "RequestOption", "inject_into": "request_parameter", "field_name": "at"}},
            "pagination_strategy": {{"type": "OffsetIncrement", "page_size": 8}}}}"#
    );
    stream("s", "/a", &retriever, "").replace(
        r#""path": "/a""#,
        r#""path": "/a", "error_handler": {"type": "DefaultErrorHandler", "response_filters": [{"type": "HttpResponseFilter",
            "action": "REDUCE_PAGE_SIZE", "http_codes": [502], "error_message": "too heavy"}]}"#,
    )
}

fn outcome(host: &Turns, stream: &str) -> (usize, Result<(), String>) {
    let (records, result) = read(&[stream.to_owned()], "s", host, &Bounds::default(), Limits::default());
    (records.len(), result.map_err(|failed| failed.internal.clone().unwrap_or_else(|| failed.message.clone())))
}

const FOUR: &str = r#"{"r": [{"i": 1}, {"i": 2}, {"i": 3}, {"i": 4}]}"#;
const TWO: &str = r#"{"r": [{"i": 5}, {"i": 6}]}"#;

#[test]
fn a_page_is_requested_again_with_a_smaller_size() {
    let host = Turns::new(&[
        ("size=8", &[(502, vec![], "")]),
        ("size=4", &[(200, vec![], FOUR), (502, vec![], "")]),
        ("size=2", &[(200, vec![], TWO), (200, vec![], r#"{"r": []}"#)]),
    ]);
    assert_eq!(outcome(&host, &reduced("")), (6, Ok(())));
    assert_eq!(
        host.calls(),
        ["GET /a?size=8", "GET /a?size=4", "GET /a?at=4&size=4", "GET /a?at=4&size=2", "GET /a?at=6&size=2"]
    );
    assert_eq!(host.waited(), [0.5, 0.5], "the attempts begin anew after a page that was read");
}

#[test]
fn a_size_may_be_restored_after_each_page() {
    let host = Turns::new(&[("size=8", &[(502, vec![], "")]), ("size=4", &[(200, vec![], FOUR), (200, vec![], TWO)])]);
    assert_eq!(outcome(&host, &reduced(r#", "reset_policy": "AFTER_SUCCESSFUL_PAGE""#)), (6, Ok(())));
    assert_eq!(host.calls(), ["GET /a?size=8", "GET /a?size=4", "GET /a?at=4&size=8", "GET /a?at=4&size=4"]);
}

#[test]
fn reductions_end() {
    let heavy = || Turns::new(&[("/a", &[(502, vec![], "")])]);
    let host = heavy();
    let (records, failed) = outcome(&host, &reduced(""));
    let message = "Stream s still fails with a page size of 1, which is the smallest page size allowed by the configured minimum \
                   of 1; the API rejected the page: too heavy";
    assert_eq!((records, failed), (0, Err(message.to_owned())));
    assert_eq!((host.calls().len(), host.waited()), (4, vec![0.5, 1.0, 1.5]));
    let host = heavy();
    let (_, failed) = outcome(&host, &reduced(r#", "max_attempts": 1, "minimum_page_size": 2"#));
    assert!(failed.unwrap_err().starts_with("Stream s reduced its page size 1 times in a row"));
    assert_eq!(host.calls().len(), 2);
    let host = heavy();
    let (_, failed) = outcome(&host, &reduced(r#", "minimum_page_size": 4, "retries_at_minimum_page_size": 2"#));
    assert!(failed.unwrap_err().contains("after 2 retries at that size"));
    assert_eq!(host.calls().len(), 4);
}

#[test]
fn what_could_lose_records_is_refused() {
    let cases = [
        (r#""type": "OffsetIncrement""#, r#""type": "PageIncrement""#, "PageIncrement"),
        (r#""page_size_reduction": {"type": "PageSizeReduction" }, "#, "", "does not define `page_size_reduction`"),
        (r#""page_size": 8"#, r#""page_size": 1"#, "can never reduce"),
        (
            r#""type": "OffsetIncrement""#,
            r#""type": "CursorPagination", "cursor_value": "{{ response.n }}", "stop_condition": "{{ last_page_size < 8 }}""#,
            "stop_condition",
        ),
    ];
    for (from, to, part) in cases {
        let changed = reduced("").replace(from, to);
        assert_ne!(changed, reduced(""));
        let host = Turns::new(&[("/a", &[(200, vec![], FOUR)])]);
        let failed = outcome(&host, &changed).1.unwrap_err();
        assert!(failed.contains(part), "{failed}");
        assert!(host.calls().is_empty());
    }
}
