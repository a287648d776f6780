//! Session tokens: from a login requester (`token_provider.py`), or from the older mechanism of Metabase (`token.py`).

use super::request::{send_once, token_request};
use crate::context::{Context, EMPTY, Run};
use crate::datetime::DateTime;
use crate::datetime::iso::{Span, parse_duration};
use crate::decode::Decoder;
use crate::error::Failed;
use crate::errors::mapping;
use crate::host::HostRequest;
use crate::interpolation::InterpolatedString;
use crate::node::walk;
use crate::request::merge::Options;
use crate::response::Response;
use crate::value::{Dict, Value};
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use std::sync::{Mutex, PoisonError};

/// Sends the request of a login. The implementation is a requester, which has an authenticator of its own. Because of
/// this trait, the authenticators do not depend on the requester.
pub trait Login: Send + Sync {
    /// Sends the request. Returns `None` if there was no response and the error handler ignores that.
    fn send<'s>(&'s self, run: &'s Run<'_>) -> BoxFuture<'s, Result<Option<Response>, Failed>>;

    /// Returns a text that is equal for two logins with the same config if they send the same request. It does not cover
    /// the authorization, which may be signed anew each time.
    fn key<'s>(&'s self, run: &'s Run<'_>) -> BoxFuture<'s, Result<String, Failed>>;
}

/// Builds a login from its component and its name.
pub type BuildLogin = fn(&Value, &str, &Context<'_>) -> Result<Box<dyn Login>, Failed>;

/// A token that a login returns.
pub struct Session {
    login: Box<dyn Login>,
    decoder: Decoder,
    path: Vec<String>,
    /// How long a token is used. Without a lifetime, the client logs in each time the CDK takes the token, which is
    /// twice per request.
    lifetime: Option<Span>,
    state: Mutex<Option<(Value, Timestamp)>>,
}

impl Session {
    /// Reads a SessionTokenAuthenticator.
    ///
    /// # Errors
    /// Fails if the login requester cannot be built, or if the duration is not valid.
    pub(super) fn build(node: &Value, requester: &str, build_login: BuildLogin, ctx: &Context<'_>) -> Result<Session, Failed> {
        let name = format!("{requester}_login_requester");
        let lifetime = node.get("expiration_duration").and_then(Value::as_str).filter(|it| !it.is_empty());
        let path = node.get("session_token_path").and_then(Value::as_list).unwrap_or_default();
        Ok(Session {
            login: build_login(node.get("login_requester").unwrap_or(&EMPTY), &name, ctx)?,
            decoder: Decoder::build(node.get("decoder"))?,
            path: path.iter().map(Value::to_str).collect(),
            lifetime: lifetime.map(parse_duration).transpose()?,
            state: Mutex::default(),
        })
    }

    /// Returns the token. Logs in if there is no token or if it has expired.
    ///
    /// # Errors
    /// Fails if the login fails, or if its response does not contain a token.
    pub(super) async fn token(&self, run: &Run<'_>) -> Result<Value, Failed> {
        let now = run.host.now();
        let kept = self.state.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((token, until)) = kept
            && until >= now
            && self.lifetime.is_some()
        {
            return Ok(token);
        }
        let shared = match (&run.logins, self.lifetime) {
            (Some(logins), Some(_)) => Some((logins, self.login.key(run).await?)),
            _ => None,
        };
        let _lock = match &shared {
            Some((logins, key)) => Some(logins.lock(key).await),
            None => None,
        };
        if let Some((logins, key)) = &shared
            && let Some((token, until)) = logins.get(key).filter(|(_, until)| *until >= now)
        {
            *self.state.lock().unwrap_or_else(PoisonError::into_inner) = Some((token.clone(), until));
            return Ok(token);
        }
        let read = |message: &str| Failed::system("ReadException", message);
        let response = self.login.send(run).await?;
        let response = response.ok_or_else(|| read("Failed to get session token, response got ignored by requester"))?;
        let first = self.decoder.first(&response, run.bounds)?.unwrap_or_default().into_owned();
        let token = walk(&first, self.path.iter().cloned()).cloned().ok_or_else(|| {
            Failed::system("KeyError", Value::List(self.path.iter().map(|it| Value::str(it.as_str())).collect()).repr())
        })?;
        if token.is_none() {
            return Err(read("Failed to get session token, token is None"));
        }
        if let Some(span) = self.lifetime {
            let until = ends(run.host.now(), span)?;
            *self.state.lock().unwrap_or_else(PoisonError::into_inner) = Some((token.clone(), until));
            if let Some((logins, key)) = shared {
                logins.keep(key, token.clone(), until);
            }
        }
        Ok(token)
    }
}

fn ends(now: Timestamp, span: Span) -> Result<Timestamp, Failed> {
    let now = DateTime::from_jiff(now);
    let until = match span {
        Span::Delta(delta) => now.plus(delta)?,
        Span::Duration(duration) => duration.add_to(&now)?,
    };
    Timestamp::from_microsecond(until.epoch_micros()).map_err(|_| Failed::system("OverflowError", "date value out of range"))
}

/// `LegacySessionTokenAuthenticator`: uses a token from the config, or logs in with user name and password.
pub struct LegacySession {
    name: String,
    api_url: InterpolatedString,
    header: InterpolatedString,
    session_token: InterpolatedString,
    response_key: InterpolatedString,
    username: InterpolatedString,
    password: InterpolatedString,
    login_url: InterpolatedString,
    validate_url: InterpolatedString,
}

impl LegacySession {
    pub(super) fn build(node: &Value, requester: &str, url_base: &str) -> LegacySession {
        let parameters = node.get("$parameters").unwrap_or(&EMPTY);
        let text = |key: &str| InterpolatedString::new(&node.get(key).map(Value::to_str).unwrap_or_default(), parameters);
        LegacySession {
            name: requester.to_owned(),
            api_url: InterpolatedString::new(url_base, parameters),
            header: text("header"),
            session_token: text("session_token"),
            response_key: text("session_token_response_key"),
            username: text("username"),
            password: text("password"),
            login_url: text("login_url"),
            validate_url: text("validate_session_url"),
        }
    }

    pub(super) async fn header(&self, run: &Run<'_>) -> Result<Dict, Failed> {
        let name = self.header.eval_str(&run.scope())?;
        Ok(Dict::from_iter([(name.into(), self.token(run).await?.into())]))
    }

    pub(super) async fn token(&self, run: &Run<'_>) -> Result<String, Failed> {
        let scope = run.scope();
        let token = self.session_token.eval(&scope, &[])?;
        if token.truthy() && self.is_valid(run, &token).await? {
            return Ok(token.to_str());
        }
        let (user, password) = (self.username.eval(&scope, &[])?, self.password.eval(&scope, &[])?);
        if !user.truthy() || !password.truthy() {
            let message = "Invalid credentials: session token is not valid or provide username and password";
            return Err(Failed::config("ConnectionError", message));
        }
        self.login(run, user, password).await
    }

    /// Logs in, unless this command already has a token for the same credentials. The token is stored until the command ends.
    async fn login(&self, run: &Run<'_>, user: Value, password: Value) -> Result<String, Failed> {
        let scope = run.scope();
        let url = format!("{}{}", self.api_url.eval_str(&scope)?, self.login_url.eval_str(&scope)?);
        let key = self.response_key.eval_str(&scope)?;
        let cache_key = format!("{url}\n{}\n{}\n{key}", user.repr(), password.repr());
        if let Some(token) = run.tokens.session(&cache_key) {
            return Ok(token);
        }
        let json = Dict::from_iter([("username".into(), user), ("password".into(), password)]);
        let headers = Dict::from_iter([("Content-Type".into(), Value::str("application/json"))]);
        let request = token_request("POST", &url, &Dict::default(), &headers, (&Options::none(), &json), &self.name)?;
        let response = answered(run, request).await?;
        if !response.ok() {
            return Err(http_error(&response));
        }
        let token = response.json().and_then(|it| it.get(&key)).map(Value::to_str);
        let token = token.ok_or_else(|| Failed::system("KeyError", Value::str(key.as_str()).repr()))?;
        run.tokens.keep_session(cache_key, token.clone());
        Ok(token)
    }

    async fn is_valid(&self, run: &Run<'_>, token: &Value) -> Result<bool, Failed> {
        let scope = run.scope();
        let url = format!("{}{}", self.api_url.eval_str(&scope)?, self.validate_url.eval_str(&scope)?);
        let headers = Dict::from_iter([(self.header.eval_str(&scope)?.into(), token.clone())]);
        let request = token_request("GET", &url, &Dict::default(), &headers, (&Options::none(), &Dict::default()), &self.name)?;
        let response = answered(run, request).await?;
        match response.status() {
            401 => Ok(false),
            status if status >= 400 => {
                let error = http_error(&response);
                let message = format!("Error while validating session token: {}", error.message);
                Err(error.with(|it| {
                    it.class = "ConnectionError";
                    it.message = message;
                }))
            }
            _ => Ok(true),
        }
    }
}

async fn answered(run: &Run<'_>, request: HostRequest) -> Result<Response, Failed> {
    send_once(run, request).await?.map_err(|host_error| {
        let mut failed = Failed::system("ConnectionError", host_error.message.clone());
        failed.host_error = Some(host_error);
        failed
    })
}

fn http_error(response: &Response) -> Failed {
    let mut failed = Failed::system("HTTPError", mapping::http_error(response));
    failed.status = Some(response.status());
    failed.headers = response.headers().to_vec();
    failed
}
