use super::*;
use crate::yaml;

fn resolved(text: &str) -> Result<String, Problem> {
    let root = yaml::parse(text, &Bounds::default(), false).unwrap().value;
    resolve(root.as_dict().unwrap(), &[], &Bounds::default()).map(|root| Value::Dict(root).repr())
}

#[test]
fn references_follow_the_rules_of_the_cdk() {
    for (text, expected) in [
        ("a: 1\nb: '#/a'", "{'a': 1, 'b': 1}"),
        ("a: {x: 1, y: 2}\nb: {y: 3, $ref: '#/a', z: 4}", "{'a': {'x': 1, 'y': 2}, 'b': {'x': 1, 'y': 3, 'z': 4}}"),
        // The whole remainder is tried as one key before it is split.
        ("n: {p: first}\nn/p: whole\nv: '#/n/p'", "{'n': {'p': 'first'}, 'n/p': 'whole', 'v': 'whole'}"),
        ("n: {'p/q': deep}\nv: '#/n/p/q'", "{'n': {'p/q': 'deep'}, 'v': 'deep'}"),
        ("l: [a, {b: c}]\nv: '#/l/1/b'\nw: '#/l/-2'", "{'l': ['a', {'b': 'c'}], 'v': 'c', 'w': 'a'}"),
        // A target that is not an object replaces the object that contains the reference.
        ("a: 1\nb: {$ref: '#/a', c: 2}", "{'a': 1, 'b': 1}"),
        ("a: {$ref: 'other.json', c: 2}", "{'a': 'other.json'}"),
        ("a: {config_overrides: {u: '#/nowhere'}}", "{'a': {'config_overrides': {'u': '#/nowhere'}}}"),
    ] {
        assert_eq!(resolved(text).unwrap(), expected, "{text}");
    }
}

#[test]
fn unknown_targets_are_told_with_the_nearest() {
    let problem = resolved("definitions: {requester: 1}\na: {b: '#/definitions/requestr'}").unwrap_err();
    assert_eq!((problem.path.as_str(), problem.nearest.as_deref()), ("/a/b", Some("#/definitions/requester")));
    assert!(resolved("l: [1]\nv: '#/l/1'").is_err());
    assert!(resolved("l: [1]\nv: '#/l/x'").is_err());
    // Using the same reference twice in a row is not a cycle.
    assert!(resolved("a: 1\nb: ['#/a', '#/a']").is_ok());
}
