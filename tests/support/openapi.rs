//! The `openapi` engine on a real session, and servers whose responses a test chooses.

use crate::support::session::{self, RecordingSession};
use aam::connectors::openapi::OpenApiEngine;
use aam::connectors::{Bounds, Discovery, Opened, Sample};
use aam::credentials::{Credential, Secret};
use aam::model::{Evidence, Failure};
use aam::policy::{FamilyPolicy, Policy};
use axum::body::Body;
use axum::http::{Request as HttpRequest, Response};
use std::sync::Arc;
use std::time::Duration;

/// An opened connection, or why it did not open, and the session with what was sent.
pub struct OpenApiRun {
    pub session: Arc<RecordingSession>,
    pub opened: Result<Opened, Failure>,
}

impl OpenApiRun {
    pub async fn open(url: &str, credential: Option<&str>, family: FamilyPolicy) -> OpenApiRun {
        let policy = policy(family);
        let session = RecordingSession::new("openapi", Arc::new(policy.clone()));
        let credential = credential.map(|text| Credential::read(Secret::new(text.into())));
        let opened = OpenApiEngine::open_over(session.clone(), url, credential, &policy).await;
        OpenApiRun { session, opened }
    }

    fn opened(&self) -> Result<&Opened, Failure> {
        self.opened.as_ref().map_err(Clone::clone)
    }

    pub async fn discover(&self) -> Result<Discovery, Failure> {
        self.opened()?.connector.discover(Bounds::default()).await
    }

    pub async fn health(&self) -> Result<Evidence, Failure> {
        self.opened()?.connector.health().await
    }

    pub async fn tiny(&self, max_items: u32) -> Result<Sample, Failure> {
        let catalog = self.discover().await?.catalog;
        self.opened()?.connector.tiny_sync(&catalog, max_items).await
    }

    pub fn calls(&self) -> Vec<String> {
        self.session.calls()
    }
}

/// Opens a connection and checks its health; returns the first failure.
pub async fn failure(url: &str, credential: Option<&str>, family: FamilyPolicy) -> Failure {
    OpenApiRun::open(url, credential, family).await.health().await.expect_err("this must fail")
}

/// A policy whose steps time out after three seconds.
fn policy(family: FamilyPolicy) -> Policy {
    let mut policy = session::policy(Duration::from_secs(3), None);
    policy.families.insert("openapi".to_string(), family);
    policy
}

/// A response: status, headers, body.
pub type MockResponse<B = String> = (u16, Vec<(&'static str, String)>, B);

pub fn json_response(body: impl Into<String>) -> MockResponse {
    (200, vec![("content-type", "application/json".into())], body.into())
}

/// Starts a server that answers every path with `answer`; returns its base URL.
pub async fn serve(answer: impl Fn(&str, &HttpRequest<Body>) -> MockResponse + Clone + Send + Sync + 'static) -> String {
    format!("http://127.0.0.1:{}", serve_at("127.0.0.1:0", answer).await)
}

/// Starts a server that answers every path with `answer` on all loopback addresses; returns its port.
pub async fn serve_on_all_addresses(answer: impl Fn(&str) -> MockResponse<Vec<u8>> + Clone + Send + Sync + 'static) -> u16 {
    serve_at("0.0.0.0:0", move |path, _| answer(path)).await
}

async fn serve_at<B: Into<Body>>(
    address: &str,
    answer: impl Fn(&str, &HttpRequest<Body>) -> MockResponse<B> + Clone + Send + Sync + 'static,
) -> u16 {
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let app = axum::Router::new().fallback(move |request: HttpRequest<Body>| {
        let (status, headers, body) = answer(request.uri().path(), &request);
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(name, value);
        }
        std::future::ready(response.body(body.into()).unwrap())
    });
    tokio::spawn(async move { axum::serve(listener, app).await });
    port
}

/// Starts a server that sends `head` to each client and then either hangs or closes the connection; returns its base URL.
pub async fn raw(head: &'static str, hang: bool) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut socket, _)) = listener.accept().await {
            let _ = socket.read(&mut [0; 4096]).await;
            let _ = socket.write_all(head.as_bytes()).await;
            if hang {
                held.push(socket);
            }
        }
    });
    base
}
