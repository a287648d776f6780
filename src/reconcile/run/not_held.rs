//! What becomes of an attempt that may not begin or does not count: another replica has its connection, or another policy is in
//! force.

use super::Loop;
use crate::model::ledger::Why;
use crate::plan::{self, PlanItem};
use std::time::Duration;

/// How long such an attempt waits. A new policy or another division is usually known here much earlier, and causes a plan. A policy
/// that this version cannot parse is not, until this process is upgraded.
const NOT_HELD_RETRY: Duration = Duration::from_secs(1);

impl Loop {
    /// Plans the connection again, not at once, or passes a check that a person asked for on to the replica that has it.
    pub(super) fn not_held(&mut self, item: PlanItem) {
        let (connection, was_asked) = (item.connection, item.why == Why::Heal);
        if !self.partitions.has(connection) {
            self.queue.put(connection, None);
            if was_asked {
                self.handle.registry.ask_to_heal(vec![connection]);
            }
            return;
        }
        let now = self.handle.clock.now();
        let snapshot = self.handle.registry.snapshot();
        let again = plan::plan_one(&snapshot, connection, &self.context, was_asked, now);
        drop(snapshot);
        let soonest = now.plus(NOT_HELD_RETRY);
        self.queue.put(connection, again.map(|again| PlanItem { due: again.due.max(soonest), ..again }));
    }
}
