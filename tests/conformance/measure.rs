//! Runs the cases, and counts the calls of the good ones.

use crate::lab::{Lab, VendorCall};
use crate::vendor::{Case, Expectation, Vendor};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// How long a case waits for what it expects.
const MAX_WAIT: Duration = Duration::from_secs(45);
/// How long a case waits if the account is blocked for a while.
const MAX_BLOCKED_WAIT: Duration = Duration::from_secs(60);
/// How long all cases together may take. Cases that have not begun by then fail.
const MAX_RUN: Duration = Duration::from_secs(420);
/// The time between two looks at a connection.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// Waits until the next look at a condition.
async fn next_poll() {
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + POLL_INTERVAL, POLL_INTERVAL);
    ticks.tick().await;
}
/// The interval of health checks while they are counted.
const HEALTH_INTERVAL: Duration = Duration::from_secs(4);
/// The cases of one family that run at the same time.
const CASES_PER_FAMILY: usize = 4;
/// The cases of all families that run at the same time. Most of a case is work of the daemon.
const MAX_CASES: usize = 24;

/// The calls of one family, counted at the sandbox. Calls for tokens are left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    pub onboarding: u64,
    pub health: u64,
}

/// What the run found.
#[derive(Default)]
pub struct Results {
    /// What differs, by the name of the test; empty if all is as expected.
    pub cases: BTreeMap<String, Vec<String>>,
    pub calls: BTreeMap<String, Counted>,
    /// The calls that no vendor's file describes, by family.
    pub violations: BTreeMap<String, Vec<String>>,
}

/// Runs `cases`. Those that are called `good` come first, alone, so that their calls can be counted.
pub async fn run(mut lab: Lab, vendors: &[&Vendor], cases: &[&Case]) -> Results {
    let mut results = Results::default();
    let good: Vec<(&Vendor, &Case)> = vendors
        .iter()
        .filter_map(|vendor| {
            cases.iter().find(|case| case.family == vendor.family && case.name == "good").map(|case| (*vendor, *case))
        })
        .collect();
    if !good.is_empty() {
        lab.recheck_after(&format!("{}s", HEALTH_INTERVAL.as_secs())).await;
        let mut counting: FuturesUnordered<_> = good.iter().map(|(vendor, case)| counted(&lab, vendor, case)).collect();
        while let Some((case, differences, calls)) = counting.next().await {
            results.calls.extend(calls.map(|calls| (case.family.clone(), calls)));
            results.cases.insert(case.test(), differences);
        }
        drop(counting);
        lab.recheck_after("6h").await;
    }
    let (all, deadline) = (Semaphore::new(MAX_CASES), Instant::now() + MAX_RUN);
    let by_family = vendors.iter().map(|vendor| {
        let own: Vec<&Case> = cases.iter().filter(|case| case.family == vendor.family && case.name != "good").copied().collect();
        family(&lab, (&all, deadline), own)
    });
    let mut running: FuturesUnordered<_> = by_family.collect();
    while let Some(differences) = running.next().await {
        results.cases.extend(differences);
    }
    drop(running);
    for VendorCall { family, method, host, path, violation } in lab.sandbox.calls().await {
        if let Some(violation) = violation {
            let list = results.violations.entry(family).or_default();
            let text = format!("{method} {host}{path}: {violation}");
            if !list.contains(&text) {
                list.push(text);
            }
        }
    }
    results
}

/// Runs the good case of a family, and counts its calls and those of one health check.
async fn counted<'c>(lab: &Lab, vendor: &Vendor, case: &'c Case) -> (&'c Case, Vec<String>, Option<Counted>) {
    let calls = async || {
        let calls = lab.sandbox.calls().await;
        calls.iter().filter(|call| call.family == vendor.family && !vendor.is_token_call(&call.path)).count() as u64
    };
    let (pushed, differences) = settle(lab, case, &case.expect, None, MAX_WAIT).await;
    let checked = lab.checked_at(&pushed).await;
    let onboarding = calls().await;
    if !differences.is_empty() {
        return (case, differences, None);
    }
    let started = Instant::now();
    while started.elapsed() < HEALTH_INTERVAL + MAX_WAIT {
        if lab.checked_at(&pushed).await != checked {
            let counted = Counted { onboarding, health: calls().await - onboarding };
            return (case, differences, Some(counted));
        }
        next_poll().await;
    }
    (case, vec!["no health check ran".to_owned()], None)
}

/// Runs the cases of one family: those that block their account one after the other, after all others.
async fn family(lab: &Lab, (all, deadline): (&Semaphore, Instant), cases: Vec<&Case>) -> Vec<(String, Vec<String>)> {
    let (blocking, others): (Vec<&Case>, Vec<&Case>) = cases.into_iter().partition(|case| case.blocks_account());
    let one = async |case: &Case| {
        let _slot = all.acquire().await.expect("the semaphore is open");
        if Instant::now() >= deadline {
            return (case.test(), vec![format!("did not begin within {} s of the run", MAX_RUN.as_secs())]);
        }
        let wait = if case.blocks_account() { MAX_BLOCKED_WAIT } else { MAX_WAIT };
        let (pushed, mut differences) = settle(lab, case, &case.expect, None, wait).await;
        if let (Some(then), true) = (&case.then, differences.is_empty()) {
            differences = settle(lab, case, then, Some(pushed), wait).await.1;
        }
        (case.test(), differences)
    };
    let mut results: Vec<_> = futures_util::stream::iter(others).map(one).buffer_unordered(CASES_PER_FAMILY).collect().await;
    for case in blocking {
        results.push(one(case).await);
    }
    results
}

/// Pushes the intent of a case, unless it is pushed already, and waits until the connection is as expected. Returns the
/// connection and what differs in the end.
async fn settle(lab: &Lab, case: &Case, expect: &Expectation, pushed: Option<Value>, wait: Duration) -> (Value, Vec<String>) {
    let started = Instant::now();
    let mut connection = match pushed {
        Some(pushed) => pushed,
        None => lab.push(case).await,
    };
    if connection["connection_id"].is_null() {
        return (connection.clone(), vec![format!("the intent was refused: {connection}")]);
    }
    loop {
        let differences = expect.differences(&connection);
        if differences.is_empty() || started.elapsed() >= wait {
            return (connection, differences);
        }
        // The connection may have passed through what is expected.
        let before = lab.after_each_attempt(&connection).await;
        if before.iter().any(|connection| expect.differences(connection).is_empty()) {
            return (connection, Vec::new());
        }
        next_poll().await;
        connection = lab.connection(&connection).await;
    }
}
