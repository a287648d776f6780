//! `PageSizeReduction`: a page that the source rejects is requested again with a smaller size (`page_size_reducer.py`).

use crate::context::Run;
use crate::error::{Failed, FailureType};
use crate::host::PauseReason;
use crate::interpolation::stop_condition;
use crate::node::{field, items, kind, set_field, text};
use crate::value::Value;
use std::time::Duration;

const TRACED: &str = "AirbyteTracedException";

/// By how much the size of a page is reduced, and how often.
#[derive(Debug)]
pub struct PageSizeReduction {
    factor: f64,
    minimum: i64,
    max_attempts: u32,
    /// The wait before the page is requested again, in seconds. It is multiplied by the attempts in a row.
    wait: f64,
    retries_at_minimum: u32,
    failure_message: String,
    resets: bool,
}

impl PageSizeReduction {
    /// Reads `page_size_reduction` of a SimpleRetriever.
    ///
    /// # Errors
    /// Fails with ValueError where the CDK does: if smaller pages could lose records, or if nothing could be reduced.
    pub fn build(node: &Value, name: &str, has_properties: bool) -> Result<Option<PageSizeReduction>, Failed> {
        let is_used = uses_action(field(field(node, "requester"), "error_handler"));
        let Some(own) = set_field(node, "page_size_reduction") else {
            return match is_used {
                false => Ok(None),
                true => Err(refused(format!(
                    "Stream {name} has a response filter with the REDUCE_PAGE_SIZE action but the retriever does not define \
                     `page_size_reduction`. Add a `page_size_reduction` block to the retriever."
                ))),
            };
        };
        let number = |key: &str| set_field(own, key).and_then(Value::number);
        let count = |key: &str, default: u32| {
            set_field(own, key).and_then(Value::as_i64).and_then(|it| u32::try_from(it).ok()).unwrap_or(default)
        };
        let minimum = set_field(own, "minimum_page_size").and_then(Value::as_i64).unwrap_or(1);
        check(node, name, minimum, has_properties)?;
        Ok(Some(PageSizeReduction {
            factor: number("reduction_factor").unwrap_or(2.0),
            minimum,
            max_attempts: count("max_attempts", 5),
            wait: number("backoff_seconds").unwrap_or(0.5),
            retries_at_minimum: count("retries_at_minimum_page_size", 0),
            failure_message: text(own, "failure_message").unwrap_or_default().trim().to_owned(),
            resets: text(own, "reset_policy") == Some("AFTER_SUCCESSFUL_PAGE"),
        }))
    }
}

fn refused(message: String) -> Failed {
    Failed::system("ValueError", message)
}

/// Whether the manifest reduces the page for some response of this error handler.
fn uses_action(handler: &Value) -> bool {
    match kind(handler) {
        "CompositeErrorHandler" => items(handler, "error_handlers").iter().any(uses_action),
        _ => items(handler, "response_filters").iter().any(|it| text(it, "action") == Some("REDUCE_PAGE_SIZE")),
    }
}

/// Refuses the action on a requester that cannot request its page again.
///
/// # Errors
/// Fails with ValueError, as in the CDK.
pub fn refuse_action(requester: &Value, whose: &str) -> Result<(), Failed> {
    match uses_action(field(requester, "error_handler")) {
        false => Ok(()),
        true => Err(refused(format!(
            "The REDUCE_PAGE_SIZE response action is not supported on the {whose}: only the main requester of a \
             SimpleRetriever can re-issue its page with a smaller page size. Use a different action on that error handler."
        ))),
    }
}

/// Implements `_validate_page_size_reduction_is_supported`.
fn check(node: &Value, name: &str, minimum: i64, has_properties: bool) -> Result<(), Failed> {
    let refuse = |text: String| Err(refused(format!("`page_size_reduction` {text}")));
    if has_properties {
        return refuse(format!(
            "cannot be used together with query properties on stream {name}. Records from the earlier property chunks have \
             already been emitted when a chunk asks for a smaller page, so retrying the page would emit them twice."
        ));
    }
    let paginator = field(node, "paginator");
    if kind(paginator) != "DefaultPaginator" {
        return refuse(format!(
            "requires a DefaultPaginator on stream {name} so that the connector can send a smaller page size."
        ));
    }
    if set_field(paginator, "page_size_option").is_none() {
        return refuse(format!(
            "requires `page_size_option` on the paginator of stream {name}: without it the connector cannot tell the API to \
             send a smaller page."
        ));
    }
    if kind(field(paginator, "page_token_option")) == "RequestPath" {
        return refuse(format!(
            "does not support a `page_token_option` of type RequestPath on stream {name}. The next page is then requested \
             through a URL returned by the API, which already carries the page size, so the reduced page size would be sent \
             alongside the original one. Use a CursorPagination strategy with a `page_token_option` of type RequestOption \
             instead."
        ));
    }
    let strategy = field(paginator, "pagination_strategy");
    if !matches!(kind(strategy), "CursorPagination" | "OffsetIncrement") {
        return refuse(format!(
            "does not support the {} pagination strategy used by stream {name}. Pages are addressed as page number * page \
             size, so a smaller page size shifts every following page boundary and would skip records. Use OffsetIncrement or \
             CursorPagination.",
            kind(strategy)
        ));
    }
    let size = match set_field(strategy, "page_size") {
        None => {
            return refuse(format!(
                "requires `page_size` on the pagination strategy of stream {name}: without it the paginator does not send a \
                 page size, so there is nothing to reduce."
            ));
        }
        Some(Value::Str(text)) => text.trim().parse::<i64>().ok(),
        Some(other) => other.as_i64(),
    };
    if let Some(size) = size.filter(|size| *size <= minimum) {
        return refuse(format!(
            "on stream {name} can never reduce its page size: the pagination strategy's `page_size` is {size} and \
             `minimum_page_size` is {minimum}. Lower `minimum_page_size` or raise `page_size`."
        ));
    }
    match text(strategy, "stop_condition").filter(|_| kind(strategy) == "CursorPagination") {
        Some(condition) if stop_condition::truncates(condition, minimum) => refuse(format!(
            "on stream {name} cannot be used with the `stop_condition` {}: it stops as soon as a page is smaller than a size \
             that does not follow the reduction.",
            Value::str(condition).repr()
        )),
        _ => Ok(()),
    }
}

/// The page size while one slice is read.
#[derive(Debug, Default)]
pub struct PageSize {
    /// The reduced size. `None` while the size of the manifest is in effect.
    pub reduced: Option<i64>,
    /// The number of reductions in a row.
    attempts: u32,
    total: u32,
    retries_at_minimum: u32,
}

impl PageSize {
    /// Reduces the size and waits before the page is requested again. `rejection` is the message of the error handler.
    ///
    /// # Errors
    /// Fails if the size cannot be reduced further and no retry is left.
    pub async fn reduce(
        &mut self,
        of: &PageSizeReduction,
        configured: Option<i64>,
        name: &str,
        rejection: Option<&str>,
        run: &Run<'_>,
    ) -> Result<(), Failed> {
        let rejection = rejection.map(|it| format!("; the API rejected the page: {it}")).unwrap_or_default();
        let Some(current) = self.reduced.or(configured) else {
            let message = format!(
                "Stream {name} is set up to reduce its page size on error but does not define one. Set `page_size` on the \
                 pagination strategy and `page_size_option` on the paginator."
            );
            return Err(Failed::config(TRACED, message).with(|it| {
                it.internal = Some(format!(
                    "Stream {name} received a REDUCE_PAGE_SIZE response action but its paginator does not inject a page size"
                ));
            }));
        };
        let smaller = of.minimum.max((current as f64 / of.factor).floor() as i64);
        let wait = if smaller < current {
            self.attempts += 1;
            self.total += 1;
            if self.attempts > of.max_attempts {
                return Err(self.too_many(of, current, name, &rejection));
            }
            self.reduced = Some(smaller);
            of.wait * f64::from(self.attempts)
        } else {
            if self.retries_at_minimum >= of.retries_at_minimum {
                return Err(self.at_minimum(of, current, name, &rejection));
            }
            self.retries_at_minimum += 1;
            of.wait * f64::from(self.retries_at_minimum)
        };
        let wait = Duration::try_from_secs_f64(wait).unwrap_or(Duration::MAX);
        run.host.pause_for(wait, PauseReason::Retry).await.map_err(Failed::host)
    }

    /// Notes that a page was read.
    pub fn succeeded(&mut self, of: &PageSizeReduction) {
        self.attempts = 0;
        self.retries_at_minimum = 0;
        if of.resets {
            self.reduced = None;
        }
    }

    fn too_many(&self, of: &PageSizeReduction, current: i64, name: &str, rejection: &str) -> Failed {
        let message = format!(
            "The source keeps rejecting pages of stream {name} at every page size the connector requested, down to {current} \
             records per page."
        );
        of.failure(message).with(|it| {
            it.internal = Some(format!(
                "Stream {name} reduced its page size {} times in a row without a single page succeeding, which is the \
                 configured maximum of {} ({} reductions so far while reading this partition){rejection}",
                self.attempts - 1,
                of.max_attempts,
                self.total - 1
            ));
        })
    }

    fn at_minimum(&self, of: &PageSizeReduction, current: i64, name: &str, rejection: &str) -> Failed {
        let (minimum, retries) = (of.minimum, self.retries_at_minimum);
        if self.reduced.is_none() && minimum > 1 {
            let spent = if retries > 0 { format!(" ({retries} retries at that size were spent first)") } else { String::new() };
            let message = format!(
                "The page size of stream {name} ({current}) is already at or below the configured minimum of {minimum}, so the \
                 connector cannot reduce it. Raise the page size of the stream, or lower `minimum_page_size`."
            );
            return Failed::config(TRACED, message).with(|it| {
                it.internal = Some(format!(
                    "Stream {name} has a configured page size of {current} which is not greater than the configured minimum \
                     page size of {minimum}, so it can never be reduced{spent}{rejection}"
                ));
            });
        }
        let spent = if retries > 0 { format!(", after {retries} retries at that size") } else { String::new() };
        let message = format!(
            "The source keeps rejecting pages of stream {name} at the smallest page size the connector is allowed to request \
             ({current} records per page)."
        );
        of.failure(message).with(|it| {
            it.internal = Some(format!(
                "Stream {name} still fails with a page size of {current}, which is the smallest page size allowed by the \
                 configured minimum of {minimum}{spent}{rejection}"
            ));
        })
    }
}

impl PageSizeReduction {
    fn failure(&self, message: String) -> Failed {
        let message = match self.failure_message.as_str() {
            "" => message,
            more => format!("{message} {more}"),
        };
        Failed::new(FailureType::TransientError, TRACED, message)
    }
}

#[cfg(test)]
#[path = "page_size_tests.rs"]
mod tests;
