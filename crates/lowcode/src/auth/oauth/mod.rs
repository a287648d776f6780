//! `OAuthAuthenticator` (`auth/oauth.py`, `streams/http/requests_native_auth/`).

mod answer;
mod refresh;

use super::token::authorization;
use crate::context::{Context, EMPTY, Run};
use crate::error::Failed;
use crate::interpolation::{InterpolatedMapping, InterpolatedString};
use crate::secrets::Secrets;
use crate::value::{Dict, Value};
use answer::{parse_moment, timestamp};
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use std::sync::{Mutex, PoisonError};

const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// An OAuth client, whose access token is fetched again when it expires.
pub struct OAuth {
    name: String,
    endpoint: Option<InterpolatedString>,
    names: Names,
    client_id: Option<InterpolatedString>,
    client_secret: Option<InterpolatedString>,
    refresh_token: Option<InterpolatedString>,
    grant_type: InterpolatedString,
    scopes: Vec<Value>,
    body: InterpolatedMapping,
    headers: InterpolatedMapping,
    /// Whether the arguments of the refresh request go into the query instead of the body.
    as_query: bool,
    assertion: Option<Box<dyn Assertion>>,
    /// If set, the expiry in the response is a time in this format instead of a number of seconds.
    expiry_format: Option<String>,
    rejected: Rejected,
    single_use: Option<SingleUse>,
    state: Mutex<State>,
    secrets: Secrets,
}

/// An assertion: a token that authenticates the client. Any authenticator can produce one.
pub trait Assertion: Send + Sync {
    /// Returns the token without a prefix.
    fn token<'s>(&'s self, run: &'s Run<'_>) -> BoxFuture<'s, Result<String, Failed>>;
}

/// The names of the fields in the request and in the response.
struct Names {
    grant_type: InterpolatedString,
    client_id: InterpolatedString,
    client_secret: InterpolatedString,
    refresh_token: InterpolatedString,
    access_token: InterpolatedString,
    expires_in: InterpolatedString,
}

/// Determines which responses mean that the refresh token is no longer valid.
#[derive(Clone, Debug)]
struct Rejected {
    codes: Vec<i64>,
    key: String,
    values: Vec<Value>,
}

/// The paths of the tokens in the config, for refresh tokens that can be used only once.
struct SingleUse {
    access: Vec<String>,
    refresh: Vec<String>,
    expiry: Vec<String>,
}

#[derive(Default)]
struct State {
    token: Option<Value>,
    expires: Option<Timestamp>,
}

impl OAuth {
    /// Reads the component.
    ///
    /// # Errors
    /// Fails with ValueError in the same cases as the CDK.
    pub(super) fn build(
        node: &Value,
        requester: &str,
        assertion: Option<Box<dyn Assertion>>,
        ctx: &Context<'_>,
    ) -> Result<OAuth, Failed> {
        let parameters = node.get("$parameters").unwrap_or(&EMPTY);
        let field = |key: &str| node.get(key).filter(|it| !it.is_none());
        let text = |value: &Value| InterpolatedString::new(&value.to_str(), parameters);
        let named = |key: &str| {
            // With a refresh token updater, the updater names the refresh token field of the request and of the response.
            let from = updater(node).filter(|_| key == "refresh_token_name").unwrap_or(node);
            let own = from.get(key).filter(|it| it.truthy());
            own.map_or_else(|| InterpolatedString::new(key.strip_suffix("_name").unwrap_or(key), parameters), text)
        };
        let mapping = |key: &str| {
            let dict = field(key).and_then(Value::as_dict).cloned().unwrap_or_default();
            InterpolatedMapping::new(&dict, parameters)
        };
        let asserted = is_asserted(node);
        let grant = field("grant_type").filter(|it| it.truthy()).map_or_else(|| "refresh_token".to_owned(), Value::to_str);
        let mut oauth = OAuth {
            name: requester.to_owned(),
            endpoint: field("token_refresh_endpoint").map(text),
            names: Names {
                grant_type: named("grant_type_name"),
                client_id: named("client_id_name"),
                client_secret: named("client_secret_name"),
                refresh_token: named("refresh_token_name"),
                access_token: named("access_token_name"),
                expires_in: named("expires_in_name"),
            },
            client_id: field("client_id").filter(|it| it.truthy()).map(text),
            client_secret: field("client_secret").filter(|it| it.truthy()).map(text),
            refresh_token: field("refresh_token").map(text),
            grant_type: InterpolatedString::new(if asserted { JWT_BEARER } else { &grant }, parameters),
            scopes: field("scopes").and_then(Value::as_list).unwrap_or_default().to_vec(),
            body: mapping("refresh_request_body"),
            headers: mapping("refresh_request_headers"),
            as_query: field("send_refresh_request_as_query_params").is_some_and(Value::truthy),
            assertion,
            expiry_format: field("token_expiry_date_format").map(Value::to_str).filter(|it| !it.is_empty()),
            rejected: rejected(node)?,
            single_use: updater(node).map(single_use),
            state: Mutex::default(),
            secrets: Secrets::of(ctx.manifest, ctx.config.value()),
        };
        if oauth.single_use.is_none() {
            oauth.verify(node, asserted, ctx)?;
            oauth.start(node, ctx)?;
        }
        Ok(oauth)
    }

    /// Makes the checks that the CDK makes when it builds the authenticator.
    fn verify(&self, node: &Value, asserted: bool, ctx: &Context<'_>) -> Result<(), Failed> {
        let error = |what: &str| Err(Failed::system("ValueError", format!("OAuthAuthenticator configuration error: {what}")));
        let missing = |key: &str| node.get(key).is_none_or(Value::is_none);
        if !asserted && (missing("client_id") || missing("client_secret")) {
            return error("Both 'client_id' and 'client_secret' are required for the basic OAuth flow.");
        }
        if asserted && self.assertion.is_none() {
            return error("'profile_assertion' is required when using the profile assertion flow.");
        }
        if self.grant_type.eval_str(&ctx.scope())? == "refresh_token" && self.refresh_token.is_none() {
            return error("A 'refresh_token' is required when the 'grant_type' is set to 'refresh_token'.");
        }
        Ok(())
    }

    /// Reads the token and its expiry from the config.
    fn start(&mut self, node: &Value, ctx: &Context<'_>) -> Result<(), Failed> {
        let parameters = node.get("$parameters").unwrap_or(&EMPTY);
        let scope = ctx.scope();
        let eval = |key: &str| match node.get(key).filter(|it| it.truthy()) {
            Some(Value::Str(text)) => InterpolatedString::new(text, parameters).eval(&scope, &[]).map(Some),
            other => Ok(other.cloned()),
        };
        let state = State {
            token: eval("access_token_value")?,
            expires: match eval("token_expiry_date")? {
                Some(moment) => Some(parse_moment(&moment).map_err(|error| {
                    Failed::system("ValueError", format!("Invalid token expiry date format: {}", error.message))
                })?),
                None => None,
            },
        };
        self.state = Mutex::new(state);
        Ok(())
    }

    fn state<T>(&self, read: impl FnOnce(&mut State) -> T) -> T {
        read(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the header `Authorization: Bearer ...`.
    ///
    /// # Errors
    /// Fails if the refresh fails.
    pub(super) async fn header(&self, run: &Run<'_>) -> Result<Dict, Failed> {
        let unset = || Failed::system("ValueError", "access_token is not set");
        if self.endpoint(run)?.is_none() {
            let token = self.current(run).ok_or_else(unset)?;
            return Ok(authorization(format!("Bearer {}", token.to_str())));
        }
        if self.expired(run)? {
            self.refresh(run).await?;
        }
        let token = self.current(run).ok_or_else(unset)?;
        Ok(authorization(format!("Bearer {}", token.to_str())))
    }

    /// Returns the current access token.
    fn current(&self, run: &Run<'_>) -> Option<Value> {
        match &self.single_use {
            Some(single) => Some(run.tokens.config_at(run.config.value(), &single.access).unwrap_or_else(|| Value::str(""))),
            None => self.state(|state| state.token.clone()),
        }
    }

    fn endpoint(&self, run: &Run<'_>) -> Result<Option<String>, Failed> {
        let Some(endpoint) = &self.endpoint else { return Ok(None) };
        let endpoint = endpoint.eval(&run.scope(), &[])?;
        if !endpoint.truthy() {
            let message = "OAuthAuthenticator was unable to evaluate token_refresh_endpoint parameter";
            return Err(Failed::system("ValueError", message));
        }
        Ok(Some(endpoint.to_str()))
    }

    /// Whether the token has expired. A token that is missing or has an unknown expiry counts as expired.
    fn expired(&self, run: &Run<'_>) -> Result<bool, Failed> {
        Ok(self.expires(run)?.is_none_or(|moment| run.host.now() > moment))
    }

    fn expires(&self, run: &Run<'_>) -> Result<Option<Timestamp>, Failed> {
        match &self.single_use {
            Some(single) => match run.tokens.config_at(run.config.value(), &single.expiry) {
                Some(moment) if moment.as_str() != Some("") => parse_moment(&Value::from(moment.to_str())).map(Some),
                _ => Ok(None),
            },
            None => Ok(self.state(|state| state.expires.filter(|_| state.token.is_some()))),
        }
    }

    /// Stores the new tokens. Tells the host if the refresh token was replaced.
    fn keep(&self, run: &Run<'_>, token: Value, expires: Timestamp, refresh: Option<Value>) {
        let Some(single) = &self.single_use else {
            self.state(|state| *state = State { token: Some(token), expires: Some(expires) });
            return;
        };
        let mut changes = vec![(&*single.access, token)];
        if let Some(refresh) = refresh {
            changes.push((&*single.refresh, refresh));
        }
        changes.push((&*single.expiry, timestamp(expires).into()));
        let config = run.tokens.rotate(run.config.value(), changes);
        run.host.rotated(&config);
    }
}

/// Returns the component of the authenticator that produces the assertion, if the client uses one.
pub(super) fn assertion(node: &Value) -> Option<&Value> {
    node.get("profile_assertion").filter(|it| !it.is_none() && is_asserted(node))
}

fn is_asserted(node: &Value) -> bool {
    updater(node).is_none() && node.get("use_profile_assertion").is_some_and(Value::truthy)
}

fn updater(node: &Value) -> Option<&Value> {
    node.get("refresh_token_updater").filter(|it| it.truthy())
}

fn single_use(updater: &Value) -> SingleUse {
    let path = |key: &str, default: &str| match updater.get(key).and_then(Value::as_list) {
        Some(path) => path.iter().map(Value::to_str).collect(),
        None => vec!["credentials".to_owned(), default.to_owned()],
    };
    SingleUse {
        access: path("access_token_config_path", "access_token"),
        refresh: path("refresh_token_config_path", "refresh_token"),
        expiry: path("token_expiry_date_config_path", "token_expiry_date"),
    }
}

/// Implements `_get_refresh_token_error_information` of the factory.
fn rejected(node: &Value) -> Result<Rejected, Failed> {
    const FIELDS: [&str; 3] = ["refresh_token_error_status_codes", "refresh_token_error_key", "refresh_token_error_values"];
    let defined = |node: &Value| FIELDS.iter().any(|key| node.get(key).is_some_and(Value::truthy));
    let by_updater = updater(node).filter(|it| defined(it));
    let own = Some(node).filter(|it| defined(it));
    let from = match (by_updater, own) {
        (Some(_), Some(_)) => {
            let message = "refresh_token_error should either be defined on the OAuthAuthenticatorModel or the \
                           RefreshTokenUpdaterModel, not both";
            return Err(Failed::system("ValueError", message));
        }
        (Some(from), _) | (_, Some(from)) => from,
        (None, None) => {
            let values = ["invalid_grant", "invalid_permissions"].map(Value::from).to_vec();
            return Ok(Rejected { codes: vec![400], key: "error".into(), values });
        }
    };
    let [codes, key, values] = FIELDS.map(|field| from.get(field));
    Ok(Rejected {
        codes: codes.and_then(Value::as_list).unwrap_or_default().iter().filter_map(Value::as_i64).collect(),
        key: key.map(Value::to_str).unwrap_or_default(),
        values: values.and_then(Value::as_list).unwrap_or_default().to_vec(),
    })
}
