//! GitHub, Slack and a custom source on the low-code engine, through the real egress, against mock vendors.

use crate::support::github::{app_credential, github, with_app};
use crate::support::lowcode_families::{
    CRM, CRM_CREDENTIAL, EngineFixture, MockVendor, ReceivedRequest, crm, json_response_with, policy, remaining_steps, slack,
    stream_names,
};
use crate::support::openapi::json_response;
use aam::model::{Class, Failure, Privilege};
use serde_json::json;
use std::sync::Arc;

async fn failure(family: &str, base: &str, id: &str, secret: &str) -> Failure {
    match EngineFixture::at(family, base).open(family, id, Some(secret)).await {
        Err(failure) => failure,
        Ok(opened) => remaining_steps(&opened).await.err().expect("this must fail"),
    }
}

#[tokio::test]
async fn an_organization_passes_every_step_and_pages_are_followed() {
    let vendor = MockVendor::start(github).await;
    let fixture = EngineFixture::at("github", &vendor.base);
    let opened = fixture.open("github", "acme", Some("gh-token-reads-1")).await.unwrap();
    assert_eq!((&opened.identity["matched"], &opened.identity["auth"]), (&json!("login is acme"), &json!("token")));
    assert_eq!(opened.privilege, Privilege::Ok);
    let (discovery, sample) = remaining_steps(&opened).await.unwrap();
    assert_eq!(stream_names(&discovery), ["members", "repositories", "teams"]);
    assert_eq!(discovery.catalog.streams[1].source_defined_primary_key, [["id"]]);
    assert_eq!((sample.rows, &sample.evidence["streams"]), (20, &json!({"repositories": 20})));
    let mut calls = vendor.calls();
    // Discovery reads the streams side by side.
    calls[1..4].sort();
    assert_eq!(
        calls,
        [
            "GET /orgs/acme",
            "GET /orgs/acme/members?per_page=20",
            "GET /orgs/acme/repos?sort=updated&per_page=20",
            "GET /orgs/acme/teams?per_page=20",
            "GET /user",
            "GET /orgs/acme/repos?sort=updated&per_page=20&page=2",
        ]
    );
    assert!(vendor.requests().iter().all(|request| request.token == "gh-token-reads-1"));
    assert_eq!(opened.connector.traffic().calls, 6, "an onboarding is at most 12 calls");
    assert_eq!(opened.connector.traffic().reused, 1, "the tiny sync begins with the page that discovery read");
}

#[tokio::test]
async fn a_repository_can_be_a_resource_and_a_credential_can_be_json() {
    let vendor = MockVendor::start(github).await;
    let fixture = EngineFixture::at("github", &vendor.base);
    let opened = fixture.open("github", "acme/widgets", Some(r#"{"token": "gh-token-classic-2"}"#)).await.unwrap();
    assert_eq!(opened.identity["visibility"], "private");
    assert_eq!(opened.privilege, Privilege::Over { grants: vec!["repo".to_string()] });
    let (discovery, sample) = remaining_steps(&opened).await.unwrap();
    assert_eq!(stream_names(&discovery), ["contributors", "repository", "tags"]);
    assert_eq!(sample.rows, 2);
    let fine = fixture.open("github", "acme", Some("gh-token-fine-3")).await.unwrap();
    assert!(matches!(fine.privilege, Privilege::Unknown { reason } if reason.contains("fine-grained")));
}

#[tokio::test]
async fn every_problem_of_a_token_is_explained() {
    let vendor = MockVendor::start(github).await;
    let wrong = failure("github", &vendor.base, "acme", "gh-token-wrong").await;
    let said = format!("GET {}/orgs/acme answered 401; GitHub said: \"Bad credentials\"", vendor.base);
    assert_eq!((wrong.class, wrong.detail), (Class::CredentialRejected, said));
    let sso = failure("github", &vendor.base, "acme", "gh-token-sso-6").await;
    assert_eq!(sso.class, Class::PermissionDenied);
    assert!(sso.title.contains("single sign-on") && sso.detail.contains("authorization_request=A1"), "{sso:?}");
    let other = failure("github", &vendor.base, "umbrella", "gh-token-reads-1").await;
    assert_eq!(other.class, Class::NotFound);
    let blind = failure("github", &vendor.base, "acme", "gh-token-blind-5").await;
    assert_eq!((blind.class, blind.detail.contains("needed: metadata=read")), (Class::PermissionDenied, true), "{blind:?}");
    for secret in ["{}", r#"{"app_id": "1", "private_key": "x"}"#] {
        let lacking = failure("github", &vendor.base, "acme", secret).await;
        assert_eq!(lacking.class, Class::CredentialMissing);
        assert!(lacking.fix.contains("app_id and installation_id and private_key, or with token"), "{lacking:?}");
    }
}

#[tokio::test]
async fn a_denied_stream_is_skipped_with_what_it_needs() {
    let vendor = MockVendor::start(github).await;
    let fixture = EngineFixture::at("github", &vendor.base);
    let opened = fixture.open("github", "acme", Some("gh-token-narrow-4")).await.unwrap();
    let (discovery, sample) = remaining_steps(&opened).await.unwrap();
    assert_eq!(stream_names(&discovery), ["repositories"]);
    let skipped: Vec<&str> = discovery.catalog.skipped.iter().map(|stream| stream.name.as_str()).collect();
    assert_eq!(skipped, ["members", "teams"]);
    assert!(discovery.catalog.skipped[0].reason.contains("it needs members=read"), "{:?}", discovery.catalog.skipped);
    assert_eq!(sample.rows, 20);
}

#[tokio::test]
async fn another_tenant_at_the_address_is_the_wrong_service() {
    let vendor = MockVendor::start(|_, request: &ReceivedRequest| match request.path() {
        "/orgs/acme" => json_response(r#"{"login":"somebody-else"}"#),
        _ => json_response("[]"),
    })
    .await;
    let failure = failure("github", &vendor.base, "acme", "gh-token-reads-1").await;
    assert_eq!(failure.class, Class::WrongService);
    assert_eq!(failure.title, "GitHub answers as login somebody-else, and the resource id names acme");
    let portal = MockVendor::start(|_, _: &ReceivedRequest| {
        (200, vec![("content-type", "text/html".to_string())], "<html>Sign in</html>".to_string())
    })
    .await;
    let page = self::failure("github", &portal.base, "acme", "gh-token-reads-1").await;
    assert_eq!(page.class, Class::WrongService, "{page:?}");
}

#[tokio::test]
async fn next_links_and_redirects_stay_on_the_host() {
    let other = MockVendor::start(github).await;
    let away = other.base.clone();
    let vendor = MockVendor::start(move |home: &str, request: &ReceivedRequest| {
        let (status, mut headers, body) = github(home, request);
        for (name, value) in &mut headers {
            if *name == "link" {
                *value = value.replace(home, &away);
            }
        }
        (status, headers, body)
    })
    .await;
    let link = failure("github", &vendor.base, "acme", "gh-token-reads-1").await;
    assert_eq!(link.class, Class::EgressRefused, "{link:?}");
    assert!(link.title.contains(&other.base) && link.title.contains(&vendor.base), "{link:?}");
    let away = other.base.clone();
    let moved = MockVendor::start(move |_, request: &ReceivedRequest| {
        json_response_with(302, &[("location", &format!("{away}{}", request.path()))], &json!({}))
    })
    .await;
    let redirect = failure("github", &moved.base, "acme", "gh-token-reads-1").await;
    assert_eq!((redirect.class, moved.calls().len()), (Class::EgressRefused, 1));
    assert_eq!(other.calls(), Vec::<String>::new(), "the credential was not sent elsewhere");
}

#[tokio::test]
async fn every_kind_of_rate_limit_pauses_the_account() {
    for (status, headers, body, wait) in [
        (429, vec![("retry-after", "30".to_string())], r#"{"message":"slow down"}"#, 30_000),
        (403, vec![("retry-after", "77".to_string())], r#"{"message":"You have exceeded a secondary rate limit"}"#, 77_000),
        (403, vec![], r#"{"message":"You have exceeded a secondary rate limit"}"#, 60_000),
    ] {
        let vendor = MockVendor::start(move |_, _: &ReceivedRequest| (status, headers.clone(), body.to_string())).await;
        let fixture = EngineFixture::at("github", &vendor.base);
        let failure = fixture.open("github", "acme", Some("gh-token-reads-1")).await.err().unwrap();
        assert_eq!((failure.class, failure.retry_after_ms), (Class::Throttled, Some(wait)), "{failure:?}");
        let again = fixture.open("github", "umbrella", Some("gh-token-reads-1")).await.err().unwrap();
        assert_eq!((again.class, vendor.calls().len()), (Class::Throttled, 1), "no call before the wait is over");
    }
    // AAM uses only its share of the vendor's own rate limit, but at least the 12 calls of one onboarding. Then it waits
    // for the next window.
    let reset = (aam::clock::from_env().now().0 / 1000 + 1800).to_string();
    let vendor = MockVendor::start(move |home: &str, request: &ReceivedRequest| {
        let (status, mut headers, body) = github(home, request);
        headers.extend([
            ("x-ratelimit-limit", "60".into()),
            ("x-ratelimit-remaining", "40".into()),
            ("x-ratelimit-reset", reset.clone()),
        ]);
        (status, headers, body)
    })
    .await;
    let fixture = EngineFixture::at("github", &vendor.base);
    for _ in 0..2 {
        remaining_steps(&fixture.open("github", "acme", Some("gh-token-reads-1")).await.unwrap()).await.unwrap();
    }
    let failure = fixture.open("github", "acme", Some("gh-token-reads-1")).await.err().unwrap();
    assert_eq!((failure.class, vendor.calls().len()), (Class::Throttled, 12), "{failure:?}");
    assert!(failure.detail.contains("aam used its 12 of the 60 calls of this hour"), "{failure:?}");
}

#[tokio::test]
async fn slack_passes_every_step_and_one_listed_post_is_sent() {
    let vendor = MockVendor::start(slack).await;
    let fixture = EngineFixture::at("slack", &format!("{}/api", vendor.base));
    for id in ["workspace_T0ACME", "T0ACME"] {
        let opened = fixture.open("slack", id, Some("xoxb-reads-1")).await.unwrap();
        assert_eq!((&opened.identity["matched"], &opened.privilege), (&json!("team_id is T0ACME"), &Privilege::Ok));
        let (discovery, sample) = remaining_steps(&opened).await.unwrap();
        assert_eq!(stream_names(&discovery), ["channels", "team", "users"]);
        assert_eq!((sample.rows, &sample.evidence["streams"]), (4, &json!({"channels": 2, "users": 1, "team": 1})));
    }
    let posts: Vec<String> = vendor.calls().into_iter().filter(|call| call.starts_with("POST")).collect();
    assert!(!posts.is_empty() && posts.iter().all(|call| call == "POST /api/auth.test"), "{posts:?}");
    let over = fixture.open("slack", "T0ACME", Some("xoxb-writes-2")).await.unwrap();
    assert_eq!(over.privilege, Privilege::Over { grants: vec!["chat:write".to_string()] });
    // Reading messages is no writing, but AAM does not need it.
    assert_eq!(over.identity["reads_content"], json!(["channels:history"]));
}

#[tokio::test]
async fn failures_that_slack_sends_with_status_200_are_recognized() {
    let vendor = MockVendor::start(slack).await;
    let base = format!("{}/api", vendor.base);
    let wrong = failure("slack", &base, "T0ACME", "xoxb-wrong").await;
    let said = format!("POST {base}/auth.test answered 200; Slack said: \"invalid_auth\"");
    assert_eq!((wrong.class, wrong.detail), (Class::CredentialRejected, said));
    assert_eq!(failure("slack", &base, "T0ACME", "xoxb-login-5").await.class, Class::PermissionDenied);
    let limited = failure("slack", &base, "T0ACME", "xoxb-limited-4").await;
    assert_eq!((limited.class, limited.retry_after_ms), (Class::Throttled, Some(60_000)));
    let other = failure("slack", &base, "T0OTHER", "xoxb-reads-1").await;
    assert_eq!(other.title, "Slack answers as team_id T0ACME, and the resource id names T0OTHER");
    let grid = failure("slack", &base, "E0ACME", "xoxb-reads-1").await;
    assert!(grid.title.contains("no enterprise_id"), "{grid:?}");
    let fixture = EngineFixture::at("slack", &base);
    let narrow = fixture.open("slack", "T0ACME", Some("xoxb-narrow-3")).await.unwrap();
    let (discovery, _) = remaining_steps(&narrow).await.unwrap();
    assert_eq!(stream_names(&discovery), ["channels"]);
    let reason = &discovery.catalog.skipped[0].reason;
    assert!(reason.contains("does not have the scope team:read") && reason.contains("provided: channels:read"), "{reason}");
}

/// A fixture whose only source is the CRM, with `more` lines in its policy entry.
fn crm_fixture(vendor: &MockVendor, more: &str) -> EngineFixture {
    let token = format!(
        "posts: [{{url: \"{}/oauth/token\", why: \"a token\", idempotent: true, body: {{form: {{grant_type: {{is: client_credentials}}, \
         client_id: {{is: aam}}, client_secret: any}}}}}}]",
        vendor.base
    );
    let policy = policy(&format!("manifests: {{dir: m, sources: {{acme_crm: {{{token}, {more}}}}}}}"));
    EngineFixture::with_manifest(policy, "acme_crm", CRM)
}

#[tokio::test]
async fn a_custom_source_passes_every_step_and_its_identity_is_checked_if_the_policy_says_how() {
    let vendor = MockVendor::start(crm).await;
    let fixture = crm_fixture(&vendor, "hosts: []");
    let opened = fixture.open("acme_crm", vendor.host(), Some(CRM_CREDENTIAL)).await.unwrap();
    assert!(
        opened.identity["identity"].as_str().unwrap().starts_with("matched: host and check; no call proves whose data it is")
    );
    assert_eq!((&opened.identity["hosts"], &opened.identity["read"]), (&json!(vendor.base), &json!("contacts (200)")));
    assert!(matches!(opened.privilege, Privilege::Unknown { .. }));
    let (discovery, sample) = remaining_steps(&opened).await.unwrap();
    assert_eq!(stream_names(&discovery), ["account", "contacts"]);
    assert_eq!((sample.rows, &sample.evidence["streams"]), (3, &json!({"contacts": 2, "account": 1})));
    let by_name = crm_fixture(&vendor, "identity: {stream: account, field: /login}, resource: login");
    let id = format!("host={}", vendor.host());
    let failure = by_name.open("acme_crm", &id, Some(CRM_CREDENTIAL)).await.err().unwrap();
    assert_eq!(failure.class, Class::WrongService, "{failure:?}");
    assert!(failure.title.contains("answers as login acme"), "{failure:?}");
}

#[tokio::test]
async fn a_manifest_cannot_do_what_the_policy_does_not_allow() {
    let vendor = MockVendor::start(crm).await;
    // Without a list of POSTs the token cannot be requested.
    let mut bare = crm_fixture(&vendor, "hosts: []");
    let mut policy = (*bare.policy).clone();
    policy.manifests.sources.clear();
    bare.policy = Arc::new(policy);
    let refused = bare.open("acme_crm", vendor.host(), Some(CRM_CREDENTIAL)).await.err().unwrap();
    assert_eq!((refused.class, vendor.calls().len()), (Class::EgressRefused, 0), "{refused:?}");
    assert!(refused.fix.contains("manifests.sources.acme_crm.posts in the policy"), "{refused:?}");
    // A host that the policy does not list.
    let elsewhere = crm_fixture(&vendor, "hosts: [api.acme.example]");
    let failure = elsewhere.open("acme_crm", &format!("host={}", vendor.host()), Some(CRM_CREDENTIAL)).await.err().unwrap();
    assert_eq!(failure.class, Class::EgressRefused, "{failure:?}");
    assert!(!vendor.calls().iter().any(|call| call.starts_with("GET")), "{:?}", vendor.calls());
    // A secret in the resource id, a key that does not exist, and a credential without a required field.
    let fixture = crm_fixture(&vendor, "hosts: []");
    for (id, secret, class) in [
        ("client_secret=x", CRM_CREDENTIAL, Class::NotMappable),
        ("hots=x", CRM_CREDENTIAL, Class::NotMappable),
        ("h.example", r#"{"client_id": "aam"}"#, Class::CredentialMissing),
    ] {
        assert_eq!(fixture.open("acme_crm", id, Some(secret)).await.err().unwrap().class, class, "{id}");
    }
}

#[test]
fn a_plan_names_every_host_method_and_path() {
    let github = EngineFixture::at("github", "https://ghe.acme.example/api/v3").planned("github", "acme");
    assert_eq!(
        github,
        [
            "GET ghe.acme.example /api/v3/user",
            "POST ghe.acme.example /api/v3/app/installations/{installation_id}/access_tokens",
            "GET ghe.acme.example /api/v3/app/installations/{installation_id}",
            "GET ghe.acme.example /api/v3/installation/repositories",
            "GET ghe.acme.example /api/v3/orgs/acme",
            "GET ghe.acme.example /{link to the next page}",
            "GET ghe.acme.example /api/v3/orgs/acme/repos",
            "GET ghe.acme.example /api/v3/orgs/acme/teams",
            "GET ghe.acme.example /api/v3/orgs/acme/members",
        ]
    );
    let slack = EngineFixture::new(policy("")).planned("slack", "T0ACME");
    assert!(slack.contains(&"POST slack.com /api/auth.test".to_string()), "{slack:?}");
    assert_eq!(slack.len(), 4, "{slack:?}");
}

#[tokio::test]
async fn an_app_creates_one_token_that_may_read_what_its_installation_has() {
    for (permissions, asked, streams, privilege) in [
        (json!({"metadata": "read"}), json!({"metadata": "read"}), vec!["repositories"], Privilege::Ok),
        (
            json!({"metadata": "read", "members": "write", "contents": "write"}),
            json!({"metadata": "read", "members": "read"}),
            vec!["members", "repositories", "teams"],
            Privilege::Over { grants: vec!["contents=write".to_string(), "members=write".to_string()] },
        ),
    ] {
        let vendor = MockVendor::start(with_app(&permissions)).await;
        let fixture = EngineFixture::at("github", &vendor.base);
        let opened = fixture.open("github", "acme", Some(&app_credential())).await.unwrap();
        assert_eq!((&opened.identity["auth"], &opened.privilege), (&json!("app"), &privilege));
        let (discovery, sample) = remaining_steps(&opened).await.unwrap();
        assert_eq!((stream_names(&discovery), sample.rows), (streams, 20));
        // One token for identity, discovery, health and sync.
        let requests = vendor.requests();
        let posts: Vec<_> = requests.iter().filter(|request| !request.call.starts_with("GET ")).collect();
        assert_eq!(posts.len(), 1, "{:?}", vendor.calls());
        let body: serde_json::Value = serde_json::from_str(&posts[0].body).unwrap();
        assert_eq!(body, json!({"permissions": asked}));
        assert!(
            posts[0].token.split('.').count() == 3 && vendor.calls()[0] == "GET /app/installations/4711",
            "{:?}",
            vendor.calls()
        );
        assert!(vendor.calls().contains(&"GET /installation/repositories?per_page=1".to_string()), "{:?}", vendor.calls());
    }
}

#[tokio::test]
async fn every_problem_of_an_app_is_blamed_on_the_app() {
    let vendor = MockVendor::start(with_app(&json!({"contents": "write"}))).await;
    let open = |id: &'static str, credential: String| {
        let fixture = EngineFixture::at("github", &vendor.base);
        async move { fixture.open("github", id, Some(&credential)).await.err().expect("this must fail") }
    };
    let other = open("acme", app_credential().replace("4711", "4712")).await;
    assert_eq!(other.class, Class::CredentialRejected, "{other:?}");
    assert!(other.title.contains("/app/installations/4712 answered 404") && other.fix.contains("installation_id"), "{other:?}");
    let wrong = open("acme", app_credential().replace("\"99\"", "\"98\"")).await;
    assert_eq!(wrong.class, Class::CredentialRejected, "{wrong:?}");
    assert!(wrong.fix.contains("app_id and private_key") && wrong.detail.contains("'iss'"), "{wrong:?}");
    let key = open("acme", json!({"app_id": "99", "installation_id": "4711", "private_key": "no key"}).to_string()).await;
    assert_eq!(key.class, Class::CredentialMissing, "{key:?}");
    assert!(key.title.contains("private key") && key.fix.contains("PEM"), "{key:?}");
    let elsewhere = open("umbrella", app_credential()).await;
    assert_eq!(elsewhere.class, Class::WrongService, "{elsewhere:?}");
    assert!(elsewhere.title.contains("belongs to Acme, and the resource id names umbrella"), "{elsewhere:?}");
    let nothing = open("acme", app_credential()).await;
    assert_eq!(nothing.class, Class::PermissionDenied, "{nothing:?}");
    assert!(
        nothing.detail.contains("permissions requested are not granted") && nothing.fix.contains("Metadata (read)"),
        "{nothing:?}"
    );
}

#[tokio::test]
async fn an_installation_token_is_not_asked_for_its_user() {
    let vendor = MockVendor::start(github).await;
    let fixture = EngineFixture::at("github", &vendor.base);
    for credential in ["ghs_metadata_members_1".to_string(), json!({"token": "ghs_metadata_members_1"}).to_string()] {
        let opened = fixture.open("github", "acme", Some(&credential)).await.unwrap();
        assert_eq!(opened.identity["auth"], "installation_token");
        let (discovery, sample) = remaining_steps(&opened).await.unwrap();
        assert_eq!((stream_names(&discovery).len(), sample.rows), (3, 20));
    }
    assert!(!vendor.calls().contains(&"GET /user".to_string()), "{:?}", vendor.calls());
}

/// Two streams that have nothing in common, both read by the check.
const TWO_STREAMS: &str = r##"
version: 6.44.0
type: DeclarativeSource
check: {type: CheckStream, stream_names: [items, orders]}
spec:
  type: Spec
  connection_specification: {type: object, required: [host], properties: {host: {type: string}}}
definitions:
  stream:
    type: DeclarativeStream
    retriever:
      type: SimpleRetriever
      requester: {type: HttpRequester, url_base: "http://{{ config['host'] }}", path: "/{{ parameters['name'] }}"}
      record_selector: {type: RecordSelector, extractor: {type: DpathExtractor, field_path: []}}
    schema_loader: {type: InlineSchemaLoader, schema: {type: object, properties: {}}}
streams:
  - {$ref: "#/definitions/stream", name: items, $parameters: {name: items}}
  - {$ref: "#/definitions/stream", name: orders, $parameters: {name: orders}}
"##;

#[tokio::test]
async fn independent_streams_of_a_check_are_read_at_the_same_time() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    // Each answer waits until two requests are here. One after the other, they would end by their timeout.
    let meet = Arc::new(tokio::sync::Barrier::new(2));
    let app = axum::Router::new().fallback(move || {
        let meet = Arc::clone(&meet);
        async move {
            meet.wait().await;
            axum::Json(json!([{"id": 1}]))
        }
    });
    tokio::spawn(async move { axum::serve(listener, app).await });
    let fixture = EngineFixture::with_manifest(policy("manifests: {dir: m}"), "shop", TWO_STREAMS);
    let opened = fixture.open("shop", &host, None).await.unwrap();
    assert_eq!((&opened.identity["read"], &opened.identity["records"]), (&json!("items (200), orders (200)"), &json!(2)));
    assert_eq!(opened.connector.health().await.unwrap()["records"], 2);
    assert_eq!((opened.connector.traffic().calls, opened.connector.traffic().reused), (2, 2));
}
