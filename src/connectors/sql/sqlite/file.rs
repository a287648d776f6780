//! An SQLite file, opened so that nothing can be written: not to it and not beside it.
//!
//! Read-only three times: the open flags, `PRAGMA query_only`, and an authorizer that knows no
//! action but reading. A database in WAL mode gets a `-shm` and a `-wal` file from any ordinary
//! reader when they are not there; such a one is opened with `immutable=1`, which makes none.

use super::errors;
use crate::model::{Class, Failure};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const TIME: Duration = Duration::from_secs(5);
/// How long to wait for another program's lock.
const BUSY: Duration = Duration::from_secs(1);
/// Virtual machine steps between two looks at the clock.
const STEPS: i32 = 10_000;

const IN_URI: &AsciiSet = &CONTROLS.add(b'%').add(b'?').add(b'#').add(b' ');

/// How the file was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// With SQLite's locks.
    Shared,
    /// A database in WAL mode that nobody has open: without locks, without helper files.
    Immutable,
}

/// An open file.
pub struct File {
    pub base: Connection,
    pub mode: Mode,
    /// As written in the resource id.
    pub written: String,
    /// How long one call into SQLite may compute.
    pub limit: Duration,
    deadline: Arc<Deadline>,
}

/// When the statement that runs now must end, in milliseconds since `origin`.
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

/// Opens `real`, an absolute path without links.
///
/// # Errors
/// What [`errors::of`] says; `Remote` when reading would have to create a file.
pub fn open(real: &Path, written: &str) -> Result<File, Failure> {
    let mode = mode(real, written)?;
    let query = match mode {
        Mode::Shared => "mode=ro",
        Mode::Immutable => "mode=ro&immutable=1",
    };
    let deadline = Arc::new(Deadline { origin: Instant::now(), at: AtomicU64::new(u64::MAX) });
    let opened = connect(real, query).and_then(|base| guard(base, Arc::clone(&deadline)));
    let base = opened.map_err(|error| errors::of(written, "open it", &error))?;
    Ok(File { base, mode, written: written.to_string(), limit: TIME, deadline })
}

/// Decides by the files that lie beside the database, and by the database's header.
fn mode(real: &Path, written: &str) -> Result<Mode, Failure> {
    let wal = size(&beside(real, "-wal"));
    let shm = size(&beside(real, "-shm")).is_some();
    match wal {
        // Somebody has it open, or left all three: an ordinary reader makes nothing new.
        Some(_) if shm => Ok(Mode::Shared),
        Some(1..) => Err(Failure::new(
            Class::Remote,
            format!("{written} has changes in its -wal file and no -shm file; reading them would create one"),
            format!("let its owner merge them: sqlite3 {written} 'PRAGMA wal_checkpoint(TRUNCATE)'"),
        )),
        _ if in_wal_mode(real, written)? => Ok(Mode::Immutable),
        _ => Ok(Mode::Shared),
    }
}

/// One connection of the process that files are attached to for a look at their header: opening
/// a connection for each costs as much as all the reading after it.
static PROBE: Mutex<Option<Connection>> = Mutex::new(None);

/// Without locks SQLite cannot use a WAL, and says so before it makes any file: that is the probe.
fn in_wal_mode(real: &Path, written: &str) -> Result<bool, Failure> {
    let mut slot = PROBE.lock().unwrap_or_else(PoisonError::into_inner);
    match attach(&mut slot, &uri(real, "mode=ro&nolock=1")) {
        Ok(()) => Ok(false),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::CannotOpen) => Ok(true),
        Err(error) => Err(errors::of(written, "read its header", &error)),
    }
}

/// Attaching reads the header and the schema; a file that cannot be attached is not left attached.
fn attach(slot: &mut Option<Connection>, uri: &str) -> rusqlite::Result<()> {
    let probe = match slot.take() {
        Some(probe) => probe,
        None => Connection::open_with_flags(":memory:", FLAGS)?,
    };
    probe.prepare_cached("ATTACH ?1 AS probe")?.execute([uri])?;
    probe.prepare_cached("DETACH probe")?.execute([])?;
    // After any error the connection is dropped, and with it whatever may still be attached.
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

/// One owner at a time holds a connection, behind a mutex of its own.
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
    base.busy_timeout(BUSY)?;
    base.progress_handler(STEPS, Some(move || deadline.passed()))?;
    base.execute_batch("PRAGMA query_only = ON; PRAGMA trusted_schema = OFF")?;
    base.authorizer(Some(allow))?;
    Ok(base)
}

/// Reading, and nothing else. `load_extension` is a function; everything that names a file is denied.
fn allow(context: AuthContext<'_>) -> Authorization {
    match context.action {
        AuthAction::Select | AuthAction::Read { .. } | AuthAction::Recursive => Authorization::Allow,
        // Of reading: the file is open for nothing else.
        AuthAction::Transaction { .. } => Authorization::Allow,
        AuthAction::Function { function_name } if !function_name.eq_ignore_ascii_case("load_extension") => Authorization::Allow,
        AuthAction::Pragma { pragma_name, pragma_value } => {
            let value_free = ["application_id", "user_version", "page_count", "data_version", "schema_version"];
            let known = pragma_name == "table_xinfo" || (pragma_value.is_none() && value_free.contains(&pragma_name));
            if known { Authorization::Allow } else { Authorization::Deny }
        }
        _ => Authorization::Deny,
    }
}

impl File {
    /// As [`File::within`], in one transaction: what is read fits together, and locks are taken once.
    ///
    /// # Errors
    /// Those of `work`, as a failure.
    pub fn reading<T>(&self, doing: &str, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, Failure> {
        self.within(doing, |base| {
            base.prepare_cached("BEGIN")?.execute([])?;
            let outcome = work(base);
            let ended = base.prepare_cached("ROLLBACK").and_then(|mut end| end.execute([]));
            // Some errors have ended the transaction themselves.
            outcome.and_then(|value| ended.map(|_| value))
        })
    }

    /// Runs `work` with a limit on its computing time.
    ///
    /// # Errors
    /// Those of `work`, as a failure.
    pub fn within<T>(&self, doing: &str, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, Failure> {
        self.deadline.set(self.limit);
        work(&self.base).map_err(|error| errors::of(&self.written, doing, &error))
    }
}
