//! Other names and spellings of values.

use super::wire::{good, one, read, with};
use crate::families;
use crate::families::aliases;
use crate::intake::schema;
use crate::intake::wire::{Format, Limits, parse, parse_as};
use crate::model::{Intent, Risk, RiskLevel};
use proptest::prelude::*;
use serde_json::{Value, json};

fn warnings(document: &Value) -> Vec<String> {
    let parsed = read(document).expect("JSON");
    parsed.warnings().map(|warning| format!("{}: {}; {}", warning.pointer, warning.message, warning.hint)).collect()
}

#[test]
fn other_spellings_are_read_with_a_warning_that_names_the_proper_form() {
    for (pointer, sent, proper) in [
        ("/source_type", json!("GitHub"), json!("github")),
        ("/source_type", json!("postgresql"), json!("postgres")),
        ("/source_type", json!("Azure AD"), json!("entra")),
        ("/source_type", json!(" slack\n"), json!("slack")),
        ("/source_type", json!("Acme CRM"), json!("acme_crm")),
        ("/namespace", json!("Autonomy"), json!("autonomy")),
        ("/namespace", json!("550E8400-E29B-41D4-A716-446655440000"), json!("550e8400-e29b-41d4-a716-446655440000")),
        ("/scopes_mode", json!("SAFE-READONLY"), json!("safe_readonly")),
        ("/risk_level", json!("Critical"), json!("high")),
        ("/risk_level", json!("LOW"), json!("low")),
        ("/evidence/status", json!("SANCTIONED"), json!("Sanctioned")),
        ("/evidence/source", json!("cmdb"), json!("CMDB")),
        ("/evidence/ts", json!("2026-11-08 18:00:00"), json!("2026-11-08T18:00:00Z")),
        ("/evidence/ts", json!(1_794_160_800), json!("2026-11-08T18:00:00Z")),
        ("/owner/why", json!("OAuth consenter"), json!("oauth_consenter")),
        ("/credential_locator", json!("env:GITHUB_TOKEN\n"), json!("env:GITHUB_TOKEN")),
        ("/resource_ids", json!([" acme "]), json!(["acme"])),
    ] {
        let (document, expected) = (with(pointer, sent.clone()), with(pointer, proper.clone()));
        let intent = one(&document).unwrap_or_else(|refusal| panic!("{sent}: {refusal:?}"));
        let known = one(&expected).expect("the proper form");
        assert_eq!((intent.connection_id(), intent.digest()), (known.connection_id(), known.digest()), "{sent}");
        let found = warnings(&document);
        assert!(found.len() == 1 && found[0].starts_with(pointer), "{sent}: {found:?}");
        let text = proper.as_str().unwrap_or_default();
        let is_only_trimmed = sent.as_str().is_some_and(|sent| sent.trim() == text);
        assert!(is_only_trimmed || found[0].contains(text), "{sent}: {found:?}");
        assert!(warnings(&expected).is_empty() && known.as_sent.is_empty(), "{proper}");
        let trimmed = sent.as_str().map_or(sent.clone(), |text| text.trim().into());
        let kept = intent.as_sent.get(pointer);
        assert!(kept == Some(&trimmed) || trimmed == proper || pointer == "/resource_ids", "{sent}: {kept:?}");
    }
    let null = one(&with("/namespace", Value::Null)).expect("null is absent");
    assert_eq!((null.namespace.as_str(), null.as_sent.len()), ("autonomy", 0));
}

#[test]
fn resource_ids_of_another_name_are_written_for_the_family() {
    let mut document = with("/source_type", json!("MySQL"));
    document["resource_ids"] = json!(["mysql://db.example:3306/shop", " jdbc:mysql://db.example/crm "]);
    let intent = one(&document).expect("good");
    assert_eq!(intent.source_type, "jdbc");
    assert_eq!(intent.resource_ids, ["jdbc:mysql://db.example/crm", "jdbc:mysql://db.example:3306/shop"]);
    assert_eq!(intent.as_sent["/resource_ids"], json!(["mysql://db.example:3306/shop", "jdbc:mysql://db.example/crm"]));
    let mut proper = with("/source_type", json!("jdbc"));
    proper["resource_ids"] = json!(["jdbc:mysql://db.example:3306/shop", "jdbc:mysql://db.example/crm"]);
    assert_eq!(one(&proper).expect("good").connection_id(), intent.connection_id());
    document["resource_ids"] = json!(["mysql://reader:canary-secret@db.example/shop"]);
    let refused = read(&document).expect("JSON");
    assert!(refused.intents().next().is_none() && !format!("{refused:?}").contains("canary"), "{refused:?}");
}

#[test]
fn values_that_aam_does_not_know_are_kept_with_a_warning() {
    let mut document = with("/risk_level", json!("apocalyptic"));
    document["evidence"]["source"] = json!("a spreadsheet");
    document["owner"]["why"] = json!("oauth_consentr");
    let intent = one(&document).expect("kept");
    assert_eq!(intent.risk_level, RiskLevel::Unknown("apocalyptic".to_string()));
    assert_eq!(intent.risk_level.risk(), Risk::High, "it counts as the highest");
    assert_eq!(aliases::not_understood(&intent).len(), 3);
    let found = warnings(&document).join("\n");
    for part in [
        "/risk_level: \"apocalyptic\" is not a known value; the intent is kept and is not eligible; write low, med or high",
        "/evidence/source: \"a spreadsheet\" is not a known value; the intent is kept and is not eligible; write IdP, CMDB, Procurement or CASB",
        "/owner/why: \"oauth_consentr\" is not a known value; the intent is kept and is not eligible; did you mean oauth_consenter?",
    ] {
        assert!(found.contains(part), "{part}\n{found}");
    }
    let token = format!("{}{}", "xoxb-", "CANARY0000");
    for pointer in ["/risk_level", "/evidence/source", "/owner/why", "/source_type"] {
        let parsed = read(&with(pointer, json!(token))).expect("JSON");
        let shown = format!("{parsed:?}").to_lowercase();
        assert!(parsed.intents().next().is_none() && !shown.contains("canary"), "{pointer}: {shown}");
    }
}

#[test]
fn json_lines_and_documents_of_yaml_are_lists() {
    let line = good().to_string();
    let text = format!("{line}\n\n{{\"source_type\": 7}}\n{{oops\n[{line}]\n{{\"intents\": [{line}]}}\n");
    let parsed = parse_as(Format::JsonLines, text.as_bytes(), &Limits::default()).expect("lines");
    assert_eq!((parsed.intents().count(), parsed.items.len(), parsed.is_list), (3, 5, true));
    let bad: Vec<(String, usize)> =
        parsed.problems().map(|problem| (problem.pointer.clone(), problem.place.expect("a place").line)).collect();
    assert!(bad.contains(&("/1/source_type".to_string(), 3)) && bad.contains(&("/2".to_string(), 4)), "{bad:?}");
    assert!(parsed.problems().any(|problem| problem.message.contains("is not valid JSON")));
    let pretty = serde_json::to_string_pretty(&json!([good(), good()])).expect("JSON");
    let whole = parse_as(Format::JsonLines, pretty.as_bytes(), &Limits::default()).expect("one value on many lines");
    assert_eq!(whole.intents().count(), 2);
    let yaml = format!("---\n{line}\n---\n# nothing\n---\n- {line}\n- {{}}\n---\nintents: [{line}]\n");
    let parsed = parse_as(Format::Yaml, yaml.as_bytes(), &Limits::default()).expect("YAML");
    assert_eq!((parsed.intents().count(), parsed.items.len(), parsed.is_list), (3, 4, true));
    let first = parsed.problems().next().expect("a problem");
    assert!(first.pointer.starts_with("/1/1/") && first.place.is_some_and(|place| place.line == 7), "{first:?}");
    let limits = Limits { items: 2, ..Limits::default() };
    for (format, text) in [(Format::JsonLines, "{}\n{}\n{}\n"), (Format::Yaml, "a: 1\n---\na: 2\n---\na: 3\n")] {
        assert!(parse_as(format, text.as_bytes(), &limits).is_err(), "{text}");
        let two = text.replacen(text.lines().next().expect("a line"), "", 1);
        assert!(parse_as(format, two.as_bytes(), &limits).is_ok_and(|parsed| parsed.items.len() == 2), "{two}");
    }
    assert_eq!(parse_as(Format::JsonLines, b"[]\n", &Limits::default()).expect("no intents").items.len(), 0);
}

#[test]
fn names_of_files_say_what_they_hold() {
    for (name, format) in [
        ("a.json", Some(Format::Json)),
        ("team/A.JSON", Some(Format::Json)),
        ("a.jsonl", Some(Format::JsonLines)),
        ("a.NDJSON", Some(Format::JsonLines)),
        ("a.yaml", Some(Format::Yaml)),
        ("a.YML", Some(Format::Yaml)),
        ("kustomization.yaml", None),
        ("team/Kustomization.yml", None),
        ("connection_intent.schema.json", None),
        ("README.md", None),
        ("a.json~", None),
        ("a.json.swp", None),
        ("json", None),
    ] {
        assert_eq!(Format::from_path(name), format, "{name}");
    }
}

/// The spellings of a name that mean the same.
fn spelled(name: &str, how: u8) -> String {
    match how % 6 {
        0 => name.to_uppercase(),
        1 => name.replace('_', "-"),
        2 => name.replace('_', " "),
        3 => name.split('_').map(|part| part[..1].to_uppercase() + &part[1..]).collect(),
        4 => format!(" {name} "),
        _ => name.to_string(),
    }
}

proptest! {
    #[test]
    fn a_name_and_its_alias_are_the_same_connection(family in 0_usize..40, alias in 0_usize..40, how: u8, id in "[a-z]{1,8}\\.example/[a-z]{1,8}") {
        let all = families::all();
        let family = &all[family % all.len()];
        let names = aliases::of_family(&family.id);
        let alias = names.get(alias % names.len().max(1)).map_or(&*family.id, String::as_str);
        // The resource ids of these names are written for the family, and an exception depends on them.
        prop_assume!(aliases::id_form(alias, "").is_none());
        let mut document = with("/source_type", json!(spelled(alias, how)));
        document["resource_ids"] = json!([id]);
        let intent = one(&document).expect("good");
        document["source_type"] = json!(&*family.id);
        let proper = one(&document).expect("good");
        prop_assert_eq!((intent.connection_id(), intent.digest()), (proper.connection_id(), proper.digest()));
        prop_assert_eq!(warnings(&document).len(), 0);
    }

    #[test]
    fn what_intake_accepts_is_read_once_and_fits_the_published_schema(
        source in "[A-Za-z][A-Za-z _.-]{0,12}", namespace in "[A-Za-z0-9][A-Za-z0-9_.-]{0,8}", text in "[ -~]{1,12}",
        ts in prop_oneof!["[0-9]{4}-[01][0-9]-[0-3][0-9][T ][0-2][0-9]:[0-5][0-9](Z|)?", "[0-9]{9,13}"], id in "[ -~]{0,12}", which in 0_usize..5,
    ) {
        let (pointer, value) = [
            ("/risk_level", json!(text)), ("/evidence/source", json!(text)), ("/owner/why", json!(text)),
            ("/credential_locator", json!(text)), ("/scopes_mode", json!("Safe ReadOnly")),
        ][which].clone();
        let mut document = with(pointer, value);
        document["source_type"] = json!(source);
        document["namespace"] = json!(namespace);
        document["evidence"]["ts"] = json!(ts);
        document["resource_ids"] = json!([id]);
        let Ok(intent) = one(&document) else { return Ok(()) };
        prop_assert!(schema::problems(&document).is_empty(), "{document}");
        let stored = intent.canonical();
        let again = parse(stored.as_bytes(), &Limits::default()).expect("JSON");
        let again: &Intent = again.intents().next().expect("accepted again");
        prop_assert_eq!((again, again.canonical()), (&intent, stored.clone()));
        let loaded: Intent = serde_json::from_str(&stored).expect("the registry reads it");
        prop_assert_eq!(loaded, intent);
    }

    #[test]
    fn lines_and_documents_of_any_text_never_panic(text in "[-a{}\\[\\]:,\"' \n#&*|]{0,80}", any in ".{0,80}") {
        for text in [&text, &any] {
            for format in [Format::Json, Format::JsonLines, Format::Yaml] {
                let _ = parse_as(format, text.as_bytes(), &Limits::default());
            }
        }
    }
}
