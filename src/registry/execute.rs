//! Which code executes which command.

use super::RegistryError;
use super::command::Command;
use super::replies::reply_later;
use super::writer::{PendingReply, Writer};

impl Writer {
    /// Executes one command in the open transaction. A refusal concerns only this command; an SQL error fails the batch.
    pub(super) fn execute(&mut self, command: Command, batch: &mut Result<(), RegistryError>) -> PendingReply {
        match command {
            Command::Accept { documents, reply } => reply_later(self.accept(documents), reply, batch),
            Command::Withdraw { withdrawn, reason, reply } => reply_later(self.withdraw(withdrawn, &reason), reply, batch),
            Command::Handoff { handoff, reply } => reply_later(self.handoff(*handoff), reply, batch),
            Command::RetireOrphans { connections, reply } => reply_later(self.retire_orphans(&connections), reply, batch),
            Command::Confirm { members, by, reply } => reply_later(self.confirm(members, &by), reply, batch),
            Command::Retire { connection, origins, reason, reply } => {
                reply_later(self.retire(connection, origins, &reason), reply, batch)
            }
            Command::Begin { connection, context, budget_reservations, reply } => {
                reply_later(self.begin_with_budget(connection, context, &budget_reservations), reply, batch)
            }
            Command::Finish { finish, reply } => reply_later(self.finish(*finish), reply, batch),
            Command::AcceptPolicy { policy, text, webhooks, reply } => {
                reply_later(self.accept_policy(policy, text, &webhooks), reply, batch)
            }
            Command::RecordNotices { notices, reply } => reply_later(self.record_notices(notices), reply, batch),
            Command::StoreMessage { message, reply } => reply_later(self.store_message(&message), reply, batch),
            Command::Seal { namespace, documents, reply } => reply_later(self.seal(&namespace, documents), reply, batch),
            Command::TakeBudget { account, day, wanted, limit, reply } => {
                reply_later(self.take_budget(&account, day, wanted, limit), reply, batch)
            }
            Command::RecordScan { findings, reply } => reply_later(self.record_scan(*findings), reply, batch),
            Command::StoreAnswer { key, answer, reply } => reply_later(self.store_answer(&key, &answer), reply, batch),
            Command::RecordCalls { batches, reply } => reply_later(self.record_calls(&batches), reply, batch),
            Command::AnchorCalls { reply } => reply_later(self.anchor_calls(), reply, batch),
            Command::DropCalls { before, reply } => reply_later(self.drop_calls(before), reply, batch),
            Command::Describe { address, policy } => {
                if let Some(leases) = &mut self.leases {
                    (leases.facts.address, leases.facts.policy) = (address, policy);
                }
                Box::new(|_| ())
            }
            Command::HasPolicyFile { policy } => {
                if let Some(leases) = &mut self.leases {
                    leases.facts.policy = policy;
                }
                Box::new(|_| ())
            }
            Command::AskToHeal { connections } => {
                if let Err(error) = self.ask_to_heal(&connections) {
                    *batch = Err(error);
                }
                Box::new(|_| ())
            }
            Command::Limits { ask, reply } => reply_later(self.limits(ask), reply, batch),
            Command::NameArchive { fact, reply } => reply_later(self.name_archive(*fact), reply, batch),
            Command::RemoveArchived { reply } => reply_later(self.remove_archived(), reply, batch),
            Command::Probe { reply } => reply_later(self.probe(), reply, batch),
            Command::RecordStopped { reply } => reply_later(self.record_stopped(), reply, batch),
            Command::Close { done } => Box::new(move |_| drop(done)),
        }
    }
}
