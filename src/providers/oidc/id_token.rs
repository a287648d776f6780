//! The check of an ID token (OpenID Connect Core, section 3.1.3.7).
//!
//! Its signature is checked although the token comes from the token endpoint itself: what it says decides who may act, and a
//! proxy that ends TLS on the way to the issuer must not be able to change it.

use super::keys::{Keys, Verified};
use crate::credentials::Secret;
use crate::model::Timestamp;
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Map, Value};
use std::time::Duration;
use subtle::ConstantTimeEq;

/// By how much the clocks of AAM and the issuer may differ.
const MAX_SKEW: Duration = Duration::from_secs(120);
/// The maximum length of an ID token. Sessions keep its claims in memory.
const MAX_TOKEN_BYTES: usize = 32 << 10;
/// The maximum length of a subject (OpenID Connect Core, section 2).
const MAX_SUBJECT_BYTES: usize = 255;

/// What the ID token must say.
pub struct Expected<'a> {
    pub issuer: &'a str,
    pub client_id: &'a str,
    pub nonce: &'a str,
    pub now: Timestamp,
}

/// Why an ID token is not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The keys that AAM has do not include the one that signed the token.
    NoKey,
    /// The sentence contains nothing of the token.
    Because(&'static str),
}

/// Returns the claims of the token.
///
/// # Errors
/// Returns why it is not accepted.
pub fn check(token: &Secret, keys: &Keys, expected: &Expected<'_>) -> Result<Map<String, Value>, Refused> {
    const NOT_A_TOKEN: Refused = Refused::Because("it is not a signed JSON Web Token");
    let text = token.expose();
    if text.len() > MAX_TOKEN_BYTES {
        return Err(Refused::Because(
            "it has more than 32 KiB; let the issuer put fewer claims into it, for example only the groups that AAM uses",
        ));
    }
    let mut parts = text.split('.');
    let (Some(header), Some(claims), Some(signature), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(NOT_A_TOKEN);
    };
    let object = |part: &str| serde_json::from_slice::<Map<String, Value>>(&BASE64URL_NOPAD.decode(part.as_bytes()).ok()?).ok();
    let input = text.get(..header.len() + 1 + claims.len()).unwrap_or_default();
    let (Some(header), Some(claims)) = (object(header), object(claims)) else { return Err(NOT_A_TOKEN) };
    let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).map_err(|_| NOT_A_TOKEN)?;
    let of_header = |name: &str| header.get(name).and_then(Value::as_str);
    if header.contains_key("crit") {
        return Err(Refused::Because("its header has extensions that AAM does not know"));
    }
    let algorithm = of_header("alg").unwrap_or_default();
    if !matches!(algorithm, "RS256" | "ES256") {
        return Err(Refused::Because("it is not signed with RS256 or ES256; let the issuer use one of them for this client"));
    }
    match keys.verify(algorithm, of_header("kid"), input.as_bytes(), &signature) {
        Verified::Yes => {}
        Verified::No => return Err(Refused::Because("its signature is not valid")),
        Verified::NoKey => return Err(Refused::NoKey),
    }
    check_claims(&claims, expected).map_err(Refused::Because)?;
    Ok(claims)
}

fn check_claims(claims: &Map<String, Value>, expected: &Expected<'_>) -> Result<(), &'static str> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    if text("iss") != Some(expected.issuer) {
        return Err("it was issued by another issuer");
    }
    let audience: Vec<&str> = match claims.get("aud") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !audience.contains(&expected.client_id) {
        return Err("it was issued for another client");
    }
    let authorized = text("azp");
    if audience.len() > 1 && authorized.is_none() || authorized.is_some_and(|azp| azp != expected.client_id) {
        return Err("it was issued to another client");
    }
    if text("nonce").is_none_or(|nonce| !bool::from(nonce.as_bytes().ct_eq(expected.nonce.as_bytes()))) {
        return Err("its nonce is not the one that was sent");
    }
    let time = |name: &str| claims.get(name).and_then(seconds);
    let ends = time("exp").ok_or("it has no end")?;
    if ends.plus(MAX_SKEW) < expected.now {
        return Err("it has ended; compare the clock of this machine");
    }
    let issued = time("iat").ok_or("it does not say when it was issued")?;
    let begins = time("nbf").unwrap_or(issued);
    if issued.max(begins) > expected.now.plus(MAX_SKEW) {
        return Err("it begins in the future; compare the clock of this machine");
    }
    if text("sub").is_none_or(|subject| subject.trim().is_empty() || subject.len() > MAX_SUBJECT_BYTES) {
        return Err("it does not name a subject");
    }
    Ok(())
}

/// Reads seconds since 1970, which may have a fraction.
fn seconds(value: &Value) -> Option<Timestamp> {
    let seconds = value.as_i64().or_else(|| {
        let whole = value.as_f64()?.floor();
        // Beyond this, a number of this kind has no single seconds.
        (whole.abs() < 9e15).then(|| format!("{whole:.0}").parse().ok()).flatten()
    })?;
    Some(Timestamp(seconds.saturating_mul(1000)))
}

#[cfg(test)]
#[path = "id_token_tests.rs"]
mod tests;
