//! What a request says about its reader: a person with a browser gets pages, also for problems, and a program gets documents.

use super::dispatch::{refused, requested_path};
use super::problem::ApiProblem;
use super::routes::{Access, Method, Route};
use super::target::PathPrefix;
use super::ui;
use axum::extract::Request;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};

/// Whether a browser asks for something that it will show to a person.
#[must_use]
pub fn accepts_pages(headers: &HeaderMap) -> bool {
    headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).is_some_and(|accept| accept.contains("text/html"))
}

/// Answers a request that did not reach a route: a browser at an address of pages with a page, and others with a document.
#[must_use]
pub fn answer_unrouted(request: &Request, problem: ApiProblem) -> Response {
    let problem = problem.at(&requested_path(request));
    match accepts_pages(request.headers()) && ui::is_page_address(request.uri().path()) {
        true => ui::problem_page(&problem),
        false => problem.into_response(),
    }
}

/// What a request for a page says about its reader.
pub struct Visit {
    /// Whether a browser shows the answer. Scripts get problems as documents, as from the other endpoints.
    is_browser: bool,
    /// The address of the page to sign in, for a reader who did not send a token.
    sign_in: Option<String>,
}

impl Visit {
    /// Reads what the request says.
    #[must_use]
    pub fn new(route: &Route, request: &Request) -> Visit {
        let headers = request.headers();
        let is_browser = matches!(route.access, Access::Page(_) | Access::SignIn) && accepts_pages(headers);
        let prefix = request.extensions().get::<PathPrefix>().copied().unwrap_or_default();
        let is_form = route.method != Method::Get;
        // A form that was sent after the session ended is not repeated. The page to sign in says so and leads back to its page.
        let target = match (is_form, request.uri().path_and_query()) {
            (true, _) => ui::page_of_form(request.uri().path()),
            (false, target) => target.map_or("/", |target| target.as_str()),
        };
        let mut next = url::form_urlencoded::Serializer::new(String::new());
        next.append_pair("next", &prefix.join(target));
        if is_form {
            next.append_pair("unsent", "1");
        }
        let next = next.finish();
        let sign_in = is_browser && !headers.contains_key(header::AUTHORIZATION);
        Visit { is_browser, sign_in: sign_in.then(|| format!("{}?{next}", prefix.join("/ui/sign-in"))) }
    }

    /// Returns the response for a problem. A reader who is not signed in is sent to the page to sign in.
    #[must_use]
    pub fn refused(&self, route: &Route, problem: ApiProblem) -> Response {
        match (&self.sign_in, self.is_browser) {
            (Some(address), _) if problem.status == 401 => ui::see_other(address),
            (_, true) => ui::problem_page(&problem),
            (_, false) => refused(route, problem),
        }
    }
}
