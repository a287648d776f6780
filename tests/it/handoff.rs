//! Candidates of a discovery tool: `POST /api/handoff/aod/receive`, with the payloads that the tool sends.

use crate::support::bearer_service::BearerService;
use crate::support::daemon::{ApiResponse, Daemon, Workspace, until};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const RECEIVE: &str = "/api/handoff/aod/receive";
const TENANT: &str = "2f1c6c0e-7f0b-4a52-9d6f-6f1f5c0d9b11";

/// A candidate as the tool builds it.
fn candidate(number: usize, vendor: &str) -> Value {
    json!({
        "asset_key": format!("asset{number}.example"),
        "vendor_name": vendor,
        "display_name": format!("{vendor} App"),
        "category": "crm",
        "governance_status": "governed",
        "known_endpoints": [format!("https://asset{number}.example")],
        "execution_allowed": true,
        "action_type": "provision",
        "aod_run_id": "run-1",
        "aod_asset_id": format!("asset-{number}"),
        "connected_via_plane": "API_GATEWAY"
    })
}

fn handoff(run: &str, candidates: &[Value]) -> Value {
    json!({
        "aod_discovery_id": run,
        "tenant_id": TENANT,
        "entity_id": "Acme-1A2B",
        "snapshot_name": "Acme-1A2B",
        "candidates": candidates,
        "fabric_planes": [{"plane_type": "API_GATEWAY", "vendor": "kong", "is_healthy": true}],
        "sors": [{"app_name": "Salesforce", "domain": "CRM"}],
        "policy_version": "v2.1"
    })
}

/// The section handoff with one vendor for each file.
fn vendors(files: &[(String, String)]) -> String {
    let entry = |(name, path): &(String, String)| {
        format!("    {name}: {{source_type: filesource, resource_ids: [\"{path}\"], owner: data@acme.example}}\n")
    };
    format!("handoff:\n  vendors:\n{}", files.iter().map(entry).collect::<String>())
}

fn reasons(answer: &Value) -> Vec<(&str, &str)> {
    let all = answer["rejected_reasons"].as_array().map(Vec::as_slice).unwrap_or_default();
    let text = |one: &'_ Value, key: &str| one[key].as_str().unwrap_or_default().to_string();
    assert!(all.iter().all(|one| !text(one, "reason").is_empty()), "{all:?}");
    all.iter()
        .map(|one| (one["asset_key"].as_str().unwrap_or_default(), one["rejection_type"].as_str().unwrap_or_default()))
        .collect()
}

async fn detail(daemon: &Daemon, answer: &Value) -> Vec<Value> {
    let id = answer["handoff_id"].as_str().expect("a handoff id");
    let response = daemon.get(&format!("/api/handoff/aod/{id}")).await;
    assert_eq!(response.status, 200, "{}", response.body);
    response.body["candidates"].as_array().cloned().unwrap_or_default()
}

async fn until_all_active(daemon: &Daemon, answer: &Value) {
    until("every connection is ACTIVE", || async {
        let candidates = detail(daemon, answer).await;
        let connect: Vec<&Value> = candidates.iter().filter(|one| one["decision"] == "connect").collect();
        (!connect.is_empty() && connect.iter().all(|one| one["status"] == "ACTIVE"), format!("{connect:?}"))
    })
    .await;
}

#[tokio::test]
async fn candidates_become_connections_with_what_the_policy_supplies() {
    let workspace = Workspace::new();
    workspace.write_policy(&vendors(&[("Salesforce".to_string(), workspace.csv("crm.csv", 3))]));
    let daemon = workspace.serve().await;
    let mut inventory = candidate(2, "Salesforce");
    inventory["action_type"] = json!("inventory_only");
    let mut forbidden = candidate(3, "Salesforce");
    forbidden["execution_allowed"] = json!(false);
    let mut broken = candidate(5, "Salesforce");
    broken["asset_key"] = json!(null);
    let sent = [candidate(1, "SALESFORCE"), inventory, forbidden, candidate(4, "Zoom"), broken, json!("no object")];
    let answer = daemon.post(RECEIVE, &handoff("run-1", &sent)).await;
    let count = |name: &str| answer.body[format!("candidates_{name}")].as_u64();
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!((count("received"), count("accepted"), count("rejected")), (Some(6), Some(3), Some(3)), "{}", answer.body);
    assert_eq!((count("inventory_only"), &answer.body["connections"]), (Some(2), &json!(1)));
    assert_eq!(reasons(&answer.body), [("asset4.example", "unmapped_vendor"), ("", "validation"), ("", "validation")]);
    let reason = answer.body["rejected_reasons"][0]["reason"].as_str().expect("a reason");
    assert!(reason.contains("add one under handoff.vendors: \"Zoom\": {source_type:"), "{reason}");
    until_all_active(&daemon, &answer.body).await;
    // What is for the inventory is recorded and not connected.
    let candidates = detail(&daemon, &answer.body).await;
    let decisions: Vec<&str> = candidates.iter().map(|one| one["decision"].as_str().unwrap_or_default()).collect();
    assert_eq!(decisions, ["connect", "inventory_only", "inventory_only", "rejected", "rejected", "rejected"]);
    assert_eq!((&candidates[1]["connection_id"], &candidates[1]["display_name"]), (&Value::Null, &json!("Salesforce App")));
    assert_eq!(daemon.funnel().await["received"], 1);
    let connection = &daemon.connections().await[0];
    assert_eq!((&connection["owner"]["user"], &connection["status"]), (&json!("data@acme.example"), &json!("ACTIVE")));
    // The fix of the refused vendor: add the entry to the policy, and hand over a new run.
    let files = [("Salesforce".to_string(), workspace.csv("crm.csv", 3)), ("zoom".to_string(), workspace.csv("zoom.csv", 2))];
    workspace.write_policy(&vendors(&files));
    until("the vendor is accepted", || async {
        let run = format!("run-{}", workspace.rows());
        let answer = daemon.post(RECEIVE, &handoff(&run, &[candidate(4, "Zoom")])).await;
        (answer.body["candidates_accepted"] == 1, answer.body.to_string())
    })
    .await;
    // A later run that does not allow it any more ends the connection.
    daemon.until_state(&files[1].1, "ACTIVE").await;
    let mut stopped = candidate(4, "Zoom");
    stopped["execution_allowed"] = json!(false);
    let answer = daemon.post(RECEIVE, &handoff("run-last", &[stopped])).await;
    assert_eq!(answer.body["candidates_inventory_only"], 1, "{}", answer.body);
    daemon.until_state(&files[1].1, "RETIRED").await;
    // A withdrawal over the API retires what was handed over.
    let id = connection["connection_id"].as_str().expect("an id");
    assert_eq!(daemon.delete(&format!("/connections/{id}")).await.body["status"], "RETIRED");
}

/// The bytes of an answer.
async fn raw(daemon: &Daemon, body: &Value) -> (u16, Vec<u8>) {
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let request = client.post(daemon.url(RECEIVE)).bearer_auth(daemon.token.expose());
    let response = request.header("content-type", "application/json").body(body.to_string()).send().await.expect("an answer");
    (response.status().as_u16(), response.bytes().await.expect("a body").to_vec())
}

#[tokio::test]
async fn the_same_run_is_answered_again_and_other_content_is_a_conflict() {
    let workspace = Workspace::new();
    workspace.write_policy(&vendors(&[("salesforce".to_string(), workspace.csv("crm.csv", 3))]));
    let daemon = workspace.serve().await;
    let body = handoff("run-1", &[candidate(1, "Salesforce"), candidate(2, "Zoom")]);
    let (first, second, third) = tokio::join!(raw(&daemon, &body), raw(&daemon, &body), raw(&daemon, &body));
    assert_eq!((first.0, &first), (200, &second));
    assert_eq!(first, third);
    let answer: Value = serde_json::from_slice(&first.1).expect("JSON");
    until_all_active(&daemon, &answer).await;
    let rows = workspace.rows();
    // The order of keys and the time of sending are not content.
    let mut resent = body.clone();
    resent["handoff_timestamp"] = json!("2026-11-09T08:00:00Z");
    assert_eq!(raw(&daemon, &resent).await, first);
    let mut changed = body.clone();
    changed["candidates"][0]["display_name"] = json!("Another name");
    let refused = daemon.post(RECEIVE, &changed).await;
    assert_eq!((refused.status, refused.body["code"].as_str()), (409, Some("HANDOFF_CHANGED")), "{}", refused.body);
    assert_eq!(workspace.rows(), rows, "neither appended anything");
    daemon.kill();
    let daemon = workspace.serve().await;
    assert_eq!(raw(&daemon, &body).await, first, "the answer survives a crash");
    assert_eq!(daemon.post(RECEIVE, &changed).await.status, 409);
    // The next run finds the same systems: nothing is connected again.
    let next = daemon.post(RECEIVE, &handoff("run-2", &[candidate(1, "Salesforce")])).await;
    assert_eq!(next.body["candidates_accepted"], 1);
    assert_eq!(workspace.rows(), rows + 1, "only the handoff itself is new");
    let listed = daemon.get("/api/handoff/aod?limit=1").await.body;
    assert_eq!((&listed["total"], &listed["handoffs"][0]["aod_discovery_id"]), (&json!(2), &json!("run-2")), "{listed}");
    let cursor = listed["next_cursor"].as_str().expect("a cursor").to_string();
    let older = daemon.get(&format!("/api/handoff/aod?limit=1&cursor={cursor}")).await.body;
    assert_eq!((&older["handoffs"][0]["aod_discovery_id"], &older["next_cursor"]), (&json!("run-1"), &Value::Null), "{older}");
    assert_eq!(daemon.get("/api/handoff/aod/run-1").await.body["handoff_id"], answer["handoff_id"]);
    assert_eq!(daemon.get("/api/handoff/aod/unknown").await.status, 404);
}

#[tokio::test]
async fn a_rehearsal_with_650_candidates_is_answered_at_once_and_connected_in_the_background() {
    let workspace = Workspace::new();
    let files: Vec<(String, String)> =
        (0..120).map(|number| (format!("vendor-{number}"), workspace.csv(&format!("{number}.csv"), 2))).collect();
    workspace.write_policy(&vendors(&files));
    let daemon = workspace.serve().await;
    let sent: Vec<Value> = (0..650)
        .map(|number| {
            let mut candidate = candidate(number, &format!("Vendor {}", number % 130));
            match number % 13 {
                0 => candidate["execution_allowed"] = json!(false),
                1 => candidate["governance_status"] = json!("shadow"),
                2 => candidate["asset_key"] = json!(""),
                _ => {}
            }
            candidate
        })
        .collect();
    let body = handoff("rehearsal", &sent);
    let started = Instant::now();
    let answer = daemon.post(RECEIVE, &body).await;
    assert!(started.elapsed() < Duration::from_secs(10), "answered after {:?}", started.elapsed());
    assert_eq!((answer.status, &answer.body["candidates_received"]), (200, &json!(650)), "{}", answer.body);
    let number = |name: &str| answer.body[name].as_u64().unwrap_or_default();
    assert_eq!(number("candidates_accepted") + number("candidates_rejected"), 650);
    assert_eq!(number("candidates_inventory_only"), 50);
    let expected = number("connections");
    until("every sanctioned connection is ACTIVE", || async {
        let funnel = daemon.funnel().await;
        let done = funnel["received"] == json!(expected) && funnel["pending"] == 0 && funnel["error"] == 0;
        (done && funnel["active"].as_u64() > Some(80), funnel.to_string())
    })
    .await;
    let first =
        daemon.get(&format!("/api/handoff/aod/{}?limit=400", answer.body["handoff_id"].as_str().expect("an id"))).await.body;
    let cursor = first["next_cursor"].as_str().expect("a second page").to_string();
    let path = format!("/api/handoff/aod/rehearsal?cursor={cursor}");
    let second = daemon.get(&path).await.body;
    let len = |page: &Value| page["candidates"].as_array().map_or(0, Vec::len);
    assert_eq!((len(&first), len(&second), &second["next_cursor"]), (400, 250, &Value::Null));
    let shadow = &first["candidates"][1];
    assert_eq!((&shadow["decision"], &shadow["status"]), (&json!("connect"), &json!("REJECTED")), "the policy decides: {shadow}");
}

#[tokio::test]
async fn the_locator_of_the_policy_needs_no_grant_of_the_token_and_ends_with_the_entry() {
    let mut workspace = Workspace::new();
    workspace.set("CRM_TOKEN", "the-token-of-the-crm");
    let service = BearerService::start("the-token-of-the-crm").await;
    let (token, entry) = workspace.new_token("aod", "intents:write, registry:read", "autonomy");
    let entry = entry.replace(", locators: [\"env:*\"]", "");
    let api = format!("api: {{tokens: [{entry}]}}\n");
    let vendor = format!(
        "handoff: {{vendors: {{crm: {{source_type: openapi, resource_ids: [\"{}\"], credential_locator: \"env:CRM_TOKEN\", owner: crm@acme.example}}}}}}\n",
        service.url("acme")
    );
    workspace.write_policy(&format!("{api}{vendor}"));
    let mut daemon = workspace.serve().await;
    daemon.token = token;
    let answer = daemon.post(RECEIVE, &handoff("run-1", &[candidate(1, "CRM")])).await;
    assert_eq!(answer.body["candidates_accepted"], 1, "{}", answer.body);
    until_all_active(&daemon, &answer.body).await;
    // Without the entry, the policy no longer says that this credential may be used.
    workspace.write_policy(&api);
    let waiting = daemon.until_state(&service.url("acme"), "AWAITING_CREDENTIALS").await;
    assert!(waiting["error"]["fix"].as_str().is_some_and(|fix| fix.contains("handoff.vendors")), "{waiting}");
    workspace.write_policy(&format!("{api}{vendor}"));
    daemon.until_state(&service.url("acme"), "ACTIVE").await;
}

#[tokio::test]
async fn tenants_get_the_namespace_of_the_policy_or_of_the_token() {
    let workspace = Workspace::new();
    let (token, entry) = workspace.new_token("aod", "intents:write, registry:read", "autonomy, acme, team");
    let (foreign, other) = workspace.new_token("foreign", "intents:write, registry:read", "elsewhere");
    let policy = |namespaces: &str| {
        let file = vendors(&[("salesforce".to_string(), workspace.csv("crm.csv", 3))]);
        format!("api: {{tokens: [{entry}, {other}]}}\n{file}  namespaces: {{{namespaces}}}\n")
    };
    workspace.write_policy(&policy("globex: team"));
    let mut daemon = workspace.serve().await;
    daemon.token = token;
    let send = async |daemon: &Daemon, run: &str, tenant: &str, entity: &str| -> ApiResponse {
        let mut body = handoff(run, &[candidate(1, "Salesforce")]);
        (body["tenant_id"], body["entity_id"]) = (json!(tenant), json!(entity));
        daemon.post(RECEIVE, &body).await
    };
    for (run, tenant, entity, namespace) in
        [("1", TENANT, "Acme-1A2B", "autonomy"), ("2", TENANT, "acme", "acme"), ("3", "globex", "acme", "team")]
    {
        let answer = send(&daemon, run, tenant, entity).await;
        assert_eq!((answer.status, &answer.body["namespace"]), (200, &json!(namespace)), "{}", answer.body);
    }
    // The same run id of two namespaces is two runs.
    let again = send(&daemon, "1", "globex", "acme").await;
    assert_eq!((again.status, &again.body["namespace"]), (200, &json!("team")));
    daemon.token = foreign;
    let refused = send(&daemon, "4", TENANT, "Acme").await;
    assert_eq!((refused.status, refused.body["code"].as_str()), (403, Some("NAMESPACE_NOT_ALLOWED")), "{}", refused.body);
    assert_eq!(daemon.get("/api/handoff/aod/1").await.status, 404, "another namespace is not revealed");
    // The envelope: every problem is named, and nothing is recorded.
    let rows = workspace.rows();
    let invalid = daemon.post(RECEIVE, &json!({"aod_discovery_id": "5", "candidates": []})).await;
    let pointers: Vec<&str> =
        invalid.body["problems"].as_array().into_iter().flatten().filter_map(|one| one["pointer"].as_str()).collect();
    assert_eq!((invalid.status, pointers), (422, vec!["/tenant_id", "/entity_id"]), "{}", invalid.body);
    assert_eq!(daemon.post(RECEIVE, &json!([])).await.status, 422);
    let mut many = handoff("6", &[]);
    many["candidates"] = json!(vec![0; 10_001]);
    assert_eq!(daemon.post(RECEIVE, &many).await.status, 413);
    assert_eq!(workspace.rows(), rows);
}
