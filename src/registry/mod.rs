//! The append-only registry on SQLite (WAL): one writer thread, readers apart.
//!
//! The ledger is one table of facts in one order, chained by hash; views name its parts. The writer
//! groups the commands that wait into one transaction, so that a burst of commits costs one sync.
//! After each commit it applies the entries to the shared [`Snapshot`]: readers see what is on disk,
//! never what may still fail.

mod chain;
mod command;
mod commands;
mod error;
mod lock;
mod reader;
pub mod schema;
mod state;
#[cfg(test)]
mod tests;
mod verify;
mod writer;

pub use command::{Acceptance, Findings, How, Mark, Recorded, Ticket};
pub use error::RegistryError;
pub use reader::{Reader, Version};
pub use verify::Verdict;

use crate::clock::Clock;
use crate::egress::{BudgetReservation, DayBudget};
use crate::model::ledger::AttemptContext;
use crate::model::{ConnectionId, Digest, Intent, Origin, Outcome};
use crate::snapshot::Snapshot;
use command::{Command, Reply};
use futures_util::future::BoxFuture;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock, RwLockReadGuard, mpsc};
use tokio::sync::{oneshot, watch};
use writer::{Shared, Writer};

/// The registry, open for writing.
pub struct Registry {
    path: PathBuf,
    snapshot: Arc<RwLock<Snapshot>>,
    transactions: Arc<AtomicU64>,
    commands: mpsc::Sender<Command>,
    changes: watch::Receiver<u64>,
    reader: Reader,
}

impl Registry {
    /// Opens or makes the registry at `path`, migrates it, records attempts that a crash interrupted,
    /// and folds it. `command` names this process to a second writer.
    ///
    /// # Errors
    /// [`RegistryError::Held`] when another process writes; see its other variants.
    pub fn open(path: &Path, command: &str, clock: Arc<dyn Clock>) -> Result<Registry, RegistryError> {
        let page_limit = std::env::var_os("AAM_TEST_MAX_PAGES").filter(|_| cfg!(debug_assertions)).map(PathBuf::from);
        Registry::open_within(path, command, clock, page_limit)
    }

    /// Opens it. `page_limit`: a file with the number of pages that stands for a full disk.
    fn open_within(
        path: &Path,
        command: &str,
        clock: Arc<dyn Clock>,
        page_limit: Option<PathBuf>,
    ) -> Result<Registry, RegistryError> {
        let io = |path: &Path| {
            let path = path.to_path_buf();
            |error| RegistryError::Io { path, error }
        };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(io(folder))?;
        }
        let lock = lock::take(path, command)?;
        let (announce, changes) = watch::channel(0);
        let shared = Shared { snapshot: Arc::default(), announce, transactions: Arc::default() };
        let writer = Writer::open(path, lock, clock, shared.clone(), page_limit)?;
        let (commands, inbox) = mpsc::channel();
        let reader = Reader::open(path)?;
        std::thread::Builder::new().name("registry-writer".to_string()).spawn(move || writer.run(&inbox)).map_err(io(path))?;
        Ok(Registry {
            path: path.to_path_buf(),
            snapshot: shared.snapshot,
            transactions: shared.transactions,
            commands,
            changes,
            reader,
        })
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is committed, folded. Hold it briefly: the writer waits for it.
    pub fn snapshot(&self) -> RwLockReadGuard<'_, Snapshot> {
        self.snapshot.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Changes whenever an entry was committed; the value is the last `seq`.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    /// Transactions committed by this process. A burst of commands shares few of them.
    #[must_use]
    pub fn transactions(&self) -> u64 {
        self.transactions.load(Ordering::Relaxed)
    }

    /// Reads bodies and history.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Appends documents; they are on disk when this returns. Repeated ones append nothing.
    ///
    /// # Errors
    /// [`RegistryError::Sealed`] for a sealed namespace, [`RegistryError::Full`], …: then none was accepted.
    pub async fn accept(&self, documents: Vec<(Intent, Origin)>) -> Result<Vec<Acceptance>, RegistryError> {
        self.send(|reply| Command::Accept { documents, reply }).await
    }

    /// `origin` no longer desires these connections. Those that nobody desires are retired with it.
    ///
    /// # Errors
    /// When the registry cannot write.
    pub async fn withdraw(&self, wishes: Vec<(ConnectionId, Origin)>, reason: &str) -> Result<(), RegistryError> {
        let reason = reason.to_string();
        self.send(|reply| Command::Withdraw { wishes, reason, reply }).await
    }

    /// Says that an attempt begins. No ticket, no side effect.
    ///
    /// # Errors
    /// When the registry cannot write: then nothing may be called.
    pub async fn begin(&self, connection: ConnectionId, under: AttemptContext) -> Result<Ticket, RegistryError> {
        Ok(self.begin_funded(connection, under, Vec::new()).await?.0)
    }

    /// As [`Registry::begin`], and takes calls of the day in the same transaction; answers how many were
    /// granted for each of `budget_reservations`.
    ///
    /// # Errors
    /// As [`Registry::begin`].
    pub async fn begin_funded(
        &self,
        connection: ConnectionId,
        under: AttemptContext,
        budget_reservations: Vec<BudgetReservation>,
    ) -> Result<(Ticket, Vec<u64>), RegistryError> {
        self.send(|reply| Command::Begin { connection, under, budget_reservations, reply }).await
    }

    /// Records the outcome in one transaction; appends nothing if it says nothing new.
    ///
    /// # Errors
    /// When the registry cannot write; the ticket stays and counts as an interrupted attempt after a restart.
    pub async fn finish(&self, ticket: &Ticket, outcome: &Outcome) -> Result<Recorded, RegistryError> {
        let finish = Box::new(command::Finish::new(ticket, outcome));
        self.send(|reply| Command::Finish { finish, reply }).await
    }

    /// Records a policy that came into force; a repeated one appends nothing.
    ///
    /// # Errors
    /// When the registry cannot write.
    pub async fn accept_policy(&self, policy: Digest, text: String) -> Result<(), RegistryError> {
        self.send(|reply| Command::AcceptPolicy { policy, text, reply }).await
    }

    /// Loads the seed of a namespace once and seals it; does nothing when it is sealed already.
    ///
    /// # Errors
    /// When the registry cannot write.
    pub async fn seal(&self, namespace: &str, documents: Vec<(Intent, Origin)>) -> Result<bool, RegistryError> {
        let namespace = namespace.to_string();
        self.send(|reply| Command::Seal { namespace, documents, reply }).await
    }

    /// Writes what a look at the folder found: documents, withdrawals and marks, all or nothing. The marks
    /// are working state, but in the same transaction they cost no sync of their own.
    ///
    /// # Errors
    /// As [`Registry::accept`].
    pub async fn take_in(&self, findings: Findings) -> Result<Vec<Acceptance>, RegistryError> {
        self.send(|reply| Command::TakeIn { findings: Box::new(findings), reply }).await
    }

    /// A write that changes nothing: says whether the registry can write again.
    ///
    /// # Errors
    /// When it cannot.
    pub async fn probe(&self) -> Result<(), RegistryError> {
        self.send(|reply| Command::Probe { reply }).await
    }

    /// Ends the writer after all commands that were sent before; the lock is free when this returns.
    pub async fn close(&self) {
        let (done, ended) = oneshot::channel();
        if self.commands.send(Command::Close { done }).is_ok() {
            let _ = ended.await;
        }
    }

    async fn send<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, RegistryError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).map_err(|_| RegistryError::Closed)?;
        answer.await.map_err(|_| RegistryError::Closed)?
    }
}

impl DayBudget for Registry {
    fn take<'a>(&'a self, key: &'a str, day: i64, wanted: u64, limit: u64) -> BoxFuture<'a, Result<u64, String>> {
        let account = key.to_string();
        Box::pin(async move {
            self.send(|reply| Command::TakeBudget { account, day, wanted, limit, reply }).await.map_err(|error| error.to_string())
        })
    }
}
