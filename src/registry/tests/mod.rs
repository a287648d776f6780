//! Tests of the registry with real files.

mod answers;
mod appends;
mod attempts;
mod earlier;
mod limits;
mod migrate;
mod page_reads;
pub(super) mod rig;
mod tamper;
mod tamper_calls;
mod views;
