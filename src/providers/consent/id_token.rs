//! The ID token of OpenID Connect.
//!
//! It comes from the token endpoint itself over a connection that AAM opened, so its signature need not be checked (OpenID
//! Connect Core, section 3.1.3.7, item 6); issuer, audience, nonce and end are.

use crate::credentials::Secret;
use crate::model::Timestamp;
use data_encoding::BASE64URL_NOPAD;
use serde_json::Value;
use std::time::Duration;

/// By how much the clocks of AAM and the vendor may differ.
const MAX_SKEW: Duration = Duration::from_secs(300);

/// What the ID token must say.
pub struct Expected<'a> {
    pub issuer: Option<&'a str>,
    pub client_id: &'a str,
    pub nonce: &'a str,
    pub now: Timestamp,
}

/// Checks an ID token.
///
/// # Errors
/// Returns what is wrong. The text contains nothing of the token except its issuer.
pub fn check(token: &Secret, expected: &Expected<'_>) -> Result<(), String> {
    let claims = claims(token).ok_or("it is not a JSON Web Token")?;
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let issuer = text("iss").ok_or("it names no issuer")?;
    if let Some(wanted) = expected.issuer
        && wanted.trim_end_matches('/') != issuer.trim_end_matches('/')
    {
        return Err(format!("it was issued by {issuer:?}, not by {wanted}"));
    }
    let audience: Vec<&str> = match claims.get("aud") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !audience.contains(&expected.client_id) {
        return Err("it was issued for another client".to_string());
    }
    if text("azp").is_some_and(|azp| azp != expected.client_id) {
        return Err("it was issued to another client".to_string());
    }
    if text("nonce") != Some(expected.nonce) {
        return Err("its nonce is not the one that was sent".to_string());
    }
    let ends = claims.get("exp").and_then(Value::as_i64).ok_or("it has no end")?;
    if Timestamp(ends.saturating_mul(1000)).plus(MAX_SKEW) < expected.now {
        return Err("it has ended; compare the clock of this machine".to_string());
    }
    Ok(())
}

fn claims(token: &Secret) -> Option<serde_json::Map<String, Value>> {
    let mut parts = token.expose().split('.');
    let (_, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
    let payload = BASE64URL_NOPAD.decode(payload.trim_end_matches('=').as_bytes()).ok()?;
    serde_json::from_slice(&payload).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn token(claims: &Value) -> Secret {
        let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        Secret::new(format!("{}.{}.sig", part(&json!({"alg": "RS256"})), part(claims)))
    }

    #[test]
    fn issuer_audience_nonce_and_end_are_checked() {
        let good = json!({"iss": "https://a.example", "aud": "me", "nonce": "n", "exp": 1000});
        let expected = Expected { issuer: Some("https://a.example/"), client_id: "me", nonce: "n", now: Timestamp(1_000_000) };
        assert_eq!(check(&token(&good), &expected), Ok(()));
        for (name, value, problem) in [
            ("iss", json!("https://b.example"), "issued by"),
            ("iss", json!(null), "names no issuer"),
            ("aud", json!(["other"]), "another client"),
            ("azp", json!("other"), "another client"),
            ("nonce", json!("m"), "nonce"),
            ("nonce", json!(null), "nonce"),
            ("exp", json!(10), "has ended"),
            ("exp", json!(null), "no end"),
        ] {
            let mut claims = good.clone();
            claims[name] = value;
            let found = check(&token(&claims), &expected).unwrap_err();
            assert!(found.contains(problem), "{name}: {found}");
        }
        assert!(check(&Secret::new("opaque".to_string()), &expected).is_err());
    }
}
