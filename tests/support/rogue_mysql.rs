//! A MySQL server that answers as a test wants, and records what it receives.

use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The packets that the server sends after one packet of the client. The first answer follows the login.
pub type Answer = Vec<Vec<u8>>;

/// A running server. It speaks as long as the runtime of the test lives.
pub struct RogueMysql {
    pub port: u16,
    /// Every packet that arrived, without headers, over all connections.
    received: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl RogueMysql {
    /// Starts a server that greets with `plugin` and then sends one answer after each packet. After the last answer it
    /// closes the connection.
    pub async fn start(plugin: &str, answers: Vec<Answer>) -> RogueMysql {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let received: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let (record, greeting) = (Arc::clone(&received), greeting(plugin));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, greeting.clone(), answers.clone(), Arc::clone(&record)));
            }
        });
        RogueMysql { port, received }
    }

    /// Every packet that arrived.
    pub fn received(&self) -> Vec<Vec<u8>> {
        self.received.lock().expect("no panic").clone()
    }
}

/// The acceptance of a login or of a statement without rows.
pub fn ok() -> Vec<u8> {
    vec![0, 0, 0, 2, 0, 0, 0]
}

/// The request to log in with another plugin.
pub fn switch_to(plugin: &str) -> Vec<u8> {
    [&b"\xFE"[..], plugin.as_bytes(), b"\0ABCDEFGHIJKLMNOPQRST\0"].concat()
}

/// A result with one row.
pub fn row(values: &[&str]) -> Answer {
    let end = || b"\xFE\0\0\x02\0".to_vec();
    let mut answer = vec![vec![u8::try_from(values.len()).expect("few values")]];
    answer.extend(values.iter().map(|_| b"column".to_vec()));
    answer.push(end());
    let text = |value: &&str| [&[u8::try_from(value.len()).expect("a short value")][..], value.as_bytes()].concat();
    answer.push(values.iter().flat_map(text).collect());
    answer.push(end());
    answer
}

/// An error of the server.
pub fn error(code: u16, message: &str) -> Vec<u8> {
    [&b"\xFF"[..], &code.to_le_bytes(), b"#HY000", message.as_bytes()].concat()
}

/// The number of columns of a result.
pub fn columns(number: u64) -> Vec<u8> {
    [&b"\xFE"[..], &number.to_le_bytes()].concat()
}

fn greeting(plugin: &str) -> Vec<u8> {
    let mut packet = b"\x0A8.0.40\0\x05\0\0\0abcdefgh\0\xFF\xF7\x2D\x02\0\xFF\x81\x15".to_vec();
    packet.extend([0; 10]);
    packet.extend(b"ijklmnopqrst\0");
    packet.extend(plugin.as_bytes());
    packet.push(0);
    packet
}

fn framed(sequence: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = payload.len().to_le_bytes()[..3].to_vec();
    out.push(sequence);
    out.extend(payload);
    out
}

async fn serve(mut stream: TcpStream, greeting: Vec<u8>, answers: Vec<Answer>, received: Arc<Mutex<Vec<Vec<u8>>>>) {
    if stream.write_all(&framed(0, &greeting)).await.is_err() {
        return;
    }
    for answer in answers {
        let mut header = [0; 4];
        if stream.read_exact(&mut header).await.is_err() {
            return;
        }
        let length = usize::from(header[0]) | usize::from(header[1]) << 8 | usize::from(header[2]) << 16;
        let mut payload = vec![0; length];
        if stream.read_exact(&mut payload).await.is_err() {
            return;
        }
        received.lock().expect("no panic").push(payload);
        let mut sequence = header[3];
        for packet in answer {
            sequence = sequence.wrapping_add(1);
            if stream.write_all(&framed(sequence, &packet)).await.is_err() {
                return;
            }
        }
    }
    // What the client still sends is recorded too.
    let _ = stream.shutdown().await;
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    received.lock().expect("no panic").push(rest);
}
