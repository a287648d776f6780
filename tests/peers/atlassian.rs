//! The families jira and confluence and their sandbox, checked by software of others: Atlassian's own description of the platform
//! API through prism, jira820 as a Data Center, and atlassian-python-api as a client of the sandbox.

use crate::harness::{http_client, variable};
use crate::support::lowcode_families::{EngineFixture, policy, remaining_steps, stream_names};
use serde_json::{Value, json};
use tokio::process::Command;

const SITE: &str = "acme.atlassian.net";
const READER: &str = "reader@acme.example:ATATT3xSandboxReader0000000000";

peer_tests! {
    [Atlassian]: the_sandbox_answers_as_atlassian_s_description_says, all_calls_fit_atlassian_s_description,
        prism_refuses_what_the_description_does_not_have, the_family_reads_a_data_center_of_others,
        atlassian_python_api_accepts_the_sandbox, atlassian_python_api_is_refused_with_a_wrong_token;
}

async fn the_sandbox_answers_as_atlassian_s_description_says() {
    let fixture = EngineFixture::at("jira", &variable("ATLASSIAN", "CHECKED"));
    let opened = fixture.open("jira", SITE, Some(READER)).await.unwrap();
    let (discovery, sample) = remaining_steps(&opened).await.unwrap();
    // The description does not have /search/jql yet, so prism refuses it.
    assert_eq!(stream_names(&discovery), ["fields", "issue_types", "projects"]);
    assert_eq!(discovery.catalog.skipped.iter().map(|skipped| skipped.name.as_str()).collect::<Vec<_>>(), ["issues"]);
    assert_eq!(sample.rows, 18);
}

async fn all_calls_fit_atlassian_s_description() {
    let base = variable("ATLASSIAN", "MOCK");
    let failure =
        EngineFixture::at("jira", &base).open("jira", SITE, Some(READER)).await.err().expect("an example of another site");
    // prism's example of /myself is of your-domain.atlassian.net: the call was accepted, and the identity is another one.
    assert!(failure.title.contains("your-domain.atlassian.net"), "{failure:?}");
    for path in ["/mypermissions?permissions=EDIT_ISSUES", "/project/search?maxResults=20", "/issuetype", "/field"] {
        let request = http_client().get(format!("{base}/rest/api/3{path}")).basic_auth("reader@acme.example", Some("token"));
        assert_eq!(request.send().await.unwrap().status(), 200, "{path}");
    }
}

async fn prism_refuses_what_the_description_does_not_have() {
    for base in [variable("ATLASSIAN", "MOCK"), variable("ATLASSIAN", "CHECKED")] {
        let status = |path: &str| {
            let request = http_client()
                .get(format!("{base}{path}"))
                .basic_auth("reader@acme.example", Some("ATATT3xSandboxReader0000000000"));
            async move { request.send().await.unwrap().status().as_u16() }
        };
        assert_eq!(status("/rest/api/3/field").await, 200);
        assert_eq!(status("/rest/api/3/search/jql").await, 404);
        assert!((400..500).contains(&status("/rest/api/3/project/search?maxResults=many").await));
    }
}

async fn the_family_reads_a_data_center_of_others() {
    let server = variable("ATLASSIAN", "SERVER");
    let fixture = EngineFixture::new(policy(&format!("families: {{jira: {{hosts: [\"{server}\"]}}}}")));
    for credential in ["reader:a-password-of-the-test", "a-personal-access-token-of-the-test"] {
        let opened = fixture.open("jira", &server, Some(credential)).await.unwrap();
        let (discovery, sample) = remaining_steps(&opened).await.unwrap();
        let names = stream_names(&discovery);
        assert!(names.contains(&"projects") && names.contains(&"issues"), "{names:?}, skipped {:?}", discovery.catalog.skipped);
        assert!(sample.rows > 0, "{:?}", sample.evidence);
    }
}

/// Runs atlassian-python-api with these credentials of the sandbox and returns what it prints.
async fn package(site_token: &str) -> Value {
    let credentials = json!({
        "jira": ["reader@acme.example", site_token],
        "wiki": ["reader@acme.example", site_token.replace("Reader", "WikiReader")],
        "server": "OTI2NDc3Njg0NzE4Osandboxreader000000000000",
        "server_wiki": "OTI2NDc3Njg0NzE4Owikireader000000000000",
        "gateway": "sandbox-oauth-reader",
    });
    let ran = Command::new(variable("ATLASSIAN", "PYTHON"))
        .arg(variable("ATLASSIAN", "SCRIPT"))
        .arg(credentials.to_string())
        .env("HTTPS_PROXY", variable("ATLASSIAN", "SANDBOX"))
        .env("REQUESTS_CA_BUNDLE", variable("ATLASSIAN", "CA"))
        .output()
        .await
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    serde_json::from_slice(&ran.stdout).unwrap()
}

async fn atlassian_python_api_accepts_the_sandbox() {
    let read = package("ATATT3xSandboxReader0000000000").await;
    let site = &read["site"];
    assert!(site["account"].is_string() && site["fields"].as_array().unwrap().contains(&json!("customfield_10010")), "{read}");
    assert_eq!((&site["may_edit"], &site["issues"], &site["projects"]), (&json!(false), &json!(12), &json!(12)), "{read}");
    assert!(site["issue_types"].as_u64().unwrap() > 0, "{read}");
    assert!(read["gateway"].is_string(), "{read}");
    assert_eq!((&read["server"]["projects"], &read["server"]["issues"]), (&json!(12), &json!(12)), "{read}");
    assert_eq!(read["wiki"], json!({"type": "known", "spaces": 12, "pages": 5}));
    assert_eq!(read["server_wiki"], 12);
}

async fn atlassian_python_api_is_refused_with_a_wrong_token() {
    let read = package("ATATT3xSandboxNobody0000000000").await;
    for part in ["account", "fields", "issues", "projects"] {
        assert_eq!(read["site"][part]["message"], "Unauthorized (401)", "{part}: {read}");
    }
}
