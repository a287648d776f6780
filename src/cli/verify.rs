//! `aam verify`: verifies the hash chain of the ledger and of the recorded calls, or a bundle of evidence.

use super::progress::{Progress, Reading};
use super::{CommandError, CommandResult, CommonOptions};
use crate::evidence::{self, BundleVerdict, ExpectedHead, LastAnchor, PublicKey, SignedBy};
use crate::model::Digest;
use crate::model::text::counted;
use crate::registry::{LedgerHead, Reader, Verdict, VerifyProgress};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Verifies the registry and shows how far it has come.
async fn verdict(common: &CommonOptions) -> Result<Verdict, CommandError> {
    let (reader, state) = (Reader::open_any_version(&common.registry)?, Arc::new(VerifyProgress::default()));
    let of_thread = Arc::clone(&state);
    let work = tokio::task::spawn_blocking(move || reader.verify_with(&of_thread));
    let reading = || match (state.rows.load(Ordering::Relaxed), state.total.load(Ordering::Relaxed)) {
        (_, 0) => Reading { detail: "reading the pages of the file".to_string(), ..Reading::default() },
        (done, total) => Reading { done, total, detail: String::new() },
    };
    let verdict = Progress::start("verifying", "rows", common.quiet).during(reading, work).await;
    Ok(verdict.map_err(|error| CommandError::new(format!("a defect in AAM stopped the verification: {error}")))??)
}

#[derive(clap::Args)]
#[command(after_help = "Examples:
  aam verify                                  the registry
  aam verify --bundle october --key KEY.pub   a bundle of `aam evidence`, on any machine
  aam verify --expect 29:9f63f0133dc9bb67e6e67de10b3155acf3470b6c15d6cc8ef50cea6018daada6
                                              whether a head that was kept elsewhere is still part of it

AAM writes the head of the ledger (SEQ:SHA256) to the log at every start, stop and hour, and to evidence.head_file and
evidence.head_webhook of the policy. Without such a head, a registry whose end was cut off looks intact.")]
pub struct VerifyOptions {
    /// A head of the ledger that was kept elsewhere, as SEQ:SHA256
    #[arg(long, value_parser = head, value_name = "SEQ:SHA256")]
    expect: Option<LedgerHead>,
    /// Verify the bundle of evidence in this folder; no registry, policy or daemon is needed
    #[arg(long)]
    bundle: Option<PathBuf>,
    /// The public key of the operator, which must have signed the bundle
    #[arg(long, requires = "bundle")]
    key: Option<PathBuf>,
}

fn head(text: &str) -> Result<LedgerHead, String> {
    let parsed = text.trim().split_once(':').and_then(|(seq, hash)| Some((seq.parse::<u64>().ok()?, Digest::parse(hash)?)));
    let form = "write it as in the log: the number of a row, a colon and 64 hex digits";
    parsed.map(|(seq, hash)| LedgerHead { seq, hash }).ok_or_else(|| form.to_string())
}

/// Exits with 0 if the file and the chains are intact, and otherwise with 1 and the first broken row or what is damaged.
pub async fn run(common: &CommonOptions, options: &VerifyOptions) -> CommandResult {
    if let Some(folder) = &options.bundle {
        return bundle(common, folder, options);
    }
    let verdict = verdict(common).await?;
    if let Some(problem) = problem(common, &verdict) {
        common.print("", &verdict);
        return Err(CommandError::new(problem));
    }
    let rows = counted(usize::try_from(verdict.rows).unwrap_or(usize::MAX), "row");
    let mut text = format!("the ledger is intact: {rows}, head {}\n", verdict.head);
    text.push_str(&format!("the recorded calls are intact: {}", calls(&verdict)));
    if verdict.calls.dropped_up_to > 0 {
        text.push_str("; older ones were dropped, as evidence.keep_calls says");
    }
    text.push('\n');
    if let Some(unused) = &verdict.unused_fold {
        text.push_str(&format!("{unused}; the next start folds the whole ledger\n"));
    }
    if let Some(head) = options.expect {
        let found = Reader::open_any_version(&common.registry)?.hash_of(head.seq)?;
        if let Some(problem) = unexpected(head, &verdict, found, common.registry.postgres().is_some()) {
            common.print("", &verdict);
            return Err(CommandError::new(problem));
        }
        text.push_str(&format!("row {} has the expected hash\n", head.seq));
    }
    common.print(&text, &verdict);
    Ok(ExitCode::SUCCESS)
}

fn calls(verdict: &Verdict) -> String {
    counted(usize::try_from(verdict.calls.calls).unwrap_or(usize::MAX), "call")
}

/// What is wrong with the registry.
fn problem(common: &CommonOptions, verdict: &Verdict) -> Option<String> {
    let fix = match common.registry.postgres() {
        None => "restore the file from an earlier backup, and find out who changed it",
        Some(_) => "restore the database from an earlier backup with pg_restore, and find out who changed it",
    };
    let (file, rows) = (&common.registry, counted(usize::try_from(verdict.rows).unwrap_or(usize::MAX), "row"));
    if let Some((seq, reason)) = &verdict.broken {
        return Some(format!(
            "row {seq} of the ledger in {file} does not match the hash chain: {reason}\n{rows} before it verified; {fix}"
        ));
    }
    if let Some((batch, reason)) = &verdict.calls.broken {
        let calls = calls(verdict);
        return Some(format!(
            "batch {batch} of the recorded calls in {file} does not match the hash chain: {reason}\n{rows} of the ledger verified, and {calls} before this batch; {fix}"
        ));
    }
    if !verdict.archives.is_empty() {
        let archives = verdict.archives.join("\n");
        return Some(format!("{archives}\n{rows} of the ledger verified, without what these files hold"));
    }
    if verdict.damage.is_empty() {
        return verdict.stored_fold.clone();
    }
    let damage = verdict.damage.join("; ");
    Some(format!("the registry {file} is damaged or was changed: {damage}\n{rows} of the ledger verified; {fix}"))
}

/// Why the registry does not have the head that was kept elsewhere.
fn unexpected(head: LedgerHead, verdict: &Verdict, found: Option<Digest>, is_database: bool) -> Option<String> {
    const FIX: &str = "compare it with a backup that is younger than this head, and find out who replaced it";
    match found {
        Some(hash) if hash == head.hash => None,
        Some(hash) => Some(format!(
            "row {} of the ledger has the hash {hash} instead of the expected {}: this is not the registry that the head was taken from, or it was written anew; {FIX}",
            head.seq, head.hash
        )),
        None => Some(format!(
            "{}, and row {} is expected: its end was cut off, or an older copy took its place; {FIX}",
            match is_database {
                // The numbers of rows have gaps there.
                true => format!("the ledger has {} rows", verdict.rows),
                false => format!("the ledger ends at row {}", verdict.rows),
            },
            head.seq
        )),
    }
}

fn bundle(common: &CommonOptions, folder: &Path, options: &VerifyOptions) -> CommandResult {
    let key = options.key.as_ref().map(|path| PublicKey::read(path)).transpose().map_err(CommandError::new)?;
    let verdict = evidence::verify(folder, key.as_ref(), options.expect).map_err(CommandError::new)?;
    if !verdict.problems.is_empty() {
        common.print("", &verdict);
        return Err(CommandError::new(format!(
            "the bundle {} is not intact:\n  {}\nask the operator for the bundle again, and compare the two",
            folder.display(),
            verdict.problems.join("\n  ")
        )));
    }
    if let (Some(head), Some(ExpectedHead::Outside { first, last })) = (options.expect, verdict.expected_head) {
        common.print("", &verdict);
        return Err(CommandError::new(outside(folder, head, (first, last), &verdict)));
    }
    common.print(&intact(folder, &verdict, options.expect), &verdict);
    Ok(ExitCode::SUCCESS)
}

/// Says that a head that was kept elsewhere cannot be compared with a bundle, in which nothing is wrong.
fn outside(folder: &Path, head: LedgerHead, (first, last): (u64, u64), verdict: &BundleVerdict) -> String {
    let rows = match (first, last) {
        (0, _) => "has no rows of the ledger".to_string(),
        (first, last) if first == last => format!("has only row {first} of the ledger"),
        (first, last) => format!("has the rows {first} to {last} of the ledger"),
    };
    format!(
        "row {} is outside of the period of the bundle {}, which {rows}, so the expected head cannot be compared with it; nothing in the bundle was found to be wrong\n\
         expect a head that was written from {} until {}, or ask the operator for a bundle of the period in which row {} was written",
        head.seq,
        folder.display(),
        verdict.since,
        verdict.until,
        head.seq
    )
}

/// Says how far an anchor shows that the chains of a registry in PostgreSQL are complete.
fn last_anchor(verdict: &BundleVerdict) -> String {
    let Some(LastAnchor { row, rows_after }) = verdict.last_anchor else { return String::new() };
    let after = counted(usize::try_from(rows_after).unwrap_or(usize::MAX), "row");
    let missing = "only manifest.json says that none is missing at their end";
    match (row, rows_after) {
        (None, 0) => String::new(),
        (Some(row), 0) => format!("row {row} is an anchor: it names the last row of every chain, and all of them are there\n"),
        (Some(row), _) => format!(
            "row {row} is an anchor: it names the last row of every chain, and all of them are there; {after} after it, of which {missing}\n"
        ),
        (None, _) => format!("the bundle does not have an anchor of its period; it has {after}, of which {missing}\n"),
    }
}

fn intact(folder: &Path, verdict: &BundleVerdict, expected: Option<LedgerHead>) -> String {
    let number = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
    let mut text = format!(
        "the bundle {} is intact: {}, {} of the ledger{} and {} of calls, from {} until {}\n",
        folder.display(),
        counted(verdict.files, "file"),
        counted(number(verdict.ledger_rows), "row"),
        verdict.chains.map(|chains| format!(" in {}", counted(chains, "chain"))).unwrap_or_default(),
        if verdict.call_batches == 1 { "1 batch".to_string() } else { format!("{} batches", verdict.call_batches) },
        verdict.since,
        verdict.until
    );
    text.push_str(&match &verdict.signature {
        SignedBy::ExpectedKey(key) => format!("signed by the key {key}\n"),
        SignedBy::OwnKey(key) => format!(
            "signed by {key}, the key that the bundle itself names; --key FILE checks that it is the key of the operator\n"
        ),
        SignedBy::Unsigned | SignedBy::Invalid => "not signed, so the files say nothing about who wrote them\n".to_string(),
    });
    text.push_str(&last_anchor(verdict));
    if let Some(row) = verdict.calls_dropped_by_later_row {
        text.push_str(&format!(
            "calls of the period were dropped because of their age before the bundle was written; manifest.json names row {row} of the ledger for it, which is after the rows of the bundle, so this was not verified\n"
        ));
    }
    match (expected, verdict.expected_head) {
        (Some(head), Some(ExpectedHead::Named)) => text.push_str(&format!(
            "manifest.json names row {} with the expected hash as the head of the ledger; this row is after the rows of the bundle, so its hash was not computed: expect a head of the period to verify the rows\n",
            head.seq
        )),
        (Some(head), Some(_)) => text.push_str(&format!("row {} has the expected hash\n", head.seq)),
        _ => {}
    }
    text
}
