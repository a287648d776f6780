//! `HttpRequester`: builds a request from the fields of the manifest and from what the paginator and the slicer add,
//! and sends it until it succeeds or fails for good (`requesters/http_requester.py`, `streams/http/http_client.py`).

mod budget;
mod failure;
mod prepare;
mod refresh;
mod retry;

use super::auth::{Authenticator, Login, RequesterInfo};
use super::context::{Context, EMPTY, Run};
use super::error::Failed;
use super::errors::ErrorHandler;
use super::errors::backoff::Backoff;
use super::host::Purpose;
use super::interpolation::{InterpolatedString, Scope, source_text};
use super::request::inputs::Inputs;
use super::response::Response;
use super::slice::Slice;
use super::url;
use super::value::Value;
use budget::Budget;
use futures_util::future::BoxFuture;

/// Settings of a requester that are not fields of its component.
#[derive(Clone, Debug)]
pub struct BuildOptions {
    /// The query parameter that carries the properties of a `QueryProperties` component.
    pub query_properties_key: Option<String>,
    /// Whether responses are cached for the duration of the command, as they are for parent streams.
    pub use_cache: bool,
    pub purpose: Purpose,
    /// Whether the responses are decoded as JSON.
    pub expects_json: bool,
}

impl Default for BuildOptions {
    fn default() -> BuildOptions {
        BuildOptions { query_properties_key: None, use_cache: false, purpose: Purpose::Data, expects_json: false }
    }
}

/// The parts of one request that differ from call to call.
#[derive(Clone, Debug, Default)]
pub struct RequestParts<'a> {
    pub slice: Option<&'a Slice>,
    /// The variable `next_page_token` of templates. `None` on the first page.
    pub next_page_token: Option<&'a Value>,
    /// Replaces the requester's path, unless it is empty.
    pub path: Option<&'a str>,
    /// What the paginator and the slicer add: each is a dict, a text (only for a text body), or Python's `None`.
    pub query: Value,
    pub headers: Value,
    pub body_data: Value,
    pub body_json: Value,
    /// Whether an earlier response to an equal request must not be used in place of a new one.
    pub is_repeated: bool,
}

/// A requester of the manifest.
pub struct Requester {
    name: String,
    method: String,
    url: InterpolatedString,
    url_base: InterpolatedString,
    path: InterpolatedString,
    inputs: Inputs,
    auth: Authenticator,
    handler: ErrorHandler,
    backoffs: Vec<Backoff>,
    budget: Budget,
    options: BuildOptions,
}

impl Requester {
    /// Builds an HttpRequester for the stream `name`.
    ///
    /// # Errors
    /// Fails with the error that the CDK raises when it builds the component.
    pub fn build(node: &Value, name: &str, ctx: &Context<'_>, mut options: BuildOptions) -> Result<Requester, Failed> {
        let parameters = node.get("$parameters").unwrap_or(&EMPTY);
        let raw = |key: &str| node.get(key).and_then(Value::as_str).filter(|it| !it.is_empty());
        let text = |key: &str| InterpolatedString::new(raw(key).unwrap_or_default(), parameters);
        let url_base = raw("url").or(raw("url_base")).unwrap_or_default();
        let child = |key: &str| node.get(key).filter(|it| !it.is_none());
        let auth = match child("authenticator") {
            Some(auth) => Authenticator::build(auth, RequesterInfo { name, url_base, build_login }, ctx)?,
            None => Authenticator::None,
        };
        let handler = match child("error_handler") {
            Some(handler) => ErrorHandler::build(handler, ctx)?,
            None => ErrorHandler::plain(),
        };
        let mut backoffs = Vec::new();
        handler.backoffs(&mut backoffs);
        options.use_cache |= node.get("use_cache").is_some_and(Value::truthy);
        Ok(Requester {
            name: name.to_owned(),
            method: raw("http_method").unwrap_or("GET").to_uppercase(),
            url: text("url"),
            url_base: text("url_base"),
            path: text("path"),
            inputs: Inputs::build(node, parameters, options.query_properties_key.clone())?,
            auth,
            handler,
            backoffs,
            budget: Budget::build(ctx)?,
            options,
        })
    }

    /// The name of the stream for which requests are made.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether authentication depends only on the config, so that the requester stores no token.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        self.auth.is_fixed()
    }

    /// Sends one request, and retries it if the error handler says so. Returns `None` if the response is to be ignored.
    ///
    /// # Errors
    /// Fails with what Python would have raised. `host_error` is set if the host refused.
    pub async fn send(&self, run: &Run<'_>, parts: &RequestParts<'_>) -> Result<Option<Response>, Failed> {
        Ok(self.send_raw(run, parts).await?.filter(Response::ok))
    }

    /// Like [`Requester::send`], but returns an ignored response instead of `None`.
    ///
    /// # Errors
    /// Fails like [`Requester::send`].
    pub async fn send_raw(&self, run: &Run<'_>, parts: &RequestParts<'_>) -> Result<Option<Response>, Failed> {
        let mut request = self.prepare(run, parts).await?;
        self.deliver(run, &mut request).await
    }

    /// Implements `_get_url`: joins the path to the base URL.
    fn full_url(&self, scope: &Scope<'_>, path: Option<&str>) -> Result<String, Failed> {
        let url = self.url.eval_str(scope)?;
        let base = self.url_base.eval_str(scope)?;
        let path = match path.filter(|it| !it.is_empty()) {
            Some(path) => path.to_owned(),
            None if scope.bounds.plain_texts => source_text::path(&self.path, scope)?.trim_start_matches('/').to_owned(),
            None => source_text::path_of_cdk(&self.path, scope)?.trim_start_matches('/').to_owned(),
        };
        join_url(&url, &base, &path)
    }
}

/// Joins the `url`, `url_base` and `path` of a requester into the URL of the request, like `_get_url` of the CDK.
///
/// # Errors
/// Fails with the error that Python's `urljoin` raises.
pub fn join_url(url: &str, base: &str, path: &str) -> Result<String, Failed> {
    match (base.is_empty(), path.is_empty()) {
        (false, true) => Ok(base.to_owned()),
        (true, true) => Ok(url.to_owned()),
        (with_url, false) => {
            let mut from = if with_url { url } else { base }.to_owned();
            if !from.ends_with('/') {
                from.push('/');
            }
            url::urljoin(&from, path)
        }
    }
}

impl Login for Requester {
    fn send<'s>(&'s self, run: &'s Run<'_>) -> BoxFuture<'s, Result<Option<Response>, Failed>> {
        Box::pin(async move { self.send_raw(run, &RequestParts::default()).await })
    }

    fn key<'s>(&'s self, run: &'s Run<'_>) -> BoxFuture<'s, Result<String, Failed>> {
        Box::pin(async move { Ok(retry::cache_key(&self.prepare(run, &RequestParts::default()).await?)) })
    }
}

fn build_login(node: &Value, name: &str, ctx: &Context<'_>) -> Result<Box<dyn Login>, Failed> {
    let options = BuildOptions { purpose: Purpose::Token, ..BuildOptions::default() };
    Ok(Box::new(Requester::build(node, name, ctx, options)?))
}

#[cfg(test)]
mod tests;
