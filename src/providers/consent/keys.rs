//! The keys of the consent store, and what they do: grants are encrypted, links are signed.

use crate::credentials::Secret;
use data_encoding::{BASE64, BASE64_NOPAD, BASE64URL, BASE64URL_NOPAD, HEXLOWER_PERMISSIVE};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

/// The length of the key that the policy names, in bytes.
pub const KEY_BYTES: usize = 32;
/// The length of a signature in a link, in bytes.
pub const TAG_BYTES: usize = 16;

/// The keys that are derived from the key of the policy.
pub struct StoreKeys {
    seal: LessSafeKey,
    sign: hmac::Key,
}

/// The operating system gave no random bytes, or a cipher failed. Neither happens on a working machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the operating system does not provide random bytes")]
pub struct NoRandomness;

impl StoreKeys {
    /// Derives the keys from the text that a locator resolved to. Returns `None` if it is not 32 bytes in base64 or
    /// hexadecimal.
    ///
    /// A passphrase is not accepted. A copy of the file could be attacked offline, and every passphrase that a person
    /// remembers would be found.
    #[must_use]
    pub fn parse(text: &Secret) -> Option<StoreKeys> {
        let text = text.expose().trim();
        let decoders = [&HEXLOWER_PERMISSIVE, &BASE64, &BASE64_NOPAD, &BASE64URL, &BASE64URL_NOPAD];
        let decoded = decoders.iter().find_map(|decoder| {
            let bytes = Zeroizing::new(decoder.decode(text.as_bytes()).ok()?);
            (bytes.len() == KEY_BYTES).then_some(bytes)
        })?;
        // The key is random, so no salt is needed (RFC 5869, section 3.1).
        let root = Salt::new(HKDF_SHA256, &[]).extract(&decoded);
        let mut seal = Zeroizing::new([0; KEY_BYTES]);
        root.expand(&[b"aam consent store: encryption"], HKDF_SHA256).ok()?.fill(seal.as_mut()).ok()?;
        let mut sign = Zeroizing::new([0; KEY_BYTES]);
        root.expand(&[b"aam consent store: links"], HKDF_SHA256).ok()?.fill(sign.as_mut()).ok()?;
        Some(StoreKeys {
            seal: LessSafeKey::new(UnboundKey::new(&AES_256_GCM, seal.as_ref()).ok()?),
            sign: hmac::Key::new(hmac::HMAC_SHA256, sign.as_ref()),
        })
    }

    /// Encrypts `plain` with a fresh nonce and binds it to `about`. Returns nonce and ciphertext in base64.
    ///
    /// # Errors
    /// Returns [`NoRandomness`].
    pub fn seal(&self, about: &[u8], plain: &[u8]) -> Result<String, NoRandomness> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| NoRandomness)?;
        // The plain text is overwritten in place.
        let mut sealed = plain.to_vec();
        let tag = self
            .seal
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(about), &mut sealed)
            .map_err(|_| NoRandomness)?;
        Ok(BASE64.encode(&[&nonce, sealed.as_slice(), tag.as_ref()].concat()))
    }

    /// Decrypts what [`StoreKeys::seal`] returned for the same `about`. Returns `None` if key, `about` or text are others.
    #[must_use]
    pub fn open(&self, about: &[u8], sealed: &str) -> Option<Zeroizing<Vec<u8>>> {
        let mut bytes = Zeroizing::new(BASE64.decode(sealed.as_bytes()).ok()?);
        let (nonce, text) = bytes.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let plain = self.seal.open_in_place(nonce, Aad::from(about), text).ok()?;
        Some(Zeroizing::new(plain.to_vec()))
    }

    /// Signs `text`.
    #[must_use]
    pub fn sign(&self, text: &[u8]) -> [u8; TAG_BYTES] {
        let mut tag = [0; TAG_BYTES];
        for (byte, signed) in tag.iter_mut().zip(hmac::sign(&self.sign, text).as_ref()) {
            *byte = *signed;
        }
        tag
    }
}

/// Returns `N` random bytes.
///
/// # Errors
/// Returns [`NoRandomness`].
pub fn random<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(bytes)
}

/// Returns 256 random bits in base64url.
///
/// # Errors
/// Returns [`NoRandomness`].
pub fn random_text() -> Result<String, NoRandomness> {
    Ok(BASE64URL_NOPAD.encode(&random::<32>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(byte: u8) -> StoreKeys {
        StoreKeys::parse(&Secret::new(BASE64.encode(&[byte; 32]))).unwrap()
    }

    #[test]
    fn a_key_is_32_bytes_in_base64_or_hexadecimal() {
        let bytes = [0xfb; 32];
        let about = b"about";
        let sealed = keys(0xfb).seal(about, b"secret").unwrap();
        for text in [
            BASE64.encode(&bytes),
            BASE64_NOPAD.encode(&bytes),
            BASE64URL.encode(&bytes),
            BASE64URL_NOPAD.encode(&bytes),
            HEXLOWER_PERMISSIVE.encode(&bytes),
            HEXLOWER_PERMISSIVE.encode(&bytes).to_uppercase() + "\n",
        ] {
            let keys = StoreKeys::parse(&Secret::new(text.clone())).unwrap();
            assert_eq!(keys.open(about, &sealed).unwrap().as_slice(), b"secret", "{text}");
        }
        for text in ["", "correct horse battery staple", &BASE64.encode(&[1; 31]), &BASE64.encode(&[1; 33])] {
            assert!(StoreKeys::parse(&Secret::new(text.to_string())).is_none(), "{text}");
        }
    }

    #[test]
    fn another_key_another_subject_or_another_byte_opens_nothing() {
        let sealed = keys(1).seal(b"a", b"secret").unwrap();
        assert!(keys(1).open(b"a", &sealed).is_some());
        assert!(keys(2).open(b"a", &sealed).is_none());
        assert!(keys(1).open(b"b", &sealed).is_none());
        let bytes = BASE64.decode(sealed.as_bytes()).unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(keys(1).open(b"a", &BASE64.encode(&changed)).is_none(), "byte {at}");
        }
        assert!(keys(1).open(b"a", "").is_none() && keys(1).open(b"a", "AAAA").is_none());
    }

    #[test]
    fn no_nonce_is_used_twice_and_a_signature_depends_on_the_key() {
        let nonce = |sealed: String| BASE64.decode(sealed.as_bytes()).unwrap()[..NONCE_LEN].to_vec();
        let seal = || nonce(keys(1).seal(b"a", b"secret").unwrap());
        assert_ne!(seal(), seal());
        assert_ne!(keys(1).sign(b"a"), keys(2).sign(b"a"));
    }
}
