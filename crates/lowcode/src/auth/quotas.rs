//! `RateLimitedMultipleTokenAuthenticator`: several tokens with quotas, of which one is used until its quota is spent
//! (`auth/rate_limited_multiple_token.py`). The streams with equal authenticators share what they know of the quotas.

mod state;

use super::RequesterInfo;
use super::session::Login;
use crate::context::{Context, EMPTY, Run};
use crate::datetime::iso::{Span, parse_duration};
use crate::error::{Failed, FailureType};
use crate::host::{HostRequest, PauseReason};
use crate::interpolation::InterpolatedString;
use crate::node::{field, items, pair, set_field, text};
use crate::request::headers;
use crate::request::matcher::Matcher;
use crate::response::Response;
use crate::tokens::TokenQuotas;
use crate::value::{Dict, Value};
use state::{Reserve, Step, observe, state_of, step};
use std::sync::Arc;
use std::time::Duration;

/// The shortest delay for which the CDK waits, in seconds.
const MIN_DELAY: f64 = 0.1;
const TRACED: &str = "AirbyteTracedException";

/// The authenticator.
pub struct RateLimitedTokens {
    tokens: Vec<String>,
    quotas: Vec<Quota>,
    /// What asks the source for the quotas of a token, for each token.
    status: Vec<Box<dyn Login>>,
    /// The statuses with which the source says that it has no quotas.
    unavailable: Vec<i64>,
    method: String,
    header: String,
    /// In seconds.
    max_wait: f64,
    reserve: Reserve,
    /// Equal for authenticators that share their quotas.
    key: String,
}

/// A `TokenQuota`.
pub(super) struct Quota {
    pub name: String,
    pub remaining_path: Vec<String>,
    pub reset_path: Vec<String>,
    pub limit_path: Vec<String>,
    pub remaining_header: Option<String>,
    pub reset_header: Option<String>,
    pub limit_header: Option<String>,
    pub exhaustion_codes: Vec<i64>,
    matchers: Vec<Matcher>,
}

impl Quota {
    fn build(node: &Value, ctx: &Context<'_>) -> Result<Quota, Failed> {
        let path = |key: &str| items(node, key).iter().map(Value::to_str).collect();
        let header = |key: &str| text(node, key).filter(|it| !it.is_empty()).map(str::to_owned);
        Ok(Quota {
            name: text(node, "name").unwrap_or_default().to_owned(),
            remaining_path: path("remaining_path"),
            reset_path: path("reset_path"),
            limit_path: path("limit_path"),
            remaining_header: header("remaining_header"),
            reset_header: header("reset_header"),
            limit_header: header("limit_header"),
            exhaustion_codes: codes(node, "exhaustion_status_codes"),
            matchers: items(node, "matchers").iter().map(|it| Matcher::build(it, ctx)).collect::<Result<_, _>>()?,
        })
    }
}

impl RateLimitedTokens {
    /// Reads the component.
    ///
    /// # Errors
    /// Fails if the config has no token, or if a template or a duration is not valid.
    pub(super) fn build(node: &Value, of: RequesterInfo<'_>, ctx: &Context<'_>) -> Result<RateLimitedTokens, Failed> {
        let tokens = tokens(node, ctx)?;
        if tokens.is_empty() {
            let failed = Failed::config(TRACED, "Authentication tokens are missing from the configuration.");
            let internal = "RateLimitedMultipleTokenAuthenticator requires at least one token";
            return Err(failed.with(|it| it.internal = Some(internal.to_owned())));
        }
        let source = field(node, "quota_status_source");
        let named = |key: &str, default: &str| text(node, key).filter(|it| !it.is_empty()).unwrap_or(default).to_owned();
        let (method, header) = (named("auth_method", "Bearer"), named("header", "Authorization"));
        let max_wait = eval(&named("max_wait_time", "PT2H"), ctx)?;
        let Span::Delta(wait) = parse_duration(&max_wait)? else {
            let message = format!(
                "max_wait_time must be a fixed-length ISO 8601 duration (e.g. 'PT2H'); calendar-unit durations like \
                 '{max_wait}' are not supported"
            );
            return Err(Failed::system("ValueError", message));
        };
        let quotas = items(node, "quotas").iter().map(|it| Quota::build(it, ctx)).collect::<Result<Vec<_>, _>>()?;
        let unavailable = codes(source, "unavailable_status_codes");
        let request = status_request(source, &unavailable, ctx)?;
        let status = tokens.iter().map(|token| {
            let mut request = request.clone();
            request.insert("authenticator".into(), api_key(&header, signed(&method, token)));
            (of.build_login)(&Value::Dict(request), "quota_status", ctx)
        });
        let status = status.collect::<Result<Vec<_>, _>>()?;
        let reserve = Reserve {
            fraction: set_field(node, "budget_reserve_fraction").and_then(Value::number).unwrap_or(0.1),
            least: set_field(node, "budget_min_reserve").and_then(Value::number).unwrap_or(50.0),
        };
        let parts = [&Value::Dict(request), &without_parameters(field(node, "quotas"))].map(Value::repr);
        let key = format!("{tokens:?} {parts:?} {method:?} {header:?} {} {reserve:?}", wait.micros);
        let max_wait = wait.micros as f64 / 1e6;
        Ok(RateLimitedTokens { tokens, quotas, status, unavailable, method, header, max_wait, reserve, key })
    }

    /// Returns the header with the token that is used next.
    pub(super) fn header(&self, run: &Run<'_>) -> Dict {
        let active = self.shared(run).counters().active;
        let token = self.tokens.get(active).map(String::as_str).unwrap_or_default();
        pair(self.header.as_str(), signed(&self.method, token).into())
    }

    /// Takes one call from the quota of a token, and sets the header of the request. Waits if all tokens are spent.
    ///
    /// # Errors
    /// Fails if the quotas cannot be requested, or if the wait is too long for the manifest or the host.
    pub async fn sign(&self, run: &Run<'_>, request: &mut HostRequest) -> Result<(), Failed> {
        let shared = self.shared(run);
        if shared.counters().states.is_empty() {
            let _asking = shared.lock().await;
            if shared.counters().states.is_empty() {
                self.ask(run, &shared).await?;
            }
        }
        let quota = self.quota_of(request);
        let token = self.acquire(run, &shared, quota).await?;
        headers::set(&mut request.headers, &self.header, &signed(&self.method, &token))
    }

    /// Learns from a response what is left of the quota of the token that was sent.
    pub fn observe(&self, run: &Run<'_>, request: &HostRequest, response: &Response) {
        let at = self.quota_of(request);
        let (Some(quota), Some(token)) = (self.quotas.get(at), self.token_of(request)) else { return };
        let shared = self.shared(run);
        let mut counters = shared.counters();
        if let Some(state) = counters.states.get_mut(token).and_then(|it| it.get_mut(at)) {
            observe(quota, state, response);
        }
    }

    /// Whether the token of the request is spent and another one is not, so that a retry need not wait.
    #[must_use]
    pub fn has_alternative(&self, run: &Run<'_>, request: &HostRequest) -> bool {
        let quota = self.quota_of(request);
        let Some(sender) = self.token_of(request) else { return false };
        let shared = self.shared(run);
        let counters = shared.counters();
        let of = |token: &Vec<crate::tokens::QuotaState>| token.get(quota).copied();
        match counters.states.get(sender).and_then(of) {
            Some(state) if state.is_tracked && state.remaining <= 0 => {
                counters.states.iter().filter_map(of).any(|state| state.remaining > 0)
            }
            _ => false,
        }
    }

    fn shared(&self, run: &Run<'_>) -> Arc<TokenQuotas> {
        match &run.logins {
            Some(logins) => logins.quotas(&self.key),
            None => run.tokens.quotas(&self.key),
        }
    }

    /// Returns the number of the quota that the request counts for.
    fn quota_of(&self, request: &HostRequest) -> usize {
        let matching = |quota: &Quota| quota.matchers.iter().any(|it| it.matches(request));
        let found = self.quotas.iter().position(matching);
        found.or_else(|| self.quotas.iter().position(|it| it.matchers.is_empty())).unwrap_or(0)
    }

    fn token_of(&self, request: &HostRequest) -> Option<usize> {
        let value = request.header(&self.header)?;
        self.tokens.iter().position(|token| value == signed(&self.method, token))
    }

    /// Asks the source for the quotas of all tokens.
    async fn ask(&self, run: &Run<'_>, shared: &TokenQuotas) -> Result<(), Failed> {
        let mut states = Vec::with_capacity(self.tokens.len());
        for login in &self.status {
            let response = login.send(run).await?;
            let response = response.ok_or_else(|| Failed::system("AttributeError", "the quota status has no response"))?;
            let is_tracked = !self.unavailable.contains(&i64::from(response.status()));
            let now = run.host.now().as_microsecond();
            let of = |quota: &Quota| state_of(quota, response.json().filter(|_| is_tracked), is_tracked, now);
            states.push(self.quotas.iter().map(of).collect::<Result<Vec<_>, _>>()?);
        }
        shared.counters().states = states;
        Ok(())
    }

    async fn acquire(&self, run: &Run<'_>, shared: &TokenQuotas, quota: usize) -> Result<String, Failed> {
        let mut deadline = None;
        loop {
            let now = run.host.now().as_microsecond();
            let next = step(&mut shared.counters(), quota, self.reserve, now);
            match next {
                Step::Rotate => {}
                Step::Send { token, delay } => {
                    if delay >= MIN_DELAY {
                        let wait = Duration::from_secs_f64(delay);
                        run.host.pause_for(wait, PauseReason::Budget).await.map_err(Failed::host)?;
                    }
                    return Ok(self.tokens.get(token).cloned().unwrap_or_default());
                }
                Step::Wait(seconds) => {
                    let end = *deadline.get_or_insert(now as f64 / 1e6 + self.max_wait);
                    let left = end - now as f64 / 1e6;
                    if left <= 0.0 || seconds >= left {
                        return Err(self.spent(quota));
                    }
                    let wait = Duration::from_secs_f64(seconds.max(state::MIN_WAIT).min(left));
                    run.host.pause_for(wait, PauseReason::Requested).await.map_err(Failed::host)?;
                    let _asking = shared.lock().await;
                    if state::is_spent(&shared.counters(), quota) {
                        self.ask(run, shared).await?;
                    }
                }
            }
        }
    }

    fn spent(&self, quota: usize) -> Failed {
        let name = self.quotas.get(quota).map(|it| it.name.as_str()).unwrap_or_default();
        let message = "Rate limit is exceeded for all provided tokens.";
        Failed::new(FailureType::TransientError, TRACED, message).with(|it| {
            it.internal =
                Some(format!("Rate limits for all tokens (quota: {name}) were reached and the next reset exceeds max_wait_time"));
        })
    }
}

fn signed(method: &str, token: &str) -> String {
    format!("{method} {token}").trim().to_owned()
}

fn codes(node: &Value, key: &str) -> Vec<i64> {
    let mut codes: Vec<i64> = items(node, key).iter().filter_map(Value::as_i64).collect();
    codes.sort_unstable();
    codes.dedup();
    codes
}

fn eval(template: &str, ctx: &Context<'_>) -> Result<String, Failed> {
    Ok(InterpolatedString::new(template, &EMPTY).eval(&ctx.scope(), &[])?.to_str())
}

/// Returns the tokens of the config: a list, or one text that a delimiter divides.
fn tokens(node: &Value, ctx: &Context<'_>) -> Result<Vec<String>, Failed> {
    let texts = match field(node, "tokens") {
        Value::List(list) => list.iter().map(|it| eval(&it.to_str(), ctx)).collect::<Result<Vec<_>, _>>()?,
        one => {
            let text = eval(&one.to_str(), ctx)?;
            let delimiter = text_or(node, "token_delimiter", ",");
            text.split(delimiter).map(str::to_owned).collect()
        }
    };
    let mut tokens: Vec<String> = Vec::new();
    for token in texts.iter().map(|it| it.trim()).filter(|it| !it.is_empty()) {
        if !tokens.iter().any(|known| known == token) {
            tokens.push(token.to_owned());
        }
    }
    Ok(tokens)
}

fn text_or<'n>(node: &'n Value, key: &str, default: &'n str) -> &'n str {
    text(node, key).filter(|it| !it.is_empty()).unwrap_or(default)
}

/// Returns the requester that asks for the quotas, without its token.
fn status_request(source: &Value, unavailable: &[i64], ctx: &Context<'_>) -> Result<Dict, Failed> {
    let mut request = pair("type", Value::str("HttpRequester"));
    request.insert("url".into(), eval(text(source, "url").unwrap_or_default(), ctx)?.into());
    request.insert("http_method".into(), Value::str(text_or(source, "http_method", "GET")));
    let mut sent = Dict::default();
    for (name, value) in field(source, "request_headers").as_dict().into_iter().flatten() {
        sent.insert(name.clone(), eval(&value.to_str(), ctx)?.into());
    }
    request.insert("request_headers".into(), Value::Dict(sent));
    if !unavailable.is_empty() {
        let mut filter = pair("type", Value::str("HttpResponseFilter"));
        filter.insert("action".into(), Value::str("IGNORE"));
        filter.insert("http_codes".into(), Value::List(unavailable.iter().map(|code| Value::Int(*code)).collect()));
        let mut handler = pair("type", Value::str("DefaultErrorHandler"));
        handler.insert("response_filters".into(), Value::List(vec![Value::Dict(filter)]));
        request.insert("error_handler".into(), Value::Dict(handler));
    }
    Ok(request)
}

/// Returns the authenticator that sends `value` in the header.
fn api_key(header: &str, value: String) -> Value {
    let mut key = pair("type", Value::str("ApiKeyAuthenticator"));
    key.insert("header".into(), Value::str(header));
    key.insert("api_token".into(), value.into());
    Value::Dict(key)
}

fn without_parameters(value: &Value) -> Value {
    match value {
        Value::Dict(dict) => {
            let kept = dict.iter().filter(|(key, _)| &***key != "$parameters");
            Value::Dict(kept.map(|(key, value)| (key.clone(), without_parameters(value))).collect())
        }
        Value::List(list) => Value::List(list.iter().map(without_parameters).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
#[path = "quotas_tests.rs"]
mod tests;
