//! The server of PostgreSQL that the tests use.

use sqlstore::{Connection, PostgresOptions, TlsMode};
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A server with an empty schema for one test.
pub struct Server {
    pub host: String,
    pub port: u16,
    pub standby_port: Option<u16>,
    /// The ports of a PgBouncer in each mode: session, transaction and statement.
    pub poolers: [Option<u16>; 3],
    pub ca_file: Option<PathBuf>,
    user: String,
    password: String,
    pub schema: String,
}

fn variable(name: &str) -> Option<String> {
    std::env::var(format!("AAM_TEST_POSTGRES_{name}")).ok().filter(|value| !value.is_empty())
}

/// Says that a test did not run. The harness hides what `eprintln!` writes in a test that passes.
pub fn not_run(why: &str) {
    let _ = writeln!(std::io::stderr(), "NOT RUN: {why}");
}

impl Server {
    /// The server, or `None` and a loud message.
    pub fn find(test: &str) -> Option<Server> {
        let found = (variable("HOST"), variable("PORT"), variable("SUPER"), variable("SUPER_PASSWORD"));
        let (Some(host), Some(port), Some(user), Some(password)) = found else {
            not_run(&format!("{test} needs a PostgreSQL server: scripts/with_peers.sh postgres -- cargo test -p sqlstore"));
            return None;
        };
        let schema = test.replace("::", "_").replace("sqlstore_", "");
        let port_of = |name: &str| variable(name).map(|port| port.parse().unwrap());
        let standby_port = port_of("STANDBY_PORT");
        let poolers = ["SESSION_POOLER_PORT", "TRANSACTION_POOLER_PORT", "STATEMENT_POOLER_PORT"].map(port_of);
        let ca_file = variable("CA_FILE").map(PathBuf::from);
        let server = Server { host, port: port.parse().unwrap(), standby_port, poolers, ca_file, user, password, schema };
        let db = Connection::postgres(PostgresOptions { schema: None, ..server.options() }).unwrap();
        db.execute_batch("SET client_min_messages = warning").unwrap();
        db.execute_batch(&format!("DROP SCHEMA IF EXISTS \"{0}\" CASCADE; CREATE SCHEMA \"{0}\"", server.schema)).unwrap();
        Some(server)
    }

    pub fn options(&self) -> PostgresOptions {
        let mut options = PostgresOptions::new(&self.host, self.port, "postgres", &self.user);
        options.password = Some(self.password.clone().into());
        options.tls = TlsMode::Disable;
        options.schema = Some(self.schema.clone());
        options
    }

    pub fn connect(&self) -> Connection {
        Connection::postgres(self.options()).unwrap()
    }
}

/// The server process of a session.
pub fn process_id(db: &Connection) -> i64 {
    db.query_row("SELECT pg_backend_pid()", [], |row| row.get(0)).unwrap()
}

/// Waits until `condition` is true.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < Duration::from_secs(20), "waited too long until {what}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}
