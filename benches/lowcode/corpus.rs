//! The time from the text of a manifest to its catalog, for each manifest of the corpus that this engine can run.

use crate::Measured;
use crate::stats::{ms, percentile};
use crate::table::Table;
use crate::template::Nowhere;
use lowcode::bounds::Bounds;
use lowcode::commands::{CommandResult, Commands};
use lowcode::context::Run;
use lowcode::value::Value;
use lowcode::{config_rules, load};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The number of runs of each manifest. The fastest run counts, because other processes slow down some runs.
const RUNS: usize = 5;
/// The target for the median.
const MAX_MEDIAN: Duration = Duration::from_millis(5);

/// Measures all manifests of the corpus; the table also shows how many they are.
pub fn measure(table: &mut Table) -> Measured<()> {
    let data = std::env::var_os("AAM_PARITY_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/lowcode"), PathBuf::from);
    let mut files: Vec<PathBuf> = std::fs::read_dir(data.join("catalogs"))
        .map_err(|error| format!("{}: {error}", data.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    files.sort();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut times = Vec::new();
    for file in &files {
        let expected: serde_json::Value = serde_json::from_slice(&std::fs::read(file)?)?;
        if expected.get("catalog").is_none_or(serde_json::Value::is_null) {
            continue;
        }
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(data.join("manifests").join(format!("{name}.yaml")))?;
        let config = Value::from(expected.get("config").cloned().unwrap_or_default());
        let mut best: Option<Duration> = None;
        for _ in 0..RUNS {
            let started = Instant::now();
            if !runtime.block_on(discover(&text, &name, &config)) {
                best = None;
                break;
            }
            let took = started.elapsed();
            best = Some(best.map_or(took, |best| best.min(took)));
        }
        times.extend(best);
    }
    let (median, worst) = (percentile(&times, 50), percentile(&times, 99));
    let figure = format!("discover, {} of {} manifests", times.len(), files.len());
    table.add(format!("{figure}, median"), ms(median), "none", "", "< 5 ms", median < MAX_MEDIAN);
    table.add(format!("{figure}, p99"), ms(worst), "none", "", "none", true);
    Ok(())
}

/// Whether discovery produced a catalog.
async fn discover(text: &str, name: &str, config: &Value) -> bool {
    let bounds = Bounds::default();
    let Ok(manifest) = load::load(text, name, &bounds) else { return false };
    if manifest.runnable().is_err() {
        return false;
    }
    let Ok(config) = config_rules::normalise(&manifest, config, &Nowhere, &bounds) else { return false };
    let commands = Commands { manifest: &manifest, config: &config.config, host: &Nowhere, bounds: &bounds };
    let run = Run::new(&commands.context());
    let mut bytes = 0;
    let ended = commands.discover(&run, &mut |message| bytes += message.line().len()).await;
    ended == CommandResult::Succeeded && bytes > 0
}
