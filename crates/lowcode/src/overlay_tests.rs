use super::*;
use crate::load::{Manifest, load_with};

const TEXT: &str = r#"
version: '1'
check: {stream_names: [a]}
streams:
  - name: a
    transformations: [{type: RemoveFields, field_pointers: [[x]]}]
    retriever:
      requester: {url_base: https://h.example, authenticator: {class_name: own.Login, user: me, ask: {path: /login}}}
      record_selector: {extractor: {class_name: source_declarative_manifest.components.Take, field_path: [data], other: 1}}
  - name: b
    retriever: {requester: {url_base: https://h.example}, record_selector: {extractor: {field_path: []}}}
"#;

const OVERLAY: &str = r#"
marks: [h.example]
classes:
  own.Login:
    instead: {type: BasicHttpAuthenticator, username: {$field: user}, password: {$field: secret}}
    differs: the password is left out
  components.Take:
    instead: {type: DpathExtractor, aam_wrap: w}
    transformations: [{type: KeysToLower}]
"#;

fn overlay(text: &str) -> Overlay {
    Overlay::parse(text, "o", &Bounds::default()).unwrap()
}

fn with(overlays: &[Overlay]) -> Manifest {
    load_with(TEXT, "m.yaml", overlays, &Bounds::default()).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn json(value: &Value, pointer: &str) -> String {
    serde_json::to_value(value).unwrap().pointer(pointer).unwrap().to_string()
}

#[test]
fn native_components_take_the_place_of_classes() {
    let manifest = with(&[overlay(OVERLAY)]);
    assert!(manifest.runnable().is_ok() && manifest.refused_streams().is_empty(), "{:?}", manifest.unsupported);
    let stream = &manifest.root.get("streams").and_then(Value::as_list).unwrap()[0];
    let auth = json(stream, "/retriever/requester/authenticator");
    assert_eq!(auth, r#"{"type":"BasicHttpAuthenticator","username":"me"}"#);
    let extractor = json(stream, "/retriever/record_selector/extractor");
    assert_eq!(extractor, r#"{"aam_wrap":"w","field_path":["data"],"type":"DpathExtractor"}"#);
    assert_eq!(json(stream, "/transformations/0"), r#"{"type":"KeysToLower"}"#);
    assert_eq!(json(stream, "/transformations/1/type"), r#""RemoveFields""#);
    let [differing] = manifest.differing_streams() else { panic!("{:?}", manifest.differing_streams()) };
    assert!(differing.problems[0].message.contains("the password is left out"));
    let told: Vec<_> = manifest.classes().iter().map(|it| (it.class.as_str(), it.stream.as_deref())).collect();
    assert_eq!(told, [("own.Login", Some("a")), ("source_declarative_manifest.components.Take", Some("a"))]);
}

#[test]
fn an_overlay_of_another_source_changes_nothing() {
    let other = with(&[overlay(&OVERLAY.replace("h.example", "else.example"))]);
    assert_eq!(other.refused_streams().len(), 1);
    // The first overlay that names the class wins.
    let nothing = overlay("classes: {Login: {instead: nothing, differs: no login}}");
    let both = with(&[nothing, overlay(OVERLAY)]);
    let stream = &both.root.get("streams").and_then(Value::as_list).unwrap()[0];
    assert!(stream.get("retriever").and_then(|it| it.get("requester")?.get("authenticator")).is_none());
}

#[test]
fn a_field_is_merged_with_more_keys() {
    let text = "classes: {Login: {instead: {type: SessionTokenAuthenticator, session_token_path: [t], request_authentication: \
        {type: Bearer}, login_requester: {$field: ask, type: HttpRequester, http_method: POST}}}}";
    let manifest = with(&[overlay(text)]);
    let stream = &manifest.root.get("streams").and_then(Value::as_list).unwrap()[0];
    let login = json(stream, "/retriever/requester/authenticator/login_requester");
    assert_eq!(login, r#"{"http_method":"POST","path":"/login","type":"HttpRequester"}"#);
}

#[test]
fn what_is_no_overlay_is_refused() {
    for (text, expected) in [
        ("a: [", "not valid YAML"),
        ("{}", "at least one class"),
        ("klasses: {}", "`marks` and `classes`"),
        ("marks: x\nclasses: {A: {instead: {type: NoAuth}}}", "list of texts"),
        ("classes: {A: {insted: {type: NoAuth}}}", "`insted` is not one of"),
        ("classes: {A: {instead: {type: NoSuch}}}", "`NoSuch` is not a component"),
        ("classes: {A: {instead: {type: CustomAuthenticator}}}", "not a component that AAM runs"),
        ("classes: {A: {instead: nothing}}", "say with `differs`"),
        ("classes: {A: {}}", "`instead` is a component"),
    ] {
        let problem = Overlay::parse(text, "o.yaml", &Bounds::default()).unwrap_err();
        assert!(problem.message.contains(expected), "{text}: {}", problem.message);
        assert_eq!(problem.file, "o.yaml");
    }
}

#[test]
fn the_overlays_of_this_crate_are_valid_and_name_their_source() {
    for (name, text) in SHIPPED {
        let overlay = Overlay::parse(text, name, &Bounds::default()).unwrap_or_else(|problem| panic!("{name}: {problem}"));
        assert!(!overlay.marks.is_empty(), "{name} would be applied to every manifest");
    }
    assert_eq!(shipped().len(), SHIPPED.len());
}
