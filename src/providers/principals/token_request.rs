//! Requests to the token endpoint of an OAuth 2 server (RFC 6749, section 5), for all kinds that mint tokens.

use super::MintContext;
use crate::credentials::{Secret, redact};
use crate::egress::{HttpRequest, HttpResponse, Method, Session};
use crate::model::{Allowed, BodyRule, Failure, PostRule, Posts};
use crate::providers::Endpoint;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::collections::BTreeMap;
use std::time::Duration;
use url::Url;

/// The maximum size of the response of a token endpoint in bytes.
const MAX_RESPONSE_BYTES: u64 = 1 << 20;

/// A request for a token. The form is sent as a POST that only this request may send.
pub struct TokenRequest {
    pub url: Url,
    /// The form, in order. Values may be secret.
    pub form: Vec<(&'static str, Secret)>,
    /// Further headers, for example a proof of possession.
    pub headers: Vec<(String, Secret)>,
    /// Client id and secret for HTTP Basic authentication (RFC 6749, section 2.3.1).
    pub basic: Option<(String, Secret)>,
}

/// A token that the endpoint issued.
pub struct IssuedToken {
    pub access_token: Secret,
    /// `Bearer` unless the endpoint says otherwise.
    pub token_type: String,
    pub valid_for: Option<Duration>,
    /// The granted scopes, if the endpoint names them.
    pub scope: Option<String>,
    /// The whole response.
    pub fields: serde_json::Map<String, serde_json::Value>,
}

/// The endpoint's refusal, in its own terms (RFC 6749, section 5.2). All texts are scrubbed.
#[derive(Debug)]
pub struct TokenRefusal {
    pub status: u16,
    /// `invalid_client`, `invalid_grant`, ...; empty if the response does not say.
    pub error: String,
    pub description: String,
    /// The value of the header `DPoP-Nonce`, if any.
    pub dpop_nonce: Option<String>,
}

/// Why no token was issued.
pub enum NoToken {
    /// The endpoint refused.
    Refused(TokenRefusal),
    /// The call failed, or the response is not one of a token endpoint.
    Failed(Failure),
}

impl MintContext<'_> {
    /// Sends `request` and reads the response.
    ///
    /// # Errors
    /// Returns [`NoToken`].
    pub async fn request_token(&self, request: TokenRequest) -> Result<IssuedToken, NoToken> {
        let posts = request.posts(format!("credentials.principals.{}", self.name));
        let origin = request.url.origin().ascii_serialization();
        request.send(&self.providers.session(self.request, Endpoint::Tokens, &origin, posts)).await
    }
}

impl TokenRequest {
    /// Returns the list of POSTs that allows this request and nothing else. `list` says which entry of the policy it comes
    /// from.
    #[must_use]
    pub fn posts(&self, list: String) -> Posts {
        let shape = self.form.iter().map(|(name, _)| ((*name).to_string(), Allowed::Any)).collect();
        let rule = PostRule {
            url: format!("{}{}", self.url.origin().ascii_serialization(), self.url.path()),
            why: "mints a token; changes nothing".to_string(),
            query: BTreeMap::new(),
            headers: BTreeMap::new(),
            body: BodyRule::Form(shape),
            // The endpoint may count the same assertion twice as a replay.
            idempotent: false,
        };
        Posts { list, rules: vec![rule] }
    }

    /// Sends the request in a session with its [`TokenRequest::posts`], and reads the response.
    ///
    /// # Errors
    /// Returns [`NoToken`].
    pub async fn send(&self, session: &Session) -> Result<IssuedToken, NoToken> {
        let response = self.post(session).await.map_err(NoToken::Failed)?;
        let fields = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&response.body).unwrap_or_default();
        let text = |name: &str| fields.get(name).and_then(serde_json::Value::as_str).unwrap_or_default();
        if response.status != 200 || text("access_token").is_empty() {
            let shown = |name: &str, bytes: usize| redact::scrub_and_cut(text(name), bytes);
            let described = shown("error_description", 500);
            return Err(NoToken::Refused(TokenRefusal {
                status: response.status,
                error: shown("error", 100),
                description: if described.is_empty() { shown("message", 500) } else { described },
                dpop_nonce: response.header("dpop-nonce").map(str::to_string),
            }));
        }
        redact::learn_value(text("access_token"));
        let seconds = match fields.get("expires_in") {
            Some(serde_json::Value::String(text)) => text.trim().parse().ok(),
            Some(value) => value.as_u64(),
            None => None,
        };
        Ok(IssuedToken {
            access_token: Secret::new(text("access_token").to_string()),
            token_type: Some(text("token_type")).filter(|kind| !kind.is_empty()).unwrap_or("Bearer").to_string(),
            valid_for: seconds.map(Duration::from_secs),
            scope: Some(text("scope")).filter(|scope| !scope.is_empty()).map(str::to_string),
            fields,
        })
    }

    async fn post(&self, session: &Session) -> Result<HttpResponse, Failure> {
        let mut url = self.url.clone();
        let _ = (url.set_username(""), url.set_password(None));
        let (body, headers) = self.encoded();
        let method = Method::ListedPost(Some(body));
        session.http(HttpRequest { method, url, headers, max_bytes: MAX_RESPONSE_BYTES, follow_redirects: false }).await
    }

    /// Returns the body and the headers of the request.
    #[must_use]
    pub fn encoded(&self) -> (Secret, Vec<(String, Secret)>) {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        for (name, value) in &self.form {
            form.append_pair(name, value.expose());
        }
        let mut headers = vec![("accept".to_string(), Secret::new("application/json".to_string()))];
        if let Some((id, secret)) = &self.basic {
            let encode = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            let pair = STANDARD.encode(format!("{}:{}", encode(id), encode(secret.expose())));
            headers.push(("authorization".to_string(), Secret::new(format!("Basic {pair}"))));
        }
        headers.extend(self.headers.iter().cloned());
        (Secret::new(form.finish()), headers)
    }
}
