//! Ports and connections that fail on purpose: closed, silent, and closed in the middle of a response.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// A port on which no program listens. No other program can use it until the socket is dropped.
pub fn closed_port() -> (TcpSocket, u16) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
    let port = socket.local_addr().expect("an address").port();
    (socket, port)
}

/// A port that was free a moment ago, for a program that has to be told its port. Another program may take it before
/// that one listens, so a test that expects a closed port uses [`closed_port`].
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port()
}

/// An address that accepts connections and never sends anything, and the number of connections it has accepted.
pub async fn silent_address() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let accepted = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&accepted);
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((socket, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::SeqCst);
            held.push(socket);
        }
    });
    (address, accepted)
}

/// A proxy to the server on port `to` that closes the connection after `limit` bytes of the server's response.
/// Returns the port of the proxy.
pub async fn cutting_proxy(to: u16, limit: usize) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(relay(client, to, limit));
        }
    });
    port
}

async fn relay(client: TcpStream, to: u16, mut left: usize) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", to)).await else {
        return;
    };
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) = (client.into_split(), server.into_split());
    let up = tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
    let mut buffer = [0; 512];
    while left > 0 {
        let Ok(read @ 1..) = from_server.read(&mut buffer).await else {
            break;
        };
        let pass = read.min(left);
        left -= pass;
        if to_client.write_all(&buffer[..pass]).await.is_err() {
            break;
        }
    }
    let _ = to_client.shutdown().await;
    up.abort();
}
