//! `aam test FILE`: runs the pipeline on the intents of a file, without writing to the registry.

use super::budget::InMemoryDayBudget;
use super::{CommandError, CommandResult, CommonOptions, EXIT_NOT_YET, terminal};
use crate::clock;
use crate::daemon;
use crate::egress::{Egress, resolve::SystemLookup};
use crate::intake::wire::INTENT_FILE_NAMES;
use crate::intake::{Format, Limits, wire};
use crate::model::{Origin, Problem, Scope, State, Step, StepStatus};
use crate::operator_file;
use crate::pipeline::{Attempt, Env, Job};
use crate::policy_loader;
use crate::providers::{Process, Providers};
use crate::report;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

#[derive(clap::Args)]
pub struct TestOptions {
    /// A file with intents: one or a list as JSON or YAML, or JSON lines
    file: PathBuf,
}

/// Whether the daemon reads a file of this name in the intents folder.
fn is_intent_file_name(file: &Path) -> bool {
    let name = file.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    !name.starts_with('.') && Format::from_path(&name).is_some()
}

/// Exits with 0 if every intent would be ACTIVE, with 2 if not, and with 78 if the file is not valid.
pub async fn run(common: &CommonOptions, options: &TestOptions) -> CommandResult {
    let loaded = policy_loader::load(&common.policy).loaded.map_err(|problems| CommandError::config(&problems))?;
    let bytes = operator_file::read(&options.file, Limits::default().bytes as u64)
        .map_err(|error| CommandError::config(&[Problem::new("", format!("cannot read {}: {error}", options.file.display()))]))?;
    let name = options.file.display().to_string();
    if !is_intent_file_name(&options.file) {
        terminal::print_error(&format!("note: the intents folder ignores {name}: {INTENT_FILE_NAMES}\n"));
    }
    let format = Format::from_path(&name).unwrap_or(Format::Json);
    let parsed = wire::parse_as(format, &bytes, &Limits::default()).map_err(|refusal| {
        CommandError::config(&refusal.problems.into_iter().map(|problem| problem.in_file(&name)).collect::<Vec<_>>())
    })?;
    let problems: Vec<_> = parsed.problems().map(|problem| problem.clone().in_file(&name)).collect();
    if !problems.is_empty() {
        return Err(CommandError::config(&problems));
    }
    let clock = clock::from_env();
    let egress = Egress::with(Arc::new(InMemoryDayBudget::default()), Arc::clone(&clock), Arc::new(SystemLookup));
    let providers = Providers::new(Arc::clone(&egress), Arc::clone(&clock), Process::Test);
    let env = Env { engines: daemon::engines(clock), egress, providers };
    let (mut text, mut values, mut passed) = (String::new(), Vec::new(), true);
    for problem in policy_loader::root_problems(&loaded.policy) {
        let _ = writeln!(text, "warning: {}", problem.in_file(common.policy.display().to_string()));
    }
    for intent in parsed.intents() {
        let job = Job {
            connection: intent.connection_id(),
            intent: intent.clone(),
            scope: Scope::Full,
            policy: Arc::clone(&loaded.policy),
            sources: Arc::clone(&loaded.sources),
            // A file on this machine is reviewed like the intents folder.
            origins: vec![Origin::folder(&name)],
            known: None,
        };
        let mut outcome = Attempt::new(&env, &job).run().await;
        for report in outcome.steps.iter_mut().filter(|report| report.step == Step::Registry) {
            report.status = StepStatus::Skipped { reason: "aam test does not write to the registry".to_string() };
        }
        let state = State::derive(outcome.class(), false);
        passed &= state == State::Active;
        let _ = writeln!(
            text,
            "{} would be {state}: {} {}",
            report::status::symbol(state),
            intent.source_type,
            intent.resource_ids.join(" ")
        );
        text.push_str(&report::attempt::steps(&outcome.steps));
        values.push(serde_json::json!({
            "connection_id": job.connection, "status": state, "steps": outcome.steps, "first_sync_rows": outcome.rows,
            "latency_ms": outcome.latency_ms, "catalog": outcome.catalog,
        }));
    }
    env.providers.close().await;
    text.push_str(&match env.providers.consents().written_file() {
        None => "nothing was written\n".to_string(),
        // A vendor that rotates refresh tokens accepts each only once, so the new one must not be lost.
        Some(file) => {
            format!("nothing was written to the registry; {} has the new token of a consent that was refreshed\n", file.display())
        }
    });
    common.print(&text, &values);
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::from(EXIT_NOT_YET) })
}
