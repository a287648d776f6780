use super::*;
use crate::clock::SystemClock;
use crate::model::ledger::{AttemptContext, Why};
use crate::model::{Digest, Intent, Origin, Outcome, Scope, Step, StepReport, StepStatus};
use crate::policy::parse::parse;
use futures_util::FutureExt;

fn handle(dir: &std::path::Path) -> Arc<Handle> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let registry = Registry::open(&dir.join("aam.db"), "test", Arc::clone(&clock)).unwrap();
    let policy = parse("version: 1\nallowlist: []\n", "test").unwrap();
    let policy = ActivePolicy::new(LoadedPolicy::new(policy), None);
    Handle::new(Arc::new(registry), clock, policy, dir.to_path_buf(), dir.join("policy.yaml"))
}

fn intent() -> Intent {
    serde_json::from_value(serde_json::json!({
        "source_type": "jdbc", "resource_ids": ["db"], "scopes_mode": "safe_readonly", "namespace": "autonomy", "risk_level": "low",
        "evidence": {"status": "Sanctioned", "source": "IdP", "ts": "2026-11-08T18:00:00Z"},
        "owner": {"user": "owner@acme.example", "confidence": 0.9, "why": "admin"}
    }))
    .unwrap()
}

fn context() -> AttemptContext {
    AttemptContext {
        begun_at: Timestamp(0),
        generation: 1,
        scope: Scope::Full,
        why: Why::Retry,
        policy: Digest::default(),
        slice: Digest::default(),
    }
}

async fn attempt(handle: &Handle, id: ConnectionId) {
    let report = |step| StepReport { step, status: StepStatus::Passed, duration_ms: 0, evidence: serde_json::Map::new() };
    let steps = Step::ALL.into_iter().map(report).collect();
    let outcome = Outcome {
        scope: Scope::Full,
        steps,
        catalog: None,
        drift: crate::model::Drift::default(),
        rows: Some(1),
        latency_ms: Some(1),
    };
    let ticket = handle.registry.begin(id, context()).await.unwrap();
    handle.registry.finish(&ticket, &outcome).await.unwrap();
}

#[tokio::test]
async fn a_thousand_wakes_cause_one_sync() {
    let dir = tempfile::tempdir().unwrap();
    let handle = handle(dir.path());
    for _ in 0..1000 {
        handle.wake();
    }
    assert_eq!(handle.woken().now_or_never(), Some(()));
    assert_eq!(handle.woken().now_or_never(), None);
    handle.wake_signal().notify_one();
    assert_eq!(handle.woken().now_or_never(), Some(()));
}

#[tokio::test]
async fn it_is_settled_after_an_attempt_for_this_document_when_no_heal_waits() {
    let dir = tempfile::tempdir().unwrap();
    let handle = handle(dir.path());
    let id = intent().connection_id();
    let settled = |since| handle.settled(id, since, Duration::from_millis(5));
    assert!(!settled(Timestamp(0)).await, "not known");
    handle.registry.accept(vec![(intent(), Origin::api("aod"))]).await.unwrap();
    assert!(!settled(Timestamp(0)).await, "not attempted");
    let running = handle.in_flight.begin(id).expect("no attempt runs");
    let waiting = {
        let handle = Arc::clone(&handle);
        tokio::spawn(async move { handle.settled(id, Timestamp(0), Duration::from_secs(20)).await })
    };
    attempt(&handle, id).await;
    assert!(!settled(Timestamp(0)).await, "an attempt is running");
    drop(running);
    assert!(waiting.await.unwrap(), "the waiter is woken");
    assert!(settled(Timestamp(0)).await);
    assert!(!settled(Timestamp(i64::MAX)).await, "not since then");
    handle.heal([id]);
    assert!(!settled(Timestamp(0)).await, "a heal is waiting");
    let running = handle.in_flight.begin(id).expect("no attempt runs");
    attempt(&handle, id).await;
    drop(running);
    assert!(settled(Timestamp(0)).await);
    let mut changed = intent();
    changed.extra.insert("note".to_string(), "another".into());
    handle.registry.accept(vec![(changed, Origin::api("aod"))]).await.unwrap();
    assert!(!settled(Timestamp(0)).await, "not for this document");
}

#[tokio::test]
async fn waiting_for_many_ends_when_the_last_one_is_settled() {
    let dir = tempfile::tempdir().unwrap();
    let handle = handle(dir.path());
    let mut other = intent();
    other.resource_ids = vec!["other".to_string()];
    let ids = [other.connection_id(), intent().connection_id()];
    let documents = vec![(intent(), Origin::api("aod")), (other, Origin::api("aod"))];
    handle.registry.accept(documents).await.unwrap();
    handle.all_settled(&ids, Timestamp(0), Duration::ZERO).await;
    assert!(!ids.iter().any(|id| handle.is_settled(*id, Timestamp(0))), "without time, it does not wait");
    let waiting = {
        let handle = Arc::clone(&handle);
        tokio::spawn(async move { handle.all_settled(&ids, Timestamp(0), Duration::from_secs(20)).await })
    };
    for id in ids {
        let running = handle.in_flight.begin(id).expect("no attempt runs");
        attempt(&handle, id).await;
        drop(running);
    }
    waiting.await.unwrap();
    assert!(ids.iter().all(|id| handle.is_settled(*id, Timestamp(0))));
    handle.all_settled(&[], Timestamp(0), Duration::from_secs(20)).await;
}

#[tokio::test]
async fn an_interrupted_attempt_is_no_result_unless_an_earlier_one_had_one() {
    let dir = tempfile::tempdir().unwrap();
    let handle = handle(dir.path());
    let id = intent().connection_id();
    handle.registry.accept(vec![(intent(), Origin::api("aod"))]).await.unwrap();
    for has_result in [false, true] {
        if has_result {
            attempt(&handle, id).await;
        }
        let _ticket = handle.registry.begin(id, context()).await.unwrap();
        handle.registry.record_stopped().await.unwrap();
        assert_eq!(handle.is_settled(id, Timestamp(0)), has_result);
    }
}
