//! The public keys of an issuer (RFC 7517, RFC 7518), and the check of a signature with them.

use data_encoding::BASE64URL_NOPAD;
use ring::signature::{ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey};
use serde_json::Value;

/// The number of keys that are kept. Issuers publish two or three.
const MAX_KEYS: usize = 32;

/// The keys of an issuer that AAM can check signatures with.
#[derive(Debug, Default)]
pub struct Keys(Vec<Key>);

#[derive(Debug)]
struct Key {
    id: Option<String>,
    /// The algorithm that the key is for, if it says so.
    algorithm: Option<String>,
    material: Material,
}

#[derive(Debug)]
enum Material {
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
    /// A point of P-256 in its uncompressed form.
    P256(Vec<u8>),
}

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verified {
    Yes,
    /// A key fits, and the signature is not valid.
    No,
    /// The document has no key that fits. The issuer may have a new one.
    NoKey,
}

impl Keys {
    /// Reads a document with keys. Keys of other kinds, and keys that are not for signatures, are left out.
    #[must_use]
    pub fn read(document: &Value) -> Keys {
        let keys = document.get("keys").and_then(Value::as_array);
        Keys(keys.into_iter().flatten().filter_map(key).take(MAX_KEYS).collect())
    }

    /// Checks the signature of `input`. `algorithm` and `id` are those of the token's header; only the two algorithms that AAM
    /// accepts are known, and each takes keys of its own kind only.
    #[must_use]
    pub fn verify(&self, algorithm: &str, id: Option<&str>, input: &[u8], signature: &[u8]) -> Verified {
        let fits = |key: &&Key| {
            let kind = match key.material {
                Material::Rsa { .. } => "RS256",
                Material::P256(_) => "ES256",
            };
            let named = id.is_none() || key.id.as_deref() == id;
            named && kind == algorithm && key.algorithm.as_deref().is_none_or(|own| own == algorithm)
        };
        let candidates: Vec<&Key> = self.0.iter().filter(fits).collect();
        if candidates.is_empty() {
            return Verified::NoKey;
        }
        let is_valid = candidates.iter().any(|key| key.material.verifies(input, signature));
        if is_valid { Verified::Yes } else { Verified::No }
    }
}

impl Material {
    fn verifies(&self, input: &[u8], signature: &[u8]) -> bool {
        match self {
            Material::Rsa { modulus, exponent } => {
                let key = RsaPublicKeyComponents { n: modulus, e: exponent };
                key.verify(&RSA_PKCS1_2048_8192_SHA256, input, signature).is_ok()
            }
            Material::P256(point) => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(input, signature).is_ok(),
        }
    }
}

fn key(value: &Value) -> Option<Key> {
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    let bytes = |name: &str| BASE64URL_NOPAD.decode(text(name)?.as_bytes()).ok();
    // ring wants numbers without leading zeros.
    let number = |name: &str| bytes(name).map(|bytes| bytes.into_iter().skip_while(|byte| *byte == 0).collect::<Vec<u8>>());
    if text("use").is_some_and(|purpose| purpose != "sig") {
        return None;
    }
    let material = match text("kty")? {
        "RSA" => Material::Rsa { modulus: number("n")?, exponent: number("e")? },
        "EC" if text("crv") == Some("P-256") => {
            let (x, y) = (bytes("x")?, bytes("y")?);
            if (x.len(), y.len()) != (32, 32) {
                return None;
            }
            Material::P256([&[4][..], &x, &y].concat())
        }
        _ => return None,
    };
    Some(Key { id: text("kid").map(str::to_string), algorithm: text("alg").map(str::to_string), material })
}
