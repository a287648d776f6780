//! The proof that a listener belongs to the process that holds a registry.
//!
//! A client on this machine must not send its token to whatever program happens to listen on the port. The daemon, which
//! holds the lock of its registry, writes a random key to a file beside it that only its user can read. A client that can
//! read this file sends a challenge in a header of `GET /version`; the daemon answers with an HMAC-SHA256 of the
//! challenge. The HMAC also covers the address that the client connected to, so that a program on one port cannot pass on
//! the challenge to a daemon on another one. The client then sends its token on the same connection.

use axum::http::HeaderName;
use data_encoding::HEXLOWER;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The request header with the challenge, in hex.
pub const CHALLENGE: HeaderName = HeaderName::from_static("aam-challenge");
/// The response header with the proof, in hex.
pub const PROOF: HeaderName = HeaderName::from_static("aam-proof");

const KEY_BYTES: usize = 32;
/// Separates this use of HMAC from any other.
const CONTEXT: &str = "aam listener";
/// The lengths of a challenge in hex digits.
const CHALLENGE_DIGITS: std::ops::RangeInclusive<usize> = 32..=128;

/// The key of one listener.
pub struct ListenerKey(hmac::Key);

/// Returns the path of the key file that belongs to the registry file `registry`.
#[must_use]
pub fn key_path(registry: &Path) -> PathBuf {
    let mut name = registry.as_os_str().to_owned();
    name.push(".listener-key");
    PathBuf::from(name)
}

/// Returns 32 random bytes in hex.
///
/// # Errors
/// Fails if the operating system does not provide random bytes.
pub fn random_hex() -> io::Result<String> {
    let mut bytes = [0_u8; KEY_BYTES];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| io::Error::other("could not get random bytes from the operating system"))?;
    Ok(HEXLOWER.encode(&bytes))
}

impl ListenerKey {
    /// Creates a new key and replaces the key file of `registry`. Only the process that holds the lock of the registry may
    /// call this.
    ///
    /// # Errors
    /// Fails if the file cannot be written.
    pub fn create(registry: &Path) -> io::Result<ListenerKey> {
        let path = key_path(registry);
        let draft = path.with_extension("listener-key.new");
        let text = random_hex()?;
        // What is in its place may have another mode, or be a FIFO, which would block.
        match std::fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(text.as_bytes())?;
        std::fs::rename(&draft, &path)?;
        ListenerKey::from_hex(&text).ok_or_else(|| io::Error::other("the new key is not valid"))
    }

    /// Reads the key file of `registry`.
    ///
    /// # Errors
    /// Fails if the file cannot be read, if it does not hold a key, or if another user could have read or written it.
    pub fn read(registry: &Path) -> io::Result<ListenerKey> {
        let path = key_path(registry);
        // The file may be a FIFO of another user, which would block.
        let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let metadata = file.metadata()?;
        let own = rustix::process::geteuid();
        if !metadata.is_file() || metadata.mode() & 0o077 != 0 || !(own.is_root() || metadata.uid() == own.as_raw()) {
            return Err(io::Error::other("it is not a file that only you can read and write"));
        }
        ListenerKey::from_file(file)
    }

    fn from_file(file: File) -> io::Result<ListenerKey> {
        let mut text = String::new();
        file.take(4096).read_to_string(&mut text)?;
        ListenerKey::from_hex(text.trim())
            .ok_or_else(|| io::Error::other("it does not hold a key; restart aam serve, which writes a new one"))
    }

    fn from_hex(text: &str) -> Option<ListenerKey> {
        let bytes = HEXLOWER.decode(text.as_bytes()).ok().filter(|bytes| bytes.len() == KEY_BYTES)?;
        Some(ListenerKey(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }

    /// Returns the proof for `challenge` on a connection to `local`, or `None` if the challenge is not valid.
    #[must_use]
    pub fn prove(&self, challenge: &str, local: SocketAddr) -> Option<String> {
        let valid = CHALLENGE_DIGITS.contains(&challenge.len()) && challenge.bytes().all(|byte| byte.is_ascii_hexdigit());
        valid.then(|| HEXLOWER.encode(hmac::sign(&self.0, message(challenge, local).as_bytes()).as_ref()))
    }

    /// Checks a proof in constant time. `peer` is the address that the client is connected to.
    #[must_use]
    pub fn verify(&self, challenge: &str, peer: SocketAddr, proof: &str) -> bool {
        let tag = HEXLOWER.decode(proof.as_bytes()).unwrap_or_default();
        hmac::verify(&self.0, message(challenge, peer).as_bytes(), &tag).is_ok()
    }
}

/// The text that the HMAC covers. `scripts/exec_summary.py` computes the same.
fn message(challenge: &str, address: SocketAddr) -> String {
    format!("{CONTEXT}\n{challenge}\n{}", SocketAddr::new(address.ip().to_canonical(), address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_proof_holds_for_one_challenge_one_address_and_one_key() {
        let folder = tempfile::tempdir().expect("a folder");
        let registry = folder.path().join("aam.db");
        assert!(ListenerKey::read(&registry).is_err(), "there is no key yet");
        let key = ListenerKey::create(&registry).expect("created");
        let read = ListenerKey::read(&registry).expect("read");
        let (challenge, address) = (random_hex().expect("random"), SocketAddr::from(([127, 0, 0, 1], 5000)));
        let proof = key.prove(&challenge, address).expect("a proof");
        assert!(read.verify(&challenge, address, &proof));
        let mapped: SocketAddr = "[::ffff:127.0.0.1]:5000".parse().expect("an address");
        assert!(read.verify(&challenge, mapped, &proof), "a socket for both families reports IPv4 in another form");
        for (challenge, address, proof) in [
            (random_hex().expect("random"), address, proof.clone()),
            (challenge.clone(), SocketAddr::from(([127, 0, 0, 1], 5001)), proof.clone()),
            (challenge.clone(), SocketAddr::from(([127, 0, 0, 2], 5000)), proof.clone()),
            (challenge.clone(), address, String::new()),
            (challenge.clone(), address, "00".repeat(32)),
            (challenge.clone(), address, proof.to_ascii_uppercase()),
        ] {
            assert!(!read.verify(&challenge, address, &proof), "{challenge} {address} {proof}");
        }
        assert_eq!(key.prove("short", address), None);
        assert_eq!(key.prove(&"x".repeat(64), address), None);
        ListenerKey::create(&registry).expect("created again");
        assert!(!ListenerKey::read(&registry).expect("read").verify(&challenge, address, &proof), "a start makes a new key");
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let registry = folder.path().join("aam.db");
        ListenerKey::create(&registry).expect("created");
        let path = key_path(&registry);
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        for mode in [0o640, 0o604, 0o620] {
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).expect("changed");
            assert!(ListenerKey::read(&registry).is_err(), "{mode:o}");
        }
        ListenerKey::create(&registry).expect("replaced");
        assert!(ListenerKey::read(&registry).is_ok());
        std::fs::write(&path, "not a key").expect("written");
        assert!(ListenerKey::read(&registry).is_err());
    }
}
