//! Proofs of possession.

use crate::support::{Answer, Running, TOKEN_URL, VENDOR, now, start, start_all};
use sandbox::jwt::{self, hash};
use sandbox::keys;
use sandbox::sandbox::RunOptions;
use serde_json::{Value, json};

const USERS: &str = "https://acme.vendor.test/v1/users";

fn proof(key: &str, header: Value, claims: Value) -> String {
    let pair = keys::pair(key).unwrap();
    let mut own_header = json!({"typ": "dpop+jwt", "jwk": pair.jwk()});
    let mut own = json!({"htm": "POST", "htu": TOKEN_URL, "iat": now(), "jti": format!("{}", fastrand::u128(..))});
    for (target, changes) in [(&mut own_header, header), (&mut own, claims)] {
        for (name, value) in changes.as_object().unwrap() {
            target[name] = value.clone();
        }
    }
    jwt::sign(pair, &own_header, &own).unwrap()
}

async fn ask(running: &Running, client: (&str, &str), proof: Option<String>) -> Answer {
    let form = [("grant_type", "client_credentials"), ("client_id", client.0), ("client_secret", client.1)];
    let mut request = running.request("POST", TOKEN_URL).form(&form);
    if let Some(proof) = proof {
        request = request.header("dpop", proof);
    }
    running.send(request).await
}

const BOUND: (&str, &str) = ("bound", "bound-secret");

async fn nonce(running: &Running) -> String {
    let answer = ask(running, BOUND, Some(proof("client_ec", json!({}), json!({})))).await;
    assert_eq!((answer.status, answer.error()), (400, "use_dpop_nonce"));
    answer.header("dpop-nonce").to_owned()
}

#[tokio::test]
async fn a_token_is_bound_to_the_key_of_its_proof() {
    let running = start().await;
    let nonce = nonce(&running).await;
    let answer = ask(&running, BOUND, Some(proof("client_ec", json!({}), json!({"nonce": nonce})))).await;
    assert_eq!((answer.status, answer.json["token_type"].as_str()), (200, Some("DPoP")), "{}", answer.text);
    let token = answer.json["access_token"].as_str().unwrap();

    let call = async |scheme: &str, proof: Option<String>| {
        let mut request =
            running.request("GET", &format!("{USERS}?limit=1")).header("authorization", format!("{scheme} {token}"));
        if let Some(proof) = proof {
            request = request.header("dpop", proof);
        }
        running.send(request).await.status
    };
    let own = |changes: Value| {
        let mut claims = json!({"htm": "GET", "htu": USERS, "ath": hash(token.as_bytes())});
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims
    };
    let right = proof("client_ec", json!({}), own(json!({})));
    assert_eq!(call("DPoP", Some(right.clone())).await, 200);
    // A proof is for one call.
    assert_eq!(call("DPoP", Some(right)).await, 401);
    assert_eq!(call("DPoP", None).await, 401);
    assert_eq!(call("Bearer", Some(proof("client_ec", json!({}), own(json!({}))))).await, 401);
    assert_eq!(call("Bearer", None).await, 401);
    assert_eq!(call("DPoP", Some(proof("client", json!({}), own(json!({}))))).await, 401);
    for changes in [
        json!({"htm": "POST"}),
        json!({"htu": "https://acme.vendor.test/v1/kinds"}),
        json!({"htu": "https://other.vendor.test/v1/users"}),
        json!({"ath": hash(b"another token")}),
        json!({"ath": null}),
        json!({"iat": now() - 400}),
        json!({"iat": now() + 400}),
        json!({"iat": null}),
        json!({"jti": ""}),
    ] {
        assert_eq!(call("DPoP", Some(proof("client_ec", json!({}), own(changes.clone())))).await, 401, "{changes}");
    }
    // Query and case of the host do not count.
    let loose = own(json!({"htu": "https://ACME.vendor.test/v1/users?limit=1"}));
    assert_eq!(call("DPoP", Some(proof("client_ec", json!({}), loose))).await, 200);
}

#[tokio::test]
async fn a_wrong_proof_gets_no_token() {
    let running = start().await;
    let nonce = nonce(&running).await;
    assert_eq!(ask(&running, BOUND, None).await.error(), "invalid_dpop_proof");
    let with = |header: Value, claims: Value| {
        let mut own = json!({"nonce": nonce});
        for (name, value) in claims.as_object().unwrap() {
            own[name] = value.clone();
        }
        proof("client_ec", header, own)
    };
    for wrong in [
        with(json!({"typ": "JWT"}), json!({})),
        with(json!({"jwk": null}), json!({})),
        // Another key than the one that signed.
        with(json!({"jwk": keys::pair("client").unwrap().jwk()}), json!({})),
        with(json!({"alg": "none"}), json!({})),
        with(json!({}), json!({"htm": "GET"})),
        with(json!({}), json!({"htu": USERS})),
        "no.proof".to_owned(),
    ] {
        assert_eq!(ask(&running, BOUND, Some(wrong.clone())).await.error(), "invalid_dpop_proof", "{wrong}");
    }
    let mut private = keys::pair("client_ec").unwrap().jwk();
    private["d"] = "AAAA".into();
    assert_eq!(ask(&running, BOUND, Some(with(json!({"jwk": private}), json!({})))).await.error(), "invalid_dpop_proof");
    assert_eq!(ask(&running, BOUND, Some(with(json!({}), json!({"nonce": "old"})))).await.error(), "use_dpop_nonce");

    // Where a proof is optional, its absence gives a bearer token, and a token of its own is not accepted as DPoP.
    let bearer = ask(&running, ("app", "app secret+"), None).await;
    assert_eq!(bearer.json["token_type"], "Bearer");
    let header = format!("DPoP {}", bearer.json["access_token"].as_str().unwrap());
    assert_eq!(running.send(running.request("GET", USERS).header("authorization", header)).await.status, 401);
}

#[test]
fn thumbprints_are_those_of_rfc_7638() {
    // The example of RFC 7638, 3.1.
    let jwk = json!({
        "kty": "RSA",
        "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
        "e": "AQAB", "alg": "RS256", "kid": "2011-04-29",
    });
    assert_eq!(jwt::thumbprint(&jwk).unwrap(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
}

#[tokio::test]
async fn a_proof_is_used_once_also_where_vendors_share_a_host() {
    let second = "family: second
sources: [x]
checked_by: [x]
hosts: ['{account}.vendor.test']
accounts: {acme: {}}
schemes: {bearer: {header: authorization, prefix: 'Bearer '}}
routes: [{path: /v1/users}]
";
    let running = start_all(&[VENDOR, second], RunOptions::default()).await;
    let nonce = nonce(&running).await;
    let answer = ask(&running, BOUND, Some(proof("client_ec", json!({}), json!({"nonce": nonce})))).await;
    let token = answer.json["access_token"].as_str().unwrap();
    let claims = json!({"htm": "GET", "htu": USERS, "ath": hash(token.as_bytes())});
    let request = running.request("GET", USERS).header("authorization", format!("DPoP {token}"));
    assert_eq!(running.send(request.header("dpop", proof("client_ec", json!({}), claims))).await.status, 200);
}
