//! Resolves locators to secrets, and removes secrets from all output.
//!
//! A secret is kept only in memory, in a [`Secret`], which prints as `[redacted]` and is wiped when it is dropped.
//! [`redact`] knows every resolved secret and removes it by value from logs, registry rows and API responses.

mod forms;
pub mod redact;
pub mod resolve;
pub mod secret;

pub use resolve::{Process, Resolver};
pub use secret::{Credential, Secret};
