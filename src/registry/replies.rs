//! The replies to the commands of a transaction, which are sent when it is committed or has failed.

use super::RegistryError;
use super::command::Command;
use super::writer::PendingReply;
use tokio::sync::oneshot;

/// Holds back the reply until the commit. A refusal is only reported to the caller; any other error fails the batch.
pub(super) fn reply_later<T: Send + 'static>(
    result: Result<T, RegistryError>,
    reply: oneshot::Sender<Result<T, RegistryError>>,
    batch: &mut Result<(), RegistryError>,
) -> PendingReply {
    let result = match result {
        Ok(value) => Ok(value),
        Err(refusal @ (RegistryError::Sealed(_) | RegistryError::NotHeld)) => Err(refusal),
        Err(error) => {
            let copy = error.copy();
            *batch = Err(error);
            Err(copy)
        }
    };
    Box::new(move |committed| {
        let _ = reply.send(committed.and(result));
    })
}

/// The reply to a command of a batch that has already failed.
pub(super) fn reject(command: Command, error: &RegistryError) -> PendingReply {
    let error = error.copy();
    match command {
        Command::Accept { reply, .. } | Command::RecordScan { reply, .. } => Box::new(move |_| drop(reply.send(Err(error)))),
        Command::Withdraw { reply, .. }
        | Command::Retire { reply, .. }
        | Command::RetireOrphans { reply, .. }
        | Command::Confirm { reply, .. }
        | Command::AcceptPolicy { reply, .. }
        | Command::StoreAnswer { reply, .. }
        | Command::RecordNotices { reply, .. }
        | Command::StoreMessage { reply, .. }
        | Command::RecordCalls { reply, .. }
        | Command::NameArchive { reply, .. }
        | Command::Probe { reply }
        | Command::RecordStopped { reply } => Box::new(move |_| drop(reply.send(Err(error)))),
        Command::Handoff { reply, .. } => Box::new(move |_| drop(reply.send(Err(error)))),
        Command::Begin { reply, .. } => Box::new(move |_| drop(reply.send(Err(error)))),
        Command::Finish { reply, .. } => Box::new(move |_| drop(reply.send(Err(error)))),
        Command::AnchorCalls { reply } => Box::new(move |_| drop(reply.send(Err(error)))),
        Command::DropCalls { reply, .. } | Command::Seal { reply, .. } | Command::RemoveArchived { reply } => {
            Box::new(move |_| drop(reply.send(Err(error))))
        }
        Command::TakeBudget { reply, .. } => Box::new(move |_| drop(reply.send(Err(error)))),
        Command::Limits { reply, .. } => Box::new(move |_| drop(reply.send(Err(error)))),
        Command::Describe { .. } | Command::HasPolicyFile { .. } | Command::AskToHeal { .. } => Box::new(|_| ()),
        Command::Close { done } => Box::new(move |_| drop(done)),
    }
}
