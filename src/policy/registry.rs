//! The section `registry`: for how long everything stays in the registry itself.

use serde::{Serialize, Serializer};
use std::time::Duration;

/// What moves out of the registry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RegistryPolicy {
    /// For how many days calls and step reports stay in the registry, before they move into archive files. `None` for ever.
    #[serde(serialize_with = "days")]
    pub keep: Option<u32>,
}

impl RegistryPolicy {
    /// Returns how old calls and step reports are when they move.
    #[must_use]
    pub fn keep_age(&self) -> Option<Duration> {
        self.keep.map(|days| Duration::from_secs(u64::from(days) * 86_400))
    }
}

// Serde passes a reference.
#[allow(clippy::ref_option)]
fn days<S: Serializer>(days: &Option<u32>, serializer: S) -> Result<S::Ok, S::Error> {
    match days {
        Some(days) => serializer.serialize_str(&format!("{days}d")),
        None => serializer.serialize_none(),
    }
}
