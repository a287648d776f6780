//! Read-only connections for bodies, history and snapshots of the past. Reading never waits for the writer.

mod follow;
mod sessions;

pub(super) use sessions::connect;

use super::archive::{self, archived_body};
use super::{FileMark, Location, RegistryError, WebhookMessage, fold_file, schema};
use crate::model::ledger::{AttemptContext, Entry, Fact};
use crate::model::{ConnectionId, MissingFile, Timestamp};
use crate::snapshot::{Checked, Snapshot};
use rustix::fs::Access;
use rustix::io::Errno;
use sqlstore::rusqlite::OpenFlags;
use sqlstore::{Connection, OptionalExtension, Row, params};
use std::path::Path;
use std::sync::{Arc, Mutex};

/// A small pool of read-only connections. Cheap to clone.
#[derive(Clone)]
pub struct Reader {
    location: Location,
    /// Whether a registry of an earlier schema version may be read. Then only what every version has is there: the ledger.
    earlier: bool,
    /// Whether reads may take as long as they need.
    is_patient: bool,
    idle: Arc<Mutex<Vec<Connection>>>,
}

/// One entry of a history.
#[derive(Clone, Debug, PartialEq)]
pub struct Version {
    pub entry: Entry,
    /// The text of the body. `None` if the entry does not have one, or if it is longer than the reader wanted.
    pub body: Option<String>,
    /// The length of the body in bytes; 0 if it is in an archive file and was not read.
    pub body_bytes: u64,
    /// The archive file with the body, if it is missing.
    pub missing_file: Option<MissingFile>,
}

/// A body, if there is one, or the archive file that holds it and is missing.
pub type LeftBody = Result<Option<String>, MissingFile>;

/// The columns of an [`Entry`], in the order in which `entry` reads them.
pub(super) const COLUMNS: &str = "seq, at, namespace, connection, facts, kind";

impl Reader {
    /// Opens the registry at `location` for reading. A daemon may be writing to it at the same time.
    ///
    /// # Errors
    /// [`RegistryError::Missing`] if the file does not exist.
    pub fn open(location: impl Into<Location>) -> Result<Reader, RegistryError> {
        Reader::open_with(location.into(), false)
    }

    /// As [`Reader::open`], also for a registry of an earlier version of AAM, for copies and their verification.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn open_any_version(location: impl Into<Location>) -> Result<Reader, RegistryError> {
        Reader::open_with(location.into(), true)
    }

    fn open_with(location: Location, earlier: bool) -> Result<Reader, RegistryError> {
        let reader = Reader { location, earlier, is_patient: false, idle: Arc::default() };
        reader.with(|_| Ok(()))?;
        Ok(reader)
    }

    /// The same reader with reads that may take as long as they need. Otherwise a database stops a statement after 25 s.
    #[must_use]
    pub fn patient(self) -> Reader {
        Reader { is_patient: true, idle: Arc::default(), ..self }
    }

    /// Where the registry is.
    pub(super) fn location(&self) -> &Location {
        &self.location
    }

    /// The body of entry `seq`.
    ///
    /// # Errors
    /// If the registry, or the archive file with the body, cannot be read.
    pub fn body(&self, seq: u64) -> Result<Option<String>, RegistryError> {
        Ok(self.bodies(&[seq], usize::MAX)?.pop().flatten())
    }

    /// The time at which entry `seq` was appended.
    ///
    /// # Errors
    /// If the registry cannot be read.
    pub fn entry_at(&self, seq: u64) -> Result<Option<Timestamp>, RegistryError> {
        self.with(|db| {
            let mut statement = db.prepare_cached("SELECT at FROM ledger WHERE seq = ?1")?;
            Ok(statement.query_row([seq], |row| row.get(0)).optional()?.map(Timestamp))
        })
    }

    /// The bodies of several entries, in the order of `seqs`. Bodies of more than `max_bytes` bytes are left out.
    ///
    /// # Errors
    /// If the registry, or an archive file with one of the bodies, cannot be read.
    pub fn bodies(&self, seqs: &[u64], max_bytes: usize) -> Result<Vec<Option<String>>, RegistryError> {
        let read = self.with(|db| self.bodies_of(db, seqs, max_bytes))?;
        read.into_iter().collect::<Result<_, _>>().map_err(RegistryError::Archive)
    }

    /// As [`Reader::bodies`]. In place of a body in an archive file that cannot be read, the file is returned.
    ///
    /// # Errors
    /// If the registry itself cannot be read.
    pub fn bodies_left(&self, seqs: &[u64], max_bytes: usize) -> Result<Vec<LeftBody>, RegistryError> {
        let read = self.with(|db| self.bodies_of(db, seqs, max_bytes))?;
        Ok(read.into_iter().map(|body| body.map_err(|problem| problem.missing_file())).collect())
    }

    /// Passes the newest entries of `connection` to `take`, newest first, until it returns false. With `before`, only
    /// entries with a smaller `seq`. Bodies of more than `max_bytes` bytes are left out, and so are those in archive files that
    /// cannot be read. With a `max_bytes` of 0, archive files are not read.
    ///
    /// # Errors
    /// If the registry cannot be read.
    pub fn history(
        &self,
        connection: ConnectionId,
        before: Option<u64>,
        max_bytes: usize,
        take: impl FnMut(Version) -> bool,
    ) -> Result<(), RegistryError> {
        self.with_taker(take, |db, take| {
            let body = archive::body_sql(db);
            let sql = format!(
                "SELECT {COLUMNS}, CASE WHEN CAST(octet_length({body}) AS BIGINT) <= ?3 THEN {body} END,
                   CAST(octet_length({body}) AS BIGINT)
                 FROM ledger WHERE connection = ?1 AND seq < ?2 ORDER BY seq DESC"
            );
            let mut archived = None;
            let mut statement = db.prepare_cached(&sql)?;
            let before = before.map_or(i64::MAX, |seq| i64::try_from(seq).unwrap_or(i64::MAX));
            let mut rows = statement.query(params![connection.to_string(), before, max_bytes])?;
            while let Some(row) = rows.next()? {
                let (entry, mut body, mut bytes) = (entry(row)?, row.get::<_, Option<String>>(6)?, row.get::<_, Option<u64>>(7)?);
                let mut missing_file = None;
                if bytes.is_none() && max_bytes > 0 && matches!(entry.fact, Fact::AttemptFinished(_)) {
                    body = match archived_body(db, &self.location, &mut archived, entry.seq) {
                        Err(RegistryError::Archive(problem)) => {
                            missing_file = Some(problem.missing_file());
                            None
                        }
                        found => found?,
                    };
                    bytes = body.as_ref().map(|body| body.len() as u64);
                    body = body.filter(|body| body.len() <= max_bytes);
                }
                if !take(Version { entry, body, body_bytes: bytes.unwrap_or_default(), missing_file }) {
                    break;
                }
            }
            Ok(())
        })
    }

    /// The number of the last entry that was appended up to `at`, or 0.
    ///
    /// # Errors
    /// If the registry cannot be read.
    pub fn last_seq_at(&self, at: Timestamp) -> Result<u64, RegistryError> {
        self.with(|db| {
            if db.is_postgres() {
                // The rows of several writers are not in the order of their times.
                let sql = "SELECT seq FROM ledger WHERE at <= ?1 ORDER BY at DESC, seq DESC LIMIT 1";
                return Ok(db.query_row(sql, [at.0], |row| row.get(0)).optional()?.unwrap_or_default());
            }
            // A binary search, because `at` never decreases and has no index.
            let mut low: u64 = 0;
            let mut high: u64 = db.query_row("SELECT coalesce(max(seq), 0) FROM ledger", [], |row| row.get(0))?;
            let mut statement = db.prepare_cached("SELECT at FROM ledger WHERE seq >= ?1 ORDER BY seq LIMIT 1")?;
            while low < high {
                let middle = low + (high - low).div_ceil(2);
                let appended: i64 = statement.query_row([middle], |row| row.get(0))?;
                if appended <= at.0 {
                    low = middle;
                } else {
                    high = middle - 1;
                }
            }
            Ok(low)
        })
    }

    /// The version and the text of the catalog of `connection`: the newest one, or the one of `version`.
    ///
    /// # Errors
    /// If the registry cannot be read.
    pub fn catalog(&self, connection: ConnectionId, version: Option<u32>) -> Result<Option<(u32, String)>, RegistryError> {
        self.with(|db| {
            let mut statement = db.prepare_cached(
                "SELECT CAST(json_extract(facts, '$.version') AS BIGINT), body FROM ledger
                 WHERE connection = ?1 AND kind = 'catalog_registered' AND (CAST(?2 AS BIGINT) IS NULL OR CAST(json_extract(facts, '$.version') AS BIGINT) = ?2)
                 ORDER BY seq DESC LIMIT 1",
            )?;
            Ok(statement.query_row(params![connection.to_string(), version], |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
        })
    }

    /// The text of the policy that was accepted last.
    ///
    /// # Errors
    /// If the registry cannot be read.
    pub fn last_policy(&self) -> Result<Option<String>, RegistryError> {
        self.with(|db| {
            let sql = "SELECT body FROM ledger WHERE kind = 'policy_accepted' ORDER BY seq DESC LIMIT 1";
            Ok(db.query_row(sql, [], |row| row.get(0)).optional()?.flatten())
        })
    }

    /// Folds all entries and the times of re-checks that found nothing new.
    ///
    /// # Errors
    /// If the registry cannot be read, or if this build cannot parse a row.
    pub fn snapshot(&self) -> Result<Snapshot, RegistryError> {
        self.with(|db| {
            // One transaction for both reads, so that they see the same state of the registry.
            let transaction = db.read_transaction()?;
            let (mut snapshot, _) = fold_file::folded(&transaction, &self.location)?;
            checked(&transaction, &mut snapshot)?;
            Ok(snapshot)
        })
    }

    /// Folds the entries that were appended up to `at`.
    ///
    /// # Errors
    /// As [`Reader::snapshot`].
    pub fn snapshot_at(&self, at: Timestamp) -> Result<Snapshot, RegistryError> {
        self.with(|db| fold(db, at.0))
    }

    /// Up to `limit` entries after entry `seq` and up to entry `until`, in order. Those of an accepted policy come with its text.
    ///
    /// # Errors
    /// If the registry cannot be read, or if this build cannot parse a row.
    pub fn entries_after(&self, seq: u64, until: u64, limit: usize) -> Result<Vec<(Entry, Option<String>)>, RegistryError> {
        self.with(|db| {
            let mut statement = db.prepare_cached(&format!(
                "SELECT {COLUMNS}, CASE WHEN kind = 'policy_accepted' THEN body END FROM ledger
                 WHERE seq > ?1 AND seq <= ?2 ORDER BY seq LIMIT ?3"
            ))?;
            let until = i64::try_from(until).unwrap_or(i64::MAX);
            let mut rows = statement.query(params![seq, until, limit])?;
            let mut entries = Vec::new();
            while let Some(row) = rows.next()? {
                entries.push((entry(row)?, row.get(6)?));
            }
            Ok(entries)
        })
    }

    /// The messages that the webhooks are sent at the moment.
    ///
    /// # Errors
    /// If the registry cannot be read.
    pub fn webhook_messages(&self) -> Result<Vec<WebhookMessage>, RegistryError> {
        self.with(|db| {
            let mut statement = db.prepare_cached("SELECT webhook, up_to, tries, next_at, problem FROM webhook_messages")?;
            let rows = statement.query_map([], |row| {
                Ok(WebhookMessage {
                    webhook: row.get(0)?,
                    up_to: row.get(1)?,
                    tries: row.get(2)?,
                    next_at: Timestamp(row.get(3)?),
                    problem: row.get(4)?,
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// The attempts that are running, and when each began.
    ///
    /// # Errors
    /// If the registry cannot be read.
    pub fn running(&self) -> Result<Vec<(ConnectionId, Timestamp)>, RegistryError> {
        self.with(|db| Ok(tickets(db)?.into_iter().map(|(connection, context, _)| (connection, context.begun_at)).collect()))
    }

    /// The connections that were checked again at or after `at` with nothing new to record.
    ///
    /// # Errors
    /// If the registry cannot be read.
    pub fn checked_since(&self, at: Timestamp) -> Result<Vec<ConnectionId>, RegistryError> {
        self.with(|db| {
            let mut statement = db.prepare_cached("SELECT connection FROM checked WHERE at >= ?1")?;
            let ids: Vec<String> = statement.query_map([at.0], |row| row.get(0))?.collect::<Result<_, _>>()?;
            Ok(ids.iter().filter_map(|id| ConnectionId::parse(id).ok()).collect())
        })
    }

    /// The marks of the last scan of the intents folder.
    ///
    /// # Errors
    /// If the registry cannot be read.
    pub fn marks(&self) -> Result<Vec<FileMark>, RegistryError> {
        self.with(|db| {
            let mut statement = db.prepare_cached("SELECT path, size, mtime_ns, inode, content FROM folder_marks")?;
            let rows = statement.query_map([], |row| {
                Ok(FileMark {
                    path: row.get(0)?,
                    size: row.get(1)?,
                    mtime_ns: row.get(2)?,
                    inode: row.get::<_, i64>(3)?.cast_unsigned(),
                    content: row.get(4)?,
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }
}

pub(super) fn connect_sqlite(path: &Path, earlier: bool) -> Result<rusqlite::Connection, RegistryError> {
    super::refuse_other(path)?;
    // Not by opening the file: closing it again would release the locks that SQLite holds on it in this process.
    match rustix::fs::access(path, Access::READ_OK) {
        Ok(()) => {}
        Err(Errno::NOENT | Errno::NOTDIR) => return Err(RegistryError::Missing(path.to_path_buf())),
        Err(Errno::ACCESS) => return Err(RegistryError::Denied(path.to_path_buf())),
        Err(error) => return Err(RegistryError::Io { path: path.to_path_buf(), error: error.into() }),
    }
    let db = rusqlite::Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    db.busy_timeout(std::time::Duration::from_secs(5))?;
    db.pragma_update(None, "query_only", true)?;
    let id: i32 = db.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    if id != schema::APPLICATION_ID {
        return Err(RegistryError::Foreign);
    }
    match schema::refuse_other_version(&db) {
        Err(RegistryError::Older { .. }) if earlier => {}
        other => other?,
    }
    Ok(db)
}

/// Folds all rows with `at <= until`. These are the first rows of the ledger, because `at` never decreases.
pub(super) fn fold(db: &Connection, until: i64) -> Result<Snapshot, RegistryError> {
    let mut snapshot = Snapshot::default();
    let mut statement = db.prepare_cached(&format!("SELECT {COLUMNS} FROM ledger WHERE at <= ?1 ORDER BY seq"))?;
    let mut rows = statement.query([until])?;
    while let Some(row) = rows.next()? {
        snapshot.apply(&entry(row)?);
    }
    Ok(snapshot)
}

/// Applies the times of re-checks that found nothing new.
pub(super) fn checked(db: &Connection, snapshot: &mut Snapshot) -> Result<(), RegistryError> {
    each_check(db, Timestamp(0), |check| snapshot.apply_checked(&check))
}

/// Reads the times of re-checks at or after `from` of the connections that pass `wanted`.
pub(super) fn checks(
    db: &Connection,
    from: Timestamp,
    wanted: impl Fn(ConnectionId) -> bool,
) -> Result<Vec<Checked>, RegistryError> {
    let mut checks = Vec::new();
    each_check(db, from, |check| checks.extend(wanted(check.connection).then_some(check)))?;
    Ok(checks)
}

fn each_check(db: &Connection, from: Timestamp, mut take: impl FnMut(Checked)) -> Result<(), RegistryError> {
    let mut statement = db.prepare_cached("SELECT connection, at, full_at, failures, generation FROM checked WHERE at >= ?1")?;
    let mut rows = statement.query([from.0])?;
    while let Some(row) = rows.next()? {
        let id: String = row.get(0)?;
        if let Ok(connection) = ConnectionId::parse(&id) {
            let full_at = row.get::<_, Option<i64>>(2)?.map(Timestamp);
            let (at, failures, generation) = (Timestamp(row.get(1)?), row.get(3)?, row.get(4)?);
            take(Checked { connection, at, full_at, failures, generation });
        }
    }
    Ok(())
}

/// Applies times of re-checks. Returns whether any was newer than what the snapshot held.
pub(super) fn apply_checks(snapshot: &mut Snapshot, checks: &[Checked]) -> bool {
    let mut newer = false;
    for check in checks {
        let known = snapshot.connections.get(&check.connection);
        newer |= known.is_some_and(|known| known.checked.is_none_or(|checked| checked < check.at));
        snapshot.apply_checked(check);
    }
    newer
}

/// Reads the tickets of attempts that never recorded an outcome.
pub(super) fn tickets(db: &Connection) -> Result<Vec<(ConnectionId, AttemptContext, bool)>, RegistryError> {
    let mut statement = db.prepare("SELECT connection, under, in_ledger FROM tickets")?;
    let mut rows = statement.query([])?;
    let mut tickets = Vec::new();
    while let Some(row) = rows.next()? {
        let (id, under): (String, String) = (row.get(0)?, row.get(1)?);
        if let (Ok(connection), Ok(under)) = (ConnectionId::parse(&id), serde_json::from_str(&under)) {
            tickets.push((connection, under, row.get(2)?));
        }
    }
    Ok(tickets)
}

pub(super) fn entry(row: &Row<'_>) -> Result<Entry, RegistryError> {
    let seq: u64 = row.get(0)?;
    let broken = |why: String| RegistryError::Row { seq, why };
    let connection = match row.get_ref(3)?.as_str_or_null().map_err(|error| broken(error.to_string()))? {
        Some(id) => Some(ConnectionId::parse(id).map_err(broken)?),
        None => None,
    };
    let facts = row.get_ref(4)?.as_str().map_err(|error| broken(error.to_string()))?;
    let kind = row.get_ref(5)?.as_str().map_err(|error| broken(error.to_string()))?;
    let fact = Fact::read(kind, facts).map_err(|error| match error.to_string() {
        why if why.contains(&format!("unknown variant `{kind}`")) => RegistryError::NewerRow { seq, kind: kind.to_string() },
        why => broken(why),
    })?;
    Ok(Entry { seq, at: Timestamp(row.get(1)?), namespace: row.get(2)?, connection, fact })
}
