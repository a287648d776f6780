//! The consent store: a file of one machine or, if the registry is in PostgreSQL, tables of its database that all replicas share.
//!
//! Both places have the same content, and the same rules: a change sees the newest content and is stored as a whole or not at all,
//! two processes never overwrite each other's change, and what cannot be understood is never replaced.

mod database;
mod error;
mod file;
mod rows;

use super::format::StoreContent;
use super::keys::StoreKeys;
use super::link_queue::LinkQueue;
use crate::model::ConnectionId;
use crate::registry::consents::{ConsentCopy, ConsentTables};
use database::{DatabaseLock, DatabaseStore};
pub use error::{ConsentPlace, StoreError};
use file::FileStore;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long a refresh waits for another process that refreshes the same grant: longer than a token endpoint may take.
const MAX_GRANT_LOCK_WAIT: Duration = Duration::from_secs(60);

/// The store at one place.
pub struct Store {
    medium: Medium,
    /// The links that wait for the next write.
    pub(super) queue: Mutex<LinkQueue>,
}

enum Medium {
    File(Arc<FileStore>),
    Database(Arc<DatabaseStore>),
}

/// The lock of the grants of one connection across processes. Dropping it releases the lock, and so does the end of the process: at
/// once for a file, and after two minutes in a database.
pub enum GrantLock {
    File { _file: File },
    Database(DatabaseLock),
}

impl GrantLock {
    /// Whether no other process has taken the lock since. It is extended.
    ///
    /// # Errors
    /// Returns `Database`.
    pub async fn is_held(&self) -> Result<bool, StoreError> {
        match self {
            GrantLock::File { .. } => Ok(true),
            GrantLock::Database(lock) => lock.is_held().await,
        }
    }
}

/// Reads the consent store in the file at `path`, to be copied into a database. It is empty if the file does not exist.
///
/// # Errors
/// What is wrong with the file, and what to do.
pub fn copy_of_file(path: &Path) -> Result<ConsentCopy, String> {
    match FileStore::new(path).read_file() {
        Ok(content) => Ok(content.map(|content| rows::copy(&content)).unwrap_or_default()),
        Err(error) => Err(format!("{error}; fix: {}", error.fix())),
    }
}

impl Store {
    /// Creates the store in the file at `path`. Nothing is read or written yet.
    #[must_use]
    pub fn new(path: &Path) -> Arc<Store> {
        Arc::new(Store { medium: Medium::File(Arc::new(FileStore::new(path))), queue: Mutex::default() })
    }

    /// Creates the store in the tables of a database. Nothing is read or written yet.
    #[must_use]
    pub fn in_database(tables: ConsentTables) -> Arc<Store> {
        Arc::new(Store { medium: Medium::Database(Arc::new(DatabaseStore::new(tables))), queue: Mutex::default() })
    }

    /// Whether other replicas use the store.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        matches!(self.medium, Medium::Database(_))
    }

    /// Whether this process has written the store.
    #[must_use]
    pub fn is_written(&self) -> bool {
        self.writes() > 0
    }

    /// How often this process has written the store.
    #[must_use]
    pub fn writes(&self) -> u64 {
        match &self.medium {
            Medium::File(file) => file.writes(),
            Medium::Database(database) => database.writes(),
        }
    }

    /// Returns where the store is.
    #[must_use]
    pub fn place(&self) -> ConsentPlace {
        match &self.medium {
            Medium::File(file) => ConsentPlace::File(file.path().to_path_buf()),
            Medium::Database(database) => database.place(),
        }
    }

    /// The error for another key than the one of the store.
    #[must_use]
    pub fn wrong_key(&self) -> StoreError {
        StoreError::WrongKey { place: self.place() }
    }

    /// Reads the store, or returns what is known if it did not change. Returns `None` if nothing was stored yet.
    ///
    /// # Errors
    /// Returns `Damaged`, `Io` or `Database`.
    pub async fn read(&self) -> Result<Option<Arc<StoreContent>>, StoreError> {
        match &self.medium {
            Medium::File(file) => file.read(),
            Medium::Database(database) => database.run(DatabaseStore::read).await,
        }
    }

    /// Reads the store, even if its file seems not to have changed. The version in a database always tells.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub async fn read_again(&self) -> Result<Option<Arc<StoreContent>>, StoreError> {
        match &self.medium {
            Medium::File(file) => file.read_file(),
            Medium::Database(database) => database.run(DatabaseStore::read).await,
        }
    }

    /// Changes the store: `change` gets the current content and may return an error, after which nothing is written. The
    /// change is on disk when this returns. It runs to its end even if the caller stops waiting.
    ///
    /// # Errors
    /// Returns the error of `change` or of the store.
    pub async fn update<T: Send + 'static>(
        &self,
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
        &self,
        keys: &Arc<StoreKeys>,
        spare: Option<PathBuf>,
        change: impl FnOnce(&mut StoreContent, &StoreKeys) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let keys = Arc::clone(keys);
        match &self.medium {
            Medium::File(file) => on_file(file, move |file| file.update(&keys, spare.as_deref(), change)).await,
            Medium::Database(database) => database.run(move |database| database.update(&keys, change)).await,
        }
    }

    /// Removes from the store, which needs no key. Does nothing if nothing was stored yet.
    ///
    /// # Errors
    /// Returns the error of the store.
    pub async fn remove(&self, change: impl FnOnce(&mut StoreContent) + Send + 'static) -> Result<(), StoreError> {
        match &self.medium {
            Medium::File(file) => on_file(file, move |file| file.remove(change)).await,
            Medium::Database(database) => database.run(move |database| database.remove(change)).await,
        }
    }

    /// Reserves space on the disk for the next content of the store, so that what a vendor is about to send can be stored
    /// even if the disk becomes full meanwhile. Returns the path of the reserved file.
    ///
    /// A database cannot reserve space for one of its clients. There, the write before the token is sent fails if the disk is full,
    /// and it needs as much space as the next one.
    ///
    /// # Errors
    /// Returns `Io` if the disk is full.
    pub async fn reserve(&self, connection: ConnectionId) -> Result<Option<PathBuf>, StoreError> {
        match &self.medium {
            Medium::File(file) => on_file(file, move |file| file.reserve(connection).map(Some)).await,
            Medium::Database(_) => Ok(None),
        }
    }

    /// Waits until no other task and no other process refreshes the grants of `connection`.
    ///
    /// # Errors
    /// Returns `Locked` or `Refreshing` after a minute, `Io` if the lock file cannot be created, and `Database`.
    pub async fn lock_grant(&self, connection: ConnectionId) -> Result<GrantLock, StoreError> {
        match &self.medium {
            Medium::File(file) => {
                file.lock_grant(connection, MAX_GRANT_LOCK_WAIT).await.map(|file| GrantLock::File { _file: file })
            }
            Medium::Database(database) => database.lock_grant(connection, MAX_GRANT_LOCK_WAIT).await.map(GrantLock::Database),
        }
    }

    /// Waits until the locks that were dropped are released, because the process ends.
    pub async fn released(&self) {
        if let Medium::Database(database) = &self.medium {
            database.released().await;
        }
    }

    /// The error for a change that did not run to its end.
    #[must_use]
    pub fn interrupted(&self) -> StoreError {
        const WHY: &str = "the write was interrupted";
        match &self.medium {
            Medium::File(file) => file.io("write", io::Error::other(WHY)),
            Medium::Database(database) => database.error(WHY),
        }
    }
}

/// Runs `work` on a thread that may wait for the disk. It runs to its end even if the caller stops waiting.
async fn on_file<T: Send + 'static>(
    file: &Arc<FileStore>,
    work: impl FnOnce(&FileStore) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let of_task = Arc::clone(file);
    match tokio::task::spawn_blocking(move || work(&of_task)).await {
        Ok(result) => result,
        Err(error) => Err(file.io("change", io::Error::other(error.to_string()))),
    }
}

#[cfg(test)]
pub mod test_places {
    use super::*;
    use crate::registry::tests::rig::Rig;

    /// A store in a file and, if the tests have a server, one in a database, each with what it is kept in.
    pub fn all() -> Vec<(Rig, Arc<Store>)> {
        let (file, database) = (Rig::of_file(), Rig::new());
        let store = Store::new(&file.dir.path().join("consents.json"));
        let mut all = vec![(file, store)];
        if let Some(tables) = ConsentTables::new(database.location()) {
            all.push((database, Store::in_database(tables)));
        }
        all
    }

    /// The same store, as another process has it.
    pub fn elsewhere(rig: &Rig, store: &Store) -> Arc<Store> {
        match store.place() {
            ConsentPlace::File(path) => Store::new(&path),
            ConsentPlace::Database(_) => Store::in_database(ConsentTables::new(rig.location()).expect("a database")),
        }
    }
}
