//! `aam families`: lists the source families, says whether this version connects them, and explains one of them.

mod lint;

use super::budget::InMemoryDayBudget;
use super::{CommandResult, CommonOptions, EXIT_USAGE};
use crate::clock;
use crate::connectors::lowcode::custom_source;
use crate::egress::{Egress, resolve::SystemLookup};
use crate::families::{self, CustomSources, Family, aliases};
use crate::family_guide::{self, FamilyGuide, FamilySummary};
use crate::model::problem::nearest;
use crate::policy_loader;
use crate::providers::{Process, Providers};
use clap::Args;
use std::process::ExitCode;
use std::sync::Arc;

/// The options of `aam families`.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct FamiliesOptions {
    #[command(subcommand)]
    command: Option<FamiliesCommand>,

    /// Explain this family or custom source: its resource ids, its least privilege, and the ways to log in with an example
    /// for each form of a credential locator
    family: Option<String>,
}

#[derive(clap::Subcommand, Debug)]
enum FamiliesCommand {
    /// Check a family file or the manifest of a custom source: unknown keys, unbounded streams, POSTs without a reason
    Lint(lint::LintOptions),
}

/// Exits with 0, or with 64 if there is no such family.
pub fn run(options: &FamiliesOptions, common: &CommonOptions) -> CommandResult {
    if let Some(FamiliesCommand::Lint(options)) = &options.command {
        return lint::run(options, common);
    }
    let sources = sources(common);
    let Some(id) = &options.family else {
        let (text, values) = list_with(&sources);
        common.print(&text, &values);
        return Ok(ExitCode::SUCCESS);
    };
    let alias = || find(aliases::alias(id)?, &sources);
    let Some(family) = find(id, &sources).or_else(alias) else {
        let near = nearest(id, families::ids()).map(|near| format!("; did you mean {near}?")).unwrap_or_default();
        let shown: String = id.chars().filter(|c| !c.is_control()).take(63).collect();
        super::terminal::print_error(&format!("aam: {shown} is not a family{near}; aam families lists all of them\n"));
        return Ok(ExitCode::from(EXIT_USAGE));
    };
    let guide = explain(&family);
    common.print(&family_guide::text(&family, &guide), &guide);
    Ok(ExitCode::SUCCESS)
}

/// Returns the custom sources of the policy and the engines that it chooses; none if it is missing or not valid.
fn sources(common: &CommonOptions) -> Arc<CustomSources> {
    policy_loader::load(&common.policy).loaded.map(|loaded| loaded.sources).unwrap_or_default()
}

/// Returns the family called `id`. A custom source with a manifest has the way to log in that the manifest describes.
fn find(id: &str, sources: &CustomSources) -> Option<Arc<Family>> {
    let family = sources.family(id)?;
    let Some(file) = &family.manifest else { return Some(Arc::clone(family)) };
    let login = custom_source::login(&file.manifest).into_iter().collect();
    Some(Arc::new(Family { login, ..Family::clone(family) }))
}

/// Returns the list of the families that AAM ships.
#[cfg(test)]
pub fn list() -> (String, Vec<FamilySummary>) {
    list_with(&CustomSources::default())
}

/// Returns the list as text, with one line per family, and as one JSON value per family. Custom sources of the policy
/// are part of it.
fn list_with(sources: &CustomSources) -> (String, Vec<FamilySummary>) {
    let mut ids: Vec<&str> = sources.ids().collect();
    ids.sort_unstable();
    let known = ids.into_iter().filter_map(|id| sources.family(id));
    let families: Vec<FamilySummary> = known.map(|family| FamilySummary::new(family)).collect();
    (families.iter().map(family_guide::line).collect(), families)
}

/// Returns everything that an intent and a credential of the family need.
fn explain(family: &Arc<Family>) -> FamilyGuide {
    let clock = clock::from_env();
    let egress = Egress::with(Arc::new(InMemoryDayBudget::default()), Arc::clone(&clock), Arc::new(SystemLookup));
    FamilyGuide::new(family, &Providers::new(egress, clock, Process::Test))
}

#[cfg(test)]
mod tests;
