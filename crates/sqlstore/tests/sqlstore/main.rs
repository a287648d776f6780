//! One suite of behaviours for both databases, and what only PostgreSQL has.
//!
//! The server of PostgreSQL is the one of the variables AAM_TEST_POSTGRES_HOST, _PORT, _SUPER and _SUPER_PASSWORD, as
//! `scripts/with_peers.sh postgres` sets them. Without them, its tests say that they did not run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed test ends with a panic")]

mod both;
mod postgres;
mod postgres_faults;
mod rows;
mod server;
mod transactions;

use sqlstore::Connection;

/// A database that is empty and belongs to one test.
pub struct Database {
    pub db: Connection,
    /// The folder of a SQLite file.
    _folder: Option<tempfile::TempDir>,
}

/// An empty database of SQLite.
pub fn sqlite() -> Database {
    let folder = tempfile::tempdir().unwrap();
    let db = rusqlite::Connection::open(folder.path().join("test.db")).unwrap();
    // The data need not survive a crash.
    db.execute_batch("PRAGMA synchronous = OFF").unwrap();
    Database { db: Connection::sqlite(db), _folder: Some(folder) }
}

/// An empty schema of PostgreSQL, if there is a server.
pub fn postgres(test: &str) -> Option<Database> {
    let server = server::Server::find(test)?;
    Some(Database { db: server.connect(), _folder: None })
}

/// Makes a test of each function for each database.
#[macro_export]
macro_rules! for_both {
    ($($test:ident),* $(,)?) => {
        mod sqlite {
            $(#[test] fn $test() { super::$test(&mut $crate::sqlite().db); })*
        }
        mod postgresql {
            $(#[test] fn $test() {
                if let Some(mut database) = $crate::postgres(concat!(module_path!(), "::", stringify!($test))) {
                    super::$test(&mut database.db);
                }
            })*
        }
    };
}

/// A connection moves between threads, for example in a pool.
#[test]
fn a_connection_can_be_sent_to_another_thread() {
    let database = sqlite();
    let db = database.db;
    let read = std::thread::spawn(move || db.query_row("SELECT 1", [], |row| row.get::<_, i64>(0)).unwrap());
    assert_eq!(read.join().unwrap(), 1);
}
