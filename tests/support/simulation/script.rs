//! What happens to each connection of a soak. Everything follows from the number of the connection and the share of the time
//! that has passed, so a run can be repeated and every end is known before.

use super::source::{Source, catalog};
use aam::clock::Clock;
use aam::model::{Catalog, Class, Failure, State, Timestamp};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The secrets of each kind that many connections share.
const SECRETS: usize = 10;
/// The groups of connections whose sources fail at the same time.
const GROUPS: usize = 5;
/// When the secrets are rotated, as shares of the time.
const ROTATIONS: [f64; 4] = [0.15, 0.35, 0.55, 0.75];
/// How long both secrets work after a rotation that was announced.
const OVERLAP: f64 = 0.02;
/// How long a rotation is not known here that was not announced.
const DELAY: f64 = 0.04;
/// How long an outage lasts.
const OUTAGE: f64 = 0.05;
/// When the structure of a drifting source changes. The second change takes a column away.
const CHANGES: [f64; 3] = [0.25, 0.5, 0.7];
/// When connections are withdrawn.
const WITHDRAWAL: f64 = 0.3;
/// From here on a revoked secret is rejected.
const REVOCATION: f64 = 0.4;
/// From here on a source that is gone does not answer.
const END_OF_SOURCE: f64 = 0.5;
/// From here on flaky sources work.
const CALM: f64 = 0.9;

/// What a connection is an example of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Works all the time.
    Steady,
    /// Changes its structure three times, once so that readers break.
    Drifting,
    /// Does not answer during two outages, together with its group.
    Outage(usize),
    /// Its secret is rotated, and both secrets work for a while.
    Timely(usize),
    /// Its secret is rotated, and the new one arrives late.
    Late(usize),
    /// Fails or asks for a pause now and then.
    Flaky,
    Withdrawn,
    /// Its secret is revoked and never replaced.
    Revoked,
    /// Its risk is higher than the policy accepts.
    Refused,
    /// Its source is gone for good.
    Gone,
}

impl Kind {
    /// The kind of connection `number`.
    pub fn new(number: usize) -> Kind {
        let round = number / 20;
        match number % 20 {
            0..=11 => Kind::Steady,
            12 | 13 => Kind::Drifting,
            14 | 15 => Kind::Outage(round % GROUPS),
            16 => Kind::Timely(round % SECRETS),
            17 => Kind::Late(round % SECRETS),
            18 => Kind::Flaky,
            _ => match round % 4 {
                0 => Kind::Withdrawn,
                1 => Kind::Revoked,
                2 => Kind::Refused,
                _ => Kind::Gone,
            },
        }
    }

    /// The state at the end, and the version of the catalog if the connection has one.
    pub fn end(self) -> (State, Option<u32>) {
        match self {
            Kind::Steady | Kind::Outage(_) | Kind::Timely(_) | Kind::Late(_) | Kind::Flaky => (State::Active, Some(1)),
            Kind::Drifting => (State::Active, Some(4)),
            Kind::Withdrawn => (State::Retired, Some(1)),
            Kind::Revoked => (State::Healing, Some(1)),
            Kind::Refused => (State::Rejected, None),
            Kind::Gone => (State::NetworkBlocked, Some(1)),
        }
    }

    /// The name of its secret.
    pub fn secret(self) -> Option<String> {
        match self {
            Kind::Timely(secret) => Some(format!("SOAK_TIMELY_{secret}")),
            Kind::Late(secret) => Some(format!("SOAK_LATE_{secret}")),
            Kind::Revoked => Some("SOAK_REVOKED".to_string()),
            _ => None,
        }
    }
}

/// Something that the world around AAM does, at a share of the time.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The file of this secret gets this version.
    Store { secret: String, version: usize },
    /// Connections are withdrawn.
    Withdraw,
    /// The process stops and starts again.
    Restart,
}

/// All events, in order.
pub fn events() -> Vec<(f64, Event)> {
    let mut events = vec![(WITHDRAWAL, Event::Withdraw)];
    events.extend([0.33, 0.62, 0.86].map(|at| (at, Event::Restart)));
    for (version, at) in ROTATIONS.iter().enumerate() {
        for secret in 0..SECRETS {
            let stored = |kind: Kind| Event::Store { secret: kind.secret().unwrap_or_default(), version: version + 1 };
            events.push((*at, stored(Kind::Timely(secret))));
            events.push((at + DELAY, stored(Kind::Late(secret))));
        }
    }
    events.sort_by(|a, b| a.0.total_cmp(&b.0));
    events
}

/// The names of all secrets.
pub fn secrets() -> Vec<String> {
    let shared = (0..SECRETS).flat_map(|secret| [Kind::Timely(secret), Kind::Late(secret)]);
    shared.chain([Kind::Revoked]).filter_map(Kind::secret).collect()
}

/// The value of a version of a secret.
pub fn value(secret: &str, version: usize) -> String {
    format!("soak-value-of-{secret}-version-{version}")
}

/// The sources of a soak.
pub struct Script {
    clock: Arc<dyn Clock>,
    start: Timestamp,
    total: Duration,
    counts: Mutex<Counts>,
}

/// What the sources answered so far.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    pub opened: u64,
    pub failed: BTreeMap<&'static str, u64>,
}

impl Script {
    pub fn new(clock: Arc<dyn Clock>, total: Duration) -> Arc<Script> {
        let start = clock.now();
        Arc::new(Script { clock, start, total, counts: Mutex::default() })
    }

    /// The instant at a share of the time.
    pub fn at(&self, share: f64) -> Timestamp {
        self.start.plus(self.total.mul_f64(share))
    }

    pub fn counts(&self) -> Counts {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The share of the time that has passed.
    fn share(&self) -> f64 {
        self.clock.now().since(self.start).as_secs_f64() / self.total.as_secs_f64()
    }

    fn judge(&self, number: usize, secret: Option<&str>) -> Result<(), Failure> {
        let (at, kind) = (self.share(), Kind::new(number));
        let version = || ROTATIONS.iter().filter(|rotated| **rotated <= at).count();
        let holds = |version: usize| kind.secret().is_some_and(|name| secret == Some(value(&name, version).as_str()));
        let works = match kind {
            Kind::Steady | Kind::Drifting | Kind::Withdrawn | Kind::Refused => true,
            Kind::Outage(group) => !is_out(group, at),
            Kind::Timely(_) => {
                let overlaps = ROTATIONS.iter().any(|rotated| (*rotated..rotated + OVERLAP).contains(&at));
                holds(version()) || overlaps && holds(version() - 1)
            }
            Kind::Late(_) => holds(version()),
            Kind::Flaky => return self.flaky(number, at),
            Kind::Revoked => at < REVOCATION && holds(0),
            Kind::Gone => at < END_OF_SOURCE,
        };
        match kind {
            _ if works => Ok(()),
            Kind::Outage(_) | Kind::Gone => Err(Failure::new(Class::Network, "connection refused", "start the source")),
            _ => Err(Failure::new(Class::CredentialRejected, "the source rejects the secret", "store the new secret")),
        }
    }

    /// One of eight answers is an error, and one of eight asks for a pause.
    fn flaky(&self, number: usize, at: f64) -> Result<(), Failure> {
        let minute = self.clock.now().0 / 60_000;
        let mixed = minute.unsigned_abs().wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(number as u64);
        match (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 61 {
            0 if at < CALM => Err(Failure::new(Class::Remote, "the source answers 500", "wait")),
            1 if at < CALM => Err(Failure::new(Class::Throttled, "rate limited", "wait").after(Duration::from_secs(600))),
            _ => Ok(()),
        }
    }
}

/// Whether the sources of `group` do not answer.
fn is_out(group: usize, at: f64) -> bool {
    #[expect(clippy::cast_precision_loss, reason = "the number of a group")]
    let first = 0.2 + 0.02 * group as f64;
    [first, first + 0.4].iter().any(|from| (*from..from + OUTAGE).contains(&at))
}

impl Source for Script {
    fn open(&self, number: usize, secret: Option<&str>) -> Result<(), Failure> {
        let result = self.judge(number, secret);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.opened += 1;
        if let Err(failure) = &result {
            *counts.failed.entry(failure.class.as_str()).or_default() += 1;
        }
        result
    }

    fn catalog(&self, number: usize) -> Catalog {
        let mut columns = vec!["id".to_string(), "legacy".to_string()];
        if Kind::new(number) == Kind::Drifting {
            let at = self.share();
            for (change, from) in CHANGES.iter().enumerate().filter(|(_, from)| **from <= at) {
                if change == 1 {
                    columns.retain(|column| column != "legacy");
                } else {
                    columns.push(format!("added_at_{from}"));
                }
            }
        }
        catalog(&columns)
    }
}
