//! The example of a custom manifest in the documentation, against a server that answers as HubSpot documents.

use crate::support::lowcode_families::{
    EngineFixture, MockVendor, ReceivedRequest, json_response_with, policy, remaining_steps, stream_names,
};
use crate::support::openapi::MockResponse;
use aam::model::Class;
use serde_json::{Value, json};

const MANIFEST: &str = include_str!("../../docs/examples/hubspot.yaml");

/// Paths, paging and error bodies are those of developers.hubspot.com. The token may not read deals.
fn hubspot(_home: &str, request: &ReceivedRequest) -> MockResponse {
    if request.token != "hub-token-reads-1" {
        let body =
            json!({"status": "error", "message": "Authentication credentials not found.", "category": "INVALID_AUTHENTICATION"});
        return json_response_with(401, &[], &body);
    }
    let query = request.call.split('?').nth(1).unwrap_or_default();
    let parameter = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}=")).map(str::to_string));
    match request.path() {
        "/account-info/v3/details" => {
            let account = json!({"portalId": 123_456, "accountType": "STANDARD", "timeZone": "US/Eastern", "companyCurrency": "USD",
                "uiDomain": "app.hubspot.com", "dataHostingLocation": "na1"});
            json_response_with(200, &[], &account)
        }
        "/crm/v3/owners" | "/crm/v3/objects/companies" if parameter("limit").is_some_and(|limit| limit == "20") => {
            let first: usize = parameter("after").and_then(|after| after.parse().ok()).unwrap_or(0);
            let results: Vec<Value> = (first..first + 3).map(|id| json!({"id": id.to_string(), "archived": false})).collect();
            let paging = (first == 0).then(|| json!({"next": {"after": "3", "link": "https://api.hubapi.com/next"}}));
            json_response_with(
                200,
                &[],
                &match paging {
                    Some(paging) => json!({"results": results, "paging": paging}),
                    None => json!({"results": results}),
                },
            )
        }
        "/crm/v3/objects/deals" => {
            let body = json!({"status": "error", "category": "MISSING_SCOPES",
                "message": "This app hasn't been granted all required scopes to make this call."});
            json_response_with(403, &[], &body)
        }
        _ => json_response_with(404, &[], &json!({"status": "error", "message": "resource not found"})),
    }
}

#[tokio::test]
async fn the_example_of_a_custom_manifest_passes_every_step() {
    let vendor = MockVendor::start(hubspot).await;
    let policy = policy(&format!(
        "manifests: {{dir: m, sources: {{hubspot: {{hosts: [\"{}\"], resource: portal_id, identity: {{stream: account, field: \
         /portalId}}}}}}}}",
        vendor.base
    ));
    let fixture = EngineFixture::with_manifest(policy, "hubspot", MANIFEST);
    let id = |portal: &str| format!("base_url={}&portal_id={portal}", vendor.base);

    let opened = fixture.open("hubspot", &id("123456"), Some("hub-token-reads-1")).await.unwrap();
    assert_eq!(opened.identity["matched"], "portalId is 123456");
    let (discovery, sample) = remaining_steps(&opened).await.unwrap();
    assert_eq!(stream_names(&discovery), ["companies", "deals", "owners"]);
    assert!(sample.rows > 0, "{:?}", sample.evidence);
    assert!(vendor.calls().iter().all(|call| call.starts_with("GET ")), "{:?}", vendor.calls());

    let wrong = fixture.open("hubspot", &id("123456"), Some("hub-token-wrong")).await.err().unwrap();
    assert_eq!(wrong.class, Class::CredentialRejected, "{wrong:?}");
    let other = fixture.open("hubspot", &id("999"), Some("hub-token-reads-1")).await.err().unwrap();
    assert_eq!(other.title, "hubspot answers as portalId 123456, and the resource id names 999");
}
