use super::*;
use crate::funnel::funnel;
use crate::model::Failure;
use crate::snapshot::Snapshot;
use crate::snapshot::history::{NAMESPACES, history};
use proptest::prelude::*;

fn blocked(number: u128, class: Option<Class>, state: State, title: &str, fix: &str) -> Blocked {
    Blocked {
        id: ConnectionId(uuid::Uuid::from_u128(number)),
        state,
        healthy: false,
        source_type: "jdbc".into(),
        document: 1,
        updated: Timestamp(0),
        class,
        title: title.into(),
        fix: fix.into(),
    }
}

fn refused(number: u128, address: &str) -> Blocked {
    let title = format!("Not called: {address} is a private address and the policy does not allow it");
    let fix = format!("if this address is intended, add it to the policy: network.allow_private: [{address}/32]");
    blocked(number, Some(Class::EgressRefused), State::NetworkBlocked, &title, &fix)
}

fn unset(number: u128, variable: &str) -> Blocked {
    let title = format!("environment variable {variable} is not set, and the file var/secrets/{variable} does not exist");
    let fix = format!("aam secret set {variable}");
    blocked(number, Some(Class::CredentialMissing), State::AwaitingCredentials, &title, &fix)
}

fn lines(causes: &[Cause]) -> Vec<String> {
    causes
        .iter()
        .map(|cause| format!("{}: {}, {}", cause.title, cause.members.len(), crate::funnel::coverage::points(cause.gain)))
        .collect()
}

#[test]
fn causes_are_ordered_by_what_their_fix_gains() {
    let mut all: Vec<Blocked> = (0..30_u8).map(|n| refused(u128::from(n), &format!("10.4.{n}.12"))).collect();
    all.extend((100..140_u128).map(|n| unset(n, &format!("SECRET_{n}"))));
    all.push(blocked(200, Some(Class::Remote), State::Error, "api.acme.example failed with HTTP 500", "AAM tries again"));
    all.push(blocked(201, Some(Class::NotEligible), State::Rejected, "evidence.status is Unknown", "settle it"));
    all.push(blocked(202, None, State::Pending, NOT_ATTEMPTED, NOT_ATTEMPTED_FIX));
    // 156 of 214 is 72 %; 186 of 214 is 86 %; with forty more that become eligible it is 196 of 254, 77 %.
    let found = causes(all, Coverage { active: 156, eligible: 214 });
    assert_eq!(
        lines(&found.raising),
        [
            "Private addresses not allowed: 30, +14 points",
            "environment variable … is not set, and the file … does not exist: 40, +4 points",
            "api.acme.example failed with HTTP 500: 1, +0.4 points",
        ]
    );
    assert_eq!(
        found.others.iter().map(|cause| cause.title.as_str()).collect::<BTreeSet<_>>(),
        BTreeSet::from(["evidence.status is Unknown", NOT_ATTEMPTED])
    );
    let private = &found.raising[0];
    assert!(private.fix.starts_with("allow 10.4.0.0/16 if these"), "{}", private.fix);
    assert!(private.values.contains(&"10.4.29.12".to_string()) && private.fixes.len() == 1);
    let secrets = &found.raising[1];
    assert_eq!(secrets.fix, "aam secret set …");
    assert_eq!((secrets.fixes.len(), secrets.fixes[0].as_str()), (40, "aam secret set SECRET_100"));
}

/// A source type that AAM does not know is not promised to become ACTIVE, unless it is a spelling of one that it knows.
#[test]
fn what_needs_a_connector_does_not_promise_points() {
    let failed =
        |number: u128, failure: Failure| blocked(number, Some(failure.class), State::Unsupported, &failure.title, &failure.fix);
    let unknown = |number: u128, fix: &str| failed(number, Failure::unknown_source_type("fax", fix));
    let list = "aam families lists all source types";
    let manifest = "put its manifest into sources/fax.yaml; aam families lists the source types of aam";
    let today = Coverage { active: 1, eligible: 2 };
    let all = vec![unknown(1, list), unknown(2, manifest), failed(3, Failure::without_connector("Fax"))];
    let found = causes(all, today);
    assert_eq!((found.raising.len(), found.others.iter().map(|cause| cause.gain).max()), (0, Some(0)), "{found:?}");
    // Of one cause, only the members that a fix can help are counted: 2 of 3 instead of 1 of 2.
    let found = causes(vec![unknown(1, list), unknown(2, "did you mean box? aam families lists all source types")], today);
    assert_eq!(found.raising.iter().map(|cause| (cause.members.len(), cause.gain)).collect::<Vec<_>>(), [(2, 1666)]);
}

#[test]
fn a_full_coverage_cannot_rise() {
    let found = causes(vec![unset(1, "A_B"), unset(2, "A_C")], Coverage { active: 5, eligible: 5 });
    assert_eq!((found.raising.len(), found.others.len(), found.others[0].gain), (0, 1, 0));
}

#[test]
fn the_key_does_not_depend_on_the_variable_parts_and_depends_on_the_class() {
    let key = |blocked: &Blocked| Kind::new(blocked.class, &blocked.title).key;
    assert_eq!(key(&unset(1, "A_B")), key(&unset(2, "OTHER_NAME")));
    assert_eq!(key(&refused(1, "10.0.0.1")), key(&refused(2, "192.168.0.1")));
    let rejected = blocked(3, Some(Class::CredentialRejected), State::Healing, &unset(1, "A_B").title, "");
    assert_ne!(key(&rejected), key(&unset(1, "A_B")));
    let named = "Not called: db.corp is 10.4.3.12, a private address, and the policy does not allow it";
    assert_eq!(key(&blocked(4, Some(Class::EgressRefused), State::NetworkBlocked, named, "")), key(&refused(1, "10.0.0.1")));
    assert_eq!(key(&unset(1, "A_B")).len(), 12);
}

#[test]
fn one_title_is_shown_as_it_is_and_different_fixes_without_a_common_form_by_an_example() {
    let same = |number| {
        blocked(number, Some(Class::Remote), State::Error, "a.example failed", if number == 1 { "call them" } else { "wait" })
    };
    let found = causes(vec![same(1), same(2)], Coverage { active: 0, eligible: 2 });
    let cause = &found.raising[0];
    assert_eq!((cause.title.as_str(), cause.fix.as_str(), cause.fixes.len()), ("a.example failed", "call them", 2));
    assert_eq!(cause.states, BTreeMap::from([(State::Error, 2)]));
}

proptest! {
    #[test]
    fn every_connection_that_is_not_active_is_in_exactly_one_cause(entries in history()) {
        let snapshot = Snapshot::fold(&entries);
        let mut keys = CauseKeys::default();
        for namespace in NAMESPACES {
            let today = Coverage::from(&funnel(&snapshot, namespace, 0.9, Timestamp(0)));
            let all: Vec<Blocked> = snapshot.of_namespace(namespace).filter_map(|(id, known)| Blocked::new(id, &known)).collect();
            let found = causes(all, today);
            let causes: Vec<&Cause> = found.raising.iter().chain(&found.others).collect();
            for (id, known) in snapshot.of_namespace(namespace) {
                let holding: Vec<&str> = causes.iter().filter(|cause| cause.members.iter().any(|member| member.id == id)).map(|cause| cause.key.as_str()).collect();
                let expected: Vec<String> = key_of(&known).into_iter().collect();
                prop_assert_eq!(&holding, &expected);
                prop_assert_eq!(holding.is_empty(), matches!(known.state(), State::Active | State::Retired));
                prop_assert_eq!(keys.key_of(&known), holding.first().copied());
            }
            let members: usize = causes.iter().map(|cause| cause.members.len()).sum();
            prop_assert_eq!(members, snapshot.of_namespace(namespace).filter(|(_, known)| Blocked::new(ConnectionId::FIRST, known).is_some()).count());
            prop_assert!(found.raising.is_sorted_by(|a, b| a.after.compare(b.after).is_ge()));
            prop_assert!(found.raising.iter().all(|cause| cause.after.compare(today).is_gt()));
        }
    }
}
