//! An HTTP proxy that ends TLS.
//!
//! A program that we did not write finds no network but this proxy. Its `CONNECT` tunnels end here: the proxy is the
//! server of every host, with certificates of an authority that is made for one run and that only this program
//! trusts. So each request is seen in plain text as method, URL, headers and body, and goes to [`Upstream`], which
//! alone decides whether it is sent. The proxy itself never connects to anything.
//!
//! ```text
//! program -- CONNECT host:443, TLS --> serve() -- Request --> Upstream::forward() -- Response --> program
//! ```
//!
//! Everything that the program sends is untrusted: heads, bodies, connections, tunnels and times are bounded, what is
//! malformed is answered or closed, and [`Upstream::refused`] reports it.

mod authority;
mod body;
mod exchange;
mod headers;
mod refusal;
mod serve;
mod target;

pub use authority::{Authority, AuthorityError};
pub use hyper::header::{HeaderMap, HeaderName, HeaderValue};
pub use hyper::{Method, StatusCode};
pub use refusal::{Reason, Refusal};
pub use serve::serve;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use std::time::Duration;

/// One request of the program.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: Method,
    /// `https` for a request in a tunnel, else `http`; never with user, password or fragment. The host is in lower case
    /// and without a final dot. Take the port from `Url::port_or_known_default`.
    pub url: url::Url,
    /// Without hop-by-hop headers, and without `Host`, `Content-Length` and `Expect`: the URL and the body say the same.
    pub headers: HeaderMap,
    /// The whole body, not chunked, at most `Limits::body_bytes`. A `Content-Encoding` was not undone.
    pub body: Bytes,
}

/// What the program gets.
#[derive(Clone, Debug)]
pub struct Response {
    /// 200 to 599; anything else becomes 502.
    pub status: StatusCode,
    /// They describe `body` as it is: leave `Content-Encoding` out if the body was decompressed. Hop-by-hop headers and
    /// `Content-Length` may be left in, the proxy replaces them. For an answer to HEAD, `Content-Length` is kept.
    pub headers: HeaderMap,
    /// The whole body. Its size is bounded by who makes the response.
    pub body: Bytes,
}

impl Response {
    /// A plain text of our own, such as the reason of a refusal.
    pub fn text(status: StatusCode, message: &str) -> Response {
        let mut headers = HeaderMap::new();
        headers.insert(hyper::header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        Response { status, headers, body: Bytes::from(format!("{message}\n")) }
    }
}

/// Where the requests of the program go.
pub trait Upstream: Send + Sync + 'static {
    /// Answers one request. A request that is not allowed is answered too, for instance with
    /// `Response::text(StatusCode::FORBIDDEN, …)`; this is the only way to refuse.
    ///
    /// The future is dropped when the program hangs up, and after `Limits::answer` (the program gets 504).
    fn forward(&self, request: Request) -> BoxFuture<'static, Response>;

    /// Hears of everything that the proxy refused by itself. It is called from tasks of the runtime, so it must not
    /// block, and as often as the program likes, so it must keep a bounded number.
    fn refused(&self, refusal: Refusal);
}

/// What one program may use of the proxy.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at a time. Further ones wait in the listener's queue.
    pub connections: usize,
    /// Tunnels at a time; further ones are answered 503. Keep it below `connections`, so that there is always one that
    /// can be answered.
    pub tunnels: usize,
    /// Bytes of the head of a request; at least 8192 are always allowed.
    pub head_bytes: usize,
    /// Bytes of the body of a request; a longer one is answered 413.
    pub body_bytes: usize,
    /// Bytes of all bodies of requests that are held at a time; a request beyond it is answered 503.
    pub all_bodies_bytes: usize,
    /// Time for a TLS handshake.
    pub handshake: Duration,
    /// Time for the head of a request; also how long a connection may be idle.
    pub head: Duration,
    /// Time for the body of a request, answered 408 after it.
    pub body: Duration,
    /// Time for `Upstream::forward`, answered 504 after it.
    pub answer: Duration,
    /// Time after which a connection is closed whatever it does, so that a program that does not read its responses
    /// holds nothing for ever.
    pub connection: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 72,
            tunnels: 64,
            head_bytes: 64 << 10,
            body_bytes: 1 << 20,
            all_bodies_bytes: 8 << 20,
            handshake: Duration::from_secs(20),
            head: Duration::from_secs(120),
            body: Duration::from_secs(60),
            answer: Duration::from_secs(300),
            connection: Duration::from_secs(3600),
        }
    }
}
