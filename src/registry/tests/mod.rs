//! Tests of the registry with real files.

mod appends;
mod attempts;
mod limits;
mod migrate;
mod rig;
mod tamper;
mod views;
