//! Slices of a stream: partition routers and cursors.

pub mod clamping;
pub mod cursor;
pub mod datetime_cursor;
pub mod slice;

pub use slice::Slice;
