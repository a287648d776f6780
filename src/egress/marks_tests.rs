use super::*;
use crate::egress::tests::rig::{Server, World as Rig, answer, get};
use crate::egress::{DayBudget, resolve};
use crate::model::Class;
use std::sync::atomic::{AtomicBool, Ordering};

/// A store in memory, whose versions grow with each change.
#[derive(Default)]
struct FakeStore {
    marks: Mutex<BTreeMap<(MarkSubject, String), AccountMark>>,
    writes: Mutex<Vec<AccountMark>>,
    is_full: AtomicBool,
}

impl MarkStore for FakeStore {
    fn store(&self, marks: Vec<AccountMark>) -> BoxFuture<'static, Result<Vec<i64>, String>> {
        if self.is_full.load(Ordering::SeqCst) {
            return Box::pin(async { Err("the disk is full".to_string()) });
        }
        let mut versions = Vec::new();
        for mark in marks {
            let version = i64::try_from(locked(&self.writes).len()).unwrap() + 1;
            locked(&self.writes).push(mark.clone());
            let subject = (mark.kind.subject(), mark.key.clone());
            locked(&self.marks).insert(subject, AccountMark { version, ..mark });
            versions.push(version);
        }
        Box::pin(async move { Ok(versions) })
    }
}

impl FakeStore {
    fn all(&self) -> Vec<AccountMark> {
        locked(&self.marks).values().cloned().collect()
    }

    fn writes(&self) -> usize {
        locked(&self.writes).len()
    }
}

/// Another process with the same clock, names and policy, which knows what is stored.
fn process(rig: &Rig, store: &Arc<FakeStore>) -> Arc<Egress> {
    let budget: Arc<dyn DayBudget> = rig.budget.clone();
    let lookup: Arc<dyn resolve::Lookup> = rig.lookup.clone();
    let egress = Egress::with(budget, rig.clock.clone(), lookup);
    egress.apply_marks(&store.all(), &rig.policy.breaker);
    egress.store_marks_in(store.clone());
    egress
}

/// Makes a call and returns its status, or the class of its failure.
async fn call(rig: &Rig, egress: &Arc<Egress>, server: &Server) -> Result<u16, Class> {
    let called = egress.session(rig.caller()).http(get(&server.url("/"))).await;
    called.map(|response| response.status).map_err(|failure| failure.class)
}

/// Lets the tasks that store marks end.
async fn settled(egress: &Egress) {
    while !locked(&egress.marks.state).unstored.is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_wait_is_stored_once_and_holds_for_the_next_process() {
    let (rig, store) = (Rig::new(), Arc::new(FakeStore::default()));
    let server = Server::start(vec![answer(429, &[("retry-after", "600")], b""), answer(200, &[], b"")]).await;
    let first = process(&rig, &store);
    assert_eq!(call(&rig, &first, &server).await, Err(Class::Throttled));
    settled(&first).await;
    let session = first.session(rig.caller());
    for ms in [600_000, 600_900] {
        let _ = session.throttled(Duration::from_millis(ms), "the same response to another call");
    }
    assert_eq!(store.writes(), 1, "calls in flight that get the same response store nothing");
    let _ = session.throttled(Duration::from_secs(700), "it asks for more");
    assert_eq!(store.writes(), 2);
    let second = process(&rig, &store);
    assert_eq!(call(&rig, &second, &server).await, Err(Class::Throttled));
    rig.clock.forward(Duration::from_secs(702));
    assert_eq!(call(&rig, &second, &server).await, Ok(200));
    assert_eq!((server.count(), store.writes()), (2, 2), "a good call stores nothing");
}

#[tokio::test]
async fn processes_learn_of_waits_and_breakers_from_each_other() {
    let (mut rig, store) = (Rig::new(), Arc::new(FakeStore::default()));
    rig.policy.breaker.failures = 1;
    let failing = answer(500, &[], b"");
    let server = Server::start(vec![failing.clone(), failing, answer(200, &[], b"")]).await;
    let (first, second) = (process(&rig, &store), process(&rig, &store));
    assert_eq!(call(&rig, &first, &server).await, Ok(500));
    settled(&first).await;
    let poll = |egress: &Arc<Egress>| egress.apply_marks(&store.all(), &rig.policy.breaker);
    poll(&second);
    assert_eq!(call(&rig, &second, &server).await, Err(Class::BreakerOpen));
    rig.clock.forward(rig.policy.breaker.open_for);
    assert_eq!(call(&rig, &first, &server).await, Ok(500), "the probe of the first process fails");
    settled(&first).await;
    poll(&second);
    assert_eq!(call(&rig, &second, &server).await, Err(Class::BreakerOpen), "which the second one learns");
    rig.clock.forward(rig.policy.breaker.open_for);
    assert_eq!(call(&rig, &first, &server).await, Ok(200));
    settled(&first).await;
    let third = process(&rig, &store);
    let opened = AccountMark { kind: MarkKind::BreakerOpen, version: 1, ..store.all().remove(0) };
    second.apply_marks(&[opened], &rig.policy.breaker);
    poll(&second);
    for egress in [&second, &third, &first] {
        assert_eq!(call(&rig, egress, &server).await, Ok(200), "the breaker is closed everywhere");
    }
    assert_eq!(store.writes(), 3);
}

#[tokio::test]
async fn a_mark_that_could_not_be_stored_is_stored_later_with_what_remains() {
    let (rig, store) = (Rig::new(), Arc::new(FakeStore::default()));
    let egress = process(&rig, &store);
    store.is_full.store(true, Ordering::SeqCst);
    let _ = egress.session(rig.caller()).throttled(Duration::from_secs(100), "SlowDown");
    egress.store_marks_again().await;
    assert!(store.all().is_empty());
    // What another process stored meanwhile does not replace what this one knows.
    let other = AccountMark {
        kind: MarkKind::AskedToWait,
        key: "openapi|acme".to_string(),
        remaining: Duration::from_secs(5),
        reason: String::new(),
        version: 9,
    };
    egress.apply_marks(&[other], &rig.policy.breaker);
    store.is_full.store(false, Ordering::SeqCst);
    rig.clock.forward(Duration::from_secs(40));
    egress.store_marks_again().await;
    let stored = store.all();
    assert_eq!(stored.len(), 1);
    assert_eq!((stored[0].key.as_str(), stored[0].remaining), ("openapi|acme", Duration::from_secs(61)));
    egress.store_marks_again().await;
    assert_eq!(store.writes(), 1, "it is stored once");
}

#[tokio::test]
async fn a_reason_is_stored_without_secrets_and_not_longer_than_needed() {
    let (rig, store) = (Rig::new(), Arc::new(FakeStore::default()));
    redact::learn_value("stored-canary-2718");
    let egress = process(&rig, &store);
    let reason = format!("stored-canary-2718 \0 {}", "x".repeat(2000));
    let _ = egress.session(rig.caller()).throttled(Duration::from_secs(100), &reason);
    let stored = store.all();
    assert!(!stored[0].reason.contains("canary") && !stored[0].reason.contains('\0'), "{stored:?}");
    assert!(stored[0].reason.chars().count() < 600);
}
