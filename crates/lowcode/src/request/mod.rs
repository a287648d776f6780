//! The parts of a request: the [`inputs`] from the manifest, the [`option`]s that other components add, how they are
//! merged ([`merge`]), and the encoded body.

pub mod headers;
pub mod inputs;
pub mod json;
pub mod matcher;
pub mod merge;
pub mod option;

use super::error::Failed;
use super::host::header;
use super::url::encode_params;
use super::value::{Dict, Value};
use json::{Style, dumps};
use merge::Options;

/// Methods that may carry a body (`BODY_REQUEST_METHODS` of http_client.py).
#[must_use]
pub fn carries_body(method: &str) -> bool {
    matches!(method, "GET" | "POST" | "PUT" | "PATCH")
}

/// Encodes the body of a request. Sets `Content-Type` if the manifest does not.
///
/// # Errors
/// Fails if both kinds of body are set, or if a JSON body contains NaN.
pub fn body(data: &Options, json: &Dict, headers: &mut Vec<(String, String)>) -> Result<Option<Vec<u8>>, Failed> {
    let data_set = match data {
        Options::Map(dict) => !dict.is_empty(),
        Options::Text(text) => !text.is_empty(),
    };
    if !json.is_empty() && data_set {
        return Err(Failed::system(
            "RequestBodyException",
            "At the same time only one of the 'request_body_data' and 'request_body_json' functions can return data",
        ));
    }
    let (text, kind) = match data {
        _ if !json.is_empty() => (dumps(&Value::Dict(json.clone()), Style::SPACED)?, Some("application/json")),
        _ if !data_set => return Ok(None),
        Options::Map(dict) => (encode_params(dict), Some("application/x-www-form-urlencoded")),
        Options::Text(text) => (text.clone(), None),
    };
    if let Some(kind) = kind
        && header(headers, "content-type").is_none()
    {
        headers::set(headers, "Content-Type", kind)?;
    }
    Ok(Some(text.into_bytes()))
}

#[cfg(test)]
mod tests;
