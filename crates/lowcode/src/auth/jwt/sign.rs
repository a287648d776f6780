//! Signs JSON Web Tokens with ring.

use super::pem::{Der, private_key, sec1_to_pkcs8};
use crate::error::Failed;
use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, RsaEncoding, RsaKeyPair};
use ring::{hmac, rand};

/// A signature algorithm.
#[derive(Clone, Copy)]
pub(super) enum Algorithm {
    Hmac(&'static str, hmac::Algorithm),
    Rsa(&'static str, &'static dyn RsaEncoding),
    /// An elliptic curve, with its object identifier.
    Ecdsa(&'static str, &'static EcdsaSigningAlgorithm, &'static [u8]),
    EdDsa,
}

const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];

impl Algorithm {
    /// Returns the algorithm with this name, as it appears in the header of a token.
    ///
    /// # Errors
    /// Fails for ES512 and ES256K, whose curves ring does not support, and for unknown names.
    pub(super) fn of(name: &str) -> Result<Algorithm, Failed> {
        Ok(match name {
            "HS256" => Algorithm::Hmac("HS256", hmac::HMAC_SHA256),
            "HS384" => Algorithm::Hmac("HS384", hmac::HMAC_SHA384),
            "HS512" => Algorithm::Hmac("HS512", hmac::HMAC_SHA512),
            "RS256" => Algorithm::Rsa("RS256", &signature::RSA_PKCS1_SHA256),
            "RS384" => Algorithm::Rsa("RS384", &signature::RSA_PKCS1_SHA384),
            "RS512" => Algorithm::Rsa("RS512", &signature::RSA_PKCS1_SHA512),
            "PS256" => Algorithm::Rsa("PS256", &signature::RSA_PSS_SHA256),
            "PS384" => Algorithm::Rsa("PS384", &signature::RSA_PSS_SHA384),
            "PS512" => Algorithm::Rsa("PS512", &signature::RSA_PSS_SHA512),
            "ES256" => Algorithm::Ecdsa("ES256", &signature::ECDSA_P256_SHA256_FIXED_SIGNING, P256),
            "ES384" => Algorithm::Ecdsa("ES384", &signature::ECDSA_P384_SHA384_FIXED_SIGNING, P384),
            "EdDSA" => Algorithm::EdDsa,
            "ES256K" | "ES512" => return Err(unsupported_curve(name)),
            other => return Err(Failed::config("ValueError", format!("JwtAuthenticator: {other} is not supported"))),
        })
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Algorithm::Hmac(name, _) | Algorithm::Rsa(name, _) | Algorithm::Ecdsa(name, ..) => name,
            Algorithm::EdDsa => "EdDSA",
        }
    }

    /// Returns the signature of `input`. `key` is the shared secret, or a private key in PEM.
    ///
    /// # Errors
    /// Fails if the key is not suitable for the algorithm.
    pub(super) fn sign(self, key: &[u8], input: &[u8]) -> Result<Vec<u8>, Failed> {
        let unfit = |_| invalid("Could not parse the provided public key.");
        match self {
            Algorithm::Hmac(_, algorithm) => {
                if key.is_empty() {
                    return Err(invalid("HMAC key must not be empty."));
                }
                if key.windows(11).any(|it| it == b"-----BEGIN ") || key.starts_with(b"ssh-") {
                    let message = "The specified key is an asymmetric key or x509 certificate and should not be used as \
                                   an HMAC secret.";
                    return Err(invalid(message));
                }
                Ok(hmac::sign(&hmac::Key::new(algorithm, key), input).as_ref().to_vec())
            }
            Algorithm::Rsa(_, encoding) => {
                let pair = match private_key(key)? {
                    Der::Pkcs8(der) => RsaKeyPair::from_pkcs8(&der).map_err(unfit)?,
                    Der::Pkcs1(der) => RsaKeyPair::from_der(&der).map_err(unfit)?,
                    Der::Sec1(_) => return Err(invalid("Could not parse the provided public key.")),
                };
                let mut signature = vec![0; pair.public().modulus_len()];
                let random: &dyn rand::SecureRandom = &SystemRandom::new();
                pair.sign(encoding, random, input, &mut signature).map_err(|_| invalid("the key is too short"))?;
                Ok(signature)
            }
            Algorithm::Ecdsa(_, algorithm, curve) => {
                let der = match private_key(key)? {
                    Der::Pkcs8(der) => der,
                    Der::Sec1(der) => sec1_to_pkcs8(&der, curve),
                    Der::Pkcs1(_) => return Err(invalid("Could not parse the provided public key.")),
                };
                let random = SystemRandom::new();
                let pair = EcdsaKeyPair::from_pkcs8(algorithm, &der, &random).map_err(unfit)?;
                let signature = pair.sign(&random, input).map_err(|_| invalid("the key does not sign"))?;
                Ok(signature.as_ref().to_vec())
            }
            Algorithm::EdDsa => match private_key(key)? {
                Der::Pkcs8(der) => {
                    let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).map_err(unfit)?;
                    Ok(pair.sign(input).as_ref().to_vec())
                }
                _ => Err(invalid("Could not parse the provided public key.")),
            },
        }
    }
}

/// The library that signs has the curves P-256 and P-384 only. A key belongs to one curve, so another algorithm needs another
/// key.
fn unsupported_curve(name: &str) -> Failed {
    let curve = if name == "ES256K" { "secp256k1" } else { "P-521" };
    let message = format!(
        "JwtAuthenticator: {name} is not supported, because AAM cannot sign on the curve {curve}; register a key for ES256, \
         ES384, EdDSA or RS256 with the vendor and name that algorithm"
    );
    Failed::config("UnsupportedComponent", message)
}

fn invalid(message: &str) -> Failed {
    Failed::system("InvalidKeyError", message)
}
