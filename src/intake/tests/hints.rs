//! What a hint says to do makes the document valid.

use crate::intake::wire::{Limits, parse};
use serde_json::{Value, json};

fn document() -> Value {
    json!({
        "source_type": "github", "resource_ids": ["acme"], "risk_level": "low",
        "evidence": {"status": "Sanctioned", "source": "IdP", "ts": "2026-11-08T18:00:00Z"},
        "owner": {"user": "a@acme.example", "confidence": 1, "why": "admin"}
    })
}

fn with(pointer: &str, value: Value) -> Value {
    let mut changed = document();
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
    changed.pointer_mut(parent).and_then(Value::as_object_mut).expect("a parent").insert(name.to_string(), value);
    changed
}

fn without(pointer: &str) -> Value {
    let mut changed = document();
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
    changed.pointer_mut(parent).and_then(Value::as_object_mut).expect("a parent").remove(name);
    changed
}

#[test]
fn what_a_hint_says_makes_the_document_valid() {
    let renamed = |old: &str, new: &str| {
        let mut changed = without(&format!("/{new}"));
        changed[old] = document()[new].clone();
        changed
    };
    // A mistake, a part of its hint, and the document after doing what the hint says.
    let cases = [
        (renamed("risk_levle", "risk_level"), "rename the field risk_levle to risk_level", document()),
        (renamed("resource_id", "resource_ids"), "rename the field resource_id to resource_ids", document()),
        (with("/namespace", json!("demo")), "remove namespace, which means autonomy", document()),
        (with("/namespace", json!("demo")), "or name another one", with("/namespace", json!("team_b"))),
        (
            with("/resource_ids", json!(["https://reader:canary-hint@db.example"])),
            "set \"credential_locator\": \"env:NAME\"",
            with("/credential_locator", json!("env:NAME")),
        ),
        (with("/evidence/ts", json!("yesterday")), "2026-11-08T18:00:00Z", document()),
    ];
    for (before, hint, after) in cases {
        let parsed = parse(before.to_string().as_bytes(), &Limits::default()).expect("JSON");
        let hints: Vec<&str> = parsed.problems().map(|problem| problem.hint.as_str()).collect();
        assert!(hints.iter().any(|found| found.contains(hint)), "{hint:?} is not in {hints:?}");
        let parsed = parse(after.to_string().as_bytes(), &Limits::default()).expect("JSON");
        assert_eq!(parsed.problems().count(), 0, "{hint}: {after}");
    }
    // A spelling that is accepted with a warning, a part of its hint, and the document after doing what the hint says.
    for (before, hint, after) in [
        (with("/risk_level", json!("medium")), "write med", with("/risk_level", json!("med"))),
        (with("/risk_level", json!("hihg")), "did you mean high?", with("/risk_level", json!("high"))),
        (with("/evidence/source", json!("idp")), "write IdP", with("/evidence/source", json!("IdP"))),
        (
            with("/evidence/source", json!("a list")),
            "write IdP, CMDB, Procurement or CASB",
            with("/evidence/source", json!("CASB")),
        ),
        (with("/source_type", json!("GitHub")), "write github", with("/source_type", json!("github"))),
        (
            with("/evidence/ts", json!("2026-11-08")),
            "write 2026-11-08T00:00:00Z",
            with("/evidence/ts", json!("2026-11-08T00:00:00Z")),
        ),
        (with("/resource_ids", json!([" acme"])), "remove them", with("/resource_ids", json!(["acme"]))),
        (with("/credential_locator", json!("")), "leave the field out", document()),
    ] {
        let parsed = parse(before.to_string().as_bytes(), &Limits::default()).expect("JSON");
        let hints: Vec<&str> = parsed.warnings().map(|problem| problem.hint.as_str()).collect();
        assert!(hints.iter().any(|found| found.contains(hint)), "{hint:?} is not in {hints:?}");
        let parsed = parse(after.to_string().as_bytes(), &Limits::default()).expect("JSON");
        assert_eq!((parsed.problems().count(), parsed.warnings().count()), (0, 0), "{hint}: {after}");
    }
    for (before, hint, after) in [
        ("", "[] stands for no intents", "[]".to_string()),
        ("{\"a\": 1,}", "JSON does not allow comments, trailing commas", "[]".to_string()),
        ("7", "write a connection_intent as a JSON object", document().to_string()),
    ] {
        let refusal = parse(before.as_bytes(), &Limits::default()).expect_err(before);
        assert!(refusal.problems[0].hint.contains(hint), "{:?}", refusal.problems);
        assert!(parse(after.as_bytes(), &Limits::default()).is_ok_and(|parsed| parsed.problems().count() == 0));
    }
}
