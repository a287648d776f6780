//! What a replica does besides commands: it keeps its leases, follows the chains that others append to, and anchors them.
//!
//! Any replica may append to any chain. Each transaction locks the leases of its chains first and reads what it does not know of
//! them yet, so it decides on the newest state. Only attempts need the lease of their partition.

use super::followed::{Followed, POLL, chained, changes_plans, database_time, horizon, note, take_numbers};
use super::lease::{LeaseChange, Leases, LockedLease, Partitions};
use super::reader::{self, COLUMNS};
use super::writer::Writer;
use super::{RegistryError, calls, database};
use crate::clock::Clock;
use crate::model::ledger::Fact;
use crate::model::{ConnectionId, Digest, Timestamp};
use sqlstore::params;
use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

/// How often a lost database is tried again while no command waits for it.
const RETRY: Duration = Duration::from_millis(500);
/// The rows of each chain that one statement reads.
const CHUNK: usize = 1000;
/// How often a replica sees whether another one woke it, while it has nothing to do.
const WAKE_CHECK: Duration = Duration::from_millis(50);
/// The pause between two turns of unpacking, in which readers of the snapshot get theirs.
const UNPACKING: Duration = Duration::from_millis(1);
/// How long the connections of partitions are packed or unpacked at a time.
const DIVIDING: Duration = Duration::from_millis(10);
/// How far the re-checks of others are read again, because their transactions may have ended in another order. In milliseconds.
const OVERLAP_MS: i64 = 20_000;

impl Writer {
    /// The partitions that this process has. All of them in an SQLite file.
    pub(super) fn held(&self) -> Partitions {
        self.leases.as_ref().map_or(Partitions::ALL, Leases::held)
    }

    /// Locks the chains of `wanted` for the open transaction, and folds what others appended to them since.
    pub(super) fn lock_chains(&mut self, wanted: Partitions) -> Result<(), RegistryError> {
        let Some(followed) = &mut self.followed else { return Ok(()) };
        followed.locked.clear();
        followed.numbers.clear();
        let numbers = wanted.iter().map(|number| number.to_string()).collect::<Vec<_>>().join(",");
        let sql = "SELECT part, holder, fence, is_valid, place, now_ms FROM lock_chains(?1)";
        let mut statement = self.db.prepare_cached(sql)?;
        let mut rows = statement.query([numbers])?;
        let mut is_behind = false;
        while let Some(row) = rows.next()? {
            let number: usize = row.get(0)?;
            followed.clock.set(Timestamp(row.get(5)?));
            is_behind |= row.get::<_, u64>(4)? > self.head.chain(number).place;
            if wanted.contains(number) {
                let lease = LockedLease { holder: row.get(1)?, fence: row.get(2)?, is_valid: row.get(3)? };
                followed.locked.insert(number, lease);
            }
        }
        drop(rows);
        drop(statement);
        if is_behind { self.catch_up() } else { Ok(()) }
    }

    /// Reads the rows of all chains that this process does not know yet, and applies them to the shared snapshot.
    fn catch_up(&mut self) -> Result<(), RegistryError> {
        let sql = format!(
            "SELECT {COLUMNS}, chain, place, hash FROM json_each_text(CAST(CAST(?1 AS TEXT) AS json)) AS known
             CROSS JOIN LATERAL (
               SELECT * FROM ledger WHERE chain = CAST(known.key AS bigint) AND place > CAST(known.value AS bigint)
               ORDER BY place LIMIT {CHUNK}
             ) AS unknown ORDER BY seq"
        );
        let (mut changes_plan, mut changes_result) = (false, false);
        loop {
            let mut statement = self.db.prepare_cached(&sql)?;
            let mut rows = statement.query([self.head.places()])?;
            let mut read = Vec::new();
            while let Some(row) = rows.next()? {
                read.push(chained(row)?);
            }
            drop(rows);
            if read.is_empty() {
                break;
            }
            let mut snapshot = self.shared.snapshot.write().unwrap_or_else(PoisonError::into_inner);
            for (entry, chain, last) in read {
                snapshot.apply_next(&entry);
                note(&mut self.head, &entry, chain, last);
                changes_plan |= changes_plans(&entry.fact);
                changes_result |= matches!(entry.fact, Fact::AttemptFinished(_));
            }
            snapshot.pack_open();
        }
        self.shared.others.tell(changes_plan, changes_result);
        Ok(())
    }

    /// The number of the next row.
    pub(super) fn next_seq(&mut self) -> Result<u64, RegistryError> {
        let Some(followed) = &mut self.followed else { return Ok(self.head.seq + 1) };
        if followed.numbers.is_empty() {
            followed.numbers = take_numbers(&self.db, 16)?;
        }
        followed.numbers.front().copied().ok_or_else(|| RegistryError::Other("the database gave no number for a row".to_string()))
    }

    /// Takes about as many numbers as the transaction is going to use.
    pub(super) fn reserve_numbers(&mut self, rows: usize) -> Result<(), RegistryError> {
        if let Some(followed) = self.followed.as_mut().filter(|_| rows > 0) {
            followed.numbers = take_numbers(&self.db, rows)?;
        }
        Ok(())
    }

    /// Notes that the next number was used for a row of `connection`, whose chain this transaction must have locked.
    pub(super) fn use_seq(&mut self, chain: usize) -> Result<(), RegistryError> {
        let Some(followed) = &mut self.followed else { return Ok(()) };
        followed.numbers.pop_front();
        match followed.locked.contains_key(&chain) {
            true => Ok(()),
            false => Err(RegistryError::Other(format!(
                "the row of partition {chain} in the table leases is missing; aam registry init, as the owner of the tables, adds it again"
            ))),
        }
    }

    /// Refuses what only the holder of the partition of `connection` may write.
    ///
    /// # Errors
    /// [`RegistryError::NotHeld`].
    pub(super) fn require_partition(&self, connection: ConnectionId) -> Result<(), RegistryError> {
        let (Some(leases), Some(followed)) = (&self.leases, &self.followed) else { return Ok(()) };
        let number = connection.partition();
        let is_held = followed.locked.get(&number).is_some_and(|locked| leases.covers(number, locked));
        if is_held { Ok(()) } else { Err(RegistryError::NotHeld) }
    }

    /// Refuses the beginning of an attempt in a partition that goes to another replica, or under a policy that is not in force any
    /// more.
    ///
    /// # Errors
    /// [`RegistryError::NotHeld`].
    pub(super) fn require_open(&self, connection: ConnectionId, policy: Digest) -> Result<(), RegistryError> {
        let Some(leases) = &self.leases else { return Ok(()) };
        self.require_partition(connection)?;
        let in_force = self.policy().is_none_or(|(digest, _)| digest == policy);
        if leases.open().has(connection) && in_force { Ok(()) } else { Err(RegistryError::NotHeld) }
    }

    /// Renews the leases, follows the chains of others and anchors them, as far as it is time for that. What fails is tried again
    /// soon.
    pub(super) fn keep_replica(&mut self) {
        if self.followed.is_none() {
            return;
        }
        let result = self.try_keep_replica();
        let Some(followed) = &mut self.followed else { return };
        match result {
            Ok(()) => followed.failure.end(),
            Err(error) => {
                if followed.failure.is_news(&error.to_string(), Instant::now()) {
                    tracing::warn!(target: "aam::registry", %error, "the leases of this replica could not be renewed; this is tried again");
                }
            }
        }
    }

    fn try_keep_replica(&mut self) -> Result<(), RegistryError> {
        if self.db.is_lost() {
            let Some(followed) = self.followed.as_mut().filter(|followed| followed.tried.elapsed() >= RETRY) else {
                return Ok(());
            };
            followed.tried = Instant::now();
            self.resume()?;
        }
        let Some(leases) = &mut self.leases else { return Ok(()) };
        let LeaseChange { taken, lost } = leases.keep(&self.db)?;
        if !lost.is_empty() {
            tracing::warn!(target: "aam::registry", partitions = lost.len(), "another replica took partitions of this one");
        }
        let held = leases.held();
        let Some(followed) = &mut self.followed else { return Ok(()) };
        followed.unadopted = followed.unadopted.union(taken).intersection(held);
        let (unadopted, now) = (followed.unadopted, Instant::now());
        // Unpacking them first, a few milliseconds at a time, costs less than to change packed connections.
        let is_unpacked = unadopted.intersection(followed.packed).is_empty();
        // What could not be adopted is tried again, and not every few milliseconds.
        let adopts = !unadopted.is_empty() && is_unpacked && (!taken.is_empty() || followed.adopts_at <= now);
        followed.adopts_at = if adopts { now + RETRY } else { followed.adopts_at };
        self.announce_partitions();
        if adopts {
            self.adopt(unadopted)?;
        }
        self.divide_memory();
        let is_time = |followed: &Followed| followed.polled.elapsed() >= POLL || followed.was_woken();
        if self.followed.as_ref().is_some_and(is_time) {
            self.hand_over()?;
            self.follow()?;
        }
        let is_leader = self.held().contains(0);
        if is_leader && self.head.is_anchor_due(self.clock.now()) {
            self.in_transaction(Partitions::ALL, 1, Writer::anchor_chains)?;
        }
        Ok(())
    }

    /// Unpacks the connections of partitions that this process has, and packs those of the partitions of others, for a few
    /// milliseconds. One partition at a time, because all readers of the snapshot wait meanwhile.
    ///
    /// What is packed leaves its memory in pieces between the connections that stay. So those are packed, too, the memory is
    /// returned, and they are unpacked again.
    fn divide_memory(&mut self) {
        let (held, started) = (self.held(), Instant::now());
        let Some(followed) = &mut self.followed else { return };
        while started.elapsed() < DIVIDING {
            let awaited = followed.packed.intersection(followed.unadopted).iter().next();
            let others = Partitions::ALL.without(held).without(followed.packed);
            let own = if followed.compacts { held.without(followed.packed) } else { Partitions::default() };
            // Those that wait to be adopted were just unpacked. Packing them now would begin all over again.
            let own = own.without(followed.unadopted);
            let packs = others.iter().chain(own.iter()).next().filter(|_| awaited.is_none());
            let next = awaited.or(packs).or_else(|| followed.packed.intersection(held).iter().next());
            if awaited.is_none() && packs.is_none() && std::mem::take(&mut followed.compacts) {
                let mut snapshot = self.shared.snapshot.write().unwrap_or_else(PoisonError::into_inner);
                snapshot.compact(crate::memory::release_free);
            }
            let Some(number) = next else { break };
            let this: Partitions = std::iter::once(number).collect();
            let mut snapshot = self.shared.snapshot.write().unwrap_or_else(PoisonError::into_inner);
            if packs.is_none() {
                snapshot.unpack(number);
                followed.packed = followed.packed.without(this);
                continue;
            }
            if !snapshot.connections.pack(number) {
                tracing::warn!(target: "aam::registry", partition = number, "the connections of this partition could not be packed");
            }
            followed.packed = followed.packed.union(this);
            followed.compacts = true;
        }
        let is_divided = !followed.compacts && followed.packed == Partitions::ALL.without(held);
        if is_divided && followed.logged.replace(followed.packed) != Some(followed.packed) {
            crate::memory::release_free();
            tracing::info!(target: "aam::registry", packed = followed.packed.len(), "exactly the connections of other replicas are packed");
        }
    }

    /// How long a replica waits for a command before it looks after its leases again. This is short while it unpacks connections of
    /// partitions that it took, because no attempt begins there before.
    pub(super) fn pause(&self) -> Duration {
        let unpacks = |followed: &Followed| !followed.packed.intersection(followed.unadopted).is_empty();
        if !self.db.is_lost() && self.followed.as_ref().is_some_and(unpacks) { UNPACKING } else { WAKE_CHECK }
    }

    /// Unpacks the connections of `partitions`.
    pub(super) fn unpack(&mut self, partitions: Partitions) {
        let Some(followed) = &mut self.followed else { return };
        let mut snapshot = self.shared.snapshot.write().unwrap_or_else(PoisonError::into_inner);
        followed.packed.intersection(partitions).iter().for_each(|number| snapshot.unpack(number));
        followed.packed = followed.packed.without(partitions);
    }

    /// Tells the loop in which partitions attempts may begin, and the gate of the egress which ones this process has.
    fn announce_partitions(&self) {
        let (Some(leases), Some(followed)) = (&self.leases, &self.followed) else { return };
        let open = leases.open().without(followed.unadopted);
        self.shared.others.leases_last(leases.held(), leases.last_until());
        self.shared.partitions.send_if_modified(|known| std::mem::replace(known, open) != open);
    }

    /// Takes over what other processes left in partitions: their times of checks, and attempts that they did not finish.
    pub(super) fn adopt(&mut self, taken: Partitions) -> Result<(), RegistryError> {
        self.catch_up()?;
        // The database is asked before the snapshot is locked, because everything else waits for the lock.
        let checks = reader::checks(&self.db, Timestamp(0), |connection| taken.has(connection))?;
        let mut snapshot = self.shared.snapshot.write().unwrap_or_else(PoisonError::into_inner);
        reader::apply_checks(&mut snapshot, &checks);
        drop(snapshot);
        self.record_interrupted(taken)?;
        tracing::info!(target: "aam::registry", partitions = taken.len(), held = self.held().len(), "this replica took partitions");
        if let Some(followed) = &mut self.followed {
            followed.unadopted = followed.unadopted.without(taken);
            followed.adopts_at = Instant::now();
        }
        self.announce_partitions();
        Ok(())
    }

    /// Gives partitions above the share of this process to others, once no attempt runs in them.
    fn hand_over(&mut self) -> Result<(), RegistryError> {
        let Some(leaving) = self.leases.as_ref().map(Leases::leaving).filter(|leaving| !leaving.is_empty()) else {
            return Ok(());
        };
        let busy: Partitions = reader::tickets(&self.db)?.into_iter().map(|(connection, ..)| connection).collect();
        let free = leaving.without(busy);
        if let Some(leases) = self.leases.as_mut().filter(|_| !free.is_empty()) {
            leases.release(&self.db, free);
            tracing::info!(target: "aam::registry", partitions = free.len(), held = leases.held().len(), "this replica gave partitions to others");
        }
        Ok(())
    }

    /// Applies what others committed since the last look, and takes the checks that people asked other replicas for.
    fn follow(&mut self) -> Result<(), RegistryError> {
        if let Some(followed) = &mut self.followed {
            followed.polled = Instant::now();
            followed.clock.set(database_time(&self.db)?);
        }
        // The horizon is asked for first: rows up to it are visible to every later statement.
        let horizon = horizon(&self.db)?;
        self.catch_up()?;
        self.follow_checks()?;
        self.take_heals()?;
        let Some(followed) = &mut self.followed else { return Ok(()) };
        if followed.horizon != horizon {
            followed.horizon = horizon;
            self.shared.announce.send_replace(horizon);
        }
        Ok(())
    }

    /// Applies the re-checks of others that found nothing new, which the ledger does not hold.
    fn follow_checks(&mut self) -> Result<(), RegistryError> {
        let held = self.held();
        let Some(followed) = self.followed.as_mut().filter(|_| held != Partitions::ALL) else { return Ok(()) };
        let from = Timestamp(followed.checked_until.0.saturating_sub(OVERLAP_MS));
        followed.checked_until = followed.clock.now();
        let checks = reader::checks(&self.db, from, |connection| !held.has(connection))?;
        let mut snapshot = self.shared.snapshot.write().unwrap_or_else(PoisonError::into_inner);
        let newer = reader::apply_checks(&mut snapshot, &checks);
        drop(snapshot);
        self.shared.others.tell(false, newer);
        Ok(())
    }

    /// Takes the checks that were asked for in partitions where an attempt may begin. Those of partitions that leave wait for the
    /// next holder.
    fn take_heals(&mut self) -> Result<(), RegistryError> {
        let (Some(leases), Some(followed)) = (&self.leases, &self.followed) else { return Ok(()) };
        let open = leases.open().without(followed.unadopted);
        if open.is_empty() {
            return Ok(());
        }
        let numbers = open.iter().map(|number| number.to_string()).collect::<Vec<_>>().join(",");
        let sql = "DELETE FROM heals WHERE part = ANY (CAST(string_to_array(?1, ',') AS bigint[])) RETURNING connection";
        let mut statement = self.db.prepare_cached(sql)?;
        let rows = statement.query_map([numbers], |row| row.get::<_, String>(0))?;
        let asked = rows.collect::<sqlstore::Result<Vec<_>>>()?;
        self.shared.others.ask_to_heal(asked.iter().filter_map(|id| ConnectionId::parse(id).ok()));
        Ok(())
    }

    /// Stores what a person asked to be checked now, for the replicas that have the connections.
    pub(super) fn ask_to_heal(&mut self, connections: &[ConnectionId]) -> Result<(), RegistryError> {
        let sql = "INSERT INTO heals (connection, part) VALUES (?1, ?2) ON CONFLICT (connection) DO NOTHING";
        // In their order, so that two replicas that ask for the same ones never wait for each other.
        let sorted: BTreeSet<&ConnectionId> = connections.iter().filter(|_| self.db.is_postgres()).collect();
        for connection in sorted {
            let part = connection.partition();
            self.db.prepare_cached(sql)?.execute(params![connection.to_string(), part])?;
        }
        self.batch.wakes_others = true;
        Ok(())
    }

    /// Wakes the other replicas when the open transaction is committed, if it holds something that they have to plan for. Most
    /// transactions do not, which matters: PostgreSQL commits those with a notification one after the other.
    pub(super) fn wake_others(&mut self) -> Result<(), RegistryError> {
        let Some(place) = self.location.postgres() else { return Ok(()) };
        if self.batch.wakes_others || self.batch.entries.iter().any(|entry| changes_plans(&entry.fact)) {
            self.db.notify(&database::channel(place), "")?;
        }
        Ok(())
    }

    /// Connects to the database again and reads what was committed meanwhile: the answer to the last commit may have been lost.
    ///
    /// # Errors
    /// [`RegistryError::Unavailable`].
    pub(super) fn resume(&mut self) -> Result<(), RegistryError> {
        if let Some(place) = self.location.postgres() {
            // With the password that its file has now.
            self.db.reconnect(database::writing(place.options()?))?;
        }
        if let Some(place) = self.location.postgres() {
            self.db.listen(&database::channel(place))?;
        }
        if let Some(followed) = &mut self.followed {
            followed.notifications = self.db.notifications().ok();
        }
        let Some(leases) = &mut self.leases else { return Ok(()) };
        let lost = leases.renew(&self.db)?;
        self.calls_head = calls::head(&self.db)?;
        self.catch_up()?;
        tracing::info!(target: "aam::registry", lost = lost.len(), "connected to the database of the registry again");
        self.announce_partitions();
        Ok(())
    }
}
