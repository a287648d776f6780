//! From an address to an open connection: straight or through the policy's proxy, with TLS where the address says so.

use super::guard;
use super::resolve::Guarded;
use futures_util::TryFutureExt;
use futures_util::future::BoxFuture;
use hyper::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use ipnet::IpNet;
use rustls::ClientConfig;
use std::error::Error;
use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tower_service::Service;

type Anything = Box<dyn Error + Send + Sync>;
type Wire = HttpsConnector<HttpConnector<Guarded>>;

/// Name, connection and TLS took too long.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("no connection in time")]
pub struct TooSlow;

/// What went wrong on the way to the policy's proxy.
#[derive(Debug, thiserror::Error)]
#[error("to network.proxy")]
pub struct ToProxy(#[source] Anything);

/// What went wrong behind the proxy: it refused, or TLS with the source failed.
#[derive(Debug, thiserror::Error)]
#[error("through network.proxy")]
pub struct Beyond(#[source] Anything);

/// The way to a host without the proxy.
#[derive(Clone)]
enum Straight {
    /// For `http:` alone; it refuses any other scheme.
    Plain(HttpConnector<Guarded>),
    Tls(Wire),
}

impl Straight {
    async fn open(self, to: Uri) -> Result<Line, Anything> {
        match self {
            Straight::Plain(mut tcp) => Ok(Line::over(tcp.call(to).await?, false)),
            Straight::Tls(mut wire) => Ok(Line::over(wire.call(to).await?, false)),
        }
    }
}

/// Opens connections for the HTTP client.
#[derive(Clone)]
pub struct Dialler {
    straight: Straight,
    proxy: Option<Arc<Proxy>>,
    within: Duration,
}

struct Proxy {
    address: Uri,
    /// To the proxy itself, for `http:`.
    forward: Forward,
    /// Through it, for `https:`.
    tunnel: HttpsConnector<Tunnel<Forward>>,
    /// What the policy opens inside is reached from inside.
    inside: Vec<IpNet>,
}

impl Dialler {
    /// One whose connections trust what `tls` trusts and stand after `within` at most.
    pub fn new(guarded: Guarded, tls: &Arc<ClientConfig>, within: Duration) -> Dialler {
        Dialler { straight: Straight::Tls(wire(guarded, tls, within)), proxy: None, within }
    }

    /// A dialler for `http:` alone. It needs no TLS configuration.
    pub fn plain(guarded: Guarded, within: Duration) -> Dialler {
        Dialler { straight: Straight::Plain(tcp(guarded, within)), proxy: None, within }
    }

    /// The same, by the proxy at `address`, but for what lies `inside`.
    #[must_use]
    pub fn through(self, address: Uri, guarded: Guarded, tls: &Arc<ClientConfig>, inside: Vec<IpNet>) -> Dialler {
        // CONNECT and absolute addresses are spoken in HTTP/1.
        let mut older = ClientConfig::clone(tls);
        older.alpn_protocols.clear();
        let forward = Forward(wire(guarded, &Arc::new(older), self.within));
        let tunnel = HttpsConnector::from((Tunnel::new(address.clone(), forward.clone()), Arc::clone(tls)));
        Dialler { proxy: Some(Arc::new(Proxy { address, forward, tunnel, inside })), ..self }
    }
}

fn tcp(guarded: Guarded, within: Duration) -> HttpConnector<Guarded> {
    let mut tcp = HttpConnector::new_with_resolver(guarded);
    tcp.set_nodelay(true);
    // Shared out between the addresses of a name: one that drops packets leaves time for the next.
    tcp.set_connect_timeout(Some(within));
    tcp
}

fn wire(guarded: Guarded, tls: &Arc<ClientConfig>, within: Duration) -> Wire {
    let mut tcp = tcp(guarded, within);
    tcp.enforce_http(false);
    HttpsConnector::from((tcp, Arc::clone(tls)))
}

impl Proxy {
    fn serves(&self, to: &Uri) -> bool {
        let host = to.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        !host.parse::<IpAddr>().is_ok_and(|address| guard::listed(address, &self.inside))
    }

    async fn open(&self, to: Uri) -> Result<Line, Anything> {
        match to.scheme_str() == Some("https") {
            true => Ok(Line::over(self.tunnel.clone().call(to).await.map_err(Beyond)?, false)),
            false => Ok(Line::over(self.forward.clone().call(self.address.clone()).await?, true)),
        }
    }
}

/// The way to the proxy itself. Whatever fails on it is about the proxy and not about the source.
#[derive(Clone)]
struct Forward(Wire);

impl Service<Uri> for Forward {
    type Response = <Wire as Service<Uri>>::Response;
    type Error = ToProxy;
    type Future = BoxFuture<'static, Result<Self::Response, ToProxy>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ToProxy>> {
        self.0.poll_ready(cx).map_err(ToProxy)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        Box::pin(self.0.call(to).map_err(ToProxy))
    }
}

impl Service<Uri> for Dialler {
    type Response = Line;
    type Error = Anything;
    type Future = BoxFuture<'static, Result<Line, Anything>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Anything>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let Dialler { straight, proxy, within } = self.clone();
        Box::pin(async move {
            match proxy.filter(|proxy| proxy.serves(&to)) {
                Some(proxy) => {
                    let opened = tokio::time::timeout(within, proxy.open(to)).await;
                    opened.unwrap_or_else(|_| Err(ToProxy(TooSlow.into()).into()))
                }
                None => {
                    let opened = tokio::time::timeout(within, straight.open(to)).await;
                    opened.unwrap_or_else(|_| Err(TooSlow.into()))
                }
            }
        })
    }
}

trait Duplex: Read + Write + Send + Unpin {}
impl<T: Read + Write + Send + Unpin> Duplex for T {}

/// An open connection.
pub struct Line {
    io: Box<dyn Duplex>,
    http2: bool,
    /// It ends at the proxy, which wants the whole address in each request.
    forwarded: bool,
}

impl Line {
    fn over(io: impl Duplex + Connection + 'static, forwarded: bool) -> Line {
        Line { http2: io.connected().is_negotiated_h2(), io: Box::new(io), forwarded }
    }
}

impl Connection for Line {
    fn connected(&self) -> Connected {
        let connected = Connected::new().proxy(self.forwarded);
        if self.http2 { connected.negotiated_h2() } else { connected }
    }
}

impl Read for Line {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, into)
    }
}

impl Write for Line {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, parts)
    }
}
