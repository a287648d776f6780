//! What a real database server sent in one session, so that it can be sent again, changed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The bytes that the server sends between two messages of the client. The first turn precedes the first message, and may
/// be empty.
pub type Turns = Vec<Vec<u8>>;

/// Reads turns from text: one line of base64 for each.
pub fn parse(text: &str) -> Turns {
    text.lines().map(|line| STANDARD.decode(line).expect("base64")).collect()
}

/// Writes turns as [`parse`] reads them.
pub fn text(turns: &Turns) -> String {
    turns.iter().map(|turn| STANDARD.encode(turn) + "\n").collect()
}

/// A proxy to the server on port `to` that records the turns of its last connection. Returns the port of the proxy.
pub async fn recording_proxy(to: u16) -> (u16, Arc<Mutex<Turns>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let turns: Arc<Mutex<Turns>> = Arc::default();
    let record = Arc::clone(&turns);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            record.lock().expect("no panic").clear();
            tokio::spawn(relay(client, to, Arc::clone(&record)));
        }
    });
    (port, turns)
}

async fn relay(mut client: TcpStream, to: u16, turns: Arc<Mutex<Turns>>) {
    let mut server = TcpStream::connect(("127.0.0.1", to)).await.expect("the server");
    turns.lock().expect("no panic").push(Vec::new());
    let (mut from_client, mut from_server) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        tokio::select! {
            read = client.read(&mut from_client) => {
                let Ok(read @ 1..) = read else { return };
                turns.lock().expect("no panic").push(Vec::new());
                server.write_all(&from_client[..read]).await.expect("the server reads");
            }
            read = server.read(&mut from_server) => {
                let Ok(read @ 1..) = read else { return };
                turns.lock().expect("no panic").last_mut().expect("a turn").extend(&from_server[..read]);
                if client.write_all(&from_server[..read]).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// A server that sends `turns` to each connection, one after each message, and then closes it. Returns its port.
pub async fn replay(turns: Turns) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let turns = turns.clone();
            tokio::spawn(async move {
                let mut buffer = vec![0; 1 << 16];
                for turn in turns {
                    if client.write_all(&turn).await.is_err() {
                        return;
                    }
                    let Ok(1..) = client.read(&mut buffer).await else { return };
                }
                let _ = client.shutdown().await;
            });
        }
    });
    port
}
