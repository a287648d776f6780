use super::*;
use crate::load::load;
use crate::schema;

const TEXT: &str = r#"
version: 6.0.0
check: {type: CheckStream, stream_names: [users]}
definitions:
  retriever:
    type: SimpleRetriever
    requester: {type: HttpRequester, url_base: "https://h.example", path: a}
    record_selector: {type: RecordSelector, extractor: {type: DpathExtractor, field_path: []}}
streams:
  - {type: DeclarativeStream, name: users, $parameters: {name: users}, retriever: '#/definitions/retriever',
      schema_loader: {type: JsonFileSchemaLoader, file_path: "./source_acme/schemas/{{ parameters['name'] }}.json"}}
  - {type: DeclarativeStream, name: plain, $parameters: {name: plain}, retriever: '#/definitions/retriever',
      schema_loader: {type: JsonFileSchemaLoader}}
"#;

/// Returns the schemas of the streams, the warnings, and the paths that were read.
fn inlined(text: &str, files: &[(&str, &str)]) -> (Vec<String>, Vec<String>, Vec<String>) {
    let bounds = Bounds { manifest_values: 10_000, ..Bounds::default() };
    let mut manifest = load(text, "m.yaml", &bounds).unwrap();
    let mut paths = Vec::new();
    let mut read = |path: &str| {
        paths.push(path.to_string());
        files.iter().find(|(name, _)| *name == path).map(|(_, text)| (*text).to_string())
    };
    inline(&mut manifest, &bounds, &mut read);
    let streams = manifest.root.get("streams").unwrap().as_list().unwrap().iter();
    let schemas = streams.map(|stream| schema::of_stream(stream).unwrap().unwrap().repr());
    (schemas.collect(), manifest.warnings.iter().map(ToString::to_string).collect(), paths)
}

/// The schema with references is what the CDK makes of the same files.
#[test]
fn a_schema_beside_the_manifest_is_used() {
    let users = r##"{"type": "object", "properties": {"id": {"$ref": "#/definitions/id"}, "home": {"$ref": "address.json"}},
        "definitions": {"id": {"type": "integer"}}}"##;
    let address = r##"{"type": "object", "definitions": {"zip": {"type": "string"}},
        "properties": {"zip": {"$ref": "#/definitions/zip"}}}"##;
    let (schemas, warnings, paths) =
        inlined(TEXT, &[("source_acme/schemas/users.json", users), ("source_acme/schemas/shared/address.json", address)]);
    assert_eq!(
        schemas,
        [
            "{'type': 'object', 'properties': {'id': {'type': 'integer'}, 'home': {'type': 'object', 'properties': {'zip': \
             {'type': 'string'}}}}, 'definitions': {'id': {'type': 'integer'}}}",
            "{}"
        ]
    );
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(paths, ["source_acme/schemas/users.json", "source_acme/schemas/shared/address.json", "schemas/plain.json"]);
}

#[test]
fn a_path_never_leaves_the_folder() {
    for path in ["../users.json", "./a/../../users.json", "{{ config['x'] }}.json", "a\\b.json", "./"] {
        let text = TEXT.replace("./source_acme/schemas/{{ parameters['name'] }}.json", path);
        let (schemas, _, paths) = inlined(&text.replace('\\', "\\\\"), &[("users.json", "{\"a\": 1}")]);
        assert_eq!((schemas[0].as_str(), paths), ("{}", vec!["schemas/plain.json".to_string()]), "{path}");
    }
    assert_eq!(clean("/etc/passwd").as_deref(), Some("etc/passwd"), "an absolute path is below the folder too");
}

#[test]
fn a_file_that_is_not_a_schema_is_a_warning() {
    for (users, why) in [
        ("{", "it is not valid JSON"),
        ("[1]", "it is not a JSON object"),
        (r##"{"a": {"$ref": "#/b"}}"##, "the reference #/b leads nowhere"),
        (r##"{"a": {"$ref": "none.json"}}"##, "the reference none.json leads nowhere"),
        (r##"{"a": {"$ref": "../../x.json"}}"##, "the reference ../../x.json leads nowhere"),
        (r##"{"a": {"$ref": "#/a"}}"##, "its references lead to themselves, or are nested too deeply"),
        (r##"{"a": {"$ref": "#/b"}, "b": 1}"##, "the reference #/b does not lead to an object"),
    ] {
        let (schemas, warnings, _) = inlined(TEXT, &[("source_acme/schemas/users.json", users)]);
        assert_eq!(schemas[0], "{}");
        assert_eq!(
            warnings,
            [format!("m.yaml:11:7: warning: the schema file source_acme/schemas/users.json cannot be used: {why}")]
        );
    }
}

#[test]
fn references_that_multiply_are_bounded() {
    let doubled: Vec<String> = (0..20)
        .map(|level| format!(r##""l{level}": {{"a": {{"$ref": "#/l{}"}}, "b": {{"$ref": "#/l{}"}}}}"##, level + 1, level + 1))
        .collect();
    let users = format!("{{{}, \"l20\": {{}}}}", doubled.join(","));
    let (_, warnings, _) = inlined(TEXT, &[("source_acme/schemas/users.json", &users)]);
    assert!(warnings[0].ends_with("the schemas have more than 10000 values"), "{warnings:?}");
}
