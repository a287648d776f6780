//! The family `snowflake` against snowduck, a server of the SQL API that others wrote, and its key-pair token against the one
//! that Snowflake's own connector signs.

use crate::harness::{http_client, variable};
use crate::support::lowcode_families::{EngineFixture, MockVendor, json_response_with, remaining_steps};
use crate::support::vendors::vendor_key;
use aam::model::{Class, Privilege};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use std::io::Write;
use std::process::{Command, Stdio};

peer_tests! {
    [Snowduck]: an_account_of_snowduck_is_read, the_token_has_the_claims_of_the_connector, the_sandbox_accepts_the_token_of_the_connector;
}

fn snowduck(name: &str) -> String {
    variable("SNOWDUCK", name)
}

async fn run_statement(statement: &str) {
    let url = format!("{}/api/v2/statements", snowduck("URL"));
    let response = http_client().post(url).json(&json!({"statement": statement})).send().await.expect("snowduck");
    assert!(response.status().is_success(), "{statement}: {}", response.text().await.unwrap_or_default());
}

async fn an_account_of_snowduck_is_read() {
    for statement in [
        "CREATE DATABASE IF NOT EXISTS SALES",
        "CREATE SCHEMA IF NOT EXISTS SALES.PUBLIC",
        "CREATE TABLE IF NOT EXISTS SALES.PUBLIC.ORDERS (ID NUMBER(38,0) NOT NULL, NAME VARCHAR(200), AMOUNT NUMBER(12,2))",
    ] {
        run_statement(statement).await;
    }
    let fixture = EngineFixture::at("snowflake", &snowduck("URL"));
    for id in ["account_sd4711.us-east-1", "snowduck-snowduck"] {
        let opened = fixture.open("snowflake", id, Some("any-token-of-the-test")).await.expect("the account");
        // snowduck has no SHOW GRANTS, but it names the role in use.
        assert_eq!(opened.privilege, Privilege::Over { grants: vec!["role SYSADMIN".to_string()] });
        let (discovery, sample) = remaining_steps(&opened).await.expect("the other steps");
        let found = discovery.catalog.streams.iter().find(|stream| stream.name.eq_ignore_ascii_case("ORDERS"));
        let columns = &found.expect("the table").json_schema["properties"];
        assert_eq!(columns.as_object().map(serde_json::Map::len), Some(3), "{columns}");
        assert!(sample.rows >= 1);
    }
    let other = fixture.open("snowflake", "acme-prod", Some("any-token-of-the-test")).await.err().expect("another account");
    assert_eq!(other.class, Class::WrongService);
}

fn part(token: &str, at: usize) -> Value {
    let text = token.trim().split('.').nth(at).expect("a part");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).expect("base64")).expect("JSON")
}

/// The token that the connector of Snowflake signs with `key`.
fn token_of_connector(account: &str, user: &str, key: &str) -> String {
    let mut child = Command::new(snowduck("PYTHON"))
        .args([&snowduck("TOKEN_SCRIPT"), account, user])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python");
    child.stdin.take().expect("stdin").write_all(key.as_bytes()).expect("the key");
    let output = child.wait_with_output().expect("the token");
    assert!(output.status.success());
    String::from_utf8(output.stdout).expect("text")
}

async fn the_token_has_the_claims_of_the_connector() {
    for (id, account) in [
        ("acme-prod", "acme-prod"),
        ("acme-my_prod", "acme-my_prod"),
        ("xy12345.us-east-1", "xy12345.us-east-1"),
        ("xy12345.west-europe.azure.privatelink", "xy12345.west-europe.azure.privatelink"),
        ("xy12345-ab12.global", "xy12345-ab12.global"),
    ] {
        let vendor = MockVendor::start(|_, _| json_response_with(401, &[], &json!({"code": "390144", "message": "no"}))).await;
        let credential = json!({"user": "aam_reader", "private_key": vendor_key()}).to_string();
        let fixture = EngineFixture::at("snowflake", &vendor.base);
        assert!(fixture.open("snowflake", id, Some(&credential)).await.is_err());
        let (own, theirs) = (vendor.requests().remove(0).token, token_of_connector(account, "aam_reader", &vendor_key()));
        for claim in ["iss", "sub"] {
            assert_eq!(part(&own, 1)[claim], part(&theirs, 1)[claim], "{id} {claim}");
        }
        let names = |token: &str| part(token, 1).as_object().expect("claims").keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&own), names(&theirs));
        assert_eq!(part(&own, 0), part(&theirs, 0), "the header");
        for claim in ["iat", "exp"] {
            let difference = part(&own, 1)[claim].as_i64().unwrap() - part(&theirs, 1)[claim].as_i64().unwrap();
            assert!(difference.abs() <= 30, "{id} {claim}: {difference} s");
        }
    }
}

/// The sandbox's Snowflake verifies tokens as Snowflake does: it accepts those of the connector, and of no other key or user.
async fn the_sandbox_accepts_the_token_of_the_connector() {
    let text = std::fs::read_to_string(snowduck("CREDENTIALS")).expect("the credentials of the sandbox");
    let credentials: Value = serde_json::from_str(&text).expect("JSON");
    let key = credentials["snowflake"]["key_pair"]["private_key"].as_str().expect("a key").to_string();
    let fixture = EngineFixture::at("snowflake", &snowduck("SANDBOX"));
    for (account, user, key, fine) in [
        ("acme-prod", "AAM", &key, true),
        ("acme-prod", "AAM", &vendor_key(), false),
        ("acme-prod", "STRANGER", &key, false),
        ("acme-dev", "AAM", &key, false),
    ] {
        let credential = json!({"token": token_of_connector(account, user, key).trim(), "token_type": "KEYPAIR_JWT"});
        let opened = fixture.open("snowflake", "acme-prod", Some(&credential.to_string())).await;
        assert_eq!(opened.is_ok(), fine, "{account} {user}: {:?}", opened.err());
        let own = json!({"user": user, "private_key": key}).to_string();
        let opened = fixture.open("snowflake", account, Some(&own)).await;
        assert_eq!(opened.is_ok(), fine, "{account} {user}: {:?}", opened.err());
    }
}
