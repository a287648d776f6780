//! Authenticators: what they put into a request, and the calls they make for it (`declarative/auth/`).

pub mod jwt;
pub mod oauth;
mod request;
pub mod session;
pub mod store;
pub mod token;

use super::context::{Context, Run};
use super::error::Failed;
use super::errors::{EMPTY, scope_with as scope};
use super::interpolation::InterpolatedString;
use super::request::option::{Place, RequestOption};
use super::value::{Dict, Value};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::BoxFuture;
use jwt::Jwt;
use oauth::OAuth;
use session::{LegacySession, Session};
use std::sync::Arc;
use token::TokenProvider;

/// What an authenticator is told when it is built.
#[derive(Clone, Copy, Debug)]
pub struct At<'a> {
    /// The requester's name: login requesters are called after it.
    pub name: &'a str,
    /// The text of the requester's base URL.
    pub url_base: &'a str,
}

/// An authenticator.
pub enum Authenticator {
    None,
    ApiKey { option: RequestOption, provider: TokenProvider },
    Bearer(TokenProvider),
    Basic { username: InterpolatedString, password: InterpolatedString },
    OAuth(Box<OAuth>),
    Jwt(Box<Jwt>),
    LegacySession(Box<LegacySession>),
}

impl Authenticator {
    /// Reads an authenticator; one that selects is replaced by the one it selects.
    ///
    /// # Errors
    /// ValueError as the CDK raises it when it builds them, and where a key cannot sign.
    pub fn build(node: &Value, at: At<'_>, ctx: &Context<'_>) -> Result<Authenticator, Failed> {
        let parameters = node.get("$parameters").unwrap_or(&EMPTY);
        let text = |key: &str| InterpolatedString::new(node.get(key).and_then(Value::as_str).unwrap_or_default(), parameters);
        Ok(match node.get("type").and_then(Value::as_str).unwrap_or_default() {
            "NoAuth" => Authenticator::None,
            "ApiKeyAuthenticator" => token::api_key(node, parameters)?,
            "BearerAuthenticator" => Authenticator::Bearer(TokenProvider::Text(text("api_token"))),
            "BasicHttpAuthenticator" => Authenticator::Basic { username: text("username"), password: text("password") },
            "OAuthAuthenticator" => Authenticator::OAuth(Box::new(OAuth::build(node, at, ctx)?)),
            "JwtAuthenticator" => Authenticator::Jwt(Box::new(Jwt::build(node, ctx)?)),
            "SessionTokenAuthenticator" => session_token(node, at, ctx)?,
            "LegacySessionTokenAuthenticator" => Authenticator::LegacySession(Box::new(LegacySession::build(node, at))),
            "SelectiveAuthenticator" => Authenticator::build(selected(node, ctx)?, at, ctx)?,
            other => return Err(Failed::system("ValueError", format!("Unknown authenticator {other}"))),
        })
    }

    /// Whether the header comes from the config alone: asked again, it is the same.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        match self {
            Authenticator::None | Authenticator::Basic { .. } => true,
            Authenticator::ApiKey { provider, .. } | Authenticator::Bearer(provider) => {
                matches!(provider, TokenProvider::Text(_))
            }
            Authenticator::OAuth(_) | Authenticator::Jwt(_) | Authenticator::LegacySession(_) => false,
        }
    }

    /// `get_auth_header`: at most one header.
    ///
    /// # Errors
    /// What the templates raise and the calls for a token come to.
    pub async fn header(&self, run: &Run<'_>) -> Result<Dict, Failed> {
        match self {
            Authenticator::None => Ok(Dict::default()),
            Authenticator::ApiKey { option, provider } if option.place == Place::Header => {
                // The CDK asks for the token three times: whether there is a header, its name, and its value.
                let mut header = Dict::default();
                provider.token(run).await?;
                let name = provider.token(run).await?;
                option.inject(&mut header, name.into(), &scope(run))?;
                let value = provider.token(run).await?;
                header.values_mut().for_each(|it| *it = Value::str(value.as_str()));
                Ok(header)
            }
            Authenticator::ApiKey { .. } => Ok(Dict::default()),
            Authenticator::Bearer(provider) => Ok(authorization(["Bearer ", &provider.token(run).await?].concat())),
            Authenticator::Basic { username, password } => {
                let scope = scope(run);
                let pair = format!("{}:{}", username.eval_str(&scope)?, password.eval_str(&scope)?);
                Ok(authorization(format!("Basic {}", STANDARD.encode(pair))))
            }
            Authenticator::OAuth(oauth) => oauth.header(run).await,
            Authenticator::Jwt(jwt) if jwt.option.place == Place::Header => {
                let mut header = Dict::default();
                jwt.option.inject(&mut header, jwt.token(run)?.into(), &scope(run))?;
                Ok(header)
            }
            Authenticator::Jwt(_) => Ok(Dict::default()),
            Authenticator::LegacySession(session) => session.header(run).await,
        }
    }

    /// The token alone, as an OAuth client takes it for its assertion.
    ///
    /// # Errors
    /// As [`Authenticator::header`].
    pub fn token<'s>(&'s self, run: &'s Run<'_>) -> BoxFuture<'s, Result<String, Failed>> {
        Box::pin(async move {
            match self {
                Authenticator::Jwt(jwt) => jwt.token(run),
                Authenticator::ApiKey { provider, .. } => provider.token(run).await,
                other => Ok(other.header(run).await?.values().next().map(Value::to_str).unwrap_or_default()),
            }
        })
    }

    /// The OAuth client, which alone can fetch another token on demand.
    #[must_use]
    pub fn oauth(&self) -> Option<&OAuth> {
        match self {
            Authenticator::OAuth(oauth) => Some(oauth),
            _ => None,
        }
    }

    /// The option that the authenticator puts at `place`.
    ///
    /// # Errors
    /// As [`Authenticator::header`].
    pub async fn option(&self, place: Place, run: &Run<'_>) -> Result<Dict, Failed> {
        let mut target = Dict::default();
        match self {
            Authenticator::ApiKey { option, provider } if option.place == place => {
                option.inject(&mut target, provider.token(run).await?.into(), &scope(run))?;
            }
            Authenticator::Jwt(jwt) if jwt.option.place == place => {
                jwt.option.inject(&mut target, jwt.token(run)?.into(), &scope(run))?;
            }
            _ => {}
        }
        Ok(target)
    }

    /// Whether the secret goes into the URL, by the manifest's own choice.
    #[must_use]
    pub fn in_url(&self) -> bool {
        match self {
            Authenticator::ApiKey { option, .. } => option.place == Place::Query,
            Authenticator::Jwt(jwt) => jwt.option.place == Place::Query,
            _ => false,
        }
    }
}

fn authorization(value: String) -> Dict {
    Dict::from_iter([("Authorization".into(), value.into())])
}

/// A SessionTokenAuthenticator is a bearer or an API key whose token comes from a login.
fn session_token(node: &Value, at: At<'_>, ctx: &Context<'_>) -> Result<Authenticator, Failed> {
    let session = Arc::new(Session::build(node, at, ctx)?);
    let request = node.get("request_authentication").unwrap_or(&EMPTY);
    if request.get("type").and_then(Value::as_str) == Some("Bearer") {
        return Ok(Authenticator::Bearer(TokenProvider::Session(session)));
    }
    let template = request.get("api_token").filter(|it| it.truthy()).map(Value::to_str);
    let template = template.unwrap_or_else(|| "{{ session_token }}".to_owned());
    let parameters = node.get("$parameters").unwrap_or(&EMPTY);
    let provider = TokenProvider::Templated { template: InterpolatedString::new(&template, parameters), session };
    Ok(Authenticator::ApiKey { option: token::api_key_option(request, &EMPTY)?, provider })
}

/// The authenticator that the config selects (`selective_authenticator.py`).
fn selected<'a>(node: &'a Value, ctx: &Context<'_>) -> Result<&'a Value, Failed> {
    let error = |message: String| Failed::system("ValueError", message);
    let path = node.get("authenticator_selection_path").and_then(Value::as_list).unwrap_or_default();
    let found = token::walk(ctx.config.value(), path.iter().map(Value::to_str));
    let key = found.ok_or_else(|| error("The path from `authenticator_selection_path` is not found in the config.".into()))?;
    let key = key.to_str();
    let authenticators = node.get("authenticators").and_then(Value::as_dict);
    authenticators.and_then(|it| it.get(&*key)).ok_or_else(|| error(format!("The authenticator `{key}` is not found.")))
}
