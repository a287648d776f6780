//! Failures of the login: what AAM refuses to send, what pg_hba.conf refuses, and what poolers say.

use super::errors;
use super::fixes::{Operator, USE_DATA_API};
use super::login_guard::{LoginRefusal, MAX_ITERATIONS, MIN_ITERATIONS};
use crate::connectors::sql::quote;
use crate::connectors::sql::uri::{DatabaseServer, Dialect};
use crate::model::text::is_unprintable;
use crate::model::{Class, Failure};
use std::error::Error as _;
use tokio_postgres::Error;

/// The refusal of [`super::login_guard::LoginGuard`] that ended the login.
#[must_use]
pub fn refusal(error: &Error) -> Option<&LoginRefusal> {
    let io = error.source()?.downcast_ref::<std::io::Error>()?;
    io.get_ref()?.downcast_ref::<LoginRefusal>()
}

/// The failure for a login that AAM did not continue.
#[must_use]
pub fn refused(server: &DatabaseServer, user: &str, refusal: &LoginRefusal) -> Failure {
    let line = format!("network.allow_weak_login: [\"{}\"]", server.authority());
    let unproven = "and TLS does not prove which server this is";
    let encrypt = "connect with TLS (?sslmode=verify-full)";
    let otherwise = format!("if this server may receive the password all the same, add to the policy: {line}");
    let role = quote::double(user);
    let operator = Operator::from_server(server);
    let failure = match refusal {
        LoginRefusal::NotAsked => Failure::new(
            Class::EgressRefused,
            format!("{server}: the server does not ask for the password, {unproven}"),
            format!("{encrypt}, or let the server ask {role} for its password; {otherwise}"),
        ),
        LoginRefusal::ClearText => Failure::new(
            Class::EgressRefused,
            format!("{server}: the password was not sent: the server asks for it in clear text, {unproven}"),
            format!("{encrypt}{}; {otherwise}", operator.stronger_login(&role, false)),
        ),
        LoginRefusal::Md5 => Failure::new(
            Class::EgressRefused,
            format!("{server}: the password was not sent: the server asks for its MD5 digest, {unproven}"),
            format!("{encrypt}{}; {otherwise}", operator.stronger_login(&role, true)),
        ),
        LoginRefusal::FewIterations(count) => Failure::new(
            Class::EgressRefused,
            format!(
                "{server}: the password was not used: the server asks for {count} SCRAM iterations, fewer than {MIN_ITERATIONS}, {unproven}"
            ),
            match operator.iterations(&role, MIN_ITERATIONS) {
                Some(statement) => format!("{encrypt}, or store the password with more iterations: {statement} {otherwise}"),
                None => format!("{encrypt}; {otherwise}"),
            },
        ),
        LoginRefusal::ManyIterations(count) => Failure::new(
            Class::Misconfigured,
            format!("{server}: the server asks for {count} SCRAM iterations; AAM computes at most {MAX_ITERATIONS}"),
            match operator.iterations(&role, MIN_ITERATIONS) {
                Some(statement) => format!("store the password with fewer iterations: {statement} then run `aam heal`"),
                None => format!("check which server answers at {}; then run `aam heal`", server.authority()),
            },
        ),
        LoginRefusal::RedshiftDigest => Failure::new(
            Class::Misconfigured,
            format!(
                "{server}: the password of {user} may be right: Redshift stores it as SHA-256 and asks for its digest (authentication code 13), which AAM does not support"
            ),
            format!(
                "{USE_DATA_API}; or store the password as MD5: ALTER USER {role} PASSWORD 'md5HASH', in which HASH is what SELECT md5('PASSWORD' || 'USER') returns; then aam heal"
            ),
        ),
        LoginRefusal::RedshiftIdentityProvider => Failure::new(
            Class::Misconfigured,
            format!(
                "{server}: Redshift asks {user} to log in at an identity provider (authentication code 14), which AAM does not support"
            ),
            format!("{USE_DATA_API}; or name a database user with a password"),
        ),
        LoginRefusal::Unsupported(method) => Failure::new(
            Class::Misconfigured,
            format!("{server}: the server asks {user} for {method}, which AAM does not support"),
            operator.other_method(&role),
        ),
        LoginRefusal::Malformed => Failure::new(
            Class::WrongService,
            format!("{server}: the authentication request of the server is not valid"),
            format!("check host and port: what answers at {} may not be {}", server.authority(), server.product()),
        ),
    };
    failure.detail(refusal.to_string())
}

/// The failure for a server that requires a client certificate.
#[must_use]
pub fn client_certificate(server: &DatabaseServer, user: &str) -> Failure {
    let role = quote::double(user);
    let fix = match Operator::from_server(server) {
        Operator::Users => {
            format!("let pg_hba.conf admit {role} with scram-sha-256 and without clientcert or cert, then run `aam heal`")
        }
        Operator::Vendor | Operator::Redshift => {
            format!("let the service admit {role} with a password and without a client certificate, then run `aam heal`")
        }
    };
    Failure::new(
        Class::Misconfigured,
        format!("{server}: the server requires a client certificate, and AAM does not support client certificates"),
        fix,
    )
}

/// The failure for a server that does not know the password, although it accepted it.
#[must_use]
pub fn unproven_by_scram(server: &DatabaseServer) -> Failure {
    Failure::new(
        Class::WrongService,
        format!("{server}: the server accepted the login without knowing the password, so it is not the right server"),
        format!("check which program answers at {}", server.authority()),
    )
}

/// Classifies an error code of the login.
#[must_use]
pub fn classify(server: &DatabaseServer, user: &str, code: &str, message: &str) -> Failure {
    let database = quote::double(&server.database);
    let role = quote::double(user);
    match code {
        "28P01" => wrong_password(server, user),
        "28000" => not_admitted(server, user, message),
        "3D000" => no_database(server),
        // Redshift has no privilege CONNECT.
        "42501" if server.dialect == Dialect::Redshift => Failure::new(
            Class::PermissionDenied,
            format!("{server}: {user} does not have a privilege that the login needs"),
            "grant what the detail names, which is the message of the server; then run `aam heal`",
        ),
        "42501" => Failure::new(
            Class::PermissionDenied,
            format!("{server}: {user} does not have the privilege CONNECT"),
            format!("GRANT CONNECT ON DATABASE {database} TO {role};"),
        ),
        _ => by_message(server, user, message),
    }
}

fn wrong_password(server: &DatabaseServer, user: &str) -> Failure {
    Failure::new(
        Class::CredentialRejected,
        format!("{server}: the password of {user} is wrong or has expired"),
        format!(
            "store the right password where credential_locator points; to set a new one: {}",
            Operator::from_server(server).new_password(&quote::double(user))
        ),
    )
}

fn no_database(server: &DatabaseServer) -> Failure {
    Failure::new(
        Class::NotFound,
        format!("{server}: the database does not exist"),
        format!("correct the name in the resource id; {}", Operator::from_server(server).list_databases(server)),
    )
}

/// `28000`: the server did not look at the password. Its message says why (`auth.c`, `ClientAuthentication` and
/// `auth_failed`, and `InitializeSessionUserId` of PostgreSQL 18).
fn not_admitted(server: &DatabaseServer, user: &str, message: &str) -> Failure {
    let role = quote::double(user);
    let operator = Operator::from_server(server);
    if message.contains("pg_hba.conf") {
        return no_hba_entry(server, user, message);
    }
    if operator == Operator::Redshift {
        return not_admitted_by_redshift(server, user, message);
    }
    if message.contains("client certificate") || message.contains("ertificate authentication failed") {
        return client_certificate(server, user);
    }
    if message.contains("is not permitted to log in") {
        return Failure::new(
            Class::CredentialRejected,
            format!("{server}: the role {user} is not permitted to log in"),
            format!("ALTER ROLE {role} LOGIN;"),
        );
    }
    if message.contains("role ") && message.contains("does not exist") {
        return Failure::new(
            Class::CredentialRejected,
            format!("{server}: the role {user} does not exist"),
            format!(
                "correct the user where credential_locator points, or create the role: CREATE ROLE {role} LOGIN PASSWORD '...';"
            ),
        );
    }
    if ["LDAP", "PAM", "RADIUS", "BSD"].iter().any(|method| message.contains(&format!("{method} authentication failed"))) {
        return Failure::new(
            Class::CredentialRejected,
            format!("{server}: the directory that the server asks does not accept the password of {user}"),
            "store the right password where credential_locator points",
        );
    }
    match by_message(server, user, message) {
        generic if generic.class == Class::Remote => Failure::new(
            Class::CredentialRejected,
            format!("{server}: the server does not admit {user}"),
            operator.not_admitted(),
        ),
        specific => specific,
    }
}

/// `28000` of Redshift, which also reports a wrong password with it \[R\] (amazon-redshift-python-driver#237).
fn not_admitted_by_redshift(server: &DatabaseServer, user: &str, message: &str) -> Failure {
    let operator = Operator::Redshift;
    // The passwords that GetClusterCredentials and GetCredentials issue are valid for 15 minutes to one hour [V] (botocore 1.44.8).
    if message.contains("IAM Authentication") {
        return Failure::new(
            Class::CredentialRejected,
            format!("{server}: the password of {user} was issued by IAM and is not valid any more"),
            format!("{USE_DATA_API}, with which AAM needs no such password; or store the password of a database user"),
        );
    }
    let new_password = operator.new_password(&quote::double(user));
    if message.contains("password") {
        return Failure::new(
            Class::CredentialRejected,
            format!("{server}: the user or the password is wrong, or the password has expired"),
            format!("store the right password where credential_locator points; to set a new one: {new_password}"),
        );
    }
    Failure::new(Class::CredentialRejected, format!("{server}: the server does not admit {user}"), operator.not_admitted())
}

/// No line of pg_hba.conf admits the connection, or a line rejects it. The message names the host, the user, the database and
/// the encryption as the server saw them.
///
/// The fix is a line to paste into pg_hba.conf, and the message is text that any server can choose. So the line takes only an
/// IP address from it, and the names from the resource id and the credential.
fn no_hba_entry(server: &DatabaseServer, user: &str, message: &str) -> Failure {
    let operator = Operator::from_server(server);
    let host = message.split_once("host \"").and_then(|(_, rest)| rest.split_once('"')).map(|(host, _)| host);
    let address = host.and_then(|host| host.parse::<std::net::IpAddr>().ok());
    let encrypted = message.contains("SSL encryption") || message.contains("SSL on");
    let (how, kind) = if encrypted { ("over TLS", "hostssl") } else { ("without encryption", "host") };
    let from = address.map_or("this machine".to_string(), |address| address.to_string());
    let title = if message.contains("rejects connection") {
        format!("{server}: a line of the server's pg_hba.conf rejects {user} at this database from {from} {how}")
    } else {
        format!("{server}: the server's pg_hba.conf does not have an entry for {user} at this database from {from} {how}")
    };
    if operator != Operator::Users {
        let fix = match encrypted {
            true => format!(
                "admit {from} in the network settings of the service (firewall, allowed addresses), and check that {user} may use this database"
            ),
            false => {
                "the service may require TLS: add ?sslmode=verify-full to the resource id, or remove sslmode=disable".to_string()
            }
        };
        return Failure::new(Class::CredentialRejected, title, fix);
    }
    let or = if encrypted { "" } else { ", or, if it has an entry for TLS, add ?sslmode=verify-full to the resource id" };
    let entry = match address {
        Some(address) if is_plain_name(&server.database) && is_plain_name(user) => {
            let (database, role) = (quote::double(&server.database), quote::double(user));
            let bits = if address.is_ipv4() { 32 } else { 128 };
            format!(
                "add to pg_hba.conf, above the lines that reject it: {kind} {database} {role} {address}/{bits} scram-sha-256 and"
            )
        }
        _ => {
            format!("add a line of type {kind} for this role, this database and the address of this machine to pg_hba.conf, and")
        }
    };
    Failure::new(Class::CredentialRejected, title, format!("{entry} reload it with SELECT pg_reload_conf();{or}"))
}

/// Whether the quoted name stands for itself in a line of pg_hba.conf. A name that begins with a slash is a regular
/// expression there, even in quotes, and a line feed ends the line (manual, "The pg_hba.conf File").
fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('/') && !name.chars().any(is_unprintable)
}

/// What poolers say in the text of an error. Their codes say little: PgBouncer sends 08P01 for nearly everything (`proto.c`,
/// `send_pooler_error`), Pgpool-II and Supavisor XX000, PgCat 58000.
fn by_message(server: &DatabaseServer, user: &str, message: &str) -> Failure {
    let operator = Operator::from_server(server);
    let lower = message.to_lowercase();
    let says = |texts: &[&str]| texts.iter().any(|text| lower.contains(text));
    if says(&[
        "authentication failed",
        "authentication error",
        "no such user",
        "login rejected",
        "pool_passwd",
        "invalid password",
        "password mismatch",
        "wrong password",
    ]) {
        return Failure::new(
            Class::CredentialRejected,
            format!("{server}: the pooler or server does not accept the user {user} with this password"),
            format!("store the right user and password where credential_locator points{}", operator.pooler_passwords()),
        );
    }
    if says(&["tenant or user not found", "enotfound", "no tenant identifier", "tenant/user"]) {
        return Failure::new(
            Class::CredentialRejected,
            format!("{server}: the pooler does not know the project in the user name {user}"),
            "store the user as NAME.PROJECT where credential_locator points, as the page Connect of the project shows it, and use the host of its region",
        );
    }
    if says(&["no such database", "no pool configured for database", "database does not exist"])
        || says(&["database"]) && says(&["does not exist", "is disabled", "not found"])
    {
        return Failure::new(
            Class::NotFound,
            format!("{server}: the pooler or server does not have this database"),
            match operator {
                Operator::Users => "correct the name in the resource id, or add the database to the configuration of the pooler",
                Operator::Vendor | Operator::Redshift => "correct the name in the resource id",
            },
        );
    }
    if says(&[
        "no more connections allowed",
        "connections exceeded",
        "max client connections",
        "max clients",
        "emaxconn",
        "too many clients",
        "too many connections",
        "query_wait_timeout",
    ]) {
        return errors::throttled(server);
    }
    if says(&["ssl required", "sslrequired", "ssl connection is required", "tls required"]) {
        return Failure::new(
            Class::Misconfigured,
            format!("{server}: the pooler or server requires TLS"),
            "add ?sslmode=verify-full to the resource id",
        );
    }
    if says(&[
        "server login has been failing",
        "client_login_timeout",
        "cannot connect to server",
        "unable to connect",
        "failed to create a backend",
        "all backend nodes are down",
        "no valid backend",
        "shutting down",
        "server down",
    ]) {
        return Failure::new(
            Class::Remote,
            format!("{server}: the pooler cannot reach the server behind it"),
            "check that the server behind the pooler runs and that the pooler has the right address; AAM retries automatically",
        );
    }
    Failure::new(
        Class::Remote,
        format!("{server}: the server refused to log in {user}"),
        "see the detail, which is the message of the server or pooler; AAM retries automatically",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::sql::uri::{DatabaseLocation, parse};

    /// vscode-sqltools#1415: drivers say "Unknown authenticationOk message type 13" although the password is right.
    #[test]
    fn the_logins_of_redshift_point_to_the_data_api() {
        let Ok(DatabaseLocation::Server(server)) = parse("analytics.example:5439/dev") else { panic!("an address") };
        for (refusal, code) in [(LoginRefusal::RedshiftDigest, "code 13"), (LoginRefusal::RedshiftIdentityProvider, "code 14")] {
            let failure = refused(&server, "reader", &refusal);
            assert_eq!(failure.class, Class::Misconfigured);
            assert!(failure.title.contains(code) && failure.fix.starts_with("use the Data API"), "{failure:?}");
        }
    }
}
