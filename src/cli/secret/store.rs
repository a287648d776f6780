//! The files of `credentials.secrets_dir`: one for each secret, with mode 0600.

use crate::credentials::Secret;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;
/// The permissions of all users other than the owner.
const OTHERS: u32 = 0o077;

/// The folder of the stored secrets.
pub struct SecretsFolder {
    pub path: PathBuf,
}

/// A secret in the folder.
pub struct StoredFile {
    pub name: String,
    pub modified: Option<SystemTime>,
}

impl SecretsFolder {
    /// Stores `value` so that a reader sees the old value or the new one, also after a crash. Returns whether there was one
    /// before.
    ///
    /// # Errors
    /// A message that names the folder or file that cannot be written.
    pub fn store(&self, name: &str, value: &Secret) -> Result<bool, String> {
        let path = self.path.join(name);
        let failed = |what: &Path, error: std::io::Error| Err(self.not_writable(what, &error));
        if let Err(error) = DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(&self.path) {
            return failed(&self.path, error);
        }
        if path.is_dir() {
            return Err(format!("{} is a folder; remove it first", path.display()));
        }
        let replaced = path.symlink_metadata().is_ok();
        // The name begins with a dot, which the name of a variable cannot.
        let draft = self.path.join(format!(".{name}.{}.new", std::process::id()));
        let write = || -> std::io::Result<()> {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&draft)?;
            file.write_all(value.expose().as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&draft, &path)?;
            File::open(&self.path)?.sync_all()
        };
        if let Err(error) = write() {
            let _ = std::fs::remove_file(&draft);
            return failed(&path, error);
        }
        Ok(replaced)
    }

    /// Removes a secret. Returns false if it does not exist.
    ///
    /// # Errors
    /// As [`SecretsFolder::store`].
    pub fn remove(&self, name: &str) -> Result<bool, String> {
        let path = self.path.join(name);
        match std::fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(self.not_writable(&path, &error)),
        }
    }

    /// The secrets of the folder by name. A folder that does not exist holds none.
    ///
    /// # Errors
    /// A message that says why the folder cannot be read.
    pub fn list(&self) -> Result<Vec<StoredFile>, String> {
        let entries = match std::fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(format!("the folder {} cannot be read: {error}", self.path.display())),
        };
        let file = |entry: std::fs::DirEntry| {
            let name = entry.file_name().into_string().ok()?;
            let metadata = std::fs::metadata(entry.path()).ok()?;
            let is_secret = metadata.is_file() && super::variable(&name).is_ok();
            is_secret.then(|| StoredFile { name, modified: metadata.modified().ok() })
        };
        let mut files: Vec<StoredFile> = entries.flatten().filter_map(file).collect();
        files.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(files)
    }

    /// A warning if other users can enter the folder.
    #[must_use]
    pub fn exposed(&self) -> Option<String> {
        let mode = std::fs::metadata(&self.path).ok()?.mode();
        (mode & OTHERS != 0).then(|| {
            let path = self.path.display();
            format!("other users of this machine may enter {path}; fix: chmod 700 {path}")
        })
    }

    fn not_writable(&self, what: &Path, error: &std::io::Error) -> String {
        let why = match error.kind() {
            ErrorKind::ReadOnlyFilesystem => {
                "; it is mounted read-only, so change the secret where it is mounted from, or set credentials.secrets_dir in the policy to a folder that aam may write"
            }
            ErrorKind::PermissionDenied => "; run the command as the user that runs aam serve",
            _ => "",
        };
        format!("{} cannot be written: {error}{why}", what.display())
    }
}
