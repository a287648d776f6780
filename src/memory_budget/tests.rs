use super::*;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const MIB: u64 = 1 << 20;

fn budget(total: u64) -> (Arc<MemoryBudget>, impl Fn() -> Arc<AttemptMemory>) {
    let budget = Arc::new(MemoryBudget::new(total));
    let other = Arc::clone(&budget);
    (budget, move || other.attempt(total))
}

/// Polls `future` once.
async fn is_ready<T>(future: &mut (impl Future<Output = T> + Unpin)) -> bool {
    futures_util::future::poll_immediate(future).await.is_some()
}

#[tokio::test]
async fn bytes_are_given_back_when_they_are_dropped() {
    let (budget, attempt) = budget(64 * MIB);
    let memory = attempt();
    let held = memory.reserve(20 * MIB).await.unwrap();
    assert_eq!((held.bytes(), budget.held()), (20 * MIB, 20 * MIB - (16 << 10)), "the first bytes are not counted");
    drop(held);
    assert_eq!(budget.held(), 0);
    memory.keep(memory.reserve(20 * MIB).await.unwrap());
    assert!(budget.held() > 19 * MIB, "kept until the attempt ends");
    drop(memory);
    assert_eq!(budget.held(), 0);
}

#[tokio::test]
async fn one_attempt_may_hold_half_and_is_refused_at_once_above_it() {
    let (budget, attempt) = budget(64 * MIB);
    let memory = attempt();
    let first = memory.reserve(30 * MIB).await.unwrap();
    let bound = memory.reserve(3 * MIB).await.err().unwrap();
    assert_eq!(bound, MemoryBound { needed: 33 * MIB, limit: 32 * MIB });
    let failure = bound.failure("the description of a.example");
    assert_eq!(failure.class, Class::Misconfigured);
    assert_eq!(failure.title, "the description of a.example needs 33 MiB of memory, but one attempt may use 32 MiB");
    assert!(failure.fix.contains("half of reconcile.memory: set it to at least 66MiB"), "{}", failure.fix);
    assert!(memory.try_reserve(3 * MIB).is_err());
    drop(first);
    assert!(memory.reserve(31 * MIB).await.is_ok(), "a refused request claims nothing");
    assert_eq!(budget.held(), 0);
}

#[tokio::test]
async fn large_attempts_wait_for_each_other_and_small_ones_for_neither() {
    let (budget, attempt) = budget(64 * MIB);
    let (a, b, c, small) = (attempt(), attempt(), attempt(), attempt());
    let held = [a.reserve(16 * MIB).await.unwrap(), b.reserve(32 * MIB).await.unwrap()];
    let mut waits = Box::pin(c.reserve(2 * MIB));
    assert!(!is_ready(&mut waits).await, "one attempt has the pool and one the last resort");
    assert_eq!(budget.waiting(), 1);
    assert!(c.try_reserve(2 * MIB).unwrap().is_none());
    assert!(small.try_reserve(MIB).unwrap().is_some());
    drop(held);
    assert!(waits.await.is_ok());
    assert_eq!((budget.held(), budget.waiting()), (0, 0));
}

#[tokio::test]
async fn requests_are_served_in_their_order_and_given_up_ones_are_skipped() {
    let (budget, attempt) = budget(64 * MIB);
    let attempts: Vec<_> = (0..6).map(|_| attempt()).collect();
    let all = [attempts[0].reserve(16 * MIB).await.unwrap(), attempts[1].reserve(32 * MIB).await.unwrap()];
    let mut given_up = Box::pin(attempts[2].reserve(15 * MIB));
    let mut second = Box::pin(attempts[3].reserve(30 * MIB));
    let mut third = Box::pin(attempts[4].reserve(30 * MIB));
    assert!(!is_ready(&mut given_up).await && !is_ready(&mut second).await && !is_ready(&mut third).await);
    drop(given_up);
    drop(all);
    let second = second.await.unwrap();
    assert!(!is_ready(&mut third).await, "the second has the last resort and the pool is too small");
    drop(second);
    drop(third.await.unwrap());
    assert_eq!((budget.held(), budget.waiting()), (0, 0));
    // A grant that arrives after its receiver gave up is not lost.
    let held = attempts[0].reserve(32 * MIB).await.unwrap();
    let pool = attempts[1].reserve(16 * MIB).await.unwrap();
    let mut late = Box::pin(attempts[2].reserve(32 * MIB));
    assert!(!is_ready(&mut late).await);
    drop((held, pool));
    assert_eq!(budget.waiting(), 0, "granted, but not received");
    drop(late);
    assert_eq!(budget.held(), 0);
}

/// Attempts that hold memory and ask for more would block each other if the budget were one pool.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn attempts_that_grow_always_end() {
    let (budget, attempt) = budget(8 * MIB);
    let highest = Arc::new(AtomicU64::new(0));
    let tasks: Vec<_> = (0..200u64)
        .map(|number| {
            let (memory, budget, highest) = (attempt(), Arc::clone(&budget), Arc::clone(&highest));
            tokio::spawn(async move {
                let mut held = memory.reserve(200 << 10).await.unwrap();
                for step in 0..12 {
                    // Some attempts stay small and some end at their bound.
                    let bytes = if number % 3 == 0 { 50 << 10 } else { 300 << 10 };
                    held.grow(bytes).await.unwrap();
                    highest.fetch_max(budget.held(), Ordering::Relaxed);
                    tokio::task::yield_now().await;
                    if step % 5 == 4 {
                        memory.keep(memory.reserve(10 << 10).await.unwrap());
                    }
                }
            })
        })
        .collect();
    let all = futures_util::future::join_all(tasks);
    let ended = tokio::time::timeout(Duration::from_secs(60), all).await.expect("no attempt waits for ever");
    assert!(ended.iter().all(Result::is_ok));
    assert_eq!((budget.held(), budget.waiting()), (0, 0));
    assert!(highest.load(Ordering::Relaxed) <= 8 * MIB, "{highest:?}");
}

#[tokio::test]
async fn two_resources_of_one_attempt_do_not_block_each_other() {
    let (_, attempt) = budget(64 * MIB);
    let (one, other) = (attempt(), attempt());
    let pool = other.reserve(16 * MIB).await.unwrap();
    let first = one.reserve(10 * MIB).await.unwrap();
    // The attempt has the last resort, so its second resource does not wait behind others.
    let mut behind = Box::pin(other.reserve(2 * MIB));
    assert!(!is_ready(&mut behind).await);
    let second = one.reserve(10 * MIB).await.unwrap();
    drop((first, second));
    assert!(behind.await.is_ok());
    drop(pool);
}

#[tokio::test]
async fn a_wait_for_memory_is_not_counted_in_timeouts() {
    let (_, attempt) = budget(64 * MIB);
    let (holder, waiter) = (attempt(), attempt());
    let pool = attempt();
    let held = [pool.reserve(16 * MIB).await.unwrap(), holder.reserve(32 * MIB).await.unwrap()];
    let limit = Duration::from_millis(40);
    let frees = async {
        while waiter.waited() < limit * 5 {
            tokio::task::yield_now().await;
        }
        drop(held);
    };
    let work = waiter.timeout(limit, async { waiter.reserve(2 * MIB).await.is_ok() });
    let (done, ()) = tokio::join!(work, frees);
    assert_eq!(done, Some(true));
    assert!(waiter.waited() >= limit * 5, "{:?}", waiter.waited());
    // Earlier waits do not extend a later limit.
    let begun = std::time::Instant::now();
    assert_eq!(waiter.timeout(limit, std::future::pending::<()>()).await, None);
    assert!(begun.elapsed() >= limit && begun.elapsed() < limit * 4, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_decoder_that_needs_more_runs_again_with_more() {
    let (budget, attempt) = budget(64 * MIB);
    let memory = attempt();
    let limits = Mutex::new(Vec::new());
    let decode = |needed: u64| {
        let limits = &limits;
        let held = Arc::clone(&budget);
        move |meter: MemoryMeter| {
            limits.lock().unwrap().push(meter.limit());
            assert!(held.held() + (16 << 10) >= meter.limit(), "reserved before the decoder runs");
            let result = meter.take(needed);
            async move { result.map_err(|_| Failure::new(Class::Remote, "the decoder stopped", "")).map(|()| needed) }
        }
    };
    assert_eq!(memory.metered("x", MIB, decode(9 * MIB)).await, Ok(9 * MIB));
    assert_eq!(*limits.lock().unwrap(), [MIB, 9 * MIB]);
    let failure = memory.metered("x.parquet", MIB, decode(1000 * MIB)).await.unwrap_err();
    assert_eq!(failure.title, "x.parquet needs 1000 MiB of memory, but one attempt may use 32 MiB");
    assert_eq!(budget.held(), 0);
    // A decoder that fails for another reason is not repeated.
    let runs = AtomicU64::new(0);
    let broken = memory.metered("x", MIB, |_| {
        runs.fetch_add(1, Ordering::Relaxed);
        async { Err::<(), _>(Failure::new(Class::Remote, "damaged", "")) }
    });
    assert_eq!((broken.await.unwrap_err().title, runs.into_inner()), ("damaged".to_string(), 1));
}

#[tokio::test]
async fn work_that_goes_on_without_what_is_too_large_keeps_its_result() {
    let (_, attempt) = budget(64 * MIB);
    let runs = AtomicU64::new(0);
    let memory = attempt();
    let read = memory.metered("x", MIB, |meter| {
        runs.fetch_add(1, Ordering::Relaxed);
        let members = [1000 * MIB, 2 * MIB, 3 * MIB];
        let read = members.into_iter().filter(|bytes| meter.next_input().take(*bytes).is_ok()).count();
        async move { Ok(read) }
    });
    assert_eq!((read.await, runs.into_inner()), (Ok(2), 3), "all that one attempt may hold is read");
}

#[test]
fn a_meter_counts_what_is_given_back() {
    let meter = MemoryMeter::new(100, 1000);
    let copy = meter.clone();
    assert!(meter.take(60).is_ok() && copy.take(40).is_ok() && meter.refused().is_none());
    copy.give_back(50);
    assert!(meter.take(50).is_ok());
    let bound = MemoryBound { needed: 101, limit: 1000 };
    assert_eq!(meter.take(1), Err(bound));
    assert!(meter.next_input().take(100).is_ok() && meter.next_input().take(101).is_err());
    assert_eq!(copy.refused(), Some(bound));
}

#[test]
fn sizes_are_readable() {
    let texts = [0, 1023, 1024, 1536, 33 << 20, 1_073_741_824, u64::MAX].map(size_text);
    assert_eq!(texts, ["0 B", "1023 B", "1 KiB", "1.5 KiB", "33 MiB", "1 GiB", "16777216 TiB"]);
}
