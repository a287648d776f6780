//! Assertions: JWTs that a client signed.

use crate::support::{Answer, Running, claims, now, sign, start};
use sandbox::{jwt, keys};
use serde_json::{Value, json};

const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

async fn private_key_jwt(running: &Running, assertion: &str) -> Answer {
    let form = [("grant_type", "client_credentials"), ("client_assertion_type", TYPE), ("client_assertion", assertion)];
    running.token(&form).await
}

async fn jwt_bearer(running: &Running, assertion: &str) -> Answer {
    running.token(&[("grant_type", JWT_BEARER), ("assertion", assertion)]).await
}

fn description(answer: &Answer) -> &str {
    answer.json["error_description"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn each_algorithm_of_the_file_is_accepted() {
    let running = start().await;
    let with = |header: Value, key: &str, client: &str| {
        jwt::sign(keys::pair(key).unwrap(), &header, &claims(client, json!({}))).unwrap()
    };
    for assertion in [
        with(json!({"alg": "RS256"}), "client", "app"),
        with(json!({"alg": "PS256"}), "client", "app"),
        with(json!({"alg": "ES256"}), "client_ec", "app_ec"),
    ] {
        let answer = private_key_jwt(&running, &assertion).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let token = answer.json["access_token"].as_str().unwrap();
        assert_eq!(running.get("https://acme.vendor.test/v1/users", token).await.status, 200);
    }
    assert_eq!(jwt_bearer(&running, &sign("client", &claims("app", json!({})))).await.status, 200);
}

#[tokio::test]
async fn what_is_wrong_with_an_assertion_refuses_it() {
    let running = start().await;
    let cases = [
        (sign("stranger", &claims("app", json!({}))), "bad signature"),
        (sign("client_ec", &claims("app", json!({}))), "bad signature"),
        (sign("client", &claims("app", json!({"aud": "https://other.vendor.test/oauth/token"}))), "audience"),
        (sign("client", &claims("app", json!({"aud": "https://acme.vendor.test"}))), "audience"),
        (sign("client", &claims("app", json!({"aud": null}))), "audience"),
        (sign("client", &claims("app", json!({"iss": "someone"}))), "issuer"),
        (sign("client", &claims("app", json!({"iss": null}))), "issuer"),
        (sign("client", &claims("app", json!({"iat": now() - 200, "exp": now()}))), "expired"),
        (sign("client", &claims("app", json!({"exp": null}))), "claim"),
        (sign("client", &claims("app", json!({"iat": now() + 100}))), "not_yet"),
        (sign("client", &claims("app", json!({"nbf": now() + 100}))), "not_yet"),
        (sign("client", &claims("app", json!({"exp": now() + 301}))), "lifetime"),
        (sign("client", &claims("app", json!({"iat": null, "exp": now() + 310}))), "lifetime"),
        (sign("client", &claims("app", json!({"jti": null}))), "claim"),
        (sign("client", &claims("stranger", json!({}))), "unknown"),
        ("a.b.c".to_owned(), "malformed"),
    ];
    for (assertion, reason) in cases {
        let answer = private_key_jwt(&running, &assertion).await;
        assert_eq!((answer.status, answer.error(), description(&answer)), (401, "invalid_client", reason));
    }
    let other = sign("client", &claims("app", json!({"sub": "app_ec"})));
    assert_eq!(private_key_jwt(&running, &other).await.error(), "invalid_client");
    assert_eq!(description(&jwt_bearer(&running, &other).await), "subject");
    let named = [
        ("grant_type", "client_credentials"),
        ("client_id", "app_ec"),
        ("client_assertion_type", TYPE),
        ("client_assertion", &sign("client", &claims("app", json!({})))),
    ];
    assert_eq!(description(&running.token(&named).await), "subject");
}

#[tokio::test]
async fn an_assertion_is_used_once() {
    let running = start().await;
    let assertion = sign("client", &claims("app", json!({})));
    assert_eq!(private_key_jwt(&running, &assertion).await.status, 200);
    let again = private_key_jwt(&running, &assertion).await;
    assert_eq!((again.error(), description(&again)), ("invalid_client", "replayed"));
    let again = jwt_bearer(&running, &assertion).await;
    assert_eq!((again.error(), description(&again)), ("invalid_grant", "replayed"));
    // A list of audiences is enough if one of them is right.
    let list = claims("app", json!({"aud": ["https://x.test", crate::support::TOKEN_URL]}));
    assert_eq!(private_key_jwt(&running, &sign("client", &list)).await.status, 200);
}

#[tokio::test]
async fn an_unsigned_assertion_and_a_confused_one_are_refused() {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let running = start().await;
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    for algorithm in ["none", "HS256", "RS384"] {
        let text = format!("{}.{}.", part(&json!({"alg": algorithm})), part(&claims("app", json!({}))));
        assert_eq!(description(&private_key_jwt(&running, &text).await), "algorithm", "{algorithm}");
    }
    // The signature covers the claims.
    let signed = sign("client", &claims("app", json!({})));
    let (_, signature) = signed.rsplit_once('.').unwrap();
    let changed = format!("{}.{}.{signature}", part(&json!({"alg": "RS256"})), part(&claims("app", json!({}))));
    assert_eq!(description(&private_key_jwt(&running, &changed).await), "bad signature");
}

#[tokio::test]
async fn an_assertion_names_the_scopes_of_its_token() {
    let running = start().await;
    let ask = async |scope: &str, account: &str| {
        let url = format!("https://{account}.vendor.test/assertion");
        let assertion = sign("client", &claims("app", json!({"aud": url, "scope": scope})));
        let form = [("grant_type", JWT_BEARER), ("assertion", assertion.as_str())];
        running.send(running.request("POST", &url).form(&form)).await
    };
    let token = ask("users.read", "acme").await;
    assert_eq!(token.status, 200, "{}", token.text);
    let token = token.json["access_token"].as_str().unwrap();
    assert_eq!(running.get("https://acme.vendor.test/v1/users", token).await.status, 200);
    assert_eq!(ask("users.read users.delete", "acme").await.error(), "unauthorized_client");
    assert_eq!(ask("users.read", "other").await.error(), "invalid_client");
    assert_eq!(running.violations().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_signed_credential_is_checked_at_each_call() {
    let running = start().await;
    let fingerprint = keys::fingerprint("client").unwrap();
    let get = async |account: &str, changes: Value, key: &str| {
        let mut own = json!({"iss": format!("ACME.app.{fingerprint}"), "sub": "app", "iat": now(), "exp": now() + 3600});
        for (name, value) in changes.as_object().unwrap() {
            own[name] = value.clone();
        }
        let request = running.request("GET", &format!("https://{account}.vendor.test/v1/users"));
        running.send(request.header("x-token-type", "SIGNED").bearer_auth(sign(key, &own))).await.status
    };
    assert_eq!(get("acme", json!({}), "client").await, 200);
    assert_eq!(get("acme", json!({}), "stranger").await, 401);
    assert_eq!(get("other", json!({}), "client").await, 401);
    assert_eq!(get("acme", json!({"sub": "other"}), "client").await, 401);
    assert_eq!(get("acme", json!({"iss": "acme.app.SHA256:x"}), "client").await, 401);
    assert_eq!(get("acme", json!({"exp": now() + 3700}), "client").await, 401);
    assert_eq!(get("acme", json!({"exp": now() - 1}), "client").await, 401);
    // Without the header that the file names, the token is not read as this kind.
    let own = json!({"iss": format!("ACME.app.{fingerprint}"), "sub": "app", "iat": now(), "exp": now() + 60});
    assert_eq!(running.get("https://acme.vendor.test/v1/users", &sign("client", &own)).await.status, 401);
}

#[tokio::test]
async fn a_signed_credential_mints_tokens() {
    let running = start().await;
    let fingerprint = keys::fingerprint("client").unwrap();
    let own = json!({"iss": format!("ACME.app.{fingerprint}"), "sub": "app", "iat": now(), "exp": now() + 60});
    let mint = async |token: &str, scopes: Value| {
        let request = running.request("POST", "https://acme.vendor.test/mint").header("x-token-type", "SIGNED");
        running.send(request.bearer_auth(token).json(&json!({"scopes": scopes}))).await
    };
    let minted = mint(&sign("client", &own), json!(["users.read"])).await;
    assert_eq!(minted.status, 201, "{}", minted.text);
    let token = minted.json["token"].as_str().unwrap();
    assert!(token.starts_with("mint_"));
    assert_eq!(running.get("https://acme.vendor.test/v1/users", token).await.status, 200);
    assert_eq!(mint(&sign("client", &own), json!(["all"])).await.error(), "too_much");
    assert_eq!(mint(&sign("stranger", &own), json!(["users.read"])).await.error(), "unauthorized");
    assert_eq!(mint("reader-token", json!(["users.read"])).await.error(), "wrong_kind");
}

#[test]
fn fingerprints_are_those_of_openssl() {
    // openssl pkey -pubout -outform DER | openssl dgst -sha256 -binary | base64
    assert_eq!(keys::fingerprint("client").unwrap(), include_str!("client.fingerprint").trim());
    assert_eq!(keys::fingerprint("client_ec").unwrap(), include_str!("client_ec.fingerprint").trim());
    let (x5t, x5t_s256) = keys::certificate_thumbprints("client");
    assert_eq!((x5t.unwrap().len(), x5t_s256.unwrap().len()), (27, 43));
}
