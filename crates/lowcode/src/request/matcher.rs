//! The kinds of requests that call rates and token quotas tell apart (`streams/call_rate.py`).

use crate::context::{Context, EMPTY};
use crate::error::Failed;
use crate::host::HostRequest;
use crate::interpolation::InterpolatedString;
use crate::url::parse_qs;
use crate::value::{Dict, Value};
use fancy_regex::Regex;

/// `HttpRequestRegexMatcher`: selects requests by method, host, path, query and headers.
#[derive(Debug)]
pub struct Matcher {
    method: Option<String>,
    url_base: Option<String>,
    path: Option<Regex>,
    params: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    weight: usize,
}

/// Reads a number, or a template that evaluates to one.
///
/// # Errors
/// Fails if it is not a number, or if the template fails.
pub fn count(value: Option<&Value>, ctx: &Context<'_>) -> Result<usize, Failed> {
    let text = value.unwrap_or(&Value::None).to_str();
    let value = InterpolatedString::new(&text, &EMPTY).eval(&ctx.scope(), &[])?;
    let count = value.number().filter(|it| it.is_finite() && *it >= 0.0);
    count
        .map(|it| it as usize)
        .ok_or_else(|| Failed::system("ValueError", format!("invalid literal for int() with base 10: {}", value.repr())))
}

impl Matcher {
    /// # Errors
    /// Fails if the weight or the pattern is not valid.
    pub fn build(node: &Value, ctx: &Context<'_>) -> Result<Matcher, Failed> {
        let text = |key: &str| node.get(key).filter(|it| it.truthy()).map(Value::to_str);
        let pairs = |key: &str| {
            let dict: Option<&Dict> = node.get(key).and_then(Value::as_dict);
            dict.into_iter().flatten().map(|(key, value)| (key.to_string(), value.to_str())).collect::<Vec<_>>()
        };
        let pattern = |it: String| Regex::new(&it).map_err(|error| Failed::system("error", error.to_string()));
        let weight = match node.get("weight").filter(|it| !it.is_none()) {
            Some(weight) => count(Some(weight), ctx)?,
            None => 1,
        };
        if weight < 1 {
            return Err(Failed::system("ValueError", format!("weight must be >= 1, got {weight}")));
        }
        Ok(Matcher {
            method: text("method").map(|it| it.to_uppercase()),
            url_base: text("url_base").map(|it| it.trim_end_matches('/').to_owned()),
            path: text("url_path_pattern").map(pattern).transpose()?,
            params: pairs("params"),
            headers: pairs("headers"),
            weight,
        })
    }

    /// The number of calls that a request of this kind counts for.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// Whether the request is of this kind.
    #[must_use]
    pub fn matches(&self, request: &HostRequest) -> bool {
        let end = request.url.find(['?', '#']).unwrap_or(request.url.len());
        let (place, rest) = request.url.split_at_checked(end).unwrap_or((&request.url, ""));
        let host = place.find("://").map_or(0, |at| at + 3);
        let slash = place.get(host..).and_then(|it| it.find('/')).map_or(place.len(), |at| host + at);
        let (base, path) = place.split_at_checked(slash).unwrap_or((place, ""));
        let query = rest.split('#').next().and_then(|it| it.strip_prefix('?')).unwrap_or_default();
        let query: Vec<_> = if self.params.is_empty() { Vec::new() } else { parse_qs(query).collect() };
        let last = |key: &str| query.iter().rev().find(|(name, _)| name == key).map(|(_, value)| &**value);
        let same =
            |name: &str, value: &str| request.headers.iter().any(|(key, own)| key.eq_ignore_ascii_case(name) && own == value);
        self.method.as_ref().is_none_or(|it| *it == request.method)
            && self.url_base.as_ref().is_none_or(|it| it == base)
            && self.path.as_ref().is_none_or(|it| it.is_match(path.trim_end_matches('/')).unwrap_or(false))
            && self.params.iter().all(|(key, value)| last(key) == Some(value.as_str()))
            && self.headers.iter().all(|(name, value)| same(name, value))
    }
}
