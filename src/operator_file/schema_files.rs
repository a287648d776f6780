//! Reads the schema files beside a manifest. Only files below the manifest's folder are opened, also through links.

use super::beneath::BaseFolder;
use super::{READ_FLAGS, read_open};
use crate::model::Digest;
use std::fs::File;
use std::path::Path;

/// The maximum size of one schema file in bytes.
const MAX_SCHEMA_BYTES: u64 = 2 << 20;
/// The maximum size of all schema files of a manifest in bytes.
const MAX_TOTAL_BYTES: usize = 32 << 20;
/// The maximum number of files that are looked for.
const MAX_FILES: usize = 4_000;

/// What was looked for, and a digest of what was found.
#[derive(Clone, Default)]
pub struct SchemaFiles {
    asked: Vec<String>,
    digest: Digest,
}

impl SchemaFiles {
    /// Whether the files beside the manifest at `manifest` are still those that were found.
    #[must_use]
    pub fn are_same(&self, manifest: &Path) -> bool {
        if self.asked.is_empty() {
            return true;
        }
        let mut reader = SchemaReader::beside(manifest);
        self.asked.iter().for_each(|path| drop(reader.read(path)));
        reader.digest() == self.digest
    }

    /// A text that changes with the files, for a digest.
    #[must_use]
    pub fn mark(&self) -> String {
        if self.asked.is_empty() { String::new() } else { self.digest.to_string() }
    }
}

/// Reads the schema files of one manifest and remembers what was looked for.
pub struct SchemaReader {
    folder: Option<BaseFolder>,
    /// The name of the manifest without its extension. The files of a connector may be in a folder of that name.
    stem: String,
    /// The paths that were looked for.
    asked: Vec<String>,
    contents: String,
    bytes: usize,
}

impl SchemaReader {
    /// A reader for the manifest at `manifest`.
    #[must_use]
    pub fn beside(manifest: &Path) -> SchemaReader {
        let folder = manifest.parent().map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder });
        SchemaReader {
            folder: folder.and_then(|folder| BaseFolder::open(folder).ok()),
            stem: manifest.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default(),
            asked: Vec::new(),
            contents: String::new(),
            bytes: 0,
        }
    }

    /// Returns the text of the file at `path` below the folder of the manifest, or else below the folder with the name of
    /// the manifest: the first part of the path is then the package of the connector. Returns `None` if it is not found.
    pub fn read(&mut self, path: &str) -> Option<String> {
        if self.asked.len() >= MAX_FILES || self.bytes >= MAX_TOTAL_BYTES {
            return None;
        }
        self.asked.push(path.to_string());
        let in_package = path.split_once('/').map(|(_, rest)| format!("{}/{rest}", self.stem));
        let below_stem = format!("{}/{path}", self.stem);
        let candidates = [Some(path.to_string()), in_package, Some(below_stem)];
        let text = candidates.into_iter().flatten().find_map(|candidate| self.open(&candidate))?;
        self.bytes = self.bytes.saturating_add(text.len());
        self.contents.push_str(&format!("{path} {};", Digest::from_bytes(text.as_bytes())));
        Some(text)
    }

    fn open(&self, path: &str) -> Option<String> {
        let file = self.folder.as_ref()?.resolve(Path::new(path), READ_FLAGS).ok()?;
        String::from_utf8(read_open(File::from(file), MAX_SCHEMA_BYTES).ok()?).ok()
    }

    /// Whether a file was found.
    #[must_use]
    pub fn has_found(&self) -> bool {
        !self.contents.is_empty()
    }

    /// Returns what was looked for so far.
    #[must_use]
    pub fn files(&self) -> SchemaFiles {
        SchemaFiles { asked: self.asked.clone(), digest: self.digest() }
    }

    /// A digest of the files that were found.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::from_bytes(self.contents.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_below_the_folder_are_read() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("manifests");
        for below in ["source_acme/schemas", "acme/schemas"] {
            std::fs::create_dir_all(folder.join(below)).unwrap();
        }
        std::fs::write(root.path().join("outside.json"), "{}").unwrap();
        std::fs::write(folder.join("source_acme/schemas/a.json"), "1").unwrap();
        std::fs::write(folder.join("acme/schemas/b.json"), "2").unwrap();
        std::os::unix::fs::symlink("../outside.json", folder.join("link.json")).unwrap();
        let mut reader = SchemaReader::beside(&folder.join("acme.yaml"));
        let before = reader.digest();
        assert_eq!(reader.read("source_acme/schemas/a.json").as_deref(), Some("1"));
        assert_eq!(reader.read("source_other/schemas/b.json").as_deref(), Some("2"), "the package is the manifest's folder");
        assert_eq!(reader.read("schemas/b.json").as_deref(), Some("2"));
        for path in ["link.json", "../outside.json", "source_acme/schemas", "none.json"] {
            assert_eq!(reader.read(path), None, "{path}");
        }
        assert_ne!(reader.digest(), before);
        assert_eq!(reader.asked.len(), 7);
        let (files, manifest) = (reader.files(), folder.join("acme.yaml"));
        assert!(files.are_same(&manifest) && !files.mark().is_empty() && SchemaFiles::default().mark().is_empty());
        std::fs::write(folder.join("acme/schemas/b.json"), "3").unwrap();
        assert!(!files.are_same(&manifest), "a file that changed is seen");
        std::fs::write(folder.join("acme/schemas/b.json"), "2").unwrap();
        std::fs::write(folder.join("none.json"), "4").unwrap();
        assert!(!files.are_same(&manifest), "a file that appeared is seen");
    }
}
