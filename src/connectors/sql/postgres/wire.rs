//! One PostgreSQL session in which nothing can be written.
//!
//! Two mechanisms ensure this: the session starts with `default_transaction_read_only=on`, and every batch is one
//! simple query `BEGIN READ ONLY; SET LOCAL ...; <constant>; ROLLBACK`. The simple query protocol does not need
//! prepared statements, so it also works through a pooler in transaction mode.

use super::errors::{self, Stage, StatementFailure};
use super::fixes::Operator;
use super::login_guard::{GuardedTls, LoginCheck, LoginGuard};
use super::meter::Meter;
use crate::connectors::sql::driver_session::{Call, DriverSession};
use crate::connectors::sql::login::Login;
use crate::connectors::sql::server::unreachable;
use crate::connectors::sql::uri::{DatabaseServer, Dialect};
use crate::connectors::sql::{limits, tls};
use crate::egress::statement::{Language, without_values};
use crate::egress::tls as trust;
use crate::model::{Class, Evidence, Failure};
use crate::policy::Network;
use futures_util::StreamExt;
use serde_json::json;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::{MakeTlsConnect, NoTls, TlsConnect};
use tokio_postgres::{Client, Config, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Options that are set when the session starts, so that a statement outside a batch cannot write either.
const STARTUP_OPTIONS: &str = "-c default_transaction_read_only=on -c statement_timeout=5000 -c lock_timeout=1000 \
    -c idle_in_transaction_session_timeout=15000";

/// Settings that every batch repeats, because a pooler may not keep session settings. `search_path` prevents functions that
/// users created from replacing those of the catalog.
const BEGIN: &str = "BEGIN TRANSACTION READ ONLY; SET LOCAL statement_timeout = 5000; SET LOCAL lock_timeout = 1000; \
    SET LOCAL idle_in_transaction_session_timeout = 15000; SET LOCAL search_path = pg_catalog; ";

/// The same for Amazon Redshift, which has none of the newer settings \[K\] (Amazon Redshift Database Developer Guide, "BEGIN", "SET"
/// and "Configuration reference").
const BEGIN_REDSHIFT: &str =
    "BEGIN TRANSACTION READ ONLY; SET LOCAL statement_timeout TO 5000; SET LOCAL search_path TO pg_catalog; ";

/// What is attempted while the session is opened, for messages.
const LOG_IN: &str = "log in";

/// Limit on the memory that the rows of one batch hold, in bytes.
const MAX_HELD_BYTES: usize = 32 << 20;

/// One row as text. `None` stands for NULL.
pub type Row = Vec<Option<String>>;

/// An open session.
pub struct PostgresSession {
    client: Client,
    driver: tokio::task::JoinHandle<()>,
    /// The error that ended the connection. It is kept here because the client reports only that the connection is closed.
    connection_error: Arc<Mutex<Option<String>>>,
    pub call: Call,
    pub server: DatabaseServer,
    pub user: String,
    pub encrypted: bool,
    /// Whether a pooler refused the startup options. If so, only the batches are read-only.
    pub pooled: bool,
    /// Whether the server asked for the password. Otherwise it admits the user without it.
    pub asked_for_password: bool,
    /// The process id that the other end sent at the login. A pooler sends one of its own.
    pub process_id: u32,
    /// What a second connection to the same database needs.
    session: Arc<dyn DriverSession>,
    login: Login,
    network: Network,
}

/// The limits of reading the rows of one relation.
#[derive(Clone, Copy, Debug)]
pub struct ReadLimits {
    pub rows: u32,
    /// A row with more bytes is not transferred; only its size is.
    pub row_bytes: usize,
    /// The limit that the server enforces for the statement.
    pub statement: Duration,
    /// How long the statement may wait for a lock.
    pub lock: Duration,
}

/// The rows of one relation. Their values are not kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowCount {
    /// The rows that were read.
    pub read: u64,
    /// The rows that were larger than the limit.
    pub too_large: u64,
    /// The size of the largest row in bytes.
    pub largest: u64,
}

impl Drop for PostgresSession {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl PostgresSession {
    /// Connects, encrypts and logs in.
    ///
    /// # Errors
    /// The errors of the session and those of [`errors::classify`].
    pub async fn open(
        session: &Arc<dyn DriverSession>,
        server: &DatabaseServer,
        login: &Login,
        network: &Network,
    ) -> Result<PostgresSession, Failure> {
        let with_options = server.dialect == Dialect::Postgres;
        let first = PostgresSession::attempt(session, server, login, network, with_options).await;
        match first {
            Err(failure) if refuses_options(&failure) => PostgresSession::attempt(session, server, login, network, false).await,
            other => other,
        }
    }

    async fn attempt(
        session: &Arc<dyn DriverSession>,
        server: &DatabaseServer,
        login: &Login,
        network: &Network,
        options: bool,
    ) -> Result<PostgresSession, Failure> {
        let call = Call::admit(session, server).await?;
        let encrypted = call.note_failure(tls::encrypted(server, call.address()))?;
        let connection_error = Arc::new(Mutex::new(None));
        let config = config(server, login, options, encrypted);
        // With TLS, the verified certificate proves which server this is.
        let check = LoginCheck::new(encrypted || network.allows_weak_login(&server.host, server.port))
            .allowing_unasked(call.address().ip().to_canonical().is_loopback());
        let (process_id, asked) = (check.process_id(), check.asked());
        let connected = async {
            let stream = connect_tcp(server, call.address()).await?;
            let stream = Meter::new(stream, Arc::clone(call.bytes()), limits::MAX_BYTES, encrypted).with_memory(call.memory());
            let start = |error: tokio_postgres::Error| errors::classify(server, &login.user, Stage::Open, &error, None).failure;
            if encrypted {
                let mut make = MakeRustlsConnect::new(trust::config(network.ca_file.as_deref())?);
                let connect = MakeTlsConnect::<Meter<TcpStream>>::make_tls_connect(&mut make, &server.host)
                    .map_err(|error| tls::failure(server, &format!("{error:?}")))?;
                run(&config, stream, GuardedTls { tls: connect, check }, &connection_error).await.map_err(start)
            } else {
                run(&config, LoginGuard::new(stream, check), NoTls, &connection_error).await.map_err(start)
            }
        };
        let connected = within(limits::connect_timeout(server), server, LOG_IN, connected).await.and_then(|outcome| outcome);
        let connected = match connected {
            // The server is healthy and merely refuses the options, so the circuit breaker does not count this failure.
            Err(failure) if refuses_options(&failure) => {
                call.note(Ok(()))?;
                return Err(failure);
            }
            other => other,
        };
        let (client, driver) = call.note(connected)?;
        Ok(PostgresSession {
            client,
            driver,
            connection_error,
            call,
            server: server.clone(),
            user: login.user.clone(),
            encrypted,
            pooled: !options && server.dialect == Dialect::Postgres,
            asked_for_password: asked.load(Ordering::Relaxed),
            process_id: process_id.load(Ordering::Relaxed),
            session: Arc::clone(session),
            login: login.clone(),
            network: network.clone(),
        })
    }

    /// Opens another connection to the same database, because this one does not answer any more.
    ///
    /// # Errors
    /// Same as [`PostgresSession::open`].
    pub async fn reconnect(&self) -> Result<PostgresSession, Failure> {
        PostgresSession::open(&self.session, &self.server, &self.login, &self.network).await
    }

    /// Runs constant statements in one read-only transaction and returns their result sets in order. `columns` are the numbers of
    /// columns of the result sets.
    ///
    /// # Errors
    /// The errors of [`errors::classify`]; `Network` if the server does not respond in time; `Remote` if the result sets do not have these
    /// columns, because a response of another form does not say that there are no rows.
    pub async fn ask(&self, what: &str, sql: &str, columns: &[usize]) -> Result<Vec<Vec<Row>>, Failure> {
        self.query(what, sql, columns).await.map_err(|failed| failed.failure)
    }

    /// As [`PostgresSession::ask`], with an error that says whether the session can still be used.
    ///
    /// # Errors
    /// Same as [`PostgresSession::ask`].
    pub async fn query(&self, what: &str, sql: &str, columns: &[usize]) -> Result<Vec<Vec<Row>>, StatementFailure> {
        let (mut sets, mut described): (Vec<Vec<Row>>, Vec<usize>) = Default::default();
        let mut held = 0_usize;
        let limit = limits::batch_timeout(&self.server);
        self.run_batch(Stage::Work(what), sql, limit, |message| match message {
            _ if held > MAX_HELD_BYTES => {}
            SimpleQueryMessage::RowDescription(set) => {
                sets.push(Vec::new());
                described.push(set.len());
            }
            SimpleQueryMessage::Row(row) => {
                // A value that is not UTF-8, as can occur in a SQL_ASCII database, is treated as NULL.
                let values: Row = (0..row.len()).map(|at| row.try_get(at).ok().flatten().map(str::to_string)).collect();
                // An empty value has 4 bytes on the network and more here.
                held +=
                    values.iter().map(|value| size_of::<Option<String>>() + value.as_ref().map_or(0, String::len)).sum::<usize>();
                if let Some(set) = sets.last_mut() {
                    set.push(values);
                }
            }
            _ => {}
        })
        .await?;
        if held > MAX_HELD_BYTES {
            return Err(errors::too_long(&self.server, Stage::Work(what)));
        }
        if described != columns {
            return Err(errors::malformed(&self.server, Stage::Work(what)));
        }
        Ok(sets)
    }

    /// Reads rows of `relation`, the quoted name, and counts them. `columns` is the list of quoted columns, or `*`.
    ///
    /// The server formats each row as one text and sends it only if it is small enough. So every value is computed, while a
    /// large row costs no transfer. Functions and operators are written with their schema.
    ///
    /// # Errors
    /// The errors of [`errors::classify`] for this relation; `Network` if the server does not respond in time.
    pub async fn count_rows(&self, relation: &str, columns: &str, limits: ReadLimits) -> Result<RowCount, StatementFailure> {
        let (statement, lock) = (limits.statement.as_millis(), limits.lock.as_millis());
        let sql = format!(
            "SET LOCAL statement_timeout = {statement}; SET LOCAL lock_timeout = {lock}; \
             SELECT pg_catalog.octet_length(line), CASE WHEN pg_catalog.octet_length(line) OPERATOR(pg_catalog.<=) {} THEN line END \
             FROM (SELECT (aam_row.*)::pg_catalog.text AS line FROM (SELECT {columns} FROM {relation} LIMIT {}) AS aam_row OFFSET 0) AS aam_line",
            limits.row_bytes, limits.rows
        );
        // The server reports its own limit first.
        let limit = limits.statement.saturating_add(Duration::from_secs(3)).min(limits::BATCH_TIMEOUT);
        let (mut count, mut described) = (RowCount::default(), Vec::new());
        self.run_batch(Stage::Read(relation), &sql, limit, |message| {
            if let SimpleQueryMessage::RowDescription(set) = message {
                described.push(set.len());
            }
            if let SimpleQueryMessage::Row(row) = message {
                let size = row.try_get(0).ok().flatten().and_then(|size| size.parse().ok()).unwrap_or(0);
                count.largest = count.largest.max(size);
                // A value that is not UTF-8 is there all the same.
                let sent = !matches!(row.try_get(1), Ok(None));
                *if sent { &mut count.read } else { &mut count.too_large } += 1;
            }
        })
        .await?;
        if described != [2] {
            return Err(errors::malformed(&self.server, Stage::Read(relation)));
        }
        Ok(count)
    }

    /// Runs `sql` in one read-only transaction and passes every message of the server to `take`.
    async fn run_batch(
        &self,
        stage: Stage<'_>,
        sql: &str,
        limit: Duration,
        mut take: impl FnMut(&SimpleQueryMessage),
    ) -> Result<(), StatementFailure> {
        let begin = match self.server.dialect {
            Dialect::Postgres => BEGIN,
            Dialect::Redshift => BEGIN_REDSHIFT,
        };
        let batch = format!("{begin}{sql}; ROLLBACK");
        let work = async {
            let stream = self.client.simple_query_raw(&batch).await?;
            let mut stream = std::pin::pin!(stream);
            while let Some(message) = stream.next().await {
                take(&message?);
            }
            Ok::<(), tokio_postgres::Error>(())
        };
        self.call.begin();
        let statement = self.call.statement(without_values(&batch, Language::Sql));
        let failed = match within(limit, &self.server, &stage.action(), work).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(self.failed(stage, &error).await),
            Err(late) => Some(StatementFailure { failure: late, ends_session: true, code: None }),
        };
        statement.ended(failed.as_ref().map(|failed| failed.failure.class.as_str()).unwrap_or_default());
        // A server that refuses a statement is healthy, so the circuit breaker counts only what ends the session.
        let ended = failed.as_ref().filter(|failed| failed.ends_session).map(|failed| failed.failure.clone());
        self.call.note(ended.map_or(Ok(()), Err)).ok();
        failed.map_or(Ok(()), Err)
    }

    /// Ends a transaction that may still be open on the server, and classifies the error.
    async fn failed(&self, stage: Stage<'_>, error: &tokio_postgres::Error) -> StatementFailure {
        if !error.is_closed() {
            let _ =
                within(limits::LOCK_TIMEOUT, &self.server, "end the transaction", self.client.batch_execute("ROLLBACK")).await;
        }
        let connection_error = self.connection_error.lock().unwrap_or_else(PoisonError::into_inner).clone();
        errors::classify(&self.server, &self.user, stage, error, connection_error)
    }

    /// The warning for a server that admits the user without the password.
    #[must_use]
    pub fn warning(&self) -> Option<Failure> {
        let (server, user) = (&self.server, &self.user);
        let role = crate::connectors::sql::quote::double(user);
        (!self.asked_for_password).then(|| {
            Failure::new(
                Class::OverPrivileged,
                format!("{server}: the server did not ask for the password of {user}, so the credential was not used"),
                Operator::from_server(server).ask_for_password(&role),
            )
            .detail("every client that reaches the server can log in as this user")
        })
    }

    /// Adds to `evidence` how the login went.
    pub fn note_login(&self, evidence: &mut Evidence) {
        evidence.insert("encrypted".into(), json!(self.encrypted));
        if !self.asked_for_password {
            let login = "without a password: the server did not ask for it, so the credential was not used";
            evidence.insert("login".into(), json!(login));
        }
    }

    /// Bytes in both directions so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.call.bytes().load(Ordering::Relaxed)
    }
}

/// Whether a pooler refused the startup parameter `options`. PgBouncer before 1.20 does not support it, and later versions
/// do not support every setting in it (PgBouncer changelog, 1.20.0). RDS Proxy answers 0A000.
fn refuses_options(failure: &Failure) -> bool {
    let detail = &failure.detail;
    detail.contains("08P01") && detail.contains("options") || detail.contains("0A000") && detail.contains("command-line options")
}

fn config(server: &DatabaseServer, login: &Login, options: bool, encrypted: bool) -> Config {
    let mut config = Config::new();
    config
        .user(&login.user)
        .password(login.password.expose())
        .dbname(&server.database)
        .application_name(server.application.as_deref().unwrap_or("aam"))
        .ssl_mode(if encrypted { SslMode::Require } else { SslMode::Disable });
    if options {
        config.options(STARTUP_OPTIONS);
    }
    config
}

async fn connect_tcp(server: &DatabaseServer, address: SocketAddr) -> Result<TcpStream, Failure> {
    let stream = TcpStream::connect(address).await.map_err(|error| unreachable(server, &error))?;
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// Logs in, then runs the connection in a task until it ends or is aborted.
async fn run<S, T>(
    config: &Config,
    stream: S,
    connect: T,
    connection_error: &Arc<Mutex<Option<String>>>,
) -> Result<(Client, tokio::task::JoinHandle<()>), tokio_postgres::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: TlsConnect<S>,
    T::Stream: Send + 'static,
{
    let (client, connection) = config.connect_raw(stream, connect).await?;
    let connection_error = Arc::clone(connection_error);
    let driver = tokio::spawn(async move {
        if let Err(error) = connection.await {
            *connection_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(errors::error_chain(&error));
        }
    });
    Ok((client, driver))
}

async fn within<T>(limit: Duration, server: &DatabaseServer, what: &str, work: impl Future<Output = T>) -> Result<T, Failure> {
    tokio::time::timeout(limit, work).await.map_err(|_| {
        let fix = if what == LOG_IN {
            format!(
                "check that {} listens on {} and that no firewall drops its packets; a pooler may be waiting for the server behind it",
                server.product(),
                server.authority()
            )
        } else {
            "check the load of the server, and whether a foreign server or a firewall in between does not answer; AAM retries automatically".to_string()
        };
        Failure::new(Class::Network, format!("{server}: no response within {} s while trying to {what}", limit.as_secs_f32()), fix)
    })
}
