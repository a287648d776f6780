//! The policy in force. A valid file replaces it; an invalid file is reported and leaves it unchanged. Pure: the caller
//! reads the file.

use super::Policy;
use crate::families::{CustomSources, Family};
use crate::model::{Digest, Problem, Timestamp};
use serde::Serialize;
use std::sync::Arc;

/// A policy together with the custom sources that it declares or whose manifests are in its folder.
#[derive(Clone, Debug)]
pub struct LoadedPolicy {
    pub policy: Arc<Policy>,
    pub sources: Arc<CustomSources>,
}

impl LoadedPolicy {
    /// A policy whose folder of manifests was not read: declared sources have no manifest.
    #[must_use]
    pub fn new(policy: impl Into<Arc<Policy>>) -> LoadedPolicy {
        let policy = policy.into();
        let sources = CustomSources::new(policy.manifests.sources.keys().cloned(), Default::default(), Vec::new());
        let sources = sources.with_served(policy.served_sources());
        LoadedPolicy { policy, sources: Arc::new(sources) }
    }

    /// The digest of the part of policy and manifests that can change the outcome for `family`. Caps, waits and tokens
    /// are left out, so that editing them does not run anything again.
    #[must_use]
    pub fn slice(&self, family: &str) -> Digest {
        self.policy.slice(family, self.sources.custom(family).map(|family| &**family))
    }

    /// The family called `id`: one that AAM ships, or a custom source of this policy.
    #[must_use]
    pub fn family(&self, id: &str) -> Option<&Arc<Family>> {
        self.sources.family(id)
    }

    /// Whether both are the same allocations. A reload of equal bytes keeps them.
    #[must_use]
    pub fn is_same(&self, other: &LoadedPolicy) -> bool {
        Arc::ptr_eq(&self.policy, &other.policy) && Arc::ptr_eq(&self.sources, &other.sources)
    }
}

/// The policy in force and, if the file has become invalid since, its problems.
#[derive(Clone, Debug)]
pub struct ActivePolicy {
    pub policy: Arc<Policy>,
    pub sources: Arc<CustomSources>,
    /// Set if the file was rejected and is therefore not the policy in force.
    pub rejected: Option<Rejected>,
}

/// A policy file that was rejected. The last valid policy stays in force.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rejected {
    pub at: Timestamp,
    pub problems: Vec<Problem>,
}

impl ActivePolicy {
    /// Creates the state in which `loaded` is in force and the file may have been rejected since.
    #[must_use]
    pub fn new(loaded: LoadedPolicy, rejected: Option<Rejected>) -> ActivePolicy {
        ActivePolicy { policy: loaded.policy, sources: loaded.sources, rejected }
    }

    /// Determines the policy at the start of the process. `last_accepted` is the newest policy in the registry.
    ///
    /// # Errors
    /// The problems of the file, if the registry has no earlier policy.
    pub fn start(
        file: Result<LoadedPolicy, Vec<Problem>>,
        last_accepted: Option<LoadedPolicy>,
        at: Timestamp,
    ) -> Result<ActivePolicy, Vec<Problem>> {
        match (file, last_accepted) {
            (Ok(loaded), _) => Ok(ActivePolicy::new(loaded, None)),
            (Err(problems), Some(loaded)) => Ok(ActivePolicy::new(loaded, Some(Rejected { at, problems }))),
            (Err(problems), None) => Err(problems),
        }
    }

    /// The policy and its sources, without the rejected file.
    #[must_use]
    pub fn loaded(&self) -> LoadedPolicy {
        LoadedPolicy { policy: Arc::clone(&self.policy), sources: Arc::clone(&self.sources) }
    }

    /// Returns what is in force after the file was read again.
    ///
    /// If the file did not change, the result is equal: the same `Arc`s, and for the same problems the same `at`.
    #[must_use]
    pub fn reload(&self, read: Result<LoadedPolicy, Vec<Problem>>, at: Timestamp) -> ActivePolicy {
        match read {
            Ok(loaded) if *loaded.policy == *self.policy && *loaded.sources == *self.sources => {
                ActivePolicy::new(self.loaded(), None)
            }
            Ok(loaded) => ActivePolicy::new(loaded, None),
            Err(problems) => {
                let since =
                    self.rejected.as_ref().filter(|earlier| earlier.problems == problems).map_or(at, |earlier| earlier.at);
                ActivePolicy::new(self.loaded(), Some(Rejected { at: since, problems }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::parse::parse;

    fn load(text: &str) -> Result<LoadedPolicy, Vec<Problem>> {
        parse(text, "policy.yaml").map(LoadedPolicy::new)
    }

    fn good(family: &str) -> Result<LoadedPolicy, Vec<Problem>> {
        load(&format!("version: 1\nallowlist: [{family}]\n"))
    }

    fn bad() -> Result<LoadedPolicy, Vec<Problem>> {
        load("version: 2\nallowlist: []\n")
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
    fn an_invalid_file_without_an_earlier_policy_prevents_the_start() {
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
        let other = first.reload(bad(), Timestamp(2)).reload(load("["), Timestamp(9));
        assert_eq!(other.rejected.map(|rejected| rejected.at), Some(Timestamp(9)));
    }
}
