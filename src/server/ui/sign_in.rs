//! The page on which people sign in with a token, and the end of a session.
//!
//! Another site cannot send the form: `Origin` and `Sec-Fetch-Site` are checked for every path, and the origins of `api.cors` do
//! not count here. So it cannot sign a reader in as somebody else.

use super::super::auth::{self, Caller};
use super::super::problem::ApiProblem;
use super::super::rate;
use super::super::request::{ApiRequest, ApiResult, insert_header};
use super::super::session;
use super::{html_response, see_other};
use crate::credentials::secret::Secret;
use crate::model::Timestamp;
use crate::page::Links;
use crate::page::sign_in::{IssuerLink, SignIn, document, forward};
use crate::policy::TokenScope;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use std::time::Instant;
use url::Url;

/// The path of the page.
pub const PATH: &str = "/ui/sign-in";
/// The maximum size of the form.
pub const MAX_FORM_BYTES: usize = 8 << 10;
/// The maximum length of the address that a reader is sent to after they signed in.
const MAX_NEXT_BYTES: usize = 2048;
/// What the page says to a reader whose session ended before they sent a form.
const UNSENT: &str =
    "Your session had ended when you sent the form, so nothing was done. Sign in, and repeat it on the page that opens.";
/// The pages that a reader is not sent to after they signed in.
const NOT_NEXT: [&str; 3] = [PATH, "/ui/sign-out", "/ui/oidc/"];

/// `GET /ui/sign-in`
///
/// # Errors
/// Does not fail.
pub async fn page(request: ApiRequest) -> ApiResult {
    let query = pairs(request.raw_query.as_deref().unwrap_or_default().as_bytes());
    let next = next_page(&request, value(&query, "next"));
    if comes_from_another_site(&request.headers) {
        // The reader followed a link on another site, so their browser did not send the cookie that they may well have.
        return Ok(forwarding(&next));
    }
    if value(&query, "unsent") == Some("1") {
        return Ok(answer(&request, StatusCode::OK, next, String::new(), UNSENT.to_string()));
    }
    let left = value(&query, "signed_out") == Some("1");
    let note = match (left, &request.app.handle.policy().api.oidc) {
        (false, _) => String::new(),
        (true, None) => "You are signed out.".to_string(),
        (true, Some(oidc)) => format!("You are signed out of AAM. You may still be signed in at {}.", host(&oidc.issuer)),
    };
    Ok(answer(&request, StatusCode::OK, next, String::new(), note))
}

/// `POST /ui/sign-in`
///
/// # Errors
/// 400, 408, 413, 429, 500, 503. A token that is not accepted is answered with the page again.
pub async fn sign_in(mut request: ApiRequest) -> ApiResult {
    let fields = pairs(&request.receive(MAX_FORM_BYTES).await?);
    let next = next_page(&request, value(&fields, "next"));
    let typed = value(&fields, "token").unwrap_or_default().trim();
    let refused = |status: StatusCode, problem: &str| answer(&request, status, next.clone(), problem.to_string(), String::new());
    if typed.is_empty() {
        return Ok(refused(StatusCode::UNAUTHORIZED, "Enter a token."));
    }
    let (policy, now) = (request.app.handle.policy(), request.app.handle.clock.now());
    let found = match auth::accepted(Secret::new(typed.to_string())) {
        Some(token) => auth::with_token(&policy, request.app.admin(&policy), &token, now),
        None => Err("This is not a token: a token has at most 1024 printable ASCII characters and no blanks.".to_string()),
    };
    match found {
        Ok(caller) if caller.require_scope(TokenScope::RegistryRead).is_err() => {
            let problem = format!(
                "Token {} is valid, but it does not have the scope registry:read, which every page needs. Use another token, or add the scope to this one under api.tokens in the policy.",
                caller.name()
            );
            Ok(refused(StatusCode::FORBIDDEN, &problem))
        }
        Ok(caller) => {
            let target = target(&request, &caller, next.clone());
            let mut answer = see_other(&target);
            begin(&request, caller, now, is_over_https(&request.headers), &mut answer)?;
            Ok(answer)
        }
        Err(problem) => {
            count(&request, "invalid tokens", "A valid token is accepted at any time.")?;
            Ok(refused(StatusCode::UNAUTHORIZED, &problem))
        }
    }
}

/// `POST /ui/sign-out`
///
/// # Errors
/// 403 if the form does not belong to the session; 400, 408, 413, 503.
pub async fn sign_out(mut request: ApiRequest) -> ApiResult {
    let (policy, now) = (request.app.handle.policy(), request.app.handle.clock.now());
    request.session = request.app.sessions.find(&request.headers, &policy, now);
    if request.session.is_some() {
        request.form().await?;
        request.app.sessions.end(&request.headers);
    }
    let mut answer = see_other(&format!("{}?signed_out=1", request.address(PATH)));
    add_cookie(&mut answer, &session::set_cookie(None, is_over_https(&request.headers)));
    Ok(answer)
}

/// Begins a session of `caller`, ends the one that the browser had before, and adds the cookie to `answer`. `secure` if the
/// browser calls AAM over https.
///
/// # Errors
/// Returns 500 if the operating system has no random bytes.
pub fn begin(
    request: &ApiRequest,
    caller: Caller,
    now: Timestamp,
    secure: bool,
    answer: &mut Response,
) -> Result<(), ApiProblem> {
    let sessions = &request.app.sessions;
    sessions.end(&request.headers);
    tracing::info!(target: "aam::http", caller = caller.name(), "signed in");
    let (cookie, ends) = sessions.begin(caller, now)?;
    request.client.set_authenticated();
    add_cookie(answer, &session::set_cookie(Some((&cookie, ends.since(now))), secure));
    Ok(())
}

/// Counts a sign-in against the limit of the address, as a request with an invalid token is counted. `items` and `note` are
/// those of the message.
///
/// # Errors
/// Returns 429 above the limit.
pub fn count(request: &ApiRequest, items: &str, note: &str) -> Result<(), ApiProblem> {
    let key = rate::address_key(request.client.peer);
    let status = request.app.failed_authentications.take(key, rate::FAILED_AUTHENTICATIONS, Instant::now());
    match status.is_allowed() {
        true => Ok(()),
        false => Err(status.problem("One address", items, note)),
    }
}

/// Returns the page with which the browser goes on to `next` by itself.
#[must_use]
pub fn forwarding(next: &str) -> Response {
    let mut answer = html_response(StatusCode::OK, forward(next));
    // As `<meta http-equiv="refresh">` (HTML standard, "The `Refresh` header").
    insert_header(&mut answer, HeaderName::from_static("refresh"), format!("0;url={next}"));
    answer
}

/// Returns the page that the reader wants to see: `wanted` if it is a page of this server, else home.
#[must_use]
pub fn next_page(request: &ApiRequest, wanted: Option<&str>) -> String {
    let home = request.address("/");
    let prefix = home.trim_end_matches('/');
    let is_page = |text: &&str| {
        let own = text.strip_prefix(prefix).unwrap_or(text);
        is_local(text) && !NOT_NEXT.iter().any(|path| own.starts_with(path))
    };
    wanted.filter(is_page).map_or_else(|| home.clone(), str::to_string)
}

/// Returns where a reader who signed in goes to: `next`. Home shows a namespace that they may see.
#[must_use]
pub fn target(request: &ApiRequest, caller: &Caller, next: String) -> String {
    let namespace = caller.first_namespace();
    if next != request.address("/") || namespace == request.app.handle.policy().namespace {
        return next;
    }
    let prefix = next.trim_end_matches('/').to_string();
    Links { prefix, namespace: Some(namespace.to_string()), at: None }.to("/", &[])
}

/// Adds a cookie to the response.
pub fn add_cookie(answer: &mut Response, cookie: &str) {
    if let Ok(value) = HeaderValue::from_str(cookie) {
        answer.headers_mut().append(header::SET_COOKIE, value);
    }
}

/// Whether the address is a path of this server. A browser takes `//host`, `/\host` and, because it removes tabs and line
/// breaks, `/<tab>/host` for addresses of other servers.
fn is_local(text: &str) -> bool {
    let plain = text.len() <= MAX_NEXT_BYTES && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    plain && text.starts_with('/') && !text.starts_with("//")
}

/// Whether a browser followed a link on a page of another site.
fn comes_from_another_site(headers: &HeaderMap) -> bool {
    let site = headers.get(HeaderName::from_static("sec-fetch-site")).and_then(|value| value.to_str().ok());
    matches!(site, Some("cross-site" | "same-site"))
}

/// Whether the browser sent the form from a page that it loaded over https. AAM itself speaks plain HTTP, behind a proxy that
/// ends TLS, and the browser knows how it reached the page. The value was checked against the names of AAM before.
fn is_over_https(headers: &HeaderMap) -> bool {
    headers.get(header::ORIGIN).is_some_and(|origin| origin.as_bytes().starts_with(b"https://"))
}

fn answer(request: &ApiRequest, status: StatusCode, next: String, problem: String, note: String) -> Response {
    let app = &request.app;
    let (policy, now) = (app.handle.policy(), app.handle.clock.now());
    let issuer = policy.api.oidc.as_ref().map(|oidc| {
        let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("next", &next).finish();
        IssuerLink { href: format!("{}?{query}", request.address("/ui/oidc/begin")), host: host(&oidc.issuer) }
    });
    let signed_in = app.sessions.find(&request.headers, &policy, now);
    let page = SignIn {
        action: request.address(PATH),
        next,
        problem,
        note,
        source: auth::source_of_tokens(&policy, app.admin(&policy)),
        issuer,
        signed_in_as: signed_in.map(|session| session.caller.display_name().to_string()),
    };
    html_response(status, document(&page))
}

/// Returns the host of an address, with its port if it is not the usual one.
#[must_use]
pub fn host(address: &str) -> String {
    let Ok(url) = Url::parse(address) else { return address.to_string() };
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_string(), |port| format!("{host}:{port}"))
}

/// Reads a form or a query. Unknown names are ignored.
#[must_use]
pub fn pairs(bytes: &[u8]) -> Vec<(String, String)> {
    url::form_urlencoded::parse(bytes).into_owned().collect()
}

/// Returns the value of `name` in a form or a query.
#[must_use]
pub fn value<'f>(pairs: &'f [(String, String)], name: &str) -> Option<&'f str> {
    pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_of_this_server_are_local() {
        for good in ["/", "/ui/connections?state=ERROR&q=a%20b", "/api/v1/aam/ui/policy", "/?at=2026-11-08T18%3A00%3A00Z"] {
            assert!(is_local(good), "{good}");
        }
        for bad in [
            "",
            "//evil.example",
            "/\\evil.example",
            "/\t/evil.example",
            "/\n/evil.example",
            "/a\\b",
            "https://evil.example",
            "javascript:alert(1)",
            "evil",
            "/ä",
            "/a b",
            "?x",
        ] {
            assert!(!is_local(bad), "{bad:?}");
        }
        assert!(!is_local(&format!("/{}", "x".repeat(MAX_NEXT_BYTES))));
    }
}
