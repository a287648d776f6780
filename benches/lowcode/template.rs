//! The cost of one evaluation of a template.

use crate::stats::median;
use crate::table::Table;
use crate::{Measured, scaled};
use futures_util::future::BoxFuture;
use lowcode::bounds::Bounds;
use lowcode::config::Config;
use lowcode::host::{Host, HostError, HostRequest, HostResponse};
use lowcode::interpolation::{InterpolatedString, Scope};
use lowcode::value::{Dict, Value};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// The number of evaluations in one run.
const EVALUATIONS: usize = 200_000;
const RUNS: usize = 9;
/// The target for the time of one evaluation.
const MAX_TIME: Duration = Duration::from_micros(2);

/// A host that refuses every call.
pub struct Nowhere;

impl Host for Nowhere {
    fn send(&self, _call: HostRequest) -> BoxFuture<'_, Result<HostResponse, HostError>> {
        let message = "the bench does not call anything".to_string();
        Box::pin(std::future::ready(Err(HostError::refused(message))))
    }

    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::now()
    }

    fn pause(&self, _wait: Duration) -> BoxFuture<'_, Result<(), HostError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn uuid(&self) -> String {
        "00000000-0000-4000-8000-000000000000".to_string()
    }
}

/// Measures a plain expression, for which the interpreter has a shortcut, and one without a shortcut.
pub fn measure(table: &mut Table) -> Measured<()> {
    let config = Value::Dict(Dict::from_iter([("x".into(), Value::str("a value of a config"))]));
    let slice = Value::Dict(Dict::from_iter([("id".into(), Value::Int(42))]));
    let (parameters, bounds) = (Value::Dict(Dict::default()), Bounds::default());
    let scope = Scope {
        config: Config::new(&config),
        parameters: &parameters,
        vars: vec![("stream_slice", &slice)],
        host: &Nowhere,
        bounds: &bounds,
    };
    for (text, aimed) in [("{{ config['x'] }}", true), ("/v1/{{ stream_partition.id }}/{{ config['x'] | upper }}", false)] {
        let template = InterpolatedString::new(text, &parameters);
        let mut runs = Vec::new();
        for _ in 0..RUNS {
            let times = scaled(EVALUATIONS, 1000);
            let started = Instant::now();
            for _ in 0..times {
                black_box(template.eval(black_box(&scope), &[]))?;
            }
            runs.push(started.elapsed() / u32::try_from(times)?);
        }
        let each = median(&runs);
        let aim = if aimed { "< 2000 ns" } else { "none" };
        table.add(format!("template {text}"), format!("{} ns", each.as_nanos()), "none", "", aim, !aimed || each < MAX_TIME);
    }
    Ok(())
}
