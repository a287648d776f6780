//! Resolves locators to secrets, and removes secrets from every text.
//!
//! A secret is kept in memory only, in [`Secret`], which prints as `[redacted]` and is wiped when dropped.
//! [`redact`] knows every resolved secret and removes it by value from logs, rows and API responses.

mod forms;
pub mod redact;
pub mod resolve;
pub mod secret;

pub use resolve::Resolver;
pub use secret::{Credential, Secret};
