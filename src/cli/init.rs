//! `aam init`: writes what an installation begins with, where it does not exist yet.

use super::{CommandError, CommandResult, CommonOptions, terminal};
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  aam init                                     in the current folder
  aam init --intents /etc/aam/intents --policy /etc/aam/policy/policy.yaml --unit /etc/systemd/system/aam.service")]
pub struct InitOptions {
    /// Where the unit of systemd is written
    #[arg(long, default_value = "aam.service")]
    unit: PathBuf,
    /// Do not write a unit of systemd
    #[arg(long)]
    no_unit: bool,
}

/// The commented policy, which shows every default.
const POLICY: &str = include_str!("../../policy/policy.yaml");
const UNIT: &str = include_str!("../../docs/deploy/aam.service");

/// Exits with 0. Nothing that exists is changed.
pub fn run(common: &CommonOptions, options: &InitOptions) -> CommandResult {
    let mut text = String::new();
    let existed = common.intents.is_dir();
    std::fs::create_dir_all(&common.intents).map_err(|error| cannot_write(&common.intents, &error))?;
    text.push_str(&line(&common.intents, existed, "put intents here, as .json or .yaml files"));
    if let Some(folder) = common.policy.parent() {
        std::fs::create_dir_all(folder).map_err(|error| cannot_write(folder, &error))?;
    }
    let existed = !write_new(&common.policy, POLICY)?;
    text.push_str(&line(&common.policy, existed, "what AAM may do; review changes like code"));
    if !options.no_unit {
        let existed = !write_new(&options.unit, UNIT)?;
        text.push_str(&line(&options.unit, existed, "a service of systemd; its first lines say how to install it"));
    }
    text.push_str("next: aam check, aam plan, and aam serve\n");
    terminal::print(&text);
    Ok(ExitCode::SUCCESS)
}

fn line(path: &Path, existed: bool, what: &str) -> String {
    let state = if existed { "exists, not changed" } else { what };
    format!("{}  {state}\n", path.display())
}

/// Writes a file unless one exists. Returns whether it was written.
fn write_new(path: &Path, text: &str) -> Result<bool, CommandError> {
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(mut file) => file.write_all(text.as_bytes()).map(|()| true).map_err(|error| cannot_write(path, &error)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(cannot_write(path, &error)),
    }
}

fn cannot_write(path: &Path, error: &std::io::Error) -> CommandError {
    CommandError::new(format!(
        "cannot write {}: {error}; choose another place with --intents, --policy or --unit",
        path.display()
    ))
}
