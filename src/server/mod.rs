//! The HTTP contract: one route table makes the router, the checks and the OpenAPI document.
//!
//! - [`routes`]: the table; start reading here
//! - [`listen`]: sockets, their limits, the graceful stop
//! - [`auth`], [`problem`], [`prefer`], [`call`]: what every request passes
//! - [`push`], [`heal`], [`read`], [`meta`], [`dashboard`]: the handlers
//! - [`openapi`]: the document, from the table
//! - [`probe`]: whether an AAM already listens on a port

pub mod app;
pub mod auth;
pub mod call;
pub mod dashboard;
pub mod heal;
pub mod listen;
pub mod meta;
pub mod openapi;
mod page;
pub mod prefer;
pub mod probe;
pub mod problem;
pub mod push;
pub mod read;
pub mod routes;

#[cfg(test)]
mod tests;

pub use listen::{serve, serve_with};

use serde::{Deserialize, Serialize};
use std::time::Duration;
use utoipa::ToSchema;

/// What a process says about itself at `GET /version`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServerInfo {
    /// Always `aam`: how one AAM knows another.
    pub service: String,
    pub version: String,
    pub pid: u32,
    /// The path of its registry.
    pub registry: String,
    /// RFC 3339.
    pub started: String,
    pub port: u16,
}

/// Bounds of the listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open connections; further ones wait in the backlog of the socket.
    pub connections: usize,
    /// For the first byte to the last of a request's headers, and for an idle connection.
    pub header_read: Duration,
    /// For the body.
    pub body_read: Duration,
    /// For the answer, on top of what the caller prefers to wait.
    pub request: Duration,
    /// For requests in flight when the process stops.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 512,
            header_read: Duration::from_secs(10),
            body_read: Duration::from_secs(30),
            request: Duration::from_secs(60),
            drain: Duration::from_secs(10),
        }
    }
}
