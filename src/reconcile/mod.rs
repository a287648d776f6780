//! The level-triggered loop: look again, plan, run what is due, look again.

pub mod attempt;
pub mod handle;
pub mod look;
pub mod manifests;
pub mod queue;
pub mod run;
pub mod workers;

pub use handle::Handle;
pub use look::Eyes;
pub use run::{Until, run};
