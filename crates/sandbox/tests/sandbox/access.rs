//! Who may call what.

use crate::support::start;

const USERS: &str = "https://acme.vendor.test/v1/users";

#[tokio::test]
async fn a_credential_of_the_account_is_accepted_in_each_of_its_forms() {
    let running = start().await;
    let ways = [
        ("authorization", "Bearer reader-token", "reader"),
        ("authorization", "bearer reader-token", "reader"),
        ("authorization", "token reader-token", "reader"),
        ("x-key", "the-key", "key"),
        ("authorization", "Basic bWVAYWNtZS50ZXN0OnNlY3JldDox", "person"),
    ];
    for (header, value, name) in ways {
        let answer = running.send(running.request("GET", USERS).header(header, value)).await;
        assert_eq!(answer.status, 200, "{value}: {}", answer.text);
        assert_eq!(answer.json["users"].as_array().unwrap().len(), 10);
        assert_eq!(running.calls().await.last().unwrap()["credential"], name);
    }
    assert!(running.violations().await.is_empty());
}

#[tokio::test]
async fn a_credential_can_be_a_parameter_of_a_form() {
    let running = start().await;
    let info = async |url: &str, token: &str| running.send(running.request("POST", url).form(&[("access_token", token)])).await;
    assert_eq!(info("https://acme.vendor.test/v1/info", "reader-token").await.json["name"], "reader");
    assert_eq!(info("https://acme.vendor.test/v1/info", "stranger").await.status, 401);
    // Only where the file says so.
    assert_eq!(info("https://acme.vendor.test/v1/search", "reader-token").await.status, 404);
}

#[tokio::test]
async fn refusals_are_those_of_the_file() {
    let running = start().await;
    let cases = [
        ("authorization", "Bearer stranger", 401, "unauthorized"),
        ("authorization", "Bearer ended-token", 401, "expired"),
        ("authorization", "Bearer withdrawn-token", 401, "revoked"),
        ("authorization", "Bearer locked-token", 423, "locked"),
        ("authorization", "Bearer the-key", 401, "wrong_kind"),
        ("x-key", "reader-token", 401, "wrong_kind"),
        ("authorization", "Basic cmVhZGVyLXRva2Vu", 401, "wrong_kind"),
        ("authorization", "Negotiate abc", 401, "unauthorized"),
        ("authorization", "Bearer other-token", 403, "other_account"),
        ("authorization", "Bearer narrow-token", 403, "forbidden"),
        ("authorization", "Bearer READER-TOKEN", 401, "unauthorized"),
    ];
    for (header, value, status, error) in cases {
        let answer = running.send(running.request("GET", USERS).header(header, value)).await;
        assert_eq!((answer.status, answer.error()), (status, error), "{value}");
    }
    let answer = running.send(running.request("GET", USERS)).await;
    assert_eq!((answer.status, answer.error(), answer.header("www-authenticate")), (401, "unauthorized", "Bearer"));
    let answer = running.get(USERS, "narrow-token").await;
    assert_eq!(answer.json["needed"], serde_json::json!(["users.read", "users.manage"]));
    // A refusal is not a violation: the vendor's file describes these calls.
    assert!(running.violations().await.is_empty());
}

#[tokio::test]
async fn all_roles_and_kinds_restrict_a_route() {
    let running = start().await;
    assert_eq!(running.get("https://acme.vendor.test/v1/pages", "narrow-token").await.status, 403);
    assert_eq!(running.get("https://acme.vendor.test/v1/kinds", "powerless-token").await.status, 403);
    assert_eq!(running.get("https://acme.vendor.test/v1/kinds", "reader-token").await.status, 200);
    let by_key = running.request("GET", "https://acme.vendor.test/v1/users/1001").header("x-key", "the-key");
    assert_eq!(running.send(by_key).await.error(), "wrong_kind");
    // Without the role the list is empty, and nothing says why.
    let blind = running.get(USERS, "powerless-token").await;
    assert_eq!((blind.status, blind.json["total"].as_u64()), (200, Some(0)));
}

#[tokio::test]
async fn anonymous_routes_answer_anybody() {
    let running = start().await;
    let org = running.send(running.request("GET", "https://acme.vendor.test/v1/org")).await;
    assert_eq!(org.json, serde_json::json!({"id": 1, "name": "acme", "key": "acme"}));
    assert_eq!(org.header("content-type"), "application/vnd.vendor+json");
    // A dead token makes its caller anonymous where anonymous callers are answered.
    assert_eq!(running.get("https://acme.vendor.test/v1/me", "reader-token").await.json["name"], "reader");
    assert_eq!(running.get("https://acme.vendor.test/v1/me", "ended-token").await.json["name"], "anonymous");
}

#[tokio::test]
async fn accounts_are_named_by_host_or_path_or_credential() {
    let running = start().await;
    let unknown = running.get("https://stranger.vendor.test/v1/users", "reader-token").await;
    assert_eq!((unknown.status, unknown.header("content-type")), (404, "text/html; charset=utf-8"));
    let name = |account: &str| format!("https://api.vendor.test/v1/accounts/{account}/name");
    assert_eq!(running.get(&name("ACME"), "reader-token").await.text, "acme");
    assert_eq!(running.get(&name("other"), "reader-token").await.error(), "other_account");
    assert_eq!(running.get(&name("stranger"), "reader-token").await.status, 404);
    assert_eq!(running.get(&name("stranger"), "wrong").await.status, 401);
    // The host does not name an account: the credential does.
    let users = running.get("https://api.vendor.test/v1/users?limit=1", "other-token").await;
    assert_eq!(users.json["users"][0]["id"], 2001);
}

#[tokio::test]
async fn what_the_file_does_not_describe_is_a_violation() {
    let running = start().await;
    let bearer = |method: &str, url: &str| running.request(method, url).bearer_auth("reader-token");
    let cases = [
        (bearer("GET", "https://acme.vendor.test/v1/unknown"), 404, "has no path /v1/unknown"),
        (bearer("GET", "https://acme.vendor.test/v1/users?limit=1&sort=up"), 200, "the query parameter sort"),
        (bearer("DELETE", "https://acme.vendor.test/v1/users"), 405, "has no DELETE /v1/users"),
        (bearer("PATCH", "https://acme.vendor.test/v1/users/1001"), 405, "has no PATCH"),
        (
            bearer("POST", "https://acme.vendor.test/v1/search").json(&serde_json::json!({"filter": "all", "write": 1})),
            200,
            "parameter write",
        ),
        (
            bearer("POST", "https://acme.vendor.test/v1/search").json(&serde_json::json!({"filter": "none"})),
            404,
            "with what this one contains",
        ),
        (bearer("GET", "https://acme.vendor.test/v1/broken"), 500, "unable to calculate 1 / 0"),
    ];
    for (request, status, violation) in cases {
        let answer = running.send(request).await;
        assert_eq!(answer.status, status, "{violation}: {}", answer.text);
        let last = running.calls().await.last().unwrap().clone();
        let text = last["violation"].as_str().unwrap_or_default().to_owned();
        assert!(text.contains(violation), "{violation}: {last}");
    }
    let cleared = running.send(running.request("DELETE", "http://sandbox.invalid/calls")).await;
    assert_eq!((cleared.status, cleared.json.as_array().map(Vec::len)), (200, Some(7)));
    assert!(cleared.json[0]["from_port"].as_u64().is_some_and(|port| port > 0), "{}", cleared.json);
    let fine = [
        bearer("GET", "https://acme.vendor.test/v1/users?filter[name]=x&limit=2"),
        bearer("GET", "https://acme.vendor.test/v1/users/9999"),
        bearer("HEAD", "https://acme.vendor.test/v1/users"),
        bearer("POST", "https://acme.vendor.test/v1/search").json(&serde_json::json!({"filter": "all"})),
    ];
    for request in fine {
        running.send(request).await;
    }
    assert_eq!(running.violations().await, Vec::<String>::new());
    assert_eq!(running.calls().await.len(), 4);
}

#[tokio::test]
async fn paths_are_matched_with_their_escapes() {
    let running = start().await;
    let answer = running.get("https://acme.vendor.test/v1/files/a%2Fb%20c/meta(%27x%25y%27)", "reader-token").await;
    assert_eq!(answer.json, serde_json::json!({"name": "a/b c", "part": "x%y"}));
}

#[test]
fn the_list_of_calls_is_bounded() {
    use sandbox::calls::{Call, Calls, MAX_CALLS};
    let calls = Calls::default();
    let call = |at_ms| Call {
        at_ms,
        from_port: 1,
        family: "vendor".to_owned(),
        account: None,
        credential: None,
        method: "GET".to_owned(),
        host: "acme.vendor.test".to_owned(),
        path: "/".repeat(5000),
        query: String::new(),
        status: 200,
        token: false,
        violation: None,
    };
    for at_ms in 0..=MAX_CALLS as u64 {
        calls.add(call(at_ms));
    }
    let list: Vec<serde_json::Value> = serde_json::from_slice(&calls.to_json()).unwrap();
    assert_eq!((list.len(), list[0]["at_ms"].as_u64()), (MAX_CALLS, Some(1)));
    assert!(list[0]["path"].as_str().unwrap().len() < 1000);
}
