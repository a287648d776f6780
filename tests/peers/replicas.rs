//! Replicas on PostgreSQL under faults: nothing that was accepted is lost, nothing is done twice, and no cap is exceeded.
//!
//! `AAM_SEED` repeats a run, `AAM_FAULTS` says how many faults it has, and `AAM_REPLICAS` how many replicas.
//! `AAM_FAULT_LOGS` names a folder for logs, rows and calls.

mod checks;
mod checks_tests;
mod client;
mod faults;
mod pair;
pub mod proxy;
mod records;
mod replica;
mod run;
mod upgrade;
mod vendor;

use run::Run;
use std::time::{Duration, Instant};

peer_tests! {
    [PostgresPair]: no_fault_loses_or_doubles_anything, a_standby_takes_over_with_everything_that_was_committed,
        a_full_disk_is_noticed_and_freed;
    [PostgresPair]: a_registry_of_a_newer_version_is_refused, a_ledger_of_a_newer_version_is_refused;
    []: lost_intents_are_found, unpaired_attempts_are_found, doubled_attempts_are_found, late_calls_are_found,
        calls_above_a_cap_are_found, different_funnels_are_found, a_seed_repeats_its_faults;
}
use checks_tests::*;
use upgrade::*;

/// The faults of a run that is part of all tests. They have one of each kind.
const FAULTS: usize = 12;
const REPLICAS: usize = 4;
const CONNECTIONS: usize = 24;

fn setting<T: std::str::FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

async fn no_fault_loses_or_doubles_anything() {
    let seed = setting("AAM_SEED").unwrap_or_else(|| fastrand::u64(..1_000_000));
    let (count, replicas) = (setting("AAM_FAULTS").unwrap_or(FAULTS), setting("AAM_REPLICAS").unwrap_or(REPLICAS));
    eprintln!("AAM_SEED={seed} AAM_FAULTS={count} AAM_REPLICAS={replicas} repeats this run");
    let started = Instant::now();
    let mut run = Run::start(replicas, CONNECTIONS).await;
    if !run.pair.has_disks() {
        eprintln!("LEFT OUT: the faults of a full disk, because no file system can be mounted here; root has to run this");
    }
    let faults = faults::schedule(seed, count, replicas, run.pair.has_disks());
    let clients: Vec<_> = (0..3)
        .map(|part| {
            let own = run.sources.iter().take(CONNECTIONS).skip(part).step_by(3).cloned().collect();
            tokio::spawn(run.clients.clone().work(own, seed.wrapping_add(part as u64)))
        })
        .collect();
    run.suffer(&faults).await;
    run.clients.is_over.store(true, std::sync::atomic::Ordering::Relaxed);
    for client in clients {
        client.await.expect("a client");
    }
    run.settle().await;
    run.check().await;
    run.summarize(seed, started.elapsed());
    if let Some(folder) = setting::<String>("AAM_FAULT_LOGS") {
        run.keep(folder.as_ref());
    }
    let problems = std::mem::take(&mut run.problems);
    assert!(problems.is_empty(), "seed {seed}, {} problems:\n{}", problems.len(), problems.join("\n"));
}

async fn a_standby_takes_over_with_everything_that_was_committed() {
    tokio::task::block_in_place(|| {
        let mut pair = pair::Pair::start(false);
        pair.sql("postgres", "CREATE TABLE rows (number int)").expect("created");
        for number in 1..=3 {
            pair.sql("postgres", &format!("INSERT INTO rows VALUES ({number})")).expect("inserted");
            let began = Instant::now();
            pair.fail_over();
            assert!(began.elapsed() < Duration::from_secs(20));
            assert_eq!(pair.sql("postgres", "SELECT count(*) FROM rows").expect("counted"), number.to_string());
            pair.build_standby();
            assert_eq!(pair.sql("postgres", "SHOW synchronous_standby_names").expect("shown"), "standby");
            for setting in ["fsync", "synchronous_commit", "full_page_writes"] {
                assert_eq!(pair.sql("postgres", &format!("SHOW {setting}")).expect("shown"), "on", "{setting}");
            }
        }
    });
}

async fn a_full_disk_is_noticed_and_freed() {
    tokio::task::block_in_place(|| {
        let pair = pair::Pair::start(true);
        if !pair.has_disks() {
            eprintln!("LEFT OUT: a full disk, because no file system can be mounted here; root has to run this");
            return;
        }
        pair.sql("postgres", "CREATE TABLE rows (number int)").expect("created");
        pair.fill();
        assert!(pair.log().contains("No space left on device"), "{}", pair.log());
        pair.free();
        pair.sql("postgres", "INSERT INTO rows VALUES (1)").expect("inserted");
        assert_eq!(pair.sql("postgres", "SELECT count(*) FROM rows").expect("counted"), "1");
    });
}
