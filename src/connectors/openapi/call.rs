//! One GET of an operation, with the credential in the way that the policy, the description or the service names.

use super::address::host_of;
use super::auth::{self, CallAuth};
use super::challenge;
use super::classify::{self, ErrorContext};
use super::operations::Operation;
use super::parameters::GetRequest;
use super::redirects;
use super::select::callable;
use super::service::Service;
use crate::connectors::json_memory;
use crate::credentials::{Credential, Secret};
use crate::egress::{HttpRequest, HttpResponse, Method, is_too_long};
use crate::memory_budget::Reservation;
use crate::model::{Class, Failure};
use serde_json::Value;

/// Limit on the bytes of a response with data.
const MAX_RESPONSE_BYTES: u64 = 4 << 20;

/// A successful response.
pub struct JsonResponse {
    pub value: Value,
    pub status: u16,
    pub bytes: usize,
    /// How the credential was sent; empty for a call without one.
    pub schemes: Vec<String>,
    /// The memory of `value`.
    _memory: Reservation,
}

impl Service {
    /// The authentication of a call, as far as it is known before the call.
    ///
    /// # Errors
    /// The errors of [`auth::authorize`].
    pub(super) fn authorize(&self, operation: &Operation) -> Result<CallAuth, Failure> {
        let auth = auth::authorize(&self.documents, &operation.security, self.credential.as_ref(), &self.settings)?;
        if auth.schemes.is_empty() {
            return Ok(self.learned_auth().unwrap_or(auth));
        }
        Ok(auth)
    }

    /// Sends the GET request of `operation`. If the page size can be limited, it is limited to `wanted` items.
    ///
    /// If the description does not say that the operation needs a credential, the call is first sent without one, and again
    /// with it if the service asks for it.
    ///
    /// # Errors
    /// The errors of the transport and of [`classify::parse_json`] and [`classify::check_shape`].
    pub(super) async fn get(&self, operation: &Operation, wanted: Option<u32>) -> Result<JsonResponse, Failure> {
        let call = callable(operation, &self.settings).map_err(|reason| {
            Failure::new(
                Class::Misconfigured,
                format!("{} was not called: {}", operation.name, reason.message),
                format!("name another path: {}", self.settings.fix(classify::OTHER_PATH)),
            )
        })?;
        let request = limited(call, operation, wanted);
        let mut auth = self.authorize(operation)?;
        let mut answer = self.send(&request, operation, &auth).await?;
        let may_send = auth.schemes.is_empty() && self.settings.auth.is_none();
        if let (401 | 403, true, Some(credential)) = (answer.status, may_send, &self.credential) {
            auth = self.answer_challenge(&answer, operation, credential)?;
            answer = self.send(&request, operation, &auth).await?;
            // Any other status than 401 means that the service took the credential, even if it does not allow the call.
            if answer.status != 401 {
                self.learn_auth(&auth);
            }
        }
        let url = &request.url;
        let context =
            ErrorContext { url, what: &operation.name, scopes: &auth.scopes, schemes: &auth.schemes, settings: &self.settings };
        if !self.servers.allows(&answer.url) {
            let fix = "if the service has moved, name its new URL in resource_ids";
            return Err(Failure::new(
                Class::EgressRefused,
                format!("{} redirected {} to {}", host_of(url), operation.name, host_of(&answer.url)),
                fix,
            ));
        }
        let what = format!("the response of {}", operation.name);
        let memory = self.wire.memory().reserve(json_memory::of_text(&answer.body)).await;
        let memory = memory.map_err(|bound| bound.failure(&what))?;
        let value = classify::parse_json(&answer, context)?;
        if let Some(records) = &operation.answer {
            classify::check_shape(&value, &records.schema, context)?;
        }
        Ok(JsonResponse { value, status: answer.status, bytes: answer.body.len(), schemes: auth.schemes, _memory: memory })
    }

    async fn send(&self, request: &GetRequest, operation: &Operation, auth: &CallAuth) -> Result<HttpResponse, Failure> {
        let mut headers: Vec<(String, Secret)> =
            request.headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), Secret::new(value.clone()))).collect();
        // A header parameter may describe the same header as the security scheme. The secret then takes precedence.
        headers.retain(|(name, _)| !auth.headers.iter().any(|(secret, _)| secret == name));
        headers.extend(auth.headers.iter().cloned());
        headers.push(("accept".into(), Secret::new("application/json".into())));
        let call = HttpRequest {
            method: Method::Get,
            url: request.url.clone(),
            headers,
            max_bytes: MAX_RESPONSE_BYTES,
            follow_redirects: false,
        };
        let sent = redirects::get(self.wire.as_ref(), call);
        sent.await.map_err(|failure| if is_too_long(&failure) { self.too_long(&request.url, operation) } else { failure })
    }

    fn too_long(&self, url: &url::Url, operation: &Operation) -> Failure {
        Failure::new(
            Class::Misconfigured,
            format!(
                "the response of {} for {} is longer than {} MiB, the limit of AAM for one response",
                host_of(url),
                operation.name,
                MAX_RESPONSE_BYTES >> 20
            ),
            format!(
                "name a path whose response is shorter, for example with a page limit: {}",
                self.settings.fix(&format!("health_path: \"{}?limit=20\"", operation.path))
            ),
        )
    }

    /// Decides how to send the credential after the service refused a call without it: as `WWW-Authenticate` says, or else in
    /// the only scheme that the description defines without requiring it.
    fn answer_challenge(
        &self,
        answer: &HttpResponse,
        operation: &Operation,
        credential: &Credential,
    ) -> Result<CallAuth, Failure> {
        let known = challenge::by_challenge(answer, credential).or_else(|| auth::only_declared(&self.documents, credential));
        known.ok_or_else(|| challenge::unknown_way(answer, &operation.name, &self.settings))
    }
}

/// The request with a page limit of `wanted` items, if the operation has a parameter for it.
fn limited(call: &GetRequest, operation: &Operation, wanted: Option<u32>) -> GetRequest {
    let mut request = call.clone();
    if let (Some(limit), Some(wanted)) = (&operation.limit, wanted) {
        let url = &mut request.url;
        let others: Vec<(String, String)> = url.query_pairs().into_owned().filter(|(name, _)| *name != limit.name).collect();
        url.query_pairs_mut().clear().extend_pairs(others).append_pair(&limit.name, &limit.value(wanted.into()).to_string());
    }
    request
}
