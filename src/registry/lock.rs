//! Ensures that only one process writes: an advisory lock on a file next to the registry, which contains the name of its
//! holder.

use super::{RegistryError, private_files};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The maximum length of the lock file that is read, in bytes.
const MAX_BYTES: u64 = 4096;

/// Opens a FIFO without waiting for its other end.
const NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();

/// The process that has the registry open for writing. The kernel releases the lock when that process ends, even if it
/// crashes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    pub pid: u32,
    pub command: String,
    pub version: String,
    /// The address that a daemon listens on. `None` for other commands, and for daemons of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<SocketAddr>,
}

impl Holder {
    /// This process, as the holder of a lock.
    fn this(command: &str, address: Option<SocketAddr>) -> Holder {
        Holder { pid: std::process::id(), command: command.to_string(), version: env!("CARGO_PKG_VERSION").to_string(), address }
    }

    /// Writes the name of the holder over what the lock file contains. The file is cut only afterwards, so that this works on a
    /// full disk, too.
    fn write(&self, file: &mut File) -> std::io::Result<()> {
        let text = serde_json::json!(self).to_string();
        file.rewind()?;
        file.write_all(text.as_bytes())?;
        file.set_len(u64::try_from(text.len()).unwrap_or(MAX_BYTES))
    }
}

/// The lock. Dropping it releases the registry.
pub struct WriterLock {
    _file: File,
}

/// Takes the lock of the registry at `registry`.
///
/// # Errors
/// [`RegistryError::Held`] with the holder, or [`RegistryError::Io`] if the lock file cannot be created.
pub fn take(registry: &Path, command: &str) -> Result<WriterLock, RegistryError> {
    let path = lock_path(registry);
    let io = |error| RegistryError::Io { path: path.clone(), error };
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(private_files::FILE_MODE);
    // Reading from a FIFO would wait for a writer.
    options.custom_flags(NONBLOCK);
    let mut file = options.open(&path).map_err(io)?;
    if !file.metadata().is_ok_and(|found| found.is_file()) {
        return Err(io(std::io::Error::other("it is not a regular file; remove it, AAM writes it anew")));
    }
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let _ = file.read_to_string(&mut text);
            let holder = serde_json::from_str::<Holder>(&text).map_or_else(
                |_| "another process".to_string(),
                |holder| format!("process {} (aam {} {})", holder.pid, holder.version, holder.command),
            );
            return Err(RegistryError::Held { path: registry.to_path_buf(), holder });
        }
        Err(TryLockError::Error(error)) => return Err(io(error)),
    }
    // The holder's name is only for messages and for finding the daemon. Errors are ignored, so that the lock works on a full
    // disk.
    let _ = Holder::this(command, None).write(&mut file);
    Ok(WriterLock { _file: file })
}

/// Adds the address that the daemon listens on to the lock of the registry, so that `aam stop` finds it. Only the process that
/// holds the lock may call this. Errors are ignored, because `--port` finds the daemon, too.
pub fn record_address(registry: &Path, command: &str, address: SocketAddr) {
    // Closing another handle of the file does not release the lock.
    let file = OpenOptions::new().write(true).custom_flags(NONBLOCK).open(lock_path(registry));
    let _ = file.and_then(|mut file| Holder::this(command, Some(address)).write(&mut file));
}

/// Returns the process that took the lock of `registry` last. It may have ended meanwhile: what listens on its address must
/// prove that it holds the registry.
#[must_use]
pub fn holder(registry: &Path) -> Option<Holder> {
    // The file may be a FIFO of another user, which would block.
    let file = OpenOptions::new().read(true).custom_flags(NONBLOCK).open(lock_path(registry)).ok()?;
    let mut text = String::new();
    file.take(MAX_BYTES).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

fn lock_path(registry: &Path) -> PathBuf {
    let mut name = registry.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_names_its_holder_and_the_address_of_the_daemon() {
        let folder = tempfile::tempdir().expect("a folder");
        let registry = folder.path().join("aam.db");
        assert_eq!(holder(&registry), None);
        let address: SocketAddr = "127.0.0.1:5000".parse().expect("an address");
        let lock = take(&registry, "serve").map_err(|error| error.to_string()).expect("the lock");
        assert_eq!(holder(&registry), Some(Holder::this("serve", None)));
        record_address(&registry, "serve", address);
        assert_eq!(holder(&registry), Some(Holder::this("serve", Some(address))));
        assert!(matches!(take(&registry, "once"), Err(RegistryError::Held { .. })), "it is still held");
        drop(lock);
        // A shorter name leaves nothing of the longer one behind.
        let _lock = take(&registry, "once").map_err(|error| error.to_string()).expect("the lock");
        assert_eq!(holder(&registry), Some(Holder::this("once", None)));
    }
}
