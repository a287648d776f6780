//! What every handler shares, and the answers that are kept for a moment.

use super::auth::{self, Admin};
use super::problem::Problem;
use super::{Limits, ServerInfo};
use crate::model::Digest;
use crate::policy::Policy;
use crate::reconcile::Handle;
use bytes::Bytes;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;
use tokio::sync::Semaphore;

/// Folds of the past that may run at the same time; each reads the whole ledger.
const FOLDS: usize = 2;

/// The server's own state.
pub struct App {
    pub handle: Arc<Handle>,
    pub info: ServerInfo,
    pub limits: Limits,
    pub cache: Cache,
    pub folds: Semaphore,
    admin: OnceLock<Admin>,
}

impl App {
    /// State for one server.
    #[must_use]
    pub fn new(handle: Arc<Handle>, info: ServerInfo, limits: Limits) -> Arc<App> {
        Arc::new(App { handle, info, limits, cache: Cache::default(), folds: Semaphore::new(FOLDS), admin: OnceLock::new() })
    }

    /// The admin token, while the policy configures no token. Made when it is first needed: a policy
    /// may lose its tokens while the process runs.
    pub fn admin(&self, policy: &Policy) -> Option<&Admin> {
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
                tracing::error!(target: "aam::http", path = %path.display(), %error, "the admin token can be neither read nor made; nobody can call the API");
                None
            }
        }
    }

    /// What an answer from the registry depends on.
    pub fn version(&self) -> Version {
        let active = self.handle.policy.load();
        Version {
            seq: self.handle.registry.snapshot().seq,
            second: self.handle.clock.now().0.div_euclid(1000),
            in_flight: self.handle.attempts_in_flight(),
            policy: active.policy.digest,
            rejected: active.rejected.as_ref().map(|rejected| rejected.at.0),
            problems: Arc::as_ptr(&self.handle.problems.load_full()) as usize,
            trouble: !self.handle.trouble.load().is_empty(),
        }
    }

    /// Runs `work`, which reads rows or folds, where it blocks nobody.
    ///
    /// # Errors
    /// Those of `work`; a panic in it is a defect.
    pub async fn blocking<T: Send + 'static>(
        self: &Arc<App>,
        work: impl FnOnce(&App) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let app = Arc::clone(self);
        match tokio::task::spawn_blocking(move || work(&app)).await {
            Ok(answer) => answer,
            Err(_) => Err(Problem::defect("The answer could not be made; the log of aam serve says why.")),
        }
    }
}

/// What the process looked like when an answer was made. The second bounds the age of whatever
/// leaves no entry: times of unchanged re-checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    seq: u64,
    second: i64,
    in_flight: usize,
    policy: Digest,
    rejected: Option<i64>,
    problems: usize,
    trouble: bool,
}

/// Rendered answers, few and small, by path and query. Who may see them is decided before.
pub struct Cache {
    kept: Mutex<CachedResponse>,
    /// One maker for a key at a time: whoever waits for the same answer takes it over.
    makers: [tokio::sync::Mutex<()>; MAKERS],
    hasher: RandomState,
}

#[derive(Default)]
struct CachedResponse {
    answers: HashMap<String, Rendered>,
    bytes: usize,
}

/// One kept answer.
pub struct Rendered {
    pub version: Version,
    /// When its making began: it shows everything that was committed before.
    pub begun: Instant,
    pub body: Bytes,
}

const MAKERS: usize = 16;
const MAX_ANSWERS: usize = 64;
const MAX_BYTES: usize = 8 << 20;
const MAX_KEY: usize = 512;

impl Default for Cache {
    fn default() -> Cache {
        Cache { kept: Mutex::default(), makers: std::array::from_fn(|_| tokio::sync::Mutex::new(())), hasher: RandomState::new() }
    }
}

impl Cache {
    /// The answer of `key`, if it was made for `version`.
    pub fn get(&self, key: &str, version: &Version) -> Option<Bytes> {
        let kept = self.lock();
        let rendered = kept.answers.get(key)?;
        (rendered.version == *version).then(|| rendered.body.clone())
    }

    /// The answer of `key`, if its making began at `arrived` or later.
    pub fn made_since(&self, key: &str, arrived: Instant) -> Option<Bytes> {
        let kept = self.lock();
        let rendered = kept.answers.get(key)?;
        (rendered.begun >= arrived).then(|| rendered.body.clone())
    }

    /// The right to make the answer of `key`.
    pub async fn maker(&self, key: &str) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        let index = usize::try_from(self.hasher.hash_one(key) % MAKERS as u64).unwrap_or(0);
        Some(self.makers.get(index)?.lock().await)
    }

    /// Keeps an answer for the moment.
    pub fn put(&self, key: &str, rendered: Rendered) {
        let body = &rendered.body;
        if key.len() > MAX_KEY || body.len() > MAX_BYTES / 4 {
            return;
        }
        let mut kept = self.lock();
        if kept.answers.len() >= MAX_ANSWERS || kept.bytes + body.len() > MAX_BYTES {
            kept.answers.clear();
            kept.bytes = 0;
        }
        kept.bytes += body.len();
        if let Some(earlier) = kept.answers.insert(key.to_string(), rendered) {
            kept.bytes -= earlier.body.len();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, CachedResponse> {
        self.kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
