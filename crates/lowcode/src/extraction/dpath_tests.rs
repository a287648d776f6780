use super::*;
use proptest::prelude::*;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn path(parts: &[&str]) -> Vec<Value> {
    parts.iter().map(|part| Value::from(*part)).collect()
}

// The expected values are the output of dpath 2.2.0 with ALLOW_EMPTY_STRING_KEYS, as set in
// airbyte_cdk/sources/__init__.py.
#[test]
fn gets_what_dpath_gets() {
    let value = json(r#"{"a": {"b": [1, {"c": null}, [3]]}, "x.y": 2, "10": {"n": 1}}"#);
    let got = |parts: &[&str]| get(&value, &path(parts)).unwrap().map(Value::repr);
    assert_eq!(got(&["a", "b", "0"]).as_deref(), Some("1"));
    assert_eq!(got(&["a", "b", "-1"]).as_deref(), Some("[3]"));
    assert_eq!(got(&["a", "b", "1", "c"]).as_deref(), Some("None"));
    assert_eq!(got(&["a", "b", "7"]), None);
    assert_eq!(got(&["a", "?"]).as_deref(), Some("[1, {'c': None}, [3]]"));
    assert_eq!(got(&["x.y"]).as_deref(), Some("2"));
    assert_eq!(got(&["10", "n"]).as_deref(), Some("1"));
    assert_eq!(get(&value, &[Value::Int(10), Value::from("n")]).unwrap(), None, "an int never matches a key");
    assert_eq!(get(&value, &path(&["a", "b", "*"])).unwrap_err().class, "ValueError");
    assert_eq!(get(&json(r#"{"z": [{"": 1}], "a": 1}"#), &path(&["z", "0", ""])).unwrap(), Some(&Value::Int(1)));
    assert_eq!(get_at(&value, &Value::from("a/b/1")).unwrap().map(Value::repr).as_deref(), Some("{'c': None}"));
}

#[test]
fn collects_in_the_order_of_dpath() {
    let value = json(r#"{"l": [{"i": [1, 2]}, {"i": [3]}], "m": {"i": [4]}}"#);
    let got = |parts: &[&str]| values(&value, &path(parts)).unwrap().into_iter().map(Value::repr).collect::<Vec<_>>();
    assert_eq!(got(&["l", "*", "i", "*"]), ["1", "2", "3"]);
    assert_eq!(got(&["*"]), ["[{'i': [1, 2]}, {'i': [3]}]", "{'i': [4]}"]);
    assert_eq!(got(&["**", "i"]), ["[1, 2]", "[3]", "[4]"]);
    assert_eq!(got(&["m", "[a-j]"]), ["[4]"]);
    assert_eq!(got(&["m", "[!a-j]"]), Vec::<String>::new());
}

#[test]
fn deletes_as_dpath_does() {
    let delete_at = |text: &str, parts: &[&str]| {
        let mut value = json(text);
        delete(&mut value, &path(parts), None).unwrap();
        value.repr()
    };
    assert_eq!(delete_at(r#"{"k": ["a", "b", "c"]}"#, &["k", "0"]), "{'k': [None, 'b', 'c']}");
    assert_eq!(delete_at(r#"{"k": ["a", "b", "c"]}"#, &["k", "2"]), "{'k': ['a', 'b']}");
    assert_eq!(delete_at(r#"{"k": [{"x": 1}, {"x": 2, "y": 3}]}"#, &["k", "*", "x"]), "{'k': [{}, {'y': 3}]}");
    assert_eq!(delete_at(r#"{"a": 1, "b": {"a": 2}}"#, &["**", "a"]), "{'b': {}}");
    let mut value = json(r#"{"a": 1, "b": {"c": null}}"#);
    let count = delete(&mut value, &path(&["nowhere"]), Some(&mut |item| Ok(item.is_none()))).unwrap();
    assert_eq!((count, value.repr().as_str()), (1, "{'a': 1, 'b': {}}"), "a filter ignores the path");
}

#[test]
fn makes_what_is_missing() {
    let mut value = json(r#"{"a": 1, "l": [1]}"#);
    new(&mut value, &path(&["n", "0", "m"]), Value::Int(5), 100).unwrap();
    new(&mut value, &path(&["l", "3"]), Value::Int(6), 100).unwrap();
    assert_eq!(value.repr(), "{'a': 1, 'l': [1, None, None, 6], 'n': [{'m': 5}]}");
    assert_eq!(new(&mut value, &path(&["a", "b"]), Value::None, 100).unwrap_err().class, "PathNotFound");
    assert_eq!(new(&mut value, &path(&["l", "x"]), Value::None, 100).unwrap_err().class, "TypeError");
    assert_eq!(new(&mut value, &path(&["l", "9999999999"]), Value::None, 100).unwrap_err().class, "Bound");
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![Just(Value::None), any::<i64>().prop_map(Value::Int), "[a-c*]{0,2}".prop_map(Value::from)];
    leaf.prop_recursive(4, 30, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
            prop::collection::vec(("[a-c0-1*]{0,2}", inner), 0..4)
                .prop_map(|pairs| Value::Dict(pairs.into_iter().map(|(key, item)| (key.into(), item)).collect())),
        ]
    })
}

proptest! {
    #[test]
    fn never_panics(mut value in any_value(), parts in prop::collection::vec("[a-c0-1*?!\\[\\]-]{0,4}", 0..4)) {
        let glob: Vec<Value> = parts.iter().map(|part| Value::from(part.as_str())).collect();
        let _ = get(&value, &glob);
        let _ = values(&value, &glob);
        let _ = set(&mut value, &glob, &Value::Int(1));
        let _ = delete(&mut value, &glob, None);
        let _ = new(&mut value, &glob, Value::Int(1), 50);
    }

    #[test]
    fn the_straight_way_is_the_walk(value in any_value(), parts in prop::collection::vec("-?[a-c0-1]{1,2}", 1..4)) {
        let glob: Vec<Value> = parts.iter().map(|part| Value::from(part.as_str())).collect();
        if let Ok(walked) = values(&value, &glob) {
            prop_assert_eq!(get(&value, &glob).unwrap(), walked.first().copied());
        }
    }
}
