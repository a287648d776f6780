//! `aam lowcode explain`: what a manifest would do, for a person; nothing is called.

use super::inputs;
use crate::cli::{CommandResult, CommonOptions, EXIT_CONFIG};
use crate::credentials::redact;
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

/// Exit 0 for a manifest that loads, whether this engine runs all of it or not; 78 with every problem of one that does not.
pub fn run(common: &CommonOptions, options: &ExplainOptions) -> CommandResult {
    let bounds = Bounds::default();
    let text = match inputs::text(&options.manifest, bounds.manifest_bytes as u64, "manifest") {
        Ok(text) => text,
        Err(trouble) => return Err(crate::cli::CommandError { code: EXIT_CONFIG, message: trouble.failed.message.clone() }),
    };
    match load::load(&text, &options.manifest.display().to_string(), &bounds) {
        Ok(manifest) => {
            let explained = explain::explain(&manifest);
            common.print(&explained.render(), &explained);
            // Shown as a compiler does, beside the data.
            eprint!("{}", redact::scrub(&problem::render(&manifest.unsupported)));
            Ok(ExitCode::SUCCESS)
        }
        Err(problems) => {
            eprint!("{}", redact::scrub(&problem::render(&problems)));
            Ok(ExitCode::from(EXIT_CONFIG))
        }
    }
}
