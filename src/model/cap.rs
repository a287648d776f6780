//! A call budget.

use serde::{Deserialize, Serialize};

/// The budget of calls to one vendor account.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cap {
    /// Calls a second, on average.
    pub per_second: f64,
    /// Calls at once after a pause.
    pub burst: u32,
    /// Calls in one UTC day.
    pub per_day: u64,
    /// Calls at the same time.
    pub concurrency: u32,
}
