//! Private keys that sign: RSA, elliptic curves P-256 and P-384, and Ed25519.
//!
//! `read` recognizes the forms in which vendors and tools write them. ring signs; the form of a key is parsed by the
//! crates `pem`, `pkcs8` and `der`.

mod elements;
mod read;
mod unusable;

use super::jwt::JwtAlgorithm;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
pub use read::unwrapped;
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair};
use serde_json::{Map, Value};
pub use unusable::UnusableKey;

/// A private key that was read and checked. It is not printed, and ring wipes nothing of it, so it should live only as long
/// as one request for a token.
pub struct PrivateKey {
    pair: SigningPair,
    /// The `kid` of the JWK, if the key was stored as one and has it.
    key_id: Option<String>,
}

enum SigningPair {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl PrivateKey {
    /// Creates a new P-256 key, for example for a proof of possession.
    ///
    /// # Errors
    /// Returns [`UnusableKey::Damaged`] if the system gives no random numbers.
    pub fn generate_p256() -> Result<PrivateKey, UnusableKey> {
        let random = SystemRandom::new();
        let algorithm = &ring::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).map_err(|_| UnusableKey::Damaged)?;
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).map_err(|_| UnusableKey::Damaged)?;
        Ok(PrivateKey { pair: SigningPair::P256(pair), key_id: None })
    }

    /// Returns the `kid` of the JWK, if the key was stored as one and has it. It is not secret.
    #[must_use]
    pub fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    /// Returns the type of the key for a person, for example "an RSA key".
    #[must_use]
    pub fn description(&self) -> &'static str {
        match self.pair {
            SigningPair::Rsa(_) => "an RSA key",
            SigningPair::P256(_) => "an EC key of the curve P-256",
            SigningPair::P384(_) => "an EC key of the curve P-384",
            SigningPair::Ed25519(_) => "an Ed25519 key",
        }
    }

    /// Returns the algorithm that is used with this key if none is asked for.
    #[must_use]
    pub fn default_algorithm(&self) -> JwtAlgorithm {
        match self.pair {
            SigningPair::Rsa(_) => JwtAlgorithm::Rs256,
            SigningPair::P256(_) => JwtAlgorithm::Es256,
            SigningPair::P384(_) => JwtAlgorithm::Es384,
            SigningPair::Ed25519(_) => JwtAlgorithm::EdDsa,
        }
    }

    /// Signs `input`. The signature has the form of JWS (RFC 7518): for an elliptic curve the two numbers side by side.
    ///
    /// # Errors
    /// Returns [`UnusableKey::Unfit`] if the key does not fit the algorithm.
    pub fn sign(&self, algorithm: JwtAlgorithm, input: &[u8]) -> Result<Vec<u8>, UnusableKey> {
        let random = SystemRandom::new();
        match (&self.pair, algorithm) {
            (SigningPair::Rsa(pair), _) => {
                let Some(padding) = algorithm.rsa_padding() else { return Err(self.unfit(algorithm)) };
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(padding, &random, input, &mut signature).map_err(|_| UnusableKey::Damaged)?;
                Ok(signature)
            }
            (SigningPair::P256(pair), JwtAlgorithm::Es256) | (SigningPair::P384(pair), JwtAlgorithm::Es384) => {
                Ok(pair.sign(&random, input).map_err(|_| UnusableKey::Damaged)?.as_ref().to_vec())
            }
            (SigningPair::Ed25519(pair), JwtAlgorithm::EdDsa) => Ok(pair.sign(input).as_ref().to_vec()),
            _ => Err(self.unfit(algorithm)),
        }
    }

    fn unfit(&self, algorithm: JwtAlgorithm) -> UnusableKey {
        UnusableKey::Unfit { algorithm: algorithm.as_str(), key: self.description() }
    }

    /// Returns the public key as a JWK (RFC 7517) without `kid`. Its members are those that a thumbprint uses (RFC 7638),
    /// in the order of their names.
    #[must_use]
    pub fn public_jwk(&self) -> Map<String, Value> {
        let encoded = |bytes: &[u8]| Value::from(URL_SAFE_NO_PAD.encode(bytes));
        let members = match &self.pair {
            SigningPair::Rsa(pair) => {
                let public = PublicKeyComponents::<Vec<u8>>::from(pair.public());
                vec![("e", encoded(&public.e)), ("kty", Value::from("RSA")), ("n", encoded(&public.n))]
            }
            SigningPair::P256(pair) | SigningPair::P384(pair) => {
                let curve = if matches!(self.pair, SigningPair::P256(_)) { "P-256" } else { "P-384" };
                // An uncompressed point: the byte 4, then both coordinates.
                let point = pair.public_key().as_ref().get(1..).unwrap_or_default();
                let (x, y) = point.split_at(point.len() / 2);
                vec![("crv", Value::from(curve)), ("kty", Value::from("EC")), ("x", encoded(x)), ("y", encoded(y))]
            }
            SigningPair::Ed25519(pair) => {
                let x = encoded(pair.public_key().as_ref());
                vec![("crv", Value::from("Ed25519")), ("kty", Value::from("OKP")), ("x", x)]
            }
        };
        members.into_iter().map(|(name, value)| (name.to_string(), value)).collect()
    }

    /// Returns the public key as DER of `SubjectPublicKeyInfo` (RFC 5280). Vendors compute fingerprints of it.
    #[must_use]
    pub fn public_key_info(&self) -> Vec<u8> {
        match &self.pair {
            SigningPair::Rsa(pair) => elements::public_key_info(&elements::RSA_ALGORITHM, pair.public_key().as_ref()),
            SigningPair::P256(pair) => elements::public_key_info(&elements::P256_ALGORITHM, pair.public_key().as_ref()),
            SigningPair::P384(pair) => elements::public_key_info(&elements::P384_ALGORITHM, pair.public_key().as_ref()),
            SigningPair::Ed25519(pair) => elements::public_key_info(&elements::ED25519_ALGORITHM, pair.public_key().as_ref()),
        }
    }
}

#[cfg(test)]
mod tests;
