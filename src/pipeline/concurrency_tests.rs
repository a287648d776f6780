//! Tests of steps that work on several resources at the same time.

use super::doubles::{Act, Script, env, fail, job, policy};
use super::*;
use crate::model::{Class, Locator, Privilege};
use std::time::Duration;
use tokio::sync::Barrier;

async fn ran(script: &Script, job: &Job) -> Outcome {
    Attempt::new(&env(script), job).run().await
}

#[tokio::test]
async fn two_resources_are_opened_discovered_and_checked_at_the_same_time() {
    let mut job = job(&["a", "b"]);
    // If the steps are not concurrent, the first resource waits for the second one until this timeout.
    let mut policy = (*policy("")).clone();
    policy.safe_mode.step_timeout = Duration::from_secs(5);
    job.policy = Arc::new(policy);
    let meet = || Act::Meet(Arc::new(Barrier::new(2)));
    let script = Script { open: meet(), discover: meet(), health: meet(), ..Script::default() };
    assert_eq!(ran(&script, &job).await.failure(), None);
}

#[tokio::test]
async fn the_cap_of_the_account_limits_how_many_are_worked_on_at_the_same_time() {
    let called = |concurrency: u32| async move {
        let mut job = job(&["a", "b", "c"]);
        job.policy = policy(&format!(
            "caps: {{families: {{filesource: {{per_second: 1000, burst: 1000, per_day: 1000, concurrency: {concurrency}}}}}}}"
        ));
        let slow = || Act::Slow(3, Box::new(Act::Pass));
        let script = Script { open: slow(), discover: slow(), health: slow(), ..Script::default() };
        assert_eq!(ran(&script, &job).await.failure(), None);
        script.called()
    };
    for concurrency in 1..=3 {
        let (mut now, mut most, mut started) = (0, 0, Vec::new());
        for call in called(concurrency).await {
            match call.strip_suffix(" ended") {
                Some(_) => now -= 1,
                None if call.starts_with("tiny") => assert_eq!(now, 0, "the tiny sync begins after the other steps"),
                None => {
                    now += 1;
                    most = most.max(now);
                    started.push(call);
                }
            }
        }
        assert_eq!(most, concurrency);
        let expected = ["open", "discover", "health"].map(|step| ["a", "b", "c"].map(|id| format!("{step} {id}")));
        assert_eq!(started, expected.concat(), "they begin in their order");
    }
}

/// Sets what one step of a script does.
type Put = fn(&mut Script, Act);

/// An act that fails with `class` after `turns` turns of the executor.
fn late(turns: usize, class: Class) -> Act {
    Act::Slow(turns, Box::new(fail(class)))
}

#[tokio::test]
async fn the_first_failure_in_order_is_reported_whichever_comes_first() {
    let puts: [(Step, Put); 3] = [
        (Step::Upsert, |script, act| script.open = act),
        (Step::Discover, |script, act| script.discover = act),
        (Step::Health, |script, act| script.health = act),
    ];
    for (step, put) in puts {
        for (turns_of_b, turns_of_a) in [(1, 9), (9, 1)] {
            let mut script = Script::default();
            put(&mut script, Act::Each(vec![("b", late(turns_of_b, Class::Remote)), ("a", late(turns_of_a, Class::NotFound))]));
            let outcome = ran(&script, &job(&["b", "a"])).await;
            let reported = outcome.failure().map(|(step, failure)| (step, failure.class));
            assert_eq!(reported, Some((step, Class::Remote)));
            let ended = script.called().iter().filter(|call| call.ends_with(" ended")).count();
            assert_eq!(ended, 2, "no call is cancelled: {:?}", script.called());
        }
    }
}

#[tokio::test]
async fn a_failure_is_reported_although_another_resource_hangs() {
    let mut job = job(&["b", "a"]);
    let mut policy = (*policy("")).clone();
    policy.safe_mode.step_timeout = Duration::from_millis(100);
    job.policy = Arc::new(policy);
    let script = Script { open: Act::Each(vec![("b", fail(Class::NotFound)), ("a", Act::Hang)]), ..Script::default() };
    let outcome = ran(&script, &job).await;
    assert_eq!(outcome.failure().map(|(step, failure)| (step, failure.class)), Some((Step::Upsert, Class::NotFound)));
}

#[tokio::test]
async fn the_report_does_not_depend_on_which_resource_is_faster() {
    let report = |turns_of_b, turns_of_a| async move {
        let slow = || {
            let act = |turns| Act::Slow(turns, Box::new(Act::Pass));
            Act::Each(vec![("b", act(turns_of_b)), ("a", act(turns_of_a))])
        };
        let privilege = Privilege::Over { grants: vec!["INSERT".to_string()] };
        let script = Script { open: slow(), discover: slow(), health: slow(), privilege, ..Script::default() };
        let mut job = job(&["b", "a"]);
        job.intent.credential_locator = Some(Locator::Env("PLANTED".to_string()));
        let outcome = ran(&script, &job).await;
        let steps: Vec<_> = outcome.steps.into_iter().map(|report| (report.step, report.status, report.evidence)).collect();
        (steps, outcome.catalog)
    };
    let (steps, catalog) = report(1, 9).await;
    assert!(
        format!("{:?}", steps[2].1).contains("credential of b can do more than read"),
        "the warning is for the first: {:?}",
        steps[2].1
    );
    assert_eq!(steps[3].2.len(), 2, "{:?}", steps[3].2);
    assert_eq!(report(9, 1).await, (steps, catalog));
}
