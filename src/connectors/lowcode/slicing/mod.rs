//! Slices of a stream: partition routers and cursors.

pub mod slice;

pub use slice::Slice;
