//! The listening socket: limits on open connections and header sizes, deadlines, and a graceful stop.

use super::app::App;
use super::connections::{ClientConnection, ConnectionTable};
use super::stream::ClientStream;
use super::{ServerInfo, ServerLimits, dispatch, proof, target};
use crate::pipeline::Env;
use crate::reconcile::Handle;
use axum::Router;
use axum::extract::Request;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::io::Errno;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The maximum number of header fields in one request.
const MAX_HEADERS: usize = 64;
/// The maximum size of a request line and its headers together.
const MAX_HEAD_BYTES: usize = 32 << 10;
/// The pause after `accept` fails, for example because the process has run out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often a failing `accept` is logged.
const ACCEPT_LOG_INTERVAL: Duration = Duration::from_secs(60);
/// What the kernel holds for a client that does not read; by default it would be several MiB.
const SEND_BUFFER_BYTES: u32 = 256 << 10;
/// The number of connections that wait to be accepted.
const BACKLOG: u32 = 1024;
/// How long a connection may take to finish its response after its lifetime has ended.
const LAST_RESPONSE: Duration = Duration::from_secs(5);

/// Binds a listening socket.
///
/// # Errors
/// As `bind(2)`, for example if the address is in use.
pub fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A port can be used again at once after a restart.
    socket.set_reuseaddr(true)?;
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves until `handle.stopping` is set, then waits for the requests in flight.
pub async fn serve(handle: Arc<Handle>, env: Arc<Env>, listener: TcpListener, info: ServerInfo) {
    let limits = ServerLimits::default().within(raise_descriptor_limit());
    serve_with(handle, env, listener, info, limits).await;
}

/// Like [`serve`], but with the given limits.
pub async fn serve_with(handle: Arc<Handle>, env: Arc<Env>, listener: TcpListener, info: ServerInfo, limits: ServerLimits) {
    let key = proof::ListenerKey::create(handle.registry.path()).inspect_err(|error| {
        let path = proof::key_path(handle.registry.path());
        tracing::warn!(target: "aam::http", path = %path.display(), %error, "could not write the key that proves the identity of this listener; aam heal will refuse to send its token");
    });
    let app = App::new(Arc::clone(&handle), env, info, limits, key.ok(), listener.local_addr().ok());
    // Creates the admin token at the first start and logs its path.
    app.admin(&handle.policy());
    warn_of_lockout(&handle);
    let router = TowerToHyperService::new(dispatch::router(&app));
    let table = ConnectionTable::new(limits.connections, limits.reserve);
    let mut open = JoinSet::new();
    let mut stopping = handle.stopping.subscribe();
    let mut failures = AcceptFailures::default();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop_requested(&mut stopping) => break,
            // Removes connections that are closed, so that the set does not grow.
            Some(_) = open.join_next(), if !open.is_empty() => continue,
            accepted = accept(&listener, &table, &mut failures) => accepted,
        };
        if let Some((stream, client)) = accepted {
            open.spawn(connection(stream, client, router.clone(), limits, handle.stopping.subscribe()));
        }
    }
    drop(listener);
    let all = async { while open.join_next().await.is_some() {} };
    if tokio::time::timeout(limits.drain, all).await.is_err() {
        tracing::warn!(target: "aam::http", seconds = limits.drain.as_secs(), "requests were still in flight after the grace period; closing their connections");
    }
}

/// Logs that the operator's commands are refused, if the policy lists tokens and none of them is the operator's.
fn warn_of_lockout(handle: &Handle) {
    let (policy, in_use) = (handle.policy(), handle.registry.snapshot().open_namespaces());
    if let Some(ended) = crate::admin_token::ended(&policy, handle.registry.path(), in_use) {
        tracing::warn!(target: "aam::policy", "{}; {}", ended.message(), ended.fix());
    }
    if let Some((message, fix)) = crate::admin_token::without_operator(&policy, handle.registry.path()) {
        tracing::warn!(target: "aam::policy", "{message}; {fix}");
    }
}

/// Waits for a place and accepts the next connection.
async fn accept(
    listener: &TcpListener,
    table: &Arc<ConnectionTable>,
    failures: &mut AcceptFailures,
) -> Option<(TcpStream, Arc<ClientConnection>)> {
    table.vacancy().await;
    let accepted = listener.accept().await.and_then(|(stream, peer)| Ok((stream.local_addr()?, stream, peer)));
    match accepted {
        Ok((local, stream, peer)) => Some((stream, table.admit(peer.ip().to_canonical(), local)?)),
        // The client has closed the connection already.
        Err(error)
            if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::NotConnected) =>
        {
            None
        }
        Err(error) => {
            let freed = exhausted(&error) && table.evict_one();
            failures.log(&error, freed);
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

/// Whether the process or the system has run out of file descriptors or memory.
fn exhausted(error: &std::io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}

/// Logs failures of `accept` once in a while.
#[derive(Default)]
struct AcceptFailures {
    count: u64,
    logged: Option<Instant>,
}

impl AcceptFailures {
    fn log(&mut self, error: &std::io::Error, freed: bool) {
        self.count += 1;
        if self.logged.is_some_and(|logged| logged.elapsed() < ACCEPT_LOG_INTERVAL) {
            return;
        }
        self.logged = Some(Instant::now());
        let count = self.count;
        tracing::warn!(target: "aam::http", %error, count, closed_a_silent_connection = freed, "could not accept a connection; raise the limit of open files (ulimit -n) if this does not end");
    }
}

/// Raises the soft limit of open files to the hard limit, and returns the limit. Returns `None` if there is no limit.
fn raise_descriptor_limit() -> Option<usize> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    current.map(|current| usize::try_from(current).unwrap_or(usize::MAX))
}

async fn connection(
    stream: TcpStream,
    client: Arc<ClientConnection>,
    router: TowerToHyperService<Router>,
    limits: ServerLimits,
    stopping: watch::Receiver<bool>,
) {
    // Sends small responses without waiting for more data.
    let _ = stream.set_nodelay(true);
    serve_client(stream, &client, router, limits, stopping).await;
    client.closed();
}

async fn serve_client(
    stream: TcpStream,
    client: &Arc<ClientConnection>,
    router: TowerToHyperService<Router>,
    limits: ServerLimits,
    mut stopping: watch::Receiver<bool>,
) {
    let service = service_fn(|request: hyper::Request<hyper::body::Incoming>| {
        client.begin_request();
        let mut request: Request = request.map(axum::body::Body::new);
        target::normalize(&mut request);
        request.extensions_mut().insert(Arc::clone(client));
        let response = router.call(request);
        async move {
            let response = response.await;
            client.begin_response();
            response
        }
    });
    let stream = ClientStream::new(stream, Arc::clone(client), limits.write, limits.linger);
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(limits.header_read).max_headers(MAX_HEADERS).max_buf_size(MAX_HEAD_BYTES);
    let connection = server.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let mut life = std::pin::pin!(tokio::time::sleep(limits.life_without_token));
    let mut lives = true;
    let ended = loop {
        tokio::select! {
            ended = connection.as_mut() => break ended,
            () = client.evicted() => return,
            () = stop_requested(&mut stopping) => {
                // Hyper waits for the first request of a new connection, even when it stops.
                if client.is_silent() {
                    return;
                }
                connection.as_mut().graceful_shutdown();
                break connection.await;
            }
            () = life.as_mut(), if lives => {
                lives = false;
                if client.is_authenticated() {
                    continue;
                }
                if !client.is_silent() {
                    connection.as_mut().graceful_shutdown();
                    let _ = tokio::time::timeout(LAST_RESPONSE, connection).await;
                }
                return;
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(target: "aam::http", %error, "a client connection ended with an error");
    }
}

/// Completes when the process is asked to stop.
pub(super) async fn stop_requested(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stopping| *stopping).await;
}
