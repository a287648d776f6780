//! The attempts that ended together with an earlier process. A command that reconciles once repeats them in its own run: a later
//! run may come only after hours, and until then their connections would be PENDING.

use crate::model::{Class, ConnectionId, Timestamp};
use crate::plan::{self, PlanContext, PlanItem};
use crate::snapshot::{Connection, Snapshot};

/// Whether the latest attempt of `known` was interrupted.
fn is_interrupted(known: &Connection) -> bool {
    known.last.as_ref().is_some_and(|last| last.facts.class == Some(Class::Interrupted))
}

/// Returns the next attempts of the connections whose latest attempt was interrupted before this process `started`, due at `now`.
/// Connections that ended two processes in a row are not among them: they are of the class `crash_loop` and wait for a person.
#[must_use]
pub fn due_now(snapshot: &Snapshot, context: &PlanContext, started: Timestamp, now: Timestamp) -> Vec<PlanItem> {
    let before = |known: &Connection| is_interrupted(known) && known.last_checked().is_some_and(|at| at <= started);
    let ids = snapshot.connections.iter().filter(|(_, known)| before(known)).map(|(id, _)| id);
    let next = ids.filter_map(|id| plan::plan_one(snapshot, id, context, false, now));
    next.map(|item| PlanItem { due: item.due.min(now), ..item }).collect()
}

/// Returns the connections that a process that `started` then leaves to the next one: those that are due and that it has not
/// checked, and those whose latest attempt was interrupted.
#[must_use]
pub fn left(snapshot: &Snapshot, context: &PlanContext, started: Timestamp, now: Timestamp) -> Vec<ConnectionId> {
    let is_left = |id: ConnectionId, known: &Connection| {
        let Some(item) = plan::plan_one(snapshot, id, context, false, now) else { return false };
        let checked = known.last_checked().is_some_and(|at| at >= started);
        is_interrupted(known) || !checked && item.due <= now
    };
    snapshot.connections.iter().filter(|(id, known)| is_left(*id, known)).map(|(id, _)| id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ledger::{Entry, Fact, Finished};
    use crate::model::{Digest, Scope};
    use crate::policy::LoadedPolicy;
    use crate::policy::parse::parse;
    use crate::snapshot::history::{digest, id, origin};

    /// When the attempt was recorded as interrupted.
    const AT: Timestamp = Timestamp(5000);

    fn finished(class: Class, slice: Digest) -> Fact {
        Fact::AttemptFinished(Finished {
            credential_ends_at: None,
            ending_secret: None,
            calls: None,
            begun_at: Timestamp(4000),
            generation: 1,
            scope: Scope::Full,
            policy: digest(1),
            slice,
            class: Some(class),
            failed_step: None,
            retry_after_ms: None,
            upserted: false,
            healthy: false,
            rows: None,
            latency_ms: None,
            outcome: digest(1),
            title: "".into(),
            fix: "".into(),
            warnings: Box::default(),
        })
    }

    /// A connection whose only attempt ended with `class`.
    fn connection(class: Class) -> (Snapshot, PlanContext) {
        let policy = parse("version: 1\nallowlist: [jdbc]\nbackoff: {initial: 5s, max: 15m, jitter: 0.0}\n", "test").unwrap();
        let mut snapshot = Snapshot::default();
        let mut apply = |seq: u64, at: Timestamp, fact: Fact| {
            let namespace = "autonomy".to_string();
            snapshot.apply(&Entry { seq, at, namespace, connection: Some(id(0)), fact });
            snapshot.clone()
        };
        let accepted =
            Fact::IntentAccepted { origin: origin(0), spec: digest(1), source_type: "jdbc".to_string(), locator: None };
        let before = apply(1, Timestamp(1000), accepted);
        let context = PlanContext::new(LoadedPolicy::new(policy), &before);
        let slice = context.inputs(&before.connections[&id(0)]);
        (apply(2, AT, finished(class, slice)), context)
    }

    #[test]
    fn an_attempt_that_an_earlier_process_interrupted_is_due_at_once() {
        let (snapshot, context) = connection(Class::Interrupted);
        let due = |started: i64| -> Vec<(ConnectionId, Timestamp)> {
            let items = due_now(&snapshot, &context, Timestamp(started), AT);
            items.iter().map(|item| (item.connection, item.due)).collect()
        };
        assert_eq!(due(5000), [(id(0), AT)]);
        assert_eq!(due(4999), [], "an attempt of this process waits as after any failure");
        let (failed, context) = connection(Class::Network);
        assert_eq!(due_now(&failed, &context, AT, AT), [], "only interrupted attempts are repeated");
    }

    #[test]
    fn what_is_left_was_interrupted_or_is_due() {
        let (interrupted, context) = connection(Class::Interrupted);
        assert_eq!(left(&interrupted, &context, Timestamp(1000), AT), [id(0)]);
        let (failed, context) = connection(Class::Network);
        let later = AT.plus(std::time::Duration::from_secs(60));
        assert_eq!(left(&failed, &context, Timestamp(1000), later), [], "it was checked by this process");
        assert_eq!(left(&failed, &context, later, later), [id(0)]);
        assert_eq!(left(&failed, &context, Timestamp(AT.0 + 1), AT), [], "its retry is not due yet");
    }
}
