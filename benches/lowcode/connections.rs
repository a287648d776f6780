//! A thousand low-code connections from an empty registry to ACTIVE.

use crate::http::Client;
use crate::shop::{Shop, TOKEN};
use crate::stats::{median, seconds, timed};
use crate::table::Table;
use crate::{Measured, scaled};
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

const CONNECTIONS: usize = 1000;
const RUNS: usize = 7;
/// The number of concurrent attempts, and of concurrent calls of the plain loop. A server on loopback answers at once, so
/// a larger number makes both sides slower.
const CONCURRENCY: usize = 32;
/// The average size of a ledger row, in bytes.
const BODY: usize = 900;
/// Rows of the ledger for one connection: accepted, begun, catalog, finished.
const ROWS: usize = 4;
/// The target time, as a multiple of the baseline.
const MAX_RATIO: f64 = 1.5;

/// Measures the daemon, then the same requests and commits without it. Both take turns.
pub fn measure(table: &mut Table) -> Measured<()> {
    let count = scaled(CONNECTIONS, 20);
    let shop = Shop::start();
    let home = tempfile::Builder::new().prefix("aam-bench").tempdir()?;
    prepare(home.path(), &shop, count)?;
    let (mut ours, mut calls, mut bare, mut requests, mut commits) = (vec![], vec![], vec![], 0, vec![]);
    let (mut grouped, mut single) = (vec![], vec![]);
    for run in 0..RUNS {
        let registry = home.path().join(format!("run-{run}.db"));
        let (made, took) = timed(|| once(home.path(), &registry));
        let made = made?.max(1);
        commits.push(made);
        ours.push(took);
        let targets = targets(&shop);
        requests = targets.len();
        let (sent, took) = timed(|| replay(&shop.url, &targets));
        sent?;
        calls.push(took);
        let (sent, took) = timed(|| replay_bare(shop.port(), &targets));
        sent?;
        shop.take_requests();
        bare.push(took);
        for (name, commits, times) in [("grouped", made, &mut grouped), ("single", count, &mut single)] {
            let (done, took) = timed(|| commit_all(&home.path().join(format!("{name}-{run}.db")), commits, ROWS * count));
            done?;
            times.push(took);
        }
    }
    commits.sort_unstable();
    let made = commits.get(RUNS / 2).copied().unwrap_or_default();
    let (ours, grouped, single) = (median(&ours), median(&grouped), median(&single));
    for (client, calls) in [("a loop over reqwest", median(&calls)), ("bare sockets", median(&bare))] {
        // The daemon's writer groups its commits. The table compares with grouped and with single commits.
        for (commits, writes, which) in [(count, single, "a commit each"), (made, grouped, "grouped commits")] {
            let baseline = calls + writes;
            let ratio = ours.as_secs_f64() / baseline.as_secs_f64();
            let details =
                format!("{} ({requests} requests {}, {commits} commits {})", seconds(baseline), seconds(calls), seconds(writes));
            let figure = format!("{count} low-code connections, against {client}, {which}");
            table.add(figure, seconds(ours), details, format!("{ratio:.2}"), "<= 1.5", ratio <= MAX_RATIO);
        }
    }
    Ok(())
}

/// Policy, manifest and intents.
fn prepare(home: &Path, shop: &Shop, count: usize) -> Measured<()> {
    for folder in ["intents", "policy", "policy/manifests"] {
        fs::create_dir(home.join(folder))?;
    }
    fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/lowcode/shop.yaml"), home.join("policy/manifests/shop.yaml"))?;
    let policy = format!(
        "version: 1\nallowlist: [shop]\nnetwork: {{allow_private: [127.0.0.0/8]}}\nmanifests: {{dir: \"{}\"}}\n\
         caps: {{families: {{shop: {{per_second: 100000, burst: 100000, per_day: 10000000, concurrency: {CONCURRENCY}}}}}}}\n\
         reconcile: {{concurrency: {CONCURRENCY}, resync: 1h}}\n",
        home.join("policy/manifests").display()
    );
    fs::write(home.join("policy/policy.yaml"), policy)?;
    for number in 0..count {
        let id = format!("base_url={}/ok&start_date=2024-01-01T00:00:00Z&shop=shop-{number}", shop.url);
        let intent = serde_json::json!({
            "source_type": "shop", "resource_ids": [id], "scopes_mode": "safe_readonly",
            "credential_locator": "env:BENCH_SHOP", "namespace": "autonomy", "risk_level": "low",
            "evidence": {"status": "Sanctioned", "source": "CMDB", "ts": "2026-11-08T18:00:00Z"},
            "owner": {"user": "owner@acme.example", "confidence": 0.9, "why": "admin"}
        });
        fs::write(home.join(format!("intents/{number:06}.json")), intent.to_string())?;
    }
    Ok(())
}

/// Runs `aam once` and returns the number of commits that it logged.
fn once(home: &Path, registry: &Path) -> Measured<usize> {
    let log = registry.with_extension("log");
    let status = Command::new(env!("CARGO_BIN_EXE_aam"))
        .arg("once")
        .env_clear()
        .env("AAM_INTENTS", home.join("intents"))
        .env("AAM_POLICY", home.join("policy/policy.yaml"))
        .env("AAM_REGISTRY", registry)
        .env("AAM_SEEDS", home.join("no-seeds"))
        .env("AAM_LOG", "warn,aam::commit=debug")
        .env("BENCH_SHOP", serde_json::json!({ "api_key": TOKEN }).to_string())
        .current_dir(home)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(&log)?)
        .status()?;
    let text = fs::read_to_string(&log)?;
    if !status.success() {
        return Err(format!("aam once ended with {status}: {}", text.lines().last().unwrap_or_default()).into());
    }
    Ok(text.lines().filter(|line| line.contains("committed")).count())
}

/// The targets of the requests that the shop received, in order.
fn targets(shop: &Shop) -> Vec<String> {
    shop.take_requests().iter().filter_map(|seen| seen.split(' ').nth(1)).map(str::to_string).collect()
}

/// Sends the same requests with a plain loop and the same concurrency as the daemon.
fn replay(base: &str, targets: &[String]) -> Measured<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build()?;
    let next = std::sync::Arc::new(AtomicUsize::new(0));
    let urls: std::sync::Arc<[String]> = targets.iter().map(|target| format!("{base}{target}")).collect();
    runtime.block_on(async {
        let work = || {
            let (client, next, urls) = (client.clone(), std::sync::Arc::clone(&next), std::sync::Arc::clone(&urls));
            runtime.spawn(async move {
                while let Some(url) = urls.get(next.fetch_add(1, Ordering::Relaxed)) {
                    client.get(url).bearer_auth(TOKEN).send().await?.error_for_status()?.bytes().await?;
                }
                Ok::<(), reqwest::Error>(())
            })
        };
        let tasks: Vec<_> = (0..CONCURRENCY).map(|_| work()).collect();
        for task in tasks {
            task.await??;
        }
        Ok(())
    })
}

/// The same with a thread for each connection and a minimal HTTP client.
fn replay_bare(port: &str, targets: &[String]) -> Measured<()> {
    let port: u16 = port.parse()?;
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let work = || -> Result<(), String> {
            let mut client = Client::connect(port).map_err(|error| error.to_string())?;
            while let Some(target) = targets.get(next.fetch_add(1, Ordering::Relaxed)) {
                let (status, _) = client.get(target, TOKEN).map_err(|error| error.to_string())?;
                if status != 200 {
                    return Err(format!("{target} answered {status}"));
                }
            }
            Ok(())
        };
        let threads: Vec<_> = (0..CONCURRENCY).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a client panicked".to_string())?)
    })?;
    Ok(())
}

/// Appends `rows` rows in `commits` transactions. Each transaction is on disk before the next one begins.
fn commit_all(path: &Path, commits: usize, rows: usize) -> Measured<()> {
    let base = rusqlite::Connection::open(path)?;
    base.pragma_update(None, "journal_mode", "WAL")?;
    base.pragma_update(None, "synchronous", "FULL")?;
    base.execute_batch("CREATE TABLE ledger (seq INTEGER PRIMARY KEY, body TEXT)")?;
    let body = "x".repeat(BODY);
    let mut seq = 0;
    for commit in 0..commits {
        base.execute_batch("BEGIN IMMEDIATE")?;
        while seq < rows * (commit + 1) / commits {
            seq += 1;
            base.prepare_cached("INSERT INTO ledger VALUES (?1, ?2)")?.execute(rusqlite::params![seq, body])?;
        }
        base.execute_batch("COMMIT")?;
    }
    Ok(())
}
