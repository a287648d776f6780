//! Tests of several processes that divide the limits of an account.

use super::rig::World;
use crate::egress::{AccountHolders, DayBudget, Egress, HOLDER_LEASE, HeldAccount, OtherHolders, Session, resolve};
use crate::model::Class;
use crate::policy::Cap;
use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The rows of all processes: their parts, and when they end.
type Rows = Arc<Mutex<BTreeMap<(String, &'static str), (u32, Instant)>>>;

/// The rows, as one process sees them.
struct Database {
    rows: Rows,
    holder: &'static str,
    is_lost: Arc<AtomicBool>,
}

impl Database {
    fn answer<T: Send + 'static>(&self, answer: T) -> BoxFuture<'static, Result<T, String>> {
        let is_lost = self.is_lost.load(Ordering::SeqCst);
        Box::pin(async move { if is_lost { Err("the database does not answer".to_string()) } else { Ok(answer) } })
    }
}

impl AccountHolders for Database {
    fn hold(&self, account: String) -> BoxFuture<'static, Result<HeldAccount, String>> {
        let (mut rows, now) = (self.rows.lock().unwrap(), Instant::now());
        let all = rows.iter().filter(|((name, _), _)| *name == account);
        let living = all.clone().filter(|((_, holder), (_, ends))| *holder != self.holder && *ends > now).count();
        let idle = all.map(|(_, (_, ends))| now.saturating_duration_since(*ends)).min();
        let parts = u32::try_from(living).unwrap() + 1;
        if !self.is_lost.load(Ordering::SeqCst) {
            rows.insert((account, self.holder), (parts, now + HOLDER_LEASE));
        }
        self.answer(HeldAccount { parts, idle })
    }

    fn renew(&self, accounts: Vec<(String, u32)>) -> BoxFuture<'static, Result<Vec<bool>, String>> {
        let (mut rows, now) = (self.rows.lock().unwrap(), Instant::now());
        let renewed = accounts.into_iter().map(|(account, parts)| match rows.get_mut(&(account, self.holder)) {
            Some(row) if row.1 > now => {
                *row = (parts, now + HOLDER_LEASE);
                true
            }
            _ => false,
        });
        self.answer(renewed.collect())
    }

    fn release(&self) -> BoxFuture<'static, Result<(), String>> {
        self.rows.lock().unwrap().iter_mut().filter(|((_, holder), _)| *holder == self.holder).for_each(|(_, row)| {
            row.1 = Instant::now();
        });
        self.answer(())
    }

    fn others(&self, account: Option<String>) -> BoxFuture<'static, Result<OtherHolders, String>> {
        let mut others = OtherHolders::new();
        for ((name, holder), (parts, ends)) in self.rows.lock().unwrap().iter() {
            if *holder != self.holder && *ends > Instant::now() && account.as_ref().is_none_or(|account| account == name) {
                others.entry(name.clone()).or_default().push(*parts);
            }
        }
        self.answer(others)
    }
}

struct Replica {
    egress: Arc<Egress>,
    is_lost: Arc<AtomicBool>,
}

/// A process that divides its limits with the others of `rows`.
fn replica(world: &World, rows: &Rows, holder: &'static str) -> Replica {
    let budget: Arc<dyn DayBudget> = world.budget.clone();
    let lookup: Arc<dyn resolve::Lookup> = world.lookup.clone();
    let egress = Egress::with(budget, world.clock.clone(), lookup);
    let is_lost = Arc::new(AtomicBool::new(false));
    egress.divide_limits(Arc::new(Database { rows: Arc::clone(rows), holder, is_lost: Arc::clone(&is_lost) }));
    Replica { egress, is_lost }
}

fn session(world: &World, replica: &Replica) -> Session {
    replica.egress.session(world.caller())
}

#[tokio::test]
async fn a_second_process_waits_until_the_first_has_lowered_its_share() {
    let mut world = World::new();
    world.policy.safe_mode.step_timeout = Duration::from_millis(100);
    world.cap = Cap { per_second: 1000.0, burst: 10, per_day: 1000, concurrency: 4 };
    let rows = Rows::default();
    let (first, second) = (replica(&world, &rows, "first"), replica(&world, &rows, "second"));
    session(&world, &first).local("x").await.unwrap();
    let failure = session(&world, &second).local("x").await.unwrap_err();
    assert_eq!(failure.class, Class::Throttled);
    assert!(failure.title.contains("other replicas of AAM use its limits"), "{failure:?}");
    // The first one has three calls in flight, which is more than its half.
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(session(&world, &first).admit("127.0.0.1", 9).await.unwrap());
    }
    first.egress.keep_shares(false).await.unwrap();
    assert!(session(&world, &second).local("x").await.is_err(), "the calls of the first one do not fit into its share yet");
    assert!(session(&world, &first).admit("127.0.0.1", 9).await.is_err(), "and it begins no other one");
    held.pop();
    first.egress.keep_shares(false).await.unwrap();
    session(&world, &second).local("x").await.unwrap();
    let both = session(&world, &second);
    let (_one, _two) = (both.admit("127.0.0.1", 9).await.unwrap(), both.admit("127.0.0.1", 9).await.unwrap());
    assert!(both.admit("127.0.0.1", 9).await.is_err(), "the second one has its half, too");
}

#[tokio::test]
async fn a_process_that_cannot_record_its_use_makes_no_call() {
    let mut world = World::new();
    world.policy.safe_mode.step_timeout = Duration::from_millis(100);
    let rows = Rows::default();
    let first = replica(&world, &rows, "first");
    first.is_lost.store(true, Ordering::SeqCst);
    let failure = session(&world, &first).local("x").await.unwrap_err();
    assert!(failure.title.contains("the registry could not record it"), "{failure:?}");
    assert_eq!(world.budget.total(), 0);
    first.is_lost.store(false, Ordering::SeqCst);
    session(&world, &first).local("x").await.unwrap();
    assert_eq!(rows.lock().unwrap().len(), 1);
    first.egress.keep_shares(true).await.unwrap();
    // Once the row is gone, the process finds out with its next renewal and takes a new one for the next call.
    rows.lock().unwrap().clear();
    first.egress.keep_shares(true).await.unwrap();
    session(&world, &first).local("x").await.unwrap();
    assert_eq!(rows.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_process_alone_does_not_wait() {
    let mut world = World::new();
    world.cap = Cap { per_second: 0.01, burst: 3, per_day: 1000, concurrency: 1 };
    let rows = Rows::default();
    let first = replica(&world, &rows, "first");
    for _ in 0..3 {
        session(&world, &first).local("x").await.unwrap();
    }
    assert_eq!(session(&world, &first).local("x").await.unwrap_err().class, Class::Throttled, "the burst is used");
    // A process that takes its place does not wait either, and does not get another burst.
    first.egress.release_shares().await;
    assert!(session(&world, &first).local("x").await.is_err(), "it makes no calls any more");
    let second = replica(&world, &rows, "second");
    let failure = session(&world, &second).local("x").await.unwrap_err();
    assert!(failure.title.contains("AAM's own rate limit"), "{failure:?}");
}
