//! For each fix that the low-code engine prints, a test that does what it says and gets out of the state.

use crate::support::daemon::{Workspace, stderr, stdout};
use crate::support::github::{app_credential, github, with_app};
use crate::support::lowcode_families::{CRM, CRM_CREDENTIAL, EngineFixture, MockVendor, crm, policy, remaining_steps, slack};
use crate::support::openapi::json_response;
use aam::connectors::Opened;
use aam::model::{Class, Failure};
use aam::policy::Policy;
use serde_json::json;

/// A manifest with one stream. `spec` is put before the streams, `requester` into the requester.
fn manifest(spec: &str, requester: &str) -> String {
    format!(
        "version: 6.44.0\ntype: DeclarativeSource\ncheck: {{type: CheckStream, stream_names: [things]}}\n{spec}streams:\n  \
         - type: DeclarativeStream\n    name: things\n    retriever:\n      type: SimpleRetriever\n      \
         requester: {{type: HttpRequester, {requester}}}\n      \
         record_selector: {{type: RecordSelector, extractor: {{type: DpathExtractor, field_path: [data]}}}}\n    \
         schema_loader: {{type: InlineSchemaLoader, schema: {{type: object, properties: {{}}}}}}\n"
    )
}

const SPEC: &str = "spec:\n  type: Spec\n  connection_specification:\n    type: object\n    required: [host, key]\n    properties:\n      \
                    host: {type: string}\n      key: {type: string, airbyte_secret: true}\n      site: {type: string}\n";
const BASE: &str = "url_base: \"http://{{ config['host'] }}\", path: /things";
const KEY: &str = r#"{"key": "key-of-the-shop-1234"}"#;

async fn vendor() -> MockVendor {
    MockVendor::start(|_, _| json_response(r#"{"data":[{"id":1}]}"#)).await
}

async fn shop(manifest: &str, policy: Policy, id: &str, secret: Option<&str>) -> Result<Opened, Failure> {
    let opened = EngineFixture::with_manifest(policy, "shop", manifest).open("shop", id, secret).await?;
    remaining_steps(&opened).await.map(|_| opened)
}

fn plain() -> Policy {
    policy("manifests: {dir: m}")
}

/// Asserts that the first result is a failure whose fix contains `fix`, and that the second one is not.
fn assert_remedy(failed: Result<Opened, Failure>, class: Class, fix: &str, fixed: Result<Opened, Failure>) {
    let failure = failed.err().expect("a failure with a fix");
    assert!(failure.class == class && failure.fix.contains(fix), "{fix}: {failure:?}");
    fixed.unwrap_or_else(|failure| panic!("{fix}: {failure:?}"));
}

#[tokio::test]
async fn a_manifest_without_a_spec_accepts_every_config() {
    let vendor = vendor().await;
    let text = manifest("", BASE);
    let id = format!("host={}", vendor.host());
    shop(&text, plain(), &id, None).await.unwrap();
    shop(&text, plain(), &id, Some(KEY)).await.unwrap();
    assert_remedy(
        shop(&text, plain(), &id, Some("key-of-the-shop-1234")).await,
        Class::CredentialMissing,
        "store a JSON object with the config keys of the manifest",
        shop(&text, plain(), &id, Some(KEY)).await,
    );
    // Without the key that the address needs, no call is made and no response is blamed.
    let failure = shop(&text, plain(), "x=1", None).await.err().unwrap();
    assert!(!failure.title.contains("response") && vendor.calls().iter().all(|call| call == "GET /things"), "{failure:?}");
}

#[tokio::test]
async fn what_a_config_lacks_can_be_written_where_the_message_says() {
    let vendor = vendor().await;
    let text = manifest(SPEC, BASE);
    let id = format!("host={}", vendor.host());
    let open = |id: String, secret: Option<&'static str>| {
        let text = text.clone();
        async move { shop(&text, plain(), &id, secret).await }
    };
    assert_remedy(
        open(id.clone(), Some("{}")).await,
        Class::CredentialMissing,
        "store a JSON object with key",
        open(id.clone(), Some(KEY)).await,
    );
    assert_remedy(
        open("site=x".to_string(), Some(KEY)).await,
        Class::Misconfigured,
        "write NAME=VALUE into resource_ids",
        open(id.clone(), Some(KEY)).await,
    );
    let unknown = open(format!("hots={}", vendor.host()), Some(KEY)).await.err().unwrap();
    assert!(unknown.fix == "its keys are host, key, site" || unknown.fix.contains("host"), "{unknown:?}");
    let secret = open(format!("{id}&key=abcdefgh"), None).await.err().unwrap();
    assert!(secret.fix.contains("credential_locator"), "{secret:?}");
    open(id, Some(KEY)).await.unwrap();
    // Two secrets, so a credential that is not JSON does not say which one it is.
    let two = text.replace("      site:", "      other: {type: string, airbyte_secret: true}\n      site:");
    let id = format!("host={}", vendor.host());
    assert_remedy(
        shop(&two, plain(), &id, Some("key-of-the-shop-1234")).await,
        Class::CredentialMissing,
        "store a JSON object with some of host, key, other, site",
        shop(&two, plain(), &id, Some(KEY)).await,
    );
}

#[tokio::test]
async fn a_host_or_call_that_is_refused_can_be_allowed_as_the_message_says() {
    let vendor = vendor().await;
    // A manifest whose host is fixed: the resource id has to be that host.
    let fixed = manifest("", &format!("url_base: \"{}\", path: /things", vendor.base));
    let failure = shop(&fixed, plain(), "elsewhere.example", None).await.err().unwrap();
    assert_eq!(failure.class, Class::NotMappable);
    assert!(
        EngineFixture::with_manifest(plain(), "shop", &fixed).bind("shop", "elsewhere.example").is_err(),
        "no credential is needed"
    );
    assert_eq!(failure.fix, format!("write {}, or NAME=VALUE for a key of its config", vendor.host()));
    shop(&fixed, plain(), vendor.host(), None).await.unwrap();
    // A second host of the same API.
    let other = self::vendor().await;
    let two = manifest("", &format!("url_base: \"http://{{{{ config['host'] }}}}\", path: \"{}/things\"", other.base));
    let id = format!("host={}", vendor.host());
    let hosts = format!("manifests: {{dir: m, sources: {{shop: {{hosts: [\"{}\", \"{}\"]}}}}}}", vendor.base, other.base);
    assert_remedy(
        shop(&two, plain(), &id, None).await,
        Class::EgressRefused,
        "list them as hosts of the source under manifests.sources in the policy",
        shop(&two, policy(&hosts), &id, None).await,
    );
    // A secret in the URL, and a body of a GET.
    let url = manifest(SPEC, &format!("{BASE}, request_parameters: {{k: \"{{{{ config['key'] }}}}\"}}"));
    let header = manifest(SPEC, &format!("{BASE}, request_headers: {{X-Key: \"{{{{ config['key'] }}}}\"}}"));
    assert_remedy(
        shop(&url, plain(), &id, Some(KEY)).await,
        Class::EgressRefused,
        "sends the secret in a header",
        shop(&header, plain(), &id, Some(KEY)).await,
    );
    let body = manifest("", &format!("{BASE}, request_body_json: {{a: 1}}"));
    assert_remedy(
        shop(&body, plain(), &id, None).await,
        Class::EgressRefused,
        "use GET",
        shop(&manifest("", BASE), plain(), &id, None).await,
    );
    // A stream that does not exist.
    let identity = |stream: &str| {
        format!("manifests: {{dir: m, sources: {{shop: {{identity: {{stream: {stream}, field: /id}}, resource: host}}}}}}")
    };
    let missing = shop(&manifest("", BASE), policy(&identity("accounts")), &id, None).await.err().unwrap();
    assert!(missing.fix == "name a stream of the manifest: things", "{missing:?}");
    let named = shop(&manifest("", BASE), policy(&identity("things")), &id, None).await.err().unwrap();
    assert_eq!(named.class, Class::WrongService, "the stream was read: {named:?}");
}

#[tokio::test]
async fn a_post_can_be_listed_as_the_message_says() {
    let vendor = MockVendor::start(crm).await;
    let open = |more: String| {
        let host = vendor.host().to_string();
        async move {
            let fixture = EngineFixture::with_manifest(policy(&format!("manifests: {{dir: m{more}}}")), "acme_crm", CRM);
            fixture.open("acme_crm", &host, Some(CRM_CREDENTIAL)).await
        }
    };
    let rule = format!(
        ", sources: {{acme_crm: {{posts: [{{url: \"{}/oauth/token\", why: \"a token\", body: {{form: {{grant_type: any, client_id: any, client_secret: any}}}}}}]}}}}",
        vendor.base
    );
    assert_remedy(
        open(String::new()).await,
        Class::EgressRefused,
        "The list: manifests.sources.acme_crm.posts in the policy",
        open(rule).await,
    );
}

#[tokio::test]
async fn a_wrong_base_url_is_corrected_where_the_message_says() {
    let (hub, chat) = (MockVendor::start(github).await, MockVendor::start(slack).await);
    let at = |family: &'static str, id: &'static str, token: &'static str, base: String| async move {
        EngineFixture::at(family, &base).open(family, id, Some(token)).await
    };
    assert_remedy(
        at("github", "acme", "gh-token-reads-1", chat.base.clone()).await,
        Class::WrongService,
        "correct families.github.base_url in the policy",
        at("github", "acme", "gh-token-reads-1", hub.base.clone()).await,
    );
    assert_remedy(
        at("slack", "T0ACME", "xoxb-reads-1", chat.base.clone()).await,
        Class::WrongService,
        "correct families.slack.base_url in the policy",
        at("slack", "T0ACME", "xoxb-reads-1", format!("{}/api", chat.base)).await,
    );
}

#[tokio::test]
async fn missing_permissions_can_be_granted_as_the_message_says() {
    let app = |permissions| async move {
        let vendor = MockVendor::start(with_app(&permissions)).await;
        EngineFixture::at("github", &vendor.base).open("github", "acme", Some(&app_credential())).await
    };
    assert_remedy(
        app(json!({"contents": "read"})).await,
        Class::PermissionDenied,
        "the repository permission Metadata (read)",
        app(json!({"contents": "read", "metadata": "read"})).await,
    );
    let vendor = MockVendor::start(slack).await;
    let token = |token: &'static str| {
        let base = format!("{}/api", vendor.base);
        async move {
            let opened = EngineFixture::at("slack", &base).open("slack", "T0ACME", Some(token)).await?;
            remaining_steps(&opened).await.map(|_| opened)
        }
    };
    assert_remedy(
        token("xoxb-nothing-6").await,
        Class::PermissionDenied,
        "add the scope channels:read, team:read, users:read to the app",
        token("xoxb-reads-1").await,
    );
}

/// The fix of a credential without the required fields names a command that explains each of them.
#[tokio::test]
async fn aam_families_explains_the_fields_of_a_credential() {
    let failure = EngineFixture::at("github", "http://127.0.0.1:9").open("github", "acme", Some("{}")).await.err().unwrap();
    let command = failure.fix.split("; ").find(|part| part.contains("aam families")).expect("a command");
    assert_eq!(command, "aam families github explains each field");
    let workspace = Workspace::new();
    let shown = workspace.run(&["families", "github"]);
    assert!(shown.status.success(), "{}", stderr(&shown));
    for family in aam::families::all() {
        let shown = stdout(&workspace.run(&["families", &family.id]));
        for field in family.credential_fields() {
            assert!(shown.contains(&field.name) && shown.contains(&field.about), "{} {}: {shown}", family.id, field.name);
        }
    }
    let wrong = workspace.run(&["families", "githb"]);
    assert!(wrong.status.code() == Some(64) && stderr(&wrong).contains("did you mean github?"), "{}", stderr(&wrong));
}

/// A custom source has the fields of its manifest's spec. A token fits only where the manifest expects one.
#[test]
fn aam_families_explains_the_fields_of_a_custom_source() {
    let workspace = Workspace::new();
    std::fs::create_dir(workspace.path("manifests")).expect("a folder");
    let token = CRM.replace("client_secret: {type: string, airbyte_secret: true}", "token: {type: string, airbyte_secret: true}");
    for (name, manifest) in [("acme_crm", CRM), ("acme_shop", token.as_str())] {
        std::fs::write(workspace.path(&format!("manifests/{name}.yaml")), manifest).expect("a manifest");
    }
    let policy = format!(
        "version: 1\nallowlist: [acme_crm, acme_shop]\nmanifests: {{dir: {}, sources: {{acme_crm: {{}}, acme_shop: {{}}}}}}\n",
        workspace.path("manifests").display()
    );
    workspace.replace("policy/policy.yaml", policy.as_bytes());
    let shown = stdout(&workspace.run(&["families", "acme_crm"]));
    for part in ["client_secret", "client_id", r#"{"client_secret":"CLIENT_SECRET"}"#, "env:ACME_CRM_CONFIG"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(!shown.contains("sp:NAME") && !shown.contains("consent:NAME"), "{shown}");
    let shown = stdout(&workspace.run(&["families", "acme_shop"]));
    for part in
        [r#"{"token":"TOKEN"}"#, "kind: oauth2_client", "family: acme_shop", "calls: POST login.acme.example/oauth2/token"]
    {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}
