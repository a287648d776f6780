//! Values to text. Every surface prints what is written here, so no two of them can differ.

pub mod attempt;
pub mod metrics;
pub mod plan;
pub mod result;
pub mod status;

#[cfg(test)]
mod tests;
