//! The family `snowflake` against Snowflake's own description of the SQL API: prism refuses calls that do not fit it, as a mock
//! and as a proxy before the sandbox, whose answers it checks too. It does not verify credentials.

use crate::harness::variable;
use crate::support::lowcode_families::{EngineFixture, remaining_steps};
use aam::model::{Class, Privilege};
use serde_json::json;

mod listed {
    use super::{every_call_fits_the_description_of_snowflake, the_sandbox_answers_as_the_description_of_snowflake_says};
    peer_tests! {
        [Sqlapi]: every_call_fits_the_description_of_snowflake, the_sandbox_answers_as_the_description_of_snowflake_says;
    }
}

/// The tests, where the description is provided. It is in no package registry.
pub fn tests() -> Vec<crate::harness::PeerTest> {
    if std::env::var_os("AAM_SNOWFLAKE_DESCRIPTION").is_some() { listed::tests() } else { Vec::new() }
}

/// Prism answers every call that fits the description with an example, which is not an answer about this account. A call that
/// does not fit gets 4xx.
async fn every_call_fits_the_description_of_snowflake() {
    let fixture = EngineFixture::at("snowflake", &variable("SQLAPI", "MOCK"));
    let other = fixture.open("snowflake", "acme-prod", Some("any-token-of-the-test")).await.err().expect("an example");
    assert_eq!(other.class, Class::WrongService, "{other:?}");
    let url = format!("{}/api/v2/statements", variable("SQLAPI", "MOCK"));
    let wrong = reqwest::Client::new().post(url).bearer_auth("x").json(&json!({"statement": 7})).send().await.expect("prism");
    assert!((400..500).contains(&wrong.status().as_u16()), "prism checks the calls: {}", wrong.status());
}

async fn the_sandbox_answers_as_the_description_of_snowflake_says() {
    let fixture = EngineFixture::at("snowflake", &variable("SQLAPI", "CHECKED"));
    let credential = r#"{"token": "snowflake-sandbox-reader", "token_type": "PROGRAMMATIC_ACCESS_TOKEN"}"#;
    let opened = fixture.open("snowflake", "acme-prod", Some(credential)).await.expect("the account");
    assert_eq!(opened.privilege, Privilege::Ok);
    let (discovery, sample) = remaining_steps(&opened).await.expect("the other steps");
    assert_eq!((discovery.catalog.streams.len(), sample.rows), (13, 13));
    let wrong =
        fixture.open("snowflake", "acme-prod", Some(r#"{"token": "nobody", "token_type": "PROGRAMMATIC_ACCESS_TOKEN"}"#)).await;
    assert_eq!(wrong.err().map(|failure| failure.class), Some(Class::CredentialRejected));
}
