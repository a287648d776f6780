//! SCRAM (RFC 5802, RFC 7677) as MongoDB uses it (specification "Authentication" of the drivers). This module knows no socket and no
//! clock; its caller gives the random nonce.
//!
//! The server learns nothing that it could use elsewhere, and proves that it knows the password too.

use crate::credentials::Secret;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use data_encoding::HEXLOWER;
use md5::{Digest as _, Md5};
use ring::{digest, hmac, pbkdf2};
use std::num::NonZeroU32;
use zeroize::Zeroizing;

/// The lowest number of iterations (specification "Authentication": drivers must refuse fewer). A server that is not the right one
/// could ask for fewer, which makes it easy to search for the password.
pub const MIN_ITERATIONS: u32 = 4096;
/// The highest number of iterations that AAM computes. MongoDB's default is 15,000.
pub const MAX_ITERATIONS: u32 = 200_000;
/// Limit on a message of the server, in bytes.
const MAX_MESSAGE_BYTES: usize = 4096;

/// The hash function of a mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    Sha1,
    Sha256,
}

/// Why AAM does not answer a message of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The server asks for fewer iterations than [`MIN_ITERATIONS`].
    FewIterations(u32),
    /// The server asks for more iterations than [`MAX_ITERATIONS`].
    ManyIterations(u32),
    /// The message is not one of SCRAM, or belongs to another login.
    Malformed(&'static str),
    /// The server did not prove that it knows the password.
    ServerNotProven,
}

/// A login after its first message was written.
pub struct Scram {
    hash: Hash,
    nonce: String,
    /// The first message without its header.
    first_bare: String,
    password: Zeroizing<Vec<u8>>,
}

/// A login after its second message was written.
pub struct Proof {
    /// The message with the proof of the client.
    pub message: String,
    server_signature: Vec<u8>,
}

impl Scram {
    /// Begins a login. `nonce` are random bytes.
    #[must_use]
    pub fn new(hash: Hash, user: &str, password: &Secret, nonce: &[u8]) -> Scram {
        let nonce = STANDARD.encode(nonce);
        let name = user.replace('=', "=3D").replace(',', "=2C");
        let password = Zeroizing::new(match hash {
            // MongoDB's SCRAM-SHA-1 uses the digest that MONGODB-CR used.
            Hash::Sha1 => {
                let mut digest = Md5::new();
                digest.update(user.as_bytes());
                digest.update(b":mongo:");
                digest.update(password.expose().as_bytes());
                HEXLOWER.encode(&digest.finalize()).into_bytes()
            }
            // A password that SASLprep forbids is sent as it is, as a server that stored it did.
            Hash::Sha256 => match stringprep::saslprep(password.expose()) {
                Ok(prepared) => prepared.into_owned().into_bytes(),
                Err(_) => password.expose().as_bytes().to_vec(),
            },
        });
        Scram { hash, first_bare: format!("n={name},r={nonce}"), nonce, password }
    }

    /// The first message.
    #[must_use]
    pub fn first(&self) -> String {
        format!("n,,{}", self.first_bare)
    }

    /// Answers the first message of the server. This takes some time, because the iterations are meant to.
    ///
    /// # Errors
    /// Why it is not answered.
    pub fn respond(&self, server_first: &[u8]) -> Result<Proof, Refusal> {
        let message = text(server_first)?;
        let mut nonce = None;
        let mut salt = None;
        let mut iterations = None;
        for part in message.split(',') {
            match part.split_once('=') {
                Some(("r", value)) => nonce = Some(value),
                Some(("s", value)) => salt = STANDARD.decode(value).ok(),
                Some(("i", value)) => iterations = value.parse::<u32>().ok(),
                Some(("m", _)) => return Err(Refusal::Malformed("the server asks for an extension of SCRAM")),
                _ => {}
            }
        }
        let nonce = nonce.filter(|nonce| nonce.len() > self.nonce.len() && nonce.starts_with(&self.nonce));
        let nonce = nonce.ok_or(Refusal::Malformed("the nonce does not continue that of the client"))?;
        let salt = salt.filter(|salt| !salt.is_empty()).ok_or(Refusal::Malformed("the salt is missing"))?;
        let iterations = iterations.ok_or(Refusal::Malformed("the number of iterations is missing"))?;
        let count = NonZeroU32::new(iterations).filter(|count| count.get() >= MIN_ITERATIONS);
        let count = count.ok_or(Refusal::FewIterations(iterations))?;
        if iterations > MAX_ITERATIONS {
            return Err(Refusal::ManyIterations(iterations));
        }
        Ok(self.prove(message, nonce, &salt, count))
    }

    fn prove(&self, server_first: &str, nonce: &str, salt: &[u8], count: NonZeroU32) -> Proof {
        let (derive, mac, hash) = match self.hash {
            Hash::Sha1 => (pbkdf2::PBKDF2_HMAC_SHA1, hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &digest::SHA1_FOR_LEGACY_USE_ONLY),
            Hash::Sha256 => (pbkdf2::PBKDF2_HMAC_SHA256, hmac::HMAC_SHA256, &digest::SHA256),
        };
        let mut salted = Zeroizing::new(vec![0; hash.output_len()]);
        pbkdf2::derive(derive, count, salt, &self.password, &mut salted);
        let salted = hmac::Key::new(mac, &salted);
        let client_key = hmac::sign(&salted, b"Client Key");
        let stored_key = digest::digest(hash, client_key.as_ref());
        // `biws` is `n,,` in Base64: the header says that there is no channel binding.
        let without_proof = format!("c=biws,r={nonce}");
        let transcript = format!("{},{server_first},{without_proof}", self.first_bare);
        let signature = hmac::sign(&hmac::Key::new(mac, stored_key.as_ref()), transcript.as_bytes());
        let proof: Vec<u8> = client_key.as_ref().iter().zip(signature.as_ref()).map(|(key, byte)| key ^ byte).collect();
        let server_key = hmac::sign(&salted, b"Server Key");
        let server_signature = hmac::sign(&hmac::Key::new(mac, server_key.as_ref()), transcript.as_bytes());
        Proof {
            message: format!("{without_proof},p={}", STANDARD.encode(proof)),
            server_signature: server_signature.as_ref().to_vec(),
        }
    }
}

impl Proof {
    /// Verifies the last message of the server.
    ///
    /// # Errors
    /// `ServerNotProven` if the server does not know the password.
    pub fn verify(&self, server_final: &[u8]) -> Result<(), Refusal> {
        use subtle::ConstantTimeEq;
        let message = text(server_final)?;
        let signature = message.split(',').find_map(|part| part.strip_prefix("v="));
        let signature = signature.and_then(|value| STANDARD.decode(value).ok()).unwrap_or_default();
        if bool::from(signature.ct_eq(&self.server_signature)) { Ok(()) } else { Err(Refusal::ServerNotProven) }
    }
}

fn text(message: &[u8]) -> Result<&str, Refusal> {
    if message.len() > MAX_MESSAGE_BYTES {
        return Err(Refusal::Malformed("a message of the login is longer than 4 KiB"));
    }
    std::str::from_utf8(message).map_err(|_| Refusal::Malformed("a message of the login is not UTF-8"))
}

#[cfg(test)]
#[path = "scram_tests.rs"]
mod tests;
