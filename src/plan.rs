//! Which attempts are due, and why: a pure function of the snapshot, the policy and an instant.
//!
//! `aam plan` and the daemon share it. Waits are computed from the rows of the registry, so a restart, a saved file or a
//! spurious wake neither shortens nor extends one.

pub mod departures;

use crate::families::CustomSources;
use crate::model::ledger::Why;
use crate::model::{Class, ConnectionId, Digest, Locator, Retry, Scope, Step, Timestamp};
use crate::policy::credentials::Definitions;
use crate::policy::grants::Rights;
use crate::policy::{LoadedPolicy, Policy};
use crate::snapshot::{Attempt, Connection, Snapshot};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// One attempt and when it is or was due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PlanItem {
    pub connection: ConnectionId,
    pub why: Why,
    pub scope: Scope,
    #[serde(serialize_with = "Timestamp::serialize_rfc3339")]
    pub due: Timestamp,
}

/// When the files that hold secrets changed, by their `env:` or `file:` locator. It is observed, as the snapshot is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredSecrets(pub BTreeMap<String, Timestamp>);

/// The policy and the digests of its parts per family.
pub struct PlanContext {
    pub policy: Arc<Policy>,
    loaded: LoadedPolicy,
    slices: BTreeMap<Arc<str>, Digest>,
    rights: Rights,
    definitions: Definitions,
    /// The files of secrets that connections wait for.
    pub secrets: Arc<StoredSecrets>,
    /// The connections whose departure is held, with `false` for those that cannot be checked meanwhile.
    pub held: BTreeMap<ConnectionId, bool>,
}

impl PlanContext {
    /// Computes the digest for each family that `snapshot` mentions.
    #[must_use]
    pub fn new(loaded: LoadedPolicy, snapshot: &Snapshot) -> PlanContext {
        let slices = snapshot.families.iter().map(|family| (Arc::clone(family), loaded.slice(family))).collect();
        PlanContext {
            policy: Arc::clone(&loaded.policy),
            rights: Rights::new(&loaded.policy),
            definitions: Definitions::new(&loaded.policy.credentials),
            secrets: Arc::default(),
            held: BTreeMap::new(),
            loaded,
            slices,
        }
    }

    /// Adds when the files of secrets changed.
    #[must_use]
    pub fn with_secrets(self, secrets: Arc<StoredSecrets>) -> PlanContext {
        PlanContext { secrets, ..self }
    }

    /// Whether this is the context of `loaded` with the digest of every family of `snapshot`.
    #[must_use]
    pub fn covers(&self, loaded: &LoadedPolicy, snapshot: &Snapshot) -> bool {
        self.loaded.is_same(loaded) && self.slices.len() == snapshot.families.len()
    }

    /// The policy together with its custom sources.
    #[must_use]
    pub fn loaded(&self) -> &LoadedPolicy {
        &self.loaded
    }

    /// The custom sources of the policy.
    #[must_use]
    pub fn sources(&self) -> &CustomSources {
        &self.loaded.sources
    }

    /// The digest of everything in the policy that can change the outcome for `known`.
    pub(crate) fn inputs(&self, known: &Connection) -> Digest {
        let family = &known.source_type;
        let slice = self.slices.get(family).copied().unwrap_or_else(|| self.loaded.slice(family));
        let inputs = self.rights.add_to(slice, known.origins_in_force());
        self.definitions.add_to(&self.policy.credentials, inputs, known.locator.as_deref())
    }

    /// When a file that the credential of `known` is read from changed, if the connection waits for a credential.
    #[must_use]
    pub fn secret_changed(&self, known: &Connection) -> Option<Timestamp> {
        if self.secrets.0.is_empty() || !known.waits_for_credential() {
            return None;
        }
        let locator = Locator::parse(known.locator.as_deref()?).ok()?;
        let stored = self.policy.credentials.stored_in(&locator);
        stored.into_iter().filter_map(|locator| self.secrets.0.get(&locator.to_string())).max().copied()
    }
}

/// All attempts that are or will be due, earliest first.
#[must_use]
pub fn plan(snapshot: &Snapshot, context: &PlanContext, heals: &BTreeSet<ConnectionId>, now: Timestamp) -> Vec<PlanItem> {
    plan_of(snapshot, context, heals, now, |_| true)
}

/// The items of [`plan`] for the connections that are `wanted`.
#[must_use]
pub fn plan_of(
    snapshot: &Snapshot,
    context: &PlanContext,
    heals: &BTreeSet<ConnectionId>,
    now: Timestamp,
    wanted: impl Fn(ConnectionId) -> bool,
) -> Vec<PlanItem> {
    let mut items: Vec<PlanItem> = snapshot
        .connections
        .of(wanted)
        .filter(|(_, known)| !snapshot.is_closed(&known.namespace))
        .filter_map(|(id, known)| next(snapshot, id, &known, context, heals.contains(&id), now))
        .collect();
    items.sort_by_key(|item| (item.due, item.connection));
    items
}

/// The item of [`plan`] for one connection.
#[must_use]
pub fn plan_one(snapshot: &Snapshot, id: ConnectionId, context: &PlanContext, heal: bool, now: Timestamp) -> Option<PlanItem> {
    let known = snapshot.connections.get(&id).filter(|known| !snapshot.is_closed(&known.namespace))?;
    next(snapshot, id, &known, context, heal, now)
}

/// The next attempt of `known`. Returns `None` if it needs no attempt until its document or the policy changes.
fn next(
    snapshot: &Snapshot,
    id: ConnectionId,
    known: &Connection,
    context: &PlanContext,
    heal: bool,
    now: Timestamp,
) -> Option<PlanItem> {
    match context.held.get(&id) {
        None => next_as(snapshot, (id, known), context, (heal, false), now),
        // It is checked as before, although its intent or the policy changed.
        Some(true) => next_as(snapshot, (id, &known.before_departure()), context, (heal, true), now),
        Some(false) => None,
    }
}

fn next_as(
    snapshot: &Snapshot,
    (id, known): (ConnectionId, &Connection),
    context: &PlanContext,
    (heal, held): (bool, bool),
    now: Timestamp,
) -> Option<PlanItem> {
    if known.retired.is_some() || known.origins.is_empty() {
        return None;
    }
    let full = |why, due| Some(PlanItem { connection: id, why, scope: Scope::Full, due });
    if heal {
        return full(Why::Heal, now);
    }
    let Some(last) = &known.last else {
        return full(Why::New, known.desired_since);
    };
    if last.facts.generation != known.generation {
        return full(Why::SpecChanged, now);
    }
    if !held && last.facts.slice != context.inputs(known) {
        return full(Why::PolicyChanged, now);
    }
    match last.facts.class {
        None => settled(id, known, last, &context.policy),
        Some(class) => {
            let since = known.last_checked().unwrap_or(last.at);
            // An attempt that was recorded says when it began, and the file may have changed while it ran.
            let read_at = if since > last.at { since } else { last.facts.begun_at };
            if let Some(changed) = context.secret_changed(known).filter(|changed| *changed > read_at && *changed <= now) {
                return full(Why::CredentialChanged, changed);
            }
            let wait = match class.retry() {
                Retry::OnChange if concerns_source(last, class) => context.policy.recheck.drift,
                Retry::OnChange => return None,
                // A service that makes changes known only after a while, such as IAM, says when the answer may be another.
                Retry::Recheck => match last.facts.retry_after_ms {
                    Some(wait) if known.failures <= MAX_EARLY_RECHECKS => {
                        Duration::from_millis(wait).max(MIN_RETRY_AFTER).min(context.policy.recheck.awaiting_credentials)
                    }
                    _ => context.policy.recheck.awaiting_credentials,
                },
                Retry::After => {
                    Duration::from_millis(last.facts.retry_after_ms.unwrap_or(0)).clamp(MIN_RETRY_AFTER, MAX_RETRY_AFTER)
                }
                Retry::Backoff => backoff(&context.policy, id, known.failures),
            };
            let due = since.plus(wait);
            // After an outage of the vendor, the first connection that works again spares the others their long waits.
            let recovered = snapshot.recovered(&known.source_type).filter(|at| class.is_outage() && *at > since);
            let hastened = recovered.map(|at| at.max(since.plus(context.policy.backoff.initial)));
            full(Why::Retry, hastened.map_or(due, |hastened| hastened.min(due)))
        }
    }
}

/// Whether the failure is about what the source contains, for example a file in a format that AAM does not read. The
/// source may have changed meanwhile, although neither the document nor the policy has.
fn concerns_source(last: &Attempt, class: Class) -> bool {
    let step = last.facts.failed_step;
    matches!(class, Class::Unsupported | Class::Misconfigured)
        && step.is_some_and(|step| (Step::Upsert..=Step::TinySync).contains(&step))
}

/// How often a missing permission is asked for again before `recheck.awaiting_credentials`.
const MAX_EARLY_RECHECKS: u32 = 2;

/// The bounds of a wait that a source requests, for example with `Retry-After`.
const MIN_RETRY_AFTER: Duration = Duration::from_secs(1);
const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 3600);

/// The next re-check of a connection whose last attempt passed: the drift check or the health check, whichever is due
/// first.
fn settled(id: ConnectionId, known: &Connection, last: &Arc<Attempt>, policy: &Policy) -> Option<PlanItem> {
    let full_at = known.checked_full.unwrap_or(last.at);
    let checked_at = known.last_checked().unwrap_or(last.at);
    // The interval is shortened by up to a tenth, depending on the id, so that connections that were created together are
    // not all checked again in the same second.
    let shortened = 1.0 - 0.1 * share(id, 0);
    let spread = |interval: Duration| interval.mul_f64(shortened);
    let drift = full_at.plus(spread(policy.recheck.drift));
    let health = checked_at.plus(spread(policy.recheck.health));
    Some(if drift <= health {
        PlanItem { connection: id, why: Why::Drift, scope: Scope::Full, due: drift }
    } else {
        PlanItem { connection: id, why: Why::Health, scope: Scope::Health, due: health }
    })
}

/// The wait after `failures` failures in a row: `initial * 2^(failures-1)`, at most `max`, shortened by up to the policy's
/// jitter. The jitter depends only on the id and the number of failures, so the same rows give the same instant after
/// every restart.
#[must_use]
pub fn backoff(policy: &Policy, id: ConnectionId, failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(30);
    let wait = policy.backoff.initial.saturating_mul(1 << doublings).min(policy.backoff.max);
    wait.mul_f64(1.0 - policy.backoff.jitter.clamp(0.0, 1.0) * share(id, failures))
}

/// A pseudo-random number in 0..1 that depends on the id and a counter.
fn share(id: ConnectionId, counter: u32) -> f64 {
    // The id is a hash already; the finalizer of splitmix64 mixes the counter into it.
    let (high, low) = id.0.as_u64_pair();
    let mut mixed = high ^ low.rotate_left(32) ^ u64::from(counter).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let [a, b, c, d, ..] = (mixed ^ (mixed >> 31)).to_be_bytes();
    f64::from(u32::from_be_bytes([a, b, c, d])) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests;
