//! What each command writes. Decisions are based on the snapshot and on the changes of the open transaction.

use super::calls::BatchContext;
use super::command::{Acceptance, Finish, IntentChange, Recorded, ScanFindings, Ticket};
use super::lease::Partitions;
use super::writer::Writer;
use super::{RegistryError, reader};
use crate::egress::BudgetReservation;
use crate::model::ledger::{AttemptContext, Fact, Finished, Why};
use crate::model::{
    CallAttempt, CallsAnchor, Class, ConnectionId, Digest, Drift, Failure, Intent, Origin, Outcome, Scope, Step, StepReport,
    StepStatus, Timestamp,
};
use crate::snapshot::{Checked, Connection};
use sqlstore::params;
use std::sync::Arc;

impl Writer {
    pub(super) fn accept(&mut self, documents: Vec<(Intent, Origin)>) -> Result<Vec<Acceptance>, RegistryError> {
        for (intent, _) in &documents {
            self.refuse_sealed(&intent.namespace)?;
        }
        self.append_documents(documents)
    }

    /// Appends the documents of namespaces that the caller has checked.
    fn append_documents(&mut self, documents: Vec<(Intent, Origin)>) -> Result<Vec<Acceptance>, RegistryError> {
        let mut answers = Vec::with_capacity(documents.len());
        for (intent, origin) in documents {
            let connection = intent.connection_id();
            let body = intent.canonical();
            let spec = intent.digest_with(&body);
            let change = self.change(connection, &origin, spec);
            if change == IntentChange::Created && self.with_known(connection, |known| known.is_some()) {
                // A retired connection must be proven again, so its earlier checks no longer count.
                self.db.prepare_cached("DELETE FROM checked WHERE connection = ?1")?.execute([connection.to_string()])?;
            }
            if change != IntentChange::Unchanged {
                let locator = intent.credential_locator.as_ref().map(ToString::to_string);
                let fact = Fact::IntentAccepted { origin, spec, source_type: intent.source_type, locator };
                self.append(&intent.namespace, Some(connection), fact, Some(body))?;
            }
            answers.push(Acceptance { connection, change });
        }
        Ok(answers)
    }

    /// Sealed namespaces are refused before the first row is written, so that a refusal leaves the transaction intact.
    pub(super) fn record_scan(&mut self, findings: ScanFindings) -> Result<Vec<Acceptance>, RegistryError> {
        for (connection, _, _) in &findings.withdrawn {
            self.refuse_sealed(&self.namespace_of(*connection))?;
        }
        let answers = self.accept(findings.documents)?;
        // Whether they are retired is decided for all of them together; see `reconcile::departures`.
        for (connection, origin, reason) in findings.withdrawn {
            self.withdraw_origin(connection, origin, reason)?;
        }
        self.store_marks(&findings.marks, &findings.removed_marks)?;
        Ok(answers)
    }

    /// What accepting the document `spec` of `origin` would change.
    fn change(&self, connection: ConnectionId, origin: &Origin, spec: Digest) -> IntentChange {
        self.with_known(connection, |known| {
            let Some(known) = known.filter(|known| known.retired.is_none()) else {
                return IntentChange::Created;
            };
            let newest = known.origins.iter().map(|desire| desire.seq).max();
            let same = known.origins.iter().any(|desire| {
                desire.origin == *origin && desire.spec == spec && (Some(desire.seq) == newest || desire.spec == known.spec)
            });
            if same { IntentChange::Unchanged } else { IntentChange::Changed }
        })
    }

    /// Called before the first row of a command is written, so that a refusal leaves the transaction intact.
    pub(super) fn refuse_sealed(&self, namespace: &str) -> Result<(), RegistryError> {
        if self.closed(namespace) {
            return Err(RegistryError::Sealed(namespace.to_string()));
        }
        Ok(())
    }

    pub(super) fn withdraw(&mut self, withdrawn: Vec<(ConnectionId, Origin)>, reason: &str) -> Result<(), RegistryError> {
        for (connection, _) in &withdrawn {
            self.refuse_sealed(&self.namespace_of(*connection))?;
        }
        for (connection, origin) in withdrawn {
            if self.withdraw_origin(connection, origin, reason)? {
                self.retire_orphans(&[connection])?;
            }
        }
        Ok(())
    }

    /// Withdraws what `origin` desired, and returns whether it desired anything.
    pub(super) fn withdraw_origin(
        &mut self,
        connection: ConnectionId,
        origin: Origin,
        reason: &str,
    ) -> Result<bool, RegistryError> {
        let desired = self.with_known(connection, |known| {
            known.is_some_and(|known| known.origins.iter().any(|desire| desire.origin == origin))
        });
        if desired {
            let namespace = self.namespace_of(connection);
            let fact = Fact::IntentWithdrawn { origin, reason: reason.to_string() };
            self.append(&namespace, Some(connection), fact, None)?;
        }
        Ok(desired)
    }

    pub(super) fn begin(&mut self, connection: ConnectionId, context: AttemptContext) -> Result<Ticket, RegistryError> {
        let namespace = self.namespace_of(connection);
        self.refuse_sealed(&namespace)?;
        self.require_open(connection, context.policy)?;
        // It may have been withdrawn after the attempt was planned, at another replica for example.
        if self.with_known(connection, |known| known.is_some_and(|known| known.retired.is_some())) {
            return Err(RegistryError::NotHeld);
        }
        // A ticket that still exists belongs to an attempt that never recorded an outcome.
        if let Some((lost, in_ledger)) = self.take_ticket(connection)? {
            self.finish_ticket(unfinished(connection, lost, interrupted(STOPPED)), in_ledger)?;
        }
        let context = AttemptContext { begun_at: self.now(), ..context };
        // A re-check of a settled connection writes only a ticket. It gets a row in the ledger if it finds something new.
        let in_ledger = matches!(context.why, Why::New | Why::SpecChanged | Why::PolicyChanged | Why::Heal);
        if in_ledger {
            self.append(&namespace, Some(connection), begun(&context), None)?;
        }
        let text = serde_json::to_string(&context).unwrap_or_default();
        self.db.prepare_cached("INSERT INTO tickets (connection, under, in_ledger) VALUES (?1, ?2, ?3)")?.execute(params![
            connection.to_string(),
            text,
            in_ledger
        ])?;
        Ok(Ticket { connection, context })
    }

    /// Records the beginning and reserves the calls in one transaction, before the first call.
    pub(super) fn begin_with_budget(
        &mut self,
        connection: ConnectionId,
        context: AttemptContext,
        budget_reservations: &[BudgetReservation],
    ) -> Result<(Ticket, Vec<u64>), RegistryError> {
        let ticket = self.begin(connection, context)?;
        let grant = |reservation: &BudgetReservation| {
            self.take_budget(&reservation.account, reservation.day, reservation.wanted, reservation.limit)
        };
        let granted = budget_reservations.iter().map(grant).collect::<Result<_, _>>()?;
        Ok((ticket, granted))
    }

    pub(super) fn finish(&mut self, finish: Finish) -> Result<Recorded, RegistryError> {
        self.require_partition(finish.connection)?;
        match self.take_ticket_of(finish.connection, &finish.context)? {
            Some(in_ledger) => self.finish_ticket(finish, in_ledger),
            // The end of the attempt is recorded already: this is a repetition after an answer was lost, or another process
            // recorded that the attempt was interrupted.
            None => {
                if !self.has_calls_of(finish.connection, &finish.context)? {
                    self.record_attempt_calls(&finish, None)?;
                }
                Ok(Recorded { appended: false, facts: finish.facts })
            }
        }
    }

    /// `in_ledger` is true if the ledger has a row for the beginning of the attempt; the outcome then always gets a row, too.
    /// A re-check without such a row gets both rows if it finds something new, and otherwise none.
    ///
    /// The calls are recorded in any case.
    fn finish_ticket(&mut self, mut finish: Finish, in_ledger: bool) -> Result<Recorded, RegistryError> {
        let connection = finish.connection;
        let (nothing_new, catalog, retired) = self.with_known(connection, |known| {
            (
                known.is_some_and(|known| known.says_nothing_new(&finish.facts, &finish.context)),
                known.and_then(|known| known.catalog),
                known.is_none_or(|known| known.retired.is_some()),
            )
        });
        let namespace = self.namespace_of(connection);
        if retired || self.closed(&namespace) || (nothing_new && !in_ledger) {
            self.record_attempt_calls(&finish, None)?;
            if nothing_new && !retired {
                self.record_unchanged(connection, &finish.facts)?;
            }
            return Ok(Recorded { appended: false, facts: finish.facts });
        }
        if !in_ledger {
            self.append(&namespace, Some(connection), begun(&finish.context), None)?;
        }
        if let Some(new) = finish.catalog.take().filter(|new| catalog.is_none_or(|(_, _, known)| known != new.digest)) {
            let fact = Fact::CatalogRegistered {
                version: catalog.map_or(1, |(version, _, _)| version.saturating_add(1)),
                digest: new.digest,
                streams: new.streams,
                breaking: new.breaking,
                additive: new.additive,
            };
            self.append(&namespace, Some(connection), fact, Some(new.text))?;
        }
        // The next entry is the one that ends the attempt.
        let seq = self.next_seq()?;
        finish.facts.calls = self.record_attempt_calls(&finish, Some(seq))?;
        self.calls_head.anchored = finish.facts.calls.map_or(self.calls_head.anchored, |calls| calls.batch);
        let fact = Fact::AttemptFinished(finish.facts.clone());
        self.append(&namespace, Some(connection), fact, Some(finish.steps))?;
        self.store_checked(connection)?;
        Ok(Recorded { appended: true, facts: finish.facts })
    }

    /// Records the calls of an attempt, which the entry `seq` ends.
    fn record_attempt_calls(&mut self, finish: &Finish, seq: Option<u64>) -> Result<Option<CallsAnchor>, RegistryError> {
        let connection = finish.connection;
        let family = self.with_known(connection, |known| known.map(|known| Arc::clone(&known.source_type))).unwrap_or_default();
        let AttemptContext { begun_at, why, policy, .. } = finish.context;
        let attempt = Some(CallAttempt { begun_at, policy, why: why.as_str() });
        self.record_batch(&BatchContext { connection, family: &family, attempt, seq }, &finish.calls)
    }

    /// Records the time of a re-check that found nothing new.
    fn record_unchanged(&mut self, connection: ConnectionId, facts: &Finished) -> Result<(), RegistryError> {
        let now = self.now();
        let checked = self.with_known(connection, |known| {
            known.map(|known| Checked {
                connection,
                at: now,
                full_at: if facts.scope == Scope::Full { Some(now) } else { known.checked_full },
                failures: match facts.class {
                    Some(_) => known.failures.saturating_add(1),
                    None => 0,
                },
                generation: known.generation,
            })
        });
        if let Some(checked) = checked {
            self.write_checked(&checked)?;
            self.apply_checked(checked);
        }
        Ok(())
    }

    /// Stores what the ledger does not contain: the number of failures in a row, including those that repeated the same
    /// result, and the time of the last full check. Without these, a restart would shorten a backoff.
    fn store_checked(&mut self, connection: ConnectionId) -> Result<(), RegistryError> {
        let checked = self.with_known(connection, |known| {
            known.map(|known| Checked {
                connection,
                at: known.checked.unwrap_or_default(),
                full_at: known.checked_full,
                failures: known.failures,
                generation: known.generation,
            })
        });
        checked.map_or(Ok(()), |checked| self.write_checked(&checked))
    }

    fn write_checked(&mut self, checked: &Checked) -> Result<(), RegistryError> {
        self.db
            .prepare_cached(
                "INSERT INTO checked (connection, at, full_at, failures, generation) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (connection) DO UPDATE SET at = ?2, full_at = ?3, failures = ?4, generation = ?5",
            )?
            .execute(params![
                checked.connection.to_string(),
                checked.at.0,
                checked.full_at.map(|at| at.0),
                checked.failures,
                checked.generation
            ])?;
        Ok(())
    }

    /// Takes the ticket of the attempt with this context, and returns whether its beginning is in the ledger. `None` if the connection
    /// has none, or that of another attempt.
    fn take_ticket_of(&mut self, connection: ConnectionId, context: &AttemptContext) -> Result<Option<bool>, RegistryError> {
        let under = serde_json::to_string(context).unwrap_or_default();
        let sql = "DELETE FROM tickets WHERE connection = ?1 AND under = ?2 RETURNING in_ledger";
        let mut statement = self.db.prepare_cached(sql)?;
        let mut rows = statement.query(params![connection.to_string(), under])?;
        let in_ledger = rows.next()?.map(|row| row.get(0)).transpose()?;
        // SQLite deletes the row only once the statement has run to its end.
        while rows.next()?.is_some() {}
        Ok(in_ledger)
    }

    /// Whether the calls of the attempt with this context are recorded.
    fn has_calls_of(&self, connection: ConnectionId, context: &AttemptContext) -> Result<bool, RegistryError> {
        let sql = "SELECT count(*) FROM call_batches WHERE connection = ?1 AND begun_at = ?2";
        let found = self
            .db
            .prepare_cached(sql)?
            .query_row(params![connection.to_string(), context.begun_at.0], |row| row.get::<_, i64>(0));
        Ok(found? > 0)
    }

    fn take_ticket(&mut self, connection: ConnectionId) -> Result<Option<(AttemptContext, bool)>, RegistryError> {
        let mut statement = self.db.prepare_cached("DELETE FROM tickets WHERE connection = ?1 RETURNING under, in_ledger")?;
        let mut rows = statement.query([connection.to_string()])?;
        let Some(row) = rows.next()? else {
            return Ok(None);
        };
        let context: String = row.get(0)?;
        let in_ledger = row.get(1)?;
        // SQLite deletes the row only once the statement has run to its end.
        let _ = rows.next()?;
        Ok(serde_json::from_str(&context).ok().zip(Some(in_ledger)))
    }

    pub(super) fn seal(&mut self, namespace: &str, mut documents: Vec<(Intent, Origin)>) -> Result<bool, RegistryError> {
        if self.sealed(namespace) {
            return Ok(false);
        }
        documents.retain(|(intent, _)| intent.namespace == namespace);
        let fact = Fact::NamespaceSealed { documents: u32::try_from(documents.len()).unwrap_or(u32::MAX) };
        self.append_documents(documents)?;
        self.append(namespace, None, fact, None)?;
        Ok(true)
    }

    /// Records every attempt in `partitions` that another process did not finish, in one transaction.
    pub(super) fn record_interrupted(&mut self, partitions: Partitions) -> Result<(), RegistryError> {
        let mut tickets = reader::tickets(&self.db)?;
        tickets.retain(|(connection, ..)| partitions.has(*connection));
        if tickets.is_empty() {
            return Ok(());
        }
        self.in_transaction(partitions, 2 * tickets.len(), |writer| {
            for (connection, context, in_ledger) in tickets {
                writer.require_partition(connection)?;
                writer.take_ticket(connection)?;
                let again = writer.with_known(connection, |known| known.is_some_and(|known| ended_before(known, &context)));
                let failure = if again { crash_loop(connection) } else { interrupted(CRASHED) };
                writer.finish_ticket(unfinished(connection, context, failure), in_ledger)?;
            }
            if partitions == Partitions::ALL {
                // Tickets that this build cannot parse are deleted, too.
                writer.db.execute("DELETE FROM tickets", [])?;
            }
            Ok(())
        })
    }

    /// Records every attempt that is still running as interrupted, because AAM stops. The process does not end because of
    /// one of them, so this does not count towards [`Class::CrashLoop`].
    pub(super) fn record_stopped(&mut self) -> Result<(), RegistryError> {
        let held = self.held();
        for (connection, context, in_ledger) in reader::tickets(&self.db)?.into_iter().filter(|(id, ..)| held.has(*id)) {
            self.require_partition(connection)?;
            self.take_ticket(connection)?;
            self.finish_ticket(unfinished(connection, context, interrupted(STOPPED)), in_ledger)?;
        }
        Ok(())
    }

    pub(super) fn namespace_of(&self, connection: ConnectionId) -> String {
        self.with_known(connection, |known| known.map(|known| known.namespace.to_string()).unwrap_or_default())
    }

    /// The current time, but never earlier than the last row, so that folding by time and folding by order agree.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now().max(self.head.at)
    }
}

fn begun(context: &AttemptContext) -> Fact {
    Fact::AttemptBegun { generation: context.generation, scope: context.scope, why: context.why, policy: context.policy }
}

/// The title if the process ended without recording the outcome.
pub(super) const CRASHED: &str = "AAM ended while this attempt was running";
/// The title if AAM was asked to stop, or gave up an attempt itself.
const STOPPED: &str = "AAM stopped while this attempt was running";

fn interrupted(title: &str) -> Failure {
    Failure::new(Class::Interrupted, title, "no action is required: AAM retries automatically")
}

fn crash_loop(connection: ConnectionId) -> Failure {
    Failure::new(
        Class::CrashLoop,
        "AAM ended twice in a row while it checked this connection, so AAM does not check it automatically any more",
        format!("look for the reason in the log before each end, and at what the source sends; then: aam heal {connection}"),
    )
}

/// Whether the process also ended during the attempt before, for the same document and policy.
fn ended_before(known: &Connection, context: &AttemptContext) -> bool {
    known.last.as_ref().is_some_and(|last| {
        let same_inputs = last.facts.generation == context.generation && last.facts.slice == context.slice;
        let crashed = match last.facts.class {
            Some(Class::CrashLoop) => true,
            Some(Class::Interrupted) => &*last.facts.title == CRASHED,
            _ => false,
        };
        same_inputs && crashed
    })
}

/// The outcome of an attempt that did not record one.
fn unfinished(connection: ConnectionId, context: AttemptContext, failure: Failure) -> Finish {
    let status = |step| match step {
        Step::Registry => StepStatus::Failed { failure: failure.clone() },
        _ => StepStatus::Skipped { reason: "AAM stopped before this step was recorded".to_string() },
    };
    let report = |step| StepReport { step, status: status(step), duration_ms: 0, evidence: serde_json::Map::new() };
    let outcome = Outcome {
        scope: context.scope,
        steps: Step::ALL.into_iter().map(report).collect(),
        catalog: None,
        drift: Drift::default(),
        rows: None,
        latency_ms: None,
    };
    Finish::new(&Ticket { connection, context }, &outcome)
}
