//! What a command carries along: [`Context`] while the source is built, [`Run`] while it reads.

use super::auth::store::Tokens;
use super::bounds::Bounds;
use super::error::Failed;
use super::host::{Host, HostResponse};
use super::load::Manifest;
use super::requester::Rates;
use super::secrets::Secrets;
use super::shared::{RecordingHost, SharedStreams};
use super::value::Value;
use jiff::Timestamp;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The user's config, after config migrations. It notes that it was looked at: what was built without a look is the
/// same for every config.
#[derive(Clone, Copy)]
pub struct Config<'a> {
    value: &'a Value,
    looked: Option<&'a AtomicBool>,
}

impl<'a> Config<'a> {
    #[must_use]
    pub fn new(value: &'a Value) -> Config<'a> {
        Config { value, looked: None }
    }

    /// The config itself.
    #[must_use]
    pub fn value(self) -> &'a Value {
        if let Some(looked) = self.looked {
            looked.store(true, Ordering::Relaxed);
        }
        self.value
    }
}

/// What every component may see when it is built.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The whole manifest: references resolved, parameters spread, validated.
    pub manifest: &'a Value,
    pub config: Config<'a>,
    /// For `now_utc()`: the CDK evaluates some templates when it builds a component.
    pub host: &'a dyn Host,
    pub bounds: &'a Bounds,
    /// Those of the manifest.
    pub(super) shared: Option<&'a SharedStreams>,
}

impl<'a> Context<'a> {
    /// A source of its own, which shares nothing.
    #[must_use]
    pub fn new(manifest: &'a Value, config: &'a Value, host: &'a dyn Host, bounds: &'a Bounds) -> Context<'a> {
        Context { manifest, config: Config::new(config), host, bounds, shared: None }
    }

    /// One of many sources of `manifest`.
    #[must_use]
    pub fn of(manifest: &'a Manifest, config: &'a Value, host: &'a dyn Host, bounds: &'a Bounds) -> Context<'a> {
        Context { shared: Some(manifest.shared()), ..Context::new(&manifest.root, config, host, bounds) }
    }

    /// The same for a command with another config, which notes nothing: not for use while a stream is built.
    #[must_use]
    pub fn with<'b>(&self, config: &'b Value) -> Context<'b>
    where
        'a: 'b,
    {
        Context { config: Config::new(config), ..*self }
    }

    /// The same; `noting` knows afterwards whether config, clock or chance were asked.
    #[must_use]
    pub fn noted<'b>(&self, noting: &'b RecordingHost<'b>) -> Context<'b>
    where
        'a: 'b,
    {
        Context { config: Config { looked: Some(&noting.looked), ..self.config }, host: noting, ..*self }
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

    /// Takes one call from the budget; to be asked before each send.
    ///
    /// # Errors
    /// The command has made its calls, or its time is over.
    pub fn take_call(&self) -> Result<(), Failed> {
        self.take_time()?;
        self.counters.take(&self.counters.calls, 1, self.bounds.calls, "calls")
    }

    /// Takes `bytes` of an answer from the budget.
    ///
    /// # Errors
    /// The answers of the command are larger than the bound.
    pub fn take_bytes(&self, bytes: usize) -> Result<(), Failed> {
        self.counters.take(&self.counters.bytes, bytes, self.bounds.total_bytes, "bytes of answers")
    }

    /// # Errors
    /// The command took longer than the bound.
    pub fn take_time(&self) -> Result<(), Failed> {
        let spent = self.host.now().duration_since(self.counters.started);
        if spent.unsigned_abs() > self.bounds.time && spent.is_positive() {
            return Err(Failed::bound("seconds of time", self.bounds.time.as_secs() as usize));
        }
        Ok(())
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

impl Failed {
    /// The bound of `what` was met.
    #[must_use]
    pub fn bound(what: &str, bound: usize) -> Failed {
        Failed::system("Bound", format!("the bound of {bound} {what} is met"))
    }
}
