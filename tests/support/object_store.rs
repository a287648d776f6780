//! What the object storage tests share: a session, a clock, and a small HTTP server.

use crate::support::session::{RecordingSession, policy};
use aam::clock::Clock;
use aam::connectors::object::ObjectEngine;
use aam::connectors::{Bounds, Opened};
use aam::credentials::{Credential, Secret};
use aam::model::{Catalog, Failure, Timestamp};
use aam::policy::FamilyPolicy;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// The system clock plus a number of milliseconds.
pub struct OffsetClock(pub i64);

impl Clock for OffsetClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since.as_millis()).unwrap_or(0) + self.0)
    }
}

/// A session whose calls time out after less than two seconds.
pub fn recording_session(family: &'static str) -> Arc<RecordingSession> {
    RecordingSession::new(family, Arc::new(policy(Duration::from_secs(2), None)))
}

/// The head of a request, as the server received it.
pub struct ReceivedHead(pub String);

impl ReceivedHead {
    pub fn is_head(&self) -> bool {
        self.0.starts_with("HEAD ")
    }

    /// The path with its query.
    pub fn target(&self) -> &str {
        self.0.split(' ').nth(1).unwrap_or_default()
    }

    /// Whether the request is signed for `region`.
    pub fn signed_for(&self, region: &str) -> bool {
        self.0.contains(&format!("/{region}/s3/aws4_request"))
    }
}

/// Starts a server that sends the text from `answer` for every request. If the text is empty, the client gets no response.
pub async fn serve(answer: impl Fn(&ReceivedHead) -> String + Send + Sync + 'static) -> String {
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
            let bytes = answer(&ReceivedHead(String::from_utf8_lossy(&head).into_owned()));
            if bytes.is_empty() {
                waiting.push(socket);
            } else {
                let _ = socket.write_all(bytes.as_bytes()).await;
            }
        }
    });
    format!("http://{address}")
}

/// A complete HTTP response.
pub fn http(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len())
}

pub fn credential(text: &str) -> Credential {
    Credential::read(Secret::new(text.to_string()))
}

/// Opens `bucket` at `endpoint` as `s3_compat`; returns the session as well.
pub async fn open_at(endpoint: &str, bucket: &str, key: &Credential) -> (Arc<RecordingSession>, Result<Opened, Failure>) {
    let session = recording_session("s3_compat");
    let engine = ObjectEngine::compatible(Arc::new(OffsetClock(0)));
    let opened = engine.open_on(session.clone(), &format!("{endpoint}/{bucket}"), Some(key), &FamilyPolicy::default()).await;
    (session, opened)
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
