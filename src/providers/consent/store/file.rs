//! The consent store in a file.
//!
//! Every change takes the lock of the file, reads the file again, and replaces it as a whole: a temporary file is written,
//! synced and renamed over it. So a crash leaves either the old or the new content, and two processes never overwrite each
//! other's change. A file that cannot be understood is never replaced.

use super::super::format::{FORMAT, StoreContent};
use super::super::keys::StoreKeys;
use super::error::{ConsentPlace, StoreError};
use crate::fault;
use crate::model::ConnectionId;
use crate::operator_file;
use crate::registry::private_files::{FILE_MODE, create_folder};
use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The maximum size of the file: about 50,000 grants and links.
const MAX_STORE_BYTES: u64 = 64 << 20;
/// How long a change waits for another process that changes the file.
const MAX_LOCK_WAIT: Duration = Duration::from_secs(10);
const LOCK_INTERVAL: Duration = Duration::from_millis(20);
/// By how much the file may grow while space is reserved for its next content.
const SPARE_BYTES: u64 = 64 << 10;

/// The store at one path.
pub struct FileStore {
    path: PathBuf,
    /// The content that was read or written last, with what identifies the file that it was in.
    known: Mutex<Option<(FileMark, Arc<StoreContent>)>>,
    writes: AtomicU64,
}

/// Device, inode, size and time of the last change in nanoseconds. Each change of the store is a new file.
type FileMark = (u64, u64, u64, i64, i64);

impl FileStore {
    /// Creates the store at `path`. Nothing is read or written yet.
    #[must_use]
    pub fn new(path: &Path) -> FileStore {
        FileStore { path: path.to_path_buf(), known: Mutex::default(), writes: AtomicU64::new(0) }
    }

    /// How often this process has written the file.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    /// Returns the path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file, or returns what is known if it did not change. Returns `None` if the file does not exist.
    ///
    /// # Errors
    /// Returns `Damaged` or `Io`.
    pub fn read(&self) -> Result<Option<Arc<StoreContent>>, StoreError> {
        let Some(mark) = self.mark()? else { return Ok(None) };
        if let Some((known, content)) = &*self.known()
            && *known == mark
        {
            return Ok(Some(Arc::clone(content)));
        }
        self.read_file()
    }

    /// Reads the file, even if it seems not to have changed.
    ///
    /// # Errors
    /// As [`FileStore::read`].
    pub fn read_file(&self) -> Result<Option<Arc<StoreContent>>, StoreError> {
        let Some(mark) = self.mark()? else { return Ok(None) };
        let bytes = match operator_file::read(&self.path, MAX_STORE_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.io("read", error)),
        };
        let content = Arc::new(self.parse(&bytes)?);
        // If the file was replaced between the two calls, the mark is older than the content, and the file is read again.
        *self.known() = Some((mark, Arc::clone(&content)));
        Ok(Some(content))
    }

    fn parse(&self, bytes: &[u8]) -> Result<StoreContent, StoreError> {
        let damaged = |reason: String| StoreError::Damaged { place: self.place(), reason };
        if bytes.is_empty() {
            return Err(damaged("the file is empty".to_string()));
        }
        let format = serde_json::from_slice::<serde_json::Value>(bytes)
            .map_err(|error| damaged(format!("it is not valid JSON (line {}, column {})", error.line(), error.column())))?
            .get("format")
            .and_then(serde_json::Value::as_u64);
        if format != Some(u64::from(FORMAT)) {
            return Err(damaged(format!("this version of aam reads the format {FORMAT}, and the file has another one")));
        }
        // The message of the parser could repeat a part of the file.
        serde_json::from_slice(bytes).map_err(|_| damaged("a part of it is missing or has another form".to_string()))
    }

    /// Changes the file, if it was written with `keys`. Writes into `spare` if there is one. See [`super::Store::update`].
    ///
    /// # Errors
    /// Returns the error of `change` or of the file.
    pub fn update<T>(
        &self,
        keys: &StoreKeys,
        spare: Option<&Path>,
        change: impl FnOnce(&mut StoreContent, &StoreKeys) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let _lock = self.lock()?;
        let mut content = match self.read_file()? {
            Some(content) if !content.fits(keys) => return Err(StoreError::WrongKey { place: self.place() }),
            Some(content) => StoreContent::clone(&content),
            None => StoreContent::new(keys)?,
        };
        content.changed = false;
        let result = change(&mut content, keys)?;
        if content.changed {
            self.write(content, spare)?;
            self.writes.fetch_add(1, Ordering::Relaxed);
        }
        Ok(result)
    }

    /// Removes from the file. Does nothing if it does not exist.
    ///
    /// # Errors
    /// Returns the error of the file.
    pub fn remove(&self, change: impl FnOnce(&mut StoreContent)) -> Result<(), StoreError> {
        let _lock = self.lock()?;
        let Some(content) = self.read_file()? else { return Ok(()) };
        let mut content = StoreContent::clone(&content);
        content.changed = false;
        change(&mut content);
        if content.changed { self.write(content, None) } else { Ok(()) }
    }

    /// Reserves space on the disk. See [`super::Store::reserve`].
    ///
    /// # Errors
    /// Returns `Io` if the disk is full.
    pub fn reserve(&self, connection: ConnectionId) -> Result<PathBuf, StoreError> {
        let path = self.locks().join(format!("{connection}.spare"));
        let size = self.mark()?.map_or(0, |mark| mark.2) + SPARE_BYTES;
        let reserved = open_private(&path).and_then(|file| {
            match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, size) {
                // The file system cannot reserve space.
                Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) | Ok(()) => Ok(()),
                Err(error) => Err(io::Error::from(error)),
            }
        });
        reserved.map(|()| path).map_err(|error| self.io("reserve space for", error))
    }

    /// Waits until no other task and no other process refreshes the grant of `connection`.
    ///
    /// # Errors
    /// Returns `Locked` after `max_wait`, and `Io` if the lock file cannot be created.
    pub async fn lock_grant(&self, connection: ConnectionId, max_wait: Duration) -> Result<File, StoreError> {
        let path = self.locks().join(format!("{connection}.lock"));
        create_folder(&self.locks()).map_err(|error| self.io("lock", error))?;
        let file = open_private(&path).map_err(|error| self.io("lock", error))?;
        let started = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::Error(error)) => return Err(self.io("lock", error)),
                Err(TryLockError::WouldBlock) if started.elapsed() < max_wait => {
                    tokio::time::sleep(LOCK_INTERVAL).await;
                }
                Err(TryLockError::WouldBlock) => return Err(StoreError::Locked { path, waited: max_wait }),
            }
        }
    }

    fn lock(&self) -> Result<File, StoreError> {
        let folder = self.folder();
        create_folder(&folder).map_err(|error| self.io("create the folder of", error))?;
        let path = self.beside(".lock");
        let file = open_private(&path).map_err(|error| self.io("lock", error))?;
        let started = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::Error(error)) => return Err(self.io("lock", error)),
                Err(TryLockError::WouldBlock) if started.elapsed() < MAX_LOCK_WAIT => std::thread::sleep(LOCK_INTERVAL / 10),
                Err(TryLockError::WouldBlock) => return Err(StoreError::Locked { path, waited: MAX_LOCK_WAIT }),
            }
        }
    }

    /// Replaces the file.
    fn write(&self, content: StoreContent, spare: Option<&Path>) -> Result<(), StoreError> {
        let draft = spare.map_or_else(|| self.beside(".new"), Path::to_path_buf);
        let written = serde_json::to_vec(&content).map_err(io::Error::other).and_then(|bytes| self.replace(&draft, &bytes));
        if let Err(error) = written {
            // A part of a file is of no use and takes space. The space of a spare file stays reserved for the next try.
            if spare.is_none() {
                let _ = std::fs::remove_file(&draft);
            }
            return Err(self.io("write", error));
        }
        *self.known() = self.mark().ok().flatten().map(|mark| (mark, Arc::new(content)));
        Ok(())
    }

    fn replace(&self, draft: &Path, bytes: &[u8]) -> io::Result<()> {
        fault::boundary("consent_before_write");
        let mut file = open_private(draft)?;
        file.write_all(bytes)?;
        file.set_len(bytes.len() as u64)?;
        file.sync_all()?;
        fault::boundary("consent_before_rename");
        std::fs::rename(draft, &self.path)?;
        fault::boundary("consent_after_rename");
        File::open(self.folder())?.sync_all()
    }

    fn mark(&self) -> Result<Option<FileMark>, StoreError> {
        match std::fs::metadata(&self.path) {
            Ok(data) => Ok(Some((data.dev(), data.ino(), data.size(), data.mtime(), data.mtime_nsec()))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.io("read", error)),
        }
    }

    fn known(&self) -> MutexGuard<'_, Option<(FileMark, Arc<StoreContent>)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn folder(&self) -> PathBuf {
        match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
            _ => PathBuf::from("."),
        }
    }

    /// The folder with the locks of the grants.
    fn locks(&self) -> PathBuf {
        self.beside(".locks")
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    }

    fn place(&self) -> ConsentPlace {
        ConsentPlace::File(self.path.clone())
    }

    /// The error for an operation on the file that failed.
    pub fn io(&self, action: &'static str, error: io::Error) -> StoreError {
        StoreError::Io { path: self.path.clone(), action, error }
    }
}

/// Opens or creates a file that only its owner can read. A symbolic link is not followed.
fn open_private(path: &Path) -> io::Result<File> {
    let flags = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits().cast_signed();
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(FILE_MODE).custom_flags(flags).open(path)?;
    // A file that exists is opened with the mode that it has.
    if file.metadata()?.mode() & 0o777 != FILE_MODE {
        file.set_permissions(Permissions::from_mode(FILE_MODE))?;
    }
    Ok(file)
}
