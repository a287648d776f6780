//! The command line: one file per command.
//!
//! Data goes to stdout and logs go to stderr. Colour is used only on a terminal and never carries meaning alone.

mod airbyte;
mod backup;
mod budget;
mod calls;
mod catalog;
mod check;
mod completion;
mod confirm;
mod connection;
mod consent;
mod control;
mod daemon_request;
mod daemon_trouble;
mod drafts;
mod drift;
mod evidence;
mod examples;
pub(crate) mod families;
mod gate;
mod heal;
mod heal_watch;
mod health;
mod help;
mod init;
mod location;
mod logging;
mod lowcode;
mod mcp;
mod once;
mod plan;
mod policy;
mod privileges;
mod problems;
mod progress;
mod query;
mod registry;
mod report;
mod secret;
mod serve;
mod since;
mod status;
mod stop_signal;
mod supervisor;
mod terminal;
mod test;
mod token;
mod verify;
mod version;

use crate::daemon::{Paths, StartError};
use crate::model::{MissingFiles, Problem};
use crate::registry::{Location, Reader};
use clap::{Args, FromArgMatches, Parser, Subcommand, ValueEnum};
use location::LocationParser;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

/// The exit code for a file of the user that is not valid (EX_CONFIG in sysexits.h).
pub const EXIT_CONFIG: u8 = 78;
/// The exit code for a command line that cannot be understood (EX_USAGE in sysexits.h).
pub const EXIT_USAGE: u8 = 64;
/// The exit code of a command that ran, but found that the SLO is not met or that there is something to do.
pub const EXIT_NOT_YET: u8 = 2;

/// Turns connection_intent documents into live, read-only, proven connections.
#[derive(Parser)]
#[command(name = "aam", version = version::VERSION, about, max_term_width = 100, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: CommonOptions,
    #[command(flatten)]
    logging: logging::LoggingOptions,
}

/// The table of exit codes at the end of `aam --help`. docs/operations.md has the same one.
const EXIT_CODES: &str = "Exit codes:
  0    done; or nothing to do; or the target is met
  1    the command failed, what it verified is not intact, or what it printed is not complete
  2    the command ran, and something is to be done, or the target is not met
  3    aam policy diff: something changes, and nothing of it is wider
  4    aam policy diff: something is wider
  64   the command line cannot be understood
  78   the policy, an intent or another file of yours is missing or not valid
  143  ended by a second SIGTERM
aam lowcode ends as an Airbyte connector does: 1 after a failed check or read.

Start here: aam init, then aam check, aam plan and aam serve.";

/// Flags that all commands share.
#[derive(Args, Clone, Debug)]
pub struct CommonOptions {
    /// Folder of connection_intent documents
    #[arg(long, env = "AAM_INTENTS", default_value = "intents", global = true)]
    pub intents: PathBuf,
    /// The policy file, reviewed in git
    #[arg(long, env = "AAM_POLICY", default_value = "policy/policy.yaml", global = true)]
    pub policy: PathBuf,
    /// The registry: an SQLite file, or a database as postgres://ROLE@HOST/DATABASE?credential=env:NAME
    #[arg(long, env = "AAM_REGISTRY", default_value = "var/aam.db", global = true, value_parser = LocationParser)]
    pub registry: Location,
    /// Intents of the demo namespace, loaded once
    #[arg(long, env = "AAM_SEEDS", default_value = "seeds/demo", global = true, hide = true)]
    pub seeds: PathBuf,
    /// TCP port of the HTTP API
    #[arg(long, env = "PORT", default_value_t = 5000, global = true)]
    pub port: u16,
    /// Address the HTTP API listens on
    #[arg(long, env = "AAM_BIND", default_value = "127.0.0.1", global = true)]
    pub bind: IpAddr,
    /// Output format
    #[arg(long, value_enum, default_value_t = Format::Text, global = true)]
    pub format: Format,
    /// Whether -q was given, so that no progress is shown.
    #[arg(skip)]
    pub quiet: bool,
    /// The names of those of these flags that are set on the command line or in the environment.
    #[arg(skip)]
    pub given: Vec<&'static str>,
}

/// The output format of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Text,
    Json,
    /// Only for `aam policy diff`.
    #[value(hide = true)]
    Markdown,
    /// Only `aam query` prints it.
    #[value(skip)]
    Csv,
    /// Only `aam report` writes it.
    #[value(skip)]
    Svg,
    /// Only `aam report` writes it.
    #[value(skip)]
    Html,
}

#[derive(Subcommand)]
enum Command {
    /// Watch intents and policy, reconcile connections, serve the HTTP API
    Serve,
    /// Stop the daemon that holds the registry, and wait until it has ended
    Stop,
    /// Stop the daemon and serve in its place, with the environment and flags of this command
    Restart,
    /// Make the daemon read the policy and the intents now
    Reload,
    /// Reconcile until settled and print the exec summary (exit 0 SLO met, 2 not met, 1 error)
    Once,
    /// Show what would be done and every call that would be made (exit 0 nothing to do, 2 something to do, 1 error)
    Plan(plan::PlanOptions),
    /// Report all problems of intents and policy, without network access (exit 0 no problems, 78 problems)
    Check(check::CheckOptions),
    /// List connections, or show one with its steps
    Status(status::StatusOptions),
    /// List the connections whose credential can do more than read, and what takes the excess away
    Privileges(privileges::PrivilegesOptions),
    /// List schema changes: what changed between which versions, what breaks, and who took note
    Drift(drift::DriftOptions),
    /// List catalogs and their versions, show one, or compare two
    Catalog(catalog::CatalogOptions),
    /// Run a query on the views of the registry, or list the views
    Query(query::QueryOptions),
    /// Print the exec summary from the registry; no server needed
    Report(report::ReportOptions),
    /// Ask the running daemon to check connections at once
    Heal(heal::HealOptions),
    /// Confirm a change that is held because it would make many connections leave at once, or list what is held
    Confirm(confirm::ConfirmOptions),
    /// Stop on technical debt that is not approved, declared in DEBT.md or not (exit 0 nothing stops the run, 1 stopped)
    Gate(gate::GateOptions),
    /// Run the pipeline on the intents of a file, a folder or stdin without writing anything (exit 0 would be ACTIVE, 2 not)
    Test(test::TestOptions),
    /// List the calls that AAM made, with the rule that allowed each
    Calls(calls::CallsOptions),
    /// Verify the hash chain of the ledger and of the recorded calls, or a bundle of evidence
    Verify(verify::VerifyOptions),
    /// Write a bundle of evidence for a period, which an auditor can verify on another machine
    Evidence(evidence::EvidenceOptions),
    /// Copy the registry to a file while the daemon runs, and verify the copy
    Backup(backup::BackupOptions),
    /// Put a backup in the place of the registry; the daemon must be stopped
    Restore(backup::RestoreOptions),
    /// Prepare a database of PostgreSQL for a registry, or copy a registry into it
    #[command(subcommand)]
    Registry(registry::RegistryCommand),
    /// Ask the running daemon whether it is ready (exit 0 ready, 1 not ready)
    Health(health::HealthOptions),
    /// Create bearer tokens for the API
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Store, list and remove the secrets that env:NAME locators name
    #[command(subcommand)]
    Secret(secret::SecretCommand),
    /// List, ask for and revoke the consents of owners
    #[command(subcommand)]
    Consent(consent::ConsentCommand),
    /// Compare policies
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// List the source families and whether this version connects them, or explain one
    Families(families::FamiliesOptions),
    /// Write a commented policy, a folder for intents and a systemd unit, where there are none
    Init(init::InitOptions),
    /// Print the version, the commit and what this build connects
    Version,
    /// Print the completion script of a shell
    Completion(completion::CompletionOptions),
    /// Write the manual pages into a folder
    Man(completion::ManOptions),
    /// Serve the registry to assistants and agents over the Model Context Protocol, on stdin and stdout
    Mcp,
    /// Install Airbyte connectors that run as processes, or list them
    #[command(subcommand)]
    Airbyte(airbyte::AirbyteCommand),
    /// Run an Airbyte low-code manifest: prints protocol messages, calls the source under the policy
    #[command(subcommand)]
    Lowcode(lowcode::LowcodeCommand),
}

impl CommonOptions {
    /// Returns the address at which a daemon with these options is reached from this machine.
    #[must_use]
    pub fn listener(&self) -> SocketAddr {
        reachable(SocketAddr::new(self.bind, self.port))
    }

    /// Whether the flag is set on the command line or in the environment.
    #[must_use]
    pub fn is_given(&self, flag: &str) -> bool {
        self.given.contains(&flag)
    }

    /// Returns the paths that the daemon works with.
    #[must_use]
    pub fn paths(&self) -> Paths {
        Paths {
            intents: self.intents.clone(),
            policy: self.policy.clone(),
            registry: self.registry.clone(),
            seeds: self.seeds.clone(),
        }
    }

    /// Returns the options with JSON as the format, if a command got `--json`.
    #[must_use]
    pub fn with_json(&self, json: bool) -> CommonOptions {
        CommonOptions { format: if json { Format::Json } else { self.format }, ..self.clone() }
    }

    /// Prints `text`, or `value` as JSON, depending on `--format`.
    pub fn print(&self, text: &str, value: &impl serde::Serialize) {
        match self.format {
            Format::Text | Format::Markdown | Format::Csv | Format::Svg | Format::Html => terminal::print(text),
            Format::Json => terminal::print_json(&(serde_json::to_string_pretty(value).unwrap_or_default() + "\n")),
        }
    }
}

/// Returns the address at which a listener on `address` is reached from this machine.
fn reachable(address: SocketAddr) -> SocketAddr {
    let host = match address.ip() {
        IpAddr::V4(host) if host.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(host) if host.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        host => host,
    };
    SocketAddr::new(host, address.port())
}

/// The error that ends a command.
pub struct CommandError {
    pub code: u8,
    pub message: String,
}

/// The result of a command.
pub type CommandResult = Result<ExitCode, CommandError>;

/// The body of entry `seq`, as far as it can be read. An archive file that cannot be read is added to `missing`.
fn left(reader: &Reader, seq: u64, missing: &mut MissingFiles) -> Option<String> {
    reader.bodies_left(&[seq], usize::MAX).ok()?.pop().and_then(|body| missing.left(body))
}

/// The end of a command that has printed what it could read: an error that names the archive files that were missing.
fn complete(missing: &MissingFiles) -> CommandResult {
    if missing.is_empty() { Ok(ExitCode::SUCCESS) } else { Err(CommandError::new(missing.text())) }
}

impl CommandError {
    /// Creates an error with exit code 1 and a message.
    #[must_use]
    pub fn new(message: impl Into<String>) -> CommandError {
        CommandError { code: 1, message: message.into() }
    }

    /// Creates an error with exit code 64, for an argument that cannot be understood.
    #[must_use]
    pub fn usage(message: impl Into<String>) -> CommandError {
        CommandError { code: EXIT_USAGE, message: message.into() }
    }

    /// Returns an equal error.
    #[must_use]
    pub fn copy(&self) -> CommandError {
        CommandError { code: self.code, message: self.message.clone() }
    }

    /// Creates an error with exit code 78, for files of the user that are not valid.
    #[must_use]
    pub fn config(problems: &[Problem]) -> CommandError {
        let text: Vec<String> = problems.iter().map(ToString::to_string).collect();
        CommandError { code: EXIT_CONFIG, message: text.join("\n") }
    }
}

impl<E: Into<StartError>> From<E> for CommandError {
    fn from(error: E) -> CommandError {
        match error.into() {
            StartError::Policy(problems) => {
                let mut error = CommandError::config(&problems);
                error.message.push_str("\nAAM has no valid policy yet; fix the file, `aam check` confirms it");
                error
            }
            StartError::Registry(error) => CommandError::new(error.of_command().to_string()),
        }
    }
}

/// Parses the arguments, runs the command and prints its error, if any.
#[must_use]
pub fn main() -> ExitCode {
    // The dependencies contain two crypto providers, so rustls cannot choose one by itself.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let parsed = help::command().try_get_matches().and_then(|matches| {
        let mut cli = Cli::from_arg_matches(&matches)?;
        cli.common.given = help::given(&matches);
        Ok(cli)
    });
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            // It is not an error if the reader has closed the pipe.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    if let Err(error) = drafts::use_drafts() {
        terminal::print_error(&format!("aam: {error}\n"));
        return ExitCode::from(EXIT_CONFIG);
    }
    if cli.common.format == Format::Markdown && !matches!(cli.command, Command::Policy(_)) {
        terminal::print_error("aam: only aam policy diff prints Markdown; write --format text or --format json\n");
        return ExitCode::from(EXIT_USAGE);
    }
    let started = cli.logging.start(match cli.command {
        Command::Serve | Command::Restart => "info",
        // `aam lowcode` logs each call.
        Command::Lowcode(_) => "warn,aam::egress=info",
        // A file keeps what a terminal has no room for.
        Command::Once if !cli.logging.has_file() => once::LOG_FILTER,
        _ => "warn",
    });
    if let Err(error) = started {
        terminal::print_error(&format!("aam: {error}\n"));
        return ExitCode::from(EXIT_CONFIG);
    }
    let result = match &cli.command {
        // This command takes only a few milliseconds, so it runs without a thread pool.
        Command::Lowcode(command) => lowcode::run(&cli.common, command),
        _ => run_on_thread_pool(cli),
    };
    let code = result.unwrap_or_else(|error| {
        terminal::print_error(&format!("aam: {}\n", error.message));
        ExitCode::from(error.code)
    });
    match terminal::output_error() {
        Some(error) => {
            terminal::print_error(&format!("aam: the output could not be written: {error}; write it to another place\n"));
            ExitCode::FAILURE
        }
        None => code,
    }
}

fn run_on_thread_pool(cli: Cli) -> CommandResult {
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => {
            let result = runtime.block_on(run(cli));
            // Does not wait for blocking reads, because a read from a hanging mount may never return.
            runtime.shutdown_background();
            crate::connectors::airbyte::remove_runs();
            result
        }
        Err(error) => Err(CommandError::new(format!("could not start worker threads: {error}"))),
    }
}

async fn run(cli: Cli) -> CommandResult {
    let common = CommonOptions { quiet: cli.logging.is_quiet(), ..cli.common };
    if matches!(cli.command, Command::Status(_) | Command::Report(_) | Command::Plan(_) | Command::Check(_)) {
        daemon_trouble::note(&common).await;
    }
    match cli.command {
        Command::Serve => serve::run(&common).await,
        Command::Stop => control::stop(&common).await,
        Command::Restart => control::restart(&common).await,
        Command::Reload => control::reload(&common).await,
        Command::Once => once::run(&common).await,
        Command::Plan(options) => plan::run(&common, &options).await,
        Command::Check(options) => check::run(&common, &options),
        Command::Status(options) => status::run(&common, &options).await,
        Command::Privileges(options) => privileges::run(&common, &options),
        Command::Drift(options) => drift::run(&common, &options).await,
        Command::Catalog(options) => catalog::run(&common, &options),
        Command::Query(options) => query::run(&common, &options),
        Command::Report(options) => report::run(&common, &options),
        Command::Heal(options) => heal::run(&common, &options).await,
        Command::Confirm(options) => confirm::run(&common, &options).await,
        Command::Gate(options) => gate::run(&common, &options),
        Command::Test(options) => test::run(&common, &options).await,
        Command::Calls(options) => calls::run(&common, &options),
        Command::Verify(options) => verify::run(&common, &options).await,
        Command::Evidence(options) => evidence::run(&common, &options),
        Command::Backup(options) => backup::backup(&common, &options),
        Command::Registry(command) => registry::run(&common, &command),
        Command::Restore(options) => backup::restore(&common, &options),
        Command::Health(options) => health::run(&common, &options).await,
        Command::Token(command) => token::run(&common, &command),
        Command::Secret(command) => secret::run(&common, &command),
        Command::Consent(command) => consent::run(&common, &command).await,
        Command::Policy(command) => policy::run(&common, &command),
        Command::Families(options) => families::run(&options, &common),
        Command::Init(options) => init::run(&common, &options),
        Command::Version => version::run(&common),
        Command::Completion(options) => completion::run(&options),
        Command::Man(options) => completion::man(&options),
        Command::Mcp => mcp::run(&common).await,
        Command::Airbyte(command) => airbyte::run(&common, &command),
        Command::Lowcode(command) => lowcode::run(&common, &command),
    }
}
