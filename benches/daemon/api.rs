//! Responses per second, compared with a server that returns a fixed body.

use crate::Measured;
use crate::daemon::Daemon;
use crate::fixed::Fixed;
use crate::fixture::TOKEN;
use crate::http::rate;
use crate::table::Table;
use std::time::Duration;

/// The number of connections, which are kept alive.
const CONNECTIONS: usize = 8;
/// The duration of one run. Runs of daemon and baseline take turns.
const RUN: Duration = Duration::from_secs(3);
const RUNS: usize = 3;

/// Measures the two requests that dashboards repeat.
pub fn measure(daemon: &Daemon, table: &mut Table) -> Measured<()> {
    for target in ["/metrics/funnel", "/connections?limit=100"] {
        let (status, body) = daemon.get(target)?;
        if status != 200 {
            return Err(format!("{target} answered {status}").into());
        }
        let fixed = Fixed::start(body.len())?;
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            theirs.push(rate(fixed.port, target, TOKEN, CONNECTIONS, RUN)?);
            ours.push(rate(daemon.port, target, TOKEN, CONNECTIONS, RUN)?);
        }
        let (ours, theirs) = (median_rate(ours), median_rate(theirs));
        let ratio = ours / theirs;
        let figure = format!("GET {target} ({} bytes)", body.len());
        table.add(figure, format!("{ours:.0}/s"), format!("hyper {theirs:.0}/s"), format!("{ratio:.2}"), ">= 0.5", ratio >= 0.5);
    }
    Ok(())
}

fn median_rate(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied().unwrap_or_default()
}
