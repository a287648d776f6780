//! Decides what a response means. The filters of the manifest come first, then the mapping of the CDK
//! (`error_handlers/default_error_handler.py`, `composite_error_handler.py`).

pub mod backoff;
pub mod filter;
pub mod mapping;
pub mod message;
pub mod resolution;

pub use resolution::{Action, Outcome, Resolution};

use super::context::{Context, EMPTY};
use super::error::Failed;
use super::interpolation::{InterpolatedString, Scope};
use super::value::Value;
use backoff::Backoff;
use filter::Filter;

/// An error handler of the manifest.
#[derive(Clone, Debug)]
pub enum ErrorHandler {
    Default { filters: Vec<Filter>, max_retries: Option<i64>, backoffs: Vec<Backoff> },
    Composite(Vec<ErrorHandler>),
}

/// The number of retries if the manifest does not specify it (`HttpClient._DEFAULT_MAX_RETRY`).
const MAX_RETRIES: i64 = 5;

impl ErrorHandler {
    /// Returns the handler of a requester that does not define one.
    #[must_use]
    pub fn plain() -> ErrorHandler {
        ErrorHandler::Default { filters: Vec::new(), max_retries: Some(MAX_RETRIES), backoffs: Vec::new() }
    }

    /// Builds a DefaultErrorHandler or a CompositeErrorHandler.
    ///
    /// # Errors
    /// Fails with ValueError in the same cases as the CDK.
    pub fn build(node: &Value, ctx: &Context<'_>) -> Result<ErrorHandler, Failed> {
        let list = |key: &str| node.get(key).and_then(Value::as_list).unwrap_or_default();
        match node.get("type").and_then(Value::as_str) {
            Some("CompositeErrorHandler") => {
                let handlers: Vec<_> =
                    list("error_handlers").iter().map(|it| ErrorHandler::build(it, ctx)).collect::<Result<_, _>>()?;
                if handlers.is_empty() {
                    let message = "CompositeErrorHandler expects at least 1 underlying error handler";
                    return Err(Failed::system("ValueError", message));
                }
                Ok(ErrorHandler::Composite(handlers))
            }
            Some("DefaultErrorHandler") => Ok(ErrorHandler::Default {
                backoffs: list("backoff_strategies").iter().map(|it| Backoff::build(it, ctx)).collect::<Result<_, _>>()?,
                filters: list("response_filters").iter().map(Filter::build).collect::<Result<_, _>>()?,
                max_retries: max_retries(node, ctx)?,
            }),
            other => Err(Failed::system("ValueError", format!("Unknown error handler {}", other.unwrap_or("None")))),
        }
    }

    /// Decides what to do about `outcome`.
    ///
    /// # Errors
    /// Fails if a template of a filter fails.
    pub fn interpret(&self, outcome: Outcome<'_>, scope: &Scope<'_>) -> Result<Resolution, Failed> {
        match self {
            ErrorHandler::Default { filters, .. } => {
                for filter in filters {
                    if let Some(resolution) = filter.matches(outcome, scope)? {
                        return Ok(resolution);
                    }
                }
                Ok(match outcome {
                    Outcome::Response(response) if response.ok() => {
                        Resolution { action: Action::Success, failure_type: None, message: None }
                    }
                    other => mapping::by_default(other),
                })
            }
            // The first decision other than "fail" is used. If there is none, the last decision is used.
            ErrorHandler::Composite(handlers) => {
                let mut last = None;
                for handler in handlers {
                    let resolution = handler.interpret(outcome, scope)?;
                    let soft = [Action::Fail, Action::RateLimited, Action::RefreshTokenThenRetry];
                    if !soft.contains(&resolution.action) {
                        return Ok(resolution);
                    }
                    last = Some(resolution);
                }
                Ok(last.unwrap_or_else(|| mapping::by_default(outcome)))
            }
        }
    }

    /// Returns how often a request is retried.
    #[must_use]
    pub fn max_retries(&self) -> i64 {
        match self {
            ErrorHandler::Default { max_retries, .. } => max_retries.unwrap_or(MAX_RETRIES),
            ErrorHandler::Composite(handlers) => handlers.first().map_or(MAX_RETRIES, ErrorHandler::max_retries),
        }
    }

    /// Returns all backoff strategies in order.
    pub fn backoffs(&self, out: &mut Vec<Backoff>) {
        match self {
            ErrorHandler::Default { backoffs, .. } => out.extend(backoffs.iter().cloned()),
            ErrorHandler::Composite(handlers) => handlers.iter().for_each(|it| it.backoffs(out)),
        }
    }
}

fn max_retries(node: &Value, ctx: &Context<'_>) -> Result<Option<i64>, Failed> {
    let value = match node.get("max_retries") {
        None => return Ok(Some(MAX_RETRIES)),
        Some(Value::None) => return Ok(None),
        Some(Value::Str(text)) => {
            let parameters = node.get("$parameters").unwrap_or(&EMPTY);
            InterpolatedString::with_default(text, parameters, "5").eval(&ctx.scope(), &[])?
        }
        Some(other) => other.clone(),
    };
    let int = match &value {
        Value::Float(float) if float.is_finite() => Some(*float as i64),
        Value::Bool(bool) => Some(i64::from(*bool)),
        Value::Str(text) => text.trim().parse().ok(),
        other => other.as_i64(),
    };
    int.map(Some).ok_or_else(|| {
        let message = format!("DefaultErrorHandler.max_retries did not evaluate to an integer (got {})", value.repr());
        Failed::system("ValueError", message)
    })
}
