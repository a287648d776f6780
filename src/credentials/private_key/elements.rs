//! The ASN.1 elements of keys.

use pkcs8::ObjectIdentifier;
use pkcs8::der::asn1::{AnyRef, BitStringRef, OctetStringRef};
use pkcs8::der::{self, Decode, Encode, Reader, SliceReader, TagMode, TagNumber};
use pkcs8::spki::{AlgorithmIdentifier, SubjectPublicKeyInfo};

/// rsaEncryption (RFC 8017).
pub const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
/// id-RSASSA-PSS (RFC 8017): an RSA key that is meant for PSS only.
pub const RSA_PSS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10");
/// id-ecPublicKey (RFC 5480).
pub const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
/// id-Ed25519 (RFC 8410).
pub const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
/// The curves P-256 and P-384 (RFC 5480).
pub const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
pub const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");

/// The algorithm of a public key.
pub struct PublicKeyAlgorithm {
    id: ObjectIdentifier,
    parameters: Option<ObjectIdentifier>,
}

pub const RSA_ALGORITHM: PublicKeyAlgorithm = PublicKeyAlgorithm { id: RSA, parameters: None };
pub const P256_ALGORITHM: PublicKeyAlgorithm = PublicKeyAlgorithm { id: EC, parameters: Some(P256) };
pub const P384_ALGORITHM: PublicKeyAlgorithm = PublicKeyAlgorithm { id: EC, parameters: Some(P384) };
pub const ED25519_ALGORITHM: PublicKeyAlgorithm = PublicKeyAlgorithm { id: ED25519, parameters: None };

/// Returns DER of `SubjectPublicKeyInfo`.
pub fn public_key_info(algorithm: &PublicKeyAlgorithm, key: &[u8]) -> Vec<u8> {
    let parameters = match &algorithm.parameters {
        Some(curve) => Some(AnyRef::from(curve)),
        // RSA has the parameter NULL, and Ed25519 has none.
        None if algorithm.id == RSA => Some(AnyRef::NULL),
        None => None,
    };
    let encoded = BitStringRef::from_bytes(key).and_then(|key| {
        let algorithm = AlgorithmIdentifier { oid: algorithm.id, parameters };
        SubjectPublicKeyInfo { algorithm, subject_public_key: key }.to_der()
    });
    // Encoding fails only for elements of more than 256 MB.
    encoded.unwrap_or_default()
}

/// The parts of an `ECPrivateKey` (RFC 5915).
pub struct EcKey<'a> {
    pub scalar: &'a [u8],
    pub curve: Option<ObjectIdentifier>,
    /// The uncompressed point.
    pub public: Option<&'a [u8]>,
}

/// Parses DER of an `ECPrivateKey`.
///
/// # Errors
/// Returns an error if the DER has another form.
pub fn ec_key(der: &[u8]) -> der::Result<EcKey<'_>> {
    let mut reader = SliceReader::new(der)?;
    let key = reader.sequence(|key| {
        let _version: u8 = key.decode()?;
        let scalar = OctetStringRef::decode(key)?.as_bytes();
        let curve = key.context_specific::<ObjectIdentifier>(TagNumber::N0, TagMode::Explicit)?;
        let public = key.context_specific::<BitStringRef<'_>>(TagNumber::N1, TagMode::Explicit)?;
        Ok(EcKey { scalar, curve, public: public.and_then(|bits| bits.as_bytes()) })
    })?;
    reader.finish(key)
}
