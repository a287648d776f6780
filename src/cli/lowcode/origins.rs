//! The origins that a manifest names: `url_base` and `url` of its requesters under one config.

use crate::connectors::lowcode::bounds::Bounds;
use crate::connectors::lowcode::host::Host;
use crate::connectors::lowcode::interpolation::{InterpolatedString, Scope};
use crate::connectors::lowcode::value::Value;
use std::collections::BTreeSet;
use url::Url;

/// Scheme, host and port of every address that the manifest writes itself. An address that only an answer makes is
/// none of them.
pub fn of(manifest: &Value, config: &Value, host: &dyn Host, bounds: &Bounds) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![manifest];
    while let Some(value) = open.pop() {
        match value {
            Value::List(items) => open.extend(items),
            Value::Dict(dict) => {
                if dict.get("type").and_then(Value::as_str) == Some("HttpRequester") {
                    let parameters = dict.get("$parameters").unwrap_or(&Value::None);
                    let scope = Scope { config, parameters, vars: Vec::new(), host, bounds };
                    let texts = ["url_base", "url"].into_iter().filter_map(|name| dict.get(name)?.as_str());
                    found.extend(texts.filter_map(|text| origin(text, &scope)));
                }
                open.extend(dict.values());
            }
            _ => {}
        }
    }
    found
}

fn origin(text: &str, scope: &Scope<'_>) -> Option<String> {
    let whole = InterpolatedString::new(text, scope.parameters).eval_str(scope).ok();
    let read = |text: &str| {
        let url = Url::parse(text.trim()).ok().filter(|url| url.has_host())?;
        Some(url.origin().ascii_serialization())
    };
    // Where a slice stands in the path, the host may be written out all the same.
    whole.as_deref().and_then(read).or_else(|| {
        let (scheme, rest) = text.split_once("://")?;
        let (host, _) = rest.split_once('/')?;
        (!host.contains('{')).then(|| read(&format!("{scheme}://{host}/")))?
    })
}
