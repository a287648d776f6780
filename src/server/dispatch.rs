//! From a request to its handler: the router, the checks of the route table, and the headers of every response.

use super::app::App;
use super::auth::{self, RequestSource};
use super::connections::ClientConnection;
use super::cors::{self, CrossOrigin};
use super::prefer::WaitPreference;
use super::problem::ApiProblem;
use super::problem_code::ProblemCode;
use super::query::QueryParams;
use super::rate::{self, RateStatus};
use super::representation::{self, Negotiation};
use super::request::{ApiRequest, ApiResult};
use super::routes::{Access, Method, PAGES, ROUTES, Route};
use super::served_hosts::{self, HEALTH_PATHS, ServedHosts};
use super::session::SignedIn;
use super::target::PathPrefix;
use super::visit::{Visit, accepts_pages, answer_unrouted};
use super::{consent, idempotency, ui};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, on};
use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::OwnedSemaphorePermit;

/// Builds the router from the table.
pub fn router(app: &Arc<App>) -> Router {
    let mut router = Router::new();
    for route in ROUTES.iter().chain(&PAGES) {
        let filter = match route.method {
            Method::Get => MethodFilter::GET,
            Method::Post => MethodFilter::POST,
            Method::Delete => MethodFilter::DELETE,
        };
        let handler = move |State(app): State<Arc<App>>, request: Request| dispatch(app, route, request);
        router = router.route(route.path, on(filter, handler));
    }
    router
        .fallback(async |request: Request| {
            if accepts_pages(request.headers()) {
                return ui::missing_page(request.uri().path(), &requested_path(&request));
            }
            let problem = ApiProblem::not_found("No such endpoint; GET /openapi.json lists all endpoints.");
            problem.at(&requested_path(&request)).into_response()
        })
        .method_not_allowed_fallback(async |request: Request| {
            let detail = "This endpoint does not support the method; the Allow header lists those it supports.";
            let problem =
                ApiProblem::new(StatusCode::METHOD_NOT_ALLOWED, ProblemCode::MethodNotAllowed, "Method not allowed", detail);
            answer_unrouted(&request, problem)
        })
        .layer(middleware::from_fn_with_state(Arc::clone(app), check_source))
        .layer(middleware::from_fn_with_state(Arc::clone(app), finish_response))
        .with_state(Arc::clone(app))
}

/// The path as the client wrote it, except for slashes at the end.
pub(super) fn requested_path(request: &Request) -> String {
    let prefix = request.extensions().get::<PathPrefix>().copied().unwrap_or_default();
    prefix.join(request.uri().path())
}

/// Checks a request against its row of the table and runs the handler with a timeout and a guard against panics.
async fn dispatch(app: Arc<App>, route: &'static Route, request: Request) -> Response {
    let path = requested_path(&request);
    let negotiation = Negotiation::new(request.method(), request.headers());
    let visit = Visit::new(route, &request);
    let Admitted { request, rate, permit } = match admit(Arc::clone(&app), route, request) {
        Ok(admitted) => admitted,
        Err(problem) => return visit.refused(route, problem.at(&path)),
    };
    let reserved = request.client.reserved;
    let warning = request.query.warning(route.query).filter(|_| !route.is_page());
    let result = run(request).await;
    drop(permit);
    let response = result.unwrap_or_else(|problem| visit.refused(route, problem.at(&path)));
    let mut response = representation::represent(&app, &negotiation, response).await;
    response.headers_mut().extend(rate.iter().flat_map(RateStatus::headers));
    if let Some(warning) = warning {
        append_warning(&mut response, &warning);
    }
    if reserved {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Runs the handler of a route with a timeout and a guard against panics.
async fn run(request: ApiRequest) -> ApiResult {
    let limit = request.app.limits.request + request.wait.limit;
    let result = AssertUnwindSafe(handle(request)).catch_unwind();
    match tokio::time::timeout(limit, result).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(ApiProblem::defect("The request failed with an internal error; see the log of aam serve.")),
        Err(_) => Err(ApiProblem::unavailable(
            ProblemCode::Timeout,
            "Timeout",
            "The response took too long. Intents that were accepted stay accepted; repeat the request.",
        )),
    }
}

/// Calls a route for a caller that was authenticated before, as a request without a body would. `target` is the path and
/// the query. The tools of assistants use it.
pub async fn call(
    app: Arc<App>,
    client: Arc<ClientConnection>,
    caller: auth::Caller,
    route: &'static Route,
    target: String,
) -> Response {
    let (path, raw_query) = target.split_once('?').map_or((target.as_str(), None), |(path, query)| (path, Some(query)));
    let path = path.to_string();
    let query = match route.access {
        Access::Scope(scope) => caller.require_scope(scope).and_then(|()| QueryParams::read(raw_query, route.query)),
        _ => QueryParams::read(raw_query, route.query),
    };
    let query = match query {
        Ok(query) => query,
        Err(problem) => return refused(route, problem.at(&path)),
    };
    let headers = HeaderMap::new();
    let wait = match route.waits {
        true => WaitPreference::from_headers(&headers),
        false => WaitPreference { limit: Duration::ZERO, applied: None },
    };
    let method = match route.method {
        Method::Get => axum::http::Method::GET,
        Method::Post => axum::http::Method::POST,
        Method::Delete => axum::http::Method::DELETE,
    };
    let request = ApiRequest {
        app,
        client,
        caller: Some(caller),
        session: None,
        method,
        route,
        arrived: Instant::now(),
        cache_key: format!("{path}?{}", query.canonical()),
        raw_query: raw_query.map(str::to_string),
        path: path.clone(),
        prefix: PathPrefix::default(),
        query,
        headers,
        body: std::sync::Mutex::default(),
        received: None,
        wait,
    };
    run(request).await.unwrap_or_else(|problem| refused(route, problem.at(&path)))
}

/// Runs the handler of the request, once for each idempotency key.
async fn handle(request: ApiRequest) -> super::request::ApiResult {
    match idempotency::key(&request)? {
        Some(key) => idempotency::handle(request, key).await,
        None => (request.route.handler)(request).await,
    }
}

/// Adds a `Warning` header with the code for any warning that does not depend on a cache (RFC 7234, section 5.5.7).
pub fn append_warning(response: &mut Response, text: &str) {
    let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
    if let Ok(value) = HeaderValue::from_str(&format!("299 aam \"{quoted}\"")) {
        response.headers_mut().append(header::WARNING, value);
    }
}

/// Returns the response for a problem: a page where people read the answers, and a problem document elsewhere.
pub(super) fn refused(route: &Route, problem: ApiProblem) -> Response {
    match route.access {
        Access::Link => consent::problem_page(&problem),
        _ => problem.into_response(),
    }
}

/// A request that may be handled.
struct Admitted {
    request: ApiRequest,
    /// The rate limit of the token, if the route requires one.
    rate: Option<RateStatus>,
    /// The right to be served on a reserved place.
    permit: Option<OwnedSemaphorePermit>,
}

/// Whether the endpoint is served on reserved places without a token.
fn is_reserved(path: &str) -> bool {
    HEALTH_PATHS.contains(&path) || path == "/version"
}

fn admit(app: Arc<App>, route: &'static Route, request: Request) -> Result<Admitted, ApiProblem> {
    let arrived = Instant::now();
    let (mut parts, body) = request.into_parts();
    let client = parts.extensions.remove::<Arc<ClientConnection>>();
    let client = client.ok_or_else(|| ApiProblem::defect("The request does not belong to a connection."))?;
    let mut session = None;
    let (caller, rate) = match route.access {
        Access::Open => (None, None),
        Access::Link | Access::SignIn => {
            let status = app.links.take(rate::address_key(client.peer), rate::LINK_REQUESTS, Instant::now());
            if !status.is_allowed() {
                return Err(status.problem("One address", "requests for links", "Nothing was done."));
            }
            (None, None)
        }
        Access::Scope(scope) => {
            let cross_origin = parts.extensions.get::<CrossOrigin>().is_some();
            let source = RequestSource { browser: false, cross_origin };
            let (caller, rate) = authenticate(&app, &client, &parts.headers, source)?;
            caller.require_scope(scope)?;
            (Some(caller), Some(rate))
        }
        Access::Page(scope) => {
            let (signed_in, status) = identify(&app, &client, &parts.headers, parts.extensions.get::<CrossOrigin>().is_some())?;
            signed_in.caller.require_scope(scope)?;
            let caller = signed_in.caller.clone();
            session = Some(signed_in);
            (Some(caller), Some(status))
        }
    };
    let permit = match client.reserved && !is_reserved(route.path) {
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
    let query = match route.access {
        // The handler reads the parameters, because the vendor or the issuer may add others.
        Access::Link | Access::SignIn => QueryParams::default(),
        _ => QueryParams::read(parts.uri.query(), route.query)?,
    };
    let request = ApiRequest {
        client,
        method: parts.method,
        route,
        arrived,
        path: parts.uri.path().to_string(),
        prefix: parts.extensions.get::<PathPrefix>().copied().unwrap_or_default(),
        cache_key: format!("{}?{}", parts.uri.path(), query.canonical()),
        raw_query: parts.uri.query().map(str::to_string),
        query,
        app,
        caller,
        session,
        headers: parts.headers,
        body: std::sync::Mutex::new(body),
        received: None,
        wait,
    };
    Ok(Admitted { request, rate, permit })
}

/// Finds out who reads a page: by the session, or by the token that a script sends.
fn identify(
    app: &App,
    client: &ClientConnection,
    headers: &HeaderMap,
    cross_origin: bool,
) -> Result<(SignedIn, RateStatus), ApiProblem> {
    let policy = app.handle.policy();
    if !cross_origin
        && !auth::has_credential(&policy, headers)
        && let Some(signed_in) = app.sessions.find(headers, &policy, app.handle.clock.now())
    {
        client.set_authenticated();
        let status = app.rate.take(signed_in.caller.rate_key(), policy.api.rate, Instant::now());
        return match status.is_allowed() {
            true => Ok((signed_in, status)),
            false => Err(status.problem("This person", "requests", "The policy sets this limit under api.rate.")),
        };
    }
    // A browser that was given the token in the address, or by its user, sends it with each request.
    let source = RequestSource { browser: true, cross_origin };
    let (caller, status) = authenticate(app, client, headers, source)?;
    let csrf = app.sessions.csrf_of(&caller);
    Ok((SignedIn { caller, csrf, by_session: false }, status))
}

/// Authenticates the caller within the rate limits of its address and its token.
fn authenticate(
    app: &App,
    client: &ClientConnection,
    headers: &HeaderMap,
    source: RequestSource,
) -> Result<(auth::Caller, RateStatus), ApiProblem> {
    let (policy, now) = (app.handle.policy(), Instant::now());
    let caller = auth::caller(&policy, app.admin(&policy), headers, source, app.handle.clock.now()).map_err(|problem| {
        if !auth::has_credential(&policy, headers) {
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

/// Refuses requests that do not name a host of AAM, or that come from a page of another site that the policy does not
/// allow. Answers the preflight requests of allowed pages.
async fn check_source(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let Some(client) = request.extensions().get::<Arc<ClientConnection>>() else {
        return ApiProblem::defect("The request does not belong to a connection.").into_response();
    };
    let policy = app.handle.policy();
    let api = &policy.api;
    let cross_origin = CrossOrigin::from_request(request.uri().path(), request.headers(), &api.cors_origins);
    let served = ServedHosts { local: client.local, bound: app.bound, policy: &api.hosts };
    let (method, headers) = (request.method(), request.headers());
    let checked = served_hosts::check(method, request.version(), request.uri(), headers, served, cross_origin.is_some());
    let mut response = match (checked, &cross_origin) {
        (Err(problem), _) => answer_unrouted(&request, problem),
        (Ok(()), Some(_)) if cors::is_preflight(request.method(), request.headers()) => cors::preflight(api.api_key_header),
        (Ok(()), _) => {
            if let Some(origin) = &cross_origin {
                request.extensions_mut().insert(origin.clone());
            }
            next.run(request).await
        }
    };
    if let Some(origin) = &cross_origin {
        origin.add_to(response.headers_mut());
    }
    if !api.cors_origins.is_empty() {
        response.headers_mut().append(header::VARY, HeaderValue::from_static("Origin"));
    }
    response
}

/// The headers of every response.
pub const SECURITY: [(HeaderName, &str); 5] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
];

/// The path for the log. The id of a consent link is left out, because it is all that is needed to use the link.
fn logged_path(path: &str) -> &str {
    match path.strip_prefix("/consent/") {
        Some(rest) if rest != "callback" => "/consent/{id}",
        _ => path,
    }
}

/// Adds the security headers to the response and logs the request without its query, which may contain a token.
async fn finish_response(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let (method, path) = (request.method().clone(), logged_path(request.uri().path()).to_string());
    let mut response = next.run(request).await;
    let policy = app.handle.policy();
    // Only the dashboard may be part of another page.
    let framed = path == "/" && !policy.api.frame_ancestors.is_empty();
    let headers = response.headers_mut();
    for (name, value) in SECURITY {
        if !(framed && name == header::X_FRAME_OPTIONS) {
            headers.entry(name).or_insert(HeaderValue::from_static(value));
        }
    }
    if framed {
        ui::allow_frames(headers, &policy.api.frame_ancestors);
    }
    let (status, ms) = (response.status().as_u16(), started.elapsed().as_millis());
    if method.is_safe() && status < 500 {
        tracing::debug!(target: "aam::http", %method, path, status, ms, "answered");
    } else {
        tracing::info!(target: "aam::http", %method, path, status, ms, "answered");
    }
    response
}
