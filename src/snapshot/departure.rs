//! What is remembered of a connection that may leave, so that it can stay as it is until that is confirmed.

use super::{Connection, Desired};
use crate::model::{Digest, Origin, Timestamp};
use std::sync::Arc;

/// The origin that desired a connection last, and when it stopped.
#[derive(Clone, Debug, PartialEq)]
pub struct Withdrawn {
    pub desired: Desired,
    pub at: Timestamp,
}

/// The document that the latest attempt was made with, if another one is in force since.
#[derive(Clone, Debug, PartialEq)]
pub struct Superseded {
    /// The `seq` of the entry whose body is the document.
    pub document: u64,
    pub generation: u32,
    pub spec: Digest,
    pub locator: Option<Arc<str>>,
    /// The origin that desired it.
    pub origin: Origin,
    /// When the first document was accepted that replaced it.
    pub at: Timestamp,
}

impl Connection {
    /// The connection as it was before it lost its last origin or got another document.
    #[must_use]
    pub fn before_departure(&self) -> Connection {
        let mut before = self.clone();
        if let Some(superseded) = &self.superseded {
            before.document = superseded.document;
            before.generation = superseded.generation;
            before.spec = superseded.spec;
            before.locator.clone_from(&superseded.locator);
            before.origins = vec![Desired {
                origin: superseded.origin.clone(),
                seq: superseded.document,
                spec: superseded.spec,
                locator: superseded.locator.clone(),
            }];
        } else if let Some(withdrawn) = self.withdrawn.as_ref().filter(|_| self.origins.is_empty()) {
            before.origins = vec![withdrawn.desired.clone()];
        }
        before
    }

    /// The origin of the document in force.
    pub(super) fn origin_before(&self) -> Option<Origin> {
        self.origins_in_force().next().cloned()
    }

    /// Remembers the document in force before another one replaces it, if the latest attempt was made with it.
    pub(super) fn supersede(&mut self, origin: Option<Origin>, at: Timestamp) {
        let attempted = self.last.as_ref().is_some_and(|last| last.facts.generation == self.generation);
        let Some(origin) = origin.filter(|_| attempted) else { return };
        self.superseded = Some(Box::new(Superseded {
            document: self.document,
            generation: self.generation,
            spec: self.spec,
            locator: self.locator.clone(),
            origin,
            at,
        }));
    }
}
