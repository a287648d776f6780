//! The writer thread: takes all waiting commands, writes them in one transaction and replies to all of them.
//!
//! A command sees the committed snapshot and the changes of the open transaction, so that several commands for one
//! connection can share a transaction. `commands.rs` implements the commands.

use super::calls::{self, CallsHead};
use super::chain::{self, LedgerRow};
use super::chains::{ChainHead, Head};
use super::command::Command;
use super::database::{open_postgres, open_sqlite};
use super::files::OpenFiles;
use super::fold_file::{self, FoldKeeper};
use super::followed::{self, Followed};
use super::lease::{Leases, Partitions};
use super::lock::WriterLock;
use super::others::Others;
use super::repeated::Repeated;
use super::replies::reject;
use super::{Location, RegistryError, chains, reader, row_locks};
use crate::clock::Clock;
use crate::meters::meters;
use crate::model::ledger::{Entry, Fact};
use crate::model::{ConnectionId, DEMO_NAMESPACE, Digest};
use crate::snapshot::{Checked, Connection as Known, Snapshot};
use sqlstore::{Connection, params};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, mpsc};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// The maximum number of commands in one transaction.
const MAX_BATCH: usize = 512;

/// How long there must be no command before the write-ahead log is checkpointed. A checkpoint takes two syncs and many
/// writes, so it is done when no command has to wait for it.
const CHECKPOINT_IDLE: Duration = Duration::from_millis(200);
/// The number of rows in the write-ahead log from which it is checkpointed.
const CHECKPOINT_ROWS: usize = 256;

/// The state that the writer shares with the [`Registry`](super::Registry).
#[derive(Clone)]
pub(super) struct Shared {
    pub snapshot: Arc<RwLock<Snapshot>>,
    /// Receives the last `seq` after each commit.
    pub announce: watch::Sender<u64>,
    /// The number of committed transactions.
    pub transactions: Arc<AtomicU64>,
    /// The partitions in which this process may begin attempts.
    pub partitions: watch::Sender<Partitions>,
    /// What other replicas did.
    pub others: Arc<Others>,
}

pub(super) struct Writer {
    pub(super) db: Connection,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) shared: Shared,
    pub(super) location: Location,
    pub(super) head: Head,
    pub(super) calls_head: CallsHead,
    pub(super) batch: Batch,
    /// The number of rows written since the last checkpoint.
    rows_in_wal: usize,
    /// A file with the maximum number of pages, with which tests simulate a full disk. Only set in debug builds.
    page_limit: Option<PathBuf>,
    /// The files that the writer has open, if the registry is a file.
    pub(super) files: Option<OpenFiles>,
    /// The partitions that this process has, if the registry is a database of PostgreSQL.
    pub(super) leases: Option<Leases>,
    /// The other replicas, if the registry is a database of PostgreSQL.
    pub(super) followed: Option<Followed>,
    fold: FoldKeeper,
    /// Why transactions failed.
    failure: Repeated,
    _lock: WriterLock,
}

/// The changes of the open transaction.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) entries: Vec<Entry>,
    pub(super) checked: Vec<Checked>,
    /// The state of the connections that the transaction changed, and the namespaces and policies that it recorded.
    pub(super) view: Snapshot,
    /// Whether the commit wakes the other replicas, whatever the entries are.
    pub(super) wakes_others: bool,
}

/// Replies to a command once the transaction is committed or has failed.
pub(super) type PendingReply = Box<dyn FnOnce(Result<(), RegistryError>) + Send>;

impl Writer {
    pub(super) fn open(
        location: &Location,
        lock: WriterLock,
        clock: Arc<dyn Clock>,
        shared: Shared,
        page_limit: Option<PathBuf>,
    ) -> Result<Writer, RegistryError> {
        let (db, leases) = match location.postgres() {
            Some(place) => open_postgres(place)?,
            None => (open_sqlite(location)?, None),
        };
        let (mut folded, stored, head) = match location.postgres() {
            Some(_) => followed::fold(&db, location, Snapshot::packed)?,
            None => {
                let (folded, stored) = fold_file::folded(&db, location)?;
                (folded, stored, chains::head(&db)?)
            }
        };
        reader::checked(&db, &mut folded)?;
        let calls_head = calls::head(&db)?;
        let (clock, followed) = followed::ledger_clock(&db, clock, head.at)?;
        let files = location.postgres().is_none().then(|| OpenFiles::new(location.local())).transpose()?;
        shared.announce.send_replace(followed.as_ref().map_or(folded.seq, |followed| followed.horizon));
        *shared.snapshot.write().unwrap_or_else(PoisonError::into_inner) = folded;
        let mut writer = Writer {
            db,
            clock,
            shared,
            location: location.clone(),
            head,
            calls_head,
            batch: Batch::default(),
            rows_in_wal: 0,
            page_limit,
            files,
            leases,
            followed,
            fold: FoldKeeper::new(location, stored),
            failure: Repeated::default(),
            _lock: lock,
        };
        match &mut writer.leases {
            Some(leases) => {
                let taken = leases.take_share(&writer.db)?;
                writer.unpack(taken);
                writer.adopt(taken)?;
                writer.shared.snapshot.write().unwrap_or_else(PoisonError::into_inner).shrink();
            }
            None => writer.record_interrupted(Partitions::ALL)?,
        }
        Ok(writer)
    }

    /// Executes commands until `Close`, or until all senders are dropped.
    pub(super) fn run(mut self, inbox: &mpsc::Receiver<Command>) {
        while let Some(first) = self.next(inbox) {
            let waiting = std::iter::once(first).chain(inbox.try_iter().take(MAX_BATCH - 1));
            let mut commands: VecDeque<Command> = waiting.collect();
            while !commands.is_empty() {
                if let Some(Command::Close { .. }) = commands.front() {
                    let Some(Command::Close { done }) = commands.pop_front() else {
                        return;
                    };
                    self.close();
                    let _ = done.send(());
                    return;
                }
                self.transact(&mut commands);
            }
        }
    }

    /// Waits for the next command. If none comes for a while after a burst, checkpoints the log and releases memory. In PostgreSQL,
    /// leases are renewed and the chains of others are followed meanwhile.
    fn next(&mut self, inbox: &mpsc::Receiver<Command>) -> Option<Command> {
        loop {
            let is_fold_due = self.fold.is_due(self.head.seq, &self.shared.snapshot);
            let wait = match (&self.leases, self.rows_in_wal >= CHECKPOINT_ROWS || is_fold_due) {
                (Some(_), _) => self.pause(),
                (None, true) => CHECKPOINT_IDLE,
                (None, false) => return inbox.recv().ok(),
            };
            self.keep_replica();
            match inbox.recv_timeout(wait) {
                Ok(command) => return Some(command),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) if self.rows_in_wal >= CHECKPOINT_ROWS || is_fold_due => {
                    self.checkpoint();
                    crate::memory::release_free();
                    if is_fold_due {
                        self.fold.store(self.head.seq, &self.shared.snapshot);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Copies the write-ahead log into the file. What cannot be copied now, because of a reader or a full disk, is copied by
    /// a later checkpoint.
    fn checkpoint(&mut self) {
        self.rows_in_wal = 0;
        let Some(db) = self.db.as_sqlite() else { return };
        if let Err(error) = db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())) {
            tracing::debug!(target: "aam::commit", %error, "could not checkpoint the write-ahead log");
        }
    }

    /// Copies the whole write-ahead log into the file, so that a copy of the file alone is a registry, and closes it. Gives the
    /// leases of a database back.
    fn close(mut self) {
        self.fold.close(self.head.seq, &self.shared.snapshot);
        if let Some(leases) = &mut self.leases {
            leases.end(&self.db);
        }
        let Some(db) = self.db.as_sqlite() else { return };
        let busy = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0));
        match busy {
            Ok(false) => {}
            Ok(true) => {
                tracing::warn!(target: "aam::registry", "another process reads the registry, so a part of it stays in the -wal file")
            }
            Err(error) => {
                tracing::warn!(target: "aam::registry", %error, "a part of the registry stays in the -wal file")
            }
        }
    }

    /// Executes `commands` up to the next `Close` in one transaction and replies to them.
    fn transact(&mut self, commands: &mut VecDeque<Command>) {
        let started = Instant::now();
        let mut replies: Vec<PendingReply> = Vec::new();
        let held = self.held();
        let now = commands.iter().take_while(|command| !matches!(command, Command::Close { .. }));
        let touched = now.clone().fold(Partitions::default(), |all, command| all.union(command.partitions(held)));
        let result = self.start(touched, now.map(Command::rows).sum());
        let mut result = result.and_then(|()| row_locks::lock(&self.db, commands));
        let before = (self.head.clone(), self.calls_head.clone());
        while let Some(command) = commands.pop_front() {
            if matches!(command, Command::Close { .. }) {
                commands.push_front(command);
                break;
            }
            replies.push(match &result {
                Ok(()) => self.execute(command, &mut result),
                Err(error) => reject(command, error),
            });
        }
        if result.is_ok() {
            result = self.wake_others();
        }
        if result.is_ok() {
            crate::fault::boundary("before_commit");
            result = self.db.commit().map_err(RegistryError::from);
        }
        match &result {
            Ok(()) => {
                self.failure.end();
                meters().commit(started.elapsed());
                crate::fault::boundary("after_commit");
                tracing::debug!(target: "aam::commit", commands = replies.len(), entries = self.batch.entries.len(), "committed");
                self.publish();
            }
            Err(error) => {
                match self.failure.is_news(&error.to_string(), Instant::now()) {
                    true => tracing::error!(target: "aam::registry", error = %error, "the transaction failed"),
                    false => tracing::debug!(target: "aam::registry", error = %error, "the transaction failed again"),
                }
                self.roll_back(before);
            }
        }
        for reply in replies {
            reply(match &result {
                Ok(()) => Ok(()),
                Err(error) => Err(error.copy()),
            });
        }
    }

    /// Does `work` in a transaction of its own, which appends about `rows` rows to the chains of `touched`.
    pub(super) fn in_transaction(
        &mut self,
        touched: Partitions,
        rows: usize,
        work: impl FnOnce(&mut Writer) -> Result<(), RegistryError>,
    ) -> Result<(), RegistryError> {
        self.start(touched, rows)?;
        let before = (self.head.clone(), self.calls_head.clone());
        let result = work(self).and_then(|()| Ok(self.db.commit()?));
        match &result {
            Ok(()) => self.publish(),
            Err(_) => self.roll_back(before),
        }
        result
    }

    /// Forgets the changes of the open transaction.
    fn roll_back(&mut self, before: (Head, CallsHead)) {
        self.batch = Batch::default();
        (self.head, self.calls_head) = before;
        let _ = self.db.rollback();
    }

    /// Begins a transaction that appends about `rows` rows to the chains of `touched`.
    fn start(&mut self, touched: Partitions, rows: usize) -> Result<(), RegistryError> {
        if let Some(files) = &self.files {
            files.check()?;
        }
        self.apply_page_limit();
        if self.db.is_lost() {
            self.resume()?;
        }
        self.calls_head.forget_chains();
        self.db.begin_write()?;
        let begun = self.lock_chains(touched).and_then(|()| self.reserve_numbers(if touched.is_empty() { 0 } else { rows }));
        // Otherwise the next one would fail because this one is open, and the reason would be hidden.
        begun.inspect_err(|_| drop(self.db.rollback()))
    }

    fn apply_page_limit(&self) {
        let limit = self.page_limit.as_ref().and_then(|path| std::fs::read_to_string(path).ok());
        if let (Some(pages), Some(db)) = (limit.and_then(|text| text.trim().parse::<i64>().ok()), self.db.as_sqlite()) {
            let _ = db.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()));
        }
    }

    /// Applies the committed entries to the shared snapshot.
    pub(super) fn publish(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        self.rows_in_wal += batch.entries.len() + batch.checked.len();
        self.shared.transactions.fetch_add(1, Ordering::Relaxed);
        if batch.entries.is_empty() && batch.checked.is_empty() {
            return;
        }
        let mut snapshot = self.shared.snapshot.write().unwrap_or_else(PoisonError::into_inner);
        batch.entries.iter().for_each(|entry| snapshot.apply_next(entry));
        snapshot.pack_open();
        for checked in &batch.checked {
            snapshot.apply_checked(checked);
        }
        drop(snapshot);
        match &mut self.followed {
            Some(followed) => {
                self.shared.announce.send_replace(followed.horizon);
                followed.look_soon();
            }
            None => {
                self.shared.announce.send_replace(self.head.seq);
            }
        }
    }

    pub(super) fn snapshot(&self) -> RwLockReadGuard<'_, Snapshot> {
        self.shared.snapshot.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the state of a connection, including the changes of the open transaction.
    pub(super) fn with_known<T>(&self, id: ConnectionId, read: impl FnOnce(Option<&Known>) -> T) -> T {
        match self.batch.view.connections.get(&id) {
            Some(known) => read(Some(&known)),
            None => read(self.snapshot().connections.get(&id).as_deref()),
        }
    }

    /// Whether the namespace accepts no entries, except those of its seed.
    pub(super) fn closed(&self, namespace: &str) -> bool {
        namespace == DEMO_NAMESPACE || self.sealed(namespace)
    }

    pub(super) fn sealed(&self, namespace: &str) -> bool {
        self.batch.view.sealed.contains(namespace) || self.snapshot().sealed.contains(namespace)
    }

    pub(super) fn policy(&self) -> Option<(Digest, u64)> {
        self.batch.view.policy.or(self.snapshot().policy)
    }

    /// Copies a connection into the view of the transaction before it is changed.
    fn load_into_view(&mut self, id: ConnectionId) {
        if self.batch.view.connections.contains_key(&id) {
            return;
        }
        let known = self.snapshot().connections.copy_of(&id);
        if let Some(known) = known {
            self.batch.view.connections.insert(id, Box::new(known));
        }
    }

    pub(super) fn apply_checked(&mut self, checked: Checked) {
        self.load_into_view(checked.connection);
        self.batch.view.apply_checked(&checked);
        self.batch.checked.push(checked);
    }

    pub(super) fn append(
        &mut self,
        namespace: &str,
        connection: Option<ConnectionId>,
        fact: Fact,
        body: Option<String>,
    ) -> Result<(), RegistryError> {
        let (seq, at) = (self.next_seq()?, self.now());
        let facts = serde_json::to_string(&fact).unwrap_or_default();
        let id = connection.map(|id| id.to_string());
        let row = LedgerRow {
            seq,
            at: at.0,
            kind: fact.kind(),
            namespace,
            connection: id.as_deref(),
            facts: &facts,
            body: body.as_deref(),
        };
        let chain = self.head.chain_of(connection);
        self.use_seq(chain)?;
        let ChainHead { place, hash: prev } = self.head.chain(chain);
        let hash = chain::hash(&prev, &row);
        let place = place + 1;
        match self.db.is_postgres() {
            true => self
                .db
                .prepare_cached(chains::INSERT)?
                .execute_later(params![seq, at.0, row.kind, namespace, id, facts, body, prev.0, hash.0, chain, place])?,
            false => {
                // Step reports are apart, so that old ones can move into archive files.
                let (body, report) = if matches!(fact, Fact::AttemptFinished(_)) { (None, body) } else { (body, None) };
                self.db
                    .prepare_cached(
                        "INSERT INTO ledger (seq, at, kind, namespace, connection, facts, body, prev, hash)
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                    )?
                    .execute_later(params![seq, at.0, fact.kind(), namespace, id, facts, body, prev.0, hash.0])?;
                if let Some(report) = report {
                    self.db
                        .prepare_cached("INSERT INTO bodies (seq, body) VALUES (?1, ?2)")?
                        .execute_later(params![seq, report])?;
                }
            }
        }
        self.head.advance(seq, at, chain, ChainHead { place, hash });
        let entry = Entry { seq, at, namespace: namespace.to_string(), connection, fact };
        if let Some(id) = connection {
            self.load_into_view(id);
        }
        self.batch.view.apply(&entry);
        self.batch.entries.push(entry);
        Ok(())
    }
}
