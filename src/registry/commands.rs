//! What each command writes. Every decision is made on the snapshot plus what the open transaction did so far.

use super::command::{Acceptance, Findings, Finish, How, Recorded, Ticket};
use super::writer::Writer;
use super::{RegistryError, reader};
use crate::egress::BudgetReservation;
use crate::model::ledger::{AttemptContext, Fact, Finished, Why};
use crate::model::{
    Class, ConnectionId, Digest, Drift, Failure, Intent, Origin, Outcome, Scope, Step, StepReport, StepStatus, Timestamp,
};
use crate::snapshot::Checked;
use rusqlite::params;

impl Writer {
    pub(super) fn accept(&mut self, documents: Vec<(Intent, Origin)>) -> Result<Vec<Acceptance>, RegistryError> {
        for (intent, _) in &documents {
            self.refuse_sealed(&intent.namespace)?;
        }
        let mut answers = Vec::with_capacity(documents.len());
        for (intent, origin) in documents {
            let connection = intent.connection_id();
            let body = intent.canonical();
            let spec = Digest::from_bytes(body.as_bytes());
            let how = self.how(connection, &origin, spec);
            if how == How::Created && self.with_known(connection, |known| known.is_some()) {
                // One that was retired proves itself again: its earlier looks count no more.
                self.db.prepare_cached("DELETE FROM checked WHERE connection = ?1")?.execute([connection.to_string()])?;
            }
            if how != How::Unchanged {
                let fact = Fact::IntentAccepted { origin, spec, source_type: intent.source_type };
                self.append(&intent.namespace, Some(connection), fact, Some(body))?;
            }
            answers.push(Acceptance { connection, how });
        }
        Ok(answers)
    }

    /// A refusal comes before the first row, as with each part alone.
    pub(super) fn take_in(&mut self, findings: Findings) -> Result<Vec<Acceptance>, RegistryError> {
        for (connection, _, _) in &findings.withdrawn {
            self.refuse_sealed(&self.namespace_of(*connection))?;
        }
        let answers = self.accept(findings.documents)?;
        for (connection, origin, reason) in findings.withdrawn {
            self.withdraw(vec![(connection, origin)], reason)?;
        }
        self.keep_marks(&findings.seen, &findings.gone)?;
        Ok(answers)
    }

    fn how(&self, connection: ConnectionId, origin: &Origin, spec: Digest) -> How {
        self.with_known(connection, |known| {
            let Some(known) = known.filter(|known| known.retired.is_none()) else {
                return How::Created;
            };
            let newest = known.origins.iter().map(|desire| desire.seq).max();
            let same = known.origins.iter().any(|desire| {
                desire.origin == *origin && desire.spec == spec && (Some(desire.seq) == newest || desire.spec == known.spec)
            });
            if same { How::Unchanged } else { How::Changed }
        })
    }

    /// A refusal comes before the first row of its command: the rest of the transaction stays whole.
    fn refuse_sealed(&self, namespace: &str) -> Result<(), RegistryError> {
        if self.sealed(namespace) {
            return Err(RegistryError::Sealed(namespace.to_string()));
        }
        Ok(())
    }

    pub(super) fn withdraw(&mut self, wishes: Vec<(ConnectionId, Origin)>, reason: &str) -> Result<(), RegistryError> {
        for (connection, _) in &wishes {
            self.refuse_sealed(&self.namespace_of(*connection))?;
        }
        for (connection, origin) in wishes {
            let (desired, left) = self.with_known(connection, |known| {
                let origins = known.map(|known| known.origins.as_slice()).unwrap_or_default();
                let by_it = origins.iter().filter(|desire| desire.origin == origin).count();
                (by_it > 0, origins.len() - by_it)
            });
            if !desired {
                continue;
            }
            let namespace = self.namespace_of(connection);
            let reason = reason.to_string();
            let fact = Fact::IntentWithdrawn { origin, reason };
            self.append(&namespace, Some(connection), fact, None)?;
            if left == 0 {
                self.append(&namespace, Some(connection), Fact::ConnectionRetired, None)?;
            }
        }
        Ok(())
    }

    pub(super) fn begin(&mut self, connection: ConnectionId, under: AttemptContext) -> Result<Ticket, RegistryError> {
        let namespace = self.namespace_of(connection);
        self.refuse_sealed(&namespace)?;
        // A ticket that is still there belongs to an attempt that ended without a word.
        if let Some((lost, in_ledger)) = self.take_ticket(connection)? {
            self.finish_ticket(cut_off(connection, lost), Some(in_ledger))?;
        }
        let under = AttemptContext { begun_at: self.now(), ..under };
        // A re-check of a settled connection is only a ticket: it becomes a row if it finds something new.
        let in_ledger = matches!(under.why, Why::New | Why::SpecChanged | Why::PolicyChanged | Why::Heal);
        if in_ledger {
            self.append(&namespace, Some(connection), begun(&under), None)?;
        }
        let text = serde_json::to_string(&under).unwrap_or_default();
        self.db.prepare_cached("INSERT INTO tickets (connection, under, in_ledger) VALUES (?1, ?2, ?3)")?.execute(params![
            connection.to_string(),
            text,
            in_ledger
        ])?;
        Ok(Ticket { connection, under })
    }

    /// The calls are written down in the transaction of the beginning: both before the first of them.
    pub(super) fn begin_funded(
        &mut self,
        connection: ConnectionId,
        under: AttemptContext,
        budget_reservations: &[BudgetReservation],
    ) -> Result<(Ticket, Vec<u64>), RegistryError> {
        let ticket = self.begin(connection, under)?;
        let grant = |fund: &BudgetReservation| self.take_budget(&fund.account, fund.day, fund.wanted, fund.limit);
        let granted = budget_reservations.iter().map(grant).collect::<Result<_, _>>()?;
        Ok((ticket, granted))
    }

    pub(super) fn finish(&mut self, finish: Finish) -> Result<Recorded, RegistryError> {
        let ticket = self.take_ticket(finish.connection)?;
        self.finish_ticket(finish, ticket.map(|(_, in_ledger)| in_ledger))
    }

    /// `in_ledger`: the ticket had a begun row. What has one gets a finished row; a silent re-check
    /// gets both, or none.
    fn finish_ticket(&mut self, finish: Finish, in_ledger: Option<bool>) -> Result<Recorded, RegistryError> {
        let connection = finish.connection;
        let (nothing_new, catalog, gone) = self.with_known(connection, |known| {
            (
                known.is_some_and(|known| known.says_nothing_new(&finish.facts, &finish.under)),
                known.and_then(|known| known.catalog),
                known.is_none_or(|known| known.retired.is_some()),
            )
        });
        let namespace = self.namespace_of(connection);
        let in_ledger = in_ledger.unwrap_or(false);
        if gone || self.sealed(&namespace) || (nothing_new && !in_ledger) {
            if nothing_new && !gone {
                self.check_off(connection, &finish.facts)?;
            }
            return Ok(Recorded { appended: false, facts: finish.facts });
        }
        if !in_ledger {
            self.append(&namespace, Some(connection), begun(&finish.under), None)?;
        }
        if let Some(found) = finish.catalog.filter(|found| catalog.is_none_or(|(_, _, known)| known != found.digest)) {
            let fact = Fact::CatalogRegistered {
                version: catalog.map_or(1, |(version, _, _)| version.saturating_add(1)),
                digest: found.digest,
                streams: found.streams,
                breaking: found.breaking,
                additive: found.additive,
            };
            self.append(&namespace, Some(connection), fact, Some(found.text))?;
        }
        let fact = Fact::AttemptFinished(finish.facts.clone());
        self.append(&namespace, Some(connection), fact, Some(finish.steps))?;
        self.keep_count(connection)?;
        Ok(Recorded { appended: true, facts: finish.facts })
    }

    /// Notes the time of a re-check that found nothing new.
    fn check_off(&mut self, connection: ConnectionId, facts: &Finished) -> Result<(), RegistryError> {
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
            self.note_checked(checked);
        }
        Ok(())
    }

    /// Keeps what the ledger alone does not say: failures in a row with the unchanged ones among them,
    /// and the last full look. Without it a restart would shorten a backoff.
    fn keep_count(&mut self, connection: ConnectionId) -> Result<(), RegistryError> {
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

    fn take_ticket(&mut self, connection: ConnectionId) -> Result<Option<(AttemptContext, bool)>, RegistryError> {
        let mut statement = self.db.prepare_cached("DELETE FROM tickets WHERE connection = ?1 RETURNING under, in_ledger")?;
        let mut rows = statement.query([connection.to_string()])?;
        let Some(row) = rows.next()? else {
            return Ok(None);
        };
        let under: String = row.get(0)?;
        let in_ledger = row.get(1)?;
        // The statement is run to its end: only then is the row gone.
        let _ = rows.next()?;
        Ok(serde_json::from_str(&under).ok().zip(Some(in_ledger)))
    }

    pub(super) fn accept_policy(&mut self, policy: Digest, text: String) -> Result<(), RegistryError> {
        if self.policy().is_some_and(|(digest, _)| digest == policy) {
            return Ok(());
        }
        self.append("", None, Fact::PolicyAccepted { policy }, Some(text))
    }

    pub(super) fn seal(&mut self, namespace: &str, mut documents: Vec<(Intent, Origin)>) -> Result<bool, RegistryError> {
        if self.sealed(namespace) {
            return Ok(false);
        }
        documents.retain(|(intent, _)| intent.namespace == namespace);
        let fact = Fact::NamespaceSealed { documents: u32::try_from(documents.len()).unwrap_or(u32::MAX) };
        self.accept(documents)?;
        self.append(namespace, None, fact, None)?;
        Ok(true)
    }

    /// Each attempt that began before a crash is finished as interrupted, in one transaction.
    pub(super) fn record_interrupted(&mut self) -> Result<(), RegistryError> {
        let tickets = reader::tickets(&self.db)?;
        if tickets.is_empty() {
            return Ok(());
        }
        self.start()?;
        for (connection, under, _) in tickets {
            self.finish(cut_off(connection, under))?;
        }
        // Also those that this build cannot read.
        self.db.execute_batch("DELETE FROM tickets; COMMIT")?;
        self.publish();
        Ok(())
    }

    fn namespace_of(&self, connection: ConnectionId) -> String {
        self.with_known(connection, |known| known.map(|known| known.namespace.to_string()).unwrap_or_default())
    }

    /// Never earlier than the last row, so that folding by time and by order agree.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now().max(self.head.at)
    }
}

fn begun(under: &AttemptContext) -> Fact {
    Fact::AttemptBegun { generation: under.generation, scope: under.scope, why: under.why, policy: under.policy }
}

/// The outcome of an attempt that a crash cut off.
fn cut_off(connection: ConnectionId, under: AttemptContext) -> Finish {
    let failure = Failure::new(
        Class::Interrupted,
        "aam ended while this attempt ran",
        "nothing to do: it is tried again by the backoff of the policy",
    );
    let status = |step| match step {
        Step::Registry => StepStatus::Failed { failure: failure.clone() },
        _ => StepStatus::Skipped { reason: "aam ended before this step was recorded".to_string() },
    };
    let report = |step| StepReport { step, status: status(step), duration_ms: 0, evidence: serde_json::Map::new() };
    let outcome = Outcome {
        scope: under.scope,
        steps: Step::ALL.into_iter().map(report).collect(),
        catalog: None,
        drift: Drift::default(),
        rows: None,
        latency_ms: None,
    };
    Finish::new(&Ticket { connection, under }, &outcome)
}
