use super::*;
use proptest::prelude::*;
use serde_json::Value;

fn read(text: &str, whole: bool, format: Format) -> Result<(JsonScan, Description), String> {
    let mut fields = FieldKinds::new(3);
    let scan = scan(text.as_bytes(), whole, format, 100, &mut |name, value| fields.add(name, value))?;
    let description = fields.describe(&scan, 100);
    Ok((scan, description))
}

#[test]
fn arrays_objects_and_sequences() {
    for (text, records) in [
        (r#"[{"a":1},{"a":2.5}]"#, 2),
        (r#" {"a":1} "#, 1),
        ("{\"a\":1}\n{\"a\":2}\n", 2),
        ("[]", 0),
        ("[ {\"a\": 1} , {\"b\": [1]} ]\n", 2),
    ] {
        let (scan, _) = read(text, true, Format::Json).unwrap();
        assert_eq!((scan.records, scan.cut), (records, false), "{text}");
    }
    let (_, found) = read(r#"[{"a":1,"at":"2026-01-02"},{"a":2.5,"d":{"e":1}}]"#, true, Format::Json).unwrap();
    assert_eq!(found.properties["a"], json!({"type": ["null", "number"]}));
    assert_eq!(found.properties["at"]["format"], "date");
    assert_eq!(found.properties["d"], json!({"type": ["null", "object"]}));
}

#[test]
fn a_truncated_file_is_recognised() {
    let part = r#"[{"a":1},{"a":"#;
    assert_eq!(read(part, false, Format::Json).unwrap().0, JsonScan { records: 1, cut: true, ..JsonScan::default() });
    assert!(read(part, true, Format::Json).unwrap_err().contains("EOF"));
    assert!(read(r#"[{"a":1}"#, true, Format::Json).unwrap_err().contains("ends inside the array"));
    assert!(read("[", true, Format::Json).is_err());
    assert!(read(r#"[{"a":1} {"a":2}]"#, true, Format::Json).unwrap_err().contains("expected"));
}

#[test]
fn what_stands_behind_the_records_is_judged() {
    let rows = |n: usize| (0..n).map(|n| format!("{{\"n\":{n}}}")).collect::<Vec<_>>();
    for (text, expected) in [
        (r#"[{"a":1}] trailing"#.to_owned(), "more text follows at line 1, column 11"),
        ("[{\"a\":1}]\n[{\"a\":2}]\n".to_owned(), "more text follows at line 2, column 1"),
        ("[]]".to_owned(), "more text follows"),
        (r#"{"a":1} trailing"#.to_owned(), "value 2, which begins at line 1, column 9: expected"),
        (format!("[{},nonsense]", rows(200).join(",\n")), "value 201, which begins at line 200"),
        (format!("[{}", rows(200).join(",")), "ends inside the array"),
    ] {
        let message = read(&text, true, Format::Json).unwrap_err();
        assert!(message.contains(expected), "{text}: {message}");
    }
    let mut lines = rows(150);
    lines.insert(120, "{\"n\":".to_owned());
    let (scan, found) = read(&lines.join("\n"), true, Format::JsonLines).unwrap();
    assert_eq!((scan.records, scan.invalid_lines, scan.first_invalid_line), (150, 1, 121));
    assert_eq!(found.warnings, ["1 line is not valid JSON; the first is line 121"]);
}

#[test]
fn lines_being_appended_do_not_break() {
    let (scan, _) = read("{\"a\":1}\n\n{\"a\":2}\n{\"a\":", true, Format::JsonLines).unwrap();
    assert_eq!(scan, JsonScan { records: 2, cut: true, cut_line: Some(4), ..JsonScan::default() });
    let (scan, _) = read("{\"a\":1}\nnot json\n[1]\n{\"a\":2}", true, Format::JsonLines).unwrap();
    assert_eq!((scan.records, scan.odd, scan.invalid_lines, scan.cut), (2, 1, 1, false));
    assert!(read("{\"a\" 1}\n", true, Format::JsonLines).unwrap_err().starts_with("line 1"));
    assert_eq!(read("", true, Format::JsonLines).unwrap().1.notes["note"], "empty");
    let (scan, found) = read("null\n{\"a\":1}\n", true, Format::JsonLines).unwrap();
    assert_eq!((scan.records, scan.odd), (1, 1));
    assert_eq!(found.warnings, ["1 of 2 values is not an object"]);
}

#[test]
fn a_damaged_end_is_a_warning() {
    let rows = |n: usize| (0..n).map(|n| format!("{{\"n\":{n}}}")).collect::<Vec<_>>();
    for count in [1, 25, 150] {
        for end in [",]", " , ]\n", ",\n]"] {
            let (scan, found) = read(&format!("[{}{end}", rows(count).join(",")), true, Format::Json).unwrap();
            assert_eq!(scan.records, count);
            assert!(
                found.warnings.len() == 1 && found.warnings[0].contains("after a comma at line"),
                "{end}: {:?}",
                found.warnings
            );
        }
        for end in ["{\"n\":", "{", "{\"n\":\"x"] {
            let (scan, found) = read(&format!("{}\n{end}", rows(count).join("\n")), true, Format::JsonLines).unwrap();
            assert_eq!((scan.records, scan.cut), (count, true));
            assert!(found.warnings[0].contains(&format!("inside the record of line {}", count + 1)), "{:?}", found.warnings);
        }
        // The end of what was read is not the end of the file, and complete files do not have a warning.
        for (text, whole, format) in [
            (format!("[{},", rows(count).join(",")), false, Format::Json),
            (format!("{}\n{{\"n\":", rows(count).join("\n")), false, Format::JsonLines),
            (format!("[{}]", rows(count).join(",")), true, Format::Json),
            (rows(count).join("\n"), true, Format::JsonLines),
        ] {
            let (_, found) = read(&text, whole, format).unwrap();
            assert!(found.warnings.is_empty(), "{text}: {:?}", found.warnings);
        }
    }
}

#[test]
fn everything_that_json_allows_is_read() {
    let deep = format!("[{{\"a\":{}{}}}]", "[".repeat(100_000), "]".repeat(100_000));
    for (text, kind) in [
        (deep.as_str(), "array"),
        (r#"[{"a":1e400}]"#, "number"),
        (r#"[{"a":-12345678901234567890123}]"#, "integer"),
        (r#"[{"a":"\ud800"}]"#, "string"),
        (r#"[{"a":"\u0000"}]"#, "string"),
        (r#"[{"a":null},{"a":true}]"#, "boolean"),
    ] {
        let (scan, found) = read(text, true, Format::Json).unwrap();
        assert!(scan.records > 0 && found.properties["a"]["type"][1] == kind, "{}", &text[..text.len().min(40)]);
    }
    let (_, found) = read(r#"[{"\ud800":1,"b\u00e9":2}]"#, true, Format::Json).unwrap();
    assert_eq!((found.columns, &found.properties["b\u{e9}"]["type"][1]), (2, &json!("integer")));
}

#[test]
fn width_is_bounded_and_depth_without_an_end_is_an_error() {
    let deep = "[".repeat(100_000);
    assert!(read(&deep, true, Format::Json).unwrap_err().contains("EOF"));
    assert!(read(&format!("{{\"a\":{deep}"), true, Format::JsonLines).unwrap_err().contains("EOF"));
    let (_, found) = read(r#"{"a":1,"b":2,"c":3,"d":4,"e":5}"#, true, Format::Json).unwrap();
    assert_eq!((found.columns, found.properties.len(), found.truncated), (5, 3, true));
}

#[test]
fn json_under_another_name_is_recognised() {
    for (text, expected) in [
        (r#"[{"a":1},{"a":2}]"#, true),
        ("{\"a\":1}\n{\"a\":2}", true),
        ("[a],b\n1,2\n", false),
        ("{x},y\n", false),
        ("a,b\n", false),
    ] {
        assert_eq!(is_json(text.as_bytes(), true), expected, "{text}");
    }
}

proptest! {
    #[test]
    fn any_bytes_end(bytes: Vec<u8>, whole: bool) {
        for format in [Format::Json, Format::JsonLines] {
            let _ = scan(&bytes, whole, format, 3, &mut |_, _| {});
        }
    }

    #[test]
    fn any_prefix_of_an_array_is_a_prefix(rows in 0usize..6, at in 0usize..80) {
        let text = Value::Array((0..rows).map(|n| json!({"n": n, "t": "x,]}"})).collect()).to_string();
        let cut = text.as_bytes().get(..at.min(text.len())).unwrap();
        let found = scan(cut, false, Format::Json, 100, &mut |_, _| {}).unwrap();
        prop_assert!(found.records <= rows);
        prop_assert!(found.cut || found.records == rows);
    }
}
