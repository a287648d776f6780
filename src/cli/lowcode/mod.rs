//! `aam lowcode`: runs an Airbyte low-code manifest on the command line.
//!
//! It replaces Airbyte's `source-declarative-manifest`: it prints protocol messages to stdout, one per line. A check
//! with the result FAILED exits with 0; any other failure ends with a TRACE message and exit code 1. Calls are logged
//! to stderr.

mod explain;
mod inputs;
mod posts;
mod secrets;

use super::budget::InMemoryDayBudget;
use super::{CommandError, CommandResult, CommonOptions, terminal};
use crate::clock::{self, Clock};
use crate::connectors::lowcode::calls::{self, OfflineHost, Reading};
use crate::connectors::lowcode::custom_source::HOSTS_FIX;
use crate::connectors::lowcode::host::{CallerMode, Rules, SessionHost};
use crate::connectors::lowcode::limits::Windows;
use crate::egress::{Caller, Egress, resolve::SystemLookup};
use crate::model::ConnectionId;
use crate::policy::Policy;
use crate::policy_loader;
use ::lowcode::commands::{self, Commands, Selection};
use ::lowcode::context::Run;
use ::lowcode::protocol::{Level, Message};
use ::lowcode::value::{Dict, Value};
use inputs::Inputs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

/// The family name under which calls are logged and counted.
const FAMILY: &str = "lowcode";

#[derive(clap::Subcommand)]
pub enum LowcodeCommand {
    /// Print the specification of the config
    Spec(InputFiles),
    /// Check whether the source works with a config
    Check(InputFiles),
    /// Print the catalog
    Discover(InputFiles),
    /// Read a sample of each stream
    Read(ReadOptions),
    /// Explain what the manifest would call, and what is not supported
    Explain(explain::ExplainOptions),
}

#[derive(clap::Args)]
pub struct InputFiles {
    /// The manifest, YAML or JSON; default: the config's __injected_declarative_manifest
    #[arg(long, alias = "manifest-path", value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// The config, JSON
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(clap::Args)]
pub struct ReadOptions {
    #[command(flatten)]
    files: InputFiles,
    /// A configured catalog, JSON, that lists the streams to read; default: all streams
    #[arg(long, value_name = "FILE")]
    catalog: Option<PathBuf>,
    /// The maximum number of records per stream
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
    /// Read only this stream; may be given several times
    #[arg(long, value_name = "NAME")]
    stream: Vec<String>,
    /// Accepted for compatibility; a sample always starts at the beginning
    #[arg(long, value_name = "FILE", hide = true)]
    state: Option<PathBuf>,
}

/// Exits with 0, with 1 after a TRACE message, and with 78 for a policy or a manifest (`explain`) that is not valid.
pub fn run(common: &CommonOptions, command: &LowcodeCommand) -> CommandResult {
    let clock = clock::from_env();
    let limit = match command {
        LowcodeCommand::Explain(options) => return explain::run(common, options),
        LowcodeCommand::Read(read) => Some(read.limit),
        _ => None,
    };
    let (files, selects) = match command {
        LowcodeCommand::Read(read) => (&read.files, Some(read)),
        LowcodeCommand::Spec(files) | LowcodeCommand::Check(files) | LowcodeCommand::Discover(files) => (files, None),
        LowcodeCommand::Explain(_) => return Ok(ExitCode::SUCCESS),
    };
    let host = OfflineHost(Arc::clone(&clock));
    let needs_config = !matches!(command, LowcodeCommand::Spec(_));
    let inputs = Inputs::read(files, needs_config, limit, &host);
    let selection = inputs.and_then(|inputs| Ok((inputs, selects.map(selection).transpose()?.unwrap_or_default())));
    let (inputs, selection) = match selection {
        Ok(inputs) => inputs,
        Err(trouble) => {
            terminal::print_error(&trouble.report);
            return Ok(code(commands::uncaught(&trouble.failed, &host, &mut print)));
        }
    };
    if matches!(command, LowcodeCommand::Spec(_)) {
        return Ok(code(commands::spec(&inputs.manifest, &host, &mut print)));
    }
    if selects.is_some_and(|read| read.state.is_some()) {
        print(Message::log(Level::Warn, "--state is not used: a sample starts at the beginning"));
    }
    inputs.tell_migrated(&host, &mut print);
    let policy = policy_loader::load(&common.policy).loaded.map_err(|problems| CommandError::config(&problems))?.policy;
    // One thread is enough, and it starts fastest.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| CommandError::new(format!("could not start the async runtime: {error}")))?;
    Ok(code(runtime.block_on(online(command, &inputs, &selection, policy, clock))))
}

/// Runs a command that may call the source.
async fn online(
    command: &LowcodeCommand,
    inputs: &Inputs,
    selection: &Selection,
    policy: Arc<Policy>,
    clock: Arc<dyn Clock>,
) -> commands::CommandResult {
    let egress = Egress::with(Arc::new(InMemoryDayBudget::default()), Arc::clone(&clock), Arc::new(SystemLookup));
    let calm = OfflineHost(Arc::clone(&clock));
    let reading = Reading { manifest: &inputs.manifest.root, config: &inputs.config, host: &calm, bounds: &inputs.bounds };
    // The source type is the name of the file, as in the daemon.
    let source = inputs.source_type();
    let listed = policy.manifests.source(&source);
    let origins = match listed.hosts.is_empty() {
        true => reading.origins(&calls::addresses(&inputs.manifest.root)),
        false => listed.hosts.iter().cloned().collect(),
    };
    let posts = posts::of(&inputs.manifest.root, &inputs.config, &calm, &inputs.bounds, (&source, &listed));
    let account = origins.iter().cloned().collect::<Vec<_>>().join(" ");
    let name = inputs.manifest.file().to_string();
    let caller = Caller {
        connection: ConnectionId::derive(&policy.namespace, FAMILY, &[name]),
        family: FAMILY.into(),
        purpose: crate::model::CallPurpose::Source,
        account: account.clone(),
        cap: policy.caps.families.get(FAMILY).unwrap_or(&policy.caps.default).clone(),
        policy,
        posts: Arc::new(posts),
    };
    let rules = Rules {
        mode: CallerMode::Person,
        origins,
        limits: Vec::new(),
        windows: Arc::new(Windows::default()),
        account,
        secrets_by_spec: true,
        hosts_fix: HOSTS_FIX.to_string(),
        user_agent: String::new(),
        max_bytes: inputs.bounds.body_bytes as u64,
    };
    let host = SessionHost::new(egress.session(caller), clock, rules);
    let commands = Commands { manifest: &inputs.manifest, config: &inputs.config, host: &host, bounds: &inputs.bounds };
    let mut run = Run::new(&commands.context());
    let ended = match command {
        LowcodeCommand::Check(_) => commands.check(&run, &mut print).await,
        LowcodeCommand::Discover(_) => commands.discover(&run, &mut print).await,
        _ => {
            run.limits = inputs.limits();
            run.selected.clone_from(&selection.properties);
            commands.read(selection, &run, &mut print).await
        }
    };
    if let Some(config) = run.tokens.rotated_config() {
        inputs.keep(&config, &host, &mut print);
    }
    ended
}

/// Returns the selected streams: those of the configured catalog and those given by name.
fn selection(read: &ReadOptions) -> Result<Selection, inputs::Trouble> {
    let catalog = read.catalog.as_ref().map(|path| inputs::json(path, "catalog")).transpose()?;
    let names = |catalog: &Value| {
        let streams = catalog.get("streams").and_then(Value::as_list).unwrap_or_default();
        streams.iter().filter_map(|it| it.get("stream")?.get("name").map(Value::to_str)).collect()
    };
    let properties = |entry: &Value| {
        let stream = entry.get("stream")?;
        let properties = stream.get("json_schema").and_then(|schema| schema.get("properties")).cloned();
        Some((stream.get("name")?.to_str(), properties.unwrap_or_else(|| Value::Dict(Dict::default()))))
    };
    let streams = catalog.as_ref().and_then(|it| it.get("streams")).and_then(Value::as_list).unwrap_or_default();
    let properties = streams.iter().filter_map(properties).collect();
    Ok(Selection { catalog: catalog.as_ref().map(names), only: read.stream.clone(), properties })
}

fn code(ended: commands::CommandResult) -> ExitCode {
    match ended {
        commands::CommandResult::Succeeded => ExitCode::SUCCESS,
        commands::CommandResult::Failed => ExitCode::FAILURE,
    }
}

/// Prints one message. Secrets are removed from it first, because a source may echo a credential.
fn print(message: Message<'_>) {
    terminal::print_protocol(&format!("{}\n", secrets::line(message)));
}
