//! `HTTPAPIBudget`: the call rates of the manifest (`streams/call_rate.py`).
//!
//! The host is asked to wait so that a rate is not exceeded. Rate-limit headers of responses are not used. The error
//! handler's backoff and the host's own limits already react to a server that limits the rate, and they are stricter.

use crate::context::{Context, Run};
use crate::datetime::iso::{Span, parse_duration};
use crate::error::Failed;
use crate::host::{HostRequest, PauseReason};
use crate::request::matcher::{Matcher, count};
use crate::value::Value;
use jiff::SignedDuration;

/// The length of a fixed window. The CDK lets it end after ten days, whatever its period is
/// (`create_fixed_window_call_rate_policy`).
const FIXED_WINDOW: SignedDuration = SignedDuration::from_hours(240);

/// The policies of a manifest. The first policy that matches a request applies.
#[derive(Debug, Default)]
pub(super) struct Budget(Vec<Policy>);

#[derive(Debug)]
struct Policy {
    matchers: Vec<Matcher>,
    /// The number of requests allowed within each period. Empty for an unlimited policy.
    rates: Vec<(usize, SignedDuration)>,
}

impl Budget {
    /// Reads `api_budget` of the manifest.
    ///
    /// # Errors
    /// Fails if a duration, a limit or a pattern is not valid.
    pub(super) fn build(ctx: &Context<'_>) -> Result<Budget, Failed> {
        let policies = ctx.manifest.get("api_budget").and_then(|it| it.get("policies")).and_then(Value::as_list);
        policies.unwrap_or_default().iter().map(|node| Policy::build(node, ctx)).collect::<Result<_, _>>().map(Budget)
    }

    /// Waits until the request does not exceed the rate of its policy.
    ///
    /// # Errors
    /// Fails if the host refuses to wait that long, or if the request alone exceeds the rate.
    pub(super) async fn acquire(&self, run: &Run<'_>, request: &HostRequest) -> Result<(), Failed> {
        let Some((index, policy, weight)) =
            self.0.iter().enumerate().find_map(|(index, policy)| policy.weight(request).map(|weight| (index, policy, weight)))
        else {
            return Ok(());
        };
        if policy.rates.iter().any(|(limit, _)| weight > *limit) {
            return Err(Failed::system("ValueError", "Weight can not exceed the call limit"));
        }
        if let Some(wait) = run.rates.take(index, &policy.rates, weight, run.host.now()) {
            run.host.pause_for(wait, PauseReason::Budget).await.map_err(Failed::host)?;
        }
        Ok(())
    }
}

impl Policy {
    fn build(node: &Value, ctx: &Context<'_>) -> Result<Policy, Failed> {
        let list = |key: &str| node.get(key).and_then(Value::as_list).unwrap_or_default();
        let rates = match node.get("type").and_then(Value::as_str) {
            Some("MovingWindowCallRatePolicy") => {
                list("rates").iter().map(|rate| rate_of(rate, ctx)).collect::<Result<Vec<_>, _>>()?
            }
            Some("FixedWindowCallRatePolicy") => vec![(count(node.get("call_limit"), ctx)?, FIXED_WINDOW)],
            _ => Vec::new(),
        };
        let matchers = list("matchers").iter().map(|it| Matcher::build(it, ctx)).collect::<Result<_, _>>()?;
        Ok(Policy { matchers, rates })
    }

    /// Returns the weight of the request, or `None` if this policy does not apply to it.
    fn weight(&self, request: &HostRequest) -> Option<usize> {
        if self.matchers.is_empty() {
            return Some(1);
        }
        self.matchers.iter().find(|it| it.matches(request)).map(Matcher::weight)
    }
}

fn rate_of(rate: &Value, ctx: &Context<'_>) -> Result<(usize, SignedDuration), Failed> {
    let interval = rate.get("interval").map(Value::to_str).unwrap_or_default();
    let Span::Delta(delta) = parse_duration(&interval)? else {
        return Err(Failed::system("AttributeError", "'Duration' object has no attribute 'total_seconds'"));
    };
    let micros = i64::try_from(delta.micros).unwrap_or(i64::MAX);
    Ok((count(rate.get("limit"), ctx)?, SignedDuration::from_micros(micros)))
}
