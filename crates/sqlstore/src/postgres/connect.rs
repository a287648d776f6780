//! Opens a session at the first server that accepts it.

use super::failure::{connect_failure, failure, lost};
use super::fate::Fate;
use super::options::{HostPort, PostgresOptions, TargetSession, TlsMode};
use super::{Notification, tls};
use crate::{PostgresError, dialect};
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::{MakeTlsConnect, NoTls};
use tokio_postgres::{AsyncMessage, Client, Config, Connection, SimpleQueryMessage, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

/// The number of times that the operating system asks a silent peer whether it is there.
const KEEPALIVE_RETRIES: u32 = 3;

/// What the connection reports while it is driven.
#[derive(Clone)]
pub(super) struct Reports {
    pub fate: Arc<Fate>,
    pub notifications: SyncSender<Notification>,
}

/// A client, and the task that drives its connection.
pub(super) type Opened = (Client, JoinHandle<()>);

/// What a session gets when it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settings {
    /// Limits and the schema, which stay with the session of the server until it ends.
    OfOptions,
    /// Nothing, so that the session of the server may go to somebody else afterwards.
    Untouched,
}

/// Opens a session.
///
/// # Errors
/// What each server answered.
pub(super) async fn connect(options: &PostgresOptions, settings: Settings, reports: &Reports) -> Result<Opened, PostgresError> {
    let mut failures: Vec<(&HostPort, PostgresError)> = Vec::new();
    for host in &options.hosts {
        match tokio::time::timeout(options.connect_timeout, open(options, settings, host, reports)).await {
            Ok(Ok(opened)) => return Ok(opened),
            Ok(Err(error)) => failures.push((host, error)),
            Err(_) => {
                let message = format!("it did not answer within {} s", options.connect_timeout.as_secs_f64());
                failures.push((host, lost(message)));
            }
        }
    }
    Err(together(failures))
}

/// One error for those of all servers. It has the kind of the last one that came from a server.
fn together(failures: Vec<(&HostPort, PostgresError)>) -> PostgresError {
    let sqlstate = failures.iter().rev().find_map(|(_, error)| error.sqlstate.clone());
    // The code of the whole is shown at its end.
    let shown = |error: &PostgresError| {
        let own = error.sqlstate.clone().filter(|state| Some(state) != sqlstate.as_ref());
        PostgresError { sqlstate: own, ..error.clone() }
    };
    let listed: Vec<String> =
        failures.iter().map(|(host, error)| format!("{}:{}: {}", host.host, host.port, shown(error))).collect();
    let message = match listed.is_empty() {
        true => "no server of PostgreSQL was named".to_string(),
        false => format!("could not connect to PostgreSQL at {}", listed.join("; ")),
    };
    let connection_lost = failures.iter().any(|(_, error)| error.connection_lost);
    PostgresError { sqlstate, message, connection_lost, ..PostgresError::default() }
}

async fn open(
    options: &PostgresOptions,
    settings: Settings,
    host: &HostPort,
    reports: &Reports,
) -> Result<Opened, PostgresError> {
    let config = config(options, host);
    let opened = match options.tls {
        TlsMode::Disable => start(&config, NoTls, reports).await?,
        TlsMode::Prefer | TlsMode::Require => {
            let trust = tls::config(options.ca_file.as_deref())
                .map_err(|message| PostgresError { message, ..PostgresError::default() })?;
            start(&config, MakeRustlsConnect::new(trust), reports).await?
        }
    };
    let sql = if settings == Settings::OfOptions { settings_of(options) } else { String::new() };
    prepare(&opened.0, sql, options.target_session).await?;
    Ok(opened)
}

async fn start<T>(config: &Config, tls: T, reports: &Reports) -> Result<Opened, PostgresError>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
{
    let (client, connection) = config.connect(tls).await.map_err(|error| connect_failure(&error))?;
    Ok((client, tokio::spawn(drive(connection, reports.clone()))))
}

/// Drives the connection until it ends.
async fn drive<S>(mut connection: Connection<Socket, S>, reports: Reports)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        match poll_fn(|context| connection.poll_message(context)).await {
            Some(Ok(AsyncMessage::Notification(received))) => {
                let (channel, payload) = (received.channel().to_string(), received.payload().to_string());
                // If too many wait already, the receiver knows that there is something to do.
                let _ = reports.notifications.try_send(Notification { channel, payload, process_id: received.process_id() });
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => return reports.fate.end(PostgresError { connection_lost: true, ..failure(&error) }),
            None => return,
        }
    }
}

fn config(options: &PostgresOptions, host: &HostPort) -> Config {
    let mut config = Config::new();
    config
        .host(&host.host)
        .port(host.port)
        .dbname(&options.database)
        .user(&options.user)
        .application_name(&options.application_name)
        .ssl_mode(match options.tls {
            TlsMode::Disable => SslMode::Disable,
            TlsMode::Prefer => SslMode::Prefer,
            TlsMode::Require => SslMode::Require,
        })
        // A name can have two addresses, of which the first one does not answer.
        .connect_timeout(options.connect_timeout / 2)
        .tcp_user_timeout(options.tcp_user_timeout)
        .keepalives_idle(options.keepalive)
        .keepalives_interval((options.keepalive / KEEPALIVE_RETRIES).max(Duration::from_secs(1)))
        .keepalives_retries(KEEPALIVE_RETRIES);
    if let Some(password) = &options.password {
        config.password(password.as_bytes());
    }
    config
}

/// The statements that set the limits and the schema of a session, and turn off the compiler of its statements.
fn settings_of(options: &PostgresOptions) -> String {
    // PostgreSQL overestimates the cost of some short statements and would compile them to machine code, which takes longer than to
    // execute them. Some engines do not have the setting.
    let mut sql = "SELECT set_config(name, 'off', false) FROM pg_settings WHERE name = 'jit'; ".to_string();
    for (name, limit) in [
        ("statement_timeout", options.statement_timeout),
        ("lock_timeout", options.lock_timeout),
        ("idle_in_transaction_session_timeout", options.idle_in_transaction_timeout),
    ] {
        sql.push_str(&format!("SET {name} = {}; ", limit.as_millis().min(i32::MAX.unsigned_abs().into())));
    }
    if let Some(schema) = &options.schema {
        sql.push_str(&format!("SET search_path = {}; ", dialect::quoted(schema)));
    }
    sql
}

/// Sends the settings of the session and checks whether the server accepts writes.
async fn prepare(client: &Client, settings: String, target: TargetSession) -> Result<(), PostgresError> {
    let sql = settings + "SHOW transaction_read_only";
    let messages = client.simple_query(&sql).await.map_err(|error| connect_failure(&error))?;
    let is_read_only = messages.iter().any(|message| match message {
        SimpleQueryMessage::Row(row) => row.try_get(0).ok().flatten() == Some("on"),
        _ => false,
    });
    if is_read_only && target == TargetSession::ReadWrite {
        return Err(PostgresError {
            sqlstate: Some("25006".to_string()),
            message: "the server does not accept writes: it is a standby or is set to read-only".to_string(),
            // A standby can be promoted.
            connection_lost: true,
            ..PostgresError::default()
        });
    }
    Ok(())
}
