//! When the fold is stored: after a start that folded many rows, each time many more were appended, and at the end.

use super::super::{Location, Reader};
use super::{file, path_of};
use crate::snapshot::Snapshot;
use crate::snapshot::chain_rows::ChainRows;
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Instant;

/// The number of rows that are worth storing after a start and at the end. To fold them takes about 50 ms.
const MIN_ROWS: u64 = 10_000;
/// The number of rows after which the fold is stored again while the process runs.
const STORE_ROWS: u64 = 50_000;
/// The fold is stored at the earliest when as many rows were appended as a quarter of the connections, so that the cost of
/// storing a row does not grow with their number.
const CONNECTIONS_PER_ROW: u64 = 4;
/// If commands never pause, the fold is stored after this many times the rows.
const OVERDUE: u64 = 4;

/// Stores the fold of one registry from time to time, in a thread of its own, so that no command waits for it.
pub(in super::super) struct FoldKeeper {
    registry: Location,
    /// The last row that is in the stored fold, or that the latest try was to store.
    stored: u64,
    /// The number of rows after which the fold is stored the next time.
    interval: u64,
    /// Returns whether the fold was stored.
    running: Option<JoinHandle<bool>>,
}

impl FoldKeeper {
    /// `stored` is the last row of the stored fold that the registry was opened with, or 0.
    pub(in super::super) fn new(registry: &Location, stored: u64) -> FoldKeeper {
        FoldKeeper { registry: registry.clone(), stored, interval: MIN_ROWS, running: None }
    }

    /// Whether the fold is to be stored as soon as no command comes for a while. `seq` is the last row of the ledger. Stores it
    /// at once if commands have not paused for very long.
    pub(in super::super) fn is_due(&mut self, seq: u64, snapshot: &Arc<RwLock<Snapshot>>) -> bool {
        if self.running.as_ref().is_some_and(|running| !running.is_finished()) {
            return false;
        }
        self.wait();
        let rows = seq.saturating_sub(self.stored);
        if rows < self.interval {
            return false;
        }
        if rows >= STORE_ROWS.max(self.interval).saturating_mul(OVERDUE) {
            self.store(seq, snapshot);
            return false;
        }
        true
    }

    /// Begins to store the fold.
    pub(in super::super) fn store(&mut self, seq: u64, snapshot: &Arc<RwLock<Snapshot>>) {
        self.wait();
        self.stored = seq;
        let connections = snapshot.read().unwrap_or_else(PoisonError::into_inner).connections.len();
        self.interval = STORE_ROWS.max(u64::try_from(connections).unwrap_or(u64::MAX) / CONNECTIONS_PER_ROW);
        let (registry, snapshot) = (self.registry.clone(), Arc::clone(snapshot));
        let thread = std::thread::Builder::new().name("registry-fold".to_string());
        match thread.spawn(move || store(&registry, &snapshot)) {
            Ok(running) => self.running = Some(running),
            Err(error) => tracing::warn!(target: "aam::registry", %error, "could not start a thread to store the fold"),
        }
    }

    /// Waits for the thread, and stores the fold if it lacks many rows. Nothing may be appended any more.
    pub(in super::super) fn close(&mut self, seq: u64, snapshot: &RwLock<Snapshot>) {
        self.wait();
        if seq.saturating_sub(self.stored) >= MIN_ROWS {
            self.stored = seq;
            store(&self.registry, snapshot);
        }
    }

    /// Waits for the thread. If it could not store the fold, for example because the disk was full, that is tried again soon.
    fn wait(&mut self) {
        if let Some(running) = self.running.take()
            && !running.join().unwrap_or(false)
        {
            self.interval = MIN_ROWS;
        }
    }
}

/// The file is written only while this process holds the registry.
impl Drop for FoldKeeper {
    fn drop(&mut self) {
        self.wait();
    }
}

/// Stores the fold and logs the result. A failure only costs time at the next start. Returns whether the fold was stored.
fn store(registry: &Location, snapshot: &RwLock<Snapshot>) -> bool {
    let (file, started) = (path_of(registry), Instant::now());
    let end = |seq: u64, rows: &ChainRows| {
        Reader::open(registry).and_then(|reader| reader.end_of_fold(seq, rows)).map_err(|error| error.to_string())
    };
    let written = file::write(&file, snapshot, end);
    match &written {
        Ok(written) => {
            let ms = started.elapsed().as_millis();
            tracing::info!(target: "aam::registry", row = written.seq, bytes = written.bytes, ms, "stored the fold of the ledger");
        }
        Err(error) => {
            let file = file.display();
            tracing::warn!(target: "aam::registry", %file, %error, "could not store the fold of the ledger; the next start takes longer");
        }
    }
    crate::memory::release_free();
    written.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fold_is_due_after_many_rows_and_then_after_more() {
        let folder = tempfile::tempdir().expect("a folder");
        let (registry, snapshot) = (Location::file(folder.path().join("aam.db")), Arc::new(RwLock::new(Snapshot::default())));
        let mut keeper = FoldKeeper::new(&registry, 5);
        assert!(!keeper.is_due(MIN_ROWS + 4, &snapshot));
        assert!(keeper.is_due(MIN_ROWS + 5, &snapshot));
        // The registry does not exist, so this fails, and it is tried again after some more rows.
        keeper.store(MIN_ROWS + 5, &snapshot);
        assert_eq!(keeper.interval, STORE_ROWS, "as if it had been stored");
        keeper.wait();
        assert!(!keeper.is_due(MIN_ROWS + 4 + MIN_ROWS, &snapshot));
        assert!(keeper.is_due(MIN_ROWS + 5 + MIN_ROWS, &snapshot));
        let overdue = MIN_ROWS + 5 + STORE_ROWS * OVERDUE;
        assert!(!keeper.is_due(overdue, &snapshot), "it is stored at once");
        assert_eq!(keeper.stored, overdue);
        keeper.wait();
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0, "nothing is left behind");
    }
}
