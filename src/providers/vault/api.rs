//! Calls to the vault's HTTP API.
//!
//! A secret is only ever read with GET. POST serves logins, renewals and revocations, and each POST is allowed by its own
//! entry with its exact address and body.

use super::failures;
use crate::credentials::{Secret, redact};
use crate::egress::{FurtherAuthorities, HttpRequest, Method};
use crate::model::{Allowed, BodyRule, Digest, Failure, PostRule, Posts, Shape};
use crate::policy::Credentials;
use crate::policy::credentials::VaultPolicy;
use crate::providers::{CredentialRequest, Endpoint, Providers};
use futures_util::future::BoxFuture;
use serde_json::{Map, Value};
use url::Url;

/// The maximum size of a response in bytes. A secret of KV version 2 has at most 512 KiB by default.
const MAX_RESPONSE_BYTES: u64 = 1 << 20;

/// The maximum number of redirects of one call that are followed on the same origin.
const MAX_REDIRECTS: usize = 3;

/// One call to the vault.
#[derive(Clone)]
pub struct VaultCall {
    /// What follows `/v1/`: parts that are encoded when the URL is built.
    pub path: String,
    pub token: Option<Secret>,
    /// The body of a POST, or `None` for a GET.
    pub post: Option<VaultPost>,
}

/// The body of a POST and why it is allowed.
#[derive(Clone)]
pub struct VaultPost {
    /// The fields of the JSON body. Values may be secret.
    pub fields: Vec<(&'static str, Secret)>,
    /// Why the call changes no secret.
    pub why: &'static str,
    /// Whether it may be sent again although the first one may have arrived.
    pub idempotent: bool,
}

impl VaultCall {
    /// Creates a call that reads `path`.
    pub fn read(path: impl Into<String>, token: &Secret) -> VaultCall {
        VaultCall { path: path.into(), token: Some(token.clone()), post: None }
    }
}

/// A response of the vault.
#[derive(Clone, Debug)]
pub struct VaultResponse {
    pub status: u16,
    pub body: Map<String, Value>,
    /// The header `Location` of a redirect.
    pub location: Option<String>,
}

impl VaultResponse {
    /// Returns the object `name` of the body.
    pub fn object(&self, name: &str) -> Option<&Map<String, Value>> {
        self.body.get(name)?.as_object()
    }

    /// Returns the texts of `errors` and `warnings`, without secrets and on one line.
    pub fn vendor_text(&self) -> String {
        let texts = ["errors", "warnings"].into_iter().filter_map(|name| self.body.get(name)?.as_array()).flatten();
        let joined: Vec<&str> = texts.filter_map(Value::as_str).collect();
        redact::scrub_and_cut(&joined.join("; "), 300)
    }
}

/// Sends calls to the vault of a request. Tests replace it.
pub trait VaultTransport: Send + Sync {
    /// Sends `call` once.
    ///
    /// # Errors
    /// Returns the failure of egress.
    fn send<'a>(&'a self, context: &'a VaultContext<'a>, call: &'a VaultCall) -> BoxFuture<'a, Result<VaultResponse, Failure>>;
}

/// The vault of a request.
#[derive(Clone, Copy)]
pub struct VaultContext<'a> {
    pub providers: &'a Providers,
    pub request: &'a CredentialRequest,
    pub vault: &'a VaultPolicy,
}

/// Returns the key of `vault`: its address, its namespace and the login, with the folder in which `env:` is looked up.
pub fn key(credentials: &Credentials, vault: &VaultPolicy) -> String {
    let parts = serde_json::json!([vault.address, vault.namespace, vault.login, credentials.secrets_dir]);
    Digest::from_bytes(parts.to_string().as_bytes()).short()
}

impl VaultContext<'_> {
    /// Returns the key of everything that is cached for this vault and this way to log in.
    pub fn key(&self) -> String {
        key(&self.request.policy.credentials, self.vault)
    }

    /// Makes `call`. Returns responses with a status below 500 that say something about the call itself.
    ///
    /// # Errors
    /// Returns the failure of a vault that cannot be reached or is not ready: sealed, not initialized, standby, rate limited.
    pub async fn call(&self, call: VaultCall) -> Result<VaultResponse, Failure> {
        let provider = &self.providers.vault;
        let result = self.send(call).await;
        provider.remember_outage(&self.vault.address, result)
    }

    async fn send(&self, mut call: VaultCall) -> Result<VaultResponse, Failure> {
        if let Some(token) = &call.token {
            redact::learn_value(token.expose());
        }
        let transport = &self.providers.vault.transport;
        for _ in 0..=MAX_REDIRECTS {
            let response = match transport.send(self, &call).await {
                Ok(response) => response,
                Err(failure) => return Err(failures::unreachable(self.vault, failure)),
            };
            match failures::not_ready(self.vault, &response) {
                failures::Readiness::Ready => return Ok(response),
                failures::Readiness::Moved(path) => call.path = path,
                failures::Readiness::NotReady(failure) => return Err(*failure),
                failures::Readiness::Unclear => return Err(self.why_unavailable(&response).await),
            }
        }
        Err(failures::redirect_loop(self.vault))
    }

    /// Asks the vault why it answered with a server error. The status of the seal needs no token.
    async fn why_unavailable(&self, response: &VaultResponse) -> Failure {
        let call = VaultCall { path: "sys/seal-status".to_string(), token: None, post: None };
        let status = self.providers.vault.transport.send(self, &call).await.ok();
        failures::unavailable(self.vault, response, status.as_ref())
    }
}

/// Sends calls through egress.
pub struct EgressTransport;

impl VaultTransport for EgressTransport {
    fn send<'a>(&'a self, context: &'a VaultContext<'a>, call: &'a VaultCall) -> BoxFuture<'a, Result<VaultResponse, Failure>> {
        Box::pin(async move {
            let vault = context.vault;
            let url = url(&vault.address, &call.path).ok_or_else(|| failures::invalid_address(vault))?;
            let mut headers = vec![
                // The listener of an agent may require this header, which a browser cannot be made to send.
                ("x-vault-request".to_string(), Secret::new("true".to_string())),
                ("accept".to_string(), Secret::new("application/json".to_string())),
            ];
            if let Some(namespace) = &vault.namespace {
                headers.push(("x-vault-namespace".to_string(), Secret::new(namespace.clone())));
            }
            if let Some(token) = &call.token {
                headers.push(("x-vault-token".to_string(), token.clone()));
            }
            let (method, posts) = match &call.post {
                None => (Method::Get, Posts::default()),
                Some(post) => (Method::ListedPost(Some(Secret::new(body(post)))), posts(&url, post)),
            };
            let authorities = vault
                .ca_file
                .as_ref()
                .map(|file| FurtherAuthorities { file: file.clone(), policy_key: "credentials.vault.ca_file" });
            let session = context.providers.session(context.request, Endpoint::Vault, &vault.address, posts);
            let session = session.without_status_retries().with_authorities(authorities);
            let request = HttpRequest { method, url, headers, max_bytes: MAX_RESPONSE_BYTES, follow_redirects: false };
            let response = session.http(request).await?;
            let location = response.header("location").map(str::to_string);
            let body = match response.body.is_empty() {
                true => Map::new(),
                false => match serde_json::from_slice(&response.body) {
                    Ok(Value::Object(body)) => body,
                    // The status of an error says enough without a body.
                    _ if response.status >= 300 => Map::new(),
                    _ => return Err(failures::invalid_body(vault)),
                },
            };
            Ok(VaultResponse { status: response.status, body, location })
        })
    }
}

/// Returns the URL of a call. The parts of the path are percent-encoded.
pub fn url(address: &str, path: &str) -> Option<Url> {
    let mut url = Url::parse(address).ok()?;
    url.path_segments_mut().ok()?.clear().push("v1").extend(path.split('/'));
    Some(url)
}

fn body(post: &VaultPost) -> String {
    let fields: Map<String, Value> =
        post.fields.iter().map(|(name, value)| ((*name).to_string(), Value::String(value.expose().to_string()))).collect();
    Value::Object(fields).to_string()
}

fn posts(url: &Url, post: &VaultPost) -> Posts {
    let shape: Shape = post.fields.iter().map(|(name, _)| ((*name).to_string(), Allowed::Any)).collect();
    let rule = PostRule {
        url: url.as_str().to_string(),
        why: post.why.to_string(),
        query: Shape::new(),
        headers: std::collections::BTreeMap::new(),
        body: BodyRule::Json(shape),
        idempotent: post.idempotent,
    };
    Posts { list: "the logins, renewals and revocations of credentials.vault".to_string(), rules: vec![rule] }
}
