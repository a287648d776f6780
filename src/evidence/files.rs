//! The files of a bundle: which there are, their sizes and their checksums.
//!
//! A bundle may come from a stranger. Only regular files are opened, symbolic links are not followed, and nothing is read
//! beyond the size that the manifest names.

use super::{ATTEMPTS, CALLS, FileBody, INTENTS, LEDGER, MANIFEST, Manifest, POLICIES, PRIVILEGES, SIGNATURE, SUMMARY, SUMS};
use crate::model::Digest;
use crate::operator_file::{self, READ_FLAGS};
use rustix::fs::{CWD, Mode, OFlags};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Error, Read};
use std::path::Path;

/// The maximum size of the list of checksums, of the manifest and of a key, in bytes.
const MAX_LIST_BYTES: u64 = 64 << 20;
/// The maximum size in bytes of a file that is read although no manifest names its size.
const MAX_UNLISTED_BYTES: u64 = 1 << 30;
/// The number of characters of a line that a message quotes.
const MAX_QUOTED_CHARS: usize = 100;
const CHUNK_BYTES: usize = 64 << 10;
/// The files that every bundle has, also if they have no lines.
const REQUIRED: [&str; 7] = [MANIFEST, LEDGER, CALLS, INTENTS, ATTEMPTS, PRIVILEGES, SUMMARY];

/// Opens a regular file. Neither follows a symbolic link nor waits for the writer of a FIFO.
pub fn open(path: &Path) -> std::io::Result<File> {
    let not_regular = || Error::other("it is not a regular file");
    // Opening a device can already have an effect, so its type is checked before, too.
    if !std::fs::symlink_metadata(path)?.is_file() {
        return Err(not_regular());
    }
    let file = File::from(rustix::fs::openat(CWD, path, READ_FLAGS | OFlags::NOFOLLOW, Mode::empty())?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(not_regular()) }
}

/// Reads a small file of the bundle.
pub fn read(folder: &Path, name: &str) -> std::io::Result<Vec<u8>> {
    operator_file::read_open(open(&folder.join(name))?, MAX_LIST_BYTES)
}

/// Computes the size and the SHA-256 of a regular file of at most `max_bytes` bytes.
pub fn measure(path: &Path, max_bytes: u64) -> std::io::Result<FileBody> {
    let file = open(path)?;
    let too_large = || Error::other(format!("it is larger than {}", operator_file::size(max_bytes)));
    if file.metadata()?.len() > max_bytes {
        return Err(too_large());
    }
    // The file may grow while it is read.
    let mut file = file.take(max_bytes.saturating_add(1));
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    let (mut chunk, mut bytes) = (vec![0; CHUNK_BYTES], 0_u64);
    loop {
        match file.read(&mut chunk)? {
            0 => break,
            length => {
                context.update(chunk.get(..length).unwrap_or_default());
                bytes = bytes.saturating_add(length as u64);
            }
        }
    }
    if bytes > max_bytes {
        return Err(too_large());
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    Ok(FileBody { bytes, sha256: Digest(out) })
}

/// The files of a bundle that is verified.
pub struct BundleFiles {
    /// What the list of checksums names.
    listed: BTreeMap<String, Digest>,
    /// What is in the folder.
    found: BTreeSet<String>,
    /// The files whose content has the listed checksum. Only these are parsed.
    intact: BTreeSet<String>,
}

impl BundleFiles {
    /// Reads which files there should be from `sums`, and which there are from `folder`.
    ///
    /// # Errors
    /// Returns a message if the folder cannot be read.
    pub fn list(folder: &Path, sums: &[u8], problems: &mut Vec<String>) -> Result<BundleFiles, String> {
        let mut listed = BTreeMap::new();
        for line in String::from_utf8_lossy(sums).lines() {
            match line.split_once("  ").and_then(|(digest, name)| Some((Digest::parse(digest)?, name))) {
                Some((digest, name)) => {
                    if listed.insert(name.to_string(), digest).is_some() {
                        problems.push(format!("{SUMS} lists {name} twice"));
                    }
                }
                None => {
                    let quoted: String = line.chars().take(MAX_QUOTED_CHARS).collect();
                    problems.push(format!("{SUMS} has a line that is not a checksum: {quoted:?}"));
                    break;
                }
            }
        }
        let mut found = BTreeSet::new();
        list_folder(folder, "", &mut found)?;
        for name in REQUIRED {
            // What is in the folder without a checksum is reported as added.
            if !listed.contains_key(name) && !found.contains(name) {
                problems.push(format!("{name} is missing"));
            }
        }
        let added = found.iter().filter(|name| *name != SUMS && *name != SIGNATURE && !listed.contains_key(*name));
        problems.extend(added.map(|name| format!("{name} was added: {SUMS} does not list it")));
        Ok(BundleFiles { listed, found, intact: BTreeSet::new() })
    }

    /// The number of files with a checksum.
    pub fn count(&self) -> usize {
        self.listed.len()
    }

    pub fn is_intact(&self, name: &str) -> bool {
        self.intact.contains(name)
    }

    pub fn is_listed(&self, name: &str) -> bool {
        self.listed.contains_key(name)
    }

    /// Reads the manifest if its checksum is right. Returns `None` if it cannot be used, which is then one of `problems`.
    pub fn manifest(&mut self, folder: &Path, problems: &mut Vec<String>) -> Option<Manifest> {
        let digest = *self.listed.get(MANIFEST)?;
        if !self.check_file(folder, MANIFEST, digest, None, problems) {
            return None;
        }
        match read(folder, MANIFEST).map(|text| serde_json::from_slice(&text)) {
            Ok(Ok(manifest)) => Some(manifest),
            Ok(Err(error)) => {
                problems.push(format!("{MANIFEST} is not valid: {error}"));
                None
            }
            Err(error) => {
                problems.push(format!("{MANIFEST} could not be read: {error}"));
                None
            }
        }
    }

    /// Compares the other files with their checksums, and with the sizes in the manifest.
    pub fn check(&mut self, folder: &Path, manifest: Option<&Manifest>, problems: &mut Vec<String>) {
        let sizes = manifest.map(|manifest| &manifest.files);
        for name in sizes.into_iter().flat_map(|sizes| sizes.keys()).filter(|name| !self.listed.contains_key(*name)) {
            problems.push(format!("{SUMS} has no checksum of {name}, which {MANIFEST} lists"));
        }
        let listed: Vec<(String, Digest)> = self.listed.iter().map(|(name, digest)| (name.clone(), *digest)).collect();
        for (name, digest) in listed.iter().filter(|(name, _)| name != MANIFEST) {
            let body = sizes.and_then(|sizes| sizes.get(name));
            match (sizes, body) {
                (Some(_), None) => {
                    problems.push(format!("{name} was added: {MANIFEST} does not list it"));
                    continue;
                }
                (_, Some(body)) if body.sha256 != *digest => {
                    problems.push(format!("{name} has another SHA-256 in {MANIFEST} than in {SUMS}"));
                    continue;
                }
                _ => {}
            }
            self.check_file(folder, name, *digest, body.map(|body| body.bytes), problems);
        }
    }

    /// Compares one file with its checksum. `bytes` is the size that it must have, if that is known.
    fn check_file(
        &mut self,
        folder: &Path,
        name: &str,
        expected: Digest,
        bytes: Option<u64>,
        problems: &mut Vec<String>,
    ) -> bool {
        // Only names that are in the folder are opened, so that no name leads out of it.
        if !self.found.contains(name) {
            problems.push(format!("{name} is missing"));
            return false;
        }
        let path = folder.join(name);
        let size = std::fs::symlink_metadata(&path).ok().filter(std::fs::Metadata::is_file).map(|metadata| metadata.len());
        if let (Some(bytes), Some(size)) = (bytes, size)
            && bytes != size
        {
            problems.push(format!("{name} was changed: it has {size} bytes instead of {bytes}"));
            return false;
        }
        let limit = if name == MANIFEST { MAX_LIST_BYTES } else { MAX_UNLISTED_BYTES };
        match measure(&path, bytes.unwrap_or(limit)) {
            Ok(found) if found.sha256 == expected => {
                self.intact.insert(name.to_string());
                return true;
            }
            Ok(_) => problems.push(format!("{name} was changed: its SHA-256 is not the one in {SUMS}")),
            Err(error) => problems.push(format!("{name} could not be read: {error}")),
        }
        false
    }

    /// The names of the policies are the SHA-256 of their texts, which the ledger and the attempts name.
    pub fn check_policies(&self, problems: &mut Vec<String>) {
        let prefix = format!("{POLICIES}/");
        for (name, digest) in self.listed.iter().filter(|(name, _)| self.intact.contains(*name)) {
            let Some(file) = name.strip_prefix(&prefix) else { continue };
            if Digest::parse(file.strip_suffix(".yaml").unwrap_or(file)) != Some(*digest) {
                problems.push(format!("{name} does not have the digest in its name"));
            }
        }
    }
}

/// Lists what is in `folder`, and in its subfolder of the policies. A bundle has no other folders, so another one is listed
/// by its name and not entered.
fn list_folder(folder: &Path, below: &str, found: &mut BTreeSet<String>) -> Result<(), String> {
    let path = folder.join(below);
    let failed = |error: Error| format!("could not read {}: {error}", path.display());
    for entry in std::fs::read_dir(&path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if below.is_empty() && name == POLICIES && entry.file_type().map_err(failed)?.is_dir() {
            list_folder(folder, POLICIES, found)?;
        } else {
            found.insert(if below.is_empty() { name } else { format!("{below}/{name}") });
        }
    }
    Ok(())
}
