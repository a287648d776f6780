//! The HTTP API. The router, the request checks and the OpenAPI document are all built from one route table.
//!
//! - [`routes`]: the route table; start reading here
//! - [`dispatch`]: from a request to its handler; [`visit`]: pages for browsers, documents for programs, also for problems
//! - [`listen`], [`connections`], [`stream`]: the sockets, their limits and the graceful stop
//! - [`target`], [`served_hosts`], [`cors`], [`auth`], [`rate`], [`prefer`], [`query`], [`request`], [`problem`]: the parts
//!   that all requests have in common
//! - [`idempotency`]: gives the answer to a request again
//! - [`representation`]: compressed responses, and 304 for clients that have the response already
//! - [`onboard`], [`withdraw`], [`handoff`], [`holds`], [`heal`], [`read`], [`health`], [`history`], [`events`], [`drift`], [`catalogs`],
//!   [`plan`], [`privileges`], [`families`], [`meta`], [`dashboard`], [`consent`]: the handlers
//! - [`ui`]: collects the data of the pages for people, which [`crate::page`] renders; [`session`] holds who signed in
//! - [`openapi`]: the OpenAPI document
//! - [`mcp`]: the API as tools of assistants
//! - [`bounded`]: keeps the size of responses within bounds
//! - [`proof`], [`probe`]: find out which process listens on a port before it gets a token

pub mod app;
pub mod auth;
pub mod bounded;
pub mod calls;
pub mod catalogs;
pub mod connections;
pub mod consent;
mod consent_page;
pub mod cors;
pub mod dashboard;
pub mod dispatch;
pub mod drift;
pub mod events;
pub mod families;
pub mod handoff;
mod handoff_status;
pub mod heal;
pub mod health;
pub mod history;
pub mod holds;
pub mod idempotency;
pub mod listen;
pub mod mcp;
pub mod meta;
pub mod onboard;
pub mod openapi;
pub mod past_funnels;
pub mod past_snapshots;
mod peer;
pub mod person;
pub mod plan;
pub mod prefer;
pub mod privileges;
pub mod probe;
pub mod problem;
pub mod problem_code;
pub mod proof;
pub mod query;
pub mod rate;
pub mod read;
pub mod representation;
pub mod request;
pub mod routes;
pub mod served_hosts;
pub mod session;
pub mod stream;
pub mod target;
pub mod totals;
pub mod ui;
pub mod visit;
pub mod withdraw;

#[cfg(test)]
mod tests;

pub use listen::{bind, serve, serve_with};

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

/// The number of connections that are served even if very few files may be open.
const MIN_CONNECTIONS: usize = 16;

/// Limits of the listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerLimits {
    /// The maximum number of open connections. For a further one, a connection that is not being served is closed.
    pub connections: usize,
    /// The number of additional connections that are accepted for health checks and for callers with a token while all
    /// others are being served.
    pub reserve: usize,
    /// The timeout for receiving the headers of a request, after which an idle connection is closed too.
    pub header_read: Duration,
    /// How long a client may leave a response unread.
    pub write: Duration,
    /// The lifetime of a connection on which no valid token was sent.
    pub life_without_token: Duration,
    /// The timeout for receiving a request body.
    pub body_read: Duration,
    /// The timeout for producing a response, in addition to the time that the caller asked to wait.
    pub request: Duration,
    /// How long, and up to how many bytes, the rest of a request is read and discarded before its connection is closed.
    pub linger: Linger,
    /// How long requests in flight may continue when the process stops.
    pub drain: Duration,
}

/// Bounds for reading the rest of a request whose response was sent before it arrived completely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Linger {
    /// For the whole rest.
    pub time: Duration,
    /// How long the client may send nothing.
    pub idle: Duration,
    pub bytes: usize,
}

impl ServerLimits {
    /// Lowers the number of connections so that they use at most about half of `descriptors`, the limit of open files. The
    /// registry and the calls to the sources need the others.
    #[must_use]
    pub fn within(mut self, descriptors: Option<usize>) -> ServerLimits {
        if let Some(descriptors) = descriptors {
            self.connections = self.connections.min(descriptors / 2).max(MIN_CONNECTIONS);
            self.reserve = self.reserve.min(self.connections / 4);
        }
        self
    }
}

impl Default for ServerLimits {
    fn default() -> ServerLimits {
        ServerLimits {
            connections: 512,
            reserve: 32,
            header_read: Duration::from_secs(10),
            write: Duration::from_secs(10),
            life_without_token: Duration::from_secs(30),
            body_read: Duration::from_secs(30),
            request: Duration::from_secs(60),
            linger: Linger { time: Duration::from_secs(10), idle: Duration::from_secs(2), bytes: 64 << 20 },
            drain: Duration::from_secs(10),
        }
    }
}
