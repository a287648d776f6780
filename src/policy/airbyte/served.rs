//! The source types that an Airbyte connector or a company's own Airbyte serves, as families.

use super::{ConnectorPolicy, EngineInForce, Policy};
use crate::families::airbyte as known;
use crate::families::{CredentialField as Field, Family, Login, ServedSource, find};
use std::collections::{BTreeMap, BTreeSet};

impl Policy {
    /// The source types that are not served by AAM's own engine, ordered by their names.
    #[must_use]
    pub fn served_sources(&self) -> Vec<ServedSource> {
        let names: BTreeSet<&String> = self.airbyte.connectors.keys().chain(self.families.keys()).collect();
        names.into_iter().filter_map(|name| self.served_source(name)).collect()
    }

    fn served_source(&self, name: &str) -> Option<ServedSource> {
        let engine = self.engine(name);
        let family = match (engine, self.airbyte.connector(name)) {
            (EngineInForce::Native, _) => return None,
            (EngineInForce::Process, Some(connector)) => family_of(name, connector),
            (EngineInForce::Process | EngineInForce::Platform, _) => {
                find(name).map_or_else(|| Family::custom(name), |family| Family::clone(family))
            }
        };
        // The keys of AAM's own engine, for example its counts of calls, do not hold for another one.
        let engine = engine.engine_name()?.to_string();
        Some(ServedSource { name: name.to_string(), family: Family { engine, lowcode: None, ..family } })
    }
}

/// The family with the ways to log in that the connector understands.
fn family_of(name: &str, connector: &ConnectorPolicy) -> Family {
    let fields = connector.credential_fields();
    let known = known::find(connector.run.connector_name());
    let Some(family) = find(name) else {
        return Family {
            title: known.map_or_else(|| name.to_string(), |known| known.title.clone()),
            resource_ids: known.map_or_else(
                || "what {resource_id} in the connector's config stands for".to_string(),
                |known| known.resource_ids.clone(),
            ),
            least_privilege: "a credential that may only read what the connector reads".to_string(),
            privilege_source: "[-] the policy names the connector".to_string(),
            login: own_login(&fields).into_iter().collect(),
            login_source: "[-] the config of the connector in the policy names the fields".to_string(),
            ..Family::custom(name)
        };
    };
    let needed = |login: &&Login| {
        fields.iter().filter(|field| !field.is_optional).all(|field| login.fields.iter().any(|own| own.name == field.name))
    };
    let mut login: Vec<Login> = match fields.is_empty() {
        true => Vec::new(),
        false => family.login.iter().filter(needed).cloned().collect(),
    };
    if login.is_empty() {
        login.extend(own_login(&fields));
    }
    Family { login, ..Family::clone(family) }
}

/// The way to log in that the config describes, or `None` if it does not name a field of a credential.
fn own_login(fields: &[super::CredentialField]) -> Option<Login> {
    let required: Vec<&super::CredentialField> = fields.iter().filter(|field| !field.is_optional).collect();
    let about = |field: &super::CredentialField| Field {
        name: field.name.clone(),
        about: format!("replaces {{credential.{}}} in the connector's config", field.name),
        optional: field.is_optional,
    };
    (!fields.is_empty()).then(|| Login {
        name: "config".to_string(),
        about: "the fields that the connector's config names".to_string(),
        fields: fields.iter().map(about).collect(),
        plain: match required.as_slice() {
            [only] => Some(only.name.to_ascii_uppercase()),
            _ => None,
        },
        principals: Vec::new(),
        settings: BTreeMap::new(),
        consent: false,
    })
}
