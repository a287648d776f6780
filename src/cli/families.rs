//! `aam families`: lists the source families and whether this version can connect them, or explains one of them.

use super::{CommandResult, CommonOptions, EXIT_CONFIG};
use crate::connectors::lowcode;
use crate::families::{self, Family};
use crate::model::problem::nearest;
use clap::Args;
use serde_json::{Value, json};
use std::fmt::Write;
use std::process::ExitCode;

/// The options of `aam families`.
#[derive(Args, Debug)]
pub struct FamiliesOptions {
    /// Explain this family: its resource ids, its least privilege and each field of its credential
    family: Option<String>,
}

/// Exits with 0, or with 78 if there is no such family.
pub fn run(options: &FamiliesOptions, common: &CommonOptions) -> CommandResult {
    let Some(id) = &options.family else {
        let (text, values) = list();
        common.print(&text, &values);
        return Ok(ExitCode::SUCCESS);
    };
    let Some(family) = families::find(id) else {
        let near = nearest(id, families::ids()).map(|near| format!("; did you mean {near}?")).unwrap_or_default();
        let shown: String = id.chars().filter(|c| !c.is_control()).take(63).collect();
        super::terminal::print_error(&format!("aam: {shown} is not a family{near}; aam families lists all of them\n"));
        return Ok(ExitCode::from(EXIT_CONFIG));
    };
    let (text, value) = explain(family);
    common.print(&text, &value);
    Ok(ExitCode::SUCCESS)
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
    let fields = family.credential.iter().map(|field| json!({"name": field.name, "about": field.about}));
    json!({
        "id": family.id, "title": family.title, "connects": !family.engine.is_empty(), "engine": family.engine,
        "on_by_default": family.on_by_default, "cap": family.cap, "least_privilege": family.least_privilege,
        "resource_ids": family.resource_ids, "examples": examples(family), "credential": fields.collect::<Vec<_>>(),
    })
}

fn examples(family: &Family) -> Vec<String> {
    let spec = lowcode::spec::find(&family.id);
    let kinds = spec.iter().flat_map(|spec| &spec.form.address.kinds);
    kinds.flat_map(|kind| kind.examples.clone()).collect()
}

/// Returns everything that an intent and a credential of the family need, as text and as JSON.
fn explain(family: &Family) -> (String, Value) {
    let mut text = format!("{} ({}, {})\n", family.title, family.id, support(family));
    let examples = examples(family);
    let shown = if examples.is_empty() { String::new() } else { format!("; for example {}", examples.join(", ")) };
    let _ = writeln!(text, "resource_ids: {}{shown}", family.resource_ids.trim());
    let _ = writeln!(text, "least privilege: {}", family.least_privilege.trim());
    let _ = writeln!(text, "credential, the fields of the JSON object behind credential_locator:");
    for field in &family.credential {
        let _ = writeln!(text, "  {:<18} {}", field.name, field.about);
    }
    if family.credential.is_empty() {
        text.push_str("  none\n");
    }
    (text, value(family))
}
