//! A database server, and the failures about its address.

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
    /// Not specified: full verification, except on loopback, where nothing leaves the machine.
    Unspecified,
    /// `sslmode=prefer`: accepted on loopback only, because it may fall back to clear text.
    Prefer,
    /// Clear text, requested explicitly.
    Disable,
    /// Encrypted; the certificate chain and the host name are verified.
    Verify,
}

/// One database on one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseServer {
    pub wire: Protocol,
    /// In lower case; an IPv6 address without brackets.
    pub host: String,
    pub port: u16,
    pub database: String,
    pub tls: Tls,
    /// PostgreSQL: limits discovery to this schema.
    pub schema: Option<String>,
    /// The application name that the server shows for the session.
    pub application: Option<String>,
    /// Shortens the engine's own limit for connecting.
    pub connect_timeout: Option<Duration>,
    /// Shortens the engine's own limit for one answer.
    pub answer_timeout: Option<Duration>,
}

impl Protocol {
    /// The name in logs and evidence.
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

/// Formats as `postgres db.example:5432/shop`, which does not contain a secret.
impl fmt::Display for DatabaseServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.wire.as_str(), self.authority(), self.database)
    }
}

impl DatabaseServer {
    /// `host:port`, with brackets around an IPv6 address.
    #[must_use]
    pub fn authority(&self) -> String {
        if self.host.contains(':') { format!("[{}]:{}", self.host, self.port) } else { format!("{}:{}", self.host, self.port) }
    }
}

/// The failure for a user or password in the resource id.
pub(super) fn holds_login() -> Failure {
    misconfigured(
        "the resource id contains a user or a password",
        "remove it from the resource id; store {\"user\":\"NAME\",\"password\":\"...\"} where credential_locator points, for example env:NAME; \
         change the password, because it was stored in clear text",
    )
}

pub(super) fn misconfigured(title: impl Into<String>, fix: impl Into<String>) -> Failure {
    Failure::new(Class::Misconfigured, title, fix)
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
