//! The families box and dropbox and their sandbox, checked by software of others: Box's own API description through prism, and the
//! clients of both vendors, box-sdk-gen and dropbox.
//!
//! prism as a mock answers with the examples of the description and refuses calls that it does not have. As a proxy it does the
//! same before the sandbox, and also refuses answers of the sandbox that do not fit. The clients log in as their vendors document
//! it, deserialize the sandbox's answers into their models, and raise the errors that they know.

use crate::harness::{http_client, variable};
use crate::support::lowcode_families::{EngineFixture, remaining_steps, stream_names};
use aam::model::{Class, Privilege};
use serde_json::{Value, json};
use tokio::process::Command;

peer_tests! {
    [Files]: all_calls_fit_the_description_of_box, the_sandbox_answers_as_the_description_of_box_says,
        prism_refuses_what_the_description_does_not_have, box_s_client_accepts_the_sandbox,
        box_s_client_is_refused_as_box_documents_it, dropbox_s_client_accepts_the_sandbox,
        dropbox_s_client_knows_the_errors_of_the_sandbox, the_family_dropbox_reads_a_server_without_tls;
}

const ACCOUNT: &str = "dbid:AAH4f99T0taONIb-OurWxbNQ6ywGRopQngc";
const TEAM: &str = "dbtid:AAFdgehTzw7WlXhZJsbGCLePe8RvQGYDr-I";
const MEMBER: &str = "dbmid:AAHhy7WsR0x-u4ZCqiDl5Fz5zvuL3kmspwU";

async fn all_calls_fit_the_description_of_box() {
    let fixture = EngineFixture::at("box", &variable("FILES", "MOCK"));
    // The enterprise of the description's example.
    let opened = fixture.open("box", "enterprise_11446498", Some("a-token-of-the-test")).await.unwrap();
    assert_eq!(
        (&opened.identity["enterprise.id"], &opened.identity["enterprise.name"]),
        (&json!("11446498"), &json!("Acme Inc."))
    );
    let (discovery, sample) = remaining_steps(&opened).await.unwrap();
    assert_eq!(stream_names(&discovery), ["metadata_templates", "root_items"]);
    assert_eq!(discovery.catalog.skipped, []);
    assert!(sample.rows >= 2, "{:?}", sample.evidence);
    let other = fixture.open("box", "1234567", Some("a-token-of-the-test")).await.err().expect("another enterprise");
    assert_eq!(other.class, Class::WrongService);
    let domain = fixture.open("box", "example.app.box.com", Some("a-token-of-the-test")).await.unwrap();
    assert_eq!(domain.identity["hostname"], "https://example.app.box.com/");
}

async fn the_sandbox_answers_as_the_description_of_box_says() {
    let fixture = EngineFixture::at("box", &variable("FILES", "CHECKED"));
    for id in ["enterprise_1234567", "acme.app.box.com"] {
        let opened = fixture.open("box", id, Some("box-sandbox-reader")).await.unwrap();
        assert_eq!(opened.identity["login"], "AutomationUser_1_AaBbCc@boxdevedition.com");
        let (discovery, sample) = remaining_steps(&opened).await.unwrap();
        assert_eq!(discovery.catalog.skipped, []);
        assert_eq!(sample.evidence["streams"], json!({"root_items": 12, "metadata_templates": 3}));
    }
    let denied = fixture.open("box", "1234567", Some("box-sandbox-denied")).await.unwrap();
    let failure = remaining_steps(&denied).await.err().expect("nothing can be read");
    assert_eq!(failure.class, Class::PermissionDenied, "{failure:?}");
}

async fn prism_refuses_what_the_description_does_not_have() {
    for base in [variable("FILES", "MOCK"), variable("FILES", "CHECKED")] {
        let status = |path: &str, token: Option<&str>| {
            let mut request = http_client().get(format!("{base}{path}"));
            if let Some(token) = token {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            async move { request.send().await.unwrap().status().as_u16() }
        };
        assert_eq!(status("/2.0/users/me", Some("box-sandbox-reader")).await, 200);
        assert_eq!(status("/2.0/users/me", None).await, 401);
        assert_eq!(status("/2.0/user/me", Some("box-sandbox-reader")).await, 404);
        assert_eq!(status("/2.0/folders/0/items?limit=many", Some("box-sandbox-reader")).await, 422);
    }
}

/// Runs the script of the peer and returns what it prints.
async fn client(arguments: &[&str]) -> Value {
    let ran = Command::new(variable("FILES", "PYTHON"))
        .arg(variable("FILES", "SCRIPT"))
        .args(arguments)
        .env("HTTPS_PROXY", variable("FILES", "SANDBOX"))
        .env("REQUESTS_CA_BUNDLE", variable("FILES", "CA"))
        .output()
        .await
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    serde_json::from_slice(&ran.stdout).unwrap()
}

async fn of_box(name: &str) -> Value {
    client(&["box", &variable("FILES", "CREDENTIALS"), name]).await
}

async fn box_s_client_accepts_the_sandbox() {
    for name in ["box-sandbox-reader", "jwt", "ccg"] {
        let read = of_box(name).await;
        assert_eq!(
            (&read["enterprise"], &read["hostname"]),
            (&json!("1234567"), &json!("https://acme.app.box.com/")),
            "{name}: {read}"
        );
        assert_eq!((read["items"].as_array().map(Vec::len), &read["pages"]), (Some(12), &json!(3)), "{name}: {read}");
        assert_eq!(read["templates"], json!(["contract1", "contract2", "contract3"]), "{name}");
    }
    let empty = of_box("box-sandbox-empty").await;
    assert_eq!((&empty["items"], &empty["pages"]), (&json!([]), &json!(1)));
}

async fn box_s_client_is_refused_as_box_documents_it() {
    for (name, status, text) in [
        ("ccg_wrong_secret", 400, "invalid_client"),
        ("jwt_wrong_enterprise", 400, "'sub' claim"),
        ("jwt_wrong_key", 400, "Signature verification error"),
        ("box-sandbox-unknown", 401, "invalid_token"),
        ("box-sandbox-no-scope", 403, "insufficient_scope"),
        ("box-sandbox-denied", 403, "access_denied_insufficient_permissions"),
        ("box-sandbox-limited", 429, "rate_limit_exceeded"),
    ] {
        let refused = of_box(name).await;
        assert_eq!(refused["status"], status, "{name}: {refused}");
        assert!(refused.to_string().contains(text), "{name}: {refused}");
    }
}

async fn dropbox_s_client_accepts_the_sandbox() {
    let personal = client(&["dropbox", "sl.sandbox-reader"]).await;
    assert_eq!((&personal["account"], &personal["root"], &personal["team"]), (&json!(ACCOUNT), &json!("3235641"), &Value::Null));
    assert_eq!(personal["names"].as_array().map(Vec::len), Some(12), "{personal}");
    let member = client(&["dropbox", "sl.sandbox-member"]).await;
    assert_eq!((&member["root"], &member["team"]), (&json!("7"), &json!(TEAM)));
    let selected = client(&["dropbox", "sl.sandbox-team-files", MEMBER]).await;
    assert_eq!((&selected["email"], &selected["root"]), (&json!("mary@acme.example"), &json!("7")));
    let team = client(&["dropbox", "sl.sandbox-team", "team"]).await;
    assert_eq!((&team["team"], team["members"].as_array().map(Vec::len)), (&json!(TEAM), Some(12)), "{team}");
}

async fn dropbox_s_client_knows_the_errors_of_the_sandbox() {
    for (arguments, error, text) in [
        (["sl.sandbox-unknown"].as_slice(), "AuthError", "invalid_access_token"),
        (&["sl.sandbox-expired"], "AuthError", "expired_access_token"),
        (&["sl.sandbox-suspended"], "AuthError", "user_suspended"),
        (&["sl.sandbox-account-only"], "AuthError", "files.metadata.read"),
        (&["sl.sandbox-team-files", "dbmid:AAHformer"], "AuthError", "invalid_select_user"),
        (&["sl.sandbox-team"], "BadInputError", "for an entire Dropbox Business team"),
        (&["sl.sandbox-reader", "team"], "BadInputError", "DfB team management function"),
        (&["sl.sandbox-gone"], "ApiError", "not_found"),
        (&["sl.sandbox-member-without-root"], "PathRootError", "no_permission"),
        (&["sl.sandbox-limited"], "RateLimitError", "too_many_requests"),
    ] {
        let refused = client(&[&["dropbox"], arguments].concat()).await;
        assert_eq!(refused["error"], error, "{arguments:?}: {refused}");
        assert!(refused["text"].as_str().is_some_and(|found| found.contains(text)), "{arguments:?}: {refused}");
    }
}

async fn the_family_dropbox_reads_a_server_without_tls() {
    let fixture = EngineFixture::at("dropbox", &variable("FILES", "DROPBOX"));
    let opened = fixture.open("dropbox", ACCOUNT, Some("sl.sandbox-reader")).await.unwrap();
    assert!(matches!(opened.privilege, Privilege::Unknown { .. }), "{:?}", opened.privilege);
    let (discovery, sample) = remaining_steps(&opened).await.unwrap();
    assert_eq!((discovery.catalog.skipped, sample.rows), (vec![], 12));
    let opened = fixture.open("dropbox", TEAM, Some("sl.sandbox-team")).await.unwrap();
    let (_, sample) = remaining_steps(&opened).await.unwrap();
    assert_eq!(sample.evidence["streams"], json!({"members": 12, "team": 1}));
}
