//! Tests of signing in with OpenID Connect, against an issuer that is as strict as the standard.

use super::issuer::{CLIENT, Issuer};
use super::sign_in::{BROWSER, open, replace_policy, set};
use super::*;

const READERS: &str = "{claim: groups, value: aam-readers, scopes: [\"registry:read\"], namespaces: [autonomy]}";
const OPERATORS: &str =
    "{claim: groups, value: aam-operators, scopes: [\"registry:read\", \"ops:heal\"], namespaces: [autonomy]}";

fn policy(issuer: &Issuer, roles: &str, more: &str) -> String {
    let oidc = format!("api:\n  oidc: {{issuer: \"{}\", client_id: {CLIENT}, roles: [{roles}]{more}}}\n", issuer.url);
    policy_text().replace("api:\n", &oidc).replace("version: 1\n", "version: 1\nnetwork: {allow_private: [127.0.0.0/8]}\n")
}

async fn server(issuer: &Issuer) -> TestServer {
    TestServer::with(&policy(issuer, &format!("{OPERATORS}, {READERS}"), ""), ServerLimits::default()).await
}

/// Begins a sign-in. Returns the cookie and the address at the issuer.
async fn begin(server: &TestServer, next: &str) -> (String, String) {
    let reply = server.send("GET", &format!("/ui/oidc/begin?next={next}"), &[BROWSER], None).await;
    assert_eq!(reply.status, 303, "{reply:?}");
    let attributes = reply.header("set-cookie").split_once(';').map_or("", |(_, rest)| rest);
    assert_eq!(attributes, " HttpOnly; SameSite=Lax; Path=/; Max-Age=600");
    (set(&reply, "aam_oidc").expect("a cookie"), reply.header("location").to_string())
}

/// Comes back from the issuer, as a browser does that follows a redirect of another site.
async fn come_back(server: &TestServer, cookie: &str, query: &str) -> HttpReply {
    let cookie = format!("aam_oidc={cookie}");
    let cross = [BROWSER, ("Cookie", cookie.as_str()), ("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "navigate")];
    server.send("GET", &format!("/ui/oidc/callback?{query}"), &cross, None).await
}

/// Signs a person in whom the issuer knows, and returns the answer at the callback.
async fn sign_in(server: &TestServer, issuer: &Issuer) -> HttpReply {
    let (cookie, location) = begin(server, "%2Fui%2Fabout").await;
    come_back(server, &cookie, &issuer.authorize(&location)).await
}

fn assert_refused(reply: &HttpReply, status: u16, text: &str) {
    assert_eq!((reply.status, set(reply, "aam_session")), (status, None), "{reply:?}");
    assert!(reply.body.contains(text), "{text}: {}", reply.body);
    assert!(reply.header("refresh").is_empty());
}

#[tokio::test]
async fn a_person_signs_in_at_the_issuer() {
    let issuer = Issuer::start(None).await;
    let server = server(&issuer).await;
    let page = server.send("GET", "/ui/sign-in?next=%2Fui%2Fabout", &[BROWSER], None).await;
    assert!(page.body.contains("href=\"/ui/oidc/begin?next=%2Fui%2Fabout\"") && page.body.contains("or with a token"));
    let reply = sign_in(&server, &issuer).await;
    assert_eq!((reply.status, reply.header("refresh")), (200, "0;url=/ui/about"), "{reply:?}");
    assert!(reply.body.contains("href=\"/ui/about\"") && reply.header("referrer-policy") == "no-referrer");
    let cookies = reply.header("set-cookie");
    assert!(cookies.contains("SameSite=Strict") && cookies.contains("Max-Age=43200"), "{cookies}");
    assert!(cookies.contains("aam_oidc=; HttpOnly"), "what the sign-in needed is removed: {cookies}");
    let session = set(&reply, "aam_session").expect("a cookie");
    let home = open(&server, "/", &session).await;
    assert_eq!(home.status, 200, "{home:?}");
    assert!(home.body.contains("jane@acme.example") && home.body.contains("Sign out"), "{}", home.body);
    assert_eq!(open(&server, "/?namespace=other", &session).await.status, 403);
    assert_eq!(issuer.calls(), ["GET /.well-known/openid-configuration", "POST /token", "GET /jwks"]);
    sign_in(&server, &issuer).await;
    assert_eq!(issuer.calls().len(), 4, "the documents are read once");
}

#[tokio::test]
async fn a_confidential_client_proves_itself_with_its_secret() {
    let issuer = Issuer::start(Some("a secret:with/+%=& signs")).await;
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("OIDC_SECRET"), "a secret:with/+%=& signs\n").expect("written");
    let secrets = format!("credentials: {{secrets_dir: \"{}\"}}\n", folder.path().display());
    let text = secrets + &policy(&issuer, READERS, ", client_secret: \"env:OIDC_SECRET\"");
    let server = TestServer::with(&text, ServerLimits::default()).await;
    assert_eq!(sign_in(&server, &issuer).await.status, 200);
    std::fs::remove_file(folder.path().join("OIDC_SECRET")).expect("removed");
    let reply = sign_in(&server, &issuer).await;
    assert_refused(&reply, 502, "OIDC_SECRET");
    let other = Issuer::start(Some("another secret")).await;
    std::fs::write(folder.path().join("OIDC_SECRET"), "a wrong secret\n").expect("written");
    replace_policy(&server, &text.replace(&issuer.url, &other.url));
    let reply = sign_in(&server, &other).await;
    assert_refused(&reply, 502, "does not accept AAM");
    assert!(!reply.body.contains("a wrong secret"));
}

#[tokio::test]
async fn an_answer_that_this_browser_did_not_begin_is_refused() {
    let issuer = Issuer::start(None).await;
    let server = server(&issuer).await;
    let (cookie, location) = begin(&server, "%2F").await;
    let query = issuer.authorize(&location);
    let (other, _) = begin(&server, "%2F").await;
    let does_not_belong = "does not belong to a sign-in";
    assert_refused(&come_back(&server, &other, &query).await, 400, does_not_belong);
    assert_refused(&come_back(&server, "", &query).await, 400, does_not_belong);
    let forged = query.replace("state=", "state=0");
    assert_refused(&come_back(&server, &cookie, &forged).await, 400, does_not_belong);
    assert_refused(&come_back(&server, &cookie, &format!("{query}&code=x")).await, 400, does_not_belong);
    // The address that the reader wants to see is part of what the state covers.
    let changed = cookie.replacen('.', ".1", 1);
    assert_refused(&come_back(&server, &changed, &query).await, 400, does_not_belong);
    let foreign = query.replace("iss=http", "iss=https");
    assert_refused(&come_back(&server, &cookie, &foreign).await, 400, "answer comes from");
    let unnamed = query.split("&iss=").next().unwrap_or_default();
    assert_refused(&come_back(&server, &cookie, unnamed).await, 400, "answer does not say that it comes from");
    assert_eq!(issuer.calls(), ["GET /.well-known/openid-configuration"], "no code was sent anywhere");
    assert_eq!(come_back(&server, &cookie, &query).await.status, 200);
    assert_refused(&come_back(&server, &cookie, &query).await, 400, "it was used before");
    let (late, location) = begin(&server, "%2F").await;
    let query = issuer.authorize(&location);
    server.later(600_001);
    assert_refused(&come_back(&server, &late, &query).await, 400, does_not_belong);
}

#[tokio::test]
async fn what_the_issuer_refuses_is_said_and_marked_as_its_text() {
    let issuer = Issuer::start(None).await;
    let server = server(&issuer).await;
    for (error, status, text) in [
        ("access_denied", 403, "reports that the sign-in was refused"),
        ("temporarily_unavailable", 502, "could not handle the sign-in"),
        ("invalid_scope", 502, "does not accept the request of AAM"),
    ] {
        let (cookie, location) = begin(&server, "%2F").await;
        let query = issuer.authorize(&location);
        let state = query.split('&').find(|part| part.starts_with("state=")).unwrap_or_default();
        let iss = query.split('&').find(|part| part.starts_with("iss=")).unwrap_or_default();
        let answer = format!("error={error}&error_description=%3Cb%3Eno%3C%2Fb%3E&{state}&{iss}");
        let reply = come_back(&server, &cookie, &answer).await;
        assert_refused(&reply, status, text);
        assert!(reply.body.contains("the issuer says: ") && !reply.body.contains("<b>no"), "{}", reply.body);
    }
    let unreachable = policy(&issuer, READERS, "").replace(&issuer.url, "http://127.0.0.1:1");
    replace_policy(&server, &unreachable);
    let reply = server.send("GET", "/ui/oidc/begin", &[BROWSER], None).await;
    assert_refused(&reply, 502, "You are not signed in");
    replace_policy(&server, &policy_text());
    assert_eq!(server.send("GET", "/ui/oidc/begin", &[BROWSER], None).await.status, 404);
    assert_eq!(server.send("GET", "/ui/oidc/callback?code=x&state=y", &[BROWSER], None).await.status, 404);
}

#[tokio::test]
async fn a_token_that_is_not_for_this_sign_in_begins_no_session() {
    let issuer = Issuer::start(None).await;
    let server = server(&issuer).await;
    let now = START / 1000;
    for (claims, reason) in [
        (json!({"nonce": "another"}), "nonce"),
        (json!({"aud": "another"}), "another client"),
        (json!({"aud": [CLIENT, "another"]}), "another client"),
        (json!({"azp": "another"}), "another client"),
        (json!({"iss": "https://login.example"}), "another issuer"),
        (json!({"exp": now - 600}), "has ended"),
        (json!({"iat": now + 600}), "in the future"),
        (json!({"sub": null}), "subject"),
    ] {
        issuer.claim(claims.clone());
        assert_refused(&sign_in(&server, &issuer).await, 400, reason);
    }
    issuer.claim(json!({}));
    *issuer.known.header.lock().expect("no panic") = Some(json!({"alg": "none"}));
    assert_refused(&sign_in(&server, &issuer).await, 400, "RS256 or ES256");
    *issuer.known.header.lock().expect("no panic") = None;
    issuer.sign_with_another_key();
    assert_refused(&sign_in(&server, &issuer).await, 400, "its signature is not valid");
    issuer.rotate("second");
    assert_refused(&sign_in(&server, &issuer).await, 400, "a key that the issuer does not publish");
    server.later(10_000);
    assert_eq!(sign_in(&server, &issuer).await.status, 200, "new keys are read, and not with every answer");
}

#[tokio::test]
async fn the_first_role_that_fits_counts_and_a_person_without_one_reads_why() {
    let issuer = Issuer::start(None).await;
    let server = server(&issuer).await;
    issuer.claim(json!({"groups": ["payroll-secret"], "email": "eve@acme.example"}));
    let reply = sign_in(&server, &issuer).await;
    assert_refused(&reply, 403, "You do not have a role in AAM");
    assert!(reply.body.contains("eve@acme.example") && reply.body.contains("<code>groups</code>"), "{}", reply.body);
    for value in ["payroll-secret", "aam-readers", "aam-operators"] {
        assert!(!reply.body.contains(value), "names only: {}", reply.body);
    }
    issuer.claim(json!({"groups": null}));
    assert_refused(&sign_in(&server, &issuer).await, 403, "missing");
    issuer.claim(json!({"groups": ["aam-readers", "aam-operators"]}));
    let operator = set(&sign_in(&server, &issuer).await, "aam_session").expect("a cookie");
    issuer.claim(json!({}));
    let reader = set(&sign_in(&server, &issuer).await, "aam_session").expect("a cookie");
    let id = server.accept(&[document("jdbc", "jdbc:sqlite:a.db")]).await[0];
    let verify = async |session: &str| {
        let page = open(&server, &format!("/ui/connections/{id}"), session).await;
        let (_, rest) = page.body.split_once("name=\"csrf\" value=\"").expect("a form");
        let form = format!("csrf={}", rest.split('"').next().unwrap_or_default());
        let cookie = format!("aam_session={session}");
        let headers = [BROWSER, ("Cookie", cookie.as_str())];
        server.send("POST", &format!("/ui/connections/{id}/verify"), &headers, Some(&form)).await.status
    };
    assert_eq!((verify(&operator).await, verify(&reader).await), (303, 403));
}

#[tokio::test]
async fn a_session_follows_the_roles_of_the_policy() {
    let issuer = Issuer::start(None).await;
    let server = server(&issuer).await;
    let session = set(&sign_in(&server, &issuer).await, "aam_session").expect("a cookie");
    assert_eq!(open(&server, "/", &session).await.status, 200);
    // The same person gets another role, by a claim that no role asked for when they signed in.
    let staff = READERS.replace("value: aam-readers", "value: staff").replace("[autonomy]", "[other]");
    replace_policy(&server, &policy(&issuer, &staff, ""));
    assert_eq!(
        open(&server, "/?namespace=autonomy", &session).await.status,
        403,
        "autonomy is not one of the namespaces any more"
    );
    assert_eq!(open(&server, "/?namespace=other", &session).await.status, 200);
    replace_policy(&server, &policy(&issuer, OPERATORS, ""));
    assert_eq!(open(&server, "/", &session).await.status, 303, "no role fits any more");
    replace_policy(&server, &policy(&issuer, READERS, ""));
    assert_eq!(open(&server, "/", &session).await.status, 303, "an ended session does not come back");
    let session = set(&sign_in(&server, &issuer).await, "aam_session").expect("a cookie");
    replace_policy(&server, &policy(&issuer, READERS, "").replace(CLIENT, "another-client"));
    assert_eq!(open(&server, "/", &session).await.status, 303, "another client");
    replace_policy(&server, &policy(&issuer, READERS, ""));
    let session = set(&sign_in(&server, &issuer).await, "aam_session").expect("a cookie");
    server.later(12 * 3600 * 1000);
    assert_eq!(open(&server, "/", &session).await.status, 303, "twelve hours");
}
