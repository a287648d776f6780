//! The sandbox's GitLab, checked by two programs that read GitLab for others: python-gitlab and airbyte-source-gitlab. The family
//! `gitlab` itself meets the sandbox in the conformance suite; no server of GitLab and no recording of one was found.

use crate::harness::variable;
use crate::support::lowcode_families::{EngineFixture, remaining_steps};
use aam::model::Privilege;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tokio::process::Command;

peer_tests! {
    [Gitlab]: python_gitlab_accepts_the_sandbox, airbyte_s_connector_accepts_the_sandbox,
        the_family_reads_a_server_without_tls_under_its_base_url;
}

const READER: &str = "glpat-sandbox-reader";

/// Runs python-gitlab and returns what it prints.
async fn package(token: &str, group: &str, project: &str) -> Value {
    let ran = Command::new(variable("GITLAB", "PYTHON"))
        .arg(variable("GITLAB", "SCRIPT"))
        .args([token, group, project])
        .env("HTTPS_PROXY", variable("GITLAB", "SANDBOX"))
        .env("REQUESTS_CA_BUNDLE", variable("GITLAB", "CA"))
        .output()
        .await
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    serde_json::from_slice(&ran.stdout).unwrap()
}

fn different(list: &Value) -> usize {
    list.as_array().unwrap().iter().map(|item| item.as_str().unwrap()).collect::<BTreeSet<_>>().len()
}

async fn python_gitlab_accepts_the_sandbox() {
    let read = package(READER, "acme", "acme/website").await;
    assert_eq!(read["group"]["full_path"], "acme");
    assert_eq!((different(&read["group"]["projects"]), different(&read["group"]["subgroups"])), (12, 12), "{read}");
    assert_eq!((read["project"]["path"].as_str(), different(&read["project"]["labels"])), (Some("acme/website"), 12));
    assert_eq!(read["scopes"], json!(["read_api"]));
    let missing = package(READER, "nobody", "acme/nothing").await;
    assert_eq!((&missing["group"]["error"], &missing["group"]["message"]), (&json!(404), &json!("404 Group Not Found")));
    assert_eq!(missing["project"]["message"], "404 Project Not Found");
    let other = package("glpat-sandbox-other", "acme", "acme/website").await;
    assert_eq!((&other["group"]["error"], &other["project"]["error"]), (&json!(404), &json!(404)), "strangers see nothing");
    let narrow = package("glpat-sandbox-files", "acme", "acme/website").await;
    assert_eq!((&narrow["group"]["error"], &narrow["group"]["message"]), (&json!(403), &json!("insufficient_scope")));
    assert_eq!(narrow["scopes"], json!(["read_repository"]), "a token of any scope may read itself");
    let expired = package("glpat-sandbox-expired", "acme", "acme/website").await;
    assert_eq!((&expired["group"]["error"], &expired["scopes"]["message"]), (&json!(401), &json!("invalid_token")));
}

async fn airbyte_s_connector_accepts_the_sandbox() {
    let folder = tempfile::tempdir().unwrap();
    for (token, status) in [(READER, "SUCCEEDED"), ("glpat-sandbox-nobody", "FAILED")] {
        let config = json!({
            "credentials": {"auth_type": "access_token", "access_token": token},
            "api_url": variable("GITLAB", "PLAIN"), "start_date": "2021-01-01T00:00:00Z", "groups_list": ["acme"],
        });
        let path = folder.path().join("config.json");
        std::fs::write(&path, config.to_string()).unwrap();
        let ran = Command::new(variable("GITLAB", "CONNECTOR")).args(["check", "--config"]).arg(&path).output().await.unwrap();
        let lines = String::from_utf8_lossy(&ran.stdout).into_owned();
        let mut messages = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let found = messages.rfind(|message| message["type"] == "CONNECTION_STATUS");
        assert_eq!(found.map(|message| message["connectionStatus"]["status"].clone()), Some(json!(status)), "{lines}");
    }
}

async fn the_family_reads_a_server_without_tls_under_its_base_url() {
    for base in [variable("GITLAB", "PLAIN"), format!("{}/api/v4", variable("GITLAB", "PLAIN"))] {
        let fixture = EngineFixture::at("gitlab", &base);
        for (id, rows) in [("acme", 20), ("acme/website", 13), ("project:101001", 13)] {
            let opened = fixture.open("gitlab", id, Some(READER)).await.unwrap();
            assert_eq!(opened.privilege, Privilege::Ok);
            assert!(opened.identity["ends_at"].as_str().is_some_and(|end| end.contains("T00:00:00")), "{:?}", opened.identity);
            let (discovery, sample) = remaining_steps(&opened).await.unwrap();
            assert_eq!((discovery.catalog.skipped, sample.rows), (vec![], rows), "{id}");
        }
    }
}
