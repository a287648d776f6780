//! The examples of the document. They are responses of this server: a test sends the requests and compares the responses
//! with this file, which `AAM_UPDATE_DOCS=1` writes.

use serde_json::{Map, Value, json};
use std::sync::LazyLock;

/// The responses by operation id and status, and below `problems` the problem documents by status.
static RECORDED: LazyLock<Value> = LazyLock::new(|| serde_json::from_str(include_str!("examples.json")).unwrap_or_default());

/// Returns the recorded response of an operation. Operations with a response of the same form share one.
#[must_use]
pub fn response(operation: &str, status: u16) -> Option<&'static Value> {
    RECORDED.pointer(&format!("/responses/{operation}/{status}"))
}

/// Returns a recorded problem document with this status.
#[must_use]
pub fn problem(status: u16) -> Option<&'static Value> {
    RECORDED.pointer(&format!("/problems/{status}"))
}

/// Returns all recorded problem documents, by the names under which responses refer to them.
#[must_use]
pub fn problems() -> Map<String, Value> {
    let recorded = RECORDED.get("problems").and_then(Value::as_object).into_iter().flatten();
    recorded.map(|(status, problem)| (format!("problem_{status}"), json!({"value": problem}))).collect()
}

/// Returns an example of a request body.
#[must_use]
pub fn request(schema: &str) -> Value {
    let intent = json!({
        "source_type": "github", "resource_ids": ["acme"], "credential_locator": "env:GITHUB_TOKEN",
        "namespace": "autonomy", "risk_level": "low",
        "evidence": {"status": "Sanctioned", "source": "IdP", "ts": "2026-11-08T18:00:00Z"},
        "owner": {"user": "owner@acme.example", "confidence": 0.95, "why": "oauth_consenter"},
    });
    match schema {
        "connection_intent" => intent,
        "IntentBatch" => json!({"intents": [intent]}),
        "HandoffBody" => json!({
            "aod_discovery_id": "run-2026-11-08", "tenant_id": "2f1c6c0e-7f0b-4a52-9d6f-6f1f5c0d9b11", "entity_id": "Acme",
            "candidates": [{
                "asset_key": "salesforce.com", "vendor_name": "Salesforce", "display_name": "Salesforce CRM", "category": "crm",
                "governance_status": "governed", "known_endpoints": ["https://acme.my.salesforce.com"],
                "execution_allowed": true, "action_type": "provision", "aod_asset_id": "asset-1",
            }],
        }),
        "McpMessage" => json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}),
        "AcknowledgeRequest" => json!({"catalog_version": 3, "note": "the nightly load reads the new column"}),
        "HealRequest" => json!({"namespace": "autonomy", "state": "AWAITING_CREDENTIALS"}),
        _ => Value::Null,
    }
}
