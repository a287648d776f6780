//! Encrypts a password with the RSA key that a MySQL server sends, as `caching_sha2_password` and `sha256_password` demand
//! on connections without TLS: RSA with OAEP padding and SHA-1 (RFC 8017, section 7.1.1).
//!
//! The key comes from the server, so it proves nothing about it. `auth` decides whether it may be used at all.

use num_bigint::BigUint;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;

/// The length of a SHA-1 digest in bytes.
const HASH_BYTES: usize = 20;
/// The sizes of a modulus that are accepted, in bytes. Longer ones would only cost time.
const MODULUS_BYTES: std::ops::RangeInclusive<usize> = 128..=1024;
/// The longest exponent that is accepted, in bytes. Servers use 65537.
const MAX_EXPONENT_BYTES: usize = 4;
/// The object identifier `rsaEncryption`.
const RSA_ENCRYPTION: [u8; 9] = [0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x01];

/// The numbers of a public key, most significant byte first.
struct PublicKey<'a> {
    modulus: &'a [u8],
    exponent: &'a [u8],
}

/// Encrypts `message` with the key in `pem`. Returns `None` if the key is not a usable RSA key, or the message is too long
/// for it.
#[must_use]
pub fn encrypt(message: &[u8], pem: &[u8]) -> Option<Vec<u8>> {
    let mut seed = [0; HASH_BYTES];
    SystemRandom::new().fill(&mut seed).ok()?;
    let der = SubjectPublicKeyInfoDer::from_pem_slice(pem).ok()?;
    encrypt_with(message, &parse(der.as_ref())?, seed)
}

fn encrypt_with(message: &[u8], key: &PublicKey<'_>, seed: [u8; HASH_BYTES]) -> Option<Vec<u8>> {
    let length = key.modulus.len();
    if !MODULUS_BYTES.contains(&length) || key.exponent.len() > MAX_EXPONENT_BYTES {
        return None;
    }
    let (modulus, exponent) = (BigUint::from_bytes_be(key.modulus), BigUint::from_bytes_be(key.exponent));
    // An even modulus or exponent does not occur in an RSA key.
    if !modulus.bit(0) || !exponent.bit(0) || exponent.bits() < 2 {
        return None;
    }
    let padded = pad(message, length, seed)?;
    let bytes = BigUint::from_bytes_be(&padded).modpow(&exponent, &modulus).to_bytes_be();
    let mut out = vec![0; length.saturating_sub(bytes.len())];
    out.extend(bytes);
    Some(out)
}

/// The encoding EME-OAEP with an empty label.
fn pad(message: &[u8], length: usize, mut seed: [u8; HASH_BYTES]) -> Option<Vec<u8>> {
    let filler = length.checked_sub(message.len() + 2 * HASH_BYTES + 2)?;
    let mut block = digest(&SHA1_FOR_LEGACY_USE_ONLY, b"").as_ref().to_vec();
    block.extend(std::iter::repeat_n(0, filler));
    block.push(1);
    block.extend(message);
    mask(&mut block, &seed);
    mask(&mut seed, &block);
    let mut out = vec![0];
    out.extend(seed);
    out.extend(block);
    Some(out)
}

/// Masks `target` with MGF1 of `seed`.
fn mask(target: &mut [u8], seed: &[u8]) {
    for (counter, chunk) in (0_u32..).zip(target.chunks_mut(HASH_BYTES)) {
        let stream = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[seed, &counter.to_be_bytes()].concat());
        chunk.iter_mut().zip(stream.as_ref()).for_each(|(byte, mask)| *byte ^= mask);
    }
}

/// Parses a SubjectPublicKeyInfo (RFC 5280, section 4.1).
fn parse(der: &[u8]) -> Option<PublicKey<'_>> {
    let (info, _) = element(der, 0x30)?;
    let (algorithm, rest) = element(info, 0x30)?;
    let (identifier, _) = element(algorithm, 0x06)?;
    if identifier != RSA_ENCRYPTION {
        return None;
    }
    let (bits, _) = element(rest, 0x03)?;
    let (numbers, _) = element(bits.strip_prefix(&[0])?, 0x30)?;
    let (modulus, rest) = element(numbers, 0x02)?;
    let (exponent, _) = element(rest, 0x02)?;
    let without_sign = |number| <[u8]>::strip_prefix(number, &[0]).unwrap_or(number);
    Some(PublicKey { modulus: without_sign(modulus), exponent: without_sign(exponent) })
}

/// Splits a DER element with the tag `expected` from the bytes after it.
fn element(der: &[u8], expected: u8) -> Option<(&[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    if tag != expected {
        return None;
    }
    let (length, rest) = match first {
        0..=0x7F => (usize::from(first), rest),
        // A key that is accepted needs at most two bytes of length.
        0x81 | 0x82 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 3))?;
            (bytes.iter().fold(0, |length, byte| (length << 8) | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hex(text: &str) -> Vec<u8> {
        data_encoding::HEXLOWER.decode(text.replace([' ', '\n'], "").as_bytes()).unwrap()
    }

    /// The example of RSA's own document on OAEP (oaep-test vectors of PKCS #1 v2.1, example 1.1).
    #[test]
    fn the_published_example_is_reproduced() {
        let modulus = hex(
            "a8b3b284af8eb50b387034a860f146c4919f318763cd6c5598c8ae4811a1e0abc4c7e0b082d693a5e7fced675cf4668512772c0cbc64a742c6c630f533c8cc72
             f62ae833c40bf25842e984bb78bdbf97c0107d55bdb662f5c4e0fab9845cb5148ef7392dd3aaff93ae1e6b667bb3d4247616d4f5ba10d4cfd226de88d39f16fb",
        );
        let key = PublicKey { modulus: &modulus, exponent: &[1, 0, 1] };
        let message = hex("6628194e12073db03ba94cda9ef9532397d50dba79b987004afefe34");
        let seed: [u8; 20] = hex("18b776ea21069d69776a33e96bad48e1dda0a5ef").try_into().unwrap();
        let expected = hex(
            "354fe67b4a126d5d35fe36c777791a3f7ba13def484e2d3908aff722fad468fb21696de95d0be911c2d3174f8afcc201035f7b6d8e69402de5451618c21a535f
             a9d7bfc5b8dd9fc243f8cf927db31322d6e881eaa91a996170e657a05a266426d98c88003f8477c1227094a0d9fa1e8c4024309ce1ecccb5210035d47ac72e8a",
        );
        assert_eq!(encrypt_with(&message, &key, seed), Some(expected));
        assert_eq!(encrypt_with(&[0; 87], &key, seed), None, "the message is one byte too long");
    }

    #[test]
    fn a_key_that_no_server_has_is_refused() {
        for (modulus, exponent) in [(&[0xFF; 64][..], &[3][..]), (&[0xFE; 128], &[3]), (&[0xFF; 128], &[2]), (&[0xFF; 128], &[1])]
        {
            assert_eq!(encrypt_with(b"secret", &PublicKey { modulus, exponent }, [7; 20]), None);
        }
        assert_eq!(encrypt_with(b"secret", &PublicKey { modulus: &[0xFF; 128], exponent: &[1; 5] }, [7; 20]), None);
    }

    proptest! {
        #[test]
        fn any_key_is_parsed_or_refused(der in proptest::collection::vec(any::<u8>(), 0..80), text in "\\PC{0,80}") {
            let _ = parse(&der);
            prop_assert_eq!(encrypt(b"secret", text.as_bytes()), None);
        }
    }
}
