//! `aam airbyte install|list`: the connectors that run as processes, installed from the Python package registry.
//!
//! Each version of a connector has a virtual environment of its own below `airbyte.dir`, and a lock file beside it that pins
//! every package with its digest. The policy names the version and the digest of the lock file, so what runs was reviewed. An
//! installation takes its place when it is complete (`staging`).

mod install;
mod list;
mod lock;
mod python;
mod staging;

use super::{CommandError, CommandResult, CommonOptions};
use crate::policy::LoadedPolicy;
use crate::policy_loader;
use std::path::PathBuf;

#[derive(clap::Subcommand)]
pub enum AirbyteCommand {
    /// Install a connector from the package registry of this machine's pip, and print the lines for the policy
    Install(InstallOptions),
    /// List the installed connectors, and whether they are those of the policy and unchanged since their installation (exit 0
    /// they are, 2 something is to be done)
    List,
}

#[derive(clap::Args)]
#[command(after_help = "Examples:
  aam airbyte install source-okta                      the version of the policy, or the one that AAM was tried with
  aam airbyte install source-okta --version 0.3.26
  PIP_INDEX_URL=https://pypi.acme.example/simple aam airbyte install source-okta

pip's own configuration applies: its index, its proxy and its certificates. If a lock file exists, exactly its packages are
installed again, each with the digest that it pins. Installing runs code of the packages, with the rights of this command.")]
pub struct InstallOptions {
    /// The connector, for example source-okta or airbyte-source-okta
    connector: String,
    /// The version [default: that of the policy, or the one that AAM was tried with]
    #[arg(long)]
    version: Option<String>,
    /// The Python of the virtual environment, 3.10 to 3.12 [default: python3.11, or python3]
    #[arg(long, value_name = "FILE")]
    python: Option<PathBuf>,
    /// Install only wheels, so that no package runs code of its own while it is installed
    #[arg(long)]
    wheels_only: bool,
    /// Choose the packages anew, and replace the lock file
    #[arg(long)]
    renew: bool,
}

/// Exits with 0; with 1 if nothing was installed, with 2 if the list shows something to do, and with 78 if the policy is not
/// valid.
pub fn run(common: &CommonOptions, command: &AirbyteCommand) -> CommandResult {
    let loaded = load(common)?;
    match command {
        AirbyteCommand::Install(options) => install::run(common, options, &loaded.policy),
        AirbyteCommand::List => list::run(common, &loaded.policy),
    }
}

fn load(common: &CommonOptions) -> Result<LoadedPolicy, CommandError> {
    policy_loader::load(&common.policy).loaded.map_err(|problems| CommandError::config(&problems))
}
