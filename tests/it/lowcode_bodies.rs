//! What becomes of bodies that are not what the vendor documents: pages of a proxy, cut JSON, errors within a list, nulls,
//! byte order marks, and the answers by which a vendor asks to wait.

use crate::support::lowcode_families::{EngineFixture, MockVendor, ReceivedRequest, json_response_with, policy, remaining_steps};
use crate::support::openapi::{MockResponse, json_response};
use aam::model::{Class, Failure, Privilege};
use serde_json::{Value, json};

type Answer = MockResponse;

fn body(status: u16, kind: &str, text: &str) -> Answer {
    (status, vec![("content-type", kind.to_string())], text.to_string())
}

/// Opens `id` of `family` at a vendor, and makes all further steps.
async fn attempt(
    (family, id, secret): (&str, &str, &str),
    answer: impl Fn(&ReceivedRequest) -> Answer + Clone + Send + Sync + 'static,
) -> Result<(aam::connectors::Discovery, aam::connectors::Sample, Privilege), Failure> {
    let vendor = MockVendor::start(move |_, request: &ReceivedRequest| answer(request)).await;
    let opened = EngineFixture::at(family, &vendor.base).open(family, id, Some(secret)).await?;
    let (discovery, sample) = remaining_steps(&opened).await?;
    Ok((discovery, sample, opened.privilege))
}

const SERVICENOW: (&str, &str, &str) =
    ("servicenow", "acme", r#"{"username": "aam.reader", "password": "pass-of-the-reader-1"}"#);

/// A ServiceNow instance with two tables. `replaced` answers the calls whose path ends with its first text.
fn servicenow(request: &ReceivedRequest, replaced: (&str, &Answer)) -> Answer {
    let table = request.path().rsplit('/').next().unwrap_or_default();
    if replaced.0 == table {
        return replaced.1.clone();
    }
    let rows = match table {
        "sys_user" => json!([{"sys_id": "a1", "user_name": "aam.reader"}]),
        "sys_user_has_role" => json!([{"role.name": "snc_read_only", "user.user_name": "aam.reader"}]),
        "sys_db_object" => json!([{"name": "incident", "super_class.name": ""}]),
        "sys_dictionary" => json!([{"element": "number", "internal_type": "string"}]),
        _ => json!([{"sys_id": "b1", "sys_updated_on": "2026-01-01 00:00:00"}]),
    };
    json_response(json!({"result": rows}).to_string())
}

async fn of_servicenow(table: &'static str, answer: Answer) -> Result<Privilege, Failure> {
    attempt(SERVICENOW, move |request| servicenow(request, (table, &answer))).await.map(|(.., privilege)| privilege)
}

/// Generated streams, the calls for their schemas and the list of tables are judged like every other response.
#[tokio::test]
async fn a_body_that_is_not_data_is_never_an_empty_list() {
    assert!(of_servicenow("nothing", json_response("")).await.is_ok());
    for (text, found) in [
        ("<html>login</html>", "an HTML page"),
        ("oops", "text that is not JSON"),
        (r#"{"result":[{"sys_id":"b"},"#, "truncated JSON"),
        ("", "an empty body"),
        (r#"{"foo":1}"#, "result"),
    ] {
        for table in ["incident", "sys_dictionary", "sys_db_object", "sys_user"] {
            let kind = if text.starts_with('<') { "text/html" } else { "application/json" };
            let failure = of_servicenow(table, body(200, kind, text)).await.err().unwrap_or_else(|| panic!("{table}: {text}"));
            assert!(matches!(failure.class, Class::WrongService | Class::Remote), "{table} {text}: {failure:?}");
            assert!(failure.title.contains(found), "{table} {text}: {failure:?}");
        }
    }
}

#[tokio::test]
async fn an_error_within_a_successful_response_is_an_error() {
    let rows = r#"{"result":[{"sys_id":"b"}],"error":{"message":"Transaction cancelled: maximum execution time exceeded"},"status":"failure"}"#;
    // [V] The form that StackState's check of ServiceNow met.
    let cut = r#"{"result":[{"sys_id":"b"},}""],"error":{"message":"Transaction cancelled: maximum execution time exceeded"},"status":"failure"}"#;
    for text in [rows, cut] {
        let failure = of_servicenow("incident", json_response(text)).await.unwrap_err();
        assert!(failure.class == Class::Remote && failure.title.contains("ran longer"), "{failure:?}");
    }
    let other = of_servicenow("incident", json_response(rows.replace("Transaction", "Request"))).await.unwrap_err();
    assert!(other.class == Class::Remote && other.title.contains("with an error instead of all rows"), "{other:?}");
    // A member that is always there says nothing while it is null.
    assert!(of_servicenow("incident", json_response(r#"{"result":[],"error":{"message":null}}"#)).await.is_ok());
}

const ENTRA: (&str, &str, &str) = ("entra", "6babcaad-604b-40ac-a9d7-9fd97c0b779f", "token-of-the-test-1");

fn graph(request: &ReceivedRequest, users: &dyn Fn(&ReceivedRequest) -> Answer) -> Answer {
    match request.path().rsplit('/').next().unwrap_or_default() {
        "organization" => json_response(json!({"value": [{"id": ENTRA.1, "verifiedDomains": []}]}).to_string()),
        "users" => users(request),
        _ => json_response(r#"{"value":[]}"#),
    }
}

/// The response of a further page is judged like the first one, and the warning has the rule's own fix.
#[tokio::test]
async fn an_error_on_a_further_page_of_graph_is_an_error() {
    let users = |request: &ReceivedRequest| match request.call.contains("skiptoken") {
        true => json_response(r#"{"error":{"code":"serviceNotAvailable","message":"the vendor's own words"}}"#),
        false => {
            let next = format!("http://{}{}?$skiptoken=2", request.header("host").unwrap_or_default(), request.path());
            json_response(json!({"value": [{"id": "u1"}], "@odata.nextLink": next}).to_string())
        }
    };
    let (discovery, sample, _) = attempt(ENTRA, move |request| graph(request, &users)).await.unwrap();
    let all = format!("{:?} {:?}", discovery.catalog.skipped, sample.denied);
    assert!(all.contains("with an error instead of the list") && all.contains("the vendor's own words"), "{all}");
}

#[tokio::test]
async fn a_stream_that_needs_a_licence_is_not_fixed_with_a_permission() {
    let code = "Authentication_RequestFromNonPremiumTenantOrB2CTenant";
    let denied = json_response_with(403, &[], &json!({"error": {"code": code, "message": "no premium license"}}));
    let (discovery, ..) = attempt(ENTRA, move |request| graph(request, &|_| denied.clone())).await.unwrap();
    let skipped = &discovery.catalog.skipped[0];
    let fix = skipped.fix.as_deref().unwrap_or_default();
    assert!(skipped.name == "users" && fix.contains("not a missing permission"), "{skipped:?}");
}

/// The failure of the identity call of `family` at a vendor that answers everything with `response`.
async fn refused((family, id, secret): (&str, &str, &str), response: Answer) -> Failure {
    attempt((family, id, secret), move |_| response.clone()).await.err().expect("this must fail")
}

/// The rule of the family names the limit; a header that names the time comes before the rule's own wait.
#[tokio::test]
async fn a_rate_limit_is_reported_in_the_terms_of_the_family() {
    let words = json!({"error": {"message": "Rate limit exceeded", "detail": "the vendor's own words"}, "status": "failure"});
    let headers = [("retry-after", "1503"), ("x-ratelimit-limit", "30"), ("x-ratelimit-rule", "Table API rule for AAM")];
    let failure = refused(SERVICENOW, json_response_with(429, &headers, &words)).await;
    assert_eq!((failure.class, failure.retry_after_ms), (Class::Throttled, Some(1_503_000)), "{failure:?}");
    assert_eq!(failure.title, "rate limited by ServiceNow");
    assert!(failure.fix.contains("Rate Limit Rules") && failure.fix.contains("AAM calls again after"), "{failure:?}");
    assert!(failure.detail.contains("x-ratelimit-rule: Table API rule for AAM"), "{failure:?}");
    assert!(failure.detail.contains("the vendor's own words"), "{failure:?}");
    let unnamed = refused(SERVICENOW, json_response_with(429, &[], &words)).await;
    assert_eq!(unnamed.retry_after_ms, Some(600_000), "the rule's own wait: {unnamed:?}");
    let entra = refused(ENTRA, json_response_with(429, &[], &json!({"error": {"code": "TooManyRequests", "message": ""}}))).await;
    assert_eq!((entra.class, entra.retry_after_ms), (Class::Throttled, Some(30_000)), "{entra:?}");
}

/// [K] Okta's concurrency limit has a limit of 0, and the reset of a window that has nothing to do with it.
#[tokio::test]
async fn too_many_open_calls_are_not_a_spent_window() {
    let soon = (jiff::Timestamp::now().as_second() + 5).to_string();
    let headers = [("x-rate-limit-limit", "0"), ("x-rate-limit-remaining", "0"), ("x-rate-limit-reset", soon.as_str())];
    let error = json!({"errorCode": "E0000047", "errorSummary": "API call exceeded rate limit due to too many requests."});
    let okta = ("okta", "acme.okta.com", r#"{"api_token": "00token-of-the-test-of-okta-000000000000"}"#);
    let failure = refused(okta, json_response_with(429, &headers, &error)).await;
    assert_eq!((failure.class, failure.retry_after_ms), (Class::Throttled, Some(60_000)), "{failure:?}");
    assert!(!failure.title.contains("by the source"), "{failure:?}");
}

/// A denial that used the last call of the window is a denial; GitHub's used-up quota is a 403 too.
#[tokio::test]
async fn a_denial_with_the_last_call_is_not_a_rate_limit() {
    let reset = (jiff::Timestamp::now().as_second() + 900).to_string();
    let spent = [("x-ratelimit-limit", "5000"), ("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", reset.as_str())];
    let github = ("github", "acme", "token-of-the-test-1");
    let needs = [&spent[..], &[("x-accepted-oauth-scopes", "repo, user")]].concat();
    let denied = refused(github, json_response_with(403, &needs, &json!({"message": "Must have admin rights"}))).await;
    assert!(denied.class == Class::PermissionDenied && denied.title.contains("repo, user"), "{denied:?}");
    let limited = refused(github, json_response_with(403, &needs, &json!({"message": "API rate limit exceeded for user"}))).await;
    assert_eq!(limited.class, Class::Throttled, "{limited:?}");
}

/// The id of an organization is the beginning of its tokens, and so a part of a secret.
#[tokio::test]
async fn an_id_that_is_part_of_the_token_is_compared() {
    let id = "00D5g000004XyZa";
    let secret = format!(r#"{{"token": "{id}!AQxxxxxxxxxxxxxxxxxxxx", "instance_url": "https://acme.my.salesforce.com"}}"#);
    let open = |named: &'static str| {
        let secret = secret.clone();
        async move {
            let answer = move |request: &ReceivedRequest| match request.path().rsplit('/').next() {
                Some("query") => json_response(json!({"records": [{"Id": named, "Name": "Acme"}]}).to_string()),
                Some("sobjects") => json_response(r#"{"sobjects": [{"name": "Account", "queryable": true}]}"#),
                _ => json_response(r#"{"fields": [{"name": "Id", "type": "id"}]}"#),
            };
            attempt(("salesforce", "org_00D5g000004XyZaEAK", &secret), answer).await.map(|_| ())
        }
    };
    assert_eq!(open(id).await, Ok(()));
    assert_eq!(open("00D5g000004XyZb").await.unwrap_err().class, Class::WrongService);
}

/// The gateway accepts a token that the site does not, and names another site.
#[tokio::test]
async fn the_second_method_says_what_it_found() {
    let cloud = "11223344-a1b2-4b33-8444-def123456789";
    let answer = move |named: &'static str| {
        move |request: &ReceivedRequest| match request.path() {
            "/_edge/tenant_info" => json_response(json!({"cloudId": cloud}).to_string()),
            path if path.starts_with("/ex/jira/") => {
                json_response(json!({"self": named, "accountId": "1", "accountType": "atlassian"}).to_string())
            }
            _ => json_response_with(401, &[], &json!({"message": "Client must be authenticated to access this resource."})),
        }
    };
    let jira = ("jira", "acme.atlassian.net", r#"{"username": "me@acme.example", "password": "token-of-the-test-of-jira"}"#);
    let other = attempt(jira, answer("https://other.atlassian.net/rest/api/3/user?accountId=1")).await.err().unwrap();
    assert!(other.class == Class::WrongService && other.title.contains("other.atlassian.net"), "{other:?}");
    // A gateway that does not name a site has not accepted anything.
    let nothing = attempt(jira, |request: &ReceivedRequest| match request.path() {
        "/_edge/tenant_info" => json_response(r#"{"cloudId": "11223344-a1b2-4b33-8444-def123456789"}"#),
        path if path.starts_with("/ex/jira/") => json_response_with(404, &[], &json!({"message": "no such path"})),
        _ => json_response_with(401, &[], &json!({"message": "Client must be authenticated"})),
    });
    assert_eq!(nothing.await.err().unwrap().class, Class::CredentialRejected);
}

/// Null is what many servers write for a field that has no value.
#[tokio::test]
async fn a_null_is_a_missing_field() {
    for user in [json!(null), json!({"emailAddress": null}), json!({"permissionId": "1"})] {
        let about = json!({"user": user, "storageQuota": {"limit": "1"}});
        let drive = ("gworkspace_drive", "domain_acme.example", r#"{"token": "token-of-the-test-of-drive-1"}"#);
        let failure = refused(drive, json_response(about.to_string())).await;
        assert_eq!(failure.class, Class::WrongService, "{user}: {failure:?}");
        assert!(!format!("{failure:?}").contains("NoneType"), "{failure:?}");
    }
    let describe = |fields: Value| {
        move |request: &ReceivedRequest| match request.path().rsplit('/').next() {
            Some("query") => json_response(r#"{"records": [{"Id": "00D5g000004XyZaEAK"}]}"#),
            Some("sobjects") => json_response(r#"{"sobjects": [{"name": "Account", "queryable": true}]}"#),
            _ => json_response(json!({"name": "Account", "fields": fields}).to_string()),
        }
    };
    let salesforce = ("salesforce", "acme.my.salesforce.com", r#"{"token": "token-of-the-test-of-salesforce"}"#);
    let failure = attempt(salesforce, describe(json!(null))).await.err().unwrap();
    assert!(failure.title.contains("does not have the list fields"), "{failure:?}");
}

/// A template that fails names the field that it computes.
#[tokio::test]
async fn a_template_that_fails_is_named() {
    let manifest = "version: 6.44.0\ntype: DeclarativeSource\ncheck: {type: CheckStream, stream_names: [account]}\nspec:\n  type: Spec\n  \
        connection_specification: {type: object, required: [host], properties: {host: {type: string}}}\nstreams:\n  \
        - type: DeclarativeStream\n    name: account\n    retriever:\n      type: SimpleRetriever\n      \
        requester: {type: HttpRequester, url_base: \"http://{{ config['host'] }}\", path: /account}\n      \
        record_selector: {type: RecordSelector, extractor: {type: DpathExtractor, field_path: []}}\n    \
        transformations:\n      - {type: AddFields, fields: [{type: AddedFieldDefinition, path: [domain], value: \"{{ record.get('user', {}).get('mail') }}\"}]}\n    \
        schema_loader: {type: InlineSchemaLoader, schema: {type: object, properties: {}}}\n";
    let vendor = MockVendor::start(|_, _: &ReceivedRequest| json_response(r#"{"user": null}"#)).await;
    let rules = "manifests: {dir: m, sources: {shop: {resource: host, identity: {stream: account, field: /domain}}}}";
    let fixture = EngineFixture::with_manifest(policy(rules), "shop", manifest);
    let failure = fixture.open("shop", vendor.host(), None).await.err().unwrap();
    assert!(failure.detail.contains("the field domain is computed by {{ record.get('user', {}).get('mail') }}"), "{failure:?}");
}

/// Python's `requests` reads a byte order mark, and so does AAM.
#[tokio::test]
async fn a_byte_order_mark_is_not_part_of_the_json() {
    let answer = |request: &ReceivedRequest| {
        let value = match request.path() {
            path if path.ends_with("/labels") => json!([{"id": 1, "name": "bug"}]),
            path if path.ends_with("/self") => json!({"id": 1, "scopes": ["read_api"], "active": true}),
            _ => json!({"id": 5, "path_with_namespace": "acme/website", "visibility": "private"}),
        };
        json_response(format!("\u{feff}{value}"))
    };
    let (discovery, sample, _) = attempt(("gitlab", "acme/website", "glpat-of-the-test"), answer).await.unwrap();
    assert!(!discovery.catalog.streams.is_empty() && sample.rows > 0, "{:?}", sample.evidence);
}

/// A family is not configured under `manifests`.
#[tokio::test]
async fn a_link_to_another_host_is_fixed_where_the_family_is_configured() {
    let next = [("link", r#"<http://gitlab.internal/api/v4/groups/acme/projects?page=2>; rel="next""#)];
    let answer = move |request: &ReceivedRequest| match request.path() {
        path if path.ends_with("/groups/acme") => json_response(r#"{"id": 9, "full_path": "acme"}"#),
        path if path.ends_with("/self") => json_response(r#"{"id": 1, "scopes": ["read_api"]}"#),
        path if path.ends_with("/projects") => json_response_with(200, &next, &json!([{"id": 1}])),
        _ => json_response_with(404, &[], &json!({"message": "404 Not Found"})),
    };
    let failure = attempt(("gitlab", "acme", "glpat-of-the-test"), answer).await.err().unwrap();
    assert_eq!(failure.class, Class::EgressRefused, "{failure:?}");
    assert!(failure.fix.contains("families.gitlab.base_url") && !failure.fix.contains("manifests"), "{failure:?}");
}

#[tokio::test]
async fn a_record_without_a_grant_makes_the_verdict_unknown() {
    let roles = json_response(r#"{"result": [{"role.name": "snc_read_only"}, {"user.user_name": "aam.reader"}]}"#);
    match of_servicenow("sys_user_has_role", roles).await.unwrap() {
        Privilege::Unknown { reason } => assert_eq!(reason, "a record of own_roles does not have {/role.name}"),
        other => panic!("{other:?}"),
    }
}
