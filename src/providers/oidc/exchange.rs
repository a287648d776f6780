//! The answer at the callback: from its parameters to the claims of the person.

use super::discovery::{Discovered, not_valid};
use super::id_token::{self, Expected, Refused};
use super::{CallbackQuery, OidcClient, OidcDocuments};
use crate::credentials::redact::{self, AttemptSecrets};
use crate::credentials::{Credential, Secret};
use crate::families;
use crate::model::{Class, Failure, Locator};
use crate::providers::principals::token_request::{IssuedToken, NoToken, TokenRefusal, TokenRequest};
use crate::providers::{CredentialRequest, Reading};
use serde_json::{Map, Value};
use std::sync::Arc;

/// The family under which the provider of a credential counts what it reads for the client.
const FAMILY: &str = "openapi";

/// What the authorization request was made with.
pub struct Begun<'a> {
    pub redirect: &'a str,
    pub nonce: &'a str,
    pub verifier: &'a str,
}

impl OidcClient {
    /// Ends the sign-in with the parameters that the issuer gave to the callback, whose `state` the caller has checked: checks
    /// who answers and errors, exchanges the code, and checks the ID token. Returns its claims.
    ///
    /// # Errors
    /// Returns `PermissionDenied` if the person or the issuer refused, `CredentialMissing` if the issuer does not accept the
    /// client, `WrongService` if the answer or the ID token is not for this sign-in, or the failure of a call.
    pub async fn identify(
        &self,
        documents: &OidcDocuments,
        answer: &CallbackQuery,
        begun: &Begun<'_>,
    ) -> Result<Map<String, Value>, Failure> {
        // What is learned for the sign-in is forgotten afterwards.
        let work = self.finish(documents, answer, begun);
        AttemptSecrets::new(&[]).run(async { work.await.map_err(redact::scrub_failure) }).await
    }

    async fn finish(
        &self,
        documents: &OidcDocuments,
        answer: &CallbackQuery,
        begun: &Begun<'_>,
    ) -> Result<Map<String, Value>, Failure> {
        let discovered = self.discover(documents).await?;
        self.check_issuer(answer, &discovered)?;
        if let Some(error) = &answer.error {
            return Err(self.refused(error, answer.error_description.as_deref().unwrap_or_default()));
        }
        let Some(code) = answer.code.as_ref().filter(|code| !code.expose().is_empty()) else {
            return Err(not_valid(&self.settings, "its answer has neither a code nor an error"));
        };
        redact::learn_value(code.expose());
        let issued = self.exchange(&discovered, code, begun).await?;
        let token = issued.fields.get("id_token").and_then(Value::as_str).filter(|token| !token.is_empty());
        let token = token.map(|token| Secret::new(token.to_string())).ok_or_else(|| {
            let what = "its token endpoint did not issue an ID token; let the client use the scope openid";
            not_valid(&self.settings, what)
        })?;
        self.claims(documents, &discovered, &token, begun.nonce).await
    }

    /// Checks the issuer of the answer (RFC 9207), so that an answer of another server is not taken for one of this.
    fn check_issuer(&self, answer: &CallbackQuery, discovered: &Discovered) -> Result<(), Failure> {
        let title = match answer.iss.as_deref() {
            Some(issuer) if issuer == discovered.issuer => return Ok(()),
            None if !discovered.names_issuer => return Ok(()),
            Some(other) => {
                format!("the answer comes from {:?}, not from {}", redact::scrub_and_cut(other, 200), discovered.issuer)
            }
            None => format!("the answer does not say that it comes from {}", discovered.issuer),
        };
        Err(Failure::new(Class::WrongService, title, "sign in again"))
    }

    /// The failure for an error that the issuer sent to the callback.
    fn refused(&self, error: &str, description: &str) -> Failure {
        let (error, description) = (redact::scrub_and_cut(error, 100), redact::scrub_and_cut(description, 500));
        let issuer = &self.settings.issuer;
        let failure = match error.as_str() {
            "access_denied" | "login_required" | "interaction_required" | "consent_required" => Failure::new(
                Class::PermissionDenied,
                format!("{issuer} reports that the sign-in was refused"),
                "sign in again, or ask the people who run the issuer whether you may use this application",
            ),
            "server_error" | "temporarily_unavailable" => {
                Failure::new(Class::Remote, format!("{issuer} could not handle the sign-in"), "sign in again in some minutes")
            }
            _ => Failure::new(
                Class::CredentialMissing,
                format!("{issuer} does not accept the request of AAM"),
                "compare client_id, redirect and scopes of api.oidc in the policy with the client that is registered at the issuer",
            ),
        };
        failure.detail(quoted(&error, &description))
    }

    async fn exchange(&self, discovered: &Discovered, code: &Secret, begun: &Begun<'_>) -> Result<IssuedToken, Failure> {
        let mut request = TokenRequest::new(discovered.token_endpoint.clone(), "authorization_code");
        request.add_secret("code", code.clone());
        request.add("redirect_uri", begun.redirect);
        request.add_secret("code_verifier", Secret::new(begun.verifier.to_string()));
        let client_id = &self.settings.client_id;
        match &self.settings.client_secret {
            Some(locator) => {
                let secret = self.client_secret(locator).await?;
                if discovered.secret_in_body {
                    request.add("client_id", client_id);
                    request.add_secret("client_secret", secret);
                } else {
                    request.basic = Some((client_id.clone(), secret));
                }
            }
            None => request.add("client_id", client_id),
        }
        let posts = request.posts("api.oidc".to_string());
        let session = self.session(&request.url, posts);
        request.send(&session).await.map_err(|reason| match reason {
            NoToken::Failed(failure) => failure,
            NoToken::Refused(refusal) => self.not_exchanged(&refusal),
        })
    }

    fn not_exchanged(&self, refusal: &TokenRefusal) -> Failure {
        let issuer = &self.settings.issuer;
        let failure = match refusal.error.as_str() {
            "invalid_grant" => Failure::new(
                Class::WrongService,
                format!("{issuer} does not accept the code: it was used before, has ended, or belongs to another callback"),
                "sign in again",
            ),
            "temporarily_unavailable" | "server_error" => Failure::new(
                Class::Remote,
                format!("{issuer} cannot issue tokens at the moment"),
                "sign in again in some minutes",
            ),
            _ if refusal.status >= 500 => {
                let title = format!("the token endpoint of {issuer} failed with {}", refusal.status);
                Failure::new(Class::Remote, title, "sign in again in some minutes")
            }
            _ => Failure::new(
                Class::CredentialMissing,
                format!("{issuer} does not accept AAM's client {}", self.settings.client_id),
                "compare client_id and client_secret of api.oidc in the policy with the client that is registered at the issuer",
            ),
        };
        failure.detail(quoted(&refusal.error, &refusal.description))
    }

    /// Reads the secret of the client.
    async fn client_secret(&self, locator: &Locator) -> Result<Secret, Failure> {
        let Some(family) = families::find(FAMILY) else {
            return Err(Failure::new(Class::Bug, format!("the family {FAMILY} is missing"), "report this as a defect of AAM"));
        };
        let request = CredentialRequest {
            locator: locator.clone(),
            connection: self.connection(),
            namespace: self.policy.namespace.clone(),
            owner: String::new(),
            family: Arc::clone(family),
            resource_ids: Arc::default(),
            policy: Arc::clone(&self.policy),
            reading: Reading::Cached,
        };
        let provided = self.providers.provide_setting(&request, locator).await?;
        secret_text(&provided.credential).ok_or_else(|| {
            Failure::new(
                Class::CredentialMissing,
                format!("{locator} has no client_secret for api.oidc"),
                "store the secret of the client there, as text or as the field client_secret",
            )
        })
    }

    /// Checks the ID token. If none of the known keys signed it, the keys are read again, because issuers replace them.
    async fn claims(
        &self,
        documents: &OidcDocuments,
        discovered: &Discovered,
        token: &Secret,
        nonce: &str,
    ) -> Result<Map<String, Value>, Failure> {
        let now = self.providers.clock.now();
        let expected = Expected { issuer: &discovered.issuer, client_id: &self.settings.client_id, nonce, now };
        let keys = self.keys(documents, &discovered.jwks_uri, false).await?;
        let mut checked = id_token::check(token, &keys, &expected);
        if checked == Err(Refused::NoKey) {
            let keys = self.keys(documents, &discovered.jwks_uri, true).await?;
            checked = id_token::check(token, &keys, &expected);
        }
        checked.map_err(|refused| {
            let reason = match refused {
                Refused::NoKey => "it is signed with a key that the issuer does not publish",
                Refused::Because(reason) => reason,
            };
            let title = format!("the ID token of {} is not accepted: {reason}", self.settings.issuer);
            Failure::new(Class::WrongService, title, "sign in again; if it happens again, ask the people who run AAM")
        })
    }
}

/// The issuer's own text, marked as such.
fn quoted(error: &str, description: &str) -> String {
    match (error, description) {
        ("", "") => "the issuer does not say why".to_string(),
        (error, "") => format!("the issuer says: {error:?}"),
        ("", description) => format!("the issuer says: {description:?}"),
        (error, description) => format!("the issuer says: {error:?}, {description:?}"),
    }
}

fn secret_text(credential: &Credential) -> Option<Secret> {
    let found = credential.plain().or_else(|| credential.any(&["client_secret"]));
    found.map(|secret| Secret::new(secret.expose().trim().to_string()))
}
