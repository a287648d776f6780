//! Verifies a bundle. Nothing but the folder is needed: no registry, no policy and no daemon.

use super::{CALLS, ChainBody, FORMAT, LEDGER, MANIFEST, Manifest, POLICIES, PUBLIC_KEY, PublicKey, SIGNATURE, SUMS};
use crate::model::Digest;
use crate::operator_file;
use crate::registry::{CallBatch, LedgerHead, LedgerLine};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// The maximum size of the list of checksums, of the manifest and of a key, in bytes.
const MAX_LIST_BYTES: u64 = 64 << 20;
const CHUNK_BYTES: usize = 64 << 10;

/// What verifying a bundle found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct BundleVerdict {
    pub since: String,
    pub until: String,
    pub files: usize,
    pub ledger_rows: u64,
    pub call_batches: u64,
    pub signature: SignedBy,
    /// What is wrong, one sentence each. Empty if the bundle is intact.
    pub problems: Vec<String>,
}

/// Who signed a bundle.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SignedBy {
    /// The bundle has no signature.
    #[default]
    Unsigned,
    /// The key that the verifier named, with its fingerprint.
    ExpectedKey(String),
    /// The key in the bundle itself, which proves nothing about its owner.
    OwnKey(String),
    /// The signature does not match the key.
    Invalid,
}

/// Verifies the bundle in `folder`. `key` is the public key that is expected, and `expected` a head that was kept elsewhere.
///
/// # Errors
/// Returns a message if the folder is not a bundle or cannot be read.
pub fn verify(folder: &Path, key: Option<&PublicKey>, expected: Option<LedgerHead>) -> Result<BundleVerdict, String> {
    let sums = read(folder, SUMS)
        .map_err(|error| format!("{} is not a bundle of evidence: {SUMS} could not be read: {error}", folder.display()))?;
    let mut verdict = BundleVerdict::default();
    let changed = check_files(folder, &sums, &mut verdict)?;
    verdict.signature = check_signature(folder, &sums, key, &mut verdict.problems);
    if changed.contains(MANIFEST) {
        return Ok(verdict);
    }
    let manifest: Manifest = match read(folder, MANIFEST).map(|text| serde_json::from_slice(&text)) {
        Ok(Ok(manifest)) => manifest,
        Ok(Err(error)) => {
            verdict.problems.push(format!("{MANIFEST} is not valid: {error}"));
            return Ok(verdict);
        }
        Err(_) => return Ok(verdict),
    };
    if manifest.format != FORMAT {
        verdict.problems.push(format!("the format {:?} is not {FORMAT}; verify it with the AAM that wrote it", manifest.format));
        return Ok(verdict);
    }
    (verdict.since, verdict.until) = (manifest.since.clone(), manifest.until.clone());
    check_policies(folder, &mut verdict.problems);
    let mut hashes = BTreeMap::new();
    let ledger = check_chain(folder, LEDGER, &manifest.ledger, &mut verdict.problems, |line: &LedgerLine, prev: &Digest| {
        hashes.insert(line.seq, line.hash);
        Link { number: line.seq, named: line.hash, computed: line.computed_hash(prev) }
    })?;
    let calls = check_chain(folder, CALLS, &manifest.calls, &mut verdict.problems, |batch: &CallBatch, prev: &Digest| Link {
        number: batch.batch,
        named: batch.hash,
        computed: batch.computed_hash(prev),
    })?;
    (verdict.ledger_rows, verdict.call_batches) = (ledger, calls);
    hashes.insert(manifest.head.seq, manifest.head.hash);
    if let Some(head) = expected {
        match hashes.get(&head.seq) {
            Some(hash) if *hash == head.hash => {}
            Some(_) => {
                verdict.problems.push(format!("row {} of the ledger does not have the expected hash {}", head.seq, head.hash))
            }
            None => verdict
                .problems
                .push(format!("row {} of the ledger is not in this bundle, so its hash cannot be compared", head.seq)),
        }
    }
    Ok(verdict)
}

fn read(folder: &Path, name: &str) -> std::io::Result<Vec<u8>> {
    operator_file::read(&folder.join(name), MAX_LIST_BYTES)
}

/// Computes the SHA-256 of a regular file.
pub(super) fn digest(path: &Path) -> std::io::Result<Digest> {
    if !std::fs::symlink_metadata(path)?.is_file() {
        return Err(std::io::Error::other("it is not a regular file"));
    }
    let (mut file, mut context) = (File::open(path)?, ring::digest::Context::new(&ring::digest::SHA256));
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut chunk)? {
            0 => break,
            length => context.update(chunk.get(..length).unwrap_or_default()),
        }
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    Ok(Digest(out))
}

/// Compares all files with the checksums. Returns the names of those that do not match.
fn check_files(folder: &Path, sums: &[u8], verdict: &mut BundleVerdict) -> Result<BTreeSet<String>, String> {
    let mut listed: BTreeMap<String, Digest> = BTreeMap::new();
    for line in String::from_utf8_lossy(sums).lines() {
        match line.split_once("  ").and_then(|(digest, name)| Some((Digest::parse(digest)?, name))) {
            Some((digest, name)) => drop(listed.insert(name.to_string(), digest)),
            None => verdict.problems.push(format!("{SUMS} has a line that is not a checksum: {line:?}")),
        }
    }
    let mut found = BTreeSet::new();
    list(folder, PathBuf::new(), &mut found)?;
    let mut wrong = BTreeSet::new();
    for (name, expected) in &listed {
        if !found.remove(name) {
            verdict.problems.push(format!("{name} is missing"));
            wrong.insert(name.clone());
            continue;
        }
        match digest(&folder.join(name)) {
            Ok(digest) if digest == *expected => {}
            Ok(_) => {
                verdict.problems.push(format!("{name} was changed: its SHA-256 is not the one in {SUMS}"));
                wrong.insert(name.clone());
            }
            Err(error) => {
                verdict.problems.push(format!("{name} could not be read: {error}"));
                wrong.insert(name.clone());
            }
        }
    }
    found.retain(|name| name != SUMS && name != SIGNATURE);
    verdict.problems.extend(found.iter().map(|name| format!("{name} was added: {SUMS} does not list it")));
    verdict.files = listed.len();
    Ok(wrong)
}

/// Lists the files below `folder`, with `/` between the parts of their names.
fn list(folder: &Path, below: PathBuf, found: &mut BTreeSet<String>) -> Result<(), String> {
    let path = folder.join(&below);
    let failed = |error: std::io::Error| format!("could not read {}: {error}", path.display());
    for entry in std::fs::read_dir(&path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = below.join(entry.file_name());
        if entry.file_type().map_err(failed)?.is_dir() {
            list(folder, name, found)?;
        } else {
            found.insert(name.to_string_lossy().into_owned());
        }
    }
    Ok(())
}

fn check_signature(folder: &Path, sums: &[u8], key: Option<&PublicKey>, problems: &mut Vec<String>) -> SignedBy {
    let signature = match read(folder, SIGNATURE) {
        Ok(signature) => signature,
        Err(_) if key.is_some() => {
            problems.push(format!("{SIGNATURE} is missing: the bundle is not signed, and a key was given with --key"));
            return SignedBy::Unsigned;
        }
        Err(_) => return SignedBy::Unsigned,
    };
    let own = read(folder, PUBLIC_KEY).ok().and_then(|text| PublicKey::parse(&String::from_utf8_lossy(&text)));
    match (key, own) {
        (Some(key), _) if key.verify(sums, &signature) => SignedBy::ExpectedKey(key.fingerprint()),
        (Some(key), own) => {
            let by = own.filter(|own| own.verify(sums, &signature)).map(|own| format!("; it is by {}", own.fingerprint()));
            problems.push(format!("{SIGNATURE} is not a signature by the key {}{}", key.fingerprint(), by.unwrap_or_default()));
            SignedBy::Invalid
        }
        (None, Some(own)) if own.verify(sums, &signature) => SignedBy::OwnKey(own.fingerprint()),
        (None, _) => {
            problems.push(format!("{SIGNATURE} does not match {SUMS} and {PUBLIC_KEY}"));
            SignedBy::Invalid
        }
    }
}

/// The names of the policies are the SHA-256 of their texts, which the ledger and the attempts name.
fn check_policies(folder: &Path, problems: &mut Vec<String>) {
    let Ok(files) = std::fs::read_dir(folder.join(POLICIES)) else { return };
    for file in files.flatten() {
        let named = file.path().file_stem().and_then(|stem| Digest::parse(&stem.to_string_lossy()));
        if named.is_none() || digest(&file.path()).ok() != named {
            problems.push(format!("{POLICIES}/{} does not have the digest in its name", file.file_name().to_string_lossy()));
        }
    }
}

/// A row or batch of a chain.
struct Link {
    number: u64,
    named: Digest,
    computed: Digest,
}

/// Verifies the lines of `name` as a chain, and returns their number.
fn check_chain<T: DeserializeOwned>(
    folder: &Path,
    name: &str,
    expected: &ChainBody,
    problems: &mut Vec<String>,
    mut link: impl FnMut(&T, &Digest) -> Link,
) -> Result<u64, String> {
    let Ok(file) = File::open(folder.join(name)) else { return Ok(0) };
    let mut chain = ChainBody::new(expected.prev);
    for line in BufReader::new(file).lines() {
        let number = chain.count + 1;
        let line = line.map_err(|error| format!("could not read {name}: {error}"))?;
        let parsed: T = match serde_json::from_str(&line) {
            Ok(parsed) => parsed,
            Err(error) => {
                problems.push(format!("line {number} of {name} is not valid: {error}"));
                return Ok(chain.count);
            }
        };
        let found = link(&parsed, &chain.last_hash);
        if found.named != found.computed || chain.count > 0 && found.number != chain.first + chain.count {
            problems.push(format!("line {number} of {name} (number {}) does not match the hash chain", found.number));
            return Ok(chain.count);
        }
        chain.add(found.number, found.named);
    }
    if chain != *expected {
        problems.push(format!(
            "{name} does not end where {MANIFEST} says: it has {} lines instead of {}",
            chain.count, expected.count
        ));
    }
    Ok(chain.count)
}
