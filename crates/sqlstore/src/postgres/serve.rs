//! The thread of a session: it opens the connection and serves requests outside of transactions.

use super::BeginMode;
use super::cache::Statements;
use super::connect::{Reports, Settings, connect};
use super::failure::{failure, lost};
use super::options::PostgresOptions;
use super::request::{Call, Chunk, Reply, Request, answer};
use super::transaction::{self, Start};
use super::types::{Encoded, encode_all};
use crate::{Error, PostgresError, Result, dialect};
use futures_util::TryStreamExt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_postgres::{Client, IsolationLevel, Row, Statement};

/// How long a session that is closed may take to say so to the server.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// The maximum size of the rows that a statement which writes returns outside of a transaction.
const MAX_RETURNED_BYTES: usize = 64 << 20;

/// Opens the session, says so to `started` and serves `inbox` until that is closed, the connection ends or `kill` is notified.
pub(super) fn run(
    options: &PostgresOptions,
    reports: &Reports,
    kill: &Arc<Notify>,
    inbox: UnboundedReceiver<Request>,
    started: &Reply<()>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return answer(started, Err(lost(format!("could not start a session of PostgreSQL: {error}")).into())),
    };
    runtime.block_on(async {
        tokio::select! {
            biased;
            () = session(options, reports, inbox, started) => {}
            () = kill.notified() => {}
        }
    });
    // A look-up of a name may still be waiting for an answer.
    runtime.shutdown_background();
}

async fn session(options: &PostgresOptions, reports: &Reports, inbox: UnboundedReceiver<Request>, started: &Reply<()>) {
    let (client, mut driver) = match connect(options, Settings::OfOptions, reports).await {
        Ok(opened) => opened,
        Err(error) => return answer(started, Err(error.into())),
    };
    answer(started, Ok(()));
    tokio::select! {
        biased;
        () = serve(client, inbox) => {
            let _ = tokio::time::timeout(CLOSE_LIMIT, driver).await;
        }
        _ = &mut driver => {}
    }
    reports.fate.end(lost("the connection was closed"));
}

async fn serve(mut client: Client, mut inbox: UnboundedReceiver<Request>) {
    let mut statements = Statements::default();
    while let Some(request) = inbox.recv().await {
        let (mode, first) = match request {
            Request::Begin { mode, reply } => (mode, Start::Begin(reply)),
            Request::Query { call, reply } if dialect::only_reads(&call.sql) => {
                (BeginMode::ReadOnly, Start::Rows(Request::Query { call, reply }))
            }
            other => {
                plain(&client, &mut statements, other).await;
                continue;
            }
        };
        let begun = match mode {
            BeginMode::ReadCommitted => client.build_transaction().isolation_level(IsolationLevel::ReadCommitted).start().await,
            BeginMode::ReadOnly => {
                let builder = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead);
                builder.read_only(true).start().await
            }
        };
        match begun {
            Ok(begun) => transaction::serve(begun, &mut statements, &mut inbox, first).await,
            Err(error) => first.refuse(failure(&error).into()),
        }
    }
}

/// Runs a request outside of transactions.
async fn plain(client: &Client, statements: &mut Statements, request: Request) {
    match request {
        Request::Execute { call, reply } => answer(&reply, repeated(client, statements, call, execute).await),
        Request::FirstRow { call, reply } => answer(&reply, repeated(client, statements, call, first_row).await),
        Request::Query { call, reply } => answer(&reply, repeated(client, statements, call, all_rows).await),
        Request::Batch { sql, reply } => {
            if dialect::changes_schema(&sql) {
                statements.clear();
            }
            answer(&reply, client.batch_execute(&sql).await.map_err(|error| failure(&error).into()));
        }
        Request::Rollback { reply } => {
            reply.iter().for_each(|reply| answer(reply, Ok(())));
        }
        Request::Commit { reply } => answer(&reply, Err(Error::State("no transaction is open".to_string()))),
        Request::More { reply, .. } => {
            answer(&reply, Err(Error::State("the rows were closed when a statement after them failed".to_string())));
        }
        // These two are dealt with in `serve`, and a caller waits for each statement outside of transactions.
        Request::Begin { .. } | Request::ExecuteLater { .. } | Request::CloseRows { .. } => {}
    }
}

/// Runs a statement, and once more if the server says that it was prepared for tables that have changed since.
async fn repeated<T>(
    client: &Client,
    statements: &mut Statements,
    call: Call,
    run: impl AsyncFn(&Client, &Statement, Vec<Encoded>) -> std::result::Result<T, Failed>,
) -> Result<T> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let known = statements.get(&call.sql);
        let was_known = known.is_some();
        let statement = match known {
            Some(statement) => statement,
            None => {
                let prepared = client.prepare(&dialect::for_postgres(&call.sql)).await;
                let prepared = prepared.map_err(|error| failure(&error))?;
                statements.insert(Arc::clone(&call.sql), prepared.clone());
                prepared
            }
        };
        let params = encode_all(call.params.clone(), statement.params())?;
        match run(client, &statement, params).await {
            Ok(answer) => return Ok(answer),
            Err(Failed::Statement(error)) => {
                statements.check(error.sqlstate.as_deref());
                if attempts > 1 || !was_known || !matches!(error.sqlstate.as_deref(), Some("0A000" | "26000")) {
                    return Err(error.into());
                }
            }
            Err(Failed::TooMuch) => {
                let message =
                    format!("the statement was run, but returns more than {MAX_RETURNED_BYTES} bytes; run it in a transaction");
                return Err(Error::State(message));
            }
        }
    }
}

/// Why a statement did not return its answer.
enum Failed {
    Statement(PostgresError),
    TooMuch,
}

impl From<tokio_postgres::Error> for Failed {
    fn from(error: tokio_postgres::Error) -> Failed {
        Failed::Statement(failure(&error))
    }
}

async fn execute(client: &Client, statement: &Statement, params: Vec<Encoded>) -> std::result::Result<u64, Failed> {
    Ok(client.execute_raw(statement, params).await?)
}

async fn first_row(client: &Client, statement: &Statement, params: Vec<Encoded>) -> std::result::Result<Option<Row>, Failed> {
    Ok(first_of(client, statement, params).await?)
}

/// Runs a query and returns its first row. The others are read as well, because only their end shows that all went well.
pub(super) async fn first_of(
    client: &Client,
    statement: &Statement,
    params: Vec<Encoded>,
) -> std::result::Result<Option<Row>, tokio_postgres::Error> {
    let mut rows = pin!(client.query_raw(statement, params).await?);
    let Some(first) = rows.try_next().await? else { return Ok(None) };
    while rows.try_next().await?.is_some() {}
    Ok(Some(first))
}

/// Runs a statement that writes and returns all rows that it returns.
async fn all_rows(client: &Client, statement: &Statement, params: Vec<Encoded>) -> std::result::Result<Chunk, Failed> {
    let mut stream = pin!(client.query_raw(statement, params).await?);
    let (mut rows, mut bytes) = (Vec::new(), 0_usize);
    while let Some(row) = stream.try_next().await? {
        bytes = bytes.saturating_add(row.raw_size_bytes());
        if bytes <= MAX_RETURNED_BYTES {
            rows.push(row);
        }
    }
    match bytes <= MAX_RETURNED_BYTES {
        true => Ok(Chunk { result: 0, rows, has_more: false }),
        false => Err(Failed::TooMuch),
    }
}
