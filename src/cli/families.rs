//! `aam families`: what there is and what this version connects.

use super::{Common, Ended};
use crate::connectors::family;
use std::fmt::Write;
use std::process::ExitCode;

/// Always exit 0.
pub fn run(common: &Common) -> Ended {
    let mut text = String::new();
    let mut values = Vec::new();
    for family in family::all() {
        let word = if family.engine.is_empty() { "not in this version" } else { "connects" };
        let listed = if family.on_by_default { "default" } else { "if listed" };
        let _ = writeln!(text, "{:<18} {:<20} {:<10} {}", family.id, word, listed, family.title);
        values.push(serde_json::json!({
            "id": family.id, "title": family.title, "connects": !family.engine.is_empty(), "engine": family.engine,
            "on_by_default": family.on_by_default, "cap": family.cap, "least_privilege": family.least_privilege,
        }));
    }
    common.print(&text, &values);
    Ok(ExitCode::SUCCESS)
}
