use crate::bounds::Bounds;
use crate::check::available;
use crate::context::{Context, Limits, Run};
use crate::script::{Script, json, read, stream};
use crate::source::SourceBuilder;
use crate::value::Value;
use futures_util::FutureExt;

fn texts(records: &[Value]) -> Vec<String> {
    records.iter().map(Value::repr).collect()
}

fn all(streams: &[String], name: &str, host: &Script) -> (Vec<String>, Result<(), String>) {
    let (records, result) = read(streams, name, host, &Bounds::default(), Limits::default());
    (texts(&records), result.map_err(|failed| failed.class.to_owned()))
}

const PAGES: &str = r#", "paginator": {"type": "DefaultPaginator",
    "page_token_option": {"type": "RequestOption", "inject_into": "request_parameter", "field_name": "page"},
    "page_size_option": {"type": "RequestOption", "inject_into": "request_parameter", "field_name": "size"},
    "pagination_strategy": {"type": "PageIncrement", "page_size": 2, "start_from_page": 1}}"#;

#[test]
fn goes_on_until_a_page_is_short() {
    let host = Script::new(&[("page=2", r#"{"r": [{"i": 3}]}"#), ("/a", r#"{"r": [{"i": 1}, {"i": 2}]}"#)]);
    let (records, result) = all(&[stream("s", "/a", PAGES, "")], "s", &host);
    assert_eq!((records.len(), result), (3, Ok(())));
    assert_eq!(host.urls(), ["https://h.example/a?size=2", "https://h.example/a?page=2&size=2"]);
}

#[test]
fn the_page_is_counted_before_the_filter() {
    let filtered = PAGES.to_owned()
        + r#", "record_selector": {"type": "RecordSelector", "extractor": {"type": "DpathExtractor", "field_path": ["r"]},
             "record_filter": {"type": "RecordFilter", "condition": "{{ record['i'] > 2 }}"}}"#;
    let host = Script::new(&[("page=2", r#"{"r": [{"i": 3}]}"#), ("/a", r#"{"r": [{"i": 1}, {"i": 2}]}"#)]);
    assert_eq!(all(&[stream("s", "/a", &filtered, "")], "s", &host), (vec!["{'i': 3}".to_owned()], Ok(())));
}

#[test]
fn endless_pages_meet_a_bound() {
    let cursor = r#", "paginator": {"type": "DefaultPaginator", "page_token_option": {"type": "RequestPath"},
        "pagination_strategy": {"type": "CursorPagination", "cursor_value": "{{ response.next }}"}}"#;
    let host = Script::new(&[("/a", r#"{"r": [{"i": 1}], "next": "https://h.example/a?again"}"#)]);
    let (records, result) = all(&[stream("s", "/a", cursor, "")], "s", &host);
    assert_eq!((records.len(), result), (20, Err("Bound".to_owned())));
    let limits = Limits { pages: Some(2), ..Limits::default() };
    let (records, result) = read(&[stream("s", "/a", cursor, "")], "s", &host, &Bounds::default(), limits);
    assert!(records.len() == 2 && result.is_ok(), "a limit is not a failure");
}

#[test]
fn no_page_before_it_is_needed() {
    let host = Script::new(&[("/a", r#"{"r": [{"i": 1}, {"i": 2}]}"#)]);
    let streams = [stream("s", "/a", PAGES, "")];
    let bounds = Bounds { pages: 1, ..Bounds::default() };
    let (records, result) = read(&streams, "s", &host, &bounds, Limits::default());
    assert_eq!((records.len(), result.unwrap_err().class, host.urls().len()), (2, "Bound", 1));
}

#[test]
fn records_that_are_no_dicts_fail_where_there_is_a_schema() {
    let host = Script::new(&[("/a", r#"{"r": ["some text"]}"#)]);
    let schema = r#", "schema_loader": {"type": "InlineSchemaLoader", "schema": {"type": "object"}}"#;
    assert_eq!(all(&[stream("s", "/a", "", schema)], "s", &host), (vec![], Err("ValueError".to_owned())));
    assert_eq!(all(&[stream("s", "/a", "", "")], "s", &host), (vec!["'some text'".to_owned()], Ok(())));
}

#[test]
fn parents_become_partitions_one_record_ahead() {
    let parent = stream("p", "/p", PAGES, "");
    let router = format!(
        r#", "partition_router": {{"type": "SubstreamPartitionRouter", "parent_stream_configs": [{{"type": "ParentStreamConfig",
            "stream": {parent}, "parent_key": "i", "partition_field": "pid", "extra_fields": [["n", "x"]]}}]}}"#
    );
    let child = stream("c", "/c/{{ stream_partition.pid }}/{{ stream_slice.extra_fields['n.x'] }}", &router, "");
    let host = Script::new(&[
        ("page=2", r#"{"r": [{"i": null}]}"#),
        ("/p", r#"{"r": [{"i": 1, "n": {"x": "a"}}, {"i": 2}]}"#),
        ("/c/", r#"{"r": [{"k": 1}]}"#),
    ]);
    assert_eq!(all(&[parent, child], "c", &host).0.len(), 2);
    let urls = host.urls();
    let paths: Vec<&str> = urls.iter().map(|url| url.trim_start_matches("https://h.example")).collect();
    assert_eq!(paths, ["/p?size=2", "/c/1/a", "/p?page=2&size=2", "/c/2/None"]);
}

#[test]
fn partitions_and_intervals_are_multiplied() {
    let list = |field: &str, values: &str| {
        format!(
            r#"{{"type": "ListPartitionRouter", "cursor_field": "{field}", "values": {values}, "request_option":
               {{"type": "RequestOption", "inject_into": "request_parameter", "field_name": "{field}"}}}}"#
        )
    };
    let routers = format!(r#", "partition_router": [{}, {}]"#, list("a", r#"["1", "2"]"#), list("b", r#""{{ ['x', 'y'] }}""#));
    let sync = r#", "incremental_sync": {"type": "DatetimeBasedCursor", "cursor_field": "u", "datetime_format": "%Y-%m-%d",
        "start_datetime": "{{ config['start'] }}", "end_datetime": "2025-06-04", "step": "P2D", "cursor_granularity": "P1D",
        "start_time_option": {"type": "RequestOption", "inject_into": "request_parameter", "field_name": "from"}}"#;
    let host = Script::new(&[("/a", r#"{"r": []}"#)]);
    assert_eq!(all(&[stream("s", "/a", &routers, sync)], "s", &host).1, Ok(()));
    let urls = host.urls();
    assert_eq!(urls.len(), 8);
    assert_eq!(urls[0], "https://h.example/a?b=x&a=1&from=2025-06-01");
    assert_eq!(urls[1], "https://h.example/a?b=x&a=1&from=2025-06-03");
    assert_eq!(urls[7], "https://h.example/a?b=y&a=2&from=2025-06-03");
}

#[test]
fn a_million_slices_meet_a_bound() {
    let sync = r#", "incremental_sync": {"type": "DatetimeBasedCursor", "cursor_field": "u", "datetime_format": "%Y-%m-%d",
        "start_datetime": "0001-01-01", "step": "PT1S", "cursor_granularity": "PT1S"}"#;
    let host = Script::new(&[("/a", r#"{"r": []}"#)]);
    assert_eq!(all(&[stream("s", "/a", "", sync)], "s", &host).1, Err("Bound".to_owned()));
    assert_eq!(host.urls().len(), 20);
}

#[test]
fn the_grouping_router_joins_partitions() {
    let router = r#", "partition_router": {"type": "GroupingPartitionRouter", "group_size": 2, "underlying_partition_router":
        {"type": "ListPartitionRouter", "cursor_field": "a", "values": ["1", "2", "1", "3"]}}"#;
    let host = Script::new(&[("/", r#"{"r": []}"#)]);
    let path = "/{{ stream_partition['a'] | join('-') }}";
    assert_eq!(all(&[stream("s", path, router, "")], "s", &host).1, Ok(()));
    assert_eq!(host.urls(), ["https://h.example/1-2", "https://h.example/3"]);
}

const LINES: &str = r#", "paginator": {"type": "DefaultPaginator",
    "page_token_option": {"type": "RequestOption", "inject_into": "request_parameter", "field_name": "page"},
    "pagination_strategy": {"type": "PageIncrement", "page_size": 4, "start_from_page": 1}},
    "record_selector": {"type": "RecordSelector", "extractor": {"type": "DpathExtractor", "field_path": ["r"],
      "record_expander": {"type": "RecordExpander", "expand_records_from_field": ["lines", "data"],
        "truncation_indicator_path": ["lines", "more"],
        "parent_fields": [{"type": "ParentFieldPath", "parent_path": ["id"], "record_path": ["parent"]}],
        "truncated_list_retriever": {"type": "SimpleRetriever",
          "requester": {"type": "HttpRequester", "url_base": "https://h.example",
            "path": "lines/{{ stream_slice['parent_record']['id'] }}"},
          "paginator": {"type": "DefaultPaginator",
            "page_token_option": {"type": "RequestOption", "inject_into": "request_parameter", "field_name": "p"},
            "pagination_strategy": {"type": "PageIncrement", "page_size": 2, "start_from_page": 1}},
          "record_selector": {"type": "RecordSelector", "extractor": {"type": "DpathExtractor", "field_path": ["l"]},
            "record_filter": {"type": "RecordFilter", "condition": "{{ record.n != 99 }}"}}}}}}"#;

/// The records and the requests are those of the CDK for the same responses.
#[test]
fn a_truncated_list_is_fetched_when_it_is_reached() {
    let bodies = [
        ("a?page=2", r#"{"r": []}"#),
        ("lines/1?p=2", r#"{"l": [{"n": 12}]}"#),
        ("lines/1", r#"{"l": [{"n": 10}, {"n": 99}]}"#),
        ("lines/3", r#"{"l": []}"#),
        (
            "/a",
            r#"{"r": [{"id": 0, "lines": {"data": [{"n": 1}, {"n": 2}]}}, {"id": 1, "lines": {"more": true, "data": [{"n": 3}]}},
                {"id": 3, "lines": {"more": 1, "data": [{"n": 4}]}}, {"id": 4, "lines": {"more": false, "data": []}}]}"#,
        ),
    ];
    let host = Script::new(&bodies);
    let (records, result) = all(&[stream("s", "/a", LINES, "")], "s", &host);
    assert_eq!(
        records,
        [
            "{'n': 1, 'parent': 0}",
            "{'n': 2, 'parent': 0}",
            "{'n': 10, 'parent': 1}",
            "{'n': 12, 'parent': 1}",
            "{'n': 4, 'parent': 3}"
        ]
    );
    assert_eq!(result, Ok(()));
    let urls: Vec<String> = host.urls().iter().map(|url| url.replace("https://h.example/", "")).collect();
    assert_eq!(urls, ["a", "lines/1", "lines/1?p=2", "lines/3", "a?page=2"]);
}

#[test]
fn a_retriever_of_truncated_lists_is_built_as_the_cdk_demands() {
    let host = Script::new(&[]);
    for (from, to) in [
        (r#""truncation_indicator_path": ["lines", "more"],"#, ""),
        (r#"["lines", "more"]"#, r#"["lines", "*"]"#),
        (r#"["lines", "data"]"#, r#"["*", "data"]"#),
        (
            r#""truncated_list_retriever": {"type": "SimpleRetriever","#,
            r#""truncated_list_retriever": {"type": "SimpleRetriever",
                "partition_router": {"type": "ListPartitionRouter", "cursor_field": "a", "values": ["b"]},"#,
        ),
    ] {
        let changed = LINES.replace(from, to);
        assert_ne!(changed, LINES);
        assert_eq!(all(&[stream("s", "/a", &changed, "")], "s", &host).1, Err("ValueError".into()), "{to}");
    }
}

/// Reads a stream whose query parameter `fields` has these properties.
fn with_properties(properties: &str, bodies: &[(&'static str, &'static str)]) -> (Vec<String>, Result<(), String>, Vec<String>) {
    let host = Script::new(bodies);
    let text = stream("s", "/a", PAGES, "").replace(
        r#""path": "/a""#,
        &format!(r#""path": "/a", "request_parameters": {{"x": "y", "fields": {{"type": "QueryProperties", {properties}}}}}"#),
    );
    let (records, result) = all(&[text], "s", &host);
    (records, result, host.urls().iter().map(|url| url.replace("https://h.example/", "")).collect())
}

/// The records and the requests are those of the CDK for the same responses.
#[test]
fn names_of_fields_are_asked_for_in_chunks_and_their_records_merged() {
    let chunked = r#""property_list": ["a", "bb", "c"], "always_include_properties": ["id"],
        "property_chunking": {"type": "PropertyChunking", "property_limit_type": "property_count", "property_limit": 2}"#;
    let bodies = [
        ("page=2", r#"{"r": []}"#),
        ("fields=id%2Ca%2Cbb", r#"{"r": [{"id": "1", "a": 1, "o": {"x": 1}}, {"id": "2", "a": 2}, {"a": 3}]}"#),
        ("fields=id%2Cc", r#"{"r": [{"id": "1", "c": 5, "o": {"y": 2}}]}"#),
    ];
    let (records, result, urls) = with_properties(chunked, &bodies);
    assert_eq!(records, ["{'a': 3}", "{'id': '1', 'a': 1, 'o': {'x': 1, 'y': 2}, 'c': 5}", "{'id': '2', 'a': 2}"]);
    assert_eq!(result, Ok(()));
    assert_eq!(
        urls,
        ["a?x=y&fields=id%2Ca%2Cbb&size=2", "a?x=y&fields=id%2Cc&size=2"],
        "the last response has fewer records than a page"
    );
    let by_characters =
        chunked.replace("property_count", "characters").replace(r#""property_limit": 2"#, r#""property_limit": 9"#);
    assert_eq!(with_properties(&by_characters, &bodies).2, urls);
    let numbers = [("/a", r#"{"r": [{"id": 1}]}"#)];
    assert_eq!(with_properties(chunked, &numbers).1, Err("TypeError".into()), "the CDK joins texts only");
    let whole = with_properties(r#""property_list": ["a", "b"], "always_include_properties": ["id"]"#, &numbers);
    assert_eq!((whole.0, whole.2), (vec!["{'id': 1}".to_string()], vec!["a?x=y&fields=id%2Ca%2Cb&size=2".to_string()]));
}

#[test]
fn names_of_fields_may_be_asked_for_too() {
    let asked = r#""property_list": {"type": "PropertiesFromEndpoint", "property_field_path": ["name"], "retriever": {
        "type": "SimpleRetriever", "requester": {"type": "HttpRequester", "url_base": "https://h.example", "path": "/names"},
        "record_selector": {"type": "RecordSelector", "extractor": {"type": "DpathExtractor", "field_path": ["n"]}}}}"#;
    let bodies = [
        ("/names", r#"{"n": [{"name": "a"}, {"other": 1}, {"name": 7}]}"#),
        ("page=2", r#"{"r": []}"#),
        ("/a", r#"{"r": [{"i": 1}, {"i": 2}]}"#),
    ];
    let (records, result, urls) = with_properties(asked, &bodies);
    assert_eq!((records.len(), result), (2, Ok(())));
    assert_eq!(urls, ["names", "a?x=y&fields=a%2C%5B%5D%2C7&size=2", "a?x=y&fields=a%2C%5B%5D%2C7&page=2&size=2"]);
}

/// A configured catalog selects fields. Without one, all of them are requested.
#[test]
fn only_selected_fields_are_asked_for() {
    let selector = r#""property_list": ["a", "b", "c"], "always_include_properties": ["id"],
        "property_selector": {"type": "JsonSchemaPropertySelector", "transformations": [{"type": "KeysToLower"}]}"#;
    let text = stream("s", "/a", "", "").replace(
        r#""path": "/a""#,
        &format!(r#""path": "/a", "request_parameters": {{"fields": {{"type": "QueryProperties", {selector}}}}}"#),
    );
    let manifest = json(&format!(r#"{{"streams": [{text}]}}"#));
    let config = json("{}");
    for (selected, expected) in
        [(None, "id%2Ca%2Cb%2Cc"), (Some(r#"{"A": {}, "c": {}, "z": {}}"#), "id%2Ca%2Cc"), (Some("{}"), "id")]
    {
        let host = Script::new(&[("/a", r#"{"r": [{"id": 1}]}"#)]);
        let bounds = Bounds::default();
        let ctx = Context::new(&manifest, &config, &host, &bounds);
        let mut run = Run::new(&ctx);
        run.selected.extend(selected.map(|it| ("s".to_string(), json(it))));
        let source = SourceBuilder::new(ctx).static_streams().unwrap();
        let first = available(source.stream("s").unwrap(), &run).now_or_never().unwrap();
        assert_eq!(first.unwrap(), None);
        assert_eq!(host.urls(), [format!("https://h.example/a?fields={expected}")]);
    }
}
