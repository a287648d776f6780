//! The family `workday` against a description of the common service that others wrote: prism refuses calls that do not fit it, and
//! answers of the sandbox that do not fit it.

use crate::harness::variable;
use crate::support::lowcode_families::{EngineFixture, remaining_steps, stream_names};
use aam::model::Class;
use serde_json::json;

mod listed {
    use super::all_calls_fit_the_description_of_the_common_service;
    peer_tests! {
        [Workday]: all_calls_fit_the_description_of_the_common_service;
    }
}

/// The tests, where the description is provided. It is in no package registry.
pub fn tests() -> Vec<crate::harness::PeerTest> {
    if std::env::var_os("AAM_WORKDAY_DESCRIPTION").is_some() { listed::tests() } else { Vec::new() }
}

async fn all_calls_fit_the_description_of_the_common_service() {
    let fixture = EngineFixture::at("workday", &variable("WORKDAY", "CHECKED"));
    let id = "wd2-impl-services1.workday.com/acme";
    let opened = fixture.open("workday", id, Some("sandbox0access0token0of0workday0reader")).await.unwrap();
    assert_eq!((&opened.identity["auth"], &opened.identity["tenant"]), (&json!("token"), &json!("acme")));
    let (discovery, sample) = remaining_steps(&opened).await.unwrap();
    // prism does not know the data sources of WQL, which the description does not have.
    assert_eq!(stream_names(&discovery), ["organization_types", "supervisory_organizations", "workers"]);
    assert_eq!(discovery.catalog.skipped.len(), 1, "{:?}", discovery.catalog.skipped);
    assert_eq!(sample.rows, 20);
    let refused = fixture.open("workday", id, Some("sandbox0access0token0without0any0area")).await.err().unwrap();
    assert_eq!(refused.class, Class::PermissionDenied, "{refused:?}");
    let refused = fixture.open("workday", id, Some("sandbox0access0token0that0has0ended")).await.err().unwrap();
    assert_eq!(refused.class, Class::CredentialRejected, "{refused:?}");
}
