//! Custom sources: families that a company adds with manifests of its own.

use super::{Family, all, find};
use crate::model::{Digest, Problem};
use lowcode::source::SharedManifest;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// A manifest that was read from the folder and that this version can run.
pub struct ManifestFile {
    /// The path, as a person would name the file.
    pub file: String,
    /// The SHA-256 of the file's bytes.
    pub digest: Digest,
    pub manifest: Arc<SharedManifest>,
}

/// Two files are equal if their bytes are.
impl PartialEq for ManifestFile {
    fn eq(&self, other: &ManifestFile) -> bool {
        (&self.file, self.digest) == (&other.file, other.digest)
    }
}

/// A manifest may be megabytes long; its digest tells it apart.
impl fmt::Debug for ManifestFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManifestFile").field("file", &self.file).field("digest", &self.digest).finish_non_exhaustive()
    }
}

/// The custom sources that a policy declares or that its folder of manifests holds, and what is wrong with the folder.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CustomSources {
    families: BTreeMap<String, Arc<Family>>,
    /// What is wrong with the folder or with files in it. Sources without a problem are usable all the same.
    pub problems: Vec<Problem>,
}

impl CustomSources {
    /// A source for each name that the policy declares and for each manifest. A declared source without a manifest
    /// cannot be connected yet; its attempts say which file is missing.
    #[must_use]
    pub fn new(
        declared: impl IntoIterator<Item = String>,
        manifests: BTreeMap<String, Arc<ManifestFile>>,
        problems: Vec<Problem>,
    ) -> CustomSources {
        let names: BTreeSet<String> = declared.into_iter().chain(manifests.keys().cloned()).collect();
        let family = |name: String| {
            let manifest = manifests.get(&name).cloned();
            let family = Arc::new(Family { manifest, ..Family::custom(&name) });
            (name, family)
        };
        CustomSources { families: names.into_iter().map(family).collect(), problems }
    }

    /// The family called `id`: one that AAM ships, or a custom source.
    #[must_use]
    pub fn family(&self, id: &str) -> Option<&Arc<Family>> {
        find(id).or_else(|| self.custom(id))
    }

    /// The custom source called `id`.
    #[must_use]
    pub fn custom(&self, id: &str) -> Option<&Arc<Family>> {
        self.families.get(id)
    }

    /// The manifest of the custom source called `id`, if its file is there and usable.
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
