//! Reads events from the registry: a short memory of the latest ones that all readers share, and a fold of its own for a
//! reader that begins further back.
//!
//! Without readers nothing is computed, and readers never make the writer wait: they read rows that are committed.

use crate::events::{Event, EventFold, EventId};
use crate::model::Intent;
use crate::registry::{Reader, RegistryError};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// The number of the latest events that are kept in memory. One takes less than 1 KiB in most cases.
const MAX_RECENT: usize = 4096;
/// The number of entries that are read at once.
const CHUNK: usize = 1024;
/// The number of such reads in one call of [`EventReader::next_page`], so that no call takes long on a large registry.
const MAX_CHUNKS: usize = 16;
/// The number of readers that may have a fold of their own. Each takes about 100 bytes for each connection. Others wait.
const MAX_HISTORIES: usize = 4;
/// The number of events that [`EventReader::next_page`] returns at most, apart from those of its last entry.
const MAX_PAGE: usize = 256;
/// The maximum size of an intent whose resource ids are shown.
const MAX_INTENT_BYTES: usize = 256 << 10;

/// The events of one registry.
pub struct EventLog {
    reader: Reader,
    changes: watch::Receiver<u64>,
    tail: Mutex<Tail>,
    histories: Arc<Semaphore>,
}

/// The fold of all entries that were read so far, and its latest events.
#[derive(Default)]
struct Tail {
    fold: EventFold,
    recent: VecDeque<Arc<Event>>,
    /// The last event that is not in `recent` any more. A reader at or after it finds the rest there.
    dropped: Option<EventId>,
}

/// A fold that began at the first entry for one reader.
struct History {
    fold: EventFold,
    _permit: OwnedSemaphorePermit,
}

/// One reader and its position.
pub struct EventReader {
    log: Arc<EventLog>,
    position: EventId,
    history: Option<History>,
}

impl EventLog {
    /// Creates the log of a registry. `changes` announces the number of the last entry after each commit.
    #[must_use]
    pub fn new(reader: Reader, changes: watch::Receiver<u64>) -> Arc<EventLog> {
        let histories = Arc::new(Semaphore::new(MAX_HISTORIES));
        Arc::new(EventLog { reader, changes, tail: Mutex::default(), histories })
    }

    /// Returns the number of the last committed entry.
    #[must_use]
    pub fn head(&self) -> u64 {
        *self.changes.borrow()
    }

    /// Notifies whenever entries have been committed.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    /// Returns a reader of the events after `position`.
    #[must_use]
    pub fn read_after(self: &Arc<EventLog>, position: EventId) -> EventReader {
        EventReader { log: Arc::clone(self), position, history: None }
    }

    /// Returns the resource ids of the connections of `events`, by the entry that holds an intent of the connection.
    ///
    /// # Errors
    /// If the registry cannot be read.
    pub fn resource_ids(&self, events: &[Arc<Event>]) -> Result<HashMap<u64, Vec<String>>, RegistryError> {
        let mut documents: Vec<u64> =
            events.iter().filter_map(|event| event.connection.as_ref()).map(|one| one.document).collect();
        documents.sort_unstable();
        documents.dedup();
        let mut found = HashMap::new();
        for chunk in documents.chunks(CHUNK) {
            for (seq, text) in chunk.iter().zip(self.reader.bodies(chunk, MAX_INTENT_BYTES)?) {
                let intent: Option<Intent> = text.and_then(|text| serde_json::from_str(&text).ok());
                found.insert(*seq, intent.map(|intent| intent.resource_ids).unwrap_or_default());
            }
        }
        Ok(found)
    }

    fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tail {
    /// Folds the next entries up to `head`. Returns whether it got there.
    fn advance(&mut self, reader: &Reader, head: u64) -> Result<bool, RegistryError> {
        for _ in 0..MAX_CHUNKS {
            if self.fold.seq() >= head {
                break;
            }
            let entries = reader.entries_after(self.fold.seq(), head, CHUNK)?;
            if entries.is_empty() {
                return Ok(true);
            }
            for (entry, policy) in &entries {
                self.recent.extend(self.fold.apply(entry, policy.as_deref()).into_iter().map(Arc::new));
                while self.recent.len() > MAX_RECENT {
                    self.dropped = self.recent.pop_front().map(|event| event.id);
                }
            }
        }
        Ok(self.fold.seq() >= head)
    }

    /// Returns the events after `position`, or `None` if some of them are not in memory any more.
    fn after(&self, position: EventId) -> Option<Vec<Arc<Event>>> {
        if self.dropped.is_some_and(|dropped| position < dropped) {
            return None;
        }
        let start = self.recent.partition_point(|event| event.id <= position);
        let mut page: Vec<Arc<Event>> = Vec::new();
        for event in self.recent.range(start..) {
            let same_entry = page.last().is_some_and(|last| last.id.seq == event.id.seq);
            if page.len() >= MAX_PAGE && !same_entry {
                break;
            }
            page.push(Arc::clone(event));
        }
        Some(page)
    }
}

/// What [`EventReader::next_page`] found.
pub enum Page {
    /// The next events, in order, with all events of each entry. There may be more.
    Events(Vec<Arc<Event>>),
    /// There are no events after the position of the reader.
    End,
    /// The entries of a large registry are still being read; call again.
    Folding,
    /// The reader needs [`EventReader::begin_history`] first.
    NeedsHistory,
}

impl EventReader {
    /// Returns the position: everything up to it was returned.
    #[must_use]
    pub fn position(&self) -> EventId {
        self.position
    }

    /// Waits until this reader may have a fold of its own, if it does not have one.
    pub async fn begin_history(&mut self) {
        if self.history.is_some() {
            return;
        }
        if let Ok(permit) = Arc::clone(&self.log.histories).acquire_owned().await {
            self.history = Some(History { fold: EventFold::default(), _permit: permit });
        }
    }

    /// Gives up the fold of its own, because the reader pauses. It needs a new one later.
    pub fn end_history(&mut self) {
        self.history = None;
    }

    /// Returns the next events. Reads rows, so call it where blocking is allowed.
    ///
    /// # Errors
    /// If the registry cannot be read.
    pub fn next_page(&mut self) -> Result<Page, RegistryError> {
        let head = self.log.head();
        let found = {
            let mut tail = self.log.tail();
            if !tail.advance(&self.log.reader, head)? {
                return Ok(Page::Folding);
            }
            tail.after(self.position)
        };
        if let Some(events) = found {
            self.history = None;
            let Some(last) = events.last() else {
                self.position = self.position.max(EventId::after_entry(head));
                return Ok(Page::End);
            };
            self.position = last.id;
            return Ok(Page::Events(events));
        }
        let Some(history) = &mut self.history else { return Ok(Page::NeedsHistory) };
        let (log, position) = (&self.log, self.position);
        let mut events = Vec::new();
        for _ in 0..MAX_CHUNKS {
            if events.len() >= MAX_PAGE || history.fold.seq() >= head {
                break;
            }
            let entries = log.reader.entries_after(history.fold.seq(), head, CHUNK)?;
            if entries.is_empty() {
                return Ok(Page::End);
            }
            for (entry, policy) in &entries {
                let new = history.fold.apply(entry, policy.as_deref());
                events.extend(new.into_iter().filter(|event| event.id > position).map(Arc::new));
            }
        }
        self.position = position.max(EventId::after_entry(history.fold.seq()));
        Ok(if events.is_empty() { Page::Folding } else { Page::Events(events) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::model::ledger::RecordedProblems;
    use crate::model::{Digest, Problem};
    use crate::registry::{Notice, Registry};

    fn all(reader: &mut EventReader) -> Vec<String> {
        let mut ids = Vec::new();
        loop {
            match reader.next_page().expect("readable") {
                Page::Events(events) => ids.extend(events.iter().map(|event| event.id.to_string())),
                Page::End => return ids,
                Page::Folding => {}
                Page::NeedsHistory => futures_util::future::FutureExt::now_or_never(reader.begin_history()).expect("a permit"),
            }
        }
    }

    #[tokio::test]
    async fn every_position_gives_the_rest_also_when_it_is_not_in_memory_any_more() {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::open(&folder.path().join("aam.db"), "test", Arc::new(SystemClock)).unwrap();
        let log = EventLog::new(registry.reader().clone(), registry.changes());
        let total = MAX_RECENT + 700;
        for chunk in (0..total).collect::<Vec<_>>().chunks(1000) {
            let one = |file: &usize| Notice::IntentProblems {
                file: format!("{file}.json"),
                problems: RecordedProblems::new([&Problem::new("", "not valid")]),
            };
            registry.record_notices(chunk.iter().map(one).collect()).await.unwrap();
        }
        let expected = |after: usize| (after + 1..=total).map(|seq| format!("{seq}-1")).collect::<Vec<_>>();
        for after in [total, total - 1, MAX_RECENT, 700, 699, 300, 0] {
            let seq = after as u64;
            assert_eq!(all(&mut log.read_after(EventId::after_entry(seq))), expected(after), "after {after}");
            assert_eq!(all(&mut log.read_after(EventId { seq, index: 1 })), expected(after), "after {after}-1");
        }
        let mut reader = log.read_after(EventId::after_entry(log.head()));
        assert_eq!(all(&mut reader), [""; 0]);
        registry
            .record_notices(vec![Notice::PolicyRejected { file: Digest::default(), problems: RecordedProblems::default() }])
            .await
            .unwrap();
        assert_eq!(all(&mut reader), [format!("{}-1", total + 1)]);
        registry.close().await;
    }
}
