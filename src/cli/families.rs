//! `aam families`: lists the source families and whether this version can connect them.

use super::{CommandResult, CommonOptions};
use crate::connectors::family;
use std::fmt::Write;
use std::process::ExitCode;

/// Always exits with 0.
pub fn run(common: &CommonOptions) -> CommandResult {
    let mut text = String::new();
    let mut values = Vec::new();
    for family in family::all() {
        let support = if family.engine.is_empty() { "not in this version" } else { "connects" };
        let listed = if family.on_by_default { "default" } else { "if listed" };
        let _ = writeln!(text, "{:<18} {:<20} {:<10} {}", family.id, support, listed, family.title);
        values.push(serde_json::json!({
            "id": family.id, "title": family.title, "connects": !family.engine.is_empty(), "engine": family.engine,
            "on_by_default": family.on_by_default, "cap": family.cap, "least_privilege": family.least_privilege,
        }));
    }
    common.print(&text, &values);
    Ok(ExitCode::SUCCESS)
}
