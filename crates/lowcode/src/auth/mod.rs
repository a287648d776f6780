//! Authenticators: what they add to a request, and the requests that they make to get it (`declarative/auth/`).

pub mod jwt;
pub mod oauth;
pub mod quotas;
mod request;
pub mod session;
pub mod token;

use super::context::{Context, EMPTY, Run};
use super::error::Failed;
use super::interpolation::{InterpolatedMapping, InterpolatedString};
use super::node::walk;
use super::request::option::{OptionPlace, RequestOption};
use super::value::{Dict, Value};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::BoxFuture;
use jwt::Jwt;
use oauth::{Assertion, OAuth};
use quotas::RateLimitedTokens;
pub use session::{BuildLogin, Login};
use session::{LegacySession, Session};
use std::sync::Arc;
use token::{TokenProvider, authorization};

/// The requester for which an authenticator is built.
#[derive(Clone, Copy)]
pub struct RequesterInfo<'a> {
    /// The name of the requester. The name of its login requester is derived from it.
    pub name: &'a str,
    /// The text of the requester's base URL.
    pub url_base: &'a str,
    /// Builds the requester of a login.
    pub build_login: BuildLogin,
}

/// An authenticator.
pub enum Authenticator {
    None,
    ApiKey {
        option: RequestOption,
        provider: TokenProvider,
    },
    Bearer(TokenProvider),
    Basic {
        username: InterpolatedString,
        password: InterpolatedString,
    },
    OAuth(Box<OAuth>),
    Jwt(Box<Jwt>),
    LegacySession(Box<LegacySession>),
    RateLimited(Box<RateLimitedTokens>),
    /// An authenticator with `aam_headers`: more headers that it sends with each request.
    WithHeaders {
        inner: Box<Authenticator>,
        headers: InterpolatedMapping,
    },
}

impl Authenticator {
    /// Builds an authenticator. A selective authenticator is replaced by the one that it selects.
    ///
    /// # Errors
    /// Fails with ValueError in the same cases as the CDK, and if a key cannot be used for signing.
    pub fn build(node: &Value, of: RequesterInfo<'_>, ctx: &Context<'_>) -> Result<Authenticator, Failed> {
        let built = Authenticator::build_plain(node, of, ctx)?;
        match (node.get("aam_headers").and_then(Value::as_dict), built) {
            (None, built) | (_, built @ Authenticator::WithHeaders { .. }) => Ok(built),
            (Some(headers), built) => {
                let headers = InterpolatedMapping::new(headers, node.get("$parameters").unwrap_or(&EMPTY));
                Ok(Authenticator::WithHeaders { inner: Box::new(built), headers })
            }
        }
    }

    /// Returns the authenticator without the headers of `aam_headers`.
    fn plain(&self) -> &Authenticator {
        match self {
            Authenticator::WithHeaders { inner, .. } => inner,
            other => other,
        }
    }

    fn build_plain(node: &Value, of: RequesterInfo<'_>, ctx: &Context<'_>) -> Result<Authenticator, Failed> {
        let parameters = node.get("$parameters").unwrap_or(&EMPTY);
        let text = |key: &str| InterpolatedString::new(node.get(key).and_then(Value::as_str).unwrap_or_default(), parameters);
        Ok(match node.get("type").and_then(Value::as_str).unwrap_or_default() {
            "NoAuth" => Authenticator::None,
            "ApiKeyAuthenticator" => Authenticator::ApiKey {
                option: token::api_key_option(node, parameters)?,
                provider: TokenProvider::Text(text("api_token")),
            },
            "BearerAuthenticator" => Authenticator::Bearer(TokenProvider::Text(text("api_token"))),
            "BasicHttpAuthenticator" => Authenticator::Basic { username: text("username"), password: text("password") },
            "OAuthAuthenticator" => Authenticator::OAuth(Box::new(OAuth::build(node, of.name, assertion(node, of, ctx)?, ctx)?)),
            "JwtAuthenticator" => Authenticator::Jwt(Box::new(Jwt::build(node, ctx)?)),
            "SessionTokenAuthenticator" => session_token(node, of, ctx)?,
            "LegacySessionTokenAuthenticator" => {
                Authenticator::LegacySession(Box::new(LegacySession::build(node, of.name, of.url_base)))
            }
            "RateLimitedMultipleTokenAuthenticator" => {
                Authenticator::RateLimited(Box::new(RateLimitedTokens::build(node, of, ctx)?))
            }
            "SelectiveAuthenticator" => Authenticator::build(selected(node, ctx)?, of, ctx)?,
            "CustomAuthenticator" => {
                let class = node.get("class_name").map(Value::to_str).unwrap_or_default();
                let message = format!("`CustomAuthenticator` runs the class `{class}`, which only Python can run");
                return Err(Failed::config("UnsupportedComponent", message));
            }
            other => return Err(Failed::system("ValueError", format!("Unknown authenticator {other}"))),
        })
    }

    /// Whether the header depends only on the config, so that it is the same each time.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        match self {
            Authenticator::None | Authenticator::Basic { .. } => true,
            Authenticator::ApiKey { provider, .. } | Authenticator::Bearer(provider) => {
                matches!(provider, TokenProvider::Text(_))
            }
            Authenticator::OAuth(_) | Authenticator::Jwt(_) | Authenticator::LegacySession(_) => false,
            Authenticator::RateLimited(_) | Authenticator::WithHeaders { .. } => false,
        }
    }

    /// Implements `get_auth_header`. Returns at most one header, and those of `aam_headers`.
    ///
    /// # Errors
    /// Fails if a template fails, or if a request for a token fails.
    pub async fn header(&self, run: &Run<'_>) -> Result<Dict, Failed> {
        let mut all = self.plain().plain_header(run).await?;
        if let Authenticator::WithHeaders { headers, .. } = self {
            all.extend(headers.eval(&run.scope(), &[])?);
        }
        Ok(all)
    }

    async fn plain_header(&self, run: &Run<'_>) -> Result<Dict, Failed> {
        match self {
            Authenticator::None | Authenticator::WithHeaders { .. } => Ok(Dict::default()),
            Authenticator::ApiKey { option, provider } if option.place == OptionPlace::Header => {
                // The CDK fetches the token three times: to see whether there is a header, for its name, and for its value.
                let mut header = Dict::default();
                provider.token(run).await?;
                let name = provider.token(run).await?;
                option.inject(&mut header, name.into(), &run.scope())?;
                let value = provider.token(run).await?;
                header.values_mut().for_each(|it| *it = Value::str(value.as_str()));
                Ok(header)
            }
            Authenticator::ApiKey { .. } => Ok(Dict::default()),
            Authenticator::Bearer(provider) => Ok(authorization(["Bearer ", &provider.token(run).await?].concat())),
            Authenticator::Basic { username, password } => {
                let scope = run.scope();
                let pair = format!("{}:{}", username.eval_str(&scope)?, password.eval_str(&scope)?);
                Ok(authorization(format!("Basic {}", STANDARD.encode(pair))))
            }
            Authenticator::OAuth(oauth) => oauth.header(run).await,
            Authenticator::Jwt(jwt) if jwt.option.place == OptionPlace::Header => {
                let mut header = Dict::default();
                jwt.option.inject(&mut header, jwt.token(run)?.into(), &run.scope())?;
                Ok(header)
            }
            Authenticator::Jwt(_) => Ok(Dict::default()),
            Authenticator::LegacySession(session) => session.header(run).await,
            Authenticator::RateLimited(tokens) => Ok(tokens.header(run)),
        }
    }

    /// Returns only the token, which an OAuth client uses as its assertion.
    ///
    /// # Errors
    /// Fails like [`Authenticator::header`].
    pub fn token<'s>(&'s self, run: &'s Run<'_>) -> BoxFuture<'s, Result<String, Failed>> {
        Box::pin(async move {
            match self.plain() {
                Authenticator::Jwt(jwt) => jwt.token(run),
                Authenticator::ApiKey { provider, .. } => provider.token(run).await,
                other => Ok(other.plain_header(run).await?.values().next().map(Value::to_str).unwrap_or_default()),
            }
        })
    }

    /// Returns the OAuth client, if this is one. No other authenticator can fetch another token on demand.
    #[must_use]
    pub fn oauth(&self) -> Option<&OAuth> {
        match self.plain() {
            Authenticator::OAuth(oauth) => Some(oauth),
            _ => None,
        }
    }

    /// Returns the tokens with quotas, if this is such an authenticator. It needs the request to choose a token.
    #[must_use]
    pub fn rate_limited(&self) -> Option<&RateLimitedTokens> {
        match self.plain() {
            Authenticator::RateLimited(tokens) => Some(tokens),
            _ => None,
        }
    }

    /// Returns the option that the authenticator adds at `place`.
    ///
    /// # Errors
    /// Fails like [`Authenticator::header`].
    pub async fn option(&self, place: OptionPlace, run: &Run<'_>) -> Result<Dict, Failed> {
        let mut target = Dict::default();
        match self.plain() {
            Authenticator::ApiKey { option, provider } if option.place == place => {
                option.inject(&mut target, provider.token(run).await?.into(), &run.scope())?;
            }
            Authenticator::Jwt(jwt) if jwt.option.place == place => {
                jwt.option.inject(&mut target, jwt.token(run)?.into(), &run.scope())?;
            }
            _ => {}
        }
        Ok(target)
    }

    /// Whether the manifest puts the secret into the URL.
    #[must_use]
    pub fn in_url(&self) -> bool {
        match self.plain() {
            Authenticator::ApiKey { option, .. } => option.place == OptionPlace::Query,
            Authenticator::Jwt(jwt) => jwt.option.place == OptionPlace::Query,
            _ => false,
        }
    }
}

impl Assertion for Authenticator {
    fn token<'s>(&'s self, run: &'s Run<'_>) -> BoxFuture<'s, Result<String, Failed>> {
        Authenticator::token(self, run)
    }
}

/// The authenticator whose token an OAuth client sends as its assertion.
fn assertion(node: &Value, of: RequesterInfo<'_>, ctx: &Context<'_>) -> Result<Option<Box<dyn Assertion>>, Failed> {
    match oauth::assertion(node) {
        Some(assertion) => Ok(Some(Box::new(Authenticator::build(assertion, of, ctx)?))),
        None => Ok(None),
    }
}

/// Builds a SessionTokenAuthenticator: a bearer token or an API key that comes from a login.
fn session_token(node: &Value, of: RequesterInfo<'_>, ctx: &Context<'_>) -> Result<Authenticator, Failed> {
    let session = Arc::new(Session::build(node, of.name, of.build_login, ctx)?);
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

/// Returns the authenticator that the config selects (`selective_authenticator.py`).
fn selected<'a>(node: &'a Value, ctx: &Context<'_>) -> Result<&'a Value, Failed> {
    let error = |message: String| Failed::system("ValueError", message);
    // `aam_selection`, which only this engine has, is a template of the key, for classes that select by a rule of their own.
    let key = match node.get("aam_selection").filter(|it| it.truthy()) {
        Some(template) => {
            let parameters = node.get("$parameters").unwrap_or(&EMPTY);
            InterpolatedString::new(&template.to_str(), parameters).eval_str(&ctx.scope())?
        }
        None => {
            let path = node.get("authenticator_selection_path").and_then(Value::as_list).unwrap_or_default();
            let found = walk(ctx.config.value(), path.iter().map(Value::to_str));
            let missing = || error("The path from `authenticator_selection_path` is not found in the config.".into());
            found.ok_or_else(missing)?.to_str()
        }
    };
    let authenticators = node.get("authenticators").and_then(Value::as_dict);
    authenticators.and_then(|it| it.get(&*key)).ok_or_else(|| error(format!("The authenticator `{key}` is not found.")))
}
