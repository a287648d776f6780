//! Resolves locators to secrets, and removes secrets from all output.
//!
//! A secret is kept only in memory, in a [`Secret`], which prints as `[redacted]` and is wiped when it is dropped.
//! [`redact`] knows the secrets in use and removes them by value from logs, registry rows and API responses.

mod forms;
mod known;
pub mod redact;
pub mod resolve;
pub mod secret;
mod views;

pub use resolve::{Process, Resolver};
pub use secret::{Credential, Secret};
