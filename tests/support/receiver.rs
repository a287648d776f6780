//! A receiver of webhooks that checks their signatures (Standard Webhooks).

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ring::hmac;
use serde_json::Value;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// What the receiver answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Status(u16),
    /// 200 with a body of this many bytes.
    Body(usize),
    /// 429 with `Retry-After` in seconds.
    Wait(u32),
    /// 302 to this URL.
    Redirect(String),
    /// Nothing, until the answer is changed.
    Hold,
}

/// A message as it arrived.
#[derive(Clone, Debug)]
pub struct Message {
    pub id: String,
    pub path: String,
    pub body: Value,
    pub bytes: Vec<u8>,
    pub headers: HeaderMap,
}

/// A receiver, which runs until the runtime of the test ends.
#[derive(Clone)]
pub struct Receiver {
    pub port: u16,
    messages: Arc<Mutex<Vec<Message>>>,
    answer: Arc<watch::Sender<Answer>>,
}

impl Receiver {
    /// Starts a receiver on a free port that accepts messages.
    pub async fn start() -> Receiver {
        Receiver::listen(tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port"))
    }

    /// Starts a receiver that accepts messages.
    pub fn listen(listener: tokio::net::TcpListener) -> Receiver {
        let port = listener.local_addr().expect("address").port();
        let (answer, _) = watch::channel(Answer::Status(204));
        let receiver = Receiver { port, messages: Arc::default(), answer: Arc::new(answer) };
        let shared = receiver.clone();
        let app = axum::Router::new().fallback(move |uri: Uri, headers: HeaderMap, body: Bytes| {
            let shared = shared.clone();
            async move { shared.receive(&uri, headers, &body).await }
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        receiver
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook", self.port)
    }

    /// Answers so from now on, also to messages that wait for an answer.
    pub fn answer(&self, answer: Answer) {
        self.answer.send_replace(answer);
    }

    /// All messages so far.
    pub fn messages(&self) -> Vec<Message> {
        self.all().clone()
    }

    /// The number of messages so far.
    pub fn count(&self) -> usize {
        self.all().len()
    }

    fn all(&self) -> MutexGuard<'_, Vec<Message>> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn receive(&self, uri: &Uri, headers: HeaderMap, body: &Bytes) -> Response {
        let id = headers.get("webhook-id").and_then(|value| value.to_str().ok()).unwrap_or_default().to_string();
        let json = serde_json::from_slice(body).unwrap_or_default();
        self.all().push(Message { id, path: uri.to_string(), body: json, bytes: body.to_vec(), headers });
        let mut answer = self.answer.subscribe();
        let answer = answer.wait_for(|answer| *answer != Answer::Hold).await.map(|answer| answer.clone());
        match answer {
            Ok(Answer::Redirect(to)) => (StatusCode::FOUND, [(header::LOCATION, to)]).into_response(),
            Ok(Answer::Body(bytes)) => "x".repeat(bytes).into_response(),
            Ok(Answer::Wait(seconds)) => {
                (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, seconds.to_string())]).into_response()
            }
            Ok(Answer::Status(status)) => StatusCode::from_u16(status).expect("a status").into_response(),
            _ => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        }
    }
}

impl Message {
    /// Fails unless the message is signed with `key`, the bytes of the secret.
    pub fn verify(&self, key: &[u8]) {
        let header = |name: &str| self.headers[name].to_str().expect("text");
        let sent: i64 = header("webhook-timestamp").parse().expect("seconds");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
        assert!(sent.abs_diff(i64::try_from(now).expect("a time")) < 300, "a receiver refuses messages that are 5 minutes old");
        let content = [self.id.as_bytes(), b".", header("webhook-timestamp").as_bytes(), b".", &self.bytes].concat();
        let signature = header("webhook-signature").strip_prefix("v1,").expect("version 1");
        let signature = BASE64_STANDARD.decode(signature).expect("base64");
        hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, key), &content, &signature).expect("the signature fits");
        assert_eq!(header("content-type"), "application/json");
    }

    /// The ids of the events in the message.
    pub fn event_ids(&self) -> Vec<String> {
        let events = self.body["data"]["events"].as_array().cloned().unwrap_or_default();
        events.iter().map(|event| event["id"].as_str().unwrap_or_default().to_string()).collect()
    }
}
