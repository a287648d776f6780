//! Opens connections to sources, either directly or through the policy's proxy. `https:` uses TLS.

use super::gate::Gate;
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

type BoxError = Box<dyn Error + Send + Sync>;
type DirectConnector = HttpsConnector<HttpConnector<Guarded>>;

/// Name resolution, connection and TLS handshake together took longer than the timeout.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("no connection in time")]
pub struct DialTimeout;

/// The connection to the policy's proxy failed.
#[derive(Debug, thiserror::Error)]
#[error("to network.proxy")]
pub struct ProxyConnectError(#[source] BoxError);

/// The proxy refused the tunnel, or the TLS handshake with the source failed.
#[derive(Debug, thiserror::Error)]
#[error("through network.proxy")]
pub struct ProxyTunnelError(#[source] BoxError);

/// The connector for hosts that are reached without the proxy.
#[derive(Clone)]
enum DirectRoute {
    /// A connector for `http:` only. It refuses any other scheme.
    Plain(HttpConnector<Guarded>),
    Tls(DirectConnector),
}

impl DirectRoute {
    async fn open(self, to: Uri) -> Result<OpenConnection, BoxError> {
        match self {
            DirectRoute::Plain(mut tcp) => Ok(OpenConnection::over(tcp.call(to).await?, false)),
            DirectRoute::Tls(mut connector) => Ok(OpenConnection::over(connector.call(to).await?, false)),
        }
    }
}

/// Opens connections for the HTTP client.
#[derive(Clone)]
pub struct Dialer {
    direct: DirectRoute,
    proxy: Option<Arc<Proxy>>,
    timeout: Duration,
    gate: Arc<Gate>,
}

struct Proxy {
    address: Uri,
    /// Connects to the proxy itself; used for `http:` sources.
    forward: ProxyConnector,
    /// Connects through the proxy; used for `https:` sources.
    tunnel: HttpsConnector<Tunnel<ProxyConnector>>,
    /// Private networks that the policy allows. They are reached without the proxy.
    direct_networks: Vec<IpNet>,
}

impl Dialer {
    /// Creates a dialer that uses the TLS configuration `tls` and gives up after `timeout`.
    pub fn new(guarded: Guarded, tls: &Arc<ClientConfig>, timeout: Duration, gate: Arc<Gate>) -> Dialer {
        Dialer { direct: DirectRoute::Tls(tls_connector(guarded, tls, timeout)), proxy: None, timeout, gate }
    }

    /// Creates a dialer for `http:` only. It needs no TLS configuration.
    pub fn plain(guarded: Guarded, timeout: Duration, gate: Arc<Gate>) -> Dialer {
        Dialer { direct: DirectRoute::Plain(tcp(guarded, timeout)), proxy: None, timeout, gate }
    }

    /// Sends everything through the proxy at `address`, except for hosts in `direct_networks`.
    #[must_use]
    pub fn through(self, address: Uri, guarded: Guarded, tls: &Arc<ClientConfig>, direct_networks: Vec<IpNet>) -> Dialer {
        // The connection to the proxy must not negotiate HTTP/2, because AAM uses the HTTP/1 forms of CONNECT and of
        // absolute-form targets.
        let mut older = ClientConfig::clone(tls);
        older.alpn_protocols.clear();
        let forward = ProxyConnector(tls_connector(guarded, &Arc::new(older), self.timeout));
        let tunnel = HttpsConnector::from((Tunnel::new(address.clone(), forward.clone()), Arc::clone(tls)));
        Dialer { proxy: Some(Arc::new(Proxy { address, forward, tunnel, direct_networks })), ..self }
    }
}

fn tcp(guarded: Guarded, timeout: Duration) -> HttpConnector<Guarded> {
    let mut tcp = HttpConnector::new_with_resolver(guarded);
    tcp.set_nodelay(true);
    // hyper divides the timeout among the addresses of a name, so an address that drops packets leaves time for the
    // next one.
    tcp.set_connect_timeout(Some(timeout));
    tcp
}

fn tls_connector(guarded: Guarded, tls: &Arc<ClientConfig>, timeout: Duration) -> DirectConnector {
    let mut tcp = tcp(guarded, timeout);
    tcp.enforce_http(false);
    HttpsConnector::from((tcp, Arc::clone(tls)))
}

impl Proxy {
    fn serves(&self, to: &Uri) -> bool {
        let host = to.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        !host.parse::<IpAddr>().is_ok_and(|address| guard::listed(address, &self.direct_networks))
    }

    async fn open(&self, to: Uri) -> Result<OpenConnection, BoxError> {
        match to.scheme_str() == Some("https") {
            true => Ok(OpenConnection::over(self.tunnel.clone().call(to).await.map_err(ProxyTunnelError)?, false)),
            false => Ok(OpenConnection::over(self.forward.clone().call(self.address.clone()).await?, true)),
        }
    }
}

/// Connects to the proxy itself. Its errors concern the proxy, not the source.
#[derive(Clone)]
struct ProxyConnector(DirectConnector);

impl Service<Uri> for ProxyConnector {
    type Response = <DirectConnector as Service<Uri>>::Response;
    type Error = ProxyConnectError;
    type Future = BoxFuture<'static, Result<Self::Response, ProxyConnectError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ProxyConnectError>> {
        self.0.poll_ready(cx).map_err(ProxyConnectError)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        Box::pin(self.0.call(to).map_err(ProxyConnectError))
    }
}

impl Service<Uri> for Dialer {
    type Response = OpenConnection;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<OpenConnection, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let Dialer { direct, proxy, timeout, gate } = self.clone();
        Box::pin(async move {
            let opened = match proxy.filter(|proxy| proxy.serves(&to)) {
                Some(proxy) => {
                    let opened = tokio::time::timeout(timeout, proxy.open(to)).await;
                    opened.unwrap_or_else(|_| Err(ProxyConnectError(DialTimeout.into()).into()))
                }
                None => {
                    let opened = tokio::time::timeout(timeout, direct.open(to)).await;
                    opened.unwrap_or_else(|_| Err(DialTimeout.into()))
                }
            }?;
            // The process may have been stopped meanwhile. A connection that is not returned is closed without a request.
            gate.ask()?;
            Ok(opened)
        })
    }
}

trait Stream: Read + Write + Send + Unpin {}
impl<T: Read + Write + Send + Unpin> Stream for T {}

/// An open connection.
pub struct OpenConnection {
    io: Box<dyn Stream>,
    http2: bool,
    /// Whether the connection ends at the proxy, which requires the absolute form of the URL in each request.
    absolute_form: bool,
}

impl OpenConnection {
    fn over(io: impl Stream + Connection + 'static, absolute_form: bool) -> OpenConnection {
        OpenConnection { http2: io.connected().is_negotiated_h2(), io: Box::new(io), absolute_form }
    }
}

impl Connection for OpenConnection {
    fn connected(&self) -> Connected {
        let connected = Connected::new().proxy(self.absolute_form);
        if self.http2 { connected.negotiated_h2() } else { connected }
    }
}

impl Read for OpenConnection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, into)
    }
}

impl Write for OpenConnection {
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
