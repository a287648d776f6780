//! Values to text. Every surface prints what is written here, so no two of them can differ.

pub mod attempt;
pub mod plan;
pub mod status;
pub mod summary;
