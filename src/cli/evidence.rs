//! `aam evidence`: writes a bundle of evidence that an auditor can verify on another machine.

use super::{CommandError, CommandResult, CommonOptions, since};
use crate::clock;
use crate::evidence::{self, BundleKey, BundlePeriod};
use crate::model::text::counted;
use crate::registry::{Reader, Verdict};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(clap::Args)]
#[command(
    subcommand_negates_reqs = true,
    after_help = "Examples:
  aam evidence keygen /etc/aam/evidence.key              once; give evidence.key.pub to the auditor
  aam evidence --since 2026-10-01T00:00:00Z --until 2026-11-01T00:00:00Z --out october --key /etc/aam/evidence.key
  aam verify --bundle october --key evidence.key.pub     on the machine of the auditor

The bundle has the policies, intents, attempts, calls and verdicts of privilege of the period, the entries of the
ledger with their hashes, a summary (SUMMARY.md), checksums and the signature. It holds no credential. The registry
is verified first, as aam verify does; no bundle is written if it is not intact."
)]
pub struct EvidenceOptions {
    #[command(subcommand)]
    command: Option<EvidenceCommand>,
    /// The start of the period: 30d, or an RFC 3339 timestamp
    #[arg(long, required = true)]
    since: Option<String>,
    /// The end of the period, which is not part of it; default: now
    #[arg(long)]
    until: Option<String>,
    /// The folder to write the bundle to; it must be new or empty
    #[arg(long, required = true)]
    out: Option<PathBuf>,
    /// Sign the bundle with the Ed25519 private key in this file
    #[arg(long)]
    key: Option<PathBuf>,
}

#[derive(clap::Subcommand)]
enum EvidenceCommand {
    /// Write a new private key to FILE and its public key to FILE.pub
    Keygen {
        /// The file of the private key
        file: PathBuf,
    },
}

/// Exits with 0 when the bundle or the key is written.
pub fn run(common: &CommonOptions, options: &EvidenceOptions) -> CommandResult {
    if let Some(EvidenceCommand::Keygen { file }) = &options.command {
        return keygen(common, file);
    }
    let (Some(since), Some(out)) = (&options.since, &options.out) else {
        return Err(CommandError::usage("--since and --out are required; see aam evidence --help"));
    };
    let now = clock::from_env().now();
    let instant = |option: &str, text: &String| since::parse(option, text, now).map_err(CommandError::usage);
    let until = options.until.as_ref().map(|until| instant("--until", until)).transpose()?;
    let period = BundlePeriod::new(instant("--since", since)?, until, now).map_err(CommandError::usage)?;
    let key = options.key.as_ref().map(|path| BundleKey::read(path)).transpose().map_err(CommandError::new)?;
    let reader = Reader::open(&common.registry)?.patient();
    // A signature of the operator must not stand under rows that somebody else changed.
    if let Some(problem) = problem(&reader.verify()?) {
        let restore = match common.registry.postgres() {
            None => "restore the file from an earlier backup with aam restore FILE",
            Some(_) => "restore the database from an earlier backup with pg_restore",
        };
        return Err(CommandError::new(format!(
            "the registry {} is not intact, so no bundle was written: {problem}\nrun aam verify; {restore}, and find out who changed it",
            common.registry
        )));
    }
    let written = evidence::write(&reader, period, out, key.as_ref()).map_err(CommandError::new)?;
    let mut text = format!(
        "{}: {} with {} of the ledger and {} of calls, head {}:{}\n",
        out.display(),
        counted(written.files, "file"),
        counted(usize::try_from(written.ledger_rows).unwrap_or(usize::MAX), "row"),
        if written.call_batches == 1 { "1 batch".to_string() } else { format!("{} batches", written.call_batches) },
        written.head.seq,
        written.head.hash
    );
    match &written.signed_by {
        Some(key) => {
            text.push_str(&format!("signed by {key}\nverify it with: aam verify --bundle {} --key KEY.pub\n", out.display()))
        }
        None => {
            text.push_str(&format!("not signed; --key FILE signs it\nverify it with: aam verify --bundle {}\n", out.display()))
        }
    }
    common.print(&text, &written);
    Ok(ExitCode::SUCCESS)
}

/// What is wrong with the registry, or `None` if it is intact.
fn problem(verdict: &Verdict) -> Option<String> {
    if let Some((seq, why)) = &verdict.broken {
        return Some(format!("row {seq} of the ledger does not match the hash chain: {why}"));
    }
    if let Some((batch, why)) = &verdict.calls.broken {
        return Some(format!("batch {batch} of the recorded calls does not match the hash chain: {why}"));
    }
    (!verdict.damage.is_empty()).then(|| verdict.damage.join("; "))
}

fn keygen(common: &CommonOptions, file: &Path) -> CommandResult {
    let key = evidence::write_new_key(file).map_err(CommandError::new)?;
    let (private, public) = (key.private_file.display().to_string(), key.public_file.display().to_string());
    let text = format!(
        "{private}: the private key; keep it where only the operator can read it\n{public}: the public key, for the auditor\n{}\n",
        key.fingerprint
    );
    let value = serde_json::json!({ "private_key": private, "public_key": public, "fingerprint": key.fingerprint });
    common.print(&text, &value);
    Ok(ExitCode::SUCCESS)
}
