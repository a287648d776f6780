//! Whether this process may make calls at all.
//!
//! A replica may call only while it can prove that it holds the leases of its connections. A process that was stopped for longer
//! than a lease does not know that another one has taken them. So the gate is asked again after every wait, and once more when a
//! connection is open.

use super::refusals;
use super::{Caller, Egress};
use crate::model::Failure;
use std::sync::{Arc, PoisonError, RwLock};

/// Returns why this process may not call now. It is asked several times for each call, so it must be fast and must not block.
pub type CallPermission = dyn Fn() -> Result<(), String> + Send + Sync;

/// The gate of an egress. It is open until [`Egress::set_gate`].
#[derive(Default)]
pub struct Gate(RwLock<Option<Arc<CallPermission>>>);

/// A call was given up because the gate was closed while its connection was opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct GateClosed(pub String);

impl Gate {
    /// Asks whether a call may be made now.
    pub(super) fn ask(&self) -> Result<(), GateClosed> {
        let permission = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        permission.map_or(Ok(()), |permission| permission().map_err(GateClosed))
    }

    /// Asks whether `caller` may make a call now.
    pub(super) fn admit(&self, caller: &Caller) -> Result<(), Failure> {
        self.ask().map_err(|GateClosed(reason)| refusals::not_permitted(caller, &reason))
    }
}

impl Egress {
    /// Lets `permission` decide from now on whether calls may be made. It is asked before each call, after each wait of a call,
    /// and when its connection is open. A call that it refuses is not sent and counts for neither the source nor its host.
    pub fn set_gate(&self, permission: Arc<CallPermission>) {
        *self.gate.0.write().unwrap_or_else(PoisonError::into_inner) = Some(permission);
    }
}
