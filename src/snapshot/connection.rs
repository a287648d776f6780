//! What is read from a connection of the snapshot. Pure.

use super::{Checked, Connection};
use crate::model::ending;
use crate::model::ledger::{AttemptContext, Finished, Warning};
use crate::model::{ConnectionId, Origin, Retry, Scope, State, Step, Timestamp};

/// The failures in a row, and the times of the latest check and of the latest full check, which re-checks change and the ledger does
/// not have.
pub(super) type Rechecked = (u32, Option<Timestamp>, Option<Timestamp>);

impl Connection {
    /// What re-checks change.
    pub(super) fn rechecked(&self) -> Rechecked {
        (self.failures, self.checked, self.checked_full)
    }

    /// The same after `checked`, a re-check that found nothing new.
    pub(super) fn after(&self, checked: &Checked) -> Rechecked {
        if self.last.as_ref().is_some_and(|last| last.at > checked.at) {
            return self.rechecked();
        }
        let failures = if self.generation == checked.generation { checked.failures } else { self.failures };
        (failures, Some(checked.at), checked.full_at.or(self.checked_full))
    }

    /// The state of the connection.
    #[must_use]
    pub fn state(&self) -> State {
        if self.retired.is_some() {
            return State::Retired;
        }
        match &self.conclusive {
            None => State::Pending,
            Some(attempt) => State::derive(attempt.facts.class, self.proven.is_some()),
        }
    }

    /// The origins that desire the document in force, the newest first.
    pub fn origins_in_force(&self) -> impl Iterator<Item = &Origin> + Clone {
        // `origins` is in the order of acceptance.
        self.origins.iter().rev().filter(|desired| desired.spec == self.spec).map(|desired| &desired.origin)
    }

    /// The warnings in force: those of the latest conclusive attempt, and those of the steps that it did not run from the
    /// latest full attempt that passed. A health check, for example, does not run discovery.
    pub fn warnings(&self) -> impl Iterator<Item = &Warning> {
        let latest = self.conclusive.as_deref();
        let of_latest = latest.into_iter().flat_map(|attempt| &attempt.facts.warnings);
        let only_health = latest.is_some_and(|attempt| attempt.facts.scope == Scope::Health);
        let before = self.proven.as_deref().filter(|_| only_health);
        let not_run = |warning: &&Warning| matches!(warning.step, Step::Discover | Step::TinySync);
        of_latest.chain(before.into_iter().flat_map(|attempt| &attempt.facts.warnings).filter(not_run))
    }

    /// When the credential ends, if that is known and a person has to replace it.
    #[must_use]
    pub fn credential_ends_at(&self) -> Option<Timestamp> {
        self.conclusive.as_ref().and_then(|attempt| attempt.facts.credential_ends_at).filter(|_| self.retired.is_none())
    }

    /// The warning that the credential ends soon or has ended, seen from `now`. `id` is that of the connection.
    #[must_use]
    pub fn credential_ending(&self, id: ConnectionId, now: Timestamp) -> Option<Warning> {
        let secret = self.conclusive.as_ref().and_then(|attempt| attempt.facts.ending_secret.as_deref());
        ending::warning(self.credential_ends_at()?, secret, id, now)
    }

    /// Whether no origin desires the connection although it is not retired yet.
    #[must_use]
    pub fn orphaned(&self) -> bool {
        self.origins.is_empty() && self.retired.is_none()
    }

    /// The warnings in force of the steps that a health check runs.
    fn warnings_without_discovery(&self) -> impl Iterator<Item = &Warning> {
        self.warnings().filter(|warning| !matches!(warning.step, Step::Discover | Step::TinySync))
    }

    /// When the latest attempt ended, whether or not it changed anything.
    #[must_use]
    pub fn last_checked(&self) -> Option<Timestamp> {
        self.checked.max(self.last.as_ref().map(|last| last.at))
    }

    /// Whether the process ended in the middle of the latest attempt.
    #[must_use]
    pub fn ended_with_process(&self) -> bool {
        use crate::model::Class;
        let class = self.last.as_ref().and_then(|last| last.facts.class);
        matches!(class, Some(Class::Interrupted | Class::CrashLoop))
    }

    /// Whether another credential could make the connection work.
    #[must_use]
    pub fn waits_for_credential(&self) -> bool {
        let Some(facts) = self.last.as_ref().map(|last| &last.facts).filter(|_| self.retired.is_none()) else { return false };
        facts.class.is_some_and(|class| class.retry() == Retry::Recheck) || facts.failed_step == Some(Step::Credential)
    }

    /// Whether the latest attempt failed because of an outage of the source.
    #[must_use]
    pub fn in_outage(&self) -> bool {
        self.last.as_ref().and_then(|last| last.facts.class).is_some_and(crate::model::Class::is_outage)
    }

    /// When to try again after the latest failure, according to its class. `None` if the latest attempt passed.
    #[must_use]
    pub fn retry(&self) -> Option<Retry> {
        self.last.as_ref().and_then(|last| last.facts.class).map(crate::model::Class::retry)
    }

    /// Whether an outcome with these facts adds nothing to what the ledger already records.
    #[must_use]
    pub fn says_nothing_new(&self, facts: &Finished, context: &AttemptContext) -> bool {
        let Some(last) = &self.last else { return false };
        let same_inputs = last.facts.generation == context.generation && last.facts.slice == context.slice;
        let healthy_recheck = facts.scope == Scope::Health && facts.class.is_none() && last.facts.class.is_none();
        let same_warnings = || self.warnings_without_discovery().eq(facts.warnings.iter());
        let same_end = ending::is_same_day(last.facts.credential_ends_at, facts.credential_ends_at);
        same_inputs && same_end && (last.facts.outcome == facts.outcome || healthy_recheck && same_warnings())
    }
}
