//! One PostgreSQL session in which nothing can be written.
//!
//! Two mechanisms ensure this: the session starts with `default_transaction_read_only=on`, and every batch is one
//! simple query `BEGIN READ ONLY; SET LOCAL ...; <constant>; ROLLBACK`. The simple query protocol does not need
//! prepared statements, so it also works through a pooler in transaction mode.

use super::errors::{self, Stage};
use super::meter::Meter;
use crate::connectors::sql::driver_session::{Call, DriverSession};
use crate::connectors::sql::login::Login;
use crate::connectors::sql::server::unreachable;
use crate::connectors::sql::uri::DatabaseServer;
use crate::connectors::sql::{limits, tls};
use crate::egress::tls as trust;
use crate::model::{Class, Failure};
use crate::policy::Network;
use futures_util::StreamExt;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
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
        let first = PostgresSession::attempt(session, server, login, network, true).await;
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
        let encrypted = call.note(tls::encrypted(server, call.address()))?;
        let connection_error = Arc::new(Mutex::new(None));
        let config = config(server, login, options, encrypted);
        let connected = async {
            let stream = connect_tcp(server, call.address()).await?;
            let stream = Meter::new(stream, Arc::clone(call.bytes()), limits::MAX_BYTES, encrypted).with_memory(call.memory());
            let start = |error: tokio_postgres::Error| errors::classify(server, &login.user, Stage::Open, &error, None);
            if encrypted {
                let mut make = MakeRustlsConnect::new(trust::config(network.ca_file.as_deref())?);
                let connect = MakeTlsConnect::<Meter<TcpStream>>::make_tls_connect(&mut make, &server.host)
                    .map_err(|error| tls::failure(server, &format!("{error:?}")))?;
                run(&config, stream, connect, &connection_error).await.map_err(start)
            } else {
                run(&config, stream, NoTls, &connection_error).await.map_err(start)
            }
        };
        let connected = within(limits::connect_timeout(server), server, "log in", connected).await.and_then(|outcome| outcome);
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
            pooled: !options,
        })
    }

    /// Runs constant statements in one read-only transaction and returns their result sets in order.
    ///
    /// # Errors
    /// The errors of [`errors::classify`]; `Network` if there is no response in time.
    pub async fn ask(&self, what: &str, sql: &str) -> Result<Vec<Vec<Row>>, Failure> {
        let batch = format!("{BEGIN}{sql}; ROLLBACK");
        let outcome = within(limits::batch_timeout(&self.server), &self.server, what, self.collect(&batch)).await;
        let outcome = match outcome {
            Ok(Err(error)) => Err(self.failed(what, &error).await),
            Ok(Ok(sets)) => Ok(sets),
            Err(late) => Err(late),
        };
        self.call.note(outcome)
    }

    /// Ends a transaction that may still be open on the server, and classifies the error.
    async fn failed(&self, what: &str, error: &tokio_postgres::Error) -> Failure {
        if !error.is_closed() {
            let _ =
                within(limits::LOCK_TIMEOUT, &self.server, "end the transaction", self.client.batch_execute("ROLLBACK")).await;
        }
        let connection_error = self.connection_error.lock().unwrap_or_else(PoisonError::into_inner).clone();
        errors::classify(&self.server, &self.user, Stage::Work(what), error, connection_error)
    }

    async fn collect(&self, batch: &str) -> Result<Vec<Vec<Row>>, tokio_postgres::Error> {
        let stream = self.client.simple_query_raw(batch).await?;
        let mut stream = std::pin::pin!(stream);
        let mut sets: Vec<Vec<Row>> = Vec::new();
        while let Some(message) = stream.next().await {
            match message? {
                SimpleQueryMessage::RowDescription(_) => sets.push(Vec::new()),
                SimpleQueryMessage::Row(row) => {
                    // A value that is not UTF-8, as can occur in a SQL_ASCII database, is treated as NULL.
                    let values = (0..row.len()).map(|at| row.try_get(at).ok().flatten().map(str::to_string)).collect();
                    if let Some(set) = sets.last_mut() {
                        set.push(values);
                    }
                }
                _ => {}
            }
        }
        Ok(sets)
    }

    /// Bytes in both directions so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.call.bytes().load(Ordering::Relaxed)
    }
}

/// Whether a pooler refused the startup parameter `options`. PgBouncer before 1.20 does not support it, and later versions
/// do not support every setting in it (PgBouncer changelog, 1.20.0).
fn refuses_options(failure: &Failure) -> bool {
    failure.detail.contains("08P01") && failure.detail.contains("options")
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

async fn within<T>(
    limit: std::time::Duration,
    server: &DatabaseServer,
    what: &str,
    work: impl Future<Output = T>,
) -> Result<T, Failure> {
    tokio::time::timeout(limit, work).await.map_err(|_| {
        Failure::new(
            Class::Network,
            format!("{server}: no response within {} s while trying to {what}", limit.as_secs_f32()),
            format!("check that a PostgreSQL server listens on {} and that no firewall drops its packets", server.authority()),
        )
    })
}
