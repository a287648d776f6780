//! Template values against the CDK's: every line of `templates.jsonl` is a template, its variables and what came out.

use super::outcome::Outcome;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use lowcode::bounds::Bounds;
use lowcode::config::Config;
use lowcode::host::{Host, HostError, HostRequest, HostResponse};
use lowcode::interpolation::{EvalError, InterpolatedString, Scope};
use lowcode::value::Value;
use serde::Deserialize;
use std::path::Path;
use std::time::Duration;

/// The host of the vectors: its clock stands at 2025-06-15T12:34:56.789012Z.
struct Frozen;

impl Host for Frozen {
    fn send(&self, _call: HostRequest) -> BoxFuture<'_, Result<HostResponse, HostError>> {
        Box::pin(async { Err(HostError::refused("no calls")) })
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_microsecond(1_749_990_896_789_012).expect("a valid instant")
    }

    fn pause(&self, _wait: Duration) -> BoxFuture<'_, Result<(), HostError>> {
        Box::pin(async { Ok(()) })
    }

    fn uuid(&self) -> String {
        "00000000-0000-4000-8000-000000000000".into()
    }
}

#[derive(Deserialize)]
struct Vector {
    t: String,
    ctx: Value,
    exp: Expected,
}

/// Either the value (which may be null) or the class of the error.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Expected {
    Ok(Value),
    Err(String),
}

/// The value of a template as the CDK's `InterpolatedString` gives it.
fn evaluate(template: &str, context: &Value) -> Result<Value, EvalError> {
    let bounds = Bounds::default();
    let none = Value::Dict(Default::default());
    let get = |name: &str| context.get(name).unwrap_or(&none);
    let known = |name: &str| !matches!(name, "config" | "parameters");
    let vars = context.as_dict().into_iter().flatten().filter(|(name, _)| known(name)).map(|(name, it)| (&**name, it));
    let (config, parameters) = (get("config"), get("parameters"));
    let scope = Scope { config: Config::new(config), parameters, vars: vars.collect(), host: &Frozen, bounds: &bounds };
    InterpolatedString::new(template, parameters).eval(&scope, &[])
}

/// As JSON, so that `1` and `1.0` and `true` differ.
fn shown(value: &Value) -> String {
    serde_json::to_string(value).unwrap_or_else(|error| error.to_string())
}

/// The vectors mark tuples; here they are lists.
fn untupled(value: &Value) -> Value {
    match value {
        Value::Dict(dict) => match dict.get("__tuple__") {
            Some(items) => untupled(items),
            None => Value::Dict(dict.iter().map(|(key, it)| (key.clone(), untupled(it))).collect()),
        },
        Value::List(items) => Value::List(items.iter().map(untupled).collect()),
        other => other.clone(),
    }
}

/// Compares all vectors of `data`.
pub fn run(data: &Path) -> Outcome {
    let mut outcome = Outcome::new("templates");
    let text = std::fs::read_to_string(data.join("templates.jsonl")).unwrap_or_default();
    for line in text.lines() {
        let vector: Vector = match serde_json::from_str(line) {
            Ok(vector) => vector,
            Err(error) => {
                outcome.case(false, || format!("unreadable line: {error}"));
                continue;
            }
        };
        let found = evaluate(&vector.t, &vector.ctx);
        let agrees = match (&vector.exp, &found) {
            (Expected::Ok(wanted), Ok(found)) => shown(&untupled(wanted)) == shown(found),
            (Expected::Err(class), Err(error)) => class == error.class,
            _ => false,
        };
        outcome.case(agrees, || {
            let wanted = match &vector.exp {
                Expected::Ok(value) => shown(value),
                Expected::Err(class) => class.clone(),
            };
            let found = found.as_ref().map_or_else(EvalError::to_string, shown);
            format!("{} with {}: expected {wanted}, found {found}", vector.t, shown(&vector.ctx))
        });
    }
    outcome
}
