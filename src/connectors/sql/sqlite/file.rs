//! A SQLite file, opened so that nothing can be written to it or beside it.
//!
//! Three mechanisms make it read-only: the open flags, `PRAGMA query_only`, and an authorizer that allows only reading.
//! An ordinary reader of a database in WAL mode creates a `-shm` and a `-wal` file if they do not exist. Such a database
//! is opened with `immutable=1` instead, which does not create files.

use super::errors;
use crate::memory_budget::MemoryMeter;
use crate::model::{Class, Failure};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::trace::{TraceEvent, TraceEventCodes};
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Limit on the computation of one call into SQLite.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait for the lock of another program.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);
/// Limit on the bytes of one value or row, unless a larger one has been found.
const SMALL_VALUE_BYTES: i32 = 256 << 10;
/// Limit on the bytes of one value or row. Rows with larger values are counted without reading their values.
pub const MAX_VALUE_BYTES: i32 = 8 << 20;
/// The memory that reading takes: SQLite's page cache, and copies of a small value.
pub const SMALL_MEMORY_BYTES: u64 = 800 << 10;
/// The memory that reading takes if values have up to [`MAX_VALUE_BYTES`].
pub const LARGE_MEMORY_BYTES: u64 = 24 << 20;
/// Steps of the SQLite virtual machine between two checks of the deadline.
const STEPS_PER_CHECK: i32 = 10_000;

const IN_URI: &AsciiSet = &CONTROLS.add(b'%').add(b'?').add(b'#').add(b' ');

/// The mode in which the file was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Opened with SQLite's locks.
    Shared,
    /// A database in WAL mode that no program has open. It is opened without locks and without helper files.
    Immutable,
}

/// An open file.
pub struct File {
    pub base: Connection,
    pub mode: Mode,
    /// The path as it is written in the resource id.
    pub written: String,
    /// Limit on the computation of one call into SQLite.
    pub limit: Duration,
    deadline: Arc<Deadline>,
    /// The statements that were run, with the time that each took, until they are taken.
    statements: Arc<Mutex<Vec<(String, Duration)>>>,
}

/// The number of statements that are remembered until they are taken.
const MAX_STATEMENTS: usize = 20_000;

/// When the current statement must end, in milliseconds since `origin`.
struct Deadline {
    origin: Instant,
    at: AtomicU64,
}

impl Deadline {
    fn elapsed(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn set(&self, limit: Duration) {
        let limit = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        self.at.store(self.elapsed().saturating_add(limit), Ordering::Relaxed);
    }

    fn passed(&self) -> bool {
        self.elapsed() > self.at.load(Ordering::Relaxed)
    }
}

/// Opens `real`, an absolute path without symbolic links.
///
/// # Errors
/// The failure that [`errors::classify`] returns; `Remote` if a file would have to be created for reading.
pub fn open(real: &Path, written: &str) -> Result<File, Failure> {
    let mode = mode(real, written)?;
    let query = match mode {
        Mode::Shared => "mode=ro",
        Mode::Immutable => "mode=ro&immutable=1",
    };
    let deadline = Arc::new(Deadline { origin: Instant::now(), at: AtomicU64::new(u64::MAX) });
    let opened = connect(real, query).and_then(|base| guard(base, Arc::clone(&deadline)));
    let traced = opened.and_then(trace);
    let (base, statements) = traced.map_err(|error| errors::classify(written, "open it", &error))?;
    Ok(File { base, mode, written: written.to_string(), limit: CALL_TIMEOUT, deadline, statements })
}

/// Chooses the mode from the files beside the database and from its header.
fn mode(real: &Path, written: &str) -> Result<Mode, Failure> {
    let wal = size(&beside(real, "-wal"));
    let shm = size(&beside(real, "-shm")).is_some();
    match wal {
        // A program has the database open, or has left all three files. An ordinary reader then does not create new files.
        Some(_) if shm => Ok(Mode::Shared),
        Some(1..) => Err(Failure::new(
            Class::Remote,
            format!("{written} has changes in its -wal file but no -shm file; reading them would create one"),
            format!("ask its owner to merge them: sqlite3 {written} 'PRAGMA wal_checkpoint(TRUNCATE)'"),
        )),
        _ if in_wal_mode(real, written)? => Ok(Mode::Immutable),
        _ => Ok(Mode::Shared),
    }
}

/// The connection to which files are attached so that their header can be read. It is shared, because opening a connection
/// for each file takes as long as all the reading that follows.
static PROBE: Mutex<Option<Connection>> = Mutex::new(None);

/// Whether the database is in WAL mode. Without locks SQLite cannot use a WAL, and it reports this before it creates any
/// file (sqlite.org/wal.html), so attaching the file with `nolock=1` fails exactly in WAL mode.
fn in_wal_mode(real: &Path, written: &str) -> Result<bool, Failure> {
    let mut slot = PROBE.lock().unwrap_or_else(PoisonError::into_inner);
    match attach(&mut slot, &uri(real, "mode=ro&nolock=1")) {
        Ok(()) => Ok(false),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::CannotOpen) => Ok(true),
        // SQLite refuses to attach a database in UTF-16 to one in UTF-8, after it has read the header. A database in WAL
        // mode was refused before.
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::Unknown) => Ok(false),
        Err(error) => Err(errors::classify(written, "read its header", &error)),
    }
}

/// Attaches and detaches the file. This makes SQLite read its header and schema.
fn attach(slot: &mut Option<Connection>, uri: &str) -> rusqlite::Result<()> {
    let probe = match slot.take() {
        Some(probe) => probe,
        None => Connection::open_with_flags(":memory:", FLAGS)?,
    };
    probe.prepare_cached("ATTACH ?1 AS probe")?.execute([uri])?;
    probe.prepare_cached("DETACH probe")?.execute([])?;
    // After an error the connection is dropped together with everything that may still be attached.
    *slot = Some(probe);
    Ok(())
}

fn beside(real: &Path, suffix: &str) -> PathBuf {
    let mut name = real.as_os_str().to_os_string();
    name.push(suffix);
    PathBuf::from(name)
}

fn size(path: &Path) -> Option<u64> {
    std::fs::metadata(path).ok().map(|meta| meta.len())
}

/// `NO_MUTEX` is safe, because every connection is protected by a mutex in this process.
const FLAGS: OpenFlags = OpenFlags::SQLITE_OPEN_READ_ONLY
    .union(OpenFlags::SQLITE_OPEN_URI)
    .union(OpenFlags::SQLITE_OPEN_NO_MUTEX)
    .union(OpenFlags::SQLITE_OPEN_NOFOLLOW);

fn uri(real: &Path, query: &str) -> String {
    format!("file:{}?{query}", utf8_percent_encode(&real.to_string_lossy(), IN_URI))
}

fn connect(real: &Path, query: &str) -> rusqlite::Result<Connection> {
    Connection::open_with_flags(uri(real, query), FLAGS)
}

fn guard(mut base: Connection, deadline: Arc<Deadline>) -> rusqlite::Result<Connection> {
    base.busy_timeout(BUSY_TIMEOUT)?;
    base.progress_handler(STEPS_PER_CHECK, Some(move || deadline.passed()))?;
    base.execute_batch("PRAGMA query_only = ON; PRAGMA trusted_schema = OFF; PRAGMA cache_size = -512")?;
    let shadow_tables = shadow_tables(&base)?;
    base.authorizer(Some(move |context: AuthContext<'_>| match context.action {
        AuthAction::Insert { table_name } | AuthAction::Delete { table_name } | AuthAction::Update { table_name, .. }
            if shadow_tables.contains(table_name) =>
        {
            Authorization::Allow
        }
        _ => allow(context),
    }))?;
    base.set_limit(Limit::SQLITE_LIMIT_LENGTH, SMALL_VALUE_BYTES)?;
    Ok(base)
}

/// Statements that were run, each with its duration.
type TracedStatements = Arc<Mutex<Vec<(String, Duration)>>>;

/// Remembers the statements that are run from now on.
fn trace(mut base: Connection) -> rusqlite::Result<(Connection, TracedStatements)> {
    let statements = TracedStatements::default();
    let run = Arc::clone(&statements);
    let remember = move |event: TraceEvent<'_>| {
        if let TraceEvent::Profile(statement, took) = event {
            let mut run = run.lock().unwrap_or_else(PoisonError::into_inner);
            if run.len() < MAX_STATEMENTS {
                run.push((statement.sql().into_owned(), took));
            }
        }
    };
    base.trace_v2(TraceEventCodes::SQLITE_TRACE_PROFILE, Some(remember))?;
    Ok((base, statements))
}

/// The tables in which the R*Tree tables of the file keep their nodes. When SQLite connects an R*Tree table, it prepares
/// statements that write to them (`rtreeSqlInit`), and refusing those would make the table unreadable. They cannot be run,
/// because the file is open for reading only and `query_only` is on.
fn shadow_tables(base: &Connection) -> rusqlite::Result<HashSet<String>> {
    let mut statement = base.prepare(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND sql LIKE 'CREATE VIRTUAL TABLE%' AND sql LIKE '%rtree%'",
    )?;
    let mut tables = HashSet::new();
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let name: String = row.get(0)?;
        tables.extend(["node", "rowid", "parent"].map(|part| format!("{name}_{part}")));
    }
    Ok(tables)
}

/// Allows only reading. The function `load_extension` and everything that names a file are denied.
fn allow(context: AuthContext<'_>) -> Authorization {
    match context.action {
        AuthAction::Select | AuthAction::Read { .. } | AuthAction::Recursive => Authorization::Allow,
        // Only read transactions are possible, because the file is opened read-only.
        AuthAction::Transaction { .. } => Authorization::Allow,
        AuthAction::Function { function_name } if !function_name.eq_ignore_ascii_case("load_extension") => Authorization::Allow,
        AuthAction::Pragma { pragma_name, pragma_value } => {
            let value_free = ["application_id", "user_version", "page_count", "page_size", "data_version", "schema_version"];
            let known = pragma_name == "table_xinfo" || (pragma_value.is_none() && value_free.contains(&pragma_name));
            if known { Authorization::Allow } else { Authorization::Deny }
        }
        _ => Authorization::Deny,
    }
}

impl File {
    /// Returns the statements that were run since the last time.
    #[must_use]
    pub fn take_statements(&self) -> Vec<(String, Duration)> {
        std::mem::take(&mut *self.statements.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sets the limit on values to what the memory allows. SQLite refuses larger values before it reads them.
    pub fn set_memory(&self, memory: &MemoryMeter) {
        let bytes = if memory.limit() >= LARGE_MEMORY_BYTES { MAX_VALUE_BYTES } else { SMALL_VALUE_BYTES };
        // The limit is within the range that SQLite accepts.
        let _ = self.base.set_limit(Limit::SQLITE_LIMIT_LENGTH, bytes);
    }

    /// Whether the limit on values is the largest one.
    #[must_use]
    pub fn allows_large_values(&self) -> bool {
        self.base.limit(Limit::SQLITE_LIMIT_LENGTH).is_ok_and(|bytes| bytes >= MAX_VALUE_BYTES)
    }

    /// Runs `work` like [`File::within`], but in one transaction. It therefore reads one consistent state and takes the locks
    /// only once.
    ///
    /// # Errors
    /// The classified errors of `work`.
    pub fn reading<T>(&self, doing: &str, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, Failure> {
        self.within(doing, |base| {
            base.prepare_cached("BEGIN")?.execute([])?;
            let outcome = work(base);
            let ended = base.prepare_cached("ROLLBACK").and_then(|mut end| end.execute([]));
            // Some errors end the transaction themselves, so the error of `work` takes precedence.
            outcome.and_then(|value| ended.map(|_| value))
        })
    }

    /// Runs `work` with a limit on its computation.
    ///
    /// # Errors
    /// The classified errors of `work`.
    pub fn within<T>(&self, doing: &str, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, Failure> {
        self.within_limit(self.limit, doing, work)
    }

    /// Runs `work` like [`File::within`], with a limit that may be shorter.
    ///
    /// # Errors
    /// The classified errors of `work`.
    pub fn within_limit<T>(
        &self,
        limit: Duration,
        doing: &str,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, Failure> {
        self.deadline.set(limit);
        work(&self.base).map_err(|error| errors::classify(&self.written, doing, &error))
    }
}
