//! Classifies PostgreSQL errors.
//!
//! The codes are from appendix A of the PostgreSQL manual.

use super::meter::{NO_MEMORY, NOT_POSTGRES, TOO_LONG, TOO_MUCH_MEMORY};
use crate::connectors::sql::tls;
use crate::connectors::sql::uri::DatabaseServer;
use crate::model::{Class, Failure};
use std::error::Error as _;
use std::time::Duration;
use tokio_postgres::Error;
use tokio_postgres::error::DbError;

/// How long an attempt waits if there was no memory for its rows.
const MEMORY_RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// The phase in which an error occurred.
#[derive(Clone, Copy)]
pub enum Stage<'a> {
    /// Before the login is complete.
    Open,
    /// After the login. The text names what was attempted, for example `list the tables`.
    Work(&'a str),
}

/// Classifies `error`. If the connection has ended, `connection_error` is the error that ended it.
#[must_use]
pub fn classify(
    server: &DatabaseServer,
    user: &str,
    stage: Stage<'_>,
    error: &Error,
    connection_error: Option<String>,
) -> Failure {
    match error.as_db_error() {
        Some(db) => classify_code(server, user, stage, db.code().code(), &server_message(db)),
        None => classify_transport(server, stage, error, connection_error),
    }
}

/// The server's message with code, detail and hint.
fn server_message(db: &DbError) -> String {
    let mut message = format!("{} {}: {}", db.severity(), db.code().code(), db.message());
    for (name, more) in [("detail", db.detail()), ("hint", db.hint()), ("context", db.where_())] {
        if let Some(more) = more {
            message.push_str(&format!("; {name}: {more}"));
        }
    }
    message
}

/// Classifies an error code. `message` is the server's message and becomes the detail of the failure.
#[must_use]
pub fn classify_code(server: &DatabaseServer, user: &str, stage: Stage<'_>, code: &str, message: &str) -> Failure {
    let doing = match stage {
        Stage::Open => "log in",
        Stage::Work(what) => what,
    };
    let database = crate::connectors::sql::quote::double(&server.database);
    let role = crate::connectors::sql::quote::double(user);
    let failure = match code {
        "28P01" => Failure::new(
            Class::CredentialRejected,
            format!("{server}: the password of {user} is wrong or has expired"),
            format!(
                "store the right password where credential_locator points; to set a new one: ALTER ROLE {role} PASSWORD '...'"
            ),
        ),
        "28000" if message.contains("no encryption") => Failure::new(
            Class::CredentialRejected,
            format!("{server}: the server does not accept {user} over an unencrypted connection"),
            format!(
                "add ?sslmode=verify-full to the resource id, or let pg_hba.conf admit {role} to {database} with scram-sha-256"
            ),
        ),
        "28000" => Failure::new(
            Class::CredentialRejected,
            format!("{server}: {user} is not allowed to log in"),
            format!("ALTER ROLE {role} LOGIN; and let pg_hba.conf admit it to {database} with scram-sha-256"),
        ),
        "3D000" => Failure::new(
            Class::NotFound,
            format!("{server}: the database does not exist"),
            format!("correct the name in the resource id; psql -h {} -p {} -l lists those that exist", server.host, server.port),
        ),
        "42501" if matches!(stage, Stage::Open) => Failure::new(
            Class::PermissionDenied,
            format!("{server}: {user} does not have the privilege CONNECT"),
            format!("GRANT CONNECT ON DATABASE {database} TO {role};"),
        ),
        "42501" => Failure::new(
            Class::PermissionDenied,
            format!("{server}: {user} does not have the privilege to {doing}"),
            format!("grant what the detail names, for example: GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role};"),
        ),
        "25006" => Failure::new(
            Class::Remote,
            format!("{server}: could not {doing}, because it would write and the transaction is read-only"),
            format!("a view or function writes when it is read: REVOKE SELECT on it FROM {role};"),
        ),
        "53300" => Failure::new(
            Class::Throttled,
            format!("{server}: the server does not have a free connection slot"),
            "wait, or raise max_connections or the role's CONNECTION LIMIT",
        )
        .after(Duration::from_secs(30)),
        "57014" => Failure::new(
            Class::Remote,
            format!("{server}: the time limit stopped the statement to {doing}"),
            "check the load and the number of tables on the server; name one schema with ?currentSchema=NAME",
        ),
        "55P03" => Failure::new(
            Class::Remote,
            format!("{server}: another session has locked what AAM wants to read"),
            "look for a long-running DDL transaction: SELECT * FROM pg_locks WHERE NOT granted;",
        ),
        "57P03" => Failure::new(
            Class::Remote,
            format!("{server}: the server is starting up or shutting down"),
            "wait until it accepts connections",
        ),
        "57P01" | "57P02" => Failure::new(
            Class::Remote,
            format!("{server}: the server ended the session"),
            "nothing to do: AAM retries automatically",
        ),
        _ => Failure::new(
            Class::Remote,
            format!("{server}: the server refused to {doing}"),
            "see the detail, which is the message of the server",
        ),
    };
    failure.detail(format!("the server said: {message}"))
}

/// Whether the failure affects only this relation. Others may then be readable.
#[must_use]
pub fn only_this_one(failure: &Failure) -> bool {
    failure.class == Class::PermissionDenied || failure.detail.contains(" 25006: ")
}

/// Classifies an error of the connection itself, which the server did not report.
fn classify_transport(server: &DatabaseServer, stage: Stage<'_>, error: &Error, connection_error: Option<String>) -> Failure {
    let kind = error.to_string();
    let detail = connection_error.unwrap_or_else(|| error_chain(error));
    let nonsense = [NOT_POSTGRES, "error parsing response", "unexpected message"].iter().any(|message| detail.contains(message));
    if kind.starts_with("error performing TLS") && !nonsense {
        return tls::failure(server, &detail);
    }
    if detail.contains(NO_MEMORY) {
        let fix = "AAM tries again; if this happens often, raise reconcile.memory in the policy";
        return Failure::new(Class::Throttled, format!("{server}: the response was discarded: the memory of AAM is in use"), fix)
            .after(MEMORY_RETRY_INTERVAL);
    }
    if let Some(at) = detail.find(TOO_MUCH_MEMORY) {
        let bound = detail.get(at + TOO_MUCH_MEMORY.len()..).unwrap_or_default();
        let fix =
            "name one schema with ?currentSchema=NAME, or raise reconcile.memory in the policy; one attempt may use half of it";
        return Failure::new(Class::Misconfigured, format!("{server}: the response{bound}"), fix);
    }
    if detail.contains(TOO_LONG) {
        return Failure::new(
            Class::Remote,
            format!("{server}: the response is larger than the limit of AAM"),
            "name one schema with ?currentSchema=NAME",
        )
        .detail(detail);
    }
    let opening = matches!(stage, Stage::Open);
    if nonsense && opening {
        return Failure::new(
            Class::WrongService,
            format!("{server}: the service at this address does not speak the PostgreSQL protocol"),
            format!("check host and port: {} is another service", server.authority()),
        )
        .detail(detail);
    }
    if kind.starts_with("authentication error") || kind.starts_with("invalid configuration") {
        return Failure::new(
            Class::Misconfigured,
            format!("{server}: the server requires an authentication method that AAM does not support"),
            "let pg_hba.conf ask this role for scram-sha-256",
        )
        .detail(detail);
    }
    let reset =
        source_io(error).is_some_and(|kind| matches!(kind, std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::TimedOut));
    if reset && opening {
        return Failure::new(
            Class::Network,
            format!("{server}: the connection was reset"),
            "check the firewalls and proxies between AAM and the server",
        )
        .detail(detail);
    }
    let (what, fix) = if nonsense {
        ("the response is not valid", "check the proxies between AAM and the server")
    } else {
        (
            "the connection was closed in the middle of a response",
            "check the log of the server and the proxies between AAM and the server",
        )
    };
    Failure::new(Class::Remote, format!("{server}: {what}"), fix).detail(detail)
}

fn source_io(error: &Error) -> Option<std::io::ErrorKind> {
    error.source().and_then(|source| source.downcast_ref::<std::io::Error>()).map(std::io::Error::kind)
}

/// Formats the error and its sources on one line.
#[must_use]
pub fn error_chain(error: &Error) -> String {
    let mut message = error.to_string();
    let mut below = error.source();
    while let Some(cause) = below {
        message.push_str(": ");
        message.push_str(&cause.to_string());
        below = cause.source();
    }
    message
}
