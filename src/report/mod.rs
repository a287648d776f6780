//! Renders values as text and JSON. The CLI, the API and the dashboard share it, so they cannot differ.

pub mod attempt;
pub mod holds;
pub mod metrics;
pub mod plan;
pub mod result;
pub mod status;

#[cfg(test)]
mod tests;
