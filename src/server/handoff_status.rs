//! What became of the candidates of a handoff: the connections that they ask for, and those that they do not allow any more.

use super::app::App;
use super::handoff::CandidateStatus;
use crate::handoff::{Decision, JudgedCandidate};
use crate::model::{ConnectionId, Origin, Timestamp};
use crate::plan::departures::Holds;
use crate::policy::Policy;
use crate::report::holds::{self, HeldBody};
use crate::snapshot::Snapshot;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The retirement of connections that a handoff does not allow any more, if it waits for a confirmation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HandoffHold {
    /// The digest of the change, for `POST /holds/{digest}/confirm` and `aam confirm`. A change that grows gets another one.
    pub digest: String,
    pub message: String,
    /// How to confirm the change, and what to do if it is not meant.
    pub fix: String,
}

/// The connections that a handoff withdraws.
#[derive(Clone, Debug, Default)]
pub(super) struct Withdrawals {
    /// Those that an earlier handoff of the same token asked for, in order of their ids.
    pub connections: Vec<ConnectionId>,
    pub held: Option<HandoffHold>,
}

impl Withdrawals {
    /// Finds which of `not_allowed` the handoffs of `origin` ask for until now, and whether their retirement will be held.
    pub(super) fn find(
        app: &App,
        policy: &Policy,
        (namespace, origin): (&str, &Origin),
        not_allowed: &[ConnectionId],
        now: Timestamp,
    ) -> Withdrawals {
        let snapshot = app.handle.registry.snapshot();
        let is_desired = |id: &ConnectionId| {
            let known = snapshot.connections.get(id);
            known.is_some_and(|known| known.origins.iter().any(|desired| desired.origin == *origin))
        };
        let connections: Vec<ConnectionId> = not_allowed.iter().copied().filter(is_desired).collect();
        let hold = app.handle.holds.load().foresee(&snapshot, policy, (namespace, origin), &connections, now);
        let held = hold.map(|hold| HandoffHold {
            digest: hold.digest.to_string(),
            message: "so many connections would be retired at once that this waits for a confirmation; they keep their state, and AAM does not call them any more".to_string(),
            fix: holds::fix(&hold),
        });
        Withdrawals { connections, held }
    }
}

/// Returns a candidate with the present state of its connection.
pub(super) fn candidate_status(judged: JudgedCandidate, snapshot: &Snapshot, holds: &Holds) -> CandidateStatus {
    let state = |id: &ConnectionId| snapshot.connections.get(id).map(|known| known.state().as_str().to_string());
    let empty = CandidateStatus {
        candidate: judged.candidate,
        decision: String::new(),
        connection_id: None,
        status: None,
        held: None,
        reason: None,
        rejection_type: None,
    };
    match judged.decision {
        Decision::Connect { connection } => CandidateStatus {
            decision: "connect".to_string(),
            connection_id: Some(connection.to_string()),
            status: state(&connection),
            held: HeldBody::new(holds, connection),
            ..empty
        },
        Decision::InventoryOnly { connection } => {
            let known = connection.and_then(|id| Some((id, state(&id)?)));
            CandidateStatus {
                decision: "inventory_only".to_string(),
                connection_id: known.as_ref().map(|(id, _)| id.to_string()),
                held: known.as_ref().and_then(|(id, _)| HeldBody::new(holds, *id)),
                status: known.map(|(_, state)| state),
                ..empty
            }
        }
        Decision::Rejected { reason, rejection_type } => CandidateStatus {
            decision: "rejected".to_string(),
            reason: Some(reason),
            rejection_type: Some(rejection_type),
            ..empty
        },
    }
}
