//! Prepares a request before it is sent, like `_create_prepared_request` of http_client.py, and evaluates its parts.

use super::{RequestParts, Requester};
use crate::context::{EMPTY, Run};
use crate::error::Failed;
use crate::host::HostRequest;
use crate::interpolation::Scope;
use crate::request::headers;
use crate::request::merge::{Options, combine};
use crate::request::option::OptionPlace;
use crate::request::{body, carries_body};
use crate::url::{Prepared, encode_params, parse_qs, prepare};
use crate::value::{Dict, Value};
use std::borrow::Cow;

impl Requester {
    /// Evaluates everything in the order of the CDK: URL, headers, query, JSON body and form, then authentication for
    /// a second time.
    pub(super) async fn prepare(&self, run: &Run<'_>, parts: &RequestParts<'_>) -> Result<HostRequest, Failed> {
        let nothing = Value::None;
        let extra_fields = parts.slice.map_or(&nothing, |slice| &slice.extra_fields);
        let scope = scope(run, parts, &nothing);
        let url = self.full_url(&scope, parts.path)?;
        let auth = Value::Dict(self.auth.header(run).await?);
        let own = self.inputs.headers(&scope)?;
        let headers = combine([own, auth.clone(), parts.headers.clone()], false)?.into_map("headers")?;
        let own = self.inputs.query(&scope, extra_fields)?;
        let query =
            combine([own, self.option(OptionPlace::Query, run).await?, parts.query.clone()], false)?.into_map("params")?;
        if let Some((key, _)) = query.iter().find(|(_, value)| value.as_dict().is_some()) {
            let message = format!("Invalid value for `{key}` parameter. The values of request params cannot be an object.");
            return Err(Failed::system("ValueError", message));
        }
        let own = self.inputs.body_json(&scope)?;
        let json = combine([own, self.option(OptionPlace::BodyJson, run).await?, parts.body_json.clone()], true)?
            .into_map("body json")?;
        let own = self.inputs.body_data(&scope)?;
        let data = combine([own, self.option(OptionPlace::BodyData, run).await?, parts.body_data.clone()], false)?;
        let mut request = self.build_request(&url, &headers, &query, (&json, &data))?;
        request.is_retry = parts.is_repeated;
        match &auth {
            Value::Dict(auth) if self.auth.is_fixed() => set_all(&mut request.headers, auth)?,
            // The CDK authenticates a second time too. A session without a lifetime logs in again for it.
            _ => self.authenticate(run, &mut request).await?,
        }
        request.secret_in_url = self.auth.in_url() || user_info(&request.url) || run.secrets.in_url(&request.url);
        Ok(request)
    }

    async fn option(&self, place: OptionPlace, run: &Run<'_>) -> Result<Value, Failed> {
        Ok(Value::Dict(self.auth.option(place, run).await?))
    }

    fn build_request(
        &self,
        url: &str,
        fields: &Dict,
        query: &Dict,
        (json, data): (&Dict, &Options),
    ) -> Result<HostRequest, Failed> {
        let (Prepared::Url(url) | Prepared::NoAdapter(url)) = prepare(url, &encode_params(&without_duplicates(url, query)))?;
        let mut headers = Vec::new();
        set_all(&mut headers, fields)?;
        let body = if carries_body(&self.method) { body(data, json, &mut headers)? } else { None };
        Ok(HostRequest {
            purpose: self.options.purpose,
            method: self.method.clone(),
            url,
            headers,
            body,
            stream: self.name.clone(),
            secret_in_url: false,
            is_retry: false,
            expects_json: self.options.expects_json,
        })
    }

    /// Authenticates the request again. The authenticator's header replaces a header of the manifest with the same name.
    pub(super) async fn authenticate(&self, run: &Run<'_>, request: &mut HostRequest) -> Result<(), Failed> {
        set_all(&mut request.headers, &self.auth.header(run).await?)?;
        match self.auth.rate_limited() {
            Some(tokens) => tokens.sign(run, request).await,
            None => Ok(()),
        }
    }
}

/// Whether the package `requests` has an adapter for the URL. [`prepare`] returns other URLs as [`Prepared::NoAdapter`].
pub(super) fn has_adapter(url: &str) -> bool {
    url.get(..4).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http"))
}

fn set_all(headers: &mut Vec<(String, String)>, fields: &Dict) -> Result<(), Failed> {
    fields.iter().try_for_each(|(name, value)| headers::set(headers, name, &value.to_str()))
}

/// Returns the variables of a request's templates (`get_interpolation_context`). They include the extra fields of the slice.
fn scope<'a>(run: &Run<'a>, parts: &RequestParts<'a>, nothing: &'a Value) -> Scope<'a> {
    let mut vars = Vec::new();
    match parts.slice {
        Some(slice) => slice.add_to(&mut vars),
        None => vars.push(("stream_slice", nothing)),
    }
    vars.push(("next_page_token", parts.next_page_token.unwrap_or(nothing)));
    for (key, value) in parts.slice.and_then(|it| it.extra_fields.as_dict()).into_iter().flatten() {
        vars.push((key, value));
    }
    Scope { config: run.config, parameters: &EMPTY, vars, host: run.host, bounds: run.bounds }
}

/// Implements `_dedupe_query_params`: a parameter that the URL already has with the same value is not added again.
fn without_duplicates<'q>(url: &str, query: &'q Dict) -> Cow<'q, Dict> {
    let end = url.find('#').unwrap_or(url.len());
    let there: Vec<_> = match url.get(..end).and_then(|it| it.split_once('?')) {
        Some((_, text)) => parse_qs(text).collect(),
        None => return Cow::Borrowed(query),
    };
    let mut query = query.clone();
    query.retain(|key, value| {
        let first = there.iter().find(|(name, _)| **name == **key);
        first.is_none_or(|(_, text)| *text != value.to_str())
    });
    Cow::Owned(query)
}

/// Whether the URL contains a user name or a password.
fn user_info(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    rest.get(..end).is_some_and(|it| it.contains('@'))
}
