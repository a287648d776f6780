//! Marks that outlive the process: accounts that are not called for now, and open circuit breakers.
//!
//! A mark is stored when it begins, is prolonged or ends, never with each call, and the call does not wait for that. A process that
//! starts applies the stored marks before its first call. Replicas apply those of each other.

use super::{Egress, locked};
use crate::credentials::redact;
use crate::model::Timestamp;
use crate::policy;
use futures_util::future::BoxFuture;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

/// The number of characters of a reason.
const MAX_REASON_CHARS: usize = 500;
/// A stored mark of an account ends up to this much later than the account may be called again, so that calls in flight that get
/// the same response do not each store it.
const ROUNDING: Duration = Duration::from_secs(1);

/// What a mark says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MarkKind {
    /// The source asked AAM to wait before it calls the account again.
    AskedToWait,
    /// AAM has used its own share of the calls of the account.
    ShareUsed,
    /// The circuit breaker of a host is open.
    BreakerOpen,
    /// The circuit breaker of a host was closed by a call that succeeded.
    BreakerClosed,
}

impl MarkKind {
    /// All kinds.
    pub const ALL: [MarkKind; 4] = [MarkKind::AskedToWait, MarkKind::ShareUsed, MarkKind::BreakerOpen, MarkKind::BreakerClosed];

    /// Returns the name in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            MarkKind::AskedToWait => "asked_to_wait",
            MarkKind::ShareUsed => "share_used",
            MarkKind::BreakerOpen => "breaker_open",
            MarkKind::BreakerClosed => "breaker_closed",
        }
    }

    /// Returns what the mark concerns. There is one mark for each of them.
    #[must_use]
    pub fn subject(self) -> MarkSubject {
        match self {
            MarkKind::AskedToWait | MarkKind::ShareUsed => MarkSubject::Account,
            MarkKind::BreakerOpen | MarkKind::BreakerClosed => MarkSubject::Host,
        }
    }
}

/// What a mark concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MarkSubject {
    /// An account, with the key `family|account`.
    Account,
    /// A host, with the key `family|host:port`.
    Host,
}

impl MarkSubject {
    /// Returns the name in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            MarkSubject::Account => "account",
            MarkSubject::Host => "host",
        }
    }
}

/// A mark, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountMark {
    pub kind: MarkKind,
    /// `family|account` or `family|host:port`.
    pub key: String,
    /// How long the mark lasts from now. It is stored relative to the clock of the database, because the clocks of replicas differ.
    pub remaining: Duration,
    /// Why, without secrets.
    pub reason: String,
    /// Grows with each change of the mark. 0: it was not stored yet.
    pub version: i64,
}

impl AccountMark {
    /// Returns what identifies the mark among all marks.
    #[must_use]
    pub fn subject(&self) -> (MarkSubject, &str) {
        (self.kind.subject(), &self.key)
    }
}

/// Stores marks. The registry implements it.
pub trait MarkStore: Send + Sync {
    /// Hands the marks to the writer before this returns, so that they are stored before everything that is handed over later.
    /// The future returns the version that each of them has then.
    ///
    /// # Errors
    /// The future returns an error if the marks were not stored. They are then handed over again.
    fn store(&self, marks: Vec<AccountMark>) -> BoxFuture<'static, Result<Vec<i64>, String>>;
}

type Key = (MarkSubject, String);

/// A mark that is not stored yet.
#[derive(Clone, Debug)]
struct Unstored {
    kind: MarkKind,
    until: Timestamp,
    reason: String,
    /// The number of the change, so that the answer to an earlier one is recognized.
    change: u64,
}

/// The marks that are not stored yet, and the versions of the others. Their number is bounded by the numbers of accounts and hosts.
#[derive(Default)]
struct State {
    unstored: BTreeMap<Key, Unstored>,
    versions: HashMap<Key, i64>,
    changes: u64,
}

/// The marks of the process.
#[derive(Default)]
pub struct Marks {
    store: OnceLock<Arc<dyn MarkStore>>,
    state: Arc<Mutex<State>>,
}

/// What is handed to the store: the marks, and what they are known by here.
type Handed = (Vec<AccountMark>, Vec<(Key, u64)>);

impl Marks {
    /// Stores that a mark of `key` begins, is prolonged or ends. Does nothing if marks are not stored.
    pub(super) fn changed(&self, kind: MarkKind, key: &str, until: Timestamp, now: Timestamp, reason: &str) {
        let Some(store) = self.store.get() else { return };
        let reason = redact::cut(&redact::scrub(reason), MAX_REASON_CHARS);
        let reason = crate::model::text::printable(&reason, &[]).into_owned();
        let key = (kind.subject(), key.to_string());
        let handed = {
            let mut state = locked(&self.state);
            state.changes += 1;
            let unstored = Unstored { kind, until, reason, change: state.changes };
            let handed = hand_over(std::iter::once((&key, &unstored)), now);
            state.unstored.insert(key, unstored);
            handed
        };
        let storing = self.store_all(store, handed);
        // Outside of a runtime, as while the process ends, the mark is handed over all the same.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(storing);
        }
    }

    /// Stores the marks that could not be stored before.
    async fn store_again(&self, now: Timestamp) {
        let Some(store) = self.store.get() else { return };
        let handed = hand_over(locked(&self.state).unstored.iter(), now);
        if !handed.0.is_empty() {
            self.store_all(store, handed).await;
        }
    }

    fn store_all(&self, store: &Arc<dyn MarkStore>, (marks, known): Handed) -> impl Future<Output = ()> + Send + use<> {
        let (stored, state) = (store.store(marks), Arc::clone(&self.state));
        async move {
            match stored.await {
                Ok(versions) => {
                    let mut state = locked(&state);
                    for ((key, change), version) in known.into_iter().zip(versions) {
                        if state.unstored.get(&key).is_some_and(|unstored| unstored.change == change) {
                            state.unstored.remove(&key);
                        }
                        let known = state.versions.entry(key).or_default();
                        *known = version.max(*known);
                    }
                }
                Err(error) => tracing::debug!(target: "aam::egress", %error, "a mark of an account could not be stored yet"),
            }
        }
    }

    /// Whether `mark` says something new. It does so only once.
    fn is_news(&self, mark: &AccountMark) -> bool {
        let mut state = locked(&self.state);
        let key = (mark.kind.subject(), mark.key.clone());
        // What this process found out and has not stored yet is newer.
        if state.unstored.contains_key(&key) || state.versions.get(&key).is_some_and(|known| *known >= mark.version) {
            return false;
        }
        state.versions.insert(key, mark.version);
        true
    }
}

fn hand_over<'a>(unstored: impl Iterator<Item = (&'a Key, &'a Unstored)>, now: Timestamp) -> Handed {
    unstored
        .map(|((subject, key), unstored)| {
            let Unstored { kind, until, reason, change } = unstored;
            let (key, reason) = (key.clone(), reason.clone());
            let known = ((*subject, key.clone()), *change);
            (AccountMark { kind: *kind, key, remaining: until.since(now), reason, version: 0 }, known)
        })
        .unzip()
}

/// Returns until when the stored mark of an account says that it is not called, if it was stored until `stored` and is prolonged
/// to `until`. `None`: what is stored suffices.
pub(super) fn stored_until(stored: Timestamp, until: Timestamp) -> Option<Timestamp> {
    (until > stored).then(|| until.plus(ROUNDING))
}

impl Egress {
    /// Stores marks in `store` from now on. Called once, before the first call.
    pub fn store_marks_in(&self, store: Arc<dyn MarkStore>) {
        let _ = self.marks.store.set(store);
    }

    /// Stores the marks that could not be stored when they changed.
    pub async fn store_marks_again(&self) {
        self.marks.store_again(self.clock.now()).await;
    }

    /// Applies stored marks: those of the last process, and those of other replicas. A mark that was applied before changes
    /// nothing, and neither does one that is older than what this process knows.
    pub fn apply_marks(&self, marks: &[AccountMark], rules: &policy::Breaker) {
        let now = self.clock.now();
        for mark in marks.iter().filter(|mark| self.marks.is_news(mark)) {
            // A stored wait is rounded up, and a wait of more than the longest one would count as a clock that was set back.
            let until = now.plus(mark.remaining.min(super::retry::MAX_WAIT));
            match mark.kind {
                _ if mark.kind.subject() == MarkSubject::Account && mark.remaining.is_zero() => {}
                MarkKind::AskedToWait => self.accounts.apply_mark(&mark.key, until, &mark.reason, true),
                MarkKind::ShareUsed => self.accounts.apply_mark(&mark.key, until, &mark.reason, false),
                MarkKind::BreakerOpen => self.breakers.apply_open(&mark.key, until, &mark.reason, rules),
                MarkKind::BreakerClosed => self.breakers.apply_closed(&mark.key, now, rules),
            }
        }
    }
}

#[cfg(test)]
#[path = "marks_tests.rs"]
mod tests;
