//! The one writer: takes the commands that wait, writes them in one transaction, answers all of them.
//!
//! A command decides on the world of the rows before it. Commands of one batch that touch the same
//! connection are parted into two transactions, so that the second sees what the first did.

use super::chain::{self, Row};
use super::command::{Acceptance, Command, Finish, How, Mark, Recorded, Ticket};
use super::lock::WriterLock;
use super::{RegistryError, reader, schema};
use crate::clock::Clock;
use crate::model::ledger::{Entry, Fact, Finished, Under, Why};
use crate::model::{
    Class, ConnectionId, Digest, Drift, Failure, Intent, Origin, Outcome, Scope, Step, StepReport, StepStatus, Timestamp,
};
use crate::world::{Checked, World};
use rusqlite::{Connection, params};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, RwLock, mpsc};
use tokio::sync::watch;

/// Commands that share one transaction at most.
const BATCH: usize = 512;

pub(super) struct Writer {
    db: Connection,
    clock: Arc<dyn Clock>,
    world: Arc<RwLock<World>>,
    announce: watch::Sender<u64>,
    head: Head,
    batch: Batch,
    _lock: WriterLock,
}

/// The last committed row.
#[derive(Clone, Copy)]
struct Head {
    seq: u64,
    at: Timestamp,
    hash: Digest,
}

/// What the open transaction did so far.
#[derive(Default)]
struct Batch {
    entries: Vec<Entry>,
    checked: Vec<Checked>,
    touched: BTreeSet<ConnectionId>,
    /// A row that concerns more than one connection: nothing may decide after it in this batch.
    global: bool,
}

/// Sent after the commit, or turned into an error when it fails.
type Answer = Box<dyn FnOnce(Result<(), RegistryError>) + Send>;

impl Writer {
    pub(super) fn open(
        path: &Path,
        lock: WriterLock,
        clock: Arc<dyn Clock>,
        world: Arc<RwLock<World>>,
        announce: watch::Sender<u64>,
    ) -> Result<Writer, RegistryError> {
        let mut db = Connection::open(path)?;
        db.busy_timeout(std::time::Duration::from_secs(5))?;
        db.pragma_update(None, "journal_mode", "WAL")?;
        // FULL: what was answered as accepted is on disk.
        db.pragma_update(None, "synchronous", "FULL")?;
        db.pragma_update(None, "journal_size_limit", 8 << 20)?;
        schema::migrate(&mut db)?;
        let folded = reader::fold(&db, i64::MAX)?;
        let head = db
            .query_row("SELECT seq, at, hash FROM ledger ORDER BY seq DESC LIMIT 1", [], |row| {
                Ok(Head { seq: row.get(0)?, at: Timestamp(row.get(1)?), hash: Digest(row.get(2)?) })
            })
            .or_else(|error| match error {
                rusqlite::Error::QueryReturnedNoRows => Ok(Head { seq: 0, at: Timestamp(0), hash: chain::GENESIS }),
                other => Err(other),
            })?;
        announce.send_replace(folded.seq);
        *world.write().unwrap_or_else(std::sync::PoisonError::into_inner) = folded;
        let mut writer = Writer { db, clock, world, announce, head, batch: Batch::default(), _lock: lock };
        writer.record_interrupted()?;
        {
            let mut folded = writer.world.write().unwrap_or_else(std::sync::PoisonError::into_inner);
            reader::checked(&writer.db, &mut folded)?;
        }
        Ok(writer)
    }

    /// Serves commands until `Close` or until nobody can send any more.
    pub(super) fn run(mut self, inbox: &mpsc::Receiver<Command>) {
        while let Ok(first) = inbox.recv() {
            let waiting = std::iter::once(first).chain(inbox.try_iter().take(BATCH - 1));
            let mut commands: std::collections::VecDeque<Command> = waiting.collect();
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

    /// Writes as many of `commands` as may share a transaction and answers them.
    fn transact(&mut self, commands: &mut std::collections::VecDeque<Command>) {
        let before = self.head;
        let mut answers: Vec<Answer> = Vec::new();
        let mut result = self.start();
        while let Some(command) = commands.pop_front() {
            if matches!(command, Command::Close { .. }) || (!answers.is_empty() && self.conflicts(&command)) {
                commands.push_front(command);
                break;
            }
            answers.push(match &result {
                Ok(()) => self.serve(command, &mut result),
                Err(error) => refuse(command, error),
            });
        }
        if result.is_ok() {
            result = self.db.execute_batch("COMMIT").map_err(RegistryError::from);
        }
        let batch = std::mem::take(&mut self.batch);
        match &result {
            Ok(()) => {
                tracing::debug!(target: "aam::commit", commands = answers.len(), entries = batch.entries.len(), "committed");
                self.publish(batch);
            }
            Err(error) => {
                tracing::error!(target: "aam::registry", error = %error, "nothing of this transaction was written");
                self.head = before;
                let _ = self.db.execute_batch("ROLLBACK");
            }
        }
        for answer in answers {
            answer(result.as_ref().map(|()| ()).map_err(RegistryError::copy));
        }
    }

    fn start(&mut self) -> Result<(), RegistryError> {
        self.obey_page_limit();
        self.db.execute_batch("BEGIN IMMEDIATE")?;
        Ok(())
    }

    /// A debug build can be given a full disk: the file named by `AAM_TEST_MAX_PAGES` holds the limit.
    fn obey_page_limit(&self) {
        if !cfg!(debug_assertions) {
            return;
        }
        let limit = std::env::var_os("AAM_TEST_MAX_PAGES").and_then(|path| std::fs::read_to_string(path).ok());
        if let Some(pages) = limit.and_then(|text| text.trim().parse::<i64>().ok()) {
            let _ = self.db.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()));
        }
    }

    fn publish(&mut self, batch: Batch) {
        if batch.entries.is_empty() && batch.checked.is_empty() {
            return;
        }
        let mut world = self.world.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        for entry in &batch.entries {
            world.apply(entry);
        }
        for checked in &batch.checked {
            world.apply_checked(checked);
        }
        drop(world);
        self.announce.send_replace(self.head.seq);
    }

    fn conflicts(&self, command: &Command) -> bool {
        let touches = |id: &ConnectionId| self.batch.touched.contains(id);
        self.batch.global
            || match command {
                Command::Accept { documents, .. } => documents.iter().any(|(intent, _)| touches(&intent.connection_id())),
                Command::Withdraw { wishes, .. } => wishes.iter().any(|(id, _)| touches(id)),
                Command::Begin { connection, .. } => touches(connection),
                Command::Finish { finish, .. } => touches(&finish.connection),
                Command::Seal { .. } | Command::AcceptPolicy { .. } => !self.batch.entries.is_empty(),
                Command::TakeBudget { .. } | Command::KeepMarks { .. } | Command::Probe { .. } | Command::Close { .. } => false,
            }
    }

    /// Writes one command into the open transaction. A refusal is the command's own answer; an SQL error fails the batch.
    fn serve(&mut self, command: Command, batch: &mut Result<(), RegistryError>) -> Answer {
        match command {
            Command::Accept { documents, reply } => settle(self.accept(documents), reply, batch),
            Command::Withdraw { wishes, reason, reply } => settle(self.withdraw(wishes, &reason), reply, batch),
            Command::Begin { connection, under, reply } => settle(self.begin(connection, under), reply, batch),
            Command::Finish { finish, reply } => settle(self.finish(*finish), reply, batch),
            Command::AcceptPolicy { policy, text, reply } => settle(self.accept_policy(policy, text), reply, batch),
            Command::Seal { namespace, documents, reply } => settle(self.seal(&namespace, documents), reply, batch),
            Command::TakeBudget { account, day, wanted, limit, reply } => {
                settle(self.take_budget(&account, day, wanted, limit), reply, batch)
            }
            Command::KeepMarks { seen, gone, reply } => settle(self.keep_marks(&seen, &gone), reply, batch),
            Command::Probe { reply } => settle(self.probe(), reply, batch),
            Command::Close { done } => Box::new(move |_| drop(done)),
        }
    }

    fn accept(&mut self, documents: Vec<(Intent, Origin)>) -> Result<Vec<Acceptance>, RegistryError> {
        self.refuse_sealed(documents.iter().map(|(intent, _)| intent.namespace.as_str()))?;
        let mut answers = Vec::with_capacity(documents.len());
        for (intent, origin) in documents {
            let (connection, spec) = (intent.connection_id(), intent.digest());
            // A document that is there twice in one command is taken once.
            let twice = self.batch.touched.contains(&connection)
                && self.batch.entries.iter().rev().any(|entry| {
                    entry.connection == Some(connection)
                        && matches!(&entry.fact, Fact::IntentAccepted { origin: o, spec: s, .. } if *o == origin && *s == spec)
                });
            let how = if twice { How::Unchanged } else { self.how(connection, &origin, spec) };
            if how != How::Unchanged {
                let namespace = intent.namespace.clone();
                self.append(&namespace, Some(connection), Fact::accepted(&intent, origin), Some(intent.canonical()))?;
            }
            answers.push(Acceptance { connection, how });
        }
        Ok(answers)
    }

    fn how(&self, connection: ConnectionId, origin: &Origin, spec: Digest) -> How {
        let world = self.world.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let Some(known) = world.connections.get(&connection).filter(|known| known.retired.is_none()) else {
            return How::Created;
        };
        let newest = known.origins.iter().map(|desire| desire.seq).max();
        let same = known.origins.iter().any(|desire| {
            desire.origin == *origin && desire.spec == spec && (Some(desire.seq) == newest || desire.spec == known.spec)
        });
        if same { How::Unchanged } else { How::Changed }
    }

    fn refuse_sealed<'a>(&self, namespaces: impl Iterator<Item = &'a str>) -> Result<(), RegistryError> {
        let world = self.world.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        for namespace in namespaces {
            if world.sealed.contains(namespace) {
                return Err(RegistryError::Sealed(namespace.to_string()));
            }
        }
        Ok(())
    }

    fn withdraw(&mut self, wishes: Vec<(ConnectionId, Origin)>, reason: &str) -> Result<(), RegistryError> {
        for (connection, origin) in wishes {
            let (namespace, last) = {
                let world = self.world.read().unwrap_or_else(std::sync::PoisonError::into_inner);
                let Some(known) = world.connections.get(&connection) else {
                    continue;
                };
                if !known.origins.iter().any(|desire| desire.origin == origin) {
                    continue;
                }
                (known.namespace.to_string(), known.origins.len() == 1)
            };
            let fact = Fact::IntentWithdrawn { origin, reason: reason.to_string() };
            self.append(&namespace, Some(connection), fact, None)?;
            if last {
                self.append(&namespace, Some(connection), Fact::ConnectionRetired, None)?;
                self.db.prepare_cached("DELETE FROM checked WHERE connection = ?1")?.execute([connection.to_string()])?;
            }
        }
        Ok(())
    }

    fn begin(&mut self, connection: ConnectionId, under: Under) -> Result<Ticket, RegistryError> {
        let under = Under { begun_at: self.now(), ..under };
        let namespace = self.namespace_of(connection);
        // A re-check of a settled connection is only a ticket: it becomes a row if it finds something new.
        let in_ledger = matches!(under.why, Why::New | Why::SpecChanged | Why::PolicyChanged | Why::Heal);
        if in_ledger {
            let fact =
                Fact::AttemptBegun { generation: under.generation, scope: under.scope, why: under.why, policy: under.policy };
            self.append(&namespace, Some(connection), fact, None)?;
        }
        self.batch.touched.insert(connection);
        let text = serde_json::to_string(&under).unwrap_or_default();
        self.db
            .prepare_cached("INSERT OR REPLACE INTO tickets (connection, under, in_ledger) VALUES (?1, ?2, ?3)")?
            .execute(params![connection.to_string(), text, in_ledger])?;
        Ok(Ticket { connection, under })
    }

    fn finish(&mut self, finish: Finish) -> Result<Recorded, RegistryError> {
        let connection = finish.connection;
        let (namespace, nothing_new, failures, catalog, retired) = {
            let world = self.world.read().unwrap_or_else(std::sync::PoisonError::into_inner);
            let known = world.connections.get(&connection);
            (
                known.map(|known| known.namespace.to_string()).unwrap_or_default(),
                known.is_some_and(|known| known.says_nothing_new(&finish.facts, &finish.under)),
                known.map_or(0, |known| known.failures),
                known.and_then(|known| known.catalog),
                known.is_none_or(|known| known.retired.is_some()),
            )
        };
        let ticket = self.take_ticket(connection)?;
        if retired {
            return Ok(Recorded { appended: false, facts: finish.facts });
        }
        let in_ledger = ticket.is_some_and(|(_, in_ledger)| in_ledger);
        // What has a begun row gets a finished row; a silent re-check gets both, or none.
        if nothing_new && !in_ledger {
            self.check_off(connection, &finish.facts, failures)?;
            return Ok(Recorded { appended: false, facts: finish.facts });
        }
        if !in_ledger {
            let under = finish.under;
            let fact =
                Fact::AttemptBegun { generation: under.generation, scope: under.scope, why: under.why, policy: under.policy };
            self.append(&namespace, Some(connection), fact, None)?;
        }
        if let Some(found) = finish.catalog.filter(|found| catalog.is_none_or(|(_, _, known)| known != found.digest)) {
            let version = catalog.map_or(1, |(version, _, _)| version + 1);
            let fact = Fact::CatalogRegistered {
                version,
                digest: found.digest,
                streams: found.streams,
                breaking: found.breaking,
                additive: found.additive,
            };
            self.append(&namespace, Some(connection), fact, Some(found.text))?;
        }
        self.append(&namespace, Some(connection), Fact::AttemptFinished(finish.facts.clone()), Some(finish.steps))?;
        self.db.prepare_cached("DELETE FROM checked WHERE connection = ?1")?.execute([connection.to_string()])?;
        Ok(Recorded { appended: true, facts: finish.facts })
    }

    /// Notes the time of a re-check that found nothing new.
    fn check_off(&mut self, connection: ConnectionId, facts: &Finished, failures: u32) -> Result<(), RegistryError> {
        let failures = if facts.class.is_some() { failures.saturating_add(1) } else { 0 };
        let checked = Checked { connection, at: self.now(), full: facts.scope == Scope::Full, failures };
        self.db
            .prepare_cached(
                "INSERT INTO checked (connection, at, full, failures) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (connection) DO UPDATE SET at = ?2, full = ?3, failures = ?4",
            )?
            .execute(params![connection.to_string(), checked.at.0, checked.full, checked.failures])?;
        self.batch.touched.insert(connection);
        self.batch.checked.push(checked);
        Ok(())
    }

    fn take_ticket(&mut self, connection: ConnectionId) -> Result<Option<(Under, bool)>, RegistryError> {
        let mut statement = self.db.prepare_cached("DELETE FROM tickets WHERE connection = ?1 RETURNING under, in_ledger")?;
        let mut rows = statement.query([connection.to_string()])?;
        let Some(row) = rows.next()? else {
            return Ok(None);
        };
        let under: String = row.get(0)?;
        Ok(serde_json::from_str(&under).ok().zip(Some(row.get(1)?)))
    }

    fn accept_policy(&mut self, policy: Digest, text: String) -> Result<(), RegistryError> {
        let known = self.world.read().unwrap_or_else(std::sync::PoisonError::into_inner).policy;
        if known.is_some_and(|(digest, _)| digest == policy) {
            return Ok(());
        }
        self.batch.global = true;
        self.append("", None, Fact::PolicyAccepted { policy }, Some(text))
    }

    fn seal(&mut self, namespace: &str, documents: Vec<(Intent, Origin)>) -> Result<bool, RegistryError> {
        if self.refuse_sealed(std::iter::once(namespace)).is_err() {
            return Ok(false);
        }
        let count = u32::try_from(documents.len()).unwrap_or(u32::MAX);
        self.accept(documents.into_iter().filter(|(intent, _)| intent.namespace == namespace).collect())?;
        self.append(namespace, None, Fact::NamespaceSealed { documents: count }, None)?;
        self.batch.global = true;
        Ok(true)
    }

    fn take_budget(&mut self, account: &str, day: i64, wanted: u64, limit: u64) -> Result<u64, RegistryError> {
        let (wanted, limit) = (i64::try_from(wanted).unwrap_or(i64::MAX), i64::try_from(limit).unwrap_or(i64::MAX));
        let used: i64 = self
            .db
            .prepare_cached("SELECT coalesce(max(used), 0) FROM budget WHERE account = ?1 AND day = ?2")?
            .query_row(params![account, day], |row| row.get(0))?;
        let granted = wanted.min(limit.saturating_sub(used)).max(0);
        if granted > 0 {
            self.db
                .prepare_cached(
                    "INSERT INTO budget (account, day, used) VALUES (?1, ?2, ?3)
                     ON CONFLICT (account, day) DO UPDATE SET used = used + ?3",
                )?
                .execute(params![account, day, granted])?;
            self.db.prepare_cached("DELETE FROM budget WHERE account = ?1 AND day < ?2")?.execute(params![account, day])?;
        }
        Ok(u64::try_from(granted).unwrap_or(0))
    }

    fn keep_marks(&mut self, seen: &[Mark], gone: &[String]) -> Result<(), RegistryError> {
        let mut put = self.db.prepare_cached(
            "INSERT OR REPLACE INTO folder_marks (path, size, mtime_ns, inode, content) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?;
        for mark in seen {
            put.execute(params![mark.path, mark.size, mark.mtime_ns, mark.inode.cast_signed(), mark.content])?;
        }
        let mut drop = self.db.prepare_cached("DELETE FROM folder_marks WHERE path = ?1")?;
        for path in gone {
            drop.execute([path])?;
        }
        Ok(())
    }

    /// Writes a real page, so that a full disk shows.
    fn probe(&mut self) -> Result<(), RegistryError> {
        self.db.execute_batch(
            "CREATE TABLE IF NOT EXISTS probe (filler BLOB) STRICT;
             INSERT INTO probe VALUES (zeroblob(16384)); DELETE FROM probe;",
        )?;
        Ok(())
    }

    /// Each attempt that began before a crash is finished as interrupted, in one transaction.
    fn record_interrupted(&mut self) -> Result<(), RegistryError> {
        let tickets = reader::tickets(&self.db)?;
        if tickets.is_empty() {
            return Ok(());
        }
        self.start()?;
        for (connection, under, _) in tickets {
            self.finish(Finish::of(&Ticket { connection, under }, &interrupted(under.scope)))?;
        }
        self.db.execute_batch("DELETE FROM tickets; COMMIT")?;
        let batch = std::mem::take(&mut self.batch);
        self.publish(batch);
        Ok(())
    }

    fn namespace_of(&self, connection: ConnectionId) -> String {
        let world = self.world.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        world.connections.get(&connection).map(|known| known.namespace.to_string()).unwrap_or_default()
    }

    /// Never earlier than the last row, so that folding by time and by order agree.
    fn now(&self) -> Timestamp {
        self.clock.now().max(self.head.at)
    }

    fn append(
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
        self.batch.touched.extend(connection);
        self.batch.entries.push(Entry { seq, at, namespace: namespace.to_string(), connection, fact });
        Ok(())
    }
}

/// Keeps the answer until the commit. A refusal is told; an error of the database fails the batch.
fn settle<T: Send + 'static>(
    result: Result<T, RegistryError>,
    reply: tokio::sync::oneshot::Sender<Result<T, RegistryError>>,
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
        Command::Accept { reply, .. } => Box::new(move |_| drop(reply.send(Err(error)))),
        Command::Withdraw { reply, .. }
        | Command::AcceptPolicy { reply, .. }
        | Command::KeepMarks { reply, .. }
        | Command::Probe { reply } => Box::new(move |_| drop(reply.send(Err(error)))),
        Command::Begin { reply, .. } => Box::new(move |_| drop(reply.send(Err(error)))),
        Command::Finish { reply, .. } => Box::new(move |_| drop(reply.send(Err(error)))),
        Command::Seal { reply, .. } => Box::new(move |_| drop(reply.send(Err(error)))),
        Command::TakeBudget { reply, .. } => Box::new(move |_| drop(reply.send(Err(error)))),
        Command::Close { done } => Box::new(move |_| drop(done)),
    }
}

/// The outcome of an attempt that a crash cut off.
fn interrupted(scope: Scope) -> Outcome {
    let failure = Failure::new(
        Class::Interrupted,
        "aam ended while this attempt ran",
        "nothing to do: it is tried again by the backoff of the policy",
    );
    let steps = Step::ALL
        .into_iter()
        .map(|step| StepReport {
            step,
            status: if step == Step::Registry {
                StepStatus::Failed { failure: failure.clone() }
            } else {
                StepStatus::Skipped { reason: "aam ended before this step was recorded".to_string() }
            },
            duration_ms: 0,
            evidence: serde_json::Map::new(),
        })
        .collect();
    Outcome { scope, steps, catalog: None, drift: Drift::default(), rows: None, latency_ms: None }
}
