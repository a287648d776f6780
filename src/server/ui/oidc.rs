//! Signing in with OpenID Connect: the authorization code flow with PKCE.
//!
//! What an authorization needs until the browser comes back is derived from a random value in a cookie of that browser and a key
//! of this process: state, nonce and PKCE verifier. So AAM holds nothing for visitors, and an answer that another browser began
//! does not fit.

use super::super::auth::{Caller, random_token};
use super::super::person::Person;
use super::super::problem::ApiProblem;
use super::super::request::{ApiRequest, ApiResult, insert_header};
use super::super::session::{Sessions, cookie};
use super::sign_in::{self, add_cookie, forwarding, next_page, pairs, target, value};
use super::{html_response, see_other};
use crate::credentials::redact;
use crate::model::{Class, Failure, Timestamp};
use crate::page::sign_in::{no_role, trouble};
use crate::policy::host_and_port;
use crate::policy::oidc::CALLBACK_PATH;
use crate::providers::oidc::{Authorization, Begun, CallbackQuery, OidcClient};
use axum::http::{Method, StatusCode, header};
use axum::response::Response;
use data_encoding::BASE64URL_NOPAD;
use std::sync::Arc;
use std::time::Duration;
use subtle::ConstantTimeEq;

/// The cookie of an authorization that has begun. Browsers send it with a link of another site too, because that is how the
/// issuer sends the reader back.
const COOKIE: &str = "aam_oidc";
/// How long a reader may take at the issuer.
const MAX_AUTHORIZATION: Duration = Duration::from_secs(600);

/// An authorization that a browser began.
struct Pending {
    /// The value of the cookie, from which everything else is derived.
    value: String,
    redirect: String,
    next: String,
}

impl Pending {
    /// Begins an authorization. The value of its cookie also says when it began and where the reader wants to go. It cannot be
    /// changed, because the state depends on all of it.
    fn begin(now: Timestamp, redirect: String, next: String) -> Result<Pending, ApiProblem> {
        let random = random_token().map_err(|error| ApiProblem::defect(format!("The sign-in could not begin: {error}.")))?;
        let encoded = |text: &str| BASE64URL_NOPAD.encode(text.as_bytes());
        let value = format!("{}.{}.{}.{}", random.expose(), now.0, encoded(&redirect), encoded(&next));
        Ok(Pending { value, redirect, next })
    }

    /// Reads the cookie of the request. `None` if it does not have one, or if it is older than ten minutes.
    fn read(request: &ApiRequest, now: Timestamp) -> Option<Pending> {
        let value = cookie(&request.headers, COOKIE)?;
        let mut parts = value.split('.').skip(1);
        let begun = Timestamp(parts.next()?.parse().ok()?);
        let mut text = || String::from_utf8(BASE64URL_NOPAD.decode(parts.next()?.as_bytes()).ok()?).ok();
        let (redirect, next) = (text()?, text()?);
        let in_time = begun <= now && now.since(begun) <= MAX_AUTHORIZATION;
        in_time.then(|| Pending { value: value.to_string(), redirect, next })
    }

    /// State, nonce and PKCE verifier.
    fn secrets(&self, sessions: &Sessions) -> Result<[String; 3], ApiProblem> {
        let derived = |purpose: &str| {
            let missing = || ApiProblem::defect("The sign-in cannot begin: the operating system has no random bytes.");
            sessions.derived(purpose, &self.value).ok_or_else(missing)
        };
        Ok([derived("oidc state")?, derived("oidc nonce")?, derived("oidc verifier")?])
    }

    /// The value of the header that sets the cookie.
    fn set_cookie(&self) -> String {
        let secure = if is_https(&self.redirect) { "; Secure" } else { "" };
        format!("{COOKIE}={}; HttpOnly; SameSite=Lax; Path=/; Max-Age={}{secure}", self.value, MAX_AUTHORIZATION.as_secs())
    }
}

/// `GET /ui/oidc/begin`
///
/// # Errors
/// 400, 404, 500. An issuer that cannot be reached is a page.
pub async fn begin(request: ApiRequest) -> ApiResult {
    let app = &request.app;
    let client = client(&request)?;
    let query = pairs(request.raw_query.as_deref().unwrap_or_default().as_bytes());
    let next = next_page(&request, value(&query, "next"));
    let redirect = match &client.settings().redirect {
        Some(redirect) => redirect.clone(),
        None => own_callback(&request)?,
    };
    if request.method == Method::HEAD {
        return Ok(html_response(StatusCode::OK, String::new()));
    }
    let discovered = match client.discover(&app.oidc).await {
        Ok(discovered) => discovered,
        Err(failure) => return Ok(failed(&request, &redact::scrub_failure(failure))),
    };
    let pending = Pending::begin(app.handle.clock.now(), redirect, next)?;
    let [state, nonce, verifier] = pending.secrets(&app.sessions)?;
    let authorization = Authorization { redirect: &pending.redirect, state: &state, nonce: &nonce, verifier: &verifier };
    let mut answer = see_other(discovered.authorization_url(client.settings(), &authorization).as_str());
    add_cookie(&mut answer, &pending.set_cookie());
    Ok(answer)
}

/// `GET /ui/oidc/callback`
///
/// # Errors
/// 404, 429, 500. Every other failure is a page.
pub async fn callback(request: ApiRequest) -> ApiResult {
    if request.method == Method::HEAD {
        // A program that looks at the address first must not use up the code.
        return Ok(html_response(StatusCode::OK, String::new()));
    }
    let client = client(&request)?;
    let mut answer = finish(&request, &client).await?;
    // The address of this page holds the code.
    insert_header(&mut answer, header::REFERRER_POLICY, "no-referrer");
    add_cookie(&mut answer, &format!("{COOKIE}=; HttpOnly; SameSite=Lax; Path=/; Max-Age=0"));
    Ok(answer)
}

async fn finish(request: &ApiRequest, client: &OidcClient) -> ApiResult {
    let (app, now) = (&request.app, request.app.handle.clock.now());
    let query = CallbackQuery::parse(request.raw_query.as_deref().unwrap_or_default());
    let Some(pending) = Pending::read(request, now) else { return Ok(other_browser(request)) };
    let [state, nonce, verifier] = pending.secrets(&app.sessions)?;
    let sent = query.state.as_deref().unwrap_or_default();
    if query.repeated || !bool::from(sent.as_bytes().ct_eq(state.as_bytes())) {
        return Ok(other_browser(request));
    }
    // Each of the following steps costs a call to the issuer, so an address may not repeat them without end.
    sign_in::count(request, "sign-ins", "")?;
    let begun = Begun { redirect: &pending.redirect, nonce: &nonce, verifier: &verifier };
    let claims = match client.identify(&app.oidc, &query, &begun).await {
        Ok(claims) => claims,
        Err(failure) => return Ok(failed(request, &failure)),
    };
    let settings = client.settings();
    let asked: Vec<(String, bool)> =
        settings.asked_claims(&claims).into_iter().map(|(name, is_there)| (name.to_string(), is_there)).collect();
    let person = Person::new(settings, claims).ok_or_else(|| ApiProblem::defect("The ID token does not name a subject."))?;
    let person = Arc::new(person);
    // The policy may have changed since the reader left for the issuer.
    let Some(caller) = Caller::person(&app.handle.policy(), Arc::clone(&person)) else {
        let text = no_role(person.shown(), &asked, &request.address(sign_in::PATH));
        return Ok(html_response(StatusCode::FORBIDDEN, text));
    };
    // The cookie is in the reader's hands, so the page is checked again.
    let next = target(request, &caller, next_page(request, Some(&pending.next)));
    let mut answer = forwarding(&next);
    sign_in::begin(request, caller, now, is_https(&pending.redirect), &mut answer)?;
    Ok(answer)
}

fn client(request: &ApiRequest) -> Result<OidcClient, ApiProblem> {
    let app = &request.app;
    OidcClient::new(&app.env.providers, &app.handle.policy()).ok_or_else(|| {
        ApiProblem::not_found("People sign in with a token: the policy does not describe an issuer under api.oidc.")
    })
}

/// Returns the address of the callback under the host that the browser named, which was checked against the names of AAM
/// before. Only a browser on this machine calls AAM without TLS.
fn own_callback(request: &ApiRequest) -> Result<String, ApiProblem> {
    let named = request.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let parts = named.and_then(host_and_port);
    let Some((host, port)) = parts else {
        return Err(ApiProblem::bad_request("The request does not have a Host header, from which the callback is made."));
    };
    let is_local = host.eq_ignore_ascii_case("localhost") || matches!(host, "127.0.0.1" | "[::1]");
    let scheme = if is_local { "http" } else { "https" };
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    Ok(format!("{scheme}://{host}{port}{CALLBACK_PATH}"))
}

fn is_https(address: &str) -> bool {
    address.starts_with("https://")
}

/// Renders why the issuer did not sign the reader in.
fn failed(request: &ApiRequest, failure: &Failure) -> Response {
    let status = match failure.class {
        Class::PermissionDenied => StatusCode::FORBIDDEN,
        Class::WrongService => StatusCode::BAD_REQUEST,
        Class::Throttled | Class::BreakerOpen => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::BAD_GATEWAY,
    };
    let again = request.address(sign_in::PATH);
    tracing::warn!(target: "aam::http", detail = failure.detail, "a person could not sign in: {}", failure.title);
    html_response(status, trouble(&capitalized(&failure.title), &failure.fix, &failure.detail, &again))
}

/// Renders that the answer does not belong to an authorization that this browser began.
fn other_browser(request: &ApiRequest) -> Response {
    let title = "This answer does not belong to a sign-in that this browser began in the last 10 minutes";
    let fix = "Sign in again. If it happens again, allow cookies for this site, and open AAM under the name that is registered at the issuer.";
    html_response(StatusCode::BAD_REQUEST, trouble(title, fix, "", &request.address(sign_in::PATH)))
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    // An address stays as it is.
    match chars.next().filter(|_| !text.starts_with("http")) {
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => text.to_string(),
    }
}
