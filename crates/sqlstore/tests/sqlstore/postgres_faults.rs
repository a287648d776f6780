//! Sessions of PostgreSQL that end or hang, and transactions that fail.

use crate::server::{Server, process_id, wait_until};
use sqlstore::{Connection, Error, PostgresOptions};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The server for a test, which ends without one.
macro_rules! server {
    ($test:literal) => {
        match Server::find(concat!("faults::", $test)) {
            Some(server) => server,
            None => return,
        }
    };
}

fn count(db: &Connection) -> i64 {
    db.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap()
}

fn terminate(killer: &Connection, pid: i64) {
    killer.query_row("SELECT pg_terminate_backend(CAST(?1 AS INTEGER))", [pid], |_| Ok(())).unwrap();
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE pid = ?1";
    wait_until("the session ended", || killer.query_row(sql, [pid], |row| row.get::<_, i64>(0)).unwrap() == 0);
}

#[test]
fn a_session_that_ended_can_be_opened_anew() {
    let server = server!("reconnect");
    let (mut db, killer) = (server.connect(), server.connect());
    db.execute_batch("CREATE TABLE t (id BIGINT)").unwrap();
    terminate(&killer, process_id(&db));
    for _ in 0..2 {
        let error = db.query_row("SELECT 1", [], |_| Ok(())).unwrap_err();
        assert!(error.is_connection_lost() && !error.is_commit_unknown(), "{error}");
        assert_eq!(error.sqlstate(), Some("57P01"), "{error}");
    }
    assert!(db.is_lost());
    assert!(db.begin_write().unwrap_err().is_connection_lost());
    assert!(db.execute_later("SELECT 1", []).unwrap_err().is_connection_lost());
    assert!(db.listen("a").unwrap_err().is_connection_lost());
    db.rollback().unwrap();
    db.reconnect(server.options()).unwrap();
    assert!(!db.is_lost());
    assert_eq!(count(&db), 0);
}

#[test]
fn a_transaction_whose_session_ended_is_not_committed() {
    let server = server!("lost_transaction");
    let (mut db, killer) = (server.connect(), server.connect());
    db.execute_batch("CREATE TABLE t (id BIGINT)").unwrap();
    db.begin_write().unwrap();
    db.execute_later("INSERT INTO t VALUES (1)", []).unwrap();
    assert_eq!(count(&db), 1);
    terminate(&killer, process_id(&db));
    let error = db.commit().unwrap_err();
    assert!(error.is_connection_lost(), "{error}");
    assert!(!db.is_in_transaction());
    db.reconnect(server.options()).unwrap();
    assert_eq!(count(&db), 0);
    // The same while rows are read.
    db.execute("INSERT INTO t SELECT generate_series(1, 5000)", []).unwrap();
    let mut statement = db.prepare("SELECT id FROM t").unwrap();
    let mut rows = statement.query([]).unwrap();
    rows.next().unwrap();
    let sql = "SELECT pid FROM pg_stat_activity WHERE state = 'idle in transaction' AND query LIKE '%SELECT id FROM t%'
               AND pid <> pg_backend_pid()";
    terminate(&killer, killer.query_row(sql, [], |row| row.get(0)).unwrap());
    let failed = loop {
        match rows.next() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the rows ended as if there were no more"),
            Err(error) => break error,
        }
    };
    assert!(failed.is_connection_lost(), "{failed}");
}

#[test]
fn a_transaction_that_failed_is_not_committed() {
    let server = server!("failed_transaction");
    let db = server.connect();
    db.execute_batch("CREATE TABLE t (id BIGINT PRIMARY KEY)").unwrap();
    db.begin_write().unwrap();
    db.execute("INSERT INTO t VALUES (1)", []).unwrap();
    assert!(db.execute("INSERT INTO t VALUES (1)", []).unwrap_err().is_unique_violation());
    // All later calls return the first error.
    assert!(db.query_row("SELECT 1", [], |_| Ok(())).unwrap_err().is_unique_violation());
    assert!(db.execute_batch("SELECT 1").unwrap_err().is_unique_violation());
    assert!(db.commit().unwrap_err().is_unique_violation());
    assert_eq!(count(&db), 0);
    // A batch that ends the transaction itself.
    db.begin_write().unwrap();
    db.execute_batch("INSERT INTO t VALUES (2); ROLLBACK").unwrap();
    assert_eq!(db.commit().unwrap_err().sqlstate(), Some("25P01"));
    assert_eq!(count(&db), 0);
    // An error that the server finds only at the end.
    db.execute_batch("CREATE TABLE u (id BIGINT REFERENCES t DEFERRABLE INITIALLY DEFERRED)").unwrap();
    db.begin_write().unwrap();
    db.execute_later("INSERT INTO u VALUES (9)", []).unwrap();
    assert_eq!(db.commit().unwrap_err().sqlstate(), Some("23503"));
    db.begin_write().unwrap();
    db.execute("INSERT INTO t VALUES (9)", []).unwrap();
    db.commit().unwrap();
    assert_eq!(count(&db), 1);
    let error = db.query_row("INSERT INTO u VALUES (8) RETURNING id", [], |row| row.get::<_, i64>(0)).unwrap_err();
    assert_eq!(error.sqlstate(), Some("23503"));
}

#[test]
fn a_statement_that_waits_too_long_is_given_up() {
    let server = server!("timeouts");
    let holder = server.connect();
    let lock = "SELECT pg_advisory_xact_lock(720260)";
    holder.begin_write().unwrap();
    holder.query_row(lock, [], |_| Ok(())).unwrap();
    // The server cancels it, and the session goes on.
    let options = PostgresOptions { statement_timeout: Duration::from_millis(200), ..server.options() };
    let db = Connection::postgres(options).unwrap();
    let error = db.query_row(lock, [], |_| Ok(())).unwrap_err();
    assert_eq!((error.sqlstate(), error.is_connection_lost()), (Some("57014"), false), "{error}");
    db.query_row("SELECT 1", [], |_| Ok(())).unwrap();
    let options = PostgresOptions { lock_timeout: Duration::from_millis(200), ..server.options() };
    let error = Connection::postgres(options).unwrap().query_row(lock, [], |_| Ok(())).unwrap_err();
    assert!(error.is_conflict(), "{error}");
    // The server does not answer in time, so that the session is lost.
    let options = PostgresOptions { answer_timeout: Duration::from_millis(300), ..server.options() };
    let mut db = Connection::postgres(options.clone()).unwrap();
    let started = Instant::now();
    assert!(db.query_row(lock, [], |_| Ok(())).unwrap_err().is_connection_lost());
    assert!(db.query_row("SELECT 1", [], |_| Ok(())).unwrap_err().is_connection_lost());
    assert!(started.elapsed() < Duration::from_secs(3));
    db.reconnect(options).unwrap();
    db.query_row("SELECT 1", [], |_| Ok(())).unwrap();
    // The same for statements without a wait.
    db.begin_write().unwrap();
    let sent = (0..1000).try_for_each(|_| db.execute_later(lock, []));
    assert!(sent.is_err_and(|error| error.is_connection_lost()));
    assert!(db.commit().unwrap_err().is_connection_lost());
}

/// A proxy in front of the server that can drop what it receives.
struct Proxy {
    port: u16,
    is_silent: Arc<AtomicBool>,
}

impl Proxy {
    fn start(server: &Server) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let is_silent = Arc::new(AtomicBool::new(false));
        let (target, silent) = ((server.host.clone(), server.port), Arc::clone(&is_silent));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let upstream = TcpStream::connect(&target).unwrap();
                let (back, forth) = (upstream.try_clone().unwrap(), client.try_clone().unwrap());
                let to_client = Arc::clone(&silent);
                std::thread::spawn(move || copy(client, upstream, &AtomicBool::new(false)));
                std::thread::spawn(move || copy(back, forth, &to_client));
            }
        });
        Proxy { port, is_silent }
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, is_silent: &AtomicBool) {
    let mut bytes = [0; 4096];
    while let Ok(count) = from.read(&mut bytes) {
        if count == 0 {
            break;
        }
        if !is_silent.load(Ordering::SeqCst) && to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
}

#[test]
fn a_commit_without_an_answer_is_unknown() {
    let server = server!("commit");
    let proxy = Proxy::start(&server);
    let mut options = PostgresOptions { answer_timeout: Duration::from_millis(500), ..server.options() };
    options.hosts[0].port = proxy.port;
    let (db, direct) = (Connection::postgres(options).unwrap(), server.connect());
    direct.execute_batch("CREATE TABLE t (id BIGINT)").unwrap();
    db.begin_write().unwrap();
    db.execute("INSERT INTO t VALUES (1)", []).unwrap();
    proxy.is_silent.store(true, Ordering::SeqCst);
    let error = db.commit().unwrap_err();
    assert!(error.is_connection_lost() && error.is_commit_unknown(), "{error}");
    wait_until("the transaction was committed", || count(&direct) == 1);
    // Nothing was sent by a commit after the end of the session.
    assert!(db.commit().is_err_and(|error| error.is_connection_lost() && !error.is_commit_unknown()));
}

#[test]
fn a_table_that_another_session_changed_is_read() {
    let server = server!("changed");
    let (db, other) = (server.connect(), server.connect());
    db.execute_batch("CREATE TABLE t (id INTEGER); INSERT INTO t VALUES (1)").unwrap();
    let read = || db.query_row("SELECT * FROM t", [], |row| row.get::<_, i64>(0));
    assert_eq!(read().unwrap(), 1);
    other.execute_batch("ALTER TABLE t ALTER COLUMN id TYPE BIGINT").unwrap();
    assert_eq!(read().unwrap(), 1);
    // In a transaction the statement fails, and works again in the next one.
    other.execute_batch("ALTER TABLE t ALTER COLUMN id TYPE SMALLINT").unwrap();
    let transaction = db.read_transaction().unwrap();
    assert!(matches!(read(), Err(Error::Postgres(_))));
    drop(transaction);
    let transaction = db.read_transaction().unwrap();
    assert_eq!(read().unwrap(), 1);
    drop(transaction);
}
