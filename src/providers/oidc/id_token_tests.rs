//! Tests of the check of ID tokens, with keys that are made here.

use super::*;
use data_encoding::BASE64URL_NOPAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::json;

struct Issuer {
    pair: EcdsaKeyPair,
    kid: &'static str,
}

impl Issuer {
    fn new(kid: &'static str) -> Issuer {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).unwrap();
        Issuer { pair, kid }
    }

    fn jwk(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        let (x, y) = (BASE64URL_NOPAD.encode(&point[1..33]), BASE64URL_NOPAD.encode(&point[33..]));
        json!({"kty": "EC", "crv": "P-256", "use": "sig", "kid": self.kid, "x": x, "y": y})
    }

    fn keys(&self) -> Keys {
        Keys::read(&json!({"keys": [{"kty": "oct", "k": "x"}, self.jwk()]}))
    }

    fn sign(&self, header: &Value, claims: &Value) -> Secret {
        let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let input = format!("{}.{}", part(header), part(claims));
        let signature = self.pair.sign(&SystemRandom::new(), input.as_bytes()).unwrap();
        Secret::new(format!("{input}.{}", BASE64URL_NOPAD.encode(signature.as_ref())))
    }
}

const NOW: i64 = 1_000_000;

fn header() -> Value {
    json!({"alg": "ES256", "kid": "a"})
}

fn claims() -> Value {
    json!({"iss": "https://login.example", "aud": "aam", "sub": "jane", "nonce": "n", "exp": NOW + 60, "iat": NOW})
}

fn checked(token: &Secret, keys: &Keys) -> Result<Map<String, Value>, Refused> {
    let now = Timestamp(NOW * 1000);
    check(token, keys, &Expected { issuer: "https://login.example", client_id: "aam", nonce: "n", now })
}

fn reason(token: &Secret, keys: &Keys) -> String {
    match checked(token, keys) {
        Ok(_) => "accepted".to_string(),
        Err(Refused::NoKey) => "no key".to_string(),
        Err(Refused::Because(reason)) => reason.to_string(),
    }
}

#[test]
fn a_token_of_the_issuer_for_this_sign_in_is_accepted() {
    let issuer = Issuer::new("a");
    let found = checked(&issuer.sign(&header(), &claims()), &issuer.keys()).unwrap();
    assert_eq!(found["sub"], "jane");
    for (name, value) in [
        ("aud", json!(["aam"])),
        ("azp", json!("aam")),
        ("exp", json!(NOW - 100)),
        ("exp", json!(NOW as f64 + 0.5)),
        ("iat", json!(NOW + 100)),
        ("nbf", json!(NOW + 100)),
    ] {
        let mut good = claims();
        good[name] = value.clone();
        assert_eq!(reason(&issuer.sign(&header(), &good), &issuer.keys()), "accepted", "{name}: {value}");
    }
    let unnamed = issuer.sign(&json!({"alg": "ES256"}), &claims());
    assert_eq!(reason(&unnamed, &issuer.keys()), "accepted", "a token need not name its key");
}

#[test]
fn each_claim_is_checked() {
    let issuer = Issuer::new("a");
    for (name, value, expected) in [
        ("iss", json!("https://login.example/"), "another issuer"),
        ("iss", json!(null), "another issuer"),
        ("aud", json!("other"), "another client"),
        ("aud", json!(["aam", "other"]), "issued to another client"),
        ("azp", json!("other"), "issued to another client"),
        ("nonce", json!("m"), "nonce"),
        ("nonce", json!(null), "nonce"),
        ("exp", json!(NOW - 121), "has ended"),
        ("exp", json!(null), "no end"),
        ("exp", json!("soon"), "no end"),
        ("iat", json!(NOW + 121), "in the future"),
        ("iat", json!(null), "when it was issued"),
        ("nbf", json!(NOW + 121), "in the future"),
        ("sub", json!(""), "subject"),
        ("sub", json!(7), "subject"),
        ("sub", json!("s".repeat(256)), "subject"),
    ] {
        let mut bad = claims();
        bad[name] = value.clone();
        let found = reason(&issuer.sign(&header(), &bad), &issuer.keys());
        assert!(found.contains(expected), "{name}: {value}: {found}");
    }
}

#[test]
fn the_signature_has_to_be_the_issuers_own() {
    let (issuer, other) = (Issuer::new("a"), Issuer::new("a"));
    let keys = issuer.keys();
    assert_eq!(reason(&other.sign(&header(), &claims()), &keys), "its signature is not valid");
    assert_eq!(reason(&issuer.sign(&json!({"alg": "ES256", "kid": "b"}), &claims()), &keys), "no key");
    for algorithm in ["none", "HS256", "ES384", "PS256", ""] {
        let token = issuer.sign(&json!({"alg": algorithm, "kid": "a"}), &claims());
        assert!(reason(&token, &keys).contains("RS256 or ES256"), "{algorithm}");
    }
    assert_eq!(reason(&issuer.sign(&json!({"alg": "RS256", "kid": "a"}), &claims()), &keys), "no key", "a key of another kind");
    let crit = json!({"alg": "ES256", "kid": "a", "crit": ["x"]});
    assert!(reason(&issuer.sign(&crit, &claims()), &keys).contains("extensions"));
    let good = issuer.sign(&header(), &claims());
    let mut parts: Vec<String> = good.expose().split('.').map(str::to_string).collect();
    let mut changed = claims();
    changed["sub"] = json!("admin");
    parts[1] = BASE64URL_NOPAD.encode(changed.to_string().as_bytes());
    assert_eq!(reason(&Secret::new(parts.join(".")), &keys), "its signature is not valid");
    let unsigned = format!("{}.{}.", parts[0], parts[1]);
    for bad in [unsigned.as_str(), "", "a.b", "a.b.c", "a.b.c.d", "opaque"] {
        assert_ne!(reason(&Secret::new(bad.to_string()), &keys), "accepted", "{bad}");
    }
    let mut long = claims();
    long["groups"] = json!(vec!["g".repeat(40); 2000]);
    assert!(reason(&issuer.sign(&header(), &long), &keys).contains("32 KiB"));
}

#[test]
fn keys_that_are_not_for_signatures_or_not_valid_are_left_out() {
    let issuer = Issuer::new("a");
    let token = issuer.sign(&header(), &claims());
    for (name, value) in
        [("use", json!("enc")), ("crv", json!("P-384")), ("x", json!("AA")), ("kty", json!("RSA")), ("alg", json!("ES384"))]
    {
        let mut key = issuer.jwk();
        key[name] = value;
        assert_eq!(reason(&token, &Keys::read(&json!({"keys": [key]}))), "no key", "{name}");
    }
    assert_eq!(reason(&token, &Keys::read(&json!({"keys": "none"}))), "no key");
}

/// The example of RFC 7515, appendix A.2.
#[test]
fn an_rsa_signature_is_checked() {
    let modulus = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
    let input =
        "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let signature = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
    let keys = Keys::read(&json!({"keys": [{"kty": "RSA", "n": modulus, "e": "AQAB"}]}));
    let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).unwrap();
    assert_eq!(keys.verify("RS256", None, input.as_bytes(), &signature), Verified::Yes);
    assert_eq!(keys.verify("RS256", None, b"other", &signature), Verified::No);
    assert_eq!(keys.verify("ES256", None, input.as_bytes(), &signature), Verified::NoKey, "a key is used for its own kind");
}
