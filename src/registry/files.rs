//! Notices that the files of the registry were deleted or replaced while they are open.
//!
//! SQLite writes on into a file that was deleted, and all of it is lost when the process ends. So the writer compares the
//! files at the paths with those it opened before each transaction, which costs three calls of `stat`. The daemon does it, too,
//! when it is asked whether it is ready, because it may write nothing for a long time.

use super::RegistryError;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
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

/// Refuses a folder, which cannot be a registry.
///
/// # Errors
/// [`RegistryError::Folder`].
pub fn refuse_folder(path: &Path) -> Result<(), RegistryError> {
    match path.is_dir() {
        true => Err(RegistryError::Folder { path: path.to_path_buf(), file: path.join("aam.db") }),
        false => Ok(()),
    }
}
