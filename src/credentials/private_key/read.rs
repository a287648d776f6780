//! The forms in which private keys are stored.
//!
//! - PEM: PKCS#8, encrypted PKCS#8, PKCS#1 and SEC 1, also together with certificates; on one line with the text `\n`
//!   between the lines, as environment variables and JSON often have it; and the whole file in Base64
//! - JWK, and a set of keys that contains one private key
//! - a JSON object with one of these in a field, for example the key file of a Google service account

use super::elements::{self, EcKey};
use super::{PrivateKey, SigningPair, UnusableKey};
use crate::credentials::{Credential, Secret};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use pem::Pem;
use pkcs8::{EncryptedPrivateKeyInfo, ObjectIdentifier, PrivateKeyInfo};
use ring::error::KeyRejected;
use ring::rand::SystemRandom;
use ring::rsa::{KeyPairComponents, PublicKeyComponents};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RsaKeyPair,
};
use zeroize::Zeroizing;

/// The fields of a JSON object that may hold the key.
const KEY_FIELDS: [&str; 4] = ["private_key", "privateKey", "key", "pem"];

/// The maximum nesting of a key in fields of JSON objects.
const MAX_NESTING: u8 = 2;

impl PrivateKey {
    /// Reads the key from a credential: a text, a JWK, or a JSON object with the key in a field. An encrypted key is
    /// decrypted with `passphrase`, or with the field `passphrase` of the object.
    ///
    /// # Errors
    /// Returns [`UnusableKey`].
    pub fn from_credential(credential: &Credential, passphrase: Option<&Secret>) -> Result<PrivateKey, UnusableKey> {
        from_credential(credential, passphrase, MAX_NESTING)
    }

    /// Reads the key from a text: PEM or JWK.
    ///
    /// # Errors
    /// Returns [`UnusableKey`].
    pub fn parse(text: &Secret, passphrase: Option<&Secret>) -> Result<PrivateKey, UnusableKey> {
        parse(text, passphrase, MAX_NESTING)
    }
}

fn from_credential(credential: &Credential, passphrase: Option<&Secret>, nesting: u8) -> Result<PrivateKey, UnusableKey> {
    if let Some(plain) = credential.plain() {
        return parse(plain, passphrase, nesting);
    }
    if credential.field("kty").is_some() {
        return jwk(credential);
    }
    if let Some(keys) = credential.field("keys") {
        return key_set(keys);
    }
    let passphrase = passphrase.or_else(|| credential.field("passphrase"));
    match credential.any(&KEY_FIELDS).filter(|_| nesting > 0) {
        Some(text) => parse(text, passphrase, nesting - 1),
        None => Err(UnusableKey::UnknownForm),
    }
}

fn parse(text: &Secret, passphrase: Option<&Secret>, nesting: u8) -> Result<PrivateKey, UnusableKey> {
    let text = unwrapped(text.expose());
    if text.is_empty() {
        return Err(UnusableKey::Empty);
    }
    if text.starts_with('{') {
        let credential = Credential::read(Secret::new(text.to_string()));
        return match credential.plain() {
            Some(_) => Err(UnusableKey::Damaged),
            None => from_credential(&credential, passphrase, nesting),
        };
    }
    if ["ssh-", "ecdsa-sha2-"].iter().any(|start| text.starts_with(start)) {
        return Err(UnusableKey::PublicKey);
    }
    if !text.contains("-----BEGIN ") {
        return Err(UnusableKey::UnknownForm);
    }
    let sections = pem::parse_many(text.as_bytes()).map_err(|_| UnusableKey::Damaged)?;
    from_sections(&sections, passphrase)
}

/// Returns the text of the PEM file or the JWK. Quotes around it are left out, `\n` becomes a line break, and a file in Base64
/// is decoded.
#[must_use]
pub fn unwrapped(text: &str) -> Zeroizing<String> {
    let text = text.trim();
    let quoted = |quote: char| text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote));
    let text = quoted('"').or_else(|| quoted('\'')).unwrap_or(text).trim();
    if text.starts_with('{') {
        return Zeroizing::new(text.to_string());
    }
    let lines = |text: &str| Zeroizing::new(text.replace("\\r", "").replace("\\n", "\n").trim().to_string());
    if !text.contains("-----BEGIN ") {
        let compact: Zeroizing<String> = Zeroizing::new(text.split_whitespace().collect());
        let decoded = STANDARD.decode(compact.as_bytes()).map(Zeroizing::new);
        if let Ok(decoded) = &decoded
            && let Ok(inner) = std::str::from_utf8(decoded)
            && inner.contains("-----BEGIN ")
        {
            return lines(inner);
        }
    }
    lines(text)
}

/// Reads the first private key of the sections. If there is none, says what the text has instead.
fn from_sections(sections: &[Pem], passphrase: Option<&Secret>) -> Result<PrivateKey, UnusableKey> {
    let mut instead = UnusableKey::Damaged;
    for section in sections {
        // OpenSSL's old format names the encryption in a header.
        let old = section.headers().get("Proc-Type").is_some_and(|kind| kind.contains("ENCRYPTED"));
        let pair = match section.tag() {
            tag if old && tag.ends_with("PRIVATE KEY") => Err(UnusableKey::OldEncryption),
            "PRIVATE KEY" => pkcs8(section.contents()),
            "ENCRYPTED PRIVATE KEY" => encrypted(section.contents(), passphrase),
            "RSA PRIVATE KEY" => RsaKeyPair::from_der(section.contents()).map(SigningPair::Rsa).map_err(|error| rejected(&error)),
            "EC PRIVATE KEY" => sec1(section.contents(), None),
            "OPENSSH PRIVATE KEY" => Err(UnusableKey::OpenSsh),
            "DSA PRIVATE KEY" => Err(UnusableKey::UnknownAlgorithm("DSA".to_string())),
            other => {
                instead = match other {
                    "CERTIFICATE" | "TRUSTED CERTIFICATE" | "X509 CERTIFICATE" => UnusableKey::Certificate,
                    "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" => UnusableKey::CertificateRequest,
                    _ if other.ends_with("PUBLIC KEY") => UnusableKey::PublicKey,
                    _ => instead,
                };
                continue;
            }
        };
        return pair.map(|pair| PrivateKey { pair, key_id: None });
    }
    Err(instead)
}

fn encrypted(der: &[u8], passphrase: Option<&Secret>) -> Result<SigningPair, UnusableKey> {
    let info = EncryptedPrivateKeyInfo::try_from(der).map_err(|_| UnusableKey::UnsupportedEncryption)?;
    let passphrase = passphrase.ok_or(UnusableKey::PassphraseMissing)?;
    // A file often ends with a line break that is not part of the passphrase.
    let passphrase = passphrase.expose().trim_end_matches(['\r', '\n']);
    match info.decrypt(passphrase) {
        Ok(document) => pkcs8(document.as_bytes()),
        Err(pkcs8::Error::EncryptedPrivateKey(
            pkcs8::pkcs5::Error::UnsupportedAlgorithm { .. }
            | pkcs8::pkcs5::Error::NoPbes1CryptSupport
            | pkcs8::pkcs5::Error::AlgorithmParametersInvalid { .. },
        )) => Err(UnusableKey::UnsupportedEncryption),
        // The padding or the contents are not valid.
        Err(_) => Err(UnusableKey::WrongPassphrase),
    }
}

fn pkcs8(der: &[u8]) -> Result<SigningPair, UnusableKey> {
    let info = PrivateKeyInfo::try_from(der).map_err(|_| UnusableKey::Damaged)?;
    match info.algorithm.oid {
        elements::RSA | elements::RSA_PSS => {
            RsaKeyPair::from_der(info.private_key).map(SigningPair::Rsa).map_err(|error| rejected(&error))
        }
        elements::EC => sec1(info.private_key, info.algorithm.parameters_oid().ok()),
        elements::ED25519 => {
            Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map(SigningPair::Ed25519).map_err(|error| rejected(&error))
        }
        other => Err(UnusableKey::UnknownAlgorithm(algorithm_name(other))),
    }
}

fn sec1(der: &[u8], curve: Option<ObjectIdentifier>) -> Result<SigningPair, UnusableKey> {
    let EcKey { scalar, curve: own_curve, public } = elements::ec_key(der).map_err(|_| UnusableKey::Damaged)?;
    let curve = match curve.or(own_curve) {
        Some(elements::P256) => "P-256",
        Some(elements::P384) => "P-384",
        Some(other) => return Err(UnusableKey::UnknownCurve(curve_name(other))),
        None => return Err(UnusableKey::UnknownCurve("without a name".to_string())),
    };
    ec_pair(curve, scalar, public.ok_or(UnusableKey::PublicHalfMissing)?)
}

/// Creates the key pair of `curve` from the private number and the uncompressed public point.
fn ec_pair(curve: &str, scalar: &[u8], public: &[u8]) -> Result<SigningPair, UnusableKey> {
    let (algorithm, length) = match curve {
        "P-256" => (&ECDSA_P256_SHA256_FIXED_SIGNING, 32),
        "P-384" => (&ECDSA_P384_SHA384_FIXED_SIGNING, 48),
        other => return Err(UnusableKey::UnknownCurve(other.chars().take(20).collect())),
    };
    // Some tools leave out leading zeros.
    let mut padded = Zeroizing::new(vec![0; length]);
    let start = length.checked_sub(scalar.len()).ok_or(UnusableKey::Damaged)?;
    padded.get_mut(start..).ok_or(UnusableKey::Damaged)?.copy_from_slice(scalar);
    let pair = EcdsaKeyPair::from_private_key_and_public_key(algorithm, &padded, public, &SystemRandom::new());
    let wrap = if length == 32 { SigningPair::P256 } else { SigningPair::P384 };
    pair.map(wrap).map_err(|error| rejected(&error))
}

/// Reads the only private key of a JWK set.
fn key_set(keys: &Secret) -> Result<PrivateKey, UnusableKey> {
    let keys: Vec<serde_json::Value> = serde_json::from_str(keys.expose()).map_err(|_| UnusableKey::Damaged)?;
    let read = |key: serde_json::Value| Credential::read(Secret::new(key.to_string()));
    let private: Vec<Credential> = keys.into_iter().map(read).filter(|key| key.field("d").is_some()).collect();
    match private.as_slice() {
        [one] => jwk(one),
        several => Err(UnusableKey::KeySet(several.len())),
    }
}

/// Reads a JWK (RFC 7517, RFC 7518, RFC 8037).
fn jwk(key: &Credential) -> Result<PrivateKey, UnusableKey> {
    let text = |name: &str| key.field(name).map(Secret::expose).unwrap_or_default();
    let number = |name: &'static str| {
        let text = key.field(name).ok_or(UnusableKey::MemberMissing(name))?;
        let digits = text.expose().trim_end_matches('=').replace('+', "-").replace('/', "_");
        URL_SAFE_NO_PAD.decode(Zeroizing::new(digits).as_bytes()).map(Zeroizing::new).map_err(|_| UnusableKey::Damaged)
    };
    if text("kty") == "oct" {
        return Err(UnusableKey::SharedSecret);
    }
    if key.field("d").is_none() {
        return Err(UnusableKey::PublicKey);
    }
    let pair = match text("kty") {
        "RSA" => {
            let [n, e, d, p, q, dp, dq, qi] = ["n", "e", "d", "p", "q", "dp", "dq", "qi"].map(number);
            let public_key = PublicKeyComponents { n: n?, e: e? };
            let parts = KeyPairComponents { public_key, d: d?, p: p?, q: q?, dP: dp?, dQ: dq?, qInv: qi? };
            RsaKeyPair::from_components(&parts).map(SigningPair::Rsa).map_err(|error| rejected(&error))?
        }
        "EC" => {
            let point = [&[4][..], &number("x")?, &number("y")?].concat();
            ec_pair(text("crv"), &number("d")?, &point)?
        }
        "OKP" if text("crv") == "Ed25519" => Ed25519KeyPair::from_seed_and_public_key(&number("d")?, &number("x")?)
            .map(SigningPair::Ed25519)
            .map_err(|error| rejected(&error))?,
        "OKP" => return Err(UnusableKey::UnknownCurve(text("crv").chars().take(20).collect())),
        other => return Err(UnusableKey::UnknownAlgorithm(other.chars().take(20).collect())),
    };
    let key_id = Some(text("kid").to_string()).filter(|kid| !kid.is_empty());
    Ok(PrivateKey { pair, key_id })
}

/// The reason for which ring refuses a key. ring names it only in the text of the error.
fn rejected(error: &KeyRejected) -> UnusableKey {
    match error.to_string().as_str() {
        "TooSmall" => UnusableKey::TooShort,
        "TooLarge" => UnusableKey::TooLong,
        "PublicKeyIsMissing" => UnusableKey::PublicHalfMissing,
        _ => UnusableKey::Damaged,
    }
}

fn curve_name(id: ObjectIdentifier) -> String {
    match id.to_string().as_str() {
        "1.3.132.0.35" => "P-521",
        "1.3.132.0.10" => "secp256k1",
        "1.3.132.0.33" => "P-224",
        "1.2.840.10045.3.1.1" => "P-192",
        "1.3.36.3.3.2.8.1.1.7" => "brainpoolP256r1",
        "1.3.36.3.3.2.8.1.1.11" => "brainpoolP384r1",
        other => other,
    }
    .to_string()
}

fn algorithm_name(id: ObjectIdentifier) -> String {
    match id.to_string().as_str() {
        "1.2.840.10040.4.1" => "DSA",
        "1.3.101.110" => "X25519",
        "1.3.101.113" => "Ed448",
        other => other,
    }
    .to_string()
}
