//! Mock vendors for the low-code engine on loopback: GitHub, Slack and a system with a custom manifest.

use crate::support::openapi::{MockResponse, json_response};
use crate::support::session::UnlimitedBudget;
use aam::clock::SystemClock;
use aam::connectors::{BindRequest, BoundResource, Bounds, Discovery, Engines, Opened, Sample};
use aam::credentials::{Credential, Secret, redact};
use aam::egress::resolve::SystemLookup;
use aam::egress::{Caller, Egress};
use aam::families::CustomSources;
use aam::model::{ConnectionId, Digest, Failure};
use aam::policy::{LoadedPolicy, Policy};
use aam::policy_loader;
use axum::body::Body;
use axum::http::{Request, Response};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

/// A request as a vendor received it.
#[derive(Clone, Debug, PartialEq)]
pub struct ReceivedRequest {
    /// `GET /orgs/acme?page=2`.
    pub call: String,
    /// The token after `Bearer `; empty if the header has another scheme.
    pub token: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl ReceivedRequest {
    /// The header called `name`, which is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn path(&self) -> &str {
        self.call.split(' ').nth(1).unwrap_or_default().split('?').next().unwrap_or_default()
    }
}

/// A vendor that records the requests it receives.
#[derive(Clone)]
pub struct MockVendor {
    pub base: String,
    requests: Arc<Mutex<Vec<ReceivedRequest>>>,
    open: Arc<watch::Sender<bool>>,
}

impl MockVendor {
    /// Starts a vendor that answers with `answer`, which receives the vendor's own address and the request.
    pub async fn start(answer: impl Fn(&str, &ReceivedRequest) -> MockResponse + Clone + Send + Sync + 'static) -> MockVendor {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("address"));
        let requests: Arc<Mutex<Vec<ReceivedRequest>>> = Arc::default();
        let open = Arc::new(watch::Sender::new(true));
        let (log, home, gate) = (Arc::clone(&requests), base.clone(), open.subscribe());
        let app = axum::Router::new().fallback(move |request: Request<Body>| {
            let (log, home, answer, mut gate) = (Arc::clone(&log), home.clone(), answer.clone(), gate.clone());
            async move {
                let request = read(request).await;
                let _ = gate.wait_for(|open| *open).await;
                log.lock().expect("unpoisoned").push(request.clone());
                let (status, headers, body) = answer(&home, &request);
                let mut response = Response::builder().status(status);
                for (name, value) in headers {
                    response = response.header(name, value);
                }
                response.body(Body::from(body)).expect("a response")
            }
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        MockVendor { base, requests, open }
    }

    /// Holds back all answers until it is called with `false`.
    pub fn hold(&self, hold: bool) {
        self.open.send_replace(!hold);
    }

    pub fn requests(&self) -> Vec<ReceivedRequest> {
        self.requests.lock().expect("unpoisoned").clone()
    }

    /// `METHOD PATH?QUERY` of every request.
    pub fn calls(&self) -> Vec<String> {
        self.requests().into_iter().map(|request| request.call).collect()
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> &str {
        self.base.trim_start_matches("http://")
    }
}

async fn read(request: Request<Body>) -> ReceivedRequest {
    let call = format!("{} {}", request.method(), request.uri());
    let text = |value: &axum::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers: Vec<(String, String)> =
        request.headers().iter().map(|(name, value)| (name.as_str().to_string(), text(value))).collect();
    let authorization = headers.iter().find(|(name, _)| name == "authorization").map(|(_, value)| value.as_str());
    let token = authorization.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default().to_string();
    let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap_or_default();
    ReceivedRequest { call, token, headers, body: String::from_utf8_lossy(&body).into_owned() }
}

/// A JSON response with headers.
pub fn json_response_with(status: u16, headers: &[(&'static str, &str)], body: &Value) -> MockResponse {
    let mut all: Vec<(&'static str, String)> = vec![("content-type", "application/json".into())];
    all.extend(headers.iter().map(|(name, value)| (*name, (*value).to_string())));
    (status, all, body.to_string())
}

/// Slack with one workspace; a failure is status 200 with `ok: false`, as its API description says. Like the real one, it
/// answers addresses that are no methods with a page, knows only the scheme Bearer, and reads no token from a query.
pub fn slack(_home: &str, request: &ReceivedRequest) -> MockResponse {
    if !request.path().starts_with("/api/") {
        return (
            404,
            vec![("content-type", "text/html; charset=utf-8".into())],
            "<!DOCTYPE html><title>There's been a glitch…</title>".into(),
        );
    }
    if request.token.is_empty() {
        return json_response(r#"{"ok":false,"error":"not_authed"}"#);
    }
    if request.call.starts_with("POST") && !request.body.is_empty() && request.header("content-type").is_none() {
        return json_response(r#"{"ok":false,"error":"invalid_post_type"}"#);
    }
    let scopes = match request.token.as_str() {
        "xoxb-reads-1" => "team:read,channels:read,users:read",
        "xoxb-writes-2" => "channels:read,users:read,team:read,chat:write,channels:history",
        "xoxb-narrow-3" => "channels:read",
        "xoxb-nothing-6" => "emoji:read",
        "xoxb-limited-4" => return json_response(r#"{"ok":false,"error":"ratelimited"}"#),
        "xoxb-login-5" => return json_response(r#"{"ok":false,"error":"org_login_required"}"#),
        _ => return json_response(r#"{"ok":false,"error":"invalid_auth"}"#),
    };
    let ok = |body: Value| json_response_with(200, &[("x-oauth-scopes", scopes)], &body);
    let limit = request.call.split(['?', '&']).find_map(|pair| pair.strip_prefix("limit="));
    if limit.is_some_and(|limit| !limit.parse::<u32>().is_ok_and(|limit| (1..=1000).contains(&limit))) {
        return ok(json!({"ok": false, "error": "invalid_limit"}));
    }
    let lacks = |scope: &str| {
        (!scopes.contains(scope)).then(|| ok(json!({"ok": false, "error": "missing_scope", "needed": scope, "provided": scopes})))
    };
    match (request.call.split(' ').next(), request.path()) {
        (Some("POST"), "/api/auth.test") => {
            ok(json!({"ok": true, "url": "https://acme.slack.example/", "team": "Acme", "team_id": "T0ACME", "user_id": "U1"}))
        }
        (Some("GET"), "/api/team.info") => {
            lacks("team:read").unwrap_or_else(|| ok(json!({"ok": true, "team": {"id": "T0ACME", "name": "Acme"}})))
        }
        (Some("GET"), "/api/users.list") => lacks("users:read")
            .unwrap_or_else(|| ok(json!({"ok": true, "members": [{"id": "U1"}], "response_metadata": {"next_cursor": ""}}))),
        (Some("GET"), "/api/conversations.list") => lacks("channels:read").unwrap_or_else(|| {
            // A short page with a cursor is normal.
            let (id, next) = if request.call.contains("cursor=") { ("C2", "") } else { ("C1", "dGVhbTpDMg==") };
            ok(json!({"ok": true, "channels": [{"id": id, "name": "general"}], "response_metadata": {"next_cursor": next}}))
        }),
        _ => ok(json!({"ok": false, "error": "unknown_method"})),
    }
}

/// A custom manifest: a token request by POST, and two streams.
pub const CRM: &str = r##"
version: 6.44.0
type: DeclarativeSource
check: {type: CheckStream, stream_names: [contacts]}
spec:
  type: Spec
  connection_specification:
    type: object
    required: [host, client_id, client_secret]
    properties:
      host: {type: string}
      client_id: {type: string}
      client_secret: {type: string, airbyte_secret: true}
definitions:
  requester:
    type: HttpRequester
    url_base: "http://{{ config['host'] }}/v1"
    authenticator:
      type: OAuthAuthenticator
      token_refresh_endpoint: "http://{{ config['host'] }}/oauth/token"
      client_id: "{{ config['client_id'] }}"
      client_secret: "{{ config['client_secret'] }}"
      grant_type: client_credentials
  selector: {type: RecordSelector, extractor: {type: DpathExtractor, field_path: [data]}}
streams:
  - type: DeclarativeStream
    name: account
    retriever:
      type: SimpleRetriever
      requester: {$ref: "#/definitions/requester", path: /account}
      record_selector: {type: RecordSelector, extractor: {type: DpathExtractor, field_path: []}}
    schema_loader: {type: InlineSchemaLoader, schema: {type: object, properties: {login: {type: string}}}}
  - type: DeclarativeStream
    name: contacts
    primary_key: id
    retriever:
      type: SimpleRetriever
      requester: {$ref: "#/definitions/requester", path: /contacts}
      record_selector: {$ref: "#/definitions/selector"}
    schema_loader: {type: InlineSchemaLoader, schema: {type: object, properties: {id: {type: integer}, name: {type: string}}}}
"##;

/// The credential of the CRM.
pub const CRM_CREDENTIAL: &str = r#"{"client_id": "aam", "client_secret": "crm-secret-of-the-test-77"}"#;

/// The system behind [`CRM`].
pub fn crm(_home: &str, request: &ReceivedRequest) -> MockResponse {
    if request.call == "POST /oauth/token" {
        let form = request.header("content-type").is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"));
        let sent = ["grant_type=client_credentials", "client_id=aam", "client_secret=crm-secret-of-the-test-77"];
        return match form && sent.iter().all(|pair| request.body.split('&').any(|found| found == *pair)) {
            true => json_response(r#"{"access_token":"crm-access-token-1234567890","expires_in":3600}"#),
            false => json_response_with(401, &[], &json!({"error": "invalid_client"})),
        };
    }
    if request.token != "crm-access-token-1234567890" {
        return json_response_with(401, &[], &json!({"error": "unauthorized"}));
    }
    if !request.call.starts_with("GET ") {
        return json_response_with(405, &[("allow", "GET")], &json!({"message": "method not allowed"}));
    }
    match request.path() {
        "/v1/account" => json_response(r#"{"login":"acme"}"#),
        "/v1/contacts" => json_response(r#"{"data":[{"id":1,"name":"a"},{"id":2,"name":"b"}]}"#),
        _ => json_response_with(404, &[], &json!({"message": "no such thing"})),
    }
}

/// A policy that allows loopback, with `more` lines appended.
pub fn policy(more: &str) -> Policy {
    let text = format!(
        "version: 1\nallowlist: [github, slack]\nnetwork: {{allow_private: [127.0.0.0/8]}}\n\
         safe_mode: {{max_items: 20, step_timeout: 10s, attempt_timeout: 60s}}\n{more}\n"
    );
    aam::policy::parse::parse(&text, "policy.yaml").unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// The engines and the egress of the daemon, under a policy of the test.
pub struct EngineFixture {
    engines: Engines,
    egress: Arc<Egress>,
    pub policy: Arc<Policy>,
    pub sources: Arc<CustomSources>,
}

impl EngineFixture {
    pub fn new(policy: Policy) -> EngineFixture {
        EngineFixture::with_sources(LoadedPolicy::new(policy))
    }

    /// A fixture whose policy has the manifest `text` of the custom source `name` in its folder.
    pub fn with_manifest(policy: Policy, name: &str, text: &str) -> EngineFixture {
        let digest = Digest::from_bytes(text.as_bytes());
        let manifest = policy_loader::parse_manifest(text, &format!("m/{name}.yaml"), digest).expect("a manifest");
        let manifests = [(name.to_string(), Arc::new(manifest))].into();
        let sources = CustomSources::new(policy.manifests.sources.keys().cloned(), manifests, Vec::new());
        EngineFixture::with_sources(LoadedPolicy { policy: Arc::new(policy), sources: Arc::new(sources) })
    }

    fn with_sources(loaded: LoadedPolicy) -> EngineFixture {
        let clock = Arc::new(SystemClock);
        let egress = Egress::with(Arc::new(UnlimitedBudget), clock.clone(), Arc::new(SystemLookup));
        EngineFixture { engines: aam::daemon::engines(clock), egress, policy: loaded.policy, sources: loaded.sources }
    }

    /// A fixture whose `family` has the base address `base`.
    pub fn at(family: &str, base: &str) -> EngineFixture {
        EngineFixture::new(policy(&format!("families: {{{family}: {{base_url: \"{base}\"}}}}")))
    }

    pub fn bind(&self, source_type: &str, resource_id: &str) -> Result<Box<dyn BoundResource>, Failure> {
        let family = self.sources.family(source_type).expect("a family");
        let engine = self.engines.find(family).expect("an engine");
        engine.bind(BindRequest { family, policy: &self.policy, resource_id })
    }

    pub async fn open(&self, source_type: &str, resource_id: &str, secret: Option<&str>) -> Result<Opened, Failure> {
        let bound = self.bind(source_type, resource_id)?;
        let credential = secret.map(|text| Credential::read(Secret::new(text.to_string())));
        credential.iter().for_each(redact::learn);
        let mut cap = self.policy.caps.default.clone();
        (cap.per_second, cap.burst) = (1000.0, 1000);
        let account = bound.account().to_string();
        let authorized = bound.authorize(credential)?;
        let session = self.egress.session(Caller {
            purpose: aam::model::CallPurpose::Source,
            connection: ConnectionId::derive("autonomy", source_type, &[resource_id.to_string()]),
            family: Arc::clone(&self.sources.family(source_type).expect("a family").id),
            account,
            cap,
            policy: Arc::clone(&self.policy),
            posts: Arc::new(authorized.posts.clone()),
        });
        authorized.open(session).await
    }

    pub fn planned(&self, source_type: &str, resource_id: &str) -> Vec<String> {
        let calls = self.bind(source_type, resource_id).expect("a resource id").planned_calls();
        calls.into_iter().map(|call| format!("{} {} {}", call.method, call.host, call.path)).collect()
    }
}

/// Runs the steps after opening: discover, health and tiny sync.
pub async fn remaining_steps(opened: &Opened) -> Result<(Discovery, Sample), Failure> {
    let discovery = opened.connector.discover(Bounds::default()).await?;
    opened.connector.health().await?;
    let sample = opened.connector.tiny_sync(&discovery.catalog, 20).await?;
    Ok((discovery, sample))
}

/// The names of the streams.
pub fn stream_names(discovery: &Discovery) -> Vec<&str> {
    discovery.catalog.streams.iter().map(|stream| stream.name.as_str()).collect()
}
