//! Requests of web pages of other sites that the policy allows (`api.cors`, the CORS protocol of the Fetch standard).
//!
//! An allowed page sends a token like any other client. Credentials that the browser keeps are never used for it: no
//! response allows them, and a password that the browser adds by itself is refused (see `auth`).

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::Response;

/// How long a browser may remember the answer to a preflight request, in seconds.
const MAX_AGE_SECONDS: u32 = 600;

/// The request headers that a page may send. `x-api-key` is added if the policy accepts it.
const ALLOWED_HEADERS: &str =
    "authorization, content-type, prefer, idempotency-key, if-none-match, accept, accept-language, last-event-id";

/// The response headers that a page may read.
const EXPOSED_HEADERS: &str = "location, etag, retry-after, preference-applied, warning, ratelimit-limit, ratelimit-remaining, ratelimit-reset, x-slo-coverage, idempotency-replayed";

/// Marks a request of a page of another site that the policy allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrossOrigin(pub HeaderValue);

impl CrossOrigin {
    /// Returns the origin of the request if it is one of `origins`. The paths of consent links and of the pages are for people
    /// on AAM's own pages, so no other page may call them.
    #[must_use]
    pub fn from_request(path: &str, headers: &HeaderMap, origins: &[String]) -> Option<CrossOrigin> {
        let mut values = headers.get_all(header::ORIGIN).iter();
        let (Some(origin), None) = (values.next(), values.next()) else {
            return None;
        };
        let is_own = ["/consent/", "/ui/"].iter().any(|prefix| path.starts_with(prefix));
        let allowed = !is_own && origins.iter().any(|known| origin.as_bytes() == known.as_bytes());
        allowed.then(|| CrossOrigin(origin.clone()))
    }

    /// Adds the headers that let the page read the response.
    pub fn add_to(&self, headers: &mut HeaderMap) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, self.0.clone());
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED_HEADERS));
    }
}

/// Whether the request asks if a page may send another one.
#[must_use]
pub fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// The response to a preflight request, which browsers send without a token.
#[must_use]
pub fn preflight(api_key_header: bool) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let names = if api_key_header { format!("{ALLOWED_HEADERS}, x-api-key") } else { ALLOWED_HEADERS.to_string() };
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD, POST, DELETE"));
    if let Ok(names) = HeaderValue::from_str(&names) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names);
    }
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from(MAX_AGE_SECONDS));
    headers.insert(header::VARY, HeaderValue::from_static("Access-Control-Request-Method, Access-Control-Request-Headers"));
    response
}

/// The request header that may carry a token if the policy accepts it.
pub const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_origins_are_allowed_and_never_for_the_pages_of_people() {
        let listed = ["https://portal.example".to_string()];
        let allowed = |path: &str, origins: &[&str]| {
            let mut headers = HeaderMap::new();
            for origin in origins {
                headers.append(header::ORIGIN, HeaderValue::from_str(origin).expect("a value"));
            }
            CrossOrigin::from_request(path, &headers, &listed).is_some()
        };
        assert!(allowed("/connections", &["https://portal.example"]));
        for origins in [
            &[][..],
            &["null"],
            &["http://portal.example"],
            &["https://portal.example:8443"],
            &["https://portal.example.evil.example"],
            &["https://portal.example", "https://portal.example"],
        ] {
            assert!(!allowed("/connections", origins), "{origins:?}");
        }
        for own in ["/consent/abc", "/ui/sign-in", "/ui/connections"] {
            assert!(!allowed(own, &["https://portal.example"]), "{own}");
        }
    }
}
