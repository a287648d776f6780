//! A session with one database: commands that only read, and the proof that it is the right database.

use super::auth::{self, LoggedIn};
use super::command::Command;
use super::connection::{Connection, ExchangeError};
use super::dial::Dialer;
use super::errors::{self, Parties, Stage};
use super::hello::{self, Hello, Role};
use super::limits;
use super::login::Login;
use super::options::ReadPreference;
use super::privileges::Status;
use super::reply::{Reply, ServerError};
use super::topology;
use super::uri::{Location, Member};
use crate::connectors::driver_session::{Call, DriverSession};
use crate::model::{Class, Evidence, Failure};
use crate::policy::Network;
use bson::RawDocument;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;

/// The errors with which a server refuses an option that it does not know: BadValue, FailedToParse, InvalidOptions, and those of the
/// parser of commands.
const UNKNOWN_OPTION: [i64; 5] = [2, 9, 72, 40414, 40415];

/// An open session.
pub struct MongoSession {
    connection: Mutex<Connection>,
    pub call: Call,
    pub parties: Parties,
    pub location: Location,
    pub logged_in: LoggedIn,
    member: Member,
    hello: Hello,
    passed_over: Vec<String>,
    /// Whether lists are restricted to what the user may read. Some compatible servers do not know the option.
    restricts_lists: AtomicBool,
    /// Sent with every read to a member of a replica set or a router.
    mode: Option<ReadPreference>,
}

/// A command that failed.
#[derive(Debug)]
pub struct CommandFailure {
    pub failure: Failure,
    /// The error of the server, if it answered.
    pub error: Option<ServerError>,
}

impl CommandFailure {
    /// Whether the session cannot be used any more.
    #[must_use]
    pub fn ends_session(&self) -> bool {
        self.error.is_none()
    }
}

impl From<Failure> for CommandFailure {
    fn from(failure: Failure) -> CommandFailure {
        CommandFailure { failure, error: None }
    }
}

impl From<CommandFailure> for Failure {
    fn from(failed: CommandFailure) -> Failure {
        failed.failure
    }
}

impl MongoSession {
    /// Finds a member, connects and logs in.
    ///
    /// # Errors
    /// Those of [`topology::reach`] and [`auth::log_in`].
    pub async fn open(
        session: &Arc<dyn DriverSession>,
        location: &Location,
        login: &Login,
        network: &Network,
    ) -> Result<MongoSession, Failure> {
        let resolved = topology::resolve(session, location).await?;
        let location = Location { options: resolved.options, ..location.clone() };
        let source = location.options.auth_source.clone().or_else(|| login.auth_source.clone());
        let auth_source = source.unwrap_or_else(|| location.database.clone());
        let dialer = Dialer { session, location: &location, login, network, auth_source };
        let topology::Reached { mut link, passed_over } = topology::reach(&dialer, &resolved.seeds).await?;
        let (logged_in, parties) = auth::log_in(&dialer, &mut link).await?;
        let mode = match link.hello.role {
            Role::Standalone => None,
            _ => Some(location.options.read_preference),
        };
        Ok(MongoSession {
            restricts_lists: AtomicBool::new(link.restricts_lists()),
            connection: Mutex::new(link.connection),
            call: link.call,
            member: link.member,
            hello: link.hello,
            location: location.clone(),
            parties,
            logged_in,
            passed_over,
            mode,
        })
    }

    /// Runs one command. `what` names it in messages.
    ///
    /// # Errors
    /// [`CommandFailure`].
    pub async fn ask(&self, what: &str, command: Command<'_>) -> Result<Reply, CommandFailure> {
        let mut connection = self.connection.lock().await;
        let limit = limits::answer_timeout(&self.location.options);
        self.call.begin();
        let recorded = self.call.statement(command.name());
        let outcome = self.call.memory().timeout(limit, connection.exchange(&command, self.mode)).await;
        let failed = match outcome {
            Some(Ok(reply)) => {
                recorded.ended(if reply.error().is_some() { "refused" } else { "" });
                // A server that refuses a command is healthy, so the circuit breaker counts only what ends the session.
                let _ = self.call.note(Ok(()));
                return match reply.error() {
                    None => Ok(reply),
                    Some(error) => {
                        let failure = errors::server_failure(&self.parties, Stage::Work(what), &error);
                        Err(CommandFailure { failure, error: Some(error) })
                    }
                };
            }
            Some(Err(error)) => self.exchange_failure(what, &error),
            None => errors::late(&self.parties, Stage::Work(what), limit),
        };
        recorded.ended(failed.class.as_str());
        let failed = self.call.note(Err::<(), _>(failed)).err();
        let failure = failed.unwrap_or_else(|| Failure::new(Class::Remote, "the connection ended", ""));
        Err(CommandFailure { failure, error: None })
    }

    fn exchange_failure(&self, what: &str, error: &ExchangeError) -> Failure {
        errors::exchange_failure(&self.parties, Stage::Work(what), error)
    }

    /// The documents of `reply`, the response of `command`, and the cursor that may follow them.
    ///
    /// # Errors
    /// `Remote` if the response has no cursor with documents. A server that does not answer in the form of MongoDB has not said
    /// that there are no documents, so the session ends.
    pub fn batch<'a>(&self, reply: &'a Reply, command: &str) -> Result<(Vec<&'a RawDocument>, i64), Failure> {
        reply.batch().ok_or_else(|| self.malformed(command))
    }

    /// The failure for a response of `command` that does not have the form of MongoDB.
    #[must_use]
    pub fn malformed(&self, command: &str) -> Failure {
        Failure::new(
            Class::Remote,
            format!("{}: the response does not have the form of MongoDB", self.location),
            "check that the server is MongoDB or compatible with it, and the proxies between AAM and it",
        )
        .detail(format!("the response of {command} has no cursor with documents"))
    }

    /// Runs a command that lists names, restricted to what the user may read if the server knows that.
    ///
    /// # Errors
    /// As [`MongoSession::ask`].
    pub async fn list<'a>(&self, what: &str, command: impl Fn(bool) -> Command<'a>) -> Result<Reply, CommandFailure> {
        let restricted = self.restricts_lists.load(Ordering::Relaxed);
        match self.ask(what, command(restricted)).await {
            Err(failed) if restricted && failed.error.as_ref().is_some_and(|error| UNKNOWN_OPTION.contains(&error.code)) => {
                self.restricts_lists.store(false, Ordering::Relaxed);
                self.ask(what, command(false)).await
            }
            other => other,
        }
    }

    /// Who the server says that the connection is, and proves that it is the user of the credential.
    ///
    /// # Errors
    /// `CredentialRejected` if it is somebody else; the errors of the command.
    pub async fn status(&self) -> Result<Status, Failure> {
        let location = &self.location;
        let reply = self.ask("read the privileges of the login", Command::ConnectionStatus).await?;
        let status = match Status::parse(reply.document()) {
            Some(status) => status,
            // Some compatible servers answer nothing here. Without a login there is nothing to prove.
            None if matches!(self.logged_in, LoggedIn::Anonymous | LoggedIn::NotAsked) => return Ok(Status::default()),
            None => {
                return Err(Failure::new(
                    Class::WrongService,
                    format!("{location}: the server does not say who is logged in"),
                    "check host and port, and the proxies between AAM and the server",
                )
                .detail("the response of connectionStatus has no authInfo"));
            }
        };
        let expected = match &self.logged_in {
            LoggedIn::Anonymous | LoggedIn::NotAsked => return Ok(status),
            LoggedIn::Scram { source, .. } => (self.parties.user.as_deref(), source.as_str()),
            LoggedIn::X509 => (self.parties.user.as_deref(), "$external"),
        };
        let is_expected = |user: &str, database: &str| expected.0.is_none_or(|name| name == user) && database == expected.1;
        if status.users.iter().any(|user| is_expected(&user.name, &user.database)) {
            return Ok(status);
        }
        let shown: Vec<String> = status.users.iter().take(3).map(|user| format!("{}@{}", user.name, user.database)).collect();
        Err(Failure::new(
            Class::WrongService,
            format!("{location}: the server does not report the login of {}", self.parties.user()),
            "check the proxies between AAM and the server: the connection must belong to the user of the credential",
        )
        .detail(format!("logged in according to the server: {}", shown.join(", "))))
    }

    /// Proves that the database of the resource id exists and is visible to the login.
    ///
    /// # Errors
    /// `NotFound` or `PermissionDenied`; the errors of the commands.
    pub async fn prove_database(&self, status: &Status) -> Result<(), Failure> {
        let database = self.location.database.as_str();
        let listed =
            self.list("list the databases", |restricted| Command::ListDatabases { name: Some(database), restricted }).await;
        match listed {
            Ok(reply) if reply.document().get_array("databases").is_ok() => {
                if database_names(reply.document()).iter().any(|name| name == database) {
                    return Ok(());
                }
            }
            Err(failed) if failed.ends_session() => return Err(failed.failure),
            // A user may lack the right to list databases and still see collections.
            Ok(_) | Err(_) => {
                let list = |restricted| Command::ListCollections { database, limit: 1, restricted };
                let reply = self.list("list the collections", list).await?;
                let (documents, cursor) = self.batch(&reply, "listCollections")?;
                self.close_cursor("$cmd.listCollections", cursor).await;
                if !documents.is_empty() {
                    return Ok(());
                }
            }
        }
        Err(self.invisible(status).await)
    }

    /// The failure for a database that is not visible: it does not exist, or the user may not read it.
    async fn invisible(&self, status: &Status) -> Failure {
        let (location, database) = (&self.location, self.location.database.as_str());
        if status.reads(database) == Some(false) {
            let user = self.parties.user();
            return Failure::new(
                Class::PermissionDenied,
                format!("{location}: {user} does not have the privilege to read the database {database}"),
                self.parties.grant(),
            );
        }
        let listed = self.list("list the databases", |restricted| Command::ListDatabases { name: None, restricted }).await;
        let names = listed.map(|reply| database_names(reply.document())).unwrap_or_default();
        let fix = match names.iter().find(|name| name.eq_ignore_ascii_case(database)) {
            Some(name) => format!("names are case-sensitive: write /{name} in the resource id"),
            None if names.is_empty() => {
                "correct the name in the resource id, or write the first document: MongoDB has no database without collections"
                    .to_string()
            }
            None => format!(
                "write one of the visible databases in the resource id: {}; a database exists only once it has a collection",
                names.iter().take(limits::MAX_NAMED).cloned().collect::<Vec<_>>().join(", ")
            ),
        };
        Failure::new(
            Class::NotFound,
            format!("{location}: the database {database} does not exist on this deployment, or is empty"),
            fix,
        )
    }

    /// The warning for a server that has no logins although the intent names a credential.
    #[must_use]
    pub fn unused_credential(&self) -> Failure {
        Failure::new(
            Class::OverPrivileged,
            format!(
                "{}: the server has no logins, so the credential was not used and every client may run every command",
                self.location
            ),
            "enable access control on the server (security.authorization: enabled in its configuration); if the server is to stay open, \
             remove credential_locator from the intent",
        )
    }

    /// What identifies the server and the login.
    #[must_use]
    pub fn identity(&self) -> Evidence {
        let mut evidence = Evidence::new();
        evidence.insert("database".into(), json!(self.location.database));
        evidence.insert("member".into(), json!(self.member.to_string()));
        evidence.insert("role".into(), json!(self.hello.role.as_str()));
        if let Some(set) = &self.hello.set_name {
            evidence.insert("replica_set".into(), json!(set));
        }
        evidence.insert("server_version".into(), json!(format!("MongoDB {}", hello::version(self.hello.max_wire_version))));
        evidence.insert("wire_version".into(), json!(self.hello.max_wire_version));
        evidence.insert("encrypted".into(), json!(self.parties.encrypted));
        match &self.logged_in {
            LoggedIn::Anonymous => {
                evidence.insert("login".into(), json!("none: the intent names no credential"));
            }
            LoggedIn::NotAsked => {
                evidence.insert("login".into(), json!("none: the server has no logins, so the credential was not used"));
            }
            LoggedIn::Scram { mechanism, source } => {
                evidence.insert("user".into(), json!(self.parties.user));
                evidence.insert("auth_source".into(), json!(source));
                evidence.insert("mechanism".into(), json!(mechanism.as_str()));
            }
            LoggedIn::X509 => {
                evidence.insert("mechanism".into(), json!("MONGODB-X509"));
            }
        }
        if !self.passed_over.is_empty() {
            let named: Vec<&String> = self.passed_over.iter().take(limits::MAX_NAMED).collect();
            evidence.insert("passed_over".into(), json!(named));
        }
        evidence
    }

    /// Bytes in both directions so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.call.bytes().load(Ordering::Relaxed)
    }

    /// Ends a cursor that the server keeps although AAM asks for one batch only.
    pub async fn close_cursor(&self, collection: &str, cursor: i64) {
        if cursor != 0 {
            let database = self.location.database.as_str();
            let _ = self.ask("close a cursor", Command::KillCursors { database, collection, cursor }).await;
        }
    }
}

/// The names in a response of `listDatabases`.
fn database_names(document: &RawDocument) -> Vec<String> {
    /// Limit on the databases that are read.
    const MAX_DATABASES: usize = 10_000;
    let Ok(databases) = document.get_array("databases") else { return Vec::new() };
    let databases = databases.into_iter().take(MAX_DATABASES).filter_map(|entry| entry.ok()?.as_document());
    databases.filter_map(|entry| entry.get_str("name").ok().map(str::to_string)).collect()
}

/// The share of a step's time that may be used, so that the step can still report what was found.
#[must_use]
pub fn usable(step_timeout: Duration) -> Duration {
    step_timeout.mul_f32(0.75)
}
