//! Connections and tunnels.

use crate::authority::Authority;
use crate::exchange::{Arrival, Reply, answer, refuse};
use crate::refusal::{Reason, Refusal};
use crate::target::{Target, shown};
use crate::{Limits, Upstream};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::{AlertDescription, Error as TlsError, ServerConfig};
use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

/// Accepting fails for a moment when the process does not have a file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// hyper stops with a panic below this size of its buffer.
const MIN_HEAD_BYTES: usize = 8192;

/// What all connections of one run have in common.
pub struct Shared {
    authority: Arc<Authority>,
    pub upstream: Arc<dyn Upstream>,
    pub limits: Limits,
    /// One permit for each byte of the bodies that are held.
    pub body_shares: Arc<Semaphore>,
    tunnels: Arc<Semaphore>,
}

/// A tunnel that was promised to the program and whose connection is still being handed over.
struct Tunnel {
    target: Target,
    server: Arc<ServerConfig>,
    upgrade: OnUpgrade,
    _permit: OwnedSemaphorePermit,
}

/// Serves the program until this future is dropped, which also closes all its connections.
pub async fn serve(listener: TcpListener, authority: Arc<Authority>, upstream: Arc<dyn Upstream>, limits: Limits) {
    let permits = |count: usize| Arc::new(Semaphore::new(count.clamp(1, Semaphore::MAX_PERMITS)));
    let connections = permits(limits.connections);
    let (body_shares, tunnels) = (permits(limits.all_bodies_bytes), permits(limits.tunnels));
    let shared = Arc::new(Shared { authority, upstream, limits, body_shares, tunnels });
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            (stream, permit) = accept(&listener, &connections) => {
                let shared = Arc::clone(&shared);
                tasks.spawn(async move {
                    let lifetime = shared.limits.connection;
                    // A connection that was cut is over; what was refused on it has been reported.
                    let _ = tokio::time::timeout(lifetime, serve_connection(shared, stream)).await;
                    drop(permit);
                });
            }
            // Ended tasks are taken away as they end, so that they do not gather.
            Some(_) = tasks.join_next() => {}
        }
    }
}

async fn accept(listener: &TcpListener, connections: &Arc<Semaphore>) -> (TcpStream, OwnedSemaphorePermit) {
    let Ok(permit) = Arc::clone(connections).acquire_owned().await else { return pending().await };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, permit),
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// One connection, from its first byte to the end of the tunnel that it may become. The tunnel runs here and not in a
/// task of its own, so that it ends with the connection.
async fn serve_connection(shared: Arc<Shared>, stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let promised: Arc<Mutex<Option<Tunnel>>> = Arc::default();
    let service = service_fn(|request: Request<Incoming>| {
        let (shared, promised) = (Arc::clone(&shared), Arc::clone(&promised));
        async move {
            if request.method() != Method::CONNECT {
                return Ok::<Reply, Infallible>(answer(&shared, &Arrival::Proxy, request).await);
            }
            Ok(match promise(&shared, request) {
                Ok(tunnel) => {
                    *promised.lock().unwrap_or_else(PoisonError::into_inner) = Some(tunnel);
                    hyper::Response::new(Full::new(Bytes::new()))
                }
                Err(refusal) => refuse(&shared, refusal),
            })
        }
    });
    let served = builder(&shared.limits).serve_connection(TokioIo::new(stream), service).with_upgrades().await;
    report(&shared, None, served);
    let tunnel = promised.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(tunnel) = tunnel {
        serve_tunnel(&shared, tunnel).await;
    }
}

fn builder(limits: &Limits) -> hyper::server::conn::http1::Builder {
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(limits.head).max_buf_size(limits.head_bytes.max(MIN_HEAD_BYTES));
    builder
}

/// hyper answers a head that it cannot read by itself; it is reported here.
fn report(shared: &Shared, target: Option<&Target>, served: Result<(), hyper::Error>) {
    let reason = match served {
        Err(error) if error.is_parse_too_large() => Reason::HeadTooLong,
        Err(error) if error.is_parse() => Reason::Malformed("its head is not HTTP/1.1"),
        _ => return,
    };
    shared.upstream.refused(match target {
        Some(target) => target.refusal(reason),
        None => Refusal { host: None, port: None, reason },
    });
}

/// Checks a `CONNECT` and makes ready what its tunnel needs.
fn promise(shared: &Shared, request: Request<Incoming>) -> Result<Tunnel, Refusal> {
    let target = request.uri().authority().and_then(|authority| Target::parse(authority.as_str(), None));
    let Some(target) = target else {
        return Err(Refusal { host: None, port: None, reason: Reason::Malformed("CONNECT does not have a valid host:port") });
    };
    if !request.body().is_end_stream() {
        return Err(target.refusal(Reason::Malformed("CONNECT with a body")));
    }
    let Ok(permit) = Arc::clone(&shared.tunnels).try_acquire_owned() else {
        return Err(target.refusal(Reason::Busy("tunnels")));
    };
    let server = shared.authority.server(&target).map_err(|error| target.refusal(Reason::Certificate(error.to_string())))?;
    Ok(Tunnel { target, server, upgrade: hyper::upgrade::on(request), _permit: permit })
}

async fn serve_tunnel(shared: &Arc<Shared>, tunnel: Tunnel) {
    // The program hung up before it got its answer.
    let Ok(stream) = tunnel.upgrade.await else { return };
    let handshake = handshake(&tunnel.target, tunnel.server, TokioIo::new(stream));
    let stream = match tokio::time::timeout(shared.limits.handshake, handshake).await {
        Ok(Ok(Some(stream))) => stream,
        Ok(Ok(None)) => return,
        Ok(Err(reason)) => return shared.upstream.refused(tunnel.target.refusal(reason)),
        Err(_) => return shared.upstream.refused(tunnel.target.refusal(Reason::NoHandshake)),
    };
    let arrival = Arrival::Tunnel(tunnel.target.clone());
    let service = service_fn(|request: Request<Incoming>| {
        let (shared, arrival) = (Arc::clone(shared), arrival.clone());
        async move { Ok::<Reply, Infallible>(answer(&shared, &arrival, request).await) }
    });
    let served = builder(&shared.limits).serve_connection(TokioIo::new(stream), service).await;
    report(shared, Some(&tunnel.target), served);
}

/// `None` is a program that hung up without having sent anything, which means nothing.
async fn handshake<S>(target: &Target, server: Arc<ServerConfig>, stream: S) -> Result<Option<TlsStream<S>>, Reason>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let start = match LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream).await {
        Ok(start) => start,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(handshake_reason(&error)),
    };
    // A client that names another host here expects the certificate of that host; its requests would be refused later,
    // with a worse message.
    if let Some(name) = start.client_hello().server_name()
        && Target::parse(name, Some(target.port)).as_ref() != Some(target)
    {
        return Err(Reason::WrongServerName(shown(name.as_bytes())));
    }
    start.into_stream(server).await.map(Some).map_err(|error| handshake_reason(&error))
}

fn handshake_reason(error: &io::Error) -> Reason {
    use AlertDescription as Alert;
    match error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) {
        Some(TlsError::InvalidMessage(_) | TlsError::InappropriateMessage { .. }) => Reason::NotTls,
        // Python and Go send the first one, others one of the rest.
        Some(TlsError::AlertReceived(
            Alert::UnknownCA | Alert::BadCertificate | Alert::CertificateUnknown | Alert::UnsupportedCertificate,
        )) => Reason::UntrustedAuthority,
        Some(error) => Reason::Handshake(error.to_string()),
        None if error.kind() == io::ErrorKind::UnexpectedEof => Reason::Handshake("the program hung up".into()),
        None => Reason::Handshake(error.kind().to_string()),
    }
}
