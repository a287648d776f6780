//! `aam evidence`: writes a bundle of evidence that an auditor can verify on another machine.

use super::{CommandError, CommandResult, CommonOptions, since};
use crate::clock;
use crate::evidence::{self, BundleKey, BundlePeriod};
use crate::model::Timestamp;
use crate::model::text::counted;
use crate::registry::Reader;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
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
ledger with their hashes, a summary (SUMMARY.md), checksums and the signature. It holds no credential."
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
    let until = options.until.as_ref().map_or(Ok(Timestamp(now.0 + 1)), |until| instant("--until", until))?;
    let period = BundlePeriod { since: instant("--since", since)?, until: until.min(Timestamp(now.0 + 1)), now };
    if period.since >= period.until {
        return Err(CommandError::usage(format!("the period ends before it begins: --since {since} is not before its end")));
    }
    let key = options.key.as_ref().map(|path| BundleKey::read(path)).transpose().map_err(CommandError::new)?;
    let reader = Reader::open(&common.registry)?;
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

fn keygen(common: &CommonOptions, file: &Path) -> CommandResult {
    let (private, public) = evidence::generate().map_err(CommandError::new)?;
    let mut name = file.as_os_str().to_owned();
    name.push(".pub");
    let public_file = PathBuf::from(name);
    write_new(file, 0o600, private.expose())?;
    write_new(&public_file, 0o644, &public)?;
    let fingerprint = evidence::PublicKey::parse(&public).map(|key| key.fingerprint()).unwrap_or_default();
    let text = format!(
        "{}: the private key; keep it where only the operator can read it\n{}: the public key, for the auditor\n{fingerprint}\n",
        file.display(),
        public_file.display()
    );
    let value = serde_json::json!({ "private_key": file.display().to_string(), "public_key": public_file.display().to_string(), "fingerprint": fingerprint });
    common.print(&text, &value);
    Ok(ExitCode::SUCCESS)
}

fn write_new(path: &Path, mode: u32, text: &str) -> Result<(), CommandError> {
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| CommandError::new(format!("could not write {}: {error}", path.display())))
}
