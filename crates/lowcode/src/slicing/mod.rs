//! Partition routers: how a stream is divided into slices, and what the slices add to requests.

mod options;
pub mod router;
pub mod substream;

pub use options::{IntervalOptions, SlicerOptions};
pub use router::{Partitions, Router};
pub use substream::{BuildParent, ParentRecords, ParentStream};
