//! Latency and faults of the command line.

use crate::support::{VENDOR, start_with};
use sandbox::sandbox::{Outage, RunOptions};
use std::time::{Duration, Instant};

/// The family of VENDOR.
const FAMILY: &str = "vendor";

async fn statuses(options: RunOptions) -> Vec<Option<u16>> {
    let running = start_with(VENDOR, options).await;
    let mut statuses = Vec::new();
    for _ in 0..60 {
        let response = running.request("GET", "https://acme.vendor.test/v1/org").send().await.unwrap();
        let status = response.status().as_u16();
        statuses.push(response.bytes().await.ok().map(|_| status));
    }
    statuses
}

#[tokio::test]
async fn faults_have_their_share_and_are_the_same_for_a_seed() {
    let with = |faults, seed| RunOptions { faults, seed, ..RunOptions::default() };
    let first = statuses(with(0.5, 7)).await;
    assert_eq!(first, statuses(with(0.5, 7)).await);
    assert_ne!(first, statuses(with(0.5, 8)).await);
    let good = first.iter().filter(|status| **status == Some(200)).count();
    assert!((15..=45).contains(&good), "{first:?}");
    // Errors of servers, answers that are too many, and bodies that end early.
    for kind in [Some(500), Some(503), Some(429), None] {
        assert!(first.contains(&kind), "{kind:?}: {first:?}");
    }
    assert!(statuses(with(0.0, 7)).await.iter().all(|status| *status == Some(200)));
}

#[tokio::test]
async fn latency_is_within_its_bounds() {
    let least = Duration::from_millis(60);
    let latency = Some((least, Duration::from_millis(90)));
    let running = start_with(VENDOR, RunOptions { latency, ..RunOptions::default() }).await;
    for _ in 0..5 {
        let began = Instant::now();
        running.get("https://acme.vendor.test/v1/org", "").await;
        assert!(began.elapsed() >= least);
    }
}

#[tokio::test]
async fn a_vendor_is_down_for_the_time_of_its_outage() {
    let outage = |family: &str, from, to| Outage { family: family.to_owned(), from, to };
    let with = |outage| RunOptions { outages: vec![outage], ..RunOptions::default() };
    let hour = Duration::from_secs(3600);
    assert!(statuses(with(outage(FAMILY, Duration::ZERO, hour))).await.iter().all(|status| *status == Some(503)));
    for outage in [outage(FAMILY, hour, 2 * hour), outage("another", Duration::ZERO, hour)] {
        assert!(statuses(with(outage)).await.iter().all(|status| *status == Some(200)));
    }
}

#[tokio::test]
async fn a_vendor_throttles_each_so_many_th_call() {
    let with = |family: &str| RunOptions { throttled: vec![(family.to_owned(), 4)], ..RunOptions::default() };
    let found = statuses(with(FAMILY)).await;
    let expected: Vec<Option<u16>> = (1..=60).map(|call| Some(if call % 4 == 0 { 429 } else { 200 })).collect();
    assert_eq!(found, expected);
    assert!(statuses(with("another")).await.iter().all(|status| *status == Some(200)));
}
