//! Secrets, and how they are removed from all output. Where they come from is in `providers`.
//!
//! A secret is kept only in memory, in a [`Secret`], which prints as `[redacted]` and is wiped when it is dropped.
//! [`redact`] knows the secrets in use and removes them by value from logs, registry rows and API responses.

pub mod access_key;
pub mod aws_signer;
mod forms;
pub mod jwt;
mod known;
mod known_end;
mod long;
pub mod oauth1;
pub mod private_key;
pub mod redact;
pub mod secret;
pub mod signer;
pub mod sigv4;
pub mod snowflake;
mod views;

/// The maximum size of a credential in a file, in bytes. Keys and service account files have a few KiB.
pub const MAX_SECRET_BYTES: u64 = 64 << 10;

pub use forms::{MIN_SECRET_BYTES, Unprotectable, unprotectable};
pub use known_end::known_end;
pub use secret::{Credential, MalformedSecret, Secret};
pub use signer::Signer;
