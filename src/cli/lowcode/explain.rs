//! `aam lowcode explain`: explains what a manifest would do, without calling anything.

use super::inputs;
use crate::cli::{CommandResult, CommonOptions, EXIT_CONFIG, terminal};
use ::lowcode::bounds::Bounds;
use ::lowcode::{explain, load, problem};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub struct ExplainOptions {
    /// The manifest, YAML or JSON
    #[arg(value_name = "FILE")]
    pub manifest: PathBuf,
}

/// Exits with 0 if the manifest loads, even if the engine does not support all of it, and with 78 and its problems otherwise.
pub fn run(common: &CommonOptions, options: &ExplainOptions) -> CommandResult {
    let bounds = Bounds::default();
    let text = match inputs::text(&options.manifest, bounds.manifest_bytes as u64, "manifest") {
        Ok(text) => text,
        Err(trouble) => return Err(crate::cli::CommandError { code: EXIT_CONFIG, message: trouble.failed.message.clone() }),
    };
    let overlays = match inputs::overlays(&options.manifest) {
        Ok(overlays) => overlays,
        Err(trouble) => return Err(crate::cli::CommandError { code: EXIT_CONFIG, message: trouble.failed.message.clone() }),
    };
    match load::load_with(&text, &options.manifest.display().to_string(), &overlays, &bounds) {
        Ok(manifest) => {
            let explained = explain::explain(&manifest);
            common.print(&explained.render(), &explained);
            // Unsupported parts are reported on stderr, like the warnings of a compiler.
            terminal::print_error(&problem::render(&manifest.unsupported));
            Ok(ExitCode::SUCCESS)
        }
        Err(problems) => {
            terminal::print_error(&problem::render(&problems));
            Ok(ExitCode::from(EXIT_CONFIG))
        }
    }
}
