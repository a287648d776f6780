//! The sandbox's PagerDuty, checked by PagerDuty's own client, and by prism with PagerDuty's description where it is provided. No server of
//! PagerDuty was found.

use crate::harness::variable;
use crate::support::lowcode_families::{EngineFixture, remaining_steps, stream_names};
use aam::model::{Class, Privilege};
use serde_json::{Value, json};
use tokio::process::Command;

mod judges {
    use super::pagerduty_s_own_client_accepts_the_sandbox;
    peer_tests! {
        [Pagerduty]: pagerduty_s_own_client_accepts_the_sandbox;
    }
}

mod described {
    use super::all_calls_fit_pagerduty_s_description;
    peer_tests! {
        [Pagerduty]: all_calls_fit_pagerduty_s_description;
    }
}

/// The tests. PagerDuty's description is in no package registry, so its test runs where it is provided.
pub fn tests() -> Vec<crate::harness::PeerTest> {
    let described = std::env::var_os("AAM_PAGERDUTY_DESCRIPTION").map(|_| described::tests());
    judges::tests().into_iter().chain(described.unwrap_or_default()).collect()
}

/// Runs PagerDuty's client and returns what it prints.
async fn client(arguments: &[&str]) -> Value {
    let ran = Command::new(variable("PAGERDUTY", "PYTHON"))
        .arg(variable("PAGERDUTY", "SCRIPT"))
        .args(arguments)
        .env("HTTPS_PROXY", variable("PAGERDUTY", "SANDBOX"))
        .env("SSL_CERT_FILE", variable("PAGERDUTY", "CA"))
        .output()
        .await
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    serde_json::from_slice(&ran.stdout).unwrap()
}

async fn pagerduty_s_own_client_accepts_the_sandbox() {
    for (arguments, subdomain, access) in [
        (vec!["sandboxAccountKey001"], "acme", "account"),
        (vec!["u+sandboxUserKey0001"], "acme", "user"),
        (vec!["pdus+_0SANDBOX_reader"], "acme", "account"),
        (vec!["pdeu+_0SANDBOX_reader", "https://api.eu.pagerduty.com"], "acme-europe", "account"),
    ] {
        let read = client(&arguments).await;
        assert_eq!((&read["subdomain"], &read["access"]), (&json!(subdomain), &json!(access)), "{read}");
        for (list, count) in [("users", 13), ("services", 12), ("teams", 12)] {
            assert_eq!(read[list].as_array().map(Vec::len), Some(count), "{list}: {read}");
        }
    }
    for key in ["sandboxAccountKey999", "pdeu+_0SANDBOX_reader", "pdus+_0SANDBOX_expired"] {
        assert_eq!(client(&[key]).await["services"]["error"], 401, "{key}");
    }
    let narrow = client(&["pdus+_0SANDBOX_services"]).await;
    assert_eq!((narrow["services"].as_array().map(Vec::len), &narrow["users"]["error"]), (Some(12), &json!(403)), "{narrow}");
}

async fn all_calls_fit_pagerduty_s_description() {
    let fixture = EngineFixture::at("pagerduty", &variable("PAGERDUTY", "CHECKED"));
    for secret in [json!({"token": "pdus+_0SANDBOX_reader"}), json!({"api_key": "u+sandboxUserKey0002"})] {
        let opened = fixture.open("pagerduty", "acme", Some(&secret.to_string())).await.unwrap();
        assert!(opened.identity["html_url"].as_str().unwrap().starts_with("https://acme.pagerduty.com/users/"));
        let (discovery, sample) = remaining_steps(&opened).await.unwrap();
        assert_eq!(stream_names(&discovery), ["escalation_policies", "schedules", "services", "teams", "users"]);
        assert_eq!((discovery.catalog.skipped, sample.rows), (vec![], 20));
        let by_key = secret["api_key"].is_string();
        assert_eq!(by_key, opened.privilege == Privilege::Ok, "the role of a stakeholder only reads");
    }
    let failure = fixture.open("pagerduty", "other", Some("pdus+_0SANDBOX_reader")).await.err().unwrap();
    assert_eq!(failure.class, Class::WrongService, "{failure:?}");
}
