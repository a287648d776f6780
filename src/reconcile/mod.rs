//! The level-triggered loop: look again, plan, run what is due, look again.

pub mod handle;

pub use handle::Handle;
