//! Classifies PostgreSQL errors.
//!
//! The codes are from appendix A of the PostgreSQL manual. Errors of the login are in `login_errors`, those of reading one
//! table or view in `relation_errors`.

use super::fixes::Operator;
use super::login_errors;
use super::meter::{NO_MEMORY, NOT_POSTGRES, TOO_LONG, TOO_MUCH_MEMORY};
use super::relation_errors;
use crate::connectors::sql::tls;
use crate::connectors::sql::uri::DatabaseServer;
use crate::model::{Class, Failure};
use std::error::Error as _;
use std::time::Duration;
use tokio_postgres::Error;
use tokio_postgres::error::{DbError, Severity};

/// How long an attempt waits if there was no memory for its rows.
const MEMORY_RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// The phase in which an error occurred.
#[derive(Clone, Copy)]
pub enum Stage<'a> {
    /// Before the login is complete.
    Open,
    /// After the login. The text names what was attempted, for example `list the tables`.
    Work(&'a str),
    /// Reading the rows of one relation, whose quoted name this is.
    Read(&'a str),
}

impl Stage<'_> {
    /// What was attempted, after "could not".
    #[must_use]
    pub fn action(self) -> String {
        match self {
            Stage::Open => "log in".to_string(),
            Stage::Work(what) => what.to_string(),
            Stage::Read(relation) => format!("read {relation}"),
        }
    }
}

/// A statement that failed.
#[derive(Debug)]
pub struct StatementFailure {
    pub failure: Failure,
    /// Whether the connection, the login or the protocol failed. Otherwise, the error concerns only what the statement reads,
    /// and the session can be used for other statements.
    pub ends_session: bool,
    /// The error code of the server. `None` if the error did not come from the server.
    pub code: Option<String>,
}

/// Classifies `error`. If the connection has ended, `connection_error` is the error that ended it.
#[must_use]
pub fn classify(
    server: &DatabaseServer,
    user: &str,
    stage: Stage<'_>,
    error: &Error,
    connection_error: Option<String>,
) -> StatementFailure {
    match error.as_db_error() {
        Some(db) => StatementFailure {
            failure: classify_code(server, user, stage, db.code().code(), &server_message(db)),
            ends_session: is_fatal(db),
            code: Some(db.code().code().to_string()),
        },
        None => StatementFailure {
            failure: classify_transport(server, user, stage, error, connection_error),
            ends_session: true,
            code: None,
        },
    }
}

/// Whether the server ends the session with this error (manual, "Message Severity Levels"). Servers before 9.6 and poolers
/// send only the severity that may be translated, which poolers do not do.
fn is_fatal(db: &DbError) -> bool {
    match db.parsed_severity() {
        Some(severity) => matches!(severity, Severity::Fatal | Severity::Panic),
        None => matches!(db.severity(), "FATAL" | "PANIC"),
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
    let failure = general(server, code).unwrap_or_else(|| match stage {
        Stage::Open => login_errors::classify(server, user, code, message),
        Stage::Read(relation) => relation_errors::classify(server, user, relation, code, message),
        Stage::Work(what) => work(server, user, what, code, message),
    });
    failure.detail(format!("the server said: {message}"))
}

/// Errors whose meaning does not depend on what was attempted.
fn general(server: &DatabaseServer, code: &str) -> Option<Failure> {
    Some(match code {
        "53300" => throttled(server),
        "57P03" => Failure::new(
            Class::Remote,
            format!("{server}: the server is starting up or shutting down"),
            "wait until it accepts connections; AAM retries automatically",
        ),
        "57P01" | "57P02" | "57P05" => Failure::new(
            Class::Remote,
            format!("{server}: the server ended the session"),
            "nothing to do: AAM retries automatically",
        ),
        _ => return None,
    })
}

/// The failure for a server or pooler without a free connection.
pub(super) fn throttled(server: &DatabaseServer) -> Failure {
    Failure::new(
        Class::Throttled,
        format!("{server}: the server does not have a free connection slot"),
        format!("nothing to do: AAM retries in 30 s; if it happens often, {}", Operator::from_server(server).more_connections()),
    )
    .after(Duration::from_secs(30))
}

/// Errors of a statement that reads the catalog.
fn work(server: &DatabaseServer, user: &str, what: &str, code: &str, message: &str) -> Failure {
    let operator = Operator::from_server(server);
    let role = crate::connectors::sql::quote::double(user);
    match code {
        "42501" => Failure::new(
            Class::PermissionDenied,
            format!("{server}: {user} does not have the privilege to {what}"),
            operator.catalog_grant(&role, message),
        ),
        "57014" => Failure::new(
            Class::Remote,
            format!("{server}: the time limit stopped the statement to {what}"),
            "name one schema in the resource id with ?currentSchema=NAME, so that AAM describes fewer tables, and check the load of the server",
        ),
        "55P03" => Failure::new(
            Class::Remote,
            format!("{server}: another session holds a lock that prevents AAM from trying to {what}"),
            format!("find the session that holds the lock: {}", operator.lock_holders()),
        ),
        _ => Failure::new(
            Class::Remote,
            format!("{server}: the server refused to {what}"),
            "see the detail, which is the message of the server; AAM retries automatically",
        ),
    }
}

/// Classifies an error of the connection itself, which the server did not report.
fn classify_transport(
    server: &DatabaseServer,
    user: &str,
    stage: Stage<'_>,
    error: &Error,
    connection_error: Option<String>,
) -> Failure {
    if let Some(refusal) = login_errors::refusal(error) {
        return login_errors::refused(server, user, refusal);
    }
    let kind = error.to_string();
    let detail = connection_error.unwrap_or_else(|| error_chain(error));
    let nonsense = [NOT_POSTGRES, "error parsing response", "unexpected message"].iter().any(|message| detail.contains(message));
    if detail.contains("CertificateRequired") {
        return login_errors::client_certificate(server, user).detail(detail);
    }
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
        return too_long(server, stage).failure;
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
    if detail.contains("SCRAM verification error") {
        return login_errors::unproven_by_scram(server).detail(detail);
    }
    if kind.starts_with("authentication error") || kind.starts_with("invalid configuration") {
        return Failure::new(
            Class::Misconfigured,
            format!("{server}: the login with SCRAM was not valid"),
            format!("check which server or pooler answers at {}; it must use scram-sha-256", server.authority()),
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

/// The failure for a response that is larger than a limit of AAM.
#[must_use]
pub fn too_long(server: &DatabaseServer, stage: Stage<'_>) -> StatementFailure {
    let title = format!("{server}: the response is larger than the limit of AAM while trying to {}", stage.action());
    let failure = Failure::new(Class::Misconfigured, title, "name one schema in the resource id with ?currentSchema=NAME");
    StatementFailure { failure: failure.detail(TOO_LONG), ends_session: true, code: None }
}

/// The failure for a response whose result sets are not those of the statements.
#[must_use]
pub fn malformed(server: &DatabaseServer, stage: Stage<'_>) -> StatementFailure {
    let title =
        format!("{server}: the response does not have the form of {} while trying to {}", server.product(), stage.action());
    let fix = format!("check which program answers at {}, and the proxies between AAM and it", server.authority());
    let failure = Failure::new(Class::Remote, title, fix);
    let failure = failure.detail("the result sets do not have the columns of the statements");
    StatementFailure { failure, ends_session: true, code: None }
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
