//! The low-code interpreter: a manifest of Airbyte's declarative sources, run natively.
//!
//! The way of a manifest:
//! [`load`] ([`yaml`] and [`scalar`]: text -> values with places) -> [`refs`] -> [`parameters`] -> [`validate`] against
//! the table of [`component`] -> what is [`refused`], told as [`problem`]s -> [`spec`], [`config_rules`] -> a typed
//! [`source`] ([`dynamic`] streams too) -> [`schema`] and [`catalog`], [`check`], [`reading`] -> [`commands`] in the words
//! of [`protocol`]. [`explain`] tells a person what a manifest would call.
//! Values and templates follow Python and the CDK: [`value`], [`literal`], [`interpolation`], [`datetime`].
//! A [`stream`] is read by [`slicing`] -> [`retriever`] -> [`requester`] ([`request`], [`url`], [`auth`], [`errors`]) ->
//! [`response`], [`decode`] -> [`extraction`] -> [`pagination`]. In the daemon the connections of a manifest have streams
//! in common where nothing of a customer can be in them: [`shared`].
//!
//! The interpreter knows no socket, no clock and no file: it asks a [`host::Host`]. It keeps to itself
//! whatever a stranger's manifest says: [`bounds`].
//! Behaviour follows the Python package airbyte-cdk 7.39.1; where a rule is surprising, its place there is named.

pub mod auth;
pub mod bounds;
pub mod catalog;
pub mod check;
pub mod commands;
pub mod component;
pub mod config;
pub mod config_rules;
pub mod context;
pub mod cursor;
pub mod datetime;
pub mod decode;
pub mod dynamic;
pub mod error;
pub mod errors;
pub mod explain;
pub mod extraction;
pub mod host;
pub mod inflate;
pub mod interpolation;
pub mod json;
pub mod json_schema;
pub mod literal;
pub mod load;
pub mod node;
pub mod pagination;
pub mod parameters;
pub mod problem;
pub mod protocol;
pub mod rates;
pub mod reading;
pub mod recording;
pub mod refs;
pub mod refused;
pub mod request;
pub mod requester;
pub mod response;
pub mod retriever;
pub mod scalar;
pub mod schema;
#[cfg(test)]
mod script;
pub mod secrets;
pub mod shared;
pub mod slice;
pub mod slicing;
pub mod source;
pub mod spec;
pub mod stream;
pub mod stream_schema;
pub mod tokens;
pub mod url;
pub mod validate;
pub mod value;
pub mod yaml;
