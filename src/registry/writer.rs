//! The one writer: takes the commands that wait, writes them in one transaction, answers all of them.
//!
//! A command decides on the committed snapshot and on what its own transaction did before it, so that
//! commands on the same connection may share a transaction. What they write is in `commands.rs`.

use super::chain::{self, Row};
use super::command::Command;
use super::lock::WriterLock;
use super::{RegistryError, reader, schema};
use crate::clock::Clock;
use crate::model::ledger::{Entry, Fact};
use crate::model::{ConnectionId, Digest, Timestamp};
use crate::snapshot::{Checked, Connection as Known, Snapshot};
use rusqlite::{Connection, params};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, mpsc};
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// Commands that share one transaction at most.
const BATCH: usize = 512;

/// Merging the write-ahead log into the file takes two syncs and many writes. It is done when nothing was
/// asked for so long after so many rows, so that no commit has to wait for it ...
const IDLE: Duration = Duration::from_millis(200);
const MERGE_ROWS: usize = 256;
/// ... and by SQLite itself after a commit when the log is so long (pages of 4 KiB).
const LONGEST_LOG: i32 = 8192;

/// What the writer shares with the [`Registry`](super::Registry) that asks it.
#[derive(Clone)]
pub(super) struct Shared {
    pub snapshot: Arc<RwLock<Snapshot>>,
    /// The last `seq`, after each commit.
    pub announce: watch::Sender<u64>,
    /// Transactions committed.
    pub transactions: Arc<AtomicU64>,
}

pub(super) struct Writer {
    pub(super) db: Connection,
    pub(super) clock: Arc<dyn Clock>,
    shared: Shared,
    pub(super) head: Head,
    batch: Batch,
    /// Rows written since the write-ahead log was merged into the file.
    unmerged: usize,
    /// A debug build can be given a full disk: this file holds the limit in pages.
    page_limit: Option<PathBuf>,
    _lock: WriterLock,
}

/// Where the next row goes on.
#[derive(Clone, Copy)]
pub(super) struct Head {
    seq: u64,
    pub(super) at: Timestamp,
    hash: Digest,
}

/// What the open transaction did so far.
#[derive(Default)]
struct Batch {
    entries: Vec<Entry>,
    checked: Vec<Checked>,
    /// The connections it touched as they are after it, and its seals and policies.
    view: Snapshot,
}

/// Sent after the commit, or turned into an error when it fails.
type Answer = Box<dyn FnOnce(Result<(), RegistryError>) + Send>;

impl Writer {
    pub(super) fn open(
        path: &Path,
        lock: WriterLock,
        clock: Arc<dyn Clock>,
        shared: Shared,
        page_limit: Option<PathBuf>,
    ) -> Result<Writer, RegistryError> {
        let mut db = Connection::open(path)?;
        db.busy_timeout(Duration::from_secs(5))?;
        // Before the first setting: a file that is not ours is left as it is.
        schema::refuse_foreign(&db)?;
        db.pragma_update(None, "journal_mode", "WAL")?;
        // FULL: what was answered as accepted is on disk.
        db.pragma_update(None, "synchronous", "FULL")?;
        db.pragma_update(None, "journal_size_limit", 8 << 20)?;
        db.pragma_update(None, "wal_autocheckpoint", LONGEST_LOG)?;
        schema::migrate(&mut db)?;
        let mut folded = reader::fold(&db, i64::MAX)?;
        reader::checked(&db, &mut folded)?;
        let head = head(&db)?;
        shared.announce.send_replace(folded.seq);
        *shared.snapshot.write().unwrap_or_else(PoisonError::into_inner) = folded;
        let mut writer = Writer { db, clock, shared, head, batch: Batch::default(), unmerged: 0, page_limit, _lock: lock };
        writer.record_interrupted()?;
        Ok(writer)
    }

    /// Serves commands until `Close` or until nobody can send any more.
    pub(super) fn run(mut self, inbox: &mpsc::Receiver<Command>) {
        while let Some(first) = self.next(inbox) {
            let waiting = std::iter::once(first).chain(inbox.try_iter().take(BATCH - 1));
            let mut commands: VecDeque<Command> = waiting.collect();
            while !commands.is_empty() {
                if let Some(Command::Close { .. }) = commands.front() {
                    let Some(Command::Close { done }) = commands.pop_front() else {
                        return;
                    };
                    drop(self);
                    let _ = done.send(());
                    return;
                }
                self.transact(&mut commands);
            }
        }
    }

    /// The next command; while there is none, the log is merged and memory of the burst is given back.
    fn next(&mut self, inbox: &mpsc::Receiver<Command>) -> Option<Command> {
        if self.unmerged >= MERGE_ROWS {
            match inbox.recv_timeout(IDLE) {
                Ok(command) => return Some(command),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {
                    self.merge();
                    crate::memory::release_free();
                }
            }
        }
        inbox.recv().ok()
    }

    /// What cannot be merged now, because somebody reads it or the disk is full, is merged another time.
    fn merge(&mut self) {
        self.unmerged = 0;
        if let Err(error) = self.db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())) {
            tracing::debug!(target: "aam::commit", %error, "the log was not merged");
        }
    }

    /// Writes as many of `commands` as may share a transaction and answers them.
    fn transact(&mut self, commands: &mut VecDeque<Command>) {
        let before = self.head;
        let mut answers: Vec<Answer> = Vec::new();
        let mut result = self.start();
        while let Some(command) = commands.pop_front() {
            if matches!(command, Command::Close { .. }) {
                commands.push_front(command);
                break;
            }
            answers.push(match &result {
                Ok(()) => self.serve(command, &mut result),
                Err(error) => refuse(command, error),
            });
        }
        if result.is_ok() {
            crate::fault::boundary("before_commit");
            result = self.db.execute_batch("COMMIT").map_err(RegistryError::from);
        }
        match &result {
            Ok(()) => {
                crate::fault::boundary("after_commit");
                tracing::debug!(target: "aam::commit", commands = answers.len(), entries = self.batch.entries.len(), "committed");
                self.publish();
            }
            Err(error) => {
                self.batch = Batch::default();
                tracing::error!(target: "aam::registry", error = %error, "nothing of this transaction was written");
                self.head = before;
                let _ = self.db.execute_batch("ROLLBACK");
            }
        }
        for answer in answers {
            answer(match &result {
                Ok(()) => Ok(()),
                Err(error) => Err(error.copy()),
            });
        }
    }

    pub(super) fn start(&mut self) -> Result<(), RegistryError> {
        self.obey_page_limit();
        self.db.execute_batch("BEGIN IMMEDIATE")?;
        Ok(())
    }

    fn obey_page_limit(&self) {
        let limit = self.page_limit.as_ref().and_then(|path| std::fs::read_to_string(path).ok());
        if let Some(pages) = limit.and_then(|text| text.trim().parse::<i64>().ok()) {
            let _ = self.db.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()));
        }
    }

    /// After the commit: what was written becomes what is believed.
    pub(super) fn publish(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        self.unmerged += batch.entries.len() + batch.checked.len();
        self.shared.transactions.fetch_add(1, Ordering::Relaxed);
        if batch.entries.is_empty() && batch.checked.is_empty() {
            return;
        }
        let mut snapshot = self.shared.snapshot.write().unwrap_or_else(PoisonError::into_inner);
        for entry in &batch.entries {
            snapshot.apply(entry);
        }
        for checked in &batch.checked {
            snapshot.apply_checked(checked);
        }
        drop(snapshot);
        self.shared.announce.send_replace(self.head.seq);
    }

    fn snapshot(&self) -> RwLockReadGuard<'_, Snapshot> {
        self.shared.snapshot.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection as it is after what the open transaction did so far.
    pub(super) fn with_known<T>(&self, id: ConnectionId, read: impl FnOnce(Option<&Known>) -> T) -> T {
        match self.batch.view.connections.get(&id) {
            Some(known) => read(Some(known)),
            None => read(self.snapshot().connections.get(&id).map(|known| &**known)),
        }
    }

    pub(super) fn sealed(&self, namespace: &str) -> bool {
        self.batch.view.sealed.contains(namespace) || self.snapshot().sealed.contains(namespace)
    }

    pub(super) fn policy(&self) -> Option<(Digest, u64)> {
        self.batch.view.policy.or(self.snapshot().policy)
    }

    /// Copies a connection into the view before the transaction changes it.
    fn bring_into_view(&mut self, id: ConnectionId) {
        if self.batch.view.connections.contains_key(&id) {
            return;
        }
        let known = self.snapshot().connections.get(&id).cloned();
        if let Some(known) = known {
            self.batch.view.connections.insert(id, known);
        }
    }

    pub(super) fn note_checked(&mut self, checked: Checked) {
        self.bring_into_view(checked.connection);
        self.batch.view.apply_checked(&checked);
        self.batch.checked.push(checked);
    }

    /// Writes one command into the open transaction. A refusal is the command's own answer; an SQL error fails the batch.
    fn serve(&mut self, command: Command, batch: &mut Result<(), RegistryError>) -> Answer {
        match command {
            Command::Accept { documents, reply } => settle(self.accept(documents), reply, batch),
            Command::Withdraw { wishes, reason, reply } => settle(self.withdraw(wishes, &reason), reply, batch),
            Command::Begin { connection, under, budget_reservations, reply } => {
                settle(self.begin_funded(connection, under, &budget_reservations), reply, batch)
            }
            Command::Finish { finish, reply } => settle(self.finish(*finish), reply, batch),
            Command::AcceptPolicy { policy, text, reply } => settle(self.accept_policy(policy, text), reply, batch),
            Command::Seal { namespace, documents, reply } => settle(self.seal(&namespace, documents), reply, batch),
            Command::TakeBudget { account, day, wanted, limit, reply } => {
                settle(self.take_budget(&account, day, wanted, limit), reply, batch)
            }
            Command::TakeIn { findings, reply } => settle(self.take_in(*findings), reply, batch),
            Command::Probe { reply } => settle(self.probe(), reply, batch),
            Command::Close { done } => Box::new(move |_| drop(done)),
        }
    }

    pub(super) fn append(
        &mut self,
        namespace: &str,
        connection: Option<ConnectionId>,
        fact: Fact,
        body: Option<String>,
    ) -> Result<(), RegistryError> {
        let (seq, at) = (self.head.seq + 1, self.now());
        let facts = serde_json::to_string(&fact).unwrap_or_default();
        let id = connection.map(|id| id.to_string());
        let row =
            Row { seq, at: at.0, kind: fact.kind(), namespace, connection: id.as_deref(), facts: &facts, body: body.as_deref() };
        let hash = chain::hash(&self.head.hash, &row);
        self.db
            .prepare_cached(
                "INSERT INTO ledger (seq, at, kind, namespace, connection, facts, body, prev, hash)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?
            .execute(params![seq, at.0, row.kind, namespace, id, facts, body, self.head.hash.0, hash.0])?;
        self.head = Head { seq, at, hash };
        let entry = Entry { seq, at, namespace: namespace.to_string(), connection, fact };
        if let Some(id) = connection {
            self.bring_into_view(id);
        }
        self.batch.view.apply(&entry);
        self.batch.entries.push(entry);
        Ok(())
    }
}

/// The last committed row.
fn head(db: &Connection) -> Result<Head, RegistryError> {
    let sql = "SELECT seq, at, hash FROM ledger ORDER BY seq DESC LIMIT 1";
    let read = db.query_row(sql, [], |row| Ok(Head { seq: row.get(0)?, at: Timestamp(row.get(1)?), hash: Digest(row.get(2)?) }));
    match read {
        Err(rusqlite::Error::QueryReturnedNoRows) => Ok(Head { seq: 0, at: Timestamp(0), hash: chain::GENESIS }),
        other => Ok(other?),
    }
}

/// Keeps the answer until the commit. A refusal is told; an error of the database fails the batch.
fn settle<T: Send + 'static>(
    result: Result<T, RegistryError>,
    reply: oneshot::Sender<Result<T, RegistryError>>,
    batch: &mut Result<(), RegistryError>,
) -> Answer {
    let answer = match result {
        Ok(value) => Ok(value),
        Err(refusal @ RegistryError::Sealed(_)) => Err(refusal),
        Err(error) => {
            let told = error.copy();
            *batch = Err(error);
            Err(told)
        }
    };
    Box::new(move |committed| {
        let _ = reply.send(committed.and(answer));
    })
}

/// The answer to a command that came after the batch had failed.
fn refuse(command: Command, error: &RegistryError) -> Answer {
    let error = error.copy();
    match command {
        Command::Accept { reply, .. } | Command::TakeIn { reply, .. } => Box::new(move |_| drop(reply.send(Err(error)))),
        Command::Withdraw { reply, .. } | Command::AcceptPolicy { reply, .. } | Command::Probe { reply } => {
            Box::new(move |_| drop(reply.send(Err(error))))
        }
        Command::Begin { reply, .. } => Box::new(move |_| drop(reply.send(Err(error)))),
        Command::Finish { reply, .. } => Box::new(move |_| drop(reply.send(Err(error)))),
        Command::Seal { reply, .. } => Box::new(move |_| drop(reply.send(Err(error)))),
        Command::TakeBudget { reply, .. } => Box::new(move |_| drop(reply.send(Err(error)))),
        Command::Close { done } => Box::new(move |_| drop(done)),
    }
}
