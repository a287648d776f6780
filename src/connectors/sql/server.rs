//! A database server, and the failures that concern its address.

use crate::connectors::driver_session::DriverServer;
use crate::model::{Class, Failure};
use std::fmt;
use std::time::Duration;

/// The protocol of a database server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Postgres,
    /// MySQL and MariaDB.
    Mysql,
}

/// The encryption that the resource id requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// The resource id does not specify it. The connection is fully verified, except on loopback, where nothing leaves the
    /// machine.
    Unspecified,
    /// `sslmode=prefer`. Accepted only on loopback, because it may fall back to clear text.
    Prefer,
    /// Clear text, which the resource id requests explicitly.
    Disable,
    /// Encrypted. The certificate chain and the host name are verified.
    Verify,
}

/// What a server with the protocol of PostgreSQL understands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    #[default]
    Postgres,
    /// Amazon Redshift, which descends from PostgreSQL 8.0: without startup options, and without settings and functions that
    /// are newer.
    Redshift,
}

/// One database on one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseServer {
    pub wire: Protocol,
    /// Only for PostgreSQL's protocol.
    pub dialect: Dialect,
    /// The host in lower case. An IPv6 address has no brackets here.
    pub host: String,
    pub port: u16,
    pub database: String,
    pub tls: Tls,
    /// For PostgreSQL: the only schema that is discovered.
    pub schema: Option<String>,
    /// The application name that the server shows for the session.
    pub application: Option<String>,
    /// A limit for connecting. It can only shorten the limit of the engine.
    pub connect_timeout: Option<Duration>,
    /// A limit for one response. It can only shorten the limit of the engine.
    pub answer_timeout: Option<Duration>,
}

impl Protocol {
    /// The name that appears in logs and evidence.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Postgres => "postgres",
            Protocol::Mysql => "mysql",
        }
    }

    pub(super) fn default_port(self) -> u16 {
        match self {
            Protocol::Postgres => 5432,
            Protocol::Mysql => 3306,
        }
    }
}

/// Formats as `postgres db.example:5432/shop`. The text never contains a secret.
impl fmt::Display for DatabaseServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.dialect {
            Dialect::Postgres => self.wire.as_str(),
            Dialect::Redshift => "redshift",
        };
        write!(f, "{name} {}/{}", self.authority(), self.database)
    }
}

impl DriverServer for DatabaseServer {
    fn protocol(&self) -> &'static str {
        self.wire.as_str()
    }

    fn host(&self) -> &str {
        &self.host
    }

    fn port(&self) -> u16 {
        self.port
    }

    fn default_port(&self) -> u16 {
        self.wire.default_port()
    }

    fn database(&self) -> &str {
        &self.database
    }
}

impl DatabaseServer {
    /// The product for messages.
    #[must_use]
    pub fn product(&self) -> &'static str {
        match (self.wire, self.dialect) {
            (Protocol::Mysql, _) => "MySQL or MariaDB",
            (Protocol::Postgres, Dialect::Postgres) => "PostgreSQL",
            (Protocol::Postgres, Dialect::Redshift) => "Amazon Redshift",
        }
    }

    /// `host:port`, with brackets around an IPv6 address.
    #[must_use]
    pub fn authority(&self) -> String {
        if self.host.contains(':') { format!("[{}]:{}", self.host, self.port) } else { format!("{}:{}", self.host, self.port) }
    }
}

/// The failure for a resource id that contains a user, and perhaps a password.
pub(super) fn holds_login(has_password: bool) -> Failure {
    const FIX: &str = "remove it from the resource id; store {\"user\":\"NAME\",\"password\":\"...\"} where credential_locator points, for \
        example env:NAME";
    if has_password {
        let fix = format!("{FIX}; change the password, because it was stored in clear text");
        return misconfigured("the resource id contains a user or a password", fix);
    }
    misconfigured("the resource id contains a user", FIX)
}

pub(super) fn misconfigured(title: impl Into<String>, fix: impl Into<String>) -> Failure {
    Failure::new(Class::NotMappable, title, fix)
}

/// The failure for a TCP connection that could not be established.
pub(super) fn unreachable(server: &DatabaseServer, error: &std::io::Error) -> Failure {
    let what = match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused by",
        _ => "could not connect to",
    };
    Failure::new(
        Class::Network,
        format!("{server}: {what} {}", server.authority()),
        format!("check host, port, routes and firewalls: nc -vz {} {}", server.host, server.port),
    )
    .detail(error.to_string())
}
