//! The consent store in a registry in PostgreSQL, which several replicas share.
//!
//! A change locks the one row that stands for the whole store, applies what other replicas changed, and writes the grants and links
//! that differ. What was read is kept with its version, so a read that finds nothing new is one small query.

use super::super::format::StoreContent;
use super::super::keys::StoreKeys;
use super::error::{ConsentPlace, StoreError};
use super::rows;
use crate::fault;
use crate::model::ConnectionId;
use crate::registry::RegistryError;
use crate::registry::consents::{ConsentChanges, ConsentHead, ConsentTables, MAX_CONSENT_SESSIONS};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, oneshot, watch};

/// How long a lock of a grant lasts without being renewed: longer than a token endpoint and a failover of the database may take
/// together. After that another replica takes the lock and finds that the refresh token was sent and its answer is lost.
const GRANT_LEASE: Duration = Duration::from_secs(120);
const GRANT_RENEWAL: Duration = Duration::from_secs(20);
const LOCK_INTERVAL: Duration = Duration::from_millis(100);
/// How long the process waits at its end until its locks are given back.
const MAX_RELEASE_WAIT: Duration = Duration::from_secs(5);

/// The store in one database.
pub struct DatabaseStore {
    tables: ConsentTables,
    known: Mutex<Option<Known>>,
    /// Limits the sessions.
    permits: Arc<Semaphore>,
    writes: AtomicU64,
    /// The number of locks that are not given back yet.
    locks: watch::Sender<usize>,
}

/// What was read or written last.
#[derive(Clone)]
struct Known {
    /// The number of lost sessions at that time. After another one, the database may lack what it had.
    losses: u64,
    head: ConsentHead,
    content: Option<Arc<StoreContent>>,
}

/// The lock of a grant. It is renewed until it is dropped.
pub struct DatabaseLock {
    store: Arc<DatabaseStore>,
    connection: String,
    holder: String,
    /// Tells the task that renews the lock that it was dropped.
    _dropped: oneshot::Sender<()>,
}

impl DatabaseStore {
    /// Uses `tables`. Nothing is read or written yet.
    #[must_use]
    pub fn new(tables: ConsentTables) -> DatabaseStore {
        DatabaseStore {
            tables,
            known: Mutex::default(),
            permits: Arc::new(Semaphore::new(MAX_CONSENT_SESSIONS)),
            writes: AtomicU64::new(0),
            locks: watch::Sender::new(0),
        }
    }

    /// How often this process has changed the store.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    /// Where the store is.
    #[must_use]
    pub fn place(&self) -> ConsentPlace {
        ConsentPlace::Database(self.tables.name().to_string())
    }

    /// Runs `work` on a thread that may wait for the database. Once it has begun, it runs to its end.
    ///
    /// # Errors
    /// Returns the error of `work`.
    pub async fn run<T: Send + 'static>(
        self: &Arc<DatabaseStore>,
        work: impl FnOnce(&DatabaseStore) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = Arc::clone(self);
        let stopping = |error: &dyn std::fmt::Display| self.error(&error.to_string());
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|error| stopping(&error))?;
        let task = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work(&store)
        });
        task.await.map_err(|error| stopping(&error))?
    }

    /// Reads what is new. Returns `None` if nothing was stored yet.
    ///
    /// # Errors
    /// Returns `Damaged` or `Database`.
    pub fn read(&self) -> Result<Option<Arc<StoreContent>>, StoreError> {
        let losses = self.tables.losses();
        let known = self.known_at(losses);
        let changes = self.tables.changes_since(known.as_ref().map(|known| &known.head)).map_err(|error| self.failed(&error))?;
        if known.is_some() && self.tables.losses() != losses {
            // What was known may come from another database than the changes.
            return self.read();
        }
        self.newest(known, changes.as_ref(), losses)
    }

    /// Changes the store, if it was written with `keys`. See [`super::Store::update`].
    ///
    /// # Errors
    /// Returns the error of `change` or of the database.
    pub fn update<T>(
        &self,
        keys: &StoreKeys,
        change: impl FnOnce(&mut StoreContent, &StoreKeys) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.change(|content| {
            let mut content = match content {
                Some(content) if !content.fits(keys) => return Err(StoreError::WrongKey { place: self.place() }),
                Some(content) => StoreContent::clone(&content),
                None => StoreContent::new(keys)?,
            };
            content.changed = false;
            let result = change(&mut content, keys)?;
            Ok((content.changed.then_some(content), result))
        })
    }

    /// Removes from the store, which needs no key. Does nothing if nothing was stored yet.
    ///
    /// # Errors
    /// Returns the error of the database.
    pub fn remove(&self, change: impl FnOnce(&mut StoreContent)) -> Result<(), StoreError> {
        self.change(|content| {
            let Some(content) = content else { return Ok((None, ())) };
            let mut content = StoreContent::clone(&content);
            content.changed = false;
            change(&mut content);
            Ok((content.changed.then_some(content), ()))
        })
    }

    /// Runs `change` on the newest content, and writes what it returns, while no other replica changes the store.
    fn change<T>(
        &self,
        change: impl FnOnce(Option<Arc<StoreContent>>) -> Result<(Option<StoreContent>, T), StoreError>,
    ) -> Result<T, StoreError> {
        let losses = self.tables.losses();
        let known = self.known_at(losses);
        let update = self.tables.begin(known.as_ref().map(|known| &known.head)).map_err(|error| self.failed(&error))?;
        if known.is_some() && self.tables.losses() != losses {
            drop(update);
            return self.change(change);
        }
        let content = self.newest(known, update.changes.as_ref(), losses)?;
        let (new, result) = change(content.clone())?;
        let Some(new) = new else { return Ok(result) };
        fault::boundary("consent_before_write");
        let rows = rows::difference(content.as_deref(), &new);
        let head = update.commit(rows::header(&new), &rows).map_err(|error| self.failed(&error))?;
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.remember(Known { losses, head, content: Some(Arc::new(new)) });
        Ok(result)
    }

    /// The content with `changes`, or what is known if nothing changed.
    fn newest(
        &self,
        known: Option<Known>,
        changes: Option<&ConsentChanges>,
        losses: u64,
    ) -> Result<Option<Arc<StoreContent>>, StoreError> {
        let content = known.and_then(|known| known.content);
        let Some(changes) = changes else { return Ok(content) };
        let damaged = |reason| StoreError::Damaged { place: self.place(), reason };
        let content = rows::apply(content.as_deref(), changes).map_err(damaged)?.map(Arc::new);
        self.remember(Known { losses, head: changes.head.clone(), content: content.clone() });
        Ok(content)
    }

    fn known_at(&self, losses: u64) -> Option<Known> {
        self.known().clone().filter(|known| known.losses == losses)
    }

    fn remember(&self, new: Known) {
        let mut known = self.known();
        let is_newer = |known: &Known| (new.losses, new.head.version) > (known.losses, known.head.version);
        if known.as_ref().is_none_or(is_newer) {
            *known = Some(new);
        }
    }

    fn known(&self) -> MutexGuard<'_, Option<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until no other task and no other replica refreshes the grants of `connection`.
    ///
    /// # Errors
    /// Returns `Refreshing` after `max_wait`, and `Database`.
    pub async fn lock_grant(
        self: &Arc<DatabaseStore>,
        connection: ConnectionId,
        max_wait: Duration,
    ) -> Result<DatabaseLock, StoreError> {
        let lock = DatabaseLock::new(self, connection);
        let started = Instant::now();
        loop {
            let (connection, holder) = (lock.connection.clone(), lock.holder.clone());
            let take = move |store: &DatabaseStore| {
                store.tables.take_lock(&connection, &holder, GRANT_LEASE).map_err(|error| store.failed(&error))
            };
            if self.run(take).await? {
                return Ok(lock);
            }
            if started.elapsed() >= max_wait {
                return Err(StoreError::Refreshing { waited: max_wait });
            }
            tokio::time::sleep(LOCK_INTERVAL).await;
        }
    }

    /// Waits until the locks that were dropped are given back, because the process ends.
    pub async fn released(&self) {
        let mut locks = self.locks.subscribe();
        let all = locks.wait_for(|count| *count == 0);
        if tokio::time::timeout(MAX_RELEASE_WAIT, all).await.is_err() {
            tracing::debug!(target: "aam::consent", "a lock of a grant was not given back; it ends by itself");
        }
    }

    fn failed(&self, error: &RegistryError) -> StoreError {
        match error {
            // The text of the registry speaks of all that AAM does.
            RegistryError::Unavailable(why) => self.error(&format!("the database does not answer: {why}")),
            other => self.error(&other.to_string()),
        }
    }

    /// The error for a database that cannot be used.
    pub fn error(&self, why: &str) -> StoreError {
        StoreError::Database { place: self.place(), error: why.to_string() }
    }
}

impl DatabaseLock {
    /// A lock that is not taken yet. What is taken for it is renewed until it is dropped, and then given back.
    fn new(store: &Arc<DatabaseStore>, connection: ConnectionId) -> DatabaseLock {
        let (sender, mut dropped) = oneshot::channel();
        let lock = DatabaseLock {
            store: Arc::clone(store),
            connection: connection.to_string(),
            holder: format!("{}-{}", std::process::id(), uuid::Uuid::new_v4().simple()),
            _dropped: sender,
        };
        store.locks.send_modify(|count| *count += 1);
        let (store, connection, holder) = (Arc::clone(store), lock.connection.clone(), lock.holder.clone());
        tokio::spawn(async move {
            // If the database does not answer, the next turn tries again.
            while tokio::time::timeout(GRANT_RENEWAL, &mut dropped).await.is_err() {
                let _ = renew(&store, &connection, &holder).await;
            }
            let release = move |store: &DatabaseStore| {
                store.tables.release_lock(&connection, &holder).map_err(|error| store.failed(&error))
            };
            if let Err(error) = store.run(release).await {
                tracing::debug!(target: "aam::consent", "{error}; a lock of a grant ends by itself");
            }
            store.locks.send_modify(|count| *count = count.saturating_sub(1));
        });
        lock
    }

    /// Extends the lock. Returns false if another replica took it, because this process was stopped or cut off for too long.
    ///
    /// # Errors
    /// Returns `Database`.
    pub async fn is_held(&self) -> Result<bool, StoreError> {
        renew(&self.store, &self.connection, &self.holder).await
    }
}

async fn renew(store: &Arc<DatabaseStore>, connection: &str, holder: &str) -> Result<bool, StoreError> {
    let (connection, holder) = (connection.to_string(), holder.to_string());
    let renew = move |store: &DatabaseStore| {
        store.tables.renew_lock(&connection, &holder, GRANT_LEASE).map_err(|error| store.failed(&error))
    };
    store.run(renew).await
}
