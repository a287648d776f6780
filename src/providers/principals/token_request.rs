//! Requests to the token endpoint of an OAuth 2 server (RFC 6749, section 5), for all kinds that mint tokens.

pub use super::token_response::{IssuedToken, NoToken, TokenRefusal};
use super::{MintContext, token_response};
use crate::credentials::{Secret, redact};
use crate::egress::{HttpRequest, HttpResponse, Method, Session};
use crate::model::{Allowed, BodyRule, Failure, PostRule, Posts};
use crate::providers::Endpoint;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use url::Url;

/// The maximum size of the response of a token endpoint in bytes.
const MAX_RESPONSE_BYTES: u64 = 1 << 20;

/// The parameters whose values are not secret. All others are taught to the redactor.
const PUBLIC_PARAMETERS: [&str; 13] = [
    "account_id",
    "audience",
    "box_subject_id",
    "box_subject_type",
    "client_assertion_type",
    "client_id",
    "grant_type",
    "redirect_uri",
    "requested_token_type",
    "resource",
    "scope",
    "subject_token_type",
    "token_type_hint",
];

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

impl MintContext<'_> {
    /// Sends `request` and reads the response.
    ///
    /// # Errors
    /// Returns [`NoToken`].
    pub async fn request_token(&self, request: TokenRequest) -> Result<IssuedToken, NoToken> {
        let posts = request.posts(format!("credentials.principals.{}", self.name));
        let origin = request.url.origin().ascii_serialization();
        self.asked.store(true, Ordering::Relaxed);
        request.send(&self.providers.session(self.request, Endpoint::Tokens, &origin, posts)).await
    }
}

impl TokenRequest {
    /// Creates a request for a token by the grant type `grant`.
    #[must_use]
    pub fn new(url: Url, grant: &str) -> TokenRequest {
        let form = vec![("grant_type", Secret::new(grant.to_string()))];
        TokenRequest { url, form, headers: Vec::new(), basic: None }
    }

    /// Adds a parameter to the form.
    pub fn add(&mut self, name: &'static str, value: &str) {
        self.form.push((name, Secret::new(value.to_string())));
    }

    /// Adds a secret parameter to the form.
    pub fn add_secret(&mut self, name: &'static str, value: Secret) {
        self.form.push((name, value));
    }

    /// Returns the list of POSTs that allows this request and nothing else. `list` says which entry of the policy it comes
    /// from.
    #[must_use]
    pub fn posts(&self, list: String) -> Posts {
        let shape = self.form.iter().map(|(name, _)| ((*name).to_string(), Allowed::Any)).collect();
        let rule = PostRule {
            url: format!("{}{}", self.url.origin().ascii_serialization(), self.url.path()),
            why: "mints a token; changes nothing".to_string(),
            query: self.url.query_pairs().map(|(name, value)| (name.into(), Allowed::Is(value.into()))).collect(),
            headers: BTreeMap::new(),
            body: BodyRule::Form(shape),
            // The endpoint may count the same assertion twice as a replay.
            idempotent: false,
        };
        Posts { list, rules: vec![rule] }
    }

    /// Sends the request in a session with its [`TokenRequest::posts`], and reads the response. What the endpoint must keep
    /// secret is taught to the redactor before, because an error text may repeat it.
    ///
    /// # Errors
    /// Returns [`NoToken`].
    pub async fn send(&self, session: &Session) -> Result<IssuedToken, NoToken> {
        for (_, value) in self.form.iter().filter(|(name, _)| !PUBLIC_PARAMETERS.contains(name)) {
            redact::learn_value(value.expose());
        }
        let response = self.post(session).await.map_err(NoToken::Failed)?;
        token_response::read(&response)
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
        let mut headers = vec![("accept".to_string(), Secret::new("application/json".to_string()))];
        if let Some((id, secret)) = &self.basic {
            redact::learn_value(secret.expose());
            let encode = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            let pair = STANDARD.encode(format!("{}:{}", encode(id), encode(secret.expose())));
            redact::learn_value(&pair);
            headers.push(("authorization".to_string(), Secret::new(format!("Basic {pair}"))));
        }
        headers.extend(self.headers.iter().cloned());
        (form_text(&self.form), headers)
    }
}

/// Writes the form as `application/x-www-form-urlencoded`.
fn form_text(form: &[(&'static str, Secret)]) -> Secret {
    let mut text = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in form {
        text.append_pair(name, value.expose());
    }
    Secret::new(text.finish())
}
