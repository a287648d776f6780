//! A registry that is open only for reading, and up to where what was read is complete.

use super::{Location, Partitions, Reader, Registry, RegistryError};
use crate::clock::Clock;
use std::sync::{Arc, Mutex, PoisonError, RwLock, mpsc};
use tokio::sync::watch;

impl Registry {
    /// Opens the registry only for reading. A daemon may be writing to it at the same time; [`Registry::refresh`] reads what it
    /// has committed. Every command fails with [`RegistryError::Closed`].
    ///
    /// # Errors
    /// As [`Reader::open`], or if the ledger cannot be read.
    pub fn open_read_only(location: impl Into<Location>, clock: Arc<dyn Clock>) -> Result<Registry, RegistryError> {
        let location = location.into();
        let reader = Reader::open(&location)?;
        let (snapshot, settled) = reader.settled_snapshot()?;
        let (announce, changes) = watch::channel(settled);
        let (commands, _) = mpsc::channel();
        let (_, partitions) = watch::channel(Partitions::default());
        Ok(Registry {
            location,
            snapshot: Arc::new(RwLock::new(snapshot)),
            transactions: Arc::default(),
            commands,
            changes,
            announce: Some(announce),
            policy_file: Mutex::default(),
            reader,
            clock,
            partitions,
            others: Arc::default(),
            files: None,
        })
    }

    /// Reads the ledger again. Only for a registry that is open for reading.
    ///
    /// # Errors
    /// If the ledger cannot be read.
    pub fn refresh(&self) -> Result<(), RegistryError> {
        let (snapshot, settled) = self.reader.settled_snapshot()?;
        *self.snapshot.write().unwrap_or_else(PoisonError::into_inner) = snapshot;
        if let Some(announce) = &self.announce {
            announce.send_replace(settled);
        }
        Ok(())
    }

    /// The `seq` up to which no entry can be added any more. The fold has all entries up to it, and may have later ones: a replica
    /// can commit an entry with a smaller number than the last one of the fold.
    #[must_use]
    pub fn settled(&self) -> u64 {
        *self.changes.borrow()
    }
}
