//! spec, check, discover and read: the built binary and the Python command side by side.

use crate::Measured;
use crate::process::{Spent, spent};
use crate::shop::{Shop, TOKEN};
use crate::stats::{median, ms};
use crate::table::Table;
use std::path::Path;

/// The number of runs of each side, which take turns. The Python command takes seconds.
const AAM_RUNS: usize = 15;
const PYTHON_RUNS: usize = 3;
/// The targets: how many times less wall time and memory than the Python command.
const MIN_WALL_RATIO: f64 = 100.0;
const MIN_MEMORY_RATIO: f64 = 6.0;

/// Runs both commands with one manifest, one config and one server.
pub fn measure(table: &mut Table) -> Measured<()> {
    let theirs = std::env::var("AAM_TEST_CDK_COMMAND")
        .map_err(|_| "the Python command was not found; run scripts/with_peers.sh cdk -- cargo bench")?;
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/lowcode/shop.yaml");
    let shop = Shop::start();
    let home = tempfile::Builder::new().prefix("aam-bench").tempdir()?;
    let (config, catalog, policy) =
        (home.path().join("config.json"), home.path().join("catalog.json"), home.path().join("policy.yaml"));
    let values = serde_json::json!({
        "base_url": format!("{}/ok", shop.url), "api_key": TOKEN, "start_date": "2024-01-01T00:00:00Z", "shop": "north"
    });
    std::fs::write(&config, values.to_string())?;
    std::fs::write(&catalog, configured().to_string())?;
    std::fs::write(
        &policy,
        "version: 1\nallowlist: [openapi]\nnetwork: {allow_private: [127.0.0.0/8]}\n\
         caps: {default: {per_second: 1000, burst: 1000, per_day: 100000, concurrency: 8}}\n",
    )?;
    let (config, catalog, policy) = (text(&config)?, text(&catalog)?, text(&policy)?);
    for command in ["spec", "check", "discover", "read"] {
        let files: &[&str] = match command {
            "spec" => &[],
            "read" => &["--config", config, "--catalog", catalog],
            _ => &["--config", config],
        };
        let mine = [&["lowcode", command, "--manifest", manifest, "--policy", policy], files].concat();
        // `spec` of the Python command does not accept a manifest.
        let python = if command == "spec" { vec!["spec"] } else { [&[command, "--manifest-path", manifest], files].concat() };
        let (mut ours, mut others) = (Vec::new(), Vec::new());
        for _ in 0..PYTHON_RUNS {
            others.push(spent(&theirs, &python, &[])?);
            for _ in 0..AAM_RUNS / PYTHON_RUNS {
                ours.push(spent(env!("CARGO_BIN_EXE_aam"), &mine, &[])?);
            }
        }
        add(table, command, &ours, &others);
    }
    Ok(())
}

fn add(table: &mut Table, command: &str, ours: &[Spent], theirs: &[Spent]) {
    let wall = |runs: &[Spent]| median(&runs.iter().map(|run| run.wall).collect::<Vec<_>>());
    let (mine, other) = (wall(ours), wall(theirs));
    let ratio = other.as_secs_f64() / mine.as_secs_f64();
    table.add(format!("lowcode {command}"), ms(mine), ms(other), format!("{ratio:.0}"), ">= 100", ratio >= MIN_WALL_RATIO);
    let (mine, other) =
        (ours.iter().map(|run| run.peak).fold(0.0, f64::max), theirs.iter().map(|run| run.peak).fold(f64::INFINITY, f64::min));
    let ratio = other / mine;
    let mb = |size: f64| format!("{size:.1} MB");
    table.add(
        format!("lowcode {command}, peak memory"),
        mb(mine),
        mb(other),
        format!("{ratio:.1}"),
        ">= 6",
        ratio >= MIN_MEMORY_RATIO,
    );
}

/// The configured catalog of the three streams, as a platform sends it.
fn configured() -> serde_json::Value {
    let streams: Vec<_> = ["customers", "orders", "events"]
        .into_iter()
        .map(|name| {
            serde_json::json!({
                "stream": {"name": name, "json_schema": {}, "supported_sync_modes": ["full_refresh"]},
                "sync_mode": "full_refresh", "destination_sync_mode": "append"
            })
        })
        .collect();
    serde_json::json!({ "streams": streams })
}

fn text(path: &Path) -> Measured<&str> {
    path.to_str().ok_or_else(|| "the path of the folder is not UTF-8".into())
}
