//! Whether two connections have two sessions of the server.

use super::PostgresOptions;
use super::connect::{Opened, Reports, Settings, connect};
use super::failure::{connect_failure, lost};
use super::fate::Fate;
use crate::{PostgresError, Result};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use tokio_postgres::SimpleQueryMessage;

/// Whether each connection keeps a session of the server for itself. A pooler may give each transaction another session; settings,
/// prepared statements and what a session listens to are then those of somebody else.
///
/// Opens two connections and closes them. They change no setting and prepare nothing, so the sessions of a pooler stay as they were.
///
/// # Errors
/// If a connection cannot be opened or does not answer.
pub fn keeps_sessions_apart(options: &PostgresOptions) -> Result<bool> {
    let options = options.clone();
    // The caller may be a thread of an asynchronous runtime, which must not drive another one.
    let thread = std::thread::Builder::new().name("postgres-apart".to_string()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| lost(format!("could not start a session of PostgreSQL: {error}")))?;
        let answer = runtime.block_on(async {
            let limit = options.answer_timeout;
            let connections = (open(&options).await?, open(&options).await?);
            let compared = tokio::time::timeout(limit, are_apart(&connections.0, &connections.1)).await;
            compared.unwrap_or_else(|_| Err(lost(format!("the server did not answer within {} s", limit.as_secs_f64()))))
        });
        // A look-up of a name may still be waiting for an answer.
        runtime.shutdown_background();
        answer
    });
    let thread = thread.map_err(|error| lost(format!("could not start a thread for a session of PostgreSQL: {error}")))?;
    let answer = thread.join().map_err(|_| lost("the thread of a session of PostgreSQL ended early"))?;
    Ok(answer?)
}

async fn open(options: &PostgresOptions) -> std::result::Result<Opened, PostgresError> {
    let (notifications, _) = sync_channel(1);
    connect(options, Settings::Untouched, &Reports { fate: Arc::new(Fate::default()), notifications }).await
}

/// Whether the process of the first connection stays the same while the second one has a transaction, and is another one than that
/// of the transaction.
async fn are_apart((first, _): &Opened, (second, _): &Opened) -> std::result::Result<bool, PostgresError> {
    const PROCESS: &str = "SELECT pg_backend_pid()";
    let before = number(first, PROCESS).await?;
    let other = match number(second, &format!("BEGIN; {PROCESS}")).await {
        // PgBouncer refuses transactions if it gives each statement another session.
        Err(error) if error.message.contains("pooling mode") => return Ok(false),
        other => other?,
    };
    // A pooler with a single session would let the first connection wait for the end of the transaction.
    let after = if before == other { Ok(None) } else { number(first, PROCESS).await };
    let ended = second.simple_query("ROLLBACK").await;
    ended.map_err(|error| connect_failure(&error))?;
    Ok(before != other && before == after?)
}

/// The value that the statements return. They are sent as text, because a prepared statement would stay with the session.
async fn number(client: &tokio_postgres::Client, sql: &str) -> std::result::Result<Option<String>, PostgresError> {
    let messages = client.simple_query(sql).await.map_err(|error| connect_failure(&error))?;
    Ok(messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.try_get(0).ok().flatten().map(str::to_string),
        _ => None,
    }))
}
