//! JSON Web Tokens: reading, verifying and signing.

use crate::keys::Pair;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{self, KeyPair, UnparsedPublicKey};
use serde_json::{Map, Value, json};

/// The algorithms that an assertion can have.
pub const ALGORITHMS: [&str; 5] = ["RS256", "RS384", "RS512", "PS256", "ES256"];

/// A token that was taken apart, but not verified.
#[derive(Debug)]
pub struct Jwt {
    pub header: Map<String, Value>,
    pub claims: Map<String, Value>,
    signed: String,
    signature: Vec<u8>,
}

/// A key that signatures are verified with.
pub enum PublicKey {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// A point of P-256 without compression.
    P256(Vec<u8>),
}

impl Jwt {
    pub fn parse(text: &str) -> Option<Jwt> {
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let object = |text: &str| match serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()? {
            Value::Object(map) => Some(map),
            _ => None,
        };
        Some(Jwt {
            header: object(header)?,
            claims: object(claims)?,
            signed: signed.to_owned(),
            signature: URL_SAFE_NO_PAD.decode(signature).ok()?,
        })
    }

    pub fn algorithm(&self) -> &str {
        self.header.get("alg").and_then(Value::as_str).unwrap_or_default()
    }

    pub fn claim(&self, name: &str) -> Option<&str> {
        self.claims.get(name).and_then(Value::as_str)
    }

    /// A time in whole seconds since 1970.
    pub fn time(&self, name: &str) -> Option<u64> {
        let value = self.claims.get(name)?;
        value.as_u64().or_else(|| value.as_f64().filter(|value| *value >= 0.0).map(|value| value as u64))
    }

    /// Whether the key made the signature, with the algorithm that the header names.
    pub fn is_signed_by(&self, key: &PublicKey) -> bool {
        let (message, signature) = (self.signed.as_bytes(), self.signature.as_slice());
        match (key, self.algorithm()) {
            (PublicKey::Rsa { n, e }, algorithm) => {
                let parameters: &signature::RsaParameters = match algorithm {
                    "RS256" => &signature::RSA_PKCS1_2048_8192_SHA256,
                    "RS384" => &signature::RSA_PKCS1_2048_8192_SHA384,
                    "PS256" => &signature::RSA_PSS_2048_8192_SHA256,
                    "RS512" => &signature::RSA_PKCS1_2048_8192_SHA512,
                    _ => return false,
                };
                PublicKeyComponents { n, e }.verify(parameters, message, signature).is_ok()
            }
            (PublicKey::P256(point), "ES256") => {
                UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point).verify(message, signature).is_ok()
            }
            (PublicKey::P256(_), _) => false,
        }
    }
}

impl PublicKey {
    pub fn from_pair(pair: &Pair) -> PublicKey {
        match pair {
            Pair::Rsa(pair) => {
                let parts: PublicKeyComponents<Vec<u8>> = PublicKeyComponents::from(pair.public_key());
                PublicKey::Rsa { n: parts.n, e: parts.e }
            }
            Pair::Ec(pair) => PublicKey::P256(pair.public_key().as_ref().to_vec()),
        }
    }

    /// A public key in a JWK. A private one is refused, because its sender gave it away.
    pub fn from_jwk(jwk: &Value) -> Option<PublicKey> {
        if jwk.get("d").is_some() {
            return None;
        }
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        let bytes = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?).ok();
        match (text("kty")?, text("crv")) {
            ("RSA", _) => Some(PublicKey::Rsa { n: bytes("n")?, e: bytes("e")? }),
            ("EC", Some("P-256")) => {
                let (x, y) = (bytes("x")?, bytes("y")?);
                (x.len() == 32 && y.len() == 32).then(|| PublicKey::P256([vec![4], x, y].concat()))
            }
            _ => None,
        }
    }
}

/// The thumbprint of a JWK by RFC 7638.
pub fn thumbprint(jwk: &Value) -> Option<String> {
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    // The members are in the order of their names, without spaces.
    let canonical = match text("kty")? {
        "RSA" => format!(r#"{{"e":{},"kty":"RSA","n":{}}}"#, json!(text("e")?), json!(text("n")?)),
        "EC" => {
            format!(r#"{{"crv":{},"kty":"EC","x":{},"y":{}}}"#, json!(text("crv")?), json!(text("x")?), json!(text("y")?))
        }
        _ => return None,
    };
    Some(hash(canonical.as_bytes()))
}

/// SHA-256 in base64url.
pub fn hash(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, bytes))
}

/// Signs claims with ES256, or with RS256 or the algorithm of RSA that the header names. `None` if the header names another one.
pub fn sign(pair: &Pair, header: &Value, claims: &Value) -> Option<String> {
    let mut header = header.clone();
    if let Value::Object(header) = &mut header {
        let algorithm = match pair {
            Pair::Rsa(_) => "RS256",
            Pair::Ec(_) => "ES256",
        };
        header.entry("alg").or_insert_with(|| algorithm.into());
        header.entry("typ").or_insert_with(|| "JWT".into());
    }
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&header), part(claims));
    let random = SystemRandom::new();
    let algorithm = header.get("alg").and_then(Value::as_str).unwrap_or_default();
    let signature = match pair {
        Pair::Rsa(pair) => {
            let padding: &'static dyn signature::RsaEncoding = match algorithm {
                "RS256" => &signature::RSA_PKCS1_SHA256,
                "PS256" => &signature::RSA_PSS_SHA256,
                _ => return None,
            };
            let mut signature = vec![0; pair.public().modulus_len()];
            pair.sign(padding, &random, signed.as_bytes(), &mut signature).ok()?;
            signature
        }
        Pair::Ec(pair) => pair.sign(&random, signed.as_bytes()).ok()?.as_ref().to_vec(),
    };
    Some(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}
