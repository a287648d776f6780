//! What the object storage tests stand on: a wire without policy, a clock, and a server of a few lines.

use aam::clock::Clock;
use aam::connectors::object::{ObjectEngine, Wire};
use aam::connectors::{Bounds, Opened};
use aam::credentials::{Credential, Secret};
use aam::egress::{Answer, Method, Request, Traffic};
use aam::model::{Catalog, Class, Failure, Timestamp};
use aam::policy::FamilyPolicy;
use futures_util::future::BoxFuture;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// The machine's time, moved by some milliseconds.
pub struct Moved(pub i64);

impl Clock for Moved {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since.as_millis()).unwrap_or(0) + self.0)
    }
}

/// Requests go out as they are. Whatever is sent is remembered, to be searched for secrets.
pub struct Plain {
    client: reqwest::Client,
    calls: AtomicU64,
    pub sent: Mutex<Vec<String>>,
}

impl Plain {
    pub fn new() -> Arc<Plain> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(2))
            .build()
            .expect("a client");
        Arc::new(Plain { client, calls: AtomicU64::new(0), sent: Mutex::default() })
    }
}

impl Wire for Plain {
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Answer, Failure>> {
        Box::pin(async move {
            self.calls.fetch_add(1, Relaxed);
            let method = match request.method {
                Method::Get => reqwest::Method::GET,
                Method::Head => reqwest::Method::HEAD,
            };
            let mut line = format!("{method} {}", request.url);
            let mut call = self.client.request(method, request.url.clone());
            for (name, value) in &request.headers {
                line.push_str(&format!("\n{name}: {}", value.expose()));
                call = call.header(name, value.expose());
            }
            self.sent.lock().expect("unpoisoned").push(line);
            let network = |error: reqwest::Error| {
                let class = if error.is_body() || error.is_decode() { Class::Remote } else { Class::Network };
                Failure::new(class, "the call failed", "").detail(error.to_string())
            };
            let answer = call.send().await.map_err(network)?;
            let headers = answer.headers().iter();
            let headers =
                headers.map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())).collect();
            let (status, url) = (answer.status().as_u16(), answer.url().clone());
            let body = answer.bytes().await.map_err(network)?;
            Ok(Answer { status, headers, body, url })
        })
    }

    fn traffic(&self) -> Traffic {
        Traffic { calls: self.calls.load(Relaxed), bytes: 0 }
    }
}

/// A request as a server sees it: the head of the message.
pub struct Seen(pub String);

impl Seen {
    pub fn is_head(&self) -> bool {
        self.0.starts_with("HEAD ")
    }

    /// The path with its query.
    pub fn target(&self) -> &str {
        self.0.split(' ').nth(1).unwrap_or_default()
    }

    /// Whether it is signed for `region`.
    pub fn signed_for(&self, region: &str) -> bool {
        self.0.contains(&format!("/{region}/s3/aws4_request"))
    }
}

/// Answers every request with the bytes that `answer` gives; an empty answer keeps the caller waiting.
pub async fn serve(answer: impl Fn(&Seen) -> String + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        let mut waiting = Vec::new();
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut head = Vec::new();
            let mut byte = [0_u8; 1];
            while !head.ends_with(b"\r\n\r\n") && matches!(socket.read(&mut byte).await, Ok(1)) {
                head.push(byte[0]);
            }
            let bytes = answer(&Seen(String::from_utf8_lossy(&head).into_owned()));
            if bytes.is_empty() {
                waiting.push(socket);
            } else {
                let _ = socket.write_all(bytes.as_bytes()).await;
            }
        }
    });
    format!("http://{address}")
}

/// A whole HTTP answer.
pub fn http(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len())
}

pub fn credential(text: &str) -> Credential {
    Credential::read(Secret::new(text.to_string()))
}

/// Opens `bucket` at `endpoint` as `s3_compat`.
pub async fn open_at(endpoint: &str, bucket: &str, key: &Credential) -> (Arc<Plain>, Result<Opened, Failure>) {
    let wire = Plain::new();
    let engine = ObjectEngine::compatible(Arc::new(Moved(0)));
    let opened = engine.open_on(wire.clone(), &format!("{endpoint}/{bucket}"), Some(key), &FamilyPolicy::default()).await;
    (wire, opened)
}

pub async fn refused(endpoint: &str, bucket: &str, key: &Credential) -> Failure {
    match open_at(endpoint, bucket, key).await.1 {
        Ok(opened) => panic!("{bucket} opened: {:?}", opened.identity),
        Err(failure) => failure,
    }
}

pub async fn discover(opened: &Opened, bounds: Bounds) -> Catalog {
    opened.connector.discover(bounds).await.expect("discovery").catalog
}
