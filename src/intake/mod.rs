//! Reads intent documents from the intents folder and from the API, with one parser for both.
//!
//! - [`wire`]: parses bytes into intents, or reports every problem with its pointer, position and hint; pure
//! - [`schema`]: the published JSON Schema, which intents are validated with; pure
//! - [`document`]: validates one document; pure
//! - [`normalize`], [`instant`]: replaces other names and spellings of values and times by the proper forms; pure
//! - [`json`], [`locate`]: a strict JSON reader that detects duplicate keys, and the positions of JSON pointers; pure
//! - [`lines`]: JSON lines; pure
//! - [`yaml`]: reads YAML with the same bounds, and the positions of pointers in it; pure
//! - [`leaks`]: detects secrets in intents; pure
//! - [`folder`], [`scan`]: what changed in the intents folder since the last accepted scan
//! - [`listing`], [`read`]: the file access of a scan: list the folder with one stat per file, read the changed files
//! - [`watch`]: wakes the loop when a watched folder changes
//! - [`check`]: collects all problems of the intents folder for `aam check`

pub mod check;
pub mod document;
pub mod folder;
pub mod instant;
mod item;
pub mod json;
pub mod leaks;
pub mod lines;
pub mod listing;
pub mod locate;
pub mod normalize;
mod pasted;
pub mod read;
pub mod scan;
pub mod schema;
pub mod watch;
pub mod wire;
pub mod yaml;

pub use folder::Scanner;
pub use scan::{FileReport, Mark, Scan};
pub use wire::{Fault, Format, Item, Limits, Parsed, Refusal};

/// The version of the rules by which files become intents. Increase it when the same file yields another intent than before,
/// for example because a name is understood now: every file is then read once more after an upgrade.
pub const RULES_VERSION: u64 = 1;

#[cfg(test)]
mod tests;
