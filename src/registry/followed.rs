//! What a writer knows of the other replicas: the time of the database, the chains that it has locked and the numbers that it took.

use super::chains::{self, ChainHead, Head, Rows};
use super::lease::{LockedLease, Partitions};
use super::reader::entry;
use super::repeated::Repeated;
use super::{Location, RegistryError, fold_file};
use crate::clock::{Clock, LedgerClock};
use crate::model::ledger::{Entry, Fact};
use crate::model::{Digest, Timestamp};
use crate::snapshot::Snapshot;
use sqlstore::{Connection, Row};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often the chains of others are looked at, besides the wakes that they send.
pub(super) const POLL: Duration = Duration::from_millis(500);

/// The time of the database, between two answers of which the monotonic clock of this machine counts.
pub(super) struct DatabaseClock(Mutex<(Timestamp, Instant)>);

impl DatabaseClock {
    pub(super) fn new(now: Timestamp) -> DatabaseClock {
        DatabaseClock(Mutex::new((now, Instant::now())))
    }

    pub(super) fn set(&self, now: Timestamp) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (now, Instant::now());
    }
}

impl Clock for DatabaseClock {
    fn now(&self) -> Timestamp {
        let (then, at) = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        then.plus(at.elapsed())
    }
}

/// What a writer knows of the other replicas.
pub(super) struct Followed {
    pub(super) clock: Arc<DatabaseClock>,
    /// The leases that the open transaction has locked.
    pub(super) locked: BTreeMap<usize, LockedLease>,
    /// Numbers of rows that the open transaction has taken and not used.
    pub(super) numbers: VecDeque<u64>,
    /// The rows of all chains up to this number are committed, and none can be added before it.
    pub(super) horizon: u64,
    pub(super) polled: Instant,
    pub(super) tried: Instant,
    /// No partition is adopted before this moment. It is later after an adoption failed.
    pub(super) adopts_at: Instant,
    /// Up to when the re-checks of others were read.
    pub(super) checked_until: Timestamp,
    pub(super) notifications: Option<std::sync::mpsc::Receiver<sqlstore::Notification>>,
    pub(super) failure: Repeated,
    /// Partitions that were taken, and in which nothing may begin until it is recorded what their last holder did not finish.
    pub(super) unadopted: Partitions,
    /// The partitions whose connections are packed, or could not be. At first these are all, because it is not known yet which ones
    /// this process gets.
    pub(super) packed: Partitions,
    /// What was packed when the log last said that exactly the connections of others are. `None` at first.
    pub(super) logged: Option<Partitions>,
    /// Whether whole connections were packed, so that their memory has to be returned.
    pub(super) compacts: bool,
}

impl Followed {
    pub(super) fn new(db: &Connection, clock: Arc<DatabaseClock>) -> Result<Followed, RegistryError> {
        let now = Instant::now();
        let checked_until = clock.now();
        let horizon = horizon(db)?;
        Ok(Followed {
            clock,
            locked: BTreeMap::new(),
            numbers: VecDeque::new(),
            horizon,
            polled: now,
            tried: now,
            adopts_at: now,
            checked_until,
            notifications: db.notifications().ok(),
            failure: Repeated::default(),
            unadopted: Partitions::default(),
            packed: Partitions::ALL,
            logged: None,
            compacts: false,
        })
    }

    /// Has the next look at the chains of others happen soon, because this process appended rows that readers wait for.
    pub(super) fn look_soon(&mut self) {
        if let Some(earlier) = Instant::now().checked_sub(POLL.saturating_sub(Duration::from_millis(20))) {
            self.polled = self.polled.min(earlier);
        }
    }

    /// Whether another replica woke this one since the last call.
    pub(super) fn was_woken(&self) -> bool {
        self.notifications.as_ref().is_some_and(|inbox| inbox.try_iter().count() > 0)
    }
}

/// The time of the database.
pub(super) fn database_time(db: &Connection) -> Result<Timestamp, RegistryError> {
    let sql = "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)";
    Ok(Timestamp(db.query_row(sql, [], |row| row.get(0))?))
}

/// Folds the whole ledger into a snapshot that `empty` makes, of no entry, from the stored fold if there is one that fits. Returns the
/// last row of the stored fold, too, or 0, and the ends of the chains.
///
/// # Errors
/// If the registry cannot be read, or if this build cannot parse a row.
pub(super) fn fold(
    db: &Connection,
    registry: &Location,
    empty: fn() -> Snapshot,
) -> Result<(Snapshot, u64, Head), RegistryError> {
    let mut snapshot = fold_file::stored(db, registry, empty)?;
    let (stored, known) = (snapshot.seq, snapshot.chain_rows.clone());
    let mut head = Head::after(&chains::ends(db, &known)?.unwrap_or_default());
    let rows = if stored == 0 { Rows::All } else { Rows::After(&known) };
    chains::each_row(db, rows, |entry, chain, last| {
        snapshot.apply_next(&entry);
        note(&mut head, &entry, chain, last);
    })?;
    snapshot.pack_open();
    Ok((snapshot, stored, head))
}

pub(super) fn chained(row: &Row<'_>) -> Result<(Entry, usize, ChainHead), RegistryError> {
    Ok((entry(row)?, row.get(6)?, ChainHead { place: row.get(7)?, hash: Digest(row.get(8)?) }))
}

pub(super) fn note(head: &mut Head, entry: &Entry, chain: usize, last: ChainHead) {
    head.advance(entry.seq, entry.at, chain, last);
    if matches!(entry.fact, Fact::ChainsAnchored { .. }) {
        head.anchored();
    }
}

/// The number up to which no row can be added any more.
pub(super) fn horizon(db: &Connection) -> Result<u64, RegistryError> {
    Ok(db.prepare_cached("SELECT ledger_horizon()")?.query_row([], |row| row.get(0))?)
}

/// Whether other replicas have to plan again because of a fact.
pub(super) fn changes_plans(fact: &Fact) -> bool {
    !matches!(
        fact,
        Fact::AttemptBegun { .. }
            | Fact::AttemptFinished(_)
            | Fact::CatalogRegistered { .. }
            | Fact::ChainsAnchored { .. }
            | Fact::CallsRecorded { .. }
            | Fact::CallsDropped { .. }
            | Fact::WebhookDelivered { .. }
    )
}

/// Takes the next numbers of rows.
pub(super) fn take_numbers(db: &Connection, count: usize) -> Result<VecDeque<u64>, RegistryError> {
    let text: String = db.prepare_cached("SELECT take_numbers(?1)")?.query_row([count], |row| row.get(0))?;
    Ok(text.split(',').filter_map(|number| number.parse().ok()).collect())
}

/// The time of rows: that of the database if the registry is one, because the clocks of several machines differ.
pub(super) fn ledger_clock(
    db: &Connection,
    clock: Arc<dyn Clock>,
    last_row: Timestamp,
) -> Result<(Arc<dyn Clock>, Option<Followed>), RegistryError> {
    if !db.is_postgres() {
        return Ok((Arc::new(LedgerClock::new(clock, last_row)), None));
    }
    let database = Arc::new(DatabaseClock::new(database_time(db)?));
    // Unit tests bring the time that they are about.
    let clock = if cfg!(test) { clock } else { Arc::clone(&database) as Arc<dyn Clock> };
    Ok((Arc::new(LedgerClock::new(clock, last_row)), Some(Followed::new(db, database)?)))
}
