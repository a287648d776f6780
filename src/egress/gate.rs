//! Whether this process may make calls at all.
//!
//! A replica may call only while it can prove that it holds the leases of its connections. A process that was stopped for longer
//! than a lease does not know that another one has taken them. So the gate is asked again after every wait, and once more when a
//! connection is open. An attempt that still runs when another replica has taken its connection calls its source no more.

use super::refusals;
use super::{Caller, Egress};
use crate::model::{CallPurpose, ConnectionId, Failure};
use std::sync::{Arc, PoisonError, RwLock};

/// Returns why this process may not call now: the source of this connection, or anything. It is asked several times for each call, so
/// it must be fast and must not block.
pub type CallPermission = dyn Fn(Option<ConnectionId>) -> Result<(), String> + Send + Sync;

/// The gate of an egress. It is open until [`Egress::set_gate`].
#[derive(Default)]
pub struct Gate(RwLock<Option<Arc<CallPermission>>>);

/// A call was given up because the gate was closed while its connection was opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct GateClosed(pub String);

impl Gate {
    /// Asks whether any call may be made now.
    pub(super) fn ask(&self) -> Result<(), GateClosed> {
        self.ask_for(None)
    }

    fn ask_for(&self, source_of: Option<ConnectionId>) -> Result<(), GateClosed> {
        let permission = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        permission.map_or(Ok(()), |permission| permission(source_of).map_err(GateClosed))
    }

    /// Asks whether `caller` may make a call now. Any replica may call vaults and token endpoints, for the answer to a link for
    /// example.
    pub(super) fn admit(&self, caller: &Caller) -> Result<(), Failure> {
        let source_of = (caller.purpose == CallPurpose::Source).then_some(caller.connection);
        self.ask_for(source_of).map_err(|GateClosed(reason)| refusals::not_permitted(caller, &reason))
    }
}

impl Egress {
    /// Lets `permission` decide from now on whether calls may be made. It is asked before each call, after each wait of a call,
    /// and when its connection is open. A call that it refuses is not sent and counts for neither the source nor its host.
    pub fn set_gate(&self, permission: Arc<CallPermission>) {
        *self.gate.0.write().unwrap_or_else(PoisonError::into_inner) = Some(permission);
    }
}
