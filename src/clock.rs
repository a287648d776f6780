//! Wall time as a seam: what is stored, planned with or signed comes from here.

use crate::model::Timestamp;

/// Where the time of day comes from.
pub trait Clock: Send + Sync {
    /// Now, UTC.
    fn now(&self) -> Timestamp;
}
