//! What of many connections at once the loop decides: which of them leave, and which are tried again after an outage.

use super::Loop;
use crate::model::{ConnectionId, Intent, Timestamp};
use crate::plan::departures::{DepartureKind, Holds};
use crate::plan::{self, PlanItem};
use crate::reconcile::departures::DepartureFinder;
use crate::registry::RegistryError;
use crate::snapshot::Snapshot;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

impl Loop {
    /// Retires what no intent asks for any more, unless so much leaves at once that it is held.
    pub(super) async fn settle_departures(&mut self) -> Result<(), RegistryError> {
        self.refresh_context();
        let handle = Arc::clone(&self.handle);
        let registry = &handle.registry;
        let mut changed = self.planned.and_then(|revision| registry.snapshot().changed_after(revision));
        if let Some(changed) = &mut changed {
            changed.extend(&self.replan_next);
        }
        {
            let document = |seq: u64| -> Option<Intent> { serde_json::from_str(&registry.reader().body(seq).ok()??).ok() };
            let finder = DepartureFinder { engines: &self.env.engines, context: &self.context, document: &document };
            self.departures.update(|| registry.snapshot(), &finder, changed.as_ref());
        }
        let mut holds = Holds::new(&registry.snapshot(), &self.departures.0, &self.context.policy);
        if !self.partitions.contains(0) {
            // The leader decides what leaves; here it is only known which connections are checked with their earlier document.
            self.hold(holds);
            return Ok(());
        }
        for hold in holds.take_confirmed() {
            let members = hold.departures.iter().map(|(id, departure)| (*id, departure.cause)).collect();
            registry.confirm(members, "the policy (reconcile.confirm)").await?;
        }
        let held = holds.ids();
        let leaving =
            self.departures.0.iter().filter(|(id, departure)| departure.kind == DepartureKind::Withdrawn && !held.contains(id));
        let leaving: Vec<ConnectionId> = leaving.map(|(id, _)| *id).collect();
        if !leaving.is_empty() {
            registry.retire_orphans(leaving).await?;
        }
        self.hold(holds);
        Ok(())
    }

    /// Puts the holds into force.
    fn hold(&mut self, holds: Holds) {
        let members = holds.holds.iter().flat_map(|hold| &hold.departures);
        let held: BTreeMap<ConnectionId, bool> = members.map(|(id, departure)| (*id, departure.checkable)).collect();
        if held != self.context.held {
            let entries = |held: &BTreeMap<ConnectionId, bool>| held.clone().into_iter().collect::<BTreeSet<_>>();
            let (now, before) = (entries(&held), entries(&self.context.held));
            self.replan_next.extend(now.symmetric_difference(&before).map(|(id, _)| *id));
            self.context.held = held;
        }
        self.handle.publish_holds(holds);
    }

    /// Plans the connections of `source_type` that an outage holds, after one of them worked again. Those that failed before an
    /// earlier one worked again are planned accordingly already.
    pub(super) fn after_outage(
        &self,
        snapshot: &Snapshot,
        source_type: &str,
        now: Timestamp,
    ) -> Vec<(ConnectionId, Option<PlanItem>)> {
        let in_flight = &self.handle.in_flight;
        let heals = in_flight.heals();
        let since = self.recovered.get(source_type).copied().unwrap_or(Timestamp(i64::MIN));
        let is_own = |id: &ConnectionId| self.partitions.has(*id) && !in_flight.contains(*id);
        let held = snapshot.in_outage_since(source_type, since).filter(is_own);
        held.map(|id| (id, plan::plan_one(snapshot, id, &self.context, heals.contains(&id), now))).collect()
    }
}
