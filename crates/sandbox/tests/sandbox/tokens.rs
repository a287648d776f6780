//! Token endpoints: clients, grants, scopes and the tokens that they give.

use crate::support::{Answer, Running, TOKEN_URL, start};
use sandbox::jwt::{Jwt, PublicKey, hash};
use sandbox::keys;

const USERS: &str = "https://acme.vendor.test/v1/users";

async fn client_credentials(running: &Running, id: &str, secret: &str, more: &[(&str, &str)]) -> Answer {
    let form = [&[("grant_type", "client_credentials"), ("client_id", id), ("client_secret", secret)], more].concat();
    running.token(&form).await
}

#[tokio::test]
async fn a_client_proves_itself_by_form_or_header() {
    let running = start().await;
    let posted = client_credentials(&running, "app", "app secret+", &[]).await;
    assert_eq!((posted.status, posted.json["scope"].as_str()), (200, Some("users.read users.write")), "{}", posted.text);
    assert_eq!((posted.header("cache-control"), posted.json["token_type"].as_str()), ("no-store", Some("Bearer")));
    assert!(posted.json.get("refresh_token").is_none());
    // RFC 6749 encodes both parts of the header before base64; many clients do not.
    for pair in ["app:app secret+", "app:app+secret%2B", "app:app%20secret%2B"] {
        use base64::Engine;
        let header = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair));
        let request = running.request("POST", TOKEN_URL).header("authorization", header);
        let answer = running.send(request.form(&[("grant_type", "client_credentials")])).await;
        assert_eq!(answer.status, 200, "{pair}: {}", answer.text);
        let users = running.get(USERS, answer.json["access_token"].as_str().unwrap()).await;
        assert_eq!(users.status, 200);
    }
    assert_eq!(running.calls().await.last().unwrap()["credential"], "app");
    assert!(running.violations().await.is_empty());
}

#[tokio::test]
async fn clients_that_do_not_prove_themselves_are_refused() {
    let running = start().await;
    let grant = ("grant_type", "client_credentials");
    // Form, status, error and description.
    type RefusedForm<'a> = (&'a [(&'a str, &'a str)], u16, &'a str, &'a str);
    let cases: &[RefusedForm<'_>] = &[
        (&[grant], 401, "invalid_client", "missing"),
        (&[grant, ("client_id", "app")], 401, "invalid_client", "missing"),
        (&[grant, ("client_id", "app"), ("client_secret", "wrong")], 401, "invalid_client", "secret"),
        (&[grant, ("client_id", "app_ec"), ("client_secret", "x")], 401, "invalid_client", "secret"),
        (&[grant, ("client_id", "stranger"), ("client_secret", "x")], 401, "invalid_client", "unknown"),
        (&[grant, ("client_id", "of_other"), ("client_secret", "other-secret")], 401, "invalid_client", "other_account"),
        (&[grant, ("client_id", "late"), ("client_secret", "late-secret")], 401, "invalid_client", "the secret has expired"),
        (&[("client_id", "app"), ("client_secret", "app secret+")], 400, "invalid_request", "grant_type"),
        (
            &[("grant_type", "password"), ("client_id", "app"), ("client_secret", "app secret+")],
            400,
            "unsupported_grant_type",
            "unknown",
        ),
    ];
    for (form, status, error, description) in cases {
        let answer = running.token(form).await;
        let found = (answer.status, answer.error(), answer.json["error_description"].as_str().unwrap_or_default());
        assert_eq!(found, (*status, *error, *description), "{form:?}");
    }
    let twice = running.request("POST", TOKEN_URL).basic_auth("app", Some("app secret+"));
    let twice = running.send(twice.form(&[grant, ("client_secret", "app secret+")])).await;
    assert_eq!(twice.error(), "invalid_request");
    let unknown = client_credentials(&running, "app", "app secret+", &[("colour", "red")]).await;
    assert_eq!(unknown.status, 200);
    assert_eq!(running.violations().await, ["the form's parameter colour is not in the vendor's file"]);
}

#[tokio::test]
async fn scopes_are_those_of_the_client() {
    let running = start().await;
    let narrow = client_credentials(&running, "app", "app secret+", &[("scope", "users.write")]).await;
    assert_eq!(narrow.json["scope"], "users.write");
    let token = narrow.json["access_token"].as_str().unwrap();
    assert_eq!(running.get(USERS, token).await.error(), "forbidden");
    let unknown = client_credentials(&running, "app", "app secret+", &[("scope", "users.read users.delete")]).await;
    assert_eq!((unknown.status, unknown.error()), (400, "invalid_scope"));
}

#[tokio::test]
async fn a_token_ends_and_belongs_to_its_account() {
    let running = start().await;
    let url = "https://login.vendor.test/acme/short";
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", "app"),
        ("client_secret", "app secret+"),
        ("scope", "users.read"),
        ("resource", "https://login.vendor.test/"),
    ];
    let ask = async |url: &str, form: &[(&str, &str)]| running.send(running.request("POST", url).form(form)).await;
    let short = ask(url, &form).await;
    let token = short.json["access_token"].as_str().unwrap();
    // The claims are those of the file, with those that every vendor sets, and the issuer's signature.
    let jwt = Jwt::parse(token).unwrap();
    assert!(jwt.is_signed_by(&PublicKey::from_pair(keys::pair("issuer").unwrap())));
    assert!(!jwt.is_signed_by(&PublicKey::from_pair(keys::pair("client").unwrap())));
    let claims = (jwt.claim("iss"), jwt.claim("sub"), jwt.claims["tid"].as_u64());
    assert_eq!(claims, (Some("https://login.vendor.test"), Some("app"), Some(1)));
    assert_eq!(jwt.time("exp"), jwt.time("iat"));
    assert_eq!(running.get(USERS, token).await.error(), "expired");

    assert_eq!(ask("https://login.vendor.test/other/short", &form).await.error(), "invalid_client");
    assert_eq!(ask("https://login.vendor.test/stranger/short", &form).await.status, 404);
    assert_eq!(ask(url, &form[..4]).await.error(), "invalid_request");
    let without_scope = [form[0], form[1], form[2], form[4]];
    assert_eq!(ask(url, &without_scope).await.error(), "invalid_scope");
    let elsewhere = [form[0], form[1], form[2], form[3], ("resource", "https://api.vendor.test/")];
    assert_eq!(ask(url, &elsewhere).await.error(), "invalid_request");

    let posted = client_credentials(&running, "app", "app secret+", &[]).await;
    let token = posted.json["access_token"].as_str().unwrap();
    assert_eq!(running.get("https://other.vendor.test/v1/users", token).await.error(), "other_account");
    // A token that was minted at a mood of the account works there.
    let at_mood = running.request("POST", "https://many-acme.vendor.test/oauth/token").form(&form[..3]);
    let token = running.send(at_mood).await.json["access_token"].as_str().unwrap().to_owned();
    assert_eq!(running.get("https://api.vendor.test/v1/users", &token).await.json["total"], 45);
}

#[tokio::test]
async fn a_request_chooses_among_endpoints_at_one_address() {
    let running = start().await;
    let app = [("grant_type", "client_credentials"), ("client_id", "app"), ("client_secret", "app secret+")];
    for (kind, lifetime) in [("short", 60), ("long", 600)] {
        let form = [&app[..], &[("kind", kind)]].concat();
        let answer = running.send(running.request("POST", "https://login.vendor.test/acme/chosen").form(&form)).await;
        assert_eq!((answer.status, answer.json["expires_in"].as_u64()), (200, Some(lifetime)), "{kind}: {}", answer.text);
    }
}

#[tokio::test]
async fn a_new_token_can_end_the_one_before() {
    let running = start().await;
    let form = [("grant_type", "client_credentials"), ("client_id", "app"), ("client_secret", "app secret+")];
    let ask = async || {
        let request = running.request("POST", "https://login.vendor.test/acme/single").form(&form);
        running.send(request).await.json["access_token"].as_str().unwrap().to_owned()
    };
    let first = ask().await;
    assert_eq!(running.get(USERS, &first).await.status, 200);
    let second = ask().await;
    assert_eq!(running.get(USERS, &first).await.error(), "unauthorized");
    assert_eq!(running.get(USERS, &second).await.status, 200);
}

#[tokio::test]
async fn a_refresh_token_is_used_once_and_by_its_client() {
    let running = start().await;
    let app = [("client_id", "app"), ("client_secret", "app secret+")];
    let refresh = async |token: &str, client: [(&str, &str); 2]| {
        running.token(&[[("grant_type", "refresh_token"), ("refresh_token", token)], client].concat()).await
    };
    let other = refresh("written-refresh", [("client_id", "second"), ("client_secret", "second-secret")]).await;
    assert_eq!(other.error(), "invalid_grant");
    // What else is wrong with a request does not use the token up.
    let scope = [("grant_type", "refresh_token"), ("refresh_token", "written-refresh"), ("scope", "users.delete")];
    assert_eq!(running.token(&[&scope[..], &app[..]].concat()).await.error(), "invalid_scope");
    let first = refresh("written-refresh", app).await;
    assert_eq!(first.status, 200, "{}", first.text);
    assert_eq!(running.get(USERS, first.json["access_token"].as_str().unwrap()).await.status, 200);
    assert_eq!(refresh("written-refresh", app).await.error(), "invalid_grant");
    let next = first.json["refresh_token"].as_str().unwrap();
    assert_eq!(refresh(next, [("client_id", "second"), ("client_secret", "second-secret")]).await.error(), "invalid_grant");
    let second = refresh(next, app).await;
    assert_eq!(second.status, 200);
    assert_ne!(second.json["refresh_token"].as_str().unwrap(), next);
    assert_eq!(refresh(next, app).await.error(), "invalid_grant");
    assert_eq!(refresh("unknown", app).await.error(), "invalid_grant");
}

const VERIFIER: &str = "a-verifier-of-at-least-forty-three-characters-0123";

async fn authorize(running: &Running, changes: &[(&str, &str)]) -> Answer {
    let challenge = hash(VERIFIER.as_bytes());
    let mut query = vec![
        ("response_type", "code"),
        ("client_id", "app"),
        ("redirect_uri", "http://127.0.0.1:4711/callback"),
        ("state", "s t"),
        ("scope", "users.read"),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
    ];
    query.retain(|(name, _)| !changes.iter().any(|(changed, _)| changed == name));
    query.extend(changes.iter().filter(|(_, value)| !value.is_empty()));
    running.send(running.request("GET", "https://acme.vendor.test/oauth/authorize").query(&query)).await
}

fn redirected(answer: &Answer, name: &str) -> String {
    let url = url::Url::parse(answer.header("location")).unwrap();
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned()).unwrap_or_default()
}

#[tokio::test]
async fn a_code_is_given_for_a_challenge_and_used_once() {
    let running = start().await;
    let redeem = async |code: &str, changes: &[(&str, &str)]| {
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("client_id", "app"),
            ("client_secret", "app secret+"),
            ("code", code),
            ("redirect_uri", "http://127.0.0.1:4711/callback"),
            ("code_verifier", VERIFIER),
        ];
        form.retain(|(name, _)| !changes.iter().any(|(changed, _)| changed == name));
        form.extend(changes.iter().filter(|(_, value)| !value.is_empty()));
        running.token(&form).await
    };
    let given = authorize(&running, &[]).await;
    assert_eq!((given.status, redirected(&given, "state").as_str()), (302, "s t"));
    let code = redirected(&given, "code");
    let token = redeem(&code, &[]).await;
    assert_eq!((token.status, token.json["scope"].as_str()), (200, Some("users.read")), "{}", token.text);
    assert!(token.json["refresh_token"].is_string());
    assert_eq!(redeem(&code, &[]).await.error(), "invalid_grant");

    let wrong: &[&[(&str, &str)]] = &[
        &[("code_verifier", "another-verifier-of-at-least-forty-three-characters")],
        &[("code_verifier", "")],
        &[("redirect_uri", "http://127.0.0.1:4712/callback")],
        &[("client_id", "second"), ("client_secret", "second-secret")],
    ];
    for changes in wrong {
        let code = redirected(&authorize(&running, &[]).await, "code");
        assert_eq!(redeem(&code, changes).await.error(), "invalid_grant", "{changes:?}");
        // An attempt uses the code up.
        assert_eq!(redeem(&code, &[]).await.error(), "invalid_grant", "{changes:?}");
    }
}

#[tokio::test]
async fn authorizations_are_refused_at_the_right_place() {
    let running = start().await;
    // What could send a code to a stranger is shown to the person; the rest goes back to the client.
    assert_eq!(authorize(&running, &[("client_id", "stranger")]).await.status, 400);
    assert_eq!(authorize(&running, &[("redirect_uri", "https://stranger.test/callback")]).await.status, 400);
    assert_eq!(authorize(&running, &[("redirect_uri", "https://app.test:444/callback")]).await.status, 400);
    let refused = async |changes: &[(&str, &str)]| redirected(&authorize(&running, changes).await, "error");
    assert_eq!(refused(&[("code_challenge", "")]).await, "invalid_request");
    assert_eq!(refused(&[("code_challenge_method", "plain")]).await, "invalid_request");
    assert_eq!(refused(&[("scope", "users.delete")]).await, "invalid_scope");
    assert_eq!(refused(&[("response_type", "token")]).await, "unsupported_response_type");
}
