//! A vendor with an OAuth 2 server and an API. It is strict: PKCE and the registered callback are required, a code works once,
//! refresh tokens are rotated, and one that is sent a second time ends the whole grant (RFC 9700, section 4.14.2).

use aam::model::Timestamp;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

pub const CLIENT_ID: &str = "aam-client";
pub const CLIENT_SECRET: &str = "the-secret-of-the-client";
pub const REDIRECT: &str = "http://127.0.0.1:5000/consent/callback";

/// What the token endpoint does with a refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnRefresh {
    Answer,
    /// Uses the token, but its response breaks off.
    UseAndLose,
    /// Answers 503 and uses nothing.
    Unavailable,
    /// Refuses every refresh token, as after the end of a session.
    Refuse,
}

/// What the vendor issued and saw.
pub struct VendorState {
    pub on_refresh: OnRefresh,
    /// Whether refresh tokens are replaced at each use.
    pub rotates: bool,
    pub issues_refresh_tokens: bool,
    pub expires_in: Option<u64>,
    /// Further fields of a token response.
    pub more: Value,
    /// The scopes to grant instead of those that are asked for.
    pub grants: Option<String>,
    /// How often each refresh token was sent.
    pub sent: HashMap<String, usize>,
    /// How often a refresh token was sent that had been used before.
    pub reuses: usize,
    pub revoked: Vec<String>,
    /// How often an access token was used after its end.
    pub late_uses: usize,
    pub token_requests: usize,
    /// Runs when a refresh arrives, before the vendor does anything.
    pub hook: Option<Box<dyn FnMut() + Send>>,
    now: Box<dyn Fn() -> Timestamp + Send>,
    codes: HashMap<String, Code>,
    /// The grant of each refresh token that is valid, and of each that was used.
    valid: HashMap<String, usize>,
    used: HashMap<String, usize>,
    /// The grant and the end of each access token.
    access: HashMap<String, (usize, Option<Timestamp>)>,
    ended: Vec<usize>,
    count: usize,
}

struct Code {
    challenge: String,
    scope: String,
    nonce: Option<String>,
}

/// The vendor, which runs until the runtime of the test ends.
#[derive(Clone)]
pub struct OAuthVendor {
    pub base: String,
    state: Arc<Mutex<VendorState>>,
}

type Pairs = HashMap<String, String>;

impl OAuthVendor {
    /// Starts the vendor with the clock `now`.
    pub async fn start(now: impl Fn() -> Timestamp + Send + 'static) -> OAuthVendor {
        // The clients of the tests need a crypto provider although they only use plain HTTP.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("address"));
        let state = VendorState {
            on_refresh: OnRefresh::Answer,
            rotates: true,
            issues_refresh_tokens: true,
            expires_in: Some(3600),
            more: json!({}),
            grants: None,
            sent: HashMap::new(),
            reuses: 0,
            revoked: Vec::new(),
            late_uses: 0,
            token_requests: 0,
            hook: None,
            now: Box::new(now),
            codes: HashMap::new(),
            valid: HashMap::new(),
            used: HashMap::new(),
            access: HashMap::new(),
            ended: Vec::new(),
            count: 0,
        };
        let vendor = OAuthVendor { base, state: Arc::new(Mutex::new(state)) };
        let app = Router::new()
            .route("/authorize", get(authorize))
            .route("/token", post(token))
            .route("/revoke", post(revoke))
            .route("/openapi.json", get(description))
            .route("/things", get(things))
            .with_state(vendor.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        vendor
    }

    pub fn state(&self) -> MutexGuard<'_, VendorState> {
        self.state.lock().expect("unpoisoned")
    }

    /// The lines of the policy for a consent of this vendor, whose store and key lie in the workspace.
    pub fn policy(&self, store: &str) -> String {
        format!(
            "credentials:\n  consents:\n    things: {{family: openapi, client_id: {CLIENT_ID}, client_secret: \"env:THINGS_SECRET\", redirect: \"{REDIRECT}\", authorize_url: \"{0}/authorize\", token_url: \"{0}/token\", revoke_url: \"{0}/revoke\", issuer: \"{0}\", scopes: [things.read, offline]}}\n  consent_store: {{file: \"{store}\", key: \"env:CONSENT_KEY\"}}\n",
            self.base
        )
    }

    /// Logs in and consents as a person in a browser does; returns the query of the callback.
    pub async fn consent(&self, url: &str) -> String {
        let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().expect("client");
        let response = client.get(url).send().await.expect("a response");
        assert_eq!(response.status(), 303, "{}", response.text().await.unwrap_or_default());
        let location = response.headers()["location"].to_str().expect("text").to_string();
        assert!(location.starts_with(REDIRECT), "{location}");
        location.split_once('?').expect("a query").1.to_string()
    }

    /// Runs the hook, while other requests are answered.
    fn run_hook(&self) {
        let hook = self.state().hook.take();
        if let Some(mut hook) = hook {
            hook();
            self.state().hook.get_or_insert(hook);
        }
    }

    /// Ends every access token that was issued before its time, as vendors may do.
    pub fn end_access_tokens(&self) {
        self.state().access.clear();
    }

    /// Ends every grant, as an administrator of the vendor can.
    pub fn end_all_grants(&self) {
        let mut state = self.state();
        state.ended = (0..=state.count).collect();
    }
}

impl VendorState {
    fn fresh(&mut self, kind: &str) -> String {
        self.count += 1;
        format!("{kind}-{:08x}{:08x}", fastrand::u32(..), self.count)
    }

    fn issue(&mut self, grant: usize, scope: &str, nonce: Option<&str>, refresh: Option<String>, issuer: &str) -> Value {
        let access = self.fresh("access");
        let end = self.expires_in.map(|seconds| (self.now)().plus(Duration::from_secs(seconds)));
        self.access.insert(access.clone(), (grant, end));
        let mut answer =
            json!({"access_token": access, "token_type": "Bearer", "scope": self.grants.as_deref().unwrap_or(scope)});
        if let Some(seconds) = self.expires_in {
            answer["expires_in"] = json!(seconds);
        }
        if let Some(refresh) = refresh {
            answer["refresh_token"] = json!(refresh);
        }
        if let Some(nonce) = nonce {
            let exp = (self.now)().0 / 1000 + 600;
            let claims = json!({"iss": issuer, "aud": CLIENT_ID, "nonce": nonce, "exp": exp}).to_string();
            answer["id_token"] = json!(format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims)));
        }
        for (key, value) in self.more.as_object().cloned().unwrap_or_default() {
            answer[key] = value;
        }
        answer
    }
}

async fn authorize(State(vendor): State<OAuthVendor>, Query(query): Query<Pairs>) -> Response {
    let bad = |reason: &str| (StatusCode::BAD_REQUEST, reason.to_string()).into_response();
    let value = |name: &str| query.get(name).map(String::as_str).unwrap_or_default();
    if value("client_id") != CLIENT_ID || value("redirect_uri") != REDIRECT || value("response_type") != "code" {
        return bad("client_id, redirect_uri or response_type");
    }
    if value("code_challenge_method") != "S256" || value("code_challenge").len() != 43 || value("state").len() < 32 {
        return bad("code_challenge or state");
    }
    let mut state = vendor.state();
    let code = state.fresh("code");
    let nonce = query.get("nonce").cloned();
    let issued = Code { challenge: value("code_challenge").to_string(), scope: value("scope").to_string(), nonce };
    state.codes.insert(code.clone(), issued);
    let answer = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs([("code", code.as_str()), ("state", value("state")), ("iss", vendor.base.as_str())])
        .finish();
    (StatusCode::SEE_OTHER, [(header::LOCATION, format!("{REDIRECT}?{answer}"))]).into_response()
}

fn refusal(status: StatusCode, error: &str) -> Response {
    (status, Json(json!({"error": error, "error_description": format!("{error} of the vendor")}))).into_response()
}

fn pairs(body: &str) -> Pairs {
    url::form_urlencoded::parse(body.as_bytes()).into_owned().collect()
}

fn is_client(headers: &HeaderMap) -> bool {
    let wanted = format!("Basic {}", STANDARD.encode(format!("{CLIENT_ID}:{CLIENT_SECRET}")));
    headers.get(header::AUTHORIZATION).is_some_and(|value| value.as_bytes() == wanted.as_bytes())
}

async fn token(State(vendor): State<OAuthVendor>, headers: HeaderMap, body: String) -> Response {
    let form = pairs(&body);
    let value = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    if value("grant_type") == "refresh_token" {
        vendor.run_hook();
    }
    let mut state = vendor.state();
    state.token_requests += 1;
    if !is_client(&headers) || form.contains_key("client_secret") {
        return refusal(StatusCode::UNAUTHORIZED, "invalid_client");
    }
    match value("grant_type") {
        "authorization_code" => {
            let Some(code) = state.codes.remove(value("code")) else {
                return refusal(StatusCode::BAD_REQUEST, "invalid_grant");
            };
            let challenge = URL_SAFE_NO_PAD.encode(digest(&SHA256, value("code_verifier").as_bytes()));
            if challenge != code.challenge || value("redirect_uri") != REDIRECT {
                return refusal(StatusCode::BAD_REQUEST, "invalid_grant");
            }
            let grant = state.count + 1;
            let refresh = state.issues_refresh_tokens.then(|| state.fresh("refresh"));
            if let Some(refresh) = &refresh {
                state.valid.insert(refresh.clone(), grant);
            }
            Json(state.issue(grant, &code.scope, code.nonce.as_deref(), refresh, &vendor.base)).into_response()
        }
        "refresh_token" => refreshed(&vendor, &mut state, value("refresh_token")),
        _ => refusal(StatusCode::BAD_REQUEST, "unsupported_grant_type"),
    }
}

fn refreshed(vendor: &OAuthVendor, state: &mut VendorState, token: &str) -> Response {
    *state.sent.entry(token.to_string()).or_default() += 1;
    if state.on_refresh == OnRefresh::Unavailable {
        return (StatusCode::SERVICE_UNAVAILABLE, "maintenance").into_response();
    }
    if let Some(grant) = state.used.get(token).copied() {
        // Somebody has a copy of the token.
        state.reuses += 1;
        state.ended.push(grant);
    }
    let Some(grant) = state.valid.get(token).copied().filter(|grant| !state.ended.contains(grant)) else {
        return refusal(StatusCode::BAD_REQUEST, "invalid_grant");
    };
    if state.on_refresh == OnRefresh::Refuse {
        return refusal(StatusCode::BAD_REQUEST, "invalid_grant");
    }
    let next = state.rotates.then(|| state.fresh("refresh"));
    if let Some(next) = &next {
        state.valid.remove(token);
        state.used.insert(token.to_string(), grant);
        state.valid.insert(next.clone(), grant);
    }
    let answer = state.issue(grant, "things.read offline", None, next, &vendor.base);
    if state.on_refresh == OnRefresh::UseAndLose {
        let broken = futures_util::stream::once(async { Err::<Vec<u8>, _>(std::io::Error::other("lost")) });
        return ([(header::CONTENT_TYPE, "application/json")], Body::from_stream(broken)).into_response();
    }
    Json(answer).into_response()
}

async fn revoke(State(vendor): State<OAuthVendor>, headers: HeaderMap, body: String) -> Response {
    let form = pairs(&body);
    if !is_client(&headers) {
        return refusal(StatusCode::UNAUTHORIZED, "invalid_client");
    }
    let token = form.get("token").cloned().unwrap_or_default();
    let mut state = vendor.state();
    if let Some(grant) = state.valid.remove(&token) {
        state.ended.push(grant);
    }
    state.revoked.push(token);
    StatusCode::OK.into_response()
}

async fn description(State(vendor): State<OAuthVendor>, headers: HeaderMap) -> Response {
    guarded(&vendor, &headers, || {
        json!({
            "openapi": "3.0.3",
            "info": {"title": "Things", "version": "1"},
            "components": {"securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}}},
            "security": [{"bearer": []}],
            "paths": {"/things": {"get": {"operationId": "listThings", "responses": {"200": {"description": "all", "content": {
                "application/json": {"schema": {"type": "array", "items": {"type": "object", "properties": {"name": {"type": "string"}}}}}
            }}}}}}
        })
    })
}

async fn things(State(vendor): State<OAuthVendor>, headers: HeaderMap) -> Response {
    guarded(&vendor, &headers, || json!([{"name": "a"}, {"name": "b"}]))
}

/// Answers only to an access token that is valid.
fn guarded(vendor: &OAuthVendor, headers: &HeaderMap, body: impl FnOnce() -> Value) -> Response {
    let text = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut state = vendor.state();
    let known = text.strip_prefix("Bearer ").and_then(|token| state.access.get(token)).copied();
    let Some((grant, end)) = known else { return refusal(StatusCode::UNAUTHORIZED, "invalid_token") };
    if end.is_some_and(|end| end <= (state.now)()) {
        state.late_uses += 1;
        return refusal(StatusCode::UNAUTHORIZED, "invalid_token");
    }
    if state.ended.contains(&grant) {
        return refusal(StatusCode::UNAUTHORIZED, "invalid_token");
    }
    Json(body()).into_response()
}
