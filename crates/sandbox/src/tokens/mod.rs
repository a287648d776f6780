//! Token endpoints: who asks, for what, and what it gets.

mod authorize;
mod client;
mod grant;
mod issue;

use crate::config::{Client, TokenEndpoint};
use crate::dpop::nonce;
use crate::exchange::{Exchange, Rendered};
use crate::reply::Reply;
use crate::template::{Scope, Template};
use serde_json::json;
use std::sync::Arc;

/// Parameters that OAuth and its extensions know.
const OAUTH: [&str; 18] = [
    "grant_type",
    "client_id",
    "client_secret",
    "client_assertion",
    "client_assertion_type",
    "assertion",
    "scope",
    "code",
    "redirect_uri",
    "code_verifier",
    "refresh_token",
    "username",
    "password",
    "resource",
    "audience",
    "subject_token",
    "subject_token_type",
    "requested_token_type",
];

/// Why a token is refused. `code` names an error of the endpoint; `reason` makes the name more exact, if the vendor's file has an
/// error `CODE_REASON`.
pub enum TokenError {
    Refused {
        code: String,
        reason: String,
    },
    /// An answer of the vendor's API, for endpoints that are no endpoint of OAuth.
    Named(String),
    Template(minijinja::Error),
}

impl From<minijinja::Error> for TokenError {
    fn from(error: minijinja::Error) -> TokenError {
        TokenError::Template(error)
    }
}

fn refused<T>(code: &str, reason: &str) -> Result<T, TokenError> {
    Err(TokenError::Refused { code: code.to_owned(), reason: reason.to_owned() })
}

impl Exchange<'_> {
    /// The token endpoint of the request.
    pub fn token_endpoint(&self) -> Option<usize> {
        if self.request.method != "POST" {
            return None;
        }
        self.vendor
            .tokens
            .iter()
            .position(|endpoint| self.is_at(endpoint) && endpoint.path.captures(&self.request.path).is_some())
    }

    fn is_at(&self, endpoint: &TokenEndpoint) -> bool {
        let is_asked = |when: &Template| when.holds(&self.scope(None)).unwrap_or(false);
        endpoint.host.as_ref().is_none_or(|host| host.captures(&self.request.host).is_some())
            && endpoint.when.as_ref().is_none_or(is_asked)
    }

    /// Whether a client of the vendor seems to ask. Only used to choose among vendors that share a host.
    pub fn knows_client(&self) -> bool {
        let Some(endpoint) = self.token_endpoint().and_then(|at| self.vendor.tokens.get(at)) else { return false };
        matches!(self.find_client(endpoint), Ok(Some(_)))
    }

    /// A parameter of the form, of a JSON body, or of the query if the endpoint reads that.
    fn parameter(&self, endpoint: &TokenEndpoint, name: &str) -> Option<String> {
        let in_query = || self.request.query(name).filter(|_| endpoint.query.iter().any(|known| known == name));
        let found = self.request.form(name).map(str::to_owned);
        found.or_else(|| in_query().map(str::to_owned)).or_else(|| self.request.parameter("json", name))
    }

    /// Answers a request to the token endpoint `at`.
    ///
    /// # Errors
    /// Fails if a template does.
    pub fn run_token(&mut self, at: usize) -> Rendered<Reply> {
        let vendor = Arc::clone(&self.vendor);
        let Some(endpoint) = vendor.tokens.get(at) else { return self.named("not_found", &self.scope(None)) };
        let captures = endpoint.path.captures(&self.request.path).unwrap_or_default();
        if self.account.is_none()
            && let Some((_, name)) = captures.iter().find(|(name, _)| name == "account")
        {
            self.account = self.vendor.accounts.find(name);
            if self.account.is_none() {
                self.captures.extend(captures);
                return match endpoint.errors.get("no_account") {
                    Some(answer) => Reply::from_answer(answer, &self.scope(None)),
                    None => self.no_account(),
                };
            }
        }
        self.captures.extend(captures);
        if let Some(reply) = self.count_and_mood(true) {
            return Ok(reply);
        }
        self.check_token_parameters(endpoint);
        let reply = match self.issue_token(endpoint) {
            Ok(reply) => reply,
            Err(TokenError::Template(error)) => return Err(error),
            Err(TokenError::Named(name)) => self.named(&name, &self.scope(self.account.as_ref()))?,
            Err(TokenError::Refused { code, reason }) => self.refuse_token(endpoint, &code, &reason)?,
        };
        self.finish(reply)
    }

    fn check_token_parameters(&mut self, endpoint: &TokenEndpoint) {
        let in_query = self.request.query.iter().find(|(name, _)| !endpoint.query.contains(name));
        let in_form = self.request.form.iter().find(|(name, _)| {
            !OAUTH.contains(&name.as_str())
                && !endpoint.form.contains(name)
                && !endpoint.parameters.iter().any(|(own, _)| own == name)
        });
        let violation = match (in_query, in_form) {
            (Some((name, _)), _) => format!("the query parameter {name} is not in the vendor's file"),
            (None, Some((name, _))) => format!("the form's parameter {name} is not in the vendor's file"),
            (None, None) => return,
        };
        self.violate(violation);
    }

    /// The error `CODE_REASON`, or `CODE`, of the endpoint, or what RFC 6749 says.
    fn refuse_token(&self, endpoint: &TokenEndpoint, code: &str, reason: &str) -> Rendered<Reply> {
        let mut scope = self.scope(self.account.as_ref());
        scope.set("error", code);
        scope.set("reason", reason);
        let exact = format!("{code}_{reason}");
        let mut reply = match endpoint.errors.get(&exact).or_else(|| endpoint.errors.get(code)) {
            Some(answer) => Reply::from_answer(answer, &scope)?,
            None => {
                let status = if code == "invalid_client" { 401 } else { 400 };
                Reply::json(status, &json!({"error": code, "error_description": reason}))
            }
        };
        if code == "use_dpop_nonce" {
            reply.headers.push(("dpop-nonce".to_owned(), nonce(self.now())));
        }
        Ok(reply)
    }

    /// The names that templates of an endpoint use: `client`, and `claims` of an assertion.
    fn token_scope(&self, client: &Client, claims: Option<&crate::jwt::Jwt>) -> Scope {
        let mut scope = self.scope(self.account.as_ref());
        let mut data = client.credential.data.clone();
        if let serde_json::Value::Object(data) = &mut data {
            data.insert("id".to_owned(), client.id.as_str().into());
            data.remove("secret");
        }
        scope.set_json("client", &data);
        if let Some(jwt) = claims {
            scope.set_json("claims", &serde_json::Value::Object(jwt.claims.clone()));
        }
        scope
    }
}
