//! What the writer tells the rest of the process about other replicas.

use super::command::Command;
use super::{Partitions, Registry};
use crate::model::ConnectionId;
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::{Notify, watch};

/// What other replicas did, and what they asked this one to do.
#[derive(Default)]
pub(super) struct Others {
    /// Notified when others changed what is desired, or asked for checks.
    plans: Notify,
    /// Counts the looks that found results of attempts of others.
    results: watch::Sender<u64>,
    heals: Mutex<BTreeSet<ConnectionId>>,
    /// The partitions that this process has, and until when at least. `None` while there are none to lose: the registry is a file.
    leases: Mutex<Option<(Partitions, Instant)>>,
}

impl Others {
    /// Tells what a look at the chains of others found.
    pub(super) fn tell(&self, changes_plan: bool, changes_result: bool) {
        if changes_plan {
            self.plans.notify_one();
        }
        if changes_plan || changes_result {
            self.results.send_modify(|count| *count += 1);
        }
    }

    /// Passes on what people asked other replicas to check.
    pub(super) fn ask_to_heal(&self, connections: impl Iterator<Item = ConnectionId>) {
        let mut heals = lock(&self.heals);
        let before = heals.len();
        heals.extend(connections);
        if heals.len() > before {
            self.plans.notify_one();
        }
    }

    pub(super) fn leases_last(&self, held: Partitions, until: Instant) {
        *lock(&self.leases) = Some((held, until));
    }

    fn may_call(&self, source_of: Option<ConnectionId>, now: Instant) -> Result<(), String> {
        match *lock(&self.leases) {
            Some((_, until)) if now >= until => {
                Err("this replica could not renew its leases in the database of the registry".to_string())
            }
            Some((held, _)) if source_of.is_some_and(|connection| !held.has(connection)) => {
                Err("another replica has this connection now".to_string())
            }
            _ => Ok(()),
        }
    }

    pub(super) fn take_heals(&self) -> BTreeSet<ConnectionId> {
        std::mem::take(&mut *lock(&self.heals))
    }

    pub(super) async fn changed(&self) {
        self.plans.notified().await;
    }

    pub(super) fn results(&self) -> watch::Receiver<u64> {
        self.results.subscribe()
    }
}

fn lock<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Registry {
    /// The partitions in which this process may begin attempts: all of them, unless the registry is a database that several
    /// replicas share. Notifies when they change.
    #[must_use]
    pub fn partitions(&self) -> watch::Receiver<Partitions> {
        self.partitions.clone()
    }

    /// Whether this process is the one that reads folder and policy into the ledger and sends messages. Of the replicas that share
    /// a database, at most one is.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.partitions.borrow().contains(0)
    }

    /// Whether this process may call the source of a connection now, or anything if none is given.
    ///
    /// # Errors
    /// Why not: it could not renew its leases, or another process has the connection.
    pub fn may_call(&self, source_of: Option<ConnectionId>) -> Result<(), String> {
        self.others.may_call(source_of, Instant::now())
    }

    /// Waits until other replicas changed what is desired, or passed on a request to check connections.
    pub async fn changed_by_others(&self) {
        self.others.changed().await;
    }

    /// Notifies when attempts of other replicas had results.
    #[must_use]
    pub fn results_of_others(&self) -> watch::Receiver<u64> {
        self.others.results()
    }

    /// Takes the connections that people asked other replicas to check now.
    #[must_use]
    pub fn take_heals(&self) -> BTreeSet<ConnectionId> {
        self.others.take_heals()
    }

    /// Passes a request to check connections now on to the replicas that have them.
    pub fn ask_to_heal(&self, connections: Vec<ConnectionId>) {
        let _ = self.commands.send(Command::AskToHeal { connections });
    }

    /// Says where this process listens and which policy file it has, so that people can tell the replicas apart.
    pub fn describe(&self, address: String, policy: String) {
        let _ = self.commands.send(Command::Describe { address, policy });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_source_is_called_while_its_connection_is_held() {
        let (others, now) = (Others::default(), Instant::now());
        let [mine, other] = [1, 2].map(|byte: u128| ConnectionId(uuid::Uuid::from_u128(byte << 120)));
        assert_eq!(others.may_call(Some(other), now), Ok(()), "a registry in a file");
        let until = now + Duration::from_secs(15);
        others.leases_last([mine.partition()].into_iter().collect(), until);
        assert_eq!(others.may_call(Some(mine), now), Ok(()));
        assert_eq!(others.may_call(None, now), Ok(()), "what is not a source");
        assert!(others.may_call(Some(other), now).unwrap_err().contains("another replica"));
        for what in [Some(mine), None] {
            assert!(others.may_call(what, until).unwrap_err().contains("could not renew"));
        }
    }
}
