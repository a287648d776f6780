//! The last good policy stays in force. Pure: whoever reads the file hands the result in.

use super::{ActivePolicy, Policy, Rejected};
use crate::model::{Problem, Timestamp};
use std::sync::Arc;

impl ActivePolicy {
    /// The policy at the start of the process. `last_accepted` is the newest that the registry knows.
    ///
    /// # Errors
    /// The problems of the file, when there is no earlier policy to fall back on.
    pub fn start(
        file: Result<Policy, Vec<Problem>>,
        last_accepted: Option<Policy>,
        at: Timestamp,
    ) -> Result<ActivePolicy, Vec<Problem>> {
        match (file, last_accepted) {
            (Ok(policy), _) => Ok(ActivePolicy { policy: Arc::new(policy), rejected: None }),
            (Err(problems), Some(policy)) => {
                Ok(ActivePolicy { policy: Arc::new(policy), rejected: Some(Rejected { at, problems }) })
            }
            (Err(problems), None) => Err(problems),
        }
    }

    /// What is in force after the file was read again.
    ///
    /// An unchanged file gives an equal answer: the same `Arc`, and for the same problems the same `at`.
    #[must_use]
    pub fn reload(&self, parsed: Result<Policy, Vec<Problem>>, at: Timestamp) -> ActivePolicy {
        match parsed {
            Ok(policy) if policy == *self.policy => ActivePolicy { policy: Arc::clone(&self.policy), rejected: None },
            Ok(policy) => ActivePolicy { policy: Arc::new(policy), rejected: None },
            Err(problems) => {
                let since =
                    self.rejected.as_ref().filter(|earlier| earlier.problems == problems).map_or(at, |earlier| earlier.at);
                ActivePolicy { policy: Arc::clone(&self.policy), rejected: Some(Rejected { at: since, problems }) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::parse::parse;

    fn good(family: &str) -> Result<Policy, Vec<Problem>> {
        parse(&format!("version: 1\nallowlist: [{family}]\n"), "policy.yaml")
    }

    fn bad() -> Result<Policy, Vec<Problem>> {
        parse("version: 2\nallowlist: []\n", "policy.yaml")
    }

    fn allows(active: &ActivePolicy, family: &str) -> bool {
        active.policy.allowlist.contains(family)
    }

    #[test]
    fn a_good_file_wins_over_the_last_accepted() {
        let active = ActivePolicy::start(good("slack"), good("github").ok(), Timestamp(1)).unwrap();
        assert!(allows(&active, "slack") && active.rejected.is_none());
    }

    #[test]
    fn a_bad_file_without_a_last_good_one_stops_the_start() {
        let problems = ActivePolicy::start(bad(), None, Timestamp(1)).unwrap_err();
        assert_eq!(problems[0].pointer, "/version");
    }

    #[test]
    fn a_bad_file_keeps_the_last_accepted_across_a_restart() {
        let active = ActivePolicy::start(bad(), good("github").ok(), Timestamp(7)).unwrap();
        assert!(allows(&active, "github"));
        let rejected = active.rejected.unwrap();
        assert_eq!((rejected.at, rejected.problems), (Timestamp(7), bad().unwrap_err()));
    }

    #[test]
    fn after_a_bad_load_the_next_good_one_loads() {
        let first = ActivePolicy::start(good("slack"), None, Timestamp(1)).unwrap();
        let second = first.reload(bad(), Timestamp(2));
        assert!(allows(&second, "slack") && second.rejected.is_some());
        let third = second.reload(good("github"), Timestamp(3));
        assert!(allows(&third, "github") && !allows(&third, "slack") && third.rejected.is_none());
    }

    #[test]
    fn going_back_to_the_policy_in_force_clears_the_rejection() {
        let first = ActivePolicy::start(good("slack"), None, Timestamp(1)).unwrap();
        let back = first.reload(bad(), Timestamp(2)).reload(good("slack"), Timestamp(3));
        assert!(back.rejected.is_none() && Arc::ptr_eq(&back.policy, &first.policy));
    }

    #[test]
    fn an_unchanged_bad_file_keeps_the_time_of_its_rejection() {
        let first = ActivePolicy::start(good("slack"), None, Timestamp(1)).unwrap();
        let again = first.reload(bad(), Timestamp(2)).reload(bad(), Timestamp(9));
        assert_eq!(again.rejected.map(|rejected| rejected.at), Some(Timestamp(2)));
        let other = first.reload(bad(), Timestamp(2)).reload(parse("[", "policy.yaml"), Timestamp(9));
        assert_eq!(other.rejected.map(|rejected| rejected.at), Some(Timestamp(9)));
    }
}
