//! Names that a vendor returns, errors within its successes, and answers that say something about one call only.

use crate::support::lowcode_families::{EngineFixture, MockVendor, ReceivedRequest, json_response_with, remaining_steps};
use crate::support::openapi::{MockResponse, json_response};
use aam::connectors::{Discovery, Sample};
use aam::model::{Class, Failure, Privilege};
use serde_json::json;
use std::sync::{Arc, Mutex};

/// What an attempt found, and the paths of its calls.
type Attempt = (Result<(Discovery, Sample, Privilege), Failure>, Vec<String>);

async fn attempt(
    (family, id, secret): (&str, &str, &str),
    answer: impl Fn(&ReceivedRequest) -> MockResponse + Clone + Send + Sync + 'static,
) -> Attempt {
    let paths = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&paths);
    let vendor = MockVendor::start(move |_, request: &ReceivedRequest| {
        seen.lock().unwrap().push(request.path().to_string());
        answer(request)
    })
    .await;
    let found = async {
        let opened = EngineFixture::at(family, &vendor.base).open(family, id, Some(secret)).await?;
        let (discovery, sample) = remaining_steps(&opened).await?;
        Ok((discovery, sample, opened.privilege))
    }
    .await;
    let paths = paths.lock().unwrap().clone();
    (found, paths)
}

const SERVICENOW: (&str, &str, &str) =
    ("servicenow", "acme", r#"{"username": "aam.reader", "password": "pass-of-the-reader-1"}"#);

/// A ServiceNow instance with these tables. `roles` answers the call for the roles of the user.
fn servicenow(request: &ReceivedRequest, tables: &[&str], roles: &MockResponse) -> MockResponse {
    let rows = match request.path().rsplit('/').next().unwrap_or_default() {
        "sys_user" => json!([{"sys_id": "a1", "user_name": "aam.reader"}]),
        "sys_user_has_role" => return roles.clone(),
        "sys_db_object" => tables.iter().map(|name| json!({"name": name, "super_class.name": ""})).collect(),
        "sys_dictionary" => json!([{"element": "number", "internal_type": "string"}]),
        _ => json!([{"sys_id": "b1", "sys_updated_on": "2026-01-01 00:00:00"}]),
    };
    json_response(json!({"result": rows}).to_string())
}

fn read_only() -> MockResponse {
    json_response(json!({"result": [{"role.name": "snc_read_only", "user.user_name": "aam.reader"}]}).to_string())
}

/// A name that leads out of its path is skipped with its reason, and every other name is one segment.
#[tokio::test]
async fn the_name_of_a_table_does_not_change_the_path_of_a_call() {
    let tables = ["incident", "../../now/attachment", "..", "u_a/b?sysparm_limit=100000#"];
    let (found, paths) = attempt(SERVICENOW, move |request| servicenow(request, &tables, &read_only())).await;
    let catalog = found.unwrap().0.catalog;
    let skipped: Vec<&str> = catalog.skipped.iter().map(|stream| stream.name.as_str()).collect();
    assert_eq!(skipped, ["..", "../../now/attachment"], "{paths:?}");
    assert!(catalog.skipped.iter().all(|stream| stream.reason.contains("would change the address of a call")), "{catalog:?}");
    assert!(paths.iter().all(|path| path.starts_with("/api/now/table/") && !path.contains("attachment")), "{paths:?}");
    let names: Vec<&str> = catalog.streams.iter().map(|stream| stream.name.as_str()).collect();
    assert_eq!(names, ["incident", "u_a/b?sysparm_limit=100000#"]);
}

/// The verdict is optional: a call that egress refuses does not end the attempt.
#[tokio::test]
async fn a_list_of_grants_that_leads_to_another_host_makes_the_verdict_unknown() {
    let azure = ("azure_sub", "6f1e2c3d-4b5a-4c6d-8e7f-90a1b2c3d4e5", r#"{"token": "token-of-the-test-of-azure-1"}"#);
    let answer = |request: &ReceivedRequest| {
        let body = match request.path() {
            path if path.ends_with("/permissions") => {
                json!({"value": [{"actions": ["*/read"], "notActions": []}], "nextLink": "https://evil.example/next"})
            }
            path if path.ends_with("4e5") => {
                json!({"id": "/subscriptions/6f1e2c3d-4b5a-4c6d-8e7f-90a1b2c3d4e5", "subscriptionId": "6f1e2c3d-4b5a-4c6d-8e7f-90a1b2c3d4e5", "state": "Enabled", "displayName": "s", "tenantId": "t"})
            }
            _ => json!({"value": []}),
        };
        json_response(body.to_string())
    };
    let (found, paths) = attempt(azure, answer).await;
    match found {
        Ok((.., privilege)) => assert!(matches!(privilege, Privilege::Unknown { .. }), "{privilege:?} {paths:?}"),
        Err(failure) => assert_ne!(failure.class, Class::EgressRefused, "{failure:?} {paths:?}"),
    }
}

/// A server that is not available and asks to wait is waited for, and the family says what it means.
#[tokio::test]
async fn an_unavailable_server_keeps_its_cause_and_its_wait() {
    let zendesk = ("zendesk", "acme.zendesk.com", r#"{"token": "token-of-the-test-of-zendesk"}"#);
    let maintenance = json!({"error": "ServiceUnavailable", "description": "Zendesk is undergoing maintenance"});
    let (found, _) = attempt(zendesk, move |_| json_response_with(503, &[("retry-after", "120")], &maintenance)).await;
    let failure = found.err().unwrap();
    assert_eq!((failure.class, failure.retry_after_ms), (Class::Throttled, Some(120_000)), "{failure:?}");
    assert!(failure.title.contains("maintenance") && !failure.fix.contains("lower caps"), "{failure:?}");
}

/// Null in place of a list is an empty list, and the evidence says so.
#[tokio::test]
async fn null_in_place_of_a_list_is_named() {
    let (found, paths) = attempt(SERVICENOW, move |request| match request.path().ends_with("/incident") {
        true => json_response(r#"{"result": null}"#),
        false => servicenow(request, &["incident"], &read_only()),
    })
    .await;
    let sample = found.unwrap().1;
    assert!(
        sample.evidence["null_lists"].as_str().is_some_and(|note| note.contains("incident")),
        "{:?} {paths:?}",
        sample.evidence
    );
}
