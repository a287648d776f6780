//! The file of the consent store.
//!
//! Every change takes the lock of the file, reads the file again, and replaces it as a whole: a temporary file is written,
//! synced and renamed over it. So a crash leaves either the old or the new content, and two processes never overwrite each
//! other's change. A file that cannot be understood is never replaced.

use super::format::{FORMAT, StoreContent};
use super::keys::{NoRandomness, StoreKeys};
use super::link_queue::LinkQueue;
use crate::fault;
use crate::model::{Class, ConnectionId, Failure};
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
/// How long a refresh waits for another process that refreshes the same grant: longer than a token endpoint may take.
const MAX_GRANT_LOCK_WAIT: Duration = Duration::from_secs(60);
const LOCK_INTERVAL: Duration = Duration::from_millis(20);
/// By how much the file may grow while space is reserved for its next content.
const SPARE_BYTES: u64 = 64 << 10;

/// Why the store cannot be used. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the consent store {path} is damaged: {reason}")]
    Damaged { path: PathBuf, reason: String },
    #[error("the consent store {path} was written with another key")]
    WrongKey { path: PathBuf },
    #[error("could not {action} the consent store {path}: {error}")]
    Io { path: PathBuf, action: &'static str, error: io::Error },
    #[error("another process of aam has locked {path} for more than {} s", .waited.as_secs())]
    Locked { path: PathBuf, waited: Duration },
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

impl StoreError {
    /// What to do.
    #[must_use]
    pub fn fix(&self) -> String {
        match self {
            StoreError::Damaged { path, .. } => format!(
                "restore {0} from a backup; or move it away (mv {0} {0}.damaged), and every consent must be given again; AAM does not change the file",
                path.display()
            ),
            StoreError::WrongKey { path } => format!(
                "put the earlier key back where credentials.consent_store.key names it; or move {0} away (mv {0} {0}.old), and every consent must be given again; AAM does not change the file",
                path.display()
            ),
            StoreError::Io { path, .. } => format!(
                "make sure that the disk has free space and that the user of aam can write {}; credentials.consent_store.file names another place",
                path.display()
            ),
            StoreError::Locked { path, .. } => format!("see which process holds it: fuser {}", path.display()),
            StoreError::NoRandomness(_) => "check that /dev/urandom can be read".to_string(),
        }
    }

    /// Returns an equal error.
    #[must_use]
    pub fn copy(&self) -> StoreError {
        match self {
            StoreError::Damaged { path, reason } => StoreError::Damaged { path: path.clone(), reason: reason.clone() },
            StoreError::WrongKey { path } => StoreError::WrongKey { path: path.clone() },
            StoreError::Io { path, action, error } => {
                StoreError::Io { path: path.clone(), action, error: io::Error::new(error.kind(), error.to_string()) }
            }
            StoreError::Locked { path, waited } => StoreError::Locked { path: path.clone(), waited: *waited },
            StoreError::NoRandomness(error) => StoreError::NoRandomness(*error),
        }
    }

    /// The failure of an attempt that needs the store.
    #[must_use]
    pub fn failure(&self) -> Failure {
        match self {
            // This says nothing about the connection, so it keeps its state.
            StoreError::Locked { waited, .. } => Failure::new(Class::Throttled, self.to_string(), self.fix()).after(*waited),
            _ => Failure::new(Class::CredentialMissing, self.to_string(), self.fix()),
        }
    }
}

/// The store at one path.
pub struct Store {
    path: PathBuf,
    /// The content that was read or written last, with what identifies the file that it was in.
    known: Mutex<Option<(FileMark, Arc<StoreContent>)>>,
    /// How often this process has written the file.
    writes: AtomicU64,
    /// The links that wait for the next write.
    pub(super) queue: Mutex<LinkQueue>,
}

/// Device, inode, size and time of the last change in nanoseconds. Each change of the store is a new file.
type FileMark = (u64, u64, u64, i64, i64);

/// The lock of one grant across processes. Dropping it releases the lock, and so does the end of the process.
pub struct GrantLock {
    _file: File,
}

impl Store {
    /// Creates the store at `path`. Nothing is read or written yet.
    #[must_use]
    pub fn new(path: &Path) -> Arc<Store> {
        Arc::new(Store { path: path.to_path_buf(), known: Mutex::default(), writes: AtomicU64::new(0), queue: Mutex::default() })
    }

    /// Whether this process has written the file.
    #[must_use]
    pub fn is_written(&self) -> bool {
        self.writes() > 0
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

    /// Reads the file, or returns what is known if it did not change. Returns `None` if there is no file.
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
    /// As [`Store::read`].
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
        let damaged = |reason: String| StoreError::Damaged { path: self.path.clone(), reason };
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

    /// Changes the store: `change` gets the current content and may return an error, after which nothing is written. The
    /// change is on disk when this returns. It runs to its end even if the caller stops waiting.
    ///
    /// # Errors
    /// Returns the error of `change` or of the file.
    pub async fn update<T: Send + 'static>(
        self: &Arc<Store>,
        keys: &Arc<StoreKeys>,
        change: impl FnOnce(&mut StoreContent, &StoreKeys) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.update_from(keys, None, change).await
    }

    /// As [`Store::update`], but writes into `spare`, whose space [`Store::reserve`] has reserved.
    ///
    /// # Errors
    /// As [`Store::update`].
    pub async fn update_from<T: Send + 'static>(
        self: &Arc<Store>,
        keys: &Arc<StoreKeys>,
        spare: Option<PathBuf>,
        change: impl FnOnce(&mut StoreContent, &StoreKeys) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (store, keys) = (Arc::clone(self), Arc::clone(keys));
        self.blocking(move || {
            let _lock = store.lock()?;
            let mut content = match store.read_file()? {
                Some(content) if !content.fits(&keys) => return Err(StoreError::WrongKey { path: store.path.clone() }),
                Some(content) => StoreContent::clone(&content),
                None => StoreContent::new(&keys)?,
            };
            content.changed = false;
            let result = change(&mut content, &keys)?;
            if content.changed {
                store.write(content, spare.as_deref())?;
                store.writes.fetch_add(1, Ordering::Relaxed);
            }
            Ok(result)
        })
        .await
    }

    /// Removes from the store, which needs no key. Does nothing if there is no file.
    ///
    /// # Errors
    /// Returns the error of the file.
    pub async fn remove(self: &Arc<Store>, change: impl FnOnce(&mut StoreContent) + Send + 'static) -> Result<(), StoreError> {
        let store = Arc::clone(self);
        self.blocking(move || {
            let _lock = store.lock()?;
            let Some(content) = store.read_file()? else { return Ok(()) };
            let mut content = StoreContent::clone(&content);
            content.changed = false;
            change(&mut content);
            if content.changed { store.write(content, None) } else { Ok(()) }
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        match tokio::task::spawn_blocking(work).await {
            Ok(result) => result,
            Err(error) => Err(self.io("change", io::Error::other(error.to_string()))),
        }
    }

    /// Reserves space on the disk for the next content of the store, so that what a vendor is about to send can be stored
    /// even if the disk becomes full meanwhile. Returns the path of the reserved file.
    ///
    /// # Errors
    /// Returns `Io` if the disk is full.
    pub async fn reserve(self: &Arc<Store>, connection: ConnectionId) -> Result<PathBuf, StoreError> {
        let store = Arc::clone(self);
        self.blocking(move || {
            let path = store.locks().join(format!("{connection}.spare"));
            let size = store.mark()?.map_or(0, |mark| mark.2) + SPARE_BYTES;
            let reserved = open_private(&path).and_then(|file| {
                match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, size) {
                    // The file system cannot reserve space.
                    Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) | Ok(()) => Ok(()),
                    Err(error) => Err(io::Error::from(error)),
                }
            });
            reserved.map(|()| path).map_err(|error| store.io("reserve space for", error))
        })
        .await
    }

    /// Waits until no other task and no other process refreshes the grant of `connection`.
    ///
    /// # Errors
    /// Returns `Locked` after a minute, and `Io` if the lock file cannot be created.
    pub async fn lock_grant(&self, connection: ConnectionId) -> Result<GrantLock, StoreError> {
        let path = self.locks().join(format!("{connection}.lock"));
        create_folder(&self.locks()).map_err(|error| self.io("lock", error))?;
        let file = open_private(&path).map_err(|error| self.io("lock", error))?;
        let started = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(GrantLock { _file: file }),
                Err(TryLockError::Error(error)) => return Err(self.io("lock", error)),
                Err(TryLockError::WouldBlock) if started.elapsed() < MAX_GRANT_LOCK_WAIT => {
                    tokio::time::sleep(LOCK_INTERVAL).await;
                }
                Err(TryLockError::WouldBlock) => return Err(StoreError::Locked { path, waited: MAX_GRANT_LOCK_WAIT }),
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

    fn io(&self, action: &'static str, error: io::Error) -> StoreError {
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
