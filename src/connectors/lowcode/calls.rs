//! The calls that a manifest makes and the hosts that it names, as far as the manifest and the config determine them.

use crate::clock::Clock;
use crate::credentials::redact;
use crate::egress::PlannedCall;
use ::lowcode::bounds::Bounds;
use ::lowcode::config::Config;
use ::lowcode::host::{Host, HostError, HostRequest, HostResponse};
use ::lowcode::interpolation::{InterpolatedString, Scope};
use ::lowcode::join_url;
use ::lowcode::value::{Dict, Value};
use futures_util::future::BoxFuture;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// A host that provides the time and never sends anything.
pub struct OfflineHost(pub Arc<dyn Clock>);

fn nothing() -> HostError {
    HostError::refused("no call is made while a plan is built")
}

impl Host for OfflineHost {
    fn send(&self, _request: HostRequest) -> BoxFuture<'_, Result<HostResponse, HostError>> {
        Box::pin(async { Err(nothing()) })
    }

    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::from_millisecond(self.0.now().0).unwrap_or_default()
    }

    fn pause(&self, _wait: Duration) -> BoxFuture<'_, Result<(), HostError>> {
        Box::pin(async { Err(nothing()) })
    }

    fn uuid(&self) -> String {
        uuid::Uuid::nil().to_string()
    }
}

/// What is done with the streams that `dynamic_streams` generate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum GeneratedStreams {
    None,
    /// They are generated, and none of them is read.
    Described,
    Read,
}

/// Evaluates the URLs of a manifest with a config.
pub struct Reading<'a> {
    pub manifest: &'a Value,
    pub config: &'a Value,
    pub host: &'a dyn Host,
    pub bounds: &'a Bounds,
}

/// Returns the scheme, host and port of a URL.
fn origin(text: &str) -> Option<String> {
    let url = Url::parse(text.trim()).ok().filter(|url| url.origin().is_tuple())?;
    Some(url.origin().ascii_serialization())
}

/// Returns the origin of a template whose path cannot be evaluated with the config alone, if its host is literal.
fn literal(text: &str) -> Option<String> {
    let (scheme, rest) = text.trim().split_once("://")?;
    let (host, _) = rest.split_once('/')?;
    origin(&format!("{scheme}://{host}/")).filter(|_| !host.contains('{'))
}

/// The parts of a stream whose requests do not belong to a read: they end or delete a job of the source.
const NOT_READ: [&str; 2] = ["abort_requester", "delete_requester"];

/// Keys of a manifest whose value is a URL.
const URL_KEYS: [&str; 3] = ["url_base", "url", "token_refresh_endpoint"];

/// A URL as written in a manifest, with the parameters that its templates may use.
#[derive(Clone, Debug, PartialEq)]
pub struct Address {
    text: Arc<str>,
    parameters: Value,
}

impl Address {
    /// Returns true if the address depends on the config.
    #[must_use]
    pub fn is_template(&self) -> bool {
        self.text.contains("{{") || self.text.contains("{%")
    }
}

/// The number of most recent addresses that a new one is compared with to find duplicates.
const DUPLICATE_WINDOW: usize = 32;

/// Returns all addresses that a manifest names. Most duplicates are removed.
#[must_use]
pub fn addresses(manifest: &Value) -> Vec<Address> {
    let mut found: Vec<Address> = Vec::new();
    // The loader bounds the number and the depth of a manifest's values, so this walk terminates soon.
    let mut open: Vec<&Value> = vec![manifest];
    while let Some(value) = open.pop() {
        match value {
            Value::List(list) => open.extend(list),
            Value::Dict(dict) => {
                let parameters = dict.get("$parameters").unwrap_or(&Value::None);
                for (key, value) in dict {
                    match value {
                        Value::Str(text) if URL_KEYS.contains(&&**key) => {
                            let address = Address { text: Arc::clone(text), parameters: parameters.clone() };
                            // The streams of one API often share an address. Comparing all of them would be quadratic.
                            if !found.iter().rev().take(DUPLICATE_WINDOW).any(|known| *known == address) {
                                found.push(address);
                            }
                        }
                        Value::List(_) | Value::Dict(_) => open.push(value),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    found
}

impl Reading<'_> {
    /// Evaluates `text` with the config. Returns `None` if it depends on anything else.
    fn text(&self, text: &str, parameters: &Value) -> Option<String> {
        // The first page of a list has no token.
        let vars = vec![("next_page_token", &Value::None)];
        let scope = Scope { config: Config::new(self.config), parameters, vars, host: self.host, bounds: self.bounds };
        InterpolatedString::new(text, parameters).eval_str(&scope).ok()
    }

    /// Returns the origins of `addresses`, evaluated with the config.
    #[must_use]
    pub fn origins(&self, addresses: &[Address]) -> BTreeSet<String> {
        let origin = |address: &Address| {
            let whole = self.text(&address.text, &address.parameters);
            whole.as_deref().and_then(origin).or_else(|| literal(&address.text))
        };
        addresses.iter().filter_map(origin).collect()
    }

    /// Returns the origins of `addresses` whose host is not literal and differs from the one that `other` gives.
    #[must_use]
    pub fn origins_unlike(&self, other: &Reading<'_>, addresses: &[Address]) -> BTreeSet<String> {
        let chosen = |address: &Address| {
            let of = |reading: &Reading<'_>| reading.text(&address.text, &address.parameters).as_deref().and_then(origin);
            of(self).filter(|_| literal(&address.text).is_none()).filter(|here| of(other).as_ref() != Some(here))
        };
        addresses.iter().filter_map(chosen).collect()
    }

    /// Returns the calls of the dynamic streams and of the streams for whose name `called` returns true. This includes
    /// the calls of their parent streams and their token requests.
    #[must_use]
    pub fn planned(&self, called: &dyn Fn(&str) -> bool, generated: GeneratedStreams) -> Vec<PlannedCall> {
        let list = |key: &str| self.manifest.get(key).and_then(Value::as_list).unwrap_or_default().iter();
        let dynamic = list("dynamic_streams").filter_map(|stream| match generated {
            GeneratedStreams::None => None,
            GeneratedStreams::Described => stream.get("components_resolver"),
            GeneratedStreams::Read => Some(stream),
        });
        let is_called = |stream: &&Value| stream.get("name").and_then(Value::as_str).is_none_or(called);
        let mut calls = Vec::new();
        // The loader bounds the number and the depth of a manifest's values, so this walk terminates soon.
        let mut open: Vec<&Value> = dynamic.rev().chain(list("streams").rev().filter(is_called)).collect();
        while let Some(value) = open.pop() {
            match value {
                Value::List(items) => open.extend(items.iter().rev()),
                Value::Dict(dict) => {
                    if dict.get("type").and_then(Value::as_str) == Some("HttpRequester") {
                        calls.extend(self.request(dict));
                    }
                    if dict.get("type").and_then(Value::as_str) == Some("SimpleRetriever") && follows_links(dict) {
                        calls.extend(dict.get("requester").and_then(Value::as_dict).and_then(|it| self.next_page(it)));
                    }
                    let parts = dict.iter().filter(|(key, _)| !NOT_READ.contains(&&***key)).map(|(_, value)| value);
                    open.extend(parts.filter(|value| matches!(value, Value::List(_) | Value::Dict(_))));
                }
                _ => {}
            }
        }
        calls
    }

    /// Returns the call of a requester. The URL is joined in the same way as by the interpreter.
    fn request(&self, requester: &Dict) -> Option<PlannedCall> {
        let text = |key: &str| self.placeholders(requester, key);
        let url = join_url(&text("url"), &text("url_base"), text("path").trim_start_matches('/')).ok()?;
        planned(&method_of(requester), &url)
    }

    /// Returns the call for a further page whose whole URL comes from the previous response. At run time such a URL may
    /// only point to the hosts of the source.
    fn next_page(&self, requester: &Dict) -> Option<PlannedCall> {
        let base = [self.placeholders(requester, "url"), self.placeholders(requester, "url_base")];
        let PlannedCall { method, host, .. } = planned(&method_of(requester), base.iter().find(|text| !text.is_empty())?)?;
        Some(PlannedCall { method, host, path: "/{link to the next page}".to_string() })
    }

    /// Returns the text under `key`. A template that cannot be evaluated with the config alone is written as `{template}`.
    fn placeholders(&self, requester: &Dict, key: &str) -> String {
        let parameters = requester.get("$parameters").unwrap_or(&Value::None);
        let Some(text) = requester.get(key).and_then(Value::as_str) else { return String::new() };
        if let Some(whole) = self.text(text, parameters) {
            return whole;
        }
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (template, behind) = after.split_once("}}").unwrap_or((after, ""));
            let value = self.text(&format!("{{{{{template}}}}}"), parameters);
            out.push_str(before);
            out.push_str(&value.unwrap_or_else(|| format!("{{{}}}", template.trim())));
            rest = behind;
        }
        out + rest
    }
}

fn method_of(requester: &Dict) -> String {
    requester.get("http_method").and_then(Value::as_str).filter(|text| !text.is_empty()).unwrap_or("GET").to_uppercase()
}

/// Returns true if the paginator takes the whole URL of the next page from a response.
fn follows_links(retriever: &Dict) -> bool {
    let option = retriever.get("paginator").and_then(|paginator| paginator.get("page_token_option"));
    option.and_then(|option| option.get("type")).and_then(Value::as_str) == Some("RequestPath")
}

/// Returns the planned call for `url`, which may contain placeholders.
#[must_use]
pub fn planned(method: &str, url: &str) -> Option<PlannedCall> {
    let (host, path) = match Url::parse(url.trim()) {
        Ok(url) => {
            let path = percent_encoding::percent_decode_str(url.path()).decode_utf8_lossy().into_owned();
            (super::address::host_of(&url).unwrap_or_default(), path)
        }
        // A URL with a placeholder in its host cannot be parsed.
        Err(_) => {
            let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
            let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
            (redact::scrub_and_cut(host, 100), format!("/{}", path.split('?').next().unwrap_or_default()))
        }
    };
    (!host.is_empty()).then(|| PlannedCall { method: method.to_string(), host, path })
}
