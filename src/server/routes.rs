//! The route table, from which the router, the token and query checks and the OpenAPI document are built.

use super::app::App;
use super::connections::ClientConnection;
use super::prefer::WaitPreference;
use super::problem::ApiProblem;
use super::rate::{self, RateStatus};
use super::request::{ApiRequest, ApiResult, QueryParams};
use super::served_hosts::{self, HEALTH_PATHS, ServedHosts};
use super::{auth, dashboard, heal, history, meta, onboard, read};
use crate::policy::TokenScope;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, on};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::OwnedSemaphorePermit;

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody; no token is needed.
    Open,
    /// Callers whose token has this scope.
    Scope(TokenScope),
}

/// The HTTP method of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET. The same routes also answer HEAD.
    Get,
    Post,
}

/// A query parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueryParam {
    pub name: &'static str,
    /// The JSON Schema type: `string` or `integer`.
    pub json_type: &'static str,
    pub description: &'static str,
}

/// One row of the table.
pub struct Route {
    pub method: Method,
    pub path: &'static str,
    pub access: Access,
    pub summary: &'static str,
    pub query: &'static [QueryParam],
    /// True if the route supports `Prefer: wait=N` and `respond-async`.
    pub waits: bool,
    /// The schema of the request body, and true if the body is optional.
    pub body: Option<(&'static str, bool)>,
    /// The status, media type and schema of each success response.
    pub answers: &'static [(u16, &'static str, &'static str)],
    /// The statuses of error responses, except 400, 401 and 403, which follow from the other fields.
    pub problems: &'static [u16],
    pub handler: fn(ApiRequest) -> BoxFuture<'static, ApiResult>,
}

const fn param(name: &'static str, json_type: &'static str, description: &'static str) -> QueryParam {
    QueryParam { name, json_type, description }
}

const NAMESPACE: QueryParam = param("namespace", "string", "default: the policy's namespace");
const LIMIT: QueryParam = param("limit", "integer", "1 to 1000; default: 100");
const STREAM_LIMIT: QueryParam = param("limit", "integer", "the number of streams; default: as many as fit into 4 MiB");
const CURSOR: QueryParam = param("cursor", "string", "next_cursor of the previous page");
const AT: QueryParam = param("at", "string", "RFC 3339 timestamp: the funnel as of that instant; default: now");
const STATE: QueryParam = param("state", "string", "only connections in this state");
const SOURCE_TYPE: QueryParam = param("source_type", "string", "only connections of this type");
const VERSION: QueryParam = param("version", "integer", "a catalog_version; default: the latest");

const READ: Access = Access::Scope(TokenScope::RegistryRead);
const WRITE: Access = Access::Scope(TokenScope::IntentsWrite);
const HEAL: Access = Access::Scope(TokenScope::OpsHeal);
const JSON: &str = "application/json";
const RESULT: &str = "ConnectionResult";

/// Returns a GET route without query parameters.
const fn get(
    path: &'static str,
    access: Access,
    summary: &'static str,
    answers: &'static [(u16, &'static str, &'static str)],
    handler: fn(ApiRequest) -> BoxFuture<'static, ApiResult>,
) -> Route {
    Route { method: Method::Get, path, access, summary, query: &[], waits: false, body: None, answers, problems: &[503], handler }
}

/// Returns a POST route that may wait for the pipeline.
const fn post(
    path: &'static str,
    access: Access,
    summary: &'static str,
    body: Option<(&'static str, bool)>,
    answers: &'static [(u16, &'static str, &'static str)],
    handler: fn(ApiRequest) -> BoxFuture<'static, ApiResult>,
) -> Route {
    Route {
        method: Method::Post,
        path,
        access,
        summary,
        query: &[],
        waits: true,
        body,
        answers,
        problems: &[400, 408, 413, 415, 422, 503],
        handler,
    }
}

/// All routes.
pub static ROUTES: [Route; 18] = [
    Route {
        problems: &[400, 408, 409, 413, 415, 422, 503],
        ..post(
            "/connections/onboard",
            WRITE,
            "Push one intent",
            Some(("connection_intent", false)),
            &[(201, JSON, RESULT), (200, JSON, RESULT), (202, JSON, RESULT)],
            |request| Box::pin(onboard::onboard(request)),
        )
    },
    post(
        "/connections/onboard/batch",
        WRITE,
        "Push many intents; an invalid one does not affect the others",
        Some(("IntentBatch", false)),
        &[(200, JSON, "BatchAnswer")],
        |request| Box::pin(onboard::batch(request)),
    ),
    Route {
        query: &[NAMESPACE, STATE, SOURCE_TYPE, LIMIT, CURSOR],
        problems: &[400, 503],
        ..get(
            "/connections",
            READ,
            "List the connections of a namespace, in pages",
            &[(200, JSON, "ConnectionPage")],
            |request| Box::pin(read::list(request)),
        )
    },
    Route {
        problems: &[400, 408, 413, 415, 422, 503],
        ..post(
            "/connections/heal",
            HEAL,
            "Check connections now; only a check that passes makes one ACTIVE",
            Some(("HealRequest", true)),
            &[(200, JSON, "HealAnswer"), (202, JSON, "HealAnswer")],
            |request| Box::pin(heal::heal_many(request)),
        )
    },
    Route {
        problems: &[404, 409, 503],
        ..post(
            "/connections/{id}/heal",
            HEAL,
            "Check one connection now; only a check that passes makes it ACTIVE",
            None,
            &[(200, JSON, RESULT), (202, JSON, RESULT)],
            |request| Box::pin(heal::heal_one(request)),
        )
    },
    Route {
        problems: &[404, 503],
        ..get(
            "/connections/{id}",
            READ,
            "Get one connection with the steps of its latest attempt",
            &[(200, JSON, RESULT)],
            |request| Box::pin(read::connection(request)),
        )
    },
    Route {
        problems: &[404, 503],
        ..get(
            "/connections/{id}/health",
            READ,
            "Get the health of a connection and the counters of its last tiny sync",
            &[(200, JSON, "HealthAnswer")],
            |request| Box::pin(read::health(request)),
        )
    },
    Route {
        query: &[LIMIT, CURSOR],
        problems: &[400, 404, 503],
        ..get(
            "/connections/{id}/versions",
            READ,
            "Get the append-only history of a connection, newest first",
            &[(200, JSON, "VersionPage")],
            |request| Box::pin(history::versions(request)),
        )
    },
    Route {
        query: &[VERSION, STREAM_LIMIT, CURSOR],
        problems: &[400, 404, 503],
        ..get(
            "/connections/{id}/catalog",
            READ,
            "Get the catalog of a connection, in any version, in pages",
            &[(200, JSON, "CatalogAnswer")],
            |request| Box::pin(history::catalog(request)),
        )
    },
    Route {
        query: &[NAMESPACE, AT],
        problems: &[400, 503],
        ..get("/metrics/funnel", READ, "Get funnel and SLO, now or as of an instant", &[(200, JSON, "Funnel")], |request| {
            Box::pin(read::metrics_funnel(request))
        })
    },
    get("/metrics", READ, "Get metrics in the OpenMetrics format for Prometheus", &[(200, meta::METRICS, "")], |request| {
        Box::pin(meta::prometheus(request))
    }),
    Route {
        query: &[NAMESPACE],
        problems: &[400, 503],
        ..get(
            "/",
            READ,
            "Get the dashboard; in a browser, enter the token as the password",
            &[(200, dashboard::HTML, "")],
            |request| Box::pin(dashboard::html(request)),
        )
    },
    Route {
        query: &[NAMESPACE],
        problems: &[400, 503],
        ..get("/dashboard.json", READ, "Get the data of the dashboard", &[(200, JSON, "Dashboard")], |request| {
            Box::pin(dashboard::data(request))
        })
    },
    get("/healthz", Access::Open, "Liveness: the process runs", &[(200, JSON, "StatusAnswer")], |request| {
        Box::pin(meta::healthz(request))
    }),
    get(
        "/readyz",
        Access::Open,
        "Readiness: the intents folder was read and the registry can write",
        &[(200, JSON, "StatusAnswer")],
        |request| Box::pin(meta::readyz(request)),
    ),
    get("/version", Access::Open, "Get version, process id and registry of this AAM", &[(200, JSON, "ServerInfo")], |request| {
        Box::pin(meta::version(request))
    }),
    get("/openapi.json", Access::Open, "Get this document", &[(200, JSON, "")], |request| Box::pin(meta::document(request))),
    get(
        "/schemas/connection_intent.json",
        Access::Open,
        "Get the JSON Schema that intents are validated against",
        &[(200, "application/schema+json", "")],
        |request| Box::pin(meta::intent_schema(request)),
    ),
];

/// Builds the router from the table.
pub fn router(app: &Arc<App>) -> Router {
    let mut router = Router::new();
    for route in &ROUTES {
        let filter = match route.method {
            Method::Get => MethodFilter::GET,
            Method::Post => MethodFilter::POST,
        };
        let handler = move |State(app): State<Arc<App>>, request: Request| dispatch(app, route, request);
        router = router.route(route.path, on(filter, handler));
    }
    router
        .fallback(async |request: Request| {
            ApiProblem::not_found("No such endpoint; GET /openapi.json lists all endpoints.").at(request.uri().path())
        })
        .method_not_allowed_fallback(async |request: Request| {
            let detail = "This endpoint does not support the method; the Allow header lists those it supports.";
            ApiProblem::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", "Method not allowed", detail)
                .at(request.uri().path())
        })
        .layer(middleware::from_fn_with_state(Arc::clone(app), check_source))
        .layer(middleware::from_fn(finish_response))
        .with_state(Arc::clone(app))
}

/// Checks a request against its row of the table and runs the handler with a timeout and a guard against panics.
async fn dispatch(app: Arc<App>, route: &'static Route, request: Request) -> Response {
    let path = request.uri().path().to_string();
    let limit = app.limits.request;
    let Admitted { request, rate, permit } = match admit(app, route, request) {
        Ok(admitted) => admitted,
        Err(problem) => return problem.at(&path).into_response(),
    };
    let (limit, reserved) = (limit + request.wait.limit, request.client.reserved);
    let result = AssertUnwindSafe((route.handler)(request)).catch_unwind();
    let result = match tokio::time::timeout(limit, result).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(ApiProblem::defect("The request failed with an internal error; see the log of aam serve.")),
        Err(_) => Err(ApiProblem::unavailable(
            "TIMEOUT",
            "Timeout",
            "The response took too long. Intents that were accepted stay accepted; repeat the request.",
        )),
    };
    drop(permit);
    let mut response = result.unwrap_or_else(|problem| problem.at(&path).into_response());
    response.headers_mut().extend(rate.iter().flat_map(RateStatus::headers));
    if reserved {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// A request that may be handled.
struct Admitted {
    request: ApiRequest,
    /// The rate limit of the token, if the route requires one.
    rate: Option<RateStatus>,
    /// The right to be served on a reserved place.
    permit: Option<OwnedSemaphorePermit>,
}

/// The endpoints that are served on reserved places without a token.
const RESERVED_PATHS: [&str; 3] = [HEALTH_PATHS[0], HEALTH_PATHS[1], "/version"];

fn admit(app: Arc<App>, route: &Route, request: Request) -> Result<Admitted, ApiProblem> {
    let (mut parts, body) = request.into_parts();
    let client = parts.extensions.remove::<Arc<ClientConnection>>();
    let client = client.ok_or_else(|| ApiProblem::defect("The request does not belong to a connection."))?;
    let (caller, rate) = match route.access {
        Access::Open => (None, None),
        Access::Scope(scope) => {
            let (caller, rate) = authenticate(&app, &client, &parts.headers, route.path == "/")?;
            caller.require_scope(scope)?;
            (Some(caller), Some(rate))
        }
    };
    let permit = match client.reserved && !RESERVED_PATHS.contains(&route.path) {
        true => Some(client.operator_permit().filter(|_| caller.is_some()).ok_or_else(|| {
            let busy = ApiProblem::busy("All connections are being served; repeat the request.");
            busy.header(header::CONNECTION, HeaderValue::from_static("close"))
        })?),
        false => None,
    };
    let wait = match route.waits {
        // A reserved place is not kept while attempts run.
        true if !client.reserved => WaitPreference::from_headers(&parts.headers),
        _ => WaitPreference { limit: Duration::ZERO, applied: None },
    };
    let request = ApiRequest {
        client,
        query: QueryParams::read(parts.uri.query(), route.query)?,
        target: parts.uri.path_and_query().map_or_else(String::new, ToString::to_string),
        path: parts.uri.path().to_string(),
        app,
        caller,
        headers: parts.headers,
        body: std::sync::Mutex::new(body),
        wait,
    };
    Ok(Admitted { request, rate, permit })
}

/// Authenticates the caller within the rate limits of its address and its token.
fn authenticate(
    app: &App,
    client: &ClientConnection,
    headers: &HeaderMap,
    browser: bool,
) -> Result<(auth::Caller, RateStatus), ApiProblem> {
    let (policy, now) = (app.handle.policy(), Instant::now());
    let caller = auth::caller(&policy, app.admin(&policy), headers, browser).map_err(|problem| {
        if !headers.contains_key(header::AUTHORIZATION) {
            return problem;
        }
        let failures = app.failed_authentications.take(rate::address_key(client.peer), rate::FAILED_AUTHENTICATIONS, now);
        match failures.is_allowed() {
            true => problem,
            false => failures.problem("One address", "invalid tokens", "A valid token is accepted at any time."),
        }
    })?;
    client.set_authenticated();
    let status = app.rate.take(caller.rate_key(), policy.api.rate, now);
    match status.is_allowed() {
        true => Ok((caller, status)),
        false => {
            Err(status.problem(&format!("Token {}", caller.name()), "requests", "The policy sets this limit under api.rate."))
        }
    }
}

/// Refuses requests that do not name a host of AAM, or that come from a page of another site.
async fn check_source(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let Some(client) = request.extensions().get::<Arc<ClientConnection>>() else {
        return ApiProblem::defect("The request does not belong to a connection.").into_response();
    };
    let policy = app.handle.policy();
    let served = ServedHosts { local: client.local, bound: app.bound, policy: &policy.api.hosts };
    match served_hosts::check(request.method(), request.version(), request.uri(), request.headers(), served) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.at(request.uri().path()).into_response(),
    }
}

/// The headers of every response.
pub const SECURITY: [(HeaderName, &str); 5] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
];

/// Adds the security headers to the response and logs the request without its query, which may contain a token.
async fn finish_response(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let (method, path) = (request.method().clone(), request.uri().path().to_string());
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in SECURITY {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    let (status, ms) = (response.status().as_u16(), started.elapsed().as_millis());
    if method.is_safe() && status < 500 {
        tracing::debug!(target: "aam::http", %method, path, status, ms, "answered");
    } else {
        tracing::info!(target: "aam::http", %method, path, status, ms, "answered");
    }
    response
}
