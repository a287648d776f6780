//! How long to wait before a retry: the strategies of `error_handlers/backoff_strategies/`.

use super::resolution::Outcome;
use crate::context::{Context, EMPTY};
use crate::error::{Failed, FailureType};
use crate::interpolation::{InterpolatedAny, InterpolatedString, Scope};
use crate::value::{Dict, Value, float_repr};
use fancy_regex::Regex;

/// One backoff strategy.
#[derive(Clone, Debug)]
pub enum Backoff {
    Constant { seconds: InterpolatedString, jitter: Option<f64> },
    Exponential { factor: InterpolatedString, jitter: Option<f64> },
    FromHeader(HeaderWait),
    UntilHeader { wait: HeaderWait, min: Option<InterpolatedString> },
    FromResponse { seconds: InterpolatedAny, text: String, max: Option<InterpolatedString> },
}

/// How long to wait before a retry.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BackoffWait {
    pub seconds: f64,
    /// Whether the response gave the time. If not, only the manifest did.
    pub requested: bool,
}

/// A waiting time that the server sends in a header.
#[derive(Clone, Debug)]
pub struct HeaderWait {
    header: InterpolatedString,
    regex: Option<InterpolatedString>,
    max: Option<InterpolatedString>,
}

impl Backoff {
    /// Builds a backoff strategy.
    ///
    /// # Errors
    /// Fails if the strategy is unknown, or if the longest wait is not a number.
    pub fn build(node: &Value, ctx: &Context<'_>) -> Result<Backoff, Failed> {
        let parameters = node.get("$parameters").unwrap_or(&EMPTY);
        let text = |value: &Value| InterpolatedString::new(&value.to_str(), parameters);
        let field = |key: &str| node.get(key).filter(|it| !it.is_none());
        let jitter = field("jitter_range_in_seconds").and_then(Value::number);
        let max = field("max_waiting_time_in_seconds").map(text);
        longest(max.as_ref(), &ctx.scope())?;
        let wait = || HeaderWait {
            header: InterpolatedString::new(node.get("header").and_then(Value::as_str).unwrap_or_default(), parameters),
            regex: field("regex").filter(|it| it.truthy()).map(text),
            max: max.clone(),
        };
        Ok(match node.get("type").and_then(Value::as_str).unwrap_or_default() {
            "ConstantBackoffStrategy" => {
                Backoff::Constant { seconds: text(node.get("backoff_time_in_seconds").unwrap_or(&Value::None)), jitter }
            }
            "ExponentialBackoffStrategy" => {
                let factor = field("factor").filter(|it| it.truthy()).map_or_else(|| text(&Value::Int(5)), text);
                Backoff::Exponential { factor, jitter }
            }
            "WaitTimeFromHeader" => Backoff::FromHeader(wait()),
            "WaitUntilTimeFromHeader" => Backoff::UntilHeader { wait: wait(), min: field("min_wait").map(text) },
            "WaitTimeFromResponse" => {
                let seconds = node.get("wait_time_in_seconds").map(Value::to_str).unwrap_or_default();
                Backoff::FromResponse { seconds: InterpolatedAny::new(&seconds, parameters), text: seconds, max }
            }
            other => return Err(Failed::system("ValueError", format!("Unknown backoff strategy {other}"))),
        })
    }

    /// Returns how long to wait before the retry, or `None` if the next strategy is to decide. `attempt` counts from 1.
    ///
    /// # Errors
    /// Fails if a template fails, or if the server requests a longer wait than the manifest allows.
    pub fn wait(&self, outcome: Outcome<'_>, attempt: u32, scope: &Scope<'_>) -> Result<Option<BackoffWait>, Failed> {
        let own = |seconds| Some(BackoffWait { seconds, requested: false });
        let requested = |seconds| BackoffWait { seconds, requested: true };
        let wait = match self {
            Backoff::Constant { seconds, jitter } => own(jittered(float(&seconds.eval(scope, &[])?)?, *jitter)),
            Backoff::Exponential { factor, jitter } => {
                let factor = float(&factor.eval(scope, &[])?)?;
                own(jittered(factor * 2_f64.powf(f64::from(attempt)), *jitter))
            }
            Backoff::FromHeader(wait) => {
                let seconds = wait.number(outcome, scope)?;
                if let (Some(seconds), Outcome::Response(_)) = (seconds.filter(|it| *it != 0.0), outcome) {
                    capped(seconds, wait.max.as_ref(), scope)?;
                }
                seconds.map(requested)
            }
            Backoff::UntilHeader { wait, min } => until(wait, min.as_ref(), outcome, scope)?,
            Backoff::FromResponse { seconds, text, max } => match from_response(seconds, text, outcome, scope) {
                Some(seconds) if seconds != 0.0 => {
                    // The template may also be a constant, which is not a request of the source.
                    let requested = ["response", "headers"].iter().any(|name| text.contains(name));
                    Some(BackoffWait { seconds: capped(seconds, max.as_ref(), scope)?, requested })
                }
                _ => None,
            },
        };
        Ok(wait.filter(|it| it.seconds.is_finite()))
    }
}

fn jittered(seconds: f64, jitter: Option<f64>) -> f64 {
    seconds + jitter.map_or(0.0, |range| fastrand::f64() * range * 2.0)
}

fn until(
    wait: &HeaderWait,
    min: Option<&InterpolatedString>,
    outcome: Outcome<'_>,
    scope: &Scope<'_>,
) -> Result<Option<BackoffWait>, Failed> {
    let until = wait.number(outcome, scope)?.filter(|it| *it != 0.0);
    let min = match min {
        Some(min) => Some(min.eval(scope, &[])?).filter(Value::truthy).map(|it| float(&it)).transpose()?,
        None => None,
    };
    let now = scope.host.now().as_microsecond() as f64 / 1e6;
    let seconds = match (until, min) {
        (None, None) => return Ok(None),
        (None, Some(min)) => min,
        (Some(until), Some(min)) => min.max(until - now),
        (Some(until), None) if until < now => return Ok(None),
        (Some(until), None) => until - now,
    };
    let requested = until.is_some_and(|until| until > now);
    Ok(Some(BackoffWait { seconds: capped(seconds, wait.max.as_ref(), scope)?, requested }))
}

fn from_response(seconds: &InterpolatedAny, text: &str, outcome: Outcome<'_>, scope: &Scope<'_>) -> Option<f64> {
    let mut response = Value::Dict(Dict::default());
    let mut headers = Value::Dict(Dict::default());
    if let Outcome::Response(received) = outcome {
        response = received.json().cloned().unwrap_or(response);
        headers = received.headers_value();
    }
    let insensitive = Value::Bool(true);
    let vars = vec![("response", &response), ("headers", &headers), ("headers.insensitive", &insensitive)];
    let value = seconds.eval(&Scope { vars, ..scope.clone() }, &[]).ok()?;
    if value.as_str() == Some(text) {
        return None;
    }
    float(&value).ok().filter(|it| it.is_finite() && *it >= 0.0)
}

impl HeaderWait {
    /// Returns the number in the header.
    fn number(&self, outcome: Outcome<'_>, scope: &Scope<'_>) -> Result<Option<f64>, Failed> {
        let name = self.header.eval_str(scope)?;
        let regex = match &self.regex {
            // Python's `re.match` matches only at the start.
            Some(regex) => Some(compile(&regex.eval_str(scope)?)?),
            None => None,
        };
        let Outcome::Response(response) = outcome else { return Ok(None) };
        let Some(value) = response.header(&name) else { return Ok(None) };
        let matched = regex.and_then(|it| it.find(&*value).ok().flatten().map(|found| found.as_str().to_owned()));
        Ok(parse_float(matched.as_deref().unwrap_or(&value)))
    }
}

fn compile(pattern: &str) -> Result<Regex, Failed> {
    let mut builder = fancy_regex::RegexBuilder::new(&format!("\\A(?:{pattern})"));
    builder.backtrack_limit(100_000);
    builder.build().map_err(|error| Failed::system("error", format!("{pattern:?} is not a valid regular expression: {error}")))
}

/// The longest wait that the manifest allows.
fn longest(max: Option<&InterpolatedString>, scope: &Scope<'_>) -> Result<Option<f64>, Failed> {
    let Some(max) = max else { return Ok(None) };
    let value = max.eval(scope, &[]).map_err(Failed::from).and_then(|it| float(&it));
    match value {
        Ok(seconds) if seconds.is_finite() => Ok(Some(seconds)),
        _ => Err(Failed::system(
            "AirbyteTracedException",
            "The connector could not determine how long it is allowed to wait for a rate limit to clear. \
             This is a problem with the connector rather than with your configuration.",
        )),
    }
}

/// Returns `seconds`. Fails if they reach the longest wait.
fn capped(seconds: f64, max: Option<&InterpolatedString>, scope: &Scope<'_>) -> Result<f64, Failed> {
    match longest(max, scope)? {
        Some(max) if seconds >= max => {
            let message = "The rate limit wait time is longer than the connector is allowed to wait.";
            let mut failed = Failed::new(FailureType::TransientError, "AirbyteTracedException", message);
            failed.internal = Some(format!(
                "Rate limit wait time {}s is greater than or equal to the maximum of {}s this stream is allowed to wait. \
                 Stopping the stream...",
                float_repr(seconds),
                float_repr(max)
            ));
            Err(failed)
        }
        _ => Ok(seconds),
    }
}

/// Implements Python's `float(text)`. Returns `None` if the text is not a number.
#[must_use]
pub fn parse_float(text: &str) -> Option<f64> {
    let text = text.trim();
    let bytes = text.as_bytes();
    let digit = |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_digit);
    let underscores = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'_');
    if underscores.into_iter().any(|(at, _)| !digit(at.checked_sub(1)) || !digit(Some(at + 1))) {
        return None;
    }
    text.replace('_', "").parse().ok()
}

/// Implements Python's `float(value)`.
fn float(value: &Value) -> Result<f64, Failed> {
    match value {
        Value::Str(text) => parse_float(text).ok_or_else(|| {
            let shown = Value::str(text.clone()).repr();
            Failed::system("ValueError", format!("could not convert string to float: {shown}"))
        }),
        other => other.number().ok_or_else(|| {
            let kind = other.type_name();
            Failed::system("TypeError", format!("float() argument must be a string or a real number, not '{kind}'"))
        }),
    }
}
