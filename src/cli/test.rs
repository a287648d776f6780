//! `aam test FILE|FOLDER|-`: runs the pipeline on intents, without writing to the registry.

use super::budget::InMemoryDayBudget;
use super::progress::{Progress, Reading};
use super::{CommandError, CommandResult, CommonOptions, EXIT_NOT_YET, once, terminal};
use crate::clock;
use crate::connectors::airbyte::OwnPaths;
use crate::connectors::airbyte_platform::Installation;
use crate::daemon;
use crate::egress::{Egress, resolve::SystemLookup};
use crate::intake::wire::INTENT_FILE_NAMES;
use crate::intake::{Format, Limits, check, wire};
use crate::model::text::counted;
use crate::model::{Digest, Intent, Origin, Outcome, Problem, Scope, State, Step, StepStatus};
use crate::operator_file;
use crate::pipeline::{Attempt, Env, Job};
use crate::policy::{LoadedPolicy, Policy};
use crate::policy_loader;
use crate::providers::consent::ConsentPlace;
use crate::providers::{Process, Providers};
use crate::registry::Reader;
use crate::report::{self, status_table};
use futures_util::StreamExt;
use std::cell::RefCell;
use std::fmt::Write;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// The number of attempts at the same time, at most.
const MAX_CONCURRENCY: usize = 16;

#[derive(clap::Args)]
pub struct TestOptions {
    /// A file with intents (one or a list as JSON or YAML, or JSON lines), a folder of such files, or - for stdin
    #[arg(value_name = "FILE|FOLDER|-")]
    file: PathBuf,
}

/// Whether the daemon reads a file of this name in the intents folder.
fn is_intent_file_name(file: &Path) -> bool {
    let name = file.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    !name.starts_with('.') && Format::from_path(&name).is_some()
}

/// Returns the intents with the files that hold them.
///
/// # Errors
/// With exit code 78 if something cannot be read or is not valid.
fn read(path: &Path) -> Result<Vec<(Arc<str>, Intent)>, CommandError> {
    if path.is_dir() {
        return read_folder(path);
    }
    let is_stdin = path == Path::new("-");
    let name = if is_stdin { "stdin".to_string() } else { path.display().to_string() };
    let limit = Limits::default().bytes as u64;
    let bytes = if is_stdin {
        let stdin = std::io::stdin().as_fd().try_clone_to_owned();
        stdin.and_then(|stdin| read_to_end(File::from(stdin), limit))
    } else {
        operator_file::read(path, limit)
    };
    let bytes = bytes.map_err(|error| CommandError::config(&[Problem::new("", format!("cannot read {name}: {error}"))]))?;
    if !is_stdin && !is_intent_file_name(path) {
        terminal::print_error(&format!("note: the intents folder ignores {name}: {INTENT_FILE_NAMES}\n"));
    }
    let format = Format::from_path(&name).unwrap_or_else(|| format_of(&bytes));
    let parsed = wire::parse_as(format, &bytes, &Limits::default()).map_err(|refusal| {
        CommandError::config(&refusal.problems.into_iter().map(|problem| problem.in_file(&name)).collect::<Vec<_>>())
    })?;
    let problems: Vec<_> = parsed.problems().map(|problem| problem.clone().in_file(&name)).collect();
    if !problems.is_empty() {
        return Err(CommandError::config(&problems));
    }
    let name: Arc<str> = name.into();
    Ok(parsed.intents().map(|intent| (Arc::clone(&name), intent.clone())).collect())
}

/// Reads every file of a folder as the daemon reads the intents folder.
fn read_folder(folder: &Path) -> Result<Vec<(Arc<str>, Intent)>, CommandError> {
    let checked = check::check(folder, Limits::default(), clock::from_env().now());
    if !checked.passed() {
        return Err(CommandError::config(&checked.problems));
    }
    if checked.intents.is_empty() {
        let message = format!("the folder {} holds no intents: {INTENT_FILE_NAMES}", folder.display());
        return Err(CommandError::config(&[Problem::new("", message)]));
    }
    let path = |name: &str| folder.join(name).display().to_string().into();
    Ok(checked.intents.into_iter().map(|(name, intent)| (path(&name), intent)).collect())
}

fn read_to_end(stdin: File, limit: u64) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    stdin.take(limit + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The format of a text whose name does not tell. Texts in JSON begin with a bracket.
fn format_of(bytes: &[u8]) -> Format {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    match bytes.trim_ascii_start().first() {
        Some(b'{' | b'[') => Format::JsonLines,
        _ => Format::Yaml,
    }
}

/// Exits with 0 if every intent would be ACTIVE, with 2 if not, and with 78 if a file is not valid.
pub async fn run(common: &CommonOptions, options: &TestOptions) -> CommandResult {
    let loaded = policy_loader::load(&common.policy).loaded.map_err(|problems| CommandError::config(&problems))?;
    let intents = read(&options.file)?;
    let clock = clock::from_env();
    let egress = Egress::with(Arc::new(InMemoryDayBudget::default()), Arc::clone(&clock), Arc::new(SystemLookup));
    let providers = Providers::new(Arc::clone(&egress), Arc::clone(&clock), Process::Test);
    providers.consents().keep_in(&common.registry);
    let own = OwnPaths {
        intents: common.intents.clone(),
        policy: common.policy.clone(),
        registry: common.registry.local().to_path_buf(),
    };
    let installation = Installation::of_test(first_entry(common, &loaded.policy));
    crate::connectors::airbyte::sweep_runs(&loaded.policy.airbyte.dir);
    let env = Env { engines: daemon::opening_engines(clock, &providers, own, installation), egress, providers };
    let mut text = String::new();
    for problem in policy_loader::root_problems(&loaded.policy) {
        let _ = writeln!(text, "warning: {}", problem.in_file(common.policy.display().to_string()));
    }
    let outcomes = attempt_all(common, &env, &loaded, &intents).await;
    env.providers.close().await;
    let (mut values, mut states) = (Vec::new(), Vec::new());
    for ((file, intent), outcome) in intents.iter().zip(&outcomes) {
        let state = State::derive(outcome.class(), false);
        states.push(state);
        let _ = writeln!(text, "{} would be {state}: {}", report::status::symbol(state), subject(intent));
        text.push_str(&report::attempt::steps(&outcome.steps));
        values.push(serde_json::json!({
            "connection_id": intent.connection_id(), "file": file, "status": state, "steps": outcome.steps,
            "first_sync_rows": outcome.rows, "latency_ms": outcome.latency_ms, "catalog": outcome.catalog,
        }));
    }
    if intents.len() > 1 {
        let _ = writeln!(text, "{}: {}", counted(intents.len(), "intent"), status_table::counts(states.iter().copied()));
    }
    text.push_str(&match env.providers.consents().written_place() {
        None => "nothing was written\n".to_string(),
        // A vendor that rotates refresh tokens accepts each only once, so the new one must not be lost.
        Some(ConsentPlace::File(file)) => {
            format!("nothing was written to the registry; {} has the new token of a consent that was refreshed\n", file.display())
        }
        Some(ConsentPlace::Database(name)) => {
            format!("nothing was written to {name}, except the new token of a consent that was refreshed\n")
        }
    });
    common.print(&text, &values);
    let passed = states.iter().all(|state| *state == State::Active);
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::from(EXIT_NOT_YET) })
}

/// The digest of the first entry of the registry of this machine, if there is one and the policy names an Airbyte whose sources
/// it marks.
fn first_entry(common: &CommonOptions, policy: &Policy) -> Option<Digest> {
    policy.airbyte.platform.as_ref()?;
    Reader::open(&common.registry).ok()?.hash_of(1).ok().flatten()
}

fn subject(intent: &Intent) -> String {
    format!("{} {}", intent.source_type, intent.resource_ids.join(" "))
}

/// Runs an attempt for each intent, several at the same time. The outcomes are in the order of the intents.
async fn attempt_all(common: &CommonOptions, env: &Env, loaded: &LoadedPolicy, intents: &[(Arc<str>, Intent)]) -> Vec<Outcome> {
    let reading = RefCell::new(Reading { total: intents.len() as u64, ..Reading::default() });
    let reading = &reading;
    let attempts = intents.iter().map(|(file, intent)| async move {
        reading.borrow_mut().detail = format!("the latest: {}", once::name(Some(intent)));
        let outcome = attempt(env, loaded, file, intent).await;
        reading.borrow_mut().done += 1;
        outcome
    });
    let concurrency = loaded.policy.reconcile.concurrency.clamp(1, MAX_CONCURRENCY);
    let work = futures_util::stream::iter(attempts).buffered(concurrency).collect();
    Progress::start("testing", "intents", common.quiet).during(|| reading.borrow().clone(), work).await
}

async fn attempt(env: &Env, loaded: &LoadedPolicy, file: &str, intent: &Intent) -> Outcome {
    let job = Job {
        connection: intent.connection_id(),
        intent: intent.clone(),
        scope: Scope::Full,
        policy: Arc::clone(&loaded.policy),
        sources: Arc::clone(&loaded.sources),
        // A file on this machine is reviewed like the intents folder.
        origins: vec![Origin::folder(file)],
        known: None,
    };
    let mut outcome = Attempt::new(env, &job).run().await;
    for report in outcome.steps.iter_mut().filter(|report| report.step == Step::Registry) {
        report.status = StepStatus::Skipped { reason: "aam test does not write to the registry".to_string() };
    }
    outcome
}
