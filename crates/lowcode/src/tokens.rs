//! Tokens that the authenticators of a command share, and what is left of the quotas of tokens.

use super::node::walk;
use super::value::{Dict, Value};
use futures_util::lock;
use jiff::Timestamp;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The tokens that the CDK would store in its config and in a cache of its process. They are never printed.
#[derive(Default)]
pub struct Tokens {
    config: Mutex<Option<Value>>,
    sessions: Mutex<HashMap<String, String>>,
    quotas: QuotasByKey,
}

type QuotasByKey = Mutex<HashMap<String, Arc<TokenQuotas>>>;

/// What is left of one quota of one token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QuotaState {
    pub remaining: i64,
    pub limit: i64,
    /// When the quota is full again, in microseconds since the epoch.
    pub reset_at: i64,
    /// Whether the source reports this quota at all.
    pub is_tracked: bool,
}

/// The quotas of all tokens of an authenticator.
#[derive(Debug, Default)]
pub(crate) struct QuotaCounters {
    /// The state of each quota of each token. Empty until the source was asked for them.
    pub states: Vec<Vec<QuotaState>>,
    /// The number of the token that is used next.
    pub active: usize,
}

/// The quotas that the streams with one authenticator share.
#[derive(Default)]
pub(crate) struct TokenQuotas {
    counters: Mutex<QuotaCounters>,
    /// Held while the source is asked for the quotas, so that only one stream asks.
    asking: lock::Mutex<()>,
}

impl TokenQuotas {
    pub(crate) fn counters(&self) -> MutexGuard<'_, QuotaCounters> {
        locked(&self.counters)
    }

    pub(crate) async fn lock(&self) -> lock::MutexGuard<'_, ()> {
        self.asking.lock().await
    }
}

/// The session tokens of several commands that have the same config. The CDK has no such store: there, every stream logs
/// in for itself. They are never printed.
#[derive(Default)]
pub struct SharedLogins {
    tokens: Mutex<HashMap<String, (Value, Timestamp)>>,
    /// One lock for each login, so that streams that are read at the same time log in once.
    locks: Mutex<HashMap<String, Arc<lock::Mutex<()>>>>,
    quotas: QuotasByKey,
}

impl SharedLogins {
    /// Waits until no other stream sends the login request `key`. The lock is released when the guard is dropped.
    pub(crate) async fn lock(&self, key: &str) -> lock::OwnedMutexGuard<()> {
        let lock = Arc::clone(locked(&self.locks).entry(key.to_owned()).or_default());
        lock.lock_owned().await
    }

    /// Returns the token that the login request `key` returned and the time until which it can be used.
    pub(crate) fn get(&self, key: &str) -> Option<(Value, Timestamp)> {
        locked(&self.tokens).get(key).cloned()
    }

    /// Returns the quotas of the authenticator `key`.
    pub(crate) fn quotas(&self, key: &str) -> Arc<TokenQuotas> {
        Arc::clone(locked(&self.quotas).entry(key.to_owned()).or_default())
    }

    pub(crate) fn keep(&self, key: String, token: Value, until: Timestamp) {
        locked(&self.tokens).insert(key, (token, until));
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tokens {
    /// Returns the config with the new tokens if a single-use refresh token was replaced. The caller of the command
    /// must store this config, because the old token is no longer valid.
    #[must_use]
    pub fn rotated_config(&self) -> Option<Value> {
        locked(&self.config).clone()
    }

    /// Returns the value at `path` of the config, including tokens that were replaced.
    pub(crate) fn config_at(&self, config: &Value, path: &[String]) -> Option<Value> {
        let rotated = locked(&self.config);
        walk(rotated.as_ref().unwrap_or(config), path.iter().cloned()).cloned()
    }

    /// Sets values at paths of the config and returns the new config. Missing dicts are created, as by `dpath.new`.
    pub(crate) fn rotate(&self, config: &Value, changes: Vec<(&[String], Value)>) -> Value {
        let mut rotated = locked(&self.config);
        let mut root = rotated.clone().unwrap_or_else(|| config.clone());
        for (path, value) in changes {
            set(&mut root, path, value);
        }
        *rotated = Some(root.clone());
        root
    }

    /// Returns the quotas of the authenticator `key`.
    pub(crate) fn quotas(&self, key: &str) -> Arc<TokenQuotas> {
        Arc::clone(locked(&self.quotas).entry(key.to_owned()).or_default())
    }

    pub(crate) fn session(&self, key: &str) -> Option<String> {
        locked(&self.sessions).get(key).cloned()
    }

    pub(crate) fn keep_session(&self, key: String, token: String) {
        locked(&self.sessions).insert(key, token);
    }
}

fn set(root: &mut Value, path: &[String], value: Value) {
    let mut current = root;
    for step in path {
        if current.as_dict().is_none() {
            *current = Value::Dict(Dict::default());
        }
        let Value::Dict(dict) = current else { return };
        current = dict.entry(step.as_str().into()).or_default();
    }
    *current = value;
}
