//! The consents in a registry in PostgreSQL: rows whose content only `providers::consent` understands.
//!
//! Every change locks the one row of `consent_store`, reads what others changed, writes the rows that differ and raises the
//! version. So changes come one after the other, and the order of the versions is the order of the commits: a reader that sees a
//! version sees every row up to it.

use super::location::PostgresLocation;
use super::{Location, RegistryError, database, postgres_schema};
use crate::fault;
use sqlstore::{Connection, OptionalExtension, params};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The number of sessions that are kept open.
pub const MAX_CONSENT_SESSIONS: usize = 3;
/// How long a process tries to find out whether a change was committed whose answer was lost.
const MAX_UNKNOWN: Duration = Duration::from_secs(20);
const UNKNOWN_INTERVAL: Duration = Duration::from_millis(500);
/// For so many versions it is known which rows were removed.
pub(super) const KEPT_VERSIONS: i64 = 1024;

/// The row that stands for the whole store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsentHead {
    /// Grows with each change of the store.
    pub version: i64,
    /// Random: identifies the change.
    change: String,
    /// What belongs to no single row. Empty if nothing was stored yet.
    pub content: String,
    complete_since: i64,
}

/// A grant or a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsentRow {
    pub kind: String,
    pub key: String,
    /// `None`: the row is removed.
    pub content: Option<String>,
}

/// What is new for somebody who knows an earlier version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsentChanges {
    pub head: ConsentHead,
    /// Whether `rows` are all rows, instead of those that changed.
    pub is_whole: bool,
    pub rows: Vec<ConsentRow>,
}

/// A whole store, to be copied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsentCopy {
    pub content: String,
    pub rows: Vec<ConsentRow>,
}

/// The tables, and the sessions with which this process uses them.
pub struct ConsentTables {
    name: String,
    place: PostgresLocation,
    idle: Mutex<Vec<Connection>>,
    /// How often a session was lost. After that, the database may be another one that lacks what was committed last.
    losses: AtomicU64,
}

/// A change that has begun: no other process changes the store until it is committed or dropped.
pub struct ConsentUpdate<'a> {
    tables: &'a ConsentTables,
    db: Option<Connection>,
    head: ConsentHead,
    /// What is new. `None` if the caller knew everything.
    pub changes: Option<ConsentChanges>,
}

impl ConsentRow {
    /// The kind of grants. Their key is the connection and the name of the consent.
    pub const GRANT: &str = "grant";
    /// The kind of links. Their key is their id.
    pub const LINK: &str = "link";
}

impl ConsentHead {
    /// The head of the version 1.
    #[cfg(test)]
    pub fn of_test(content: &str) -> ConsentHead {
        ConsentHead { version: 1, change: String::new(), content: content.to_string(), complete_since: 0 }
    }
}

impl ConsentCopy {
    /// The number of rows of `kind`.
    #[must_use]
    pub fn count(&self, kind: &str) -> usize {
        self.rows.iter().filter(|row| row.kind == kind).count()
    }
}

const HEAD: &str = "SELECT version, change, content, complete_since FROM consent_store WHERE one = 1";

impl ConsentTables {
    /// The tables of the registry at `location`. `None` for a file, which has none.
    #[must_use]
    pub fn new(location: &Location) -> Option<ConsentTables> {
        let place = location.postgres()?.clone();
        Some(ConsentTables { name: location.to_string(), place, idle: Mutex::default(), losses: AtomicU64::new(0) })
    }

    /// The address of the registry, without a secret.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How often a session was lost. What was read before another number may not be there any more.
    #[must_use]
    pub fn losses(&self) -> u64 {
        self.losses.load(Ordering::SeqCst)
    }

    /// Returns what is new for somebody who knows `known`. `None` if nothing is.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn changes_since(&self, known: Option<&ConsentHead>) -> Result<Option<ConsentChanges>, RegistryError> {
        self.with(|db| {
            if Some(&head(db, HEAD)?) == known {
                return Ok(None);
            }
            // One transaction, so that both statements see the same version.
            let transaction = db.read_transaction()?;
            let changes = changes(&transaction, head(&transaction, HEAD)?, known)?;
            transaction.rollback()?;
            Ok(changes)
        })
    }

    /// Begins a change. It waits for other processes that change the store.
    ///
    /// # Errors
    /// If the database cannot be used.
    pub fn begin(&self, known: Option<&ConsentHead>) -> Result<ConsentUpdate<'_>, RegistryError> {
        loop {
            let (db, is_old) = self.session()?;
            match begun(&db, known) {
                Ok((head, changes)) => return Ok(ConsentUpdate { tables: self, db: Some(db), head, changes }),
                Err(error) => {
                    let was_lost = db.is_lost();
                    self.give_back(db);
                    if !(was_lost && is_old) {
                        return Err(quiet(error));
                    }
                }
            }
        }
    }

    /// Takes the lock of `connection` for `holder`, unless another holder has it. It lasts for `lease` by the clock of the
    /// database. Returns whether it was taken.
    ///
    /// # Errors
    /// If the database cannot be used.
    pub fn take_lock(&self, connection: &str, holder: &str, lease: Duration) -> Result<bool, RegistryError> {
        let sql = "INSERT INTO consent_locks (connection, holder, ends_at)
                   VALUES (?1, ?2, clock_timestamp() + CAST(?3 AS BIGINT) * interval '1 millisecond')
                   ON CONFLICT (connection) DO UPDATE SET holder = excluded.holder, ends_at = excluded.ends_at
                   WHERE consent_locks.ends_at <= clock_timestamp() OR consent_locks.holder = excluded.holder
                   RETURNING connection";
        let lease = milliseconds(lease);
        self.with(|db| {
            let taken = db.query_row(sql, params![connection, holder, lease], |row| row.get::<_, String>(0)).optional()?;
            Ok(taken.is_some())
        })
    }

    /// Extends the lock of `connection`. Returns whether `holder` still has it. One that ended is extended, too, if no other
    /// holder took it.
    ///
    /// # Errors
    /// If the database cannot be used.
    pub fn renew_lock(&self, connection: &str, holder: &str, lease: Duration) -> Result<bool, RegistryError> {
        let sql = "UPDATE consent_locks SET ends_at = clock_timestamp() + CAST(?3 AS BIGINT) * interval '1 millisecond'
                   WHERE connection = ?1 AND holder = ?2";
        let lease = milliseconds(lease);
        self.with(|db| Ok(db.execute(sql, params![connection, holder, lease])? > 0))
    }

    /// Gives the lock of `connection` back, if `holder` has it.
    ///
    /// # Errors
    /// If the database cannot be used. The lock then ends by itself.
    pub fn release_lock(&self, connection: &str, holder: &str) -> Result<(), RegistryError> {
        self.with(|db| {
            db.execute("DELETE FROM consent_locks WHERE connection = ?1 AND holder = ?2", [connection, holder])?;
            Ok(())
        })
    }

    /// The server process of a session.
    #[cfg(test)]
    pub(super) fn process_id(&self) -> Result<i64, RegistryError> {
        self.with(|db| db.query_row("SELECT CAST(pg_backend_pid() AS BIGINT)", [], |row| row.get(0)))
    }

    /// Runs `work`, which may be repeated, on a session. A session that ended while it was idle is replaced.
    fn with<T>(&self, work: impl Fn(&Connection) -> sqlstore::Result<T>) -> Result<T, RegistryError> {
        loop {
            let (db, is_old) = self.session()?;
            let answer = work(&db);
            let was_lost = db.is_lost();
            self.give_back(db);
            match answer {
                Err(_) if was_lost && is_old => {}
                answer => return answer.map_err(quiet),
            }
        }
    }

    /// A session, and whether it was open before.
    fn session(&self) -> Result<(Connection, bool), RegistryError> {
        let pooled = self.idle().pop();
        match pooled {
            Some(db) => Ok((db, true)),
            None => Ok((self.open()?, false)),
        }
    }

    fn open(&self) -> Result<Connection, RegistryError> {
        let db = database::connect(&self.place, |options| {
            let mut options = database::writing(options);
            options.application_name = "aam consents".to_string();
            options
        })?;
        postgres_schema::check_version(&db, &self.place)?;
        Ok(db)
    }

    fn give_back(&self, db: Connection) {
        if db.rollback().is_err() || db.is_lost() {
            self.losses.fetch_add(1, Ordering::SeqCst);
            return;
        }
        let mut idle = self.idle();
        if idle.len() < MAX_CONSENT_SESSIONS {
            idle.push(db);
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds out whether the change that made `next` was committed, after the answer was lost. The server may still be about to
    /// commit it, so this waits for the row that it has locked.
    fn was_committed(&self, next: &ConsentHead, error: sqlstore::Error) -> Result<bool, RegistryError> {
        let started = Instant::now();
        loop {
            let found = self.open().and_then(|db| {
                let found = db.begin_write().and_then(|()| head(&db, &format!("{HEAD} FOR UPDATE"))).map_err(quiet);
                self.give_back(db);
                found
            });
            match found {
                Ok(found) if found.version == next.version => return Ok(found.change == next.change),
                Ok(found) if found.version < next.version => return Ok(false),
                // Others changed the store since, and what they found is not known any more.
                Ok(_) => return Err(quiet(error)),
                Err(_) if started.elapsed() < MAX_UNKNOWN => std::thread::sleep(UNKNOWN_INTERVAL),
                Err(_) => return Err(quiet(error)),
            }
        }
    }
}

impl ConsentUpdate<'_> {
    /// Writes `rows` and the content of the head, and commits. Returns the new head.
    ///
    /// # Errors
    /// If the database cannot be written. Nothing was changed, unless the answer to the commit was lost and the database is not
    /// back within 20 s.
    pub fn commit(mut self, content: String, rows: &[ConsentRow]) -> Result<ConsentHead, RegistryError> {
        let Some(db) = self.db.take() else { return Err(RegistryError::Closed) };
        let change = uuid::Uuid::new_v4().simple().to_string();
        let mut next = ConsentHead { version: self.head.version + 1, change, content, ..self.head.clone() };
        let written = write(&db, &mut next, rows).and_then(|()| {
            fault::boundary("consent_before_commit");
            db.commit()
        });
        self.tables.give_back(db);
        match written {
            Err(error) if error.is_commit_unknown() => {
                let why = error.copy();
                if !self.tables.was_committed(&next, error)? {
                    return Err(quiet(why));
                }
            }
            Err(error) => return Err(quiet(error)),
            Ok(()) => {}
        }
        fault::boundary("consent_after_commit");
        Ok(next)
    }
}

impl Drop for ConsentUpdate<'_> {
    fn drop(&mut self) {
        if let Some(db) = self.db.take() {
            self.tables.give_back(db);
        }
    }
}

/// Copies a store into the tables, which must be empty. Runs in the transaction of the caller.
pub(super) fn copy(to: &Connection, copied: &ConsentCopy) -> Result<(), RegistryError> {
    let mut next = head(to, &format!("{HEAD} FOR UPDATE"))?;
    if !next.content.is_empty() {
        return Err(RegistryError::Other(
            "the database has consents already, and those of a file are copied into an empty one only; name another schema with schema=NAME"
                .to_string(),
        ));
    }
    if copied.content.is_empty() {
        return Ok(());
    }
    next.version += 1;
    next.content.clone_from(&copied.content);
    next.change = uuid::Uuid::new_v4().simple().to_string();
    Ok(write(to, &mut next, &copied.rows)?)
}

fn begun(db: &Connection, known: Option<&ConsentHead>) -> sqlstore::Result<(ConsentHead, Option<ConsentChanges>)> {
    db.begin_write()?;
    let head = head(db, &format!("{HEAD} FOR UPDATE"))?;
    let changes = changes(db, head.clone(), known)?;
    Ok((head, changes))
}

fn head(db: &Connection, sql: &str) -> sqlstore::Result<ConsentHead> {
    db.query_row(sql, [], |row| {
        Ok(ConsentHead { version: row.get(0)?, change: row.get(1)?, content: row.get(2)?, complete_since: row.get(3)? })
    })
}

/// Reads what is new since `known`. The transaction sees the store as it is at `head`.
fn changes(db: &Connection, head: ConsentHead, known: Option<&ConsentHead>) -> sqlstore::Result<Option<ConsentChanges>> {
    if Some(&head) == known {
        return Ok(None);
    }
    let known = known.filter(|known| (head.complete_since..head.version).contains(&known.version));
    let sql = match known {
        Some(_) => "SELECT kind, key, content FROM consent_rows WHERE version > ?1 ORDER BY version, kind, key",
        None => {
            "SELECT kind, key, content FROM consent_rows WHERE version > ?1 AND content IS NOT NULL ORDER BY version, kind, key"
        }
    };
    let mut statement = db.prepare_cached(sql)?;
    let since = known.map_or(-1, |known| known.version);
    let rows =
        statement.query_map([since], |row| Ok(ConsentRow { kind: row.get(0)?, key: row.get(1)?, content: row.get(2)? }))?;
    let rows = rows.collect::<sqlstore::Result<Vec<ConsentRow>>>()?;
    Ok(Some(ConsentChanges { head, is_whole: known.is_none(), rows }))
}

/// Writes the rows of the version `next`, and its head.
fn write(db: &Connection, next: &mut ConsentHead, rows: &[ConsentRow]) -> sqlstore::Result<()> {
    let put = "INSERT INTO consent_rows (kind, key, version, content) VALUES (?1, ?2, ?3, ?4)
               ON CONFLICT (kind, key) DO UPDATE SET version = excluded.version, content = excluded.content";
    for ConsentRow { kind, key, content } in rows {
        db.execute_later(put, params![kind, key, next.version, content])?;
    }
    if next.version % KEPT_VERSIONS == 0 {
        next.complete_since = next.version - KEPT_VERSIONS;
        let forget = "DELETE FROM consent_rows WHERE content IS NULL AND version <= ?1";
        db.execute(forget, [next.complete_since])?;
    }
    let put = "UPDATE consent_store SET version = ?1, change = ?2, content = ?3, complete_since = ?4 WHERE one = 1";
    db.execute(put, params![next.version, next.change, next.content, next.complete_since])?;
    Ok(())
}

fn milliseconds(lease: Duration) -> i64 {
    i64::try_from(lease.as_millis()).unwrap_or(i64::MAX)
}

/// The error without the details that PostgreSQL adds, which may repeat a row.
fn quiet(error: sqlstore::Error) -> RegistryError {
    match error {
        sqlstore::Error::Postgres(mut error) => {
            error.detail = None;
            sqlstore::Error::Postgres(error).into()
        }
        other => other.into(),
    }
}
