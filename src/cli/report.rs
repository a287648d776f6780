//! `aam report`: prints the exec summary from the registry, or writes it as one page; no running server needed.

use super::{CommandError, CommandResult, CommonOptions, Format, problems, terminal};
use crate::clock;
use crate::credentials::redact;
use crate::funnel::{Funnel, funnel};
use crate::model::Timestamp;
use crate::page::sheet::{Sheet, html, svg};
use crate::policy::{LoadedPolicy, parse};
use crate::policy_loader::PolicyLoader;
use crate::registry::Reader;
use crate::registry::private_files::FILE_MODE;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use std::fs::{OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(clap::Args)]
pub struct ReportOptions {
    /// Namespace; default: the policy's
    #[arg(long)]
    namespace: Option<String>,
    /// Report as of this instant (RFC 3339); default: now
    #[arg(long)]
    at: Option<String>,
    /// Output format; svg and html are one page with the trend, for a mail or a printer
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = format())]
    format: Format,
    /// Write the report to this file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// The formats of this command, as the format that all commands share.
fn format() -> impl TypedValueParser<Value = Format> {
    PossibleValuesParser::new(["text", "json", "svg", "html"]).map(|text| match text.as_str() {
        "json" => Format::Json,
        "svg" => Format::Svg,
        "html" => Format::Html,
        _ => Format::Text,
    })
}

/// Exits with 0, whether the SLO is met or not.
pub fn run(common: &CommonOptions, options: &ReportOptions) -> CommandResult {
    let reader = Reader::open(&common.registry)?;
    problems::note(common, Some(&reader));
    let policy = policy_in_force(common, &reader)?.policy;
    let namespace = options.namespace.clone().unwrap_or_else(|| policy.namespace.clone());
    let (snapshot, as_of) = match &options.at {
        None => (reader.snapshot()?, clock::from_env().now()),
        Some(text) => {
            let at = Timestamp::parse(text).map_err(|error| {
                CommandError::usage(format!(
                    "--at {text} is not an RFC 3339 timestamp: {error}; write it as 2026-11-08T18:00:00Z"
                ))
            })?;
            (reader.snapshot_at(at)?, at)
        }
    };
    let target = policy.slo.coverage;
    let text = match options.format {
        Format::Svg => svg::svg(&Sheet::new(&snapshot, &namespace, target, as_of)),
        Format::Html => html::html(&Sheet::new(&snapshot, &namespace, target, as_of)),
        format => return plain(common, format, options.out.as_deref(), &funnel(&snapshot, &namespace, target, as_of)),
    };
    match &options.out {
        Some(path) => write(path, &text)?,
        None => terminal::print(&text),
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints or writes the exec summary as text or JSON.
fn plain(common: &CommonOptions, format: Format, out: Option<&Path>, funnel: &Funnel) -> CommandResult {
    match out {
        None => print(&CommonOptions { format, ..common.clone() }, funnel),
        Some(path) if format == Format::Json => {
            write(path, &(serde_json::to_string_pretty(funnel).unwrap_or_default() + "\n"))?;
        }
        Some(path) => write(path, &(funnel.summary.join("\n") + "\n"))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes the report into a file that only its owner can read, because it names systems.
fn write(path: &Path, text: &str) -> Result<(), CommandError> {
    let text = redact::scrub_all(text);
    write_private(path, text.as_bytes()).map_err(|error| {
        CommandError::new(format!("cannot write the report to {}: {error}; choose another file with --out", path.display()))
    })?;
    terminal::print_line(&format!("the report is in {}", path.display()));
    Ok(())
}

fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(path)?;
    if file.metadata()?.is_file() {
        file.set_permissions(Permissions::from_mode(FILE_MODE))?;
    }
    file.write_all(bytes)
}

/// Prints the exec summary.
pub fn print(common: &CommonOptions, funnel: &Funnel) {
    common.print(&(funnel.summary.join("\n") + "\n"), funnel);
}

/// Returns the policy of the file if it is valid, and otherwise the last accepted policy.
pub fn policy_in_force(common: &CommonOptions, reader: &Reader) -> Result<LoadedPolicy, CommandError> {
    let mut loader = PolicyLoader::new(&common.policy);
    match loader.load().loaded {
        Ok(loaded) => Ok(loaded),
        Err(problems) => {
            let last = reader.last_policy()?.and_then(|text| parse::parse(&text, "the last accepted policy").ok());
            let policy = last.ok_or_else(|| CommandError::config(&problems))?;
            Ok(loader.with_manifests(policy.into()).0)
        }
    }
}
