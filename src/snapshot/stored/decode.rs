//! From records to a snapshot.

use super::super::departure::{Superseded, Withdrawn};
use super::super::finished::Recorded;
use super::super::{AcceptedPolicy, Attempt, Connection, Desired, Handoff, Snapshot, WebhookCursor};
use super::encode::Tables;
use super::records::{Part, Record, Rest, StoredAttempt, StoredConnection, StoredDesired, StoredHandoff, StoredSuperseded};
use super::tables::{RawDigest, value};
use crate::model::ledger::{Finished, Warning};
use crate::model::{CallsAnchor, ConnectionId, Digest, Origin};
use std::sync::Arc;

/// Decodes records.
#[derive(Default)]
pub struct Decoder {
    snapshot: Snapshot,
    /// Those that are not packed, in the order of the records. They become a map at the end, because a map that is built from a sorted
    /// list takes less memory than one that grows.
    connections: Vec<(ConnectionId, Box<Connection>)>,
    values: Values,
    origins: Vec<Arc<str>>,
    locators: Vec<Arc<str>>,
    /// Whether the last record was decoded.
    complete: bool,
}

impl Decoder {
    /// Decodes records into `empty`, a snapshot of no entry.
    #[must_use]
    pub fn new(empty: Snapshot) -> Decoder {
        Decoder { snapshot: empty, ..Decoder::default() }
    }

    /// Decodes the next record, without its length.
    ///
    /// # Errors
    /// If this is not the next record of a stored fold of this [`CODE`](super::CODE).
    pub fn record(&mut self, bytes: &[u8]) -> Result<(), String> {
        if self.complete {
            return Err("there are records after the last one".to_string());
        }
        let (record, rest): (Record<'_>, _) = postcard::take_from_bytes(bytes).map_err(|error| error.to_string())?;
        if !rest.is_empty() {
            return Err("a record is longer than its content".to_string());
        }
        let interner = &mut self.snapshot.interner;
        self.values.texts.extend(record.texts.into_iter().map(|text| interner.intern(text)));
        self.origins.extend(record.origins.into_iter().map(Arc::from));
        self.locators.extend(record.locators.into_iter().map(|locator| interner.intern(locator)));
        self.values.digests.extend(record.digests.into_iter().map(|digest| digest.0));
        match record.part {
            Part::Connection(id, stored) => {
                let connection = self.values.connection(Own { origins: &self.origins, locators: &self.locators }, *stored)?;
                if self.snapshot.connections.packs(id) {
                    self.snapshot.connections.insert(id, Box::new(connection));
                    self.snapshot.pack_open();
                } else {
                    self.connections.push((id, Box::new(connection)));
                }
            }
            Part::Trend(namespace, trend) => {
                self.snapshot.trend.namespaces.insert(value(&self.values.texts, namespace)?, trend);
            }
            Part::Handoff(stored) => {
                let StoredHandoff { namespace, run, seq, at, facts } = *stored;
                self.snapshot.handoffs.insert((namespace, run), Handoff { seq, at, facts: Box::new(facts) });
            }
            Part::Rest(rest) => self.rest(*rest)?,
        }
        Ok(())
    }

    /// Returns the snapshot.
    ///
    /// # Errors
    /// If the last record is missing.
    pub fn finish(self) -> Result<Snapshot, String> {
        let Decoder { mut snapshot, mut connections, values, origins, locators, complete } = self;
        if !complete {
            return Err("the last record is missing".to_string());
        }
        drop((values, origins, locators));
        // A stable sort, so that of several records of a connection the newest is the last one, which stays.
        connections.sort_by_key(|(id, _)| *id);
        connections.dedup_by(|newer, older| {
            let same = newer.0 == older.0;
            if same {
                std::mem::swap(newer, older);
            }
            same
        });
        snapshot.connections.add_whole(connections);
        let mut pairs = Vec::new();
        for (id, known) in snapshot.connections.iter() {
            pairs.extend(known.origins.iter().map(|desired| (desired.origin.clone(), id)));
            snapshot.lookups.add_connection(id, &known);
        }
        pairs.sort_unstable();
        // Packed connections have origins of their own.
        for number in 1..pairs.len() {
            let (before, after) = pairs.split_at_mut(number);
            if let (Some((origin, _)), Some((next, _))) = (before.last(), after.first_mut())
                && origin == next
            {
                next.clone_from(origin);
            }
        }
        snapshot.desired_pairs = pairs.into_iter().collect();
        Ok(snapshot)
    }

    fn rest(&mut self, rest: Rest) -> Result<(), String> {
        let text = |number| value(&self.values.texts, number);
        let snapshot = &mut self.snapshot;
        (snapshot.seq, snapshot.revision, snapshot.chain_rows) = (rest.seq, rest.revision, rest.chain_rows);
        snapshot.sealed = rest.sealed.into_iter().collect();
        snapshot.policy = rest.policy.map(|(digest, seq)| (digest.0, seq));
        snapshot.policy_at = rest.policy_at;
        let policy = |(seq, at, RawDigest(digest))| AcceptedPolicy { seq, at, digest };
        snapshot.policies = rest.policies.into_iter().map(policy).collect();
        snapshot.policy_file = rest.policy_file.map(|(digest, accepted)| (digest.0, accepted));
        snapshot.intent_problems = rest.intent_problems.into_iter().map(|(file, digest)| (file, digest.0)).collect();
        snapshot.expiring = rest.expiring.into_iter().map(|(id, ends_at, nearness)| (id, (ends_at, nearness))).collect();
        let webhook = |(name, up_to, delivered, stopped)| (name, WebhookCursor { up_to, delivered, stopped });
        snapshot.webhooks = rest.webhooks.into_iter().map(webhook).collect();
        snapshot.families = rest.families.into_iter().map(text).collect::<Result<_, _>>()?;
        let recovered = rest.recovered.into_iter().map(|(family, at)| Ok((text(family)?, at)));
        snapshot.recovered = recovered.collect::<Result<_, String>>()?;
        snapshot.recent_changes = rest.recent_changes.into();
        snapshot.dropped_up_to = rest.dropped_up_to;
        self.complete = true;
        Ok(())
    }
}

/// Origins and locators by their numbers.
#[derive(Clone, Copy)]
pub(super) struct Own<'a> {
    pub origins: &'a [Arc<str>],
    pub locators: &'a [Arc<str>],
}

impl Own<'_> {
    fn origin(self, number: u32) -> Result<Origin, String> {
        value(self.origins, number).map(Origin)
    }

    fn locator(self, number: Option<u32>) -> Result<Option<Arc<str>>, String> {
        number.map(|number| value(self.locators, number)).transpose()
    }
}

/// The values that records have in common, by their numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Values {
    texts: Vec<Arc<str>>,
    digests: Vec<Digest>,
}

impl Values {
    /// The number of values.
    pub(super) fn len(&self) -> usize {
        self.texts.len() + self.digests.len()
    }

    /// Adds the values that the last record was the first to use.
    pub(super) fn define(&mut self, tables: &mut Tables) {
        self.texts.extend(tables.take_new_texts());
        self.digests.extend(tables.take_new_digests());
    }

    /// The connection of a record.
    ///
    /// # Errors
    /// If it uses a value that is not defined.
    pub(super) fn connection(&self, own: Own<'_>, stored: StoredConnection) -> Result<Connection, String> {
        let spec = stored.spec.0;
        let attempts: Vec<Arc<Attempt>> =
            stored.attempts.into_iter().map(|attempt| self.attempt(attempt).map(Arc::new)).collect::<Result<_, _>>()?;
        let attempt = |place: Option<u8>| place.map(|place| value(&attempts, u32::from(place))).transpose();
        let last = attempt(stored.last)?;
        let mut origins: Vec<Desired> =
            stored.origins.iter().map(|desired| self.desired(own, desired, spec)).collect::<Result<_, _>>()?;
        // Room for more would be a fifth of the memory of a connection.
        origins.shrink_to_fit();
        Ok(Connection {
            namespace: value(&self.texts, stored.namespace)?,
            source_type: value(&self.texts, stored.source_type)?,
            created: stored.created,
            desired_since: stored.desired_since,
            origins,
            generation: stored.generation,
            spec,
            document: stored.document,
            locator: own.locator(stored.locator)?,
            retired: stored.retired,
            withdrawn: match stored.withdrawn {
                Some((desired, at)) => Some(Box::new(Withdrawn { desired: self.desired(own, &desired, spec)?, at })),
                None => None,
            },
            superseded: stored.superseded.map(|superseded| self.superseded(own, &superseded).map(Box::new)).transpose()?,
            confirmed: stored.confirmed.map(|cause| Box::new(cause.0)),
            begun: stored.begun,
            checked: last.as_ref().map(|last| last.at),
            last,
            conclusive: attempt(stored.conclusive)?,
            proven: attempt(stored.proven)?,
            failures: stored.failures,
            checked_full: stored.checked_full,
            recorded: Recorded { failures: stored.failures, checked_full: stored.checked_full },
            catalog: stored.catalog.map(|(version, seq, digest)| (version, seq, digest.0)),
            changed: stored.changed,
        })
    }

    fn attempt(&self, stored: StoredAttempt) -> Result<Attempt, String> {
        let warnings = stored.warnings.into_iter().map(|(step, class, title, fix)| {
            Ok(Warning { step, class, title: value(&self.texts, title)?, fix: value(&self.texts, fix)? })
        });
        let facts = Finished {
            begun_at: stored.begun_at,
            generation: stored.generation,
            scope: stored.scope,
            policy: value(&self.digests, stored.policy)?,
            slice: value(&self.digests, stored.slice)?,
            class: stored.class,
            failed_step: stored.failed_step,
            retry_after_ms: stored.retry_after_ms,
            upserted: stored.upserted,
            healthy: stored.healthy,
            rows: stored.rows,
            latency_ms: stored.latency_ms,
            outcome: stored.outcome.0,
            title: value(&self.texts, stored.title)?,
            fix: value(&self.texts, stored.fix)?,
            warnings: warnings.collect::<Result<_, String>>()?,
            credential_ends_at: stored.credential_ends_at,
            ending_secret: stored.ending_secret.map(Box::new),
            calls: stored.calls.map(|(batch, hash)| CallsAnchor { batch, hash: hash.0 }),
        };
        Ok(Attempt { seq: stored.seq, at: stored.at, facts })
    }

    fn superseded(&self, own: Own<'_>, stored: &StoredSuperseded) -> Result<Superseded, String> {
        Ok(Superseded {
            document: stored.document,
            generation: stored.generation,
            spec: stored.spec.0,
            locator: own.locator(stored.locator)?,
            origin: own.origin(stored.origin)?,
            at: stored.at,
        })
    }

    fn desired(&self, own: Own<'_>, stored: &StoredDesired, of_connection: Digest) -> Result<Desired, String> {
        let origin = own.origin(stored.origin)?;
        let spec = stored.spec.map_or(of_connection, |spec| spec.0);
        Ok(Desired { origin, seq: stored.seq, spec, locator: own.locator(stored.locator)? })
    }
}
