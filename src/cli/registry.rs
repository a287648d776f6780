//! `aam registry`: prepares a database of PostgreSQL for a registry, and copies a registry into it.

use super::{CommandError, CommandResult, CommonOptions};
use crate::clock;
use crate::registry::{self, Location, postgres_schema};
use serde_json::json;
use std::process::ExitCode;

#[derive(clap::Subcommand)]
pub enum RegistryCommand {
    /// Create or upgrade the tables in a database of PostgreSQL, as their owner
    Init(InitOptions),
    /// Copy a registry from its SQLite file into an empty one in PostgreSQL, and verify the copy; the daemon must be stopped
    Migrate(MigrateOptions),
}

#[derive(clap::Args)]
#[command(after_help = "Examples:
  aam registry init --registry 'postgres://owner@db/aam?credential=env:OWNER_PASSWORD' --role aam

The role must exist, and the owner is another one: AAM does not run as a role that could change what it recorded. It may be
repeated, and is needed once after an upgrade that changes the tables.")]
pub struct InitOptions {
    /// The role that AAM runs as
    #[arg(long)]
    role: String,
}

#[derive(clap::Args)]
#[command(after_help = "Examples:
  aam stop && aam registry migrate --to 'postgres://aam@db/aam?credential=env:AAM_DB_PASSWORD'

The file stays as it is. Afterwards, start AAM with the new --registry.")]
pub struct MigrateOptions {
    /// The database, which aam registry init has prepared
    #[arg(long, value_name = "URL")]
    to: Location,
}

/// Exits with 0 if the database is ready, or the copy is the same as the file.
pub fn run(common: &CommonOptions, command: &RegistryCommand) -> CommandResult {
    match command {
        RegistryCommand::Init(options) => {
            let version = postgres_schema::initialize(&common.registry, &options.role)?;
            let text = format!("{} has the tables of version {version}; the role {} may use them", common.registry, options.role);
            common
                .print(&text, &json!({"registry": common.registry.to_string(), "schema_version": version, "role": options.role}));
        }
        RegistryCommand::Migrate(options) => {
            if common.registry.postgres().is_some() {
                return Err(CommandError::usage("--registry names the SQLite file, and --to the database"));
            }
            let summary = registry::migrate(common.registry.local(), &options.to, clock::from_env().now())?;
            let text = format!(
                "copied {} entries with {} connections and {} batches of calls to {}; the copy is intact and folds to the same connections",
                summary.rows, summary.connections, summary.batches, summary.registry
            );
            common.print(&text, &summary);
        }
    }
    Ok(ExitCode::SUCCESS)
}
