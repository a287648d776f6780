//! Streams of a family whose names, ids and cursors come from a hostile source.

use crate::bounds::Bounds;
use crate::context::{Context, Limits, Run};
use crate::error::Failed;
use crate::script::{Script, json, read, stream};
use crate::source::SourceBuilder;
use crate::value::Value;
use futures_util::future::FutureExt;

const PLAIN: fn() -> Bounds = || Bounds { plain_texts: true, ..Bounds::default() };

/// Reads all streams that are generated from the names of `tables`. Returns the calls, and the names with the class of the
/// failure of those that were not called.
fn generated(tables: &'static str, bounds: &Bounds) -> (Vec<String>, Vec<(String, Option<&'static str>)>) {
    let manifest = json(
        r#"{"streams": [], "dynamic_streams": [{"type": "DynamicDeclarativeStream", "name": "tables", "stream_template":
        {"type": "DeclarativeStream", "name": "", "retriever": {"type": "SimpleRetriever", "requester": {"type": "HttpRequester",
         "url_base": "https://h.example/v1/", "path": "", "request_parameters": {"select": "x", "limit": "20"}}, "record_selector":
         {"type": "RecordSelector", "extractor": {"type": "DpathExtractor", "field_path": []}}}},
        "components_resolver": {"type": "HttpComponentsResolver", "retriever": {"type": "SimpleRetriever", "requester":
         {"type": "HttpRequester", "url_base": "https://h.example/v1/", "path": "list"}, "record_selector": {"type":
         "RecordSelector", "extractor": {"type": "DpathExtractor", "field_path": ["r"]}}}, "components_mapping": [
         {"type": "ComponentMappingDefinition", "field_path": ["name"], "value": "{{ components_values['name'] }}"},
         {"type": "ComponentMappingDefinition", "field_path": ["retriever", "requester", "path"],
          "value": "{{ components_values['name'] }}"},
         {"type": "ComponentMappingDefinition", "field_path": ["retriever", "requester", "request_parameters", "select"],
          "value": "{{ components_values['column'] }}"}]}}]}"#,
    );
    let host = Script::new(&[("/list", tables), ("/", "[]")]);
    let config = json(r#"{"key": "k-123456"}"#);
    let ctx = Context::new(&manifest, &config, &host, bounds);
    let mut run = Run::new(&ctx);
    run.needs_lists = true;
    let called = async {
        let source = SourceBuilder::new(ctx).all_streams(&run).await?;
        let mut all = Vec::new();
        for stream in &source.streams {
            let read = async {
                let mut slices = stream.slices(&run)?;
                while let Some(slice) = slices.next().await? {
                    stream.records(&run, slice).await?.next().await?;
                }
                Ok::<(), Failed>(())
            };
            all.push((stream.name.clone(), read.await.err().map(|failed| failed.class)));
        }
        Ok::<_, Failed>(all)
    };
    let streams = called.now_or_never().unwrap().unwrap();
    let calls = host.urls().iter().map(|url| url.trim_start_matches("https://h.example").to_owned()).skip(1).collect();
    (calls, streams)
}

#[test]
fn a_generated_stream_is_called_below_its_path() {
    let tables = r#"{"r": [{"name": "todos", "column": "\"id\""}, {"name": "123", "column": "['a', 'b']"},
        {"name": "a/b?limit=100000#", "column": "a&ssn=1"}, {"name": "{{ config['key'] }}", "column": "{{ config['key'] }}"}]}"#;
    let (calls, streams) = generated(tables, &PLAIN());
    assert_eq!(
        calls,
        [
            "/v1/todos?select=%22id%22&limit=20",
            "/v1/123?select=%5B%27a%27%2C+%27b%27%5D&limit=20",
            "/v1/a%2Fb%3Flimit%3D100000%23?select=a%26ssn%3D1&limit=20",
            "/v1/%7B%7B%20config%5B%27key%27%5D%20%7D%7D?select=%7B%7B+config%5B%27key%27%5D+%7D%7D&limit=20",
        ]
    );
    assert!(streams.iter().all(|(_, failed)| failed.is_none()), "{streams:?}");
}

#[test]
fn a_stream_whose_name_leads_elsewhere_is_not_called_and_the_others_are() {
    let tables = r#"{"r": [{"name": "../../functions/v1/send", "column": "id"}, {"name": "..", "column": "id"},
        {"name": "", "column": "id"}, {"name": "todos", "column": "id"}]}"#;
    let (calls, streams) = generated(tables, &PLAIN());
    assert_eq!(calls, ["/v1/todos?select=id&limit=20"]);
    let refused: Vec<_> =
        streams.iter().filter(|(_, failed)| *failed == Some("RefusedName")).map(|(name, _)| name.as_str()).collect();
    assert_eq!(refused, ["../../functions/v1/send", "..", ""]);
}

#[test]
fn a_name_as_the_cdk_reads_it_is_unchanged() {
    let (calls, _) = generated(r#"{"r": [{"name": "a/b", "column": "['a', 'b']"}]}"#, &Bounds::default());
    assert_eq!(calls, ["/v1/a/b?select=a&select=b&limit=20"]);
}

const BY_PARENT: &str = r#", "partition_router": {"type": "SubstreamPartitionRouter", "parent_stream_configs": [
    {"type": "ParentStreamConfig", "parent_key": "id", "partition_field": "u", "stream": PARENT}]}"#;

fn children(id: &str, bounds: &Bounds) -> (Vec<String>, Result<(), &'static str>) {
    let parents: &'static str = Box::leak(format!(r#"{{"r": [{{"id": {id}}}]}}"#).into_boxed_str());
    let host = Script::new(&[("/users$", parents), ("/", r#"{"r": []}"#)]);
    let router = BY_PARENT.replace("PARENT", &stream("users", "/users", "", ""));
    let streams = [stream("roles", "/users/{{ stream_partition['u'] }}/roles", &router, "")];
    let (_, result) = read(&streams, "roles", &host, bounds, Limits::default());
    let calls = host.urls().iter().map(|url| url.trim_start_matches("https://h.example").to_owned()).skip(1).collect();
    (calls, result.map_err(|failed| failed.class))
}

#[test]
fn the_id_of_a_parent_is_one_segment() {
    for (id, path) in [
        (r#""7""#, "/users/7/roles"),
        ("7", "/users/7/roles"),
        (r#""a/b?c""#, "/users/a%2Fb%3Fc/roles"),
        (r#""1e5""#, "/users/1e5/roles"),
    ] {
        assert_eq!(children(id, &PLAIN()), (vec![path.to_owned()], Ok(())), "{id}");
    }
    for id in [r#""../admin""#, r#""..""#, r#""""#] {
        assert_eq!(children(id, &PLAIN()), (vec![], Err("RefusedName")), "{id}");
    }
    // As the CDK reads a manifest, an id may be several segments, but not a step up.
    assert_eq!(children(r#""a/b""#, &Bounds::default()).0, ["/users/a/b/roles"]);
    assert_eq!(children(r#""../admin""#, &Bounds::default()), (vec![], Err("RefusedName")));
}

#[test]
fn a_cursor_stays_a_text() {
    let pages = r#", "paginator": {"type": "DefaultPaginator", "page_token_option": {"type": "RequestOption", "inject_into":
        "request_parameter", "field_name": "after"}, "pagination_strategy": {"type": "CursorPagination",
        "cursor_value": "{{ response.get('next', '') }}", "stop_condition": "{{ not response.get('next') }}"}}"#;
    for (next, sent) in [("1e5", "1e5"), ("['a','b']", "%5B%27a%27%2C%27b%27%5D"), ("007", "007")] {
        let first: &'static str = Box::leak(format!(r#"{{"r": [{{"i": 1}}], "next": "{next}"}}"#).into_boxed_str());
        let host = Script::new(&[("after", r#"{"r": []}"#), ("/a", first)]);
        let (_, result) = read(&[stream("s", "/a", pages, "")], "s", &host, &PLAIN(), Limits::default());
        assert!(result.is_ok(), "{next}");
        assert_eq!(host.urls()[1], format!("https://h.example/a?after={sent}"));
    }
}

/// Reads a stream with the extractor as a family does.
fn extracted(extractor: &str, body: &'static str) -> Result<usize, String> {
    let selector =
        format!(r#", "record_selector": {{"type": "RecordSelector", "extractor": {{"type": "DpathExtractor", {extractor}}}}}"#);
    let manifest = json(&format!(r#"{{"streams": [{}]}}"#, stream("s", "/a", &selector, "")));
    let (host, bounds, config) = (Script::new(&[("/a", body)]), PLAIN(), Value::None);
    let ctx = Context::new(&manifest, &config, &host, &bounds);
    let mut run = Run::new(&ctx);
    run.needs_lists = true;
    let count = async {
        let source = SourceBuilder::new(ctx).all_streams(&run).await?;
        let stream = source.stream("s").ok_or_else(|| Failed::system("KeyError", "no such stream"))?;
        let mut slices = stream.slices(&run)?;
        let mut count = 0;
        while let Some(slice) = slices.next().await? {
            let mut records = stream.records(&run, slice).await?;
            while records.next().await?.is_some() {
                count += 1;
            }
        }
        Ok::<usize, Failed>(count)
    };
    count.now_or_never().unwrap().map_err(|failed| failed.message.clone())
}

#[test]
fn an_object_is_not_the_list_that_a_family_expects() {
    let list = r#""field_path": [], "aam_list": true"#;
    assert_eq!(extracted(list, r#"[{"i": 1}, {"i": 2}]"#), Ok(2));
    assert_eq!(extracted(list, "[]"), Ok(0));
    for body in ["{}", r#"{"ok": true}"#] {
        assert_eq!(extracted(list, body), Err("the response has an object in place of the list".to_owned()));
        assert!(extracted(r#""field_path": []"#, body).is_ok(), "an object may be one record");
    }
    let named = extracted(r#""field_path": ["r"], "aam_list": true"#, r#"{"r": {"i": 1}}"#);
    assert_eq!(named, Err("the response has an object in place of the list r".to_owned()));
}

#[test]
fn an_absent_list_is_empty_only_in_the_forms_of_the_source() {
    let google = r#""field_path": ["tables"], "aam_may_be_absent": true, "aam_absent_if": {"/kind": "bigquery#tableList"}"#;
    for body in ["{}", r#"{"kind": "bigquery#tableList", "etag": "x"}"#, r#"{"tables": []}"#, r#"{"tables": null}"#] {
        assert_eq!(extracted(google, body), Ok(0), "{body}");
    }
    for body in [r#"{"foo": 1}"#, r#"{"kind": "other"}"#, r#"{"totalItems": 5}"#] {
        assert_eq!(extracted(google, body), Err("the response does not have the list tables".to_owned()), "{body}");
    }
    let paged = r#""field_path": ["folders"], "aam_may_be_absent": true, "aam_absent_if": {"/nextPageToken": []}"#;
    assert_eq!(extracted(paged, r#"{"nextPageToken": "abc"}"#), Ok(0));
    assert!(extracted(paged, r#"{"nextPageToken": null, "foo": 1}"#).is_err());
    let plain = r#""field_path": ["folders"], "aam_may_be_absent": true"#;
    assert_eq!((extracted(plain, "{}"), extracted(plain, r#"{"foo": 1}"#).is_err()), (Ok(0), true));
}
