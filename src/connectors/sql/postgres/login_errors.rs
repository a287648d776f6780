//! Failures of the login: what AAM refuses to send, what pg_hba.conf refuses, and what poolers say.

use super::errors;
use super::login_guard::{LoginRefusal, MAX_ITERATIONS, MIN_ITERATIONS};
use crate::connectors::sql::quote;
use crate::connectors::sql::uri::DatabaseServer;
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
    let failure = match refusal {
        LoginRefusal::ClearText => Failure::new(
            Class::EgressRefused,
            format!("{server}: the password was not sent: the server asks for it in clear text, {unproven}"),
            format!("{encrypt}, or use scram-sha-256 for {role} in pg_hba.conf (auth_type of a pooler); {otherwise}"),
        ),
        LoginRefusal::Md5 => Failure::new(
            Class::EgressRefused,
            format!("{server}: the password was not sent: the server asks for its MD5 digest, {unproven}"),
            format!(
                "{encrypt}, or use scram-sha-256 in pg_hba.conf (auth_type of a pooler) and store the password for it: \
                 SET password_encryption = 'scram-sha-256'; ALTER ROLE {role} PASSWORD '...'; {otherwise}"
            ),
        ),
        LoginRefusal::FewIterations(count) => Failure::new(
            Class::EgressRefused,
            format!(
                "{server}: the password was not used: the server asks for {count} SCRAM iterations, fewer than {MIN_ITERATIONS}, {unproven}"
            ),
            format!(
                "{encrypt}, or store the password with more iterations: SET scram_iterations = {MIN_ITERATIONS}; \
                 ALTER ROLE {role} PASSWORD '...'; {otherwise}"
            ),
        ),
        LoginRefusal::ManyIterations(count) => Failure::new(
            Class::Misconfigured,
            format!("{server}: the server asks for {count} SCRAM iterations; AAM computes at most {MAX_ITERATIONS}"),
            format!(
                "store the password with fewer iterations: SET scram_iterations = {MIN_ITERATIONS}; ALTER ROLE {role} PASSWORD '...'; \
                 then run `aam heal`"
            ),
        ),
        LoginRefusal::RedshiftDigest => Failure::new(
            Class::Misconfigured,
            format!(
                "{server}: the password of {user} may be right: Redshift stores it as SHA-256 and asks for its digest (authentication code 13), which AAM does not support"
            ),
            format!(
                "use the Data API: store an access key of AWS where credential_locator points, or write sp:NAME of a service principal of the kind aws into the intent; or store the password as MD5: ALTER USER {role} PASSWORD 'md5HASH', in which HASH is what SELECT md5('PASSWORD' || 'USER') returns; then aam heal"
            ),
        ),
        LoginRefusal::RedshiftIdentityProvider => Failure::new(
            Class::Misconfigured,
            format!(
                "{server}: Redshift asks {user} to log in at an identity provider (authentication code 14), which AAM does not support"
            ),
            "use the Data API: store an access key of AWS where credential_locator points, or write sp:NAME of a service principal of \
             the kind aws into the intent; or name a database user with a password",
        ),
        LoginRefusal::Unsupported(method) => Failure::new(
            Class::Misconfigured,
            format!("{server}: the server asks {user} for {method}, which AAM does not support"),
            format!("let pg_hba.conf (auth_type of a pooler) use scram-sha-256 for {role}, then run `aam heal`"),
        ),
        LoginRefusal::Malformed => Failure::new(
            Class::WrongService,
            format!("{server}: the authentication request of the server is not valid"),
            format!("check host and port: what answers at {} may not be PostgreSQL", server.authority()),
        ),
    };
    failure.detail(refusal.to_string())
}

/// The failure for a server that requires a client certificate.
#[must_use]
pub fn client_certificate(server: &DatabaseServer, user: &str) -> Failure {
    Failure::new(
        Class::Misconfigured,
        format!("{server}: the server requires a client certificate, and AAM does not support client certificates"),
        format!(
            "let pg_hba.conf admit {} with scram-sha-256 and without clientcert or cert, then run `aam heal`",
            quote::double(user)
        ),
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
            "store the right password where credential_locator points; to set a new one: ALTER ROLE {} PASSWORD '...'",
            quote::double(user)
        ),
    )
}

fn no_database(server: &DatabaseServer) -> Failure {
    Failure::new(
        Class::NotFound,
        format!("{server}: the database does not exist"),
        format!("correct the name in the resource id; psql -h {} -p {} -l lists those that exist", server.host, server.port),
    )
}

/// `28000`: the server did not look at the password. Its message says why (`auth.c`, `ClientAuthentication` and
/// `auth_failed`, and `InitializeSessionUserId` of PostgreSQL 18).
fn not_admitted(server: &DatabaseServer, user: &str, message: &str) -> Failure {
    let role = quote::double(user);
    if message.contains("pg_hba.conf") {
        return no_hba_entry(server, user, message);
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
            "see the detail, which is the message of the server; correct the role, pg_hba.conf or the configuration of the pooler",
        ),
        specific => specific,
    }
}

/// No line of pg_hba.conf admits the connection, or a line rejects it. The message names the host, the user, the database and
/// the encryption as the server saw them.
///
/// The fix is a line to paste into pg_hba.conf, and the message is text that any server can choose. So the line takes only an
/// IP address from it, and the names from the resource id and the credential.
fn no_hba_entry(server: &DatabaseServer, user: &str, message: &str) -> Failure {
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
            "store the right user and password where credential_locator points, and check that the user list of the pooler \
             (auth_file of PgBouncer, pool_passwd of Pgpool-II) holds the same password as the server",
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
            "correct the name in the resource id, or add the database to the configuration of the pooler",
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
