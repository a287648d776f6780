//! The pages of consent links: an owner or administrator reads what AAM asks for, goes to the vendor with one button, and
//! comes back to the callback. None of them needs a token, because the reader has none: the id of a link is signed, and
//! the callback proves the account at the source before anything is stored.
//!
//! The pages work without JavaScript.

use super::app::App;
use super::consent_page::{self, Progress, Request, Trouble};
use super::dashboard::HTML;
use super::problem::ApiProblem;
use super::read::connection_result;
use super::request::{ApiRequest, ApiResult, insert_header, response};
use crate::model::{Class, ConnectionId, Failure, Origin, Timestamp};
use crate::pipeline::{self, Job};
use crate::providers::consent::{
    CallbackQuery, ConsentCode, ConsentContext, ConsentGiven, ConsentProblem, ConsentView, LinkCode, LinkProblem, LinkState,
    Proof, Prove, ProvedAccount,
};
use crate::reconcile::attempt;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::Response;
use std::sync::Arc;

/// `GET /consent/{id}`
///
/// # Errors
/// Returns 503 if the registry cannot be read. Everything else is a page.
pub async fn page(request: ApiRequest) -> ApiResult {
    let app = &request.app;
    let view = match app.env.providers.consents().view(&context(app), link_id(&request)).await {
        Ok(view) => view,
        Err(problem) => return Ok(link_problem(&problem)),
    };
    match view.state {
        LinkState::Open | LinkState::InProgress => open(app, &view).await,
        LinkState::Given => given(app, &view).await,
        LinkState::Expired | LinkState::Replaced => Ok(html(StatusCode::GONE, consent_page::closed(&view), None)),
    }
}

/// `POST /consent/{id}`: the button. A link that does not work any more leads back to its page, which says why.
///
/// # Errors
/// Returns 503 if the registry cannot be read.
pub async fn begin(request: ApiRequest) -> ApiResult {
    let (app, id) = (&request.app, link_id(&request));
    let consents = app.env.providers.consents();
    let view = match consents.view(&context(app), id).await {
        Ok(view) => view,
        Err(problem) => return Ok(link_problem(&problem)),
    };
    if let Err(failure) = prepare(app, view.connection).await? {
        return Ok(not_possible(failure));
    }
    match consents.begin(&context(app), id).await {
        Ok(url) => Ok(see_other(url.as_str())),
        Err(problem) if problem.code == LinkCode::Gone => Ok(see_other(&format!("/consent/{}", view.link_id))),
        Err(problem) => Ok(link_problem(&problem)),
    }
}

/// `GET /consent/callback`
///
/// # Errors
/// Returns 500 for a defect. Everything else is a page.
pub async fn callback(request: ApiRequest) -> ApiResult {
    if request.method == Method::HEAD {
        // A program that looks at the address first must not use up the code.
        return Ok(html(StatusCode::OK, String::new(), None));
    }
    let query = request.target.split_once('?').map_or("", |(_, query)| query);
    let query = CallbackQuery::parse(query);
    let app = Arc::clone(&request.app);
    // A task of its own: if the reader closes the page now, the code is spent all the same, so the grant must be stored.
    let completed = tokio::spawn(async move {
        let given = app.env.providers.consents().complete(&context(&app), &query, prover(&app)).await;
        if let Ok(ConsentGiven { connection, .. }) = &given {
            app.handle.heal([*connection]);
        }
        given
    });
    let completed = completed.await.map_err(|_| ApiProblem::defect("The request failed with an internal error."))?;
    match completed {
        // The address of the callback holds the code, so the reader does not stay there.
        Ok(given) => Ok(see_other(&format!("/consent/{}", given.link_id))),
        Err(problem) => Ok(consent_problem(&problem)),
    }
}

/// Renders the problem of a request that no handler answered.
#[must_use]
pub fn problem_page(problem: &ApiProblem) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let trouble =
        Trouble { heading: &problem.title, title: &problem.detail, fix: "", detail: "", nothing_stored: false, link_id: None };
    let mut response = html(status, consent_page::trouble(&trouble), None);
    let headers: HeaderMap = problem.headers.iter().cloned().collect();
    response.headers_mut().extend(headers);
    response
}

fn link_id(request: &ApiRequest) -> &str {
    request.path.split('/').nth(2).unwrap_or_default()
}

/// The providers with the policy in force.
fn context(app: &App) -> ConsentContext<'_> {
    let loaded = app.handle.loaded();
    ConsentContext { providers: &app.env.providers, policy: loaded.policy, sources: loaded.sources }
}

/// Renders the page with the button, or why no button would help.
async fn open(app: &Arc<App>, view: &ConsentView) -> ApiResult {
    let job = match prepare(app, view.connection).await? {
        Ok(job) => job,
        Err(failure) => return Ok(not_possible(failure)),
    };
    let requested_by: Vec<String> = job.origins.iter().map(requester).collect();
    let max_items = job.policy.safe_mode.max_items;
    let text = consent_page::request(&Request { view, requested_by: &requested_by, max_items });
    let mut response = html(StatusCode::OK, text, Some(&view.vendor_host));
    // With `no-referrer`, browsers would send `Origin: null` with the form (Fetch standard, "append a request Origin
    // header"), which is refused. Other sites get no referrer with this value either.
    insert_header(&mut response, header::REFERRER_POLICY, "same-origin");
    Ok(response)
}

/// Says who asked for the connection, to a person who does not know AAM.
fn requester(origin: &Origin) -> String {
    match origin.token() {
        Some(name) => format!("a program with the API token {name}"),
        None if origin.is_handoff() => format!("a discovery tool ({origin})"),
        None => match origin.folder_path() {
            Some(path) => format!("the people who run AAM (file {path})"),
            None => origin.0.to_string(),
        },
    }
}

/// Reads the job of the connection and checks that a consent could be proven.
async fn prepare(app: &Arc<App>, connection: ConnectionId) -> Result<Result<Job, Failure>, ApiProblem> {
    let read = app.blocking(move |app| Ok(attempt::job(&app.handle, connection)?)).await?;
    let Some(job) = read else { return Ok(Err(retired())) };
    Ok(pipeline::provable(&app.env, &job).map(|_| job))
}

fn retired() -> Failure {
    Failure::new(
        Class::NotEligible,
        "no intent asks for this connection any more",
        "restore its intent in the intents folder, or push it again",
    )
}

/// Proves the account with the pipeline.
fn prover<'a>(app: &Arc<App>) -> Prove<'a> {
    let app = Arc::clone(app);
    Box::new(move |proof: Proof| {
        Box::pin(async move {
            let job = match prepare(&app, proof.connection).await {
                Ok(job) => job?,
                Err(problem) => return Err(Failure::new(Class::Interrupted, problem.detail.clone(), "try the link again later")),
            };
            let evidence = pipeline::prove(&app.env, &job, proof.credential).await?;
            Ok(ProvedAccount { evidence })
        })
    })
}

/// Renders how the connection becomes ACTIVE after the consent.
async fn given(app: &Arc<App>, view: &ConsentView) -> ApiResult {
    let (id, since) = (view.connection, view.given_at.unwrap_or(Timestamp(0)));
    let checking = !app.handle.is_settled(id, since);
    let result = app.blocking(move |app| connection_result(app, id)).await?;
    let progress = Progress {
        state: &result.status,
        checking,
        checked_at: Some(&result.updated_at),
        error: result.error.as_ref().map(|error| (error.title.as_str(), error.fix.as_str())),
    };
    Ok(html(StatusCode::OK, consent_page::progress(view, &progress), None))
}

/// Renders why no button would help. If the intent was taken back, the link does not work until it is there again.
fn not_possible(failure: Failure) -> Response {
    match failure.class {
        Class::NotEligible => link_problem(&LinkProblem::new(LinkCode::Gone, failure.title, failure.fix)),
        _ => html(StatusCode::SERVICE_UNAVAILABLE, consent_page::not_possible(&failure), None),
    }
}

fn link_problem(problem: &LinkProblem) -> Response {
    let (status, heading) = match problem.code {
        LinkCode::NotFound => (StatusCode::NOT_FOUND, "This link is not valid"),
        LinkCode::Gone => (StatusCode::GONE, "This link does not work any more"),
        LinkCode::NotConfigured => (StatusCode::SERVICE_UNAVAILABLE, "AAM is not set up for this yet"),
        LinkCode::Store => (StatusCode::SERVICE_UNAVAILABLE, "AAM cannot store a permission at the moment"),
    };
    let fix = format!("For the people who run AAM: {}", problem.fix);
    let trouble = Trouble { heading, title: &problem.title, fix: &fix, detail: "", nothing_stored: false, link_id: None };
    html(status, consent_page::trouble(&trouble), None)
}

fn consent_problem(problem: &ConsentProblem) -> Response {
    let (status, heading) = match problem.code {
        ConsentCode::BadRequest => (StatusCode::BAD_REQUEST, "This answer cannot be read"),
        ConsentCode::UnknownState => (StatusCode::BAD_REQUEST, "This answer does not belong to a request of AAM"),
        ConsentCode::WrongIssuer => (StatusCode::BAD_REQUEST, "This answer comes from another system"),
        ConsentCode::Denied => (StatusCode::FORBIDDEN, "The permission was not given"),
        ConsentCode::Vendor => (StatusCode::BAD_GATEWAY, "The other system did not answer as it should"),
        ConsentCode::Refused => (StatusCode::BAD_GATEWAY, "The other system did not accept AAM's request"),
        ConsentCode::TooFewScopes => (StatusCode::FORBIDDEN, "The permission is not enough"),
        ConsentCode::WrongAccount => (StatusCode::FORBIDDEN, "This is another account"),
        ConsentCode::NotProven => (StatusCode::BAD_GATEWAY, "AAM could not check the account"),
        ConsentCode::Gone => (StatusCode::GONE, "This link does not work any more"),
        ConsentCode::Store => (StatusCode::SERVICE_UNAVAILABLE, "AAM could not store the permission"),
    };
    let fix = match problem.code {
        ConsentCode::WrongAccount => format!(
            "{}; if the other system does not ask who you are, sign out there first, or open the link in a private window",
            problem.fix
        ),
        _ => problem.fix.clone(),
    };
    let trouble = Trouble {
        heading,
        title: &problem.title,
        fix: &fix,
        detail: &problem.detail,
        nothing_stored: true,
        link_id: problem.link_id.as_deref(),
    };
    html(status, consent_page::trouble(&trouble), None)
}

fn see_other(target: &str) -> Response {
    let mut response = html(StatusCode::SEE_OTHER, String::new(), None);
    insert_header(&mut response, header::LOCATION, target.to_string());
    response
}

fn html(status: StatusCode, text: String, vendor_host: Option<&str>) -> Response {
    let mut response = response(status, HTML, text.into());
    insert_header(&mut response, header::CONTENT_SECURITY_POLICY, consent_page::content_security_policy(vendor_host));
    response
}
