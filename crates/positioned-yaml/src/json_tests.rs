use super::*;
use proptest::prelude::*;
use serde_json::json;

const LIMITS: Limits = Limits { values: 1000, text_bytes: 1 << 20, depth: 20 };

fn read(text: &str) -> Result<Value, String> {
    parse(text, LIMITS).map_err(|error| error.to_string())
}

#[test]
fn scalars_follow_the_core_schema() {
    for (text, value) in [
        ("", json!(null)),
        ("~", json!(null)),
        ("Null", json!(null)),
        ("True", json!(true)),
        ("no", json!("no")),
        ("on", json!("on")),
        ("12", json!(12)),
        ("+12", json!(12)),
        ("-12", json!(-12)),
        ("012", json!("012")),
        ("0x1F", json!(31)),
        ("-0o17", json!(-15)),
        ("0b11", json!(3)),
        ("18446744073709551615", json!(u64::MAX)),
        ("1.5", json!(1.5)),
        ("-1e3", json!(-1000.0)),
        (".5", json!(0.5)),
        ("1_000", json!("1_000")),
        ("inf", json!("inf")),
        ("nan", json!("nan")),
        ("--1", json!("--1")),
        ("2026-01-02", json!("2026-01-02")),
        ("12:30:45", json!("12:30:45")),
        ("'12'", json!("12")),
        ("!!str 12", json!("12")),
        ("! 12", json!("12")),
        ("!!int '12'", json!(12)),
        ("|\n  12\n", json!("12\n")),
    ] {
        assert_eq!(read(&format!("a: {text}")), Ok(json!({ "a": value })), "{text}");
    }
    assert_eq!(read(""), Ok(Value::Null));
}

#[test]
fn keys_are_text_and_merges_are_followed() {
    let text = "base: &b {x: 1, y: 1}\nmore: &m {z: 3}\n200: {<<: [*b, *m], y: 2}\ntrue: *b\n";
    let found = read(text).unwrap();
    assert_eq!(found["200"], json!({"x": 1, "y": 2, "z": 3}));
    assert_eq!(found["true"], json!({"x": 1, "y": 1}));
}

#[test]
fn what_json_does_not_have_is_an_error() {
    for (text, message) in [
        ("a: 1\na: 2\n", "duplicate key \"a\" at line 2 column 1"),
        ("a: .nan", "not a number"),
        ("a: -.inf", "infinite"),
        ("a: !thing {b: 1}", "the tag !thing is not supported"),
        ("a: !thing b", "is not supported"),
        ("? [a]\n: 1\n", "a key must be text"),
        ("a: &a [*a]", "refers to the value that contains it"),
        ("a: 1\n---\nb: 2\n", "more than one document"),
    ] {
        let error = read(text).unwrap_err();
        assert!(error.contains(message), "{text}: {error}");
    }
}

#[test]
fn a_stream_is_read_document_by_document() {
    let read = |text: &str| parse_stream(text, LIMITS, 3).map_err(|error| error.to_string());
    assert_eq!(read("a: 1\n---\n- b\n---\n"), Ok(vec![json!({"a": 1}), json!(["b"])]));
    assert_eq!(read("---\n---\n# nothing\n---\nc\n...\n---\n~\n"), Ok(vec![json!("c")]));
    assert_eq!((read(""), read("# nothing\n")), (Ok(vec![]), Ok(vec![])));
    assert_eq!(read("a: &x 1\n---\nb: 2\n"), Ok(vec![json!({"a": 1}), json!({"b": 2})]));
    assert!(read("a: &x 1\n---\nb: *x\n").is_err(), "an anchor of another document");
    assert!(read("a: 1\n---\na: 1\na: 2\n").unwrap_err().contains("duplicate key \"a\" at line 4"));
    assert!(read("1\n---\n2\n---\n3\n---\n4\n").unwrap_err().contains("more than 3 documents at line 7"));
    assert!(read(&"---\n- x\n".repeat(1001)).is_err());
}

#[test]
fn a_lenient_reader_keeps_the_rest() {
    for (text, value) in [
        ("a: !thing {b: !x 1}\nc: 1\n", json!({"a": {"b": 1}, "c": 1})),
        ("a: !!binary aGk=\nb: !!int x\nc: !!timestamp 2026-01-02\n", json!({"a": "aGk=", "b": "x", "c": "2026-01-02"})),
        ("a: .nan\nb: -.inf\n", json!({"a": ".nan", "b": "-.inf"})),
        ("a: 1\n---\n", json!({"a": 1})),
        ("a: 1\n---\nb: [\n", json!({"a": 1})),
        ("a: !!set {b, c}\n", json!({"a": {"b": null, "c": null}})),
        (
            "a: 0x1ffffffffffffffffffffffffffffffffffff\nb: 1e999\nc: 99999999999999999999\nd: 1\n",
            json!({
                "a": "0x1ffffffffffffffffffffffffffffffffffff", "b": "1e999", "c": 1e20, "d": 1
            }),
        ),
    ] {
        assert_eq!(parse_leniently(text, LIMITS), Ok(value), "{text}");
    }
    let many = "- x\n".repeat(1001);
    assert!(matches!(parse_leniently(&many, LIMITS), Err(Error::Limit { .. })));
}

#[test]
fn limits_hold_for_aliases_too() {
    let mut text = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..10 {
        let names = vec![format!("*a{}", level - 1); 10].join(",");
        text.push_str(&format!("a{level}: &a{level} [{names}]\n"));
    }
    assert!(read(&text).unwrap_err().contains("more than 1000 values"));
    let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 19), ["*a"; 5].join(","));
    assert!(read(&long).unwrap_err().contains("more than 1 MiB of text"));
    // The parser itself refuses deeply nested flow collections, before it returns their events.
    assert!(read(&"[".repeat(5000)).unwrap_err().contains("recursion limit"));
    assert!(read(&"- ".repeat(5000)).unwrap_err().contains("nested deeper than 20"));
    let deep = format!("a: &a {}1{}\nb: {}*a{}\n", "[".repeat(15), "]".repeat(15), "[".repeat(10), "]".repeat(10));
    assert!(read(&deep).unwrap_err().contains("nested deeper than 20"));
}

proptest! {
    #[test]
    fn any_text_ends(text: String, yaml in "[-a:?&*!\\[\\]{},'\"| \n]{0,60}") {
        for text in [&text, &yaml] {
            let one = read(text);
            let all = parse_stream(text, LIMITS, 1000);
            if let Ok(value) = one {
                let expected = if value.is_null() { Vec::new() } else { vec![value] };
                prop_assert_eq!(all, Ok(expected));
            }
        }
    }

    #[test]
    fn json_is_yaml(key in "[a-z]{1,8}", number: i64, text in "[ -~]{0,20}") {
        let value = json!({ key: [number, text, null, true, { "b": 1.5 }] });
        prop_assert_eq!(read(&value.to_string()), Ok(value));
    }
}
