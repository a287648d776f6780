//! Renders values as text and JSON. The CLI, the API and the dashboard share it, so they cannot differ.

pub mod attempt;
pub mod calls;
pub mod drift;
pub mod history;
pub mod holds;
pub mod metrics;
pub mod plan;
pub mod privileges;
pub mod privileges_text;
pub mod result;
pub mod status;
pub mod status_table;

#[cfg(test)]
mod tests;
