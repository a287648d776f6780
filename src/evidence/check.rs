//! Verifies a bundle. Nothing but the folder is needed: no registry, no policy and no daemon.

use super::chained::{ChainedBundle, LastAnchor};
use super::chains::{BundleChains, ExpectedHead};
use super::files::{self, BundleFiles};
use super::{CHAINED_FORMAT, FORMAT, Manifest, PUBLIC_KEY, PublicKey, SIGNATURE, SUMS};
use crate::registry::LedgerHead;
use serde::Serialize;
use std::path::Path;

/// The number of problems that are listed. The others are only counted.
const MAX_PROBLEMS: usize = 100;

/// What verifying a bundle found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct BundleVerdict {
    pub since: String,
    pub until: String,
    pub files: usize,
    pub ledger_rows: u64,
    pub call_batches: u64,
    pub signature: SignedBy,
    /// What the bundle says about the expected head. `None` if no head is expected, or if the bundle has no usable manifest.
    pub expected_head: Option<ExpectedHead>,
    /// A row after those of the bundle that dropped calls of the period because of their age. Only the manifest names it.
    pub calls_dropped_by_later_row: Option<u64>,
    /// How many chains of the ledger have rows in the bundle, if the registry has several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chains: Option<usize>,
    /// The anchor that binds these chains.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_anchor: Option<LastAnchor>,
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
    let sums = files::read(folder, SUMS)
        .map_err(|error| format!("{} is not a bundle of evidence: {SUMS} could not be read: {error}", folder.display()))?;
    let mut verdict = BundleVerdict::default();
    check_content(folder, &sums, expected, &mut verdict)?;
    verdict.signature = check_signature(folder, &sums, key, &mut verdict.problems);
    if verdict.problems.len() > MAX_PROBLEMS {
        let more = verdict.problems.len() - MAX_PROBLEMS;
        // The signature is the last problem, and it is always listed.
        verdict.problems.drain(MAX_PROBLEMS - 1..verdict.problems.len() - 1);
        verdict.problems.push(format!("and {more} more"));
    }
    Ok(verdict)
}

/// Verifies everything but the signature.
fn check_content(folder: &Path, sums: &[u8], expected: Option<LedgerHead>, verdict: &mut BundleVerdict) -> Result<(), String> {
    let problems = &mut verdict.problems;
    let mut files = BundleFiles::list(folder, sums, problems)?;
    verdict.files = files.count();
    let manifest = files.manifest(folder, problems);
    let is_known = |manifest: &&Manifest| [FORMAT, CHAINED_FORMAT].contains(&manifest.format.as_str());
    if let Some(manifest) = manifest.as_ref().filter(|manifest| !is_known(manifest)) {
        problems.push(format!(
            "the format {:?} is not {FORMAT} or {CHAINED_FORMAT}; verify it with the AAM that wrote it",
            manifest.format
        ));
        return Ok(());
    }
    files.check(folder, manifest.as_ref(), problems);
    files.check_policies(problems);
    let Some(manifest) = manifest else { return Ok(()) };
    (verdict.since, verdict.until) = (manifest.since.clone(), manifest.until.clone());
    let found = match manifest.format == CHAINED_FORMAT {
        true => check_chained(folder, &manifest, &files, expected, verdict),
        false => check_one_chain(folder, &manifest, &files, expected, verdict),
    };
    if let (Some(head), Some(ExpectedHead::Differs)) = (expected, found) {
        let problem = format!("row {} of the ledger does not have the expected hash {}", head.seq, head.hash);
        verdict.problems.push(problem);
    }
    verdict.expected_head = found;
    Ok(())
}

/// Verifies the ledger and the calls of a registry with one chain. Returns what the bundle says about the expected head.
fn check_one_chain(
    folder: &Path,
    manifest: &Manifest,
    files: &BundleFiles,
    expected: Option<LedgerHead>,
    verdict: &mut BundleVerdict,
) -> Option<ExpectedHead> {
    let chains = BundleChains::check(folder, manifest, files, &mut verdict.problems);
    verdict.ledger_rows = chains.ledger.map_or(0, |chain| chain.count);
    verdict.call_batches = chains.calls.map_or(0, |chain| chain.count);
    verdict.calls_dropped_by_later_row = chains.dropped_by_later_row;
    expected.map(|head| chains.compare(head, manifest))
}

/// As [`check_one_chain`], for a registry with several chains.
fn check_chained(
    folder: &Path,
    manifest: &Manifest,
    files: &BundleFiles,
    expected: Option<LedgerHead>,
    verdict: &mut BundleVerdict,
) -> Option<ExpectedHead> {
    let bundle = ChainedBundle::check(folder, manifest, files, &mut verdict.problems);
    let (row, rows_after) = bundle.ledger.last_anchor();
    verdict.ledger_rows = bundle.ledger.rows.len() as u64;
    verdict.call_batches = bundle.calls.count;
    verdict.calls_dropped_by_later_row = bundle.dropped_by_later_row;
    verdict.chains = Some(bundle.ledger.parts.list().len());
    verdict.last_anchor = Some(LastAnchor { row, rows_after });
    expected.map(|head| bundle.compare(head, manifest))
}

fn check_signature(folder: &Path, sums: &[u8], key: Option<&PublicKey>, problems: &mut Vec<String>) -> SignedBy {
    let signature = match files::read(folder, SIGNATURE) {
        Ok(signature) => signature,
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            problems.push(format!("{SIGNATURE} could not be read: {error}"));
            return SignedBy::Invalid;
        }
        Err(_) if key.is_some() => {
            problems.push(format!("{SIGNATURE} is missing: the bundle is not signed, and a key was given with --key"));
            return SignedBy::Unsigned;
        }
        Err(_) => return SignedBy::Unsigned,
    };
    let own = files::read(folder, PUBLIC_KEY).ok().and_then(|text| PublicKey::parse(&String::from_utf8_lossy(&text)));
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
