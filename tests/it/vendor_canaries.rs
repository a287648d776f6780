//! No secret of a service principal appears in any file of AAM, whatever a hostile token endpoint or API sends back.

use crate::support::daemon::{Workspace, intent_with_locator, page_paths};
use crate::support::leaky_service::Canary;
use crate::support::lowcode_families::{MockVendor, json_response_with};
use serde_json::json;

/// A server that refuses everything but the description, and repeats what it was sent in every encoding.
async fn hostile(canary: &Canary) -> MockVendor {
    let leak = canary.leak();
    // A header cannot have every character, and a quoted text in it no quote.
    let forms: Vec<String> = canary.forms().into_iter().filter(|form| !form.contains(['"', '\\'])).collect();
    MockVendor::start(move |home, request| {
        if let Some(answer) = crate::support::vendors::api(home, request, false).filter(|_| request.path() == "/openapi.json") {
            return answer;
        }
        let header = forms.join(" ");
        let sent = format!("{:?} {}", request.headers, request.body);
        let challenge = format!("OAuth error=\"{header}\", error_description=\"{header}\"");
        let headers = [("www-authenticate", challenge.as_str()), ("dpop-nonce", header.as_str())];
        json_response_with(
            401,
            &headers,
            &json!({"error": leak, "error_description": leak, "reason": leak, "message": sent, "errorSummary": leak}),
        )
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_token_endpoint_gets_no_secret_into_a_file() {
    for kind in ["zoom", "salesforce", "box", "netsuite"] {
        let canary = Canary::new(kind);
        let vendor = hostile(&canary).await;
        let url = &vendor.base;
        let principal = match kind {
            "zoom" => format!("account_id: a, client_id: c, secret: env:S, token_url: \"{url}/oauth/token\""),
            "salesforce" => format!("domain: \"{url}\", client_id: c, secret: env:S"),
            "box" => format!("client_id: c, enterprise_id: e, secret: env:S, token_url: \"{url}/oauth2/token\""),
            _ => format!(
                "account: a, url: \"{url}\", consumer_key: env:S, consumer_secret: env:S, token_id: env:S, token_secret: env:S"
            ),
        };
        let mut workspace = Workspace::new();
        workspace
            .write_policy(&format!("allowlist: [openapi]\ncredentials: {{principals: {{it: {{kind: {kind}, {principal}}}}}}}\n"));
        workspace.set("S", &canary.value);
        let id = format!("{url}/openapi.json");
        workspace.intent_file("it.json", &intent_with_locator("openapi", &id, "sp:it"));
        let daemon = workspace.serve().await;
        let found = daemon.until_connection(&id, "a failure", |one| one["error"]["title"].is_string()).await;
        let one = found["connection_id"].as_str().expect("an id").to_string();
        let mut paths = page_paths(std::slice::from_ref(&one));
        paths.extend([
            format!("/connections/{one}"),
            format!("/connections/{one}/versions?limit=1000"),
            "/dashboard.json".to_string(),
        ]);
        for path in paths {
            let shown = daemon.get(&path).await.body.to_string();
            assert_eq!(canary.found_in(shown.as_bytes()), None, "{kind}: {path}: {shown}");
        }
        let sent = vendor.requests().iter().any(|request| request.call.starts_with("POST") || request.path() == "/things");
        assert!(sent, "{kind}: the hostile server was called: {:?}", vendor.calls());
        daemon.stop().await;
        for (path, bytes) in workspace.files() {
            assert_eq!(canary.found_in(&bytes), None, "{kind}: {}", path.display());
        }
    }
}
