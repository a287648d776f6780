//! Other names of source types and of the values of an intent, from one table: `aliases/table.yaml`.
//!
//! Intake replaces them by the proper forms, `aam families` and `GET /families` list them. Names are compared without
//! regard to case, blanks, hyphens, dots and underscores.

use super::{all, exists};
use crate::model::{Intent, RiskLevel};
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock};

/// A field of an intent that has a list of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
pub enum Field {
    #[serde(rename = "risk_level")]
    RiskLevel,
    #[serde(rename = "evidence.status")]
    EvidenceStatus,
    #[serde(rename = "evidence.source")]
    EvidenceSource,
    #[serde(rename = "owner.why")]
    OwnerWhy,
}

impl Field {
    /// Returns the field as people write it, for example `evidence.source`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Field::RiskLevel => "risk_level",
            Field::EvidenceStatus => "evidence.status",
            Field::EvidenceSource => "evidence.source",
            Field::OwnerWhy => "owner.why",
        }
    }

    /// Returns the JSON pointer to the field.
    #[must_use]
    pub fn pointer(self) -> String {
        format!("/{}", self.as_str().replace('.', "/"))
    }

    /// Returns the proper forms of all values.
    pub fn proper_forms(self) -> impl Iterator<Item = &'static str> {
        self.values().iter().map(|(proper, _)| proper.as_str())
    }

    /// Returns the proper form of a value: its own, or the one that `text` is another name of.
    #[must_use]
    pub fn proper(self, text: &str) -> Option<&'static str> {
        let values = self.values();
        let exact = values.iter().find(|(proper, _)| proper == text);
        let wanted = fold(text);
        let same = |name: &String| fold(name) == wanted;
        exact
            .or_else(|| values.iter().find(|(proper, others)| same(proper) || others.iter().any(same)))
            .map(|(proper, _)| proper.as_str())
    }

    /// Returns the proper forms of all values: `low, med or high`.
    #[must_use]
    pub fn accepted(self) -> String {
        let names: Vec<&str> = self.proper_forms().collect();
        match names.as_slice() {
            [all @ .., last] if !all.is_empty() => format!("{} or {last}", all.join(", ")),
            _ => names.concat(),
        }
    }

    fn values(self) -> &'static [(String, Vec<String>)] {
        TABLE.values.get(&self).map(Vec::as_slice).unwrap_or_default()
    }
}

/// How AAM writes the resource ids that belong to a name.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdForm {
    names: Vec<String>,
    schemes: Vec<String>,
    bare: bool,
    prefix: String,
    /// The form of the resource ids, for people.
    pub form: String,
}

impl IdForm {
    /// Returns the resource id in this form, or `None` if it has it already or is of another kind.
    #[must_use]
    pub fn rewrite(&self, id: &str) -> Option<String> {
        if starts_with(id, "jdbc:") {
            return None;
        }
        let rest = match id.split_once(':') {
            Some((scheme, rest)) if self.has_scheme(scheme) => rest.strip_prefix("//").unwrap_or(rest),
            _ if id.contains("://") || !self.bare => return None,
            _ => id,
        };
        // A path after an empty authority, as in `sqlite:////srv/x.db`, has one slash too many.
        let rest = match rest.strip_prefix("//") {
            Some(path) if !self.prefix.ends_with('/') => format!("/{}", path.trim_start_matches('/')),
            _ => rest.to_string(),
        };
        Some(format!("{}{rest}", self.prefix)).filter(|written| written != id)
    }

    /// Whether the form has this scheme, which may name a driver too: `mysql+pymysql`.
    fn has_scheme(&self, scheme: &str) -> bool {
        let scheme = scheme.split('+').next().unwrap_or_default();
        self.schemes.iter().any(|known| known.eq_ignore_ascii_case(scheme))
    }
}

fn starts_with(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// A name that stands for another family if a resource id contains a text.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Exception {
    names: Vec<String>,
    resource_id_contains: String,
    source_type: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    source_types: BTreeMap<String, Vec<String>>,
    exceptions: Vec<Exception>,
    resource_ids: Vec<IdForm>,
    #[serde(deserialize_with = "in_order")]
    values: FieldValues,
}

/// The proper values of each field, each with its other names.
type FieldValues = HashMap<Field, Vec<(String, Vec<String>)>>;

/// Reads the values of each field in the order of the table.
fn in_order<'de, D: serde::Deserializer<'de>>(source: D) -> Result<FieldValues, D::Error> {
    let raw: HashMap<Field, serde_yaml::Mapping> = HashMap::deserialize(source)?;
    let pairs = |mapping: serde_yaml::Mapping| {
        let pair = |(name, others)| Ok((serde_yaml::from_value(name)?, serde_yaml::from_value(others)?));
        mapping.into_iter().map(pair).collect::<Result<Vec<_>, serde_yaml::Error>>()
    };
    raw.into_iter().map(|(field, mapping)| Ok((field, pairs(mapping).map_err(serde::de::Error::custom)?))).collect()
}

/// A table that cannot be parsed is empty here; a test makes sure that it can be.
static TABLE: LazyLock<Table> = LazyLock::new(|| {
    parse_table().unwrap_or_else(|_| Table {
        source_types: BTreeMap::new(),
        exceptions: Vec::new(),
        resource_ids: Vec::new(),
        values: HashMap::new(),
    })
});

fn parse_table() -> Result<Table, serde_yaml::Error> {
    serde_yaml::from_str(include_str!("aliases/table.yaml"))
}

/// The families by their folded ids, titles and other names.
static FAMILIES: LazyLock<HashMap<String, Arc<str>>> = LazyLock::new(|| {
    let mut names = HashMap::new();
    for family in all() {
        names.insert(fold(&family.title), Arc::clone(&family.id));
        for alias in TABLE.source_types.get(&*family.id).into_iter().flatten() {
            names.insert(fold(alias), Arc::clone(&family.id));
        }
    }
    // The id of a family always means that family.
    names.extend(all().iter().map(|family| (fold(&family.id), Arc::clone(&family.id))));
    names
});

/// Returns the text without what does not matter in a name.
fn fold(text: &str) -> String {
    text.chars().filter(|c| !is_separator(*c)).map(|c| c.to_ascii_lowercase()).collect()
}

fn is_separator(c: char) -> bool {
    c.is_whitespace() || matches!(c, '_' | '-' | '.' | '/' | '(' | ')' | '&' | '+' | ',' | ':')
}

/// Returns the id of the family that `text` names: its id, its title or another name of it.
///
/// The names of connectors of Airbyte, such as `source-github`, are names too.
#[must_use]
pub fn source_type(text: &str) -> Option<&'static str> {
    let folded = fold(text);
    let connector = || FAMILIES.get(folded.strip_prefix("airbyte").unwrap_or(&folded).strip_prefix("source")?);
    FAMILIES.get(&folded).or_else(connector).map(AsRef::as_ref)
}

/// Returns the family that `text` names, for an intent with these resource ids.
#[must_use]
pub fn source_type_with<'i>(text: &str, mut resource_ids: impl Iterator<Item = &'i str>) -> Option<&'static str> {
    let folded = fold(text);
    let exception = TABLE.exceptions.iter().find(|exception| exception.names.iter().any(|name| fold(name) == folded));
    match exception.filter(|exception| resource_ids.any(|id| id.contains(&exception.resource_id_contains))) {
        Some(exception) => Some(&exception.source_type),
        None => source_type(text),
    }
}

/// Returns how the resource ids of an intent are written whose source type was sent as `sent` and stands for `family`.
#[must_use]
pub fn id_form(sent: &str, family: &str) -> Option<&'static IdForm> {
    let of_family = TABLE.resource_ids.iter().find(|form| form.names.iter().any(|name| name == family));
    if of_family.is_some() || sent == family {
        return of_family;
    }
    let sent = fold(sent);
    TABLE.resource_ids.iter().find(|form| form.names.iter().any(|name| fold(name) == sent))
}

/// Returns the other names of a family, as `aam families` lists them.
#[must_use]
pub fn of_family(id: &str) -> &'static [String] {
    TABLE.source_types.get(id).map(Vec::as_slice).unwrap_or_default()
}

/// Returns the source type of a system that AAM does not know: lower case, with `_` for every separator.
#[must_use]
pub fn snake_case(text: &str) -> String {
    let parts = text.split(is_separator).filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join("_").to_ascii_lowercase()
}

/// Returns the family that `name` is another name of, unless it is the id of a family itself.
#[must_use]
pub fn alias(name: &str) -> Option<&'static str> {
    if exists(name) { None } else { source_type(name) }
}

/// Returns the values of an intent that AAM does not know. An intent with one is kept and is not eligible.
#[must_use]
pub fn not_understood(intent: &Intent) -> Vec<(Field, &str)> {
    let risk = match &intent.risk_level {
        RiskLevel::Known(_) => None,
        RiskLevel::Unknown(text) => Some((Field::RiskLevel, text.as_str())),
    };
    let texts = [(Field::EvidenceSource, &intent.evidence.source), (Field::OwnerWhy, &intent.owner.why)];
    let unknown = texts.into_iter().filter(|(field, text)| field.proper(text).is_none());
    risk.into_iter().chain(unknown.map(|(field, text)| (field, text.as_str()))).collect()
}

#[cfg(test)]
#[path = "aliases/tests.rs"]
mod tests;
