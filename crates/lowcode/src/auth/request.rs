//! Requests that authenticators make without a requester. The CDK makes them by calling the package `requests` directly.

use crate::context::Run;
use crate::error::Failed;
use crate::host::{HostError, HostRequest, Purpose};
use crate::request::body;
use crate::request::headers;
use crate::request::merge::Options;
use crate::response::Response;
use crate::url::{Prepared, encode_params, prepare};
use crate::value::Dict;

/// Prepares a request for a token, on behalf of the stream `name`.
///
/// # Errors
/// Fails if the URL or a header cannot be sent.
pub(super) fn token_request(
    method: &str,
    url: &str,
    query: &Dict,
    fields: &Dict,
    (form, json): (&Options, &Dict),
    name: &str,
) -> Result<HostRequest, Failed> {
    let url = match prepare(url, &encode_params(query))? {
        Prepared::Url(url) => url,
        Prepared::NoAdapter(url) => {
            let message = format!("No connection adapters were found for '{url}'");
            return Err(Failed::config("InvalidSchema", message));
        }
    };
    let mut headers = Vec::new();
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_none()) {
        let Some(text) = value.as_str() else {
            // The package `requests` receives these headers unchanged, and it refuses a number.
            let message = format!("Header part of {name} must be of type str or bytes, not {}", value.type_name());
            return Err(Failed::system("InvalidHeader", message));
        };
        headers::set(&mut headers, name, text)?;
    }
    let body = body(form, json, &mut headers)?;
    Ok(HostRequest {
        purpose: Purpose::Token,
        method: method.to_owned(),
        url,
        headers,
        body,
        stream: name.to_owned(),
        secret_in_url: false,
        expects_json: false,
        is_retry: false,
    })
}

/// Sends the request once. The inner error is a failure of the network.
///
/// # Errors
/// Fails if the host refuses the request, or if a bound is reached.
pub(super) async fn send_once(run: &Run<'_>, request: HostRequest) -> Result<Result<Response, HostError>, Failed> {
    Ok(match run.send(request).await? {
        Ok(response) => Ok(Response::new(response, run.bounds)?),
        Err(error) => Err(error),
    })
}
