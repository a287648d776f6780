//! Classifies what servers answer.
//!
//! The codes are from the sources of MongoDB (`src/mongo/base/error_codes.yml`), 8000 from Atlas ("AtlasError"), 16500 from Azure Cosmos
//! DB ("RequestRateTooLarge"), 498870 from MongoDB (`src/mongo/db/initialize_api_parameters.cpp`). Messages of Atlas are
//! distinguished by their text, because they have one code.

use super::connection::ExchangeError;
use super::reply::ServerError;
use super::tls;
use super::uri::{Location, Member};
use crate::model::{Class, Failure};
use std::io::ErrorKind;
use std::net::IpAddr;
use std::time::Duration;

/// How long AAM waits if a server is busy and does not say for how long.
const BUSY_WAIT: Duration = Duration::from_secs(30);

/// Whom a failure concerns.
#[derive(Clone, Debug)]
pub struct Parties {
    pub location: Location,
    pub member: Member,
    /// The user, or the subject of the client certificate if no user is stored.
    pub user: Option<String>,
    /// The database that knows the user.
    pub auth_source: String,
    /// The address of this machine on the connection.
    pub local: Option<IpAddr>,
    pub encrypted: bool,
    /// Whether a client certificate is stored.
    pub certificate: bool,
}

/// The phase in which an error occurred.
#[derive(Clone, Copy, Debug)]
pub enum Stage<'a> {
    /// Before the login.
    Connect,
    LogIn,
    /// After the login. The text names what was attempted, for example `list the collections`.
    Work(&'a str),
}

impl<'a> Stage<'a> {
    fn action(self) -> &'a str {
        match self {
            Stage::Connect => "connect",
            Stage::LogIn => "log in",
            Stage::Work(what) => what,
        }
    }
}

impl Parties {
    /// The user for messages.
    #[must_use]
    pub fn user(&self) -> &str {
        match &self.user {
            Some(user) => user,
            None if self.certificate => "the client certificate",
            None => "a connection without a login",
        }
    }

    /// What gives the user the role `read`: the command for mongosh, or where to do it in Atlas, which does not take the command.
    #[must_use]
    pub fn grant(&self) -> String {
        if self.is_atlas() {
            return format!(
                "in Atlas, Security, Database Access, edit {}: Specific Privileges, role read, database {}",
                self.user(),
                self.location.database
            );
        }
        let database = quoted(&self.location.database);
        let role = format!("[{{role: \"read\", db: {database}}}]");
        match &self.user {
            Some(user) => {
                format!("db.getSiblingDB({}).grantRolesToUser({}, {role})", quoted(&self.auth_source), quoted(user))
            }
            None => format!("db.getSiblingDB(\"$external\").grantRolesToUser(\"SUBJECT OF THE CERTIFICATE\", {role})"),
        }
    }

    /// Whether the host belongs to MongoDB Atlas.
    #[must_use]
    pub fn is_atlas(&self) -> bool {
        self.member.host.ends_with(".mongodb.net")
    }
}

/// A text in a command for mongosh.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Classifies a failed exchange.
#[must_use]
pub fn exchange_failure(parties: &Parties, stage: Stage<'_>, error: &ExchangeError) -> Failure {
    let (location, member) = (&parties.location, &parties.member);
    match error {
        ExchangeError::Io(error) => io_failure(parties, stage, error),
        ExchangeError::Broken(rule) => match stage {
            Stage::Connect => Failure::new(
                Class::WrongService,
                format!("{location}: the service at {member} does not speak MongoDB's protocol"),
                format!("check host and port: {member} is another service"),
            ),
            _ => Failure::new(
                Class::Remote,
                format!("{location}: the response breaks MongoDB's protocol"),
                format!("check that {member} is a MongoDB server, and the proxies between AAM and it"),
            ),
        }
        .detail(rule.0),
        ExchangeError::TooMuchData => Failure::new(
            Class::Unsupported,
            format!("{location}: the responses exceed a limit of AAM: 64 MiB for one connection"),
            "give the user access to fewer collections, or to views without the very large values",
        ),
        ExchangeError::Memory(bound) => bound.failure(&format!("{location}: the response")),
        ExchangeError::NotReadOnly(reason) => Failure::new(
            Class::Bug,
            format!("{location}: AAM refused a request of its own that does not only read"),
            "report this as a defect of AAM",
        )
        .detail(reason.0.clone()),
    }
}

fn io_failure(parties: &Parties, stage: Stage<'_>, error: &std::io::Error) -> Failure {
    let (location, member) = (&parties.location, &parties.member);
    // With TLS 1.3, the server judges the client certificate after the handshake.
    if let Some(failure) = tls::alert(parties, error) {
        return failure;
    }
    let failure = match (error.kind(), stage) {
        (ErrorKind::ConnectionRefused, _) => Failure::new(
            Class::Network,
            format!("{location}: connection refused by {member}"),
            format!("check host, port, routes and firewalls: nc -vz {} {}", member.host, member.port),
        ),
        (ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::TimedOut, _) => Failure::new(
            Class::Network,
            format!("{location}: could not connect to {member}"),
            format!("check host, port, routes and firewalls: nc -vz {} {}", member.host, member.port),
        ),
        (_, Stage::Connect) => Failure::new(
            Class::Network,
            format!("{location}: {member} closed the connection before it answered"),
            if parties.encrypted {
                "check the log of the server: it may have no free connection (net.maxIncomingConnections), or a proxy in between cut it"
            } else {
                "if the server requires TLS, add tls=true to the resource id; otherwise check the log of the server: it may have no free \
                 connection (net.maxIncomingConnections)"
            },
        ),
        _ => Failure::new(
            Class::Remote,
            format!("{location}: the connection was closed in the middle of a response"),
            "check the log of the server and the proxies between AAM and the server",
        ),
    };
    failure.detail(error.to_string())
}

/// The failure for a response that did not arrive in time.
#[must_use]
pub fn late(parties: &Parties, stage: Stage<'_>, limit: Duration) -> Failure {
    let fix = match stage {
        Stage::Connect if parties.is_atlas() => {
            "check that a firewall lets this machine connect to port 27017; Atlas drops packets of addresses that its private endpoints or \
             peering do not know"
                .to_string()
        }
        Stage::Connect => format!("check that a MongoDB server listens on {} and that no firewall drops its packets", parties.member),
        _ => "check the load of the server; AAM retries automatically".to_string(),
    };
    let action = stage.action();
    Failure::new(
        Class::Network,
        format!("{}: no response within {} s while trying to {action}", parties.location, limit.as_secs_f32()),
        fix,
    )
}

/// Classifies an error of the server.
#[must_use]
pub fn server_failure(parties: &Parties, stage: Stage<'_>, error: &ServerError) -> Failure {
    let failure = match error.code {
        11 | 18 => rejected(parties),
        13 => denied(parties, stage, error),
        8000 => atlas(parties, stage, error),
        _ => condition(parties, stage, error),
    };
    failure.detail(format!("the server said: {error}"))
}

/// The failure for a login that the server does not accept. The caller may know more, see `auth`.
#[must_use]
pub fn rejected(parties: &Parties) -> Failure {
    let location = &parties.location;
    if parties.user.is_none() {
        return Failure::new(
            Class::CredentialRejected,
            format!("{location}: the server does not accept the client certificate as a user"),
            format!(
                "create the user with the subject of the certificate: db.getSiblingDB(\"$external\").runCommand({{createUser: \
                 \"SUBJECT OF THE CERTIFICATE\", roles: [{{role: \"read\", db: {}}}]}})",
                quoted(&location.database)
            ),
        );
    }
    let user = parties.user();
    let source = &parties.auth_source;
    let atlas = if parties.is_atlas() { " (Atlas: Security, Database Access; users of Atlas are in admin)" } else { "" };
    Failure::new(
        Class::CredentialRejected,
        format!("{location}: the server does not accept {user} of the database {source} with this password"),
        format!(
            "store the right password where credential_locator points{atlas}; if it is right, name the database that knows the user: add \
             authSource={} to the resource id",
            if source == "admin" { "DATABASE" } else { "admin" }
        ),
    )
}

fn denied(parties: &Parties, stage: Stage<'_>, error: &ServerError) -> Failure {
    let location = &parties.location;
    if parties.user.is_none() && !parties.certificate || error.message.contains("requires authentication") {
        return Failure::new(
            Class::CredentialMissing,
            format!("{location}: the server requires a login"),
            "set credential_locator in the intent, for example env:MONGO_LOGIN, and store {\"user\":\"NAME\",\"password\":\"...\"} there",
        );
    }
    let (user, doing) = (parties.user(), stage.action());
    Failure::new(Class::PermissionDenied, format!("{location}: {user} does not have the privilege to {doing}"), parties.grant())
}

/// Errors of MongoDB Atlas, which all have the code 8000.
fn atlas(parties: &Parties, stage: Stage<'_>, error: &ServerError) -> Failure {
    let location = &parties.location;
    let message = error.message.to_ascii_lowercase();
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| message.contains(phrase));
    if says(&["bad auth", "authentication failed"]) {
        return rejected(parties);
    }
    if says(&["paused", "hibernat", "resum"]) {
        return paused(location);
    }
    if says(&["not allowed", "not authorized"]) {
        return denied(parties, stage, error);
    }
    if says(&["too many", "exceeded", "limit"]) {
        let title = format!("{location}: Atlas limits the connections or requests of this cluster");
        let failure = Failure::new(Class::Throttled, title, "wait, or raise the tier of the cluster");
        return failure.after(error.wait.unwrap_or(BUSY_WAIT));
    }
    other(parties, stage)
}

/// The failure for a cluster of Atlas that is paused.
#[must_use]
pub fn paused(location: &Location) -> Failure {
    Failure::new(
        Class::Remote,
        format!("{location}: the Atlas cluster is paused"),
        "resume it in Atlas (Database, the cluster's menu, Resume), or: atlas clusters start NAME; AAM retries automatically",
    )
}

fn other(parties: &Parties, stage: Stage<'_>) -> Failure {
    Failure::new(
        Class::Remote,
        format!("{}: the server refused to {}", parties.location, stage.action()),
        "see the detail, which is the message of the server",
    )
}

/// Errors that say in which condition the server is.
fn condition(parties: &Parties, stage: Stage<'_>, error: &ServerError) -> Failure {
    let (location, doing) = (&parties.location, stage.action());
    let remote = |title: String, fix: &str| Failure::new(Class::Remote, title, fix);
    match error.code {
        50 | 262 => remote(
            format!("{location}: the time limit stopped the attempt to {doing}"),
            "check the load of the server and the indexes behind its views",
        ),
        91 | 11600 => remote(
            format!("{location}: the server is shutting down"),
            "wait until the maintenance ends; AAM retries automatically",
        ),
        189 | 10107 | 11602 | 13435 | 13436 => remote(
            format!("{location}: the replica set elects a primary, or the member cannot be read now"),
            "wait until the election or maintenance ends (rs.status() shows it); AAM retries automatically",
        ),
        6 | 7 | 70 | 89 | 133 | 134 | 202 | 9001 => remote(
            format!("{location}: the server could not reach another server of its cluster"),
            "sh.status() and rs.status() show which one is missing; AAM retries automatically",
        ),
        462 | 16500 => {
            let title = format!("{location}: the server limits the rate of requests");
            Failure::new(Class::Throttled, title, "wait, or raise the throughput of the database")
                .after(error.wait.unwrap_or(BUSY_WAIT))
        }
        26 | 73 => Failure::new(
            Class::NotFound,
            format!("{location}: the database or collection was not found while trying to {doing}"),
            "correct the name in the resource id; names are case-sensitive",
        ),
        59 | 115 | 238 => Failure::new(
            Class::Unsupported,
            format!("{location}: the server does not support what AAM needs to {doing}"),
            "AAM reads MongoDB since 3.6 and servers that are compatible with it; upgrade the server",
        ),
        // A server with the parameter requireApiVersion sends 498870; 322 and 323 concern the API version that a proxy adds.
        322 | 323 | 498_870 => Failure::new(
            Class::Unsupported,
            format!("{location}: the server requires that each command names an API version, which AAM does not do"),
            "let the server accept commands without a version: db.adminCommand({setParameter: 1, requireApiVersion: false}), and remove \
             requireApiVersion from its configuration; then run `aam heal`",
        ),
        391 => Failure::new(
            Class::CredentialRejected,
            format!("{location}: the server ended the login of {}", parties.user()),
            "check whether the user was changed or removed; AAM logs in again automatically",
        ),
        _ => other(parties, stage),
    }
}
