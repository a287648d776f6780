use crate::bounds::Bounds;
use crate::load::{Manifest, load};
use crate::value::Value;

const TEXT: &str = r#"
version: '1'
check: {stream_names: [a]}
streams:
  - name: a
    state_migrations: [{type: CustomStateMigration, class_name: a.Migration}]
    retriever:
      requester:
        url_base: https://h.example
        error_handler: HANDLER
      record_selector:
        extractor: {field_path: []}
        schema_normalization: {type: CustomSchemaNormalization, class_name: a.Types}
  - name: b
    retriever: {requester: {url_base: https://h.example}, record_selector: {extractor: {field_path: []}}}
"#;

fn with(handler: &str) -> Manifest {
    load(&TEXT.replace("HANDLER", handler), "m.yaml", &Bounds::default()).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn handler(manifest: &Manifest) -> String {
    let stream = &manifest.root.get("streams").and_then(Value::as_list).unwrap()[0];
    let handler = stream.get("retriever").and_then(|it| it.get("requester")?.get("error_handler")).unwrap();
    serde_json::to_string(handler).unwrap()
}

#[test]
fn defaults_take_the_place_of_classes_and_the_places_are_named() {
    let manifest = with("{class_name: a.Handler}");
    assert!(manifest.runnable().is_ok() && manifest.refused_streams().is_empty(), "{:?}", manifest.unsupported);
    assert_eq!(handler(&manifest), r#"{"type":"DefaultErrorHandler"}"#);
    let [differing] = manifest.differing_streams() else { panic!("{:?}", manifest.differing_streams()) };
    let messages: Vec<String> = differing.problems.iter().map(ToString::to_string).collect();
    assert_eq!(differing.name, "a");
    assert_eq!(
        messages,
        [
            "m.yaml:10:9: warning: differs from the CDK here: `CustomErrorHandler` runs the class `a.Handler`; the default \
             error handler of the CDK takes its place",
            "m.yaml:13:9: warning: differs from the CDK here: `CustomSchemaNormalization` runs the class `a.Types`; values \
             keep the types that the source gave them",
        ]
    );
    assert_eq!(manifest.warnings.len(), 2, "a state migration never runs, so nothing differs");
}

#[test]
fn a_handler_keeps_what_the_default_one_has_too() {
    let filter = "{type: HttpResponseFilter, action: IGNORE, http_codes: [404]}";
    let kept = with(&format!("{{class_name: a.Handler, response_filters: [{filter}], own: 1}}"));
    let filters = r#"[{"type":"HttpResponseFilter","action":"IGNORE","http_codes":[404]}]"#;
    assert_eq!(handler(&kept), format!(r#"{{"response_filters":{filters},"type":"DefaultErrorHandler"}}"#));
    let unusable = with("{class_name: a.Handler, response_filters: none}");
    assert_eq!(handler(&unusable), r#"{"type":"DefaultErrorHandler"}"#);
}

#[test]
fn a_custom_backoff_leaves_the_others() {
    let constant = "{type: ConstantBackoffStrategy, backoff_time_in_seconds: 1}";
    let manifest = with(&format!("{{backoff_strategies: [{{class_name: a.Wait}}, {constant}]}}"));
    assert_eq!(manifest.differing_streams()[0].problems.len(), 2);
    let left = r#"[{"type":"ConstantBackoffStrategy","backoff_time_in_seconds":1}]"#;
    assert_eq!(handler(&manifest), format!(r#"{{"backoff_strategies":{left},"type":"DefaultErrorHandler"}}"#));
}

#[test]
fn shared_handlers_are_replaced_everywhere() {
    let stream = |name: &str| {
        format!(
            "  - {{type: DeclarativeStream, name: {name}, retriever: {{type: SimpleRetriever, requester: '#/definitions/requester', \
             record_selector: {{type: RecordSelector, extractor: {{type: DpathExtractor, field_path: []}}}}}}}}\n"
        )
    };
    let text = format!(
        "version: '1'\ncheck: {{type: CheckStream, stream_names: [a]}}\ndefinitions:\n  requester: {{type: HttpRequester, url_base: \
         https://h.example, error_handler: {{type: CustomErrorHandler, class_name: a.B}}}}\nstreams:\n{}{}",
        stream("a"),
        stream("b")
    );
    let manifest = load(&text, "m.yaml", &Bounds::default()).unwrap();
    assert!(manifest.refused_streams().is_empty(), "{:?}", manifest.unsupported);
    assert_eq!(manifest.differing_streams().len(), 2);
}
