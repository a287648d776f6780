//! The state of a command: [`Context`] while the source is built, [`Run`] while it reads, and what templates can see of both.

use super::bounds::Bounds;
use super::config::Config;
use super::error::Failed;
use super::host::{Host, HostError, HostErrorKind, HostRequest, HostResponse};
use super::interpolation::Scope;
use super::rates::Rates;
use super::recording::RecordingHost;
use super::secrets::Secrets;
use super::slice::Slice;
use super::tokens::{SharedLogins, Tokens};
use super::value::{Dict, Value};
use jiff::Timestamp;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// The parameters of a template that has no parameters: an empty dict.
pub static EMPTY: LazyLock<Value> = LazyLock::new(|| Value::Dict(Dict::default()));

/// What every component can access while it is built.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The whole manifest, with references resolved and parameters propagated, after validation.
    pub manifest: &'a Value,
    pub config: Config<'a>,
    /// Needed for `now_utc()`, because the CDK evaluates some templates when it builds a component.
    pub host: &'a dyn Host,
    pub bounds: &'a Bounds,
}

impl<'a> Context<'a> {
    #[must_use]
    pub fn new(manifest: &'a Value, config: &'a Value, host: &'a dyn Host, bounds: &'a Bounds) -> Context<'a> {
        Context { manifest, config: Config::new(config), host, bounds }
    }

    /// Returns this context with another config, for a command of its own. Reads of that config are not recorded, so
    /// do not use it while a stream is built.
    #[must_use]
    pub fn with<'b>(&self, config: &'b Value) -> Context<'b>
    where
        'a: 'b,
    {
        Context { config: Config::new(config), ..*self }
    }

    /// Returns this context with `recording`, which then records whether the config, the clock or random values were used.
    #[must_use]
    pub fn recorded<'b>(&self, recording: &'b RecordingHost<'b>) -> Context<'b>
    where
        'a: 'b,
    {
        Context { config: self.config.recorded(recording.flag()), host: recording, ..*self }
    }

    /// The scope of a template that needs only the config.
    #[must_use]
    pub fn scope(&self) -> Scope<'a> {
        Scope { config: self.config, parameters: &EMPTY, vars: Vec::new(), host: self.host, bounds: self.bounds }
    }

    /// The evaluation context of a stream's templates while the stream is built.
    #[must_use]
    pub fn eval_context(&self) -> EvalContext<'a> {
        EvalContext { config: self.config, host: self.host, bounds: self.bounds, slice: None }
    }
}

/// A running command: the host, the config, and how much of the budgets has been used so far.
pub struct Run<'a> {
    pub host: &'a dyn Host,
    pub config: Config<'a>,
    pub bounds: &'a Bounds,
    pub secrets: Secrets,
    pub counters: Counters,
    pub limits: Limits,
    /// Cached responses of requesters with `use_cache`, which the requesters of parent streams have (http_client.py).
    pub cache: ResponseCache,
    /// Tokens that authenticators share. After the command, it also contains the config with rotated refresh tokens.
    pub tokens: Tokens,
    /// The session tokens of the commands that share them. With `None`, every stream logs in for itself.
    pub logins: Option<Arc<SharedLogins>>,
    /// The times of requests, for the call rates of the manifest.
    pub rates: Rates,
    /// Whether a response that does not have the list of its extractor is a failure. The CDK reads it as an empty list.
    pub needs_lists: bool,
    /// Set if a list has more pages than [`Limits::pages`] allows, so that its records are not complete.
    pub cut: AtomicBool,
    /// The streams whose list a response wrote as null. They are read as empty.
    pub null_lists: Mutex<Vec<String>>,
    /// The `properties` of the schemas in the configured catalog, by stream. Empty without a catalog.
    pub selected: HashMap<String, Value>,
    /// Failures that do not end a stream by themselves, in their order. The CDK reports each with a trace.
    pub reported: Mutex<Vec<Failed>>,
}

impl<'a> Run<'a> {
    /// Starts a command now, with the host, config and bounds of `ctx`.
    #[must_use]
    pub fn new(ctx: &Context<'a>) -> Run<'a> {
        Run::keeping(ctx, Secrets::of(ctx.manifest, ctx.config.value()))
    }

    /// Like [`Run::new`], for a caller that already knows the secrets of the config.
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
            logins: None,
            rates: Rates::default(),
            needs_lists: false,
            cut: AtomicBool::default(),
            null_lists: Mutex::default(),
            selected: HashMap::new(),
            reported: Mutex::default(),
        }
    }

    /// The scope of a template that needs only the config.
    #[must_use]
    pub fn scope(&self) -> Scope<'a> {
        Scope { config: self.config, parameters: &EMPTY, vars: Vec::new(), host: self.host, bounds: self.bounds }
    }

    /// The evaluation context of a stream's templates while `slice` is read.
    #[must_use]
    pub fn eval_context<'s>(&self, slice: Option<&'s Slice>) -> EvalContext<'s>
    where
        'a: 's,
    {
        EvalContext { config: self.config, host: self.host, bounds: self.bounds, slice }
    }

    /// Sends one request within the budgets of the command. The inner error is a failure of the network.
    ///
    /// # Errors
    /// Fails if a budget is used up or if the host refuses to send the request.
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

    /// Takes one request from the budget.
    ///
    /// # Errors
    /// Fails if the command has used up its requests or its time.
    fn take_call(&self) -> Result<(), Failed> {
        self.take_time()?;
        self.counters.take(&self.counters.calls, 1, self.bounds.calls, "calls")
    }

    /// Takes the bytes of a response from the budget.
    ///
    /// # Errors
    /// Fails if the responses of the command together exceed the bound.
    fn take_bytes(&self, bytes: usize) -> Result<(), Failed> {
        self.counters.take(&self.counters.bytes, bytes, self.bounds.total_bytes, "bytes of answers")
    }

    /// # Errors
    /// Fails if the command has taken longer than the bound.
    fn take_time(&self) -> Result<(), Failed> {
        let spent = self.host.now().duration_since(self.counters.started);
        if spent.unsigned_abs() > self.bounds.time && spent.is_positive() {
            return Err(Failed::bound("seconds of time", self.bounds.time.as_secs() as usize));
        }
        Ok(())
    }
}

/// What the templates of a stream can see: the config, the host and the slice that is being read.
#[derive(Clone, Copy)]
pub struct EvalContext<'a> {
    pub config: Config<'a>,
    pub host: &'a dyn Host,
    pub bounds: &'a Bounds,
    pub slice: Option<&'a Slice>,
}

static NO_PARAMETERS: Value = Value::None;

impl<'a> EvalContext<'a> {
    /// A scope with the config and `vars`, without the slice.
    #[must_use]
    pub fn scope(&self, vars: Vec<(&'a str, &'a Value)>) -> Scope<'a> {
        Scope { config: self.config, parameters: &NO_PARAMETERS, vars, host: self.host, bounds: self.bounds }
    }

    /// A scope with the config, `vars` and the slice.
    #[must_use]
    pub fn scope_of_slice(&self, mut vars: Vec<(&'a str, &'a Value)>) -> Scope<'a> {
        match self.slice {
            Some(slice) => slice.add_to(&mut vars),
            None => vars.push(("stream_slice", &NO_PARAMETERS)),
        }
        self.scope(vars)
    }
}

/// Limits at which a command stops without an error. With `None`, only [`Bounds`] limits the command.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// The maximum number of slices of a stream, including parent streams (`limit_slices_fetched` of the CDK).
    pub slices: Option<usize>,
    /// The maximum number of pages of a slice, including those of parent streams (`limit_pages_fetched_per_slice`).
    pub pages: Option<usize>,
    /// The maximum number of records of a stream, not counting its parents.
    pub records: Option<usize>,
}

/// How much of its budgets a command has used.
pub struct Counters {
    started: Timestamp,
    calls: AtomicUsize,
    bytes: AtomicUsize,
}

impl Counters {
    fn new(started: Timestamp) -> Counters {
        Counters { started, calls: AtomicUsize::new(0), bytes: AtomicUsize::new(0) }
    }

    /// The number of requests made so far.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    fn take(&self, counter: &AtomicUsize, more: usize, bound: usize, what: &str) -> Result<(), Failed> {
        let before = counter.fetch_add(more, Ordering::Relaxed);
        if before.saturating_add(more) > bound { Err(Failed::bound(what, bound)) } else { Ok(()) }
    }
}

/// Responses by request. Its size is bounded because the bytes of a command are bounded.
#[derive(Default)]
pub struct ResponseCache {
    responses: Mutex<HashMap<String, Arc<HostResponse>>>,
    off: bool,
}

impl ResponseCache {
    /// Returns a cache that stores nothing (`disable_cache` of the CDK).
    #[must_use]
    pub fn off() -> ResponseCache {
        ResponseCache { off: true, ..ResponseCache::default() }
    }

    #[must_use]
    pub fn get(&self, request: &str) -> Option<Arc<HostResponse>> {
        self.responses.lock().unwrap_or_else(PoisonError::into_inner).get(request).cloned()
    }

    /// Stores the response to `request`, which is the cache key of the request as one string.
    pub fn put(&self, request: String, response: Arc<HostResponse>) {
        if !self.off {
            self.responses.lock().unwrap_or_else(PoisonError::into_inner).insert(request, response);
        }
    }
}
