//! `POST /mcp`: streamable HTTP without sessions. Every request carries its token, and every response is one JSON document.

use super::{McpServer, ToolBackend, ToolReply, tools::Tool};
use crate::policy::TokenScope;
use crate::server::app::App;
use crate::server::auth::Caller;
use crate::server::connections::ClientConnection;
use crate::server::dispatch;
use crate::server::problem::ApiProblem;
use crate::server::problem_code::ProblemCode;
use crate::server::request::{ApiRequest, ApiResult};
use axum::body::Body;
use axum::http::{HeaderValue, Request, StatusCode, header};
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt, Full};
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use serde_json::Value;
use std::sync::Arc;

/// The maximum size of a request. Arguments of tools are short.
const MAX_BODY_BYTES: usize = 64 << 10;

/// Calls the handlers of this process.
#[derive(Clone)]
pub struct InProcess {
    pub app: Arc<App>,
    pub client: Arc<ClientConnection>,
    pub caller: Caller,
}

impl ToolBackend for InProcess {
    fn may(&self, scope: TokenScope) -> bool {
        self.caller.require_scope(scope).is_ok()
    }

    fn call(&self, tool: &'static Tool, target: String) -> BoxFuture<'_, ToolReply> {
        Box::pin(async move {
            let Some(route) = tool.route() else {
                return ToolReply { status: 500, body: Value::Null };
            };
            let InProcess { app, client, caller } = self.clone();
            let response = dispatch::call(app, client, caller, route, target).await;
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            ToolReply { status, body: serde_json::from_slice(&body).unwrap_or_default() }
        })
    }
}

/// `POST /mcp`
///
/// # Errors
/// 404 if the policy does not open the endpoint; 400 if the body is not a message of JSON-RPC; 413, 415.
pub async fn endpoint(mut request: ApiRequest) -> ApiResult {
    if !request.app.handle.policy().api.mcp {
        return Err(ApiProblem::not_found(
            "The Model Context Protocol is not enabled. To enable it, set mcp: true under api in the policy.",
        ));
    }
    let body = request.json(MAX_BODY_BYTES, false).await?.unwrap_or_default();
    if let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(&body) {
        let detail = format!("The body could not be parsed as JSON: {error}.");
        return Err(ApiProblem::new(StatusCode::BAD_REQUEST, ProblemCode::NotJson, "The body is not valid JSON", detail));
    }
    let backend =
        InProcess { app: Arc::clone(&request.app), client: Arc::clone(&request.client), caller: request.caller()?.clone() };
    // Host and Origin were checked for all routes, by the hosts of the policy.
    let config = StreamableHttpServerConfig::default()
        .disable_allowed_hosts()
        .disable_allowed_origins()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        .with_sse_keep_alive(None)
        .with_max_request_body_bytes(MAX_BODY_BYTES);
    let service =
        StreamableHttpService::new(move || Ok(McpServer(backend.clone())), Arc::new(NeverSessionManager::default()), config);
    let mut inner = Request::new(Full::new(body));
    *inner.method_mut() = request.method.clone();
    *inner.headers_mut() = request.headers.clone();
    // The handlers of the tools get the caller, and nothing else may see the token.
    inner.headers_mut().remove(header::AUTHORIZATION);
    // The type was checked, and the response is always one JSON document, whatever else the client accepts.
    inner.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    inner.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
    let (parts, body) = service.handle(inner).await.into_parts();
    if parts.status.is_client_error() && !parts.headers.contains_key(header::CONTENT_TYPE) {
        let text = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        return Err(refused(&String::from_utf8_lossy(&text)));
    }
    Ok(axum::response::Response::from_parts(parts, Body::new(body)))
}

/// The problem for a message that the protocol does not allow. `reason` is what the library says about it.
fn refused(reason: &str) -> ApiProblem {
    let detail = format!("The request is not a message of the Model Context Protocol: {}.", reason.trim().trim_end_matches('.'));
    ApiProblem::new(StatusCode::BAD_REQUEST, ProblemCode::BadRequest, "The message is not valid", detail)
}
