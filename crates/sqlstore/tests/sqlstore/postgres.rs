//! What only PostgreSQL has.

use crate::server::{Server, not_run, process_id, wait_until};
use sqlstore::{Connection, Error, HostPort, PostgresOptions, TargetSession, TlsMode, keeps_sessions_apart, params};
use std::net::TcpListener;
use std::time::{Duration, Instant};

/// The server for a test, which ends without one.
macro_rules! server {
    ($test:literal) => {
        match Server::find(concat!("postgres::", $test)) {
            Some(server) => server,
            None => return,
        }
    };
}

#[test]
fn parameters_have_the_type_that_the_server_inferred() {
    let db = server!("parameters").connect();
    db.execute_batch("CREATE TABLE t (a SMALLINT, b INTEGER, c BOOLEAN, d NUMERIC, e REAL, f VARCHAR(5), g NAME, h OID)")
        .unwrap();
    let insert = "INSERT INTO t VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    db.execute(insert, params![-5, 70_000, true, i64::MIN, 0.5, "five5", "name", u32::MAX]).unwrap();
    db.query_row("SELECT * FROM t", [], |row| {
        assert_eq!((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, bool>(2)?), (-5, 70_000, true));
        assert_eq!((row.get::<_, i64>(3)?, row.get::<_, f64>(4)?), (i64::MIN, 0.5));
        assert_eq!((row.get::<_, String>(5)?, row.get::<_, String>(6)?), ("five5".to_string(), "name".to_string()));
        assert_eq!(row.get::<_, u32>(7)?, u32::MAX);
        Ok(())
    })
    .unwrap();
    let numbers: (f64, i64, f64) = db
        .query_row("SELECT 12345.6789::numeric, -120000::numeric, 1e30::numeric", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .unwrap();
    assert!((numbers.0 - 12_345.678_9).abs() < 1e-6 && numbers.1 == -120_000 && (numbers.2 / 1e30 - 1.0).abs() < 1e-9);
    // A value that does not fit is refused before it is sent, and the transaction goes on.
    db.begin_write().unwrap();
    for (column, value) in [("a", 40_000_i64), ("b", i64::MAX), ("c", 2), ("h", -1)] {
        let error = db.execute(&format!("UPDATE t SET {column} = ?1"), [value]).unwrap_err();
        assert!(matches!(error, Error::Parameter { parameter: 1, .. }), "{error}");
    }
    let error = db.execute("UPDATE t SET b = ?1", ["text"]).unwrap_err();
    assert_eq!(error.to_string(), "parameter 1: the value is a text, and PostgreSQL wants the type int4 here");
    assert_eq!(db.execute("UPDATE t SET b = ?1", [1]).unwrap(), 1);
    db.commit().unwrap();
    let error = db.query_row("SELECT now()", [], |row| row.get::<_, String>(0)).unwrap_err();
    assert!(error.is_value() && error.to_string().contains("timestamptz"), "{error}");
}

#[test]
fn a_session_works_inside_of_an_asynchronous_runtime() {
    let server = server!("runtime");
    let work = |server: &Server| {
        let db = server.connect();
        let sum =
            (0..20).map(|n| db.query_row("SELECT CAST(?1 AS BIGINT)", [n], |row| row.get::<_, i64>(0)).unwrap()).sum::<i64>();
        assert_eq!(sum, 190);
    };
    let one = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    one.block_on(async { work(&server) });
    let server = std::sync::Arc::new(server);
    let many = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    many.block_on(async {
        let tasks: Vec<_> = (0..4)
            .map(|_| {
                let server = std::sync::Arc::clone(&server);
                tokio::spawn(async move { work(&server) })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
}

#[test]
fn notifications_arrive_at_commit() {
    let server = server!("notifications");
    let (listener, sender) = (server.connect(), server.connect());
    let channel = "Wakes \"of\" a test";
    listener.listen(channel).unwrap();
    let received = listener.notifications().unwrap();
    assert!(matches!(listener.notifications(), Err(Error::State(_))));
    sender.begin_write().unwrap();
    sender.notify(channel, "one").unwrap();
    sender.notify(channel, "grüße").unwrap();
    assert!(received.recv_timeout(Duration::from_millis(100)).is_err());
    sender.commit().unwrap();
    let first = received.recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!((first.channel.as_str(), first.payload.as_str()), (channel, "one"));
    assert_eq!(i64::from(first.process_id), process_id(&sender));
    assert_eq!(received.recv_timeout(Duration::from_secs(10)).unwrap().payload, "grüße");
    // They end with the session.
    sender.query_row("SELECT pg_terminate_backend(CAST(?1 AS INTEGER))", [process_id(&listener)], |_| Ok(())).unwrap();
    assert_eq!(received.recv_timeout(Duration::from_secs(10)), Err(std::sync::mpsc::RecvTimeoutError::Disconnected));
    wait_until("the session is lost", || listener.is_lost());
}

#[test]
fn a_wrong_password_is_not_a_lost_connection() {
    let server = server!("password");
    let secret = "not the password";
    let options = PostgresOptions { password: Some(secret.to_string().into()), ..server.options() };
    assert!(!format!("{options:?}").contains(secret));
    let error = Connection::postgres(options).err().unwrap();
    assert_eq!((error.sqlstate(), error.is_connection_lost()), (Some("28P01"), false), "{error}");
    assert!(!error.to_string().contains(secret));
    let error = Connection::postgres(PostgresOptions { password: None, ..server.options() }).err().unwrap();
    assert_eq!((error.sqlstate(), error.is_connection_lost()), (Some("28P01"), false), "{error}");
    assert!(error.to_string().contains("the connection has none"), "{error}");
    let options = PostgresOptions { database: "missing".to_string(), ..server.options() };
    let error = Connection::postgres(options).err().unwrap();
    assert_eq!((error.sqlstate(), error.is_connection_lost()), (Some("3D000"), false), "{error}");
}

#[test]
fn a_pooler_that_exchanges_sessions_is_noticed() {
    let server = server!("poolers");
    assert!(keeps_sessions_apart(&server.options()).unwrap(), "the server itself");
    let [Some(session), Some(transaction), Some(statement)] = server.poolers else {
        return not_run("a_pooler_that_exchanges_sessions_is_noticed needs the poolers of scripts/peers/postgres.sh");
    };
    for (port, keeps) in [(session, true), (transaction, false), (statement, false)] {
        let mut options = server.options();
        options.hosts[0].port = port;
        assert_eq!(keeps_sessions_apart(&options).unwrap(), keeps, "{port}");
    }
}

#[test]
fn the_next_host_is_tried() {
    let server = server!("hosts");
    let alive = HostPort { host: server.host.clone(), port: server.port };
    // No program listens there, and no other one can use the port until the socket is dropped.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let closed = socket.local_addr().unwrap().port();
    // Accepts connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let dead = [closed, silent.local_addr().unwrap().port()].map(|port| HostPort { host: "127.0.0.1".to_string(), port });
    let mut options = server.options();
    options.connect_timeout = Duration::from_secs(1);
    options.hosts = [dead.to_vec(), vec![alive]].concat();
    let started = Instant::now();
    let db = Connection::postgres(options.clone()).unwrap();
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!(db.query_row("SELECT current_schema()", [], |row| row.get::<_, String>(0)).unwrap(), server.schema);
    options.hosts = dead.to_vec();
    let error = Connection::postgres(options).err().unwrap();
    assert!(error.is_connection_lost(), "{error}");
    for host in dead {
        assert!(error.to_string().contains(&format!("127.0.0.1:{}", host.port)), "{error}");
    }
}

#[test]
fn a_standby_is_read_only() {
    let server = server!("standby");
    let Some(port) = server.standby_port else {
        return not_run("the test of a standby needs AAM_TEST_POSTGRES_STANDBY_PORT");
    };
    let standby = HostPort { host: server.host.clone(), port };
    let primary = HostPort { host: server.host.clone(), port: server.port };
    let options = |hosts: &[&HostPort], target_session| PostgresOptions {
        hosts: hosts.iter().map(|host| (*host).clone()).collect(),
        target_session,
        ..server.options()
    };
    let reading = Connection::postgres(options(&[&standby], TargetSession::Any)).unwrap();
    assert!(reading.query_row("SELECT pg_is_in_recovery()", [], |row| row.get::<_, bool>(0)).unwrap());
    let transaction = reading.read_transaction().unwrap();
    transaction.query_row("SELECT 1", [], |_| Ok(())).unwrap();
    transaction.commit().unwrap();
    let error = reading.execute("CREATE TABLE t (id BIGINT)", []).unwrap_err();
    assert!(error.is_read_only() && !error.is_connection_lost(), "{error}");
    let error = Connection::postgres(options(&[&standby], TargetSession::ReadWrite)).err().unwrap();
    assert!(error.is_read_only() && error.is_connection_lost(), "{error}");
    let writing = Connection::postgres(options(&[&standby, &primary], TargetSession::ReadWrite)).unwrap();
    assert!(!writing.query_row("SELECT pg_is_in_recovery()", [], |row| row.get::<_, bool>(0)).unwrap());
}

#[test]
fn connections_are_encrypted_and_verified() {
    let server = server!("tls");
    let Some(ca_file) = server.ca_file.clone() else {
        return not_run("the test of TLS needs AAM_TEST_POSTGRES_CA_FILE");
    };
    let options = |tls, ca_file| {
        let mut options = PostgresOptions { tls, ca_file, ..server.options() };
        options.hosts = vec![HostPort { host: "localhost".to_string(), port: server.port }];
        options
    };
    for tls in [TlsMode::Prefer, TlsMode::Require] {
        let db = Connection::postgres(options(tls, Some(ca_file.clone()))).unwrap();
        let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        assert!(db.query_row(sql, [], |row| row.get::<_, bool>(0)).unwrap(), "{tls:?}");
        let error = Connection::postgres(options(tls, None)).err().unwrap();
        assert!(error.to_string().contains("UnknownIssuer"), "{error}");
    }
    let missing = Connection::postgres(options(TlsMode::Require, Some("/missing.pem".into()))).err().unwrap();
    assert!(missing.to_string().contains("/missing.pem") && !missing.is_connection_lost(), "{missing}");
}

#[test]
fn a_read_transaction_sees_one_state_and_cannot_write() {
    let server = server!("snapshot");
    let (db, other) = (server.connect(), server.connect());
    db.execute_batch("CREATE TABLE t (id BIGINT)").unwrap();
    let count = |db: &Connection| db.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0)).unwrap();
    let reading = db.read_transaction().unwrap();
    assert_eq!(count(&reading), 0);
    other.execute("INSERT INTO t VALUES (1)", []).unwrap();
    assert_eq!(count(&reading), 0);
    assert!(reading.execute("INSERT INTO t VALUES (2)", []).unwrap_err().is_read_only());
    drop(reading);
    assert_eq!(count(&db), 1);
    // The same for the rows of a query outside of a transaction.
    other.execute("INSERT INTO t SELECT generate_series(2, 1000)", []).unwrap();
    let mut statement = db.prepare("SELECT id FROM t").unwrap();
    let mut rows = statement.query([]).unwrap();
    assert!(rows.next().unwrap().is_some());
    other.execute("DELETE FROM t", []).unwrap();
    assert_eq!(count(&db), 1000);
    assert!(matches!(db.begin_write(), Err(Error::State(_))));
    drop(rows);
    assert_eq!(count(&db), 0);
}

#[test]
fn the_server_holds_nothing_that_was_closed() {
    let server = server!("closed");
    let (db, other) = (server.connect(), server.connect());
    let state = |pid: i64| -> String {
        other.query_row("SELECT state FROM pg_stat_activity WHERE pid = ?1", [pid], |row| row.get(0)).unwrap()
    };
    let pid = process_id(&db);
    let mut statement = db.prepare("SELECT generate_series(1, 1000000)").unwrap();
    let mut rows = statement.query([]).unwrap();
    rows.next().unwrap();
    assert_eq!(state(pid), "idle in transaction");
    drop(rows);
    drop(statement);
    wait_until("the transaction of the rows ended", || state(pid) == "idle");
    let transaction = db.read_transaction().unwrap();
    let open = || {
        let sql = "SELECT count(*) FROM pg_cursors WHERE name LIKE 'p%'";
        transaction.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    let mut statement = transaction.prepare("SELECT generate_series(1, 1000000)").unwrap();
    let mut rows = statement.query([]).unwrap();
    rows.next().unwrap();
    assert_eq!(open(), 1);
    drop(rows);
    assert_eq!(open(), 0);
    drop(statement);
    drop(transaction);
    for number in 0..300 {
        db.query_row(&format!("SELECT {number}"), [], |_| Ok(())).unwrap();
    }
    let kept: i64 = db.query_row("SELECT count(*) FROM pg_prepared_statements", [], |row| row.get(0)).unwrap();
    assert!((200..=257).contains(&kept), "{kept}");
    drop(db);
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE pid = ?1";
    wait_until("the session ended", || other.query_row(sql, [pid], |row| row.get::<_, i64>(0)).unwrap() == 0);
}

#[test]
fn statements_are_not_compiled_to_machine_code() {
    let db = server!("jit").connect();
    let jit: String = db.query_row("SELECT setting FROM pg_settings WHERE name = 'jit'", [], |row| row.get(0)).unwrap();
    assert_eq!(jit, "off");
}
