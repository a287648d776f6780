//! Partition routers: what the slices of a stream are, and what they put into requests.

mod options;
pub mod router;
pub mod substream;

pub use options::{IntervalOptions, SlicerOptions};
pub use router::{Partitions, Router};
pub use substream::{BuildParent, ParentRecords, ParentStream};
