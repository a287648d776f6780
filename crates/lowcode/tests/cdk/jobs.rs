//! `AsyncRetriever`: jobs that the source prepares.

use super::compare;
use super::run::Case;
use super::server::{Reply, Route, gzip, json, ok, text};

fn manifest(more: &str, stream: &str) -> String {
    format!(
        r#"
version: 7.0.0
type: DeclarativeSource
check: {{type: CheckStream, stream_names: [s]}}
streams:
  - type: DeclarativeStream
    name: s
    schema_loader: {{type: InlineSchemaLoader, schema: {{type: object}}}}
    {stream}
    retriever:
      type: AsyncRetriever
      record_selector:
        type: RecordSelector
        extractor: {{type: DpathExtractor, field_path: []}}
        record_filter: {{type: RecordFilter, condition: "{{{{ record['id'] != '9' }}}}"}}
      status_extractor: {{type: DpathExtractor, field_path: [status]}}
      status_mapping: {{running: [queued, busy], completed: [done], failed: [error], timeout: [late], skipped: [empty]}}
      creation_requester:
        type: HttpRequester
        url_base: BASE
        path: /jobs
        http_method: POST
        request_body_json: {{report: s, of: "{{{{ stream_partition.get('kind') }}}}", from: "{{{{ stream_slice.get('start_time') }}}}"}}
      polling_requester:
        type: HttpRequester
        url_base: BASE
        path: "/jobs/{{{{ creation_response['id'] }}}}"
      download_requester:
        type: HttpRequester
        url_base: BASE
        path: "/files/{{{{ polling_response['file'] }}}}{{{{ download_target }}}}"
      {more}
"#
    )
}

const CSV: &str = "download_decoder: {type: CsvDecoder}";
const LINES: &str = "download_decoder: {type: GzipDecoder, decoder: {type: JsonlDecoder}}";
const TARGETS: &str = "download_target_extractor: {type: DpathExtractor, field_path: [parts]}";
const KINDS: &str = "partition_router: {type: ListPartitionRouter, cursor_field: kind, values: [a, b]}";

fn made() -> Route {
    ("POST /jobs", vec![json(201, r#"{"id": 7}"#)])
}

fn polled(statuses: &[&str]) -> Route {
    let reply = |status: &&str| ok(&format!(r#"{{"status": "{status}", "file": "f", "parts": ["-1", "-2"]}}"#));
    ("GET /jobs/7", statuses.iter().map(reply).collect::<Vec<Reply>>())
}

fn file(reply: Reply) -> Route {
    ("GET /files/", vec![reply])
}

fn read(name: &'static str, manifest: String, routes: Vec<Route>) -> Case {
    Case::read(name, manifest, routes)
}

#[test]
fn jobs_are_made_polled_and_downloaded_as_in_the_cdk() {
    let rows = || file(text("id,name\n1,x\n9,y\n2,NA\n"));
    let sync = "incremental_sync: {type: DatetimeBasedCursor, cursor_field: at, datetime_format: \"%Y-%m-%d\", \
                start_datetime: \"2024-01-01\", end_datetime: \"2024-01-04\", step: P2D, cursor_granularity: P1D}";
    let router = "download_paginator: {type: DefaultPaginator, page_token_option: {type: RequestOption, inject_into: \
                  request_parameter, field_name: page}, pagination_strategy: {type: CursorPagination, cursor_value: \
                  \"{{ headers['Next'] }}\", stop_condition: \"{{ not headers.get('Next') }}\"}}";
    let paged = || -> Route {
        let (status, mut headers, body) = ok(r#"[{"id": 1}]"#);
        headers.push(("Next", "2".into()));
        ("GET /files/", vec![(status, headers, body), ok(r#"[{"id": 2}]"#)])
    };
    let delete = "delete_requester: {type: HttpRequester, url_base: BASE, path: \"/jobs/{{ creation_response['id'] }}/drop\", \
                  http_method: POST}";
    let abort = "abort_requester: {type: HttpRequester, url_base: BASE, path: \"/jobs/{{ creation_response['id'] }}/stop\", \
                 http_method: POST}";
    let other = "download_target_requester: {type: HttpRequester, url_base: BASE, \
                 path: \"/list/{{ polling_response['file'] }}\"}";
    let plain = "download_extractor: {type: ResponseToFileExtractor}";
    let cases = vec![
        read("csv", manifest(CSV, ""), vec![made(), polled(&["queued", "busy", "done"]), rows()]),
        read("json", manifest("", ""), vec![made(), polled(&["done"]), file(ok(r#"[{"id": 1}, {"id": 2}]"#))]),
        read("json in a field", manifest("download_extractor: {type: DpathExtractor, field_path: [r]}", ""), vec![
            made(),
            polled(&["done"]),
            file(ok(r#"{"r": [{"id": 1}, {"id": 2}]}"#)),
        ]),
        read("compressed lines", manifest(LINES, ""), vec![made(), polled(&["done"]), file(gzip("{\"id\": 1}\n\n{\"id\": 2}\n"))]),
        read("lines that are not compressed", manifest(LINES, ""), vec![made(), polled(&["done"]), file(text("{\"id\": 1}\n"))]),
        read("a file", manifest(plain, ""), vec![made(), polled(&["done"]), rows()]),
        read("a compressed file", manifest(plain, ""), vec![made(), polled(&["done"]), file(gzip("id,n\n1,\"a\nb\"\n\n2,null\n"))]),
        read("a file with odd names", manifest(plain, ""), vec![made(), polled(&["done"]), file(text("id,id,\r\n1,2,3\r\n4\r\n"))]),
        read("a file with row names", manifest(plain, ""), vec![made(), polled(&["done"]), file(text("id,n\n0,1,2\n1,3,4\n"))]),
        read("an empty file", manifest(plain, ""), vec![made(), polled(&["done"]), file(text(""))]),
        read("several targets", manifest(&format!("{CSV}\n      {TARGETS}"), ""), vec![
            made(),
            polled(&["done"]),
            ("GET /files/f-1", vec![text("id\n1\n")]),
            ("GET /files/f-2", vec![text("id\n2\n")]),
        ]),
        read("targets of another request", manifest(&format!("{CSV}\n      {TARGETS}\n      {other}"), ""), vec![
            made(),
            polled(&["done"]),
            ("GET /list/f", vec![ok(r#"{"parts": ["x"]}"#)]),
            ("GET /files/fx", vec![text("id\n3\n")]),
        ]),
        read("pages", manifest(router, ""), vec![made(), polled(&["done"]), paged()]),
        read("pages of a decoder without pages", manifest(&format!("{CSV}\n      {router}"), ""), vec![made()]),
        read("partitions", manifest(&format!("{CSV}\n      {KINDS}"), ""), vec![made(), polled(&["busy", "done"]), rows()]),
        read("intervals", manifest(CSV, sync), vec![made(), polled(&["done"]), file(text("id,at\n1,2024-01-02\n"))]),
        read("deleted after the read", manifest(&format!("{CSV}\n      {delete}"), ""), vec![
            made(),
            polled(&["done"]),
            rows(),
            ("/drop", vec![ok("{}")]),
        ]),
        read("nothing there", manifest(CSV, ""), vec![made(), polled(&["busy", "empty"])]),
        read("fails once", manifest(CSV, ""), vec![made(), polled(&["error", "done"]), rows()]),
        read("fails always", manifest(CSV, ""), vec![made(), polled(&["error"])]),
        read("one partition fails", manifest(&format!("{CSV}\n      {KINDS}"), ""), vec![
            ("POST /jobs a", vec![json(201, r#"{"id": 7}"#)]),
            ("POST /jobs b", vec![json(201, r#"{"id": 8}"#)]),
            ("GET /jobs/8", vec![ok(r#"{"status": "error"}"#)]),
            polled(&["done"]),
            rows(),
        ]),
        read("late", manifest(&format!("{CSV}\n      {abort}"), ""), vec![
            made(),
            ("/stop", vec![ok("{}")]),
            polled(&["late", "done"]),
            rows(),
        ]),
        read("late always", manifest(&format!("{CSV}\n      {abort}"), ""), vec![("/stop", vec![ok("{}")]), made(), polled(&["late"])]),
        read("cannot be made", manifest(CSV, ""), vec![("POST /jobs", vec![json(400, r#"{"message": "bad"}"#)])]),
        read("cannot be made at first", manifest(CSV, ""), vec![
            ("POST /jobs", vec![json(400, "{}"), json(201, r#"{"id": 7}"#)]),
            polled(&["done"]),
            rows(),
        ]),
        read("may not be made", manifest(CSV, ""), vec![("POST /jobs", vec![json(403, "{}")])]),
        read("download fails", manifest(CSV, ""), vec![made(), polled(&["done"]), file(json(404, "{}"))]),
        read("a status twice", manifest(CSV, "").replace("busy]", "done]"), vec![made()]),
        read("an action for pages", manifest(CSV, "").replace(
            "http_method: POST\n",
            "http_method: POST\n        error_handler: {type: DefaultErrorHandler, response_filters: [{type: HttpResponseFilter, \
             action: REDUCE_PAGE_SIZE, http_codes: [500]}]}\n",
        ), vec![made()]),
        Case { command: "check", ..read("check", manifest(CSV, ""), vec![made(), polled(&["busy", "done"]), rows()]) },
        Case { command: "check", ..read("check, 403", manifest(CSV, ""), vec![("POST /jobs", vec![json(403, "{}")])]) },
        Case { command: "check", ..read("check, fails always", manifest(CSV, ""), vec![made(), polled(&["error"])]) },
        Case { command: "check", ..read("check, nothing there", manifest(CSV, ""), vec![made(), polled(&["empty"])]) },
    ];
    compare("jobs", &cases);
}
