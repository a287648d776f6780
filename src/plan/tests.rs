use super::*;
use crate::policy::parse::parse;
use crate::snapshot::history::history;
use proptest::prelude::*;

fn policy(jitter: f64) -> LoadedPolicy {
    let text = format!("version: 1\nallowlist: [jdbc, openapi]\nbackoff: {{initial: 5s, max: 15m, jitter: {jitter:.2}}}\n");
    LoadedPolicy::new(parse(&text, "test").unwrap())
}

fn by_id(plan: &[PlanItem]) -> BTreeMap<ConnectionId, PlanItem> {
    plan.iter().map(|item| (item.connection, *item)).collect()
}

/// Makes the last attempts match the policy and document in force, so that waits are planned and not only changes.
fn match_inputs(snapshot: &mut Snapshot, context: &PlanContext) {
    let ids: Vec<ConnectionId> = snapshot.connections.keys().collect();
    for id in ids {
        let mut known = snapshot.connections.copy_of(&id).unwrap();
        let slice = context.inputs(&known);
        let generation = known.generation;
        known.last = known.last.take().map(|last| {
            let mut last = (*last).clone();
            (last.facts.slice, last.facts.generation) = (slice, generation);
            Arc::new(last)
        });
        snapshot.connections.insert(id, Box::new(known));
    }
}

proptest! {
    #[test]
    fn the_plan_is_deterministic_and_has_one_item_at_most_for_what_is_desired(entries in history(), now in 0..20_000_000_i64) {
        let snapshot = Snapshot::fold(&entries);
        let context = PlanContext::new(policy(0.2), &snapshot);
        let heals: BTreeSet<ConnectionId> = snapshot.connections.keys().take(2).collect();
        let items = plan(&snapshot, &context, &heals, Timestamp(now));
        prop_assert_eq!(&items, &plan(&Snapshot::fold(&entries), &PlanContext::new(policy(0.2), &snapshot), &heals, Timestamp(now)));
        prop_assert_eq!(by_id(&items).len(), items.len());
        prop_assert!(items.is_sorted_by_key(|item| (item.due, item.connection)));
        for item in &items {
            let known = &snapshot.connections[&item.connection];
            prop_assert!(known.retired.is_none() && !known.origins.is_empty() && !snapshot.sealed.contains(&*known.namespace));
            prop_assert_eq!(heals.contains(&item.connection), item.why == Why::Heal);
        }
        for (id, known) in snapshot.connections.iter() {
            let open = known.retired.is_none() && !known.origins.is_empty() && !snapshot.sealed.contains(&*known.namespace);
            if open && known.last.is_none() {
                prop_assert!(by_id(&items).contains_key(&id), "never attempted and not planned");
            }
        }
    }

    #[test]
    fn one_connection_that_works_again_makes_the_others_due_that_an_outage_holds(entries in history(), now in 0..20_000_000_i64) {
        let mut snapshot = Snapshot::fold(&entries);
        let context = PlanContext::new(policy(0.2), &snapshot);
        match_inputs(&mut snapshot, &context);
        let mut without = snapshot.clone();
        without.forget_recoveries();
        let none = BTreeSet::new();
        let (with, without) =
            (by_id(&plan(&snapshot, &context, &none, Timestamp(now))), by_id(&plan(&without, &context, &none, Timestamp(now))));
        prop_assert_eq!(with.len(), without.len());
        for (id, item) in &with {
            let (known, other) = (&snapshot.connections[id], without[id]);
            if item.due == other.due {
                continue;
            }
            let recovered = snapshot.recovered(&known.source_type);
            let failed = known.last_checked().unwrap();
            prop_assert!(known.in_outage() && recovered > Some(failed), "only what failed before it");
            prop_assert!(item.due < other.due && item.due >= failed.plus(context.policy.backoff.initial), "never in a hurry");
        }
    }

    #[test]
    fn a_stored_secret_makes_exactly_the_connections_due_that_wait_for_it(
        entries in history(), spec in 0..8_u8, changed in 0..20_000_000_i64, now in 0..20_000_000_i64
    ) {
        let mut snapshot = Snapshot::fold(&entries);
        let mut context = PlanContext::new(policy(0.2), &snapshot);
        match_inputs(&mut snapshot, &context);
        let none = BTreeSet::new();
        let without = by_id(&plan(&snapshot, &context, &none, Timestamp(now)));
        let locator = format!("env:SECRET_{spec}");
        context.secrets = Arc::new(StoredSecrets(BTreeMap::from([(locator.clone(), Timestamp(changed))])));
        let with = by_id(&plan(&snapshot, &context, &none, Timestamp(now)));
        for (id, known) in snapshot.connections.iter() {
            let due = with.get(&id).is_some_and(|item| item.why == Why::CredentialChanged);
            if !due {
                prop_assert_eq!(with.get(&id), without.get(&id), "nothing else changes");
                continue;
            }
            prop_assert_eq!(known.locator.as_deref(), Some(locator.as_str()));
            prop_assert!(known.waits_for_credential() && changed <= now && with[&id].due <= Timestamp(now));
            prop_assert!(known.last.as_ref().is_some_and(|last| last.facts.begun_at < Timestamp(changed)));
            // An attempt that finds the same result ends the reason.
            let mut checked = Connection::clone(&known);
            checked.checked = Some(Timestamp(now.max(changed)).max(known.last_checked().unwrap_or_default()).plus(Duration::from_millis(1)));
            let after = next(&snapshot, id, &checked, &context, false, Timestamp(now).plus(Duration::from_millis(1)));
            prop_assert!(after.is_none_or(|item| item.why != Why::CredentialChanged));
        }
    }

    #[test]
    fn waits_do_not_depend_on_when_they_are_computed(entries in history(), now in 0..20_000_000_i64, later in 0..i64::MAX / 4) {
        let mut snapshot = Snapshot::fold(&entries);
        let context = PlanContext::new(policy(0.2), &snapshot);
        match_inputs(&mut snapshot, &context);
        let none = BTreeSet::new();
        let before = by_id(&plan(&snapshot, &context, &none, Timestamp(now)));
        let after = by_id(&plan(&snapshot, &context, &none, Timestamp(now + later)));
        prop_assert_eq!(before, after, "a wait ends at the same instant, whenever it is computed");
    }

    #[test]
    fn a_backoff_stays_within_its_bounds(entries in history(), percent in 0..=100_u32, failures in 0..u32::MAX) {
        let jitter = f64::from(percent) / 100.0;
        let policy = policy(jitter);
        let mut snapshot = Snapshot::fold(&entries);
        let context = PlanContext::new(policy.clone(), &snapshot);
        let policy = policy.policy;
        match_inputs(&mut snapshot, &context);
        let least = policy.backoff.initial.mul_f64(1.0 - jitter);
        for item in plan(&snapshot, &context, &BTreeSet::new(), Timestamp(0)) {
            let known = &snapshot.connections[&item.connection];
            let class = known.last.as_ref().and_then(|last| last.facts.class);
            if item.why == Why::Retry && class.is_some_and(|class| class.retry() == Retry::Backoff) {
                let wait = item.due.since(known.last_checked().unwrap_or_default());
                prop_assert!(wait + Duration::from_millis(1) >= least && wait <= policy.backoff.max, "{wait:?}");
            }
        }
        let id = crate::snapshot::history::id(0);
        let wait = backoff(&policy, id, failures);
        prop_assert!(wait + Duration::from_millis(1) >= least && wait <= policy.backoff.max, "{wait:?}");
    }
}

proptest! {
    /// What AAM cannot read in a source is checked again with the structure, because the source may change without its
    /// document. What the document or the policy does not allow is not.
    #[test]
    fn what_a_source_contains_is_checked_again(entries in history(), now in 0..20_000_000_i64) {
        use crate::model::{Class, Step};
        let mut snapshot = Snapshot::fold(&entries);
        let context = PlanContext::new(policy(0.2), &snapshot);
        match_inputs(&mut snapshot, &context);
        let planned = by_id(&plan(&snapshot, &context, &BTreeSet::new(), Timestamp(now)));
        for (id, known) in snapshot.connections.iter() {
            let Some(last) = &known.last else { continue };
            let (Some(Class::Unsupported | Class::Misconfigured), Some(step)) = (last.facts.class, last.facts.failed_step) else { continue };
            let open = known.retired.is_none() && !known.origins.is_empty() && !snapshot.sealed.contains(&*known.namespace);
            let expected = (open && Step::Upsert <= step && step <= Step::TinySync)
                .then(|| known.last_checked().unwrap_or(last.at).plus(context.policy.recheck.drift));
            prop_assert_eq!(planned.get(&id).map(|item| item.due), expected);
        }
    }

    /// A connection whose attempts ended the process twice is planned only after a heal, or for another document or policy.
    #[test]
    fn a_crash_loop_rests(entries in history(), now in 0..20_000_000_i64) {
        let mut snapshot = Snapshot::fold(&entries);
        let context = PlanContext::new(policy(0.2), &snapshot);
        match_inputs(&mut snapshot, &context);
        let rests = |known: &Connection| known.last.as_ref().is_some_and(|last| last.facts.class == Some(crate::model::Class::CrashLoop));
        let planned = by_id(&plan(&snapshot, &context, &BTreeSet::new(), Timestamp(now)));
        let heals: BTreeSet<ConnectionId> = snapshot.connections.keys().collect();
        let healed = by_id(&plan(&snapshot, &context, &heals, Timestamp(now)));
        for (id, known) in snapshot.connections.iter().filter(|(_, known)| rests(known)) {
            prop_assert!(!planned.contains_key(&id));
            let open = known.retired.is_none() && !known.origins.is_empty() && !snapshot.sealed.contains(&*known.namespace);
            prop_assert_eq!(healed.contains_key(&id), open);
        }
    }
}

#[test]
fn a_backoff_doubles_up_to_its_limit() {
    let policy = policy(0.0);
    let id = crate::snapshot::history::id(0);
    let seconds: Vec<u64> = (1..=10).map(|failures| backoff(&policy.policy, id, failures).as_secs()).collect();
    assert_eq!(seconds, [5, 10, 20, 40, 80, 160, 320, 640, 900, 900]);
}
