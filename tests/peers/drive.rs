//! The family `gworkspace_drive` against google-drive-mock, a mock of the Drive API that others wrote. It knows about and
//! files with their pages and two tokens; it has no tokeninfo, so the scopes of a token are not known there.

use crate::harness::variable;
use crate::support::lowcode_families::{EngineFixture, remaining_steps, stream_names};
use aam::model::{Class, Privilege};
use serde_json::json;

peer_tests! {
    [Drivemock]: a_drive_of_the_mock_is_read, a_wrong_token_and_another_domain_are_refused;
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
