//! The HTTP API. The router, the request checks and the OpenAPI document are all built from one route table.
//!
//! - [`routes`]: the route table; start reading here
//! - [`listen`]: the sockets, their limits and the graceful stop
//! - [`auth`], [`prefer`], [`request`], [`problem`]: the parts that all requests have in common
//! - [`onboard`], [`heal`], [`read`], [`meta`], [`dashboard`]: the handlers
//! - [`openapi`]: the OpenAPI document
//! - [`probe`]: checks whether an AAM already listens on a port

pub mod app;
pub mod auth;
pub mod dashboard;
pub mod heal;
pub mod listen;
pub mod meta;
pub mod onboard;
pub mod openapi;
mod page;
pub mod prefer;
pub mod probe;
pub mod problem;
pub mod read;
pub mod request;
pub mod routes;

#[cfg(test)]
mod tests;

pub use listen::{serve, serve_with};

use serde::{Deserialize, Serialize};
use std::time::Duration;
use utoipa::ToSchema;

/// The answer of `GET /version`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServerInfo {
    /// Always `aam`, so that another AAM recognises this one.
    pub service: String,
    pub version: String,
    pub pid: u32,
    /// The path of the registry file.
    pub registry: String,
    /// RFC 3339.
    pub started: String,
    pub port: u16,
}

/// Limits of the listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerLimits {
    /// The maximum number of open connections. Further ones wait in the backlog of the socket.
    pub connections: usize,
    /// The timeout for receiving the headers of a request, after which an idle connection is closed too.
    pub header_read: Duration,
    /// The timeout for receiving a request body.
    pub body_read: Duration,
    /// The timeout for producing a response, in addition to the time that the caller asked to wait.
    pub request: Duration,
    /// How long requests in flight may continue when the process stops.
    pub drain: Duration,
}

impl Default for ServerLimits {
    fn default() -> ServerLimits {
        ServerLimits {
            connections: 512,
            header_read: Duration::from_secs(10),
            body_read: Duration::from_secs(30),
            request: Duration::from_secs(60),
            drain: Duration::from_secs(10),
        }
    }
}
