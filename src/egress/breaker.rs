//! The circuit breaker. Calls to a host that fails repeatedly are refused for a while. Then one probe is allowed, and
//! the breaker closes if it succeeds.
//!
//! Only outages count as failures: no response, or a 5xx status. A host that responds with 401, 403, 404 or 429 is
//! alive.

use super::locked;
use super::marks::{MarkKind, Marks};
use crate::model::Timestamp;
use crate::policy;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What the outcome of a call indicates about the health of its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthSignal {
    /// The host responded.
    Alive,
    /// The host did not respond, or it responded with a server error.
    Failing,
    /// The outcome says nothing about the host: the call was not sent, was throttled, or was abandoned by its caller.
    Unknown,
}

/// The permission to make one call. A new epoch begins whenever the breaker opens, closes or becomes half open, and the
/// outcome of a call counts only in the epoch of its pass. So a late response to a call that began before the breaker
/// opened cannot change its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pass {
    epoch: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed {
        failures: u32,
    },
    Open {
        since: Timestamp,
    },
    /// One probe was allowed, and its outcome is not known yet.
    HalfOpen {
        since: Timestamp,
    },
}

/// The breaker of one host, as a pure state machine.
#[derive(Clone, Debug)]
pub struct Breaker {
    state: State,
    epoch: u64,
}

impl Default for Breaker {
    fn default() -> Breaker {
        Breaker { state: State::Closed { failures: 0 }, epoch: 0 }
    }
}

impl Breaker {
    /// Requests permission to make a call.
    ///
    /// # Errors
    /// Returns how long the breaker stays open.
    pub fn enter(&mut self, now: Timestamp, rules: &policy::Breaker) -> Result<Pass, Duration> {
        match self.state {
            State::Closed { .. } => {}
            State::HalfOpen { .. } => return Err(rules.open_for),
            State::Open { since } => {
                // A clock that was set back must not prolong the wait.
                let since = since.min(now);
                let rested = now.since(since);
                if rested < rules.open_for {
                    self.state = State::Open { since };
                    return Err(rules.open_for.saturating_sub(rested));
                }
                self.turn(State::HalfOpen { since });
            }
        }
        Ok(Pass { epoch: self.epoch })
    }

    /// Returns how long the breaker stays open, or `None` if a call is allowed. This does not use up the probe.
    #[must_use]
    pub fn resting(&self, now: Timestamp, rules: &policy::Breaker) -> Option<Duration> {
        self.clone().enter(now, rules).err()
    }

    /// Lets an open breaker allow its probe now.
    fn hasten(&mut self, now: Timestamp, rules: &policy::Breaker) {
        if let State::Open { since } = &mut self.state {
            let open_for = i64::try_from(rules.open_for.as_millis()).unwrap_or(i64::MAX);
            *since = (*since).min(Timestamp(now.0.saturating_sub(open_for)));
        }
    }

    /// Reports the outcome of the call that was made with `pass`. Returns whether this closed the breaker.
    pub fn leave(&mut self, pass: Pass, signal: HealthSignal, now: Timestamp, rules: &policy::Breaker) -> bool {
        if pass.epoch != self.epoch {
            return false;
        }
        match (self.state, signal) {
            (State::Closed { failures }, HealthSignal::Failing) if failures + 1 >= rules.failures.max(1) => {
                self.turn(State::Open { since: now })
            }
            (State::Closed { failures }, HealthSignal::Failing) => self.state = State::Closed { failures: failures + 1 },
            (State::Closed { .. }, HealthSignal::Alive) => self.state = State::Closed { failures: 0 },
            (State::HalfOpen { .. }, HealthSignal::Alive) => self.turn(State::Closed { failures: 0 }),
            (State::HalfOpen { .. }, HealthSignal::Failing) => self.turn(State::Open { since: now }),
            // The probe gave no result, so the next call may be the probe.
            (State::HalfOpen { since }, HealthSignal::Unknown) => self.turn(State::Open { since }),
            (State::Closed { .. }, HealthSignal::Unknown) | (State::Open { .. }, _) => {}
        }
        pass.epoch != self.epoch && matches!(self.state, State::Closed { .. })
    }

    /// Opens the breaker until `until`, because another process found that the host fails. A probe that is under way decides.
    fn open_until(&mut self, until: Timestamp, rules: &policy::Breaker) {
        let open_for = i64::try_from(rules.open_for.as_millis()).unwrap_or(i64::MAX);
        let opened = Timestamp(until.0.saturating_sub(open_for));
        match &mut self.state {
            State::Closed { .. } => self.turn(State::Open { since: opened }),
            State::Open { since } => *since = opened.max(*since),
            State::HalfOpen { .. } => {}
        }
    }

    /// Closes the breaker, because another process found that the host works.
    fn close(&mut self) {
        if !matches!(self.state, State::Closed { .. }) {
            self.turn(State::Closed { failures: 0 });
        }
    }

    fn turn(&mut self, state: State) {
        self.state = state;
        self.epoch += 1;
    }
}

/// The breakers of the process, each with the reason of its last failure. The key is `family|host:port`.
#[derive(Default)]
pub struct Breakers {
    all: Mutex<HashMap<String, (Breaker, String)>>,
    marks: Arc<Marks>,
}

impl Breakers {
    /// Creates the breakers of a process. `marks` stores which of them are open.
    #[must_use]
    pub fn new(marks: Arc<Marks>) -> Breakers {
        Breakers { all: Mutex::default(), marks }
    }

    /// Runs `act` on the breaker of `key` and on the reason of its last failure.
    fn with<T>(&self, key: &str, act: impl FnOnce(&mut Breaker, &mut String) -> T) -> T {
        let mut all = locked(&self.all);
        if let Some((breaker, last)) = all.get_mut(key) {
            return act(breaker, last);
        }
        let (breaker, last) = all.entry(key.to_string()).or_default();
        act(breaker, last)
    }

    /// See [`Breaker::enter`].
    ///
    /// # Errors
    /// Returns how long the breaker stays open, and the reason of the last failure.
    pub fn enter(&self, key: &str, now: Timestamp, rules: &policy::Breaker) -> Result<Pass, (Duration, String)> {
        self.with(key, |breaker, last| breaker.enter(now, rules).map_err(|rest| (rest, last.clone())))
    }

    /// See [`Breaker::resting`]. The result includes the reason of the last failure.
    pub fn resting(&self, key: &str, now: Timestamp, rules: &policy::Breaker) -> Option<(Duration, String)> {
        let all = locked(&self.all);
        let (breaker, last) = all.get(key)?;
        breaker.resting(now, rules).map(|rest| (rest, last.clone()))
    }

    /// Returns the number of hosts that are not called for now, for each family that has called any host.
    pub fn open_by_family(&self, now: Timestamp, rules: &policy::Breaker) -> BTreeMap<String, u64> {
        let mut open: BTreeMap<String, u64> = BTreeMap::new();
        for (key, (breaker, _)) in locked(&self.all).iter() {
            let family = key.split('|').next().unwrap_or_default();
            let count = match open.get_mut(family) {
                Some(count) => count,
                None => open.entry(family.to_string()).or_default(),
            };
            *count += u64::from(breaker.resting(now, rules).is_some());
        }
        open
    }

    /// See [`Breaker::leave`]. `reason` describes what failed. When one host of a family works again, the open breakers of its
    /// other hosts allow their probes at once, because the outage was probably that of the vendor.
    pub fn leave(&self, key: &str, pass: Pass, signal: HealthSignal, reason: &str, now: Timestamp, rules: &policy::Breaker) {
        let (closed, opened) = self.with(key, |breaker, last| {
            if signal == HealthSignal::Failing {
                *last = reason.to_string();
            }
            let epoch = breaker.epoch;
            let closed = breaker.leave(pass, signal, now, rules);
            // A probe that says nothing leaves the breaker as it was before.
            (closed, breaker.epoch != epoch && signal == HealthSignal::Failing)
        });
        if closed {
            self.marks.changed(MarkKind::BreakerClosed, key, now, now, "");
            self.hasten_family(key, now, rules);
        } else if opened {
            self.marks.changed(MarkKind::BreakerOpen, key, now.plus(rules.open_for), now, reason);
        }
    }

    /// Lets the open breakers of the family of `key` allow their probes now.
    fn hasten_family(&self, key: &str, now: Timestamp, rules: &policy::Breaker) {
        let family = key.split('|').next().unwrap_or(key);
        let of_family = |other: &str| other.split('|').next() == Some(family);
        let mut all = locked(&self.all);
        all.iter_mut().filter(|(other, _)| of_family(other)).for_each(|(_, (breaker, _))| breaker.hasten(now, rules));
    }

    /// Applies that the breaker of `key` is open until `until`, because of `reason`.
    pub fn apply_open(&self, key: &str, until: Timestamp, reason: &str, rules: &policy::Breaker) {
        self.with(key, |breaker, last| {
            breaker.open_until(until, rules);
            *last = reason.to_string();
        });
    }

    /// Applies that another process closed the breaker of `key`.
    pub fn apply_closed(&self, key: &str, now: Timestamp, rules: &policy::Breaker) {
        self.with(key, |breaker, _| breaker.close());
        self.hasten_family(key, now, rules);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RULES: policy::Breaker = policy::Breaker { failures: 3, open_for: Duration::from_secs(30) };

    fn fail(breaker: &mut Breaker, times: u32, now: Timestamp) {
        for _ in 0..times {
            let pass = breaker.enter(now, &RULES).unwrap();
            breaker.leave(pass, HealthSignal::Failing, now, &RULES);
        }
    }

    #[test]
    fn opens_after_failures_in_a_row_and_probes_once() {
        let mut breaker = Breaker::default();
        fail(&mut breaker, 2, Timestamp(0));
        let pass = breaker.enter(Timestamp(0), &RULES).unwrap();
        breaker.leave(pass, HealthSignal::Alive, Timestamp(0), &RULES);
        fail(&mut breaker, 2, Timestamp(0));
        assert!(breaker.enter(Timestamp(0), &RULES).is_ok(), "an answer in between starts the count anew");
        fail(&mut breaker, 1, Timestamp(1000));
        assert_eq!(breaker.enter(Timestamp(11_000), &RULES), Err(Duration::from_secs(20)));
        let probe = breaker.enter(Timestamp(31_000), &RULES).unwrap();
        assert!(breaker.enter(Timestamp(31_000), &RULES).is_err(), "one probe at a time");
        breaker.leave(probe, HealthSignal::Failing, Timestamp(32_000), &RULES);
        assert_eq!(breaker.enter(Timestamp(33_000), &RULES), Err(Duration::from_secs(29)));
        let probe = breaker.enter(Timestamp(62_000), &RULES).unwrap();
        breaker.leave(probe, HealthSignal::Alive, Timestamp(62_000), &RULES);
        fail(&mut breaker, 2, Timestamp(62_000));
        assert!(breaker.enter(Timestamp(62_000), &RULES).is_ok(), "closed again, with no failure remembered");
    }

    #[test]
    fn a_late_response_changes_nothing_once_open() {
        let mut breaker = Breaker::default();
        let late = breaker.enter(Timestamp(0), &RULES).unwrap();
        fail(&mut breaker, 3, Timestamp(0));
        breaker.leave(late, HealthSignal::Alive, Timestamp(1), &RULES);
        assert!(breaker.enter(Timestamp(2), &RULES).is_err());
        let probe = breaker.enter(Timestamp(30_000), &RULES).unwrap();
        breaker.leave(late, HealthSignal::Failing, Timestamp(30_001), &RULES);
        breaker.leave(probe, HealthSignal::Alive, Timestamp(30_002), &RULES);
        assert!(breaker.enter(Timestamp(30_003), &RULES).is_ok());
    }

    #[test]
    fn a_probe_that_was_not_sent_is_given_to_the_next_call() {
        let mut breaker = Breaker::default();
        fail(&mut breaker, 3, Timestamp(0));
        let probe = breaker.enter(Timestamp(30_000), &RULES).unwrap();
        breaker.leave(probe, HealthSignal::Unknown, Timestamp(30_000), &RULES);
        assert!(breaker.enter(Timestamp(30_001), &RULES).is_ok());
    }

    #[test]
    fn one_host_that_works_again_lets_the_others_of_its_family_probe() {
        let breakers = Breakers::default();
        for key in ["okta|a.okta.com:443", "okta|b.okta.com:443", "jira|a.atlassian.net:443"] {
            for _ in 0..3 {
                let pass = breakers.enter(key, Timestamp(0), &RULES).unwrap();
                breakers.leave(key, pass, HealthSignal::Failing, "503", Timestamp(0), &RULES);
            }
            assert!(breakers.resting(key, Timestamp(1), &RULES).is_some());
        }
        let fail_again = breakers.enter("okta|b.okta.com:443", Timestamp(30_000), &RULES).unwrap();
        breakers.leave("okta|b.okta.com:443", fail_again, HealthSignal::Failing, "503", Timestamp(30_001), &RULES);
        let probe = breakers.enter("okta|a.okta.com:443", Timestamp(30_500), &RULES).unwrap();
        assert!(breakers.enter("okta|b.okta.com:443", Timestamp(30_500), &RULES).is_err());
        breakers.leave("okta|a.okta.com:443", probe, HealthSignal::Alive, "", Timestamp(30_600), &RULES);
        let probe = breakers.enter("okta|b.okta.com:443", Timestamp(30_700), &RULES).unwrap();
        assert!(breakers.enter("okta|b.okta.com:443", Timestamp(30_700), &RULES).is_err(), "still one probe at a time");
        breakers.leave("okta|b.okta.com:443", probe, HealthSignal::Failing, "503", Timestamp(30_800), &RULES);
        assert!(breakers.enter("okta|b.okta.com:443", Timestamp(31_000), &RULES).is_err(), "its own failure opens it again");
    }

    #[test]
    fn a_clock_set_back_does_not_prolong_the_rest() {
        let mut breaker = Breaker::default();
        fail(&mut breaker, 3, Timestamp(9_000_000));
        assert_eq!(breaker.enter(Timestamp(0), &RULES), Err(Duration::from_secs(30)));
        assert!(breaker.enter(Timestamp(30_000), &RULES).is_ok());
    }

    proptest! {
        /// For any sequence of events: there are never two probes at once, a refusal never names a wait longer than
        /// `open_for`, and an open breaker never closes without a successful call.
        #[test]
        fn holds_for_any_history(steps in proptest::collection::vec((0_i64..20_000, 0_u8..4, any::<proptest::sample::Index>()), 1..200)) {
            let mut breaker = Breaker::default();
            let mut now = Timestamp(0);
            let mut out: Vec<Pass> = Vec::new();
            for (pause, what, which) in steps {
                now = now.plus(Duration::from_millis(pause as u64));
                let before = breaker.state;
                if what == 3 {
                    match breaker.enter(now, &RULES) {
                        Ok(pass) => {
                            let probing = matches!(before, State::HalfOpen { .. });
                            prop_assert!(!probing, "a second probe");
                            out.push(pass);
                        }
                        Err(rest) => prop_assert!(rest <= RULES.open_for && rest > Duration::ZERO),
                    }
                } else if !out.is_empty() {
                    let pass = out.swap_remove(which.index(out.len()));
                    let sign = [HealthSignal::Alive, HealthSignal::Failing, HealthSignal::Unknown][usize::from(what)];
                    breaker.leave(pass, sign, now, &RULES);
                    let closed = |state| matches!(state, State::Closed { .. });
                    if closed(breaker.state) && !closed(before) {
                        let proven = matches!(before, State::HalfOpen { .. }) && sign == HealthSignal::Alive;
                        prop_assert!(proven, "closed without a probe");
                    }
                }
                if let State::Closed { failures } = breaker.state {
                    prop_assert!(failures < RULES.failures);
                }
            }
        }
    }
}
