//! The append-only registry on SQLite in WAL mode or on PostgreSQL, with one writer thread and a pool of read-only connections.
//!
//! The ledger is one table of ordered facts that are chained by hash; SQL views show its parts. The writer puts all
//! waiting commands into one transaction, so that a burst of commands costs one sync of the disk. After each commit it
//! applies the new entries to the shared [`Snapshot`], which therefore never contains anything that is not on disk.

mod account_holders;
mod account_marks;
pub mod all_partitions;
mod answers;
mod archive;
mod call_chain;
mod call_entries;
mod call_heads;
mod call_reader;
mod calls;
mod chain;
mod chains;
mod command;
mod commands;
pub mod consents;
mod copy;
mod database;
mod drifts;
mod error;
mod evidence_reader;
mod execute;
mod files;
mod fold_file;
mod followed;
mod handoffs;
mod interrupted;
mod lease;
mod location;
mod lock;
mod migrate;
mod notices;
mod others;
mod page_reader;
pub mod postgres_schema;
pub(crate) mod private_files;
pub mod query;
mod read_only;
mod reader;
mod repeated;
mod replica;
mod replica_list;
mod replies;
mod retirements;
mod row_locks;
pub mod schema;
mod state;
#[cfg(test)]
pub(crate) mod tests;
mod verify;
mod verify_calls;
mod verify_chains;
pub mod views;
mod waiting;
mod writer;

pub use account_holders::account_holders;
pub use answers::{AnswerKey, StoredAnswer};
pub use call_reader::CallFilter;
pub use calls::LedgerHead;
pub use command::{
    Acceptance, FileMark, HandoffReceipt, IntentChange, NewHandoff, Notice, Recorded, ScanFindings, Ticket, WebhookMessage,
};
pub use copy::{Completeness, CopySummary, backup, backup_without_archives, restore};
pub use drifts::Acknowledgement;
pub use error::RegistryError;
pub use evidence_reader::{CallBatch, LedgerLine, chain_of_row, is_chain_of_batch, named_ends};
pub use files::refuse_other;
pub use lease::Partitions;
pub use location::{Location, PostgresLocation};
pub use lock::{Holder, WriterLock, holder, record_address, take as hold};
pub use migrate::{MigrationSummary, migrate};
pub use page_reader::{AccountUsage, FamilyUsage, NewestVerdict, PolicyText, RecentEntries};
pub use reader::{LeftBody, Reader, Version};
pub use replica_list::{ListedReplica, ReplicaList, replicas};
pub use verify::{Verdict, VerifyProgress};
pub use verify_calls::CallsVerdict;

use crate::clock::Clock;
use crate::egress::BudgetReservation;
use crate::model::ledger::AttemptContext;
use crate::model::{ConnectionId, Digest, Intent, NewCallBatch, Origin, Outcome, RecordedCalls, Timestamp};
use crate::snapshot::Snapshot;
use command::{Command, Reply};
use files::OpenFiles;
use others::Others;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock, RwLockReadGuard, mpsc};
use tokio::sync::{oneshot, watch};
use writer::{Shared, Writer};

/// The registry, open for writing.
pub struct Registry {
    location: Location,
    snapshot: Arc<RwLock<Snapshot>>,
    transactions: Arc<AtomicU64>,
    commands: mpsc::Sender<Command>,
    changes: watch::Receiver<u64>,
    /// Announces what a registry that is open only for reading has read. `None` if the writer does.
    announce: Option<watch::Sender<u64>>,
    /// The policy file that was described to the other replicas last.
    policy_file: Mutex<Option<Digest>>,
    reader: Reader,
    clock: Arc<dyn Clock>,
    partitions: watch::Receiver<Partitions>,
    others: Arc<Others>,
    /// The files that the writer has open. `None` for a registry that is open only for reading.
    files: Option<OpenFiles>,
}

impl Registry {
    /// Opens the registry at `location`, or creates it, migrates it, folds it, and records attempts that a crash interrupted.
    /// `command` is the name of this process in the error that a second writer gets.
    ///
    /// # Errors
    /// [`RegistryError::Held`] if another process has the registry open for writing, and other [`RegistryError`]s.
    pub fn open(location: impl Into<Location>, command: &str, clock: Arc<dyn Clock>) -> Result<Registry, RegistryError> {
        let page_limit = std::env::var_os("AAM_TEST_MAX_PAGES").filter(|_| cfg!(debug_assertions)).map(PathBuf::from);
        Registry::open_within(&location.into(), command, clock, page_limit)
    }

    /// Opens the registry. `page_limit` is a file with the maximum number of pages, with which tests simulate a full disk.
    fn open_within(
        location: &Location,
        command: &str,
        clock: Arc<dyn Clock>,
        page_limit: Option<PathBuf>,
    ) -> Result<Registry, RegistryError> {
        let io = |path: &Path| {
            let path = path.to_path_buf();
            |error| RegistryError::Io { path, error }
        };
        let path = location.local();
        refuse_other(path)?;
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            private_files::create_folder(folder).map_err(io(folder))?;
        }
        let lock = lock::take(path, command).map_err(|error| match error {
            RegistryError::Held { path, holder } if location.postgres().is_some() => RegistryError::HeldFiles { path, holder },
            other => other,
        })?;
        if location.postgres().is_none() {
            private_files::create_database(path).map_err(io(path))?;
        }
        let (announce, changes) = watch::channel(0);
        let (open, partitions) =
            watch::channel(if location.postgres().is_some() { Partitions::default() } else { Partitions::ALL });
        let others: Arc<Others> = Arc::default();
        let shared = Shared {
            snapshot: Arc::default(),
            announce,
            transactions: Arc::default(),
            partitions: open,
            others: Arc::clone(&others),
        };
        let writer = Writer::open(location, lock, clock, shared.clone(), page_limit)?;
        let (clock, files) = (Arc::clone(&writer.clock), writer.files.clone());
        let (commands, inbox) = mpsc::channel();
        let reader = Reader::open(location)?;
        std::thread::Builder::new().name("registry-writer".to_string()).spawn(move || writer.run(&inbox)).map_err(io(path))?;
        Ok(Registry {
            location: location.clone(),
            snapshot: shared.snapshot,
            transactions: shared.transactions,
            commands,
            changes,
            announce: None,
            policy_file: Mutex::default(),
            reader,
            clock,
            partitions,
            others,
            files,
        })
    }

    /// The path of the registry file or, for a database, the path beside which the files of this process are.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.location.local()
    }

    /// Where the registry is.
    #[must_use]
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// The clock that the times of rows come from. Waits that count from rows must use it, too.
    #[must_use]
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock)
    }

    /// The fold of all committed entries. Do not hold the guard for long, because the writer waits for it.
    pub fn snapshot(&self) -> RwLockReadGuard<'_, Snapshot> {
        self.snapshot.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Notifies whenever entries have been committed. The value is the `seq` up to which no entry can be added any more, which in
    /// a file is the last one.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    /// The number of transactions that this process committed. A burst of commands shares few of them.
    #[must_use]
    pub fn transactions(&self) -> u64 {
        self.transactions.load(Ordering::Relaxed)
    }

    /// The read-only connections, for bodies and history.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Appends documents. They are on disk when this returns. A document that is already in force appends nothing.
    ///
    /// # Errors
    /// [`RegistryError::Sealed`] for a sealed namespace, [`RegistryError::Full`] and others. No document was accepted then.
    pub async fn accept(&self, documents: Vec<(Intent, Origin)>) -> Result<Vec<Acceptance>, RegistryError> {
        self.send(|reply| Command::Accept { documents, reply }).await
    }

    /// Records that origins no longer desire connections. Connections that no origin desires any more are retired.
    ///
    /// # Errors
    /// If the registry cannot write.
    pub async fn withdraw(&self, withdrawn: Vec<(ConnectionId, Origin)>, reason: &str) -> Result<(), RegistryError> {
        let reason = reason.to_string();
        self.send(|reply| Command::Withdraw { withdrawn, reason, reply }).await
    }

    /// Records that `origins` no longer desire `connection`, and retires it if no other origin does. Appends nothing for what
    /// is recorded already.
    ///
    /// # Errors
    /// [`RegistryError::Sealed`] for a sealed namespace, or if the registry cannot write.
    pub async fn retire(&self, connection: ConnectionId, origins: Vec<Origin>, reason: &str) -> Result<(), RegistryError> {
        let reason = reason.to_string();
        self.send(|reply| Command::Retire { connection, origins, reason, reply }).await
    }

    /// Retires those of `connections` that no origin desires.
    ///
    /// # Errors
    /// If the registry cannot write.
    pub async fn retire_orphans(&self, connections: Vec<ConnectionId>) -> Result<(), RegistryError> {
        self.send(|reply| Command::RetireOrphans { connections, reply }).await
    }

    /// Records that each connection may leave because of the change that its digest identifies. `by` names who confirmed it.
    ///
    /// # Errors
    /// If the registry cannot write.
    pub async fn confirm(&self, members: Vec<(ConnectionId, Digest)>, by: &str) -> Result<(), RegistryError> {
        let by = by.to_string();
        self.send(|reply| Command::Confirm { members, by, reply }).await
    }

    /// Records a handoff and accepts its intents, in one transaction. Does nothing if the run was handed over already.
    ///
    /// # Errors
    /// As [`Registry::accept`].
    pub async fn hand_over(&self, handoff: NewHandoff) -> Result<HandoffReceipt, RegistryError> {
        self.send(|reply| Command::Handoff { handoff: Box::new(handoff), reply }).await
    }

    /// Records that an attempt begins. Without the ticket, the attempt must not call anything.
    ///
    /// # Errors
    /// If the registry cannot write. Nothing may be called then.
    pub async fn begin(&self, connection: ConnectionId, context: AttemptContext) -> Result<Ticket, RegistryError> {
        Ok(self.begin_with_budget(connection, context, Vec::new()).await?.0)
    }

    /// As [`Registry::begin`], and reserves calls of the day's budget in the same transaction. Returns how many calls were
    /// granted for each of `budget_reservations`.
    ///
    /// # Errors
    /// As [`Registry::begin`].
    pub async fn begin_with_budget(
        &self,
        connection: ConnectionId,
        context: AttemptContext,
        budget_reservations: Vec<BudgetReservation>,
    ) -> Result<(Ticket, Vec<u64>), RegistryError> {
        self.send(|reply| Command::Begin { connection, context, budget_reservations, reply }).await
    }

    /// Records the outcome of an attempt in one transaction. Appends nothing if the outcome adds nothing new.
    ///
    /// # Errors
    /// If the registry cannot write. The ticket remains and counts as an interrupted attempt after a restart.
    pub async fn finish(&self, ticket: &Ticket, outcome: &Outcome) -> Result<Recorded, RegistryError> {
        self.finish_with_calls(ticket, outcome, &RecordedCalls::default()).await
    }

    /// As [`Registry::finish`], and records the calls of the attempt in the same transaction, also if the outcome adds nothing
    /// new.
    ///
    /// # Errors
    /// As [`Registry::finish`].
    pub async fn finish_with_calls(
        &self,
        ticket: &Ticket,
        outcome: &Outcome,
        calls: &RecordedCalls,
    ) -> Result<Recorded, RegistryError> {
        let finish = Box::new(command::Finish { calls: calls.clone(), ..command::Finish::new(ticket, outcome) });
        self.send(|reply| Command::Finish { finish, reply }).await
    }

    /// Records calls that no attempt recorded.
    ///
    /// # Errors
    /// If the registry cannot write.
    pub async fn record_calls(&self, batches: Vec<NewCallBatch>) -> Result<(), RegistryError> {
        self.send(|reply| Command::RecordCalls { batches, reply }).await
    }

    /// Names the last recorded calls in the ledger, unless an entry names them already, and returns the last entry. A copy of it
    /// that is kept elsewhere proves later that nothing was removed from the end of the registry.
    ///
    /// # Errors
    /// If the registry cannot write.
    pub async fn anchor_calls(&self) -> Result<LedgerHead, RegistryError> {
        self.send(|reply| Command::AnchorCalls { reply }).await
    }

    /// Drops the calls that were recorded before the UTC day of `before`. Returns whether there are more to delete; the caller
    /// then calls this again.
    ///
    /// # Errors
    /// If the registry cannot write.
    pub async fn drop_calls(&self, before: Timestamp) -> Result<bool, RegistryError> {
        self.send(|reply| Command::DropCalls { before, reply }).await
    }

    /// Records the policy in force and the names of its webhooks. Appends nothing if both were recorded already.
    ///
    /// # Errors
    /// If the registry cannot write.
    pub async fn accept_policy(&self, policy: Digest, text: String, webhooks: Vec<String>) -> Result<(), RegistryError> {
        self.send(|reply| Command::AcceptPolicy { policy, text, webhooks, reply }).await
    }

    /// Records what people are notified of, in one transaction. The caller passes only what is not recorded yet.
    ///
    /// # Errors
    /// If the registry cannot write.
    pub async fn record_notices(&self, notices: Vec<Notice>) -> Result<(), RegistryError> {
        self.send(|reply| Command::RecordNotices { notices, reply }).await
    }

    /// Stores the message that a webhook is sent, so that it is repeated unchanged after a restart.
    ///
    /// # Errors
    /// If the registry cannot write.
    pub async fn store_message(&self, message: WebhookMessage) -> Result<(), RegistryError> {
        self.send(|reply| Command::StoreMessage { message, reply }).await
    }

    /// Loads the seed of a namespace and seals the namespace. Does nothing and returns `false` if it is sealed already.
    ///
    /// # Errors
    /// If the registry cannot write.
    pub async fn seal(&self, namespace: &str, documents: Vec<(Intent, Origin)>) -> Result<bool, RegistryError> {
        let namespace = namespace.to_string();
        self.send(|reply| Command::Seal { namespace, documents, reply }).await
    }

    /// Records the result of a scan: all documents, withdrawals and marks, or none of them. The marks are working state,
    /// but as part of this transaction they do not need a sync of their own.
    ///
    /// # Errors
    /// As [`Registry::accept`].
    pub async fn record_scan(&self, findings: ScanFindings) -> Result<Vec<Acceptance>, RegistryError> {
        self.send(|reply| Command::RecordScan { findings: Box::new(findings), reply }).await
    }

    /// Stores the answer to a request with an idempotency key for a day. [`Reader::stored_answer`] finds it.
    ///
    /// # Errors
    /// If the registry cannot write.
    pub async fn store_answer(&self, key: AnswerKey, answer: StoredAnswer) -> Result<(), RegistryError> {
        self.send(|reply| Command::StoreAnswer { key, answer: Box::new(answer), reply }).await
    }

    /// Checks that the files of the registry are still the ones that are open. This blocks if their file system does not answer.
    ///
    /// # Errors
    /// [`RegistryError::Replaced`] if one was deleted or replaced, [`RegistryError::Io`] if that cannot be found out.
    pub fn check_files(&self) -> Result<(), RegistryError> {
        self.files.as_ref().map_or(Ok(()), OpenFiles::check)
    }

    /// Tests with a write that changes nothing whether the registry can write.
    ///
    /// # Errors
    /// If it cannot.
    pub async fn probe(&self) -> Result<(), RegistryError> {
        self.send(|reply| Command::Probe { reply }).await
    }

    /// Records every attempt that is still running as interrupted by a stop. Call it after the attempts were ended.
    ///
    /// # Errors
    /// If the registry cannot write. The attempts then count as interrupted by a crash after the next start.
    pub async fn record_stopped(&self) -> Result<(), RegistryError> {
        self.send(|reply| Command::RecordStopped { reply }).await
    }

    /// Stops the writer after all commands that were sent before. The lock is released when this returns.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.commands.send(Command::Close { done }).is_ok() {
            let _ = closed.await;
        }
    }

    async fn send<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, RegistryError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).map_err(|_| RegistryError::Closed)?;
        answer.await.map_err(|_| RegistryError::Closed)?
    }
}
