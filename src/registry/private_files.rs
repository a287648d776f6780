//! Creates the files of the registry so that only their owner can read them: they name every system, owner and locator.

use std::fs::{DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// The mode of new files.
pub const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;
/// The permission of all other users to read a file.
const READABLE_BY_OTHERS: u32 = 0o004;

/// Creates `folder` and the folders above it that are missing. Folders that exist are not changed.
pub fn create_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder)
}

/// Creates an empty file for the database if it does not exist. SQLite gives the write-ahead log and its index the same
/// mode as the database.
pub fn create_database(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            warn_if_readable(path);
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Logs a warning if all users of this machine can read the registry.
fn warn_if_readable(path: &Path) {
    if std::fs::metadata(path).is_ok_and(|metadata| metadata.mode() & READABLE_BY_OTHERS != 0) {
        let path = path.display();
        tracing::warn!(target: "aam::registry", %path, "every user of this machine can read the registry; fix: chmod o= {path} {path}-wal {path}-shm {path}.lock");
    }
}
