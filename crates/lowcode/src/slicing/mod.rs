//! Slices of a stream: partition routers and cursors.

pub mod clamping;
pub mod cursor;
pub mod datetime_cursor;
pub mod options;
pub mod router;
pub mod slice;
pub mod substream;

pub use options::SlicerOptions;
pub use slice::Slice;
