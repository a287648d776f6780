//! A described HTTP service of the test's own: counts its calls, breaks and hangs on demand.

use axum::http::{Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::watch;

/// How the service behaves right now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Well,
    /// Answers 500.
    Broken,
    /// Answers when the mood changes.
    Silent,
}

/// The service. It lives as long as the test's runtime.
pub struct Vendor {
    pub url: String,
    hits: Arc<AtomicUsize>,
    mood: watch::Sender<Mood>,
}

impl Vendor {
    pub async fn start(mood: Mood) -> Vendor {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("address"));
        let (hits, mood) = (Arc::new(AtomicUsize::new(0)), watch::Sender::new(mood));
        let (counter, moods) = (Arc::clone(&hits), mood.subscribe());
        let app = axum::Router::new().fallback(move |request: Request<axum::body::Body>| {
            counter.fetch_add(1, Ordering::SeqCst);
            answer(request.uri().path().to_string(), moods.clone())
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        Vendor { url: format!("{base}/openapi.json"), hits, mood }
    }

    /// Calls so far.
    pub fn hits(&self) -> usize {
        self.hits.load(Ordering::SeqCst)
    }

    pub fn turn(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }
}

async fn answer(path: String, mut moods: watch::Receiver<Mood>) -> Response {
    let _ = moods.wait_for(|mood| *mood != Mood::Silent).await;
    if *moods.borrow() == Mood::Broken {
        return (StatusCode::INTERNAL_SERVER_ERROR, "out of order").into_response();
    }
    let body = match path.as_str() {
        "/openapi.json" => description().to_string(),
        "/things" => json!([{"p0": "a"}, {"p0": "b"}]).to_string(),
        _ => return (StatusCode::NOT_FOUND, "{}").into_response(),
    };
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// So wide that its catalog does not fit into what is left of a database page.
fn description() -> serde_json::Value {
    let properties: serde_json::Map<_, _> = (0..300).map(|n| (format!("p{n}"), json!({"type": "string"}))).collect();
    let schema = json!({"type": "array", "items": {"type": "object", "properties": properties}});
    json!({
        "openapi": "3.0.3",
        "info": {"title": "Things", "version": "1"},
        "paths": {"/things": {"get": {"operationId": "listThings", "responses": {"200": {
            "description": "all", "content": {"application/json": {"schema": schema}}}}}}}
    })
}

/// A port that accepts and never says a word, and how often it accepted.
pub async fn mute() -> (std::net::SocketAddr, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("address");
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
