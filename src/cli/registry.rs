//! `aam registry`: prepares a database of PostgreSQL for a registry, copies a registry into it, and lists its replicas.

use super::location::LocationParser;
use super::report::policy_in_force;
use super::{CommandError, CommandResult, CommonOptions};
use crate::clock;
use crate::model::text::{counted, printable};
use crate::providers::consent;
use crate::registry::{self, Location, MigrationSummary, Reader, RegistryError, ReplicaList, postgres_schema};
use serde_json::json;
use std::process::ExitCode;

#[derive(clap::Subcommand)]
pub enum RegistryCommand {
    /// Create or upgrade the tables in a database of PostgreSQL, as their owner
    Init(InitOptions),
    /// Copy a registry from its SQLite file into an empty one in PostgreSQL, and verify the copy; the daemon must be stopped
    Migrate(MigrateOptions),
    /// List the replicas that run on a database of PostgreSQL, what each has, and which one leads
    Replicas,
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

The consents are copied, too, from the file that credentials.consent_store.file names in the policy. Their tokens stay encrypted,
so each replica needs the same key. Both files stay as they are. Afterwards, start AAM with the new --registry, and never again
with the old one: a refresh token that is used twice ends its grant at many vendors.")]
pub struct MigrateOptions {
    /// The database, which aam registry init has prepared
    #[arg(long, value_name = "URL", value_parser = LocationParser)]
    to: Location,
}

/// Exits with 0 if the database is ready, or the copy is the same as the file.
pub fn run(common: &CommonOptions, command: &RegistryCommand) -> CommandResult {
    match command {
        RegistryCommand::Init(options) => {
            let version = postgres_schema::initialize(&common.registry, &options.role)?;
            let text =
                format!("{} has the tables of version {version}; the role {} may use them\n", common.registry, options.role);
            common
                .print(&text, &json!({"registry": common.registry.to_string(), "schema_version": version, "role": options.role}));
        }
        RegistryCommand::Migrate(options) => {
            if common.registry.postgres().is_some() {
                return Err(CommandError::usage("--registry names the SQLite file, and --to the database"));
            }
            let policy = policy_in_force(common, &Reader::open(&common.registry)?)?.policy;
            let consents = &policy.credentials.consent_store.file;
            let read_consents = || consent::copy_of_file(consents).map_err(RegistryError::Other);
            let file = common.registry.local();
            let summary = registry::migrate(file, &options.to, read_consents, clock::from_env().now())?;
            let text = copied(&summary, &consents.display().to_string()) + "\n";
            common.print(&text, &summary);
        }
        RegistryCommand::Replicas => {
            if common.registry.postgres().is_none() {
                return Err(CommandError::usage(format!(
                    "the registry {} is a file, which one process writes; aam status shows that process, and --registry 'postgres://...' names a database",
                    common.registry
                )));
            }
            let list = registry::replicas(&common.registry)?;
            common.print(&listed(&list), &list);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// One line for each replica, and what is wrong with them as a group.
fn listed(list: &ReplicaList) -> String {
    let mut text = String::new();
    for replica in &list.replicas {
        let address = if replica.address.is_empty() { "does not listen" } else { &replica.address };
        let policy = replica.policy.get(..12).unwrap_or("not read yet");
        text.push_str(&format!(
            "{}  {}  aam {}  policy {policy}  {}{}\n",
            printable(&replica.name, &[]),
            printable(address, &[]),
            printable(&replica.version, &[]),
            counted(replica.partitions, "partition"),
            if replica.leads { ", leads" } else { "" },
        ));
        if replica.expires_in_ms == 0 {
            text.push_str("  it did not renew its leases, so others take its partitions\n");
        }
    }
    if list.replicas.is_empty() {
        text.push_str("no replica runs on this database: aam serve starts one\n");
    } else if list.free_partitions > 0 {
        text.push_str(&format!(
            "{} free: the replicas take them within some seconds\n",
            counted(list.free_partitions, "partition")
        ));
    }
    if list.has_different_policies() {
        text.push_str("the replicas have different policy files; the one of the replica that leads is in force: give all of them the same file\n");
    }
    text
}

/// What was copied.
fn copied(summary: &MigrationSummary, consents: &str) -> String {
    let mut text = format!(
        "copied {} entries with {} connections and {} batches of calls to {}; the copy is intact and folds to the same connections",
        summary.rows, summary.connections, summary.batches, summary.registry
    );
    if summary.grants + summary.links > 0 {
        let (grants, links) = (counted(summary.grants, "grant"), counted(summary.links, "link"));
        text.push_str(&format!(
            "\ncopied {grants} and {links} of consents from {consents}; do not start AAM on the files again, because a refresh token works once"
        ));
    }
    text
}
