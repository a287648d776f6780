//! The command line: one file per command.
//!
//! Data goes to stdout, logs to stderr; colour only on a terminal and never alone in meaning.

mod budget;
mod check;
pub(crate) mod families;
mod gate;
mod heal;
mod lowcode;
mod once;
mod plan;
mod policy;
mod report;
mod serve;
mod status;
mod test;
mod token;
mod verify;

use crate::daemon::{Paths, StartError};
use crate::model::Problem;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

/// Something the user wrote cannot be used (sysexits' EX_CONFIG).
pub const EXIT_CONFIG: u8 = 78;
/// It ran, and the answer is "not yet": the SLO is not met, or there is something to do.
pub const EXIT_NOT_YET: u8 = 2;

/// Turns connection_intent documents into live, read-only, proven connections.
#[derive(Parser)]
#[command(name = "aam", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: Common,
}

/// Flags of every command.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// Folder of connection_intent documents
    #[arg(long, env = "AAM_INTENTS", default_value = "intents", global = true)]
    pub intents: PathBuf,
    /// The policy file, reviewed in git
    #[arg(long, env = "AAM_POLICY", default_value = "policy/policy.yaml", global = true)]
    pub policy: PathBuf,
    /// The registry, an SQLite file
    #[arg(long, env = "AAM_REGISTRY", default_value = "var/aam.db", global = true)]
    pub registry: PathBuf,
    /// Documents of the demo namespace, loaded once
    #[arg(long, env = "AAM_SEEDS", default_value = "seeds/demo", global = true, hide = true)]
    pub seeds: PathBuf,
    /// TCP port of the HTTP API
    #[arg(long, env = "PORT", default_value_t = 5000, global = true)]
    pub port: u16,
    /// Address the HTTP API listens on
    #[arg(long, env = "AAM_BIND", default_value = "127.0.0.1", global = true)]
    pub bind: IpAddr,
    /// Output form
    #[arg(long, value_enum, default_value_t = Format::Text, global = true)]
    pub format: Format,
}

/// How data is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Text,
    Json,
}

#[derive(Subcommand)]
enum Command {
    /// Watch the folder and the policy, reconcile, serve the HTTP API
    Serve,
    /// Reconcile until settled and print the exec summary (exit 0 SLO met, 2 not met, 1 error)
    Once,
    /// Say what would be done and every call that would be made (exit 0 nothing, 2 something, 1 error)
    Plan,
    /// Parse intents and policy, no network: all problems (exit 0 or 78)
    Check(check::Options),
    /// Show connections, or the steps of one
    Status(status::Options),
    /// Print the exec summary from the registry; no server needed
    Report(report::Options),
    /// Ask the running daemon to verify again at once
    Heal(heal::Options),
    /// Stop on declared or undeclared debt that nobody approved
    Gate(gate::Options),
    /// Run the pipeline on one intent file without writing anything
    Test(test::Options),
    /// Walk the hash chain of the ledger
    Verify,
    /// Make a bearer token for the API
    #[command(subcommand)]
    Token(token::Command),
    /// Compare policies
    #[command(subcommand)]
    Policy(policy::Command),
    /// List the source families and what this version connects
    Families,
    /// Run a manifest of Airbyte's low-code sources: its protocol on stdout, its calls through the policy
    #[command(subcommand)]
    Lowcode(lowcode::Command),
}

impl Common {
    /// Where everything lies.
    #[must_use]
    pub fn paths(&self) -> Paths {
        Paths {
            intents: self.intents.clone(),
            policy: self.policy.clone(),
            registry: self.registry.clone(),
            seeds: self.seeds.clone(),
        }
    }

    /// Prints `text`, or `value` as JSON.
    pub fn print(&self, text: &str, value: &impl serde::Serialize) {
        use std::io::Write;
        let out = match self.format {
            Format::Text => text.to_string(),
            Format::Json => serde_json::to_string_pretty(value).unwrap_or_default() + "\n",
        };
        let out = crate::credentials::redact::scrub(&out).into_owned();
        // A reader that went away (`| head`) is no error of ours.
        let _ = std::io::stdout().lock().write_all(out.as_bytes());
    }
}

/// How a command ends badly.
pub struct Fail {
    pub code: u8,
    pub message: String,
}

/// What a command answers.
pub type Ended = Result<ExitCode, Fail>;

impl Fail {
    /// Exit 1 with a message that says what to do.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Fail {
        Fail { code: 1, message: message.into() }
    }

    /// Exit 78: the user's files cannot be used.
    #[must_use]
    pub fn config(problems: &[Problem]) -> Fail {
        let text: Vec<String> = problems.iter().map(ToString::to_string).collect();
        Fail { code: EXIT_CONFIG, message: text.join("\n") }
    }
}

impl<E: Into<StartError>> From<E> for Fail {
    fn from(error: E) -> Fail {
        match error.into() {
            StartError::Policy(problems) => {
                let mut fail = Fail::config(&problems);
                fail.message.push_str(
                    "\nno policy was ever accepted, so nothing can start; mend the file, aam check shows when it is good",
                );
                fail
            }
            StartError::Registry(error) => Fail::new(error.to_string()),
        }
    }
}

/// Reads the arguments, runs the command, prints what went wrong.
#[must_use]
pub fn main() -> ExitCode {
    // Two providers of cryptography are in the tree of dependencies; this one is used.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = Cli::parse();
    crate::telemetry::start(match cli.command {
        Command::Serve | Command::Once => "info",
        // Its calls are its log.
        Command::Lowcode(_) => "warn,aam::egress=info",
        _ => "warn",
    });
    let ended = match &cli.command {
        // It is measured in milliseconds, so it gets threads only when it needs them.
        Command::Lowcode(command) => lowcode::run(&cli.common, command),
        _ => on_threads(cli),
    };
    ended.unwrap_or_else(|fail| {
        eprintln!("aam: {}", crate::credentials::redact::scrub(&fail.message));
        ExitCode::from(fail.code)
    })
}

fn on_threads(cli: Cli) -> Ended {
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => {
            let ended = runtime.block_on(run(cli));
            // A read of a mount that hangs may never return: the process does not wait for it.
            runtime.shutdown_background();
            ended
        }
        Err(error) => Err(Fail::new(format!("the system gives no threads: {error}"))),
    }
}

async fn run(cli: Cli) -> Ended {
    let common = cli.common;
    match cli.command {
        Command::Serve => serve::run(&common).await,
        Command::Once => once::run(&common).await,
        Command::Plan => plan::run(&common).await,
        Command::Check(options) => check::run(&common, &options),
        Command::Status(options) => status::run(&common, &options),
        Command::Report(options) => report::run(&common, &options),
        Command::Heal(options) => heal::run(&common, &options).await,
        Command::Gate(options) => gate::run(&common, &options),
        Command::Test(options) => test::run(&common, &options).await,
        Command::Verify => verify::run(&common),
        Command::Token(command) => token::run(&common, &command),
        Command::Policy(command) => policy::run(&common, &command),
        Command::Families => families::run(&common),
        Command::Lowcode(command) => lowcode::run(&common, &command),
    }
}
