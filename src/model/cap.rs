//! A call budget.

use serde::{Deserialize, Serialize};

/// The budget of calls to one vendor account.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Cap {
    /// The average number of calls per second.
    pub per_second: f64,
    /// The number of calls that may be made at once after a pause.
    pub burst: u32,
    /// The number of calls per UTC day.
    pub per_day: u64,
    /// The number of simultaneous calls.
    pub concurrency: u32,
}
