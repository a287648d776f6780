//! `aam report`: the exec summary from the registry; no server needed.

use super::{Common, Ended, Fail};
use crate::clock;
use crate::funnel::{Funnel, funnel};
use crate::model::Timestamp;
use crate::policy::{LoadedPolicy, parse};
use crate::policy_loader::PolicyLoader;
use crate::registry::Reader;
use std::process::ExitCode;

#[derive(clap::Args)]
pub struct Options {
    /// Namespace; default: that of the policy
    #[arg(long)]
    namespace: Option<String>,
    /// Fold the registry as of this instant (RFC 3339)
    #[arg(long)]
    at: Option<String>,
}

/// Exit 0, whether the SLO is met or not.
pub fn run(common: &Common, options: &Options) -> Ended {
    let reader = Reader::open(&common.registry)?;
    let policy = policy_in_force(common, &reader)?.policy;
    let namespace = options.namespace.clone().unwrap_or_else(|| policy.namespace.clone());
    let (snapshot, as_of) = match &options.at {
        None => (reader.snapshot()?, clock::of_process().now()),
        Some(text) => {
            let at = Timestamp::parse(text)
                .map_err(|error| Fail::new(format!("--at {text}: {error}; write it as 2026-11-08T18:00:00Z")))?;
            (reader.snapshot_at(at)?, at)
        }
    };
    print(common, &funnel(&snapshot, &namespace, policy.slo.coverage, as_of));
    Ok(ExitCode::SUCCESS)
}

/// Prints the lines that every surface prints.
pub fn print(common: &Common, funnel: &Funnel) {
    common.print(&(funnel.summary.join("\n") + "\n"), funnel);
}

/// The file's policy if it is good, else the last accepted one.
pub fn policy_in_force(common: &Common, reader: &Reader) -> Result<LoadedPolicy, Fail> {
    let mut loader = PolicyLoader::new(&common.policy);
    match loader.load().loaded {
        Ok(loaded) => Ok(loaded),
        Err(problems) => {
            let last = reader.last_policy()?.and_then(|text| parse::parse(&text, "the last accepted policy").ok());
            let policy = last.ok_or_else(|| Fail::config(&problems))?;
            Ok(loader.with_manifests(policy.into()).0)
        }
    }
}
