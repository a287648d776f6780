//! What the writer records when a discovery tool hands candidates over.

use super::RegistryError;
use super::command::{HandoffReceipt, NewHandoff};
use super::writer::Writer;
use crate::model::Digest;
use crate::model::ledger::Fact;
use crate::snapshot::Snapshot;

impl Writer {
    /// Accepts the intents of a handoff and records it, unless its run is recorded already.
    pub(super) fn handoff(&mut self, handoff: NewHandoff) -> Result<HandoffReceipt, RegistryError> {
        self.refuse_sealed(&handoff.namespace)?;
        if let Some((content, seq)) = self.known_handoff(&handoff.namespace, &handoff.facts.run) {
            return Ok(HandoffReceipt::Known { content, seq });
        }
        self.accept(handoff.documents)?;
        // Whether they are retired is decided for all of them together, as for the files of the folder.
        for connection in handoff.withdrawn {
            self.withdraw_origin(connection, handoff.origin.clone(), "a handoff says that it may not be connected")?;
        }
        self.append(&handoff.namespace, None, Fact::HandoffReceived(handoff.facts), Some(handoff.body))?;
        Ok(HandoffReceipt::Recorded)
    }

    /// The content and the sequence number of the handoff of a discovery run, if it is recorded.
    fn known_handoff(&self, namespace: &str, run: &str) -> Option<(Digest, u64)> {
        let key = (namespace.to_string(), run.to_string());
        let find = |snapshot: &Snapshot| snapshot.handoffs.get(&key).map(|known| (known.facts.content, known.seq));
        find(&self.batch.view).or_else(|| find(&self.snapshot()))
    }
}
