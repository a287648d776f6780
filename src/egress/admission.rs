//! The checks that every call must pass before it is sent: whether the account is throttled, the circuit breaker, a
//! concurrency slot, the rate limit, and the budget of the day.

use super::breaker::{HealthSignal, Pass};
use super::{Egress, Session};
use crate::model::{Class, Failure, Timestamp};
use crate::policy::Policy;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;

/// The breaker's permission for one call. If it is dropped without an outcome, it is returned to the breaker as unused.
pub struct Admission {
    egress: Arc<Egress>,
    policy: Arc<Policy>,
    pub(super) key: String,
    pub(super) pass: Pass,
    reported: bool,
}

impl Admission {
    /// Reports the outcome of the call to the breaker. Only the first report counts.
    pub fn leave(&mut self, signal: HealthSignal, reason: &str) {
        if !std::mem::replace(&mut self.reported, true) {
            let now = self.egress.clock.now();
            self.egress.breakers.leave(&self.key, self.pass, signal, reason, now, &self.policy.breaker);
        }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.leave(HealthSignal::Unknown, "");
    }
}

impl Egress {
    /// Returns the number of hosts whose circuit breaker is open, for each family that has called any host.
    #[must_use]
    pub fn open_breakers(&self, rules: &crate::policy::Breaker) -> Vec<(String, u64)> {
        self.breakers.open_by_family(self.clock.now(), rules).into_iter().collect()
    }
}

impl Session {
    /// Waits until a call to `host` is allowed. This does not charge the budget of the day.
    ///
    /// # Errors
    /// Returns `Throttled` or `BreakerOpen`. Nothing was sent in either case.
    pub(super) async fn request_admission(&self, host: &str, port: u16) -> Result<(Admission, OwnedSemaphorePermit), Failure> {
        let egress = &self.egress;
        let rules = &self.caller.policy.breaker;
        let key = key(&self.caller.family, host, port);
        let now = egress.clock.now();
        egress.gate.admit(&self.caller)?;
        self.account.free(&self.caller, now)?;
        if let Some((rest, reason)) = egress.breakers.resting(&key, now, rules) {
            return Err(breaker_open(host, now, rest, &reason));
        }
        let slot = self.account.enter(&self.caller, egress).await?;
        // The account may have been throttled, or the breaker may have opened, while this call waited.
        let now = egress.clock.now();
        self.account.free(&self.caller, now)?;
        let pass = egress.breakers.enter(&key, now, rules).map_err(|(rest, reason)| breaker_open(host, now, rest, &reason))?;
        Ok((Admission { egress: Arc::clone(egress), policy: Arc::clone(&self.caller.policy), key, pass, reported: false }, slot))
    }

    /// Takes one call from the budget of the day. This is the last wait before the call is sent.
    ///
    /// # Errors
    /// Returns `Throttled` if the budget is used up, the registry cannot record the call, or the process may not call any more.
    pub(super) async fn charge(&self) -> Result<(), Failure> {
        let egress = &self.egress;
        self.account.charge(&self.caller, egress.budget.as_ref(), egress.clock.now()).await?;
        egress.gate.admit(&self.caller)
    }
}

fn key(family: &str, host: &str, port: u16) -> String {
    let mut key = String::with_capacity(family.len() + host.len() + 8);
    for part in [family, "|", host, ":"] {
        key.push_str(part);
    }
    // Writing to a String cannot fail.
    let _ = write!(key, "{port}");
    key
}

/// Returns the failure for an open breaker. The title does not contain the time, because blockers with the same title
/// are counted together.
fn breaker_open(host: &str, now: Timestamp, rest: Duration, reason: &str) -> Failure {
    let title = format!("circuit breaker open for {host}");
    let fix = format!("fix the cause in the detail; next try at {}, and a success closes the circuit breaker", now.plus(rest));
    Failure::new(Class::BreakerOpen, title, fix).detail(reason).after(rest)
}
