//! The engine `snowflake` against a server of the test that is as strict as the documentation of the SQL API: it wants the
//! token and its type, a `requestId`, one statement, and refuses what it does not know.

use crate::support::lowcode_families::{EngineFixture, MockVendor, ReceivedRequest, json_response_with, remaining_steps};
use crate::support::openapi::MockResponse;
use crate::support::vendors::{rs256, vendor_key};
use aam::model::{Class, Privilege};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

const PAT: &str = r#"{"token": "pat-of-the-test-4711", "token_type": "PROGRAMMATIC_ACCESS_TOKEN"}"#;

fn context_row() -> Value {
    json!(["XY12345", "PROD", "ACME", "AWS_US_EAST_1", "AAM", "AAM_READER", null, "9.38.1", "[\"AAM_READER\", \"PUBLIC\"]", "{}"])
}

/// The columns and rows of each statement.
fn results() -> BTreeMap<&'static str, (Vec<&'static str>, Value)> {
    let grants =
        vec!["created_on", "privilege", "granted_on", "name", "granted_to", "grantee_name", "grant_option", "granted_by"];
    let functions = vec![
        "CURRENT_ACCOUNT()",
        "CURRENT_ACCOUNT_NAME()",
        "CURRENT_ORGANIZATION_NAME()",
        "CURRENT_REGION()",
        "CURRENT_USER()",
        "CURRENT_ROLE()",
        "CURRENT_WAREHOUSE()",
        "CURRENT_VERSION()",
        "CURRENT_AVAILABLE_ROLES()",
        "CURRENT_SECONDARY_ROLES()",
    ];
    let fixed = r#"{"type":"FIXED","precision":38,"scale":0,"nullable":false}"#;
    let text = r#"{"type":"TEXT","length":200,"byteLength":800,"nullable":true,"fixed":false}"#;
    [
        (
            "SELECT CURRENT_ACCOUNT(), CURRENT_ACCOUNT_NAME(), CURRENT_ORGANIZATION_NAME(), CURRENT_REGION()",
            (functions, json!([context_row()])),
        ),
        (
            "SHOW GRANTS TO ROLE \"AAM_READER\" LIMIT 5000",
            (grants.clone(), json!([["t", "USAGE", "DATABASE", "SALES", "ROLE", "AAM_READER", "false", "SECURITYADMIN"]])),
        ),
        ("SHOW GRANTS TO ROLE \"PUBLIC\" LIMIT 5000", (grants, json!([]))),
        (
            "SHOW DATABASES LIMIT 100",
            (vec!["created_on", "name", "kind"], json!([["t", "SALES", "STANDARD"], ["t", "SNOWFLAKE", "APPLICATION"]])),
        ),
        (
            "SHOW TABLES IN ACCOUNT LIMIT 1000",
            (
                vec!["created_on", "name", "database_name", "schema_name", "rows"],
                json!([["t", "ORDERS", "SALES", "PUBLIC", "42"], ["t", "LOG", "SNOWFLAKE", "ACCOUNT_USAGE", "1"]]),
            ),
        ),
        (
            "SHOW VIEWS IN ACCOUNT LIMIT 1000",
            (
                vec!["created_on", "name", "database_name", "schema_name", "is_materialized"],
                json!([["t", "OPEN", "SALES", "PUBLIC", "true"], ["t", "TABLES", "SALES", "INFORMATION_SCHEMA", "false"]]),
            ),
        ),
        (
            "SHOW COLUMNS IN ACCOUNT",
            (
                vec!["table_name", "schema_name", "column_name", "data_type", "null?", "database_name"],
                json!([
                    ["ORDERS", "PUBLIC", "ID", fixed, "false", "SALES"],
                    ["ORDERS", "PUBLIC", "NAME", text, "true", "SALES"],
                    ["OPEN", "PUBLIC", "ID", fixed, "false", "SALES"]
                ]),
            ),
        ),
    ]
    .into()
}

fn failure(status: u16, code: &str, message: &str) -> MockResponse {
    json_response_with(status, &[], &json!({"code": code, "message": message, "sqlState": "00000"}))
}

fn result(columns: &[&str], rows: &Value, partitions: usize) -> MockResponse {
    let types: Vec<Value> = columns.iter().map(|name| json!({"name": name, "type": "text", "nullable": true})).collect();
    let count = rows.as_array().map_or(0, Vec::len);
    let partitions = vec![json!({"rowCount": count, "uncompressedSize": 100}); partitions];
    json_response_with(
        200,
        &[],
        &json!({
            "resultSetMetaData": {"numRows": count, "format": "jsonv2", "rowType": types, "partitionInfo": partitions},
            "data": rows, "code": "090001", "sqlState": "00000", "message": "Statement executed successfully.",
            "statementHandle": "019c06a4-0000-df4f-0000-00100006589e", "createdOn": 1_620_151_584_132_i64
        }),
    )
}

/// The statement of a request that fits the documentation of the API, or the refusal.
fn statement(request: &ReceivedRequest) -> Result<String, MockResponse> {
    if request.token.is_empty() {
        return Err(failure(401, "390101", "Authorization header not found in the request data."));
    }
    let body: Value = serde_json::from_str(&request.body)
        .map_err(|_| failure(400, "390142", "Incoming request does not contain a valid payload."))?;
    let id = request.call.split(['?', '&']).find_map(|pair| pair.strip_prefix("requestId="));
    let valid = request.header("content-type").is_some_and(|kind| kind.starts_with("application/json"))
        && request.header("user-agent").is_some_and(|agent| agent.contains('/'))
        && id.is_some_and(|id| uuid::Uuid::parse_str(id).is_ok())
        && body["parameters"]["MULTI_STATEMENT_COUNT"] == "1"
        && body["timeout"].as_u64().is_some_and(|seconds| seconds > 0);
    match body["statement"].as_str().filter(|_| valid) {
        Some(statement) => Ok(statement.to_string()),
        None => Err(failure(400, "390142", "Incoming request does not contain a valid payload.")),
    }
}

fn answer_to(statement: &str) -> MockResponse {
    match results().into_iter().find(|(known, _)| statement.starts_with(known)) {
        Some((_, (columns, rows))) => result(&columns, &rows, 1),
        None => failure(422, "001003", "SQL compilation error: syntax error"),
    }
}

fn snowflake(_: &str, request: &ReceivedRequest) -> MockResponse {
    match statement(request) {
        Ok(statement) => answer_to(&statement),
        Err(refusal) => refusal,
    }
}

#[tokio::test]
async fn an_account_is_proven_and_its_tables_have_their_real_columns() {
    let vendor = MockVendor::start(snowflake).await;
    let fixture = EngineFixture::at("snowflake", &vendor.base);
    for id in ["acme-prod", "account_xy12345.us-east-1", "acme.prod", "https://app.snowflake.com/acme/prod/#/homepage"] {
        let opened = fixture.open("snowflake", id, Some(PAT)).await.unwrap_or_else(|failure| panic!("{id}: {failure:?}"));
        assert_eq!(opened.privilege, Privilege::Ok, "{id}");
        let (discovery, sample) = remaining_steps(&opened).await.unwrap();
        let names: Vec<_> = discovery.catalog.streams.iter().map(|it| (it.namespace.as_deref(), it.name.as_str())).collect();
        assert_eq!(names, [(Some("SALES.PUBLIC"), "OPEN"), (Some("SALES.PUBLIC"), "ORDERS")], "{id}");
        let orders = &discovery.catalog.streams[1];
        assert_eq!(orders.row_estimate, Some(42));
        assert_eq!(orders.json_schema["properties"]["ID"], json!({"type": "integer", "x-native-type": "NUMBER(38,0)"}));
        assert_eq!(orders.json_schema["properties"]["NAME"]["type"], json!(["null", "string"]));
        assert_eq!(discovery.catalog.streams[0].json_schema["x-kind"], "materialized view");
        assert_eq!((sample.rows, opened.connector.traffic().calls), (2, 7), "{id}");
    }
    let requests = vendor.requests();
    assert!(
        requests
            .iter()
            .all(|request| request.header("x-snowflake-authorization-token-type") == Some("PROGRAMMATIC_ACCESS_TOKEN"))
    );
    // The plan names every call.
    assert!(requests.iter().all(|request| request.path() == "/api/v2/statements"));
    let planned = fixture.planned("snowflake", "acme-prod");
    assert_eq!(planned[0], format!("POST {} /api/v2/statements", vendor.host()));
}

#[tokio::test]
async fn a_key_pair_signs_a_token_for_the_account_without_its_region() {
    let vendor = MockVendor::start(snowflake).await;
    let fixture = EngineFixture::at("snowflake", &vendor.base);
    let credential = json!({"user": "aam", "private_key": vendor_key(), "role": "AAM_READER"}).to_string();
    let opened = fixture.open("snowflake", "xy12345.us-east-1.privatelink", Some(&credential)).await.unwrap();
    assert_eq!(opened.identity["auth"], "key_pair");
    let request = vendor.requests().remove(0);
    let (_, claims) = rs256(&request.token).expect("a token that the key signed");
    assert_eq!(claims["sub"], "XY12345.AAM");
    assert!(claims["iss"].as_str().unwrap().starts_with("XY12345.AAM.SHA256:"), "{claims}");
    assert!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap() <= 3600);
    assert_eq!(request.header("x-snowflake-authorization-token-type"), Some("KEYPAIR_JWT"));
    assert!(request.body.contains(r#""role":"AAM_READER""#), "{}", request.body);
}

#[tokio::test]
async fn a_queued_statement_is_polled_and_all_partitions_are_read() {
    let polls: Arc<Mutex<u32>> = Arc::default();
    let vendor = MockVendor::start(move |_, request| {
        let handle = "/api/v2/statements/019c06a4-0000-df4f-0000-00100006589e";
        let rows = || json!([["t", "LINES", "SALES", "PUBLIC", "7"]]);
        match statement(request) {
            // Every statement is queued at first; its handle is read until it is done.
            Ok(statement) if statement.starts_with("SELECT") => json_response_with(
                202,
                &[],
                &json!({"code": "333334", "message": "Asynchronous execution in progress.",
                    "statementHandle": handle.rsplit('/').next(), "statementStatusUrl": handle}),
            ),
            Ok(statement) if statement.starts_with("SHOW TABLES") => {
                let (columns, rows) = results().remove("SHOW TABLES IN ACCOUNT LIMIT 1000").unwrap();
                result(&columns, &rows, 2)
            }
            Ok(statement) if statement.starts_with("SHOW COLUMNS") => {
                let (columns, mut rows) = results().remove("SHOW COLUMNS IN ACCOUNT").unwrap();
                rows.as_array_mut().unwrap().push(json!(["LINES", "PUBLIC", "ID", "{}", "true", "SALES"]));
                result(&columns, &rows, 1)
            }
            Ok(statement) => answer_to(&statement),
            Err(_) if request.call == format!("GET {handle}?partition=1") => {
                json_response_with(200, &[], &json!({"data": rows()}))
            }
            Err(_) if request.call == format!("GET {handle}") => {
                let mut polls = polls.lock().unwrap();
                *polls += 1;
                match *polls {
                    1 => json_response_with(
                        202,
                        &[],
                        &json!({"code": "333334", "message": "in progress",
                        "statementHandle": handle.rsplit('/').next()}),
                    ),
                    _ => answer_to(
                        "SELECT CURRENT_ACCOUNT(), CURRENT_ACCOUNT_NAME(), CURRENT_ORGANIZATION_NAME(), CURRENT_REGION()",
                    ),
                }
            }
            Err(refusal) => refusal,
        }
    })
    .await;
    let fixture = EngineFixture::at("snowflake", &vendor.base);
    let opened = fixture.open("snowflake", "acme-prod", Some(PAT)).await.unwrap();
    let (discovery, _) = remaining_steps(&opened).await.unwrap();
    let names: Vec<&str> = discovery.catalog.streams.iter().map(|stream| stream.name.as_str()).collect();
    assert_eq!(names, ["LINES", "OPEN", "ORDERS"]);
}

#[tokio::test]
async fn a_statement_whose_response_was_lost_is_sent_again_with_the_same_id() {
    let calls: Arc<Mutex<u32>> = Arc::default();
    let vendor = MockVendor::start(move |_, request| {
        let mut calls = calls.lock().unwrap();
        *calls += 1;
        match *calls {
            1 | 2 => (503, vec![("content-type", "text/html".into())], "<html>busy</html>".into()),
            _ => snowflake("", request),
        }
    })
    .await;
    let fixture = EngineFixture::at("snowflake", &vendor.base);
    fixture.open("snowflake", "acme-prod", Some(PAT)).await.unwrap();
    let calls = vendor.calls();
    let id = |call: &str| call.split("requestId=").nth(1).unwrap().split('&').next().unwrap().to_string();
    assert_eq!((id(&calls[0]), id(&calls[0])), (id(&calls[1]), id(&calls[2])), "Snowflake executes it once");
    assert!(!calls[0].contains("retry") && calls[1].ends_with("&retry=true") && calls[2].ends_with("&retry=true"), "{calls:?}");
    assert_ne!(id(&calls[2]), id(&calls[3]), "another statement has another id");
}

#[tokio::test]
async fn privileges_and_roles_that_do_more_than_read_are_named() {
    for (roles, grants, expected) in [
        (r#"["AAM_READER","ACCOUNTADMIN"]"#, json!([]), Some(vec!["role ACCOUNTADMIN"])),
        (r#"["AAM_READER"]"#, json!([["t", "INSERT", "TABLE", "T", "ROLE", "R", "false", "S"]]), Some(vec!["INSERT ON TABLE"])),
        (
            r#"["AAM_READER"]"#,
            json!([["t", "USAGE", "DATABASE", "D", "ROLE", "R", "true", "S"]]),
            Some(vec!["USAGE ON DATABASE WITH GRANT OPTION"]),
        ),
        (r#"["AAM_READER"]"#, json!([["t", "SOMETHING NEW", "TABLE", "T", "ROLE", "R", "false", "S"]]), None),
    ] {
        let (roles, grants) = (roles.to_string(), grants.clone());
        let vendor = MockVendor::start(move |_, request| match statement(request) {
            Ok(statement) if statement.starts_with("SELECT") => {
                let (columns, _) = results()
                    .remove("SELECT CURRENT_ACCOUNT(), CURRENT_ACCOUNT_NAME(), CURRENT_ORGANIZATION_NAME(), CURRENT_REGION()")
                    .unwrap();
                let mut row = context_row();
                row[8] = roles.as_str().into();
                result(&columns, &json!([row]), 1)
            }
            Ok(statement) if statement.starts_with("SHOW GRANTS") => {
                result(&results().remove("SHOW GRANTS TO ROLE \"PUBLIC\" LIMIT 5000").unwrap().0, &grants, 1)
            }
            Ok(statement) => answer_to(&statement),
            Err(refusal) => refusal,
        })
        .await;
        let opened = EngineFixture::at("snowflake", &vendor.base).open("snowflake", "acme-prod", Some(PAT)).await.unwrap();
        match expected {
            Some(over) => {
                assert_eq!(opened.privilege, Privilege::Over { grants: over.into_iter().map(str::to_string).collect() })
            }
            None => {
                assert!(matches!(&opened.privilege, Privilege::Unknown { reason } if reason.contains("SOMETHING NEW ON TABLE")))
            }
        }
    }
}

#[tokio::test]
async fn each_refusal_has_its_class_and_a_fix_that_can_be_pasted() {
    let uuid = "92d86b2e-d652-4d2d-9780-a6ed28b38356";
    for (status, code, message, class, fix) in [
        (
            401,
            "390144",
            format!("JWT token is invalid. [{uuid}]"),
            Class::CredentialRejected,
            format!("SYSTEM$GET_LOGIN_FAILURE_DETAILS('{uuid}')"),
        ),
        (
            401,
            "394304",
            "JWT token is invalid.".into(),
            Class::CredentialRejected,
            "ALTER USER THE_USER SET RSA_PUBLIC_KEY".into(),
        ),
        (401, "394307", "JWT token is invalid.".into(), Class::CredentialRejected, "without region".into()),
        (
            401,
            "390100",
            "Incorrect username or password was specified.".into(),
            Class::CredentialRejected,
            "DESCRIBE USER".into(),
        ),
        (401, "390318", format!("OAuth access token expired. [{uuid}]"), Class::CredentialRejected, "consent:NAME".into()),
        (
            401,
            "394400",
            "Programmatic access token is invalid.".into(),
            Class::CredentialRejected,
            "PROGRAMMATIC ACCESS TOKEN".into(),
        ),
        (401, "390432", "Network policy is required.".into(), Class::PermissionDenied, "never allow 0.0.0.0/0".into()),
        (401, "000000", "Network policy is required.".into(), Class::PermissionDenied, "CREATE NETWORK POLICY".into()),
        (
            403,
            "390422",
            "Incoming request with IP/Token 198.51.100.7 is not allowed to access Snowflake.".into(),
            Class::PermissionDenied,
            "ALTER NETWORK POLICY".into(),
        ),
        (
            422,
            "000606",
            "No active warehouse selected in the current session.".into(),
            Class::PermissionDenied,
            "GRANT USAGE ON WAREHOUSE THE_WAREHOUSE TO ROLE THE_ROLE".into(),
        ),
        (
            422,
            "000666",
            "Your free trial has ended and all of your virtual warehouses have been suspended.".into(),
            Class::Remote,
            "payment method".into(),
        ),
        (408, "000630", "Statement reached its statement or warehouse timeout".into(), Class::Remote, "step_timeout".into()),
        (401, "", "strange".into(), Class::CredentialRejected, "credential_locator".into()),
    ] {
        let (text, number) = (message.clone(), code.to_string());
        let vendor = MockVendor::start(move |_, _| failure(status, &number, &text)).await;
        let fixture = EngineFixture::at("snowflake", &vendor.base);
        let refused = fixture.open("snowflake", "acme-prod", Some(PAT)).await.err().expect("a refusal");
        assert_eq!(refused.class, class, "{code}: {refused:?}");
        assert!(refused.fix.contains(&fix), "{code}: {}", refused.fix);
        assert!(refused.detail.contains(&message), "{code}: {}", refused.detail);
    }
}

#[tokio::test]
async fn another_account_a_page_and_a_stranger_are_told_apart() {
    let vendor = MockVendor::start(snowflake).await;
    let fixture = EngineFixture::at("snowflake", &vendor.base);
    let other = fixture.open("snowflake", "acme-dev", Some(PAT)).await.err().expect("another account");
    assert_eq!(other.class, Class::WrongService);
    assert_eq!(other.title, "Snowflake answers as ACME-PROD (locator XY12345), and the resource id names ACME-DEV");
    assert_eq!(vendor.calls().len(), 1, "nothing else is read");
    for (status, body) in [(200, "<html>Sign in</html>"), (200, "{\"hello\": 1}"), (404, "<!DOCTYPE html><title>x</title>")] {
        let vendor = MockVendor::start(move |_, _| (status, vec![("content-type", "text/html".into())], body.into())).await;
        let found = EngineFixture::at("snowflake", &vendor.base).open("snowflake", "acme-prod", Some(PAT)).await.err().unwrap();
        assert_eq!(found.class, Class::WrongService, "{body}: {found:?}");
        assert!(found.fix.contains("families.snowflake.base_url"), "{found:?}");
    }
}

/// A result without the columns of SHOW does not say that the account is empty, or that a role has no privileges.
#[tokio::test]
async fn a_result_of_another_form_is_not_an_empty_account() {
    for (statement, stops) in [("SHOW TABLES", true), ("SHOW COLUMNS", true), ("SHOW VIEWS", false), ("SHOW GRANTS", false)] {
        let vendor = MockVendor::start(move |_: &str, request: &ReceivedRequest| match self::statement(request) {
            Ok(text) if text.starts_with(statement) => result(&["status"], &json!([]), 1),
            Ok(text) => answer_to(&text),
            Err(refusal) => refusal,
        })
        .await;
        let fixture = EngineFixture::at("snowflake", &vendor.base);
        let opened = fixture.open("snowflake", "acme-prod", Some(PAT)).await.unwrap_or_else(|failure| panic!("{failure:?}"));
        assert_eq!(matches!(opened.privilege, Privilege::Ok), statement != "SHOW GRANTS", "{:?}", opened.privilege);
        match (remaining_steps(&opened).await, stops) {
            (Ok((discovery, _)), false) => assert_eq!(discovery.warning.is_some(), statement == "SHOW VIEWS", "{statement}"),
            (Err(failure), true) => assert!(failure.title.contains("does not have the column"), "{failure:?}"),
            (steps, _) => panic!("{statement}: {:?}", steps.err()),
        }
    }
}

/// snowduck knows neither CURRENT_AVAILABLE_ROLES nor SHOW GRANTS, as older accounts may not: what is not known is unknown.
#[tokio::test]
async fn an_unknown_function_and_an_unknown_statement_do_not_end_the_attempt() {
    let vendor = MockVendor::start(|_, request| match statement(request) {
        Ok(text) if text.contains("CURRENT_AVAILABLE_ROLES") => {
            failure(422, "002140", "SQL compilation error: Unknown function CURRENT_AVAILABLE_ROLES")
        }
        Ok(text) if text.starts_with("SELECT CURRENT_ACCOUNT()") => {
            result(&["'XY12345'", "A", "O", "CURRENT_ROLE()"], &json!([["XY12345", "PROD", "ACME", "R"]]), 1)
        }
        Ok(text) if text.starts_with("SHOW GRANTS") || text.starts_with("SHOW VIEWS") => {
            failure(422, "001003", "SQL compilation error")
        }
        Ok(text) => answer_to(&text),
        Err(refusal) => refusal,
    })
    .await;
    let opened = EngineFixture::at("snowflake", &vendor.base).open("snowflake", "acme-prod", Some(PAT)).await.unwrap();
    assert!(
        matches!(&opened.privilege, Privilege::Unknown { reason } if reason.contains("which roles") && reason.contains("cannot be read"))
    );
    let (discovery, _) = remaining_steps(&opened).await.unwrap();
    assert_eq!(discovery.catalog.streams.len(), 1);
    assert_eq!(discovery.warning.unwrap().title, "Snowflake does not list all views of the account");
}

/// Snowflake lists at most 10,000 columns at once, so those of a large account are read by database, schema and table.
#[tokio::test]
async fn the_columns_of_a_large_account_are_read_in_parts() {
    let vendor = MockVendor::start(|_, request| match statement(request) {
        Ok(text) if ["ACCOUNT", "DATABASE", "SCHEMA"].iter().any(|scope| text.starts_with(&format!("SHOW COLUMNS IN {scope}"))) => {
            failure(422, "090153", "The result set size exceeded the max number of rows(10000) supported for SHOW statements. Use LIMIT option to limit result set to a smaller number.")
        }
        Ok(text) if text == "SHOW COLUMNS IN \"SALES\".\"PUBLIC\".\"ORDERS\"" => answer_to("SHOW COLUMNS IN ACCOUNT"),
        Ok(text) if text == "SHOW COLUMNS IN \"SALES\".\"PUBLIC\".\"OPEN\"" => failure(422, "002003", "View does not exist or not authorized."),
        Ok(text) => answer_to(&text),
        Err(refusal) => refusal,
    })
    .await;
    let opened = EngineFixture::at("snowflake", &vendor.base).open("snowflake", "acme-prod", Some(PAT)).await.unwrap();
    let (discovery, _) = remaining_steps(&opened).await.unwrap();
    let names: Vec<&str> = discovery.catalog.streams.iter().map(|stream| stream.name.as_str()).collect();
    assert_eq!(names, ["OPEN", "ORDERS"], "the answer for one table had the columns of both");
}
