use super::*;
use crate::problem::Severity;
use proptest::prelude::*;

const GOOD: &str = r##"
version: 6.0.0
type: DeclarativeSource
check: {type: CheckStream, stream_names: [users]}
definitions:
  requester:
    type: HttpRequester
    url_base: https://api.example.com
    authenticator: {type: BearerAuthenticator, api_token: "{{ config['api_key'] }}"}
streams:
  - type: DeclarativeStream
    name: users
    retriever:
      type: SimpleRetriever
      requester: {$ref: "#/definitions/requester", path: users}
      record_selector: {type: RecordSelector, extractor: {type: DpathExtractor, field_path: [data]}}
"##;

fn refused(text: &str) -> Vec<Problem> {
    load(text, "m.yaml", &Bounds::default()).expect_err("it must be refused")
}

fn place(line: usize, column: usize) -> Option<Place> {
    Some(Place { line, column })
}

#[test]
fn a_manifest_is_resolved() {
    let manifest = load(GOOD, "m.yaml", &Bounds::default()).unwrap();
    let requester =
        manifest.root.get("streams").unwrap().as_list().unwrap()[0].get("retriever").unwrap().get("requester").unwrap();
    assert_eq!(requester.get("path").unwrap().as_str(), Some("users"));
    assert_eq!(requester.get("url_base").unwrap().as_str(), Some("https://api.example.com"));
    assert_eq!(manifest.root.get("definitions").unwrap().as_dict().unwrap().len(), 0, "parts read by reference are dropped");
    assert!(manifest.runnable().is_ok());
    assert!(manifest.warnings.is_empty());
}

#[test]
fn all_problems_are_told_with_their_places() {
    let text = GOOD
        .replace("BearerAuthenticator", "BearerAuthenticater")
        .replace("name: users", "name: [users]")
        .replace("field_path: [data]", "feild_path: [data]");
    let problems = refused(&text);
    let reported: Vec<_> = problems.iter().map(|problem| (problem.place, problem.nearest.as_deref())).collect();
    assert_eq!(
        reported,
        [(place(9, 5), Some("BearerAuthenticator")), (place(12, 5), None), (place(16, 47), Some("field_path"))],
        "{}",
        crate::problem::render(&problems)
    );
    assert_eq!(problems[0].path, "/streams/0/retriever/requester/authenticator", "the place is where the text has it");
    assert_eq!(problems[0].found.as_deref(), Some("type: \"BearerAuthenticater\""));
    assert!(problems[0].allowed.contains(&"OAuthAuthenticator".to_owned()));
}

#[test]
fn unknown_fields_are_refused_at_the_top_only() {
    let problems = refused(&format!("{GOOD}\nstreems: []\n"));
    assert_eq!((problems[0].path.as_str(), problems[0].nearest.as_deref()), ("/streems", Some("streams")));
    assert!(load(&GOOD.replace("path: users", "pth: users"), "m.yaml", &Bounds::default()).is_ok());
}

#[test]
fn a_custom_class_is_named_and_does_not_hide_the_spec() {
    let text = GOOD.replace("{type: DpathExtractor, field_path: [data]}", "{class_name: source_x.components.Own}");
    let manifest = load(&text, "m.yaml", &Bounds::default()).unwrap();
    let problems = manifest.runnable().unwrap_err();
    assert_eq!(problems[0].class.as_deref(), Some("source_x.components.Own"));
    assert_eq!((problems[0].severity, problems[0].place), (Severity::Unsupported, place(16, 47)));
    let unused = GOOD.replace("definitions:", "definitions:\n  own: {type: CustomRetriever, class_name: a.B}");
    assert!(load(&unused, "m.yaml", &Bounds::default()).unwrap().runnable().is_ok(), "it is not referenced");
}

#[test]
fn what_is_no_manifest_is_refused() {
    for (text, expected) in [
        ("", "empty"),
        ("# nothing", "empty"),
        ("[1]", "not an object"),
        ("text", "not an object"),
        ("a: [1", "not valid YAML"),
        ("a: 1\n---\nb: 2", "more than one document"),
        ("a: !!python/object:os.system {}", "tag"),
        ("a: =", "`=`"),
        ("{1: {[a]: b}}", "cannot be a key"),
    ] {
        let problems = refused(text);
        assert!(problems[0].message.contains(expected), "{text}: {}", problems[0].message);
    }
}

#[test]
fn json_is_a_manifest_too() {
    let yaml = load(GOOD, "m.yaml", &Bounds::default()).unwrap();
    let value: serde_json::Value =
        serde_json::to_value(crate::yaml::parse(GOOD, &Bounds::default(), false).unwrap().value).unwrap();
    let json = load(&serde_json::to_string_pretty(&value).unwrap(), "m.json", &Bounds::default()).unwrap();
    assert_eq!(json.root, yaml.root);
    let tabs = serde_json::to_string_pretty(&value).unwrap().replace("  ", "\t");
    assert_eq!(load(&tabs, "m.json", &Bounds::default()).unwrap().root, yaml.root);
}

#[test]
fn yaml_is_that_of_pyyaml() {
    let text = "a: &x {k: yes, o: 010}\nb: {<<: *x, k: 1}\nc: {k: 1, k: 2}\nd: 2024-01-02\n? e\n: [on, ~, '1']\n1: one";
    let parsed = crate::yaml::parse(text, &Bounds::default(), false).unwrap();
    assert_eq!(
        parsed.value.repr(),
        "{'a': {'k': True, 'o': 8}, 'b': {'k': 1, 'o': 8}, 'c': {'k': 2}, 'd': '2024-01-02', 'e': [True, None, '1'], '1': 'one'}"
    );
    assert_eq!(parsed.warnings.iter().map(|warning| warning.place).collect::<Vec<_>>(), [place(3, 11), place(4, 4)]);
}

/// Each of these texts must cause an error message instead of exhausting memory or the stack.
#[test]
fn hostile_manifests_cost_a_bounded_error() {
    let laughs = (1..12).fold("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned(), |text, level| {
        let before = format!("*a{}, ", level - 1).repeat(10);
        format!("{text}a{level}: &a{level} [{before}]\n")
    });
    let bomb = (1..12).fold(GOOD.replace("definitions:", "definitions:\n  r0: [x, x, x, x, x, x, x, x, x, x]"), |text, level| {
        let list = vec![format!("'#/definitions/r{}'", level - 1); 10].join(", ");
        text.replace("  requester:\n", &format!("  r{level}: [{list}]\n  requester:\n"))
    });
    let bomb = bomb.replace("path: users", "path: '#/definitions/r11'");
    let many = (0..500).map(|index| format!("p{index}: [1, 2, 3, 4, 5, 6, 7, 8, 9]")).collect::<Vec<_>>().join(", ");
    let stream =
        "  - {type: DeclarativeStream, name: x, retriever: {type: X, requester: {type: X}, paginator: {type: X}}}\n".repeat(500);
    let parameters = format!("version: 1\n$parameters: {{{many}}}\nstreams:\n{stream}");
    for (name, text, expected) in [
        ("aliases", laughs, "once aliases are followed"),
        ("references", bomb, "once references are followed"),
        ("parameters", parameters, "once parameters are passed down"),
        ("an alias to itself", "a: &a [*a]".into(), "value that contains it"),
        ("nested flow", "[".repeat(50_000), "recursion limit"),
        ("nested objects", "{a: ".repeat(50_000), "recursion limit"),
        ("nested blocks", (0..500).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect(), "nested deeper"),
        ("a cycle", GOOD.replace("path: users", "path: '#/streams/0'"), "leads to itself"),
        ("an unused cycle", GOOD.replace("definitions:", "definitions:\n  a: {$ref: '#/definitions/a'}"), "leads to itself"),
        (
            "a longer cycle",
            GOOD.replace("definitions:", "definitions:\n  a: '#/definitions/b'\n  b: {c: '#/definitions/a'}"),
            "itself",
        ),
        ("the whole in itself", GOOD.replace("path: users", "path: '#/'"), "leads nowhere"),
        ("nowhere", GOOD.replace("'#", "#").replace("definitions/requester", "definitions/requestor"), "leads nowhere"),
        ("many bytes", format!("a: {}", "x".repeat(9 << 20)), "bytes"),
    ] {
        let problems = refused(&text);
        assert!(problems[0].message.contains(expected), "{name}: {}", problems[0].message);
    }
}

/// A schema that many streams refer to is stored once, so it counts once. Written out, these are half a million values.
#[test]
fn a_shared_part_counts_once() {
    let bounds = Bounds { manifest_values: 60_000, ..Bounds::default() };
    let fields: Vec<String> = (0..4_000).map(|index| format!("f{index}: {{description: x}}")).collect();
    let schema = format!("{{type: object, properties: {{{}}}}}", fields.join(", "));
    let stream = |loader: &str| {
        format!(
            "  - {{type: DeclarativeStream, name: x, schema_loader: {{type: InlineSchemaLoader, schema: {loader}}}, \
             retriever: '#/streams/0/retriever'}}\n"
        )
    };
    let by_reference = GOOD.replace("definitions:", &format!("definitions:\n  schema: {schema}"));
    let streams = stream("'#/definitions/schema'").repeat(40);
    let manifest = load(&format!("{by_reference}{streams}"), "m.yaml", &bounds).unwrap();
    let schemas = |manifest: &Manifest| {
        let streams = manifest.root.get("streams").unwrap().as_list().unwrap().iter().skip(1);
        streams
            .map(|it| it.get("schema_loader").unwrap().get("schema").unwrap().as_dict().unwrap().identity())
            .collect::<Vec<_>>()
    };
    let found = schemas(&manifest);
    assert!(found.len() == 40 && found.iter().all(|it| *it == found[0]), "the schemas are one");
    let by_alias = GOOD.replace("definitions:", &format!("definitions:\n  schema: &schema {schema}"));
    let manifest = load(&format!("{by_alias}{}", stream("*schema").repeat(40)), "m.yaml", &bounds).unwrap();
    assert!(schemas(&manifest).windows(2).all(|two| two[0] == two[1]));
    // What is not shared still counts each time.
    let written = load(&format!("{GOOD}{}", stream(&schema).repeat(10)), "m.yaml", &bounds).unwrap_err();
    assert!(written[0].message.starts_with("more than 60000 values"), "{}", written[0].message);
}

/// Shared parts are walked through each time, so that their number is bounded too.
#[test]
fn shared_parts_cannot_multiply_without_end() {
    let levels = (1..30).fold("definitions:\n  l0: {x: 1, y: 2}".to_owned(), |text, level| {
        let before = level - 1;
        format!("{text}\n  l{level}: {{a: '#/definitions/l{before}', b: '#/definitions/l{before}'}}")
    });
    let text =
        GOOD.replace("definitions:", &levels).replace("path: users", "path: users, request_parameters: '#/definitions/l29'");
    let started = std::time::Instant::now();
    assert!(refused(&text)[0].message.contains("once references are followed"));
    let typed = levels.replace("{a:", "{type: X, a:").replace("{x:", "{type: X, x:");
    let text = GOOD
        .replace("definitions:", &typed.replace("l29:", "l99:"))
        .replace("path: users", "path: users, a: '#/definitions/l20'");
    assert!(refused(&text)[0].message.contains("once parameters are passed down"));
    let aliases = (1..40).fold("a0: &a0 {x: 1}\n".to_owned(), |text, level| {
        format!("{text}a{level}: &a{level} {{a: *a{0}, b: *a{0}}}\n", level - 1)
    });
    assert!(refused(&aliases)[0].message.contains("once aliases are followed"));
    assert!(started.elapsed() < std::time::Duration::from_secs(30));
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,200}") {
        let _ = load(&text, "m.yaml", &Bounds::default());
    }

    #[test]
    fn no_yaml_like_text_makes_it_panic(text in "(  |- |a: |type: |\\$ref: |\\$parameters: |'#/a'|#/a/0|\\{|\\}|\\[|\\]|, |\n|&x |\\*x |<<: |!!str |1_0|\"|DeclarativeStream|streams: |\t){0,60}") {
        let _ = load(&text, "m.yaml", &Bounds::default());
    }

    #[test]
    fn no_change_of_one_byte_makes_it_panic(at in 0_usize..600, with in "[ -~\n\t]") {
        let mut text = GOOD.to_owned();
        let at = at.min(text.len() - 1);
        text.replace_range(at..=at, &with);
        if let Err(problems) = load(&text, "m.yaml", &Bounds::default()) {
            prop_assert!(!problems.is_empty());
            prop_assert!(problems.iter().all(|problem| !problem.render().is_empty() && problem.file == "m.yaml"));
        }
    }
}
