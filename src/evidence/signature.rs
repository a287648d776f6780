//! The key of the operator: Ed25519 (RFC 8032), in the files that `openssl genpkey -algorithm ed25519` writes.

use crate::credentials::Secret;
use crate::credentials::jwt::JwtAlgorithm;
use crate::credentials::private_key::PrivateKey;
use crate::model::Digest;
use crate::operator_file;
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};
use std::path::Path;

/// The maximum size of a key file in bytes.
const MAX_KEY_BYTES: u64 = 64 << 10;
/// What comes before the 32 bytes of the key in `SubjectPublicKeyInfo` (RFC 8410, section 4).
const PUBLIC_KEY_HEAD: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
const PUBLIC_LABEL: &str = "PUBLIC KEY";
const PRIVATE_LABEL: &str = "PRIVATE KEY";

/// A private key that signs bundles.
pub struct BundleKey {
    key: PrivateKey,
    pub public: PublicKey,
}

/// The public key of a signer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

fn encode(label: &str, der: &[u8]) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new(label, der), config)
}

/// Returns a new private key and its public key, both in PEM.
///
/// # Errors
/// Returns a message if the system gives no random numbers.
pub fn generate() -> Result<(Secret, String), String> {
    let failed = |_| "could not get random numbers from the operating system".to_string();
    let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(failed)?;
    let text = Secret::new(encode(PRIVATE_LABEL, document.as_ref()));
    let key = BundleKey::parse(&text)?;
    Ok((text, key.public.to_pem()))
}

impl BundleKey {
    /// Reads the private key in the file at `path`.
    ///
    /// # Errors
    /// Returns a message with what to do if the file cannot be read or holds another kind of key.
    pub fn read(path: &Path) -> Result<BundleKey, String> {
        let text = operator_file::read_text(path, MAX_KEY_BYTES)
            .map_err(|error| format!("could not read the key {}: {error}", path.display()))?;
        BundleKey::parse(&Secret::new(text)).map_err(|error| format!("the key {} cannot sign: {error}", path.display()))
    }

    fn parse(text: &Secret) -> Result<BundleKey, String> {
        let create = "create one with `aam evidence keygen FILE` or `openssl genpkey -algorithm ed25519`";
        let key = PrivateKey::parse(text, None).map_err(|_| format!("it is not a private key in PEM; {create}"))?;
        let public = PublicKey::from_info(&key.public_key_info());
        let public =
            public.ok_or_else(|| format!("it is {}, and bundles are signed with Ed25519; {create}", key.description()))?;
        Ok(BundleKey { key, public })
    }

    /// Signs `bytes`.
    ///
    /// # Errors
    /// Returns a message if the key cannot sign.
    pub fn sign(&self, bytes: &[u8]) -> Result<Vec<u8>, String> {
        self.key.sign(JwtAlgorithm::EdDsa, bytes).map_err(|_| "the key could not sign".to_string())
    }
}

impl PublicKey {
    /// Reads a public key in PEM, or the public part of a private key.
    ///
    /// # Errors
    /// Returns a message if the file cannot be read or holds another kind of key.
    pub fn read(path: &Path) -> Result<PublicKey, String> {
        let text = operator_file::read_text(path, MAX_KEY_BYTES)
            .map_err(|error| format!("could not read the key {}: {error}", path.display()))?;
        match PublicKey::parse(&text) {
            Some(key) => Ok(key),
            None => BundleKey::parse(&Secret::new(text)).map(|key| key.public).map_err(|_| {
                format!(
                    "{} does not hold an Ed25519 public key in PEM; use the .pub file of `aam evidence keygen`",
                    path.display()
                )
            }),
        }
    }

    /// Parses a public key in PEM.
    #[must_use]
    pub fn parse(text: &str) -> Option<PublicKey> {
        let block = pem::parse(text).ok()?;
        if block.tag() == PUBLIC_LABEL { PublicKey::from_info(block.contents()) } else { None }
    }

    fn from_info(info: &[u8]) -> Option<PublicKey> {
        info.strip_prefix(&PUBLIC_KEY_HEAD).and_then(|key| key.try_into().ok()).map(PublicKey)
    }

    #[must_use]
    pub fn to_pem(&self) -> String {
        encode(PUBLIC_LABEL, &[&PUBLIC_KEY_HEAD[..], &self.0].concat())
    }

    /// Returns the SHA-256 of the key in the form of `openssl pkey -pubin -outform DER`.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        format!("SHA256:{}", Digest::from_parts(&[&PUBLIC_KEY_HEAD, &self.0]))
    }

    /// Whether `signature` is one of `bytes` by this key.
    #[must_use]
    pub fn verify(&self, bytes: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0).verify(bytes, signature).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_new_key_signs_only_its_public_key_accepts() {
        let (private, public) = generate().expect("a key");
        let (other, _) = generate().expect("a key");
        let key = BundleKey::parse(&private).expect("a private key");
        let public = PublicKey::parse(&public).expect("a public key");
        assert_eq!(public, key.public);
        let signature = key.sign(b"sums").expect("a signature");
        assert!(public.verify(b"sums", &signature) && !public.verify(b"other", &signature));
        assert!(!BundleKey::parse(&other).expect("a private key").public.verify(b"sums", &signature));
        assert!(PublicKey::parse(private.expose()).is_none() && BundleKey::parse(&Secret::new("x".to_string())).is_err());
    }
}
