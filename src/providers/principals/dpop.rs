//! Proofs of possession (DPoP, RFC 9449): a token is bound to a key, and each request proves that the caller has the key.

use super::refusal::{Refusal, Refusals, http_date};
use crate::credentials::private_key::PrivateKey;
use crate::credentials::signer::{RequestSigner, SignedResponse, UnsignedRequest};
use crate::credentials::{Secret, jwt, redact};
use crate::model::{Class, Failure, Timestamp};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest;
use serde_json::{Map, Value};
use std::sync::{Arc, Mutex, PoisonError};
use url::Url;

/// The key to which a token is bound. It exists only in memory, and a new one is made for each token.
pub struct DpopKey {
    key: PrivateKey,
    /// The newest nonce that the server named (RFC 9449, sections 8 and 9).
    nonce: Mutex<Option<String>>,
}

impl DpopKey {
    /// Creates a P-256 key.
    ///
    /// # Errors
    /// Returns `Bug` if the system gives no random numbers.
    pub fn new() -> Result<Arc<DpopKey>, Failure> {
        let key = PrivateKey::generate_p256().map_err(|_| no_signature())?;
        Ok(Arc::new(DpopKey { key, nonce: Mutex::default() }))
    }

    /// Uses `nonce` from now on. Returns false if it is the one that was used already.
    pub fn set_nonce(&self, nonce: &str) -> bool {
        let mut current = self.nonce.lock().unwrap_or_else(PoisonError::into_inner);
        let new = current.as_deref() != Some(nonce);
        *current = Some(nonce.to_string());
        new
    }

    /// Returns the proof for one request, with `token` if the request carries one (RFC 9449, section 4.2).
    ///
    /// # Errors
    /// Returns `Bug` if the system gives no random numbers.
    pub fn proof(&self, method: &str, url: &Url, now: Timestamp, token: Option<&Secret>) -> Result<Secret, Failure> {
        let mut header = Map::new();
        header.insert("typ".to_string(), "dpop+jwt".into());
        header.insert("jwk".to_string(), Value::Object(self.key.public_jwk()));
        let mut claims = Map::new();
        claims.insert("jti".to_string(), uuid::Uuid::new_v4().to_string().into());
        claims.insert("htm".to_string(), method.into());
        // Without query and fragment.
        claims.insert("htu".to_string(), format!("{}{}", url.origin().ascii_serialization(), url.path()).into());
        claims.insert("iat".to_string(), now.0.div_euclid(1000).into());
        if let Some(token) = token {
            let hash = digest::digest(&digest::SHA256, token.expose().as_bytes());
            claims.insert("ath".to_string(), URL_SAFE_NO_PAD.encode(hash).into());
        }
        if let Some(nonce) = self.nonce.lock().unwrap_or_else(PoisonError::into_inner).as_deref() {
            claims.insert("nonce".to_string(), nonce.into());
        }
        jwt::sign(&self.key, Some(jwt::JwtAlgorithm::Es256), header, &claims).map_err(|_| no_signature())
    }
}

fn no_signature() -> Failure {
    Failure::new(
        Class::Bug,
        "a proof of possession could not be signed",
        "check /dev/urandom of this machine, and report this as a defect of AAM",
    )
}

/// Sends a bound token with a new proof for each request.
pub struct DpopSigner {
    pub key: Arc<DpopKey>,
    pub token: Secret,
    pub refusals: Refusals,
}

impl RequestSigner for DpopSigner {
    fn scheme(&self) -> &'static str {
        "DPoP"
    }

    fn headers(&self, request: &UnsignedRequest<'_>) -> Result<Vec<(String, Secret)>, Failure> {
        let proof = self.key.proof(request.method, request.url, request.now, Some(&self.token))?;
        let authorization = Secret::new(format!("DPoP {}", self.token.expose()));
        Ok(vec![("authorization".to_string(), authorization), ("dpop".to_string(), proof)])
    }

    /// A server may name a new nonce in any response (RFC 9449, section 8.2), and asks for it with `use_dpop_nonce`.
    fn wants_another(&self, response: &SignedResponse<'_>) -> bool {
        let Some(nonce) = response.header("dpop-nonce") else { return false };
        // Another connection may have set the same nonce while this request was on its way.
        self.key.set_nonce(nonce);
        matches!(response.status, 400 | 401) && error(response).as_deref() == Some("use_dpop_nonce")
    }

    fn refusal(&self, response: &SignedResponse<'_>) -> Option<Failure> {
        let error = error(response).filter(|error| matches!(error.as_str(), "invalid_dpop_proof" | "use_dpop_nonce"))?;
        let body: Value = serde_json::from_slice(response.body).unwrap_or_default();
        let described = response.challenge_parameter("error_description").or(body["error_description"].as_str());
        Some(self.refusals.failure(&Refusal {
            status: response.status,
            error: &error,
            description: &redact::scrub_and_cut(described.unwrap_or_default(), 500),
            server_date: response.header("date").and_then(http_date),
            now: response.now,
        }))
    }

    fn secrets(&self) -> Vec<Secret> {
        vec![self.token.clone()]
    }
}

/// The error code of a refused request, which a challenge or the body names.
fn error(response: &SignedResponse<'_>) -> Option<String> {
    if !matches!(response.status, 400 | 401 | 403) {
        return None;
    }
    if let Some(error) = response.challenge_parameter("error") {
        return Some(error.to_string());
    }
    let body: Value = serde_json::from_slice(response.body).ok()?;
    body["error"].as_str().or(body["errorCode"].as_str()).map(str::to_string)
}
