//! `aam version`: the version, the commit, and what this build connects.

use super::{CommandResult, CommonOptions};
use crate::families;
use std::process::ExitCode;

/// The commit that this binary was built from, or `unknown` if it was not built in a git checkout.
pub const COMMIT: &str = env!("AAM_COMMIT");
/// The version with the commit, for `aam --version`.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("AAM_COMMIT"), ")");

/// Exits with 0.
pub fn run(common: &CommonOptions) -> CommandResult {
    let connects = families::all().iter().filter(|family| !family.engine.is_empty()).count();
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    let target = format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS);
    let text = format!(
        "aam {}\ncommit    {COMMIT}\nbuild     {build}, {target}\nfamilies  {connects} connect\n",
        env!("CARGO_PKG_VERSION")
    );
    let value = serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"), "commit": COMMIT, "build": build, "target": target, "families": connects,
    });
    common.print(&text, &value);
    Ok(ExitCode::SUCCESS)
}
