//! What is recorded because people are notified of it, and how far the webhooks of the policy have got.

use super::RegistryError;
use super::command::{Notice, WebhookMessage};
use super::writer::Writer;
use crate::model::Digest;
use crate::model::ledger::Fact;
use sqlstore::params;
use std::sync::Arc;

impl Writer {
    /// Records that a policy is in force, and which webhooks it adds and removes. Appends nothing if the policy is in force
    /// already and the file was not rejected since.
    pub(super) fn accept_policy(&mut self, policy: Digest, text: String, webhooks: &[String]) -> Result<(), RegistryError> {
        let was_rejected = self.policy_file().is_some_and(|(_, accepted)| !accepted);
        let in_force = self.policy().is_some_and(|(digest, _)| digest == policy);
        if in_force && !was_rejected {
            return Ok(());
        }
        self.append("", None, Fact::PolicyAccepted { policy }, Some(text))?;
        let known = self.webhooks();
        for removed in known.iter().filter(|known| !webhooks.iter().any(|name| **name == ***known)) {
            let (webhook, reason) = (removed.to_string(), String::new());
            self.record_notices(vec![Notice::WebhookStopped { webhook, reason }])?;
        }
        for added in webhooks.iter().filter(|name| !known.iter().any(|known| **known == ***name)) {
            self.append("", None, Fact::WebhookStarted { webhook: added.clone() }, None)?;
        }
        Ok(())
    }

    /// Appends the facts of `notices`. Those of connections that were retired meanwhile are left out.
    pub(super) fn record_notices(&mut self, notices: Vec<Notice>) -> Result<(), RegistryError> {
        for notice in notices {
            let (connection, fact) = notice.into_fact();
            let namespace = match connection {
                None => String::new(),
                Some(id) => {
                    let known = self.with_known(id, |known| {
                        known.filter(|known| known.retired.is_none()).map(|known| known.namespace.to_string())
                    });
                    match known.filter(|namespace| !self.closed(namespace)) {
                        Some(namespace) => namespace,
                        None => continue,
                    }
                }
            };
            if let Fact::WebhookDelivered { webhook, .. } | Fact::WebhookStopped { webhook, .. } = &fact {
                self.db.prepare_cached("DELETE FROM webhook_messages WHERE webhook = ?1")?.execute([webhook])?;
            }
            self.append(&namespace, connection, fact, None)?;
        }
        Ok(())
    }

    /// Stores which message a webhook is sent and when it is tried next.
    pub(super) fn store_message(&mut self, message: &WebhookMessage) -> Result<(), RegistryError> {
        let WebhookMessage { webhook, up_to, tries, next_at, problem } = message;
        self.db
            .prepare_cached(
                "INSERT INTO webhook_messages (webhook, up_to, tries, next_at, problem) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (webhook) DO UPDATE SET up_to = excluded.up_to, tries = excluded.tries, next_at = excluded.next_at,
                   problem = excluded.problem",
            )?
            .execute(params![webhook, up_to, tries, next_at.0, problem])?;
        Ok(())
    }

    /// The digest of the policy file that was judged last, and whether it was accepted.
    fn policy_file(&self) -> Option<(Digest, bool)> {
        self.batch.view.policy_file.or(self.snapshot().policy_file)
    }

    /// The webhooks that receive events or were stopped because they failed.
    fn webhooks(&self) -> Vec<Arc<str>> {
        self.snapshot().webhooks.keys().cloned().collect()
    }
}
