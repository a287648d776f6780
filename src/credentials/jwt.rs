//! Signs JSON Web Tokens with a private key (RFC 7515, RFC 7519).
//!
//! The signer of manifests in the crate `lowcode` is another one, because it must write exactly what Airbyte's library
//! writes.

use super::Secret;
use super::private_key::{PrivateKey, UnusableKey};
use crate::model::Timestamp;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RsaEncoding};
use serde_json::{Map, Value};
use std::time::Duration;

/// A signature algorithm (RFC 7518, RFC 8037).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JwtAlgorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Es256,
    Es384,
    EdDsa,
}

impl JwtAlgorithm {
    const ALL: [JwtAlgorithm; 7] = [
        JwtAlgorithm::Rs256,
        JwtAlgorithm::Rs384,
        JwtAlgorithm::Rs512,
        JwtAlgorithm::Ps256,
        JwtAlgorithm::Es256,
        JwtAlgorithm::Es384,
        JwtAlgorithm::EdDsa,
    ];

    /// Returns the algorithm with this name, or `None` if there is none that AAM can sign with.
    #[must_use]
    pub fn parse(name: &str) -> Option<JwtAlgorithm> {
        JwtAlgorithm::ALL.into_iter().find(|algorithm| algorithm.as_str() == name)
    }

    /// Returns the name, as in the header of a token.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            JwtAlgorithm::Rs256 => "RS256",
            JwtAlgorithm::Rs384 => "RS384",
            JwtAlgorithm::Rs512 => "RS512",
            JwtAlgorithm::Ps256 => "PS256",
            JwtAlgorithm::Es256 => "ES256",
            JwtAlgorithm::Es384 => "ES384",
            JwtAlgorithm::EdDsa => "EdDSA",
        }
    }

    /// Returns padding and digest, or `None` if the algorithm is not one of RSA.
    pub(super) fn rsa_padding(self) -> Option<&'static dyn RsaEncoding> {
        match self {
            JwtAlgorithm::Rs256 => Some(&RSA_PKCS1_SHA256),
            JwtAlgorithm::Rs384 => Some(&RSA_PKCS1_SHA384),
            JwtAlgorithm::Rs512 => Some(&RSA_PKCS1_SHA512),
            JwtAlgorithm::Ps256 => Some(&RSA_PSS_SHA256),
            JwtAlgorithm::Es256 | JwtAlgorithm::Es384 | JwtAlgorithm::EdDsa => None,
        }
    }
}

/// Returns the token: `header` with `alg` (and `typ: JWT` unless it has a `typ`) and `claims`, signed with `key`. Without
/// `algorithm`, the usual one for the key is used.
///
/// # Errors
/// Returns [`UnusableKey::Unfit`] if the key does not fit the algorithm.
pub fn sign(
    key: &PrivateKey,
    algorithm: Option<JwtAlgorithm>,
    mut header: Map<String, Value>,
    claims: &Map<String, Value>,
) -> Result<Secret, UnusableKey> {
    let algorithm = algorithm.unwrap_or_else(|| key.default_algorithm());
    header.insert("alg".to_string(), algorithm.as_str().into());
    header.entry("typ").or_insert_with(|| "JWT".into());
    let encoded = |part: &Map<String, Value>| URL_SAFE_NO_PAD.encode(serde_json::to_vec(part).unwrap_or_default());
    let input = format!("{}.{}", encoded(&header), encoded(claims));
    let signature = key.sign(algorithm, input.as_bytes())?;
    Ok(Secret::new(format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))))
}

/// How far `iat` is before the time of this machine.
const BACKDATED_SECONDS: i64 = 10;

/// Returns the claims of an assertion with which a client or a service account proves itself (RFC 7523): `iss`, `sub` and
/// `aud`, valid for `lifetime` from `now` on, with a new random `jti`. `iat` is a little earlier than `now`, because the clock
/// of the server may be behind, and many refuse what was issued in their future.
#[must_use]
pub fn assertion_claims(issuer: &str, subject: &str, audience: &str, now: Timestamp, lifetime: Duration) -> Map<String, Value> {
    let seconds = now.0.div_euclid(1000);
    let expires = seconds.saturating_add_unsigned(lifetime.as_secs());
    let claims = [
        ("iss", Value::from(issuer)),
        ("sub", Value::from(subject)),
        ("aud", Value::from(audience)),
        ("iat", Value::from(seconds.saturating_sub(BACKDATED_SECONDS))),
        ("exp", Value::from(expires)),
        ("jti", Value::from(uuid::Uuid::new_v4().to_string())),
    ];
    claims.into_iter().map(|(name, value)| (name.to_string(), value)).collect()
}
