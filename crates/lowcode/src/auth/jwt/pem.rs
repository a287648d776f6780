//! Private keys in PEM: PKCS#8, PKCS#1 of RSA and SEC 1 of elliptic curves.

use crate::error::Failed;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The DER of a private key.
pub(super) enum Der {
    Pkcs8(Vec<u8>),
    Pkcs1(Vec<u8>),
    Sec1(Vec<u8>),
}

/// Reads the first private key of a PEM text.
///
/// # Errors
/// There is none, or it is encrypted.
pub(super) fn private_key(text: &[u8]) -> Result<Der, Failed> {
    let text = std::str::from_utf8(text).map_err(|_| invalid("Could not parse the provided public key."))?;
    for (label, wrap) in
        [("PRIVATE KEY", Der::Pkcs8 as fn(Vec<u8>) -> Der), ("RSA PRIVATE KEY", Der::Pkcs1), ("EC PRIVATE KEY", Der::Sec1)]
    {
        if let Some(body) = between(text, label) {
            if body.contains("ENCRYPTED") {
                break;
            }
            let digits: String = body.chars().filter(|c| !c.is_whitespace()).collect();
            let der = STANDARD.decode(digits).map_err(|_| invalid("Could not parse the provided public key."))?;
            return Ok(wrap(der));
        }
    }
    if text.contains("ENCRYPTED") {
        return Err(invalid("an encrypted private key is not supported: bring it without a passphrase"));
    }
    Err(invalid("Could not parse the provided public key."))
}

fn between<'a>(text: &'a str, label: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("-----BEGIN {label}-----"))?;
    Some(rest.split_once(&format!("-----END {label}-----"))?.0)
}

fn invalid(message: &str) -> Failed {
    Failed::system("InvalidKeyError", message)
}

/// Wraps a SEC 1 key into PKCS#8 for the curve with this object identifier.
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
