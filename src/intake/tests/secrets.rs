//! Secrets and unknown fields in documents.

use super::wire::{one, read, with};
use crate::intake::document::REMOVED;
use serde_json::json;

#[test]
fn unknown_fields_are_kept_with_a_warning_and_secrets_are_removed_from_them() {
    let canary = ["CANARY", "VALUE"].concat();
    let mut document = with("/tags", json!(["a"]));
    document["owner"]["team"] = json!({"z": 1, "a": 2});
    document["source_typ"] = json!("x");
    document["api_key"] = json!(canary);
    document["evidence"]["links"] = json!([{"client_secret": canary}, format!("https://u:{canary}@host.example")]);
    let parsed = read(&document).expect("an object");
    let intent = parsed.intents().next().expect("accepted");
    assert_eq!((&intent.extra["tags"], &intent.owner.extra["team"]["a"]), (&json!(["a"]), &json!(2)));
    assert_eq!(intent.extra["api_key"], json!(REMOVED));
    let everything = format!("{}{:?}", intent.canonical(), parsed);
    assert!(!everything.contains(&canary), "{everything}");
    let warnings: Vec<String> = parsed.warnings().map(|warning| format!("{} {}", warning.pointer, warning.hint)).collect();
    assert_eq!(warnings.len(), 5);
    assert!(warnings.contains(&"/source_typ did you mean source_type?".to_string()), "{warnings:?}");
}

#[test]
fn a_secret_pasted_into_a_known_field_is_refused_and_never_repeated() {
    let token = format!("{}{}", "xoxb-", "CANARY0000");
    for (pointer, value) in [
        ("/credential_locator", json!(token)),
        ("/credential_locator", json!(format!("vault:{token}"))),
        ("/credential_locator", json!("CANARY")),
        ("/resource_ids", json!([format!("postgres://reader:{token}@db.example/app")])),
        ("/resource_ids", json!(["jdbc:postgresql://db.example/app?password=CANARY"])),
        ("/owner/user", json!(token)),
        ("/risk_level", json!(token)),
        ("/owner/confidence", json!(token)),
        ("/evidence/ts", json!(token)),
        ("/namespace", json!(token)),
    ] {
        let refusal = one(&with(pointer, value)).expect_err("a secret");
        assert!(!format!("{refusal:?}").contains("CANARY"), "{pointer}: {refusal:?}");
    }
}
