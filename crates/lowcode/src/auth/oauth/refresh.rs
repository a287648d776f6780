//! The request for a new access token (`_make_handled_request` of abstract_oauth.py).

use super::OAuth;
use super::answer::{after, expiry, find};
use crate::auth::request::{send_once, token_request};
use crate::context::Run;
use crate::error::{Failed, FailureType};
use crate::errors::mapping;
use crate::errors::message::cut;
use crate::host::{HostRequest, PauseReason};
use crate::interpolation::InterpolatedString;
use crate::request::merge::Options;
use crate::response::Response;
use crate::value::{Dict, Value};
use jiff::SignedDuration;
use std::time::Duration;

/// The maximum time for which the request is retried, in seconds.
const MAX_TIME: f64 = 300.0;
const REFUSED: &str = "Refresh token was rejected by the OAuth provider (invalid, expired, or already used). \
                       Re-authenticate this source's credentials in its connection settings.";
/// The maximum length of a provider's error message when it is quoted, in characters.
const MAX_DETAIL_CHARS: usize = 64;

impl OAuth {
    /// Fetches a new token, even if the current one is still valid.
    ///
    /// # Errors
    /// Fails if the endpoint refuses, or if its response does not contain a token.
    pub(crate) async fn refresh(&self, run: &Run<'_>) -> Result<(), Failed> {
        let answer = self.fetch(run).await?;
        let scope = run.scope();
        let name = self.names.access_token.eval_str(&scope)?;
        let token = find(&answer, &name)?;
        if self.single_use.is_none() && !token.as_ref().is_some_and(Value::truthy) {
            let message = format!("Token refresh API response was missing access token {name}");
            return Err(Failed::system("Exception", message));
        }
        let now = run.host.now();
        let expires = match find(&answer, &self.names.expires_in.eval_str(&scope)?)? {
            Some(value) => expiry(&value, self.expiry_format.as_deref(), now)?,
            None => match self.expires(run)?.filter(|moment| now <= *moment) {
                Some(moment) => moment,
                None => after(now, SignedDuration::from_hours(1))?,
            },
        };
        let refresh = match &self.single_use {
            Some(_) => find(&answer, &self.names.refresh_token.eval_str(&scope)?)?,
            None => None,
        };
        self.keep(run, token.unwrap_or_default(), expires, refresh);
        Ok(())
    }

    /// Returns the response of the endpoint. The request is retried after 429, after 5xx and after a network failure.
    async fn fetch(&self, run: &Run<'_>) -> Result<Value, Failed> {
        let request = self.request(run).await?;
        let began = run.host.now();
        let mut waited = 0.0;
        for attempt in 0_i32.. {
            let failed = match send_once(run, request.clone()).await? {
                Ok(response) if response.ok() => return self.read(&response),
                Ok(response) if response.status() == 429 || response.status() >= 500 => self.http_error(run, &response),
                Ok(response) => return Err(self.refused(run, &response)),
                Err(host_error) => {
                    let message = "OAuth access token refresh request failed due to a network error.";
                    let mut failed = Failed::new(FailureType::TransientError, "AirbyteTracedException", message);
                    failed.host_error = Some(host_error);
                    failed
                }
            };
            let elapsed = run.host.now().duration_since(began).as_secs_f64().max(waited);
            if elapsed >= MAX_TIME {
                return Err(failed);
            }
            // Exponential backoff with full jitter, the default of the Python package `backoff`.
            let wait = (fastrand::f64() * 2_f64.powi(attempt.min(30))).min(MAX_TIME - elapsed);
            waited += wait;
            if let Err(host_error) = run.host.pause_for(Duration::from_secs_f64(wait), PauseReason::Retry).await {
                return Err(failed.with(|it| it.host_error = Some(host_error)));
            }
        }
        Err(Failed::system("AirbyteTracedException", "OAuth access token refresh request failed."))
    }

    async fn request(&self, run: &Run<'_>) -> Result<HostRequest, Failed> {
        // The CDK wraps every exception that occurs while the request is made.
        let wrapped = |failed: Failed| match failed.class {
            "MissingSchema" | "InvalidURL" | "InvalidHeader" | "AirbyteTracedException" | "Bound" | "Refused" => failed,
            _ => {
                let mut outer = Failed::system("AirbyteTracedException", "OAuth access token refresh request failed.");
                let message = self.secrets.mask(&failed.message);
                outer.internal = Some(format!("Unexpected error during OAuth token refresh: {message}"));
                outer.host_error.clone_from(&failed.host_error);
                outer
            }
        };
        self.build_request(run).await.map_err(wrapped)
    }

    async fn build_request(&self, run: &Run<'_>) -> Result<HostRequest, Failed> {
        let scope = run.scope();
        let headers = self.headers.eval(&scope, &[])?;
        let args = match &self.assertion {
            Some(assertion) => {
                let mut args = Dict::default();
                args.insert(self.names.grant_type.eval_str(&scope)?.into(), self.grant_type.eval(&scope, &[])?);
                args.insert("assertion".into(), assertion.token(run).await?.into());
                args
            }
            None => self.standard_args(run, headers.contains_key("Authorization"))?,
        };
        // The body of an assertion is sent even if the arguments are configured to go into the query.
        let query = if self.as_query { self.standard_args(run, headers.contains_key("Authorization"))? } else { Dict::default() };
        let form = if self.as_query && self.assertion.is_none() { Dict::default() } else { args };
        let url = self.endpoint(run)?.unwrap_or_default();
        let mut request = token_request("POST", &url, &query, &headers, (&Options::Map(form), &Dict::default()), &self.name)?;
        request.secret_in_url = self.as_query;
        Ok(request)
    }

    /// Implements `_build_standard_refresh_args`.
    fn standard_args(&self, run: &Run<'_>, credentials_in_header: bool) -> Result<Dict, Failed> {
        let scope = run.scope();
        let text = |text: &Option<InterpolatedString>| match text {
            Some(text) => text.eval(&scope, &[]).map_err(Failed::from),
            None => Ok(Value::None),
        };
        let mut args = Dict::default();
        args.insert(self.names.grant_type.eval_str(&scope)?.into(), self.grant_type.eval(&scope, &[])?);
        if !credentials_in_header {
            let at = |key: &str| self.single_use.as_ref().and_then(|_| credential(run, key));
            let id = at("client_id").map_or_else(|| text(&self.client_id), Ok)?;
            if self.single_use.is_none() && !id.truthy() {
                let message = "OAuthAuthenticator was unable to evaluate client_id parameter";
                return Err(Failed::system("ValueError", message));
            }
            let secret = at("client_secret").map_or_else(|| text(&self.client_secret), Ok)?;
            args.insert(self.names.client_id.eval_str(&scope)?.into(), id);
            args.insert(self.names.client_secret.eval_str(&scope)?.into(), secret);
        }
        let refresh = match (&self.single_use, &self.refresh_token) {
            (Some(single), _) => run.tokens.config_at(run.config.value(), &single.refresh).unwrap_or_else(|| Value::str("")),
            (None, Some(token)) => token.eval_str(&scope)?.into(),
            (None, None) => Value::None,
        };
        args.insert(self.names.refresh_token.eval_str(&scope)?.into(), refresh);
        if !self.scopes.is_empty() {
            args.insert("scopes".into(), Value::List(self.scopes.clone()));
        }
        for (key, value) in self.body.eval(&scope, &[])? {
            args.entry(key).or_insert(value);
        }
        Ok(args)
    }

    fn read(&self, response: &Response) -> Result<Value, Failed> {
        response.json().cloned().ok_or_else(|| Failed::system("JSONDecodeError", "The token endpoint's answer is no JSON"))
    }

    /// Removes secrets from a text, including the client's own even if the spec does not mark them as secret.
    fn mask(&self, run: &Run<'_>, text: &str) -> String {
        let args = self.standard_args(run, false).unwrap_or_default();
        let names = [&self.names.client_secret, &self.names.refresh_token];
        let name = |name: &InterpolatedString| name.eval_str(&run.scope()).unwrap_or_default();
        let secrets = names.into_iter().filter_map(|it| args.get(&*name(it)).map(Value::to_str));
        secrets.filter(|it| !it.is_empty()).fold(self.secrets.mask(text), |text, secret| text.replace(&secret, "****"))
    }

    /// Implements `raise_for_status`.
    fn http_error(&self, run: &Run<'_>, response: &Response) -> Failed {
        let mut failed = Failed::system("HTTPError", self.mask(run, &mapping::http_error(response)));
        let body = String::from_utf8_lossy(response.content());
        failed.status = Some(response.status());
        failed.body = Some(self.mask(run, &cut(&body)));
        failed.headers = response.headers().to_vec();
        if response.status() == 429 || response.status() >= 500 {
            failed.failure_type = FailureType::TransientError;
        }
        failed
    }

    /// Returns the failure for a refused request. If the endpoint rejected the refresh token, the message is that of the CDK.
    fn refused(&self, run: &Run<'_>, response: &Response) -> Failed {
        let failed = self.http_error(run, response);
        let Some(content) = response.json().and_then(Value::as_dict) else { return failed };
        let value = content.get(&*self.rejected.key).unwrap_or(&Value::None);
        if !self.rejected.codes.contains(&i64::from(response.status())) || !self.rejected.values.contains(value) {
            return failed;
        }
        let message = match self.detail(run, content) {
            Some(detail) => format!("{REFUSED} Provider error: {detail}"),
            None => REFUSED.to_owned(),
        };
        let body = failed.body.clone().unwrap_or_default().chars().take(1_000).collect::<String>();
        let internal = format!("Refresh token rejected by the OAuth token endpoint. HTTP {}: {body}", response.status());
        failed.with(|it| {
            it.failure_type = FailureType::ConfigError;
            it.class = "AirbyteTracedException";
            it.message = message;
            it.internal = Some(internal);
        })
    }

    /// Returns the provider's `error`, together with a code such as `AADSTS700082` from its description.
    fn detail(&self, run: &Run<'_>, content: &Dict) -> Option<String> {
        let text = |key: &str| content.get(key).and_then(Value::as_str).map(str::trim).filter(|it| !it.is_empty());
        let error = text("error").map(|it| it.split_whitespace().collect::<Vec<_>>().join(" "));
        let parts: Vec<String> = error.into_iter().chain(text("error_description").and_then(code)).collect();
        let detail = self.mask(run, &parts.join(": "));
        let cut: String = detail.chars().take(MAX_DETAIL_CHARS).collect();
        (!parts.is_empty()).then(|| if cut.len() < detail.len() { format!("{cut}...") } else { detail })
    }
}

/// Matches `[A-Za-z]{3,}\d{4,}\b` at the start of the text.
fn code(text: &str) -> Option<String> {
    let letters = text.bytes().take_while(u8::is_ascii_alphabetic).count();
    let digits = text.bytes().skip(letters).take_while(u8::is_ascii_digit).count();
    let end = letters + digits;
    let word = text.get(end..).and_then(|rest| rest.chars().next()).is_some_and(|c| c.is_alphanumeric() || c == '_');
    (letters >= 3 && digits >= 4 && !word).then(|| text.get(..end).unwrap_or_default().to_owned())
}

/// The config's `credentials.client_id` takes precedence over the field of the manifest (oauth.py).
fn credential(run: &Run<'_>, key: &str) -> Option<Value> {
    run.tokens.config_at(run.config.value(), &["credentials".to_owned(), key.to_owned()])
}
