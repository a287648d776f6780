//! The handlers of the pages for people. Each collects the data of a page, which [`crate::page`] renders.
//!
//! - [`view`]: what every page is made from: the reader, the namespace, the instant, the snapshot; start reading here
//! - one module for each page

pub mod about;
pub mod connection;
pub mod connections;
pub mod families;
pub mod home;
pub mod index;
pub mod ledger;
pub mod live;
pub mod oidc;
pub mod policy;
pub mod problems;
pub mod select;
pub mod sign_in;
pub mod view;

pub use view::{Page, View, respond};

use super::dashboard::HTML;
use super::problem::ApiProblem;
use super::problem_code::ProblemCode;
use super::request::{insert_header, response};
use crate::model::problem::nearest;
use crate::page::{Place, content_security_policy, frame, parts};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use maud::html;

/// Sends a browser to another page.
#[must_use]
pub fn see_other(address: &str) -> Response {
    let mut answer = response(StatusCode::SEE_OTHER, HTML, bytes::Bytes::new());
    insert_header(&mut answer, header::LOCATION, address.to_string());
    answer
}

/// Builds the response with a page.
#[must_use]
pub fn html_response(status: StatusCode, text: String) -> Response {
    let mut answer = response(status, HTML, text.into());
    insert_header(&mut answer, header::CONTENT_SECURITY_POLICY, content_security_policy());
    // With `no-referrer`, browsers would send `Origin: null` with a form (Fetch standard, "append a request Origin header"),
    // which is refused. Other sites get no referrer with this value either.
    insert_header(&mut answer, header::REFERRER_POLICY, "same-origin");
    answer
}

/// Whether pages have addresses like `path`.
#[must_use]
pub fn is_page_address(path: &str) -> bool {
    path == "/" || path == "/ui" || path.starts_with("/ui/")
}

/// The path of the page with the form that is sent to `path`.
#[must_use]
pub fn page_of_form(path: &str) -> &str {
    ["/verify", "/withdraw"].iter().find_map(|action| path.strip_suffix(action)).unwrap_or("/")
}

/// The page for an address that leads nowhere. `path` is without the prefix, and `requested` as the reader wrote it.
#[must_use]
pub fn missing_page(path: &str, requested: &str) -> Response {
    let pages = || Place::ALL.into_iter().map(Place::path);
    // Some readers leave out /ui.
    let near = nearest(path, pages()).or_else(|| nearest(&format!("/ui{path}"), pages()));
    let prefix = requested.strip_suffix(path).unwrap_or_default();
    let main = html! {
        h1 { "This page does not exist" }
        p { "The address may be misspelt, or the link to it incomplete." }
        @if let Some(near) = near { p #near { "Did you mean " a href={ (prefix) (near) } { code { (prefix) (near) } } "?" } }
        p { a href={ (prefix) "/" } { "Home" } " · " a href={ (prefix) "/ui/connections" } { "Connections" } }
    };
    html_response(StatusCode::NOT_FOUND, frame::bare_document("This page does not exist", &main))
}

/// Renders the problem of a request that no page answers.
#[must_use]
pub fn problem_page(problem: &ApiProblem) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let outdated = problem.instance.as_deref().filter(|_| problem.code == ProblemCode::FormOutdated).map(page_of_form);
    let main = html! {
        h1 { (problem.title) }
        p { (problem.detail) }
        p.quiet { "Status " (problem.status) ", code " code { (problem.code) } }
        @if let Some(page) = outdated { p { a.button href=(page) { "Open the page again" } } }
        p { a href="/" { "Home" } }
        @if problem.status == 403 { p { a href="/ui/sign-in" { "Sign in as somebody else" } } }
        @if problem.status == 401 { (parts::fix("Sign in, or send a token: Authorization: Bearer <token>.")) }
    };
    let mut answer = html_response(status, frame::bare_document(&problem.title, &main));
    let headers: HeaderMap = problem.headers.iter().cloned().collect();
    answer.headers_mut().extend(headers);
    answer
}

/// Lets the pages of `ancestors` show the page in a frame. `X-Frame-Options` cannot name them, so it must not be there.
pub fn allow_frames(headers: &mut HeaderMap, ancestors: &[String]) {
    let Some(policy) = headers.get(header::CONTENT_SECURITY_POLICY).and_then(|value| value.to_str().ok()) else {
        return;
    };
    let allowed = format!("frame-ancestors {}", ancestors.join(" "));
    if let Ok(value) = HeaderValue::from_str(&policy.replace("frame-ancestors 'none'", &allowed)) {
        headers.insert(header::CONTENT_SECURITY_POLICY, value);
    }
}
