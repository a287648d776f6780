//! `JsonSchemaPropertySelector`, and the check of an `IncrementingCountCursor`.

use super::compare;
use super::run::Case;
use super::server::{json, ok};
use serde_json::json as value;

fn stream(requester: &str, more: &str) -> String {
    format!(
        r#"
version: 7.0.0
type: DeclarativeSource
check: {{type: CheckStream, stream_names: [s]}}
streams:
  - type: DeclarativeStream
    name: s
    schema_loader: {{type: InlineSchemaLoader, schema: {{type: object, properties: {{a: {{}}, b: {{}}, c: {{}}}}}}}}
    {more}
    retriever:
      type: SimpleRetriever
      requester:
        type: HttpRequester
        url_base: BASE
        path: /items
        {requester}
      record_selector: {{type: RecordSelector, extractor: {{type: DpathExtractor, field_path: [r]}}}}
"#
    )
}

fn selected(more: &str) -> String {
    let chosen = format!(
        "request_parameters: {{fields: {{type: QueryProperties, property_list: [a, b, c], always_include_properties: [id], {more}}}}}"
    );
    stream(&chosen, "")
}

#[test]
fn only_selected_properties_are_requested_as_in_the_cdk() {
    let selector = "property_selector: {type: JsonSchemaPropertySelector}";
    let renamed = "property_selector: {type: JsonSchemaPropertySelector, transformations: [{type: KeysToLower}]}";
    let chunks = |limit: &str| format!("{selector}, property_chunking: {{type: PropertyChunking, {limit}}}");
    let routes = || vec![("/items", vec![ok(r#"{"r": [{"id": "1", "a": 1}]}"#)])];
    let read = |name: &'static str, more: &str, properties: serde_json::Value| Case {
        streams: vec![("s", properties)],
        ..Case::read(name, selected(more), routes())
    };
    let two = value!({"a": {}, "c": {}, "z": {}});
    let cases = vec![
        read("two of three", selector, two.clone()),
        read("none", selector, value!({})),
        read("renamed", renamed, value!({"A": {}, "B": {}})),
        read("chunks", &chunks("property_limit_type: property_count, property_limit: 1"), two.clone()),
        read("chunks of characters", &chunks("property_limit_type: characters, property_limit: 8"), two.clone()),
        read("chunks without a limit", &chunks("property_limit_type: property_count"), two),
        Case { command: "check", ..read("check", selector, value!({})) },
    ];
    compare("properties", &cases);
}

#[test]
fn a_counter_is_checked_as_in_the_cdk() {
    let sync = |start: &str| {
        let sync = format!(
            "incremental_sync: {{type: IncrementingCountCursor, cursor_field: id, {start} start_value_option: {{type: \
             RequestOption, inject_into: request_parameter, field_name: since}}}}"
        );
        stream("http_method: GET", &sync)
    };
    let check = |name: &'static str, start: &str, status: u16| Case {
        command: "check",
        ..Case::read(name, sync(start), vec![("/items", vec![json(status, r#"{"r": [{"id": 1}, {"id": 3}]}"#)])])
    };
    let cases = vec![
        check("from zero", "", 200),
        check("from a number", "start_value: 2,", 200),
        check("from a template", "start_value: \"{{ 1 + 2 }}\",", 200),
        check("from a text", "start_value: x,", 200),
        check("not found", "", 404),
        Case { command: "read", ..check("read", "start_value: 2,", 200) },
    ];
    compare("counter", &cases);
}
