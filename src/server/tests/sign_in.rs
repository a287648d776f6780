//! Tests of signing in with a token, of sessions, and of signing out.

use super::*;

/// The header that a browser sends for a page.
pub const BROWSER: (&str, &str) = ("Accept", "text/html,application/xhtml+xml");

/// Returns the value of a cookie that the reply sets.
pub fn set(reply: &HttpReply, name: &str) -> Option<String> {
    let (_, rest) = reply.header("set-cookie").split_once(&format!("{name}="))?;
    Some(rest.split(';').next().unwrap_or_default().to_string()).filter(|value| !value.is_empty())
}

/// Sends the form of the page, as a browser does that loaded it from `origin`.
async fn submit(server: &TestServer, origin: &str, token: &str, next: &str) -> HttpReply {
    let body =
        url::form_urlencoded::Serializer::new(String::new()).append_pair("next", next).append_pair("token", token).finish();
    let headers = [BROWSER, ("Origin", origin), ("Content-Type", "application/x-www-form-urlencoded")];
    server.send("POST", "/ui/sign-in", &headers, Some(&body)).await
}

async fn own(server: &TestServer, token: &str, next: &str) -> HttpReply {
    submit(server, &format!("http://127.0.0.1:{}", server.port), token, next).await
}

/// Opens a page with the session of `cookie`.
pub async fn open(server: &TestServer, path: &str, cookie: &str) -> HttpReply {
    server.send("GET", path, &[BROWSER, ("Cookie", &format!("aam_session={cookie}"))], None).await
}

/// The value that the forms of a page send back.
fn csrf(page: &HttpReply) -> String {
    let (_, rest) = page.body.split_once("name=\"csrf\" value=\"").unwrap_or_else(|| panic!("no form: {page:?}"));
    rest.split('"').next().unwrap_or_default().to_string()
}

#[tokio::test]
async fn a_reader_signs_in_with_a_token_and_signs_out() {
    let server = TestServer::new().await;
    let first = server.send("GET", "/?range=7d", &[BROWSER], None).await;
    assert_eq!((first.status, first.header("location")), (303, "/ui/sign-in?next=%2F%3Frange%3D7d"));
    let page = server.send("GET", first.header("location"), &[BROWSER], None).await;
    assert_eq!((page.status, page.header("referrer-policy")), (200, "same-origin"));
    for part in ["type=\"password\"", "autocomplete=\"off\"", "value=\"/?range=7d\"", "aam token new", "action=\"/ui/sign-in\""] {
        assert!(page.body.contains(part), "{part}: {}", page.body);
    }
    assert!(page.header("content-security-policy").contains("form-action 'self'"));
    let signed_in = own(&server, &format!(" {READER}\n"), "/?range=7d").await;
    assert_eq!((signed_in.status, signed_in.header("location")), (303, "/?range=7d"));
    let value = set(&signed_in, "aam_session").expect("a cookie");
    let attributes = signed_in.header("set-cookie").split_once(';').map_or("", |(_, rest)| rest);
    assert_eq!(attributes, " HttpOnly; SameSite=Strict; Path=/; Max-Age=43200");
    assert!(!signed_in.header("set-cookie").contains(READER));
    let home = open(&server, "/", &value).await;
    assert_eq!(home.status, 200, "{home:?}");
    assert!(home.body.contains("Sign out") && home.body.contains("reader"), "{}", home.body);
    let again = open(&server, "/ui/sign-in", &value).await;
    assert!(again.body.contains("You are signed in as"), "{}", again.body);

    let cookie = format!("aam_session={value}");
    let headers = [BROWSER, ("Cookie", cookie.as_str())];
    let forged = server.send("POST", "/ui/sign-out", &headers, Some("csrf=0")).await;
    assert_eq!((forged.status, open(&server, "/", &value).await.status), (403, 200), "{forged:?}");
    let left = server.send("POST", "/ui/sign-out", &headers, Some(&format!("csrf={}", csrf(&home)))).await;
    assert_eq!((left.status, left.header("location")), (303, "/ui/sign-in?signed_out=1"));
    assert!(left.header("set-cookie").starts_with("aam_session=;") && left.header("set-cookie").contains("Max-Age=0"));
    assert_eq!(open(&server, "/", &value).await.status, 303, "the session has ended");
    let page = server.send("GET", left.header("location"), &[BROWSER], None).await;
    assert!(page.body.contains("You are signed out."), "{}", page.body);
    assert_eq!(server.send("POST", "/ui/sign-out", &headers, Some("")).await.status, 303, "twice is not an error");
}

#[tokio::test]
async fn a_token_that_is_not_accepted_is_answered_with_the_page_and_one_sentence() {
    let server = TestServer::new().await;
    for (token, sentence) in [
        ("a-wrong-token", "This token is not in the policy in force."),
        ("", "Enter a token."),
        ("two parts", "This is not a token"),
        (&*"x".repeat(2000), "This is not a token"),
    ] {
        let reply = own(&server, token, "/ui/about").await;
        assert_eq!((reply.status, set(&reply, "aam_session")), (401, None), "{reply:?}");
        assert!(reply.body.contains(sentence) && reply.body.contains("value=\"/ui/about\""), "{}", reply.body);
        assert!(token.is_empty() || !reply.body.contains(token));
    }
    let mut statuses = Vec::new();
    for n in 0..150 {
        statuses.push(own(&server, &format!("guess-{n}"), "/").await.status);
    }
    assert!(statuses.contains(&429), "guesses are limited: {statuses:?}");
    assert_eq!(own(&server, READER, "/").await.status, 303, "a valid token works from the same address");
}

#[tokio::test]
async fn a_form_that_is_sent_after_the_session_ended_says_so_and_leads_back_to_its_page() {
    let server = TestServer::new().await;
    let id = server.accept(&[document("jdbc", "a")]).await[0];
    for action in ["verify", "withdraw"] {
        let reply = server.send("POST", &format!("/ui/connections/{id}/{action}"), &[BROWSER], Some("csrf=0")).await;
        let address = format!("/ui/sign-in?next=%2Fui%2Fconnections%2F{id}&unsent=1");
        assert_eq!((reply.status, reply.header("location")), (303, address.as_str()), "{reply:?}");
        let page = server.send("GET", &address, &[BROWSER], None).await;
        assert!(
            page.body.contains("nothing was done") && page.body.contains(&format!("value=\"/ui/connections/{id}\"")),
            "{}",
            page.body
        );
    }
    assert!(server.handle.in_flight.heals().is_empty());
    let page = server.send("GET", "/ui/sign-in?next=%2F", &[BROWSER], None).await;
    assert!(!page.body.contains("nothing was done"), "only after a form: {}", page.body);
    // The form of an earlier session leads back, too.
    let signed_in = own(&server, FULL, "/").await;
    let cookie = format!("aam_session={}", set(&signed_in, "aam_session").expect("a cookie"));
    let headers = [BROWSER, ("Cookie", cookie.as_str())];
    let outdated = server.send("POST", &format!("/ui/connections/{id}/verify"), &headers, Some("csrf=0")).await;
    assert_eq!(outdated.status, 403, "{outdated:?}");
    assert!(outdated.body.contains(&format!("href=\"/ui/connections/{id}\">Open the page again")), "{}", outdated.body);
}

#[tokio::test]
async fn a_mistyped_address_shows_a_page_to_people_and_a_document_to_programs() {
    let server = TestServer::new().await;
    for (path, near) in [
        ("/ui/conections", Some("/ui/connections")),
        ("/polcy", Some("/ui/policy")),
        ("/api/v1/aam/ui/ledgr", Some("/api/v1/aam/ui/ledger")),
        ("/ui", None),
        ("/no/such/page", None),
    ] {
        let page = server.send("GET", path, &[BROWSER], None).await;
        assert_eq!((page.status, page.header("content-type")), (404, "text/html; charset=utf-8"), "{path}: {page:?}");
        assert!(page.body.contains("This page does not exist"), "{path}: {}", page.body);
        let link = near.map(|near| format!("href=\"{near}\"><code>"));
        assert_eq!(page.body.contains("Did you mean"), link.is_some(), "{path}: {}", page.body);
        assert!(link.is_none_or(|link| page.body.contains(&link)), "{path}: {}", page.body);
        let document = server.get(path).await;
        assert_eq!((document.status, document.code().as_str()), (404, "NOT_FOUND"), "{path}");
    }
    let page = server.send("GET", "/ui/sign-out", &[BROWSER], None).await;
    assert_eq!((page.status, page.header("content-type"), page.header("allow")), (405, "text/html; charset=utf-8", "POST"));
    let program = server.send("GET", "/ui/sign-out", &[], None).await;
    assert_eq!((program.status, program.code().as_str()), (405, "METHOD_NOT_ALLOWED"));
    let evil = server.send("GET", "/ui/%22%3E%3Cscript%3Ealert(1)", &[BROWSER], None).await;
    assert!(evil.status == 404 && !evil.body.contains("<script>alert"), "{}", evil.body);
}

#[tokio::test]
async fn a_reader_is_sent_to_pages_of_this_server_only() {
    let server = TestServer::new().await;
    for (next, location) in [
        ("/ui/about?at=2026-11-08T18%3A00%3A00Z", "/ui/about?at=2026-11-08T18%3A00%3A00Z"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("/\t/evil.example", "/"),
        ("https://evil.example/", "/"),
        ("javascript:alert(1)", "/"),
        ("", "/"),
        ("/ui/sign-in?next=/", "/"),
        ("/ui/sign-out", "/"),
        ("/ui/oidc/begin", "/"),
    ] {
        assert_eq!(own(&server, READER, next).await.header("location"), location, "{next:?}");
    }
    let other = own(&server, OTHER, "/").await;
    assert_eq!(other.header("location"), "/?namespace=other", "a namespace that the token may see");
}

#[tokio::test]
async fn another_site_cannot_sign_a_reader_in() {
    let hosts = "api:\n  hosts: [aam.example]\n  cors: {origins: [\"https://portal.example\"]}\n";
    let server = TestServer::with(&policy_text().replace("api:\n", hosts), ServerLimits::default()).await;
    for origin in ["https://evil.example", "https://portal.example", "null", "http://127.0.0.1:1"] {
        let reply = submit(&server, origin, READER, "/").await;
        assert_eq!((reply.status, set(&reply, "aam_session")), (403, None), "{origin}: {reply:?}");
    }
    let cross = [BROWSER, ("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "navigate")];
    let reply = server.send("POST", "/ui/sign-in", &cross, Some(&format!("token={READER}"))).await;
    assert_eq!((reply.status, set(&reply, "aam_session")), (403, None));
    // Behind a proxy that ends TLS, the browser names its own origin.
    let reply = submit(&server, "https://aam.example", READER, "/").await;
    assert!(reply.status == 303 && reply.header("set-cookie").ends_with("; Secure"), "{reply:?}");
}

#[tokio::test]
async fn a_link_on_another_site_leads_to_the_page_of_a_reader_who_is_signed_in() {
    let server = TestServer::new().await;
    // The browser does not send the cookie with such a link, so the page opens itself once from here.
    let cross = [BROWSER, ("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "navigate")];
    let reply = server.send("GET", "/ui/sign-in?next=%2Fui%2Fabout", &cross, None).await;
    assert_eq!((reply.status, reply.header("refresh")), (200, "0;url=/ui/about"), "{reply:?}");
    assert!(!reply.body.contains("type=\"password\""), "{}", reply.body);
    let own = [BROWSER, ("Sec-Fetch-Site", "same-origin"), ("Sec-Fetch-Mode", "navigate")];
    let reply = server.send("GET", "/ui/sign-in?next=%2Fui%2Fabout", &own, None).await;
    assert!(reply.header("refresh").is_empty() && reply.body.contains("type=\"password\""), "no circle: {}", reply.body);
}

#[tokio::test]
async fn a_session_has_the_rights_of_its_token_and_ends_with_it() {
    let end = Timestamp(START + 60_000).rfc3339();
    let digest = |token: &str| Digest::from_bytes(token.as_bytes());
    let short = format!(
        "    - {{name: short, sha256: \"{}\", scopes: [\"registry:read\"], namespaces: [autonomy], expires: \"{end}\"}}\n    - {{name: pusher, sha256: \"{}\", scopes: [\"intents:write\"], namespaces: [autonomy]}}\n",
        digest("a-short-token"),
        digest("a-token-that-pushes")
    );
    let server = TestServer::with(&(policy_text() + &short), ServerLimits::default()).await;
    let pusher = own(&server, "a-token-that-pushes", "/").await;
    assert_eq!((pusher.status, set(&pusher, "aam_session")), (403, None), "a page instead of a circle");
    assert!(pusher.body.contains("does not have the scope registry:read"), "{}", pusher.body);

    let id = server.accept(&[document("jdbc", "jdbc:sqlite:a.db")]).await[0];
    let reader = set(&own(&server, READER, "/").await, "aam_session").expect("a cookie");
    let page = open(&server, &format!("/ui/connections/{id}"), &reader).await;
    assert_eq!(page.status, 200, "{page:?}");
    let cookie = format!("aam_session={reader}");
    let form = format!("csrf={}", csrf(&page));
    for action in ["verify", "withdraw"] {
        let path = format!("/ui/connections/{id}/{action}");
        let reply = server.send("POST", &path, &[BROWSER, ("Cookie", &cookie)], Some(&form)).await;
        assert_eq!(reply.status, 403, "a reader sees and does not act: {reply:?}");
    }
    assert_eq!(open(&server, "/?namespace=other", &reader).await.status, 403, "only the namespaces of the token");
    let api = server.send("GET", "/connections", &[("Cookie", &cookie)], None).await;
    assert_eq!((api.status, api.code().as_str()), (401, "TOKEN_MISSING"), "the API takes no cookie");

    let short = own(&server, "a-short-token", "/").await;
    assert!(short.header("set-cookie").contains("Max-Age=60"), "{short:?}");
    let short = set(&short, "aam_session").expect("a cookie");
    assert_eq!(open(&server, "/", &short).await.status, 200);
    server.later(60_000);
    assert_eq!(open(&server, "/", &short).await.status, 303, "the token has ended");
    assert_eq!(open(&server, "/", &reader).await.status, 200);

    let without = policy_text().lines().filter(|line| !line.contains("name: reader")).collect::<Vec<_>>().join("\n");
    replace_policy(&server, &without);
    assert_eq!(open(&server, "/", &reader).await.status, 303, "the token was removed");
}

/// Puts another policy into force.
pub fn replace_policy(server: &TestServer, text: &str) {
    let policy = crate::policy::parse::parse(text, "policy.yaml").expect("a policy");
    server.handle.policy.store(Arc::new(ActivePolicy::new(LoadedPolicy::new(policy), None)));
}
