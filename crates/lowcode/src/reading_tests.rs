use crate::bounds::Bounds;
use crate::commands::{Commands, Selection};
use crate::context::Run;
use crate::load::load;
use crate::script::{Script, json};
use crate::value::Value;
use futures_util::FutureExt;

const COUNTED: &str = r#"
version: 6.0.0
check: {type: CheckStream, stream_names: [a]}
streams:
  - type: DeclarativeStream
    name: a
    schema_loader: {type: InlineSchemaLoader, schema: {}}
    incremental_sync: {type: IncrementingCountCursor, cursor_field: id, start_value: 2}
    retriever:
      type: SimpleRetriever
      requester: {type: HttpRequester, url_base: "https://h.example", path: a}
      record_selector: {type: RecordSelector, extractor: {type: DpathExtractor, field_path: []}}
spec: {type: Spec, connection_specification: {type: object, properties: {}}}
"#;

/// Reads the stream. Returns the number of records, the last state, and what the stream failed with.
fn counted(body: &'static str) -> (usize, String, Option<String>) {
    let (host, config, bounds) = (Script::new(&[("/a", body)]), json("{}"), Bounds::default());
    let manifest = load(COUNTED, "m.yaml", &bounds).unwrap();
    let commands = Commands { manifest: &manifest, config: &config, host: &host, bounds: &bounds };
    let run = Run::new(&commands.context());
    let mut lines = Vec::new();
    commands.read(&Selection::default(), &run, &mut |message| lines.push(json(&message.line()))).now_or_never().unwrap();
    let at = |line: &Value, path: &str| path.split('/').try_fold(line.clone(), |value, key| value.get(key).cloned());
    let states = lines.iter().filter_map(|line| at(line, "state/stream/stream_state"));
    let errors = lines.iter().filter_map(|line| at(line, "trace/error/internal_message"));
    (
        lines.iter().filter(|line| line.get("record").is_some()).count(),
        states.collect::<Vec<_>>().last().map(|state| state.repr()).unwrap_or_default(),
        errors.into_iter().next().map(|error| error.to_str()),
    )
}

/// The records, states and errors are those of the CDK for the same responses.
#[test]
fn a_counter_is_compared_with_its_start_and_only_with_numbers() {
    assert_eq!(counted(r#"[{"id": 1}, {"id": 3}]"#), (2, "{'id': 3}".into(), None));
    assert_eq!(counted(r#"[{"id": 1}]"#), (1, "{'id': 2}".into(), None));
    assert_eq!(counted("[]"), (0, "{'id': 2}".into(), None));
    assert_eq!(counted(r#"[{"id": 5.5}, {"x": 1}, {"id": 5.25}]"#), (3, "{'id': 5.5}".into(), None));
    assert_eq!(counted(r#"[{"id": 1152921504606846977}, {"id": 1152921504606846976}]"#).1, "{'id': 1152921504606846977}");
    let error = Some("'<' not supported between instances of 'str' and 'int'".to_string());
    let mixed = counted(r#"[{"id": "x"}, {"id": 3}, {"id": "7"}, {"no": 1}]"#);
    assert_eq!((mixed.0, mixed.1, mixed.2), (2, "{'id': 2}".into(), error.clone()));
    let texts = counted(r#"[{"id": "5"}, {"id": "31"}]"#);
    assert_eq!((texts.0, texts.2), (2, error));
}
