//! The family `gworkspace_drive` against google-drive-mock, a mock of the Drive API that others wrote. It knows about and
//! files with their pages and two tokens; it has no tokeninfo, so the scopes of a token are not known there. And the sandbox's Drive
//! against Google's own client, which knows Google's discovery document.

use crate::harness::variable;
use crate::support::lowcode_families::{EngineFixture, remaining_steps, stream_names};
use aam::model::{Class, Privilege};
use serde_json::{Value, json};
use std::process::Command;

peer_tests! {
    [Drivemock]: a_drive_of_the_mock_is_read, a_wrong_token_and_another_domain_are_refused, the_client_of_google_accepts_the_sandbox;
}

fn drivemock() -> String {
    variable("DRIVEMOCK", "URL")
}

async fn a_drive_of_the_mock_is_read() {
    let client = reqwest::Client::new();
    for number in 0..45 {
        let file = json!({"name": format!("Plan {number}"), "mimeType": "text/plain"});
        let request = client.post(format!("{}/files", drivemock())).bearer_auth("valid-token").json(&file);
        assert!(request.send().await.expect("the mock").status().is_success());
    }
    let fixture = EngineFixture::at("gworkspace_drive", &drivemock());
    let opened = fixture.open("gworkspace_drive", "domain_example.com", Some("valid-token")).await.expect("the drive");
    assert_eq!(opened.identity["matched"], "domain is example.com");
    assert!(matches!(opened.privilege, Privilege::Unknown { .. }), "{:?}", opened.privilege);
    let (discovery, sample) = remaining_steps(&opened).await.expect("the other steps");
    assert_eq!((stream_names(&discovery), sample.rows), (vec!["files"], 20));
}

async fn a_wrong_token_and_another_domain_are_refused() {
    let fixture = EngineFixture::at("gworkspace_drive", &drivemock());
    let wrong = fixture.open("gworkspace_drive", "example.com", Some("no-token-of-the-mock")).await.err().expect("a refusal");
    assert_eq!((wrong.class, wrong.title.as_str()), (Class::CredentialRejected, "Google does not accept the access token"));
    let other = fixture.open("gworkspace_drive", "acme.example", Some("valid-token")).await.err().expect("another domain");
    assert_eq!(other.class, Class::WrongService);
    assert!(other.title.contains("example.com"), "{other:?}");
}

async fn the_client_of_google_accepts_the_sandbox() {
    let python = |name: &str| variable("DRIVEMOCK", name);
    let ran = Command::new(python("PYTHON"))
        .args([python("SCRIPT"), python("CREDENTIALS"), "aam@acme.example".to_string()])
        .env("HTTPS_PROXY", python("SANDBOX"))
        .env("REQUESTS_CA_BUNDLE", python("CA"))
        .output()
        .expect("python");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let read: Value = serde_json::from_slice(&ran.stdout).expect("JSON");
    assert_eq!(read["email"], "aam@acme.example");
    assert_eq!(read["pages"], json!([5, 5, 2]));
    assert_eq!(read["own_files"], 0, "without corpora only the files of the user are searched");
    assert_eq!(read["customer"], "C03az79cb");
    assert_eq!(read["without_fields"], json!([400, "required"]));
    assert_eq!(read["drives"], json!([403, "ACCESS_TOKEN_SCOPE_INSUFFICIENT"]), "drives.list needs drive.readonly");
    assert_eq!(read["unknown_file"], json!([404, "notFound"]));
    assert!(read["other_scope"].as_str().is_some_and(|text| text.contains("unauthorized_client")), "{read}");
}
