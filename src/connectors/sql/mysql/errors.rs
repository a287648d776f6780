//! From a MySQL or MariaDB error to a failure.
//!
//! Codes: MySQL Server Error Message Reference; MariaDB Error Code Reference.

use crate::connectors::sql::quote::backtick;
use crate::connectors::sql::tls;
use crate::connectors::sql::uri::Server;
use crate::model::{Class, Failure};
use mysql_async::{DriverError, Error, IoError};
use std::io::ErrorKind;
use std::time::Duration;

/// When it happened.
#[derive(Clone, Copy)]
pub enum Stage<'a> {
    /// Before the login was answered.
    Open,
    /// Later; says to do what.
    Work(&'a str),
}

/// The failure of `error`.
#[must_use]
pub fn of(server: &Server, user: &str, stage: Stage<'_>, error: &Error) -> Failure {
    match error {
        Error::Server(own) => {
            of_code(server, user, stage, own.code, &format!("ERROR {} ({}): {}", own.code, own.state, own.message))
        }
        Error::Io(IoError::Tls(tls_error)) => tls::failure(server, &tls_error.to_string()),
        Error::Io(IoError::Io(io)) if io.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => {
            tls::failure(server, &io.to_string())
        }
        Error::Io(IoError::Io(io)) => of_io(server, stage, io),
        Error::Driver(driver) => of_driver(server, stage, driver),
        other => {
            Failure::new(Class::Remote, format!("{server}: the driver gave up"), "read the detail").detail(other.to_string())
        }
    }
}

/// The table of codes. `words` is the detail that a person reads.
#[must_use]
pub fn of_code(server: &Server, user: &str, stage: Stage<'_>, code: u16, words: &str) -> Failure {
    let doing = match stage {
        Stage::Open => "log in",
        Stage::Work(what) => what,
    };
    let account = format!("'{}'@'HOST'", user.replace('\'', "''"));
    let grant = format!("GRANT SELECT, SHOW VIEW ON {}.* TO {account};", backtick(&server.database));
    let failure = match code {
        1045 | 1449 if matches!(stage, Stage::Work(_)) => Failure::new(
            Class::PermissionDenied,
            format!("{server}: to {doing} is not possible: the view's DEFINER is gone or has lost its rights"),
            "ALTER DEFINER = an existing account VIEW ...; or leave the view out",
        ),
        1045 | 1698 | 1862 | 4151 => Failure::new(
            Class::CredentialRejected,
            format!("{server}: the password of {user} is wrong, has expired, or the account is locked"),
            format!(
                "put the right password behind credential_locator; to set a new one: ALTER USER {account} IDENTIFIED BY '...';"
            ),
        ),
        1130 => Failure::new(
            Class::CredentialRejected,
            format!("{server}: the server admits nobody from this machine"),
            format!("create the account {account} for this machine's address"),
        ),
        1044 => Failure::new(Class::PermissionDenied, format!("{server}: {user} has no right on the database"), grant),
        1142 | 1143 | 1227 | 1370 | 1356 => {
            Failure::new(Class::PermissionDenied, format!("{server}: {user} lacks a privilege to {doing}"), grant)
        }
        1049 => Failure::new(
            Class::NotFound,
            format!("{server}: there is no such database"),
            "correct the name in the resource id; SHOW DATABASES lists those that exist",
        ),
        1792 => Failure::new(
            Class::Remote,
            format!("{server}: to {doing} would write; the read-only transaction refused it"),
            format!("a view or function writes when it is read; REVOKE SELECT on it FROM {account};"),
        ),
        1040 | 1203 | 1226 => Failure::new(
            Class::Throttled,
            format!("{server}: the server has no free connection for {user}"),
            "wait, or raise max_connections or the account's MAX_USER_CONNECTIONS",
        )
        .after(Duration::from_secs(30)),
        1129 => Failure::new(
            Class::Remote,
            format!("{server}: the server has blocked this machine after failed connections"),
            "mariadb-admin flush-hosts",
        ),
        1205 => Failure::new(
            Class::Remote,
            format!("{server}: another session holds a lock on what was to be read"),
            "look for a long DDL statement: SHOW PROCESSLIST;",
        ),
        1969 | 3024 => Failure::new(
            Class::Remote,
            format!("{server}: the statement to {doing} was stopped by the time limit"),
            "look for load or for very many tables on the server",
        ),
        1053 => {
            Failure::new(Class::Remote, format!("{server}: the server is shutting down"), "wait until it accepts connections")
        }
        3159 => Failure::new(
            Class::Misconfigured,
            format!("{server}: the server accepts encrypted connections only"),
            "write ?sslMode=verify-full into the resource id",
        ),
        _ => Failure::new(
            Class::Remote,
            format!("{server}: the server refused to {doing}"),
            "read the detail: these are the server's own words",
        ),
    };
    failure.detail(words)
}

/// Whether one table or view cannot be read while others may be.
#[must_use]
pub fn only_this_one(failure: &Failure) -> bool {
    failure.class == Class::PermissionDenied || failure.detail.starts_with("ERROR 1792 ")
}

fn of_io(server: &Server, stage: Stage<'_>, error: &std::io::Error) -> Failure {
    let opening = matches!(stage, Stage::Open);
    let failure = match error.kind() {
        ErrorKind::ConnectionRefused | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::TimedOut => {
            Failure::new(
                Class::Network,
                format!("{server}: nobody answers at {}", server.authority()),
                format!("check host, port, routes and firewalls: nc -vz {} {}", server.host, server.port),
            )
        }
        ErrorKind::ConnectionReset if opening => Failure::new(
            Class::Network,
            format!("{server}: the connection was reset"),
            "look at firewalls and proxies on the way",
        ),
        // Lengths and sequence numbers of packets that only another protocol can have sent.
        _ if opening && is_packet_error(error) => wrong_service(server),
        _ if is_packet_error(error) => too_long(server),
        _ => cut(server),
    };
    failure.detail(error.to_string())
}

fn of_driver(server: &Server, stage: Stage<'_>, error: &DriverError) -> Failure {
    let opening = matches!(stage, Stage::Open);
    let failure = match error {
        DriverError::NoClientSslFlagFromServer => return tls::failure(server, &error.to_string()),
        DriverError::ConnectionClosed => cut(server),
        DriverError::PacketTooLarge if !opening => too_long(server),
        DriverError::UnknownAuthPlugin { .. } | DriverError::CleartextPluginDisabled | DriverError::MysqlOldPasswordDisabled => {
            Failure::new(
                Class::Misconfigured,
                format!("{server}: the server asks for a kind of login that AAM does not offer"),
                "use an account with mysql_native_password, ed25519 or caching_sha2_password",
            )
        }
        _ if opening => wrong_service(server),
        _ => Failure::new(
            Class::Remote,
            format!("{server}: the answer makes no sense"),
            "look at proxies between here and the server",
        ),
    };
    failure.detail(error.to_string())
}

/// The packet codec speaks through `std::io::Error`.
fn is_packet_error(error: &std::io::Error) -> bool {
    let words = error.to_string();
    matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::InvalidInput)
        || words.contains("max_allowed_packet")
        || words.contains("out of sync")
}

fn too_long(server: &Server) -> Failure {
    Failure::new(
        Class::Remote,
        format!("{server}: a row is longer than AAM reads"),
        "leave very long values out of the first rows, or use a view",
    )
}

fn cut(server: &Server) -> Failure {
    Failure::new(
        Class::Remote,
        format!("{server}: the connection was cut in the middle of an answer"),
        "look at the server's log and at proxies on the way",
    )
}

fn wrong_service(server: &Server) -> Failure {
    Failure::new(
        Class::WrongService,
        format!("{server}: what listens there does not speak the MySQL protocol"),
        format!("check host and port: {} is another service", server.authority()),
    )
}
