//! The folder of a bundle that is being written.

use super::files;
use super::{BundleKey, FileBody, MAX_LINE_BYTES, POLICIES, SIGNATURE, SUMS};
use crate::model::Digest;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// The folder of a bundle that is being written.
pub struct BundleFolder<'a> {
    path: &'a Path,
    /// The files of lines that are not complete yet.
    open: BTreeMap<String, BufWriter<File>>,
    /// The files that are complete.
    written: BTreeMap<String, FileBody>,
}

/// Removes what was written of a bundle that is not complete, as far as possible.
pub fn clear(path: &Path) {
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        let _ = match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            true => std::fs::remove_dir_all(entry.path()),
            false => std::fs::remove_file(entry.path()),
        };
    }
}

impl BundleFolder<'_> {
    pub fn create(path: &Path) -> Result<BundleFolder<'_>, String> {
        let failed = |error: std::io::Error| format!("could not create the folder {}: {error}", path.display());
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        if std::fs::read_dir(path).map_err(failed)?.next().is_some() {
            return Err(format!("the folder {} is not empty; name a new folder after --out", path.display()));
        }
        Ok(BundleFolder { path, open: BTreeMap::new(), written: BTreeMap::new() })
    }

    fn new_file(&self, name: &str) -> Result<File, String> {
        let path = self.path.join(name);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        file.map_err(|error| format!("could not write {}: {error}", path.display()))
    }

    pub fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), String> {
        let written = self.new_file(name)?.write_all(bytes);
        written.map_err(|error| format!("could not write {}: {error}", self.path.join(name).display()))?;
        self.written.insert(name.to_string(), FileBody { bytes: bytes.len() as u64, sha256: Digest::from_bytes(bytes) });
        Ok(())
    }

    /// Creates a file that has no lines yet.
    pub fn touch(&mut self, name: &str) -> Result<&mut BufWriter<File>, String> {
        if !self.open.contains_key(name) {
            let file = BufWriter::new(self.new_file(name)?);
            self.open.insert(name.to_string(), file);
        }
        self.open.get_mut(name).ok_or_else(|| format!("could not open {name}"))
    }

    pub fn line(&mut self, name: &str, value: &Value) -> Result<(), String> {
        let line = format!("{value}\n");
        if line.len() as u64 > MAX_LINE_BYTES {
            return Err(format!("an entry for {name} is longer than {} MiB", MAX_LINE_BYTES >> 20));
        }
        let written = self.touch(name)?.write_all(line.as_bytes());
        written.map_err(|error| format!("could not write {}: {error}", self.path.join(name).display()))
    }

    /// Writes a version of the policy, once.
    pub fn policy(&mut self, digest: Digest, policy: &str) -> Result<(), String> {
        let name = format!("{POLICIES}/{digest}.yaml");
        if self.written.contains_key(&name) {
            return Ok(());
        }
        let folder = self.path.join(POLICIES);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(|error| format!("could not create the folder {}: {error}", folder.display()))?;
        self.write(&name, policy.as_bytes())
    }

    /// Completes the files of lines. Returns all files so far with their sizes and checksums.
    pub fn complete(&mut self) -> Result<BTreeMap<String, FileBody>, String> {
        for (name, file) in std::mem::take(&mut self.open) {
            let path = self.path.join(&name);
            file.into_inner().map_err(|error| format!("could not write {}: {error}", path.display()))?;
            let body = files::measure(&path, u64::MAX).map_err(|error| format!("could not read {}: {error}", path.display()))?;
            self.written.insert(name, body);
        }
        Ok(self.written.clone())
    }

    /// Writes the checksums of all files and their signature. Returns the number of files with checksums.
    pub fn finish(mut self, key: Option<&BundleKey>) -> Result<usize, String> {
        let files = self.complete()?;
        let sums: String = files.iter().map(|(name, body)| format!("{}  {name}\n", body.sha256)).collect();
        self.write(SUMS, sums.as_bytes())?;
        if let Some(key) = key {
            let signature = key.sign(sums.as_bytes())?;
            self.write(SIGNATURE, &signature)?;
        }
        Ok(files.len())
    }
}
