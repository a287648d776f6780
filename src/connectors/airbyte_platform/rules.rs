//! The list of POST requests for a company's own Airbyte.
//!
//! This is the only place where AAM writes: a source in the workspace that the policy names, under the name of one
//! connection. The rules hold for the address of `airbyte.platform.url` alone. None of them names a connection that moves
//! data, and none deletes.

use super::address::{Address, Call};
use crate::model::{Allowed, BodyRule, PostRule, Posts, Shape};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// What the rules hold for.
pub struct RuleScope<'a> {
    pub address: &'a Address,
    pub workspace: &'a str,
    /// The name of the source.
    pub name: &'a str,
    /// The text by which the list of sources is searched: the id of the connection.
    pub search: &'a str,
    /// The config of the source. Without one, sources are neither created nor updated.
    pub config: Option<&'a Map<String, Value>>,
}

/// Returns the rules of one resource.
#[must_use]
pub fn posts(scope: &RuleScope<'_>) -> Posts {
    let rules = Call::ALL.into_iter().filter_map(|call| rule(scope, call)).collect();
    Posts { list: "airbyte.platform in the policy".to_string(), rules }
}

fn rule(scope: &RuleScope<'_>, call: Call) -> Option<PostRule> {
    let (method, url) = scope.address.of_call(call, scope.workspace)?;
    if method != "POST" {
        return None;
    }
    let is = |value: &str| Allowed::Is(value.into());
    let workspace = || ("workspaceId", is(scope.workspace));
    let config = |key: &'static str| Some((key, Allowed::Object(shape(scope.config?))));
    let is_public = scope.address.api == super::address::Api::Public;
    let (keys, why, idempotent) = match call {
        Call::Token => {
            let keys =
                vec![("client_id", Allowed::Any), ("client_secret", Allowed::Any), ("grant-type", is("client_credentials"))];
            (keys, "exchanges the application's secret for a token", true)
        }
        Call::Definitions => (vec![workspace()], "lists the connectors of the workspace", true),
        Call::Specification => {
            (vec![workspace(), ("sourceDefinitionId", Allowed::Any)], "reads the specification of a connector", true)
        }
        Call::Sources => {
            let filters = Shape::from([("searchTerm".to_string(), is(scope.search))]);
            (vec![workspace(), ("filters", Allowed::Object(filters))], "looks for the source of the connection", true)
        }
        Call::Create if is_public => {
            let keys = vec![workspace(), ("name", is(scope.name)), ("definitionId", Allowed::Any), config("configuration")?];
            (keys, "creates the source of the connection", false)
        }
        Call::Create => {
            let definition = ("sourceDefinitionId", Allowed::Any);
            let keys = vec![workspace(), ("name", is(scope.name)), definition, config("connectionConfiguration")?];
            (keys, "creates the source of the connection", false)
        }
        Call::Update => {
            let keys = vec![("sourceId", Allowed::Any), ("name", is(scope.name)), config("connectionConfiguration")?];
            (keys, "updates the source of the connection", true)
        }
        Call::Check => (vec![("sourceId", Allowed::Any)], "lets Airbyte check the source", true),
        Call::Discover => {
            let keys = vec![("sourceId", Allowed::Any), ("disable_cache", Allowed::Is(true.into()))];
            (keys, "lets Airbyte discover the streams of the source", true)
        }
    };
    let body = keys.into_iter().map(|(key, allowed)| (key.to_string(), allowed)).collect();
    Some(PostRule {
        url: url.to_string(),
        why: why.to_string(),
        query: Shape::new(),
        headers: BTreeMap::new(),
        body: BodyRule::Json(body),
        idempotent,
    })
}

/// Returns the shape of a config: exactly its keys. Values are not part of a rule, because some are secret; a list of
/// objects, which a shape cannot describe, is.
fn shape(config: &Map<String, Value>) -> Shape {
    let is_flat = |item: &Value| !item.is_object() && !item.is_array();
    let allowed = |value: &Value| match value {
        Value::Object(object) => Allowed::Object(shape(object)),
        Value::Array(items) if !items.iter().all(is_flat) => Allowed::Is(value.clone()),
        _ => Allowed::Any,
    };
    config.iter().map(|(key, value)| (key.clone(), allowed(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use url::Url;

    fn rules(url: &str, config: Option<&Map<String, Value>>) -> Posts {
        let address = Address::new(&Url::parse(url).unwrap()).unwrap();
        posts(&RuleScope { address: &address, workspace: "w-1", name: "AAM okta", search: "c-1", config })
    }

    #[test]
    fn without_a_config_nothing_is_written() {
        let whys: Vec<String> = rules("https://a.example/api/v1", None).rules.into_iter().map(|rule| rule.why).collect();
        assert_eq!(whys.len(), 6);
        assert!(whys.iter().all(|why| !why.contains("creates") && !why.contains("updates")), "{whys:?}");
    }

    #[test]
    fn every_rule_is_for_the_host_of_the_policy_and_holds_no_secret() {
        let config = json!({"domain": "acme", "credentials": {"api_token": "canary-77"}, "streams": [{"name": "csv"}], "n": 7});
        let config = config.as_object().unwrap();
        for url in ["https://a.example:8443/api/v1", "https://a.example:8443/api/public/v1"] {
            let posts = rules(url, Some(config));
            assert!(posts.rules.iter().all(|rule| rule.url.starts_with("https://a.example:8443/api/")), "{posts:?}");
            assert!(!format!("{posts:?}").contains("canary"), "{posts:?}");
            let created = posts.rules.iter().find(|rule| rule.why.starts_with("creates")).unwrap();
            assert!(!created.idempotent, "a creation is never sent twice");
            let BodyRule::Json(body) = &created.body else { panic!("{created:?}") };
            assert_eq!(body["name"], Allowed::Is("AAM okta".into()));
            assert_eq!(body["workspaceId"], Allowed::Is("w-1".into()));
        }
    }
}
