use super::*;
use crate::bounds::Bounds;
use crate::script::{Script, json};

fn changed(transformation: &str, record: &str) -> Result<String, Failed> {
    let (host, bounds, config) = (Script::new(&[]), Bounds::default(), Value::None);
    let (node, mut record) = (json(transformation), json(record));
    let ctx = Context::new(&Value::None, &config, &host, &bounds);
    let at = ctx.eval_context();
    Transformation::build(&node, &ctx)?.apply(&mut record, &at)?;
    Ok(record.repr())
}

fn same(transformation: &str, record: &str, expected: &str) {
    assert_eq!(changed(transformation, record).unwrap(), expected, "{transformation}");
}

// The expected records are the output of the transformations of airbyte-cdk 7.39.1.
#[test]
fn changes_keys_as_the_cdk_does() {
    let nested = r#"{"a": {"b": 1, "c": [1, {"b": 2}]}, "b": 3}"#;
    same(r#"{"type": "FlattenFields"}"#, nested, "{'b': 3, 'c.1.b': 2, 'c.0': 1, 'a.b': 1}");
    let plain = r#"{"a": {"b": 1, "c": [1]}, "b": 3}"#;
    same(r#"{"type": "FlattenFields", "flatten_lists": false}"#, plain, "{'b': 3, 'c': [1], 'a.b': 1}");
    let replace = r#"{"type": "KeysReplace", "old": " ", "new": "_"}"#;
    same(replace, r#"{"a b": {"c d": [{"e f": 1}]}}"#, "{'a_b': {'c_d': [{'e f': 1}]}}");
    same(r#"{"type": "KeysToLower"}"#, r#"{"AbC": {"D": 1}}"#, "{'abc': {'D': 1}}");
    let keys = ["MyID", "fooBar", "foo_bar", "123abc", "A-B", "HTTPServer2x", "_x", "x_", " a b", "a1b2", "Foo  Bar"];
    let snake: Vec<String> = keys.iter().map(|key| snake_case(key)).collect();
    let expected = ["my_id", "foo_bar", "foo_bar", "_123_abc", "a_b", "httpserver_2_x", "_x", "x_", "_a_b", "a_1_b_2", "foo_bar"];
    assert_eq!(snake, expected);
}

#[test]
fn flattens_one_path_as_the_cdk_does() {
    let at = |more: &str| format!(r#"{{"type": "DpathFlattenFields", "field_path": ["d"] {more}}}"#);
    same(&at(""), r#"{"d": {"x": 1}, "y": 2}"#, "{'d': {'x': 1}, 'y': 2, 'x': 1}");
    same(&at(r#", "delete_origin_value": true"#), r#"{"d": {"x": 1}, "y": 2}"#, "{'y': 2, 'x': 1}");
    same(&at(""), r#"{"d": {"y": 1}, "y": 2}"#, "{'d': {'y': 1}, 'y': 2}");
    let all = r#"{"type": "DpathFlattenFields", "field_path": ["d", "*"], "replace_record": true,
                  "key_transformation": {"prefix": "p_", "suffix": "_s"}}"#;
    same(all, r#"{"d": {"x": {"z": 1}}, "y": 2}"#, "{'p_z_s': 1}");
}

#[test]
fn adds_and_removes_as_the_cdk_does() {
    let record = r#"{"a": {"b": 1, "c": 2}, "l": [1, 2]}"#;
    let remove = r#"{"type": "RemoveFields", "field_pointers": [["a", "b"], ["l", "0"], ["n"]]}"#;
    same(remove, record, "{'a': {'c': 2}, 'l': [None, 2]}");
    let picked = r#"{"type": "RemoveFields", "field_pointers": [["a"]], "condition": "{{ property == 1 }}"}"#;
    same(picked, record, "{'a': {'c': 2}, 'l': [None, 2]}");
    let add = r#"{"type": "AddFields", "fields": [{"path": ["n", "m"], "value": "{{ record['a'] + 1 }}"},
        {"path": ["s"], "value": "{{ record['a'] }}", "value_type": "string"},
        {"path": ["e"], "value": "{{ record['zz'] or '' }}x"}]}"#;
    same(add, r#"{"a": 1}"#, "{'a': 1, 'n': {'m': 2}, 's': '1', 'e': 'x'}");
    let some =
        r#"{"type": "AddFields", "fields": [{"path": ["n"], "value": "{{ record['a'] }}"}], "condition": "{{ value > 3 }}"}"#;
    same(some, r#"{"a": 1}"#, "{'a': 1}");
}

#[test]
fn a_record_that_is_no_dict_fails_as_in_python() {
    for kind in ["KeysToLower", "KeysToSnakeCase"] {
        let failed = changed(&format!(r#"{{"type": "{kind}"}}"#), "[1]").unwrap_err();
        assert_eq!(failed.class, "AttributeError", "{kind}");
    }
    let add = r#"{"type": "AddFields", "fields": [{"path": ["n"], "value": "1"}]}"#;
    assert_eq!(changed(add, "\"text\"").unwrap_err().class, "TypeError");
    assert_eq!(changed(r#"{"type": "CustomTransformation"}"#, "{}").unwrap_err().class, "UnsupportedComponent");
}
