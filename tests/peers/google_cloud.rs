//! The families gcp_org and bigquery and their sandbox, checked by software of others: Google's own descriptions of Resource
//! Manager and BigQuery through prism, and google-api-python-client with Google's discovery documents.
//!
//! prism refuses calls that a description does not have, calls without an access token, and answers of the sandbox that do not
//! fit. It knows neither scopes nor permissions; the sandbox has those from the discovery documents.

use crate::harness::{http_client, variable};
use crate::support::lowcode_families::{EngineFixture, remaining_steps, stream_names};
use aam::model::Privilege;
use serde_json::{Value, json};
use std::process::Command;

peer_tests! {
    [Google]: gcp_calls_fit_google_s_description, bigquery_calls_fit_google_s_description, prism_refuses_other_calls,
        google_s_client_reads_the_organization, google_s_client_reads_bigquery;
}

async fn gcp_calls_fit_google_s_description() {
    let fixture = EngineFixture::at("gcp_org", &variable("GOOGLE", "ORGANIZATIONS"));
    let token = Some("ya29.sandbox-cloud-reader");
    for (id, privilege) in [("organizations/433637338589", "ok"), ("acme.example", "unknown"), ("C03az79cb", "unknown")] {
        let opened = fixture.open("gcp_org", id, token).await.unwrap();
        assert_eq!(opened.identity["name"], "organizations/433637338589");
        assert_eq!(opened.privilege == Privilege::Ok, privilege == "ok", "{id}: {:?}", opened.privilege);
        let (discovery, sample) = remaining_steps(&opened).await.unwrap();
        assert_eq!(stream_names(&discovery), ["folders", "projects"]);
        assert_eq!((discovery.catalog.skipped, sample.rows), (vec![], 16));
    }
}

async fn bigquery_calls_fit_google_s_description() {
    let fixture = EngineFixture::at("bigquery", &variable("GOOGLE", "BIGQUERY"));
    let token = Some("ya29.sandbox-bigquery-analyst");
    let opened = fixture.open("bigquery", "acme-data.sales", token).await.unwrap();
    assert_eq!((&opened.identity["id"], &opened.identity["location"]), (&json!("acme-data:sales"), &json!("EU")));
    // The description of BigQuery does not have the API that tests permissions.
    assert!(matches!(opened.privilege, Privilege::Unknown { .. }), "{:?}", opened.privilege);
    let (discovery, sample) = remaining_steps(&opened).await.unwrap();
    assert_eq!(stream_names(&discovery), ["customers", "orders", "orders_by_day", "tables", "targets"]);
    assert_eq!((discovery.catalog.skipped, sample.rows), (vec![], 20));
    assert_eq!(sample.evidence["streams"], json!({"tables": 4, "customers": 12, "orders": 4}));
    let opened = fixture.open("bigquery", "acme-data", token).await.unwrap();
    assert_eq!(opened.identity["matched"], "datasetReference.projectId is acme-data");
    let (discovery, _) = remaining_steps(&opened).await.unwrap();
    assert!(stream_names(&discovery).contains(&"sales.orders"), "{:?}", stream_names(&discovery));
}

async fn prism_refuses_other_calls() {
    let status = |path: String, token: Option<&'static str>| async move {
        let mut request = http_client().get(path);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        request.send().await.unwrap().status().as_u16()
    };
    let (cloud, bigquery) = (variable("GOOGLE", "ORGANIZATIONS"), variable("GOOGLE", "BIGQUERY"));
    let reader = Some("ya29.sandbox-cloud-reader");
    assert_eq!(status(format!("{cloud}/v3/folders?pageSize=many"), reader).await, 422);
    assert_eq!(status(format!("{cloud}/v3/people"), reader).await, 404);
    assert_eq!(status(format!("{cloud}/v3/organizations/433637338589"), None).await, 401);
    assert_eq!(status(format!("{bigquery}/bigquery/v2/projects/acme-data/datasets?maxResults=many"), reader).await, 422);
    assert_eq!(status(format!("{bigquery}/bigquery/v2/projects/acme-data/queries"), reader).await, 404);
}

fn read_by_google_s_client() -> Value {
    let ran = Command::new(variable("GOOGLE", "PYTHON"))
        .args([variable("GOOGLE", "SCRIPT"), variable("GOOGLE", "CREDENTIALS")])
        .env("HTTPS_PROXY", variable("GOOGLE", "SANDBOX"))
        .env("REQUESTS_CA_BUNDLE", variable("GOOGLE", "CA"))
        .output()
        .expect("python");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    serde_json::from_slice(&ran.stdout).expect("JSON")
}

async fn google_s_client_reads_the_organization() {
    let read = read_by_google_s_client();
    assert_eq!((&read["organization"], &read["by_domain"]), (&json!("acme.example"), &json!("organizations/433637338589")));
    assert_eq!(read["by_other_domain"], json!({}), "a search leaves out what the caller may not get");
    assert_eq!(read["permissions"], json!(["resourcemanager.organizations.get"]));
    assert_eq!((&read["folders"], &read["projects"]), (&json!([3, 1]), &json!([5, 5, 2])));
    assert_eq!(read["projects_of_a_viewer"], json!({}));
    assert_eq!(read["folders_of_a_viewer"], json!([403, "IAM_PERMISSION_DENIED"]));
    assert_eq!(read["other_organization"], json!([403, "IAM_PERMISSION_DENIED"]));
    assert!(read["deletion"].as_str().is_some_and(|text| text.contains("unauthorized_client")), "{read}");
}

async fn google_s_client_reads_bigquery() {
    let read = read_by_google_s_client();
    assert_eq!((&read["dataset"], &read["access"]), (&json!("EU"), &json!(true)));
    assert_eq!((&read["datasets"], &read["tables"]), (&json!([3, 1]), &json!([3, 1])));
    assert_eq!(read["columns"], json!(["order_id", "title", "placed_at", "address", "lines", "tags"]));
    assert_eq!(read["rows"], 5);
    assert_eq!(read["rows_of_a_view"], json!([400, "invalid"]));
    assert_eq!(read["rows_without_a_role"], json!([403, "accessDenied"]));
    assert_eq!(read["unknown_dataset"], json!([404, "notFound"]));
}
