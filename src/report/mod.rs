//! Values to text. Every surface prints what is written here, so no two of them can differ.

pub mod metrics;
pub mod result;
pub mod summary;
