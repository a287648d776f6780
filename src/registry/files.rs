//! Notices that the files of the registry were deleted or replaced while they are open.
//!
//! SQLite writes on into a file that was deleted, and all of it is lost when the process ends. So the writer compares the
//! files at the paths with those it opened before each transaction, which costs three calls of `stat`. The daemon does it, too,
//! when it is asked whether it is ready, because it may write nothing for a long time.

use super::RegistryError;
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The files of an open registry with their device and inode: the database, its write-ahead log and its shared memory.
#[derive(Clone)]
pub(super) struct OpenFiles(Vec<(PathBuf, (u64, u64))>);

impl OpenFiles {
    /// Remembers the files of the registry at `path`, which must be open.
    ///
    /// # Errors
    /// If one of them is not there.
    pub(super) fn new(path: &Path) -> Result<OpenFiles, RegistryError> {
        let paths = ["", "-wal", "-shm"].map(|suffix| {
            let mut name = path.as_os_str().to_owned();
            name.push(suffix);
            PathBuf::from(name)
        });
        let identified = paths.into_iter().map(|path| match identity(&path) {
            Ok(identity) => Ok((path, identity)),
            Err(error) => Err(RegistryError::Io { path, error }),
        });
        Ok(OpenFiles(identified.collect::<Result<_, _>>()?))
    }

    /// Checks that the files at the paths are still the open ones.
    ///
    /// # Errors
    /// [`RegistryError::Replaced`] if one was deleted or replaced, [`RegistryError::Io`] if that cannot be found out.
    pub(super) fn check(&self) -> Result<(), RegistryError> {
        for (path, opened) in &self.0 {
            match identity(path) {
                Ok(now) if now == *opened => {}
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(RegistryError::Io { path: path.clone(), error });
                }
                _ => return Err(RegistryError::Replaced { path: path.clone() }),
            }
        }
        Ok(())
    }
}

fn identity(path: &Path) -> std::io::Result<(u64, u64)> {
    let meta = std::fs::metadata(path)?;
    Ok((meta.dev(), meta.ino()))
}

/// Refuses a folder and everything else that is not a regular file, which cannot be a registry. SQLite would wait for the other
/// end of a pipe. What does not exist is not refused.
///
/// # Errors
/// [`RegistryError::Folder`] and [`RegistryError::NotRegular`].
pub fn refuse_other(path: &Path) -> Result<(), RegistryError> {
    let kind = |path: &Path| std::fs::metadata(path).map(|found| found.file_type());
    if kind(path).is_ok_and(|kind| kind.is_dir()) {
        return Err(RegistryError::Folder { path: path.to_path_buf(), file: path.join("aam.db") });
    }
    // SQLite opens the files beside it, too.
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        let path = PathBuf::from(name);
        let what = match kind(&path) {
            Ok(kind) if kind.is_fifo() => "a named pipe",
            Ok(kind) if kind.is_socket() => "a socket",
            Ok(kind) if kind.is_dir() => "a folder",
            Ok(kind) if !kind.is_file() => "a device",
            _ => continue,
        };
        return Err(RegistryError::NotRegular { path, what });
    }
    Ok(())
}
