//! The family `acme_desk` of the tests against a vendor on loopback: methods to log in, identity, grants and error rules.

use super::LowcodeEngine;
use crate::clock::SystemClock;
use crate::connectors::{BindRequest, Engine, Opened};
use crate::credentials::{Credential, Secret};
use crate::egress::{Caller, DayBudget, Egress, resolve::SystemLookup};
use crate::model::{Class, ConnectionId, Failure, Privilege};
use crate::policy::parse::parse;
use axum::http::{HeaderMap, Uri};
use axum::response::IntoResponse;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use std::sync::Arc;

struct UnlimitedBudget;

impl DayBudget for UnlimitedBudget {
    fn take<'a>(&'a self, _: &'a str, _: i64, wanted: u64, _: u64) -> BoxFuture<'a, Result<u64, String>> {
        Box::pin(async move { Ok(wanted) })
    }
}

/// What the vendor answers to a path and an authorization header: status, a header, body.
type Answer = fn(&str, &str) -> (u16, Option<(&'static str, &'static str)>, Value);

async fn vendor(answer: Answer) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let app = axum::Router::new().fallback(move |uri: Uri, headers: HeaderMap| async move {
        let authorization = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default().to_string();
        let (status, header, body) = answer(uri.path(), &authorization);
        let status = axum::http::StatusCode::from_u16(status).unwrap();
        let header = header.map(|header| [header]).unwrap_or([("x-nothing", "1")]);
        (status, header, axum::Json(body)).into_response()
    });
    tokio::spawn(async move { axum::serve(listener, app).await });
    base
}

async fn open(keys: &str, id: &str, credential: Credential) -> Result<Opened, Failure> {
    open_family("acme_desk", keys, id, credential).await
}

async fn open_family(name: &str, keys: &str, id: &str, credential: Credential) -> Result<Opened, Failure> {
    let text = format!(
        "version: 1\nallowlist: [{name}]\nnetwork: {{allow_private: [127.0.0.0/8]}}\nfamilies: {{{name}: {{{keys}}}}}\n\
         caps: {{default: {{per_second: 1000, burst: 1000, per_day: 100000, concurrency: 4}}}}\n"
    );
    let policy = Arc::new(parse(&text, "policy.yaml").unwrap());
    let family = crate::families::find(name).unwrap();
    let engine = LowcodeEngine::new(Arc::new(SystemClock));
    let bound = engine.bind(BindRequest { family, policy: &policy, resource_id: id })?;
    let account = bound.account().to_string();
    let authorized = bound.authorize(Some(credential))?;
    let egress = Egress::with(Arc::new(UnlimitedBudget), Arc::new(SystemClock), Arc::new(SystemLookup));
    let session = egress.session(Caller {
        connection: ConnectionId::derive("autonomy", name, &[id.to_string()]),
        family: Arc::clone(&family.id),
        purpose: crate::model::CallPurpose::Source,
        account,
        cap: policy.caps.default.clone(),
        policy: Arc::clone(&policy),
        posts: Arc::new(authorized.posts.clone()),
    });
    authorized.open(session).await
}

fn plain(text: &str) -> Credential {
    Credential::read(Secret::new(text.to_string()))
}

/// A JWT with these claims, as a vendor issues it.
fn jwt(claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.c2ln", part(&json!({"alg": "RS256"})), part(claims))
}

const SCOPED: &str = "Basic YUBiLmV4YW1wbGU6c2NvcGVk"; // a@b.example:scoped

/// The site accepts ordinary tokens; scoped ones work only at the gateway, whose path has the cloud id.
fn two_doors(path: &str, authorization: &str) -> (u16, Option<(&'static str, &'static str)>, Value) {
    match (path, authorization == SCOPED) {
        ("/tenant_info", _) => (200, None, json!({"cloudId": "c-1"})),
        ("/ex/c-1/site", true) => (200, None, json!({"site": "acme"})),
        ("/site", false) => (200, None, json!({"site": "acme"})),
        ("/permissions", _) => (403, None, json!({"message": "You may not see this"})),
        _ => (401, None, json!({"message": "Unauthorized"})),
    }
}

#[tokio::test]
async fn a_credential_that_the_site_rejects_is_tried_at_the_gateway() {
    let base = vendor(two_doors).await;
    let keys = format!("base_url: \"{base}\"");
    let opened = open(&keys, "acme", plain("a@b.example:scoped")).await.unwrap();
    assert_eq!(opened.identity["auth"], "gateway");
    assert!(matches!(opened.privilege, Privilege::Unknown { reason } if reason.contains("only at its gateway")));
    let opened = open(&keys, "acme", plain("a@b.example:ordinary")).await.unwrap();
    assert_eq!(opened.identity["auth"], "basic");
    // A source that may not be read is never ok, and the vendor says why.
    assert!(
        matches!(&opened.privilege, Privilege::Unknown { reason } if reason.contains("You may not see this")),
        "{:?}",
        opened.privilege
    );

    let base = vendor(|path, _| match path {
        "/tenant_info" => (200, None, json!({"cloudId": "c-1"})),
        _ => (401, None, json!({"message": "Unauthorized"})),
    });
    let failure = open(&format!("base_url: \"{}\"", base.await), "acme", plain("a@b.example:wrong")).await.err().unwrap();
    assert_eq!(failure.class, Class::CredentialRejected);
    assert!(failure.detail.contains("/site") && !failure.detail.contains("/ex/"), "the first method says why: {failure:?}");
}

#[tokio::test]
async fn grants_come_from_the_first_source_that_names_them() {
    let vendor = vendor(|path, _| match path {
        "/site" => (200, None, json!({"site": "acme"})),
        "/permissions" => (
            200,
            None,
            json!([
                {"type": "page", "key": "read", "havePermission": true}, {"type": "page", "key": "write", "havePermission": false}
            ]),
        ),
        "/roles" => (200, None, json!([{"name": "admin"}])),
        _ => (404, None, json!({"message": "Not found"})),
    });
    let keys = format!("base_url: \"{}\"", vendor.await);
    let over = |grant: &str| Privilege::Over { grants: vec![grant.to_string()] };
    let opened = |credential| open(&keys, "acme", credential);
    for (credential, expected) in [
        (plain(&jwt(&json!({"scp": "page:read user:read.all"}))), Privilege::Ok),
        (plain(&jwt(&json!({"scp": "page:read page:write"}))), over("page:write")),
        // A JWT without the claim, and a token that is not a JWT, are judged by the streams.
        (plain(&jwt(&json!({"sub": "u1"}))), over("role:admin")),
        (plain("opaque"), over("role:admin")),
    ] {
        assert_eq!(opened(credential).await.unwrap().privilege, expected);
    }
}

#[tokio::test]
async fn granted_scopes_decide_where_nothing_else_does() {
    let vendor = vendor(|path, _| match path {
        "/site" => (200, None, json!({"site": "acme"})),
        "/roles" => (200, None, json!([])),
        "/permissions" => (200, None, json!([{"type": "page", "key": "read", "havePermission": true}])),
        _ => (404, None, json!({"message": "Not found"})),
    });
    let keys = format!("base_url: \"{}\"", vendor.await);
    let minted = |scope: &str| plain("opaque").with_granted(vec![scope.to_string()]);
    assert_eq!(open(&keys, "acme", minted("read")).await.unwrap().privilege, Privilege::Ok);
    assert!(matches!(open(&keys, "acme", minted("write")).await.unwrap().privilege, Privilege::Over { .. }));
    // An empty list of roles may only be hidden, so the other grants do not make the verdict ok.
    let unknown = open(&keys, "acme", plain("opaque")).await.unwrap().privilege;
    assert!(matches!(&unknown, Privilege::Unknown { reason } if reason.contains("roles is empty")), "{unknown:?}");
}

#[tokio::test]
async fn an_accepted_token_proves_the_identity_by_its_claims() {
    let vendor = vendor(|path, authorization| match path {
        "/site" => (403, None, json!({"message": "Forbidden"})),
        "/me" if authorization.ends_with(".c2ln") => (200, None, json!({"id": 1})),
        _ => (401, None, json!({"message": "Unauthorized"})),
    });
    let keys = format!("base_url: \"{}\"", vendor.await);
    let opened = open(&keys, "acme", plain(&jwt(&json!({"site": "acme", "sub": "u1", "scp": "read"})))).await.unwrap();
    assert_eq!((opened.identity["matched"].as_str(), opened.identity["sub"].as_str()), (Some("site is acme"), Some("u1")));
    assert!(opened.identity["identity"].as_str().unwrap().contains("by the claims of the access token"));
    let other = open(&keys, "acme", plain(&jwt(&json!({"site": "other", "scp": "read"})))).await.err().unwrap();
    assert_eq!(other.class, Class::WrongService);
    let opaque = open(&keys, "acme", plain("opaque.c2ln")).await.err().unwrap();
    assert_eq!(opaque.class, Class::PermissionDenied, "a token without claims proves nothing");

    // A token that the vendor does not accept proves nothing, whatever its claims are.
    let strict = self::vendor(|path, _| match path {
        "/site" => (403, None, json!({"message": "Forbidden"})),
        _ => (401, None, json!({"message": "Unauthorized"})),
    });
    let keys = format!("base_url: \"{}\"", strict.await);
    let refused = open(&keys, "acme", plain(&jwt(&json!({"site": "acme"})))).await.err().unwrap();
    assert_eq!(refused.class, Class::CredentialRejected);
}

#[tokio::test]
async fn a_token_that_names_its_account_is_compared_before_anything_is_read() {
    const ACCOUNT: &str = "q6gBJVO5TzexKYTb_I2rpg";
    const MISSING: &str = "Invalid access token, does not contain scopes:[user:read:user:admin, user:read:user:master].";
    let vendor = vendor(|path, _| match path {
        "/v2/users" => (200, None, json!({"next_page_token": "", "users": [{"id": "u1"}]})),
        _ => (400, None, json!({"code": 4711, "message": MISSING})),
    });
    let keys = format!("base_url: \"{}/v2\"", vendor.await);
    let opened = |credential| open_family("zoom", &keys, ACCOUNT, credential);
    let by_claim = opened(plain(&jwt(&json!({"aid": ACCOUNT, "uid": "u1"})))).await.unwrap().identity;
    assert_eq!((by_claim["matched"].as_str(), by_claim["uid"].as_str()), (Some("aid is q6gBJVO5TzexKYTb_I2rpg"), Some("u1")));
    assert!(by_claim["identity"].as_str().unwrap().contains("by the claims of the access token"), "{by_claim:?}");
    let older = opened(plain(&jwt(&json!({"accountId": ACCOUNT})))).await.unwrap().identity;
    assert_eq!(older["matched"], "accountId is q6gBJVO5TzexKYTb_I2rpg");
    // A token that is not a JWT is for the account for which the vendor issued it.
    let confirmed = |account: &str| plain("opaque").with_confirmed([("aid".to_string(), account.to_string())].into());
    let issued = opened(confirmed(ACCOUNT)).await.unwrap().identity;
    assert!(issued["identity"].as_str().unwrap().contains("for which Zoom issued the access token"), "{issued:?}");
    let nothing = opened(plain("opaque")).await.err().unwrap();
    assert_eq!(nothing.class, Class::PermissionDenied);
    assert_eq!(nothing.title, "the Zoom app does not have the scope user:read:user:admin", "{nothing:?}");

    // This vendor accepts nothing, so a call would be the failure.
    let strict = self::vendor(|_, _| (401, None, json!({"code": 124, "message": "Invalid access token."}))).await;
    let keys = format!("base_url: \"{strict}\"");
    for credential in [plain(&jwt(&json!({"aid": "another_account"}))), confirmed("another_account")] {
        let failure = open_family("zoom", &keys, ACCOUNT, credential).await.err().unwrap();
        assert_eq!(failure.class, Class::WrongService, "{failure:?}");
        assert!(failure.title.contains("another_account"), "{failure:?}");
    }
    let refused = open_family("zoom", &keys, ACCOUNT, plain(&jwt(&json!({"aid": ACCOUNT})))).await.err().unwrap();
    assert_eq!(refused.class, Class::CredentialRejected, "claims prove nothing if the vendor does not accept the token");
}

#[tokio::test]
async fn exactly_one_record_says_who_it_is() {
    let vendor = vendor(|path, authorization| {
        let record = |user: &str| json!({"baseUrl": "https://127.0.0.1/", "user": user, "groups": [{"name": "readers"}]});
        match (path, authorization) {
            ("/users", "Bearer two") => (200, None, json!([record("reader"), record("admin")])),
            ("/users", "Bearer other") => (200, None, json!([{"baseUrl": "https://127.0.0.1", "user": "x", "groups": []}])),
            ("/users", "Bearer stranger") => (200, Some(("x-login-reason", "AUTHENTICATED_FAILED")), json!([record("reader")])),
            ("/users", "Bearer narrow") => (401, None, json!({"message": "DESK0042: the scope page:read is missing"})),
            ("/users", _) => (200, None, json!([record("somebody")])),
            _ => (404, None, json!({"message": "Not found"})),
        }
    });
    let base = vendor.await;
    let keys = format!("hosts: [\"{base}\"]");
    let opened = open(&keys, &base, plain("one")).await.unwrap();
    assert_eq!(opened.identity["matched"], format!("baseUrl is {}, groups.*.name is readers", base.replace("http://", "")));
    for (token, class, text) in [
        ("two", Class::PermissionDenied, "several records for user"),
        ("other", Class::WrongService, "answers as user x"),
        ("stranger", Class::CredentialRejected, "answers as to a stranger"),
        ("narrow", Class::PermissionDenied, "the token does not have the scope page:read (DESK0042)"),
    ] {
        let failure = open(&keys, &base, plain(token)).await.err().unwrap();
        assert_eq!(failure.class, class, "{failure:?}");
        assert!(failure.title.contains(text), "{failure:?}");
    }
}

#[tokio::test]
async fn a_credential_of_another_kind_is_not_sent() {
    let vendor = vendor(|_, _| (200, None, json!({"site": "acme"}))).await;
    let failure = open(&format!("base_url: \"{vendor}\""), "acme", plain("dsk_0123456789")).await.err().unwrap();
    assert_eq!(failure.class, Class::CredentialMissing);
    assert!(failure.title.contains("an API token without its e-mail address"), "{failure:?}");
}
