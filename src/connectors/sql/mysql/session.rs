//! One MySQL or MariaDB session in which nothing can be written.
//!
//! The session is set to READ ONLY once, and every batch consists of `START TRANSACTION READ ONLY`, constant statements and
//! `ROLLBACK`.

use super::client::{Client, ClientError, LoginPlan, ResultSet};
use super::errors::{self, Stage};
use super::packets::PacketError;
use crate::connectors::sql::driver_session::{Call, DriverSession, StatementInFlight};
use crate::connectors::sql::login::Login;
use crate::connectors::sql::server::{Tls, unreachable};
use crate::connectors::sql::uri::DatabaseServer;
use crate::connectors::sql::{limits, tls};
use crate::egress::statement::{Language, without_values};
use crate::egress::tls as trust;
use crate::memory_budget::AttemptMemory;
use crate::model::{Class, Failure};
use crate::policy::Network;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Mutex;

/// An open session.
pub struct MysqlSession {
    client: Mutex<Client>,
    pub call: Call,
    pub server: DatabaseServer,
    pub user: String,
    pub encrypted: bool,
    pub mariadb: bool,
    memory: Arc<AttemptMemory>,
    /// Limits that the server does not have, so that only AAM's own time limits apply.
    pub missing_limits: Vec<&'static str>,
}

/// A failed login.
struct LoginFailure {
    failure: Failure,
    /// Whether the server refused the login in a way that TLS could change.
    may_need_tls: bool,
}

impl From<Failure> for LoginFailure {
    fn from(failure: Failure) -> LoginFailure {
        LoginFailure { failure, may_need_tls: false }
    }
}

impl MysqlSession {
    /// Connects, encrypts, logs in, and makes the session read-only.
    ///
    /// # Errors
    /// The errors of the session and those of [`errors::classify`].
    pub async fn open(
        session: &Arc<dyn DriverSession>,
        server: &DatabaseServer,
        login: &Login,
        network: &Network,
    ) -> Result<MysqlSession, Failure> {
        let call = Call::admit(session, server).await?;
        let encrypted = call.note_failure(tls::encrypted(server, call.address()))?;
        let first = match MysqlSession::log_in(call, server, login, network, encrypted).await {
            Ok(session) => return Ok(session),
            Err(refused) if refused.may_need_tls && !encrypted => refused.failure,
            Err(refused) => return Err(refused.failure),
        };
        // A server does not say whether the account requires TLS, so it is tried once.
        let call = Call::admit(session, server).await?;
        match MysqlSession::log_in(call, server, login, network, true).await {
            Ok(_) if server.tls == Tls::Disable => Err(needs_tls(server, &first)),
            Ok(session) => Ok(session),
            Err(second) => Err(errors::also_over_tls(first, &second.failure)),
        }
    }

    async fn log_in(
        call: Call,
        server: &DatabaseServer,
        login: &Login,
        network: &Network,
        encrypted: bool,
    ) -> Result<MysqlSession, LoginFailure> {
        let memory = call.memory();
        let connect = async {
            let stream = TcpStream::connect(call.address()).await.map_err(|error| unreachable(server, &error))?;
            let _ = stream.set_nodelay(true);
            let plan = LoginPlan {
                login,
                host: &server.host,
                database: &server.database,
                tls: if encrypted { Some(trust::config(network.ca_file.as_deref())?) } else { None },
                weak_login: network.allows_weak_login(&server.host, server.port),
                bytes: Arc::clone(call.bytes()),
                limit: limits::MAX_BYTES,
                memory: Arc::clone(&memory),
            };
            Client::connect(Box::new(stream), plan).await.map_err(|error| LoginFailure {
                failure: errors::classify(server, &login.user, Stage::Open, &error),
                may_need_tls: matches!(&error, ClientError::Packet(PacketError::Server(error)) if matches!(error.code, 1045 | 3159)),
            })
        };
        let connected = within(&memory, limits::connect_timeout(server), server, "log in", connect)
            .await
            .unwrap_or_else(|late| Err(late.into()));
        let mut client = match connected {
            Ok(client) => client,
            Err(refused) => {
                // The server is healthy: it refused this login only. The circuit breaker counts the second attempt.
                let noted = if refused.may_need_tls && !encrypted { Ok(()) } else { Err(refused.failure.clone()) };
                let _ = call.note(noted);
                return Err(refused);
            }
        };
        let recorded = call.statement(RESTRICTING.to_string());
        let restricted = within(&memory, limits::batch_timeout(server), server, errors::READ_ONLY, restrict(&mut client)).await;
        let restricted = restricted.and_then(|outcome| {
            outcome.map_err(|(what, error)| errors::classify(server, &login.user, Stage::Work(what), &error.into()))
        });
        recorded.ended(restricted.as_ref().err().map(|failure| failure.class.as_str()).unwrap_or_default());
        let (mariadb, missing_limits) = call.note(restricted)?;
        Ok(MysqlSession {
            client: Mutex::new(client),
            call,
            server: server.clone(),
            user: login.user.clone(),
            encrypted,
            mariadb,
            memory,
            missing_limits,
        })
    }

    /// Runs constant statements in one read-only transaction and returns their results in order. Each statement comes with the number
    /// of columns of its result.
    ///
    /// # Errors
    /// The errors of [`errors::classify`], also for a result with other columns, because it does not say that there are no rows;
    /// `Network` if the server does not respond in time.
    pub async fn ask(&self, what: &str, statements: &[(&str, usize)]) -> Result<Vec<ResultSet>, Failure> {
        let mut client = self.client.lock().await;
        self.call.begin();
        let texts: Vec<&str> = statements.iter().map(|(statement, _)| *statement).collect();
        let recorded = self.recorded(&[], &texts);
        let batch = async {
            client.query("START TRANSACTION READ ONLY", true).await?;
            let mut sets = Vec::with_capacity(statements.len());
            for (statement, columns) in statements {
                let set = client.query(statement, true).await?;
                if set.columns != *columns {
                    return Err(PacketError::Malformed("the result does not have the columns of the statement"));
                }
                sets.push(set);
            }
            client.query("ROLLBACK", true).await?;
            Ok(sets)
        };
        let outcome = within(&self.memory, limits::batch_timeout(&self.server), &self.server, what, batch).await;
        let outcome = self.ended(&mut client, what, outcome).await;
        recorded.ended(outcome.as_ref().err().map(|failure| failure.class.as_str()).unwrap_or_default());
        outcome
    }

    /// Counts the rows of a constant statement without keeping them. The server stops the statement after `limit`.
    ///
    /// # Errors
    /// As [`MysqlSession::ask`].
    pub async fn count(&self, what: &str, statement: &str, limit: Duration) -> Result<u64, Failure> {
        let mut client = self.client.lock().await;
        self.call.begin();
        let recorded = self.recorded(&[&self.statement_limit(limit)], &[statement]);
        let batch = async {
            for sql in [self.statement_limit(limit).as_str(), "START TRANSACTION READ ONLY"] {
                client.query(sql, true).await?;
            }
            let result = client.query(statement, false).await?;
            if result.columns == 0 {
                return Err(PacketError::Malformed("the server answered a statement that reads rows without a result"));
            }
            client.query("ROLLBACK", true).await?;
            Ok(result.count)
        };
        // The server gets time to report its own limit first.
        let patience = (limit + limits::LOCK_TIMEOUT * 2).min(limits::batch_timeout(&self.server));
        let outcome = within(&self.memory, patience, &self.server, what, batch).await;
        let outcome = self.ended(&mut client, what, outcome).await;
        recorded.ended(outcome.as_ref().err().map(|failure| failure.class.as_str()).unwrap_or_default());
        outcome
    }

    /// The record of statements in one read-only transaction, with those before it.
    fn recorded(&self, before: &[&str], statements: &[&str]) -> StatementInFlight {
        let all = [before, &["START TRANSACTION READ ONLY"], statements, &["ROLLBACK"]].concat().join("; ");
        self.call.statement(without_values(&all, Language::Mysql))
    }

    /// The statement that limits the time of the following statements. Without such a limit it changes nothing.
    fn statement_limit(&self, limit: Duration) -> String {
        match self.mariadb {
            _ if self.missing_limits.contains(&STATEMENT_LIMITS[usize::from(!self.mariadb)]) => "DO 0".to_string(),
            true => format!("SET SESSION {} = {:.3}", STATEMENT_LIMITS[0], limit.as_secs_f64()),
            false => format!("SET SESSION {} = {}", STATEMENT_LIMITS[1], limit.as_millis()),
        }
    }

    /// Ends a transaction that may still be open after an error, and classifies the error.
    async fn ended<T>(
        &self,
        client: &mut Client,
        what: &str,
        outcome: Result<Result<T, PacketError>, Failure>,
    ) -> Result<T, Failure> {
        let outcome = match outcome {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                if matches!(error, PacketError::Server(_)) {
                    let _ = within(
                        &self.memory,
                        limits::LOCK_TIMEOUT,
                        &self.server,
                        "end the transaction",
                        client.query("ROLLBACK", true),
                    )
                    .await;
                }
                Err(errors::classify(&self.server, &self.user, Stage::Work(what), &error.into()))
            }
            Err(late) => Err(late),
        };
        self.call.note(outcome)
    }

    /// Whether the connection can run another statement. It cannot after a timeout or a broken response.
    pub async fn is_usable(&self) -> bool {
        !self.client.lock().await.is_busy()
    }

    /// Bytes in both directions so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.call.bytes().load(Ordering::Relaxed)
    }
}

/// The variables that limit the time of a statement: in seconds in MariaDB since 10.1, in milliseconds in MySQL since 5.7.8.
const STATEMENT_LIMITS: [&str; 2] = ["max_statement_time", "max_execution_time"];

/// The error for a system variable that the server does not have.
const UNKNOWN_SYSTEM_VARIABLE: u16 = 1193;

/// What [`restrict`] sends, for the record of calls.
const RESTRICTING: &str = "SET SESSION TRANSACTION READ ONLY; SELECT VERSION(); SET SESSION lock_wait_timeout, max_execution_time or \
    max_statement_time";

/// Makes the session read-only and sets its limits. Returns whether the server is MariaDB, and the limits that it does not
/// have. An error comes with what was attempted.
async fn restrict(client: &mut Client) -> Result<(bool, Vec<&'static str>), (&'static str, PacketError)> {
    client.query("SET SESSION TRANSACTION READ ONLY", true).await.map_err(|error| (errors::READ_ONLY, error))?;
    let version = client.query("SELECT VERSION()", true).await.map_err(|error| ("read the version of the server", error))?;
    let version = version.rows.into_iter().flatten().flatten().next().unwrap_or_default();
    // A proxy may send a greeting of its own, so the server behind it is asked too.
    let mariadb = version.to_ascii_lowercase().contains("mariadb") || (client.mariadb && version.is_empty());
    let statement_limit = STATEMENT_LIMITS[usize::from(!mariadb)];
    let timeout = limits::STATEMENT_TIMEOUT.as_secs() * if mariadb { 1 } else { 1000 };
    let mut missing = Vec::new();
    for (name, value) in [("lock_wait_timeout", limits::LOCK_TIMEOUT.as_secs()), (statement_limit, timeout)] {
        match client.query(&format!("SET SESSION {name} = {value}"), true).await {
            Ok(_) => {}
            Err(PacketError::Server(error)) if error.code == UNKNOWN_SYSTEM_VARIABLE => missing.push(name),
            Err(error) => return Err(("limit the time of the session", error)),
        }
    }
    Ok((mariadb, missing))
}

/// The failure for an account that was refused without TLS and accepted with TLS.
fn needs_tls(server: &DatabaseServer, refused: &Failure) -> Failure {
    Failure::new(
        Class::Misconfigured,
        format!("{server}: the server accepts this login over TLS only, and the resource id disables TLS"),
        "write sslMode=verify-full into the resource id instead of sslMode=disabled or useSSL=false",
    )
    .detail(refused.detail.clone())
}

/// Runs `work` for at most `limit`, not counting the time in which the attempt waits for memory.
async fn within<T>(
    memory: &AttemptMemory,
    limit: Duration,
    server: &DatabaseServer,
    what: &str,
    work: impl Future<Output = T>,
) -> Result<T, Failure> {
    memory.timeout(limit, work).await.ok_or_else(|| {
        Failure::new(
            Class::Network,
            format!("{server}: no response within {} s while trying to {what}", limit.as_secs_f32()),
            format!(
                "check that a MySQL or MariaDB server listens on {} and that no firewall drops its packets",
                server.authority()
            ),
        )
    })
}
