//! What a manifest would call, as far as its text and the config say: for the plan and for the hosts.

use crate::clock::Clock;
use ::lowcode::bounds::Bounds;
use ::lowcode::config::Config;
use ::lowcode::host::{Host, HostError, HostRequest, HostResponse};
use ::lowcode::interpolation::{InterpolatedString, Scope};
use ::lowcode::value::{Dict, Value};
use futures_util::future::BoxFuture;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// A host that knows the time and sends nothing.
pub struct OfflineHost(pub Arc<dyn Clock>);

fn nothing() -> HostError {
    HostError::refused("nothing is sent while a plan is made")
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

/// One call of a stream.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Planned {
    pub stream: String,
    pub method: String,
    pub host: String,
    pub path: String,
}

/// Reads the manifest with a config.
pub struct Reading<'a> {
    pub manifest: &'a Value,
    pub config: &'a Value,
    pub host: &'a dyn Host,
    pub bounds: &'a Bounds,
}

/// Scheme, host and port.
fn origin(text: &str) -> Option<String> {
    let url = Url::parse(text.trim()).ok().filter(|url| url.origin().is_tuple())?;
    Some(url.origin().ascii_serialization())
}

/// The origin of a template that needs a slice in its path, but writes its host out.
fn literal(text: &str) -> Option<String> {
    let (scheme, rest) = text.trim().split_once("://")?;
    let (host, _) = rest.split_once('/')?;
    origin(&format!("{scheme}://{host}/")).filter(|_| !host.contains('{'))
}

/// Keys under which addresses stand.
const ADDRESSES: [&str; 3] = ["url_base", "url", "token_refresh_endpoint"];

/// An address as a manifest writes it, with the parameters that its templates may use.
#[derive(Clone, Debug, PartialEq)]
pub struct Address {
    text: Arc<str>,
    parameters: Value,
}

/// How far back an address is looked for.
const NEAR: usize = 32;

/// All addresses that a manifest names, most of them once.
#[must_use]
pub fn addresses(manifest: &Value) -> Vec<Address> {
    let mut found: Vec<Address> = Vec::new();
    // A manifest's values are bounded in number and depth by its loader.
    let mut open: Vec<&Value> = vec![manifest];
    while let Some(value) = open.pop() {
        match value {
            Value::List(list) => open.extend(list),
            Value::Dict(dict) => {
                let parameters = dict.get("$parameters").unwrap_or(&Value::None);
                for (key, value) in dict {
                    match value {
                        Value::Str(text) if ADDRESSES.contains(&&**key) => {
                            let address = Address { text: Arc::clone(text), parameters: parameters.clone() };
                            // Streams of one API name the same; a manifest of thousands of others must not cost their square.
                            if !found.iter().rev().take(NEAR).any(|known| *known == address) {
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
    /// The text with the config in it; `None` where it needs more than the config.
    fn text(&self, text: &str, parameters: &Value) -> Option<String> {
        let scope =
            Scope { config: Config::new(self.config), parameters, vars: Vec::new(), host: self.host, bounds: self.bounds };
        InterpolatedString::new(text, parameters).eval_str(&scope).ok()
    }

    /// The origins of `addresses`, with the config in them.
    #[must_use]
    pub fn origins(&self, addresses: &[Address]) -> BTreeSet<String> {
        let origin = |address: &Address| {
            let whole = self.text(&address.text, &address.parameters);
            whole.as_deref().and_then(origin).or_else(|| literal(&address.text))
        };
        addresses.iter().filter_map(origin).collect()
    }

    /// The calls of the static streams.
    #[must_use]
    pub fn planned(&self) -> Vec<Planned> {
        let streams = self.manifest.get("streams").and_then(Value::as_list).unwrap_or_default();
        streams.iter().filter_map(|stream| self.of_stream(stream)).collect()
    }

    fn of_stream(&self, stream: &Value) -> Option<Planned> {
        let requester = stream.get("retriever")?.get("requester")?;
        let dict = requester.as_dict()?;
        let parameters = dict.get("$parameters").cloned().unwrap_or(Value::Dict(Dict::default()));
        let raw = |key: &str| dict.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        let shown = |text: &str| self.text(text, &parameters).unwrap_or_else(|| text.to_string());
        let base = raw("url").or(raw("url_base")).map(shown).unwrap_or_default();
        let path = raw("path").map(shown).unwrap_or_default();
        let url = Url::parse(base.trim());
        let (host, before) = match &url {
            Ok(url) => (super::address::host_of(url).unwrap_or_default(), url.path().trim_end_matches('/').to_string()),
            Err(_) => (base.chars().take(100).collect(), String::new()),
        };
        let path = path.split('?').next().unwrap_or_default().trim_start_matches('/');
        Some(Planned {
            stream: stream.get("name").and_then(Value::as_str).unwrap_or_default().to_string(),
            method: raw("http_method").unwrap_or("GET").to_uppercase(),
            host,
            path: if path.is_empty() { before } else { format!("{before}/{path}") },
        })
    }
}
