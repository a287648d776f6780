//! Whole manifests, compared with what airbyte-cdk 7.39.1 printed for them over scripted sockets.

use crate::bounds::Bounds;
use crate::context::{Context, Run};
use crate::error::Failed;
use crate::load::load;
use crate::script::{Script, json, stream};
use crate::source::SourceBuilder;
use crate::value::Value;
use futures_util::FutureExt;
use std::sync::Arc;

const HEAD: &str = r#"
version: 6.0.0
type: DeclarativeSource
check: {type: CheckStream, stream_names: [s]}
definitions:
  req: {type: HttpRequester, url_base: "https://h.example", path: /a}
  sel: {type: RecordSelector, extractor: {type: DpathExtractor, field_path: [r]}}
"#;

/// Reads the stream `name`. Returns the schemas of all streams, the records, and the requests without their host.
fn read(
    streams: &str,
    name: &str,
    bodies: &[(&'static str, &'static str)],
) -> Result<(String, Vec<String>, Vec<String>), Failed> {
    let bounds = Bounds::default();
    let (host, config) = (Script::new(bodies), json(r#"{"start": "2025-06-01"}"#));
    let manifest = load(&format!("{HEAD}{streams}"), "m.yaml", &bounds).unwrap_or_else(|problems| panic!("{problems:?}"));
    assert!(manifest.runnable().is_ok() && manifest.refused_streams().is_empty());
    let ctx = Context::new(&manifest.root, &config, &host, &bounds);
    let run = Run::new(&ctx);
    let read = async {
        let source = SourceBuilder::new(ctx).all_streams(&run).await?;
        let mut schemas = Vec::new();
        for stream in &source.streams {
            schemas.push(format!("{}: {}", stream.name, stream.schema.get(&run).await?.repr()));
        }
        let (stream, mut records) = (source.stream(name).unwrap(), Vec::new());
        let mut slices = stream.slices(&run)?;
        while let Some(slice) = slices.next().await? {
            let mut page = stream.records(&run, slice).await?;
            while let Some(record) = page.next().await? {
                records.push(record);
            }
        }
        Ok::<_, Failed>((schemas.join("; "), records.iter().map(Value::repr).collect::<Vec<_>>()))
    };
    let (schemas, records) = read.now_or_never().unwrap()?;
    let calls = host.urls().iter().map(|url| url.trim_start_matches("https://h.example").to_owned()).collect();
    Ok((schemas, records, calls))
}

fn records(streams: &str, bodies: &[(&'static str, &'static str)]) -> (Vec<String>, Vec<String>) {
    let (_, records, calls) = read(streams, "s", bodies).unwrap();
    (records, calls)
}

#[test]
fn a_union_reads_each_partition_once() {
    let streams = r#"
streams:
  - type: DeclarativeStream
    name: s
    retriever:
      type: SimpleRetriever
      requester: {type: HttpRequester, url_base: "https://h.example", path: "/s/{{ stream_partition.id }}"}
      record_selector: '#/definitions/sel'
      partition_router:
        type: UnionPartitionRouter
        partition_field: id
        partition_routers:
          - {type: ListPartitionRouter, cursor_field: id, values: ["x", "y"]}
          - {type: ListPartitionRouter, cursor_field: id, values: ["y", "z"]}
"#;
    let (records, calls) = records(streams, &[("/s/", r#"{"r": [{"k": 1}]}"#)]);
    assert_eq!((records.len(), calls), (3, vec!["/s/x".to_owned(), "/s/y".to_owned(), "/s/z".to_owned()]));
}

#[test]
fn a_record_is_expanded_and_a_parent_without_any_is_kept() {
    let streams = r#"
streams:
  - type: DeclarativeStream
    name: s
    retriever:
      type: SimpleRetriever
      requester: '#/definitions/req'
      record_selector:
        type: RecordSelector
        extractor:
          type: DpathExtractor
          field_path: [r]
          record_expander:
            type: RecordExpander
            expand_records_from_field: [lines, data]
            remain_original_record: true
            on_no_records: emit_parent
            parent_fields: [{type: ParentFieldPath, parent_path: [id], record_path: [parent_id]}]
"#;
    let body = r#"{"r": [{"id": 1, "lines": {"data": [{"x": 1}, {"x": 2}]}}, {"id": 2, "lines": {"data": []}}, {"id": 3}]}"#;
    let original = "'original_record': {'id': 1, 'lines': {'data': [{'x': 1}, {'x': 2}]}}";
    let expected = [
        format!("{{'x': 1, 'parent_id': 1, {original}}}"),
        format!("{{'x': 2, 'parent_id': 1, {original}}}"),
        "{'id': 2, 'lines': {'data': []}}".to_owned(),
        "{'id': 3}".to_owned(),
    ];
    let found: Vec<Value> = records(streams, &[("/a", body)]).0.iter().map(|text| python(text)).collect();
    assert_eq!(found, expected.iter().map(|text| python(text)).collect::<Vec<_>>());
}

fn python(text: &str) -> Value {
    json(&text.replace('\'', "\""))
}

#[test]
fn paging_is_reset_at_the_latest_record() {
    let streams = r#"
streams:
  - type: DeclarativeStream
    name: s
    retriever:
      type: SimpleRetriever
      requester: '#/definitions/req'
      record_selector: '#/definitions/sel'
      pagination_reset: {type: PaginationReset, action: SPLIT_USING_CURSOR, limits: {type: PaginationResetLimits,
          number_of_records: 2}}
      paginator:
        type: DefaultPaginator
        page_token_option: {type: RequestOption, inject_into: request_parameter, field_name: page}
        pagination_strategy: {type: PageIncrement, page_size: 2, start_from_page: 1}
    incremental_sync:
      type: DatetimeBasedCursor
      cursor_field: u
      datetime_format: "%Y-%m-%d"
      start_datetime: "2025-06-01"
      end_datetime: "2025-06-09"
      start_time_option: {type: RequestOption, inject_into: request_parameter, field_name: from}
"#;
    let later = ("from=2025-06-05", r#"{"r": [{"u": "2025-06-06"}]}"#);
    let (records, calls) = records(streams, &[later, ("/a", r#"{"r": [{"u": "2025-06-03"}, {"u": "2025-06-05"}]}"#)]);
    assert_eq!(records, ["{'u': '2025-06-03'}", "{'u': '2025-06-05'}", "{'u': '2025-06-06'}"]);
    assert_eq!(calls, ["/a?from=2025-06-01", "/a?from=2025-06-05"]);
}

#[test]
fn the_first_page_of_a_lazy_child_is_in_its_parent() {
    let streams = r#"
streams:
  - type: DeclarativeStream
    name: s
    retriever:
      type: SimpleRetriever
      requester: {type: HttpRequester, url_base: "https://h.example", path: "/s/{{ stream_partition.id }}"}
      record_selector: {type: RecordSelector, extractor: {type: DpathExtractor, field_path: [data]}}
      paginator:
        type: DefaultPaginator
        page_token_option: {type: RequestOption, inject_into: request_parameter, field_name: after}
        pagination_strategy: {type: CursorPagination, cursor_value: "{{ response.next }}"}
      partition_router:
        type: SubstreamPartitionRouter
        parent_stream_configs:
          - type: ParentStreamConfig
            parent_key: id
            partition_field: id
            lazy_read_pointer: [lines]
            stream: {type: DeclarativeStream, name: p, retriever: {type: SimpleRetriever, requester: '#/definitions/req',
                record_selector: '#/definitions/sel'}}
"#;
    let parents = r#"{"r": [{"id": 7, "lines": {"data": [{"x": 1}], "next": "n1"}}, {"id": 8}]}"#;
    let child = r#"{"data": [{"x": 3}]}"#;
    let (records, calls) = records(streams, &[("/a", parents), ("after=n1", r#"{"data": [{"x": 2}]}"#), ("/s/8", child)]);
    assert_eq!(records, ["{'x': 1}", "{'x': 2}"]);
    assert_eq!(calls, ["/a", "/s/7?after=n1"]);
}

#[test]
fn streams_and_schemas_are_made_of_answers() {
    let streams = r#"
dynamic_streams:
  - type: DynamicDeclarativeStream
    name: made
    stream_template:
      type: DeclarativeStream
      name: ""
      primary_key: ""
      schema_loader:
        type: DynamicSchemaLoader
        retriever: {type: SimpleRetriever, requester: {type: HttpRequester, url_base: "https://h.example",
            path: /fields}, record_selector: {type: RecordSelector, extractor: {type: DpathExtractor, field_path: []}}}
        schema_type_identifier:
          type: SchemaTypeIdentifier
          schema_pointer: [fields]
          key_pointer: [key]
          type_pointer: [kind]
          types_mapping: [{type: TypesMap, current_type: text, target_type: string}, {type: TypesMap,
              current_type: count, target_type: integer}]
      retriever: {type: SimpleRetriever, requester: {type: HttpRequester, url_base: "https://h.example", path: ""},
          record_selector: '#/definitions/sel'}
    components_resolver:
      type: HttpComponentsResolver
      retriever: {type: SimpleRetriever, requester: {type: HttpRequester, url_base: "https://h.example", path: /tables},
          record_selector: '#/definitions/sel'}
      components_mapping:
        - {type: ComponentMappingDefinition, field_path: [name], value: "{{ components_values['name'] }}"}
        - {type: ComponentMappingDefinition, field_path: [retriever, requester, path],
            value: "/data/{{ components_values['id'] }}"}
"#;
    let bodies = [
        ("/tables", r#"{"r": [{"id": 5, "name": "one"}, {"id": 6, "name": "two"}]}"#),
        ("/fields", r#"{"fields": [{"key": "a", "kind": "text"}, {"key": "b", "kind": "count"}]}"#),
        ("/data/6", r#"{"r": [{"a": "q"}]}"#),
    ];
    let (schemas, records, calls) = read(streams, "two", &bodies).unwrap();
    let schema = "{'$schema': 'https://json-schema.org/draft-07/schema#', 'type': 'object', 'additionalProperties': True, \
                  'properties': {'a': {'type': ['null', 'string']}, 'b': {'type': ['null', 'integer']}}}";
    assert_eq!(schemas, format!("one: {schema}; two: {schema}"));
    assert_eq!(records, ["{'a': 'q'}"]);
    assert_eq!(calls, ["/tables", "/fields", "/data/6"]);
}

#[test]
fn the_properties_of_a_json_schema_can_be_definitions() {
    let stream = |key_field: &str| {
        format!(
            r#"
streams:
  - type: DeclarativeStream
    name: s
    schema_loader:
      type: DynamicSchemaLoader
      retriever: {{type: SimpleRetriever, requester: {{type: HttpRequester, url_base: "https://h.example", path: /schema}},
          record_selector: {{type: RecordSelector, extractor: {{type: DpathExtractor, field_path: []}}}}}}
      schema_type_identifier:
        type: SchemaTypeIdentifier
        schema_pointer: [properties]
        {key_field}
        types_mapping: [{{type: TypesMap, current_type: string, target_type: date,
            condition: "{{{{ raw_schema.get('format') == 'date' }}}}"}}]
    retriever: {{type: SimpleRetriever, requester: {{type: HttpRequester, url_base: "https://h.example", path: /s}},
        record_selector: '#/definitions/sel'}}
"#
        )
    };
    let bodies = [
        ("/schema", r#"{"properties": {"a": {"type": "string", "format": "date"}, "b": {"type": "integer"}, "c": {}}}"#),
        ("/s", r#"{"r": []}"#),
    ];
    let schema = |key_field: &str| read(&stream(key_field), "s", &bodies).unwrap().0;
    let keyed = schema("key_pointer: [name]\n        type_pointer: [type]\n        aam_key_field: name");
    assert!(
        keyed.contains("{'a': {'type': ['null', 'string'], 'format': 'date'}, 'b': {'type': ['null', 'integer']}"),
        "{keyed}"
    );
    assert!(keyed.contains("'c': {'type': ['null', 'string']}"), "{keyed}");
    // As the CDK: the names are the definitions, so nothing says their types.
    let plain = schema("key_pointer: []");
    assert!(plain.contains("'b': {'type': ['null', 'string']}"), "{plain}");
}

#[test]
fn the_fields_of_objects_and_of_lists_of_objects_are_described() {
    let streams = r#"
streams:
  - type: DeclarativeStream
    name: s
    schema_loader:
      type: DynamicSchemaLoader
      retriever: {type: SimpleRetriever, requester: {type: HttpRequester, url_base: "https://h.example", path: /fields},
          record_selector: {type: RecordSelector, extractor: {type: DpathExtractor, field_path: []}}}
      schema_type_identifier:
        type: SchemaTypeIdentifier
        schema_pointer: [fields]
        key_pointer: [key]
        type_pointer: [kind]
        aam_nested_pointer: [fields]
        types_mapping:
          - {type: TypesMap, current_type: record, target_type: {type: ComplexFieldType, field_type: array, items: object},
              condition: "{{ raw_schema.get('many') }}"}
          - {type: TypesMap, current_type: record, target_type: object}
    retriever: {type: SimpleRetriever, requester: {type: HttpRequester, url_base: "https://h.example", path: /data},
        record_selector: '#/definitions/sel'}
"#;
    let fields = r#"{"fields": [
        {"key": "one", "kind": "record", "fields": [{"key": "a", "kind": "string"}]},
        {"key": "lines", "kind": "record", "many": true, "fields": [{"key": "in", "kind": "record", "fields": [{"key": "b", "kind": "integer"}]}]}
    ]}"#;
    let (schemas, _, _) = read(streams, "s", &[("/fields", fields), ("/data", r#"{"r": []}"#)]).unwrap();
    let object = |fields: &str| format!("{{'type': ['null', 'object'], 'properties': {{{fields}}}}}");
    let one = object("'a': {'type': ['null', 'string']}");
    let lines = object(&format!("'in': {}", object("'b': {'type': ['null', 'integer']}")));
    assert_eq!(
        schemas,
        format!(
            "s: {{'$schema': 'https://json-schema.org/draft-07/schema#', 'type': 'object', 'additionalProperties': True, \
             'properties': {{'one': {one}, 'lines': {{'type': ['null', 'array'], 'items': {lines}}}}}}}"
        )
    );
}

#[test]
fn a_start_in_the_wrong_format_fails_discover() {
    let streams = r#"
streams:
  - {type: DeclarativeStream, name: s, retriever: {type: SimpleRetriever, requester: '#/definitions/req',
      record_selector: '#/definitions/sel'},
     incremental_sync: {type: DatetimeBasedCursor, cursor_field: u, datetime_format: "%Y-%m-%dT%H:%M:%SZ",
         start_datetime: "{{ config['start'] }}"}}
"#;
    let failed = read(streams, "s", &[]).unwrap_err();
    assert_eq!(
        (failed.class, failed.message.as_str()),
        ("ValueError", "time data '2025-06-01' does not match format '%Y-%m-%dT%H:%M:%SZ'")
    );
}

#[test]
fn a_stream_that_is_its_own_parent_is_refused() {
    let streams = r#"
streams:
  - type: DeclarativeStream
    name: s
    retriever:
      type: SimpleRetriever
      requester: '#/definitions/req'
      record_selector: '#/definitions/sel'
      partition_router: {type: SubstreamPartitionRouter, parent_stream_configs: [{type: ParentStreamConfig,
          parent_key: id, partition_field: id, stream: '#/streams/0'}]}
"#;
    let problems = load(&format!("{HEAD}{streams}"), "m.yaml", &Bounds::default()).unwrap_err();
    assert_eq!(problems[0].message, "the reference `#/streams/0` leads to itself");
}

/// A second source of the same command reuses the streams that the first one built, together with their tokens. If two
/// streams have the same name, neither is reused.
#[test]
fn what_is_built_is_not_built_again() {
    let streams: Vec<String> = ["a", "b", "b"].iter().map(|name| stream(name, "/a", "", "")).collect();
    let manifest = json(&format!(r#"{{"streams": [{}]}}"#, streams.join(",")));
    let (bounds, host, config) = (Bounds::default(), Script::new(&[]), json("{}"));
    let ctx = Context::new(&manifest, &config, &host, &bounds);
    let run = Run::new(&ctx);
    let first = SourceBuilder::new(ctx).named_streams(&["a".to_owned(), "b".to_owned()]).unwrap().unwrap().streams;
    let all = SourceBuilder::new(ctx).first_streams(&run, usize::MAX, &first).now_or_never().unwrap().unwrap().streams;
    let taken = all.iter().map(|stream| first.iter().any(|known| Arc::ptr_eq(known, stream)));
    let taken: Vec<(&str, bool)> = all.iter().map(|stream| stream.name.as_str()).zip(taken).collect();
    assert_eq!(taken, [("a", true), ("b", false), ("b", false)]);
}
