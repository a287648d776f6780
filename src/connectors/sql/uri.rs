//! Parses the resource ids of the families `jdbc` and `postgres`, without network access.
//!
//! A user may have written a password anywhere in a resource id. A failure therefore repeats only the dialect and the
//! *names* of the properties.

use super::dialects;
use super::driver_session::has_password;
pub use super::server::{DatabaseServer, Dialect, Protocol, Tls};
use super::server::{holds_login, misconfigured};
use crate::model::Failure;
use percent_encoding::percent_decode_str;
use std::net::Ipv6Addr;

/// The database that a resource id names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatabaseLocation {
    /// The path as it is written in the resource id.
    Sqlite(String),
    Server(DatabaseServer),
}

const POSTGRES_FORM: &str = "write postgresql://HOST:PORT/DATABASE or jdbc:postgresql://HOST:PORT/DATABASE";
const MYSQL_FORM: &str = "write jdbc:mysql://HOST:PORT/DATABASE or jdbc:mariadb://HOST:PORT/DATABASE";

/// Parses a resource id.
///
/// # Errors
/// `Unsupported` if the dialect is not supported, `Misconfigured` for everything else. Values are not repeated.
pub fn parse(resource_id: &str) -> Result<DatabaseLocation, Failure> {
    let id = resource_id.trim();
    if id.contains(|c: char| c.is_control()) {
        return Err(misconfigured("the resource id contains a control character", "remove the control character"));
    }
    let Some(rest) = strip_prefix_ignore_case(id, "jdbc:") else {
        return bare(id);
    };
    let (dialect, rest) = rest.split_once(':').unwrap_or((rest, ""));
    match dialect.to_ascii_lowercase().as_str() {
        "sqlite" => sqlite(rest),
        "postgresql" | "postgres" => server(Protocol::Postgres, rest),
        "mysql" | "mariadb" => server(Protocol::Mysql, rest),
        _ => Err(dialects::unsupported(dialect)),
    }
}

/// Parses the two forms of the family `postgres`: a URL, or `host:port/database`.
fn bare(id: &str) -> Result<DatabaseLocation, Failure> {
    if let Some((scheme, _)) = id.split_once("://") {
        return match scheme.to_ascii_lowercase().as_str() {
            "postgres" | "postgresql" => server(Protocol::Postgres, &id[scheme.len() + 1..]),
            "mysql" | "mariadb" => Err(misconfigured("a MySQL address must be a JDBC URL", MYSQL_FORM)),
            "sqlite" | "file" => Err(misconfigured("an SQLite address must be a JDBC URL", "write jdbc:sqlite:PATH")),
            other => Err(dialects::unsupported(other.strip_suffix("+srv").unwrap_or(other))),
        };
    }
    server(Protocol::Postgres, &format!("//{id}"))
}

fn sqlite(rest: &str) -> Result<DatabaseLocation, Failure> {
    let fix = "write jdbc:sqlite:PATH with a plain path below one of the policy's files.roots";
    if rest.is_empty() || rest.eq_ignore_ascii_case(":memory:") {
        return Err(misconfigured("the SQLite address does not name a file", fix));
    }
    if strip_prefix_ignore_case(rest, "file:").is_some() || rest.contains('?') {
        return Err(misconfigured("SQLite URIs and properties are not accepted", fix));
    }
    if rest.starts_with("~/") || rest.starts_with('$') {
        return Err(misconfigured("the path of the SQLite file is not expanded: AAM reads ~ and $NAME as they are written", fix));
    }
    Ok(DatabaseLocation::Sqlite(rest.to_string()))
}

fn server(wire: Protocol, rest: &str) -> Result<DatabaseLocation, Failure> {
    let form = match wire {
        Protocol::Postgres => POSTGRES_FORM,
        Protocol::Mysql => MYSQL_FORM,
    };
    let Some(rest) = rest.strip_prefix("//") else {
        return Err(misconfigured("the //HOST part of the database address is missing", form));
    };
    if rest.contains('@') {
        return Err(holds_login(has_password(rest)));
    }
    let (address, query) = rest.split_once('?').unwrap_or((rest, ""));
    let Some((authority, path)) = address.split_once('/') else {
        return Err(misconfigured("the database address does not name a database", form));
    };
    let (host, port) = host_and_port(authority, wire, form)?;
    let database = database(path, form)?;
    let mut server = DatabaseServer {
        wire,
        dialect: Dialect::Postgres,
        host,
        port,
        database,
        tls: Tls::Unspecified,
        schema: None,
        application: None,
        connect_timeout: None,
        answer_timeout: None,
    };
    super::properties::apply(&mut server, query)?;
    Ok(DatabaseLocation::Server(server))
}

fn host_and_port(authority: &str, wire: Protocol, form: &str) -> Result<(String, u16), Failure> {
    if authority.contains(',') {
        return Err(misconfigured("the database address names several hosts", format!("name one host per intent: {form}")));
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(inside) => {
            let (host, after) =
                inside.split_once(']').ok_or_else(|| misconfigured("the ] of an IPv6 address is missing", form))?;
            host.parse::<Ipv6Addr>().map_err(|_| misconfigured("the text in brackets is not an IPv6 address", form))?;
            (host, after.strip_prefix(':').or(if after.is_empty() { Some("") } else { None }))
        }
        None => {
            let (host, port) = authority.split_once(':').unwrap_or((authority, ""));
            (host, Some(port))
        }
    };
    let Some(port) = port else {
        return Err(misconfigured("text follows the ] of an IPv6 address", form));
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if host.is_empty() || host.len() > 253 || !(host.chars().all(is_name) || host.contains(':')) {
        return Err(misconfigured("the host of the database address is missing or is not a host name", form));
    }
    let port = match port {
        "" => wire.default_port(),
        text => match text.parse::<u16>() {
            Ok(port) if port > 0 => port,
            _ => {
                return Err(misconfigured("the port of the database address is not a number from 1 to 65535", form));
            }
        },
    };
    Ok((host.to_ascii_lowercase(), port))
}

fn database(path: &str, form: &str) -> Result<String, Failure> {
    let path = path.strip_suffix('/').unwrap_or(path);
    if path.is_empty() || path.contains('/') {
        return Err(misconfigured("the database address must name one database", form));
    }
    match percent_decode_str(path).decode_utf8() {
        Ok(name) if !name.contains('\0') => Ok(name.into_owned()),
        _ => Err(misconfigured("the name of the database is not UTF-8", form)),
    }
}

pub(in crate::connectors) fn strip_prefix_ignore_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let head = text.get(..prefix.len())?;
    if head.eq_ignore_ascii_case(prefix) { text.get(prefix.len()..) } else { None }
}

#[cfg(test)]
#[path = "uri_tests.rs"]
mod tests;
