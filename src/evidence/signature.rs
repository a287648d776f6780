//! The key of the operator: Ed25519 (RFC 8032), in the files that `openssl genpkey -algorithm ed25519` writes.

use crate::credentials::Secret;
use crate::credentials::jwt::JwtAlgorithm;
use crate::credentials::private_key::PrivateKey;
use crate::model::Digest;
use crate::operator_file;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ED25519, UnparsedPublicKey};
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The maximum size of a key file in bytes.
const MAX_KEY_BYTES: u64 = 64 << 10;
/// What comes before the 32 bytes of the key in `SubjectPublicKeyInfo` (RFC 8410, section 4).
const PUBLIC_KEY_HEAD: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// What comes before the 32 bytes of the key in the first version of PKCS#8 (RFC 5208, RFC 8410). OpenSSL 3.0 does not read
/// the second version as ring writes it.
const PRIVATE_KEY_HEAD: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
const PUBLIC_LABEL: &str = "PUBLIC KEY";
const PRIVATE_LABEL: &str = "PRIVATE KEY";
/// The permissions of a private key that other users than its owner have.
const MODE_OF_OTHERS: u32 = 0o077;

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
    let mut seed = [0; 32];
    SystemRandom::new().fill(&mut seed).map_err(failed)?;
    let text = Secret::new(encode(PRIVATE_LABEL, &[&PRIVATE_KEY_HEAD[..], &seed].concat()));
    let key = BundleKey::parse(&text)?;
    Ok((text, key.public.to_pem()))
}

/// The files of a new key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKey {
    pub private_file: PathBuf,
    pub public_file: PathBuf,
    pub fingerprint: String,
}

/// Writes a new private key to `file`, and its public key beside it to a file whose name ends in `.pub`. Neither file may
/// exist. If one of them cannot be written, neither is left behind.
///
/// # Errors
/// Returns a message that names the file that exists already or cannot be written.
pub fn write_new_key(file: &Path) -> Result<NewKey, String> {
    let mut name = file.as_os_str().to_owned();
    name.push(".pub");
    let public_file = PathBuf::from(name);
    if let Some(existing) = [file, &public_file].into_iter().find(|path| std::fs::symlink_metadata(path).is_ok()) {
        return Err(format!("{} exists already, so no key was written; move it away or name another file", existing.display()));
    }
    let (private, public) = generate()?;
    let fingerprint = PublicKey::parse(&public).map(|key| key.fingerprint()).unwrap_or_default();
    write_new(file, 0o600, private.expose())?;
    if let Err(error) = write_new(&public_file, 0o644, &public) {
        // A private key without its public key would only be in the way of the next try.
        let _ = std::fs::remove_file(file);
        return Err(error);
    }
    Ok(NewKey { private_file: file.to_path_buf(), public_file, fingerprint })
}

/// Writes a file that must not exist, and removes it if it cannot be written in full.
fn write_new(path: &Path, mode: u32, text: &str) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("could not write {}: {error}", path.display());
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(|error| {
        let _ = std::fs::remove_file(path);
        failed(error)
    })
}

/// Warns if other users may use the private key in the file at `path`.
fn warn_of_others(path: &Path) {
    let Ok(metadata) = std::fs::metadata(path) else { return };
    let mode = metadata.mode() & 0o777;
    if mode & MODE_OF_OTHERS != 0 {
        tracing::warn!(target: "aam::evidence",
            "the private key {} has the mode {mode:04o}, so other users may be able to sign with it; run: chmod 600 {}",
            path.display(), path.display());
    }
}

impl BundleKey {
    /// Reads the private key in the file at `path`. Warns in the log if other users may use it.
    ///
    /// # Errors
    /// Returns a message with what to do if the file cannot be read or holds another kind of key.
    pub fn read(path: &Path) -> Result<BundleKey, String> {
        let text = operator_file::read_text(path, MAX_KEY_BYTES)
            .map_err(|error| format!("could not read the key {}: {error}", path.display()))?;
        let key =
            BundleKey::parse(&Secret::new(text)).map_err(|error| format!("the key {} cannot sign: {error}", path.display()))?;
        warn_of_others(path);
        Ok(key)
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

    #[test]
    fn a_key_whose_files_exist_or_cannot_be_written_leaves_nothing_behind() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("taken.pub"), "x").expect("written");
        let error = write_new_key(&path("taken")).expect_err("the public key exists");
        assert!(error.contains("taken.pub exists already") && !path("taken").exists(), "{error}");
        std::fs::write(path("old"), "x").expect("written");
        let error = write_new_key(&path("old")).expect_err("the private key exists");
        assert!(error.contains("old exists already") && !path("old.pub").exists(), "{error}");
        assert!(write_new_key(&path("absent/key")).is_err_and(|error| error.starts_with("could not write")));
        let key = write_new_key(&path("new")).expect("a key");
        assert_eq!(PublicKey::read(&key.private_file), PublicKey::read(&key.public_file));
        assert_eq!(PublicKey::read(&key.public_file).map(|public| public.fingerprint()), Ok(key.fingerprint));
        let mode = |path: &Path| std::fs::metadata(path).expect("a file").mode() & 0o777;
        assert_eq!(mode(&key.private_file), 0o600);
    }
}
