//! Ensures that only one process writes: an advisory lock on a file next to the registry, which contains the name of its
//! holder.

use super::{RegistryError, private_files};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The process that has the registry open for writing. The kernel releases the lock when that process ends, even if it
/// crashes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    pub pid: u32,
    pub command: String,
    pub version: String,
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
    let mut file = options.open(&path).map_err(io)?;
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
    let holder = Holder { pid: std::process::id(), command: command.to_string(), version: env!("CARGO_PKG_VERSION").to_string() };
    // The holder's name is only for error messages. Errors are ignored, so that the lock works on a full disk.
    let _ = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| file.write_all(serde_json::json!(holder).to_string().as_bytes()));
    Ok(WriterLock { _file: file })
}

fn lock_path(registry: &Path) -> PathBuf {
    let mut name = registry.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}
