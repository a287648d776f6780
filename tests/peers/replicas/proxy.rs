//! A TCP proxy between one replica and the database. It can cut all sessions, refuse new ones, and stall.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What the proxy does with bytes and with new sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Open,
    /// New sessions end at once.
    Refuse,
    /// Sessions are accepted, and nothing is passed on in either direction.
    Stall,
}

#[derive(Clone, Copy)]
struct State {
    mode: Mode,
    /// How often all sessions were cut. A session ends when the number changes.
    cuts: u64,
}

/// The proxy of one replica: one port for each of the two servers.
pub struct Proxy {
    /// The ports that the replica connects to.
    pub ports: [u16; 2],
    state: watch::Sender<State>,
}

impl Proxy {
    /// Starts the proxy. `servers` are the ports of the two servers, 0 while a server does not exist.
    pub async fn start(servers: Arc<[AtomicU16; 2]>) -> Proxy {
        let (state, watched) = watch::channel(State { mode: Mode::Open, cuts: 0 });
        let mut ports = [0; 2];
        for (slot, port) in ports.iter_mut().enumerate() {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            *port = listener.local_addr().expect("an address").port();
            tokio::spawn(accept(listener, Arc::clone(&servers), slot, watched.clone()));
        }
        Proxy { ports, state }
    }

    /// Ends all sessions; new ones are treated as `mode` says.
    pub fn cut(&self, mode: Mode) {
        self.state.send_modify(|state| *state = State { mode, cuts: state.cuts + 1 });
    }

    /// Changes what happens from now on; sessions stay.
    pub fn set(&self, mode: Mode) {
        self.state.send_modify(|state| state.mode = mode);
    }
}

async fn accept(listener: TcpListener, servers: Arc<[AtomicU16; 2]>, slot: usize, state: watch::Receiver<State>) {
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        let mode = state.borrow().mode;
        if mode != Mode::Refuse {
            tokio::spawn(session(client, servers[slot].load(Ordering::Relaxed), state.clone()));
        }
    }
}

async fn session(client: TcpStream, server: u16, mut state: watch::Receiver<State>) {
    let born = state.borrow_and_update().cuts;
    if !passes(&mut state, born).await {
        return;
    }
    let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (client_reads, client_writes) = client.into_split();
    let (server_reads, server_writes) = server.into_split();
    // The end of one direction ends the session.
    tokio::select! {
        () = pump(client_reads, server_writes, state.clone(), born) => {}
        () = pump(server_reads, client_writes, state, born) => {}
    }
}

/// Waits until bytes may pass. Returns false if the session was cut.
async fn passes(state: &mut watch::Receiver<State>, born: u64) -> bool {
    match state.wait_for(|state| state.cuts != born || state.mode != Mode::Stall).await {
        Ok(state) => state.cuts == born,
        Err(_) => false,
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut state: watch::Receiver<State>, born: u64) {
    let mut buffer = vec![0; 16 * 1024];
    while passes(&mut state, born).await {
        tokio::select! {
            changed = state.changed() => if changed.is_err() { return },
            read = from.read(&mut buffer) => {
                let Ok(length @ 1..) = read else { return };
                // It may have stalled since, and what is not passed on when the session is cut is lost.
                if !passes(&mut state, born).await || to.write_all(&buffer[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}
