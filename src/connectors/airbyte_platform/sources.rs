//! Makes sure that the workspace has the source of a connection: found by its name, created or updated.
//!
//! A creation whose answer was lost is found again by the name, in the same attempt or in the next one, so that it is never
//! made twice. If a person copied the source, the oldest one is used. Nothing is ever deleted.

use super::address::{Api, Call};
use super::client::PlatformApi;
use super::rules::{RuleScope, posts};
use super::specification::{self, ConfigInput};
use super::written::{Inputs, Written};
use crate::credentials::Credential;
use crate::model::{Class, Digest, Evidence, Failure};
use serde_json::{Map, Value, json};

/// The sources of one page of the public API, which is its maximum.
const PAGE_SIZE: usize = 100;
/// The pages of the public API that are searched.
const MAX_PAGES: usize = 50;
/// The ids of further sources with the same name that are shown.
const MAX_SHOWN: usize = 5;

/// What the source of one resource is made of.
pub struct SourceSetup {
    /// The name of the source in the workspace.
    pub name: String,
    /// The text by which the list of sources is searched: the id of the connection.
    pub search: String,
    /// The connector, for example `source-okta`.
    pub connector: String,
    pub resource_id: String,
    /// The filled template of the connector. It may be empty.
    pub config: Map<String, Value>,
    pub credential: Option<Credential>,
}

/// The source in the workspace.
pub struct EnsuredSource {
    pub id: String,
    pub evidence: Evidence,
    /// What a person should look at although the source can be used.
    pub warning: Option<Failure>,
}

/// A source as Airbyte lists it.
#[derive(Clone)]
struct ListedSource {
    id: String,
    definition: String,
    connector: String,
    created_at: i64,
    /// Its config as Airbyte shows it, with secrets masked.
    shown: Digest,
}

/// Returns the source of `setup` with the config that it should have.
///
/// # Errors
/// Returns the failure of a call, `Unsupported` if the workspace does not have the connector, or `CredentialMissing` if the
/// specification of the connector requires more than there is.
pub async fn ensure(api: &mut PlatformApi, setup: &SourceSetup, written: &Written) -> Result<EnsuredSource, Failure> {
    let found = list(api, setup).await?;
    if found.is_empty() {
        let created = create(api, setup, written).await?;
        return Ok(ensured(api, setup, &[created.0], created.1));
    }
    let action = update(api, setup, written, &found).await?;
    Ok(ensured(api, setup, &found, action))
}

fn ensured(api: &PlatformApi, setup: &SourceSetup, found: &[ListedSource], action: &str) -> EnsuredSource {
    let (host, workspace, name) = (api.address.host(), &api.workspace, &setup.name);
    let id = found.first().map(|source| source.id.clone()).unwrap_or_default();
    let mut evidence = Evidence::new();
    evidence.insert("airbyte".into(), host.clone().into());
    evidence.insert("workspace".into(), workspace.as_str().into());
    evidence.insert("source".into(), name.as_str().into());
    evidence.insert("source_id".into(), id.as_str().into());
    evidence.insert("action".into(), action.into());
    if let Some(source) = found.first().filter(|source| !source.connector.is_empty()) {
        evidence.insert("connector".into(), source.connector.as_str().into());
    }
    // The ledger keeps this after the connection is retired, when no call is made any more.
    let after = format!("AAM deletes nothing at Airbyte: if this connection is retired, delete the source {id} there");
    evidence.insert("retirement".into(), after.into());
    let others: Vec<&str> = found.iter().skip(1).take(MAX_SHOWN).map(|source| source.id.as_str()).collect();
    let warning = (!others.is_empty()).then(|| {
        evidence.insert("other_sources".into(), json!(others));
        Failure::new(
            Class::Misconfigured,
            format!("{} sources of the workspace {workspace} have the name {name:?}", found.len()),
            format!("AAM uses the oldest, {id}; rename or delete the others in the Airbyte at {host}: {}", others.join(", ")),
        )
    });
    EnsuredSource { id, evidence, warning }
}

/// Returns the sources with the name of the setup, the oldest first.
async fn list(api: &PlatformApi, setup: &SourceSetup) -> Result<Vec<ListedSource>, Failure> {
    let mut found = Vec::new();
    for page in 0..MAX_PAGES {
        let parameters = match api.address.api {
            Api::Configuration => json!({"workspaceId": api.workspace, "filters": {"searchTerm": setup.search}}),
            Api::Public => json!({"workspaceIds": api.workspace, "limit": PAGE_SIZE, "offset": page * PAGE_SIZE}),
        };
        let response = api.call(Call::Sources, &parameters).await?;
        let key = if api.address.api == Api::Public { "data" } else { "sources" };
        let Some(listed) = response.body.get(key).and_then(Value::as_array) else {
            return Err(api.unexpected(Call::Sources, "the response does not have a list of sources"));
        };
        let own = listed.iter().filter(|source| source.get("name").and_then(Value::as_str) == Some(setup.name.as_str()));
        found.extend(own.filter_map(read));
        if api.address.api == Api::Configuration || listed.len() < PAGE_SIZE {
            break;
        }
    }
    found.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
    Ok(found)
}

/// Reads a source of either API.
fn read(source: &Value) -> Option<ListedSource> {
    let text = |keys: [&str; 2]| keys.into_iter().find_map(|key| source.get(key)?.as_str()).unwrap_or_default().to_string();
    let shown = source.get("connectionConfiguration").or_else(|| source.get("configuration")).unwrap_or(&Value::Null);
    let id = source.get("sourceId").and_then(Value::as_str).filter(|id| uuid::Uuid::parse_str(id).is_ok())?;
    Some(ListedSource {
        id: id.to_string(),
        definition: text(["sourceDefinitionId", "definitionId"]),
        connector: text(["sourceName", "sourceType"]),
        created_at: source.get("createdAt").and_then(Value::as_i64).unwrap_or(i64::MAX),
        shown: Digest::from_bytes(shown.to_string().as_bytes()),
    })
}

async fn create(api: &mut PlatformApi, setup: &SourceSetup, written: &Written) -> Result<(ListedSource, &'static str), Failure> {
    let (definition, connector) = definition(api, setup).await?;
    let config = config(api, setup, &definition).await?;
    allow(api, setup, &config);
    let parameters = match api.address.api {
        Api::Configuration => json!({
            "workspaceId": api.workspace, "name": setup.name, "sourceDefinitionId": definition, "connectionConfiguration": config,
        }),
        Api::Public => json!({
            "workspaceId": api.workspace, "name": setup.name, "definitionId": definition, "configuration": config,
        }),
    };
    let (source, action) = match api.call(Call::Create, &parameters).await {
        Ok(response) => {
            let missing = || api.unexpected(Call::Create, "the response does not have the id of the source");
            (read(&response.body).ok_or_else(missing)?, "created")
        }
        // The request may have arrived although its answer did not.
        Err(failure) if matches!(failure.class, Class::Network | Class::Remote) => {
            let found = list(api, setup).await.unwrap_or_default();
            (found.into_iter().next().ok_or(failure)?, "created; its answer was lost, and the source was found by its name")
        }
        Err(failure) => return Err(failure),
    };
    written.note(&source.id, Inputs::new(setup), source.shown);
    Ok((ListedSource { connector, ..source }, action))
}

/// Updates the oldest source, unless AAM wrote the same before and it was not changed since.
async fn update(
    api: &mut PlatformApi,
    setup: &SourceSetup,
    written: &Written,
    found: &[ListedSource],
) -> Result<&'static str, Failure> {
    let Some(source) = found.first() else { return Ok("") };
    if written.is_same(&source.id, Inputs::new(setup), source.shown) {
        return Ok("unchanged");
    }
    if api.address.api == Api::Public {
        return Ok(
            "left as it is: the public API updates a source only by PUT, which AAM does not send; the configuration API (/api/v1) updates by POST",
        );
    }
    let config = config(api, setup, &source.definition).await?;
    allow(api, setup, &config);
    let parameters = json!({"sourceId": source.id, "name": setup.name, "connectionConfiguration": config});
    let response = api.call(Call::Update, &parameters).await?;
    if let Some(updated) = read(&response.body) {
        written.note(&source.id, Inputs::new(setup), updated.shown);
    }
    Ok("updated")
}

/// Lets the session create and update this source with this config, and nothing else.
fn allow(api: &mut PlatformApi, setup: &SourceSetup, config: &Map<String, Value>) {
    let scope = RuleScope {
        address: &api.address,
        workspace: &api.workspace,
        name: &setup.name,
        search: &setup.search,
        config: Some(config),
    };
    let posts = posts(&scope);
    api.allow(posts);
}

/// Returns the id of the connector's definition in the workspace, and its name with its version.
async fn definition(api: &PlatformApi, setup: &SourceSetup) -> Result<(String, String), Failure> {
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
    let (official, suffix) = (format!("airbyte/{}", setup.connector), format!("/{}", setup.connector));
    let by_name = |exact: bool| {
        listed.iter().find(|definition| {
            let repository = text(definition, "dockerRepository");
            if exact { repository == official } else { repository.ends_with(&suffix) }
        })
    };
    let Some(definition) = by_name(true).or_else(|| by_name(false)) else {
        return Err(Failure::new(
            Class::Unsupported,
            format!(
                "the workspace {} of the Airbyte at {} does not have the connector {}",
                api.workspace,
                api.address.host(),
                setup.connector
            ),
            format!(
                "add {} to the connectors of that workspace, or choose another engine in the policy: families.NAME.engine",
                setup.connector
            ),
        ));
    };
    let shown = format!("{}:{}", text(definition, "dockerRepository"), text(definition, "dockerImageTag"));
    Ok((text(definition, id), shown))
}

/// Returns the config by the specification of the connector. The public API does not have specifications, so there the
/// template alone decides, and Airbyte checks it.
async fn config(api: &PlatformApi, setup: &SourceSetup, definition: &str) -> Result<Map<String, Value>, Failure> {
    if api.address.api == Api::Public {
        return Ok(setup.config.clone());
    }
    let parameters = json!({"workspaceId": api.workspace, "sourceDefinitionId": definition});
    let response = api.call(Call::Specification, &parameters).await?;
    let Some(specification) = response.body.get("connectionSpecification").filter(|it| it.is_object()) else {
        return Err(super::verdict::job_failure(api, "specification", &response.body));
    };
    let input = ConfigInput { resource_id: &setup.resource_id, credential: setup.credential.as_ref() };
    let config = specification::complete(setup.config.clone(), specification, input);
    specification::check(&config, specification, &setup.connector)?;
    Ok(config)
}
