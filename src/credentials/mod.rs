//! From a locator to a secret, and the secret's way out of every text.
//!
//! A secret lives in memory only, in [`Secret`], which prints as `[redacted]` and is wiped when dropped.
//! Whatever was resolved is known to [`redact`], which removes it by value from logs, rows and answers.

mod forms;
pub mod redact;
pub mod resolve;
pub mod secret;

pub use resolve::Resolver;
pub use secret::{Credential, Secret};
