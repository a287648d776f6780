//! Sends the calls to a company's own Airbyte and reads its responses.

use super::address::{Address, Api, Call};
use super::login::{PlatformLogin, bearer};
use crate::connectors::json_memory;
use crate::credentials::{Secret, redact};
use crate::egress::{HttpRequest, HttpResponse, Method, Session, Traffic};
use crate::memory_budget::Reservation;
use crate::model::{Class, Failure, Posts};
use serde_json::{Value, json};
use std::sync::Arc;

/// The largest body of one response in bytes. A list of all connectors has about 1 MB.
const MAX_BODY_BYTES: u64 = 16 << 20;
/// The characters of a message of Airbyte that are shown.
const MAX_MESSAGE_CHARS: usize = 600;
/// The key of the policy whose secret Airbyte judges, for messages.
const CREDENTIAL: &str = "airbyte.platform.credential";

/// The API of one installation, for one attempt.
pub struct PlatformApi {
    session: Session,
    pub address: Address,
    pub workspace: String,
    authorization: Option<Secret>,
}

/// A response that holds JSON, with the memory that it takes.
pub struct PlatformResponse {
    pub body: Value,
    _memory: Reservation,
}

impl PlatformApi {
    #[must_use]
    pub fn new(session: Session, address: Address, workspace: String) -> PlatformApi {
        PlatformApi { session, address, workspace, authorization: None }
    }

    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.session.traffic()
    }

    /// Sets the POST requests that the session may send.
    pub fn allow(&mut self, posts: Posts) {
        self.session.caller.posts = Arc::new(posts);
    }

    /// Logs in. An application gets a token.
    ///
    /// # Errors
    /// Returns `CredentialRejected` if Airbyte does not accept the application, or the failures of [`PlatformApi::call`].
    pub async fn log_in(&mut self, login: PlatformLogin) -> Result<(), Failure> {
        let header = match login {
            PlatformLogin::Header(header) => header,
            PlatformLogin::Application { client_id, client_secret } => {
                redact::learn_value(client_secret.expose());
                let body = json!({
                    "client_id": client_id.expose(), "client_secret": client_secret.expose(), "grant-type": "client_credentials",
                });
                let response = self.call(Call::Token, &body).await?;
                let token = response.body.get("access_token").and_then(Value::as_str).filter(|token| !token.is_empty());
                match token.map(bearer) {
                    Some(PlatformLogin::Header(header)) => header,
                    _ => return Err(self.unexpected(Call::Token, "the response does not have access_token")),
                }
            }
        };
        self.authorization = Some(header);
        Ok(())
    }

    /// Makes a call. The parameters are the body of a POST and the query of a GET.
    ///
    /// # Errors
    /// Returns what the status means, `WrongService` if the installation does not have the call or does not answer with JSON,
    /// or the failures of [`Session::http`].
    pub async fn call(&self, call: Call, parameters: &Value) -> Result<PlatformResponse, Failure> {
        let Some((method, mut url)) = self.address.of_call(call, &self.workspace) else {
            return Err(Failure::new(
                Class::Bug,
                format!("the public API of Airbyte does not have the call {call:?}"),
                "report this as a defect of AAM",
            ));
        };
        let mut headers = vec![("accept".to_string(), Secret::new("application/json".to_string()))];
        headers.extend(self.authorization.iter().map(|header| ("authorization".to_string(), header.clone())));
        let method = if method == "POST" {
            Method::ListedPost(Some(Secret::new(parameters.to_string())))
        } else {
            for (name, value) in parameters.as_object().into_iter().flatten() {
                url.query_pairs_mut().append_pair(name, &value.as_str().map_or_else(|| value.to_string(), str::to_string));
            }
            Method::Get
        };
        let follow_redirects = matches!(method, Method::Get);
        let request = HttpRequest { method, url, headers, max_bytes: MAX_BODY_BYTES, follow_redirects };
        let response = self.session.http(request).await?;
        self.json(call, &response).await
    }

    async fn json(&self, call: Call, response: &HttpResponse) -> Result<PlatformResponse, Failure> {
        if !(200..300).contains(&response.status) {
            return Err(self.refusal(call, response.status, &response.body));
        }
        let memory = self.session.memory().reserve(json_memory::of_text(&response.body)).await;
        let memory = memory.map_err(|bound| bound.failure("a response of Airbyte"))?;
        match serde_json::from_slice::<Value>(&response.body) {
            Ok(body) if body.is_object() || body.is_array() => Ok(PlatformResponse { body, _memory: memory }),
            _ => Err(self.unexpected(call, "the response is not valid JSON")),
        }
    }

    /// Returns `METHOD /path` of a call, for messages.
    fn shown(&self, call: Call) -> String {
        match self.address.of_call(call, &self.workspace) {
            Some((method, url)) => format!("{method} {}", url.path()),
            None => format!("{call:?}"),
        }
    }

    /// The failure for a response that is not one of Airbyte's.
    pub fn unexpected(&self, call: Call, what: &str) -> Failure {
        let host = self.address.host();
        let fix = format!(
            "check that airbyte.platform.url in the policy is the address of Airbyte's API, and what is between AAM and {host}"
        );
        Failure::new(Class::WrongService, format!("{host} did not answer {} as Airbyte does", self.shown(call)), fix).detail(what)
    }

    /// Returns what the status of a call means.
    fn refusal(&self, call: Call, status: u16, body: &[u8]) -> Failure {
        let (host, shown, workspace) = (self.address.host(), self.shown(call), &self.workspace);
        let parsed: Value = serde_json::from_slice(body).unwrap_or_default();
        let text = |key: &str| parsed.get(key).and_then(Value::as_str).unwrap_or_default().to_string();
        let message = [text("message"), text("detail"), text("title")].into_iter().find(|text| !text.is_empty());
        let message = redact::scrub_and_cut(&message.unwrap_or_default(), MAX_MESSAGE_CHARS);
        let names_object = text("exceptionClassName").contains("NotFoundKnown") || message.contains("Could not find");
        let (class, title, fix) = match status {
            401 if call == Call::Token => (
                Class::CredentialRejected,
                format!("the Airbyte at {host} does not accept the application of {CREDENTIAL}"),
                format!("create an application in Airbyte (Settings > Applications) and store its client_id and client_secret where {CREDENTIAL} in the policy points"),
            ),
            401 => (
                Class::CredentialRejected,
                format!("the Airbyte at {host} does not accept the credential of {CREDENTIAL}"),
                format!("store a valid credential of Airbyte where {CREDENTIAL} in the policy points"),
            ),
            403 => (
                Class::PermissionDenied,
                format!("the credential of {CREDENTIAL} may not use the workspace {workspace} of the Airbyte at {host} as AAM needs it"),
                format!("give its user the role Workspace Editor in {workspace}, or correct airbyte.platform.workspace in the policy"),
            ),
            404 if names_object => (
                Class::NotFound,
                format!("the Airbyte at {host} does not have what {shown} asks for"),
                "check airbyte.platform.workspace in the policy; AAM looks the source up again at the next attempt".to_string(),
            ),
            404 | 405 | 501 => (
                Class::WrongService,
                format!("the Airbyte at {host} does not have the call {shown} ({status})"),
                self.lacking(call),
            ),
            400 | 409 | 422 => (
                Class::Misconfigured,
                format!("the Airbyte at {host} refuses {shown} as not valid ({status})"),
                "compare the config of the connector in the policy, and the fields of the credential, with the specification of the connector in Airbyte".to_string(),
            ),
            _ => (
                Class::Remote,
                format!("the Airbyte at {host} failed: {shown} answered {status}"),
                format!("AAM retries automatically; if this happens again, look at the log of the server of Airbyte at {host}"),
            ),
        };
        Failure::new(class, title, fix).detail(message)
    }

    /// What to do about an installation that does not have a call.
    fn lacking(&self, call: Call) -> String {
        match (call, self.address.api) {
            (Call::Token, _) => format!(
                "update Airbyte, or store the user name and the password of a user where {CREDENTIAL} in the policy points: this version does not have applications"
            ),
            (_, Api::Public) => "update Airbyte, or write its configuration API into airbyte.platform.url in the policy: https://HOST/api/v1".to_string(),
            (_, Api::Configuration) => {
                "update Airbyte to a version that has this call, or check that airbyte.platform.url in the policy is the address of its API".to_string()
            }
        }
    }
}
