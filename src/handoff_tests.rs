use super::*;
use crate::policy::parse::parse as parse_policy;
use proptest::prelude::*;

const POLICY: &str = "version: 1\nallowlist: [salesforce, github]\nhandoff:\n  vendors:\n    Salesforce: {source_type: salesforce, resource_ids: [acme], credential_locator: \"env:SALESFORCE\", owner: crm@acme.example}\n    github.com: {source_type: github, resource_ids: [acme], credential_locator: \"env:GITHUB\", owner: {user: dev@acme.example, confidence: 0.8, why: usage}, risk_level: low, evidence_source: IdP}\n    broken: {source_type: github, resource_ids: [\" \"], owner: dev@acme.example}\n";

fn policy() -> Policy {
    parse_policy(POLICY, "policy.yaml").expect("a policy")
}

fn judged(candidates: &Value) -> (Vec<JudgedCandidate>, Vec<Intent>) {
    let judgement = judge(candidates.as_array().expect("a list"), &policy(), "autonomy", Timestamp(0));
    (judgement.candidates, judgement.intents)
}

fn candidate_of(key: &str, vendor: &str, status: &str) -> Value {
    json!({"asset_key": key, "vendor_name": vendor, "governance_status": status, "aod_asset_id": format!("id-{key}")})
}

#[test]
fn the_policy_supplies_what_a_candidate_lacks() {
    let (judged, intents) =
        judged(&json!([candidate_of("sf", "SALESFORCE", "Governed"), candidate_of("github.com", "unknown", "shadow")]));
    assert!(judged.iter().all(|one| matches!(one.decision, Decision::Connect { .. })), "{judged:?}");
    let of = |source: &str| intents.iter().find(|intent| intent.source_type == source).expect("an intent");
    let (salesforce, github) = (of("salesforce"), of("github"));
    assert_eq!(salesforce.evidence.status, "Sanctioned");
    assert_eq!((salesforce.evidence.source.as_str(), salesforce.owner.user.as_str()), ("CASB", "crm@acme.example"));
    assert_eq!(salesforce.credential_locator.as_ref().map(ToString::to_string).as_deref(), Some("env:SALESFORCE"));
    assert_eq!(
        (github.evidence.status.as_str(), github.evidence.source.as_str(), github.owner.why.as_str()),
        ("shadow", "IdP", "usage")
    );
}

#[test]
fn each_candidate_has_its_own_result() {
    let mut forbidden = candidate_of("a", "Salesforce", "governed");
    forbidden["execution_allowed"] = json!(false);
    let mut inventory = candidate_of("b", "Nobody", "governed");
    inventory["action_type"] = json!("Inventory_Only");
    let mut unclear = candidate_of("c", "Salesforce", "governed");
    unclear["execution_allowed"] = json!("perhaps");
    let candidates = json!([
        forbidden,
        inventory,
        unclear,
        7,
        {"vendor_name": "Salesforce"},
        candidate_of("d", "Zoom", "governed"),
        candidate_of("e", "broken", "governed"),
        candidate_of("f", "Salesforce", "governed"),
        candidate_of("f", "Salesforce", "governed"),
        {"asset_key": 1},
        {"asset_key": "x".repeat(600)}
    ]);
    let (judged, intents) = judged(&candidates);
    let shown: Vec<String> = judged
        .iter()
        .map(|one| match &one.decision {
            Decision::Connect { .. } => "connect".to_string(),
            Decision::InventoryOnly { .. } => "inventory_only".to_string(),
            Decision::Rejected { reason, rejection_type } => format!("{rejection_type:?}: {reason}"),
        })
        .collect();
    insta::with_settings!({snapshot_path => concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots"), prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!("handoff_decisions", shown.join("\n"));
    });
    assert_eq!(intents.len(), 1);
}

#[test]
fn an_eligible_candidate_determines_the_evidence_of_a_shared_connection() {
    let shadow = candidate_of("a", "Salesforce", "shadow");
    let governed = candidate_of("b", "Salesforce", "governed");
    for candidates in [json!([shadow, governed]), json!([governed, shadow])] {
        let (_, intents) = judged(&candidates);
        assert_eq!((intents.len(), intents[0].evidence.status.as_str()), (1, "Sanctioned"));
    }
}

#[test]
fn only_another_time_of_the_evidence_is_no_new_document() {
    let (_, first) = judged(&json!([candidate_of("a", "Salesforce", "governed")]));
    let mut later = first[0].clone();
    later.evidence.ts = "2027-01-01T00:00:00Z".to_string();
    assert_eq!(with_known_time(later.clone(), Some(first[0].clone())), first[0]);
    assert_eq!(with_known_time(later.clone(), None), later);
    later.evidence.status = "Shadow".to_string();
    assert_eq!(with_known_time(later.clone(), Some(first[0].clone())), later);
}

#[test]
fn the_envelope_names_every_problem_and_the_time_of_sending_is_not_content() {
    let refusal = parse(b"{\"tenant_id\": 7, \"candidates\": {}}").expect_err("a refusal");
    let pointers: Vec<&str> = refusal.problems.iter().map(|problem| problem.pointer.as_str()).collect();
    assert_eq!(pointers, ["/aod_discovery_id", "/tenant_id", "/entity_id", "/candidates"]);
    let content = |text: &str| parse(text.as_bytes()).expect("a handoff").content;
    let base = "\"tenant_id\": \"t\", \"entity_id\": \"e\", \"candidates\": []";
    let first = content(&format!("{{\"aod_discovery_id\": \"r\", {base}}}"));
    let second = content(&format!("{{{base}, \"handoff_timestamp\": \"2026-01-01T00:00:00Z\", \"aod_discovery_id\": \"r\"}}"));
    assert_eq!(first, second);
    assert_eq!(parse(format!("{{\"run_id\": \"old\", {base}}}").as_bytes()).expect("a handoff").run, "old");
    let many =
        format!("{{\"run_id\": \"r\", \"tenant_id\": \"t\", \"entity_id\": \"e\", \"candidates\": [{}0]}}", "0,".repeat(10_000));
    assert_eq!(parse(many.as_bytes()).expect_err("too many").fault, Fault::TooLarge);
}

proptest! {
    /// Nothing that a tool sends panics, and every candidate has a result.
    #[test]
    fn any_candidates_are_judged(candidates in proptest::collection::vec(value(), 0..8)) {
        let Judgement { candidates: judged, intents, not_allowed } = judge(&candidates, &policy(), "autonomy", Timestamp(0));
        prop_assert!(intents.iter().all(|intent| !not_allowed.contains(&intent.connection_id())));
        prop_assert_eq!(judged.len(), candidates.len());
        prop_assert!(intents.len() <= judged.len());
        let stored = serde_json::to_string(&judged).unwrap();
        prop_assert_eq!(serde_json::from_str::<Vec<JudgedCandidate>>(&stored).unwrap(), judged);
    }
}

fn value() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        proptest::sample::select(vec!["salesforce", "provision", "inventory_only", "governed", "github.com"])
            .prop_map(Value::from)
    ];
    let names = vec![
        "asset_key",
        "aod_asset_id",
        "vendor_name",
        "governance_status",
        "execution_allowed",
        "action_type",
        "known_endpoints",
        "x",
    ];
    let object = proptest::collection::btree_map(proptest::sample::select(names), scalar.clone(), 0..8)
        .prop_map(|fields| Value::Object(fields.into_iter().map(|(name, value)| (name.to_string(), value)).collect()));
    prop_oneof![3 => object, 1 => scalar.clone(), 1 => proptest::collection::vec(scalar, 0..3).prop_map(Value::Array)]
}
