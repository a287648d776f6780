//! Tests of the registry with real files.

mod answers;
mod appends;
mod attempts;
mod call_chains;
mod consents;
mod earlier;
mod limits;
mod migrate;
mod page_reads;
pub(crate) mod rig;
mod shared_limits;
mod tamper;
mod tamper_calls;
mod views;
