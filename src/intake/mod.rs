//! How documents come in: one parser for the folder and for the API.
//!
//! - [`wire`]: bytes -> intents, or every problem with pointer, place and hint; pure
//! - [`schema`]: the published JSON Schema, which is also the one that is enforced; pure
//! - [`document`]: one document judged by itself; pure
//! - [`json`], [`locate`]: a strict reader that sees duplicate keys, and places for pointers; pure
//! - [`leaks`]: secrets where they do not belong; pure
//! - [`folder`], [`scan`]: what changed below the intents folder since the last accepted scan
//! - [`listing`], [`read`]: the two edges of the scan: one stat a file, and reading what changed
//! - [`watch`]: says "look again" and nothing else
//! - [`check`]: all problems below a folder, for `aam check`

pub mod check;
pub mod document;
pub mod folder;
pub mod json;
pub mod leaks;
pub mod listing;
pub mod locate;
pub mod read;
pub mod scan;
pub mod schema;
pub mod watch;
pub mod wire;

pub use folder::Scanner;
pub use scan::{FileReport, Mark, Scan};
pub use wire::{Fault, Item, Limits, Parsed, Refusal};

#[cfg(test)]
mod tests;
