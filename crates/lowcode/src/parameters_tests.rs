use super::*;
use crate::yaml;

fn propagated(text: &str, parent_wins: bool) -> String {
    let Value::Dict(root) = yaml::parse(text, &Bounds::default(), false).unwrap().value else { panic!("an object") };
    let inherited: Dict = [("inherited".into(), Value::str("above"))].into_iter().collect();
    let inherited = if parent_wins { inherited } else { Dict::default() };
    Value::Dict(propagate(root, ("", ""), &inherited, parent_wins, &Bounds::default()).unwrap()).repr()
}

#[test]
fn parameters_go_down_and_replace_what_is_falsy() {
    assert_eq!(
        propagated("{type: A, x: 0, y: 1, $parameters: {x: 5, y: 6}, b: {type: B, x: ''}, c: {d: 1}}", false),
        "{'type': 'A', 'x': 5, 'y': 1, 'b': {'type': 'B', 'x': 5, 'y': 6, '$parameters': {'x': 5, 'y': 6}}, 'c': {'d': 1}, \
         '$parameters': {'x': 5, 'y': 6}}"
    );
}

#[test]
fn a_field_does_not_get_its_own_parameter() {
    assert_eq!(
        propagated("{type: A, b: {type: B}, $parameters: {b: 1}}", false),
        "{'type': 'A', 'b': {'type': 'B'}, '$parameters': {'b': 1}}"
    );
}

#[test]
fn types_go_without_saying() {
    assert_eq!(
        propagated("{type: DeclarativeStream, retriever: {requester: {}}, transformations: [{class_name: x}]}", false),
        "{'type': 'DeclarativeStream', 'retriever': {'requester': {'type': 'HttpRequester'}, 'type': 'SimpleRetriever'}, \
         'transformations': [{'class_name': 'x', 'type': 'CustomTransformation'}]}"
    );
}

#[test]
fn schemas_are_left_alone() {
    let schema =
        "{type: A, $parameters: {p: 1}, s: {type: object, properties: {a: {type: string}}}, u: {type: [x], q: {type: B}}}";
    assert_eq!(
        propagated(schema, false),
        "{'type': 'A', 's': {'type': 'object', 'properties': {'a': {'type': 'string'}}}, 'u': {'type': ['x'], 'q': {'type': 'B'}}, \
         'p': 1, '$parameters': {'p': 1}}"
    );
}

#[test]
fn in_dynamic_streams_the_parent_wins() {
    assert!(propagated("{type: A, $parameters: {inherited: own}}", true).contains("'inherited': 'above'"));
}

#[test]
fn parameters_that_are_no_object_are_told() {
    let Value::Dict(root) = yaml::parse("{type: A, b: {$parameters: 1}}", &Bounds::default(), false).unwrap().value else {
        panic!()
    };
    let problem = propagate(root, ("", ""), &Dict::default(), false, &Bounds::default()).unwrap_err();
    assert_eq!((problem.path.as_str(), problem.found.as_deref()), ("/b", Some("1")));
}
