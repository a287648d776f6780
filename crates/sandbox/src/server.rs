//! The listeners: a proxy for all hosts, and plain HTTP for single hosts.

use crate::reply::{Delivery, Reply};
use crate::request::Request;
use crate::sandbox::Sandbox;
use crate::tls::Authority;
use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONNECTION, CONTENT_LENGTH, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;

/// A body of a request that is longer is refused with 413.
pub const MAX_BODY_BYTES: usize = 1 << 20;

/// Connections that are served at a time; further ones wait.
const MAX_CONNECTIONS: usize = 2000;

/// The host of the sandbox's own answers.
pub const CONTROL_HOST: &str = "sandbox.invalid";

/// How long a caller may take for the head of a request, and for a TLS handshake.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// A caller of an account that hangs is let go after this time.
const HANG: Duration = Duration::from_secs(600);

type Body = BoxBody<Bytes, io::Error>;

/// What a listener is.
#[derive(Clone)]
pub enum Entry {
    Proxy(Arc<Authority>),
    /// Plain HTTP for this host.
    Host(String),
}

/// The server that a connection has reached.
#[derive(Clone)]
struct Site {
    host: String,
    /// It was reached at a plain address that stands for the host, so its links lead there.
    is_plain: bool,
    /// The port that the caller's TCP connection comes from.
    from_port: u16,
}

/// Accepts connections until the task is stopped.
pub async fn serve(listener: TcpListener, sandbox: Arc<Sandbox>, entry: Entry) {
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&connections).acquire_owned().await else { return };
        // Accepting fails for a moment when there are no file descriptors left.
        let Ok((stream, caller)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let (sandbox, entry) = (Arc::clone(&sandbox), entry.clone());
        let permit = Arc::new(permit);
        tokio::spawn(async move {
            match entry {
                Entry::Proxy(authority) => serve_proxy(stream, sandbox, authority, Arc::clone(&permit), caller.port()).await,
                Entry::Host(host) => serve_site(stream, sandbox, Site { host, is_plain: true, from_port: caller.port() }).await,
            }
            drop(permit);
        });
    }
}

fn builder() -> hyper::server::conn::http1::Builder {
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    builder
}

async fn serve_site<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S, sandbox: Arc<Sandbox>, site: Site) {
    let service = service_fn(move |request| {
        let (sandbox, site) = (Arc::clone(&sandbox), site.clone());
        async move { answer(&sandbox, request, &site).await }
    });
    // A connection that fails, or that a mood cut, has been reported to its caller by that.
    let _ = builder().serve_connection(TokioIo::new(stream), service).await;
}

async fn serve_proxy<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    sandbox: Arc<Sandbox>,
    authority: Arc<Authority>,
    permit: Arc<OwnedSemaphorePermit>,
    from_port: u16,
) {
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (sandbox, authority, permit) = (Arc::clone(&sandbox), Arc::clone(&authority), Arc::clone(&permit));
        async move {
            if request.method() == Method::CONNECT {
                return Ok(connect(sandbox, authority, permit, request, from_port));
            }
            let Some(host) = request.uri().host().map(str::to_ascii_lowercase) else {
                // Not a request to a proxy: the sandbox itself is meant.
                return Ok(control(&sandbox, &request));
            };
            if host == CONTROL_HOST {
                return Ok(control(&sandbox, &request));
            }
            answer(&sandbox, request, &Site { host, is_plain: false, from_port }).await
        }
    });
    let _ = builder().serve_connection(TokioIo::new(stream), service).with_upgrades().await;
}

fn whole(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(body.into()).map_err(|never: Infallible| match never {}).boxed());
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Opens a tunnel whose other end is the sandbox. The tunnel counts as a connection until it ends.
fn connect(
    sandbox: Arc<Sandbox>,
    authority: Arc<Authority>,
    permit: Arc<OwnedSemaphorePermit>,
    request: hyper::Request<Incoming>,
    from_port: u16,
) -> Response<Body> {
    let host = request.uri().host().map(str::to_ascii_lowercase).unwrap_or_default();
    if !sandbox.has_host(&host) {
        let text = format!("no vendor of the sandbox has the host {host}\n");
        return whole(502, "text/plain; charset=utf-8", text);
    }
    let config = match authority.server(&host) {
        Ok(config) => config,
        Err(error) => return whole(502, "text/plain; charset=utf-8", format!("{host}: {error}\n")),
    };
    tokio::spawn(async move {
        let Ok(upgraded) = hyper::upgrade::on(request).await else { return };
        let accept = TlsAcceptor::from(config).accept(TokioIo::new(upgraded));
        let Ok(Ok(stream)) = tokio::time::timeout(HEAD_TIMEOUT, accept).await else { return };
        serve_site(stream, sandbox, Site { host, is_plain: false, from_port }).await;
        drop(permit);
    });
    Response::new(Full::new(Bytes::new()).map_err(|never: Infallible| match never {}).boxed())
}

/// What the sandbox says of itself.
fn control(sandbox: &Sandbox, request: &hyper::Request<Incoming>) -> Response<Body> {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/calls") => whole(200, "application/json", sandbox.calls.to_json()),
        (&Method::DELETE, "/calls") => whole(200, "application/json", sandbox.calls.take()),
        _ => whole(404, "text/plain; charset=utf-8", "the sandbox itself has GET /calls and DELETE /calls\n"),
    }
}

async fn answer(sandbox: &Sandbox, request: hyper::Request<Incoming>, site: &Site) -> Result<Response<Body>, io::Error> {
    let (parts, body) = request.into_parts();
    let Ok(body) = Limited::new(body, MAX_BODY_BYTES).collect().await else {
        return Ok(whole(413, "text/plain; charset=utf-8", "the body is too long\n"));
    };
    let mut request = Request::new(parts.method.as_str(), &site.host, &parts.uri, parts.headers, &body.to_bytes());
    request.from_port = site.from_port;
    let reply = sandbox.answer(&request);
    if !reply.delay.is_zero() {
        tokio::time::sleep(reply.delay).await;
    }
    if reply.delivery == Delivery::Never {
        tokio::time::sleep(HANG).await;
        return Err(io::Error::from(io::ErrorKind::TimedOut));
    }
    Ok(response(sandbox, reply, site.is_plain))
}

fn response(sandbox: &Sandbox, reply: Reply, is_plain: bool) -> Response<Body> {
    let outward = |text: &str| if is_plain { sandbox.outward(text) } else { text.to_owned() };
    let body = match std::str::from_utf8(&reply.body) {
        Ok(text) => outward(text).into_bytes(),
        Err(_) => reply.body,
    };
    let length = body.len();
    let body: Body = match reply.delivery {
        Delivery::Cut => {
            let half = Bytes::from(body).slice(..length / 2);
            // The pause lets the first half reach the caller before the connection ends.
            let cut = stream::unfold(Some(half), |half| async move {
                match half {
                    Some(half) if !half.is_empty() => Some((Ok(Frame::data(half)), Some(Bytes::new()))),
                    Some(_) => {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        Some((Err(io::Error::from(io::ErrorKind::ConnectionAborted)), None))
                    }
                    None => None,
                }
            });
            StreamBody::new(Box::pin(cut)).boxed()
        }
        _ => Full::new(Bytes::from(body)).map_err(|never: Infallible| match never {}).boxed(),
    };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in &reply.headers {
        let value = HeaderValue::from_str(&outward(value));
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name.as_str()), value) {
            response.headers_mut().append(name, value);
        }
    }
    if reply.delivery == Delivery::Cut {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length.max(2)));
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
