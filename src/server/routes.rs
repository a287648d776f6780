//! The route table. The router, the token and query checks and the OpenAPI document are made from it.

use super::app::App;
use super::call::{Answer, Call, Query};
use super::prefer::Wait;
use super::problem::Problem;
use super::{auth, dashboard, heal, meta, push, read};
use crate::policy::TokenScope;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, on};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody who reaches the port.
    Open,
    /// Tokens with this scope.
    Scope(TokenScope),
}

/// The methods there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// HEAD works on the same routes.
    Get,
    Post,
}

/// A parameter of the query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Param {
    pub name: &'static str,
    /// `string` or `integer`.
    pub kind: &'static str,
    pub about: &'static str,
}

/// One line of the table.
pub struct Route {
    pub verb: Verb,
    pub path: &'static str,
    pub access: Access,
    pub summary: &'static str,
    pub query: &'static [Param],
    /// `Prefer: wait=N` and `respond-async` are heard.
    pub waits: bool,
    /// Schema of the body and whether it may be left out.
    pub body: Option<(&'static str, bool)>,
    /// Statuses of success, the media type and the schema of their body.
    pub answers: &'static [(u16, &'static str, &'static str)],
    /// Statuses answered as problems, besides 401, 403 and 405 that follow from the rest.
    pub problems: &'static [u16],
    pub handler: fn(Call) -> BoxFuture<'static, Answer>,
}

const fn param(name: &'static str, kind: &'static str, about: &'static str) -> Param {
    Param { name, kind, about }
}

const NAMESPACE: Param = param("namespace", "string", "left out, the policy's namespace");
const LIMIT: Param = param("limit", "integer", "1 to 1000, 100 if left out");
const CURSOR: Param = param("cursor", "string", "next_cursor of the page before");
const AT: Param = param("at", "string", "RFC 3339: folds the registry as of that instant");
const STATE: Param = param("state", "string", "only connections in this state");
const SOURCE_TYPE: Param = param("source_type", "string", "only connections of this type");
const VERSION: Param = param("version", "integer", "a catalog_version; left out, the newest");

const READ: Access = Access::Scope(TokenScope::RegistryRead);
const WRITE: Access = Access::Scope(TokenScope::IntentsWrite);
const HEAL: Access = Access::Scope(TokenScope::OpsHeal);
const JSON: &str = "application/json";
const RESULT: &str = "ConnectionResult";

/// A line that answers JSON of one schema and takes nothing.
const fn get(
    path: &'static str,
    access: Access,
    summary: &'static str,
    answers: &'static [(u16, &'static str, &'static str)],
    handler: fn(Call) -> BoxFuture<'static, Answer>,
) -> Route {
    Route { verb: Verb::Get, path, access, summary, query: &[], waits: false, body: None, answers, problems: &[503], handler }
}

/// A line that waits for the pipeline.
const fn post(
    path: &'static str,
    access: Access,
    summary: &'static str,
    body: Option<(&'static str, bool)>,
    answers: &'static [(u16, &'static str, &'static str)],
    handler: fn(Call) -> BoxFuture<'static, Answer>,
) -> Route {
    Route {
        verb: Verb::Post,
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

/// Every route there is.
pub static ROUTES: [Route; 18] = [
    Route {
        problems: &[400, 408, 409, 413, 415, 422, 503],
        ..post(
            "/connections/onboard",
            WRITE,
            "Push one intent",
            Some(("connection_intent", false)),
            &[(201, JSON, RESULT), (200, JSON, RESULT), (202, JSON, RESULT)],
            |call| Box::pin(push::onboard(call)),
        )
    },
    post(
        "/connections/onboard/batch",
        WRITE,
        "Push many intents; a bad one never fails the others",
        Some(("IntentBatch", false)),
        &[(200, JSON, "BatchAnswer")],
        |call| Box::pin(push::batch(call)),
    ),
    Route {
        query: &[NAMESPACE, STATE, SOURCE_TYPE, LIMIT, CURSOR],
        problems: &[400, 503],
        ..get("/connections", READ, "Connections of a namespace, page by page", &[(200, JSON, "ConnectionPage")], |call| {
            Box::pin(read::list(call))
        })
    },
    Route {
        problems: &[400, 408, 413, 415, 422, 503],
        ..post(
            "/connections/heal",
            HEAL,
            "Re-verify connections now; promotes only on proof",
            Some(("HealRequest", true)),
            &[(200, JSON, "HealAnswer"), (202, JSON, "HealAnswer")],
            |call| Box::pin(heal::heal_many(call)),
        )
    },
    Route {
        problems: &[404, 409, 503],
        ..post(
            "/connections/{id}/heal",
            HEAL,
            "Re-verify one connection now; promotes only on proof",
            None,
            &[(200, JSON, RESULT), (202, JSON, RESULT)],
            |call| Box::pin(heal::heal_one(call)),
        )
    },
    Route {
        problems: &[404, 503],
        ..get("/connections/{id}", READ, "One connection with the steps of its latest attempt", &[(200, JSON, RESULT)], |call| {
            Box::pin(read::connection(call))
        })
    },
    Route {
        problems: &[404, 503],
        ..get(
            "/connections/{id}/health",
            READ,
            "Health, and the counters of the last tiny sync",
            &[(200, JSON, "HealthAnswer")],
            |call| Box::pin(read::health(call)),
        )
    },
    Route {
        query: &[LIMIT, CURSOR],
        problems: &[400, 404, 503],
        ..get(
            "/connections/{id}/versions",
            READ,
            "The append-only history, newest first",
            &[(200, JSON, "VersionPage")],
            |call| Box::pin(read::versions(call)),
        )
    },
    Route {
        query: &[VERSION],
        problems: &[400, 404, 503],
        ..get("/connections/{id}/catalog", READ, "Catalog v1, in any of its versions", &[(200, JSON, "CatalogAnswer")], |call| {
            Box::pin(read::catalog(call))
        })
    },
    Route {
        query: &[NAMESPACE, AT],
        problems: &[400, 503],
        ..get("/metrics/funnel", READ, "Funnel and SLO, now or as of an instant", &[(200, JSON, "Funnel")], |call| {
            Box::pin(read::metrics_funnel(call))
        })
    },
    get("/metrics", READ, "OpenMetrics text for Prometheus", &[(200, meta::METRICS, "")], |call| {
        Box::pin(meta::prometheus(call))
    }),
    Route {
        query: &[NAMESPACE],
        problems: &[400, 503],
        ..get("/", READ, "The dashboard; a browser asks for the token as the password", &[(200, dashboard::HTML, "")], |call| {
            Box::pin(dashboard::html(call))
        })
    },
    Route {
        query: &[NAMESPACE],
        problems: &[400, 503],
        ..get("/dashboard.json", READ, "The data of the dashboard", &[(200, JSON, "Dashboard")], |call| {
            Box::pin(dashboard::data(call))
        })
    },
    get("/healthz", Access::Open, "The process is alive", &[(200, JSON, "StatusAnswer")], |call| Box::pin(meta::healthz(call))),
    get("/readyz", Access::Open, "The folder was read and the registry can write", &[(200, JSON, "StatusAnswer")], |call| {
        Box::pin(meta::readyz(call))
    }),
    get("/version", Access::Open, "Which process answers", &[(200, JSON, "ServerInfo")], |call| Box::pin(meta::version(call))),
    get("/openapi.json", Access::Open, "This document", &[(200, JSON, "")], |call| Box::pin(meta::document(call))),
    get(
        "/schemas/connection_intent.json",
        Access::Open,
        "The JSON Schema that intents are held against",
        &[(200, "application/schema+json", "")],
        |call| Box::pin(meta::intent_schema(call)),
    ),
];

/// The router over all lines of the table.
#[must_use]
pub fn router(app: &Arc<App>) -> Router {
    let mut router = Router::new();
    for route in &ROUTES {
        let filter = match route.verb {
            Verb::Get => MethodFilter::GET,
            Verb::Post => MethodFilter::POST,
        };
        let handler = move |State(app): State<Arc<App>>, request: Request| dispatch(app, route, request);
        router = router.route(route.path, on(filter, handler));
    }
    router
        .fallback(async |request: Request| {
            Problem::not_found("No call of this API has this path; GET /openapi.json lists them.").at(request.uri().path())
        })
        .method_not_allowed_fallback(async |request: Request| {
            let detail = "This path knows other methods; the Allow header names them.";
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", "The method is not allowed here", detail)
                .at(request.uri().path())
        })
        .layer(middleware::from_fn(envelope))
        .with_state(Arc::clone(app))
}

/// Checks one request against its line and runs the handler, with a time limit and a panic guard.
async fn dispatch(app: Arc<App>, route: &'static Route, request: Request) -> Response {
    let path = request.uri().path().to_string();
    let limit = app.limits.request;
    let call = match admit(app, route, request) {
        Ok(call) => call,
        Err(problem) => return problem.at(&path).into_response(),
    };
    let limit = limit + call.wait.limit;
    let answer = AssertUnwindSafe((route.handler)(call)).catch_unwind();
    let answer = match tokio::time::timeout(limit, answer).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err(Problem::defect("The answer could not be made; the log of aam serve says why.")),
        Err(_) => {
            Err(Problem::unavailable("TIMEOUT", "The answer took too long", "What was accepted stays accepted; ask again."))
        }
    };
    answer.unwrap_or_else(|problem| problem.at(&path).into_response())
}

fn admit(app: Arc<App>, route: &Route, request: Request) -> Result<Call, Problem> {
    let (parts, body) = request.into_parts();
    let caller = match route.access {
        Access::Open => None,
        Access::Scope(scope) => {
            let policy = app.handle.policy();
            let caller = auth::caller(&policy, app.admin(&policy), &parts.headers, route.path == "/")?;
            caller.must(scope)?;
            Some(caller)
        }
    };
    let wait = match route.waits {
        true => Wait::of(&parts.headers),
        false => Wait { limit: std::time::Duration::ZERO, applied: None },
    };
    Ok(Call {
        query: Query::read(parts.uri.query(), route.query)?,
        target: parts.uri.path_and_query().map_or_else(String::new, ToString::to_string),
        path: parts.uri.path().to_string(),
        app,
        caller,
        headers: parts.headers,
        body: std::sync::Mutex::new(body),
        wait,
    })
}

const SECURITY: [(HeaderName, &str); 5] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
];

/// Around every answer: the security headers, and one line in the log, which never holds a query value.
async fn envelope(request: Request, next: Next) -> Response {
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
