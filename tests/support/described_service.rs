//! An HTTP service with an OpenAPI description that counts its calls, and fails or hangs on demand.

use axum::http::{Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::watch;

/// How the service behaves at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceMode {
    Healthy,
    /// Answers 500.
    Failing,
    /// Does not answer until the mode changes.
    Silent,
}

/// The service, which runs until the runtime of the test ends.
pub struct DescribedService {
    pub url: String,
    hits: Arc<AtomicUsize>,
    mode: watch::Sender<ServiceMode>,
}

impl DescribedService {
    pub async fn start(mode: ServiceMode) -> DescribedService {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("address"));
        let (hits, mode) = (Arc::new(AtomicUsize::new(0)), watch::Sender::new(mode));
        let (counter, modes) = (Arc::clone(&hits), mode.subscribe());
        let app = axum::Router::new().fallback(move |request: Request<axum::body::Body>| {
            counter.fetch_add(1, Ordering::SeqCst);
            answer(request.uri().path().to_string(), modes.clone())
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        DescribedService { url: format!("{base}/openapi.json"), hits, mode }
    }

    /// The number of requests so far.
    pub fn hits(&self) -> usize {
        self.hits.load(Ordering::SeqCst)
    }

    pub fn set_mode(&self, mode: ServiceMode) {
        self.mode.send_replace(mode);
    }
}

async fn answer(path: String, mut modes: watch::Receiver<ServiceMode>) -> Response {
    let _ = modes.wait_for(|mode| *mode != ServiceMode::Silent).await;
    if *modes.borrow() == ServiceMode::Failing {
        return (StatusCode::INTERNAL_SERVER_ERROR, "out of order").into_response();
    }
    let body = match path.as_str() {
        "/openapi.json" => description().to_string(),
        "/things" => json!([{"p0": "a"}, {"p0": "b"}]).to_string(),
        _ => return (StatusCode::NOT_FOUND, "{}").into_response(),
    };
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// A description with 300 properties, so that its catalog needs new pages in the registry.
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
