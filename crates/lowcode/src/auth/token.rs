//! The sources of a token (`token_provider.py`), and the API key (`token.py`).

use super::session::Session;
use crate::context::Run;
use crate::error::Failed;
use crate::interpolation::{InterpolatedString, Scope};
use crate::request::option::{OptionPlace, RequestOption};
use crate::value::{Dict, Value};
use std::sync::Arc;

/// A source of tokens.
pub enum TokenProvider {
    /// A template that is evaluated with the config.
    Text(InterpolatedString),
    /// The token that a login returns.
    Session(Arc<Session>),
    /// A template that is evaluated with the token that a login returns.
    Templated { template: InterpolatedString, session: Arc<Session> },
}

impl TokenProvider {
    /// Returns the token.
    ///
    /// # Errors
    /// Fails if the template fails, or if the login request fails.
    pub async fn token(&self, run: &Run<'_>) -> Result<String, Failed> {
        match self {
            TokenProvider::Text(text) => Ok(text.eval_str(&run.scope())?),
            TokenProvider::Session(session) => Ok(session.token(run).await?.to_str()),
            TokenProvider::Templated { template, session } => {
                let token = session.token(run).await?;
                let vars = vec![("session_token", &token)];
                Ok(template.eval_str(&Scope { vars, ..run.scope() })?)
            }
        }
    }
}

/// Returns where an API key goes: `inject_into`, or the deprecated `header`.
pub(super) fn api_key_option(node: &Value, parameters: &Value) -> Result<RequestOption, Failed> {
    let error = |message: &str| Err(Failed::system("ValueError", message));
    let given = |key: &str| node.get(key).filter(|it| !it.is_none());
    match (given("inject_into"), given("header")) {
        (None, None) => error("Expected either inject_into or header to be set for ApiKeyAuthenticator"),
        (Some(_), Some(_)) => {
            error("inject_into and header cannot be set both for ApiKeyAuthenticator - remove the deprecated header option")
        }
        (Some(option), None) => RequestOption::build(option, parameters),
        (None, Some(header)) => Ok(RequestOption::named(OptionPlace::Header, &header.to_str(), parameters)),
    }
}

/// Returns the header `Authorization`.
pub(super) fn authorization(value: String) -> Dict {
    Dict::from_iter([("Authorization".into(), value.into())])
}
