//! How a session of PostgreSQL is opened.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;
use zeroize::Zeroizing;

/// One server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// A name or an address. The certificate of the server must contain it.
    pub host: String,
    /// The TCP port, usually 5432.
    pub port: u16,
}

/// Whether the connection is encrypted. If it is, the certificate and the name in it are always verified, as `verify-full` of
/// libpq does it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsMode {
    /// It is not encrypted.
    Disable,
    /// It is encrypted if the server offers that.
    Prefer,
    /// It is encrypted, or it is not opened.
    #[default]
    Require,
}

/// Which servers are accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TargetSession {
    /// Every one, also a standby.
    Any,
    /// Only one that accepts writes.
    #[default]
    ReadWrite,
}

/// How a session of PostgreSQL is opened, and its limits.
#[derive(Clone)]
pub struct PostgresOptions {
    /// The servers, in the order in which they are tried.
    pub hosts: Vec<HostPort>,
    /// The name of the database.
    pub database: String,
    /// The role.
    pub user: String,
    /// The password of the role. `None` if the server does not want one.
    pub password: Option<Zeroizing<String>>,
    /// What `pg_stat_activity` shows for the session.
    pub application_name: String,
    /// Which of the servers is used.
    pub target_session: TargetSession,
    /// Whether the connection is encrypted.
    pub tls: TlsMode,
    /// A file with certificate authorities in PEM form, which are trusted besides those of the machine.
    pub ca_file: Option<PathBuf>,
    /// The schema in which tables and functions are created and found, besides those of PostgreSQL. `None` for the default of the
    /// role.
    pub schema: Option<String>,
    /// How long connecting to one server may take, with its login.
    pub connect_timeout: Duration,
    /// How long a caller waits for any answer. After that the session counts as lost.
    pub answer_timeout: Duration,
    /// How long the server works on one statement before it cancels it. Zero for no limit.
    pub statement_timeout: Duration,
    /// How long a statement waits for a lock before the server cancels it. Zero for no limit.
    pub lock_timeout: Duration,
    /// How long a transaction may be open without a statement before the server ends the session. Zero for no limit.
    pub idle_in_transaction_timeout: Duration,
    /// How long data that was sent may stay unconfirmed before the operating system gives the connection up.
    pub tcp_user_timeout: Duration,
    /// How long a connection is silent before the operating system asks whether the other side is there. It asks three times, with
    /// a third of this time between, and then gives the connection up.
    pub keepalive: Duration,
}

impl PostgresOptions {
    /// Options for one server with the default limits.
    #[must_use]
    pub fn new(host: &str, port: u16, database: &str, user: &str) -> PostgresOptions {
        PostgresOptions {
            hosts: vec![HostPort { host: host.to_string(), port }],
            database: database.to_string(),
            user: user.to_string(),
            password: None,
            application_name: "aam".to_string(),
            target_session: TargetSession::default(),
            tls: TlsMode::default(),
            ca_file: None,
            schema: None,
            connect_timeout: Duration::from_secs(5),
            answer_timeout: Duration::from_secs(30),
            statement_timeout: Duration::from_secs(25),
            lock_timeout: Duration::from_secs(10),
            idle_in_transaction_timeout: Duration::from_secs(60),
            tcp_user_timeout: Duration::from_secs(10),
            keepalive: Duration::from_secs(5),
        }
    }
}

impl fmt::Debug for PostgresOptions {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("PostgresOptions")
            .field("hosts", &self.hosts)
            .field("database", &self.database)
            .field("user", &self.user)
            .field("target_session", &self.target_session)
            .field("tls", &self.tls)
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}
