//! `aam lowcode explain`: for a person, without a call.

use crate::cli::{Common, EXIT_CONFIG, Ended};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub struct Options {
    /// The manifest, YAML or JSON
    #[arg(value_name = "FILE")]
    pub manifest: PathBuf,
}

/// Exit 0, or 78 for a manifest that cannot be used.
pub fn run(_common: &Common, _options: &Options) -> Ended {
    Ok(ExitCode::from(EXIT_CONFIG))
}
