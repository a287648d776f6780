//! The HTTP client for daemon and baseline: blocking sockets whose connections are kept alive.

use crate::Measured;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// One connection.
pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    /// Connects to `port` on this machine.
    pub fn connect(port: u16) -> Measured<Client> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Client { stream, buffer: vec![0; 1 << 20] })
    }

    /// Sends a GET with a bearer token. Returns status and body.
    pub fn get(&mut self, target: &str, token: &str) -> Measured<(u16, Vec<u8>)> {
        let request = request(target, token);
        let (status, head, end) = self.exchange(request.as_bytes())?;
        Ok((status, self.buffer.get(head..end).unwrap_or_default().to_vec()))
    }

    /// Sends a POST with a JSON body and one further header. Returns the status.
    pub fn post(&mut self, target: &str, (name, value): (&str, &str), body: &str) -> Measured<u16> {
        let length = body.len();
        let request = format!(
            "POST {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n{name}: {value}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        Ok(self.exchange(request.as_bytes())?.0)
    }

    /// Sends `request` and reads one response with a Content-Length. Returns the status and where head and body end.
    fn exchange(&mut self, request: &[u8]) -> Measured<(u16, usize, usize)> {
        self.stream.write_all(request)?;
        let (mut filled, mut known): (usize, Option<(u16, usize, usize)>) = (0, None);
        loop {
            if let Some(answer) = known.filter(|(_, _, end)| filled >= *end) {
                return Ok(answer);
            }
            if filled == self.buffer.len() {
                self.buffer.resize(filled * 2, 0);
            }
            let count = self.stream.read(self.buffer.get_mut(filled..).unwrap_or_default())?;
            if count == 0 {
                return Err("the server closed the connection".into());
            }
            filled += count;
            if known.is_none() {
                known = head(self.buffer.get(..filled).unwrap_or_default())?;
            }
        }
    }
}

/// The text of a GET.
fn request(target: &str, token: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n\r\n")
}

/// Returns the status, the length of the head and the length of the whole response, or `None` if the head is not
/// complete yet.
fn head(bytes: &[u8]) -> Measured<Option<(u16, usize, usize)>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let text = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).to_ascii_lowercase();
    let status: u16 = text.split(' ').nth(1).unwrap_or_default().parse()?;
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:")).or((status == 204).then_some("0"));
    let length = length.ok_or("an answer without Content-Length")?;
    Ok(Some((status, end + 4, end + 4 + length.trim().parse::<usize>()?)))
}

/// Sends requests over `connections` that are kept alive, for `time`. Returns the requests per second. The status of
/// every response must be 200.
pub fn rate(port: u16, target: &str, token: &str, connections: usize, time: Duration) -> Measured<f64> {
    let one = || -> Result<u64, String> {
        let mut client = Client::connect(port).map_err(|error| error.to_string())?;
        let request = request(target, token);
        let started = Instant::now();
        let mut count = 0;
        while started.elapsed() < time {
            let (status, _, _) = client.exchange(request.as_bytes()).map_err(|error| error.to_string())?;
            if status != 200 {
                return Err(format!("{target} answered {status}"));
            }
            count += 1;
        }
        Ok(count)
    };
    let counts: Result<Vec<u64>, String> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..connections).map(|_| scope.spawn(one)).collect();
        workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| Err("a client panicked".to_string()))).collect()
    });
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let count = counts?.iter().sum::<u64>() as f64;
    Ok(count / time.as_secs_f64())
}
