//! `aam families`: lists the source families, says whether this version connects them, and explains one of them.

mod guide;
mod lint;
mod text;

use super::budget::InMemoryDayBudget;
use super::{CommandResult, CommonOptions, EXIT_CONFIG};
use crate::clock;
use crate::connectors::lowcode::family_spec::CallCounts;
use crate::connectors::lowcode::{self, custom_source};
use crate::connectors::snowflake;
use crate::egress::{Egress, resolve::SystemLookup};
use crate::families::{self, CredentialField, Family, Login};
use crate::model::problem::nearest;
use crate::policy_loader;
use crate::providers::{Process, Providers};
use clap::Args;
use serde_json::{Value, json};
use std::fmt::Write;
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

/// Exits with 0, or with 78 if there is no such family.
pub fn run(options: &FamiliesOptions, common: &CommonOptions) -> CommandResult {
    if let Some(FamiliesCommand::Lint(options)) = &options.command {
        return lint::run(options, common);
    }
    let Some(id) = &options.family else {
        let (text, values) = list();
        common.print(&text, &values);
        return Ok(ExitCode::SUCCESS);
    };
    let Some(family) = families::find(id).cloned().or_else(|| custom(id, common)) else {
        let near = nearest(id, families::ids()).map(|near| format!("; did you mean {near}?")).unwrap_or_default();
        let shown: String = id.chars().filter(|c| !c.is_control()).take(63).collect();
        super::terminal::print_error(&format!("aam: {shown} is not a family{near}; aam families lists all of them\n"));
        return Ok(ExitCode::from(EXIT_CONFIG));
    };
    let (text, value) = explain(&family);
    common.print(&text, &value);
    Ok(ExitCode::SUCCESS)
}

/// Returns the custom source of the policy, with the way to log in that its manifest describes.
fn custom(id: &str, common: &CommonOptions) -> Option<Arc<Family>> {
    let loaded = policy_loader::load(&common.policy).loaded.ok()?;
    let family = loaded.sources.custom(id)?;
    let login = family.manifest.as_ref().and_then(|file| custom_source::login(&file.manifest));
    Some(Arc::new(Family { login: login.into_iter().collect(), ..Family::clone(family) }))
}

/// Returns the list as text, with one line per family, and as one JSON value per family.
pub fn list() -> (String, Vec<Value>) {
    let mut text = String::new();
    let mut values = Vec::new();
    for family in families::all() {
        let listed = if family.on_by_default { "default" } else { "if listed" };
        let _ = writeln!(text, "{:<18} {:<20} {listed:<10} {}", family.id, support(family), family.title);
        values.push(value(family));
    }
    (text, values)
}

fn support(family: &Family) -> &'static str {
    if family.engine.is_empty() { "not in this version" } else { "connects" }
}

fn value(family: &Family) -> Value {
    let fields = |fields: &mut dyn Iterator<Item = &CredentialField>| {
        fields.map(|field| json!({"name": field.name, "about": field.about, "optional": field.optional})).collect::<Vec<_>>()
    };
    let login = |login: &Login| {
        json!({
            "name": login.name, "about": login.about, "fields": fields(&mut login.fields.iter()),
            "json": guide::json_credential(login), "text": login.plain, "principals": login.principals, "consent": login.consent,
        })
    };
    json!({
        "id": family.id, "title": family.title, "connects": !family.engine.is_empty(), "engine": family.engine,
        "on_by_default": family.on_by_default, "cap": family.cap, "least_privilege": family.least_privilege,
        "resource_ids": family.resource_ids, "examples": examples(family),
        "calls": call_counts(family),
        "credential": fields(&mut family.credential_fields()),
        "login": family.login.iter().map(login).collect::<Vec<_>>(),
    })
}

/// Returns the calls of an attempt, if the engine of the family reads them from its file.
fn call_counts(family: &Family) -> Option<CallCounts> {
    serde_json::from_value(family.lowcode.as_ref()?.get("calls")?.clone()).ok()
}

fn examples(family: &Family) -> Vec<String> {
    let spec = lowcode::spec::find(&family.id);
    let kinds = spec.iter().flat_map(|spec| &spec.form.address.kinds);
    let of_account = snowflake::spec::spec().filter(|_| family.engine == "snowflake");
    let of_account = of_account.iter().flat_map(|spec| spec.address.examples.clone());
    kinds.flat_map(|kind| kind.examples.clone()).chain(of_account).collect()
}

/// Returns everything that an intent and a credential of the family need, as text and as JSON.
fn explain(family: &Arc<Family>) -> (String, Value) {
    let clock = clock::from_env();
    let egress = Egress::with(Arc::new(InMemoryDayBudget::default()), Arc::clone(&clock), Arc::new(SystemLookup));
    let providers = Providers::new(egress, clock, Process::Test);
    let forms = guide::forms(family, &providers);
    let mut value = value(family);
    if let Value::Object(object) = &mut value {
        object.insert("locators".to_string(), json!(forms));
        object.insert("oauth".to_string(), family.oauth.as_ref().map(guide::oauth).into());
    }
    (text::text(family, &examples(family), &forms), value)
}

#[cfg(test)]
mod tests;
