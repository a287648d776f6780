//! Which AAM a source belongs to.
//!
//! Two installations of AAM that have the same intent give its connection the same id. If both use the same workspace, each needs
//! a source of its own, so the name of a source carries a mark of the installation: the digest of the first entry of its
//! registry. It is not secret, and it stays the same if the registry is moved, restored, or copied into a database.

use crate::model::{Class, Digest, Failure};
use std::sync::{Arc, OnceLock};

/// The mark of `aam test` on a machine that does not have a registry. Such a source never becomes that of a daemon.
const TEST_MARK: &str = "aam test";

type FirstEntry = dyn Fn() -> Result<Option<Digest>, String> + Send + Sync;

/// Reads the mark of this installation once it is needed.
#[derive(Clone)]
pub struct Installation {
    /// Returns the digest of the first entry of the registry. Blocks.
    first: Arc<FirstEntry>,
    known: Arc<OnceLock<Digest>>,
    /// Whether there may be no registry.
    is_test: bool,
}

/// The mark of an installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The text in the names of its sources.
    pub text: String,
    /// Whether it may take over sources that an earlier version of AAM made, whose names do not have a mark.
    pub takes_over: bool,
}

impl Installation {
    /// Creates an installation with a registry. `first` returns the digest of its first entry; it may block.
    #[must_use]
    pub fn new(first: impl Fn() -> Result<Option<Digest>, String> + Send + Sync + 'static) -> Installation {
        Installation { first: Arc::new(first), known: Arc::default(), is_test: false }
    }

    /// Creates the installation of a command that does not write to a registry. `first` is the digest of the first entry of the
    /// registry of this machine, if it has one.
    #[must_use]
    pub fn of_test(first: Option<Digest>) -> Installation {
        Installation { first: Arc::new(move || Ok(first)), known: Arc::default(), is_test: true }
    }

    /// Returns the mark.
    ///
    /// # Errors
    /// Returns `Remote` if the registry cannot be read.
    pub async fn mark(&self) -> Result<Mark, Failure> {
        if let Some(known) = self.known.get() {
            return Ok(Mark { text: known.short(), takes_over: true });
        }
        let first = Arc::clone(&self.first);
        let read = tokio::task::spawn_blocking(move || first()).await.unwrap_or_else(|error| Err(error.to_string()));
        match read {
            Ok(Some(first)) => {
                let known = self.known.get_or_init(|| first);
                Ok(Mark { text: known.short(), takes_over: true })
            }
            Ok(None) if self.is_test => Ok(Mark { text: TEST_MARK.to_string(), takes_over: false }),
            Ok(None) => Err(unreadable("it does not have an entry")),
            Err(error) => Err(unreadable(&error)),
        }
    }
}

fn unreadable(why: &str) -> Failure {
    Failure::new(
        Class::Remote,
        "the first entry of the registry could not be read, which marks the sources of this AAM at Airbyte",
        "AAM retries automatically; aam verify checks the registry",
    )
    .detail(why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn the_mark_is_read_once_and_never_invented() {
        let (first, reads) = (Digest::from_bytes(b"first"), Arc::new(AtomicUsize::new(0)));
        let counter = Arc::clone(&reads);
        // The registry cannot be read at first.
        let installation = Installation::new(move || match counter.fetch_add(1, Ordering::SeqCst) {
            0 => Err("the disk is full".to_string()),
            1 => Ok(None),
            _ => Ok(Some(first)),
        });
        for _ in 0..2 {
            assert_eq!(installation.mark().await.unwrap_err().class, Class::Remote);
        }
        for _ in 0..3 {
            assert_eq!(installation.mark().await, Ok(Mark { text: first.short(), takes_over: true }));
        }
        assert_eq!(reads.load(Ordering::SeqCst), 3);
        let test = Installation::of_test(None).mark().await.unwrap();
        assert_eq!(test, Mark { text: "aam test".to_string(), takes_over: false });
        assert_eq!(Installation::of_test(Some(first)).mark().await, installation.mark().await);
    }
}
