//! What a command carries along: [`Context`] while the source is built, [`Run`] while it reads, and what templates
//! see of both.

use super::bounds::Bounds;
use super::config::Config;
use super::error::Failed;
use super::host::{Host, HostError, HostErrorKind, HostRequest, HostResponse};
use super::interpolation::Scope;
use super::rates::Rates;
use super::recording::RecordingHost;
use super::secrets::Secrets;
use super::slice::Slice;
use super::tokens::Tokens;
use super::value::{Dict, Value};
use jiff::Timestamp;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// The parameters of a template that has none: an empty dict.
pub static EMPTY: LazyLock<Value> = LazyLock::new(|| Value::Dict(Dict::default()));

/// What every component may see when it is built.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The whole manifest: references resolved, parameters spread, validated.
    pub manifest: &'a Value,
    pub config: Config<'a>,
    /// For `now_utc()`: the CDK evaluates some templates when it builds a component.
    pub host: &'a dyn Host,
    pub bounds: &'a Bounds,
}

impl<'a> Context<'a> {
    #[must_use]
    pub fn new(manifest: &'a Value, config: &'a Value, host: &'a dyn Host, bounds: &'a Bounds) -> Context<'a> {
        Context { manifest, config: Config::new(config), host, bounds }
    }

    /// The same for a command with another config, which records nothing: not for use while a stream is built.
    #[must_use]
    pub fn with<'b>(&self, config: &'b Value) -> Context<'b>
    where
        'a: 'b,
    {
        Context { config: Config::new(config), ..*self }
    }

    /// The same; afterwards `recording` knows whether config, clock or chance were used.
    #[must_use]
    pub fn recorded<'b>(&self, recording: &'b RecordingHost<'b>) -> Context<'b>
    where
        'a: 'b,
    {
        Context { config: self.config.recorded(recording.flag()), host: recording, ..*self }
    }

    /// What a template sees that needs nothing but the config.
    #[must_use]
    pub fn scope(&self) -> Scope<'a> {
        Scope { config: self.config, parameters: &EMPTY, vars: Vec::new(), host: self.host, bounds: self.bounds }
    }

    /// What a template of a stream sees while the stream is built.
    #[must_use]
    pub fn eval_context(&self) -> EvalContext<'a> {
        EvalContext { config: self.config, host: self.host, bounds: self.bounds, slice: None }
    }
}

/// One command at work: the outside, the config and what was used up so far.
pub struct Run<'a> {
    pub host: &'a dyn Host,
    pub config: Config<'a>,
    pub bounds: &'a Bounds,
    pub secrets: Secrets,
    pub counters: Counters,
    pub limits: Limits,
    /// Answers of requesters with `use_cache`, which parent streams have (http_client.py).
    pub cache: ResponseCache,
    /// Tokens that authenticators share; after the command, the config with rotated refresh tokens.
    pub tokens: Tokens,
    /// The times of calls, for the call rates of the manifest.
    pub rates: Rates,
}

impl<'a> Run<'a> {
    /// A command that starts now, with what sources are built from in `ctx`.
    #[must_use]
    pub fn new(ctx: &Context<'a>) -> Run<'a> {
        Run::keeping(ctx, Secrets::of(ctx.manifest, ctx.config.value()))
    }

    /// The same, where the secrets of the config are known already.
    #[must_use]
    pub fn keeping(ctx: &Context<'a>, secrets: Secrets) -> Run<'a> {
        let Context { config, host, bounds, .. } = *ctx;
        Run {
            host,
            config,
            bounds,
            secrets,
            counters: Counters::new(host.now()),
            limits: Limits::default(),
            cache: ResponseCache::default(),
            tokens: Tokens::default(),
            rates: Rates::default(),
        }
    }

    /// What a template sees that needs nothing but the config.
    #[must_use]
    pub fn scope(&self) -> Scope<'a> {
        Scope { config: self.config, parameters: &EMPTY, vars: Vec::new(), host: self.host, bounds: self.bounds }
    }

    /// What a template of a stream sees while `slice` is read.
    #[must_use]
    pub fn eval_context<'s>(&self, slice: Option<&'s Slice>) -> EvalContext<'s>
    where
        'a: 's,
    {
        EvalContext { config: self.config, host: self.host, bounds: self.bounds, slice }
    }

    /// Sends one request within the budgets of the command.
    ///
    /// # Errors
    /// A budget is used up, or the host refused. The inner error is a network that failed.
    pub async fn send(&self, request: HostRequest) -> Result<Result<Arc<HostResponse>, HostError>, Failed> {
        self.take_call()?;
        match self.host.send(request).await {
            Ok(response) => {
                self.take_bytes(response.body.len())?;
                Ok(Ok(Arc::new(response)))
            }
            Err(error) if error.kind == HostErrorKind::Refused => Err(Failed::host(error)),
            Err(error) => Ok(Err(error)),
        }
    }

    /// Takes one call from the budget.
    ///
    /// # Errors
    /// The command has made its calls, or its time is over.
    fn take_call(&self) -> Result<(), Failed> {
        self.take_time()?;
        self.counters.take(&self.counters.calls, 1, self.bounds.calls, "calls")
    }

    /// Takes the bytes of a response from the budget.
    ///
    /// # Errors
    /// The responses of the command are larger than the bound.
    fn take_bytes(&self, bytes: usize) -> Result<(), Failed> {
        self.counters.take(&self.counters.bytes, bytes, self.bounds.total_bytes, "bytes of answers")
    }

    /// # Errors
    /// The command took longer than the bound.
    fn take_time(&self) -> Result<(), Failed> {
        let spent = self.host.now().duration_since(self.counters.started);
        if spent.unsigned_abs() > self.bounds.time && spent.is_positive() {
            return Err(Failed::bound("seconds of time", self.bounds.time.as_secs() as usize));
        }
        Ok(())
    }
}

/// What a template of a stream sees: the config, the host and the slice that is read.
#[derive(Clone, Copy)]
pub struct EvalContext<'a> {
    pub config: Config<'a>,
    pub host: &'a dyn Host,
    pub bounds: &'a Bounds,
    pub slice: Option<&'a Slice>,
}

static NO_PARAMETERS: Value = Value::None;

impl<'a> EvalContext<'a> {
    /// The config and `vars`, without the slice.
    #[must_use]
    pub fn scope(&self, vars: Vec<(&'a str, &'a Value)>) -> Scope<'a> {
        Scope { config: self.config, parameters: &NO_PARAMETERS, vars, host: self.host, bounds: self.bounds }
    }

    /// The config, `vars` and the slice.
    #[must_use]
    pub fn scope_of_slice(&self, mut vars: Vec<(&'a str, &'a Value)>) -> Scope<'a> {
        match self.slice {
            Some(slice) => slice.add_to(&mut vars),
            None => vars.push(("stream_slice", &NO_PARAMETERS)),
        }
        self.scope(vars)
    }
}

/// Where a command stops by itself, without an error. None is as far as [`Bounds`] let it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Slices of a stream, of parents too (`limit_slices_fetched` of the CDK).
    pub slices: Option<usize>,
    /// Pages of a slice, of parents too (`limit_pages_fetched_per_slice`).
    pub pages: Option<usize>,
    /// Records of a stream, not of its parents.
    pub records: Option<usize>,
}

/// What a command used up.
pub struct Counters {
    started: Timestamp,
    calls: AtomicUsize,
    bytes: AtomicUsize,
}

impl Counters {
    fn new(started: Timestamp) -> Counters {
        Counters { started, calls: AtomicUsize::new(0), bytes: AtomicUsize::new(0) }
    }

    /// Calls made so far.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    fn take(&self, counter: &AtomicUsize, more: usize, bound: usize, what: &str) -> Result<(), Failed> {
        let before = counter.fetch_add(more, Ordering::Relaxed);
        if before.saturating_add(more) > bound { Err(Failed::bound(what, bound)) } else { Ok(()) }
    }
}

/// Answers by request; its size is bounded by the bytes of the command.
#[derive(Default)]
pub struct ResponseCache {
    responses: Mutex<HashMap<String, Arc<HostResponse>>>,
    off: bool,
}

impl ResponseCache {
    /// Keeps nothing (`disable_cache` of the CDK).
    #[must_use]
    pub fn off() -> ResponseCache {
        ResponseCache { off: true, ..ResponseCache::default() }
    }

    #[must_use]
    pub fn get(&self, request: &str) -> Option<Arc<HostResponse>> {
        self.responses.lock().unwrap_or_else(PoisonError::into_inner).get(request).cloned()
    }

    /// Keeps the answer to `request`: its method, URL and body in one string.
    pub fn put(&self, request: String, response: Arc<HostResponse>) {
        if !self.off {
            self.responses.lock().unwrap_or_else(PoisonError::into_inner).insert(request, response);
        }
    }
}
