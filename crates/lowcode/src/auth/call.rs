//! Calls that authenticators make without a requester, as they call `requests` directly.

use crate::context::Run;
use crate::error::Failed;
use crate::host::{Call, NoReply, Purpose};
use crate::request::body;
use crate::request::headers::Headers;
use crate::request::merge::Options;
use crate::requester::transmit;
use crate::response::Response;
use crate::url::{Prepared, encode_params, prepare};
use crate::value::Dict;

/// One prepared call.
pub(super) struct TokenCall {
    call: Call,
    pub(super) secret_in_url: bool,
}

impl TokenCall {
    /// Prepares the call for the stream `name`.
    ///
    /// # Errors
    /// A URL or a header that cannot be sent.
    pub(super) fn new(
        method: &str,
        url: &str,
        query: &Dict,
        headers: &Dict,
        (form, json): (&Options, &Dict),
        name: &str,
    ) -> Result<TokenCall, Failed> {
        let url = match prepare(url, &encode_params(query))? {
            Prepared::Url(url) => url,
            Prepared::NoAdapter(url) => {
                let message = format!("No connection adapters were found for '{url}'");
                return Err(Failed::config("InvalidSchema", message));
            }
        };
        let mut out = Headers::default();
        for (name, value) in headers.iter().filter(|(_, value)| !value.is_none()) {
            let Some(text) = value.as_str() else {
                // requests, which takes these headers as they are, refuses a number.
                let message = format!("Header part of {name} must be of type str or bytes, not {}", value.type_name());
                return Err(Failed::system("InvalidHeader", message));
            };
            out.set(name, text)?;
        }
        let body = body(form, json, &mut out)?;
        let call = Call {
            purpose: Purpose::Token,
            method: method.to_owned(),
            url,
            headers: out.into_vec(),
            body,
            stream: name.to_owned(),
            secret_in_url: false,
        };
        Ok(TokenCall { call, secret_in_url: false })
    }
}

/// Sends the call once. The inner error is a network that failed.
///
/// # Errors
/// The host refused, or a bound was met.
pub(super) async fn send_once(run: &Run<'_>, call: &TokenCall) -> Result<Result<Response, NoReply>, Failed> {
    let call = Call { secret_in_url: call.secret_in_url, ..call.call.clone() };
    Ok(match transmit(run, call).await? {
        Ok(reply) => Ok(Response::new(reply, run.bounds)?),
        Err(no_reply) => Err(no_reply),
    })
}
