//! The key pairs of the sandbox. They are public, as everything in this repository.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::digest::{SHA256, digest};
use ring::rsa::PublicKeyComponents;
use ring::signature::{EcdsaKeyPair, KeyPair, RsaKeyPair};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::LazyLock;

/// The keys that `clients[].key` can name. `stranger` is for a client that plays someone else: what it signs for another client
/// is refused.
pub const NAMES: [&str; 3] = ["client", "client_ec", "stranger"];

const FILES: [(&str, &str); 4] = [
    ("client", include_str!("../keys/client.b64")),
    ("client_ec", include_str!("../keys/client_ec.b64")),
    ("stranger", include_str!("../keys/stranger.b64")),
    ("issuer", include_str!("../keys/issuer.b64")),
];

const CERTIFICATE: &str = include_str!("../keys/client_certificate.b64");

pub enum Pair {
    Rsa(Box<RsaKeyPair>),
    Ec(Box<EcdsaKeyPair>),
}

/// The private key `name` as PEM.
pub fn private_pem(name: &str) -> Option<String> {
    FILES.iter().find(|(known, _)| *known == name).and_then(|(_, text)| decoded(text))
}

/// The certificate of the key `client` as PEM.
pub fn certificate_pem() -> Option<String> {
    decoded(CERTIFICATE)
}

/// The fingerprint of the public key `name`.
pub fn fingerprint(name: &str) -> Option<String> {
    pair(name).map(Pair::fingerprint)
}

/// The thumbprints of the certificate of the key `name`: `x5t` and `x5t#S256` of a JWT's header.
pub fn certificate_thumbprints(name: &str) -> (Option<String>, Option<String>) {
    let certificate = (name == "client").then(certificate_pem).flatten();
    let Some(der) = certificate.and_then(|text| pem::parse(text).ok()).map(pem::Pem::into_contents) else {
        return (None, None);
    };
    let sha1 = digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, &der);
    (Some(URL_SAFE_NO_PAD.encode(sha1)), Some(URL_SAFE_NO_PAD.encode(digest(&SHA256, &der))))
}

fn decoded(text: &str) -> Option<String> {
    let text: String = text.split_whitespace().collect();
    String::from_utf8(STANDARD.decode(text).ok()?).ok()
}

/// The key pair `name`.
pub fn pair(name: &str) -> Option<&'static Pair> {
    static PAIRS: LazyLock<HashMap<&str, Pair>> =
        LazyLock::new(|| FILES.iter().filter_map(|(name, _)| Some((*name, load(name)?))).collect());
    PAIRS.get(name)
}

fn load(name: &str) -> Option<Pair> {
    let der = pem::parse(private_pem(name)?).ok()?.into_contents();
    if let Ok(pair) = RsaKeyPair::from_pkcs8(&der) {
        return Some(Pair::Rsa(Box::new(pair)));
    }
    let random = ring::rand::SystemRandom::new();
    let pair = EcdsaKeyPair::from_pkcs8(&ring::signature::ECDSA_P256_SHA256_FIXED_SIGNING, &der, &random).ok()?;
    Some(Pair::Ec(Box::new(pair)))
}

impl Pair {
    pub fn jwk(&self) -> Value {
        match self {
            Pair::Rsa(pair) => {
                let parts: PublicKeyComponents<Vec<u8>> = PublicKeyComponents::from(pair.public_key());
                json!({"kty": "RSA", "n": URL_SAFE_NO_PAD.encode(parts.n), "e": URL_SAFE_NO_PAD.encode(parts.e)})
            }
            Pair::Ec(pair) => {
                let point = pair.public_key().as_ref();
                let (x, y) = (point.get(1..33).unwrap_or_default(), point.get(33..).unwrap_or_default());
                json!({"kty": "EC", "crv": "P-256", "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y)})
            }
        }
    }

    /// The SubjectPublicKeyInfo in DER.
    pub fn public_der(&self) -> Vec<u8> {
        let (algorithm, key): (&[u8], &[u8]) = match self {
            // rsaEncryption with NULL, and id-ecPublicKey with prime256v1.
            Pair::Rsa(pair) => (
                &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00],
                pair.public_key().as_ref(),
            ),
            Pair::Ec(pair) => (
                &[
                    0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d,
                    0x03, 0x01, 0x07,
                ],
                pair.public_key().as_ref(),
            ),
        };
        let mut bits = vec![0];
        bits.extend_from_slice(key);
        let mut content = algorithm.to_vec();
        content.extend(der(0x03, &bits));
        der(0x30, &content)
    }

    /// `SHA256:` and the digest of the public key in base64, as Snowflake writes it.
    pub fn fingerprint(&self) -> String {
        format!("SHA256:{}", STANDARD.encode(digest(&SHA256, &self.public_der())))
    }
}

fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let length = content.len().to_be_bytes();
    let significant = length.iter().position(|byte| *byte != 0).map_or(&[0_u8][..], |at| &length[at..]);
    if content.len() < 128 {
        out.extend_from_slice(significant);
    } else {
        out.push(0x80 | u8::try_from(significant.len()).unwrap_or(8));
        out.extend_from_slice(significant);
    }
    out.extend_from_slice(content);
    out
}
