//! A server that answers from a script and records what it is asked.

use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// One answer: status, headers, body.
pub type Reply = (u16, Vec<(&'static str, String)>, Vec<u8>);

/// A key, and the answers to the requests that contain all of its parts. The last answer is repeated.
pub type Route = (&'static str, Vec<Reply>);

#[must_use]
pub fn json(status: u16, body: &str) -> Reply {
    (status, vec![("Content-Type", "application/json".into())], body.as_bytes().to_vec())
}

#[must_use]
pub fn ok(body: &str) -> Reply {
    json(200, body)
}

#[must_use]
pub fn text(body: &str) -> Reply {
    (200, vec![("Content-Type", "text/plain".into())], body.as_bytes().to_vec())
}

#[must_use]
pub fn gzip(body: &str) -> Reply {
    let mut out = GzEncoder::new(Vec::new(), Compression::default());
    out.write_all(body.as_bytes()).unwrap();
    (200, vec![("Content-Type", "application/octet-stream".into())], out.finish().unwrap())
}

#[derive(Default)]
struct State {
    routes: Vec<Route>,
    requests: Vec<String>,
}

#[derive(Clone)]
pub struct Server {
    pub base: String,
    state: Arc<Mutex<State>>,
}

impl Server {
    pub fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let base = format!("http://{}", listener.local_addr().unwrap());
        let server = Server { base, state: Arc::default() };
        let own = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = own.clone();
                std::thread::spawn(move || server.answer(stream));
            }
        });
        server
    }

    /// Starts a script anew.
    pub fn play(&self, routes: &[Route]) {
        *self.state.lock().unwrap() = State { routes: routes.to_vec(), requests: Vec::new() };
    }

    /// The requests so far: method, path, the headers that are compared, and the body.
    pub fn requests(&self) -> Vec<String> {
        self.state.lock().unwrap().requests.clone()
    }

    fn answer(&self, mut stream: TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        let mut first = String::new();
        reader.read_line(&mut first).ok()?;
        let (mut authorization, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim().split_once(':') else { break };
            match name.to_ascii_lowercase().as_str() {
                "authorization" => authorization = value.trim().to_owned(),
                "content-length" => length = value.trim().parse().ok()?,
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let line = first.trim().trim_end_matches(" HTTP/1.1").to_owned();
        let asked = format!("{line} [{authorization}] {}", String::from_utf8_lossy(&body)).trim().to_owned();
        let (status, headers, body) = self.reply(&asked);
        let mut head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n", body.len());
        headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        stream.write_all(format!("{head}\r\n").as_bytes()).ok()?;
        stream.write_all(&body).ok()
    }

    fn reply(&self, asked: &str) -> Reply {
        let mut state = self.state.lock().unwrap();
        state.requests.push(asked.to_owned());
        let found = state.routes.iter_mut().find(|(key, _)| key.split(' ').all(|word| asked.contains(word)));
        match found {
            Some((_, replies)) if replies.len() > 1 => replies.remove(0),
            Some((_, replies)) => replies.first().cloned().unwrap_or_else(|| json(404, "{}")),
            None => json(404, r#"{"error": "no route"}"#),
        }
    }
}
