//! The listening socket: limits on open connections and header sizes, timeouts, and a graceful stop.

use super::app::App;
use super::{ServerInfo, ServerLimits, routes};
use crate::reconcile::Handle;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

/// The maximum number of header fields in one request.
const MAX_HEADERS: usize = 64;
/// The maximum size of a request line and its headers together.
const MAX_HEAD_BYTES: usize = 32 << 10;
/// The pause after `accept` fails, for example because the process has run out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `handle.stopping` is set, then waits for the requests in flight.
pub async fn serve(handle: Arc<Handle>, listener: TcpListener, info: ServerInfo) {
    serve_with(handle, listener, info, ServerLimits::default()).await;
}

/// Like [`serve`], but with the given limits.
pub async fn serve_with(handle: Arc<Handle>, listener: TcpListener, info: ServerInfo, limits: ServerLimits) {
    let app = App::new(Arc::clone(&handle), info, limits);
    // Creates the admin token at the first start and logs its path.
    app.admin(&handle.policy());
    let router = routes::router(&app);
    let slots = Arc::new(Semaphore::new(limits.connections));
    let mut open = JoinSet::new();
    let mut stopping = handle.stopping.subscribe();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop_requested(&mut stopping) => break,
            // Removes connections that are closed, so that the set does not grow.
            Some(_) = open.join_next(), if !open.is_empty() => continue,
            accepted = accept(&listener, &slots) => accepted,
        };
        if let Some((stream, slot)) = accepted {
            open.spawn(connection(stream, router.clone(), limits, handle.stopping.subscribe(), slot));
        }
    }
    drop(listener);
    let all = async { while open.join_next().await.is_some() {} };
    if tokio::time::timeout(limits.drain, all).await.is_err() {
        tracing::warn!(target: "aam::http", seconds = limits.drain.as_secs(), "requests were still in flight after the grace period; closing their connections");
    }
}

/// Waits until fewer than `limits.connections` connections are open and accepts the next one.
async fn accept(listener: &TcpListener, slots: &Arc<Semaphore>) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, slot)),
        Err(error) => {
            tracing::warn!(target: "aam::http", %error, "could not accept a connection");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

async fn connection(
    stream: TcpStream,
    router: Router,
    limits: ServerLimits,
    mut stopping: watch::Receiver<bool>,
    _slot: OwnedSemaphorePermit,
) {
    // Sends small responses without waiting for more data.
    let _ = stream.set_nodelay(true);
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(limits.header_read).max_headers(MAX_HEADERS).max_buf_size(MAX_HEAD_BYTES);
    let connection = server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop_requested(&mut stopping) => {
            connection.as_mut().graceful_shutdown();
            connection.await
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
