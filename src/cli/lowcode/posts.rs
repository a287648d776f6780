//! The POST requests that a manifest on the command line may send: the token requests of its OAuth components, and
//! those that the policy lists for the source of this name.
//!
//! A token request does not change anything at the source except the token, so it is enough that the manifest defines
//! its URL and its fields. All other POST requests must be in the reviewed list of the policy.

use crate::model::{Allowed, BodyRule, PostRule, Posts, Shape};
use crate::policy::SourcePolicy;
use ::lowcode::bounds::Bounds;
use ::lowcode::config::Config;
use ::lowcode::host::Host;
use ::lowcode::interpolation::{InterpolatedString, Scope};
use ::lowcode::value::Value;
use std::collections::BTreeMap;
use url::Url;

/// The default names of the fields of a token request. A component may rename them.
const FIELDS: [&str; 4] = ["grant_type", "client_id", "client_secret", "refresh_token"];

/// Returns the rules for `manifest` with `config`. `listed` is the policy's entry for the source `name`.
pub fn of(manifest: &Value, config: &Value, host: &dyn Host, bounds: &Bounds, (name, listed): (&str, &SourcePolicy)) -> Posts {
    let mut rules = listed.posts.clone();
    let mut open = vec![manifest];
    while let Some(value) = open.pop() {
        match value {
            Value::List(items) => open.extend(items),
            Value::Dict(dict) => {
                if dict.get("type").and_then(Value::as_str) == Some("OAuthAuthenticator") {
                    let parameters = dict.get("$parameters").unwrap_or(&Value::None);
                    let scope = Scope { config: Config::new(config), parameters, vars: Vec::new(), host, bounds };
                    rules.extend(token_calls(value, &scope));
                }
                open.extend(dict.values());
            }
            _ => {}
        }
    }
    let list = format!("posts in the policy's manifests.sources.{name}, or the token_refresh_endpoint of an OAuth component");
    Posts { list, rules }
}

/// Returns the rules for a token request. There is one rule for each way to send the fields: as a form, as JSON, or in
/// the query.
fn token_calls(component: &Value, scope: &Scope<'_>) -> Vec<PostRule> {
    let text = |value: &Value| InterpolatedString::new(&value.to_str(), scope.parameters).eval_str(scope).ok();
    let Some(mut url) = component.get("token_refresh_endpoint").and_then(text).and_then(|text| Url::parse(text.trim()).ok())
    else {
        return Vec::new();
    };
    let mut shape: Shape = FIELDS
        .iter()
        .map(|field| component.get(&format!("{field}_name")).and_then(text).unwrap_or_else(|| (*field).to_string()))
        .chain(["scope", "scopes", "assertion"].map(str::to_string))
        .map(|field| (field, Allowed::Any))
        .collect();
    let more = component.get("refresh_request_body").and_then(Value::as_dict);
    shape.extend(more.into_iter().flat_map(|body| body.keys()).map(|field| (field.to_string(), Allowed::Any)));
    let mut query: Shape = url.query_pairs().map(|(name, _)| (name.into_owned(), Allowed::Any)).collect();
    url.set_query(None);
    let rule = |query: &Shape, body: BodyRule| PostRule {
        url: url.to_string(),
        why: "gets an access token".to_string(),
        query: query.clone(),
        headers: BTreeMap::new(),
        body,
        idempotent: false,
    };
    let mut rules = vec![rule(&query, BodyRule::Form(shape.clone())), rule(&query, BodyRule::Json(shape.clone()))];
    query.extend(shape);
    rules.push(rule(&query, BodyRule::None));
    rules
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::lowcode::calls::OfflineHost;

    #[test]
    fn only_token_calls_are_listed_and_with_their_own_fields() {
        let manifest = serde_json::json!({"streams": [{"retriever": {"requester": {
            "type": "HttpRequester", "url_base": "https://api.example.com", "http_method": "POST",
            "authenticator": {
                "type": "OAuthAuthenticator", "token_refresh_endpoint": "https://{{ config['site'] }}/token?v=2",
                "client_id_name": "app", "refresh_request_body": {"audience": "x"}
            }
        }}}]});
        let config = serde_json::json!({"site": "login.example.com"});
        let host = OfflineHost(crate::clock::from_env());
        let posts = of(&manifest.into(), &config.into(), &host, &Bounds::default(), ("shop", &SourcePolicy::default()));
        assert!(posts.rules.iter().all(|rule| rule.url == "https://login.example.com/token"));
        let BodyRule::Form(shape) = &posts.rules[0].body else { panic!("no form") };
        let names: Vec<&str> = shape.keys().map(String::as_str).collect();
        assert_eq!(names, ["app", "assertion", "audience", "client_secret", "grant_type", "refresh_token", "scope", "scopes"]);
        assert_eq!(posts.rules[0].query.keys().collect::<Vec<_>>(), ["v"]);
    }
}
