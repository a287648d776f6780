use super::doubles::{Act, Script, catalog, env, fail, job, policy, skipped};
use super::*;
use crate::connectors::CredentialNeed;
use crate::model::{Class, Locator, Privilege, StepStatus};
use std::time::Duration;

/// Plants a failure in a script.
type Plant = fn(&mut Script);
type Change = fn(&mut Job);

/// Returns the status of each step as text, in order.
fn statuses(outcome: &Outcome) -> Vec<&'static str> {
    assert_eq!(
        outcome.steps.iter().map(|report| report.step).collect::<Vec<_>>(),
        Step::ALL,
        "one report for each step, in order"
    );
    outcome
        .steps
        .iter()
        .map(|report| match &report.status {
            StepStatus::Passed => "passed",
            StepStatus::Warned { .. } => "warned",
            StepStatus::Failed { .. } => "failed",
            StepStatus::Skipped { reason } => {
                assert!(!reason.is_empty());
                "skipped"
            }
        })
        .collect()
}

async fn ran(script: &Script, job: &Job) -> Outcome {
    Attempt::new(&env(script), job).run().await
}

#[tokio::test]
async fn the_steps_run_in_order_and_each_resource_is_asked() {
    let script = Script::default();
    let outcome = ran(&script, &job(&["a", "b"])).await;
    assert_eq!(statuses(&outcome), ["passed"; 7]);
    let expected = ["open a", "open b", "discover a", "discover b", "health a", "health b", "tiny 20 a", "tiny 17 b"];
    assert_eq!(script.called(), expected);
    assert_eq!(outcome.rows, Some(6));
    assert!(outcome.latency_ms.is_some_and(|ms| ms > 0), "rounded up: what was measured took time");
    let names: Vec<_> =
        outcome.catalog.unwrap().streams.into_iter().map(|stream| (stream.namespace.unwrap(), stream.name)).collect();
    assert_eq!(
        names,
        [("a".to_string(), "t".to_string()), ("b".to_string(), "t".to_string())],
        "the resource id keeps names apart"
    );
}

#[tokio::test]
async fn a_step_that_computes_for_too_long_does_not_blame_the_network() {
    for (open, class, part) in [
        (Act::Busy(Duration::from_millis(80)), Class::Interrupted, "AAM itself was computing"),
        (Act::Hang, Class::Network, "can reach the source"),
    ] {
        let script = Script { open, ..Script::default() };
        let mut job = job(&["a"]);
        job.policy = policy("safe_mode: {step_timeout: 50ms, attempt_timeout: 1s}");
        let outcome = ran(&script, &job).await;
        let failure = outcome.steps.iter().find_map(|report| report.failure()).expect("a failure");
        let text = format!("{}; {}", failure.title, failure.fix);
        assert!(failure.class == class && text.contains(part), "{failure:?}");
    }
}

#[tokio::test]
async fn a_step_that_fails_ends_the_attempt_and_the_rest_says_why_it_was_skipped() {
    let failing: [(Step, Plant); 5] = [
        (Step::Allowlist, |script| script.accepts = fail(Class::Misconfigured)),
        (Step::Upsert, |script| script.open = fail(Class::CredentialRejected)),
        (Step::Discover, |script| script.discover = fail(Class::PermissionDenied)),
        (Step::Health, |script| script.health = fail(Class::Remote)),
        (Step::TinySync, |script| script.tiny = fail(Class::Throttled)),
    ];
    for (step, plant) in failing {
        let mut script = Script::default();
        plant(&mut script);
        let outcome = ran(&script, &job(&["a"])).await;
        let (failed, failure) = outcome.failure().unwrap();
        assert_eq!(failed, step);
        assert!(script.called().len() <= Step::ALL.iter().position(|one| *one == step).unwrap(), "{:?}", script.called());
        statuses(&outcome);
        for report in &outcome.steps {
            match &report.status {
                StepStatus::Skipped { reason } => {
                    assert!(report.step > step && *reason == format!("not run: {} failed", step.as_str()));
                }
                StepStatus::Failed { .. } => assert_eq!(report.step, step),
                _ => assert!(report.step < step || report.step == Step::Registry),
            }
        }
        assert_eq!(outcome.rows, None);
        assert_eq!(outcome.catalog.is_some(), step > Step::Discover, "what discovery saw is kept");
        assert!(!failure.fix.is_empty());
    }
}

#[tokio::test]
async fn the_first_two_steps_judge_document_policy_and_locator() {
    let refused = |change: Change, need| async move {
        let mut job = job(&["a"]);
        change(&mut job);
        let script = Script { need, ..Script::default() };
        let outcome = ran(&script, &job).await;
        assert_eq!(script.called(), Vec::<String>::new(), "nothing is opened");
        let (step, failure) = outcome.failure().unwrap();
        (step, failure.class)
    };
    let cases: [(Change, CredentialNeed, Step, Class); 8] = [
        (|job| job.intent.source_type = "slak".to_string(), CredentialNeed::Optional, Step::Allowlist, Class::Unsupported),
        (|job| job.intent.source_type = "workday".to_string(), CredentialNeed::Optional, Step::Allowlist, Class::Unsupported),
        (
            |job| job.intent.evidence.status = "Unsanctioned".to_string(),
            CredentialNeed::Optional,
            Step::Allowlist,
            Class::NotEligible,
        ),
        (
            |job| {
                job.policy = policy("eligibility: {max_risk: low}");
                job.intent.risk_level = crate::model::Risk::Med.into();
            },
            CredentialNeed::Optional,
            Step::Allowlist,
            Class::NotEligible,
        ),
        (
            |job| job.policy = policy("eligibility: {min_confidence: 0.95}"),
            CredentialNeed::Optional,
            Step::Allowlist,
            Class::NotEligible,
        ),
        (|_| {}, CredentialNeed::Required, Step::Credential, Class::CredentialMissing),
        (
            |job| job.intent.credential_locator = Some(Locator::Env("ABSENT".to_string())),
            CredentialNeed::Optional,
            Step::Credential,
            Class::CredentialMissing,
        ),
        (
            |job| {
                job.intent.source_type = "slack".to_string();
                job.intent.credential_locator = Some(Locator::Env("PLANTED".to_string()));
            },
            CredentialNeed::Optional,
            Step::Upsert,
            Class::Unsupported,
        ),
    ];
    for (number, (change, need, step, class)) in cases.into_iter().enumerate() {
        assert_eq!(refused(change, need).await, (step, class), "case {number}");
    }
}

#[tokio::test]
async fn a_panic_is_a_defect_of_one_attempt() {
    let panicking: [(Step, Plant); 5] = [
        (Step::Allowlist, |script| script.accepts = Act::Panic),
        (Step::Upsert, |script| script.open = Act::Panic),
        (Step::Discover, |script| script.discover = Act::Panic),
        (Step::Health, |script| script.health = Act::Panic),
        (Step::TinySync, |script| script.tiny = Act::Panic),
    ];
    for (step, plant) in panicking {
        let mut script = Script::default();
        plant(&mut script);
        let outcome = ran(&script, &job(&["a"])).await;
        let (failed, failure) = outcome.failure().unwrap();
        assert_eq!((failed, failure.class), (step, Class::Bug));
        assert!(failure.detail.contains("the double panics"), "{failure:?}");
    }
    assert_eq!(statuses(&ran(&Script::default(), &job(&["a"])).await), ["passed"; 7], "the process lives");
}

#[tokio::test]
async fn a_source_that_hangs_meets_the_timeout_of_step_or_attempt() {
    let (short, long) = (Duration::from_millis(40), Duration::from_secs(60));
    for (step_timeout, attempt_timeout, key) in
        [(short, long, "safe_mode.step_timeout"), (long, short, "safe_mode.attempt_timeout")]
    {
        let mut job = job(&["a"]);
        // Set the timeouts directly, because the policy parser refuses an attempt timeout that is shorter than the step
        // timeout.
        let mut policy = (*policy("")).clone();
        policy.safe_mode.step_timeout = step_timeout;
        policy.safe_mode.attempt_timeout = attempt_timeout;
        job.policy = Arc::new(policy);
        let script = Script { health: Act::Hang, ..Script::default() };
        let outcome = ran(&script, &job).await;
        let (step, failure) = outcome.failure().unwrap();
        assert_eq!((step, failure.class), (Step::Health, Class::Network));
        assert!(failure.fix.contains(key), "{failure:?}");
        assert!(outcome.catalog.is_some());
    }
}

#[tokio::test]
async fn with_no_time_left_nothing_is_called() {
    let mut job = job(&["a"]);
    let mut policy = (*policy("")).clone();
    policy.safe_mode.attempt_timeout = Duration::ZERO;
    job.policy = Arc::new(policy);
    let script = Script::default();
    let outcome = ran(&script, &job).await;
    assert_eq!(outcome.failure().map(|(step, failure)| (step, failure.class)), Some((Step::Allowlist, Class::Network)));
    assert_eq!(script.called(), Vec::<String>::new());
}

#[tokio::test]
async fn a_health_recheck_neither_discovers_nor_reads() {
    let script = Script::default();
    let mut job = job(&["a"]);
    job.scope = Scope::Health;
    let outcome = ran(&script, &job).await;
    assert_eq!(statuses(&outcome), ["passed", "passed", "passed", "skipped", "passed", "skipped", "passed"]);
    assert_eq!(script.called(), ["open a", "health a"]);
    assert_eq!((outcome.rows, outcome.latency_ms, outcome.class()), (None, None, None));
    assert!(outcome.catalog.is_none());
}

#[tokio::test]
async fn additive_drift_passes_and_breaking_drift_fails_once() {
    let now = |catalog: Catalog| Script { catalog: Arc::new(move |_| catalog.clone()), ..Script::default() };
    let mut job = job(&["a"]);
    job.known = Some(catalog(&[("t", &["id"])]));
    let grown = ran(&now(catalog(&[("t", &["id", "name"]), ("u", &["id"])])), &job).await;
    assert_eq!(grown.class(), None);
    assert_eq!(grown.drift.additive.len(), 2, "{:?}", grown.drift);
    assert_eq!(grown.catalog.as_ref().map(|catalog| catalog.streams.len()), Some(2));

    job.known = grown.catalog;
    let script = now(catalog(&[("t", &["id"])]));
    let broken = ran(&script, &job).await;
    let (step, failure) = broken.failure().unwrap();
    assert_eq!((step, failure.class), (Step::Discover, Class::Drift));
    assert!(failure.detail.contains("stream u is gone") && failure.detail.contains("column t.name is gone"), "{failure:?}");
    assert_eq!(broken.catalog.as_ref().map(|catalog| catalog.streams.len()), Some(1), "the new structure is registered");

    job.known = broken.catalog;
    assert_eq!(ran(&script, &job).await.class(), None, "the next attempt proves it");
}

#[tokio::test]
async fn a_stream_that_is_denied_today_keeps_its_description() {
    let mut job = job(&["a"]);
    job.known = Some(catalog(&[("t", &["id"]), ("u", &["id"])]));
    let seen = skipped(catalog(&[("t", &["id"])]), "u", "permission denied for table u");
    let outcome = ran(&Script { catalog: Arc::new(move |_| seen.clone()), ..Script::default() }, &job).await;
    assert_eq!(outcome.class(), None);
    let after = outcome.catalog.unwrap();
    assert_eq!(after.streams, job.known.unwrap().streams, "unreadable is not absent");
    assert_eq!(after.skipped[0].reason, "permission denied for table u");
}

#[tokio::test]
async fn too_many_rights_warn_and_stop_nothing() {
    let privilege = Privilege::Over { grants: vec!["INSERT ON shop.orders".to_string()] };
    let outcome = ran(&Script { privilege, ..Script::default() }, &job(&["a"])).await;
    // This source does not need a credential, so the permissions are those of the process: the evidence shows them.
    assert_eq!(statuses(&outcome), ["passed"; 7]);
    assert_eq!(outcome.steps[2].evidence["privilege"]["grants"][0], "INSERT ON shop.orders");
    let family = crate::families::find("postgres").expect("a family");
    let over = Privilege::Over { grants: vec!["INSERT".to_string()] };
    let warned = super::preflight::over_privileged(family, "shop", &over, true).expect("a warning");
    assert!(warned.fix.contains("least privilege") && warned.class == Class::OverPrivileged, "{warned:?}");
}

#[tokio::test]
async fn a_source_whose_records_were_not_looked_at_is_active_and_metadata_only() {
    let script = Script { rows: 0, metadata_only: Some("the network does not lead there"), ..Script::default() };
    let outcome = ran(&script, &job(&["a"])).await;
    let mut expected = ["passed"; 7];
    expected[5] = "skipped";
    assert_eq!(statuses(&outcome), expected);
    assert_eq!((outcome.rows, outcome.class()), (None, None), "not 0 rows");
    let sync = &outcome.steps[5];
    assert_eq!(
        sync.status,
        StepStatus::Skipped { reason: "metadata only: the network does not lead there".to_string() },
        "{sync:?}"
    );
    assert!(sync.evidence.get("rows").is_none(), "{sync:?}");
}

#[tokio::test]
async fn what_a_source_writes_into_its_evidence_decides_nothing() {
    let mut script = Script { rows: 20, ..Script::default() };
    script.evidence.insert("metadata_only".to_string(), true.into());
    script.evidence.insert("denied".to_string(), serde_json::json!([{"name": "orders", "reason": "no"}]));
    let outcome = ran(&script, &job(&["a"])).await;
    assert_eq!((outcome.rows, outcome.class()), (Some(20), None));
    assert_eq!(statuses(&outcome), ["passed"; 7]);
}
