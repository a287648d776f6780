//! The connectors that a workspace has: the definitions of sources.

use super::address::{Api, Call};
use super::client::PlatformApi;
use crate::model::{Class, Failure};
use serde_json::{Value, json};

/// A connector of the workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    pub id: String,
    /// For example `airbyte/source-okta`.
    pub repository: String,
    /// The version.
    pub tag: String,
}

impl Definition {
    /// Returns `airbyte/source-okta:0.3.26`.
    #[must_use]
    pub fn shown(&self) -> String {
        format!("{}:{}", self.repository, self.tag)
    }
}

/// Returns the connectors of the workspace.
///
/// # Errors
/// Returns the failure of the call.
pub async fn list(api: &PlatformApi) -> Result<Vec<Definition>, Failure> {
    let parameters = match api.address.api {
        Api::Configuration => json!({"workspaceId": api.workspace}),
        Api::Public => json!({}),
    };
    let response = api.call(Call::Definitions, &parameters).await?;
    let (list, id) = match api.address.api {
        Api::Configuration => ("sourceDefinitions", "sourceDefinitionId"),
        Api::Public => ("data", "id"),
    };
    let Some(listed) = response.body.get(list).and_then(Value::as_array) else {
        return Err(api.unexpected(Call::Definitions, "the response does not have a list of connectors"));
    };
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_string();
    let read = |value: &Value| Definition {
        id: text(value, id),
        repository: text(value, "dockerRepository"),
        tag: text(value, "dockerImageTag"),
    };
    Ok(listed.iter().map(read).collect())
}

/// Returns the definitions of a connector such as `source-okta`: first the one of Airbyte, then those that the company built
/// under the same name.
///
/// # Errors
/// Returns `Unsupported` if the workspace does not have it.
pub fn of_connector<'a>(
    api: &PlatformApi,
    connector: &str,
    definitions: &'a [Definition],
) -> Result<Vec<&'a Definition>, Failure> {
    let found = named(connector, definitions);
    if found.is_empty() { Err(missing(api, connector)) } else { Ok(found) }
}

fn named<'a>(connector: &str, definitions: &'a [Definition]) -> Vec<&'a Definition> {
    let (official, suffix) = (format!("airbyte/{connector}"), format!("/{connector}"));
    let mut found: Vec<&Definition> = definitions.iter().filter(|one| one.repository.ends_with(&suffix)).collect();
    found.sort_by_key(|one| one.repository != official);
    found
}

/// The failure for a connector that the workspace does not have.
pub fn missing(api: &PlatformApi, connector: &str) -> Failure {
    Failure::new(
        Class::Unsupported,
        format!(
            "the workspace {} of the Airbyte at {} does not have the connector {connector}",
            api.workspace,
            api.address.host()
        ),
        format!(
            "add {connector} to the connectors of that workspace, or choose another engine in the policy: families.NAME.engine"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_connector_of_airbyte_comes_before_one_that_the_company_built() {
        let definition = |repository: &str| Definition {
            id: repository.to_string(),
            repository: repository.to_string(),
            tag: "1.0".to_string(),
        };
        let all = ["acme/source-okta", "airbyte/source-postgres", "airbyte/source-okta", "acme/resource-okta"].map(definition);
        let shown: Vec<String> = named("source-okta", &all).into_iter().map(Definition::shown).collect();
        assert_eq!(shown, ["airbyte/source-okta:1.0", "acme/source-okta:1.0"]);
        assert!(named("source-jira", &all).is_empty());
    }
}
