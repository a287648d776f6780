//! The properties of a database URL: an allowlist. Everything else is refused by name.
//!
//! Drivers have properties that load classes, read local files or run statements at connect.
//! None of them can take effect here, and none is passed over in silence either.

use super::uri::{Server, Tls, Wire, holds_login, misconfigured};
use crate::model::Failure;
use percent_encoding::percent_decode_str;
use std::time::Duration;

/// Properties that open a hole in a driver: refused with the reason.
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

/// Reads `query` into `server`.
///
/// # Errors
/// `Misconfigured`, naming the property and never its value.
pub(super) fn apply(server: &mut Server, query: &str) -> Result<(), Failure> {
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let lower = name.to_ascii_lowercase();
        if ["user", "pass", "pwd", "secret", "token", "key", "credential"].iter().any(|word| lower.contains(word)) {
            return Err(holds_login());
        }
        let value = percent_decode_str(value)
            .decode_utf8()
            .map_err(|_| misconfigured(format!("the value of {} is no UTF-8 text", shown(name)), "write it as UTF-8"))?;
        if DANGEROUS.contains(&lower.as_str()) {
            return Err(misconfigured(
                format!("the property {} is refused: it lets a server or a URL run or read more than the database", shown(name)),
                format!("remove {} from the resource id", shown(name)),
            ));
        }
        one(server, name, &lower, &value)?;
    }
    Ok(())
}

fn one(server: &mut Server, name: &str, lower: &str, value: &str) -> Result<(), Failure> {
    match (server.wire, lower) {
        (_, "sslmode") => server.tls = mode(name, value)?,
        (Wire::Postgres, "ssl") | (Wire::Mysql, "usessl" | "requiressl" | "verifyservercertificate") => {
            if !truth(name, value)? {
                return Err(misconfigured(
                    format!("the property {} does not say what is meant", shown(name)),
                    "write sslmode=disable to go without encryption, or remove it to verify the server",
                ));
            }
            server.tls = Tls::Verify;
        }
        (Wire::Postgres, "currentschema" | "search_path") => server.schema = Some(schema(name, value)?),
        (Wire::Postgres, "applicationname" | "application_name") => server.application = Some(application(value)),
        (Wire::Postgres, "connecttimeout" | "connect_timeout" | "logintimeout") => {
            server.connect_timeout = Some(Duration::from_secs(number(name, value)?));
        }
        (Wire::Postgres, "sockettimeout") => server.answer_timeout = Some(Duration::from_secs(number(name, value)?)),
        (Wire::Mysql, "connecttimeout") => server.connect_timeout = Some(Duration::from_millis(number(name, value)?)),
        (Wire::Mysql, "sockettimeout") => server.answer_timeout = Some(Duration::from_millis(number(name, value)?)),
        (_, "readonly") => {
            if !truth(name, value)? {
                return Err(misconfigured("readOnly=false is refused: AAM only reads", "remove readOnly from the resource id"));
            }
        }
        // About how a Java driver shows values; nothing that AAM reads depends on them.
        (_, "tcpkeepalive") | (Wire::Mysql, "servertimezone" | "connectiontimezone" | "characterencoding" | "useunicode") => {}
        _ => {
            return Err(misconfigured(
                format!("the property {} is not on the list of accepted properties", shown(name)),
                match server.wire {
                    Wire::Postgres => {
                        "remove it; accepted are sslmode, ssl, currentSchema, ApplicationName, connectTimeout, socketTimeout, readOnly"
                    }
                    Wire::Mysql => {
                        "remove it; accepted are sslMode, useSSL, connectTimeout, socketTimeout, readOnly, serverTimezone, characterEncoding"
                    }
                },
            ));
        }
    }
    Ok(())
}

/// The words of libpq, MySQL Connector/J and MariaDB Connector/J. A weaker form of verification
/// than asked for is never used; a stronger one is.
fn mode(name: &str, value: &str) -> Result<Tls, Failure> {
    match value.to_ascii_lowercase().as_str() {
        "disable" | "disabled" => Ok(Tls::Disable),
        "allow" | "prefer" | "preferred" => Ok(Tls::Prefer),
        "require" | "required" | "verify-ca" | "verify_ca" | "verify-full" | "verify_identity" => Ok(Tls::Verify),
        _ => Err(misconfigured(
            format!("the value of {} is not one that verifies the server or says plainly that nothing is verified", shown(name)),
            "write sslmode=verify-full, or sslmode=disable to go without encryption",
        )),
    }
}

fn truth(name: &str, value: &str) -> Result<bool, Failure> {
    match value.to_ascii_lowercase().as_str() {
        "" | "true" | "yes" | "1" => Ok(true),
        "false" | "no" | "0" => Ok(false),
        _ => Err(misconfigured(format!("the value of {} is neither true nor false", shown(name)), "write true or remove it")),
    }
}

/// From 1: zero means "without limit" to JDBC drivers, which AAM never is.
fn number(name: &str, value: &str) -> Result<u64, Failure> {
    match value.parse::<u64>() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(misconfigured(
            format!("the value of {} is not a whole number above zero", shown(name)),
            "write a number above zero",
        )),
    }
}

fn schema(name: &str, value: &str) -> Result<String, Failure> {
    let value = value.strip_prefix('"').and_then(|inside| inside.strip_suffix('"')).unwrap_or(value);
    if value.is_empty() || value.contains(',') || value.contains('\0') || value.len() > 63 {
        return Err(misconfigured(
            format!("{} must name exactly one schema", shown(name)),
            "name one schema, or remove it to look at all",
        ));
    }
    Ok(value.to_string())
}

/// PostgreSQL keeps 63 bytes of printable ASCII.
fn application(value: &str) -> String {
    value.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(63).collect()
}

/// A property name, when it looks like one; a slip could put a secret in its place.
fn shown(name: &str) -> String {
    if name.len() <= 40 && !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')) {
        return format!("`{name}`");
    }
    "(a name that is none)".to_string()
}
