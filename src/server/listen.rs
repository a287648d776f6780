//! Sockets: a cap on open connections, bounded headers, timeouts, and a stop that lets answers out.

use super::app::App;
use super::{Limits, ServerInfo, routes};
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

/// Header fields of one request.
const MAX_HEADERS: usize = 64;
/// Bytes of a request's line and headers.
const MAX_HEAD: usize = 32 << 10;
/// After an accept that failed, for example for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `handle.stopping`, then lets the requests in flight finish.
pub async fn serve(handle: Arc<Handle>, listener: TcpListener, info: ServerInfo) {
    serve_with(handle, listener, info, Limits::default()).await;
}

/// As [`serve`], with other bounds.
pub async fn serve_with(handle: Arc<Handle>, listener: TcpListener, info: ServerInfo, limits: Limits) {
    let app = App::new(Arc::clone(&handle), info, limits);
    // The first start writes the admin token and says where it lies.
    app.admin(&handle.policy());
    let router = routes::router(&app);
    let places = Arc::new(Semaphore::new(limits.connections));
    let mut open = JoinSet::new();
    let mut stopping = handle.stopping.subscribe();
    loop {
        let accepted = tokio::select! {
            biased;
            () = asked_to_stop(&mut stopping) => break,
            // Ended connections are taken out, so that the set does not grow.
            Some(_) = open.join_next(), if !open.is_empty() => continue,
            accepted = accept(&listener, &places) => accepted,
        };
        if let Some((stream, place)) = accepted {
            open.spawn(connection(stream, router.clone(), limits, handle.stopping.subscribe(), place));
        }
    }
    drop(listener);
    let all = async { while open.join_next().await.is_some() {} };
    if tokio::time::timeout(limits.drain, all).await.is_err() {
        tracing::warn!(target: "aam::http", seconds = limits.drain.as_secs(), "requests were still in flight when the time for them was over; their connections are closed");
    }
}

/// The next connection, once there is a place for it.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, place)),
        Err(error) => {
            tracing::warn!(target: "aam::http", %error, "a connection could not be accepted");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

async fn connection(
    stream: TcpStream,
    router: Router,
    limits: Limits,
    mut stopping: watch::Receiver<bool>,
    _place: OwnedSemaphorePermit,
) {
    // Small answers must not wait for more.
    let _ = stream.set_nodelay(true);
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(limits.header_read).max_headers(MAX_HEADERS).max_buf_size(MAX_HEAD);
    let connection = server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = asked_to_stop(&mut stopping) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(target: "aam::http", %error, "a connection ended early");
    }
}

/// Ends when the process was asked to stop, or is gone.
pub(super) async fn asked_to_stop(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stopping| *stopping).await;
}
