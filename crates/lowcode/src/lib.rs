//! The low-code interpreter: runs manifests in the format of Airbyte's declarative sources.
//!
//! It does not open sockets or files and does not read the clock: everything external comes from a [`host::Host`],
//! which the program that uses the crate implements. Whatever a manifest or a server contains, a command stays within
//! its [`bounds`]. Behaviour follows the Python package airbyte-cdk 7.39.1. Where a rule is surprising, the comment
//! names the place in the CDK.
//!
//! # From a manifest to records
//!
//! 1. [`load`] turns text into a [`load::Manifest`]: `yaml` and `scalar` read the text, `refs` resolves `$ref`,
//!    `parameters` propagates `$parameters`, `validate` checks the result against the table of `component`, and `refused`
//!    marks what this interpreter does not run. Every [`problem`] has a line and a column.
//! 2. [`config_rules`] and [`spec`] prepare and check the user's config.
//! 3. [`source`] builds the streams, including those that `dynamic` generates. Connections of one manifest share the
//!    streams that cannot contain anything that belongs to a customer (`shared`).
//! 4. A [`stream`] is read slice by slice: `slicing` and `cursor` make the slices, `retriever` reads their pages with
//!    `requester` (`request`, `url`, `auth`, `errors`), `decode` and `extraction` turn a `response` into records, and
//!    `pagination` finds the next page.
//! 5. [`commands`] runs `spec`, `check`, `discover` and `read` and emits the messages of [`protocol`];
//!    [`mod@explain`] describes which requests a manifest would make.
//!
//! Templates ([`interpolation`]) and values ([`value`], `literal`, `datetime`) follow Python.
//!
//! # Layers
//!
//! A module imports only modules of earlier lines. `LOWCODE_LAYERS` in `tests/tidy.rs` lists all modules and enforces this.
//!
//! - values and bounds: [`value`], [`bounds`], [`problem`]
//! - the environment: [`host`], [`config`], [`error`]
//! - Python's values: `literal`, `datetime`, [`interpolation`]
//! - manifests: `yaml`, `refs`, `parameters`, `component`, `validate`, [`load`], [`schema_files`]
//! - one command: [`context`]
//! - requests and responses: `request`, `response`, `errors`, `decode`, `auth`, `requester`
//! - records: `cursor`, `extraction`, `pagination`, `slicing`, `retriever`, `reader`
//! - streams: `stream_schema`, [`stream`], `dynamic`, [`source`]
//! - commands: `check`, [`config_rules`], [`spec`], [`protocol`], [`redaction`], `reading`, [`commands`], [`mod@explain`]

mod auth;
pub mod bounds;
pub mod catalog;
mod check;
pub mod commands;
mod component;
pub mod config;
pub mod config_rules;
pub mod context;
mod cursor;
mod datetime;
pub mod decode;
mod dynamic;
pub mod error;
mod errors;
pub mod explain;
mod extraction;
pub mod host;
mod inflate;
mod instead;
pub mod interpolation;
mod json;
mod json_schema;
mod literal;
pub mod load;
mod node;
pub mod overlay;
mod pagination;
mod parameters;
pub mod problem;
pub mod protocol;
mod rates;
mod reader;
mod reading;
mod recording;
pub mod redaction;
mod refs;
pub mod refused;
mod request;
mod requester;
pub mod response;
mod retriever;
mod scalar;
mod schema;
pub mod schema_files;
#[cfg(test)]
mod script;
pub mod secrets;
mod shared;
mod slice;
mod slicing;
pub mod source;
pub mod spec;
pub mod stream;
mod stream_schema;
pub mod tokens;
mod url;
mod validate;
pub mod value;
pub mod yaml;

pub use requester::join_url;
