//! Classifies MySQL and MariaDB errors.
//!
//! The codes are from the MySQL Server Error Message Reference and the MariaDB Error Code Reference.

use crate::connectors::sql::quote::backtick;
use crate::connectors::sql::server::unreachable;
use crate::connectors::sql::tls;
use crate::connectors::sql::uri::DatabaseServer;
use crate::model::{Class, Failure};
use mysql_async::{DriverError, Error, IoError};
use std::io::ErrorKind;
use std::time::Duration;

/// The phase in which an error occurred.
#[derive(Clone, Copy)]
pub enum Stage<'a> {
    /// Before the login is complete.
    Open,
    /// After the login. The text names what was attempted, for example `list the tables`.
    Work(&'a str),
}

/// Classifies `error`.
#[must_use]
pub fn classify(server: &DatabaseServer, user: &str, stage: Stage<'_>, error: &Error) -> Failure {
    match error {
        Error::Server(own) => {
            classify_code(server, user, stage, own.code, &format!("ERROR {} ({}): {}", own.code, own.state, own.message))
        }
        Error::Io(IoError::Tls(tls_error)) => tls::failure(server, &tls_error.to_string()),
        Error::Io(IoError::Io(io)) if io.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => {
            tls::failure(server, &io.to_string())
        }
        Error::Io(IoError::Io(io)) => classify_io(server, stage, io),
        Error::Driver(driver) => classify_driver(server, stage, driver),
        other => Failure::new(
            Class::Remote,
            format!("{server}: the driver failed"),
            "see the detail, which is the message of the driver",
        )
        .detail(other.to_string()),
    }
}

/// Classifies an error code. `message` is the server's message and becomes the detail of the failure.
#[must_use]
pub fn classify_code(server: &DatabaseServer, user: &str, stage: Stage<'_>, code: u16, message: &str) -> Failure {
    let doing = match stage {
        Stage::Open => "log in",
        Stage::Work(what) => what,
    };
    let account = format!("'{}'@'HOST'", user.replace('\'', "''"));
    let grant = format!("GRANT SELECT, SHOW VIEW ON {}.* TO {account};", backtick(&server.database));
    let failure = match code {
        1045 | 1449 if matches!(stage, Stage::Work(_)) => Failure::new(
            Class::PermissionDenied,
            format!("{server}: could not {doing}: the DEFINER of the view no longer exists or has lost its rights"),
            "ALTER DEFINER = an existing account VIEW ...; or remove the view",
        ),
        1045 | 1698 | 1862 | 4151 => Failure::new(
            Class::CredentialRejected,
            format!("{server}: the password of {user} is wrong, has expired, or the account is locked"),
            format!(
                "store the right password where credential_locator points; to set a new one: ALTER USER {account} IDENTIFIED BY '...';"
            ),
        ),
        1130 => Failure::new(
            Class::CredentialRejected,
            format!("{server}: the server does not accept connections from this machine"),
            format!("create the account {account} for the address of this machine"),
        ),
        1044 => Failure::new(Class::PermissionDenied, format!("{server}: {user} does not have access to the database"), grant),
        1142 | 1143 | 1227 | 1370 | 1356 => {
            Failure::new(Class::PermissionDenied, format!("{server}: {user} does not have the privilege to {doing}"), grant)
        }
        1049 => Failure::new(
            Class::NotFound,
            format!("{server}: the database does not exist"),
            "correct the name in the resource id; SHOW DATABASES lists those that exist",
        ),
        1792 => Failure::new(
            Class::Remote,
            format!("{server}: could not {doing}, because it would write and the transaction is read-only"),
            format!("a view or function writes when it is read: REVOKE SELECT on it FROM {account};"),
        ),
        1040 | 1203 | 1226 => Failure::new(
            Class::Throttled,
            format!("{server}: the server does not have a free connection for {user}"),
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
            format!("{server}: another session has locked what AAM wants to read"),
            "look for a long-running DDL statement: SHOW PROCESSLIST;",
        ),
        1969 | 3024 => Failure::new(
            Class::Remote,
            format!("{server}: the time limit stopped the statement to {doing}"),
            "check the load and the number of tables on the server",
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
            "see the detail, which is the message of the server",
        ),
    };
    failure.detail(format!("the server said: {message}"))
}

/// Whether the failure affects only this table or view. Others may then be readable.
#[must_use]
pub fn only_this_one(failure: &Failure) -> bool {
    failure.class == Class::PermissionDenied || failure.detail.contains("ERROR 1792 ")
}

fn classify_io(server: &DatabaseServer, stage: Stage<'_>, error: &std::io::Error) -> Failure {
    let opening = matches!(stage, Stage::Open);
    let failure = match error.kind() {
        ErrorKind::ConnectionRefused | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::TimedOut => {
            return unreachable(server, error);
        }
        ErrorKind::ConnectionReset if opening => Failure::new(
            Class::Network,
            format!("{server}: the connection was reset"),
            "check the firewalls and proxies between AAM and the server",
        ),
        // The driver reports packet lengths or sequence numbers that occur only if the peer speaks another protocol.
        _ if opening && is_packet_error(error) => wrong_service(server),
        _ if is_packet_error(error) => too_long(server),
        _ => connection_closed(server),
    };
    failure.detail(error.to_string())
}

fn classify_driver(server: &DatabaseServer, stage: Stage<'_>, error: &DriverError) -> Failure {
    let opening = matches!(stage, Stage::Open);
    let failure = match error {
        DriverError::NoClientSslFlagFromServer => return tls::failure(server, &error.to_string()),
        DriverError::ConnectionClosed => connection_closed(server),
        DriverError::PacketTooLarge if !opening => too_long(server),
        DriverError::UnknownAuthPlugin { .. } | DriverError::CleartextPluginDisabled | DriverError::MysqlOldPasswordDisabled => {
            Failure::new(
                Class::Misconfigured,
                format!("{server}: the server requires an authentication method that AAM does not support"),
                "use an account with mysql_native_password, ed25519 or caching_sha2_password",
            )
        }
        _ if opening => wrong_service(server),
        _ => Failure::new(
            Class::Remote,
            format!("{server}: the response is not valid"),
            "check the proxies between AAM and the server",
        ),
    };
    failure.detail(error.to_string())
}

/// Whether the packet codec reported the error. The codec reports its own errors as `std::io::Error`.
fn is_packet_error(error: &std::io::Error) -> bool {
    let message = error.to_string();
    matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::InvalidInput)
        || message.contains("max_allowed_packet")
        || message.contains("out of sync")
}

fn too_long(server: &DatabaseServer) -> Failure {
    Failure::new(
        Class::Remote,
        format!("{server}: a row is larger than the limit of AAM (16 MiB)"),
        "use a view without the very long values",
    )
}

fn connection_closed(server: &DatabaseServer) -> Failure {
    Failure::new(
        Class::Remote,
        format!("{server}: the connection was closed in the middle of a response"),
        "check the log of the server and the proxies between AAM and the server",
    )
}

fn wrong_service(server: &DatabaseServer) -> Failure {
    Failure::new(
        Class::WrongService,
        format!("{server}: the service at this address does not speak the MySQL protocol"),
        format!("check host and port: {} is another service", server.authority()),
    )
}
