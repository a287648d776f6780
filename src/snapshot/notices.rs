//! The part of the fold that concerns no single connection: policy files, problems of the intents folder, and webhooks.

use super::Snapshot;
use crate::model::ledger::{Entry, Fact};
use crate::model::{ConnectionId, Timestamp, ending};
use std::sync::Arc;

/// How far a webhook has got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookCursor {
    /// The webhook has received the events of all entries up to this one.
    pub up_to: u64,
    /// When it accepted the last message.
    pub delivered: Option<Timestamp>,
    /// Why it receives nothing any more, although the policy names it.
    pub stopped: Option<Arc<str>>,
}

impl Snapshot {
    /// Applies an entry that concerns the whole registry.
    pub(super) fn apply_global(&mut self, entry: &Entry, fact: &Fact) {
        match fact {
            Fact::PolicyRejected { file, .. } => self.policy_file = Some((*file, false)),
            Fact::IntentProblems { file, problems } if problems.total == 0 => {
                self.intent_problems.remove(file.as_str());
            }
            Fact::IntentProblems { file, problems } => {
                self.intent_problems.insert(file.as_str().into(), problems.digest());
            }
            Fact::WebhookStarted { webhook } => {
                let cursor = WebhookCursor { up_to: entry.seq, delivered: None, stopped: None };
                self.webhooks.insert(webhook.as_str().into(), cursor);
            }
            Fact::WebhookDelivered { webhook, up_to, .. } => {
                if let Some(cursor) = self.webhooks.get_mut(webhook.as_str()) {
                    cursor.up_to = cursor.up_to.max(*up_to);
                    cursor.delivered = Some(entry.at);
                }
            }
            Fact::WebhookStopped { webhook, reason } if reason.is_empty() => {
                self.webhooks.remove(webhook.as_str());
            }
            Fact::WebhookStopped { webhook, reason } => {
                if let Some(cursor) = self.webhooks.get_mut(webhook.as_str()) {
                    cursor.stopped = Some(reason.as_str().into());
                }
            }
            _ => {}
        }
    }

    /// Forgets what was recorded of the end of a credential that was replaced since.
    pub(super) fn forget_replaced_credential(&mut self, id: ConnectionId, ends_at: Option<Timestamp>) {
        if self.expiring.get(&id).is_some_and(|(known, _)| !ending::is_same_day(Some(*known), ends_at)) {
            self.expiring.remove(&id);
        }
    }
}
