//! Credentials that sign requests, through the whole binary: DPoP of Okta, and what a refused signature says.

use crate::support::daemon::{Workspace, intent_with_locator, until};
use crate::support::lowcode_families::{MockVendor, json_response_with};
use crate::support::manifests::things_manifest;
use crate::support::vendors::*;
use serde_json::{Value, json};

/// A workspace with these entries of `credentials.principals`.
fn workspace(principals: &str) -> Workspace {
    let workspace = Workspace::new();
    workspace.write_policy(&format!("allowlist: [openapi]\ncredentials:\n  principals:\n{principals}"));
    workspace
}

/// The value of the header `name` of each request to `path`.
fn headers(vendor: &MockVendor, path: &str, name: &str) -> Vec<String> {
    let requests = vendor.requests().into_iter().filter(|request| request.path() == path);
    requests.map(|request| request.header(name).unwrap_or_default().to_string()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_call_to_okta_carries_a_proof_of_its_own_and_the_nonce_of_the_api() {
    let vendor = okta(OktaDpop::RequiredWithApiNonce).await;
    let mut workspace = workspace(&format!(
        "    okta: {{kind: okta, org: \"{}\", client_id: {CLIENT_ID}, key: env:K, scopes: [okta.users.read, okta.groups.read]}}\n",
        vendor.base
    ));
    workspace.set("K", &vendor_key());
    let url = format!("{}/openapi.json", vendor.base);
    workspace.intent_file("okta.json", &intent_with_locator("openapi", &url, "sp:okta"));
    workspace.intent_file("second.json", &intent_with_locator("openapi", &format!("{url}?second"), "sp:okta"));
    let daemon = workspace.serve().await;
    let active = daemon.until_state(&url, "ACTIVE").await;
    daemon.until_state(&format!("{url}?second"), "ACTIVE").await;
    assert_eq!(vendor.calls().iter().filter(|call| *call == "POST /oauth2/v1/token").count(), 3, "one token for both");
    let proofs = headers(&vendor, "/things", "dpop");
    let mut distinct = proofs.clone();
    distinct.sort();
    distinct.dedup();
    assert!(proofs.len() >= 4 && distinct.len() == proofs.len(), "{}", proofs.len());
    assert!(headers(&vendor, "/things", "authorization").iter().all(|value| *value == format!("DPoP {OKTA_TOKEN}")));
    let id = active["connection_id"].as_str().expect("an id");
    let steps = daemon.get(&format!("/connections/{id}")).await.body["steps"].clone();
    let credential = steps.as_array().expect("steps").iter().find(|step| step["step"] == "credential").expect("a step").clone();
    assert_eq!(credential["evidence"]["signature"], "DPoP, ES256", "{credential}");
    assert_eq!(credential["evidence"]["scopes"], "okta.users.read okta.groups.read", "{credential}");
    daemon.stop().await;
    for (path, bytes) in workspace.files() {
        assert!(!String::from_utf8_lossy(&bytes).contains(OKTA_TOKEN), "{}", path.display());
    }
}

/// An API with TBA that refuses every signed call in this way.
async fn refusing(status: u16, challenge: &'static str, date: Option<&'static str>) -> MockVendor {
    MockVendor::start(move |home, request| {
        if request.path() != "/things" {
            return api(home, request, false).unwrap_or_else(|| json_response_with(404, &[], &json!({})));
        }
        let signed = request.header("authorization").is_some_and(|value| value.starts_with("OAuth realm=\"1234567_SB1\""));
        let mut headers = vec![("www-authenticate", challenge)];
        headers.extend(date.map(|date| ("date", date)));
        let body = json!({"title": "Unauthorized", "o:errorDetails": [{"detail": "Invalid login attempt.", "o:errorCode": "INVALID_LOGIN"}]});
        if signed { json_response_with(status, &headers, &body) } else { json_response_with(400, &[], &json!({})) }
    })
    .await
}

const TBA: &str = "account: 1234567_SB1, consumer_key: env:CK, consumer_secret: env:CS, token_id: env:TI, token_secret: env:TS";

async fn netsuite_failure(vendor: &MockVendor, url: &str, state: &str) -> Value {
    let mut workspace = workspace(&format!("    ns: {{kind: netsuite, {TBA}, url: \"{url}\"}}\n"));
    for (name, value) in
        [("CK", "consumer-key-1234"), ("CS", "consumer-secret-1234"), ("TI", "token-id-1234"), ("TS", "token-secret-1234")]
    {
        workspace.set(name, value);
    }
    let id = format!("{}/openapi.json", vendor.base);
    workspace.intent_file("ns.json", &intent_with_locator("openapi", &id, "sp:ns"));
    let daemon = workspace.serve().await;
    daemon.until_state(&id, state).await["error"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn netsuite_s_reason_for_a_refused_signature_reaches_the_connection() {
    for (challenge, title, fix) in [
        (
            "OAuth realm=\"1234567_SB1\", error=\"consumer_key_unknown\"",
            "does not know the consumer key of service principal ns",
            "Manage Integrations",
        ),
        (
            "OAuth realm=\"1234567_SB1\", error=\"token_rejected\", error_description=\"Invalid login attempt.\"",
            "does not accept the access token",
            "Login Audit Trail",
        ),
        (
            "OAuth realm=\"1234567_SB1\"",
            "refused the login of service principal ns and did not say why",
            "InvalidSignature: store the secrets again",
        ),
    ] {
        let vendor = refusing(401, challenge, None).await;
        let error = netsuite_failure(&vendor, &vendor.base, "AWAITING_CREDENTIALS").await;
        assert!(error["title"].as_str().is_some_and(|text| text.contains(title)), "{title}: {error}");
        assert!(error["fix"].as_str().is_some_and(|text| text.contains(fix)), "{fix}: {error}");
    }
    let vendor = refusing(401, "OAuth error=\"timestamp_refused\"", Some("Sun, 08 Nov 2020 18:00:00 GMT")).await;
    let error = netsuite_failure(&vendor, &vendor.base, "AWAITING_CREDENTIALS").await;
    assert!(error["title"].as_str().is_some_and(|text| text.contains("ahead of that of NetSuite")), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signer_of_another_origin_signs_nothing_and_says_so() {
    let vendor =
        MockVendor::start(|home, request| api(home, request, false).unwrap_or_else(|| json_response_with(404, &[], &json!({}))))
            .await;
    let other = MockVendor::start(|_, _| json_response_with(200, &[], &json!([]))).await;
    let mut workspace = workspace(&format!("    ns: {{kind: netsuite, {TBA}, url: \"{}\"}}\n", other.base));
    for name in ["CK", "CS", "TI", "TS"] {
        workspace.set(name, "a-value-of-the-test");
    }
    let id = format!("{}/openapi.json", vendor.base);
    workspace.intent_file("ns.json", &intent_with_locator("openapi", &id, "sp:ns"));
    let daemon = workspace.serve().await;
    let found = daemon.until_connection(&id, "a failure", |one| one["error"]["title"].is_string()).await;
    assert_eq!(
        found["error"]["title"],
        format!("no request was signed: the OAuth 1.0a credential signs requests to {} only", other.base),
        "{found}"
    );
    assert!(headers(&vendor, "/things", "authorization").iter().all(String::is_empty));
    assert!(other.calls().is_empty());
    until("the step names the origin", || async {
        let step =
            daemon.get(&format!("/connections/{}", found["connection_id"].as_str().unwrap_or_default())).await.body.to_string();
        (step.contains(&format!("\"signs_requests_to\":\"{}\"", other.base)), step)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_needs_nothing_of_its_own_for_signed_requests() {
    let vendor = okta(OktaDpop::RequiredWithApiNonce).await;
    let mut workspace = Workspace::new();
    std::fs::create_dir(workspace.path("policy/manifests")).expect("a folder");
    workspace.replace("policy/manifests/acme_things.yaml", things_manifest(vendor.host(), &["token"]).as_bytes());
    workspace.write_policy(&format!(
        "allowlist: [acme_things]\nmanifests: {{dir: \"{}\"}}\ncredentials:\n  principals:\n    \
         okta: {{kind: okta, org: \"{}\", client_id: {CLIENT_ID}, key: env:K, dpop: true, scopes: [okta.users.read]}}\n",
        workspace.path("policy/manifests").display(),
        vendor.base
    ));
    workspace.set("K", &vendor_key());
    workspace.intent_file("things.json", &intent_with_locator("acme_things", vendor.host(), "sp:okta"));
    let daemon = workspace.serve().await;
    let active = daemon.until_state(vendor.host(), "ACTIVE").await;
    assert_eq!(active["first_sync_rows"], 2, "{active}");
    assert!(headers(&vendor, "/things", "authorization").iter().all(|value| *value == format!("DPoP {OKTA_TOKEN}")));
}
