//! An HTTP service with an OpenAPI description that accepts the bearer tokens that a test chooses.

use axum::http::{Request, StatusCode, header};
use axum::response::IntoResponse;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// The service, which runs until the runtime of the test ends. Every first segment of a path is a tenant of its own.
#[derive(Clone)]
pub struct BearerService {
    base: String,
    accepted: Arc<Mutex<BTreeSet<String>>>,
}

impl BearerService {
    /// Starts a service that accepts `token`.
    pub async fn start(token: &str) -> BearerService {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("address"));
        let accepted = Arc::new(Mutex::new(BTreeSet::from([token.to_string()])));
        let service = BearerService { base, accepted };
        let shared = service.clone();
        let app = axum::Router::new().fallback(move |request: Request<axum::body::Body>| {
            let response = shared.answer(&request).into_response();
            async move { response }
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        service
    }

    /// The resource id of a tenant.
    pub fn url(&self, tenant: &str) -> String {
        format!("{}/{tenant}/openapi.json", self.base)
    }

    /// Accepts only `tokens` from now on.
    pub fn accept(&self, tokens: &[&str]) {
        *self.accepted.lock().unwrap_or_else(PoisonError::into_inner) = tokens.iter().map(ToString::to_string).collect();
    }

    fn answer(&self, request: &Request<axum::body::Body>) -> axum::response::Response {
        let path = request.uri().path();
        let json = |body: serde_json::Value| ([(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response();
        if path.ends_with("/openapi.json") {
            let tenant = path.trim_end_matches("/openapi.json");
            return json(json!({
                "openapi": "3.0.3",
                "info": {"title": "Things", "version": "1"},
                "servers": [{"url": format!("{}{tenant}", self.base)}],
                "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
                "security": [{"token": []}],
                "paths": {"/things": {"get": {"operationId": "listThings", "responses": {"200": {"description": "all",
                    "content": {"application/json": {"schema": {"type": "array", "items": {"type": "object",
                        "properties": {"id": {"type": "string"}}}}}}}}}}}
            }));
        }
        let sent = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        match sent {
            Some(token) if accepted.contains(token) => json(json!([{"id": "a"}, {"id": "b"}])),
            _ => (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")], "{}").into_response(),
        }
    }
}
