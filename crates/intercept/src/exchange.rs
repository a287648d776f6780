//! One request: checked, handed to the upstream, and answered.

use crate::headers::{remove_from_request, remove_from_response};
use crate::refusal::{Reason, Refusal};
use crate::serve::Shared;
use crate::target::{Target, shown};
use crate::{Request, Response, body};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, EXPECT, HOST, HeaderMap, HeaderValue, UPGRADE};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode, Version};
use url::Url;

/// What hyper sends.
pub type Reply = hyper::Response<Full<Bytes>>;

/// Where requests arrive.
#[derive(Clone, Debug)]
pub enum Arrival {
    /// At the proxy itself, in plain text.
    Proxy,
    /// In a tunnel to this target.
    Tunnel(Target),
}

/// Answers any request but `CONNECT`.
pub async fn answer(shared: &Shared, arrival: &Arrival, request: hyper::Request<Incoming>) -> Reply {
    let is_head = request.method() == Method::HEAD;
    match forward(shared, arrival, request).await {
        Ok(response) => reply(response, is_head),
        Err(refusal) => refuse(shared, refusal),
    }
}

/// The reply to what the proxy refuses by itself, which is reported.
pub fn refuse(shared: &Shared, refusal: Refusal) -> Reply {
    let status = refusal.reason.status().unwrap_or(StatusCode::BAD_REQUEST);
    let mut response = Response::text(status, &format!("refused by the proxy of AAM: {refusal}"));
    if matches!(refusal.reason, Reason::Busy(_)) {
        response.headers.insert(hyper::header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    shared.upstream.refused(refusal);
    let mut reply = reply(response, false);
    // What follows on a connection that was misused is not read.
    reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    reply
}

async fn forward(shared: &Shared, arrival: &Arrival, request: hyper::Request<Incoming>) -> Result<Response, Refusal> {
    let (mut parts, incoming) = request.into_parts();
    let url = url(arrival, &parts)?;
    let target = target(&url);
    let refusal = |reason: Reason| match &target {
        Some(target) => target.refusal(reason),
        None => Refusal { host: None, port: None, reason },
    };
    check_protocol(&parts.headers).map_err(refusal)?;
    let is_awaiting = parts.headers.contains_key(EXPECT);
    let body = body::read(incoming, is_awaiting, &shared.limits, &shared.body_shares).await.map_err(refusal)?;
    remove_from_request(&mut parts.headers);
    let request = Request { method: parts.method, url, headers: parts.headers, body: body.bytes.clone() };
    let response = tokio::time::timeout(shared.limits.answer, shared.upstream.forward(request)).await;
    let response = response.map_err(|_| refusal(Reason::NoAnswer))?;
    // A status below 200 is not final: the program would wait for another one.
    match response.status.as_u16() {
        200..=599 => Ok(response),
        status => Err(refusal(Reason::WrongStatus(status))),
    }
}

/// The URL that the program means. Every place that names the host must name the same one.
fn url(arrival: &Arrival, parts: &Parts) -> Result<Url, Refusal> {
    let malformed = |what| Refusal { host: None, port: None, reason: Reason::Malformed(what) };
    let (scheme, default_port) = match arrival {
        Arrival::Proxy => ("http", 80),
        Arrival::Tunnel(_) => ("https", 443),
    };
    let named = match parts.uri.authority() {
        Some(authority) => {
            let target = Target::parse(authority.as_str(), Some(default_port));
            Some(target.ok_or_else(|| malformed("its address does not have a valid host"))?)
        }
        None => None,
    };
    let target = match (arrival, named) {
        (Arrival::Tunnel(target), Some(named)) if named != *target => {
            return Err(target.refusal(Reason::WrongHost(named.host.to_string())));
        }
        (Arrival::Tunnel(target), _) => target.clone(),
        (Arrival::Proxy, Some(named)) => named,
        (Arrival::Proxy, None) => return Err(malformed("this is a proxy; it takes CONNECT and absolute http:// addresses")),
    };
    let refusal = |what| target.refusal(Reason::Malformed(what));
    if parts.method == Method::CONNECT {
        return Err(refusal("a tunnel inside a tunnel"));
    }
    if parts.uri.scheme_str().is_some_and(|given| given != scheme) {
        return Err(refusal(match arrival {
            Arrival::Proxy => "its address is not an http:// address; for https:// use CONNECT",
            Arrival::Tunnel(_) => "its address is not an https:// address",
        }));
    }
    check_host(&target, default_port, parts)?;
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    target.url(scheme, path).ok_or_else(|| refusal("its path is not valid"))
}

/// The `Host` header must be the target. HTTP/1.0 may leave it out.
fn check_host(target: &Target, default_port: u16, parts: &Parts) -> Result<(), Refusal> {
    let mut hosts = parts.headers.get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host,
        (None, _) if parts.version == Version::HTTP_10 => return Ok(()),
        (None, _) => return Err(target.refusal(Reason::Malformed("it does not have a Host header"))),
        (Some(_), Some(_)) => return Err(target.refusal(Reason::Malformed("it has two Host headers"))),
    };
    match host.to_str().ok().and_then(|host| Target::parse(host, Some(default_port))) {
        Some(host) if host == *target => Ok(()),
        Some(host) => Err(target.refusal(Reason::WrongHost(format!("{}:{}", host.host, host.port)))),
        None => Err(target.refusal(Reason::Malformed("its Host header is not valid"))),
    }
}

/// Only plain HTTP passes. An offer of h2c may be ignored (RFC 9110, section 7.8), and clients of Java make it with
/// every request; another protocol would carry what the proxy cannot see.
fn check_protocol(headers: &HeaderMap) -> Result<(), Reason> {
    let mut protocols = headers.get_all(UPGRADE).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    if let Some(other) = protocols.find(|name| !name.trim_ascii().eq_ignore_ascii_case(b"h2c")) {
        return Err(Reason::Upgrade(shown(other)));
    }
    let mut expectations = headers.get_all(EXPECT).iter();
    if expectations.any(|value| !value.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        return Err(Reason::Expectation);
    }
    Ok(())
}

fn target(url: &Url) -> Option<Target> {
    Some(Target { host: url.host()?.to_owned(), port: url.port_or_known_default()? })
}

fn reply(response: Response, is_head: bool) -> Reply {
    let mut headers = response.headers;
    remove_from_response(&mut headers, is_head);
    let body = if is_head { Bytes::new() } else { response.body };
    let mut reply = hyper::Response::new(Full::new(body));
    *reply.status_mut() = response.status;
    *reply.headers_mut() = headers;
    reply
}
