//! Proofs of possession by RFC 9449.

use crate::assertions::UsedIds;
use crate::jwt::{Jwt, PublicKey, hash, thumbprint};
use crate::request::Request;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde_json::Value;

/// A proof is accepted for this many seconds before and after its `iat`.
const WINDOW: u64 = 300;

/// What a proof lacks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProofError {
    /// The request has no proof.
    Missing,
    /// The proof is not one for this request.
    Invalid(&'static str),
    /// The proof has no nonce of the server, or an old one.
    Nonce,
}

/// Checks the proof of a request and returns the thumbprint of its key. `token` is the access token that the request carries,
/// `inward` maps a plain address of the sandbox to the vendor's.
///
/// # Errors
/// Fails if there is not exactly one proof, or if it is not for this request.
pub fn proof(
    request: &Request,
    token: Option<&str>,
    needs_nonce: bool,
    now: u64,
    seen: &UsedIds,
    inward: &dyn Fn(&str) -> String,
) -> Result<String, ProofError> {
    let mut proofs = request.headers.get_all("dpop").iter();
    let text = match (proofs.next(), proofs.next()) {
        (None, _) => return Err(ProofError::Missing),
        (Some(proof), None) => proof.to_str().unwrap_or_default(),
        (Some(_), Some(_)) => return Err(ProofError::Invalid("more than one proof")),
    };
    let jwt = Jwt::parse(text).ok_or(ProofError::Invalid("not a JWT"))?;
    if jwt.header.get("typ").and_then(Value::as_str) != Some("dpop+jwt") {
        return Err(ProofError::Invalid("typ is not dpop+jwt"));
    }
    let jwk = jwt.header.get("jwk").ok_or(ProofError::Invalid("no jwk"))?;
    let key = PublicKey::from_jwk(jwk).ok_or(ProofError::Invalid("jwk is not a public key"))?;
    if !jwt.is_signed_by(&key) {
        return Err(ProofError::Invalid("the signature"));
    }
    if jwt.claim("htm") != Some(request.method.as_str()) {
        return Err(ProofError::Invalid("htm"));
    }
    let own = format!("{}{}", request.vendor_origin(), request.raw_path);
    let address = jwt.claim("htu").map(inward).unwrap_or_default();
    if !same_address(&address, &own) {
        return Err(ProofError::Invalid("htu"));
    }
    let made_at = jwt.time("iat").ok_or(ProofError::Invalid("no iat"))?;
    if made_at.abs_diff(now) > WINDOW {
        return Err(ProofError::Invalid("iat"));
    }
    if token.is_some_and(|token| jwt.claim("ath") != Some(hash(token.as_bytes()).as_str())) {
        return Err(ProofError::Invalid("ath"));
    }
    if needs_nonce
        && !jwt.claim("nonce").is_some_and(|own| [nonce(now), nonce(now.saturating_sub(WINDOW))].iter().any(|n| n == own))
    {
        return Err(ProofError::Nonce);
    }
    let id = jwt.claim("jti").filter(|id| !id.is_empty()).ok_or(ProofError::Invalid("no jti"))?;
    if !seen.note(format!("dpop {id}"), made_at + WINDOW, now) {
        return Err(ProofError::Invalid("jti was used before"));
    }
    thumbprint(jwk).ok_or(ProofError::Invalid("jwk"))
}

/// Compares without query and fragment, and without the case of scheme and host.
fn same_address(left: &str, right: &str) -> bool {
    let bare = |text: &str| {
        let mut url = url::Url::parse(text).ok()?;
        url.set_query(None);
        url.set_fragment(None);
        Some(url)
    };
    match (bare(left), bare(right)) {
        (Some(left), Some(right)) => left == right,
        _ => false,
    }
}

/// The nonce of the time. It changes every five minutes, and the one before is accepted too.
pub fn nonce(now: u64) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"nonces of the sandbox");
    let tag = hmac::sign(&key, (now / WINDOW).to_string().as_bytes());
    URL_SAFE_NO_PAD.encode(tag.as_ref().get(..16).unwrap_or_default())
}
