//! Private keys in PEM: PKCS#8, PKCS#1 for RSA, and SEC 1 for elliptic curves.
//!
//! The crate `pem` reads the sections. Python's `cryptography` uses the same crate, so both accept the same texts, for
//! example a key that was pasted on a single line.

use crate::error::Failed;

/// The DER of a private key.
pub(super) enum Der {
    Pkcs8(Vec<u8>),
    Pkcs1(Vec<u8>),
    Sec1(Vec<u8>),
}

/// Reads the first private key of a PEM text.
///
/// # Errors
/// Fails if the text does not contain a private key, or if the key is encrypted.
pub(super) fn private_key(text: &[u8]) -> Result<Der, Failed> {
    let mut encrypted = false;
    for section in pem::parse_many(text).map_err(|_| unreadable())? {
        let wrap = match section.tag() {
            "PRIVATE KEY" => Der::Pkcs8 as fn(Vec<u8>) -> Der,
            "RSA PRIVATE KEY" => Der::Pkcs1,
            "EC PRIVATE KEY" => Der::Sec1,
            tag => {
                encrypted |= tag == "ENCRYPTED PRIVATE KEY";
                continue;
            }
        };
        // OpenSSL's older format names the encryption in headers above the body (RFC 1421).
        encrypted |= section.headers().get("Proc-Type").is_some_and(|kind| kind.contains("ENCRYPTED"));
        if !encrypted {
            return Ok(wrap(section.into_contents()));
        }
    }
    Err(if encrypted {
        invalid("encrypted private keys are not supported; store the key without a passphrase")
    } else {
        unreadable()
    })
}

/// Returns PyJWT's message for a private key that cannot be read.
fn unreadable() -> Failed {
    invalid("Could not parse the provided public key.")
}

fn invalid(message: &str) -> Failed {
    Failed::system("InvalidKeyError", message)
}

/// Wraps a SEC 1 key in PKCS#8 for the curve with this object identifier, because ring cannot read SEC 1.
pub(super) fn sec1_to_pkcs8(sec1: &[u8], curve: &[u8]) -> Vec<u8> {
    const EC_PUBLIC_KEY: &[u8] = &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
    let algorithm = element(0x30, &[EC_PUBLIC_KEY, curve].concat());
    element(0x30, &[&[0x02, 0x01, 0x00][..], &algorithm, &element(0x04, sec1)].concat())
}

/// One DER element.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match u8::try_from(content.len()) {
        Ok(length) if length < 0x80 => out.push(length),
        _ => {
            let bytes = content.len().to_be_bytes();
            let digits: Vec<u8> = bytes.into_iter().skip_while(|byte| *byte == 0).collect();
            out.push(0x80 | u8::try_from(digits.len()).unwrap_or(0));
            out.extend(digits);
        }
    }
    out.extend_from_slice(content);
    out
}
