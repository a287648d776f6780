//! `aam report`: prints the exec summary from the registry; no running server needed.

use super::{CommandError, CommandResult, CommonOptions, problems};
use crate::clock;
use crate::funnel::{Funnel, funnel};
use crate::model::Timestamp;
use crate::policy::{LoadedPolicy, parse};
use crate::policy_loader::PolicyLoader;
use crate::registry::Reader;
use std::process::ExitCode;

#[derive(clap::Args)]
pub struct ReportOptions {
    /// Namespace; default: the policy's
    #[arg(long)]
    namespace: Option<String>,
    /// Report as of this instant (RFC 3339); default: now
    #[arg(long)]
    at: Option<String>,
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
    print(common, &funnel(&snapshot, &namespace, policy.slo.coverage, as_of));
    Ok(ExitCode::SUCCESS)
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
