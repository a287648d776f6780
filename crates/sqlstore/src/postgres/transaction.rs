//! Serves the requests of one transaction.

use super::cache::Statements;
use super::failure::failure;
use super::request::{Call, Chunk, Reply, Request, answer};
use super::serve::first_of;
use super::types::{Encoded, encode_all};
use crate::{Error, Result, dialect};
use futures_util::TryStreamExt;
use std::collections::{HashMap, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_postgres::{Portal, Row, Statement, Transaction};

/// The number of rows that are read first. Most results have fewer.
const FIRST_ROWS: usize = 16;
/// The maximum number of rows that are read at once.
const MAX_ROWS: usize = 512;
/// About so many bytes are read at once.
const CHUNK_BYTES: usize = 256 << 10;

type ClientResult<T> = std::result::Result<T, tokio_postgres::Error>;

/// A statement that was sent and not answered yet.
type Sent<'a> = Pin<Box<dyn Future<Output = ClientResult<u64>> + 'a>>;

/// What a transaction begins with.
pub(super) enum Start {
    /// A caller began it.
    Begin(Reply<()>),
    /// It is for the rows of this query only and ends with them.
    Rows(Request),
}

impl Start {
    pub(super) fn refuse(self, error: Error) {
        match self {
            Start::Begin(reply) => answer(&reply, Err(error)),
            Start::Rows(request) => request.refuse(error),
        }
    }
}

/// How a transaction ends.
enum End {
    Commit(Reply<()>),
    Rollback(Option<Reply<()>>),
    /// The rows for which it was begun were read, or the callers are gone.
    Over,
}

/// A result whose rows are not all read yet.
struct OpenRows {
    portal: Portal,
    /// How many rows are read next.
    limit: usize,
    /// The size of the largest row so far in bytes.
    largest: usize,
}

/// Serves requests until the transaction ends.
pub(super) async fn serve(
    transaction: Transaction<'_>,
    statements: &mut Statements,
    inbox: &mut UnboundedReceiver<Request>,
    start: Start,
) {
    let mut open = Open {
        transaction: &transaction,
        statements,
        rows: HashMap::new(),
        results: 0,
        sent: VecDeque::new(),
        failed: None,
        for_rows: matches!(start, Start::Rows(_)),
    };
    let first = match start {
        Start::Begin(reply) => {
            answer(&reply, Ok(()));
            None
        }
        Start::Rows(request) => Some(request),
    };
    match open.run(inbox, first).await {
        End::Commit(reply) => {
            let committed = open.commit().await;
            drop(open);
            if committed.is_ok() {
                // Otherwise it would send a ROLLBACK when it is dropped, and the server would log a warning.
                std::mem::forget(transaction);
            }
            answer(&reply, committed);
        }
        End::Rollback(Some(reply)) => {
            drop(open);
            answer(&reply, transaction.rollback().await.map_err(|error| failure(&error).into()));
        }
        // It is rolled back when it is dropped.
        End::Rollback(None) | End::Over => {}
    }
}

struct Open<'a> {
    transaction: &'a Transaction<'a>,
    statements: &'a mut Statements,
    rows: HashMap<u64, OpenRows>,
    /// The number of the last result.
    results: u64,
    /// In the order in which they were sent, which is the one of their answers.
    sent: VecDeque<Sent<'a>>,
    /// The first error. The server refuses all statements after it.
    failed: Option<Error>,
    /// Whether the transaction was begun for rows only.
    for_rows: bool,
}

impl<'a> Open<'a> {
    async fn run(&mut self, inbox: &mut UnboundedReceiver<Request>, first: Option<Request>) -> End {
        let mut next = first;
        loop {
            let request = match next.take() {
                Some(request) => request,
                None => match self.next(inbox).await {
                    Some(request) => request,
                    None => return End::Over,
                },
            };
            match request {
                Request::Begin { reply, .. } => answer(&reply, Err(Error::State(self.is_open().to_string()))),
                Request::Commit { reply } if self.for_rows => {
                    answer(&reply, Err(Error::State("no transaction is open".to_string())))
                }
                Request::Rollback { reply } if self.for_rows => reply.iter().for_each(|reply| answer(reply, Ok(()))),
                Request::Commit { reply } => return End::Commit(reply),
                Request::Rollback { reply } => return End::Rollback(reply),
                Request::Query { call, reply } => answer(&reply, self.query(call).await),
                Request::More { result, reply } => answer(&reply, self.more(result).await),
                Request::CloseRows { result } => drop(self.rows.remove(&result)),
                Request::FirstRow { call, reply } => answer(&reply, self.first_row(call).await),
                Request::Execute { call, reply } => answer(&reply, self.execute(call).await),
                Request::Batch { sql, reply } => answer(&reply, self.batch(&sql).await),
                Request::ExecuteLater { call, permit } => self.execute_later(call, permit).await,
            }
            if self.for_rows && (self.rows.is_empty() || self.failed.is_some()) {
                return End::Over;
            }
        }
    }

    fn is_open(&self) -> &'static str {
        match self.for_rows {
            true => "a transaction cannot begin while rows of a query are read",
            false => "a transaction is open already",
        }
    }

    /// The next request. Meanwhile, the answers to what was sent are taken.
    async fn next(&mut self, inbox: &mut UnboundedReceiver<Request>) -> Option<Request> {
        loop {
            let Some(front) = self.sent.front_mut() else { return inbox.recv().await };
            tokio::select! {
                biased;
                request = inbox.recv() => return request,
                answered = front.as_mut() => {
                    self.sent.pop_front();
                    self.note(&answered);
                }
            }
        }
    }

    /// Keeps the first error.
    fn note<T>(&mut self, result: &ClientResult<T>) {
        if let Err(error) = result {
            let error = failure(error);
            self.statements.check(error.sqlstate.as_deref());
            self.failed.get_or_insert(error.into());
        }
    }

    fn check(&self) -> Result<()> {
        self.failed.as_ref().map_or(Ok(()), |error| Err(error.copy()))
    }

    /// Sends `work` and waits for its answer, after those to what was sent before.
    async fn wait<T>(&mut self, work: impl Future<Output = ClientResult<T>>) -> Result<T> {
        let mut work = pin!(work);
        let mut early = None;
        if !self.sent.is_empty() {
            // The first poll sends it.
            early = poll_fn(|context| {
                Poll::Ready(match work.as_mut().poll(context) {
                    Poll::Ready(result) => Some(result),
                    Poll::Pending => None,
                })
            })
            .await;
            while let Some(mut sent) = self.sent.pop_front() {
                let answered = sent.as_mut().await;
                self.note(&answered);
            }
        }
        let result = match early {
            Some(result) => result,
            None => work.await,
        };
        self.note(&result);
        self.check()?;
        result.map_err(|error| failure(&error).into())
    }

    async fn prepared(&mut self, call: Call) -> Result<(Statement, Vec<Encoded>)> {
        self.check()?;
        let statement = match self.statements.get(&call.sql) {
            Some(statement) => statement,
            None => {
                let (transaction, sql) = (self.transaction, dialect::for_postgres(&call.sql));
                let prepared = self.wait(transaction.prepare(&sql)).await?;
                self.statements.insert(Arc::clone(&call.sql), prepared.clone());
                prepared
            }
        };
        let params = encode_all(call.params, statement.params())?;
        Ok((statement, params))
    }

    async fn query(&mut self, call: Call) -> Result<Chunk> {
        let (statement, params) = self.prepared(call).await?;
        let transaction = self.transaction;
        let portal = self.wait(transaction.bind_raw(&statement, params)).await?;
        self.results += 1;
        self.rows.insert(self.results, OpenRows { portal, limit: FIRST_ROWS, largest: 0 });
        self.more(self.results).await
    }

    async fn more(&mut self, result: u64) -> Result<Chunk> {
        self.check()?;
        let Some(mut open) = self.rows.remove(&result) else {
            return Err(Error::State("these rows were closed".to_string()));
        };
        let transaction = self.transaction;
        let (rows, has_more) = self.wait(fetch(transaction, &open.portal, open.limit)).await?;
        open.largest = rows.iter().map(Row::raw_size_bytes).max().unwrap_or_default().max(open.largest);
        open.limit = (CHUNK_BYTES / open.largest.max(1)).min(open.limit.saturating_mul(8)).clamp(1, MAX_ROWS);
        if has_more {
            self.rows.insert(result, open);
        }
        Ok(Chunk { result, rows, has_more })
    }

    async fn first_row(&mut self, call: Call) -> Result<Option<Row>> {
        let (statement, params) = self.prepared(call).await?;
        let transaction = self.transaction;
        self.wait(first_of(transaction.client(), &statement, params)).await
    }

    async fn execute(&mut self, call: Call) -> Result<u64> {
        let (statement, params) = self.prepared(call).await?;
        let transaction = self.transaction;
        self.wait(transaction.execute_raw(&statement, params)).await
    }

    async fn execute_later(&mut self, call: Call, permit: super::in_flight::Permit) {
        match self.prepared(call).await {
            Err(error) => {
                self.failed.get_or_insert(error);
            }
            Ok((statement, params)) => {
                let transaction = self.transaction;
                let mut sent: Sent<'a> = Box::pin(async move {
                    let result = transaction.execute_raw(&statement, params).await;
                    drop(permit);
                    result
                });
                // The first poll sends it.
                match poll_fn(|context| Poll::Ready(sent.as_mut().poll(context))).await {
                    Poll::Ready(result) => self.note(&result),
                    Poll::Pending => self.sent.push_back(sent),
                }
            }
        }
    }

    async fn batch(&mut self, sql: &str) -> Result<()> {
        self.check()?;
        if dialect::changes_schema(sql) {
            self.statements.clear();
        }
        let transaction = self.transaction;
        self.wait(transaction.batch_execute(sql)).await
    }

    /// Commits. The server answers a COMMIT of a transaction that failed with success, although it rolls it back. A savepoint is
    /// refused then, and also if no transaction is open, and the COMMIT after it is not run.
    async fn commit(&mut self) -> Result<()> {
        self.check()?;
        let transaction = self.transaction;
        self.wait(transaction.batch_execute("SAVEPOINT sqlstore_commit; COMMIT")).await
    }
}

/// Reads up to `limit` rows. Returns also whether there are more.
async fn fetch(transaction: &Transaction<'_>, portal: &Portal, limit: usize) -> ClientResult<(Vec<Row>, bool)> {
    let mut stream = pin!(transaction.query_portal_raw(portal, i32::try_from(limit).unwrap_or(i32::MAX)).await?);
    let mut rows = Vec::with_capacity(limit.min(MAX_ROWS));
    while let Some(row) = stream.try_next().await? {
        rows.push(row);
    }
    // The server counts the rows of a result only when it has sent all of them.
    let has_more = stream.rows_affected().is_none();
    Ok((rows, has_more))
}
