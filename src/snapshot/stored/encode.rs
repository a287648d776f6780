//! From the parts of a snapshot to records.

use super::super::{Attempt, Connection, Desired, Snapshot};
use super::records::{Part, Record, Rest, StoredAttempt, StoredConnection, StoredDesired, StoredHandoff, StoredSuperseded};
use super::tables::{Numbers, RawDigest};
use crate::model::{ConnectionId, Digest};
use std::sync::Arc;

/// The number of bytes before a record that hold its length.
const LENGTH_BYTES: usize = size_of::<u32>();

/// The values that records have in common, with their numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Tables {
    texts: Numbers<Arc<str>>,
    origins: Numbers<Arc<str>>,
    locators: Numbers<Arc<str>>,
    digests: Numbers<Digest>,
}

impl Tables {
    /// The texts that the next record must define.
    pub(super) fn take_new_texts(&mut self) -> Vec<Arc<str>> {
        self.texts.take_new()
    }

    /// The digests that the next record must define.
    pub(super) fn take_new_digests(&mut self) -> Vec<Digest> {
        self.digests.take_new()
    }

    /// The origins and the locators of the last connection in the order of their numbers, if this is called after each connection.
    pub(super) fn take_own(&mut self) -> (Vec<Arc<str>>, Vec<Arc<str>>) {
        (self.origins.take_all(), self.locators.take_all())
    }

    pub(super) fn connection(&mut self, known: &Connection) -> StoredConnection {
        // Often all three are the same attempt.
        let mut attempts: Vec<StoredAttempt> = Vec::with_capacity(1);
        let last = self.place(&mut attempts, known.last.as_deref());
        let conclusive = self.place(&mut attempts, known.conclusive.as_deref());
        let proven = self.place(&mut attempts, known.proven.as_deref());
        let spec = &known.spec;
        StoredConnection {
            namespace: self.texts.of(&known.namespace),
            source_type: self.texts.of(&known.source_type),
            created: known.created,
            desired_since: known.desired_since,
            origins: known.origins.iter().map(|desired| self.desired(desired, spec)).collect(),
            generation: known.generation,
            spec: RawDigest(known.spec),
            document: known.document,
            locator: self.locator(known.locator.as_ref()),
            retired: known.retired,
            withdrawn: known.withdrawn.as_ref().map(|withdrawn| (self.desired(&withdrawn.desired, spec), withdrawn.at)),
            superseded: known.superseded.as_ref().map(|superseded| StoredSuperseded {
                document: superseded.document,
                generation: superseded.generation,
                spec: RawDigest(superseded.spec),
                locator: self.locator(superseded.locator.as_ref()),
                origin: self.origins.of(&superseded.origin.0),
                at: superseded.at,
            }),
            confirmed: known.confirmed.as_ref().map(|cause| RawDigest(**cause)),
            begun: known.begun,
            attempts,
            last,
            conclusive,
            proven,
            failures: known.recorded.failures,
            checked_full: known.recorded.checked_full,
            catalog: known.catalog.map(|(version, seq, digest)| (version, seq, RawDigest(digest))),
            changed: known.changed,
        }
    }

    /// The place of `attempt` among `attempts`, to which it is added if it is not there.
    fn place(&mut self, attempts: &mut Vec<StoredAttempt>, attempt: Option<&Attempt>) -> Option<u8> {
        let attempt = attempt?;
        let place = attempts.iter().position(|known| known.seq == attempt.seq).unwrap_or(attempts.len());
        if place == attempts.len() {
            attempts.push(self.attempt(attempt));
        }
        u8::try_from(place).ok()
    }

    fn attempt(&mut self, attempt: &Attempt) -> StoredAttempt {
        let facts = &attempt.facts;
        let warnings = facts.warnings.iter();
        StoredAttempt {
            seq: attempt.seq,
            at: attempt.at,
            begun_at: facts.begun_at,
            generation: facts.generation,
            scope: facts.scope,
            policy: self.digests.of(&facts.policy),
            slice: self.digests.of(&facts.slice),
            class: facts.class,
            failed_step: facts.failed_step,
            retry_after_ms: facts.retry_after_ms,
            upserted: facts.upserted,
            healthy: facts.healthy,
            rows: facts.rows,
            latency_ms: facts.latency_ms,
            outcome: RawDigest(facts.outcome),
            title: self.texts.of(&facts.title),
            fix: self.texts.of(&facts.fix),
            warnings: warnings.map(|one| (one.step, one.class, self.texts.of(&one.title), self.texts.of(&one.fix))).collect(),
            credential_ends_at: facts.credential_ends_at,
            ending_secret: facts.ending_secret.as_deref().cloned(),
            calls: facts.calls.map(|calls| (calls.batch, RawDigest(calls.hash))),
        }
    }

    fn desired(&mut self, desired: &Desired, of_connection: &Digest) -> StoredDesired {
        StoredDesired {
            origin: self.origins.of(&desired.origin.0),
            seq: desired.seq,
            spec: (desired.spec != *of_connection).then_some(RawDigest(desired.spec)),
            locator: self.locator(desired.locator.as_ref()),
        }
    }

    fn locator(&mut self, locator: Option<&Arc<str>>) -> Option<u32> {
        locator.map(|locator| self.locators.of(locator))
    }
}

/// Encodes records. Each is preceded by its length, as 32 bits in little-endian order.
#[derive(Debug, Default)]
pub struct Encoder {
    tables: Tables,
    /// The records that were not taken yet.
    bytes: Vec<u8>,
}

impl Encoder {
    /// Takes the records that were encoded since the last call.
    pub fn take(&mut self) -> Vec<u8> {
        let capacity = self.bytes.len();
        std::mem::replace(&mut self.bytes, Vec::with_capacity(capacity))
    }

    pub(super) fn connection(&mut self, id: ConnectionId, known: &Connection) -> Result<(), String> {
        let stored = self.tables.connection(known);
        self.record(Part::Connection(id, Box::new(stored)))
    }

    /// Encodes everything that is not a connection.
    pub(super) fn rest(&mut self, snapshot: &Snapshot) -> Result<(), String> {
        for (namespace, trend) in &snapshot.trend.namespaces {
            let namespace = self.tables.texts.of(namespace);
            self.record(Part::Trend(namespace, trend.clone()))?;
        }
        for ((namespace, run), known) in &snapshot.handoffs {
            let (namespace, run, facts) = (namespace.clone(), run.clone(), (*known.facts).clone());
            self.record(Part::Handoff(Box::new(StoredHandoff { namespace, run, seq: known.seq, at: known.at, facts })))?;
        }
        let (problems, webhooks) = (snapshot.intent_problems.iter(), snapshot.webhooks.iter());
        let rest = Rest {
            seq: snapshot.seq,
            revision: snapshot.revision,
            chain_rows: snapshot.chain_rows.clone(),
            sealed: snapshot.sealed.iter().cloned().collect(),
            policy: snapshot.policy.map(|(digest, seq)| (RawDigest(digest), seq)),
            policy_at: snapshot.policy_at,
            policies: snapshot.policies.iter().map(|policy| (policy.seq, policy.at, RawDigest(policy.digest))).collect(),
            policy_file: snapshot.policy_file.map(|(digest, accepted)| (RawDigest(digest), accepted)),
            intent_problems: problems.map(|(file, digest)| (Arc::clone(file), RawDigest(*digest))).collect(),
            expiring: snapshot.expiring.iter().map(|(id, (ends_at, nearness))| (*id, *ends_at, *nearness)).collect(),
            webhooks: webhooks
                .map(|(name, cursor)| (Arc::clone(name), cursor.up_to, cursor.delivered, cursor.stopped.clone()))
                .collect(),
            families: snapshot.families.iter().map(|family| self.tables.texts.of(family)).collect(),
            recovered: snapshot.recovered.iter().map(|(family, at)| (self.tables.texts.of(family), *at)).collect(),
            recent_changes: snapshot.recent_changes.iter().copied().collect(),
            dropped_up_to: snapshot.dropped_up_to,
        };
        self.record(Part::Rest(Box::new(rest)))
    }

    /// Adds a record with its length, and with the values that it is the first to use.
    fn record(&mut self, part: Part) -> Result<(), String> {
        let (texts, origins) = (self.tables.texts.take_new(), self.tables.origins.take_new());
        let locators = self.tables.locators.take_new();
        let record = Record {
            texts: texts.iter().map(|text| &**text).collect(),
            origins: origins.iter().map(|origin| &**origin).collect(),
            locators: locators.iter().map(|locator| &**locator).collect(),
            digests: self.tables.digests.take_new().into_iter().map(RawDigest).collect(),
            part,
        };
        let begin = self.bytes.len();
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.extend_from_slice(&[0; LENGTH_BYTES]);
        self.bytes = postcard::to_extend(&record, bytes).map_err(|error| error.to_string())?;
        let length = self.bytes.len().saturating_sub(begin + LENGTH_BYTES);
        let length = u32::try_from(length).map_err(|_| "a record has more than 4 GiB".to_string())?;
        if let Some(place) = self.bytes.get_mut(begin..begin + LENGTH_BYTES) {
            place.copy_from_slice(&length.to_le_bytes());
        }
        Ok(())
    }
}
