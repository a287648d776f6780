//! `aam families`: lists the source families and whether this version can connect them.

use super::{CommandResult, CommonOptions};
use crate::families;
use serde_json::{Value, json};
use std::fmt::Write;
use std::process::ExitCode;

/// Always exits with 0.
pub fn run(common: &CommonOptions) -> CommandResult {
    let (text, values) = list();
    common.print(&text, &values);
    Ok(ExitCode::SUCCESS)
}

/// Returns the list as text, with one line per family, and as one JSON value per family.
pub fn list() -> (String, Vec<Value>) {
    let mut text = String::new();
    let mut values = Vec::new();
    for family in families::all() {
        let support = if family.engine.is_empty() { "not in this version" } else { "connects" };
        let listed = if family.on_by_default { "default" } else { "if listed" };
        let _ = writeln!(text, "{:<18} {support:<20} {listed:<10} {}", family.id, family.title);
        values.push(json!({
            "id": family.id, "title": family.title, "connects": !family.engine.is_empty(), "engine": family.engine,
            "on_by_default": family.on_by_default, "cap": family.cap, "least_privilege": family.least_privilege,
        }));
    }
    (text, values)
}
