//! Makes sure that the workspace has the source of a connection: found by its name, created or updated.
//!
//! A creation whose answer was lost is found again by the name, in the same attempt or in the next one, so that it is never
//! made twice. If a person copied the source, the oldest one is used. A source of another connector is never written to, whatever
//! its name is. Nothing is ever deleted.

use super::address::{Api, Call};
use super::client::PlatformApi;
use super::definitions::{self, Definition};
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
    /// The name that earlier versions of AAM gave the source. One with this name is taken over.
    pub earlier_name: Option<String>,
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
    name: String,
    definition: String,
    connector: String,
    created_at: i64,
    /// Its definition and its config as Airbyte shows them, with secrets masked.
    shown: Digest,
}

/// What AAM did with the source.
struct Done {
    action: &'static str,
    /// Whether the source was changed since this process wrote it.
    was_changed: bool,
}

impl Done {
    fn new(action: &'static str) -> Done {
        Done { action, was_changed: false }
    }
}

/// Returns the source of `setup` with the config that it should have.
///
/// # Errors
/// Returns the failure of a call, `Unsupported` if the workspace does not have the connector, `Misconfigured` if the source with
/// the name is of another connector, or `CredentialMissing` if the specification of the connector requires more than there is.
pub async fn ensure(api: &mut PlatformApi, setup: &SourceSetup, written: &Written) -> Result<EnsuredSource, Failure> {
    let listed = list(api, setup).await?;
    let (named, earlier): (Vec<ListedSource>, Vec<ListedSource>) =
        listed.into_iter().partition(|source| source.name == setup.name);
    // What was written by this process has the right connector.
    if named.first().is_some_and(|source| written.is_same(&source.id, Inputs::new(setup), source.shown)) {
        return Ok(ensured(api, setup, &named, &Done::new("unchanged")));
    }
    let definitions = definitions::list(api).await?;
    let wanted = definitions::of_connector(api, &setup.connector, &definitions)?;
    let is_wanted = |source: &ListedSource| wanted.iter().any(|definition| definition.id == source.definition);
    let (own, foreign): (Vec<ListedSource>, Vec<ListedSource>) = named.into_iter().partition(is_wanted);
    let mut found = match (own.is_empty(), foreign.first()) {
        (true, Some(foreign)) => return Err(other_connector(api, setup, foreign, &wanted, &definitions)),
        (true, None) => earlier.into_iter().filter(is_wanted).collect(),
        (false, _) => own,
    };
    let Some(source) = found.first_mut() else {
        let (created, action) = create(api, setup, written, &wanted).await?;
        return Ok(ensured(api, setup, &[created], &Done::new(action)));
    };
    let done = update(api, setup, written, source).await?;
    found.extend(foreign);
    Ok(ensured(api, setup, &found, &done))
}

/// The failure for a source that has the name but is of another connector, which must not get the credential.
fn other_connector(
    api: &PlatformApi,
    setup: &SourceSetup,
    source: &ListedSource,
    wanted: &[&Definition],
    definitions: &[Definition],
) -> Failure {
    let known = definitions.iter().find(|definition| definition.id == source.definition);
    let other = match (known, source.connector.as_str()) {
        (Some(definition), _) => definition.shown(),
        (None, "") => format!("the connector with the id {}", source.definition),
        (None, connector) => format!("{connector} (the connector with the id {})", source.definition),
    };
    let wanted = wanted.first().map(|definition| definition.shown()).unwrap_or_default();
    Failure::new(
        Class::Misconfigured,
        format!(
            "the source {:?} at the Airbyte of {} is of {other}, and AAM needs one of {wanted}; AAM sent nothing to it",
            setup.name,
            api.address.host()
        ),
        format!(
            "rename or delete the source {} in the workspace {} at Airbyte; AAM then creates its own: aam heal {}",
            source.id, api.workspace, setup.search
        ),
    )
}

fn ensured(api: &PlatformApi, setup: &SourceSetup, found: &[ListedSource], done: &Done) -> EnsuredSource {
    let (host, workspace) = (api.address.host(), &api.workspace);
    let id = found.first().map(|source| source.id.clone()).unwrap_or_default();
    let name = found.first().map_or(&setup.name, |source| &source.name);
    let mut evidence = Evidence::new();
    evidence.insert("airbyte".into(), host.clone().into());
    evidence.insert("workspace".into(), workspace.as_str().into());
    evidence.insert("source".into(), name.as_str().into());
    evidence.insert("source_id".into(), id.as_str().into());
    evidence.insert("action".into(), done.action.into());
    if let Some(source) = found.first().filter(|source| !source.connector.is_empty()) {
        evidence.insert("connector".into(), source.connector.as_str().into());
    }
    // The ledger keeps this after the connection is retired, when no call is made any more.
    let after = format!("AAM deletes nothing at Airbyte: if this connection is retired, delete the source {id} there");
    evidence.insert("retirement".into(), after.into());
    let changed = done.was_changed.then(|| {
        evidence.insert("changed_at_airbyte".into(), true.into());
        Failure::new(
            Class::Misconfigured,
            format!("the source {name:?} was changed in the Airbyte at {host} after AAM wrote it, and AAM wrote it again"),
            "change the intent or its credential instead of the source; if a second AAM runs with a copy of this registry, stop it",
        )
    });
    let others: Vec<&str> = found.iter().skip(1).take(MAX_SHOWN).map(|source| source.id.as_str()).collect();
    let copies = (!others.is_empty()).then(|| {
        evidence.insert("other_sources".into(), json!(others));
        Failure::new(
            Class::Misconfigured,
            format!("{} sources of the workspace {workspace} have the name {name:?}", found.len()),
            format!(
                "AAM uses the oldest of the connector {}, {id}; rename or delete the others in the Airbyte at {host}: {}",
                setup.connector,
                others.join(", ")
            ),
        )
    });
    EnsuredSource { id, evidence, warning: copies.or(changed) }
}

/// Returns the sources with the name of the setup or with its earlier name, the oldest first.
async fn list(api: &PlatformApi, setup: &SourceSetup) -> Result<Vec<ListedSource>, Failure> {
    let is_named = |source: &ListedSource| source.name == setup.name || Some(&source.name) == setup.earlier_name.as_ref();
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
        found.extend(listed.iter().filter_map(read).filter(is_named));
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
    let definition = text(["sourceDefinitionId", "definitionId"]);
    Some(ListedSource {
        id: id.to_string(),
        name: source.get("name").and_then(Value::as_str).unwrap_or_default().to_string(),
        connector: text(["sourceName", "sourceType"]),
        created_at: source.get("createdAt").and_then(Value::as_i64).unwrap_or(i64::MAX),
        shown: Digest::from_parts(&[definition.as_bytes(), b"\0", shown.to_string().as_bytes()]),
        definition,
    })
}

async fn create(
    api: &mut PlatformApi,
    setup: &SourceSetup,
    written: &Written,
    wanted: &[&Definition],
) -> Result<(ListedSource, &'static str), Failure> {
    let Some(Definition { id: definition, .. }) = wanted.first() else { return Err(definitions::missing(api, &setup.connector)) };
    let connector = wanted.first().map(|definition| definition.shown()).unwrap_or_default();
    let config = config(api, setup, definition).await?;
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
            let is_own = |source: &ListedSource| source.name == setup.name && source.definition == *definition;
            (found.into_iter().find(is_own).ok_or(failure)?, "created; its answer was lost, and the source was found by its name")
        }
        Err(failure) => return Err(failure),
    };
    written.note(&source.id, Inputs::new(setup), source.shown);
    Ok((ListedSource { connector, ..source }, action))
}

/// Updates a source of the right connector, unless AAM wrote the same before and it was not changed since. One with an earlier
/// name gets the name of the setup.
async fn update(
    api: &mut PlatformApi,
    setup: &SourceSetup,
    written: &Written,
    source: &mut ListedSource,
) -> Result<Done, Failure> {
    let is_named = source.name == setup.name;
    if is_named && written.is_same(&source.id, Inputs::new(setup), source.shown) {
        return Ok(Done::new("unchanged"));
    }
    if api.address.api == Api::Public {
        return Ok(Done::new(
            "left as it is: the public API updates a source only by PUT, which AAM does not send; the configuration API (/api/v1) updates by POST",
        ));
    }
    let config = config(api, setup, &source.definition).await?;
    allow(api, setup, &config);
    let parameters = json!({"sourceId": source.id, "name": setup.name, "connectionConfiguration": config});
    let response = api.call(Call::Update, &parameters).await?;
    let was_changed = written.was_changed(&source.id, source.shown);
    if let Some(updated) = read(&response.body) {
        written.note(&source.id, Inputs::new(setup), updated.shown);
    }
    source.name.clone_from(&setup.name);
    let action = if is_named { "updated" } else { "taken over from an earlier version of AAM: renamed and updated" };
    Ok(Done { action, was_changed })
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
