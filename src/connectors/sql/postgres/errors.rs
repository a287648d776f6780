//! From a PostgreSQL error to a failure.
//!
//! Codes: PostgreSQL manual, appendix A.

use super::meter::{FOREIGN, TOO_LONG};
use crate::connectors::sql::tls;
use crate::connectors::sql::uri::Server;
use crate::model::{Class, Failure};
use std::error::Error as _;
use std::time::Duration;
use tokio_postgres::Error;
use tokio_postgres::error::DbError;

/// When it happened.
#[derive(Clone, Copy)]
pub enum Stage<'a> {
    /// Before the login was answered.
    Open,
    /// Later; says to do what.
    Work(&'a str),
}

/// The failure of `error`. `died` is what the connection ended with, when it did.
#[must_use]
pub fn of(server: &Server, user: &str, stage: Stage<'_>, error: &Error, died: Option<String>) -> Failure {
    match error.as_db_error() {
        Some(db) => of_code(server, user, stage, db.code().code(), &words(db)),
        None => of_wire(server, stage, error, died),
    }
}

/// The server's own words, with code, detail and hint.
fn words(db: &DbError) -> String {
    let mut words = format!("{} {}: {}", db.severity(), db.code().code(), db.message());
    for (name, more) in [("detail", db.detail()), ("hint", db.hint()), ("context", db.where_())] {
        if let Some(more) = more {
            words.push_str(&format!("; {name}: {more}"));
        }
    }
    words
}

/// The table of codes. `words` is the detail that a person reads.
#[must_use]
pub fn of_code(server: &Server, user: &str, stage: Stage<'_>, code: &str, words: &str) -> Failure {
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
            format!("put the right password behind credential_locator; to set a new one: ALTER ROLE {role} PASSWORD '...'"),
        ),
        "28000" if words.contains("no encryption") => Failure::new(
            Class::CredentialRejected,
            format!("{server}: the server does not admit {user} over an unencrypted connection"),
            format!(
                "write ?sslmode=verify-full into the resource id, or let pg_hba.conf admit {role} to {database} with scram-sha-256"
            ),
        ),
        "28000" => Failure::new(
            Class::CredentialRejected,
            format!("{server}: {user} may not log in"),
            format!("ALTER ROLE {role} LOGIN; and let pg_hba.conf admit it to {database} with scram-sha-256"),
        ),
        "3D000" => Failure::new(
            Class::NotFound,
            format!("{server}: there is no such database"),
            format!("correct the name in the resource id; psql -h {} -p {} -l lists those that exist", server.host, server.port),
        ),
        "42501" if matches!(stage, Stage::Open) => Failure::new(
            Class::PermissionDenied,
            format!("{server}: {user} lacks the privilege CONNECT"),
            format!("GRANT CONNECT ON DATABASE {database} TO {role};"),
        ),
        "42501" => Failure::new(
            Class::PermissionDenied,
            format!("{server}: {user} lacks a privilege to {doing}"),
            format!("grant what the detail names, for example: GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role};"),
        ),
        "25006" => Failure::new(
            Class::Remote,
            format!("{server}: to {doing} would write; the read-only transaction refused it"),
            format!("a view or function writes when it is read; REVOKE SELECT on it FROM {role};"),
        ),
        "53300" => Failure::new(
            Class::Throttled,
            format!("{server}: the server has no free connection slot"),
            "wait, or raise max_connections or the role's CONNECTION LIMIT",
        )
        .after(Duration::from_secs(30)),
        "57014" => Failure::new(
            Class::Remote,
            format!("{server}: the statement to {doing} was stopped by the time limit"),
            "look for load or for very many tables on the server; name one schema with ?currentSchema=NAME",
        ),
        "55P03" => Failure::new(
            Class::Remote,
            format!("{server}: another session holds a lock on what was to be read"),
            "look for a long DDL transaction: SELECT * FROM pg_locks WHERE NOT granted;",
        ),
        "57P03" => Failure::new(
            Class::Remote,
            format!("{server}: the server is starting up or shutting down"),
            "wait until it accepts connections",
        ),
        "57P01" | "57P02" => {
            Failure::new(Class::Remote, format!("{server}: the server ended the session"), "it is tried again by itself")
        }
        _ => Failure::new(
            Class::Remote,
            format!("{server}: the server refused to {doing}"),
            "read the detail: these are the server's own words",
        ),
    };
    failure.detail(words)
}

/// Whether one relation cannot be read while others may be.
#[must_use]
pub fn only_this_one(failure: &Failure) -> bool {
    failure.class == Class::PermissionDenied || failure.detail.contains(" 25006: ")
}

/// An error without a server's word: the wire itself.
fn of_wire(server: &Server, stage: Stage<'_>, error: &Error, died: Option<String>) -> Failure {
    let kind = error.to_string();
    let detail = died.unwrap_or_else(|| chain(error));
    let nonsense = [FOREIGN, "error parsing response", "unexpected message"].iter().any(|words| detail.contains(words));
    if kind.starts_with("error performing TLS") && !nonsense {
        return tls::failure(server, &detail);
    }
    if detail.contains(TOO_LONG) {
        return Failure::new(
            Class::Remote,
            format!("{server}: the answer is too long"),
            "name one schema with ?currentSchema=NAME",
        )
        .detail(detail);
    }
    let opening = matches!(stage, Stage::Open);
    if nonsense && opening {
        return Failure::new(
            Class::WrongService,
            format!("{server}: what listens there does not speak the PostgreSQL protocol"),
            format!("check host and port: {} is another service", server.authority()),
        )
        .detail(detail);
    }
    if kind.starts_with("authentication error") || kind.starts_with("invalid configuration") {
        return Failure::new(
            Class::Misconfigured,
            format!("{server}: the server asks for a kind of login that AAM does not offer"),
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
            "look at firewalls and proxies on the way",
        )
        .detail(detail);
    }
    let (what, fix) = if nonsense {
        ("the answer makes no sense", "look at proxies between here and the server")
    } else {
        ("the connection was cut in the middle of an answer", "look at the server's log and at proxies on the way")
    };
    Failure::new(Class::Remote, format!("{server}: {what}"), fix).detail(detail)
}

/// The TCP connection did not come about.
#[must_use]
pub fn unreachable(server: &Server, error: &std::io::Error) -> Failure {
    Failure::new(
        Class::Network,
        format!("{server}: nobody answers at {}", server.authority()),
        format!("check host, port, routes and firewalls: nc -vz {} {}", server.host, server.port),
    )
    .detail(error.to_string())
}

fn source_io(error: &Error) -> Option<std::io::ErrorKind> {
    error.source().and_then(|source| source.downcast_ref::<std::io::Error>()).map(std::io::Error::kind)
}

/// The error and everything below it, in one line.
#[must_use]
pub fn chain(error: &Error) -> String {
    let mut words = error.to_string();
    let mut below = error.source();
    while let Some(cause) = below {
        words.push_str(": ");
        words.push_str(&cause.to_string());
        below = cause.source();
    }
    words
}
