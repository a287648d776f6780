//! The documents of the issuer (OpenID Connect Discovery 1.0): its addresses, and the keys that it signs with.

use super::keys::Keys;
use super::{OidcClient, OidcDocuments, lock};
use crate::credentials::Secret;
use crate::credentials::redact;
use crate::egress::{HttpRequest, Method};
use crate::model::recipient::{is_loopback, normal_host};
use crate::model::{Class, Failure, Posts, Timestamp};
use crate::policy::OidcPolicy;
use data_encoding::BASE64URL_NOPAD;
use ring::digest::{SHA256, digest};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// How long the documents are used before they are read again.
const VALIDITY: Duration = Duration::from_secs(600);
/// How long new keys are waited for after keys were read: a token that names an unknown key causes at most one call in this
/// time.
const MIN_KEYS_AGE: Duration = Duration::from_secs(10);
/// The maximum size of a document in bytes. Those of large issuers have about 20 KiB.
const MAX_DOCUMENT_BYTES: u64 = 256 << 10;

/// What the discovery document says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovered {
    /// The issuer as it writes itself. ID tokens must name exactly this one.
    pub issuer: String,
    pub authorization_endpoint: Url,
    pub token_endpoint: Url,
    pub jwks_uri: Url,
    /// Whether the client's secret is sent in the body, because the issuer does not take it in a header.
    pub secret_in_body: bool,
    /// Whether the answer at the callback names the issuer (RFC 9207).
    pub names_issuer: bool,
}

/// What the authorization request carries besides the client.
pub struct Authorization<'a> {
    pub redirect: &'a str,
    pub state: &'a str,
    pub nonce: &'a str,
    /// The PKCE verifier, of which the request carries the digest.
    pub verifier: &'a str,
}

impl Discovered {
    /// Returns the address to which the browser goes (RFC 6749, section 4.1.1; RFC 7636; OpenID Connect Core, section 3.1.2.1).
    #[must_use]
    pub fn authorization_url(&self, settings: &OidcPolicy, request: &Authorization<'_>) -> Url {
        let mut scopes = vec!["openid"];
        scopes.extend(settings.scopes.iter().map(String::as_str).filter(|scope| *scope != "openid"));
        let scopes = scopes.join(" ");
        let challenge = BASE64URL_NOPAD.encode(digest(&SHA256, request.verifier.as_bytes()).as_ref());
        let mut url = self.authorization_endpoint.clone();
        url.query_pairs_mut().extend_pairs([
            ("response_type", "code"),
            ("client_id", settings.client_id.as_str()),
            ("redirect_uri", request.redirect),
            ("scope", scopes.as_str()),
            ("state", request.state),
            ("nonce", request.nonce),
            ("code_challenge", challenge.as_str()),
            ("code_challenge_method", "S256"),
        ]);
        url
    }
}

impl OidcClient {
    /// Returns what the issuer's discovery document says, read at most ten minutes ago.
    ///
    /// # Errors
    /// Returns the failure of the call, `WrongService` if the document is that of another issuer, and `Remote` if it is not
    /// valid.
    pub async fn discover(&self, documents: &OidcDocuments) -> Result<Arc<Discovered>, Failure> {
        let now = self.providers.clock.now();
        let address = format!("{}/.well-known/openid-configuration", self.settings.issuer.trim_end_matches('/'));
        if let Some((from, at, known)) = &*lock(&documents.discovered)
            && *from == address
            && is_fresh(*at, now)
        {
            return Ok(Arc::clone(known));
        }
        let url = Url::parse(&address).map_err(|_| not_valid(&self.settings, "its address is not a URL"))?;
        let document = self.document(&url).await?;
        let discovered = Arc::new(self.read(&document)?);
        *lock(&documents.discovered) = Some((address, now, Arc::clone(&discovered)));
        Ok(discovered)
    }

    /// Returns the keys of the issuer. With `anew`, they are read again unless they were just read.
    ///
    /// # Errors
    /// Returns the failure of the call.
    pub(super) async fn keys(&self, documents: &OidcDocuments, url: &Url, anew: bool) -> Result<Arc<Keys>, Failure> {
        let now = self.providers.clock.now();
        if let Some((from, at, known)) = &*lock(&documents.keys)
            && from == url
            && is_fresh(*at, now)
            && !(anew && now.since(*at) >= MIN_KEYS_AGE)
        {
            return Ok(Arc::clone(known));
        }
        let keys = Arc::new(Keys::read(&self.document(url).await?));
        *lock(&documents.keys) = Some((url.clone(), now, Arc::clone(&keys)));
        Ok(keys)
    }

    async fn document(&self, url: &Url) -> Result<Value, Failure> {
        let headers = vec![("accept".to_string(), Secret::new("application/json".to_string()))];
        let request =
            HttpRequest { method: Method::Get, url: url.clone(), headers, max_bytes: MAX_DOCUMENT_BYTES, follow_redirects: true };
        let response = self.session(url, Posts::default()).http(request).await?;
        if response.status != 200 {
            return Err(not_valid(&self.settings, &format!("{url} answered {}", response.status)));
        }
        serde_json::from_slice(&response.body).map_err(|_| not_valid(&self.settings, &format!("{url} is not JSON")))
    }

    fn read(&self, document: &Value) -> Result<Discovered, Failure> {
        let settings = &self.settings;
        let text = |name: &str| document.get(name).and_then(Value::as_str);
        let issuer = text("issuer").ok_or_else(|| not_valid(settings, "its discovery document does not name an issuer"))?;
        if issuer.trim_end_matches('/') != settings.issuer.trim_end_matches('/') {
            let shown = redact::scrub_and_cut(issuer, 200);
            return Err(Failure::new(
                Class::WrongService,
                format!("the discovery document of {} is that of the issuer {shown:?}", settings.issuer),
                "write the issuer exactly as it writes itself under api.oidc.issuer in the policy",
            ));
        }
        let endpoint = |name: &str| {
            let url = text(name).and_then(|text| Url::parse(text).ok());
            url.filter(is_safe).ok_or_else(|| {
                not_valid(settings, &format!("the address {name} in its discovery document is missing or does not use https"))
            })
        };
        let methods: Option<Vec<&str>> = document
            .get("token_endpoint_auth_methods_supported")
            .and_then(Value::as_array)
            .map(|methods| methods.iter().filter_map(Value::as_str).collect());
        // Without the list, the issuer takes client_secret_basic (OpenID Connect Discovery, section 3).
        let secret_in_body =
            methods.is_some_and(|methods| !methods.contains(&"client_secret_basic") && methods.contains(&"client_secret_post"));
        Ok(Discovered {
            issuer: issuer.to_string(),
            authorization_endpoint: endpoint("authorization_endpoint")?,
            token_endpoint: endpoint("token_endpoint")?,
            jwks_uri: endpoint("jwks_uri")?,
            secret_in_body,
            names_issuer: document.get("authorization_response_iss_parameter_supported") == Some(&Value::Bool(true)),
        })
    }
}

/// Whether secrets may be sent to `url`: it uses TLS, or it is on this machine.
fn is_safe(url: &Url) -> bool {
    let is_local = || is_loopback(&normal_host(url.host_str().unwrap_or_default()));
    let has_user = !url.username().is_empty() || url.password().is_some();
    !has_user && (url.scheme() == "https" || url.scheme() == "http" && is_local())
}

/// A clock that was set back makes a document neither fresh nor stale; it is read again then.
fn is_fresh(read_at: Timestamp, now: Timestamp) -> bool {
    read_at <= now && now.since(read_at) < VALIDITY
}

/// The failure for an issuer that does not answer as the standard says.
pub(super) fn not_valid(settings: &OidcPolicy, what: &str) -> Failure {
    Failure::new(
        Class::Remote,
        format!("the issuer {} cannot be used: {what}", settings.issuer),
        "compare api.oidc.issuer in the policy with the documentation of the issuer; if it is right, ask the people who run it",
    )
}
