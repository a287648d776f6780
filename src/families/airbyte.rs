//! What AAM ships about connectors that run as processes: one YAML file per connector in the folder `airbyte`.
//!
//! A file holds what the policy may leave out: the config with its placeholders, the hosts, the POST requests that only read
//! and the streams to sample. The build script lists the files.

use crate::model::PostRule;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::sync::LazyLock;

/// What AAM knows about one connector.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownConnector {
    /// The name of the connector and of the file, for example `source-okta`.
    pub name: String,
    pub title: String,
    /// The family that it can serve. `None` if AAM does not have one.
    #[serde(default)]
    pub family: Option<String>,
    /// What a resource id looks like.
    pub resource_ids: String,
    /// The config, with placeholders.
    pub config: Map<String, Value>,
    /// The hosts that it may call, which may hold placeholders.
    #[serde(default)]
    pub hosts: Vec<String>,
    #[serde(default)]
    pub posts: Vec<PostRule>,
    /// The streams to sample, the first one that the source has.
    #[serde(default)]
    pub streams: Vec<String>,
    /// Requirements in pip's form. Each takes the place of the package's own requirement for the same project, where that one
    /// cannot be met.
    #[serde(default)]
    pub requirements: Vec<String>,
    /// The version that was tried, for the examples of `aam airbyte`.
    pub version: String,
    /// Where the facts come from, with a mark of certainty.
    pub source: String,
}

/// The name of each file without `.yaml`, and its text.
const TEXTS: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/airbyte_connectors.rs"));

/// A file that cannot be parsed is skipped here; a test parses every file.
static CONNECTORS: LazyLock<Vec<KnownConnector>> =
    LazyLock::new(|| TEXTS.iter().filter_map(|(_, text)| parse(text).ok()).collect());

fn parse(text: &str) -> Result<KnownConnector, serde_yaml::Error> {
    serde_yaml::from_str(text)
}

/// All known connectors, ordered by their names.
#[must_use]
pub fn all() -> &'static [KnownConnector] {
    &CONNECTORS
}

/// The known connector called `name`, for example `source-okta`.
#[must_use]
pub fn find(name: &str) -> Option<&'static KnownConnector> {
    all().iter().find(|known| known.name == name)
}

/// The known connector that can serve the family `family`.
#[must_use]
pub fn of_family(family: &str) -> Option<&'static KnownConnector> {
    all().iter().find(|known| known.family.as_deref() == Some(family))
}

/// The source type that a connector serves unless the policy chooses another: its family, or its name without `source-`. A name
/// that intake would read as that of another family gets a prefix.
#[must_use]
pub fn source_type(connector: &str) -> String {
    if let Some(family) = find(connector).and_then(|known| known.family.clone()) {
        return family;
    }
    let own = connector.strip_prefix("source-").unwrap_or(connector).replace(['-', '.'], "_");
    let is_taken = !super::exists(&own) && super::aliases::alias(&own).is_some();
    if is_taken { format!("airbyte_{own}") } else { own }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_read_and_names_itself() {
        assert!(TEXTS.len() >= 6, "{}", TEXTS.len());
        for (name, text) in TEXTS {
            let known = parse(text).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(known.name, *name);
            assert!(["[V]", "[K]", "[U]", "[-]"].iter().any(|mark| known.source.contains(mark)), "{name}: {}", known.source);
            if let Some(family) = &known.family {
                assert!(crate::families::exists(family), "{name}: {family}");
            }
        }
        let types = ["source-okta", "source-faker", "source-file", "source-acme-crm"].map(source_type);
        assert_eq!(types, ["okta", "faker", "airbyte_file", "acme_crm"]);
        assert_eq!(of_family("okta").map(|known| known.name.as_str()), Some("source-okta"));
    }
}
