//! What the connections of a service principal share, and that a hostile token endpoint shows no secret.

use crate::principals::{SECRET, client, server, workspace};
use crate::support::daemon::intent_with_locator;
use crate::support::github::github;
use crate::support::leaky_service::Canary;
use crate::support::lowcode_families::{MockVendor, json_response_with, slack};
use crate::support::minting::Minting;
use crate::support::session::UnlimitedBudget;
use crate::support::token_endpoint::{TokenService, assert_active, attempt, oauth_error, pem, token_answer};
use aam::clock::SystemClock;
use aam::egress::Egress;
use aam::egress::resolve::SystemLookup;
use aam::families::Family;
use aam::model::{ConnectionId, Locator};
use aam::providers::{CredentialRequest, Process, Providers, ReadEnv, Reading};
use serde_json::json;
use std::sync::Arc;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_of_a_principal_share_one_token_until_the_source_rejects_it() {
    let service = TokenService::start(server("client_secret_basic")).await;
    let workspace = workspace(&client(&service, "secret: \"env:CRM_SECRET\""));
    let resources: Vec<String> = (0..4).map(|n| format!("{}?n={n}", service.resource())).collect();
    let intents: Vec<_> = resources.iter().map(|id| intent_with_locator("openapi", id, "sp:crm")).collect();
    workspace.intent_file("all.json", &json!(intents));
    let daemon = workspace.serve().await;
    for resource in &resources {
        daemon.until_state(resource, "ACTIVE").await;
    }
    assert_eq!(service.token_calls().len(), 1, "4 connections share one token");
    // A token that the vendor revoked is minted anew once, and the attempt goes on.
    service.revoke_all();
    let one = daemon.until_state(&resources[0], "ACTIVE").await;
    let id = one["connection_id"].as_str().expect("an id");
    let healed = daemon.post(&format!("/connections/{id}/heal"), &json!({})).await;
    assert_eq!(healed.body["status"], "ACTIVE", "{}", healed.body);
    assert_eq!(service.token_calls().len(), 2);
}

/// A token keeps the permissions that it was issued with, so one from the cache hides a permission that was granted since.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cached_token_without_a_permission_is_minted_anew_once() {
    let service = TokenService::start(server("client_secret_basic")).await;
    let workspace = workspace(&client(&service, "secret: \"env:CRM_SECRET\""));
    workspace.intent_file("one.json", &intent_with_locator("openapi", &service.resource(), "sp:crm"));
    service.deny_first(1);
    let daemon = workspace.serve().await;
    let denied = daemon.until_state(&service.resource(), "AWAITING_CREDENTIALS").await;
    assert_eq!(service.token_calls().len(), 1, "a token of this attempt has the permissions of now");
    let id = denied["connection_id"].as_str().expect("an id");
    let healed = daemon.post(&format!("/connections/{id}/heal"), &json!({})).await;
    assert_eq!(healed.body["status"], "ACTIVE", "{}", healed.body);
    assert_eq!(service.token_calls().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minted_token_opens_the_families_that_take_one_token() {
    for (family, id, token, path, vendor) in [
        ("github", "acme", "gh-token-reads-1", "", MockVendor::start(github).await),
        ("slack", "T0ACME", "xoxb-reads-1", "/api", MockVendor::start(slack).await),
    ] {
        let service = TokenService::start(move |_| {
            json_response_with(200, &[], &json!({"access_token": token, "token_type": "bearer", "expires_in": "3600"}))
        })
        .await;
        let settings = client(&service, "secret: \"env:CRM_SECRET\"");
        let workspace = workspace(&settings);
        workspace.write_policy(&format!(
            "allowlist: [github, slack]\nfamilies: {{{family}: {{base_url: \"{}{path}\"}}}}\ncredentials:\n  principals:\n    crm: \
             {{{settings}}}\n",
            vendor.base
        ));
        assert_active(&attempt(&workspace, family, id, "sp:crm"));
    }
}

/// A family that states these least scopes.
fn family(scope: &str) -> Arc<Family> {
    let oauth = json!({"authorize_url": "https://a.example/authorize", "token_url": "https://a.example/token", "source": "[-] a test",
        "scopes": [{"name": scope, "about": "reads things"}]});
    Arc::new(Family { oauth: serde_json::from_value(oauth).expect("a family"), ..Family::custom("shop") })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_connections_mint_one_token_and_other_scopes_another() {
    let service = TokenService::start(|call| match call.get("scope") {
        "read:things" | "read:orders" => token_answer(),
        _ => oauth_error(400, "invalid_scope", "unknown scope"),
    })
    .await;
    let text = format!(
        "version: 1\nallowlist: [openapi]\nnetwork: {{allow_private: [127.0.0.0/8]}}\ncredentials:\n  principals:\n    crm: {{{}}}\n",
        client(&service, "secret: \"env:CRM_SECRET\"")
    );
    let policy = Arc::new(aam::policy::parse::parse(&text, "policy.yaml").unwrap_or_else(|problems| panic!("{problems:?}")));
    let egress = Egress::with(Arc::new(UnlimitedBudget), Arc::new(SystemClock), Arc::new(SystemLookup));
    let read_env: ReadEnv = Arc::new(|name| (name == "CRM_SECRET").then(|| SECRET.to_string()));
    let providers = Providers::with_env(egress, Arc::new(SystemClock), Process::Test, read_env);
    for (scope, calls) in [("read:things", 1), ("read:orders", 2), ("read:things", 2)] {
        let family = family(scope);
        let provided = (0..1000).map(|n| {
            let request = CredentialRequest {
                locator: Locator::parse("sp:crm").expect("a locator"),
                connection: ConnectionId::derive("autonomy", "shop", &[n.to_string()]),
                namespace: "autonomy".to_string(),
                owner: "owner@acme.example".to_string(),
                family: Arc::clone(&family),
                resource_ids: Vec::new().into(),
                policy: Arc::clone(&policy),
                reading: Reading::Cached,
            };
            let providers = Arc::clone(&providers);
            async move { providers.provide(&request).await.map(|provided| provided.credential) }
        });
        let tokens = futures_util::future::try_join_all(provided).await.unwrap_or_else(|failure| panic!("{failure:?}"));
        assert!(tokens.windows(2).all(|two| two[0] == two[1]), "all share one token");
        assert_eq!(service.token_calls().len(), calls, "{scope}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_secret_is_sent_once_for_all_connections_until_it_changes() {
    let service = TokenService::start(server("client_secret_basic")).await;
    let minting =
        Minting::new(&format!("{{{}}}", client(&service, "secret: \"env:CRM_SECRET\"")), &[("CRM_SECRET", "a-wrong-secret")]);
    let first = minting.refused().await;
    assert!(first.detail.contains("asked at ") && first.detail.contains("asks again after 60 s"), "{first:?}");
    for _ in 0..20 {
        assert_eq!(minting.refused().await, first, "a refusal says when the endpoint was asked");
    }
    assert_eq!(service.token_calls().len(), 1, "vendors lock clients that try again and again");
    minting.set("CRM_SECRET", "another-wrong-secret");
    minting.refused().await;
    assert_eq!(service.token_calls().len(), 2);
    minting.set("CRM_SECRET", SECRET);
    assert!(minting.mint().await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_endpoint_that_repeats_what_it_received_shows_no_secret() {
    for (settings, status) in [
        ("secret: \"env:CANARY\"", 401),
        ("secret: \"env:CANARY\", auth: client_secret_post", 400),
        ("key: \"env:CRM_KEY\"", 401),
        ("secret: \"env:CANARY\"", 200),
        ("secret: \"env:CANARY\"", 503),
        ("secret: \"env:CANARY\"", 429),
    ] {
        let canary = Canary::new("principal");
        // What AAM never had cannot be recognized, so the endpoint repeats only what it was sent.
        let leak = if settings.contains("CANARY") { canary.leak() } else { String::new() };
        let service = TokenService::start(move |call| {
            let refresh = "refresh-token-that-nobody-may-see";
            let heard = format!("{} {} {:?} {leak} {refresh}", call.request.body, call.get("client_assertion"), call.request.headers);
            let error = if status == 200 { heard.as_str() } else { "invalid_client" };
            let body = json!({"error": error, "error_description": heard, "refresh_token": refresh, "access_token": "issued-anyway-1234"});
            json_response_with(status, &[("retry-after", "1")], &body)
        })
        .await;
        let mut workspace = workspace(&client(&service, settings));
        workspace.set("CANARY", &canary.value);
        workspace.set("CRM_KEY", &pem("rsa"));
        let result = attempt(&workspace, "openapi", &service.resource(), "sp:crm").to_string();
        let daemon = workspace.serve().await;
        let pushed = daemon.push(&intent_with_locator("openapi", &service.resource(), "sp:crm")).await;
        assert_ne!(pushed.body["status"], "ACTIVE");
        let mut texts = vec![("aam test".into(), result.into_bytes()), ("push".into(), pushed.body.to_string().into_bytes())];
        texts.extend(workspace.files().into_iter().filter(|(path, _)| !path.ends_with("policy.yaml")));
        let signed: Vec<String> = service
            .token_calls()
            .iter()
            .filter_map(|call| {
                url::form_urlencoded::parse(call.body.as_bytes())
                    .find(|(name, _)| name == "client_assertion")
                    .map(|(_, value)| value.into_owned())
            })
            .collect();
        for (name, bytes) in texts {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            assert_eq!(canary.found_in(&bytes), None, "{settings} {status}: {}", name.display());
            // With these statuses, the body is not read as the answer of a token endpoint.
            let read = !matches!(status, 429 | 503);
            for secret in ["refresh-token-that-nobody-may-see", "issued-anyway-1234"].iter().filter(|_| read) {
                assert!(!text.contains(*secret), "{settings} {status}: {secret} in {}", name.display());
            }
            for assertion in &signed {
                let signature = assertion.rsplit('.').next().expect("a signature");
                assert!(!text.contains(signature), "{settings} {status}: an assertion in {}", name.display());
            }
        }
    }
}
