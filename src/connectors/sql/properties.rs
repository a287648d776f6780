//! The allowlist for the properties of a database URL. Every other property is refused by name.
//!
//! Drivers have properties that load classes, read local files or run statements when they connect. Such properties have no
//! effect here, but they are refused with a reason instead of being ignored.

use super::server::{DatabaseServer, Protocol, Tls, holds_login, misconfigured};
use crate::model::Failure;
use percent_encoding::percent_decode_str;
use std::time::Duration;

/// Properties that make a driver unsafe. They are refused with a specific reason.
const DANGEROUS: [&str; 22] = [
    "allowloadlocalinfile",
    "allowloadlocalinfileinpath",
    "allowurlinlocalinfile",
    "allowlocalinfile",
    "allowmultiqueries",
    "allowpublickeyretrieval",
    "autodeserialize",
    "queryinterceptors",
    "statementinterceptors",
    "connectionlifecycleinterceptors",
    "exceptioninterceptors",
    "detectcustomcollations",
    "socketfactory",
    "socketfactoryarg",
    "sslfactory",
    "sslfactoryarg",
    "sslhostnameverifier",
    "sslpasswordcallback",
    "authenticationpluginclassname",
    "loggerfile",
    "init",
    "sessionvariables",
];

/// Applies the properties in `query` to `server`.
///
/// # Errors
/// `Misconfigured`, naming the property but not its value.
pub(super) fn apply(server: &mut DatabaseServer, query: &str) -> Result<(), Failure> {
    let mut pairs: Vec<(&str, &str)> =
        query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, ""))).collect();
    pairs.sort_by_key(|(name, _)| tls_rank(name));
    let names = |(name, value): &(&str, &str), parts: &[&str]| {
        let lower = name.to_ascii_lowercase();
        !value.is_empty() && parts.iter().any(|part| lower.contains(part))
    };
    let has_password = pairs.iter().any(|pair| names(pair, &["pass", "pwd", "secret", "token", "key", "credential"]));
    if has_password || pairs.iter().any(|pair| names(pair, &["user"])) {
        return Err(holds_login(has_password));
    }
    for (name, value) in pairs {
        let lower = name.to_ascii_lowercase();
        let value = percent_decode_str(value)
            .decode_utf8()
            .map_err(|_| misconfigured(format!("the value of {} is not UTF-8", display_name(name)), "write it as UTF-8"))?;
        if DANGEROUS.contains(&lower.as_str()) {
            return Err(misconfigured(
                format!(
                    "the property {} is not allowed: it lets a server or a URL run code or read more than the database",
                    display_name(name)
                ),
                format!("remove {} from the resource id", display_name(name)),
            ));
        }
        apply_property(server, name, &lower, &value)?;
    }
    Ok(())
}

/// The order in which properties about TLS are applied, so that the later one wins: sslMode before useSSL, and useSSL before
/// the properties that only refine it (MySQL Connector/J Developer Guide, "Security").
fn tls_rank(name: &str) -> u8 {
    match name.to_ascii_lowercase().as_str() {
        "sslmode" => 2,
        "usessl" => 1,
        _ => 0,
    }
}

fn apply_property(server: &mut DatabaseServer, name: &str, lower: &str, value: &str) -> Result<(), Failure> {
    match (server.wire, lower) {
        (wire, "sslmode") => server.tls = tls_mode(wire, name, value)?,
        (Protocol::Mysql, "usessl") => server.tls = if boolean(name, value)? { Tls::Verify } else { Tls::Disable },
        // Their default is false, which says nothing.
        (Protocol::Mysql, "requiressl" | "verifyservercertificate") => {
            if boolean(name, value)? {
                server.tls = Tls::Verify;
            }
        }
        (Protocol::Postgres, "ssl") => {
            if !boolean(name, value)? {
                return Err(misconfigured(
                    format!("the property {} is ambiguous", display_name(name)),
                    "write sslmode=disable to connect without encryption, or remove the property to verify the server",
                ));
            }
            server.tls = Tls::Verify;
        }
        (Protocol::Postgres, "currentschema" | "search_path") => server.schema = Some(schema(name, value)?),
        (Protocol::Postgres, "applicationname" | "application_name") => server.application = Some(application(value)),
        (Protocol::Postgres, "connecttimeout" | "connect_timeout" | "logintimeout") => {
            server.connect_timeout = Some(Duration::from_secs(number(name, value)?));
        }
        (Protocol::Postgres, "sockettimeout") => server.answer_timeout = Some(Duration::from_secs(number(name, value)?)),
        (Protocol::Mysql, "connecttimeout") => server.connect_timeout = Some(Duration::from_millis(number(name, value)?)),
        (Protocol::Mysql, "sockettimeout") => server.answer_timeout = Some(Duration::from_millis(number(name, value)?)),
        (_, "readonly") => {
            if !boolean(name, value)? {
                return Err(misconfigured(
                    "readOnly=false is not allowed, because AAM only reads",
                    "remove readOnly from the resource id",
                ));
            }
        }
        // These change how a Java driver presents values, which does not affect what AAM reads.
        (_, "tcpkeepalive") | (Protocol::Mysql, "servertimezone" | "connectiontimezone" | "characterencoding" | "useunicode") => {
        }
        _ => {
            return Err(misconfigured(
                format!("the property {} is not supported", display_name(name)),
                match server.wire {
                    Protocol::Postgres => {
                        "remove it; supported are sslmode, ssl, currentSchema, ApplicationName, connectTimeout, socketTimeout, readOnly"
                    }
                    Protocol::Mysql => {
                        "remove it; supported are sslMode, useSSL, connectTimeout, socketTimeout, readOnly, serverTimezone, characterEncoding"
                    }
                },
            ));
        }
    }
    Ok(())
}

/// Parses the values of libpq, MySQL Connector/J and MariaDB Connector/J. The verification may be stronger than
/// requested, but never weaker.
fn tls_mode(wire: Protocol, name: &str, value: &str) -> Result<Tls, Failure> {
    match value.to_ascii_lowercase().as_str() {
        // MariaDB Connector/J: encrypt without verifying the server.
        "trust" if wire == Protocol::Mysql => Ok(Tls::Verify),
        "disable" | "disabled" => Ok(Tls::Disable),
        "allow" | "prefer" | "preferred" => Ok(Tls::Prefer),
        "require" | "required" | "verify-ca" | "verify_ca" | "verify-full" | "verify_identity" => Ok(Tls::Verify),
        _ => Err(misconfigured(
            format!("the value of {} neither verifies the server nor disables encryption explicitly", display_name(name)),
            "write sslmode=verify-full, or sslmode=disable to connect without encryption",
        )),
    }
}

fn boolean(name: &str, value: &str) -> Result<bool, Failure> {
    match value.to_ascii_lowercase().as_str() {
        "" | "true" | "yes" | "1" => Ok(true),
        "false" | "no" | "0" => Ok(false),
        _ => Err(misconfigured(
            format!("the value of {} is neither true nor false", display_name(name)),
            "write true or remove it",
        )),
    }
}

/// Parses a timeout. Zero is refused, because it means "no limit" to JDBC drivers and AAM always has limits.
fn number(name: &str, value: &str) -> Result<u64, Failure> {
    match value.parse::<u64>() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(misconfigured(
            format!("the value of {} is not a whole number above zero", display_name(name)),
            "write a number above zero",
        )),
    }
}

fn schema(name: &str, value: &str) -> Result<String, Failure> {
    let value = value.strip_prefix('"').and_then(|inside| inside.strip_suffix('"')).unwrap_or(value);
    if value.is_empty() || value.contains(',') || value.contains('\0') || value.len() > 63 {
        return Err(misconfigured(
            format!("{} must name exactly one schema", display_name(name)),
            "name one schema, or remove the property to include all schemas",
        ));
    }
    Ok(value.to_string())
}

/// PostgreSQL keeps at most 63 bytes of printable ASCII (manual, `application_name`).
fn application(value: &str) -> String {
    value.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(63).collect()
}

/// The name of a property for messages. It is shown only if it looks like a name, because a user may have put a secret in
/// its place by mistake.
fn display_name(name: &str) -> String {
    if name.len() <= 40 && !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')) {
        return format!("`{name}`");
    }
    "(name not shown)".to_string()
}
