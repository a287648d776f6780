//! Tests of the parser with whole texts.

use crate::intake::wire::{Fault, Limits, Parsed, Refusal, parse, parse_batch};
use crate::model::{FilePlace, Intent, Locator, Problem, Risk};
use serde_json::{Value, json};

pub(super) fn good() -> Value {
    json!({"source_type": "github", "resource_ids": ["acme"], "credential_locator": "env:GITHUB_TOKEN", "risk_level": "low",
           "evidence": {"status": "Sanctioned", "source": "IdP", "ts": "2026-11-08T18:00:00Z"},
           "owner": {"user": "owner@acme.example", "confidence": 0.95, "why": "oauth_consenter"}})
}

pub(super) fn with(pointer: &str, value: Value) -> Value {
    let mut document = good();
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    document.pointer_mut(parent).and_then(Value::as_object_mut).expect("an object").insert(key.to_string(), value);
    document
}

pub(super) fn read(value: &Value) -> Result<Parsed, Refusal> {
    parse(value.to_string().as_bytes(), &Limits::default())
}

pub(super) fn one(value: &Value) -> Result<Intent, Refusal> {
    read(value).and_then(|parsed| parsed.items.into_iter().next().expect("one item").outcome)
}

fn pointers(refusal: &Refusal) -> Vec<&str> {
    refusal.problems.iter().map(|problem| problem.pointer.as_str()).collect()
}

fn text(problems: impl IntoIterator<Item = Problem>) -> String {
    problems.into_iter().map(|problem| problem.in_file("intents/broken.json").to_string() + "\n").collect()
}

fn snapshot(name: &str, text: &str) {
    insta::with_settings!({snapshot_path => concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots"), prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!(name, text);
    });
}

#[test]
fn a_good_document_is_read_with_its_defaults() {
    let intent = one(&good()).expect("a good document");
    assert_eq!(
        (intent.namespace.as_str(), intent.scopes_mode.as_str(), intent.risk_level.clone()),
        ("autonomy", "safe_readonly", Risk::Low.into())
    );
    assert_eq!(intent.credential_locator, Some(Locator::Env("GITHUB_TOKEN".to_string())));
    assert_eq!(one(&with("/credential_locator", Value::Null)).expect("null is absent").credential_locator, None);
    let mut bom = b"\xef\xbb\xbf".to_vec();
    bom.extend(good().to_string().bytes());
    assert_eq!(parse(&bom, &Limits::default()).expect("a BOM is tolerated").intents().next(), Some(&intent));
}

#[test]
fn repetition_and_order_of_resource_ids_do_not_matter() {
    let intent = one(&with("/resource_ids", json!(["b", "a", "b"]))).expect("good");
    assert_eq!(intent.resource_ids, vec!["a".to_string(), "b".to_string()]);
}

#[test]
fn an_invalid_item_does_not_affect_the_others() {
    let parsed =
        read(&json!([good(), with("/risk_level", json!(7)), 7, with("/resource_ids", json!(["other"]))])).expect("an array");
    let ok: Vec<bool> = parsed.items.iter().map(|item| item.outcome.is_ok()).collect();
    assert_eq!(ok, vec![true, false, false, true]);
    let found: Vec<&str> = parsed.problems().map(|problem| problem.pointer.as_str()).collect();
    assert_eq!(found, vec!["/1/risk_level", "/2"]);
    assert_eq!(read(&json!([])).expect("an empty array desires nothing").items, vec![]);
}

#[test]
fn a_batch_is_read_like_an_array() {
    let body = json!({"intents": [good(), with("/owner/why", json!(""))]}).to_string();
    let parsed = parse_batch(body.as_bytes(), &Limits::default()).expect("a batch");
    assert_eq!(parsed.intents().count(), 1);
    assert_eq!(parsed.problems().map(|problem| problem.pointer.as_str()).collect::<Vec<_>>(), vec!["/intents/1/owner/why"]);
    for same in [json!([good(), with("/owner/why", json!(""))]), json!({"intents": [good(), 7], "sender": "aod"})] {
        let parsed = parse_batch(same.to_string().as_bytes(), &Limits::default()).expect("a batch");
        assert_eq!((parsed.intents().count(), parsed.items.len(), parsed.is_list), (1, 2, true));
        assert_eq!(read(&same).expect("a file may have this form too"), parsed);
    }
    let single = parse_batch(good().to_string().as_bytes(), &Limits::default()).expect("a batch of one");
    assert_eq!((single.items.len(), single.is_list), (1, false));
    let wrong = parse_batch(b"{\"intents\": 7}", &Limits::default()).expect_err("not an array");
    assert_eq!((wrong.fault, pointers(&wrong)), (Fault::Invalid, vec!["/intents"]));
    let wrong = parse_batch(b"{\"intent\": []}", &Limits::default()).expect_err("the field is missing");
    assert_eq!((wrong.fault, pointers(&wrong)), (Fault::Invalid, vec!["/intents"]));
}

#[test]
fn an_unsafe_scopes_mode_is_reported_as_such_even_with_other_problems() {
    assert_eq!(one(&with("/scopes_mode", json!("read_write"))).expect_err("unsafe").fault, Fault::UnsafeScopes);
    let mut worse = with("/scopes_mode", json!("admin"));
    worse["owner"] = json!(3);
    assert_eq!(one(&worse).expect_err("unsafe and invalid").fault, Fault::UnsafeScopes);
    assert_eq!(one(&with("/scopes_mode", json!(1))).expect_err("not a string").fault, Fault::Invalid);
}

#[test]
fn every_bound_of_the_schema_holds() {
    let long = "x".repeat(2049);
    let cases = [
        ("/source_type", json!("gïthub")),
        ("/source_type", json!("--")),
        ("/source_type", json!("x".repeat(65))),
        ("/source_type", json!("")),
        ("/resource_ids", json!([])),
        ("/resource_ids", json!("acme")),
        ("/resource_ids", Value::from(vec!["x"; 65])),
        ("/namespace", json!("Acme Corp")),
        ("/namespace", json!("x".repeat(64))),
        ("/risk_level", json!("")),
        ("/risk_level", json!(" ")),
        ("/risk_level", json!(1)),
        ("/evidence/source", json!("x".repeat(65))),
        ("/evidence/source", json!(["IdP"])),
        ("/evidence/ts", json!("yesterday")),
        ("/evidence/ts", json!("2026-13-08")),
        ("/evidence/ts", json!(12)),
        ("/evidence/ts", json!(true)),
        ("/evidence/status", json!("")),
        ("/owner/confidence", json!(1.01)),
        ("/owner/confidence", json!(-0.5)),
        ("/owner/confidence", json!("0.5")),
        ("/owner/why", json!("x".repeat(65))),
        ("/owner/why", json!(null)),
        ("/credential_locator", json!("C:\\x")),
        ("/credential_locator", json!("env:a!b")),
        ("/credential_locator", json!("vault:a b")),
        ("/credential_locator", json!("letmein")),
        ("/credential_locator", json!(7)),
    ];
    for (pointer, value) in cases {
        let refusal = one(&with(pointer, value.clone())).expect_err("out of bounds");
        assert!(pointers(&refusal).contains(&pointer), "{pointer} {value}: {refusal:?}");
        assert!(refusal.problems.iter().all(|problem| !problem.hint.is_empty() && problem.place.is_some()), "{refusal:?}");
    }
    for id in ["", " ", "a\u{0}b", "a\nb", long.as_str()] {
        assert!(one(&with("/resource_ids", json!([id]))).is_err(), "{id:?}");
    }
    assert!(one(&with("/resource_ids", json!(["ä b", "x".repeat(2048)]))).is_ok());
    assert!(one(&with("/owner/confidence", json!(1))).is_ok());
    assert!(one(&with("/evidence/ts", json!("2026-11-08T19:00:00.25+01:00"))).is_ok());
}

#[test]
fn a_locator_is_known_or_kept_as_it_was_written() {
    for text in ["env:A", "env:_1", "vault:a/b#c", "consent:x", "sp:x", "file:/run/x"] {
        let locator = one(&with("/credential_locator", json!(text))).expect(text).credential_locator.expect(text);
        assert_eq!((locator.to_string().as_str(), locator.is_known()), (text, true));
    }
    for text in [
        "env:",
        "env:1",
        "env:A-B",
        "env://A",
        "vault:",
        "ENV:A",
        "Vault:a",
        "1password:a/b",
        "op://vault/item/field",
        "a_b:c/d",
        "12:a",
        "GITHUB_TOKEN",
        "$GITHUB_TOKEN",
        "${GITHUB_TOKEN}",
        "github-token",
        "/run/secrets/github",
        "secret/data/github#token",
    ] {
        let locator = one(&with("/credential_locator", json!(text))).expect(text).credential_locator.expect(text);
        assert_eq!(locator, Locator::Unknown(text.to_string()));
    }
    for text in
        ["sp:x y", "sp:\u{7f}", "a", "x:", "CANARY", "hunter2", "env:hunter2!", "swordfish", "correct-horse-battery-staple"]
    {
        assert!(one(&with("/credential_locator", json!(text))).is_err(), "{text:?}");
    }
}

#[test]
fn a_duplicate_field_is_refused() {
    let twice = good().to_string().replacen("\"risk_level\":\"low\"", "\"risk_level\":\"low\",\n\"risk_level\":\"high\"", 1);
    let parsed = parse(twice.as_bytes(), &Limits::default()).expect("JSON");
    let problem = parsed.problems().next().expect("a duplicate");
    assert_eq!((problem.pointer.as_str(), problem.place), ("/risk_level", Some(FilePlace { line: 2, column: 1 })));
    let array = parse(format!("[{},{twice}]", good()).as_bytes(), &Limits::default()).expect("JSON");
    assert_eq!(array.items.iter().map(|item| item.outcome.is_ok()).collect::<Vec<_>>(), vec![true, false]);
}

#[test]
fn each_limit_has_its_own_fault() {
    let limits = Limits { bytes: 2000, depth: 4, items: 2, demo: false };
    let fault = |text: &[u8]| parse(text, &limits).expect_err("over a limit").fault;
    assert_eq!(fault(&[b' '; 2001]), Fault::TooLarge);
    assert_eq!(fault(b"[{},{},{}]"), Fault::TooLarge);
    assert_eq!(fault(b"{\"x\":[[[[1]]]]}"), Fault::Invalid);
    assert_eq!(fault(b"{\"x\":[[[[1]"), Fault::Invalid);
    assert_eq!(fault(b""), Fault::NotJson);
    assert_eq!(fault(b"\xef\xbb\xbf \n"), Fault::NotJson);
    assert_eq!(fault(b"{\"a\": \xff}"), Fault::NotJson);
    assert_eq!(fault(b"null"), Fault::Invalid);
    assert_eq!(fault(b"{} {}"), Fault::NotJson);
    assert_eq!(parse(b"[{},{}]", &limits).expect("at the limit").items.len(), 2);
}

#[test]
fn a_document_with_endless_findings_stays_bounded() {
    let keys: serde_json::Map<String, Value> = (0..20_000).map(|i| (format!("k{i}"), json!(i))).collect();
    let parsed = read(&Value::Object(keys)).expect("an object");
    assert!(parsed.warnings().count() <= 21 && parsed.problems().count() <= 52);
    let ids = read(&with("/resource_ids", Value::from(vec![7; 100_000]))).expect("an object");
    assert!(ids.problems().count() <= 52);
    let key = "k".repeat(500_000);
    let long = read(
        &with("/extra", json!(1))
            .as_object()
            .cloned()
            .map(|mut map| {
                map.insert(key, json!(1));
                Value::Object(map)
            })
            .expect("an object"),
    );
    assert!(long.expect("an object").warnings().all(|warning| warning.pointer.len() < 1000));
}

#[test]
fn the_problems_of_a_badly_broken_document_read_well() {
    let broken = r#"[
  {"source_type": "git hub", "resource_ids": [], "scopes_mode": "read_write",
   "credential_locator": "hunter2-hunter2", "namespace": "Acme Corp", "risk_level": "medium",
   "evidence": {"status": "", "source": "idp", "ts": "yesterday"},
   "owner": {"user": 7, "confidence": "0.95", "why": "oauth_consentr"}},
  {"sourcetype": "github", "resource_ids": ["postgres://reader:x@db.example/app", 7, " padded"],
   "risk_level": "low", "risk_level": "high", "team": "data",
   "evidence": null, "owner": {"confidence": 1.5, "why": "admin", "user": "a@acme.example", "since": 2019}},
  "not an intent"
]"#;
    let parsed = parse(broken.as_bytes(), &Limits::default()).expect("JSON");
    assert_eq!(parsed.intents().count(), 0);
    snapshot("intake_broken_document", &text(parsed.problems().chain(parsed.warnings()).cloned()));
}

#[test]
fn messages_for_texts_that_are_not_documents_read_well() {
    let limits = Limits { bytes: 60, depth: 3, items: 2, demo: false };
    let cases: [&[u8]; 9] = [
        b"",
        b"{\"a\": 1,\n \"b\": }",
        b"{\"source_type\": \"git",
        b"{\"a\": \"\xff\"}",
        b"\0\0\0\0",
        b"42",
        b"[{},{},{}]",
        b"{\"x\":[[[1]]]}",
        &[b' '; 61],
    ];
    let all = cases.iter().map(|case| text(parse(case, &limits).expect_err("not a document").problems));
    snapshot("intake_no_document", &all.collect::<String>());
}
