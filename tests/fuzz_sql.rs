//! Sessions of real database servers, changed and sent again. None of them may make a driver panic, take longer than
//! [`MAX_TIME`], or use more memory than [`MAX_MEMORY_BYTES`].
//!
//! `tests/data/sessions` has what a MariaDB and a PostgreSQL server sent; `tests/peers/sql/record.rs` records it. The changes
//! come from a seeded generator: the same seed makes the same sessions. `AAM_FUZZ_SECONDS` sets how long both targets run
//! together (without it, a fixed number of sessions); `AAM_FUZZ_SEED` sets the first seed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed test ends with a panic")]

#[path = "support/mod.rs"]
mod support;

use aam::connectors::Bounds;
use aam::credentials::{Credential, Secret};
use aam::model::Failure;
use fastrand::Rng;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use support::recorded_session::{Turns, parse, replay};
use support::sql::{open_at, policy};

/// Sessions of each target if `AAM_FUZZ_SECONDS` is not set.
const SESSIONS: u64 = 40;
/// Sessions at the same time. Most of the time of a session is spent waiting for bytes that do not come.
const CONCURRENCY: u64 = 32;
/// The longest time that one session may take. The resource ids set timeouts of one second at most for each exchange.
const MAX_TIME: Duration = Duration::from_secs(20);
/// The most address space that the process may use. An allocation beyond it ends the test.
const MAX_ADDRESS_SPACE_BYTES: u64 = 4 << 30;
/// The most memory that the process may ever hold, in bytes.
const MAX_MEMORY_BYTES: u64 = 512 << 20;

/// Bytes that mean something in one of the protocols: NULL, the lengths of length-encoded integers, ends, types.
const SPECIAL: [u8; 14] = [0, 1, 0x7F, 0x80, 0xFA, 0xFB, 0xFC, 0xFD, 0xFE, 0xFF, b'R', b'D', b'T', b'E'];

static PANICS: AtomicUsize = AtomicUsize::new(0);

struct Target {
    name: &'static str,
    turns: Turns,
    id: fn(u16) -> String,
}

fn targets() -> [Target; 2] {
    [
        Target {
            name: "mariadb",
            turns: parse(include_str!("data/sessions/mariadb.txt")),
            id: |port| format!("jdbc:mariadb://127.0.0.1:{port}/shop?connectTimeout=500&socketTimeout=500&useSSL=false"),
        },
        Target {
            name: "postgres",
            turns: parse(include_str!("data/sessions/postgres.txt")),
            id: |port| format!("postgresql://127.0.0.1:{port}/shop?connectTimeout=1&socketTimeout=1"),
        },
    ]
}

/// All steps of an attempt.
async fn attempt(id: &str) -> Result<u64, Failure> {
    let credential = Credential::read(Secret::new("reader:no-real-password".to_string()));
    let opened = open_at(id, &credential, policy(None)).await?;
    let found = opened.connector.discover(Bounds::default()).await?;
    opened.connector.health().await?;
    Ok(opened.connector.tiny_sync(&found.catalog, 20).await?.rows)
}

/// Changes the session by `seed` and runs an attempt against it. Returns whether it passed, and how long it took.
async fn one(target: &Target, seed: u64) -> (bool, Duration) {
    let turns = changed(&target.turns, &mut Rng::with_seed(seed));
    let begun = Instant::now();
    let outcome = attempt(&(target.id)(replay(turns).await)).await;
    (outcome.is_ok(), begun.elapsed())
}

/// Changes one to six places of the session.
fn changed(turns: &Turns, rng: &mut Rng) -> Turns {
    let mut turns = turns.clone();
    for _ in 0..rng.usize(1..=6) {
        let at = rng.usize(..turns.len());
        if rng.u8(..) < 8 {
            let other = rng.usize(..turns.len());
            turns.swap(at, other);
            continue;
        }
        let turn = &mut turns[at];
        if turn.is_empty() {
            continue;
        }
        // Headers and counts are at the beginning of a turn, so they are changed more often.
        let end = if rng.bool() { turn.len().min(24) } else { turn.len() };
        let place = rng.usize(..end);
        match rng.u8(..8) {
            0 => turn[place] = rng.u8(..),
            1 | 2 => turn[place] = rng.choice(SPECIAL).unwrap_or_default(),
            3 => turn[place] ^= 1 << rng.u8(..8),
            4 => turn.truncate(place),
            5 => {
                let bytes: Vec<u8> = (0..rng.usize(1..16)).map(|_| rng.choice(SPECIAL).unwrap_or_default()).collect();
                turn.splice(place..place, bytes);
            }
            6 => {
                let until = (place + rng.usize(1..64)).min(turn.len());
                turn.drain(place..until);
            }
            _ => {
                let until = (place + rng.usize(1..512)).min(turn.len());
                let copy = turn[place..until].to_vec();
                turn.splice(place..place, copy);
            }
        }
    }
    turns
}

/// The most memory that this process has held so far, in bytes.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("VmHWM");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") << 10
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn a_recorded_session_passes_and_a_changed_one_is_harmless() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let address_space = nix::sys::resource::Resource::RLIMIT_AS;
    nix::sys::resource::setrlimit(address_space, MAX_ADDRESS_SPACE_BYTES, MAX_ADDRESS_SPACE_BYTES).expect("a limit");
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        PANICS.fetch_add(1, Ordering::SeqCst);
        report(info);
    }));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let (seconds, first) = (number("AAM_FUZZ_SECONDS"), number("AAM_FUZZ_SEED").unwrap_or(1));
    let targets = targets();
    for target in &targets {
        let rows = runtime.block_on(async { attempt(&(target.id)(replay(target.turns.clone()).await)).await });
        assert_eq!(rows.unwrap_or_else(|failure| panic!("{}: {failure:?}", target.name)), 20, "{}", target.name);
        let (started, mut passed, mut seed) = (Instant::now(), 0, first);
        let more = |seed: u64| match seconds {
            Some(seconds) => started.elapsed() < Duration::from_secs(seconds / 2),
            None => seed < first + SESSIONS,
        };
        while more(seed) {
            let batch = (seed..seed + CONCURRENCY).map(|seed| one(target, seed));
            let outcomes = runtime.block_on(futures_util::future::join_all(batch));
            assert_eq!(PANICS.load(Ordering::SeqCst), 0, "{}: a seed from {seed} on panicked", target.name);
            for (seed, (_, took)) in (seed..).zip(&outcomes) {
                assert!(*took < MAX_TIME, "{} with seed {seed} took {took:?}", target.name);
            }
            passed += outcomes.iter().filter(|(passed, _)| *passed).count();
            seed += CONCURRENCY;
        }
        println!("{}: {} sessions, of which {passed} passed; peak memory {} MiB", target.name, seed - first, peak_memory() >> 20);
    }
    assert!(peak_memory() < MAX_MEMORY_BYTES, "{} bytes", peak_memory());
}
