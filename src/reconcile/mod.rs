//! The level-triggered loop: read the policy and the folder, plan, run the attempts that are due, and wait for the next
//! wake.

pub mod attempt;
pub mod departures;
pub mod folder_sync;
pub mod handle;
pub mod in_flight;
pub mod interrupted;
mod notices;
mod open_files;
mod policy_sync;
pub mod queue;
pub mod run;
pub mod secret_files;

pub use folder_sync::FolderSync;
pub use handle::Handle;
pub use run::{Until, run};

#[cfg(test)]
mod tests;
