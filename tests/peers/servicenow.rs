//! The family `servicenow` against a description of the Table API that others wrote: prism refuses calls that do not fit it, as a
//! mock and as a proxy before the sandbox. The description names path, parameters with their types and authentication; it does not
//! describe rows, so the mock cannot be a user.

use crate::harness::variable;
use crate::support::lowcode_families::{EngineFixture, remaining_steps, stream_names};
use aam::model::{Class, Privilege};
use serde_json::json;

mod listed {
    use super::{a_stranger_is_not_proven_by_the_mock, all_calls_fit_the_description_of_the_table_api};
    peer_tests! {
        [Servicenow]: all_calls_fit_the_description_of_the_table_api, a_stranger_is_not_proven_by_the_mock;
    }
}

/// The tests, where the description is provided. It is in no package registry.
pub fn tests() -> Vec<crate::harness::PeerTest> {
    if std::env::var_os("AAM_SERVICENOW_DESCRIPTION").is_some() { listed::tests() } else { Vec::new() }
}

async fn all_calls_fit_the_description_of_the_table_api() {
    let fixture = EngineFixture::at("servicenow", &variable("SERVICENOW", "CHECKED"));
    let credential = json!({"username": "aam.reader", "password": "Reader-sandbox-1"}).to_string();
    let opened = fixture.open("servicenow", "acme", Some(&credential)).await.unwrap();
    assert_eq!((&opened.identity["auth"], &opened.identity["user_name"]), (&json!("basic"), &json!("aam.reader")));
    assert_eq!(opened.privilege, Privilege::Ok, "snc_read_only takes away what itil may write");
    let (discovery, sample) = remaining_steps(&opened).await.unwrap();
    assert_eq!(stream_names(&discovery), ["incident", "problem", "u_contract"]);
    let columns = &discovery.catalog.streams[0].json_schema["properties"];
    assert_eq!(columns["sys_updated_on"]["format"], "date-time", "a column of the table that incident extends");
    assert_eq!(columns["severity"]["type"], json!(["null", "integer"]));
    assert_eq!(discovery.catalog.streams[2].json_schema["properties"]["u_shape"]["type"], json!(["null", "string"]));
    assert_eq!(sample.rows, 20);
    let token = "sandbox-0Token0Of0Oauth0User0000000000000000000000000000000000000000000000000000000001";
    let opened = fixture.open("servicenow", "acme", Some(token)).await.unwrap();
    assert_eq!((&opened.identity["auth"], &opened.identity["user_name"]), (&json!("token"), &json!("aam.oauth")));
}

async fn a_stranger_is_not_proven_by_the_mock() {
    let fixture = EngineFixture::at("servicenow", &variable("SERVICENOW", "MOCK"));
    let credential = json!({"username": "aam.reader", "password": "x-of-the-test-1"}).to_string();
    let failure = fixture.open("servicenow", "acme", Some(&credential)).await.err().unwrap();
    // The mock accepts the call, and answers with an object that has no rows.
    assert_eq!(failure.class, Class::WrongService, "{failure:?}");
}
