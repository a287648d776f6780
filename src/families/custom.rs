//! Custom sources: families that a company adds with manifests of its own.

use super::aliases::alias;
use super::{Family, all, find};
use crate::model::{Digest, Problem};
use lowcode::source::SharedManifest;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// A manifest from the folder that this version can run.
pub struct ManifestFile {
    /// The path of the file, for messages.
    pub file: String,
    /// The SHA-256 of the bytes of the file and of the overlay beside it.
    pub digest: Digest,
    pub manifest: Arc<SharedManifest>,
}

impl ManifestFile {
    /// Returns the values that the manifest's specification contains as a default, constant, choice or example. They are not
    /// secrets, even if a credential contains one.
    #[must_use]
    pub fn published_texts(&self) -> Vec<String> {
        let spec = self.manifest.root.get("spec").and_then(|spec| spec.get("connection_specification"));
        spec.map(::lowcode::secrets::published).unwrap_or_default().into_iter().filter(|text| !text.is_empty()).collect()
    }
}

/// Two manifests are equal if their paths and bytes are equal.
impl PartialEq for ManifestFile {
    fn eq(&self, other: &ManifestFile) -> bool {
        (&self.file, self.digest) == (&other.file, other.digest)
    }
}

/// Prints the digest instead of the manifest, which may be megabytes long.
impl fmt::Debug for ManifestFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManifestFile").field("file", &self.file).field("digest", &self.digest).finish_non_exhaustive()
    }
}

/// A source type that is not served by AAM's own engine.
#[derive(Clone, Debug, PartialEq)]
pub struct ServedSource {
    pub name: String,
    /// What the source type is under the policy, with the engine that serves it.
    pub family: Family,
}

/// The custom sources that a policy declares or whose manifests are in its folder, and the problems of the folder.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CustomSources {
    families: BTreeMap<String, Arc<Family>>,
    /// The families that AAM ships and another engine than their own serves.
    served: BTreeMap<String, Arc<Family>>,
    /// Problems of the folder and of files in it. Sources without a problem can be used nevertheless.
    pub problems: Vec<Problem>,
}

impl CustomSources {
    /// Creates a source for each name that the policy declares and for each manifest. A declared source without a manifest
    /// cannot be connected yet; its attempts report which file is missing.
    #[must_use]
    pub fn new(
        declared: impl IntoIterator<Item = String>,
        manifests: BTreeMap<String, Arc<ManifestFile>>,
        problems: Vec<Problem>,
    ) -> CustomSources {
        let names: BTreeSet<String> = declared.into_iter().chain(manifests.keys().cloned()).collect();
        let mut problems = problems;
        problems.extend(names.iter().filter_map(|name| shadowed(name, manifests.get(name).map(|manifest| &*manifest.file))));
        let family = |name: String| {
            let manifest = manifests.get(&name).cloned();
            let family = Arc::new(Family { manifest, ..Family::custom(&name) });
            (name, family)
        };
        CustomSources { families: names.into_iter().map(family).collect(), served: BTreeMap::new(), problems }
    }

    /// Adds the source types that another engine than AAM's own serves. A name that AAM does not ship becomes a custom
    /// source, and replaces one with a manifest.
    #[must_use]
    pub fn with_served(mut self, served: impl IntoIterator<Item = ServedSource>) -> CustomSources {
        for ServedSource { name, family } in served {
            match find(&name) {
                Some(_) => self.served.insert(name, Arc::new(family)),
                None => self.families.insert(name, Arc::new(family)),
            };
        }
        self
    }

    /// The family called `id`: one that AAM ships, with the engine that serves it, or a custom source.
    #[must_use]
    pub fn family(&self, id: &str) -> Option<&Arc<Family>> {
        self.served.get(id).or_else(|| find(id)).or_else(|| self.custom(id))
    }

    /// The custom source called `id`.
    #[must_use]
    pub fn custom(&self, id: &str) -> Option<&Arc<Family>> {
        self.families.get(id)
    }

    /// The manifest of the custom source called `id`, if its file exists and is valid.
    #[must_use]
    pub fn manifest(&self, id: &str) -> Option<&Arc<ManifestFile>> {
        self.custom(id)?.manifest.as_ref()
    }

    /// The manifests by the names of their sources.
    pub fn manifests(&self) -> impl Iterator<Item = (&String, &Arc<ManifestFile>)> {
        self.families.iter().filter_map(|(name, family)| Some((name, family.manifest.as_ref()?)))
    }

    /// Every id that [`CustomSources::family`] knows.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        all().iter().map(|family| &*family.id).chain(self.families.keys().map(String::as_str))
    }
}

/// The problem of a source whose name intake reads as that of a family that AAM ships.
fn shadowed(name: &str, file: Option<&str>) -> Option<Problem> {
    let family = alias(name)?;
    let problem = Problem::new("", format!("{name} is another name of the family {family}, which intents of this type use"))
        .hint(format!("give the source another name, for example acme_{name}"));
    Some(file.into_iter().fold(problem, Problem::in_file))
}

/// Whether `text` is a valid name of a source type and of its file.
#[must_use]
pub fn is_source_name(text: &str) -> bool {
    (2..=63).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}
