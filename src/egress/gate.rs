//! What stands before every call: "later", the breaker, a slot, the rate and the day.

use super::breaker::{HealthSignal, Pass};
use super::{Egress, Session};
use crate::model::{Class, Failure};
use crate::policy::{Policy, duration_text};
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;

/// The breaker's leave for one call. Given back unused when it is dropped without an outcome.
pub struct Ticket {
    egress: Arc<Egress>,
    policy: Arc<Policy>,
    pub(super) key: String,
    pub(super) pass: Pass,
    left: bool,
}

impl Ticket {
    /// Tells the breaker how the call ended.
    pub fn leave(&mut self, sign: HealthSignal, words: &str) {
        if !std::mem::replace(&mut self.left, true) {
            let now = self.egress.clock.now();
            self.egress.breakers.leave(&self.key, self.pass, sign, words, now, &self.policy.breaker);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.leave(HealthSignal::Unknown, "");
    }
}

impl Session {
    /// Waits for everything that stands before a call to `host`, except the day.
    ///
    /// # Errors
    /// `Throttled` or `BreakerOpen`; nothing was sent and no call of the day is used.
    pub(super) async fn gate(&self, host: &str, port: u16) -> Result<(Ticket, OwnedSemaphorePermit), Failure> {
        let egress = &self.egress;
        let rules = &self.caller.policy.breaker;
        let key = key(&self.caller.family, host, port);
        let now = egress.clock.now();
        self.account.free(&self.caller, now)?;
        if let Some((rest, words)) = egress.breakers.resting(&key, now, rules) {
            return Err(left_alone(host, rest, &words));
        }
        let slot = self.account.enter(&self.caller).await?;
        // Much may have happened while this call waited.
        let now = egress.clock.now();
        self.account.free(&self.caller, now)?;
        let pass = egress.breakers.enter(&key, now, rules).map_err(|(rest, words)| left_alone(host, rest, &words))?;
        Ok((Ticket { egress: Arc::clone(egress), policy: Arc::clone(&self.caller.policy), key, pass, left: false }, slot))
    }

    /// Takes one call from the day.
    ///
    /// # Errors
    /// `Throttled` when the day is spent or the registry cannot write it down.
    pub(super) async fn charge(&self) -> Result<(), Failure> {
        let egress = &self.egress;
        self.account.charge(&self.caller, egress.budget.as_ref(), egress.clock.now()).await
    }
}

fn key(family: &str, host: &str, port: u16) -> String {
    let mut key = String::with_capacity(family.len() + host.len() + 8);
    for part in [family, "|", host, ":"] {
        key.push_str(part);
    }
    // A String takes everything.
    let _ = write!(key, "{port}");
    key
}

fn left_alone(host: &str, rest: Duration, words: &str) -> Failure {
    let title = format!("{host} was not called: it failed several times in a row and is left alone for now");
    let seconds = Duration::from_secs(rest.as_secs() + u64::from(rest.subsec_nanos() > 0));
    let fix = format!(
        "mend the cause below; AAM sends one probe in {} and goes on by itself if it passes",
        duration_text::format(&seconds)
    );
    Failure::new(Class::BreakerOpen, title, fix).detail(words).after(rest)
}
