//! The state that all handlers share, and the cache of rendered responses.

use super::auth::{self, AdminToken};
use super::catalogs::MAX_EXPORTS;
use super::events::EventReaders;
use super::idempotency::KeysInProgress;
use super::past_funnels::PastFunnels;
use super::past_snapshots::PastSnapshots;
use super::problem::ApiProblem;
use super::proof::ListenerKey;
use super::rate::RateLimiter;
use super::representation::Rendered;
use super::session::Sessions;
use super::totals::ListTotals;
use super::ui::index::ConnectionIndex;
use super::{ServerInfo, ServerLimits};
use crate::model::Digest;
use crate::pipeline::Env;
use crate::policy::Policy;
use crate::providers::oidc::OidcDocuments;
use crate::reconcile::Handle;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;
use tokio::sync::Semaphore;

/// The number of requests that read rows or fold the ledger at the same time. Further ones wait. Each of them may hold a
/// few MiB of rows, so this bounds the memory that any number of requests can use.
const MAX_BLOCKING_READS: usize = 8;

/// The number of bytes that the bodies of all requests of one kind may occupy while they arrive and are parsed. Further
/// bodies wait until there is room.
const MAX_BODY_MEMORY: usize = 32 << 20;

/// The state that all handlers of one server share.
pub struct App {
    pub handle: Arc<Handle>,
    /// What attempts run with: the engines, egress and the providers of credentials.
    pub env: Arc<Env>,
    pub info: ServerInfo,
    pub limits: ServerLimits,
    pub cache: AnswerCache,
    /// Funnels as of past instants.
    pub past_funnels: PastFunnels,
    /// The readers of `GET /events`.
    pub event_readers: Arc<EventReaders>,
    /// The open pages that are kept current, see `GET /ui/live`.
    pub open_pages: Arc<EventReaders>,
    /// The sessions of people who signed in on the page.
    pub sessions: Sessions,
    /// The documents of the issuer at which people sign in.
    pub oidc: OidcDocuments,
    /// The registry as of past instants, for pages.
    pub past_snapshots: PastSnapshots,
    /// What the list of connections is searched by.
    pub connection_index: ConnectionIndex,
    /// The totals of the lists of connections.
    pub totals: ListTotals,
    /// The requests of each token.
    pub rate: RateLimiter<Digest>,
    /// The invalid credentials that each address sent.
    pub failed_authentications: RateLimiter<IpAddr>,
    /// The requests of each address for consent links.
    pub links: RateLimiter<IpAddr>,
    /// The address that the server listens on, which may be the unspecified address.
    pub bound: Option<SocketAddr>,
    /// Proves to clients on this machine that this process holds the registry.
    pub listener_key: Option<ListenerKey>,
    /// The bytes that small request bodies may still occupy.
    pub small_bodies: Arc<Semaphore>,
    /// The bytes that large request bodies may still occupy. Small bodies do not have to wait for large ones.
    pub large_bodies: Arc<Semaphore>,
    /// The exports of catalogs that may still begin.
    pub exports: Arc<Semaphore>,
    /// The requests with an idempotency key that are in progress.
    pub keys_in_progress: Arc<KeysInProgress>,
    reads: Arc<Semaphore>,
    admin: OnceLock<AdminToken>,
}

impl App {
    /// Creates the state of one server.
    #[must_use]
    pub fn new(
        handle: Arc<Handle>,
        env: Arc<Env>,
        info: ServerInfo,
        limits: ServerLimits,
        listener_key: Option<ListenerKey>,
        bound: Option<SocketAddr>,
    ) -> Arc<App> {
        Arc::new(App {
            handle,
            env,
            info,
            limits,
            cache: AnswerCache::default(),
            past_funnels: PastFunnels::default(),
            event_readers: EventReaders::new(limits.connections),
            open_pages: EventReaders::new(limits.connections),
            sessions: Sessions::default(),
            oidc: OidcDocuments::default(),
            past_snapshots: PastSnapshots::default(),
            connection_index: ConnectionIndex::default(),
            totals: ListTotals::default(),
            rate: RateLimiter::default(),
            failed_authentications: RateLimiter::default(),
            links: RateLimiter::default(),
            bound,
            listener_key,
            small_bodies: Arc::new(Semaphore::new(MAX_BODY_MEMORY)),
            large_bodies: Arc::new(Semaphore::new(MAX_BODY_MEMORY)),
            exports: Arc::new(Semaphore::new(MAX_EXPORTS)),
            keys_in_progress: Arc::default(),
            reads: Arc::new(Semaphore::new(MAX_BLOCKING_READS)),
            admin: OnceLock::new(),
        })
    }

    /// Returns the admin token if the policy does not configure any tokens. Returns `None` if it does, or if the token can
    /// be neither read nor created.
    ///
    /// The token is created when it is first needed. This may be long after startup, because a new policy may remove all
    /// tokens while the process runs.
    pub fn admin(&self, policy: &Policy) -> Option<&AdminToken> {
        if !policy.api.tokens.is_empty() {
            return None;
        }
        if let Some(admin) = self.admin.get() {
            return Some(admin);
        }
        match auth::admin_token(self.handle.registry.path()) {
            Ok(admin) => {
                tracing::info!(target: "aam::http", path = %admin.path.display(), "the policy configures no API token: the admin token is in this file");
                Some(self.admin.get_or_init(|| admin))
            }
            Err(error) => {
                let path = auth::admin_path(self.handle.registry.path());
                tracing::error!(target: "aam::http", path = %path.display(), %error, "could not read or create the admin token; all API requests are refused until this is fixed");
                None
            }
        }
    }

    /// Returns the current values of everything that a response from the registry depends on.
    pub fn version(&self) -> CacheVersion {
        let active = self.handle.policy.load();
        CacheVersion {
            revision: self.handle.registry.snapshot().revision,
            second: self.handle.clock.now().0.div_euclid(1000),
            in_flight: self.handle.attempts_in_flight(),
            policy: active.policy.digest,
            rejected: active.rejected.as_ref().map(|rejected| rejected.at.0),
            problems: Arc::as_ptr(&self.handle.problems.load_full()) as usize,
            holds: Arc::as_ptr(&self.handle.holds.load_full()) as usize,
            trouble: !self.handle.trouble.load().is_empty(),
        }
    }

    /// Returns a text that changes when something changes that a page may show, except for the time.
    pub fn page_version(&self) -> String {
        let version = CacheVersion { second: 0, ..self.version() };
        let webhooks = Arc::as_ptr(&self.handle.webhooks.load_full()) as usize;
        // Hashed with the key of this process, because the version contains addresses in memory.
        format!("{:016x}", self.cache.hasher.hash_one((version, webhooks)))
    }

    /// Runs `work`, which reads rows or folds the ledger, on the blocking pool. Waits while too many others do so.
    ///
    /// # Errors
    /// Returns the error of `work`, or 500 if `work` panics.
    pub async fn blocking<T: Send + 'static>(
        self: &Arc<App>,
        work: impl FnOnce(&App) -> Result<T, ApiProblem> + Send + 'static,
    ) -> Result<T, ApiProblem> {
        let app = Arc::clone(self);
        let permit = Arc::clone(&self.reads).acquire_owned().await;
        let work = move || {
            // Held by the work itself, because it goes on if the caller stops waiting.
            let _permit = permit;
            work(&app)
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(result) => result,
            Err(_) => Err(ApiProblem::defect("The request failed with an internal error; see the log of aam serve.")),
        }
    }
}

/// The version that a response was rendered for. A cached response is valid as long as this value does not change.
///
/// A re-check that finds nothing new updates a connection's `checked_at` without appending to the ledger. `second` is
/// part of the version so that a cached response misses such an update for one second at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CacheVersion {
    revision: u64,
    second: i64,
    in_flight: usize,
    policy: Digest,
    rejected: Option<i64>,
    problems: usize,
    holds: usize,
    trouble: bool,
}

/// A cache of rendered responses by path and query. Callers check access before they read from it.
pub struct AnswerCache {
    entries: Mutex<CacheEntries>,
    /// Only one task at a time renders a given response. The tasks that wait for it reuse the result.
    render_locks: [tokio::sync::Mutex<()>; RENDER_LOCKS],
    hasher: RandomState,
}

#[derive(Default)]
struct CacheEntries {
    answers: HashMap<String, CachedAnswer>,
    bytes: usize,
}

/// One rendered response.
pub struct CachedAnswer {
    pub version: CacheVersion,
    /// When rendering began. The response shows everything that was committed before this instant.
    pub begun: Instant,
    pub rendered: Arc<Rendered>,
}

const RENDER_LOCKS: usize = 16;
const MAX_ANSWERS: usize = 64;
/// Without the compressed forms, which are at most as large again.
const MAX_CACHE_BYTES: usize = 8 << 20;
const MAX_KEY_BYTES: usize = 512;

impl Default for AnswerCache {
    fn default() -> AnswerCache {
        AnswerCache {
            entries: Mutex::default(),
            render_locks: std::array::from_fn(|_| tokio::sync::Mutex::new(())),
            hasher: RandomState::new(),
        }
    }
}

impl AnswerCache {
    /// Returns the response for `key` if it was rendered for `version`.
    pub fn get(&self, key: &str, version: &CacheVersion) -> Option<Arc<Rendered>> {
        let entries = self.lock();
        let answer = entries.answers.get(key)?;
        (answer.version == *version).then(|| Arc::clone(&answer.rendered))
    }

    /// Returns the response for `key` if its rendering began at or after `arrived`.
    pub fn rendered_since(&self, key: &str, arrived: Instant) -> Option<Arc<Rendered>> {
        let entries = self.lock();
        let answer = entries.answers.get(key)?;
        (answer.begun >= arrived).then(|| Arc::clone(&answer.rendered))
    }

    /// Waits until no other task is rendering the response for `key`. Several keys may share a lock.
    pub async fn lock_render(&self, key: &str) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        let index = usize::try_from(self.hasher.hash_one(key) % RENDER_LOCKS as u64).unwrap_or(0);
        Some(self.render_locks.get(index)?.lock().await)
    }

    /// Stores a response. If the cache is full, all earlier responses are removed first.
    pub fn put(&self, key: &str, answer: CachedAnswer) {
        let bytes = answer.rendered.body().len();
        if key.len() > MAX_KEY_BYTES || bytes > MAX_CACHE_BYTES / 4 {
            return;
        }
        let mut entries = self.lock();
        if entries.answers.len() >= MAX_ANSWERS || entries.bytes + bytes > MAX_CACHE_BYTES {
            entries.answers.clear();
            entries.bytes = 0;
        }
        entries.bytes += bytes;
        if let Some(earlier) = entries.answers.insert(key.to_string(), answer) {
            entries.bytes -= earlier.rendered.body().len();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, CacheEntries> {
        self.entries.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
