//! `aam check`: parses the intents and the policy, without network access.

use super::{CommandResult, CommonOptions, EXIT_CONFIG};
use crate::clock;
use crate::families;
use crate::intake::{Limits, check};
use crate::model::text::counted;
use crate::policy::effective;
use crate::policy_loader;
use std::fmt::Write;
use std::process::ExitCode;

#[derive(clap::Args)]
pub struct CheckOptions {
    /// Print the policy with every default filled in
    #[arg(long)]
    effective: bool,
}

/// Exits with 0 if there are no problems and with 78 otherwise.
pub fn run(common: &CommonOptions, options: &CheckOptions) -> CommandResult {
    let loaded = policy_loader::load(&common.policy).loaded;
    let policy = loaded.as_ref().map(|loaded| &loaded.policy);
    let intents = check::check(&common.intents, Limits::default(), clock::from_env().now());
    let mut text = String::new();
    if let (true, Ok(policy)) = (options.effective, &policy) {
        text.push_str(&effective::effective(policy, &families::caps()));
    }
    let policy_problems = match &loaded {
        Ok(loaded) => loaded.sources.problems.clone(),
        Err(problems) => problems.clone(),
    };
    for problem in policy_problems.iter().chain(&intents.problems) {
        let _ = writeln!(text, "error: {problem}");
    }
    for warning in &intents.warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    let problems = policy_problems.len() + intents.problems.len();
    let _ = writeln!(
        text,
        "{}, {}, {}, policy {}: {}, {}",
        counted(intents.files, "file"),
        counted(intents.intents.len(), "intent"),
        counted(intents.connections, "connection"),
        policy.as_ref().map_or_else(|_| "not valid".to_string(), |policy| policy.digest.short()),
        counted(problems, "problem"),
        counted(intents.warnings.len(), "warning")
    );
    let value = serde_json::json!({
        "files": intents.files, "intents": intents.intents.len(), "connections": intents.connections,
        "policy": policy.as_ref().ok(), "problems": policy_problems.iter().chain(&intents.problems).collect::<Vec<_>>(),
        "warnings": intents.warnings,
    });
    common.print(&text, &value);
    Ok(if problems == 0 { ExitCode::SUCCESS } else { ExitCode::from(EXIT_CONFIG) })
}
